"""What channels that are known ahead add to the filters: regression with correlated errors.

The value of a known channel at a step counts as far as its own past did not let one expect it:
the target's filter is applied to the known channel too, and what is left explains the target in
proportion. So a warm day that was forecast moves the load, and the usual summer does not count
twice.

Source: Box, Jenkins, Reinsel, Time Series Analysis, 1994, chapter 11 (transfer functions).
"""

from __future__ import annotations

import numpy as np

from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Array

FIRM = 1e-3
"""Regularisation of the slopes, relative."""


def surprise(filters: Array, n_steps: int) -> Array:
    """What turns a window of a known channel into what its past does not explain.

    A known channel stands `n_steps` further in its window: the last `n_steps` values are those of
    the steps, the one before them is of now.

    Args:
        filters: (n_targets, n_timepoints, n_steps).

    Returns: (n_targets, n_timepoints, n_steps), for windows less their value of now.

    Errors: `DataError` ``context-short`` where a context is no longer than the horizon.
    """
    n_timepoints = filters.shape[1]
    past = n_timepoints - n_steps
    if past < 2:
        raise DataError.of(
            "context-short",
            f"a context of {n_timepoints} samples for {n_steps} steps with channels known ahead",
            "their past would not be in the window",
            f"a context of more than {n_steps + 1} samples",
        )
    out = np.zeros(filters.shape)
    out[:, :past] = -filters[:, n_steps:]
    out[:, past + np.arange(n_steps), np.arange(n_steps)] += 1.0
    return out


def now(n_timepoints: int, n_steps: int) -> int:
    """Where the value of now stands in the window of a known channel."""
    return n_timepoints - n_steps - 1


def surprises(filters: Array, known: Array) -> Array:
    """(n_windows, n_known, n_targets, n_steps) of windows (n_windows, n_known, n_timepoints)."""
    n_steps = filters.shape[2]
    left = surprise(filters, n_steps)
    at = now(filters.shape[1], n_steps)
    seen = known - known[:, :, at : at + 1]
    return np.asarray(np.einsum("nkl,tlh->nkth", seen, left, optimize=True))


def slopes(given: Array, misses: Array) -> Array:
    """How much of each surprise each target follows, (n_targets, n_known), by least squares.

    Args:
        given: (n_windows, n_known, n_targets, n_steps).
        misses: (n_windows, n_targets, n_steps), what the filters alone leave; NaN where unknown.
    """
    n_known, n_targets = given.shape[1:3]
    out = np.zeros((n_targets, n_known))
    for target in range(n_targets):
        miss = misses[:, target].ravel()
        rows = given[:, :, target].transpose(0, 2, 1).reshape(-1, n_known)
        good = np.isfinite(miss) & np.isfinite(rows).all(axis=1)
        gram = rows[good].T @ rows[good]
        size = np.trace(gram) / n_known
        if size > 0:
            firm = FIRM * size * np.eye(n_known)
            out[target] = np.linalg.solve(gram + firm, rows[good].T @ miss[good])
    return out
