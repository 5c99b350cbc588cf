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
from edgegraft.adapt.computed import computed
from edgegraft.adapt.estimates.boosted import boost_trees
from edgegraft.adapt.estimates.crossing import cross
from edgegraft.adapt.estimates.estimating import (
    Learner,
    Material,
    blend_shares,
    blended,
    finished,
    material,
    outputs_of,
)
from edgegraft.adapt.estimates.kernel import fit_kernels
from edgegraft.adapt.estimates.regress import fit_affine, spread_program, statistics_program
from edgegraft.adapt.estimates.trends import Layout, Seen, fit_trends
from edgegraft.adapt.probe import lineage_of
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.program import Draft, chain
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
    alone: bool = field(
        default=False, metadata={"help": "learn from the target's own units, even beside sources"}
    )

    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    draws: ClassVar[bool] = True

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Learn from the labelled windows of `train`; the backbone is not looked at.

        Beside labelled sources, `edgegraft.adapt.estimates.crossing` says how.

        Errors: as of `edgegraft.adapt.estimates.estimating.material`.
        """
        if not self.alone and (train.labelled & ~train.at_target).any():
            return self._crossing(backbone, train, task, seed)
        known = material(train, task, self.n_folds, seed)
        spec = series_spec(known.windows.spec)
        layout = Layout.of(spec.channels)
        learners = (
            *fit_learners(known, layout, self.components, self.trees, seed),
            plain_ridge(known, layout),
        )
        table = np.stack([each.left_out for each in learners], axis=1)
        shares = blend_shares(table[known.tested], known.y[known.tested], known.n_units)
        left_out = table @ shares
        lineage = lineage_of("trend", self, (backbone,), seed) | {
            "learners": [dict(each.chosen) for each in learners],
            "shares": [round(float(share), 4) for share in shares],
            "left_out_rmse": round(known.rmse(left_out), 4),
        }
        program = blended([each.program for each in learners], shares, known.low, known.high)
        program, outputs = finished(program, known, left_out, task)
        return computed(program, outputs, train.spec, lineage, backbone)

    def _crossing(self, backbone: Backbone, train: Windows, task: Task, seed: int) -> Adapted:
        crossed = cross(
            train,
            task,
            lambda known, layout: fit_learners(known, layout, self.components, self.trees, seed),
            n_folds=self.n_folds,
            seed=seed,
        )
        lineage = lineage_of("trend", self, (backbone,), seed) | dict(crossed.lineage)
        return computed(crossed.program, outputs_of(task), train.spec, lineage, backbone)


def fit_learners(
    known: Material, layout: Layout, components: int, trees: int, seed: int
) -> tuple[Learner, ...]:
    """Kernel ridge on the best numbers of components, and boosted trees on the very best one."""
    n_timepoints = known.windows.x.shape[2]
    seen = Seen.of(known.windows.x, layout)
    counts = (components,) if components else COMPONENTS
    choices = choose(seen, known, layout, n_timepoints, counts, seed)
    programs, best = [], min(choices, key=lambda choice: choice.loss).n_components
    for choice in choices:
        fused = fit_trends(seen, known.y, layout, n_timepoints, choice.n_components)
        rows, y = _thinned(fused.features(seen), known.y)
        (kernel,) = fit_kernels(rows, y, choice.width, [choice.strength], seed=seed)
        programs.append(chain(fused.program(), kernel.program()))
    even = np.full(len(programs), 1 / len(programs))
    smooth = Learner(
        blended(programs, even, known.low, known.high),
        np.mean([choice.left_out for choice in choices], axis=0),
        {
            "kind": "kernel",
            "components": [choice.n_components for choice in choices],
            "width": [choice.width for choice in choices],
            "strength": [choice.strength for choice in choices],
        },
    )
    if not trees:
        return (smooth,)
    uneven = spread_program(layout, n_timepoints)
    spreads = uneven.run(known.windows.x)
    left_out = np.zeros(len(known.y))
    for fold in known.folds:
        inner, y = seen.take(fold.train), known.y[fold.train]
        fused = fit_trends(inner, y, layout, n_timepoints, best)
        z = np.concatenate([fused.features(inner), spreads[fold.train]], axis=1)
        fresh = np.concatenate([fused.features(seen.take(fold.test)), spreads[fold.test]], axis=1)
        left_out[fold.test] = boost_trees(z, y, seed=seed, n_trees=trees).scores(fresh)[:, 0]
    fused = fit_trends(seen, known.y, layout, n_timepoints, best)
    z = np.concatenate([fused.features(seen), spreads], axis=1)
    draft = Draft()
    both = draft.add("concat", draft.call(fused.program()), draft.call(uneven), axis=1)
    grown = boost_trees(z, known.y, seed=seed, n_trees=trees)
    program = draft.finish(draft.call(grown.program(), both))
    chosen = {"kind": "trees", "components": [best]}
    return smooth, Learner(program, known.clipped(left_out), chosen)


def plain_ridge(known: Material, layout: Layout) -> Learner:
    """Ridge on what is read of every channel by itself; where units are few it goes on straight."""
    described = statistics_program(layout, known.windows.x.shape[2])
    head, strength, left_out = fit_affine(described.run(known.windows.x), known.y, known.folds)
    chosen = {"kind": "ridge", "strength": strength}
    return Learner(chain(described, head.program()), known.clipped(left_out), chosen)


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
        i, j = _smoothest(losses)
        choice = Choice(count, WIDTHS[i], STRENGTHS[j], table[i, j], float(losses[i, j]))
        found.append(choice)
    found.sort(key=lambda choice: choice.loss)
    return tuple(each for each in found if each.loss <= BESIDE * found[0].loss)[:MOST_KERNELS]


def _smoothest(losses: Array) -> tuple[int, int]:
    """Place of the smoothest estimate among those that do as well as the best."""
    alike = np.argwhere(losses <= ALIKE * losses.min())
    i, j = max(alike.tolist(), key=lambda place: (place[1], -place[0]))
    return i, j


def _thinned(rows: Array, y: Array) -> tuple[Array, Array]:
    step = -(-len(rows) // MOST_ROWS)
    return rows[::step], y[::step]
