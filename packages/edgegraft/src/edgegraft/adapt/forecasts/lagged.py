"""Contexts and what followed them, for filters: linear forecasts of a channel from its own past.

A filter F (n_timepoints, n_steps) forecasts ``last + (x - last) F``: it moves with the level of the
window and scales with it, so one filter serves channels of any unit, and a series that has
drifted away from where it was learned (instance normalisation).

Filters are fitted from second moments alone. Windows count by how much they vary, relative to
their channel: a window of a calm week says as much as one of a stormy week.

Source: Kim et al., Reversible Instance Normalization, ICLR 2022; Toner and Darlow, An analysis of
linear time series forecasting models, ICML 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Array, Windows

CALM = 0.1
"""Share of a channel's variance that is added to that of a window before it is weighed by it."""
MISSING = 0.2
"""Share of a context, or of what followed, that may be missing and is filled for learning."""
_BLOCK = 512
_TINY = 1e-12


@dataclass(frozen=True)
class Lagged:
    """Target channels of windows, and what followed.

    Attributes:
        x: float32 (n_windows, n_targets, n_timepoints), filled.
        y: float32 (n_windows, n_targets, n_steps), NaN where unknown.
        used: bool (n_windows, n_targets), what can be learned from.
        variance: float (n_targets,), of each channel in the windows of the target device.
        order: int (n_windows,), places in time: rank of each window among all, by share of its
            recording, so that recordings that run side by side keep step.
        recording, start: of the windows, as in `Windows`.
        at_target: bool (n_windows,), False of windows of source domains.
    """

    x: Array
    y: Array
    used: Array
    variance: Array
    order: Array
    recording: Array
    start: Array
    at_target: Array

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_targets, n_timepoints, n_steps)"""
        return self.x.shape[1], self.x.shape[2], self.y.shape[2]

    @property
    def n_samples(self) -> int:
        """Samples that the windows cover, of all channels: what was recorded, each once."""
        length = self.x.shape[2] + self.y.shape[2]
        total = 0
        for number in np.unique(self.recording):
            starts = np.sort(self.start[self.recording == number])
            total += int(np.minimum(np.diff(starts), length).sum()) + length
        return total * int(self.x.shape[1])

    def take(self, index: Array) -> Lagged:
        """Some windows, by position or bool mask."""
        return Lagged(
            self.x[index],
            self.y[index],
            self.used[index],
            self.variance,
            self.order[index],
            self.recording[index],
            self.start[index],
            self.at_target[index],
        )


@dataclass(frozen=True)
class Moments:
    """Second moments of what filters see and say, weighed; sums over windows.

    Attributes:
        gram: float64 (n_kinds, n_timepoints, n_timepoints), of contexts less their last value.
        cross: float64 (n_kinds, n_timepoints, n_steps), of these with what followed.
        rows: float (n_kinds,), how many windows.

    There is one kind for each channel, or one in all.
    """

    gram: Array
    cross: Array
    rows: Array

    @property
    def pooled(self) -> Moments:
        """All kinds as one."""
        return Moments(
            self.gram.sum(0, keepdims=True),
            self.cross.sum(0, keepdims=True),
            self.rows.sum(keepdims=True),
        )

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.gram + other.gram, self.cross + other.cross, self.rows + other.rows)

    def __sub__(self, other: Moments) -> Moments:
        return Moments(self.gram - other.gram, self.cross - other.cross, self.rows - other.rows)

    def kind(self, number: int) -> Moments:
        """One of the kinds."""
        part = slice(number, number + 1)
        return Moments(self.gram[part], self.cross[part], self.rows[part])


def lagged(windows: Windows, targets: tuple[str, ...], n_steps: int) -> Lagged:
    """Target channels of windows that a task has split.

    Missing values in a context are filled along time between their neighbours, so are those of
    what followed, for learning alone; a channel of a window with more than a fifth missing is
    not learned from. (A device skips a window that is not whole: see the guide.)

    Errors: `DataError` ``windows-few`` where no window is left.
    """
    spec = windows.series
    at = [spec.channel_names.index(name) for name in targets]
    x = np.asarray(windows.x[:, at], dtype=np.float32)
    y = np.asarray(windows.y, dtype=np.float32).reshape(len(windows), len(targets), n_steps)
    missing = np.maximum((~np.isfinite(x)).mean(axis=2), (~np.isfinite(y)).mean(axis=2))
    used = missing <= MISSING
    if not used.any():
        raise DataError.of(
            "windows-few",
            f"{len(windows)} windows, none with four fifths of its values known",
            "a filter is learned from what followed what",
            "a longer recording, a shorter context or horizon, or interpolated gaps",
        )
    x = filled(x)
    with np.errstate(invalid="ignore"):
        y = np.where(np.isfinite(y), y, np.nan)
    own = windows.at_target if windows.at_target.any() else np.ones(len(windows), dtype=bool)
    variance = x[own].astype(np.float64).var(axis=(0, 2))
    return Lagged(
        x,
        y,
        used,
        variance,
        _order(windows),
        np.asarray(windows.recording),
        np.asarray(windows.start),
        own,
    )


def filled(values: Array) -> Array:
    """Missing values along the last axis replaced on a line between their neighbours.

    Ends repeat the nearest value; what is missing throughout becomes 0.

    >>> filled(np.array([[np.nan, 1.0, np.nan, 3.0]])).tolist()
    [[1.0, 1.0, 2.0, 3.0]]
    """
    if np.isfinite(values).all():
        return values
    flat = values.reshape(-1, values.shape[-1]).copy()
    at = np.arange(flat.shape[1])
    holes = ~np.isfinite(flat).all(axis=1)
    for number in np.flatnonzero(holes):
        known = np.isfinite(flat[number])
        flat[number, ~known] = (
            np.interp(at[~known], at[known], flat[number, known]) if known.any() else 0.0
        )
    return np.asarray(flat.reshape(values.shape))


def moments(series: Lagged, *, by_channel: bool = False, weights: Array | None = None) -> Moments:
    """Moments of the windows, channels together or (`by_channel`) each on its own.

    Args:
        weights: float (n_windows,), how much each window counts; 1 each if not given.

    >>> x = np.arange(15, dtype=np.float32).reshape(5, 1, 3)
    >>> windows = Windows.of(x, channels=["load"])
    >>> from dataclasses import replace
    >>> part = lagged(replace(windows, y=np.ones((5, 2), np.float32)), ("load",), 2)
    >>> found = moments(part)
    >>> found.gram.shape, found.cross.shape, found.rows.tolist()
    ((1, 3, 3), (1, 3, 2), [5.0])
    """
    n_targets, n_timepoints, n_steps = series.shape
    n_kinds = n_targets if by_channel else 1
    gram = np.zeros((n_kinds, n_timepoints, n_timepoints))
    cross = np.zeros((n_kinds, n_timepoints, n_steps))
    rows = np.zeros(n_kinds)
    for channel in range(n_targets):
        kind = channel if by_channel else 0
        every = np.flatnonzero(series.used[:, channel])
        if series.variance[channel] <= _TINY:
            continue  # a constant channel teaches nothing
        for first in range(0, len(every), _BLOCK):
            at = every[first : first + _BLOCK]
            x, y = series.x[at, channel], filled(series.y[at, channel])
            last = x[:, -1:]
            spread = x.var(axis=1, keepdims=True) + np.float32(CALM * series.variance[channel])
            weight = 1 / np.sqrt(spread)
            if weights is not None:
                weight = weight * np.sqrt(weights[at, None]).astype(np.float32)
            seen, said = (x - last) * weight, (y - last) * weight
            gram[kind] += seen.T @ seen
            cross[kind] += seen.T @ said
            rows[kind] += len(at)
    return Moments(gram, cross, rows)


def applied(filters: Array, x: Array) -> Array:
    """Forecasts float32 (n_windows, n_targets, n_steps) of filters (n_targets or 1, ...)."""
    filters = np.asarray(filters, dtype=np.float32)
    last = x[:, :, -1:]
    seen = (x - last).transpose(1, 0, 2)  # channels first: one product each
    return np.asarray(np.matmul(seen, filters).transpose(1, 0, 2) + last, dtype=np.float32)


def _order(windows: Windows) -> Array:
    share = np.zeros(len(windows))
    for number in np.unique(windows.recording):
        own = np.flatnonzero(windows.recording == number)
        ranked = np.argsort(windows.start[own], kind="stable")
        share[own[ranked]] = (np.arange(len(own)) + 0.5) / len(own)
    return np.asarray(np.argsort(np.argsort(share, kind="stable"), kind="stable"))
