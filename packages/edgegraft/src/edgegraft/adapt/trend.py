"""Estimates from trends: fused components, smooth estimates on them, trees and a ridge, blended.

What is chosen (how many components, how smooth, how much of each learner) is chosen by what they
say of whole units that were left out; the same errors give the intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.boosted import boost_trees
from edgegraft.adapt.computed import computed
from edgegraft.adapt.estimating import Material, finished, material
from edgegraft.adapt.kernel import fit_kernels
from edgegraft.adapt.probe import lineage_of
from edgegraft.adapt.regress import fit_affine, statistics_program
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.adapt.trends import Layout, Seen, fit_trends
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.program import Draft, Program, chain
from edgegraft_edge.signal import Array, Windows, series_spec

WIDTHS = (0.05, 0.15, 0.5, 1.5)
STRENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
COMPONENTS = (1, 2, 3, 4)
MOST_ROWS = 5000
"""Rows that a kernel is fitted to; more of the same units say the same again."""
MOST_KERNELS = 3
ALIKE = 1.03
"""Of estimates whose squared error is within so much of the least, the smoothest is taken."""
BESIDE = 1.25
"""Other numbers of components are averaged in while their squared error is within so much."""
EVEN = 5
"""Units that even shares of the learners count as."""


@dataclass(frozen=True)
class Choice:
    """What left-out units chose for one number of components.

    Attributes:
        left_out: estimates float64 (n_windows,).
        loss: their mean squared error.
    """

    n_components: int
    width: float
    strength: float
    left_out: Array
    loss: float


@dataclass(frozen=True)
class Trend:
    """Channels fused into a few trends; kernel ridge, boosted trees and a ridge, blended."""

    components: int = field(
        default=0, metadata={"help": "fused components; chosen by left-out units if 0"}
    )
    trees: int = field(default=150, metadata={"help": "boosted trees beside the kernel; 0: none"})
    n_folds: int = field(default=5, metadata={"help": "parts that are left out in turn"})

    tasks: ClassVar[tuple[str, ...]] = ("regression",)

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Learn from the labelled windows of `train`; the backbone is not looked at.

        Errors: as of `edgegraft.adapt.estimating.material`.
        """
        known = material(train, task, self.n_folds, seed)
        fitting = _Fitting.of(known, self.components, self.trees, seed)
        left_out = fitting.table @ fitting.shares
        lineage = lineage_of("trend", self, (backbone,), seed) | {
            "components": [choice.n_components for choice in fitting.choices],
            "width": [choice.width for choice in fitting.choices],
            "strength": [choice.strength for choice in fitting.choices],
            "shares": [round(float(share), 4) for share in fitting.shares],
            "left_out_rmse": round(known.rmse(left_out), 4),
        }
        program, outputs = finished(fitting.program(), known, left_out, task)
        return computed(program, outputs, train.spec, lineage, backbone)


