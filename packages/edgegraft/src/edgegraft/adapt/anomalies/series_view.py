"""What detectors of anomalies look at in a window of a series: shape, statistics, spectrum.

A view is a program from windows (n_windows, n_channels, n_timepoints) to features
(n_windows, n_channels, n_features): one block of features for each channel, so that a score can
be divided among channels. `spread` says over which time points a feature was taken, so that it
can be divided among these too. Channels are first brought to location 0 and scale 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgegraft.zoo.backbone import embed_in_batches
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array

MOST_POINTS = 128
"""Longer windows are averaged to so many points before their shape is compared."""
OUTLINE_POINTS = 32
"""The outline is the shape in so many points, small enough to be remembered many times."""
N_BANDS = 16
VIEWS = ("shape", "outline", "statistics", "spectrum")
_EPS = 1e-3


@dataclass(frozen=True)
class Scaling:
    """Location and scale of each channel.

    Attributes:
        location, scale: float32 (n_channels,), in the units of the channels.

    >>> still = Scaling.of(np.zeros((2, 1, 4), np.float32) + 5)
    >>> float(still.location[0]), bool(still.scale[0] > 0)
    (5.0, True)
    """

    location: Array
    scale: Array

    @classmethod
    def of(cls, x: Array) -> Scaling:
        """Of windows (n_windows, n_channels, n_timepoints), values that are not finite left out.

        A channel that never moves counts in the others' median scale, or in a thousandth of its
        own size where none moves: a change of it is seen and does not drown all else.
        """
        values = np.where(np.isfinite(x), x, np.nan).astype(np.float64)
        with np.errstate(all="ignore"):
            location = np.nan_to_num(np.nanmean(values, axis=(0, 2)))
            scale = np.nan_to_num(np.nanstd(values, axis=(0, 2)))
        size = 1e-3 * np.abs(location)
        moving = scale > np.maximum(1e-2 * size, 1e-9)
        usual = np.median(scale[moving]) if moving.any() else 0.0
        floor = np.maximum(size, 1e-6)
        scale = np.where(moving, np.maximum(scale, floor), np.maximum(floor, usual))
        return cls(location.astype(np.float32), scale.astype(np.float32))

    def toward(self, own: Scaling, n_own: int, weight: int = 5) -> Scaling:
        """Of a new device: its own location, and its own scale pulled to this one.

        Args:
            own: as the windows of the new device give it.
            n_own: how many these are; `weight` windows count for this scaling.
        """
        share = n_own / (n_own + weight)
        squares = share * own.scale.astype(float) ** 2 + (1 - share) * self.scale.astype(float) ** 2
        return Scaling(own.location, np.sqrt(squares).astype(np.float32))

    def apply(self, x: Array) -> Array:
        """(n_windows, n_channels, n_timepoints), float32, what is not finite at its location."""
        z = (np.asarray(x, dtype=np.float32) - self.location[:, None]) / self.scale[:, None]
        return np.asarray(np.where(np.isfinite(z), z, 0), dtype=np.float32)

    def program(self) -> Program:
        draft = Draft()
        centred = draft.add("sub", "x", self.location[:, None])
        return draft.finish(draft.add("mul", centred, (1 / self.scale)[:, None]))


@dataclass(frozen=True)
class View:
    """Features of scaled windows.

    Attributes:
        name: one of `VIEWS`.
        n_timepoints: of the windows.

    >>> view = View("statistics", 32)
    >>> view.features(np.random.default_rng(0).normal(size=(3, 2, 32))).shape, view.n_features
    ((3, 2, 9), 9)
    """

    name: str
    n_timepoints: int

    @property
    def n_features(self) -> int:
        return int(self.spread.shape[0])

    def features(self, z: Array) -> Array:
        """Float32 (n_windows, n_channels, n_features) of scaled windows."""
        return embed_in_batches(self.program(), np.asarray(z, dtype=np.float32))

    def program(self) -> Program:
        """From scaled windows to features."""
        if self.name in ("shape", "outline"):
            return _pooled(self.n_timepoints, self._most)
        return {"statistics": _statistics, "spectrum": _spectrum}[self.name](self.n_timepoints)

    @property
    def _most(self) -> int:
        return OUTLINE_POINTS if self.name == "outline" else MOST_POINTS

    @property
    def spread(self) -> Array:
        """(n_features, n_timepoints), rows sum to 1: where in time a feature was taken."""
        n = self.n_timepoints
        even = np.full(n, 1 / n)
        if self.name in ("shape", "outline"):
            pooling = _pooling(n, self._most)
            return np.eye(n) if pooling is None else pooling.T / pooling.T.sum(axis=1)[:, None]
        if self.name == "spectrum":
            return np.tile(even, (len(_bands(n)) - 1, 1))
        last, recent = np.zeros(n), np.zeros(n)
        last[-1] = 1
        recent[-_recent(n) :] = 1 / _recent(n)
        return np.stack([even] * 7 + [recent, last])


def _pooled(n: int, most: int) -> Program:
    draft = Draft()
    pooling = _pooling(n, most)
    return draft.finish("x" if pooling is None else draft.add("matmul", "x", pooling))


def _pooling(n: int, most: int) -> Array | None:
    """(n_timepoints, most), means of neighbours; None where a window is short."""
    if n <= most:
        return None
    owner = np.arange(n) * most // n
    table = (owner[:, None] == np.arange(most)).astype(np.float32)
    return np.asarray(table / table.sum(axis=0), dtype=np.float32)


def _recent(n: int) -> int:
    return max(2, n // 8)


def _statistics(n: int) -> Program:
    """Mean, log deviation, extremes, slope, size of steps, and how the end differs."""
    draft = Draft()
    mean = draft.add("mean", "x", axes=[2])
    centred = draft.add("sub", "x", mean)
    deviation = draft.add("sqrt", draft.add("mean", draft.add("mul", centred, centred), axes=[2]))
    time = np.linspace(-1, 1, n)
    slope = draft.add("matmul", "x", (time / (time @ time))[:, None].astype(np.float32))
    later = draft.add("slice", "x", axis=2, start=1, stop=n)
    sooner = draft.add("slice", "x", axis=2, start=0, stop=n - 1)
    step = draft.add("abs", draft.add("sub", later, sooner))
    end = draft.add("slice", "x", axis=2, start=n - _recent(n), stop=n)
    last = draft.add("slice", "x", axis=2, start=n - 1, stop=n)

    def log(value: str, room: float) -> str:
        return draft.add("log", draft.add("add", value, np.float32(room)))

    parts = (
        mean,
        log(deviation, 0.05),
        draft.add("max", "x", axes=[2]),
        draft.add("min", "x", axes=[2]),
        slope,
        log(draft.add("mean", step, axes=[2]), 0.02),
        log(draft.add("max", step, axes=[2]), 0.05),
        draft.add("sub", draft.add("mean", end, axes=[2]), mean),
        draft.add("sub", last, mean),
    )
    return draft.finish(draft.add("concat", *parts, axis=2))


def _bands(n: int) -> Array:
    """Edges of bands over the frequencies 1 .. n/2, wider upward; int (n_bands + 1,)."""
    n_lines = n // 2
    edges = np.geomspace(1, n_lines + 1, min(N_BANDS, n_lines) + 1)
    return np.unique(np.round(edges).astype(int) - 1)


def _spectrum(n: int) -> Program:
    """Half the logarithm of the mean power in each band, after a Hann window."""
    draft = Draft()
    taper = np.hanning(n + 2)[1:-1]
    lines = np.arange(1, n // 2 + 1)
    angle = 2 * np.pi * np.outer(np.arange(n), lines) / n
    size = np.sqrt((taper**2).sum())
    waves = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * taper[:, None] / size
    edges = _bands(n)
    widths = np.diff(edges)
    owner = np.repeat(np.arange(len(widths)), widths)
    table = np.zeros((len(lines), len(widths)))
    table[np.arange(len(owner)), owner] = 1 / widths[owner]
    centred = draft.add("sub", "x", draft.add("mean", "x", axes=[2]))
    found = draft.add("matmul", centred, waves.astype(np.float32))
    both = np.tile(table, (2, 1)).astype(np.float32)
    power = draft.add("matmul", draft.add("mul", found, found), both)
    logs = draft.add("log", draft.add("add", power, np.float32(_EPS)))
    return draft.finish(draft.add("mul", logs, np.float32(0.5)))
