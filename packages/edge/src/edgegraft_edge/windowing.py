"""The one definition of slicing: a whole recording and a live stream give the same windows.

Window k starts at sample ``k * n_stride`` and holds `n_timepoints` samples; a tail that does
not fill a window is left out. A gap ends a recording, so a stream calls :meth:`Ring.reset`
there and counting starts again at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgegraft_edge.errors import DataError, Problem, nearest
from edgegraft_edge.signal import Array, Channel, Spec, Windows, WindowSpec

RATE_TOLERANCE = 0.02


def cut(values: Array, spec: WindowSpec) -> tuple[Array, Array]:
    """Windows of an unbroken stretch of signal.

    Args:
        values: (n_channels, n_timepoints), channels in the order of the spec.

    Returns: float32 (n_windows, n_channels, n_timepoints) and int64 (n_windows,), the index of
    each window's first sample.

    Errors: `DataError` when the channels are not those of the spec.

    >>> spec = WindowSpec(length_s=3.0, stride_s=2.0, rate_hz=1.0, channels=(Channel("x"),))
    >>> x, starts = cut(np.arange(6.0)[None], spec)
    >>> x.tolist(), starts.tolist()
    ([[[0.0, 1.0, 2.0]], [[2.0, 3.0, 4.0]]], [0, 2])
    """
    values = _checked(values, spec)
    length, stride = spec.n_timepoints, spec.n_stride
    if values.shape[1] < length:
        return np.empty((0, spec.n_channels, length), np.float32), np.empty(0, np.int64)
    view = sliding_window_view(values, length, axis=1)[:, ::stride].transpose(1, 0, 2)
    return np.ascontiguousarray(view), np.arange(len(view), dtype=np.int64) * stride


class Ring:
    """A live stream cut into windows; it remembers less than one window of samples.

    >>> spec = WindowSpec(length_s=3.0, stride_s=2.0, rate_hz=1.0, channels=(Channel("x"),))
    >>> ring = Ring(spec)
    >>> ring.push(np.array([[0.0, 1.0]]))
    []
    >>> [(start, window.tolist()) for start, window in ring.push(np.array([[2.0, 3.0]]))]
    [(0, [[0.0, 1.0, 2.0]])]
    """

    def __init__(self, spec: WindowSpec):
        self.spec = spec
        self._buffer = np.empty((spec.n_channels, spec.n_timepoints), np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget all samples, as after a gap: the next sample has index 0."""
        self._filled = 0
        self._skip = 0
        self._start = 0

    def push(self, samples: Array) -> list[tuple[int, Array]]:
        """Take samples (n_channels, any count) and give the windows they complete.

        Returns: for each window the index of its first sample since the last reset, and
        float32 (n_channels, n_timepoints), a copy of its own.
        """
        samples = _checked(samples, self.spec)
        length, stride = self.spec.n_timepoints, self.spec.n_stride
        keep = max(0, length - stride)
        windows, position, count = [], 0, samples.shape[1]
        while position < count:
            if self._skip:  # a stride longer than the window leaves samples out
                skipped = min(self._skip, count - position)
                self._skip -= skipped
                position += skipped
                continue
            taken = min(length - self._filled, count - position)
            stop = self._filled + taken
            self._buffer[:, self._filled : stop] = samples[:, position : position + taken]
            self._filled = stop
            position += taken
            if stop == length:
                windows.append((self._start, self._buffer.copy()))
                self._buffer[:, :keep] = self._buffer[:, length - keep :]
                self._filled, self._skip = keep, max(0, stride - length)
                self._start += stride
        return windows


def measured(spec: WindowSpec) -> WindowSpec:
    """The spec with those channels alone that a source must give; derived ones are computed.

    >>> channels = (Channel("x"), Channel("age", "s", derive="age"))
    >>> measured(WindowSpec(1.0, 1.0, 50.0, channels)).channel_names
    ('x',)
    """
    return replace(spec, channels=tuple(c for c in spec.channels if not c.derive))


