"""`edgegraft evaluate` and `edgegraft predict`: a finished model on data."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgegraft.cli.data import opened
from edgegraft.cli.options import DataCommand, data_options, given, json_option
from edgegraft.cli.output import say, show, write

if TYPE_CHECKING:
    from edgegraft_edge.signal import Windows

PLACES = ("window", "recording", "start_s")


@click.command(cls=DataCommand)
@click.argument("model", metavar="RUN|BUNDLE", type=click.Path(exists=True, path_type=Path))
@click.argument("data")
@data_options
@click.option(
    "--out-of-scope", "outside", metavar="DATA", help="Data of no class that the model knows."
)
@json_option
def evaluate(model: Path, data: str, outside: str | None, as_json: bool, **options: Any) -> None:
    """Score a run or a bundle on labelled data, and on what it should not know."""
    from edgegraft import shipping, workflow
    from edgegraft.evaluate.out_of_scope import judge

    loaded = shipping.load(model)
    windows = opened(data, given(options), loaded.spec)
    found = workflow.evaluate(loaded, windows).as_dict()
    if outside:
        other = opened(outside, given(options), loaded.spec)
        found["out_of_scope"] = judge(loaded, windows, other, loaded.decision.threshold).as_dict()

    def render() -> None:
        for name, value in found["metrics"].items():
            ends = found["intervals"].get(name)
            span = f"  {show(ends[0])} to {show(ends[1])}" if ends else ""
            click.echo(f"{name:20} {show(value)}{span}")
        click.echo(f"{'n':20} {show(found['n'])}")
        if outside:
            click.echo("out of scope")
            for name, value in found["out_of_scope"].items():
                click.echo(f"  {name:18} {show(value)}")
        for warning in found["warnings"]:
            say("warning", warning)

    write(found, as_json, render)


@click.command(cls=DataCommand)
@click.argument("model", metavar="RUN|BUNDLE", type=click.Path(exists=True, path_type=Path))
@click.argument("data")
@data_options
@click.option("--out", required=True, type=click.Path(path_type=Path), help="CSV file to write.")
@json_option
def predict(model: Path, data: str, out: Path, as_json: bool, **options: Any) -> None:
    """Write the class probabilities of each window.

    With the recording that it was cut from, and where it starts there.
    """
    from edgegraft import shipping, workflow
    from edgegraft_edge.files import replace_file

    loaded = shipping.load(model)
    windows = opened(data, given(options), loaded.spec)
    predictions = workflow.predict(loaded, windows)
    labels = predictions.labels.tolist()
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*PLACES, "label", *predictions.classes])
    for place, label, row in zip(
        _places(windows), labels, predictions.probabilities.tolist(), strict=True
    ):
        writer.writerow([*place, label, *(f"{value:.6f}" for value in row)])
    replace_file(out, text.getvalue().encode())
    counts = {name: labels.count(name) for name in predictions.classes}

    def render() -> None:
        for name, count in counts.items():
            click.echo(f"{name:20} {count:,}")
        click.echo(f"{'written':20} {out}")

    write({"n": len(labels), "counts": counts, "out": str(out)}, as_json, render)


def _places(windows: Windows) -> Iterator[tuple[int, str, str]]:
    """Of each window its number, its recording and where it starts in it, in seconds."""
    for number in range(len(windows)):
        recording = int(windows.recording[number]) if len(windows.recording) else number
        name = windows.names[recording] if recording < len(windows.names) else str(recording)
        start = int(windows.start[number]) if len(windows.start) else 0
        yield number, name, f"{start / getattr(windows.spec, 'rate_hz', 1.0):.3f}"
