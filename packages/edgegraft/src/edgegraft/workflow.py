"""The whole way as functions: open, adapt, evaluate, predict, export, load."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.select import Ranked, rank_backbones
from edgegraft.adapt.strategy import Watch, build_strategy, check_options, unwatched
from edgegraft.catalog import find
from edgegraft.data.dataset import Dataset, open_data
from edgegraft.data.split import Fold, few_shot, folds
from edgegraft.evaluate.compare import OutOfFold, Row, as_row, cross_validate
from edgegraft.evaluate.curve import learning_curve
from edgegraft.evaluate.evaluation import Evaluation, evaluate_probabilities
from edgegraft.evaluate.evaluation import evaluate as evaluate_predictor
from edgegraft.evaluate.verdict import Verdict, judge
from edgegraft.fingerprint import fingerprint
from edgegraft.recipe import Recipe
from edgegraft.tasks.classification import Classification
from edgegraft.tasks.task import Task
from edgegraft.workspace import Workspace
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.registry import list_backbones, load_backbone
from edgegraft_edge import __version__, bundle
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.decision import Predictions
from edgegraft_edge.errors import DataError, OptionError, SplitError
from edgegraft_edge.signal import Array, Windows

Data = str | PathLike[str] | Windows | Dataset
MODEL = "model.egb"
TRAINED = ("finetune", "gradual")
GOLDEN_WINDOWS = 12


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
    """

    adapted: Adapted
    bundle: Bundle
    verdict: Verdict
    summary: Mapping[str, Any]
    report: Mapping[str, Any]
    folder: Path | None


def open_windows(data: Data, options: Mapping[str, Any] | None = None) -> Windows:
    """Windows of anything that counts as data: a place, an opened data set, or windows."""
    if isinstance(data, Windows):
        return data
    if isinstance(data, Dataset):
        return data.windows()
    return open_data(fspath(data), **(options or {})).windows()


def workers() -> int:
    """Processors that this process may use, at most four: each works with one thread."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(4, count or 1))


# One thread for each worker: on few cores, threads that wait for each other cost most.
@threadpool_limits.wrap(limits=1)  # type: ignore[untyped-decorator]
def adapt(
    data: Data,
    *,
    test: Data | None = None,
    backbone: str | Backbone = "auto",
    strategy: str = "auto",
    labels_per_class: int | None = None,
    folds: int = 5,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    task: Task | None = None,
    curve: bool = True,
    watch: Watch = unwatched,
    resume: bool = True,
) -> Run:
    """Adapt a pretrained model to labelled windows, prove that it helped, and bundle it.

    Args:
        data: training data; unlabelled windows are left aside.
        test: data of other people or machines for the final scores; never used to choose.
        backbone: a name, a path to weights, a backbone, or "auto": the pretrained one whose
            closed-form head does best on left-out windows.
        strategy: a name, or "auto": all that suit, among which the comparison decides.
        labels_per_class: use only so many labelled windows of each class.
        folds: of the paired comparison with the controls, grouped where groups are known.
        out: folder for the bundle, the report and the recipe.
        options: strategy options, written ``{"finetune.epochs": 20}``.
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
    options = dict(options or {})
    check_options(options)
    training: dict[str, list[Mapping[str, Any]]] = {}
    watch = _noting_epochs(watch, training)
    name = backbone if isinstance(backbone, str) else backbone.card.name
    recipe = Recipe(
        _uri(data), _uri(test) if test is not None else None, name, strategy, labels_per_class,
        folds, seed, dict(data_options or {}), options,
    )  # fmt: skip
    task = task or Classification()
    watch("stage", {"name": "open"})
    everything = open_windows(data, data_options)
    tested = open_windows(test, data_options) if test is not None else None
    windows = _training(everything, task, labels_per_class, seed)
    if tested is not None:
        _check_test(windows, tested)
    watch("stage", {"name": "rank"})
    ranking = rank_backbones(_ranked_backbones(backbone), windows, task, seed=seed, watch=watch)
    rows, preferred, ranking = plan(ranking, backbone, strategy, options)
    workspace = None
    if out is not None:
        identity = fingerprint(windows.x, windows.y, windows.groups, recipe.to_toml(), __version__)
        workspace = Workspace.open(out, identity, resume=resume)

    watch("stage", {"name": "compare", "rows": [row.name for row in rows]})
    parts, fold_note = _folds(windows, folds, seed)
    keep = workspace.keep if workspace else lambda name, make: make()
    tables = (
        cross_validate(
            rows, windows, parts, task, seed=seed, watch=watch, keep=keep, workers=workers()
        )
        if parts
        else []
    )
    verdict = judge(tables, windows, task, preferred=preferred, n_folds=len(parts), seed=seed)
    watch("stage", {"name": "fit", "row": verdict.shipped.name})
    shipped = verdict.shipped
    adapted = shipped.strategy.adapt(shipped.backbone, windows, task, seed=seed, watch=watch)

    scored, where = _final_scores(adapted, shipped, tables, windows, tested, task, seed)
    watch("stage", {"name": "report"})
    lines = _curve(verdict, rows, windows, parts, task, seed, watch) if curve and parts else []
    packed = _bundle(adapted, verdict, windows, name=Path(fspath(out)).name if out else "model")
    seconds = time.perf_counter() - began
    warnings = [note for note in (fold_note,) if note]
    report = _report(
        recipe, verdict, rows, tables, ranking, scored, where, lines, adapted, packed, windows,
        task, seconds, warnings, training,
    )  # fmt: skip
    summary = _summary(verdict, tables, windows, task, scored, where, seconds, warnings)
    folder = _write(workspace, packed, report, recipe) if workspace else None
    watch("done", {"folder": str(folder) if folder else None, "seconds": seconds})
    return Run(adapted, packed, verdict, summary, report, folder)


