"""The whole way as functions: adapt, evaluate, predict, recommend."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.select import Ranked, rank_backbones
from edgegraft.adapt.strategy import Watch, build_strategy, check_options, unwatched
from edgegraft.catalog import find
from edgegraft.data.domains import labelled_target
from edgegraft.data.source import telling
from edgegraft.data.split import Fold, few_shot
from edgegraft.evaluate.compare import Row, compute, cross_validate
from edgegraft.evaluate.curve import learning_curve
from edgegraft.evaluate.estimated import EstimateEvaluation
from edgegraft.evaluate.evaluation import Evaluation, evaluate_probabilities
from edgegraft.evaluate.evaluation import evaluate as evaluate_predictor
from edgegraft.evaluate.out_of_scope import decision_of
from edgegraft.evaluate.verdict import Verdict, judge
from edgegraft.findings import Comparison, Findings, noting_epochs, now, report, summary
from edgegraft.fingerprint import fingerprint
from edgegraft.inputs import (
    Data,
    Inputs,
    Sources,
    cut,
    named_sources,
    open_inputs,
    opened,
    place_of,
    typical,
)
from edgegraft.inputs import open_windows as open_windows
from edgegraft.options import check_values
from edgegraft.plan import (
    FROZEN,
    QUICK,
    choose,
    contenders,
    plan_blocks,
    plan_estimates,
    plan_folds,
    plan_normality,
    plan_rows,
    unranked,
)
from edgegraft.recipe import Recipe
from edgegraft.shipping import CALIBRATION, MODEL, load
from edgegraft.tasks.classification import Classification
from edgegraft.tasks.task import Task, as_lineage, task_of
from edgegraft.threads import one_thread
from edgegraft.workspace import Workspace, writing
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge import __version__, bundle
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.decision import Decision, Predictions
from edgegraft_edge.errors import ModelError, OptionError
from edgegraft_edge.signal import TARGET, Array, Windows
from edgegraft_edge.tensors import dump

GOLDEN_WINDOWS, CALIBRATION_WINDOWS = 12, 200
RANKED_WINDOWS = 100
"""Windows of each class of the sources that rank the backbones where the target has no label."""


@dataclass(frozen=True)
class Run:
    """What `adapt` gives.

    Attributes:
        adapted: the model that ships.
        bundle: the same as a device reads it.
        verdict: whether the transfer helped.
        summary: plain values, what ``adapt --json`` prints.
        report: what the report pages are made of.
        folder: where it was written; None if nowhere.
        calibration: training windows that ranges of 8-bit values are read from.
    """

    adapted: Adapted
    bundle: Bundle
    verdict: Verdict
    summary: Mapping[str, Any]
    report: Mapping[str, Any]
    folder: Path | None
    calibration: Array = field(repr=False)


@contextmanager
def _without_idle_warnings() -> Iterator[None]:
    """Quiet where it does not concern a person: many classes of few windows are no regression."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes is greater")
        yield


