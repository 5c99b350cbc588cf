"""Quantiles of forecasts, step by step, from how the training windows were missed.

Each miss is divided by how much its window varies, so an interval widens in stormy weeks and
narrows in calm ones, on the device too. The quantiles of these ratios are constants of the model.

Source: Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2005; Lei et al.,
Distribution-free predictive inference for regression, JASA 2018 (locally weighted); Stankeviciute,
Alaa, van der Schaar, Conformal time-series forecasting, NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgegraft.adapt.forecasts.lagged import Lagged
from edgegraft_edge.estimate import POINT
from edgegraft_edge.signal import Array

STILL = 0.03
"""Share of a channel's deviation that a window's is taken for at least."""
APART = 20
"""Horizons of time from which on every channel has quantiles of its own."""
SMOOTH = 8
"""Neighbouring steps share: a moving average over this part of the horizon."""
_MOST = 3000


def spread(x: Array, variance: Array) -> Array:
    """Deviation within each window, with a floor, (n_windows, n_targets)."""
    own = np.asarray(x, dtype=np.float64).var(axis=2)
    return np.asarray(np.sqrt(own + STILL**2 * variance))


def offsets(
    series: Lagged, said: Array, levels: Sequence[float], n_stretches: float, widen: Array | float
) -> Array:
    """Quantiles of misses over spread, (n_targets, n_steps, n_levels); 0 at level 0.5.

    Args:
        series: windows that were forecast.
        said: (n_windows, n_targets, n_steps).
        n_stretches: time that they cover, in horizons: with little of it channels share.
        widen: factor for all of them.
    """
    n_targets, _, n_steps = series.shape
    at = np.arange(0, len(series), max(1, len(series) // _MOST))
    with np.errstate(invalid="ignore"):
        ratio = (series.y[at] - said[at]) / spread(series.x[at], series.variance)[..., None].clip(
            1e-12
        )
    ratio[~series.used[at]] = np.nan
    ratio[:, series.variance <= 1e-12] = np.nan
    out = np.zeros((n_targets, n_steps, len(levels)))
    shared = n_stretches < APART
    for place, level in enumerate(levels):
        if level == POINT:
            continue
        if shared:
            together = ratio.transpose(0, 1, 2).reshape(-1, n_steps)
            out[:, :, place] = _quantiles(together, level)
        else:
            for channel in range(n_targets):
                out[channel, :, place] = _quantiles(ratio[:, channel], level)
    out = _smoothed(out, max(1, n_steps // SMOOTH)) * widen
    out[series.variance <= 1e-12] = 0.0  # a constant channel has no width
    return _ordered(out, levels)


def widening(held: Lagged, said: Array, found: Array, levels: Sequence[float]) -> float:
    """The factor by which intervals must grow to cover what was held out; never below 1.

    What was held out is the latest, and like what comes next; where it was calm, that is no
    reason to promise more than the whole of the training time does.
    """
    if len(levels) < 2:
        return 1.0
    wide = spread(held.x, held.variance)[..., None]
    miss = held.y - said
    known = np.isfinite(miss) & (wide > 1e-9)
    share = levels[-1] - levels[0]
    low, high = found[..., 0] * wide, found[..., -1] * wide
    with np.errstate(invalid="ignore", divide="ignore"):
        needed = np.where(miss < 0, miss / low, miss / high)
    needed = needed[known & np.isfinite(needed)]
    if not len(needed):
        return 1.0
    return float(max(1.0, np.quantile(needed, share)))


def _quantiles(ratio: Array, level: float) -> Array:
    """Of each column; columns of which nothing is known get those of all together."""
    known = np.isfinite(ratio)
    if not known.any():
        return np.zeros(ratio.shape[1])
    if known.all():
        return np.asarray(np.quantile(ratio, level, axis=0))
    usual = float(np.quantile(ratio[known], level))
    return np.array(
        [
            np.quantile(column[seen], level) if seen.any() else usual
            for column, seen in zip(ratio.T, known.T, strict=True)
        ]
    )


def _smoothed(values: Array, length: int) -> Array:
    """Moving average along the steps, shorter at the ends."""
    n_steps = values.shape[1]
    sums = np.concatenate([np.zeros_like(values[:, :1]), np.cumsum(values, axis=1)], axis=1)
    at = np.arange(n_steps)
    half = np.minimum(length // 2, np.minimum(at, n_steps - 1 - at))
    low, high = at - half, at + half + 1
    return np.asarray((sums[:, high] - sums[:, low]) / (high - low)[None, :, None])


def _ordered(out: Array, levels: Sequence[float]) -> Array:
    """Lower levels at or below the point, higher ones at or above, none crossing."""
    middle = list(levels).index(POINT)
    out[..., :middle] = np.minimum(out[..., :middle], 0.0)
    out[..., middle + 1 :] = np.maximum(out[..., middle + 1 :], 0.0)
    return np.asarray(np.sort(out, axis=-1))
