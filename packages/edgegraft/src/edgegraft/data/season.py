"""Seasons of a series: after how many samples it looks like itself, and how much of it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgegraft_edge.signal import Array

ALIKE = 0.2
"""Autocorrelation below which a period is none."""
NEARLY = 0.7
"""Share of the highest peak from which an earlier one is the first season."""
BETTER = 0.05
"""How much more a multiple of the first season must correlate to be a season of its own."""
MOST = 4096
"""Samples beyond which no season is looked for."""
MULTIPLES = range(2, 13)
DAY_S, WEEK = 86_400.0, 7
LEAST, MORE = 0.1, 1.6
"""Share that must repeat: `LEAST`, and `MORE` divided by the seasons seen, as few repeat by chance.

Of 200 random walks and moving averages of noise two show a season then.
"""
FEWEST = 4
CANDIDATES = 12
MAX_SAMPLES = 50_000
CALENDAR_S = (60.0, 3600.0, 86_400.0, 604_800.0)
"""A minute, an hour, a day, a week: tried where the rate is known."""


def autocorrelation(series: Sequence[Array], longest: int) -> Array:
    """Mean autocorrelation of all channels of all series, (longest + 1,), from lag 0.

    Each channel is taken without its level of one moving window of `longest` samples, so that a
    trend is no season; what is constant, and missing values, count for nothing.

    Args:
        series: each (n_channels, n_timepoints).
    """
    total, weight = np.zeros(longest + 1), 0.0
    for values in series:
        for row in np.asarray(values, dtype=np.float64):
            row = row[np.isfinite(row)]
            n = len(row)
            if n <= longest + 1:
                continue
            left = row - _level(row, longest)
            power = float(left @ left)
            if power <= 1e-12 * max(1.0, float(row @ row)):
                continue
            size = 1 << (2 * n - 1).bit_length()
            spectrum = np.fft.rfft(left, size)
            raw = np.fft.irfft(np.abs(spectrum) ** 2, size)[: longest + 1]
            total += raw / power * n / (n - np.arange(longest + 1)) * n
            weight += n
    return np.asarray(total / weight if weight else total)


def find_seasons(
    series: Sequence[Array], *, rate_hz: float = 1.0, longest: int = 0
) -> tuple[int, ...]:
    """Periods in samples, rising; the first is the season of a seasonal naive forecast.

    Where the rate is known, a day is the first if the series look alike after one. Otherwise the
    first is where the autocorrelation has a peak nearly as high as its highest one; a multiple of
    it that correlates clearly more is a second one. With a first season of a day the week is
    always added, since a week weighs little where it says nothing.

    Args:
        series: each (n_channels, n_timepoints).
        rate_hz: samples a second; 1.0 stands for an unknown one.
        longest: of the periods looked for; if 0, a third of the longest series.

    >>> t = np.arange(600.0)
    >>> find_seasons([np.sin(2 * np.pi * t / 24)[None]])
    (24,)
    >>> find_seasons([np.ones((2, 600))])
    ()
    """
    lengths = [np.asarray(values).shape[-1] for values in series]
    longest = min(longest or max(lengths, default=0) // 3, MOST)
    if longest < 3:
        return ()
    found = autocorrelation(series, longest)
    peaks = _peaks(found)
    peaks = peaks[found[peaks] > ALIKE]
    if not len(peaks):
        return ()
    day = DAY_S * rate_hz if rate_hz != 1.0 else 0.0
    daily = peaks[np.abs(peaks - day) < 0.02 * day]
    first = int(
        daily[0] if len(daily) else peaks[np.argmax(found[peaks] >= NEARLY * found[peaks].max())]
    )
    if not len(daily):
        first = _refined(first, found)
    seasons = {first}
    multiples = np.array([k * first for k in MULTIPLES if k * first <= longest], dtype=int)
    if len(multiples):
        best = int(multiples[np.argmax(found[multiples])])
        if found[best] > found[first] + BETTER:
            seasons.add(best)
    if len(daily) and WEEK * first <= max(lengths):
        seasons.add(WEEK * first)
    return tuple(sorted(seasons))


def _peaks(found: Array) -> Array:
    """Lags from 2 on at which an autocorrelation is higher than beside them."""
    peaks = 1 + np.flatnonzero((found[1:-1] > found[:-2]) & (found[1:-1] >= found[2:]))
    return np.asarray(peaks[peaks > 1])


def _refined(period: int, found: Array) -> int:
    """The period as its multiples have it: a flat peak lies a sample off, ten of them do not."""
    exact = float(period)
    for times in MULTIPLES:
        middle, room = round(times * exact), max(1, period // 8)
        if middle + room >= len(found):
            break
        near = found[middle - room : middle + room + 1]
        exact = (middle - room + int(np.argmax(near))) / times
    return max(2, round(exact))


def _level(row: Array, length: int) -> Array:
    """Moving average over `length` samples, shorter at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(row)])
    at = np.arange(len(row))
    low, high = np.maximum(0, at - length // 2), np.minimum(len(row), at + length // 2 + 1)
    return np.asarray((sums[high] - sums[low]) / (high - low))


# -- how much of a series its seasons tell


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

    Candidates are the highest peaks of the autocorrelation and, with a rate, the calendar. Each is
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
    found = autocorrelation([series[None]], longest)
    peaks = _peaks(found)
    known |= set(peaks[np.argsort(-found[peaks])][:CANDIDATES].tolist())
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
    chosen = [next(season for season in judged if season.strength >= 0.85 * strongest)]
    for season in judged:
        adds = season.strength > chosen[-1].strength + 0.1
        if len(chosen) < most and season.samples > 1.5 * chosen[-1].samples and adds:
            chosen.append(season)
    return tuple(chosen)


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