def plan(
    ranking: Sequence[Ranked],
    backbone: str | Backbone,
    strategy: str,
    options: Mapping[str, Any],
) -> tuple[tuple[Row, ...], Row, tuple[Ranked, ...]]:
    """The rows to compare, the one that ships unless it is beaten, and the ranking with the choice.

    The controls are always there: the same network from random weights, MiniRocket with a ridge
    head, statistics with trees, and the blend of fixed features without the pretrained weights.
    """
    usable = [row for row in ranking if not row.because.startswith("cannot")]
    if not usable:
        raise DataError.of(
            "no-backbone", "; ".join(f"{row.backbone} {row.because}" for row in ranking),
            "no backbone can take these windows", "longer windows, or another backbone",
        )  # fmt: skip
    if isinstance(backbone, str) and backbone == "auto":
        pretrained = [row for row in usable if row.kind == "pretrained"]
        chosen = load_backbone((pretrained or usable)[0].backbone)
        of = "pretrained backbones" if pretrained else "backbones, none of them pretrained,"
        why = f"of the {of} the one with the lowest left-out log loss"
    else:
        chosen = load_backbone(backbone) if isinstance(backbone, str) else backbone
        why = "asked for"
    marked = tuple(
        replace(row, chosen=True, because=f"{why}; {row.because}")
        if row.backbone == chosen.card.name
        else row
        for row in ranking
    )
    trainable = chosen.card.architecture == "conv1d" or hasattr(chosen, "network")
    if strategy == "auto":
        names = ["blend", "probe", *(TRAINED if trainable else ())]
    else:
        names = [strategy]
    candidates = [Row(chosen, n, build_strategy(n, options), "candidate") for n in names]
    minirocket, statistics = load_backbone("minirocket"), load_backbone("statistics")
    network = chosen if trainable else _first_network()
    controls = [
        Row(minirocket, "probe", build_strategy("probe", options), "control"),
        Row(statistics, "trees", build_strategy("trees", options), "control"),
        Row(minirocket, "blend", build_strategy("blend", options), "control"),
    ]
    if network is not None:
        controls.insert(0, Row(network, "scratch", build_strategy("scratch", options), "control"))
    taken = {row.name for row in candidates}
    rows = (*candidates, *(row for row in controls if row.name not in taken))
    return rows, rows[0], marked


