"""Whether one series shows another: at the same time, shifted, or by the time alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgegraft.data.season import seasons
from edgegraft_edge.signal import Array

SAME = 0.999
"""Correlation from which one series counts as an image of another."""
STEPS_SAME = 0.95
"""The same of their steps: what merely rises together does not move together."""
EVEN = 0.95
"""Share of equal steps from which a channel only counts."""
BLOCKS = 20


def told_by_time(series: Array) -> float:
    """Share of the variance that blocks of time tell: each half of a block guesses the other."""
    series = series[np.isfinite(series)]
    if len(series) < 4 * BLOCKS or np.ptp(series) == 0:
        return 0.0
    missed = 0.0
    for block in np.array_split(series, BLOCKS):
        one, other = block[::2], block[1::2]
        missed += ((one - other.mean()) ** 2).sum() + ((other - one.mean()) ** 2).sum()
    return float(max(0.0, 1 - missed / ((series - series.mean()) ** 2).sum()))


def counts_samples(recordings: Sequence[Array]) -> bool:
    """Whether a channel rises by the same step from sample to sample, in all recordings.

    >>> counts_samples([np.arange(20.0), np.arange(5.0, 30.0)]), counts_samples([np.zeros(20)])
    (True, False)
    """
    seen = False
    for values in recordings:
        steps = np.diff(np.asarray(values, dtype=np.float64))
        if len(steps) < 8:
            continue
        seen = True
        usual = float(np.median(steps))
        # float32 rounds large counters; a lost row doubles a step
        even = np.isclose(steps, usual, rtol=1e-3, atol=1e-6 * np.abs(values).max())
        if usual == 0 or even.mean() < EVEN:
            return False
    return seen


def image_of(pairs: list[tuple[Array, Array]]) -> int | None:
    """By how many samples a channel shows the target ahead (negative: later); None if it is none.

    Where the target repeats itself exactly no shift can be told, and only the same time counts.
    """
    if not pairs:
        return None
    shifts = []
    for truth, channel in pairs:
        truth, channel = _flat(truth), _flat(channel)
        if np.ptp(truth) == 0 or np.ptp(channel) == 0:
            continue
        if _alike(truth, channel):
            shifts.append(0)
            continue
        shift = _best_shift(np.diff(truth), np.diff(channel))
        kept = len(truth) - abs(shift)
        ours = truth[max(0, shift) :][:kept]
        theirs = channel[max(0, -shift) :][:kept]
        if not shift or kept < 32 or not _alike(ours, theirs) or _repeats(truth):
            return None
        shifts.append(shift)
    if not shifts or len(set(shifts)) > 1:
        return None
    return shifts[0]


def _alike(ours: Array, theirs: Array) -> bool:
    return (
        abs(_correlation(ours, theirs)) > SAME
        and abs(_correlation(np.diff(ours), np.diff(theirs))) > STEPS_SAME
    )


def _correlation(ours: Array, theirs: Array) -> float:
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    length = np.linalg.norm(ours) * np.linalg.norm(theirs)
    return float(ours @ theirs / length) if length > 0 else 0.0


def _best_shift(ours: Array, theirs: Array) -> int:
    """The shift at which both go together most: ours[t + shift] with theirs[t]."""
    size = 1 << (2 * len(ours) - 1).bit_length()
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    product = np.fft.rfft(ours, size) * np.conj(np.fft.rfft(theirs, size))
    together = np.abs(np.fft.irfft(product, size))
    most = len(ours) // 2
    together[most : size - most] = 0
    best = int(together.argmax())
    return best if best < size // 2 else best - size


def _repeats(series: Array) -> bool:
    return any(season.strength > 0.98 for season in seasons(series))


def _flat(series: Array) -> Array:
    series = np.asarray(series, dtype=np.float64)
    known = np.isfinite(series)
    return np.where(known, series, series[known].mean() if known.any() else 0.0)
