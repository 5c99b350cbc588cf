"""What is compared: the rows (candidates and controls), and the folds they are all scored on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgegraft.adapt.anomalies.fused import SHORTEST
from edgegraft.adapt.network import Trainable
from edgegraft.adapt.select import Ranked
from edgegraft.adapt.strategy import build_strategy, tasks_of
from edgegraft.catalog import find, names
from edgegraft.data.domains import pool_of, sources_of
from edgegraft.data.split import Fold, folds, leave_one_group_out
from edgegraft.evaluate.compare import Role, Row
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.cost import multiply_adds
from edgegraft.zoo.graph import Graph
from edgegraft.zoo.registry import is_here, list_backbones, load_backbone
from edgegraft_edge.errors import DataError, OptionError, SplitError
from edgegraft_edge.program import chain
from edgegraft_edge.signal import Kind, Windows

TRAINED = ("finetune", "gradual")
FROZEN = ("probe", "blend", "trees")
DEAR = 50_000_000
"""Multiply-adds of a window above which a network is trained only when asked for."""


UNRANKED = frozenset({"raw", "orders", "mixer"})
"""Architectures that nothing is ranked with unasked: what no linear head can do anything with, what
must be told the machine first, and what is made to forecast."""


CONTROLS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "series": (("minirocket", "probe"), ("statistics", "trees"), ("minirocket", "blend")),
    "audio": (("mel-statistics", "trees"),),
    "image": (("texture", "trees"),),
    "text": (("tfidf", "probe"),),
}
"""The classical controls of each kind of windows: backbone and strategy."""


LABELS_ALONE = frozenset(
    {
        *("probe", "blend", "trees", "finetune", "gradual", "scratch", "lora"),
        *("distance", "patch-memory"),
    }
)
"""Strategies that learn from labelled windows of the target and from nothing else."""
WITH_POOL, WITH_SOURCES = ("spread",), ("standardise", "weighted")
"""What is shown beside the guard where there is a pool, and where there are sources."""
QUICK = frozenset({*WITH_POOL, *WITH_SOURCES})
"""Fitted in seconds, so a learning curve can be drawn of them."""
POOL, SOURCES = "the pool", "the sources"
ALONE = "target alone"
"""In the name of a control that could draw on sources and does not."""
DRAWS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("pooled", "weighted", "toward-source"), (SOURCES,)),
    **dict.fromkeys(("tent",), (POOL,)),
}
"""What a strategy draws on; any that is not named here, on the pool and on the sources."""


def contenders(backbone: str | Backbone, kind: Kind) -> list[Backbone]:
    """The backbones to rank: all of that kind that know something, and the one asked for."""
    known = [
        load_backbone(card.name)
        for card in list_backbones()
        if card.kind != "random"
        and kind in card.takes
        and is_here(card)
        and card.architecture not in UNRANKED
    ]
    if backbone in ("auto", *(each.card.name for each in known)):
        return known
    asked_for = load_backbone(backbone) if isinstance(backbone, str) else backbone
    if kind not in asked_for.card.takes:
        raise OptionError.of(
            "backbone-kind",
            f"backbone {asked_for.card.name!r} for data of kind {kind}",
            f"it takes {', '.join(asked_for.card.takes)}",
            f"one of {', '.join(each.card.name for each in known) or 'your own'}",
        )
    return [*known, asked_for]


def unranked(backbones: Sequence[Backbone], because: str) -> tuple[Ranked, ...]:
    """Backbones as they come where nothing is known to tell them apart: pretrained ones first."""
    order = {"pretrained": 0, "fixed": 1, "random": 2}
    rows = [
        Ranked(each.card.name, each.card.kind, None, None, 0, 0.0, because=because)
        for each in backbones
    ]
    return tuple(sorted(rows, key=lambda row: order[row.kind]))


FUSED, SIMPLEST = "fused", "subsequence-pca"
ON_WINDOWS = frozenset(
    {
        *(FUSED, SIMPLEST, "shape-neighbours", "density", "spectral", "forecast-residual"),
        "autoencoder",
    }
)
"""Strategies that learn what is normal from the windows of a series themselves."""


def plan_normality(
    chosen: Backbone,
    strategy: str,
    options: Mapping[str, Any],
    windows: Windows,
    beside: Windows | None = None,
    *,
    asked: bool = True,
) -> tuple[Row, ...]:
    """The rows for a task that knows normal windows alone; the first one ships unless beaten.

    Of series that is `FUSED`, which looks at the windows themselves. The controls are the same
    network with random weights, and the distance on the classical backbone of the kind. Where
    machines of the kind are given as sources, the same without them is a control.

    Args:
        asked: whether `chosen` was asked for by name; else series go without it.
    """

    def row(backbone: Backbone, name: str, role: Role) -> Row:
        return Row(backbone, name, build_strategy(name, options), role)

    places = isinstance(chosen, Graph) and windows.spec.kind == "image"
    names = (
        (strategy,) if strategy != "auto" else (*(("patch-memory",) if places else ()), "distance")
    )
    rows = [row(chosen, name, "candidate") for name in names if name not in ON_WINDOWS]
    looking = [name for name in names if name in ON_WINDOWS]
    if strategy == "auto" and windows.spec.kind == "series" and windows.spec.shape[-1] >= SHORTEST:
        looking = [FUSED, SIMPLEST]
        rows = rows if asked else []
    raw = load_backbone("raw")
    own = [row(raw, name, "control" if name == SIMPLEST else "candidate") for name in looking]
    if own and beside is not None and _around(beside)[SOURCES]:
        without = replace(own[0].strategy, alone=True)  # type: ignore[type-var]
        own = [replace(own[0], draws=(SOURCES,)), *own[1:],
               replace(own[0], strategy=without, role="control", source=ALONE)]  # fmt: skip
    rows = [*own[:1], *rows, *own[1:]]
    if isinstance(chosen, Trainable) and chosen.card.kind == "pretrained" and rows != own:
        rows.append(row(chosen.with_random_weights(0), names[0], "control"))
    for backbone, _ in CONTROLS[windows.spec.kind]:
        control = row(load_backbone(backbone), "distance", "control")
        if control.name not in {each.name for each in rows}:
            rows.append(control)
    return tuple(rows)


@dataclass(frozen=True)
class Lines:
    """What is compared for a task: (backbone, strategy) pairs; "" is the backbone chosen.

    Attributes:
        candidates: the first ships unless another beats it.
        controls: what could be had without transfer, and what a device could do without learning.
    """

    candidates: tuple[tuple[str, str], ...]
    controls: tuple[tuple[str, str], ...]


ESTIMATING: Mapping[str, Lines] = {
    "forecasting": Lines(
        candidates=(
            ("raw", "forecast-blend"),
            ("raw", "forecast-ridge"),
            ("mixer-series", "forecast-mixer"),
        ),
        controls=(("raw", "seasonal-naive"), ("raw", "drift")),
    ),
    "regression": Lines(
        candidates=(("", "regress"), ("raw", "boost"), ("raw", "trend")),
        controls=(("statistics", "regress"), ("minirocket", "regress"), ("raw", "median")),
    ),
}
"""The lines of each task that estimates numbers."""


def plan_estimates(
    chosen: Backbone,
    strategy: str,
    options: Mapping[str, Any],
    task: Task,
    unusable: Sequence[str] = (),
    beside: Windows | None = None,
) -> tuple[Row, ...]:
    """The rows for a task that estimates numbers; the first one ships unless beaten.

    With sources beside the target, a row draws on them where its strategy can (a class attribute
    ``draws = True``, and an option `alone`); the same without them is then a control. So is a
    pretrained network with random weights.

    Args:
        strategy: a name, or "auto": the candidates of `ESTIMATING`.
        unusable: names of backbones that cannot take these windows.

    Errors: `OptionError` "strategy-task" for a strategy that is made for other tasks.
    """
    around = {POOL: 0, SOURCES: 0} if beside is None else _around(beside)
    if strategy != "auto" and task.name not in tasks_of(strategy):
        fitting = [name for name in names("strategies") if task.name in tasks_of(name)]
        raise OptionError.of(
            "strategy-task",
            f"strategy {strategy!r} for the task {task.name!r}",
            f"it is made for {', '.join(tasks_of(strategy))}",
            f"one of {', '.join(fitting)}, or auto",
        )
    lines = ESTIMATING[task.name]
    asked = [line for line in lines.candidates if strategy in ("auto", line[1])]
    own = strategy != "auto" and (not asked or hasattr(find("strategies", strategy), "suits"))
    candidates = [(_usual(strategy, chosen), strategy)] if own else asked
    roles: list[tuple[Role, Sequence[tuple[str, str]]]] = [
        ("candidate", candidates),
        ("control", lines.controls),
    ]
    found: dict[str, Row] = {}
    for role, pairs in roles:
        for backbone_name, name in pairs:
            if backbone_name in unusable:
                continue
            backbone = load_backbone(backbone_name) if backbone_name else chosen
            built = alone = build_strategy(name, options)
            rows = [Row(backbone, name, built, role)]
            if around[SOURCES] and getattr(built, "draws", False):
                alone = replace(built, alone=True)  # type: ignore[type-var]
                drawing = Row(backbone, name, built, "candidate", draws=(SOURCES,))
                without = Row(backbone, name, alone, "control", ALONE)
                rows = [drawing, without] if role == "candidate" else [without]
            if rows[0].pretrained and role == "candidate" and isinstance(backbone, Trainable):
                blank = backbone.with_random_weights(0)
                rows.append(Row(blank, name, alone, "control"))
            for row in rows:
                found.setdefault(row.name, row)
    return tuple(found.values())


def _usual(strategy: str, chosen: Backbone) -> str:
    """The backbone that a strategy brings where the one chosen does not suit it; "" otherwise."""
    kind = find("strategies", strategy)
    return "" if getattr(kind, "suits", lambda backbone: True)(chosen) else str(kind.usual)


def choose(
    ranking: Sequence[Ranked], backbone: str | Backbone
) -> tuple[Backbone, tuple[Ranked, ...]]:
    """The backbone to adapt, and the ranking with the reason for it.

    With "auto" it is the pretrained one that is ranked first.

    Errors: `DataError` ``no-backbone`` when none can take the windows.
    """
    usable = [row for row in ranking if row.usable]
    if not usable:
        raise DataError.of(
            "no-backbone",
            "; ".join(f"{row.backbone} {row.because}" for row in ranking),
            "no backbone can take these windows",
            "longer windows, or another backbone",
        )
    if backbone == "auto":
        pretrained = [row for row in usable if row.kind == "pretrained"]
        chosen = load_backbone((pretrained or usable)[0].backbone)
        of = "pretrained backbones" if pretrained else "backbones, none of them pretrained"
        why = f"the first of the {of}"
    else:
        chosen = load_backbone(backbone) if isinstance(backbone, str) else backbone
        why = "asked for"
    marked = (
        replace(row, chosen=True, because=f"{why}; {row.because}")
        if row.backbone == chosen.card.name
        else row
        for row in ranking
    )
    return chosen, tuple(marked)


def plan_rows(
    chosen: Backbone,
    strategy: str,
    options: Mapping[str, Any],
    windows: Windows,
    unusable: Sequence[str] = (),
    beside: Windows | None = None,
) -> tuple[tuple[Row, ...], str]:
    """The rows to compare, and a note on what was left out; the first row ships unless beaten.

    With a pool or sources beside the labels it is the guard, and naive pooling with each source
    stands among the controls; nothing is trained by gradients then unless it is asked for.

    The controls are always there: the same network from random weights, and the classical ones
    of the kind (`CONTROLS`). A network that is dear to train is not trained unless asked for;
    its control is then the same network with random weights, frozen.

    Args:
        strategy: a name, or "auto": all that suit the backbone.
        unusable: names of backbones that cannot take these windows; no control stands on them.
        beside: pool and sources.

    Errors: `OptionError` "strategy-labels" for one that learns from target labels alone, where
    there are none.
    """
    around = {POOL: 0, SOURCES: 0} if beside is None else _around(beside)

    def row(backbone: Backbone, name: str, role: Role) -> Row:
        return Row(backbone, name, build_strategy(name, options), role, draws=draws(name, around))

    if not len(windows):
        return _without_labels(chosen, strategy, options, around, row), ""
    note = ""
    network = chosen if isinstance(chosen, Trainable) else _shipped_network(windows.spec.kind)
    cost = _cost(network, windows)
    trained: tuple[str, ...] = TRAINED if isinstance(chosen, Trainable) else ()
    asked_for = strategy not in ("auto", *FROZEN)
    dear = cost > DEAR and not asked_for
    if dear:
        note = (
            f"{chosen.card.name} takes {cost / 1e6:.0f} million multiply-adds a window, so it was "
            "kept frozen; --strategy gradual trains it, which takes long"
        )
    names = (strategy,) if strategy != "auto" else ("blend", "probe", *(() if dear else trained))
    if any(around.values()) and strategy == "auto":
        names = (*_drawing(around), "blend", "probe")
    candidates = [row(chosen, name, "candidate") for name in names]
    controls = []
    if network is not None:
        blank = network.with_random_weights(0) if dear else network
        controls.append(row(blank, "probe" if dear else "scratch", "control"))
    for backbone, name in CONTROLS[windows.spec.kind]:
        if backbone not in unusable:
            controls.append(row(load_backbone(backbone), name, "control"))
    for name in () if beside is None else sources_of(beside):
        naive = build_strategy("pooled", {**options, "pooled.sources": (name,)})
        controls.append(Row(chosen, "pooled", naive, "control", name, (SOURCES,)))
    taken = {candidate.name for candidate in candidates}
    kept = (control for control in controls if control.name not in taken)
    return (*candidates, *kept), note


def draws(strategy: str, around: Mapping[str, int]) -> tuple[str, ...]:
    """What a strategy learns from beside target labels, of what there is."""
    if strategy in LABELS_ALONE:
        return ()
    return tuple(name for name in DRAWS.get(strategy, (POOL, SOURCES)) if around[name])


def _around(beside: Windows) -> dict[str, int]:
    """How many windows of the pool, and how many sources."""
    return {POOL: len(pool_of(beside)), SOURCES: len(sources_of(beside))}


def _drawing(around: Mapping[str, int]) -> tuple[str, ...]:
    """Strategies to compare that draw on the pool or the sources, the guard first."""
    pool = WITH_POOL if around[POOL] else ()
    return ("guard", *pool, *(WITH_SOURCES if around[SOURCES] else ()))


def _without_labels(
    chosen: Backbone,
    strategy: str,
    options: Mapping[str, Any],
    around: Mapping[str, int],
    row: Callable[[Backbone, str, Role], Row],
) -> tuple[Row, ...]:
    """The one row that can be had where the target has no label: nothing can be compared."""
    name = "guard" if strategy == "auto" else strategy
    build_strategy(name, options)
    if not draws(name, {**around, POOL: 0}):
        raise OptionError.of(
            "strategy-labels",
            f"strategy {name!r} where the target has no label",
            "it learns from labels of the target alone"
            if name in LABELS_ALONE
            else "it learns nothing from sources",
            "--strategy guard, or a few labelled windows",
        )
    return (row(chosen, name, "candidate"),)


def _cost(network: Trainable | None, windows: Windows) -> int:
    """Multiply-adds of a network for one window; 0 of what Edgegraft's own small encoder takes."""
    if not isinstance(network, Graph):
        return 0
    front = network.intake.program(windows.spec)
    return multiply_adds(chain(front, network.network.program), *windows.spec.shape)


