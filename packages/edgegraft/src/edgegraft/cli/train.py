"""`edgegraft adapt` and `edgegraft pretrain`: everything that learns."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgegraft.cli.data import opened
from edgegraft.cli.options import (
    TASK_OPTIONS,
    DataCommand,
    data_options,
    given,
    json_option,
    options_of,
    seed_option,
    strategy_options,
    task_option,
    task_texts,
)
from edgegraft.cli.output import say, show, table, write
from edgegraft.cli.progress import Progress

if TYPE_CHECKING:
    from edgegraft.adapt.network import Trainable
    from edgegraft.recipe import Recipe
    from edgegraft_edge.signal import Windows


def _list_options(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    """Print the options of every task and strategy, from the fields of its dataclass, and leave."""
    if not wanted or ctx.resilient_parsing:
        return
    from edgegraft import catalog

    formatter = ctx.make_formatter()
    owners = [(kind, name) for kind in ("tasks", "strategies") for name in catalog.names(kind)]
    for kind, name in owners:
        entries = dataclasses.fields(catalog.find(kind, name))
        listed = [
            (f"{name}.{entry.name}={_text(entry.default)}", entry.metadata.get("help", ""))
            for entry in entries
        ]
        with formatter.section(name):
            formatter.write_dl(listed or [(name, "no options")])
    click.echo(formatter.getvalue(), nl=False)
    ctx.exit()


def _text(default: Any) -> str:
    """A default as one would write it after the equals sign."""
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


class FoldCount(click.ParamType):  # type: ignore[type-arg]
    """A number of folds, or the word groups."""

    name = "count|groups"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        if value == "groups":
            return "groups"
        return int(click.IntRange(2).convert(value, param, ctx))


@click.command(cls=DataCommand)
@click.argument("data", required=False)
@click.option("--test", metavar="DATA", help="Held-out data, touched once, for the final score.")
@click.option(
    "--unlabelled",
    metavar="POOL|rest",
    help="Windows of the same device without labels; rest: what of DATA is not used as labelled.",
)
@click.option(
    "--source",
    multiple=True,
    metavar="[NAME=]DATA",
    help="Labelled data of another device, person, load or site; may be repeated.",
)
@click.option(
    "--transductive",
    is_flag=True,
    help="The windows of --test join the pool, without labels; scores hold for these alone.",
)
@data_options
@click.option("--backbone", default="auto", show_default=True, help="Name, or auto to rank them.")
@click.option("--strategy", default="auto", show_default=True, help="Name, or auto to choose.")
@click.option(
    "--task",
    default="classification",
    show_default=True,
    help="classification; anomaly: normal or not, learned from normal windows alone; regression:"
    " a number, or remaining life; forecasting: numbers to come.",
)
@click.option("--normal", metavar="LABEL", help="Label that counts as normal (--task anomaly).")
@task_option(
    "--target",
    metavar="NAME",
    help="What is estimated: a channel (regression, "
    "forecasting; several with commas), or: remaining (life of run-to-failure units).",
)
@task_option("--horizon", type=click.IntRange(1), help="Samples ahead (--task forecasting).")
@task_option("--season", type=click.IntRange(0), help="Samples in a season (--task forecasting).")
@task_option("--false-alarms", metavar="RATE", help="1/day, 2/week or a share (--task anomaly).")
@click.option(
    "--labels-per-class",
    type=click.IntRange(0),
    help="Use only so many labels; 0: none at all, where a --source has some.",
)
@click.option(
    "--folds",
    type=FoldCount(),
    default=5,
    show_default=True,
    help="Folds of the comparison with the controls; groups: leave out one group at a time.",
)
@click.option(
    "-o",
    "--option",
    "texts",
    multiple=True,
    metavar="NAME.FIELD=VALUE",
    help="Option of a strategy or of the task, e.g. finetune.epochs=20; may be repeated.",
)
@click.option(
    "--list-options",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_options,
    help="List the options of all tasks and strategies and leave.",
)
@click.option(
    "--recipe",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Reproduce the run of a recipe.toml; options that are given as well go first.",
)
@click.option("--resume/--no-resume", default=True, help="Go on where a killed run stopped.")
@seed_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.")
@json_option
@click.pass_context
def adapt(
    ctx: click.Context,
    /,
    recipe: Path | None,
    texts: tuple[str, ...],
    resume: bool,
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Adapt a backbone to labelled windows, with controls.

    Fits the candidates and the controls on the same folds and says whether the transfer helped,
    hurt or is undecided; ships what no control beats. With a pool (--unlabelled) or labelled
    data of other devices (--source), all ways of using them stand beside a reference from the
    labels of DATA alone, which is left only where a paired test says so; with a source DATA needs
    no labels. Writes the bundle, report and recipe to the folder given by --out. Ctrl-C stops,
    and the same command goes on from there; while the model that ships is trained, it keeps the
    best so far and finishes.
    """
    from edgegraft import workflow

    asked = _asked(ctx, recipe, texts, options)
    try:
        with Progress() as watch:
            run = workflow.adapt(**vars(asked), out=out, resume=resume, watch=watch)
    except KeyboardInterrupt:
        if out is not None and (out / "work").exists():
            click.echo(f"what is done is kept in {out}; the same command goes on", err=True)
        raise
    summary = {**run.summary, "run": str(run.folder) if run.folder else None}
    write(summary, as_json, lambda: _render(summary))


