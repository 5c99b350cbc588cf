"""A closed-form head for a pretrained forecaster: what it gets wrong here, and what it says of it.

The forecast is an average of two: the network's with a linear correction of its errors on the
device's windows, and a linear forecaster of these windows. Both are fitted in closed form in the
window's own unit, and both are pulled to what made-up series teach (`series_prior`), the
correction to none, so that a few windows do little harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgegraft.adapt.forecasts.series_prior import SeriesPrior
from edgegraft.zoo.own_unit import SHARP
from edgegraft_edge.estimate import POINT
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array

LONGEST = 1024
"""Samples of a window that the linear forecaster sees; its moments grow with the square."""
CALM = 0.1
"""Share of a channel's variance that joins that of a window, where errors are made comparable."""
_TINY = 1e-12


@dataclass(frozen=True)
class Unit:
    """Windows in units of their own.

    Attributes:
        x: float64 (n_rows, n_seen), of mean 0 and deviation 1.
        level, scale: (n_rows, 1).
    """

    x: Array
    level: Array
    scale: Array

    @classmethod
    def of(cls, x: Array) -> Unit:
        """Of windows (n_rows, n_timepoints), their last `LONGEST` samples."""
        x = np.asarray(x[:, -LONGEST:], dtype=np.float64)
        level = x.mean(axis=1, keepdims=True)
        scale = np.sqrt(x.var(axis=1, keepdims=True) + (SHARP * level) ** 2 + _TINY)
        return cls((x - level) / scale, level, scale)


@dataclass(frozen=True)
class MixerHead:
    """What is added to the network's forecast.

    Attributes:
        share: of the network in the average; 1 is the network alone.
        weight: float64 (n_seen, n_steps), of the window in its unit; already weighed.

    The forecast is ``share * network + (1 - share) * level + (x - level) @ weight``.
    """

    share: float
    weight: Array

    def forecast(self, network: Array, unit: Unit) -> Array:
        """Of the network's forecasts (n_rows, n_steps) and the same windows."""
        bent = self.share * network + (1 - self.share) * unit.level
        return np.asarray(bent + (unit.x @ self.weight) * unit.scale)


def fit_head(
    prior: SeriesPrior,
    x: Array,
    y: Array,
    network: Array,
    weights: Array,
    *,
    worth: float,
    share: float,
) -> MixerHead:
    """The head of windows (n_rows, n_timepoints), what followed them, and the network's forecasts.

    Args:
        y, network: (n_rows, n_steps), known throughout.
        weights: (n_rows,), how much each row counts.
        worth: how many times as much as the windows the prior counts.
        share: of the network in the average.
    """
    unit = Unit.of(x)
    weights = (weights / max(float(weights.mean()), _TINY))[:, None]
    seen = unit.x * weights
    gram = seen.T @ unit.x
    n_rows = float(len(x))
    wrong = seen.T @ ((y - network) / unit.scale)
    none = SeriesPrior(prior.gram, np.zeros_like(wrong), prior.rows)
    correction = none.pulled(gram.copy(), wrong, n_rows, worth * n_rows)
    if share == 1.0:
        return MixerHead(1.0, correction)
    own = prior.pulled(gram, seen.T @ ((y - unit.level) / unit.scale), n_rows, worth * n_rows)
    return MixerHead(share, share * correction + (1 - share) * own)


@dataclass(frozen=True)
class Bands:
    """What is added to a point forecast for each level, in units of how much a window varies.

    Attributes:
        table: float64 (n_targets, n_steps, n_levels), rising with the level, 0 at 0.5.
        variance: float64 (n_targets,), of each channel; a share of it joins a window's.
    """

    table: Array
    variance: Array

    def spread(self, variance: Array) -> Array:
        """Unit of windows (n_windows, n_targets) of this variance."""
        return np.asarray(np.sqrt(variance + CALM * self.variance + _TINY))


def fit_bands(errors: Array, variance: Array, usual: Array, levels: Sequence[float]) -> Bands:
    """Bands from errors on windows held out.

    Quantiles of the errors' size at each step, with room for one more value, are the same on both
    sides: what is held out is too little to tell the sides apart.

    Args:
        errors: truth less forecast (n_windows, n_targets, n_steps), NaN where unknown.
        variance: of each window (n_windows, n_targets); usual: of each channel (n_targets,).

    >>> rng = np.random.default_rng(0)
    >>> ones = np.ones((500, 1))
    >>> bands = fit_bands(rng.normal(size=(500, 1, 3)), ones, np.zeros(1), (0.05, 0.5, 0.95))
    >>> bool(np.abs(bands.table[0, :, 2] - 1.64).max() < 0.25)
    True
    """
    bands = Bands(np.zeros(0), np.asarray(usual, dtype=np.float64))
    size = np.abs(errors) / bands.spread(variance)[..., None]
    table = np.zeros((*errors.shape[1:], len(levels)))
    known = np.isfinite(size).sum(axis=0)
    for place, level in enumerate(levels):
        coverage = np.minimum(2 * abs(level - POINT) * (1 + 1 / np.maximum(known, 1)), 1.0)
        for target, step in np.ndindex(*errors.shape[1:]):
            if level == POINT or not known[target, step]:
                continue
            reach = np.nanquantile(size[:, target, step], coverage[target, step])
            table[target, step, place] = np.copysign(reach, level - POINT)
    return Bands(table, bands.variance)


def forecast_program(
    network: Program,
    head: MixerHead | None,
    bands: Bands,
    *,
    n_timepoints: int,
    channels: Sequence[int],
) -> Program:
    """From raw windows to columns: the network, the head, and the bands.

    Args:
        network: from windows of the targets to (n_windows, n_targets, n_steps).
        channels: places of the targets among the channels of a window.
    """
    n_targets, n_steps, n_levels = bands.table.shape
    draft = Draft()
    value = draft.add("gather", "x", np.asarray(channels, dtype=np.int64), axis=1)
    said = draft.call(network, value)
    n_seen = min(n_timepoints, LONGEST)
    if n_seen < n_timepoints:
        value = draft.add("slice", value, axis=2, start=n_timepoints - n_seen, stop=n_timepoints)
    level = draft.add("mean", value, axes=[2])
    centred = draft.add("sub", value, level)
    power = draft.add("mean", draft.add("mul", centred, centred), axes=[2])
    point = said
    if head is not None:  # in units of the window, the scale cancels out
        point = draft.add("matmul", centred, head.weight)
        point = draft.add("add", point, draft.add("mul", said, np.float32(head.share)))
        point = draft.add("add", point, draft.add("mul", level, np.float32(1 - head.share)))
    usual = (CALM * bands.variance + _TINY)[:, None]
    spread = draft.add("sqrt", draft.add("add", power, usual))
    point = draft.add("reshape", point, shape=[n_targets, n_steps, 1])
    spread = draft.add("reshape", spread, shape=[n_targets, 1, 1])
    columns = draft.add("add", point, draft.add("mul", spread, bands.table))
    return draft.finish(draft.add("reshape", columns, shape=[n_targets * n_steps * n_levels]))
