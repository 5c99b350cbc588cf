"""Weights of forecasts that are averaged, from their errors on windows held out."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from edgegraft_edge.signal import Array

EVIDENCE = 2.0
"""How hard weights are pulled to where they start, for one held-out stretch of a horizon."""


def best_weights(errors: Array, start: Array, n_stretches: float) -> Array:
    """Weights (n_members,), none negative, of sum 1, of the average with the least squared error.

    Args:
        errors: (n_members, n_values) of the same forecasts.
        start: weights (n_members,) that the found ones are pulled to.
        n_stretches: stretches of time, each as long as a horizon, that the errors are from;
            neighbouring windows err alike and say no more than one of them.

    >>> errors = np.array([[1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, -1.0, 1.0], [3.0, 3.0, 3.0, 3.0]])
    >>> best_weights(errors, np.ones(3) / 3, 1e9).round(3).tolist()
    [0.5, 0.5, 0.0]
    """
    errors = np.asarray(errors, dtype=np.float64)
    start = np.asarray(start) / np.sum(start)
    n_members = len(errors)
    products = errors @ errors.T / max(1, errors.shape[1])
    products /= max(float(np.trace(products)) / n_members, 1e-12)
    values, vectors = np.linalg.eigh(products)
    rows = (vectors * np.sqrt(np.maximum(values, 0))).T
    pull = np.sqrt(EVIDENCE / max(n_stretches, 1e-3))
    heavy = 1e3  # holds the sum at 1
    left = np.vstack([rows, pull * np.eye(n_members), heavy * np.ones((1, n_members))])
    right = np.concatenate([np.zeros(n_members), pull * start, [heavy]])
    weights, _ = nnls(left, right)
    return np.asarray(weights / weights.sum())
