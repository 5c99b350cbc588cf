"""One number by closed-form ridge on any backbone, by boosted trees, or by its median (control).

Each gives a point with intervals: errors where whole units were left out say how wide they are,
see `edgegraft.adapt.estimates.interval`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.computed import computed
from edgegraft.adapt.estimates.boosted import boost_trees
from edgegraft.adapt.estimates.estimating import finished, material
from edgegraft.adapt.estimates.trends import SHARES, Layout, span_weights
from edgegraft.adapt.probe import lineage_of
from edgegraft.adapt.ridge import decompose
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.data.split import Fold
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.cache import embed_cached
from edgegraft_edge.heads import AffineHead
from edgegraft_edge.program import Draft, Program, chain
from edgegraft_edge.signal import Array, Windows, series_spec

STRENGTHS: tuple[float, ...] = tuple(float(each) for each in np.logspace(-5, 2, 15))
MOST_ROWS = 4000
"""Rows from which a strength is chosen; the head itself is fitted to all."""
QUIET = 1e-3
"""Deviations far below this count as none."""
_TINY = 1e-7


@dataclass(frozen=True)
class Regress:
    """Ridge in closed form on the embedding; strength and intervals by units left out."""

    n_folds: int = field(default=5, metadata={"help": "parts that are left out in turn"})

    tasks: ClassVar[tuple[str, ...]] = ("regression",)

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Learn from the labelled windows of `train`.

        Errors: as of `edgegraft.adapt.estimates.estimating.material`.
        """
        known = material(train, task, self.n_folds, seed)
        bound = backbone.fit(known.windows, seed=seed)
        z = embed_cached(bound, known.windows.x)
        head, strength, left_out = fit_affine(z, known.y, known.folds)
        left_out = known.clipped(left_out)
        lineage = lineage_of("regress", self, (backbone,), seed) | {
            "strength": strength,
            "left_out_rmse": round(known.rmse(left_out), 4),
        }
        program = chain(bound.program(*train.spec.shape), head.program())
        program, outputs = finished(program, known, left_out, task)
        return computed(program, outputs, train.spec, lineage, backbone)


@dataclass(frozen=True)
class Boost:
    """Boosted trees on means, slope and spread of each channel, and the derived channels."""

    trees: int = field(default=200, metadata={"help": "trees"})
    rate: float = field(default=0.05, metadata={"help": "how much each tree adds"})
    leaves: int = field(default=15, metadata={"help": "most leaves of a tree"})
    n_folds: int = field(default=5, metadata={"help": "parts that are left out in turn"})

    tasks: ClassVar[tuple[str, ...]] = ("regression",)

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Learn from the labelled windows of `train`; the backbone is not looked at.

        Errors: as of `edgegraft.adapt.estimates.estimating.material`.
        """
        known = material(train, task, self.n_folds, seed)
        spec = series_spec(train.spec)
        described = statistics_program(Layout.of(spec.channels), spec.n_timepoints)
        z = described.run(known.windows.x)
        left_out = np.zeros(len(known.y))
        for fold in known.folds:
            grown = self._grown(z[fold.train], known.y[fold.train], seed)
            left_out[fold.test] = grown.run(z[fold.test])[:, 0]
        left_out = known.clipped(left_out)
        lineage = lineage_of("boost", self, (backbone,), seed)
        lineage |= {"left_out_rmse": round(known.rmse(left_out), 4)}
        program = chain(described, self._grown(z, known.y, seed))
        program, outputs = finished(program, known, left_out, task)
        return computed(program, outputs, train.spec, lineage, backbone)

    def _grown(self, z: Array, y: Array, seed: int) -> Program:
        return boost_trees(
            z, y, seed=seed, n_trees=self.trees, rate=self.rate, leaves=self.leaves
        ).program()


@dataclass(frozen=True)
class Median:
    """The median of the training targets, whatever the window says; the control."""

    tasks: ClassVar[tuple[str, ...]] = ("regression",)

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Learn nothing but the median and the spread of the targets.

        Errors: as of `edgegraft.adapt.estimates.estimating.material`.
        """
        known = material(train, task, 5, seed)
        left_out = np.zeros(len(known.y))
        for fold in known.folds:
            left_out[fold.test] = np.median(known.y[fold.train])
        spec = series_spec(train.spec)
        draft = Draft()
        first = draft.add("slice", "x", axis=2, start=0, stop=1)
        first = draft.add("slice", first, axis=1, start=0, stop=1)
        none = draft.add("mul", draft.add("reshape", first, shape=[1]), np.zeros(1))
        program = draft.finish(draft.add("add", none, np.array([np.median(known.y)])))
        lineage = lineage_of("median", self, (backbone,), seed)
        program, outputs = finished(program, known, left_out, task)
        return computed(program, outputs, spec, lineage, backbone)


