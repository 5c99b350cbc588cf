"""Which windows to label next: what covers the pool, and where models disagree.

With hardly any label nothing can tell which windows are hard, and hard ones teach least (the cold
start); so at first the windows chosen stand for as much of the pool as they can. Later, windows
whose class is open between what models say teach most. Everything here is a function of embeddings
and probabilities and keeps nothing.

Sources: G. Hacohen, A. Dekel, D. Weinshall, Active learning on a budget: Opposite strategies suit
high and low budgets, ICML 2022 (TypiClust, and the switch); O. Yehuda and others, Active learning
through a covering lens, NeurIPS 2022 (ProbCover); K. Wei, R. Iyer, J. Bilmes, Submodularity in
data subset selection and active learning, ICML 2015 (facility location); N. Houlsby and others,
Bayesian active learning for classification and preference learning, 2011 (BALD).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from edgegraft.adapt.neighbours import cells
from edgegraft_edge.signal import Array

COMPONENTS = 64
"""Principal components kept of each view."""
NEAREST = 20
_SAMPLE = 2000
_BLOCK = 1024


@dataclass(frozen=True)
class Projection:
    """Standardised features along the directions in which most windows differ.

    Attributes:
        mean: float32 (embedding_dim,).
        directions: float32 (embedding_dim, n_components), scaling folded in, so that the mean
            square length of what comes out is 1.
    """

    mean: Array
    directions: Array

    @classmethod
    def of(cls, z: Array, n_components: int = COMPONENTS) -> Projection:
        """From embeddings (n_windows, embedding_dim); 2,000 windows are as good as more.

        >>> z = np.random.default_rng(0).normal(size=(30, 900))
        >>> out = Projection.of(z, 4)(z)
        >>> out.shape, round(float((out**2).sum(axis=1).mean()), 3)
        ((30, 4), 1.0)
        """
        z = np.asarray(z, dtype=np.float32)
        mean, spread = z.mean(axis=0), z.std(axis=0)
        gain = np.where(spread > 1e-6 * (1 + np.abs(mean)), 1 / np.maximum(spread, 1e-30), 0)
        rows = (z - mean) * gain.astype(np.float32)
        wide = len(rows) <= rows.shape[1]
        values, vectors = np.linalg.eigh(
            (rows @ rows.T if wide else rows.T @ rows).astype(np.float64)
        )
        least = 1e-6 * max(float(values[-1]), 1e-30)
        kept = np.flatnonzero(values > least)[::-1][:n_components]
        if not len(kept):
            return cls(mean, np.zeros((z.shape[1], 1), dtype=np.float32))
        directions = vectors[:, kept]
        if wide:
            directions = rows.T @ (directions / np.sqrt(values[kept]))
        length = np.sqrt(float(values[kept].sum()) / len(rows))
        return cls(mean, np.asarray(gain[:, None] * directions / length, dtype=np.float32))

    def __call__(self, z: Array) -> Array:
        """(n_windows, embedding_dim) -> float32 (n_windows, n_components)."""
        parts = [(z[i : i + _BLOCK] - self.mean) @ self.directions
                 for i in range(0, len(z), _BLOCK)]  # fmt: skip
        return np.concatenate(parts) if parts else np.zeros((0, self.directions.shape[1]))


def fused(views: Sequence[Array]) -> Array:
    """Projected views of the same windows as one embedding, in which each counts the same.

    >>> fused([np.ones((3, 2)), np.zeros((3, 5))]).shape
    (3, 7)
    """
    parts = [np.asarray(view, dtype=np.float32) for view in views]
    return np.asarray(np.concatenate(parts, axis=1) / np.sqrt(np.float32(len(views))))


# -- coverage: no label needed


def radius(z: Array, *, nearest: int = NEAREST, seed: int = 0) -> float:
    """The usual distance of a window to its `nearest`-th neighbour: the reach of a label.

    >>> round(radius(np.arange(10.0)[:, None], nearest=2), 6)
    1.0
    """
    some = np.random.default_rng(seed).permutation(len(z))[:_SAMPLE]
    squares = distances(z[some], z)
    rank = min(nearest, len(z) - 1)
    return float(np.median(np.sqrt(np.partition(squares, rank, axis=1)[:, rank])))


def distances(z: Array, others: Array) -> Array:
    """Squared distances, float32 (n_windows, n_others), not below zero."""
    squares = np.square(z).sum(axis=1)[:, None] + np.square(others).sum(axis=1)
    return np.asarray(np.maximum(squares - 2 * (z @ others.T), 0))


def facility(
    z: Array,
    taken: Array,
    count: int,
    *,
    allowed: Array | None = None,
    worth: Array | None = None,
    shares: Array | None = None,
    reach: float | None = None,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Windows that stand for most of the pool that is not stood for yet, one after the other.

    A window stands for another by ``exp(-d^2 / reach^2)``; each next one adds most to the sum, over
    all windows, of how well the best of the chosen stands for it (greedy facility location, within
    1 - 1/e of the best choice). Of more than 4,000 windows a sample is stood for.

    Args:
        z: embeddings (n_windows, embedding_dim).
        taken: positions of windows that are chosen already, as they are labelled.
        allowed: bool (n_windows,), which may be chosen; all that are not taken unless given.
        worth: how much it counts to stand for each window (n_windows,).
        shares: (n_windows, 2), the recording and where in it the window starts, in lengths of a
            window: windows of one recording less than 1 apart share samples, and two such are
            chosen only once all others are.

    Returns: positions int64 (at most count,), and the share of the pool each adds.

    >>> z = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [20.0]])
    >>> facility(z, np.array([0]), 2, reach=1.0)[0].tolist()
    [3, 5]
    """
    reach = reach or radius(z) or 1.0
    random = np.random.default_rng(seed)
    stood = np.sort(random.permutation(len(z))[:4000])
    open_ = np.ones(len(z), dtype=bool) if allowed is None else allowed.copy()
    open_[taken] = False
    able = np.flatnonzero(open_)
    if len(able) > 8000:
        able = np.sort(random.choice(able, 8000, replace=False))
    z = np.asarray(z, dtype=np.float32)
    weight = np.ones(len(stood)) if worth is None else np.asarray(worth, dtype=np.float64)[stood]
    weight = (weight / max(weight.sum(), 1e-12)).astype(np.float32)
    like = np.exp(-distances(z[able], z[stood]) / np.float32(reach**2))
    best = np.zeros(len(stood), dtype=np.float32)
    for i in range(0, len(taken), _BLOCK):
        part = np.exp(-distances(z[taken[i : i + _BLOCK]], z[stood]) / np.float32(reach**2))
        best = np.maximum(best, part.max(axis=0))
    chosen, gains = [], []
    penalty = np.zeros(len(able), dtype=np.float32)
    if shares is not None:
        for place in taken:
            penalty[_sharing(shares, able, place)] = 2.0
    for _ in range(min(count, len(able))):
        gain = np.maximum(like - best, 0) @ weight
        first = int((gain - penalty).argmax())
        if shares is not None:
            penalty[_sharing(shares, able, able[first])] = 2.0
        penalty[first] = np.inf
        chosen.append(able[first])
        gains.append(float(gain[first]))
        best = np.maximum(best, like[first])
    return np.array(chosen, dtype=np.int64), np.array(gains)


