"""Fourier transforms of long windows in a program, in two short stages of matrix products.

A transform of N = n_rows * n_columns points is one of n_rows points for each column, a turn of
phases, and one of n_columns points for each row (Cooley and Tukey, 1965). Of 24,000 points that
takes matrices of 154 and 155 where one alone would take 2 GB, and a device needs no FFT.

With sample n = n_columns * r + s, bin k = q + n_rows * p, a *plane* holds its bins as (q, p).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np

from edgegraft_edge.program import Draft
from edgegraft_edge.signal import Array

Complex = tuple[str, str]
"""Names of real and imaginary part in a program."""


@dataclass(frozen=True)
class Grid:
    """How a window is folded: of `n_points` samples at most n_rows - 1 and two are left out.

    >>> Grid.of(24000).n_points
    23870
    """

    n_rows: int
    n_columns: int

    @classmethod
    def of(cls, n_timepoints: int) -> Grid:
        n_rows = max(1, isqrt(n_timepoints))
        return cls(n_rows, n_timepoints // n_rows)

    @property
    def n_points(self) -> int:
        return self.n_rows * self.n_columns

    @property
    def n_half(self) -> int:
        """Columns of a plane that hold the bins below half the rate."""
        return max(1, self.n_columns // 2)

    def columns(self, n_bins: int) -> int:
        """Columns of a plane that hold the lowest bins."""
        return min(self.n_half, -(-n_bins // self.n_rows))


def plane(draft: Draft, value: str, grid: Grid, n_series: int, n_columns: int) -> Complex:
    """From real (n_windows, n_series, n_points) to a plane (n_windows, n_series, q, p)."""
    rows, columns = grid.n_rows, grid.n_columns
    folded = draft.add("reshape", value, shape=[n_series, rows, columns])
    folded = draft.add("transpose", folded, axes=[0, 1, 3, 2])
    turn = _turns(rows, rows, rows)
    both = draft.add("matmul", folded, np.concatenate([turn.real, turn.imag], axis=1, dtype="f4"))
    first = (_part(draft, both, 3, 0, rows), _part(draft, both, 3, rows, 2 * rows))
    turned = _turned(draft, first, _turns(columns, rows, grid.n_points))
    upright = [draft.add("transpose", part, axes=[0, 1, 3, 2]) for part in turned]
    return _through(draft, (upright[0], upright[1]), _turns(columns, n_columns, columns))


def bins(draft: Draft, found: Complex, grid: Grid, n_series: int, n_columns: int) -> Complex:
    """The bins of a plane in their order, (n_windows, n_series, n_rows * n_columns)."""
    upright = (draft.add("transpose", part, axes=[0, 1, 3, 2]) for part in found)
    real, imaginary = (
        draft.add("reshape", part, shape=[n_series, grid.n_rows * n_columns]) for part in upright
    )
    return real, imaginary


def band(draft: Draft, found: Complex, grid: Grid, n_series: int, p: tuple[int, int]) -> Complex:
    """Columns `p` of a plane as a signal (n_windows, n_series, n_points), times `grid.n_points`.

    The band is moved down to begin at zero and has no negative frequencies, which leaves its
    envelope as it is; it comes in the samples of `band_grid`, enough for the envelope squared.
    """
    small = band_grid(grid, p)
    rows, columns = small.n_rows, small.n_columns
    kept = (_part(draft, found[0], 3, *p), _part(draft, found[1], 3, *p))
    first = _through(draft, kept, np.conj(_turns(p[1] - p[0], columns, columns)))  # (q, s)
    turned = _turned(draft, first, np.conj(_turns(rows, columns, small.n_points)))
    upright = [draft.add("transpose", part, axes=[0, 1, 3, 2]) for part in turned]  # (s, q)
    second = _through(draft, (upright[0], upright[1]), np.conj(_turns(rows, rows, rows)))  # (s, r)
    signal = [draft.add("transpose", part, axes=[0, 1, 3, 2]) for part in second]
    real, imaginary = (
        draft.add("reshape", part, shape=[n_series, small.n_points]) for part in signal
    )
    return real, imaginary


def band_grid(grid: Grid, p: tuple[int, int]) -> Grid:
    """How the samples of a band are folded: bins lie where they lie in the whole."""
    return Grid(grid.n_rows, 2 * (p[1] - p[0]))


def power(draft: Draft, found: Complex) -> str:
    squares = [draft.add("mul", part, part) for part in found]
    return draft.add("add", *squares)


def _turns(n_from: int, n_to: int, period: int) -> Array:
    product = np.outer(np.arange(n_from), np.arange(n_to)) % period
    return np.exp(-2j * np.pi * product / period)


def _through(draft: Draft, found: Complex, matrix: Array) -> Complex:
    """Times a complex matrix along the last axis, as one real product."""
    n = matrix.shape[1]
    table = np.block([[matrix.real, matrix.imag], [-matrix.imag, matrix.real]]).astype(np.float32)
    both = draft.add("matmul", draft.add("concat", *found, axis=3), table)
    return _part(draft, both, 3, 0, n), _part(draft, both, 3, n, 2 * n)


def _turned(draft: Draft, found: Complex, turns: Array) -> Complex:
    real, imaginary = turns.real.astype(np.float32), turns.imag.astype(np.float32)
    return (
        draft.add("sub", draft.add("mul", found[0], real), draft.add("mul", found[1], imaginary)),
        draft.add("add", draft.add("mul", found[0], imaginary), draft.add("mul", found[1], real)),
    )


def _part(draft: Draft, value: str, axis: int, start: int, stop: int) -> str:
    return draft.add("slice", value, axis=axis, start=start, stop=stop)
