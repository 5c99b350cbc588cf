"""Filters from a covariance that a few numbers describe: forecasts from days of data.

A free filter has a coefficient for each lag and step, far more than days of data can settle. The
best linear forecast of a stationary series follows from its autocovariance alone; here that is
a sum of components, each with a size and a length: what fades within hours, what fades within
weeks, a day and a week whose shape fades slowly, noise. So a filter for any context and
horizon hangs on some fifteen numbers. They are chosen such that the forecasts of the training
windows are best (least squares), pulled to where they start or, where a pooled model is known,
to that.

Source: Wiener, Extrapolation, Interpolation and Smoothing of Stationary Time Series, 1949;
Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 5.4.3 (the
periodic component that fades).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from edgegraft.adapt.forecasts.lagged import Moments
from edgegraft_edge.signal import Array

LEVEL = 30.0
"""Variance of the level: large against 1, so that it is taken from the window."""
NOISE_FLOOR = 1e-4
FADING = 3
"""Components that fade without a season."""
PULL = 0.007
"""How hard numbers are pulled to their start, for each step, divided by the samples recorded."""
TOLERANCE = 1e-6
"""Relative gain below which the search ends."""
_WIDE = np.log(0.7)
_LIMIT = 12.0
_STEP = 1e-4


@dataclass(frozen=True)
class Covariance:
    """An autocovariance as a sum of components.

    Attributes:
        seasons: in samples.
        numbers: float (n,), logarithms of sizes, lengths and widths, in the order of `lags`.

    >>> start = Covariance.start((24,), n_timepoints=96)
    >>> start.lags(3).shape, len(start.numbers)
    ((3,), 14)
    """

    seasons: tuple[int, ...]
    numbers: Array

    @classmethod
    def start(cls, seasons: tuple[int, ...], n_timepoints: int) -> Covariance:
        """What is assumed before any data: all components, none of them more than another."""
        numbers = []
        for length in np.geomspace(max(2.0, n_timepoints / 64), max(4.0, n_timepoints), FADING):
            numbers += [np.log(0.5), np.log(length)]
        for place, season in enumerate(seasons):
            lengths = (4.0 * season, 60.0 * season) if place == 0 else (3.0 * season,)
            for length in lengths:
                numbers += [np.log(0.3), np.log(length), _WIDE]
        if seasons:
            numbers.append(np.log(0.3))
        return cls(seasons, np.array([*numbers, np.log(0.05)]))

    def lags(self, count: int) -> Array:
        """The covariance at lags 0 to count - 1, (count,)."""
        return _lags(self.numbers, self.seasons, count)

    def filters(self, n_timepoints: int, n_steps: int) -> Array:
        """The best linear forecast of n_steps from n_timepoints, (n_timepoints, n_steps)."""
        return np.asarray(_solved(self.lags(n_timepoints + n_steps), n_timepoints, n_steps)[1])


def fit_covariance(
    start: Covariance,
    given: Moments,
    n_samples: int,
    *,
    near: Covariance | None = None,
    pull: float = PULL,
    n_iterations: int = 40,
) -> Covariance:
    """The covariance whose filter forecasts the training windows best.

    Args:
        start: what the numbers are pulled to.
        near: where the search begins, if not there.
        given: moments of one kind.
        n_samples: what was recorded in all; the pull weighs less the more that is.
    """
    gram, cross = given.gram[0], given.cross[0]
    n_timepoints, n_steps = cross.shape
    total = float(np.trace(gram))
    if total <= 0 or not len(start.numbers):
        return start
    pull = pull / max(1, n_samples) * n_steps
    apart = _apart(n_timepoints)
    ahead = _ahead(n_timepoints, n_steps)
    count = n_timepoints + n_steps

    def cost(numbers: Array) -> tuple[float, Array]:
        lags = _lags(numbers, start.seasons, count)
        factor, found = _solved(lags, n_timepoints, n_steps)
        fitted = gram @ found
        away = numbers - start.numbers
        loss = float((found * (fitted - 2 * cross)).sum()) / total + pull * float(away @ away)
        # d(loss) = tr(slope' d(cov(x, y))) - tr(slope' d(cov(x, x)) found), both by lag
        slope = cho_solve(factor, (2 / total) * (fitted - cross))
        by_lag = np.bincount(ahead, slope.ravel(), minlength=count)
        by_lag -= np.bincount(apart, (slope @ found.T).ravel(), minlength=count)
        gradient = 2 * pull * away
        for place in range(len(numbers)):
            moved = numbers.copy()
            moved[place] += _STEP
            gradient[place] += by_lag @ (_lags(moved, start.seasons, count) - lags) / _STEP
        return loss, gradient

    begin = start.numbers if near is None else near.numbers
    options = {"maxiter": n_iterations, "ftol": TOLERANCE}
    found = minimize(cost, begin, jac=True, method="L-BFGS-B", options=options)
    return Covariance(start.seasons, np.asarray(found.x))


def _lags(numbers: Array, seasons: tuple[int, ...], count: int) -> Array:
    lag = np.arange(count, dtype=np.float64)
    values = np.exp(np.clip(numbers, -_LIMIT, _LIMIT))
    out = np.full(count, LEVEL)
    place = 0
    for _ in range(FADING):
        out += values[place] * np.exp(-lag / values[place + 1])
        place += 2
    for number, season in enumerate(seasons):
        for _ in range(2 if number == 0 else 1):
            shape = _periodic(lag, season, values[place + 2])
            out += values[place] * np.exp(-lag / values[place + 1]) * shape
            place += 3
    if seasons:
        out += values[place] * _periodic(lag, seasons[0], float(np.exp(_WIDE)))
        place += 1
    out[0] += values[place] + NOISE_FLOOR
    return out


def _periodic(lag: Array, season: int, width: float) -> Array:
    return np.asarray(np.exp(-2 * np.sin(np.pi * lag / season) ** 2 / width**2))


def _solved(lags: Array, n_timepoints: int, n_steps: int) -> tuple[tuple[Array, bool], Array]:
    """Factor of the covariance of a context, and the filters."""
    within = lags[_apart(n_timepoints)].reshape(n_timepoints, n_timepoints)
    between = lags[_ahead(n_timepoints, n_steps)].reshape(n_timepoints, n_steps)
    factor = cho_factor(within, lower=True)
    return factor, np.asarray(cho_solve(factor, between))


def _apart(n_timepoints: int) -> Array:
    """Lags between the samples of a context, flat."""
    at = np.arange(n_timepoints)
    return np.abs(at[:, None] - at).ravel()


def _ahead(n_timepoints: int, n_steps: int) -> Array:
    """Lags between the samples of a context and the steps ahead, flat."""
    return (n_timepoints + np.arange(n_steps) - np.arange(n_timepoints)[:, None]).ravel()