def _sharing(shares: Array, able: Array, place: int) -> Array:
    """Positions in `able` of windows that share samples with the one at `place`."""
    near = shares[able] - shares[place]
    return np.flatnonzero((near[:, 0] == 0) & (np.abs(near[:, 1]) < 1))


def k_centre(z: Array, taken: Array, count: int) -> Array:
    """The windows farthest from all that are chosen, one after the other (Sener, Savarese 2018).

    >>> k_centre(np.array([[0.0], [0.1], [5.0], [9.0]]), np.array([0]), 2).tolist()
    [3, 2]
    """
    z = np.asarray(z, dtype=np.float32)
    near = np.full(len(z), np.inf, dtype=np.float32)
    if not len(taken):
        near = distances(z, z.mean(axis=0)[None])[:, 0]
    for i in range(0, len(taken), _BLOCK):
        near = np.minimum(near, distances(z, z[taken[i : i + _BLOCK]]).min(axis=1))
    near[taken] = -1
    chosen: list[int] = []
    for _ in range(min(count, len(z) - len(taken))):
        first = int(near.argmax())
        chosen.append(first)
        away = distances(z, z[first][None])[:, 0]
        near = np.minimum(near, away) if len(chosen) + len(taken) > 1 else away
        near[[*chosen, *taken]] = -1
    return np.array(chosen, dtype=np.int64)


