"""`edgegraft profile` and `boards`: what a model costs, and where it fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgegraft.cli.options import json_option
from edgegraft.cli.output import say, show, table, write

if TYPE_CHECKING:
    from edgegraft.export.profile import BoardCost, Profile
    from edgegraft.export.target import TargetCard

BAR = 10
"""Signs of a bar."""


@click.command()
@json_option
def boards(as_json: bool) -> None:
    """List the boards that have a card.

    A card says what a board has: core, clock, flash, RAM, floating point, what runs models there.
    """
    from edgegraft.export.target import boards as list_boards

    cards = list_boards()
    columns = ["name", "core", "MHz", "flash KiB", "RAM KiB", "float", "runs", "title"]
    write(
        {"boards": [card.as_dict() for card in cards]},
        as_json,
        lambda: table(columns, [_card_row(card) for card in cards]),
    )


def _card_row(card: TargetCard) -> list[Any]:
    return [
        card.name,
        card.core,
        int(card.clock_mhz) or None,
        card.flash_kib or None,
        card.ram_kib or None,
        "yes" if card.fpu else "no",
        " ".join(card.runtimes),
        card.title,
    ]


@click.command()
@click.argument("bundle", metavar="RUN|BUNDLE", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--board",
    "names",
    multiple=True,
    help="Only this board: a name (edgegraft boards) or a card of your own (.toml).",
)
@json_option
def profile(bundle: Path, names: tuple[str, ...], as_json: bool) -> None:
    """Say what a model costs, and which boards it fits.

    Operations and bytes; time of one window in each runtime on this machine, one thread; flash
    and RAM of its C by the linker, and instructions of one window by an emulated Cortex-M.
    Instructions are not cycles: time on a board is an estimate from its card.
    """
    from edgegraft import shipping
    from edgegraft.cli.progress import Progress
    from edgegraft.export.profile import profile as cost_of
    from edgegraft.export.target import board

    cards = [board(name) for name in names]
    loaded = shipping.load(bundle)
    with Progress() as watch:
        watch("stage", {"name": "profile"})
        found = cost_of(loaded, cards)
    write(found.as_dict(), as_json, lambda: _render(found))


def _render(found: Profile) -> None:
    say("model", f"{found.name}, {found.precision}")
    arena = "" if found.arena_bytes is None else f", arena {_kib(found.arena_bytes)} KiB"
    say(
        "size",
        f"{found.parameters:,} values in {_kib(found.weight_bytes)} KiB, "
        f"{found.multiply_adds:,} multiply-adds a window{arena}",
    )
    if found.float_operations and found.precision != "float":
        say("float", f"needed for {', '.join(found.float_operations)}")
    click.echo("\nOn this machine, one thread")
    rows = [
        [cost.runtime, _kib(cost.model_bytes), cost.latency_ms, cost.note]
        for cost in found.runtimes
    ]
    table(["runtime", "model KiB", "ms", "note"], rows)
    if found.cores:
        click.echo("\nFirmware on emulated cores (instructions of one window, not cycles)")
        columns = ["core", "flash KiB", "RAM KiB", "arena", "buffers", "stack", "instructions",
                   "to int8", "note"]  # fmt: skip
        table(columns, [
            [
                cost.core, *(_kib(size) for size in (cost.flash_bytes, cost.ram_bytes,
                cost.arena_bytes, cost.buffers_bytes, cost.stack_bytes)),
                cost.instructions, cost.prepare_instructions, cost.note,
            ]
            for cost in found.cores
        ])  # fmt: skip
    if found.boards:
        click.echo("\nBoards (time is an estimate)")
        table(["board", "flash", "RAM", "ms", "fits"], [_board_row(cost) for cost in found.boards])
    for note in found.notes:
        say("note", note)


def _board_row(cost: BoardCost) -> list[Any]:
    return [
        cost.board,
        bar(cost.flash_bytes, cost.flash_kib * 1024),
        bar(cost.ram_bytes, cost.ram_kib * 1024),
        cost.latency_ms,
        "yes" if cost.fits else "no: " + "; ".join(p.code + " " + p.found for p in cost.problems),
    ]


def bar(used: int, size: int) -> str:
    """How much of something is used, drawn and in percent; "-" where it is not bounded.

    >>> bar(30, 100)
    '###....... 30%'
    """
    if not size or not used:
        return "-"
    share = used / size
    filled = min(BAR, round(BAR * share))
    return f"{'#' * filled}{'.' * (BAR - filled)} {share:.0%}"


def _kib(size: int) -> str:
    return show(size / 1024)
