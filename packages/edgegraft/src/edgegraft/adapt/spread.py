"""Labels spread over the pool, and heads that learn from them: few labels, much unlabelled data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgegraft.adapt.adapted import Adapted, Member
from edgegraft.adapt.balance import estimate_shares
from edgegraft.adapt.blend import Blend
from edgegraft.adapt.calibration import best_temperature, log_loss, softmax
from edgegraft.adapt.distil import Lesson
from edgegraft.adapt.evidence import Evidence, gather
from edgegraft.adapt.leave_out import bundle_blocks, left_out_blocks
from edgegraft.adapt.neighbours import Neighbours, diffuse, neighbours, to_shares
from edgegraft.adapt.probe import lineage_of
from edgegraft.adapt.scored import Scored
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.adapt.views import View, coordinates, look
from edgegraft.data.split import purge
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.signal import Array, Windows

LEAST_POOL = 1
"""Windows without label for each with one, below which a pool is no help."""
LEAST_LABELS = 3
"""Labels per class from which what is said of windows left out means anything."""
TRUSTS = (0.0, 0.5, 1.0, 2.0)
TEMPERATURES = np.geomspace(0.03, 1.0, 21)
TEMPERATURE = 0.2
"""Of scores of ridge heads where nothing can be left out; as in `edgegraft.adapt.ridge`."""
_FLOOR = 1e-3


@dataclass(frozen=True)
class Spread:
    """Labels spread along a graph over the pool; then heads learn from them and the true labels.

    The graph joins windows that are near in several views at once. Class shares of the pool are
    estimated. Ridge heads on the labels alone say what a window of the pool is as well: how much
    they count is decided by labelled windows left out, so that with many labels these rule. What
    ships are ridge heads, one for each view, that learned from the result; they need no pool.

    Sources: D. Zhou and others, Learning with local and global consistency, NIPS 2003; M. Saerens
    and others, Neural Computation 2002 (class shares); G. Hinton, O. Vinyals, J. Dean, Distilling
    the knowledge in a neural network, 2015 (heads).
    """

    views: tuple[str, ...] = field(
        default=("minirocket", "statistics", "spectrum", "mel-statistics", "texture", "tfidf"),
        metadata={"help": "backbones beside the one given whose distances make the graph"},
    )
    heads: tuple[str, ...] = field(
        default=("minirocket", "statistics", "mel-statistics", "texture", "tfidf"),
        metadata={"help": "those of them that get a head, beside the backbone given"},
    )
    reach: float = field(
        default=0.9, metadata={"help": "how far labels spread: weight of neighbours, below 1"}
    )
    shares: str = field(
        default="estimated",
        metadata={"help": "class shares of the pool: estimated, labels (as labelled) or uniform"},
    )
    prior: float = field(
        default=1.0,
        metadata={"help": "weight of the shares of the labels against the pool in estimating"},
    )
    rows: int = field(
        default=1000, metadata={"help": "most windows of the pool that heads learn from"}
    )
    weight: float = field(
        default=5.0, metadata={"help": "what a true label counts against a certain spread one"}
    )
    normalise: str = field(default="auto", metadata={"help": "step applied to windows first"})

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Spread the labels of `train` over its pool and fit heads; a `Blend` without a pool."""
        return self.scored(backbone, train, task, seed=seed, watch=watch).adapted

    def scored(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Scored:
        """The same, with what heads say of windows that were left out with their whole groups."""
        train = train.take(np.flatnonzero(train.at_target))
        evidence = gather(train, task, self.normalise)
        n_labelled = len(evidence.target)
        if len(evidence.pool) < LEAST_POOL * n_labelled and len(evidence.pool) < self.rows:
            plain = Blend(normalise=self.normalise).scored(
                backbone, train, task, seed=seed, watch=watch
            )
            lineage = dict(plain.adapted.lineage) | {
                "strategy": "spread",
                "without_pool": f"{len(evidence.pool)} windows without label: a blend of labels",
            }
            return replace(plain, adapted=replace(plain.adapted, lineage=lineage))
        return self._spread(backbone, evidence, train, seed)

    def _spread(self, backbone: Backbone, evidence: Evidence, train: Windows, seed: int) -> Scored:
        views = look(backbone, self.views, evidence.own, seed)
        problem = _Problem.of(evidence, views, self, seed)
        trust = problem.trust()
        soft = problem.labels(trust, np.arange(len(problem)))
        taught = problem.teach(soft)
        left_out, temperature = problem.left_out(trust)
        members = tuple(
            Member(lesson.view.backbone, lesson.head(*dual, temperature), 1 / len(taught))
            for lesson, dual in zip(problem.lessons, taught, strict=True)
        )
        lineage = lineage_of("spread", self, tuple(v.backbone for v in views), seed)
        mass = soft.mean(axis=0)
        lineage |= {
            "pool": len(evidence.pool),
            "shares": {
                name: round(float(s), 4) for name, s in zip(evidence.classes, mass, strict=True)
            },
            "trust_in_labels_alone": trust,
            "temperature": round(temperature, 4),
        }
        spec = train.spec
        adapted = Adapted(evidence.steps, members, evidence.classes, spec, lineage)
        return Scored(adapted, left_out)


@dataclass(frozen=True)
class _Problem:
    """What spreading, teaching and leaving out have in common.

    Attributes:
        own: windows of the target, labelled ones first.
        codes: int (n_labelled,).
        graph: neighbours among all windows.
        rows: int (n_rows,), windows that heads learn from, labelled ones first.
        lessons: one for each view that gets a head.
    """

    options: Spread
    own: Windows
    codes: Array
    n_classes: int
    graph: Neighbours
    rows: Array
    lessons: tuple[Lesson, ...]
    seed: int

    @classmethod
    def of(cls, evidence: Evidence, views: Sequence[View], options: Spread, seed: int) -> _Problem:
        own = evidence.own
        z = coordinates(views, own.groups if own.has_groups else None, seed)
        n_labelled = len(evidence.target)
        pool = np.random.default_rng(seed).permutation(len(evidence.pool))[: options.rows]
        rows = np.concatenate([np.arange(n_labelled), n_labelled + np.sort(pool)])
        given = views[0].backbone.card.name
        taught = [v for v in views if v.backbone.card.name in (given, *options.heads)]
        return cls(
            options,
            own,
            evidence.codes,
            len(evidence.classes),
            neighbours(z, int(np.ceil(np.log2(max(len(own), 4)))), seed=seed),
            rows,
            tuple(Lesson.of(view, rows) for view in taught),
            seed,
        )

    def __len__(self) -> int:
        return len(self.own)

    @property
    def known(self) -> Array:
        """Float64 (n_labelled, n_classes), the true labels."""
        return np.eye(self.n_classes)[self.codes]

    def along(self, kept: Array) -> Array:
        """Labels along the graph, of and from the windows kept (n_kept, n_classes)."""
        seeds = np.zeros((len(self), self.n_classes))
        seeds[: len(self.codes)] = self.known
        graph = self.graph if len(kept) == len(self) else self.graph.take(kept)
        return self._balanced(graph, seeds[kept])

    def _balanced(self, graph: Neighbours, seeds: Array) -> Array:
        total = np.maximum(seeds.sum(axis=0), 1e-12)
        reached = diffuse(graph, seeds / total, alpha=self.options.reach)
        mass = reached.sum(axis=0)
        counts = np.bincount(self.codes, minlength=self.n_classes) + 1.0
        shares = counts / counts.sum()
        if self.options.shares == "uniform":
            shares = np.full(self.n_classes, 1 / self.n_classes)
        elif self.options.shares == "estimated":
            likely = reached / np.where(mass > 0, mass, np.inf)
            shares = estimate_shares(likely, shares, self.options.prior)
        return to_shares(reached, shares)

    def alone(self, kept: Array) -> Array:
        """What heads on the labels kept say of all rows (n_rows, n_classes)."""
        weights = np.isin(self.rows, kept[kept < len(self.codes)]).astype(np.float64)
        targets = np.full((len(self.rows), self.n_classes), 1 / self.n_classes)
        targets[: len(self.codes)] = self.known
        each = [
            softmax(lesson.scores(*lesson.solve(targets, weights)) / TEMPERATURE)
            for lesson in self.lessons
        ]
        return np.asarray(sum(each) / len(each))

    def trust(self) -> float:
        """How much heads on labels alone count beside the graph, by single windows left out."""
        blocks = left_out_blocks(self.codes, None, self.n_classes)
        if not blocks or np.bincount(self.codes).min() < LEAST_LABELS:
            return 0.0
        graph, heads = np.zeros_like(self.known), np.zeros_like(self.known)
        for part in bundle_blocks(blocks, self.codes, self.seed):
            seeds = np.zeros((len(self), self.n_classes))
            seeds[: len(self.codes)] = self.known
            seeds[part] = 0
            graph[part] = self._balanced(self.graph, seeds)[part]
            heads[part] = self.alone(np.setdiff1d(np.arange(len(self)), part))[part]
        losses = []
        for trust in TRUSTS:
            table = np.log(_product(graph, heads, trust))
            losses.append(best_temperature(table, self.codes, np.geomspace(0.3, 3.0, 15))[1])
        return TRUSTS[int(np.argmin(losses))]

    def labels(self, trust: float, kept: Array) -> Array:
        """What the rows are (n_rows, n_classes) by the windows kept; the true labels as they are.

        Rows that are not kept are zero.
        """
        soft = np.zeros((len(self), self.n_classes))
        soft[kept] = self.along(kept)
        found = soft[self.rows]
        if trust:
            found = _product(found, self.alone(kept), trust)
        found[: len(self.codes)] = self.known
        found[~np.isin(self.rows, kept)] = 0
        return found

    def teach(self, soft: Array) -> list[tuple[Array, Array]]:
        """Dual coefficients and offset of a head for each lesson, taught by `labels`."""
        ordered = np.sort(soft, axis=1)
        weights = ordered[:, -1] - ordered[:, -2]  # how certain the label is
        weights[: len(self.codes)] *= self.options.weight
        targets = np.eye(self.n_classes)[soft.argmax(axis=1)]
        return [lesson.solve(targets, weights) for lesson in self.lessons]

    def left_out(self, trust: float) -> tuple[Array | None, float]:
        """Probabilities of labelled windows left out with their groups, and the temperature.

        With them go the windows of their groups in the pool and all that overlap them.
        """
        groups = self.own.groups[: len(self.codes)] if self.own.has_groups else None
        blocks = left_out_blocks(self.codes, groups, self.n_classes)
        if not blocks or np.bincount(self.codes).min() < LEAST_LABELS:
            return None, TEMPERATURE
        tables = np.zeros((len(self.lessons), *self.known.shape))
        for part in bundle_blocks(blocks, self.codes, self.seed):
            taught = self.teach(self.labels(trust, self._apart(part)))
            for table, lesson, dual in zip(tables, self.lessons, taught, strict=True):
                table[part] = lesson.scores(*dual)[part]

        def mixed(temperature: float) -> Array:
            return np.asarray(softmax(tables / temperature).mean(axis=0))

        losses = [log_loss(mixed(float(t)), self.codes) for t in TEMPERATURES]
        best = float(TEMPERATURES[int(np.argmin(losses))])
        return mixed(best), best

    def _apart(self, part: Array) -> Array:
        """All windows but those of the part, of its groups, and that overlap them."""
        groups = np.setdiff1d(self.own.groups[part], [""])
        kept = np.flatnonzero(~np.isin(self.own.groups, groups))
        return np.asarray(purge(self.own, np.setdiff1d(kept, part), part))


def _product(graph: Array, heads: Array, trust: float) -> Array:
    """Two opinions multiplied, the second to a power, rows summing to one."""
    logs = np.log(graph + _FLOOR) + trust * np.log(heads + _FLOOR)
    return softmax(logs)
