"""`edgegraft spot`: words in a stream, missed and falsely heard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgegraft.cli.options import DataCommand, data_options, given, json_option
from edgegraft.cli.output import show, write


@click.command(cls=DataCommand)
@click.argument("model", metavar="RUN|BUNDLE", type=click.Path(exists=True, path_type=Path))
@click.argument("data")
@data_options
@click.option(
    "--per-hour", default=1.0, show_default=True, help="False accepts an hour that are allowed."
)
@click.option("--keywords", default="", metavar="A,B", help="Words to find; all labelled, if none.")
@click.option(
    "--tolerance-s",
    default=0.25,
    show_default=True,
    help="How far from its span a word may be heard, in seconds.",
)
@click.option("--smooth", default=1, show_default=True, help="Windows that are averaged.")
@click.option(
    "--hold-off-s", default=0.0, show_default=True, help="Seconds from an event to the next."
)
@click.option("--plot", type=click.Path(path_type=Path), help="SVG file of the curve to write.")
@json_option
def spot(
    model: Path,
    data: str,
    per_hour: float,
    keywords: str,
    tolerance_s: float,
    smooth: int,
    hold_off_s: float,
    plot: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find words in streams with labelled spans, as a device would.

    Spans are in NAME.spans.csv beside each file (start_s, end_s, label). Tells, for each
    threshold, which share of the words is missed and how many are heard in an hour that were not
    said, and chooses the threshold.
    """
    from edgegraft import shipping
    from edgegraft.data.dataset import open_like
    from edgegraft.evaluate.spotting import Spotting, choose_threshold, det_plot
    from edgegraft.evaluate.spotting import spot as score
    from edgegraft_edge.files import replace_file

    loaded = shipping.load(model)
    dataset = open_like(data, loaded.spec, **given(options))
    words = tuple(word.strip() for word in keywords.split(",") if word.strip())
    curve = score(loaded, dataset.recordings, Spotting(words, tolerance_s, smooth, hold_off_s))
    if plot:
        replace_file(plot, str(det_plot(curve)).encode())
    chosen = choose_threshold(curve, per_hour)
    found = {**curve.as_dict(), "chosen": chosen.__dict__, "per_hour": per_hour}

    def render() -> None:
        click.echo(f"{'stream':20} {curve.hours:.2f} hours, {curve.n_spans} words")
        click.echo(f"{'threshold':20} {show(chosen.threshold)}")
        click.echo(f"{'missed':20} {chosen.missed} ({chosen.false_reject_rate:.1%})")
        click.echo(
            f"{'falsely heard':20} {chosen.false_accepts}, {chosen.false_accepts_per_hour:.2f} an "
            f"hour, below {chosen.at_most:.2f} with 95 % confidence"
        )
        click.echo(
            f"{'on the device':20} edgegraft-edge run {model} --threshold {chosen.threshold:g} "
            f"--smooth {smooth} --hold-off-s {hold_off_s:g}"
        )

    write(found, as_json, render)
