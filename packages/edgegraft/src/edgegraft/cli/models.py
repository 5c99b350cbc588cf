"""`edgegraft models`: which backbones there are, what they are, which one suits; their weights."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import click

from edgegraft.cli.app import Commands
from edgegraft.cli.options import DataCommand, data_options, given, json_option, seed_option
from edgegraft.cli.output import show, table, write
from edgegraft.cli.progress import Progress

if TYPE_CHECKING:
    from edgegraft.zoo.backbone import BackboneCard

COMMANDS = {
    "list": ("edgegraft.cli.models:list_models", "List the backbones that are installed."),
    "show": ("edgegraft.cli.models:show_model", "Show the card of a backbone."),
    "fetch": ("edgegraft.cli.models:fetch_model", "Fetch weights that do not ship."),
    "recommend": ("edgegraft.cli.models:recommend", "Rank the backbones on your data."),
}


@click.group(cls=Commands, lazy=COMMANDS)
def models() -> None:
    """List, show, fetch and recommend backbones."""


@click.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List the backbones that are installed."""
    from edgegraft.zoo.registry import list_backbones

    rows = [_row(card) for card in list_backbones()]
    columns = ["name", "kind", "takes", "here", "size", "licence", "summary"]
    write(
        {"models": rows},
        as_json,
        lambda: table(columns, [[_shown(row, name) for name in columns] for row in rows]),
    )


@click.command("show")
@click.argument("name")
@json_option
def show_model(name: str, as_json: bool) -> None:
    """Show the card of a backbone.

    Data, licence, recipe, seed and checksum of its weights; whether they are here, and where they
    can be had.
    """
    row = _row(_card(name))

    def render() -> None:
        for key in row:
            if row[key] not in ("", None, {}):
                click.echo(f"{key:14} {_shown(row, key)}")

    write(row, as_json, render)


@click.command("fetch")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Fetch without asking.")
@json_option
def fetch_model(name: str, yes: bool, as_json: bool) -> None:
    """Fetch weights that do not ship.

    Shows address, size, licence and checksum, and asks. With --json nothing is asked: without
    --yes it says what would be fetched, and fetches nothing. A transfer that broke off goes on
    where it stopped.
    """
    from edgegraft.zoo import hub
    from edgegraft.zoo.registry import fetched_file, is_here

    card = _card(name)
    if is_here(card):
        file = fetched_file(card)
        place = str(file) if file else None
        said = f"{card.name} is here already" + (f": {place}" if place else "")
        return write(
            {"name": card.name, "fetched": False, "place": place}, as_json, lambda: click.echo(said)
        )
    offer = hub.ask(card)
    if not as_json:
        for key, value in offer.as_dict().items():
            value = _megabytes(value) if key == "n_bytes" else value
            click.echo(f"{key.replace('n_bytes', 'size'):10} {value or 'not stated'}", err=True)
    if not yes and (as_json or not click.confirm("fetch it?", err=True)):
        return write(offer.as_dict() | {"fetched": False}, as_json, lambda: None)
    bar: Any = click.progressbar(
        length=offer.n_bytes or None, file=sys.stderr, hidden=as_json or not sys.stderr.isatty()
    )
    with bar:
        file = hub.fetch(card, offer, lambda here, total: bar.update(here - bar.pos))
    result = offer.as_dict() | {"fetched": True, "place": str(file)}
    return write(result, as_json, lambda: click.echo(str(file)))


def _card(name: str) -> BackboneCard:
    """The card of a name, which may be of weights that are not here."""
    from edgegraft.zoo.registry import list_backbones, load_backbone
    from edgegraft.zoo.timm_names import timm_card

    if name.startswith("timm:"):
        return timm_card(name.removeprefix("timm:"))
    known = {card.name: card for card in list_backbones()}
    return known[name] if name in known else load_backbone(name).card


def _row(card: BackboneCard) -> dict[str, Any]:
    """A card as plain values, with whether its weights are here and their bytes as float32."""
    from edgegraft.zoo.registry import is_here

    return dataclasses.asdict(card) | {"here": is_here(card), "size": 4 * card.n_parameters}


def _shown(row: dict[str, Any], key: str) -> str | int:
    value = row[key]
    if key == "size":
        return _megabytes(value)
    if key == "here":
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else show(value)


def _megabytes(n_bytes: int | None) -> str:
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes else "-"


@click.command("recommend", cls=DataCommand)
@click.argument("data")
@click.option(
    "--by",
    default="left-out",
    show_default=True,
    metavar="MEASURE",
    help="left-out (heads on windows left out), or for comparison logme or hscore.",
)
@data_options
@seed_option
@json_option
def recommend(data: str, by: str, seed: int, as_json: bool, **options: Any) -> None:
    """Rank the backbones on your data.

    By exact leave-one-out of the head that would ship; by leave-one-group-out where groups are
    known. Takes seconds, trains no network. With one label of a class nothing can be left out:
    then unlabelled windows in DATA rank, by how their structure agrees.
    """
    from edgegraft import workflow

    with Progress() as watch:
        watch("stage", {"name": "rank"})
        ranking = workflow.recommend(data, by=by, seed=seed, watch=watch, **given(options))
    told = "agreement" if any(row.agreement is not None for row in ranking) else by
    more = [told] if told != "left-out" else []
    columns = ["backbone", "kind", *more, "score", "log_loss", "labels_used", "seconds", "because"]
    rows = [row.as_dict() for row in ranking]
    write(
        {"ranking": rows},
        as_json,
        lambda: table(columns, [[row[name] for name in columns] for row in rows]),
    )