@dataclass(frozen=True)
class _Fitting:
    """All that is chosen, and left-out estimates (n_windows, n_learners) with their shares."""

    known: Material
    layout: Layout
    seen: Seen
    described: Array
    choices: tuple[Choice, ...]
    trees: int
    seed: int
    table: Array
    shares: Array

    @classmethod
    def of(cls, known: Material, components: int, trees: int, seed: int) -> _Fitting:
        spec = series_spec(known.windows.spec)
        layout, length = Layout.of(spec.channels), spec.n_timepoints
        seen = Seen.of(known.windows.x, layout)
        counts = (components,) if components else COMPONENTS
        choices = choose(seen, known, layout, length, counts, seed)
        described = statistics_program(layout, length).run(known.windows.x)
        learners = [np.mean([choice.left_out for choice in choices], axis=0)]
        learners.append(known.clipped(fit_affine(described, known.y, known.folds)[2]))
        if trees:
            found = np.zeros(len(known.y))
            count = min(choices, key=lambda choice: choice.loss).n_components
            for fold in known.folds:
                inner, y = seen.take(fold.train), known.y[fold.train]
                fused = fit_trends(inner, y, layout, length, count)
                grown = boost_trees(fused.features(inner), y, seed=seed, n_trees=trees)
                fresh = fused.features(seen.take(fold.test))
                found[fold.test] = grown.scores(fresh)[:, 0]
            learners.append(known.clipped(found))
        table = np.stack(learners, axis=1)
        tested = known.tested
        shares = blend_shares(table[tested], known.y[tested], known.n_units)
        return cls(known, layout, seen, described, choices, trees, seed, table, shares)

    def program(self) -> Program:
        """Everything fitted to all windows."""
        known, length = self.known, self.known.windows.x.shape[2]
        members: list[tuple[Program, float]] = []
        for choice in self.choices:
            fused = fit_trends(self.seen, known.y, self.layout, length, choice.n_components)
            rows, y = _thinned(fused.features(self.seen), known.y)
            (kernel,) = fit_kernels(rows, y, choice.width, [choice.strength], seed=self.seed)
            share = float(self.shares[0]) / len(self.choices)
            members.append((chain(fused.program(), kernel.program()), share))
        head, _, _ = fit_affine(self.described, known.y, known.folds)
        described = statistics_program(self.layout, length)
        members.append((chain(described, head.program()), float(self.shares[1])))
        if self.trees:
            count = min(self.choices, key=lambda choice: choice.loss).n_components
            fused = fit_trends(self.seen, known.y, self.layout, length, count)
            z = fused.features(self.seen)
            grown = boost_trees(z, known.y, seed=self.seed, n_trees=self.trees)
            members.append((chain(fused.program(), grown.program()), float(self.shares[2])))
        draft, total = Draft(), ""
        for program, share in members:
            value = draft.add("minimum", draft.call(program), np.array([known.high]))
            value = draft.add("maximum", value, np.array([known.low]))
            value = draft.add("mul", value, np.array([share]))
            total = draft.add("add", total, value) if total else value
        return draft.finish(total)


def choose(
    seen: Seen,
    known: Material,
    layout: Layout,
    n_timepoints: int,
    counts: Sequence[int],
    seed: int,
) -> tuple[Choice, ...]:
    """The numbers of components that are worth it, each with its width and strength.

    Single best ones are a matter of luck where units are few; so the smoothest of those that do
    as well is taken, and the few best numbers of components are averaged.
    """
    found: list[Choice] = []
    for count in sorted({min(count, max(1, len(layout.base))) for count in counts}):
        table = np.zeros((len(WIDTHS), len(STRENGTHS), len(known.y)))
        for fold in known.folds:
            inner, y = seen.take(fold.train), known.y[fold.train]
            trends = fit_trends(inner, y, layout, n_timepoints, count)
            rows, told = _thinned(trends.features(inner), y)
            fresh = trends.features(seen.take(fold.test))
            for i, width in enumerate(WIDTHS):
                for j, kernel in enumerate(fit_kernels(rows, told, width, STRENGTHS, seed=seed)):
                    table[i, j, fold.test] = kernel.estimate(fresh)
        table = known.clipped(table)
        losses = ((table - known.y) ** 2)[..., known.tested].mean(axis=-1)
        alike = np.argwhere(losses <= ALIKE * losses.min())
        i, j = max(alike.tolist(), key=lambda place: (place[1], -place[0]))
        loss = float(losses[i, j])
        found.append(Choice(count, WIDTHS[i], STRENGTHS[j], table[i, j], loss))
    found.sort(key=lambda choice: choice.loss)
    return tuple(each for each in found if each.loss <= BESIDE * found[0].loss)[:MOST_KERNELS]


def blend_shares(tables: Array, y: Array, n_units: int) -> Array:
    """Shares (n_members,), none negative, summing to one: of least squared error, and even.

    Args:
        tables: left-out estimates (n_samples, n_members).
        n_units: from which the shares are told; even shares count as much as `EVEN` units.

    >>> y = np.arange(9.0)
    >>> blend_shares(np.stack([y + 1, y + 8], axis=1), y, 95).round(3).tolist()
    [0.975, 0.025]
    """
    from scipy.optimize import nnls

    heavy = 1e3 * np.sqrt(len(y)) * (1 + np.abs(tables).max())  # a row: they sum to one
    rows = np.vstack([tables, np.full(tables.shape[1], heavy)])
    shares, _ = nnls(rows, np.r_[y, heavy])
    even = np.full(len(shares), EVEN / len(shares))
    return np.asarray((n_units * shares / shares.sum() + even) / (n_units + EVEN))


def _thinned(rows: Array, y: Array) -> tuple[Array, Array]:
    step = -(-len(rows) // MOST_ROWS)
    return rows[::step], y[::step]
