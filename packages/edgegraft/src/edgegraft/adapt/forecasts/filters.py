"""Filters as one fits them: naive ones, ridge, and ridge pulled to a filter known before."""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from edgegraft.adapt.forecasts.lagged import Moments
from edgegraft_edge.signal import Array

STRENGTHS: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Regularisation tried, relative to the mean eigenvalue of the gram matrix."""


def last_value(n_timepoints: int, n_steps: int) -> Array:
    """The filter that says what was last, (n_timepoints, n_steps)."""
    return np.zeros((n_timepoints, n_steps))


def drift(n_timepoints: int, n_steps: int) -> Array:
    """The filter that goes on along the line from the first value to the last.

    >>> drift(3, 2).tolist()
    [[-0.5, -1.0], [0.0, 0.0], [0.0, 0.0]]
    """
    out = np.zeros((n_timepoints, n_steps))
    out[0] = -np.arange(1, n_steps + 1) / (n_timepoints - 1)
    return out


def seasonal_naive(n_timepoints: int, n_steps: int, season: int) -> Array:
    """The filter that says what was a season ago; the last value where a season does not fit.

    >>> seasonal_naive(4, 3, 2).argmax(axis=0).tolist()
    [2, 0, 2]
    """
    out = np.zeros((n_timepoints, n_steps))
    if season > n_timepoints:
        return out
    at = n_timepoints - season + np.arange(n_steps) % season
    out[at, np.arange(n_steps)] = 1.0
    out[-1] = 0.0  # relative to the last value, which counts as 0
    return out


def ridge(given: Moments, strength: float, toward: Array | None = None) -> Array:
    """Ridge filters of each kind, (n_kinds, n_timepoints, n_steps).

    Args:
        strength: relative to the mean eigenvalue of the gram matrix of that kind.
        toward: filters that coefficients are pulled to, (n_kinds or 1, ...); 0 if not given.
    """
    kinds = range(len(given.rows))
    before = np.zeros_like(given.cross) if toward is None else toward
    found = []
    for kind in kinds:
        gram, cross = given.gram[kind], given.cross[kind]
        prior = before[min(kind, len(before) - 1)]
        size = float(np.trace(gram)) / len(gram)
        if size <= 0:
            found.append(np.asarray(prior))
            continue
        found.append(_solved(gram, cross, prior, strength * size))
    return np.asarray(found)


def _solved(gram: Array, cross: Array, prior: Array, weight: float) -> Array:
    """Solve for one kind; where rows are so few that rounding wins, with more weight."""
    size = float(np.trace(gram)) / len(gram)
    while True:
        try:
            factor = cho_factor(gram + weight * np.eye(len(gram)), lower=True)
        except LinAlgError:  # moments of what is held out were taken off: small and not exact
            weight = max(10 * weight, 1e-9 * size)
            continue
        return np.asarray(cho_solve(factor, cross + weight * prior))
