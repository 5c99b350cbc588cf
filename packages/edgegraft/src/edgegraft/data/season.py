"""Seasons of a series: the periods after which it looks like itself again."""

from __future__ import annotations

from collections.abc import Sequence

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
    peaks = 1 + np.flatnonzero((found[1:-1] > found[:-2]) & (found[1:-1] >= found[2:]))
    peaks = peaks[(peaks > 1) & (found[peaks] > ALIKE)]
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
