"""`edgegraft models`: which backbones there are, what they are, which one suits."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from edgegraft.cli.app import Commands
from edgegraft.cli.options import DataCommand, data_options, given, json_option, seed_option
from edgegraft.cli.output import show, table, write
from edgegraft.cli.progress import Progress

COMMANDS = {
    "list": ("edgegraft.cli.models:list_models", "List the backbones that are installed."),
    "show": ("edgegraft.cli.models:show_model", "Show the card of a backbone."),
    "recommend": ("edgegraft.cli.models:recommend", "Rank the backbones on your data."),
}


@click.group(cls=Commands, lazy=COMMANDS)
def models() -> None:
    """List, show and recommend backbones."""


@click.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List the backbones that are installed."""
    from edgegraft.zoo.registry import list_backbones

    rows = [dataclasses.asdict(card) for card in list_backbones()]
    columns = ["name", "kind", "n_parameters", "licence", "summary"]
    write(
        {"models": rows},
        as_json,
        lambda: table(columns, [[row[name] for name in columns] for row in rows]),
    )


@click.command("show")
@click.argument("name")
@json_option
def show_model(name: str, as_json: bool) -> None:
    """Show the card of a backbone.

    Data, licence, recipe, seed and checksum of its weights.
    """
    from edgegraft.zoo.registry import load_backbone

    card = dataclasses.asdict(load_backbone(name).card)

    def render() -> None:
        for key, value in card.items():
            if value not in ("", None, {}):
                text = f"{value:g}" if isinstance(value, float) else show(value)
                click.echo(f"{key:14} {text}")

    write(card, as_json, render)


@click.command("recommend", cls=DataCommand)
@click.argument("data")
@data_options
@seed_option
@json_option
def recommend(data: str, seed: int, as_json: bool, **options: Any) -> None:
    """Rank the backbones on your data.

    By exact leave-one-out of the head that would ship; by leave-one-group-out where groups are
    known. Takes seconds, trains no network.
    """
    from edgegraft import workflow

    with Progress() as watch:
        watch("stage", {"name": "rank"})
        ranking = workflow.recommend(data, seed=seed, watch=watch, **given(options))
    columns = ["backbone", "kind", "score", "log_loss", "labels_used", "seconds", "because"]
    rows = [row.as_dict() for row in ranking]
    write(
        {"ranking": rows},
        as_json,
        lambda: table(columns, [[row[name] for name in columns] for row in rows]),
    )
