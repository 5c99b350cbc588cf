"""`edgegraft compress`: a finished model, smaller."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgegraft.cli.options import (
    DataCommand,
    DataOption,
    data_options,
    given,
    json_option,
    options_of,
    seed_option,
)
from edgegraft.cli.output import say, show, table, write
from edgegraft.cli.progress import Progress

if TYPE_CHECKING:
    from edgegraft.versions import Shrinking


class Amount(click.ParamType):  # type: ignore[type-arg]
    """A number with a unit, e.g. 128K or 20ms; the first unit is what is meant without one."""

    def __init__(self, name: str, units: Mapping[str, float]) -> None:
        self.name, self.units = name, units

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
        unit = found[2].lower() if found else ""
        if found is None or unit not in {"", *self.units} or float(found[1]) <= 0:
            self.fail(f"{value!r} is no amount; write e.g. {self.name}", param, ctx)
        assert found is not None
        return float(found[1]) * (self.units[unit] if unit else 1.0)


KIB = Amount("128K", {"k": 1, "kb": 1, "kib": 1, "m": 1024, "mb": 1024, "mib": 1024, "b": 1 / 1024})
MILLISECONDS = Amount("20ms", {"ms": 1, "s": 1000, "us": 0.001})


def _data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of data but for --fit, the board here; pictures open as the run had them."""
    marked = data_options(command)
    marked.__click_params__ = [  # type: ignore[attr-defined]
        param
        for param in marked.__click_params__  # type: ignore[attr-defined]
        if not (isinstance(param, DataOption) and param.name == "fit")
    ]
    return marked


@click.command(cls=DataCommand)
@click.argument("run", metavar="RUN|BUNDLE", type=click.Path(exists=True, path_type=Path))
@click.option("--data", required=True, metavar="DATA", help="The data that it was adapted to.")
@click.option(
    "--unlabelled",
    default="rest",
    show_default=True,
    metavar="DATA|rest|none",
    help="More windows for a student to learn from; rest: those of --data without a used label.",
)
@click.option("--test", metavar="DATA", help="Held-out data for the scores of all versions.")
@_data_options
@click.option(
    "--methods",
    default="int8,distill",
    show_default=True,
    help="Of int8, qat, prune and distill, with commas.",
)
@click.option("--fit", "board", default="", metavar="BOARD", help="Look for a student that fits.")
@click.option(
    "--flash", type=KIB, default=0.0, metavar="128K", help="Flash that it may take, e.g. 128K."
)
@click.option("--ram", type=KIB, default=0.0, metavar="32K", help="RAM that it may take, e.g. 32K.")
@click.option(
    "--latency",
    type=MILLISECONDS,
    default=0.0,
    metavar="20ms",
    help="Time of a window on the board, e.g. 20ms.",
)
@click.option(
    "-o",
    "--option",
    "texts",
    multiple=True,
    metavar="PART.FIELD=VALUE",
    help="Option of distillation, pruning, search or student, e.g. distillation.steps=2000.",
)
@seed_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the result.")
@json_option
def compress(
    run: Path,
    data: str,
    unlabelled: str,
    test: str | None,
    methods: str,
    board: str,
    flash: float,
    ram: float,
    latency: float,
    texts: tuple[str, ...],
    seed: int,
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Make a run smaller: int8, pruned, distilled, or what fits a board.

    Every version is scored on the same windows beside the model it came from. Writes the smallest
    of them, or the one that fits, with a report to the folder given by --out; that is a run like
    any other, for export, verify and predict.
    """
    from edgegraft import shrink

    how = _asked(methods, board, flash, ram, latency, texts)
    with Progress() as watch:
        found = shrink.compress(
            run,
            data,
            unlabelled=None if unlabelled == "none" else unlabelled,
            test=test,
            how=how,
            seed=seed,
            out=out,
            data_options=given(options),
            watch=watch,
        )
    summary = {**found.report, "run": str(found.folder) if found.folder else None}
    write(summary, as_json, lambda: _render(summary))


def _asked(
    methods: str, board: str, flash: float, ram: float, latency: float, texts: tuple[str, ...]
) -> Shrinking:
    from edgegraft.versions import Shrinking
    from edgegraft.zoo.micro import MicroShape

    plain = Shrinking()
    parts: dict[str, Any] = {
        "distillation": plain.distillation,
        "pruning": plain.pruning,
        "search": plain.search,
        "student": MicroShape(),
    }
    changed: dict[str, Any] = {}
    for name, part in parts.items():
        own = [text.partition(".")[2] for text in texts if text.partition(".")[0] == name]
        values = options_of(type(part), own)
        changed["shape" if name == "student" else name] = dataclasses.replace(part, **values)
    wrong = [text for text in texts if text.partition(".")[0] not in parts]
    if wrong:
        raise click.UsageError(f"{wrong[0]!r}: options are of {', '.join(parts)}")
    names = tuple(name.strip() for name in methods.split(",") if name.strip())
    return Shrinking(names, board, flash, ram, latency, **changed)


def _render(report: Mapping[str, Any]) -> None:
    say("result", report["sentence"])
    say("scores", report["scored_on"])
    click.echo()
    table(
        ["version", "accuracy", "from", "to", "points", "KiB", "flash KiB", "RAM KiB", ""],
        [
            [
                row["name"],
                *(row[key] for key in ("accuracy", "low", "high")),
                None if row["gap"] is None else f"{100 * row['gap']['mean']:+.1f}",
                *(
                    None if row[key] is None else f"{row[key]:.1f}"
                    for key in ("size_kib", "flash_kib", "ram_kib")
                ),
                "ships" if row["ships"] else "",
            ]
            for row in report["rows"]
        ],
    )
    click.echo()
    tried = [each for each in report["tried"] if each["agreement"] is not None]
    if tried:
        say("search", f"{len(report['tried'])} students costed, {len(tried)} trained")
        table(
            ["student", "flash KiB", "RAM KiB", "ms", "agreement", "steps"],
            [
                [
                    each["name"],
                    each["flash_kib"],
                    each["ram_kib"],
                    each["latency_ms"],
                    show(each["agreement"]),
                    each["steps"],
                ]
                for each in tried
            ],
        )
        click.echo()
    for note in report["notes"]:
        say("note", note)
    if report["run"]:
        say("report", f"{Path(report['run']) / 'report.html'}")
        say("bundle", f"{Path(report['run']) / 'model.egb'}")
    else:
        say("kept", "nothing: --out RUN keeps the model and its report")