def evaluate(model: Any, data: Data, **data_options: Any) -> Evaluation:
    """Score a run, a bundle (path or value) or any predictor on labelled data."""
    predictor = model if hasattr(model, "predict") else load(model)
    return evaluate_predictor(predictor, open_windows(data, data_options))


def predict(model: Any, data: Data, **data_options: Any) -> Predictions:
    """Class probabilities of windows, by a run, a bundle or any predictor."""
    predictor = model if hasattr(model, "predict") else load(model)
    predictions: Predictions = predictor.predict(open_windows(data, data_options))
    return predictions


def export(
    model: Any,
    *,
    format: str = "onnx",
    out: str | PathLike[str] | None = None,
    key: bytes | None = None,
) -> Bundle:
    """Add a runtime's model to a run's bundle; write it if `out` is given, signed if `key` is.

    Args:
        format: name of an exporter, e.g. "onnx".
        key: private ed25519 key.
    """
    source = model if isinstance(model, Bundle) else load(model)
    packed: Bundle = find("exporters", format)().export(source)
    if key is not None:
        packed = bundle.sign(packed, key)
    if out is not None:
        bundle.write(Path(fspath(out)), packed)
    return packed


def load(path: str | PathLike[str] | Run, **options: Any) -> Bundle:
    """The bundle of a run folder, or a bundle file; has `predict`.

    Errors: `OptionError` ``model-missing``; `BundleError` when it is damaged.
    """
    if isinstance(path, Run):
        return path.bundle
    place = Path(fspath(path))
    if place.is_dir():
        place = place / MODEL
    if not place.exists():
        raise OptionError.of(
            "model-missing", f"{place}", "there is no such file",
            "the folder that adapt wrote (--out), or a bundle file",
        )  # fmt: skip
    return bundle.read(place, **options)


def recommend(
    data: Data, *, seed: int = 0, watch: Watch = unwatched, **data_options: Any
) -> tuple[Ranked, ...]:
    """Backbones ranked for this data by what their closed-form heads say of left-out windows."""
    task = Classification()
    windows = _training(open_windows(data, data_options), task, None, seed)
    return rank_backbones(_ranked_backbones("auto"), windows, task, seed=seed, watch=watch)


# -- parts of adapt, in order


def _noting_epochs(watch: Watch, training: dict[str, list[Mapping[str, Any]]]) -> Watch:
    """A watch that also keeps the epochs of each first fold, and of the final fit."""

    def noted(event: str, values: Mapping[str, Any]) -> None:
        if event == "epoch" and values.get("fold", 1) == 1:
            name = f"{values['row']}, first fold" if "row" in values else "final fit"
            training.setdefault(name, []).append(
                {key: value for key, value in values.items() if key not in ("row", "fold")}
            )
        watch(event, values)

    return noted


def _latency_ms(adapted: Adapted, windows: Windows) -> float:
    """Median time of one window through the program in NumPy, here."""
    times = []
    for index in range(5):
        began = time.perf_counter()
        adapted.program.run(windows.x[index % len(windows)][None])
        times.append(1000 * (time.perf_counter() - began))
    return round(float(np.median(times)), 3)


def _uri(data: Data | None) -> str:
    if isinstance(data, Dataset):
        return data.uri
    return "(windows in memory)" if isinstance(data, Windows) else fspath(data or "")


def _training(everything: Windows, task: Task, labels_per_class: int | None, seed: int) -> Windows:
    windows = everything.take(np.flatnonzero(everything.labelled))
    task.classes(windows)
    if labels_per_class is not None:
        windows = windows.take(few_shot(windows, labels_per_class, seed=seed))
    return windows


def _check_test(windows: Windows, tested: Windows) -> None:
    if tested.spec.channel_names != windows.spec.channel_names or (
        tested.x.shape[1:] != windows.x.shape[1:]
    ):
        raise DataError.of(
            "test-differs",
            f"test windows {tested.x.shape[1:]} of {', '.join(tested.spec.channel_names)}",
            f"training windows are {windows.x.shape[1:]} of "
            f"{', '.join(windows.spec.channel_names)}",
            "cut both alike: same channels, rate and window length",
        )


