"""`edgegraft explain`: where in its pictures a model looked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgegraft.cli.data import opened
from edgegraft.cli.options import DataCommand, data_options, given, json_option
from edgegraft.cli.output import say, write


@click.command(cls=DataCommand)
@click.argument("model", metavar="RUN|BUNDLE", type=click.Path(exists=True, path_type=Path))
@click.argument("data")
@data_options
@click.option("--about", "wanted", help="Class asked about; what the model says, if none.")
@click.option("--most", type=click.IntRange(1), default=50, show_default=True, help="Pictures.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
@json_option
def explain(
    model: Path,
    data: str,
    wanted: str | None,
    most: int,
    out: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Draw where in each picture a model saw what it says.

    Writes a PNG for each picture, from blue (little) over yellow to red (most), and index.json
    with what was said, how surely, and where its map is strongest.
    """
    from edgegraft import shipping
    from edgegraft.evaluate.where import write_maps

    loaded = shipping.load(model)
    windows = opened(data, given(options), loaded.spec)
    found = write_maps(loaded, windows, out, wanted=wanted, most=most)

    def render() -> None:
        for entry in found:
            say(entry["file"], f"{entry['said']} {entry['probability']:.2f}")

    write({"out": str(out), "n": len(found), "pictures": found}, as_json, render)