def typical(z: Array, taken: Array, count: int, *, seed: int = 0, most: int = 500) -> Array:
    """The most typical windows of the largest clusters without a label (TypiClust).

    Typical is a window near its neighbours: the inverse mean distance to 20 of its cluster.

    >>> z = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]])
    >>> sorted(typical(z, np.array([], dtype=int), 2).tolist())
    [1, 4]
    """
    z = np.asarray(z, dtype=np.float32)
    n_cells = int(min(len(taken) + count, most, len(z)))
    cell = cells(z, n_cells, seed)[1]
    sizes = np.bincount(cell, minlength=n_cells)
    held = np.bincount(cell[taken], minlength=n_cells) if len(taken) else np.zeros(n_cells, int)
    left = np.ones(len(z), dtype=bool)
    left[taken] = False
    chosen: list[int] = []
    for _ in range(min(count, int(left.sum()))):
        able = np.bincount(cell[left], minlength=n_cells) > 0
        own = min(np.flatnonzero(able), key=lambda each: (held[each], -sizes[each]))
        members = np.flatnonzero(cell == own)
        some = members[:_SAMPLE]
        rank = min(NEAREST, len(some) - 1)
        squares = np.sqrt(distances(z[members], z[some]))
        near = np.partition(squares, rank, axis=1)[:, : rank + 1].sum(axis=1)
        near[~left[members]] = np.inf
        first = int(members[near.argmin()])
        chosen.append(first)
        left[first] = False
        held[own] += 1
    return np.array(chosen, dtype=np.int64)


def covering(z: Array, taken: Array, count: int, *, reach: float | None = None) -> Array:
    """Windows with most others within `reach` that none has yet (ProbCover).

    >>> z = np.array([[0.0], [0.1], [0.2], [9.0], [9.1]])
    >>> covering(z, np.array([], dtype=int), 2, reach=0.15).tolist()
    [1, 3]
    """
    z = np.asarray(z, dtype=np.float32)
    reach = reach or radius(z)
    near = distances(z, z) <= reach**2
    bare = ~near[taken].any(axis=0) if len(taken) else np.ones(len(z), dtype=bool)
    left = np.ones(len(z), dtype=bool)
    left[taken] = False
    chosen: list[int] = []
    for _ in range(min(count, int(left.sum()))):
        gain = np.where(left, (near & bare).sum(axis=1), -1)
        first = int(gain.argmax())
        chosen.append(first)
        left[first] = False
        bare &= ~near[first]
    return np.array(chosen, dtype=np.int64)


# -- doubt: what models say


def margin(probabilities: Array) -> Array:
    """How open the class is between the first two, 0 to 1 (n_windows,).

    >>> margin(np.array([[0.9, 0.1, 0.0], [0.5, 0.5, 0.0]])).round(2).tolist()
    [0.2, 1.0]
    """
    if probabilities.shape[1] < 2:
        return np.zeros(len(probabilities))
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(1 - (two[:, 1] - two[:, 0]))


def disagreement(tables: Array) -> Array:
    """What the committee's members would tell apart, in nats: entropy of the mean less the mean.

    Args:
        tables: probabilities (n_members, n_windows, n_classes).

    >>> one, other = [[0.9, 0.1], [0.5, 0.5]], [[0.1, 0.9], [0.5, 0.5]]
    >>> disagreement(np.array([one, other])).round(2).tolist()
    [0.37, 0.0]
    """
    mean = tables.mean(axis=0)
    return np.asarray(np.maximum(_entropy(mean) - _entropy(tables).mean(axis=0), 0))


def _entropy(probabilities: Array) -> Array:
    found: Array = -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=-1)
    return found


def tells_errors(doubt: Array, wrong: Array) -> float | None:
    """How often a window that was got wrong was doubted more than one that was got right.

    Args:
        doubt: of windows left out (n_windows,); wrong: bool (n_windows,).

    Returns: 0 to 1, the area under the ROC curve; None with fewer than three of either.

    >>> tells_errors(np.arange(8.0), np.arange(8) >= 4)
    1.0
    """
    n_wrong, n_right = int(wrong.sum()), int((~wrong).sum())
    if min(n_wrong, n_right) < 3:
        return None
    ranks = rankdata(doubt)[wrong].sum()
    return float((ranks - n_wrong * (n_wrong + 1) / 2) / (n_wrong * n_right))
