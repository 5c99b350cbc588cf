"""Labels along a graph over the pool, what heads make of them, and both with windows left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgegraft.adapt.balance import estimate_shares
from edgegraft.adapt.calibration import best_temperature, softmax
from edgegraft.adapt.distil import Lesson
from edgegraft.adapt.evidence import Evidence
from edgegraft.adapt.leave_out import bundle_blocks, left_out_blocks
from edgegraft.adapt.neighbours import Neighbours, diffuse, neighbours, to_shares
from edgegraft.adapt.views import View, coordinates
from edgegraft.data.split import purge
from edgegraft_edge.signal import Array, Windows

if TYPE_CHECKING:
    from edgegraft.adapt.spread import Spread

LEAST_LABELS = 3
"""Labels per class from which what is said of windows left out means anything."""
TRUSTS = (0.0, 0.5, 1.0, 2.0)
"""How much heads on labels alone may count beside the graph."""
TEMPERATURE = 0.2
"""Of scores of ridge heads where nothing can be left out; as in `edgegraft.adapt.ridge`."""
_FLOOR = 1e-3


@dataclass(frozen=True)
class Spreading:
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
    def of(cls, evidence: Evidence, views: Sequence[View], options: Spread, seed: int) -> Spreading:
        own = evidence.own
        z = coordinates(views, own.groups if own.has_groups else None, seed)
        n_labelled = len(evidence.target)
        most = max(options.rows - n_labelled, options.rows // 2)
        pool = np.random.default_rng(seed).permutation(len(evidence.pool))[:most]
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
    def names(self) -> list[str]:
        """The views of the lessons."""
        return [lesson.view.backbone.card.name for lesson in self.lessons]

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
            shares = estimate_shares(likely, shares, self.options.shares_prior)
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

        Where labels are enough, heads look once more at what they are to learn: each row is judged
        by heads that learned from the other rows. Rows that are not kept are zero.
        """
        soft = np.zeros((len(self), self.n_classes))
        soft[kept] = self.along(kept)
        found = soft[self.rows]
        if trust:
            found = _product(found, self.alone(kept), trust)
        found = self._settled(found, kept)
        if np.bincount(self.codes).min() >= LEAST_LABELS:
            targets, weights = self._task(found)
            each = [
                softmax(lesson.by_others(targets, weights) / TEMPERATURE) for lesson in self.lessons
            ]
            found = self._settled(_product(found, np.asarray(sum(each) / len(each)), 1.0), kept)
        return found

    def _settled(self, found: Array, kept: Array) -> Array:
        """With the true labels as they are, and nothing of rows that are not kept."""
        found[: len(self.codes)] = self.known
        found[~np.isin(self.rows, kept)] = 0
        return found

    def _task(self, soft: Array) -> tuple[Array, Array]:
        """What heads are to say of the rows (n_rows, n_classes), and how much it counts."""
        ordered = np.sort(soft, axis=1)
        weights = ordered[:, -1] - ordered[:, -2]  # how certain the label is
        weights[: len(self.codes)] *= self.options.weight
        return np.eye(self.n_classes)[soft.argmax(axis=1)], weights

    def teach(self, soft: Array) -> list[tuple[Array, Array]]:
        """Dual coefficients and offset of a head for each lesson, taught by `labels`."""
        targets, weights = self._task(soft)
        return [lesson.solve(targets, weights) for lesson in self.lessons]

    def left_out(self, trust: float) -> Array | None:
        """Scores of labelled windows left out with their groups (n_lessons, n_labelled, n_classes).

        With them go the windows of their groups in the pool and all that overlap them.
        """
        groups = self.own.groups[: len(self.codes)] if self.own.has_groups else None
        blocks = left_out_blocks(self.codes, groups, self.n_classes)
        if not blocks or np.bincount(self.codes).min() < LEAST_LABELS:
            return None
        tables = np.zeros((len(self.lessons), *self.known.shape))
        for part in bundle_blocks(blocks, self.codes, self.seed):
            taught = self.teach(self.labels(trust, self._apart(part)))
            for table, lesson, dual in zip(tables, self.lessons, taught, strict=True):
                table[part] = lesson.scores(*dual)[part]
        return tables

    def _apart(self, part: Array) -> Array:
        """All windows but those of the part, of its groups, and that overlap them."""
        groups = np.setdiff1d(self.own.groups[part], [""])
        kept = np.flatnonzero(~np.isin(self.own.groups, groups))
        return np.asarray(purge(self.own, np.setdiff1d(kept, part), part))


def _product(graph: Array, heads: Array, trust: float) -> Array:
    """Two opinions multiplied, the second to a power, rows summing to one."""
    logs = np.log(graph + _FLOOR) + trust * np.log(heads + _FLOOR)
    return softmax(logs)