@one_thread()
@_without_idle_warnings()
def adapt(
    data: Data,
    *,
    test: Data | None = None,
    unlabelled: Data | None = None,
    source: Sources | None = None,
    transductive: bool = False,
    backbone: str | PathLike[str] | Backbone = "auto",
    strategy: str = "auto",
    labels_per_class: int | None = None,
    folds: int | str = 5,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    task: Task | str = "classification",
    normal: str | None = None,
    curve: bool = True,
    watch: Watch = unwatched,
    resume: bool = True,
) -> Run:
    """Adapt a pretrained model to labelled windows, prove that it helped, and bundle it.

    Args:
        data: training data of the target, the device that a model is wanted for; its unlabelled
            windows are left aside, unless "rest" makes them the pool.
        test: data of other people or machines for the final scores; never used to choose.
        unlabelled: the pool: more windows of the target without labels, or "rest" for those of
            `data` that are not used as labelled ones.
        source: labelled data of other devices, people, loads or sites: one, several, or several
            by name. With a source the target needs no labels at all.
        transductive: the windows of `test` join the pool, without labels; the scores then hold
            for these windows alone.
        backbone: a name, a path to weights, a backbone, or "auto": the pretrained one whose
            closed-form head does best on left-out windows.
        strategy: a name, or "auto": all that suit, among which the comparison decides.
        labels_per_class: use only so many labelled windows of each class.
        folds: of the paired comparison with the controls, grouped where groups are known;
            "groups" leaves out one group at a time.
        out: folder for the bundle, the report and the recipe.
        task: by name, "classification", "anomaly", "regression" or "forecasting", or as a value.
        normal: label that counts as normal, for the task "anomaly"; found by its name if none.
        options: of strategies and of the task, written ``{"finetune.epochs": 20}``.
        curve: whether to draw the learning curve (a few seconds).
        watch: told of every step.
        resume: go on where a killed run with the same data and options stopped.

    Errors: `DataError`, `SplitError`, `OptionError`, `ModelError`.

    >>> run = adapt("synthetic:n=60,seed=1", strategy="probe", backbone="statistics", folds=2,
    ...             curve=False)
    >>> run.summary["verdict"] in {"helped", "hurt", "undecided"}
    True
    """
    began = time.perf_counter()
    training: dict[str, list[Mapping[str, Any]]] = {}
    watch = noting_epochs(watch, training)
    task = _task(task, normal, options or {})
    backbone = fspath(backbone) if isinstance(backbone, PathLike) else backbone
    sources = named_sources(source)
    recipe = Recipe(
        data=place_of(data),
        test=None if test is None else place_of(test),
        backbone=backbone if isinstance(backbone, str) else backbone.card.name,
        unlabelled=None if unlabelled is None else place_of(unlabelled),
        source={name: place_of(each) for name, each in sources.items()},
        transductive=transductive,
        strategy=strategy,
        task=task.name,
        normal=normal,
        labels_per_class=labels_per_class,
        folds=folds,
        seed=seed,
        data_options=dict(data_options or {}),
        options=dict(options or {}),
    )
    check_options(recipe.options)

    watch("stage", {"name": "open"})
    with telling(watch):
        inputs = open_inputs(
            data,
            task,
            unlabelled=unlabelled,
            sources=sources,
            test=test,
            transductive=transductive,
            labels_per_class=labels_per_class,
            seed=seed,
            options=data_options,
        )
    task, windows = inputs.task, inputs.windows

    watch("stage", {"name": "rank"})
    known = contenders(backbone, windows.spec.kind)
    left_out = ""
    if task.name == "anomaly":
        because = "normal windows alone do not rank backbones"
        chosen, ranking = choose(unranked(known, because), backbone)
        rows = plan_normality(
            chosen, strategy, recipe.options, windows, inputs.beside, asked=backbone != "auto"
        )
    elif task.outputs is not None:
        because = "the comparison decides among what estimates numbers"
        chosen, ranking = choose(unranked(known, because), backbone)
        rows = plan_estimates(chosen, strategy, recipe.options, task, beside=inputs.beside)
    else:
        ranking = _ranked(known, inputs, seed, watch)
        chosen, ranking = choose(ranking, backbone)
        unusable = [row.backbone for row in ranking if not row.usable]
        rows, left_out = plan_rows(
            chosen, strategy, recipe.options, windows, unusable, inputs.beside
        )

    watch("stage", {"name": "compare", "rows": [row.name for row in rows]})
    workspace = None
    if out is not None:
        identity = _identity(recipe, inputs, rows)
        workspace = Workspace.open(out, identity, resume=resume)
    compared = _compare(rows, inputs, recipe, watch, workspace)
    notes = (*inputs.notes, left_out) if left_out else inputs.notes
    compared = replace(compared, notes=(*notes, *compared.notes))
    verdict = judge(
        compared.tables, windows, task, preferred=rows[0], n_folds=len(compared.folds), seed=seed
    )

    watch("stage", {"name": "fit", "row": verdict.shipped.name})
    shipped = verdict.shipped
    adapted = shipped.strategy.adapt(
        shipped.backbone, inputs.everything, task, seed=seed, watch=watch
    )
    adapted = replace(adapted, lineage={**adapted.lineage, **as_lineage(task)})
    evaluation, scored_on = _score(adapted, shipped, compared, inputs.tested, seed)

    watch("stage", {"name": "report"})
    found = Findings(
        recipe=recipe,
        ranking=ranking,
        compared=compared,
        verdict=verdict,
        adapted=adapted,
        bundle=_bundle(
            adapted,
            verdict,
            typical(inputs, GOLDEN_WINDOWS),
            Path(fspath(out)).name if out else "model",
            _decision(shipped, compared),
        ),
        evaluation=evaluation,
        scored_on=scored_on,
        curve=_curve(shipped, compared, seed, watch) if curve and compared.folds else [],
        training=training,
        seconds=time.perf_counter() - began,
        tested=inputs.tested,
    )
    pages = report(found)
    calibration = typical(inputs, CALIBRATION_WINDOWS)
    folder = _write(workspace, found, pages, calibration) if workspace else None
    watch("done", {"folder": str(folder) if folder else None, "seconds": found.seconds})
    return Run(adapted, found.bundle, verdict, summary(found), pages, folder, calibration)