def _shipped_network(kind: Kind) -> Trainable | None:
    """A network of that kind to train from scratch, where the chosen backbone is none."""
    for card in list_backbones():
        if card.architecture == "conv1d" and kind in card.takes:
            found = load_backbone(card.name)
            return found if isinstance(found, Trainable) else None
    return None


def plan_blocks(
    windows: Windows, count: int | str, seed: int, *, ahead: int
) -> tuple[tuple[Fold, ...], str]:
    """Folds for estimates: whole units for what is now, a rolling origin for what is to come.

    Args:
        ahead: samples from the end of a window to the last one that is estimated.
    """
    if not ahead:
        return plan_folds(windows, count, seed)
    from edgegraft.data.rolling import rolling_origin

    n_folds = 5 if isinstance(count, str) else count
    problem = ""
    for fewer in range(n_folds, 0, -1):
        try:
            parts = rolling_origin(windows, fewer, ahead=ahead)
        except SplitError as error:
            problem = problem or str(error.problems[0])
            continue
        note = f"{fewer} origins instead of {n_folds}: {problem}" if fewer < n_folds else ""
        return parts, note
    return (), f"no comparison was possible: {problem}"


def plan_folds(windows: Windows, count: int | str, seed: int) -> tuple[tuple[Fold, ...], str]:
    """As many folds as the labels allow, up to `count`; none if nothing can be left out.

    Where groups make it impossible, because a class is in one group only, recordings are kept
    whole instead. What is not as asked stands in the note. With "groups" for a count every
    group is a fold of its own.

    Errors: `SplitError` when "groups" are asked for and do not allow it.
    """
    if isinstance(count, str):
        return leave_one_group_out(windows), ""
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
