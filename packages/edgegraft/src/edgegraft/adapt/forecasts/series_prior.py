"""What a linear forecaster may believe before it has seen the device: moments of made-up series.

A forecaster that is linear in the window, brought to zero mean and unit deviation by itself, is
settled by two moments: of the window with itself, and with what comes after. Those of made-up
series of the same season (`edgegraft.data.synthetic_series`) stand for windows that were never
recorded. Alone they give a forecaster that needs no data; added to those of a few recorded
windows they are a conjugate prior, worth so many windows as one says.

Series drawn from kernels as pretraining: Ansari et al., Chronos, TMLR 2024; Dooley et al.,
ForecastPFN, NeurIPS 2023. Here the pretraining is in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from edgegraft.data.synthetic_series import SeriesKinds, draw_series
from edgegraft_edge.errors import OptionError
from edgegraft_edge.signal import Array

FLOOR = 0.05
"""Windows of a made-up series are divided by no less than this; the series has deviation 1."""
_AT_ONCE = 1000
_RIDGE = 1e-3  # of the mean variance, 1


@dataclass(frozen=True, eq=False)
class SeriesPrior:
    """Mean moments of made-up windows of unit deviation.

    Attributes:
        gram: float64 (n_context, n_context), of the window with itself.
        cross: float64 (n_context, horizon), with what comes after.
        rows: made-up series that they were drawn from.
    """

    gram: Array = field(repr=False)
    cross: Array = field(repr=False)
    rows: int

    @property
    def horizon(self) -> int:
        return int(self.cross.shape[1])

    def filter(self) -> Array:
        """The linear forecaster of the prior alone, (n_context, horizon)."""
        return self.pulled(np.zeros_like(self.gram), np.zeros_like(self.cross), 0.0, 1.0)

    def pulled(self, gram: Array, cross: Array, windows: float, worth: float) -> Array:
        """The forecaster of recorded windows, pulled to the prior.

        Args:
            gram, cross: sums of the same moments over the recorded windows; `cross` may have
                fewer steps than the prior, its first.
            windows: how many there are.
            worth: recorded windows that the prior counts for.

        Returns: float64 (n_context, n_steps).
        """
        cross = cross + worth * self.cross[:, : cross.shape[1]]
        gram = gram + worth * self.gram
        gram[np.diag_indices_from(gram)] += _RIDGE * (worth + windows)
        found: Array = np.linalg.solve(gram, cross)
        return found


@lru_cache(maxsize=8)
def series_prior(
    context: int, horizon: int, season: int = 0, *, rows: int = 16_000, seed: int = 0
) -> SeriesPrior:
    """The prior for windows of `context` samples and `horizon` steps ahead.

    Args:
        season: samples in which the series comes back, e.g. 24 for days of hours; 0 where
            nothing is known, which draws series of many seasons.
        rows: series to draw; each is read forwards and backwards.

    Errors: `OptionError` ``option-range``.

    >>> prior = series_prior(48, 12, 12, rows=500)
    >>> day = np.sin(2 * np.pi * np.arange(60) / 12)
    >>> ahead = (day[:48] / day[:48].std()) @ prior.filter() * day[:48].std()
    >>> bool(np.abs(ahead - day[48:]).mean() < 0.5 * np.abs(day[48:]).mean())
    True
    """
    if min(context, horizon, rows) < 1 or season < 0 or season == 1:
        raise OptionError.of(
            "option-range",
            f"context={context}, horizon={horizon}, season={season}, rows={rows}",
            "all are whole numbers above 0; a season has two samples or more, or is not known",
            "season=0",
        )
    kinds = SeriesKinds((season,), (1.0,), no_season=0.05) if season else SeriesKinds()
    random = np.random.default_rng(seed)
    gram, cross = np.zeros((context, context)), np.zeros((context, horizon))
    for start in range(0, rows, _AT_ONCE):
        made = draw_series(min(_AT_ONCE, rows - start), context + horizon, random, kinds).values
        for values in (made, made[:, ::-1]):
            x, y = unit_windows(values[:, :context], values[:, context:])
            gram += x.T @ x
            cross += x.T @ y
    return SeriesPrior(gram / (2 * rows), cross / (2 * rows), rows)


def unit_windows(x: Array, y: Array) -> tuple[Array, Array]:
    """Windows (n_windows, n_context) and what comes after, by mean and deviation of the windows."""
    level = x.mean(axis=1, keepdims=True)
    scale = np.maximum(x.std(axis=1, keepdims=True), FLOOR)
    return (x - level) / scale, (y - level) / scale
