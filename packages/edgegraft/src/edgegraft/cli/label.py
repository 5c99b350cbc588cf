"""`edgegraft label`: which windows to label next, and filled-in labels back into data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgegraft.cli.options import DataCommand, data_options, given, json_option, seed_option
from edgegraft.cli.output import say, table, write
from edgegraft.cli.progress import Progress

if TYPE_CHECKING:
    from edgegraft.labels import Proposals

TABLES, WINDOWS, PAGES = (".csv", ".json"), (".npz",), (".html",)


@click.command(cls=DataCommand)
@click.argument("data")
@click.option("--next", "count", type=int, help="How many windows to propose.  [default: 20]")
@click.option("--unlabelled", metavar="POOL", help="Windows to choose from, where they are apart.")
@click.option(
    "--labels",
    multiple=True,
    metavar="FILE",
    help="A table from this command, filled in; may be given several times.",
)
@click.option("--backbone", default="auto", show_default=True, help="What embeds the windows.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Table to fill in (.csv, .json), or the data with its labels (.npz).",
)
@click.option("--plot", type=click.Path(path_type=Path), help="Page with a map (.html).")
@data_options
@seed_option
@json_option
def label(
    data: str,
    count: int | None,
    unlabelled: str | None,
    labels: tuple[str, ...],
    backbone: str,
    out: Path | None,
    plot: Path | None,
    seed: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Propose windows to label next, and take filled-in labels back.

    Chooses windows that stand for most of those without a label; later, those whose class is
    open. Fill in the column label of the table (a class, or ? where one cannot tell) and give it
    back as --labels: with --out FILE.npz the data are written with their labels, else the next
    windows are proposed. No file is ever written over.
    """
    from edgegraft import labels as proposing

    _check_places(data, unlabelled, out, plot)
    more = given(options)
    only_data = out is not None and out.suffix.lower() in WINDOWS and count is None and plot is None
    if only_data:
        windows, skipped = proposing.labelled_windows(data, unlabelled, labels, **more)
        assert out is not None
        return _write_windows(windows, len(skipped), out, as_json)
    with Progress() as watch:
        found = proposing.label_next(
            data,
            proposing.NEXT if count is None else count,
            unlabelled=unlabelled,
            labels=labels,
            backbone=backbone,
            seed=seed,
            watch=watch,
            **more,
        )
    return _write_proposals(found, data, out, plot, as_json)


def _check_places(data: str, unlabelled: str | None, out: Path | None, plot: Path | None) -> None:
    """Refuse what would write over a file, into the data, or in a form that there is not."""
    from edgegraft_edge.errors import OptionError, Problem

    problems: list[Problem] = []
    for flag, path, forms in (("--out", out, (*TABLES, *WINDOWS)), ("--plot", plot, PAGES)):
        if path is None:
            continue
        if path.suffix.lower() not in forms:
            problems.append(
                Problem("out-form", f"{flag} {path}", "the form goes by the name's end",
                        f"a name that ends with {', '.join(forms)}")
            )  # fmt: skip
        if flag == "--out" and path.exists():
            problems.append(
                Problem("out-exists", f"{flag} {path} is there already",
                        "labels in it would be lost", "another name")
            )  # fmt: skip
        for place in (data, unlabelled):
            if place and Path(place).is_dir() and Path(place).resolve() in path.resolve().parents:
                problems.append(
                    Problem("out-in-data", f"{flag} {path} lies in {place}",
                            "it would be read as data next time", "a place beside the data")
                )  # fmt: skip
    if problems:
        raise OptionError(problems)


def _write_windows(windows: Any, n_unsure: int, out: Path, as_json: bool) -> None:
    from edgegraft.data.arrays import write_npz

    write_npz(windows, out)
    counts = {name: int((windows.y == name).sum()) for name in windows.classes}
    n_labels = int(windows.labelled.sum())
    found = {"out": str(out), "labels": n_labels, "open": len(windows) - n_labels,
             "unsure": n_unsure, "counts": counts}  # fmt: skip

    def render() -> None:
        for name, count in counts.items():
            click.echo(f"{name:20} {count:,}")
        click.echo(f"{'without label':20} {len(windows) - n_labels:,}")
        click.echo(f"{'written':20} {out}")

    write(found, as_json, render)


def _write_proposals(
    found: Proposals, data: str, out: Path | None, plot: Path | None, as_json: bool
) -> None:
    from edgegraft.data.answers import table_to_fill
    from edgegraft.data.arrays import write_npz
    from edgegraft.evaluate.proposed import said
    from edgegraft_edge.files import replace_file

    rows = [each.as_dict() for each in found.proposals]
    if out is not None and out.suffix.lower() in WINDOWS:
        write_npz(found.windows, out)
    elif out is not None:
        replace_file(out, table_to_fill(rows, as_json=out.suffix.lower() == ".json"))
    if plot is not None:
        _plot(found, data, plot)
    values = found.as_dict() | {
        "out": None if out is None else str(out),
        "plot": None if plot is None else str(plot),
    }

    def render() -> None:
        columns = ["rank", "recording", "start_s", "window", "group", "guess", "confidence", "why"]
        if not any(row["group"] for row in rows):
            columns.remove("group")
        if found.proposals[0].guess is None:
            columns = [name for name in columns if name not in ("guess", "confidence")]
        table(columns, [[row[name] for name in columns] for row in rows])
        click.echo()
        say("labels", f"{found.n_labels:,}, and {found.n_open:,} windows without one")
        say("chosen", f"by {found.by}: {found.because}")
        if found.worth is not None:
            say("worth", said(found.worth))
        for note in found.notes:
            say("note", note)
        for path in (out, plot):
            if path is not None:
                say("written", str(path))

    write(values, as_json, render)


def _plot(found: Proposals, data: str, plot: Path) -> None:
    from datetime import UTC, datetime

    from edgegraft.evaluate.proposed import write_page
    from edgegraft_edge import __version__

    page = found.as_dict() | {
        "title": f"What to label next: {Path(data).name}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "edgegraft_version": __version__,
    }
    write_page(
        page,
        plot,
        flat=found.flat,
        labels=found.windows.y,
        chosen=[each.window for each in found.proposals],
        worth=found.worth,
    )
