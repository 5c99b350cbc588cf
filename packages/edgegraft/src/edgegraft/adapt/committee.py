"""What several views of the same windows say of their classes, and how far that is to be trusted.

Each view is an embedding with a ridge head on its labelled windows; one more member are labels
that spread along the neighbours of all views. Together they guess, and where they are torn a label
teaches most (query by committee: H. Seung, M. Opper, H. Sompolinsky, COLT 1992).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgegraft.adapt.neighbours import neighbours, spread_labels
from edgegraft.adapt.ridge import fit_ridge
from edgegraft_edge.signal import Array

N_REPEATS, N_COUNTS = 8, 6


@dataclass(frozen=True)
class Committee:
    """What the members say.

    Attributes:
        tables: float64 (n_members, n_windows, n_classes), probabilities.
        left_out: (n_labelled, n_classes), the mean of the heads for labelled windows left out
            with their whole group, where that is known; rows of NaN for the only window of a
            class. None where nothing can be left out.
    """

    tables: Array
    left_out: Array | None

    @property
    def mean(self) -> Array:
        """(n_windows, n_classes)."""
        found: Array = self.tables.mean(axis=0)
        return found


def convene(
    views: Sequence[Array],
    z: Array,
    labelled: Array,
    codes: Array,
    n_classes: int,
    *,
    groups: Array | None = None,
) -> Committee:
    """Fit a head for each view, and let the labels spread.

    Args:
        views: projected embeddings (n_windows, n_components) of all windows, pool and labelled.
        z: the same fused, whose neighbours labels spread along.
        labelled: positions of the labelled windows, int (n_labelled,).
        codes: their classes, int (n_labelled,); every class occurs, and there are two or more.
        groups: text (n_labelled,), where they are known.

    >>> rng = np.random.default_rng(0)
    >>> codes = np.repeat([0, 1], 20)
    >>> z = (rng.normal(size=(40, 3)) + 5 * codes[:, None]).astype(np.float32)
    >>> some = np.array([0, 1, 2, 20, 21, 22])
    >>> said = convene([z], z, some, codes[some], 2)
    >>> bool((said.mean.argmax(axis=1) == codes).mean() > 0.9)
    True
    """
    seeds = np.zeros((len(z), n_classes))
    seeds[labelled, codes] = 1
    tables = [spread_labels(neighbours(z), seeds)]
    for view in views:
        head = fit_ridge(view[labelled], codes, n_classes, groups=groups, one_scale=True).head
        tables.append(head.scores(view).astype(np.float64))
    return Committee(np.stack(tables), _left_out(views, labelled, codes, n_classes, groups))


def _left_out(
    views: Sequence[Array], labelled: Array, codes: Array, n_classes: int, groups: Array | None
) -> Array | None:
    """Of each labelled window whose class has another, what the heads say without it."""
    counts = np.bincount(codes, minlength=n_classes)
    kept = np.flatnonzero(counts[codes] > 1)
    present, own = np.unique(codes[kept], return_inverse=True)
    if len(present) < 2:
        return None
    of = None if groups is None else groups[kept]
    found = np.zeros((len(codes), n_classes))
    for view in views:
        said = fit_ridge(
            view[labelled[kept]], own, len(present), groups=of, one_scale=True
        ).left_out
        if said is None:
            return None
        found[np.ix_(kept, present)] += said / len(views)
    found[np.setdiff1d(np.arange(len(codes)), kept)] = np.nan
    return found


def curve(
    z: Array, codes: Array, n_classes: int, *, groups: Array | None = None, seed: int = 0
) -> tuple[list[int], Array]:
    """Accuracy of a ridge head by how many labelled windows it saw, on others left out.

    A quarter of the windows (whole groups, where these are known) is left out, and growing
    numbers of the rest are drawn, class after class; eight times over.

    Returns: the numbers, and scores (n_repeats, n_counts); none where a class has under four
    windows, or so few can be drawn that a curve would span little.

    >>> rng = np.random.default_rng(0)
    >>> codes = np.arange(60) % 2
    >>> counts, scores = curve(rng.normal(size=(60, 3)) + codes[:, None], codes, 2)
    >>> counts, scores.shape
    ([4, 6, 11, 17, 28, 45], (8, 6))
    """
    if np.bincount(codes, minlength=n_classes).min() < 4:
        return [], np.zeros((0, 0))
    random = np.random.default_rng(seed)
    unit = np.arange(len(codes)).astype(str) if groups is None else groups.astype(str)
    names = np.unique(unit)
    if len(names) < 4:
        unit, names = np.arange(len(codes)).astype(str), np.arange(len(codes)).astype(str)
    parts = []
    for _ in range(6 * N_REPEATS):
        out = np.isin(unit, random.permutation(names)[: max(1, round(len(names) / 4))])
        rest = np.flatnonzero(~out)
        if out.any() and len(np.unique(codes[rest])) == n_classes:
            parts.append((_in_turn(rest, codes, random), np.flatnonzero(out)))
        if len(parts) == N_REPEATS:
            break
    if len(parts) < N_REPEATS:
        return [], np.zeros((0, 0))
    most = min(len(rest) for rest, _ in parts)
    if most < 5 * n_classes:
        return [], np.zeros((0, 0))
    counts = sorted(set(np.geomspace(2 * n_classes, most, N_COUNTS).round().astype(int).tolist()))
    scores = np.zeros((N_REPEATS, len(counts)))
    for row, (rest, tested) in enumerate(parts):
        for column, count in enumerate(counts):
            some = rest[:count]
            head = fit_ridge(z[some], codes[some], n_classes, one_scale=True).head
            scores[row, column] = (head.scores(z[tested]).argmax(axis=1) == codes[tested]).mean()
    return counts, scores


def _in_turn(rest: Array, codes: Array, random: np.random.Generator) -> Array:
    """Positions in an order that takes one of each class in turn."""
    order = random.permutation(rest)
    rank = np.zeros(len(order))
    for code in np.unique(codes[order]):
        own = np.flatnonzero(codes[order] == code)
        rank[own] = np.arange(len(own))
    return np.asarray(order[np.argsort(rank, kind="stable")])