@one_thread()
def evaluate(model: Any, data: Data, **data_options: Any) -> Evaluation | EstimateEvaluation:
    """Score a run, a bundle (path or value) or any predictor on labelled data.

    A model of another task than classification is scored as its own task says, which travels in
    its lineage: a forecast against what followed, a soft sensor against the channel.
    """
    predictor = model if hasattr(model, "predict") else load(model)
    task = task_of(predictor)
    if task is not None and task.outputs is not None:
        spec = getattr(predictor, "spec", None)
        windows = task.relabelled(cut(opened(data, data_options, spec), task))
        return evaluate_predictor(predictor, windows, task)
    spec = getattr(predictor, "spec", None)
    if task is not None and task.name == "anomaly":  # intervals mark what they reach into
        windows = cut(opened(data, data_options, spec), task)
    else:
        windows = open_windows(data, data_options, spec)
    return evaluate_predictor(
        predictor, windows if task is None else task.relabelled(windows), task
    )


@one_thread()
def predict(model: Any, data: Data, **data_options: Any) -> Predictions:
    """Class probabilities of windows, by a run, a bundle or any predictor."""
    predictor = model if hasattr(model, "predict") else load(model)
    windows = open_windows(data, data_options, getattr(predictor, "spec", None))
    predictions: Predictions = predictor.predict(windows)
    return predictions


def recommend(
    data: Data,
    *,
    by: str = "left-out",
    seed: int = 0,
    watch: Watch = unwatched,
    **data_options: Any,
) -> tuple[Ranked, ...]:
    """Backbones ranked for this data by what their closed-form heads say of left-out windows.

    Unlabelled windows of the data are its pool: with one label of a class they rank. `by` may be
    "logme" or "hscore", for comparison.
    """
    task = Classification()
    windows = open_windows(data, data_options)
    task.classes(windows if not windows.labelled.any() else labelled_target(windows))
    known = contenders("auto", windows.spec.kind)
    return rank_backbones(known, windows, task, by=by, seed=seed, watch=watch)