def _asked(
    ctx: click.Context, recipe: Path | None, texts: tuple[str, ...], options: Mapping[str, Any]
) -> Recipe:
    """The recipe, from a file where one is named; what stands on the command line goes first."""
    from edgegraft.inputs import named_sources
    from edgegraft.recipe import Recipe

    if recipe is None and options["data"] is None:
        raise click.UsageError("Missing argument 'DATA' (or --recipe FILE).", ctx)
    asked = Recipe.read(recipe) if recipe is not None else Recipe(data=options["data"])
    own = {entry.name for entry in dataclasses.fields(Recipe)}
    asked_task = options["task"] if recipe is None else asked.task
    texts = (*texts, *task_texts(asked_task, options))
    options = {name: value for name, value in options.items() if name not in TASK_OPTIONS}
    typed = {
        name: value
        for name, value in options.items()
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    if "source" in typed:
        typed["source"] = named_sources(typed["source"])
    return dataclasses.replace(
        asked,
        **{name: value for name, value in typed.items() if name in own},
        data_options={
            **asked.data_options,
            **{name: value for name, value in typed.items() if name not in own},
        },
        options={**asked.options, **strategy_options(texts)},
    )


def _render(summary: Mapping[str, Any]) -> None:
    show_verdict(summary)
    if summary["evaluation"]:
        metrics = summary["evaluation"]["metrics"]
        names = shown_metrics(metrics, _primary(summary))
        said = "  ".join(f"{name} {show(metrics[name])}" for name in names)
        place = f"{summary['evaluation']['n']:,} windows of {summary['evaluation']['on']}"
        say("scores", f"on {place}: {said}")
    for warning in summary["warnings"]:
        say("warning", f"{warning}")
    if summary["run"]:
        say("report", f"{Path(summary['run']) / 'report.html'}")
        say("bundle", f"{Path(summary['run']) / 'model.egb'}")
    else:
        say("kept", "nothing: --out RUN keeps the model, its report and its recipe")
    say("seconds", f"{float(summary['seconds']):.1f}")


def show_verdict(summary: Mapping[str, Any]) -> None:
    """The verdict, what ships, and every row of the comparison."""
    from edgegraft.evaluate.wording import pair

    say("verdict", f"{summary['verdict']}: {summary['because']}")
    shipped = summary["shipped"]
    say("shipped", f"{pair(shipped)}: {shipped['because']}")
    _show_beside(summary)
    rows = [*summary["candidates"], *summary["controls"]]
    known = {name: None for row in rows for name in row.get("metrics", {})}
    scores = [*shown_metrics(known, _primary(summary)), "seconds"]
    found = [[pair(row), row["role"], *(_cell(row, n) for n in scores)] for row in rows]
    if found:
        click.echo()
        table(["row", "role", *scores], found)
        click.echo()


def shown_metrics(known: Mapping[str, Any], primary: str = "") -> list[str]:
    """Of the metrics of a task, those that a line has room for.

    >>> shown_metrics({"mae": 1.0, "rmse": 2.0, "width": 9.0, "coverage": 0.9}, "mae")
    ['mae', 'rmse', 'coverage']
    """
    from edgegraft.evaluate.wording import columns

    usual = ("accuracy", "macro_f1", "log_loss")
    if all(name in known for name in usual) and primary in ("", *usual):
        return list(usual)
    return columns(known, primary)


def _primary(summary: Mapping[str, Any]) -> str:
    return str((summary.get("difference") or {}).get("metric") or "")


def _show_beside(summary: Mapping[str, Any]) -> None:
    """What stood beside the labels, what the guard made of it, and what each source does."""
    beside = summary.get("beside") or {}
    if not beside:
        return
    told = [f"{beside['pool']['n_windows']:,} windows in the pool"] if "pool" in beside else []
    told += [
        f"{entry['n_windows']:,} of source {name!r} ({len(entry['classes'])} classes)"
        for name, entry in beside.get("sources", {}).items()
    ]
    say("beside", ", ".join(told))
    if summary["guard"]:
        say("guard", summary["guard"]["sentence"])
    for effect in summary["sources"]:
        say("source", effect["sentence"])


def _cell(row: Mapping[str, Any], name: str) -> Any:
    return row.get(name, row.get("metrics", {}).get(name))


@click.command(cls=DataCommand)
@click.argument("data", nargs=-1, required=True)
@data_options
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="File of the weights to write."
)
@click.option(
    "--backbone",
    default="conv1d",
    show_default=True,
    help="Network to train: the encoder for series, or any that learns a labelled source task.",
)
@click.option("--name", help="Name on the card; that of the file if none.")
@click.option("--licence", default="as the data", show_default=True, help="Licence on the card.")
@click.option(
    "-o",
    "--option",
    "texts",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Option of pretraining, e.g. epochs=20; may be repeated.",
)
@seed_option
@json_option
def pretrain(
    data: tuple[str, ...],
    out: Path,
    backbone: str,
    name: str | None,
    licence: str,
    texts: tuple[str, ...],
    seed: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a network on source recordings, pictures or sentences.

    The encoder for series learns with labels where there are any, without otherwise; any other
    network (--backbone dense-28, or resnet18:FILE) learns the labels of one source. Writes the
    weights (safetensors) and a card beside them with data, licence, recipe, seed and checksum.
    A killed run goes on where it stopped.
    """
    from edgegraft.adapt.pretrain import save

    out = out.with_suffix(".safetensors")
    kept = out.with_suffix(".part")
    said = {"name": name or out.stem, "data": ", ".join(data), "licence": licence, "seed": seed}
    learn = _encoder if backbone == "conv1d" else _source_task
    with Progress() as watch:
        watch("stage", {"name": "open"})
        sources = [opened(place, given(options)) for place in data]
        watch("stage", {"name": "pretrain", "windows": sum(map(len, sources))})
        card = save(learn(sources, backbone, texts, kept, {**said, "watch": watch}), out)
    if kept.is_dir():
        shutil.rmtree(kept)
    kept.unlink(missing_ok=True)
    found = {"weights": str(out), "card": dataclasses.asdict(card)}
    write(
        found,
        as_json,
        lambda: click.echo(f"weights   {out}\ncard      {out.with_suffix('.toml')}"),
    )


def _encoder(
    sources: Sequence[Windows], _: str, texts: Sequence[str], kept: Path, said: Mapping[str, Any]
) -> Trainable:
    from edgegraft.adapt.pretrain import Pretraining
    from edgegraft.adapt.pretrain import pretrain as train

    return train(sources, Pretraining(**options_of(Pretraining, texts)), checkpoint=kept, **said)


def _source_task(
    sources: Sequence[Windows],
    backbone: str,
    texts: Sequence[str],
    kept: Path,
    said: Mapping[str, Any],
) -> Trainable:
    from edgegraft.adapt.source_task import SourceTask, learn_source
    from edgegraft.tasks.classification import Classification
    from edgegraft.zoo.registry import load_backbone

    if len(sources) > 1:
        raise click.UsageError("a network learns one source task: give one DATA")
    chosen = SourceTask(**{"checkpoint": str(kept), **options_of(SourceTask, texts)})
    return learn_source(load_backbone(backbone), sources[0], Classification(), chosen, **said)
