"""Metrics of estimates: of the point, of quantiles, of intervals.

They take a table (n_windows, n_columns) whose columns are those of `Outputs`, and the truth
float (n_windows, n_targets), NaN where it is unknown: what is unknown counts nowhere. Each is a
function of sums over windows, so that a bootstrap needs the windows only once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from edgegraft.tasks.metrics import Tallied
from edgegraft_edge.estimate import POINT, Outputs
from edgegraft_edge.signal import Array

EARLY, LATE = 13.0, 10.0
"""Of the score of the 2008 challenge: how fast it grows with an early and with a late estimate."""


def estimate_metrics(
    outputs: Outputs, scale: Array | None = None, *, life: bool = False
) -> Mapping[str, Tallied]:
    """The metrics of these outputs, by name.

    Args:
        scale: float (n_quantities,), mean absolute error of the seasonal naive forecast within
            the training data; with it there is ``mase`` (Hyndman and Koehler 2006).
        life: whether remaining life is estimated; there is then ``phm_score``, the mean
            asymmetric score of the 2008 challenge (Saxena et al. 2008): late estimates cost more.

    ``mae``, ``mse``, ``rmse`` and ``r2`` are of the point estimate; ``quantile_loss`` is twice the
    pinball loss, averaged over the levels; ``coverage`` and ``width`` are of the outermost
    interval.

    >>> metrics = estimate_metrics(Outputs(("life",)))
    >>> table, truth = np.array([[8.0, 10, 12], [18, 20, 22]]), np.array([[11.4], [25.0]])
    >>> [round(metrics[name](table, truth), 2) for name in ("mae", "rmse", "coverage", "width")]
    [3.2, 3.67, 0.5, 4.0]
    """
    point = outputs.levels.index(POINT)
    sizes = outputs.n_targets, len(outputs.levels)

    def parts(table: Array, truth: Array) -> tuple[Array, Array, Array]:
        """Values (n, n_targets, n_levels), truth with zeros for gaps, and what is known."""
        values = np.asarray(table, dtype=np.float64).reshape(len(table), *sizes)
        truth = np.asarray(truth, dtype=np.float64).reshape(len(table), sizes[0])
        known = np.isfinite(truth)
        return values, np.where(known, truth, 0.0), known

    def averaged(
        name: str,
        better: Literal["higher", "lower"],
        cost: Callable[[Array, Array], Array],
        finish: Callable[[Array], Array] = lambda mean: mean,
    ) -> Tallied:
        def tally(table: Array, truth: Array) -> Array:
            values, filled, known = parts(table, truth)
            counted = np.where(known, cost(values, filled), 0.0)
            return np.stack([counted.sum(axis=1), known.sum(axis=1)], axis=-1)

        return Tallied(name, better, tally, lambda sums: finish(_mean(sums)))

    def error(values: Array, truth: Array) -> Array:
        return np.asarray(values[..., point] - truth)

    def pinball(values: Array, truth: Array) -> Array:
        total = np.zeros(truth.shape)
        for place, level in enumerate(outputs.levels):
            gap = truth - values[..., place]
            total += np.maximum(level * gap, (level - 1) * gap)
        return 2 * total / len(outputs.levels)

    found = [
        averaged("mae", "lower", lambda values, truth: np.abs(error(values, truth))),
        averaged("mse", "lower", lambda values, truth: error(values, truth) ** 2),
        averaged("rmse", "lower", lambda values, truth: error(values, truth) ** 2, np.sqrt),
        _explained(parts, point),
        averaged("quantile_loss", "lower", pinball),
    ]
    if len(outputs.levels) > 1:
        found += [
            averaged("coverage", "higher", _within),
            averaged("width", "lower", lambda values, truth: values[..., -1] - values[..., 0]),
        ]
    if scale is not None:
        unit = np.repeat(np.asarray(scale, dtype=np.float64), len(outputs.steps))
        found.append(averaged("mase", "lower", lambda v, truth: np.abs(error(v, truth)) / unit))
    if life:
        found.append(averaged("phm_score", "lower", lambda v, truth: _late(error(v, truth))))
    return {metric.name: metric for metric in found}


def _within(values: Array, truth: Array) -> Array:
    return np.asarray((values[..., 0] <= truth) & (truth <= values[..., -1]))


def _late(error: Array) -> Array:
    """Cost of an error (estimate less truth): exponential, steeper where it is late."""
    error = np.clip(error, -1e3, 1e3)
    return np.asarray(np.expm1(np.where(error < 0, -error / EARLY, error / LATE)))


def _explained(parts: Callable[[Array, Array], tuple[Array, Array, Array]], point: int) -> Tallied:
    """Share of the variance that the point explains, over all targets together."""

    def tally(table: Array, truth: Array) -> Array:
        values, filled, known = parts(table, truth)
        miss = np.where(known, (values[..., point] - filled) ** 2, 0.0)
        terms = np.stack([miss, filled, filled**2, known.astype(float)], axis=-1)
        return np.asarray(terms)  # by target, whose means differ

    def finish(sums: Array) -> Array:
        count = np.maximum(sums[..., 3], 1)
        spread = (sums[..., 2] - sums[..., 1] ** 2 / count).sum(axis=-1)
        missed = sums[..., 0].sum(axis=-1)
        out = np.full(np.shape(spread), np.nan)
        return np.asarray(1 - np.divide(missed, spread, out=out, where=spread > 1e-12))

    return Tallied("r2", "higher", tally, finish)


def _mean(sums: Array) -> Array:
    out = np.full(sums.shape[:-1], np.nan)
    return np.asarray(np.divide(sums[..., 0], sums[..., 1], out=out, where=sums[..., 1] > 0))
