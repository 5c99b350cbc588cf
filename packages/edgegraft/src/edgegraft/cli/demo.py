"""`edgegraft demo`: the whole way on real recordings, in a minute."""

from __future__ import annotations

from pathlib import Path

import click

from edgegraft.cli.options import json_option, seed_option


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.")
@seed_option
@json_option
def demo(out: Path | None, seed: int, as_json: bool) -> None:
    """Adapt, prove and ship on real recordings, in a minute."""
