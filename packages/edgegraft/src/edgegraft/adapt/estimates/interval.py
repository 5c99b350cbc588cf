"""Intervals around a point estimate, from errors at what was left out, as part of the program.

How far off an estimate may be depends on what is estimated: remaining life is known to a few
cycles near the end and hardly at all at the beginning. So the offsets of the levels are quantiles
of the errors among left-out rows whose estimate was alike (Mondrian), joined to lines between
such neighbourhoods; a whole unit counts as much as any other, however long it was watched.

Source: Vovk, Gammerman, Shafer, Algorithmic learning in a random world, 2005,
section 4.5; Papadopoulos et al., Normalized nonconformity measures for regression conformal
prediction, 2008.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgegraft_edge.estimate import POINT
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array

N_KNOTS = 8
LEAST_ROWS = 30
"""Rows a neighbourhood should have; with fewer, neighbourhoods are larger and fewer."""


@dataclass(frozen=True)
class Offsets:
    """What is added to a point estimate for each level.

    Attributes:
        levels: of quantiles, rising, among them 0.5.
        knots: float64 (n_knots,), rising point estimates.
        table: float64 (n_knots, n_levels), offsets there; linear between, flat outside.
    """

    levels: tuple[float, ...]
    knots: Array
    table: Array

    def at(self, point: Array) -> Array:
        """Offsets (n, n_levels) at point estimates (n,)."""
        found = [np.interp(point, self.knots, column) for column in self.table.T]
        return np.stack(found, axis=1)

    def program(self, low: float, high: float) -> Program:
        """Point estimates (n, 1) -> the columns (n, n_levels), all between low and high."""
        draft = Draft()
        lowest, highest = np.float32(low), np.float32(high)
        point = draft.add("minimum", draft.add("maximum", "x", lowest), highest)
        total = draft.add("add", point, self.table[0])
        if len(self.knots) > 1:
            slopes = np.diff(self.table, axis=0) / np.diff(self.knots)[:, None]
            turns = np.diff(slopes, axis=0, prepend=0.0, append=0.0)
            over = draft.add("relu", draft.add("sub", point, self.knots))
            total = draft.add("add", total, draft.add("matmul", over, turns))
        return draft.finish(draft.add("minimum", draft.add("maximum", total, lowest), highest))


def fit_offsets(
    point: Array,
    truth: Array,
    levels: Sequence[float],
    groups: Array | None = None,
    emphasised: Array | None = None,
) -> Offsets:
    """Offsets from left-out point estimates (n,) and the truth (n,).

    Args:
        groups: text or int (n,), the unit of each row; all rows of a unit together count as
            those of any other.
        emphasised: bool (n,), rows that together count as much as all others.

    Below 0.5 offsets are at most zero, above at least zero, and they rise with the level.

    >>> rng = np.random.default_rng(0)
    >>> point = rng.uniform(0, 100, 4000)
    >>> truth = point + rng.normal(size=4000) * (1 + point / 10)
    >>> found = fit_offsets(point, truth, (0.05, 0.5, 0.95)).at(np.array([5.0, 95.0]))
    >>> bool(found[1, 2] > 4 * found[0, 2] > 4)
    True
    """
    point, error = np.asarray(point, np.float64), np.asarray(truth - point, np.float64)
    weight, n_units = np.ones(len(point)), len(point)
    if groups is not None:
        _, place, count = np.unique(groups, return_inverse=True, return_counts=True)
        weight, n_units = 1.0 / count[place], len(count)
    if emphasised is not None and 0 < emphasised.sum() < len(point):
        weight[emphasised] *= weight[~emphasised].sum() / weight[emphasised].sum()
    n_knots = int(np.clip(len(point) // (2 * LEAST_ROWS), 1, N_KNOTS))
    knots = np.unique(np.quantile(point, (np.arange(n_knots) + 0.5) / n_knots))
    order = np.argsort(point, kind="stable")
    half = max(1, min(len(point), max(LEAST_ROWS, len(point) // n_knots)) // 2)
    table = np.zeros((len(knots), len(levels)))
    for row, knot in enumerate(knots):
        centre = int(np.searchsorted(point[order], knot))
        first = int(np.clip(centre - half, 0, max(0, len(point) - 2 * half)))
        near = order[first : first + 2 * half]
        table[row] = [_quantile(error[near], weight[near], level, n_units) for level in levels]
    below = np.array(levels) < POINT
    table = np.where(below, np.minimum(table, 0), np.maximum(table, 0))
    table[:, [level == POINT for level in levels]] = 0.0
    return Offsets(tuple(levels), knots, np.sort(table, axis=1))


def _quantile(values: Array, weight: Array, level: float, n_units: int) -> float:
    """Weighted quantile, with the room for one more unit that conformal intervals leave."""
    order = np.argsort(values)
    reached = np.cumsum(weight[order]) / weight.sum()
    away = abs(level - POINT) * (1 + 1 / n_units)
    wanted = np.clip(POINT + np.copysign(away, level - POINT), 0.0, 1.0)
    return float(np.interp(wanted, reached - reached[0] / 2, values[order]))
