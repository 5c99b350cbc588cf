"""`edgegraft doctor`: is the data fit to learn from?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from edgegraft.cli.options import DataCommand, as_typed, data_options, given, json_option
from edgegraft.cli.output import write

if TYPE_CHECKING:
    from edgegraft.data.audit import Audit
    from edgegraft.tasks.task import Task
    from edgegraft_edge.signal import Spec, Windows

TROUBLE = 1


@click.command(cls=DataCommand)
@click.argument("data")
@click.option("--test", metavar="DATA", help="Data meant to test a model; looks for leakage, too.")
@click.option(
    "--task",
    default="classification",
    show_default=True,
    help="What it is for: classification, forecasting, regression or anomaly.",
)
@click.option(
    "--target",
    metavar="A,B",
    help="Channels that are estimated; remaining for the life of run-to-failure recordings.",
)
@click.option("--context", type=click.IntRange(1), help="Samples that are seen.")
@click.option("--horizon", type=click.IntRange(1), help="Samples ahead that are asked for.")
@click.option("--known", metavar="A,B", help="Channels whose future is known.")
@click.option("--normal", metavar="LABEL", help="Label that counts as normal (--task anomaly).")
@data_options
@json_option
@click.pass_context
def doctor(
    ctx: click.Context,
    /,
    data: str,
    test: str | None,
    task: str,
    target: str | None,
    context: int | None,
    horizon: int | None,
    known: str | None,
    normal: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Look for trouble in data before training on it.

    Reports rates, gaps, classes, constant and clipped channels, leakage between groups or
    files, and label typos; accounts for every row. With a task also seasons, targets that do not
    move, that time or another channel gives away, and units without their end. Exit code 1 on
    trouble.
    """
    from edgegraft.data.audit import audit
    from edgegraft.data.question import Question

    asked = None
    if task != "classification":
        asked = Question(
            task, _names(target), context or 0, horizon or 0, _names(known), normal or ""
        )
    findings = audit(data, test, asked=asked, **given(options))
    write(findings.as_dict(), as_json, lambda: _render(findings))
    if findings.trouble:
        ctx.exit(TROUBLE)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def opened(
    place: str, options: Mapping[str, Any], spec: Spec | None = None, task: Task | None = None
) -> Windows:
    """Windows of a place, as a model of `spec` takes them and its task cuts them; says if rows
    had to be set aside."""
    from edgegraft.data.dataset import open_data, open_like

    found = open_like(place, spec, **options) if spec else open_data(place, **options)
    if found.account.note:
        click.echo(f"note      {place}: {found.account.note}", err=True)
    return found.windows() if task is None else task.windows(found)


def _render(findings: Audit) -> None:
    for line in str(findings).splitlines():
        found, separator, remedy = line.partition(". Try: ")
        click.echo(found + separator + as_typed(remedy))
