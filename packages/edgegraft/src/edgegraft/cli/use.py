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
from edgegraft.cli.output import say, show, table, write

if TYPE_CHECKING:
    from edgegraft_edge.signal import Windows

PLACES = ("window", "recording", "start_s")
SHOWN_STEPS = 8
"""Steps ahead in a table of a terminal."""


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
    from edgegraft.tasks.task import task_of

    loaded = shipping.load(model)
    if loaded.outputs is not None:
        _refuse_outside(outside)
        found = workflow.evaluate(loaded, data, **given(options)).as_dict()
        write(found, as_json, lambda: _show_estimated(found))
        return
    windows = opened(data, given(options), loaded.spec, task_of(loaded))
    found = workflow.evaluate(loaded, windows).as_dict()
    alarms = _alarms(loaded, windows)
    if alarms:
        found["detection"] = alarms
    if outside:
        other = opened(outside, given(options), loaded.spec)
        found["out_of_scope"] = judge(loaded, windows, other, loaded.decision.threshold).as_dict()

    def render() -> None:
        for name, value in found["metrics"].items():
            ends = found["intervals"].get(name)
            span = f"  {_ends(ends)}" if ends else ""
            click.echo(f"{name:20} {show(value)}{span}")
        click.echo(f"{'n':20} {show(found['n'])}")
        if alarms:
            _show_alarms(alarms)
        if outside:
            click.echo("out of scope")
            for name, value in found["out_of_scope"].items():
                click.echo(f"  {name:18} {show(value)}")
        for warning in found["warnings"]:
            say("warning", warning)

    write(found, as_json, render)


def _alarms(loaded: Any, windows: Windows) -> dict[str, Any]:
    """Alarms along recordings, of a model that was made to find anomalies; else nothing."""
    from edgegraft.evaluate.detected import evaluate_detection, rows_of
    from edgegraft.tasks.anomaly import ANOMALY
    from edgegraft.tasks.task import task_of

    task = task_of(loaded)
    if task is None or task.name != "anomaly" or windows.spec.kind not in ("series", "audio"):
        return {}
    scores = loaded.predict(windows).probabilities[:, loaded.classes.index(ANOMALY)]
    normal = str(getattr(task, "normal", ""))
    if not rows_of(windows, scores, normal):
        return {}
    return evaluate_detection(scores, windows, normal).as_dict()


def _show_alarms(found: dict[str, Any]) -> None:
    """What a person asks of an alarm: what it met, how late, and how often in vain."""
    said = f"{found['found']} of {found['anomalies']} anomalies met"
    click.echo(
        f"{'alarms':20} {said}, {found['false_alarms']} false in {show(found['normal_days'])} days"
    )
    for name in ("vus_pr", "range_f1", "delay_s", "false_alarms_per_day", "alarmed_share"):
        value = found["metrics"][name]
        click.echo(f"{name:20} {show(value) if value == value else '-'}")


def _refuse_outside(outside: str | None) -> None:
    from edgegraft_edge.errors import OptionError

    if outside:
        raise OptionError.of(
            "option-unsuited",
            "--out-of-scope",
            "the model estimates numbers and knows no classes",
            "leave it out",
        )


def _show_estimated(found: dict[str, Any]) -> None:
    """Scores of estimates: all metrics, what intervals hold, some steps ahead, the worst units."""
    for name, value in found["metrics"].items():
        ends = found["intervals"].get(name)
        click.echo(f"{name:20} {show(value)}" + (f"  {_ends(ends)}" if ends else ""))
    click.echo(f"{'n':20} {show(found['n'])} in {found['n_units']} {found['unit']}s")
    for each in found["covered"]:
        name = f"interval {100 * each['nominal']:g} %"
        click.echo(f"{name:20} holds {100 * each['share']:.1f} %, {show(each['width'])} wide")
    steps = found["per_step"]
    if len(steps) > 1:
        from edgegraft.evaluate.report import evenly

        click.echo()
        columns = [name for name in ("step", "mae", "mse", "coverage") if name in steps[0]]
        table(columns, [[each[name] for name in columns] for each in evenly(steps, SHOWN_STEPS)])
    if len(found["worst"]) > 1:
        click.echo()
        table(["worst", "mae", "n"], [[each["unit"], each["mae"], each["n"]]
                                      for each in found["worst"]])  # fmt: skip
    for warning in found["warnings"]:
        say("warning", warning)


def _ends(ends: list[float]) -> str:
    return f"{show(ends[0])} to {show(ends[1])}"


@click.command(cls=DataCommand)
@click.argument("model", metavar="RUN|BUNDLE", type=click.Path(exists=True, path_type=Path))
@click.argument("data")
@data_options
@click.option("--out", required=True, type=click.Path(path_type=Path), help="CSV file to write.")
@json_option
def predict(model: Path, data: str, out: Path, as_json: bool, **options: Any) -> None:
    """Write the class probabilities of each window, or its estimates.

    Estimates stand by quantity, step and level. Each window stands with the recording that it
    was cut from, and where it starts there.
    """
    from edgegraft import shipping, workflow
    from edgegraft_edge.files import replace_file

    loaded = shipping.load(model)
    windows = opened(data, given(options), loaded.spec)
    predictions = workflow.predict(loaded, windows)
    told_apart = predictions.outputs is None
    labels = predictions.labels.tolist() if told_apart else []
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*PLACES, *(["label"] if told_apart else []), *predictions.classes])
    form = "{:.6f}" if told_apart else "{:.7g}"
    rows = predictions.probabilities.tolist()
    for at, (place, row) in enumerate(zip(_places(windows), rows, strict=True)):
        writer.writerow([*place, *labels[at : at + 1], *map(form.format, row)])
    replace_file(out, text.getvalue().encode())
    found: dict[str, Any] = {"n": len(rows), "out": str(out)}
    if told_apart:
        found["counts"] = {name: labels.count(name) for name in predictions.classes}
    elif len(rows):
        middle = predictions.estimates.point
        found["ranges"] = {
            name: [float(middle[:, at].min()), float(middle[:, at].max())]
            for at, name in enumerate(predictions.estimates.outputs.names)
        }

    def render() -> None:
        for name, count in found.get("counts", {}).items():
            click.echo(f"{name:20} {count:,}")
        for name, ends in found.get("ranges", {}).items():
            click.echo(f"{name:20} {_ends(ends)}")
        if not told_apart:
            click.echo(f"{'windows':20} {len(rows):,}")
        click.echo(f"{'written':20} {out}")

    write(found, as_json, render)


def _places(windows: Windows) -> Iterator[tuple[int, str, str]]:
    """Of each window its number, its recording and where it starts in it, in seconds."""
    for number in range(len(windows)):
        recording = int(windows.recording[number]) if len(windows.recording) else number
        name = windows.names[recording] if recording < len(windows.names) else str(recording)
        start = int(windows.start[number]) if len(windows.start) else 0
        yield number, name, f"{start / getattr(windows.spec, 'rate_hz', 1.0):.3f}"
