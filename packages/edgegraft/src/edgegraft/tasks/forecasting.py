"""What comes next: every target channel at each of so many samples ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgegraft.data.dataset import Dataset
from edgegraft.data.season import find_seasons
from edgegraft.tasks.estimate_metrics import estimate_metrics
from edgegraft.tasks.task import Metric
from edgegraft_edge.errors import DataError, OptionError, Problem, nearest
from edgegraft_edge.estimate import MAX_COLUMNS, POINT, Outputs
from edgegraft_edge.signal import Array, Windows

MOST_WINDOWS = 2_500
"""Windows beyond this many are not cut: neighbours say nearly the same."""
CYCLES = 3
"""Seasons that a context holds, where it is chosen and the data allow it."""
MOST_CONTEXT = 1_024
"""Samples of a context that is chosen, but for two of the first season, up to twice as many."""
_BLANK = Outputs(("value",))


@dataclass(frozen=True)
class Forecasting:
    """Forecasts of channels, with quantiles, from the samples before.

    Data are cut into windows of `context` + `horizon` samples; `relabelled` splits them: the
    context is what a model sees, what follows is what it must say. A channel in `known` is known
    ahead (a weather forecast, a plan): the model sees it `horizon` samples further, and so the
    device must push at each time the value for `horizon` samples later.

    `season`, `context` and `scale` are settled by `bound`.

    Errors: `OptionError` ``forecast-form`` for options that do not fit together,
    ``metric-unknown``.

    >>> series = np.arange(12, dtype=np.float32).reshape(1, 1, 12)
    >>> windows = Windows.of(series, channels=["load"])
    >>> task = Forecasting(horizon=3).bound(windows)
    >>> found = task.relabelled(windows)
    >>> found.x.shape, found.y.tolist(), task.outputs.targets
    ((1, 1, 9), [[9.0, 10.0, 11.0]], ('load+1', 'load+2', 'load+3'))
    """

    name: str = field(default="forecasting", metadata={"help": "name of the task"})
    target: tuple[str, ...] = field(
        default=(), metadata={"help": "channels to forecast; all that are not known ahead if none"}
    )
    horizon: int = field(default=24, metadata={"help": "samples ahead, each of which is forecast"})
    context: int = field(
        default=0, metadata={"help": "samples a forecast is made from; 0: three seasons or more"}
    )
    season: int = field(
        default=0, metadata={"help": "samples of a season; 0: found by autocorrelation"}
    )
    levels: tuple[float, ...] = field(
        default=(0.05, POINT, 0.95), metadata={"help": "levels of the quantiles, 0.5 among them"}
    )
    known: tuple[str, ...] = field(
        default=(), metadata={"help": "channels known ahead; pushed `horizon` samples early"}
    )
    stride: int = field(
        default=0, metadata={"help": "samples from one forecast to the next; 0: chosen"}
    )
    primary: str = field(
        default="mase", metadata={"help": "metric that selection and verdict go by"}
    )
    channels: tuple[str, ...] = field(
        default=(), metadata={"help": "all channels, in order; settled by the data"}
    )
    units: tuple[str, ...] = field(
        default=(), metadata={"help": "units of the targets; settled by the data"}
    )
    scale: tuple[float, ...] = field(
        default=(), metadata={"help": "error that counts as 1 in mase; settled by the data"}
    )

    def __post_init__(self) -> None:
        asked = {
            f"horizon {self.horizon}": self.horizon >= 1,
            f"context {self.context}": self.context == 0 or self.context >= 2,
            f"season {self.season}": self.season >= 0,
            f"stride {self.stride}": self.stride >= 0,
            f"levels {self.levels}": POINT in self.levels
            and list(self.levels) == sorted(set(self.levels))
            and self.levels[0] > 0
            and self.levels[-1] < 1,
            f"known {self.known}": not set(self.known) & set(self.target),
        }
        problems = [
            Problem(
                "forecast-form",
                found,
                "lengths are in samples; levels rise from above 0 to below 1 and hold 0.5; a "
                "target is not known ahead",
                "e.g. horizon=96, context=512, levels=(0.05, 0.5, 0.95)",
            )
            for found, good in asked.items()
            if not good
        ]
        if self.primary not in self.metrics and not problems:
            problems = [
                Problem(
                    "metric-unknown",
                    f"metric {self.primary!r}",
                    "forecasting does not measure that",
                    nearest(self.primary, list(self.metrics)),
                )
            ]
        if problems:
            raise OptionError(problems)

    @property
    def outputs(self) -> Outputs | None:
        """Every target at every step, once the task is bound."""
        if not self.scale:
            return None
        steps = tuple(range(1, self.horizon + 1))
        return Outputs(self.target, self.units, steps, self.levels)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        outputs = self.outputs or _BLANK
        return estimate_metrics(outputs, np.array(self.scale or (1.0,) * len(outputs.names)))

    def windows(self, data: Dataset) -> Windows:
        """Recordings cut into windows of context and horizon together.

        Errors: `DataError` ``series-short`` where no recording holds one such window, with what
        would fit.
        """
        if data.ready is not None:
            return data.windows()
        if not data.recordings:
            return data.windows()  # the error says what became of the rows
        longest = max(each.n_timepoints for each in data.recordings)
        context = self.context or self._chosen_context(data, longest)
        length = context + self.horizon
        if longest < length:
            raise DataError.of(
                "series-short",
                f"{len(data.recordings)} recordings, the longest of {longest} samples",
                f"a context of {context} and a horizon of {self.horizon} take {length}",
                f"a shorter context or horizon, {longest} samples together at most, or more data",
            )
        starts = sum(max(0, each.n_timepoints - length + 1) for each in data.recordings)
        stride = self.stride or max(1, -(-starts // MOST_WINDOWS), self.horizon // 24)
        return data.windows(length / data.rate_hz, stride / data.rate_hz)

    def bound(self, windows: Windows) -> Forecasting:
        """The task with targets, context, season and the scale of ``mase`` of these windows.

        Errors: `DataError` ``channel-missing`` for a target or known channel that is not there,
        ``series-short`` for windows no longer than the horizon, ``forecast-size``,
        ``known-derived`` for a derived channel as known ahead.
        """
        spec = windows.series
        names = spec.channel_names
        missing = [name for name in (*self.target, *self.known) if name not in names]
        if missing:
            raise DataError(
                [
                    Problem(
                        "channel-missing",
                        f"channel {name!r} is not in the data",
                        "what is forecast, and what is known ahead, must have been recorded",
                        nearest(name, list(names)),
                    )
                    for name in missing
                ]
            )
        derived = {channel.name for channel in spec.channels if channel.derive}
        target = self.target or tuple(n for n in names if n not in derived.union(self.known))
        context = spec.n_timepoints - (0 if self._is_split(windows) else self.horizon)
        problems = [
            Problem("known-derived", f"channel {name!r} as known ahead",
                    "the device computes it for now, from what it has measured",
                    "leave it out of known: hour and weekday of now tell those of later")
            for name in self.known
            if name in derived
        ]  # fmt: skip
        if context < 2:
            found = f"windows of {spec.n_timepoints} samples for a horizon of {self.horizon}"
            problems.append(Problem("series-short", found, "nothing is left to forecast from",
                                    "longer windows or a shorter horizon"))  # fmt: skip
        if not target:
            problems.append(Problem("forecast-size", "every channel is known ahead",
                                    "nothing is left to forecast", "name the targets"))  # fmt: skip
        if len(target) * self.horizon * len(self.levels) > MAX_COLUMNS:
            found = f"{len(target)} targets, {self.horizon} steps, {len(self.levels)} levels"
            problems.append(Problem("forecast-size", found, f"at most {MAX_COLUMNS} numbers ship",
                                    "fewer targets, steps or levels"))  # fmt: skip
        if problems:
            raise DataError(problems)
        rows = [names.index(name) for name in target]
        stretches = [_joined(windows, number)[rows] for number in np.unique(windows.recording)[:32]]
        if not any(np.nanmax(each, initial=-np.inf) > np.nanmin(each, initial=np.inf)
                   for values in stretches for each in values):  # fmt: skip
            raise DataError.of(
                "series-constant",
                f"{', '.join(target[:8])} without a single change",
                "there is nothing to forecast, and any score would be perfect",
                "another target, or data in which it moves",
            )
        season = self.season or next(iter(find_seasons(stretches, rate_hz=spec.rate_hz)), 1)
        by_name = {channel.name: channel.unit for channel in spec.channels}
        return replace(
            self,
            target=target,
            units=tuple(by_name[name] for name in target),
            channels=names,
            context=context,
            season=season,
            scale=_scale(stretches, season),
        )

    def relabelled(self, windows: Windows) -> Windows:
        """Contexts, with y float32 (n_windows, n_targets * horizon) of what followed them.

        Channels known ahead are seen `horizon` samples further. Windows that are split already
        stay as they are.

        Errors: `DataError` ``series-short`` for windows of another length, ``channel-missing``.
        """
        if self._is_split(windows):
            return windows
        spec = windows.series
        lacking = [name for name in (*self.target, *self.known) if name not in spec.channel_names]
        if spec.n_timepoints != self.context + self.horizon or lacking:
            raise DataError.of(
                "channel-missing" if lacking else "series-short",
                f"no channel {', '.join(lacking)}"
                if lacking
                else f"windows of {spec.n_timepoints} samples",
                f"the task takes {self.context} samples and forecasts {self.horizon}",
                "data with the channels of training, cut by the same task",
            )
        at = [spec.channel_names.index(name) for name in self.target]
        y = windows.x[:, at, self.context :].reshape(len(windows), -1)
        x = windows.x[:, :, : self.context]
        if self.known:
            x = x.copy()
            ahead = [spec.channel_names.index(name) for name in self.known]
            x[:, ahead] = windows.x[:, ahead, self.horizon :]
        seen = replace(spec, length_s=self.context / spec.rate_hz)
        return replace(windows, x=x, y=np.ascontiguousarray(y, dtype=np.float32), spec=seen)

    def classes(self, windows: Windows) -> tuple[str, ...]:
        """The columns of a forecast.

        Errors: `DataError` ``task-unbound`` before `bound`, ``targets-missing`` where no value to
        forecast is known.
        """
        outputs = self.outputs
        if outputs is None or not self._is_split(windows) or not np.isfinite(windows.y).any():
            raise DataError.of(
                "task-unbound" if outputs is None else "targets-missing",
                f"{len(windows)} windows without anything known of what follows them",
                "a forecast is learned from what followed",
                "windows cut by the task: longer by the horizon",
            )
        return outputs.columns

    def truth(self, windows: Windows, columns: Sequence[str]) -> Array:
        """What followed, float (n_windows, n_targets * horizon), NaN where unknown."""
        return np.asarray(windows.y)

    def _is_split(self, windows: Windows) -> bool:
        return windows.y.dtype.kind == "f" and windows.y.ndim == 2

    def _chosen_context(self, data: Dataset, longest: int) -> int:
        """Three of the longest season, or two horizons; at most what a third of the data holds."""
        values = [each.values for each in data.recordings[:32]]
        seasons = (self.season,) if self.season else find_seasons(values, rate_hz=data.rate_hz)
        first = min(seasons, default=1)
        most = max(MOST_CONTEXT, min(2 * first, 2 * MOST_CONTEXT))
        wished = min(max(CYCLES * max(seasons, default=1), 2 * self.horizon, 16), most)
        return max(2, min(wished, max((longest - self.horizon) // 3, 2 * first)))


def _joined(windows: Windows, number: int) -> Array:
    """What the windows of one recording hold, in order: (n_channels, n_timepoints), gaps NaN."""
    own = np.flatnonzero(windows.recording == number)
    first, length = int(windows.start[own].min()), windows.x.shape[-1]
    size = int(windows.start[own].max()) - first + length
    if size > 50 * len(own) * length:  # far apart: one window stands for all
        return np.asarray(windows.x[own[0]])
    out = np.full((windows.x.shape[1], size), np.nan, dtype=np.float32)
    for at in own[np.argsort(windows.start[own], kind="stable")]:
        place = int(windows.start[at]) - first
        out[:, place : place + length] = windows.x[at]
    return out


def _scale(stretches: Sequence[Array], season: int) -> tuple[float, ...]:
    """Mean absolute error of a seasonal naive forecast of each channel; 1 for a constant one."""
    totals, counts = np.zeros(len(stretches[0])), np.zeros(len(stretches[0]))
    for values in stretches:
        gap = np.abs(values[:, season:] - values[:, :-season]) if season < values.shape[1] else None
        if gap is None or not np.isfinite(gap).any():
            gap = np.abs(np.diff(values, axis=1))
        totals += np.nansum(gap, axis=1, dtype=np.float64)
        counts += np.isfinite(gap).sum(axis=1)
    mean = totals / np.maximum(counts, 1)
    return tuple(float(each) if each > 1e-12 else 1.0 for each in mean)