def bind(
    spec: WindowSpec, channels: Sequence[Channel | str], rate_hz: float | None = None
) -> list[int]:
    """Where each channel of the spec stands among those that a source gives.

    Channels are bound by name, never by place; what the spec does not name is left out.

    Errors: `DataError` with every missing or repeated channel, every other unit (where both
    are known) and a rate more than 2 % off.

    >>> spec = WindowSpec(1.0, 1.0, 50.0, (Channel("acc_x", "m/s2"), Channel("acc_y", "m/s2")))
    >>> bind(spec, ["acc_y", "temperature", "acc_x"])
    [2, 0]
    """
    given = [Channel(item) if isinstance(item, str) else item for item in channels]
    names = [channel.name for channel in given]
    problems, places = [], []
    for wanted in spec.channels:
        count = names.count(wanted.name)
        if count != 1:
            spare = [name for name in names if name not in spec.channel_names]
            close = nearest(wanted.name, spare) if spare else "nothing there fits"
            problems.append(
                Problem(
                    "channel-missing" if count == 0 else "channel-repeated",
                    f"channel {wanted.name!r} occurs {count} times in the source",
                    "channels are bound by name, each exactly once",
                    f"open the data with --derive {wanted.derive}"
                    if wanted.derive
                    else f"rename in the source: {close}",
                )
            )
            continue
        places.append(names.index(wanted.name))
        unit = given[places[-1]].unit
        if unit and wanted.unit and unit != wanted.unit:
            problems.append(
                Problem(
                    "unit-mismatch",
                    f"channel {wanted.name!r} in {unit!r}, learned in {wanted.unit!r}",
                    "the same number would mean something else",
                    f"convert the source to {wanted.unit}",
                )
            )
    if rate_hz is not None and abs(rate_hz / spec.rate_hz - 1.0) > RATE_TOLERANCE:
        problems.append(
            Problem(
                "rate-mismatch",
                f"a source at {rate_hz:g} Hz for windows at {spec.rate_hz:g} Hz",
                "more than 2 % off, every pattern would run too fast or too slow",
                f"resample the source to {spec.rate_hz:g} Hz",
            )
        )
    if problems:
        raise DataError(problems)
    return places


def bind_windows(spec: Spec, windows: Windows) -> Array:
    """The windows as the spec wants them: of its kind, channels in its order, else refused.

    Channels go by name, and by position where the windows have no names (c0, c1, ...). A rate
    of 1 Hz stands for an unknown one.

    Returns: (n_windows, ...), as `windows.x`.

    Errors: `DataError` "kind-differs", or as of `bind`.
    """
    given = windows.spec
    if isinstance(given, WindowSpec) and isinstance(spec, WindowSpec):
        anonymous = given.channel_names == tuple(f"c{index}" for index in range(given.n_channels))
        if anonymous and given.channel_names != spec.channel_names:
            if given.n_channels != spec.n_channels:
                raise DataError.of(
                    "channel-count",
                    f"windows of {given.n_channels} channels without names",
                    f"the bundle takes {spec.n_channels}: {', '.join(spec.channel_names[:8])}",
                    "name the channels",
                )
            return windows.x
        unknown_rate = given.rate_hz == 1.0 or spec.rate_hz == 1.0
        places = bind(spec, given.channels, None if unknown_rate else given.rate_hz)
        return windows.x if places == list(range(given.n_channels)) else windows.x[:, places]
    if given.kind != spec.kind:
        raise DataError.of(
            "kind-differs",
            f"windows of kind {given.kind}",
            f"the model was made for {spec.kind}",
            f"give data of kind {spec.kind}",
        )
    return windows.x


def _checked(values: Array, spec: WindowSpec) -> Array:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity
        values = np.asarray(values, dtype=np.float32)
    if values.ndim != 2 or values.shape[0] != spec.n_channels:
        raise DataError.of(
            "channel-count",
            f"samples of shape {values.shape}",
            f"the windows have {spec.n_channels} channels: {', '.join(spec.channel_names[:8])}",
            "give (n_channels, n_timepoints) in the order of the spec",
        )
    return values
