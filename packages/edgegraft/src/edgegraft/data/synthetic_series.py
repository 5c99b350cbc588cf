"""Made-up long series for pretraining forecasters: many kinds, drawn by their spectra.

A row is a sum of Gaussian processes whose spectra are drawn with it (smooth drift, damped noise,
power laws, white noise, and seasons whose lines have a width), which is a sum of kernels as in
KernelSynth (Ansari et al., Chronos, TMLR 2024) at the price of one inverse transform; then what no
Gaussian process has: fixed daily and weekly profiles, broken trends, level shifts, spikes, counts,
floors, bursts and readings held for a while.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgegraft_edge.errors import OptionError
from edgegraft_edge.signal import Array

PERIODS = (24, 12, 48, 96, 144, 288, 7, 60)
"""Samples of a season: days of hours, half days, days of 30, 15, 10 and 5 minutes, weeks, hours."""
_AT_ONCE = 2048


@dataclass(frozen=True)
class SeriesKinds:
    """What series are drawn.

    Attributes:
        periods: seasons in samples.
        shares: how often each is drawn; the rest have any season between 4 and 400 samples.
        no_season: share of rows without one.
        odd: share of rows that are bent by something that is not Gaussian.

    Errors: `OptionError` where shares make no sense.
    """

    periods: tuple[int, ...] = PERIODS
    shares: tuple[float, ...] = (0.4, 0.04, 0.08, 0.1, 0.06, 0.05, 0.05, 0.03)
    no_season: float = 0.12
    odd: float = 0.4

    def __post_init__(self) -> None:
        good = (
            len(self.periods) == len(self.shares)
            and min(self.periods, default=2) >= 2
            and min(self.shares, default=0) >= 0
            and sum(self.shares) <= 1 + 1e-9
            and 0 <= self.no_season <= 1
            and 0 <= self.odd <= 1
        )
        if not good:
            raise OptionError.of(
                "option-range",
                f"{self}",
                "each season has a share, all together at most 1",
                "SeriesKinds()",
            )


@dataclass(frozen=True)
class MadeSeries:
    """Rows that were drawn.

    Attributes:
        values: float32 (n_rows, n_timepoints), of mean 0 and deviation about 1.
        periods: int (n_rows,), the season of each; 0 for none.
    """

    values: Array
    periods: Array = field(repr=False)


def draw_series(
    n_rows: int,
    n_timepoints: int,
    random: np.random.Generator,
    kinds: SeriesKinds | None = None,
) -> MadeSeries:
    """Rows of made-up series.

    >>> made = draw_series(3, 200, np.random.default_rng(0))
    >>> made.values.shape, bool(np.isfinite(made.values).all())
    ((3, 200), True)
    """
    kinds = kinds or SeriesKinds()
    values = np.empty((n_rows, n_timepoints), dtype=np.float32)
    periods = np.empty(n_rows, dtype=np.int64)
    for start in range(0, n_rows, _AT_ONCE):
        n = min(_AT_ONCE, n_rows - start)
        period = _periods(n, random, kinds)
        rows = _gaussian(n, n_timepoints, period, random)
        rows += _profiles(n, n_timepoints, period, random)
        rows += _trends(n, n_timepoints, random)
        _bend(rows, random, kinds.odd)
        rows -= rows.mean(axis=1, keepdims=True)
        rows /= rows.std(axis=1, keepdims=True) + 1e-6
        values[start : start + n], periods[start : start + n] = rows, period
    return MadeSeries(values, periods)


def _periods(n: int, random: np.random.Generator, kinds: SeriesKinds) -> Array:
    """Season of each row in samples; 0 for none."""
    shares = np.array([*kinds.shares, max(0.0, 1 - sum(kinds.shares))])
    place = random.choice(len(shares), size=n, p=shares / shares.sum())
    free = np.exp(random.uniform(np.log(4), np.log(400), n)).round()
    named = np.array([*kinds.periods, 0])[place]
    found = np.where(place == len(kinds.periods), free, named)
    return np.where(random.random(n) < kinds.no_season, 0, found).astype(np.int64)


def _strength(n: int, spread: float, share: float, random: np.random.Generator) -> Array:
    """(n, 1) deviations of a part, log-normal; 0 where a row has none of it."""
    drawn = np.exp(spread * random.standard_normal((n, 1)))
    return np.asarray(drawn * (random.random((n, 1)) < share))


def _log_uniform(low: float, high: float, n: int, random: np.random.Generator) -> Array:
    return np.asarray(np.exp(random.uniform(np.log(low), np.log(high), (n, 1))))


def _gaussian(n: int, length: int, period: Array, random: np.random.Generator) -> Array:
    """Rows of a Gaussian process, each with a spectrum of its own: float32 (n, length)."""
    long = 1 << (2 * length - 1).bit_length()  # twice as long, since a transform is periodic
    tone = (np.arange(long // 2 + 1) / long).astype(np.float32)  # cycles a sample
    turn = 2 * np.pi * tone
    power = np.zeros((n, len(tone)), dtype=np.float32)

    def join(part: Array, strength: Array) -> None:
        part[:, 0] = 0
        factor = strength**2 / (part.sum(axis=1, keepdims=True) + 1e-12)
        part *= factor.astype(np.float32)
        np.add(power, part, out=power)

    def damped(memory: Array) -> Array:
        return 1 / (1 + (turn * memory.astype(np.float32)) ** 2)

    for low, high, share in ((2, 60, 0.6), (24, 2000, 0.8)):
        join(damped(_log_uniform(low, high, n, random)), _strength(n, 0.7, share, random))
    smooth = (turn * _log_uniform(4, 600, n, random).astype(np.float32)) ** 2
    join(np.exp(-0.5 * smooth), _strength(n, 0.7, 0.35, random))
    join(damped(_log_uniform(3, 300, n, random)) ** 2, _strength(n, 0.7, 0.35, random))
    slope = random.uniform(0.3, 2.2, (n, 1)).astype(np.float32)
    join(np.exp(-slope * np.log(tone + 1 / long)), _strength(n, 0.7, 0.3, random))
    join(np.ones_like(power), 0.5 * _strength(n, 0.8, 0.8, random))
    # Seasons that change slowly: lines at multiples of a day and a week, as wide as they forget.
    base = np.where(period, period, 24)[:, None].astype(np.float32)
    seasonal = (period > 0)[:, None]
    memory = 2 * np.pi * base * _log_uniform(2, 60, n, random).astype(np.float32)
    fall = random.uniform(0.6, 2.2, (n, 1))
    day = np.zeros_like(power)
    for order in range(1, 7):
        height = np.exp(0.8 * random.standard_normal((n, 1))) * order**-fall
        day += height.astype(np.float32) / (1 + ((tone - order / base) * memory) ** 2)
    join(day, 0.9 * _strength(n, 0.6, 0.8, random) * seasonal)
    memory = 14 * np.pi * base * _log_uniform(1, 20, n, random).astype(np.float32)
    week = sum(1 / (1 + ((tone - order / (7 * base)) * memory) ** 2) for order in (1, 2, 3))
    join(np.asarray(week), 0.4 * _strength(n, 0.6, 0.4, random) * seasonal)
    drawn = np.empty(power.shape, dtype=np.complex64)
    drawn.real = random.standard_normal(power.shape, dtype=np.float32)
    drawn.imag = random.standard_normal(power.shape, dtype=np.float32)
    drawn *= np.sqrt(power)
    return np.asarray(np.fft.irfft(drawn, long, axis=1)[:, :length] * np.float32(long / 2))


def _profiles(n: int, length: int, period: Array, random: np.random.Generator) -> Array:
    """Fixed shapes of a day, times what the day of the week is worth: (n, length)."""
    base = np.where(period, period, 24)[:, None]
    phase = (np.arange(length) + random.integers(0, 7 * 400, (n, 1))) / base
    fall = random.uniform(0.3, 1.8, (n, 1))
    day = np.zeros((n, length))
    for order in range(1, 7):
        height = random.standard_normal((n, 1)) * order**-fall
        day += height * np.cos(2 * np.pi * (order * phase + random.random((n, 1))))
    sharp = random.random((n, 1)) < 0.25
    day = np.where(sharp, np.exp(0.8 * day), day)
    day -= day.mean(axis=1, keepdims=True)
    day /= day.std(axis=1, keepdims=True) + 1e-6
    weekday = np.floor(phase).astype(np.int64) % 7
    worth = np.where(random.random((n, 7)) < 0.5, 1.0, random.uniform(0.3, 1.2, (n, 7)))
    level = 0.4 * random.standard_normal((n, 7))
    usual = random.random((n, 1)) < 0.55  # every day of the week is alike
    worth, level = np.where(usual, 1.0, worth), np.where(usual, 0.0, level)
    rows = day * np.take_along_axis(worth, weekday, 1) + np.take_along_axis(level, weekday, 1)
    return np.asarray(rows * _strength(n, 0.7, 0.7, random) * (period > 0)[:, None])


def _trends(n: int, length: int, random: np.random.Generator) -> Array:
    """Straight lines that may break once: (n, length)."""
    time = np.arange(length) / length - 0.5
    slope = 1.5 * random.standard_normal((n, 1)) * (random.random((n, 1)) < 0.25)
    turned = 2.0 * random.standard_normal((n, 1)) * (random.random((n, 1)) < 0.08)
    place = random.uniform(-0.5, 0.5, (n, 1))
    return np.asarray(slope * time + turned * np.maximum(time - place, 0))


def _bend(rows: Array, random: np.random.Generator, share: float) -> None:
    """What no Gaussian process does, to a share of the rows, in place."""
    time = np.arange(rows.shape[1])
    chosen = np.flatnonzero(random.random(len(rows)) < share)
    kind = random.integers(0, 8, len(chosen))
    for row, what in zip(chosen, kind, strict=True):
        x = rows[row]
        scale = x.std() + 1e-6
        if what == 0:  # level shifts
            for place in random.integers(0, len(x), random.integers(1, 4)):
                x[place:] += 1.5 * scale * random.standard_normal()
        elif what == 1:  # spikes
            place = random.integers(0, len(x), random.integers(1, max(2, len(x) // 40)))
            x[place] += scale * random.choice((-1, 1)) * random.exponential(3, len(place))
        elif what == 2:  # counts
            rate = np.exp(np.clip(x / scale, -4, 3)) * random.uniform(0.2, 20)
            x[:] = random.poisson(rate)
        elif what == 3:  # a floor
            np.maximum(x, np.quantile(x, random.uniform(0.1, 0.6)), out=x)
        elif what == 4:  # loads: never negative, long upper tail
            x[:] = np.exp(random.uniform(0.3, 1.0) * np.clip(x / scale, -4, 4))
        elif what == 5:  # readings held until they have changed enough
            step = scale * random.uniform(0.1, 0.6)
            x[:] = np.round(x / step) * step
        elif what == 6:  # noise as large as the level
            x += scale * random.standard_normal(len(x)) * np.exp(np.clip(x / scale, -3, 2)) * 0.4
        else:  # on and off
            slow = np.sin(2 * np.pi * (time / random.uniform(20, 400) + random.random()))
            x[slow > random.uniform(0, 0.9)] = x.min()
