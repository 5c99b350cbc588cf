"""The guard: every way of transferring is tried beside labels alone, and has to earn its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.evidence import gather
from edgegraft.adapt.mixture import mix
from edgegraft.adapt.paired import holm, surprise, units_of
from edgegraft.adapt.probe import lineage_of
from edgegraft.adapt.ruling import (
    Ruling,
    Tables,
    by_labels,
    calibrated,
    left_out,
    lines_of,
    tables_of,
    told,
)
from edgegraft.adapt.scored import Scored, score
from edgegraft.adapt.strategy import Strategy, Watch, build_strategy, unwatched
from edgegraft.adapt.structure import dealt, n_orders, structure_of
from edgegraft.catalog import names
from edgegraft.data.domains import from_sources, labelled_target, pool_of, sources_of
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.errors import EdgegraftError
from edgegraft_edge.signal import TARGET, UNLABELLED, Array, Windows

FROM_POOL = ("spread",)
FROM_SOURCES = ("weighted", "standardise", "toward-source")
WITHOUT_LABELS = ("standardise", "mmd")
"""What aligns the target with the sources where it has no labels: it needs windows of its own."""
MOST_SOURCES = 6
"""So many sources at most are tried one by one; more would make the test blunt."""
ENOUGH = 3
"""Labels of the rarest class from which on left-out windows decide; below, structure does."""


@dataclass(frozen=True)
class Way:
    """One way of transferring: a strategy, with all sources or the ones named."""

    name: str
    strategy: Strategy
    sources: tuple[str, ...] = ()

    def windows(self, train: Windows) -> Windows:
        return from_sources(train, self.sources)


@dataclass(frozen=True)
class Unseen:
    """A model of the sources before labels of the target that it did not see.

    Attributes:
        chance: p-value of "unrelated", by the orders of these labels (`dealt`).
        worth: share of them that it is expected to get right (rule of succession).
    """

    chance: float
    worth: float


@dataclass(frozen=True)
class Tried:
    """What a way gave.

    Attributes:
        scored: the model and what it says of labelled windows left out; None if it failed.
        because: why it failed, or why structure is against it.
        unseen: what its sources know of labels that were not shown, where that was asked.
    """

    way: Way
    scored: Scored | None
    because: str = ""
    unseen: Unseen | None = None

    @property
    def left_out(self) -> Array | None:
        return self.scored.left_out if self.scored else None

    @property
    def model(self) -> Adapted:
        assert self.scored is not None
        return self.scored.adapted


@dataclass(frozen=True)
class Guard:
    """Transfer that is left where it does not earn its place.

    The reference knows nothing but the target's own labels. Experts use the pool, the sources, or
    both. What they say of labelled windows left out, whole groups at once, decides: the reference
    is dropped only for an expert that a paired test finds better (`sign_flip`, raised by `holm`);
    otherwise all are mixed as `wager` says, whose cumulative log loss is at most the reference's
    and ln 2. With one or two labels per class the structure of the pool decides, and without
    labels nothing can be tested, so what the sources say unaligned and aligned shares evenly; the
    model's lineage says which it was.
    """

    reference: str = field(
        default="blend", metadata={"help": "strategy that uses the target's labels alone"}
    )
    experts: tuple[str, ...] = field(
        default=(),
        metadata={"help": "strategies beside it; empty: those that suit pool and sources"},
    )
    alpha: float = field(
        default=0.05, metadata={"help": "error rate at which the reference is dropped"}
    )
    each_source: bool = field(
        default=True, metadata={"help": "several sources: try each by itself as well"}
    )

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Try everything on the windows of `train`, and serve what held."""
        return self.scored(backbone, train, task, seed=seed, watch=watch).adapted

    def scored(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Scored:
        """The same, with what the guard says of windows left out, decided without their group."""
        reference = Way(self.reference, build_strategy(self.reference))
        ways = ways_of(train, self.experts, each_source=self.each_source)
        found = guarded(
            reference, ways, backbone, train, task, alpha=self.alpha, seed=seed, watch=watch
        )
        served = {m.backbone.card.name: m.backbone for m in found.adapted.members}
        ours = lineage_of("guard", self, tuple(served.values()), seed)
        lineage = {**ours, **found.adapted.lineage}
        return replace(found, adapted=replace(found.adapted, lineage=lineage))


def ways_of(train: Windows, experts: tuple[str, ...] = (), *, each_source: bool = True
            ) -> tuple[Way, ...]:  # fmt: skip
    """The ways that suit what is there, or those named; several sources also one by one."""
    sources, pool = tuple(sources_of(train)), len(pool_of(train))
    blind = _is_blind(labelled_target(train))
    usual: tuple[str, ...] = (FROM_POOL if pool else ()) + (FROM_SOURCES if sources else ())
    if blind:
        usual = WITHOUT_LABELS if pool and sources else ()
    chosen = experts or tuple(name for name in usual if name in names("strategies"))
    ways = [Way(name, build_strategy(name)) for name in chosen]
    using = [way for way in ways if way.name in FROM_SOURCES]
    if each_source and using and not blind and 1 < len(sources) <= MOST_SOURCES:
        ways += [
            Way(f"{using[0].name} from {source}", using[0].strategy, (source,))
            for source in sources
        ]
    return tuple(ways)


def guarded(
    reference: Way,
    ways: Sequence[Way],
    backbone: Backbone,
    train: Windows,
    task: Task,
    *,
    alpha: float = 0.05,
    seed: int,
    watch: Watch = unwatched,
) -> Scored:
    """Reference and experts fitted, weighed, and mixed; lineage tells each with its weight and why.

    Errors: those of the reference. An expert that cannot be fitted is left out, and its line says
    why.
    """
    target = labelled_target(train)
    blind = _is_blind(target)
    if blind:
        train = _hidden(train)
    alone = _as_target(train) if blind else train
    first = score(reference.strategy, backbone, alone, task, seed=seed, watch=watch)
    tried = [Tried(reference, first)]
    for way in ways:
        watch("guard", {"expert": way.name})
        try:
            found = score(way.strategy, backbone, way.windows(train), task, seed=seed)
            tried.append(Tried(way, found))
        except EdgegraftError as error:
            problem = error.problems[0]
            tried.append(Tried(way, None, f"could not be fitted: {problem.found}: {problem.why}"))
    if blind:
        kept = [one for one in tried if one.scored]
        return _by_structure(kept, tried, evenly(kept))
    fewest = int(np.unique(target.y, return_counts=True)[1].min())
    if fewest < ENOUGH:
        tried = suspected(tried, backbone, train, task, alpha=alpha, seed=seed)
    if fewest < ENOUGH or first.left_out is None:
        tried = [tried[0], *(_contradicted(one, tried[0], target) for one in tried[1:])]
        kept = [one for one in tried if one.scored and not one.because]
        return _by_structure(kept, tried, shared(kept))
    kept = [one for one in tried if one.left_out is not None and not one.because]
    doubts = [""] * len(kept)
    if any(one.way.name in FROM_POOL for one in kept) and len(pool_of(train)):
        objection = structure_of(gather(train, task), backbone, seed=seed).objection
        doubts = [objection if one.way.name in FROM_POOL else "" for one in kept]
    return _by_labels(kept, tried, target, doubts, alpha, seed)


def suspected(
    tried: Sequence[Tried],
    backbone: Backbone,
    train: Windows,
    task: Task,
    *,
    alpha: float,
    seed: int,
) -> list[Tried]:
    """The same, where structure objects with its objection: see `edgegraft.adapt.structure`.

    What needs the pool needs a pool that has a say; what needs sources needs sources whose
    model, not shown the target's labels, knows them better than by chance (Holm over experts), or
    better than any other order of them, where there are too few orders for that.
    """
    evidence = gather(train, task)
    objection = ""
    if len(evidence.pool):
        objection = structure_of(evidence, backbone, seed=seed).objection
    asked: dict[str, Unseen] = {}
    target = labelled_target(train)
    for one in tried[1:]:
        if one.scored and evidence.sources and one.way.name not in FROM_POOL:
            asked[one.way.name] = _unseen(one.way, backbone, train, target, task, seed)
    p_values = [unseen.chance for unseen in asked.values()]
    raised = dict(zip(asked, holm(p_values), strict=True))
    best = (1 + 1e-9) / n_orders(target.y)
    found = [tried[0]]
    for one in tried[1:]:
        why, p = one.because, raised.get(one.way.name)
        if one.scored and p is None:
            why = objection
        elif p is not None and p > alpha and asked[one.way.name].chance > best:
            why = f"without the target's labels it knows them no better than by chance (p {p:.2g})"
        found.append(replace(one, because=why, unseen=asked.get(one.way.name)))
    return found


def _contradicted(one: Tried, reference: Tried, target: Windows) -> Tried:
    """The same; where left-out windows, few as they are, speak against it, it is left aside."""
    if one.because or one.left_out is None or reference.left_out is None:
        return one
    ways = (reference, one)
    found = [(way.left_out, way.model.classes) for way in ways if way.left_out is not None]
    losses = surprise(tables_of(found, target.y, units_of(target)).likely).mean(axis=0)
    if losses[1] <= losses[0]:
        return one
    beside = f"log loss {losses[1]:.2f} beside {losses[0]:.2f}"
    return replace(one, because=f"few windows left out speak against it ({beside})")


def _unseen(
    way: Way, backbone: Backbone, train: Windows, target: Windows, task: Task, seed: int
) -> Unseen:
    """What the way's sources know of the target's labels, which are not shown to it."""
    try:
        model = way.strategy.adapt(backbone, way.windows(_hidden(train)), task, seed=seed)
        said = model.predict(replace(target, y=np.full(len(target), UNLABELLED)))
    except EdgegraftError:
        return Unseen(1.0, 0.0)
    known = np.isin(target.y, said.classes)
    if known.sum() < 2:
        return Unseen(1.0, 0.0)
    codes = np.array([said.classes.index(name) for name in target.y[known].tolist()])
    right = int((said.probabilities[known].argmax(axis=1) == codes).sum())
    chance = dealt(said.probabilities[known], codes, seed=seed)
    return Unseen(chance, (right + 1) / (len(target) + 2))


def evenly(kept: Sequence[Tried]) -> Ruling:
    """No labels of the target: the model of the sources alone and the experts share evenly.

    Nothing here can tell which of them is right, and how well each follows the parts of the pool
    chose worse than no choice did (decision 0009).
    """
    weights = np.full(len(kept), 1 / len(kept))
    why = ("from sources alone", *["nothing could be tested"] * (len(kept) - 1))
    return Ruling("source-only", weights, why, (None,) * len(kept))


def shared(kept: Sequence[Tried]) -> Ruling:
    """Experts to which structure has no objection share what they are worth, even among them.

    An expert from the pool is worth half. One from sources is worth what it knew of labels that
    it had not seen, less what chance explains of that.
    """
    weights, why = np.zeros(len(kept)), ["labels alone"]
    for number, one in enumerate(kept[1:], 1):
        worth, because = 0.5, "structure has no objection"
        if one.unseen is not None:
            worth = one.unseen.worth * max(0.0, 1 - 2 * one.unseen.chance)
            because = (
                "knew the target's labels before it saw them "
                f"(p {one.unseen.chance:.2g}, worth {one.unseen.worth:.2g})"
            )
        weights[number] = worth / (len(kept) - 1)
        why.append(because)
    weights[0] = 1 - weights.sum()
    return Ruling("structure", weights, tuple(why), (None,) * len(kept))


def _by_labels(
    kept: list[Tried],
    tried: list[Tried],
    target: Windows,
    doubts: list[str],
    alpha: float,
    seed: int,
) -> Scored:
    """What left-out windows decide, at temperatures that they suit."""
    doubted = [bool(doubt) for doubt in doubts[1:]]
    found = [(one.left_out, one.model.classes) for one in kept if one.left_out is not None]
    tables = tables_of(found, target.y, units_of(target))
    ruling = by_labels(
        tables.likely, tables.right, tables.units, alpha=alpha, seed=seed, doubted=doubted
    )
    because = tuple(
        f"{why}; {doubt}" if doubt else why
        for why, doubt in zip(ruling.because, doubts, strict=True)
    )
    ruling = replace(ruling, because=because)
    parts = [
        replace(one.model, temperature=one.model.temperature * float(temperature))
        for one, temperature in zip(kept, tables.temperatures, strict=True)
    ]
    served = mix(parts, ruling.weights.tolist(), _lineage(kept, tried, ruling, tables))
    table, temperature = calibrated(
        left_out(tables, alpha=alpha, seed=seed, doubted=doubted), tables.codes
    )
    served = replace(served, temperature=served.temperature * temperature)
    return Scored(served, table[:, [tables.classes.index(name) for name in served.classes]])


def _by_structure(kept: list[Tried], tried: list[Tried], ruling: Ruling) -> Scored:
    parts = [one.model for one in kept]
    return Scored(mix(parts, ruling.weights.tolist(), _lineage(kept, tried, ruling, None)), None)


def _lineage(
    kept: list[Tried], tried: list[Tried], ruling: Ruling, tables: Tables | None
) -> dict[str, Any]:
    lines = lines_of([one.way.name for one in kept], ruling, tables)
    names = {line["name"] for line in lines}
    lines += [_left_aside(one) for one in tried if one.way.name not in names]
    return {"guard": told(lines, ruling)}


def _is_blind(target: Windows) -> bool:
    """Whether labels of the target cannot teach: none, or all the same."""
    return len(set(target.y.tolist())) < 2


def _hidden(train: Windows) -> Windows:
    """The same, where the target's labels are not known."""
    return replace(train, y=np.where(train.at_target, UNLABELLED, train.y))


def _as_target(train: Windows) -> Windows:
    """Labelled windows of the sources, as if they were the target's."""
    kept = train.take(np.flatnonzero(train.labelled & ~train.at_target))
    return replace(kept, domains=np.full(len(kept), TARGET))


def _left_aside(one: Tried) -> dict[str, Any]:
    because = one.because or "cannot say anything of windows left out"
    return {
        "name": one.way.name, "log_loss": None, "accuracy": None, "p_value": None,
        "weight": 0.0, "because": because,
    }  # fmt: skip