def _ranked_backbones(backbone: str | Backbone) -> list[Backbone]:
    shipped = [load_backbone(card.name) for card in list_backbones() if card.kind != "random"]
    if isinstance(backbone, str):
        known = {each.card.name for each in shipped}
        return shipped + ([] if backbone in {*known, "auto"} else [load_backbone(backbone)])
    return [*shipped, backbone]


def _first_network() -> Backbone | None:
    for card in list_backbones():
        if card.architecture == "conv1d":
            return load_backbone(card.name)
    return None


def _folds(windows: Windows, count: int, seed: int) -> tuple[tuple[Fold, ...], str]:
    """As many folds as the labels allow, up to `count`; none if nothing can be left out.

    Where groups make it impossible, because a class is in one group only, recordings are kept
    whole instead, and the note says so.
    """
    problem = ""
    attempts = [(windows, "")]
    if windows.has_groups:
        alone = replace(windows, groups=np.full(len(windows), ""))
        attempts.append((alone, "groups were not kept apart, so these scores flatter: "))
    for kept, note in attempts:
        for n_folds in range(count, 1, -1):
            try:
                parts = folds(kept, n_folds, seed=seed)
            except SplitError as error:
                problem = problem or str(error.problems[0])
                continue
            fewer = f"{n_folds} folds instead of {count}: " if n_folds < count else ""
            return parts, f"{note}{fewer}{problem}" if problem else ""
    return (), f"no comparison was possible: {problem}"


def _final_scores(
    adapted: Adapted,
    shipped: Row,
    tables: Sequence[OutOfFold],
    windows: Windows,
    tested: Windows | None,
    task: Task,
    seed: int,
) -> tuple[Evaluation | None, str]:
    """On test data if there is any, else out of fold, else none."""
    if tested is not None:
        return evaluate_predictor(adapted, tested, task, seed=seed), "test data"
    for table in tables:
        if table.row.name == shipped.name:
            known = np.isfinite(table.probabilities).all(axis=1)
            return evaluate_probabilities(
                table.probabilities[known], windows.take(known), adapted.classes, task, seed=seed
            ), "cross-validation"
    return None, ""


def _curve(
    verdict: Verdict,
    rows: Sequence[Row],
    windows: Windows,
    parts: Sequence[Fold],
    task: Task,
    seed: int,
    watch: Watch,
) -> list[dict[str, Any]]:
    """The shipped row beside MiniRocket with a ridge head; trained strategies by their probe."""
    shipped = verdict.shipped
    if shipped.strategy_name not in ("probe", "blend", "trees"):
        shipped = replace(shipped, strategy_name="probe", strategy=build_strategy("probe"))
    control = next(row for row in rows if row.name == "minirocket/probe")
    named = [(shipped.name, shipped)]
    if control.name != shipped.name:
        named.append((control.name, control))
    return learning_curve(named, windows, parts, task, seed=seed, workers=workers(), watch=watch)