def workers() -> int:
    """Processors that this process may use, at most four: each works with one thread."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(4, count or 1))


# -- parts of adapt, in order


def _task(task: Task | str, normal: str | None, options: Mapping[str, Any]) -> Task:
    """A task by name with its options, those that are written "<task>.<field>"."""
    if not isinstance(task, str):
        return task
    own = {
        key.partition(".")[2]: value for key, value in options.items() if key.startswith(f"{task}.")
    }
    if normal is not None:
        own["normal"] = normal
    kind = find("tasks", task)
    problems = check_values(kind, own, f"{task}.")
    if problems:
        raise OptionError(problems)
    found: Task = kind(**own)
    return found


def _ranked(known: list[Backbone], inputs: Inputs, seed: int, watch: Watch) -> tuple[Ranked, ...]:
    """Backbones ranked by target labels; without any, by those of sources, whole domains apart."""
    if len(inputs.windows):
        own = inputs.everything.take(inputs.everything.at_target)
        return rank_backbones(known, own, inputs.task, seed=seed, watch=watch)
    taught = inputs.beside.take(~inputs.beside.at_target)
    groups = np.array([f"{domain}/{group}" for domain, group in
                       zip(taught.domains, taught.groups, strict=True)])  # fmt: skip
    taught = replace(taught, groups=groups, domains=np.full(len(taught), TARGET))
    taught = taught.take(few_shot(taught, RANKED_WINDOWS, seed=seed))
    found = rank_backbones(known, taught, inputs.task, seed=seed, watch=watch)
    return tuple(
        replace(row, because=f"on the sources: {row.because}") if row.usable else row
        for row in found
    )


def _identity(recipe: Recipe, inputs: Inputs, rows: tuple[Row, ...]) -> str:
    """Names all that decides what the folds say, so that a run resumes only what is its own."""
    backbones = [row.backbone for row in rows]
    given = (inputs.windows, inputs.beside, inputs.task)
    try:
        return fingerprint(*given, backbones, recipe.to_toml(), __version__)
    except ModelError:  # the content of an outside backbone cannot be told: never resume
        return os.urandom(16).hex()


def _compare(
    rows: tuple[Row, ...],
    inputs: Inputs,
    recipe: Recipe,
    watch: Watch,
    workspace: Workspace | None,
) -> Comparison:
    """All rows on the same folds; no tables where nothing can be left out."""
    parts: tuple[Fold, ...] = ()
    windows, task = inputs.windows, inputs.task
    if not len(windows):
        note = "no comparison was possible: the target has no labels, so only sources taught"
    elif task.outputs is not None:
        parts, note = plan_blocks(windows, recipe.folds, recipe.seed, ahead=max(task.outputs.steps))
    elif len(windows.classes) < 2:
        note = "no comparison was possible: all labelled windows are normal ones"
    else:
        parts, note = plan_folds(windows, recipe.folds, recipe.seed)
    tables = cross_validate(
        rows if parts else (),
        windows,
        parts,
        task,
        beside=inputs.beside,
        seed=recipe.seed,
        watch=watch,
        keep=workspace.keep if workspace else compute,
        workers=workers(),
    )
    notes = (note,) if note else ()
    return Comparison(windows, task, rows, parts, tuple(tables), notes, inputs.beside)


def _score(
    adapted: Adapted, shipped: Row, compared: Comparison, tested: Windows | None, seed: int
) -> tuple[Evaluation | EstimateEvaluation | None, str]:
    """Scores on test data if there is any, else out of fold, else none; and on which."""
    task, table = compared.task, compared.table_of(shipped)
    if tested is not None:
        return evaluate_predictor(adapted, tested, task, seed=seed), "test data"
    if table is None:
        return None, ""
    kept = compared.windows.take(table.tested)
    probabilities = table.probabilities[table.tested]
    if task.outputs is not None:
        scored = evaluate_probabilities(probabilities, kept, compared.classes, task, seed=seed)
        return scored, "cross-validation"
    said = probabilities.any(axis=0) | np.isin(compared.classes, kept.classes)
    classes = [name for name, each in zip(compared.classes, said, strict=True) if each]
    scored = evaluate_probabilities(probabilities[:, said], kept, classes, task, seed=seed)
    return scored, "cross-validation"


def _curve(shipped: Row, compared: Comparison, seed: int, watch: Watch) -> list[dict[str, Any]]:
    """The shipped row beside MiniRocket with a ridge head; trained strategies by their probe.

    The guard is dear, so a cheap one of what it weighs stands in its place. None of what learns
    from normal windows alone: labels are not what it needs more of.
    """
    if compared.task.name != "classification":
        return []
    quick = [row for row in compared.rows if row.strategy_name in QUICK and row.draws][:1]
    if shipped.strategy_name in FROZEN:
        quick.insert(0, shipped)
    elif not quick:
        quick = [replace(shipped, strategy_name="probe", strategy=build_strategy("probe"))]
    named = {row.name: row for row in quick}
    named |= {row.name: row for row in compared.rows if row.name == "minirocket/probe"}
    return learning_curve(
        list(named.items()),
        compared.windows,
        compared.folds,
        compared.task,
        seed=seed,
        beside=compared.beside,
        workers=workers(),
        watch=watch,
    )


def _decision(shipped: Row, compared: Comparison) -> Decision:
    """How the device decides: of sentences, "unsure" below what was left out is sure of."""
    if compared.task.outputs is not None:
        return Decision(emit="window")
    table = compared.table_of(shipped)
    left_out = None if table is None else table.probabilities[table.tested]
    return decision_of(compared.windows.spec.kind, left_out)


def _bundle(
    adapted: Adapted, verdict: Verdict, golden: Array, name: str, decision: Decision
) -> Bundle:
    cards = [member.backbone.card for member in adapted.members]
    return bundle.make(
        adapted.program,
        adapted.spec,
        adapted.classes,
        golden=golden,
        decision=decision,
        name=name,
        created=now(),
        lineage=adapted.lineage,
        verdict=verdict.as_dict(),
        outputs=adapted.outputs,
        licences={card.name: card.licence for card in cards},
    )


def _write(
    workspace: Workspace, found: Findings, pages: Mapping[str, Any], calibration: Array
) -> Path:
    from edgegraft.evaluate.report import write_report

    bundle.write(workspace.folder / MODEL, found.bundle)
    workspace.write(CALIBRATION, dump({"x": calibration}))
    workspace.write("recipe.toml", found.recipe.to_toml().encode())
    with writing(workspace.folder):
        write_report(pages, workspace.folder)
    workspace.finish()
    return workspace.folder