def fit_affine(
    z: Array,
    y: Array,
    folds: Sequence[Fold],
    *,
    weights: Array | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[AffineHead, float, Array]:
    """A ridge head, its strength, and what it says (n_samples,) of units left out.

    Each fold is solved once for all strengths, from the eigenvectors of the smaller Gram matrix.

    Args:
        z: embeddings (n_samples, embedding_dim).
        y: float (n_samples,).
        weights: importance of each sample.

    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(60, 4))
    >>> parts = [Fold(np.arange(30), np.arange(30, 60)), Fold(np.arange(30, 60), np.arange(30))]
    >>> head, _, left_out = fit_affine(z, 2 * z[:, 1] + 5, parts)
    >>> bool(abs(left_out - 2 * z[:, 1] - 5).max() < 0.01), head.bias.round().tolist()
    (True, [5.0])
    """
    z, y = np.asarray(z, dtype=np.float64), np.asarray(y, dtype=np.float64)
    weights = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    tables = np.zeros((len(strengths), len(y)))
    tested = np.sort(np.concatenate([fold.test for fold in folds]))
    for fold in folds:
        step = -(-len(fold.train) // MOST_ROWS)
        rows = fold.train[::step]
        tables[:, fold.test] = _solved(z[rows], y[rows], weights[rows], strengths, z[fold.test])[0]
    share = weights[tested] / weights[tested].sum()
    losses = ((tables - y) ** 2)[:, tested] @ share
    best = int(losses.argmin())
    _, coefficients, bias = _solved(z, y, weights, [strengths[best]], z[:1])
    head = AffineHead(
        coefficients[0].astype(np.float32)[:, None], np.array([bias[0]], dtype=np.float32)
    )
    return head, strengths[best], tables[best]


def _solved(
    z: Array, y: Array, weights: Array, strengths: Sequence[float], fresh: Array
) -> tuple[Array, Array, Array]:
    """Estimates of `fresh` (n_strengths, n), coefficients (n_strengths, d), biases."""
    share = weights / weights.sum()
    mean, offset = share @ z, float(share @ y)
    spread = np.sqrt(share @ (z - mean) ** 2)
    scale = np.where(spread > _TINY * (1 + np.abs(mean)), spread, np.inf)
    root = np.sqrt(weights / weights.mean())[:, None]
    rows = (z - mean) / scale * root
    values, vectors = decompose(rows)
    told = vectors.T @ ((y - offset) * root[:, 0])
    unit = max(float(values.sum()) / len(rows), _TINY)
    duals = [vectors @ (told / (values + strength * unit)) for strength in strengths]
    coefficients = np.stack([rows.T @ dual for dual in duals]) / scale
    biases = offset - coefficients @ mean
    return coefficients @ fresh.T + biases[:, None], coefficients, biases


def statistics_program(layout: Layout, n_timepoints: int) -> Program:
    """Windows -> means over the spans, slope and spreads of the measured channels.

    Of derived channels the last value counts, and how far the mean is from each beginning.
    """
    draft = Draft()
    n_base, n_views = len(layout.base), len(SHARES) + 1
    newest = draft.add("slice", "x", axis=2, start=n_timepoints - 1, stop=n_timepoints)
    base = draft.add("gather", "x", np.array(layout.base), axis=1)
    last = draft.add("gather", newest, np.array(layout.base), axis=1)
    # the last value is taken off first: sums of what is large lose the small change
    views = draft.add("matmul", draft.add("sub", base, last), span_weights(n_timepoints))
    views = draft.add("add", views, draft.add("mul", last, np.r_[np.ones(n_views - 1), 0.0]))
    mean = draft.add("slice", views, axis=2, start=n_views - 2, stop=n_views - 1)
    parts = [
        draft.add("reshape", views, shape=[n_base * n_views]),
        draft.call(spread_program(layout, n_timepoints)),
    ]
    for number, family in enumerate(layout.families):
        value = draft.add("gather", newest, np.array(family), axis=1)
        parts.append(draft.add("reshape", value, shape=[n_base]))
        if number < layout.starts:
            drift = draft.add("sub", mean, value)
            parts.append(draft.add("reshape", drift, shape=[n_base]))
    if layout.alone:
        value = draft.add("gather", newest, np.array(layout.alone), axis=1)
        parts.append(draft.add("reshape", value, shape=[len(layout.alone)]))
    return draft.finish(draft.add("concat", *parts, axis=1))


def spread_program(layout: Layout, n_timepoints: int) -> Program:
    """Windows -> logarithm of each measured channel's deviation, over the last third and over all.

    >>> layout, time = Layout((0,)), np.arange(12.0)
    >>> spread_program(layout, 12).run(np.stack([0 * time, time])[:, None]).round().tolist()
    [[-7.0, -7.0], [0.0, 1.0]]
    """
    draft, parts = Draft(), []
    base = draft.add("gather", "x", np.array(layout.base), axis=1)
    for length in (max(2, n_timepoints // 3), n_timepoints):
        first = max(0, n_timepoints - length)
        part = draft.add("slice", base, axis=2, start=first, stop=n_timepoints)
        away = draft.add("sub", part, draft.add("mean", part, axes=[2]))
        power = draft.add("mean", draft.add("mul", away, away), axes=[2], keepdims=False)
        floored = draft.add("add", draft.add("sqrt", power), np.array([QUIET]))
        parts.append(draft.add("log", floored))
    return draft.finish(draft.add("concat", *parts, axis=1))