def _golden(windows: Windows) -> Array:
    """A few windows of every class, spread over the training set."""
    per_class = max(1, GOLDEN_WINDOWS // max(1, len(windows.classes)))
    return windows.x[few_shot(windows, per_class, seed=0)][: 4 * GOLDEN_WINDOWS]


def _bundle(adapted: Adapted, verdict: Verdict, windows: Windows, *, name: str) -> Bundle:
    return bundle.make(
        adapted.program,
        adapted.spec,
        adapted.classes,
        golden=_golden(windows),
        name=name,
        created=_now(),
        lineage=adapted.lineage,
        verdict=verdict.as_dict(),
        licences={member.backbone.card.name: member.backbone.card.licence
                  for member in adapted.members},
    )  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def _summary(
    verdict: Verdict,
    tables: Sequence[OutOfFold],
    windows: Windows,
    task: Task,
    scored: Evaluation | None,
    where: str,
    seconds: float,
    warnings: list[str],
) -> dict[str, Any]:
    def line(table: OutOfFold) -> dict[str, Any]:
        return as_row(table, table.row, windows, task)

    return {
        "verdict": verdict.outcome,
        "because": verdict.because,
        "difference": verdict.as_dict()["difference"],
        "shipped": {
            "backbone": verdict.shipped.backbone.card.name,
            "strategy": verdict.shipped.strategy_name,
            "pretrained": verdict.shipped.pretrained,
            "because": verdict.shipped_because,
        },
        "candidates": [line(t) for t in tables if t.row.role == "candidate"],
        "controls": [line(t) for t in tables if t.row.role == "control"],
        "evaluation": {
            "on": where, "n": scored.n, "metrics": dict(scored.metrics),
        } if scored else None,
        "n_labelled": len(windows),
        "seconds": round(seconds, 2),
        "warnings": warnings,
    }  # fmt: skip


def _report(
    recipe: Recipe,
    verdict: Verdict,
    rows: Sequence[Row],
    tables: Sequence[OutOfFold],
    ranking: Sequence[Ranked],
    scored: Evaluation | None,
    where: str,
    lines: list[dict[str, Any]],
    adapted: Adapted,
    packed: Bundle,
    windows: Windows,
    task: Task,
    seconds: float,
    warnings: list[str],
    training: Mapping[str, list[Mapping[str, Any]]],
) -> dict[str, Any]:
    from edgegraft.evaluate.report import embedding_map

    kept = {table.row.name: table for table in tables}
    listed = []
    for row in rows:
        table = kept.get(row.name)
        entry = as_row(table, row, windows, task)
        listed.append(entry | {"shipped": row.name == verdict.shipped.name})
    member = adapted.members[0]
    z = member.backbone.embed(adapted.steps.run(windows.x))
    labels, counts = np.unique(windows.y, return_counts=True)
    guess = adapted.predict(windows).labels
    if verdict.shipped.name in kept:
        table = kept[verdict.shipped.name]
        known = np.isfinite(table.probabilities).all(axis=1)
        guess = np.where(known, np.asarray(adapted.classes)[
            np.nan_to_num(table.probabilities).argmax(axis=1)], guess)  # fmt: skip
    return {
        "title": f"Adapted to {recipe.data}",
        "created": _now(),
        "edgegraft_version": __version__,
        "verdict": verdict.as_dict(),
        "shipped": {
            "backbone": verdict.shipped.backbone.card.name,
            "strategy": verdict.shipped.strategy_name,
            "because": verdict.shipped_because,
            "pretrained": verdict.shipped.pretrained,
        },
        "rows": listed,
        "selection": [row.as_dict() for row in ranking],
        "evaluation": scored.as_dict() | {"on": where} if scored else {},
        "learning_curve": lines,
        "embedding_map": embedding_map(
            z, windows.y, windows.groups, guess == windows.y,
            explains=f"embeddings of {member.backbone.card.name}, two principal components",
        ),
        "training": [{"name": name, "epochs": epochs} for name, epochs in training.items()],
        "cost": {
            "seconds_total": round(seconds, 2),
            "size_kib": round(adapted.program.size_bytes / 1024, 1),
            "bundle_kib": round(len(bundle.to_bytes(packed)) / 1024, 1),
            "latency_ms": _latency_ms(adapted, windows),
        },
        "data": {
            "n_windows": len(windows),
            "n_channels": windows.spec.n_channels,
            "n_timepoints": windows.spec.n_timepoints,
            "rate_hz": windows.spec.rate_hz,
            "classes": dict(zip(labels.tolist(), counts.tolist(), strict=True)),
            "n_groups": len(set(windows.groups.tolist()) - {""}),
        },
        "lineage": dict(adapted.lineage),
        "recipe": recipe.to_toml(),
        "warnings": [*warnings, *(scored.warnings if scored else ())],
    }  # fmt: skip


def _write(workspace: Workspace, packed: Bundle, report: Mapping[str, Any], recipe: Recipe) -> Path:
    from edgegraft.evaluate.report import write_report

    bundle.write(workspace.folder / MODEL, packed)
    workspace.write("recipe.toml", recipe.to_toml().encode())
    write_report(report, workspace.folder)
    workspace.finish()
    return workspace.folder
