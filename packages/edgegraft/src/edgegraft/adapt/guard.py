"""The guard: every way of transferring is tried beside labels alone, and has to earn its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.decision import (
    Decision,
    Rule,
    by_labels,
    calibrated,
    left_out,
    lines_of,
    tables_of,
    told,
)
from edgegraft.adapt.mixture import mix
from edgegraft.adapt.paired import units_of
from edgegraft.adapt.probe import lineage_of
from edgegraft.adapt.scored import Scored, score
from edgegraft.adapt.strategy import Strategy, Watch, build_strategy, unwatched
from edgegraft.catalog import names
from edgegraft.data.domains import from_sources, labelled_target, pool_of, sources_of
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.errors import EdgegraftError
from edgegraft_edge.signal import TARGET, Array, Windows

FROM_POOL = ("spread",)
FROM_SOURCES = ("standardise", "weighted", "toward-source")
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
class Tried:
    """What a way gave.

    Attributes:
        scored: the model and what it says of labelled windows left out; None if it failed.
        because: why it failed.
    """

    way: Way
    scored: Scored | None
    because: str = ""

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
    labels sources are all there is; the model's lineage says which it was.
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
    sources = tuple(sources_of(train))
    known = names("strategies")
    chosen = experts or tuple(
        name
        for some, there in ((FROM_POOL, len(pool_of(train))), (FROM_SOURCES, len(sources)))
        for name in some
        if there and name in known
    )
    ways = [Way(name, build_strategy(name)) for name in chosen]
    using = [way for way in ways if way.name in FROM_SOURCES]
    if each_source and using and 1 < len(sources) <= MOST_SOURCES:
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
    blind = len(set(target.y.tolist())) < 2
    if blind:
        reference = replace(reference, name=f"{reference.name} on the sources")
    first = score(
        reference.strategy, backbone, _as_target(train) if blind else train, task, seed=seed,
        watch=watch,
    )  # fmt: skip
    tried = [Tried(reference, replace(first, left_out=None) if blind else first)]
    for way in ways:
        watch("guard", {"expert": way.name})
        try:
            found = score(way.strategy, backbone, way.windows(train), task, seed=seed)
            tried.append(Tried(way, found))
        except EdgegraftError as error:
            problem = error.problems[0]
            tried.append(Tried(way, None, f"could not be fitted: {problem.found}: {problem.why}"))
    return _served(tried, train, target, blind, alpha, seed)


def _served(
    tried: list[Tried], train: Windows, target: Windows, blind: bool, alpha: float, seed: int
) -> Scored:
    """What is served of all that could be fitted."""
    labels_decide = not blind and np.unique(target.y, return_counts=True)[1].min() >= ENOUGH
    if labels_decide and tried[0].left_out is not None:
        usable = [one for one in tried if one.left_out is not None]
        found = [(one.left_out, one.model.classes) for one in tried if one.left_out is not None]
        tables = tables_of(found, target.y, units_of(target))
        decision = by_labels(tables.likely, tables.right, tables.units, alpha=alpha, seed=seed)
    else:
        usable, tables = [one for one in tried if one.scored], None
        decision = by_structure(usable, train, blind)
    weights = decision.weights.tolist()
    lines = lines_of([one.way.name for one in usable], decision, tables)
    for one in tried:
        if not any(one is other for other in usable):
            lines.append(_failed(one))
    temperatures = np.ones(len(usable)) if tables is None else tables.temperatures
    parts = [
        replace(one.model, temperature=one.model.temperature * float(temperature))
        for one, temperature in zip(usable, temperatures, strict=True)
    ]
    served = mix(parts, weights, {"guard": told(lines, decision)})
    if tables is None:
        return Scored(served, None)
    table = left_out(tables, alpha=alpha, seed=seed)
    table, temperature = calibrated(table, tables.codes)
    served = replace(served, temperature=served.temperature * temperature)
    return Scored(served, table[:, [tables.classes.index(name) for name in served.classes]])


def by_structure(usable: Sequence[Tried], train: Windows, blind: bool) -> Decision:
    """Weights where too few labels can be left out."""
    weights = np.zeros(len(usable))
    weights[0] = 1.0
    rule: Rule = "source-only" if blind else "structure"
    why = ["kept"] + ["nothing speaks for it"] * (len(usable) - 1)
    return Decision(rule, weights, tuple(why), (None,) * len(usable), None)


def _as_target(train: Windows) -> Windows:
    """Labelled windows of the sources, as if they were the target's; the pool stays."""
    kept = train.take(np.flatnonzero(train.labelled & ~train.at_target))
    return replace(kept, domains=np.full(len(kept), TARGET))


def _failed(one: Tried) -> dict[str, Any]:
    because = one.because or "cannot say anything of windows left out"
    return {
        "name": one.way.name, "log_loss": None, "accuracy": None, "p_value": None,
        "weight": 0.0, "because": because,
    }  # fmt: skip
