"""Scores to probabilities that mean what they say: one temperature, fitted on left-out windows.

Source: Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017.
"""

from __future__ import annotations

import numpy as np

from edgegraft_edge.signal import Array

_LEAST = 1e-12


def softmax(scores: Array) -> Array:
    """Rows to probabilities, along the last axis."""
    exp = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probabilities: Array = exp / exp.sum(axis=-1, keepdims=True)
    return probabilities


def log_loss(probabilities: Array, codes: Array, weights: Array | None = None) -> float:
    """Mean negative log probability of the true class, clipped at 1e-12."""
    likely = probabilities[np.arange(len(codes)), codes]
    return float(np.average(-np.log(np.maximum(likely, _LEAST)), weights=weights))


def best_temperature(
    scores: Array,
    codes: Array,
    temperatures: Array,
    *,
    weights: Array | None = None,
    caution: float = 0.0,
) -> tuple[float, float]:
    """What scores are to be divided by for the lowest log loss, and that loss.

    Args:
        scores: float64 (n_windows, n_classes), of windows that were not trained on.
        codes: int (n_windows,), their classes.
        temperatures: those to try (n_temperatures,).
        weights: importance of each window (n_windows,).
        caution: how many further windows speak for leaving the scores as they are.

    >>> unsure = np.array([[4.0, 0.0], [4.0, 0.0]])
    >>> best_temperature(unsure, np.array([0, 1]), np.array([1.0, 9.0]))[0]
    9.0
    """
    scores = scores - scores.max(axis=1, keepdims=True)
    exponents = scores[None] * (1 / temperatures)[:, None, None]
    likely = exponents[:, np.arange(len(codes)), codes]
    surprise = np.log(np.exp(exponents).sum(axis=2)) - likely
    losses = np.average(np.minimum(surprise, -np.log(_LEAST)), axis=1, weights=weights)
    penalty = caution / len(codes) * np.log(temperatures) ** 2
    best = int(np.argmin(losses + penalty))
    return float(temperatures[best]), float(losses[best])
