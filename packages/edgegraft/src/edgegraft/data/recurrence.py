"""Seasons of a series: after how many samples it repeats itself, and how much of it does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgegraft_edge.signal import Array

LEAST, MORE = 0.1, 1.6
"""Share that must repeat: `LEAST`, and `MORE` divided by the seasons seen, as few repeat by chance.

Of 200 random walks and moving averages of noise two show a season then.
"""
FEWEST = 4
MAX_SAMPLES = 50_000
CANDIDATES = 12
CALENDAR_S = (60.0, 3600.0, 86_400.0, 604_800.0)
"""A minute, an hour, a day, a week: tried where the rate is known."""


@dataclass(frozen=True)
class Season:
    """One season of a series.

    Attributes:
        samples: its length.
        strength: the share of what moves within it (around its own level) that the shape of other
            seasons tells, 0 to 1.
    """

    samples: int
    strength: float

    def hours(self, rate_hz: float) -> float:
        return self.samples / rate_hz / 3600


def seasons(values: Array, rate_hz: float = 0.0, most: int = 2) -> tuple[Season, ...]:
    """The seasons of a series, the shortest strong one first, then longer ones that add to it.

    Candidates are peaks of the autocorrelation and, with a rate, those of the calendar. Each is
    judged by seasons it was not drawn from: the mean shape of the odd ones against the even ones,
    each less its own moving average, so a trend or a random walk has none.

    Args:
        values: (n_timepoints,); NaN is filled between neighbours.
        rate_hz: samples a second, 0 if unknown.

    >>> noise = np.random.default_rng(0).normal(size=720)
    >>> [each.samples for each in seasons(np.sin(np.arange(720) / 12 * np.pi) + 0.3 * noise)]
    [24]
    >>> seasons(noise.cumsum())
    ()
    """
    series = _filled(np.asarray(values, dtype=np.float64)[-MAX_SAMPLES:])
    if len(series) < 4 * FEWEST or np.ptp(series) == 0:
        return ()
    longest = len(series) // FEWEST
    known = {round(length * rate_hz) for length in CALENDAR_S} if rate_hz else set()
    known |= set(_peaks(series, longest))
    judged = [
        Season(period, strength_of(series, period))
        for period in sorted(known)
        if 2 <= period <= longest
    ]
    judged = [
        season
        for season in judged
        if season.strength >= LEAST + MORE * season.samples / len(series)
    ]
    if not judged:
        return ()
    strongest = max(season.strength for season in judged)
    found = [next(season for season in judged if season.strength >= 0.85 * strongest)]
    for season in judged:
        adds = season.strength > found[-1].strength + 0.1
        if len(found) < most and season.samples > 1.5 * found[-1].samples and adds:
            found.append(season)
    return tuple(found)


def strength_of(series: Array, period: int) -> float:
    """The share of a series around its moving average that other seasons of that length tell.

    Args:
        series: (n_timepoints,), finite.

    Returns: at most 1; 0 where they tell nothing.
    """
    level = _moving_average(series, period)
    edge = period // 2
    rest = (series - level)[edge : len(series) - edge]
    count = len(rest) // period
    if count < 2:
        return 0.0
    rows = rest[: count * period].reshape(count, period)
    odd, even = rows[1::2], rows[::2]
    missed = ((even - odd.mean(axis=0)) ** 2).sum() + ((odd - even.mean(axis=0)) ** 2).sum()
    total = (rows**2).sum()
    return float(max(0.0, 1 - missed / total)) if total > 1e-12 * (series**2).sum() else 0.0


def autocorrelation(series: Array, most: int) -> Array:
    """Autocorrelation at lags 0 to `most`, float64 (most + 1,), less a straight line."""
    n_timepoints = len(series)
    time = np.linspace(-1, 1, n_timepoints)
    centred = series - series.mean()
    centred = centred - time * (time @ centred) / (time @ time)
    size = 1 << (2 * n_timepoints - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(centred, size)) ** 2
    found = np.fft.irfft(spectrum, size)[: most + 1]
    return np.asarray(found / max(float(found[0]), 1e-300))


def _peaks(series: Array, longest: int) -> list[int]:
    """Lags of the highest local maxima, of the series and of its steps."""
    found: set[int] = set()
    for each in (series, np.diff(series)):
        if len(each) < 4 or np.ptp(each) == 0:
            continue
        lags = autocorrelation(each, min(longest + 1, len(each) - 2))
        inner = np.flatnonzero((lags[1:-1] > lags[:-2]) & (lags[1:-1] >= lags[2:])) + 1
        inner = inner[inner >= 2]
        found |= {int(lag) for lag in inner[np.argsort(-lags[inner])][:CANDIDATES]}
    return sorted(found)


def _moving_average(series: Array, period: int) -> Array:
    """Centred over one period; what is nearer to an end than half of one is not to be used."""
    weights = np.ones(period + 1 - period % 2)
    if period % 2 == 0:
        weights[[0, -1]] = 0.5
    sums = np.concatenate([[0.0], np.cumsum(series)])
    width = len(weights)
    out = np.array(series)
    inside = sums[width:] - sums[:-width]
    if period % 2 == 0:
        inside = inside - 0.5 * (series[: len(inside)] + series[width - 1 :])
    out[width // 2 : width // 2 + len(inside)] = inside / period
    return out


def _filled(series: Array) -> Array:
    """Gaps as straight lines between their neighbours; nothing where no value is known."""
    known = np.isfinite(series)
    if known.all() or not known.any():
        return np.asarray(series[known])
    places = np.arange(len(series))
    return np.asarray(np.interp(places, places[known], series[known]))
