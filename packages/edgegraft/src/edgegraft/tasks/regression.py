"""A number for each window: a labelled quantity, a channel told by the others, remaining life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgegraft.data.dataset import Dataset
from edgegraft.data.lives import remaining_life, span_values
from edgegraft.data.track import origin
from edgegraft.tasks.estimate_metrics import estimate_metrics
from edgegraft.tasks.metrics import Tallied
from edgegraft_edge.derived import parse
from edgegraft_edge.errors import DataError, OptionError, Problem, nearest
from edgegraft_edge.estimate import POINT, Outputs
from edgegraft_edge.signal import Array, Channel, Recording, Windows, WindowSpec

REMAINING = "remaining"
LABEL = "value"
PRIMARY = ("rmse", "mae", "mse", "r2", "quantile_loss", "phm_score")
UNITS: Mapping[str, float | None] = {
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "cycles": None,
    "samples": None,
}
"""Seconds of each unit of remaining life; None: counted in samples."""


@dataclass(frozen=True)
class Regression:
    """Estimation of one number at the end of each window.

    Errors: `OptionError` ``option-range`` for a cap, coverage, unit or metric that cannot be.

    >>> windows = Windows.of(np.zeros((3, 1, 8)), y=["1.5", "2", ""])
    >>> Regression().relabelled(windows).y.ravel().tolist()
    [1.5, 2.0, nan]
    """

    name: str = field(default="regression", metadata={"help": "name of the task"})
    target: str = field(
        default="",
        metadata={"help": "what is estimated: a channel, remaining (life), or the label if none"},
    )
    cap: float = field(
        default=0.0,
        metadata={"help": "remaining life above this counts as this; 0: no such bound"},
    )
    unit: str = field(
        default="",
        metadata={"help": "of remaining life: s, min, h, d, cycles or samples; s if none"},
    )
    coverage: float = field(
        default=0.9,
        metadata={"help": "share of truths that intervals are to hold; 0: no intervals"},
    )
    primary: str = field(
        default="rmse", metadata={"help": "metric that selection and verdict go by"}
    )

    def __post_init__(self) -> None:
        units = f"one of {', '.join(UNITS)}"
        rules = {
            f"cap {self.cap}": (self.cap >= 0, "it is a life, or 0 for none", "e.g. 125"),
            f"coverage {self.coverage}": (0 <= self.coverage < 1, "it is a share", "e.g. 0.9"),
            f"unit {self.unit!r}": (self.target != REMAINING or self.unit in ("", *UNITS),
                                    "remaining life is counted in a unit of time", units),
            f"metric {self.primary!r}": (self.primary in PRIMARY, "no such metric of regression",
                                         nearest(self.primary, PRIMARY)),
        }  # fmt: skip
        problems = [
            Problem("option-range", found, why, remedy)
            for found, (good, why, remedy) in rules.items()
            if not good
        ]
        if problems:
            raise OptionError(problems)

    @property
    def is_life(self) -> bool:
        return self.target == REMAINING

    @property
    def outputs(self) -> Outputs:
        """The point and the ends of the interval."""
        tail = round((1 - self.coverage) / 2, 6)
        levels = (tail, POINT, round(1 - tail, 6)) if self.coverage else (POINT,)
        unit = self.unit or ("s" if self.is_life else "")
        return Outputs((self.target or LABEL,), (unit,), levels=levels)

    @property
    def limits(self) -> tuple[float, float] | None:
        """Between which estimates are held whatever was seen; None where only that is known."""
        return (0.0, self.cap or float("inf")) if self.is_life else None

    @property
    def metrics(self) -> Mapping[str, Tallied]:
        return estimate_metrics(self.outputs, life=self.is_life)

    def windows(self, data: Dataset) -> Windows:
        """Opened data cut into windows with the number that holds at the end of each.

        A channel that is estimated is taken out of the windows, with all that is derived from it.

        Errors: `DataError` ``target-unknown`` for a channel that is not there, ``target-alone``
        where no other channel is, ``target-text`` for a label that is no number.
        """
        if data.ready is not None:
            if self.target:
                raise DataError.of(
                    "windows-ready",
                    f"target {self.target!r} in {data.uri or 'ready windows'}",
                    "only whole recordings say what a channel or a life was at the end of each",
                    "open the recordings, or give ready windows their numbers as y",
                )
            return self.relabelled(data.ready)
        values = self._values(data)
        if self.target and not self.is_life:
            data = _without(data, self.target)
        bare = tuple(replace(recording, labels=()) for recording in data.recordings)
        windows = replace(data, recordings=bare).windows()
        assert isinstance(windows.spec, WindowSpec)
        last = windows.start + windows.spec.n_timepoints - 1
        y = np.array(
            [values[r][at] for r, at in zip(windows.recording, last, strict=True)], dtype=np.float32
        )
        return self.relabelled(replace(windows, y=y.reshape(-1, 1)))

    def bound(self, windows: Windows) -> Regression:
        """The same task: what is estimated is settled by its options."""
        return self

    def remarks(self, windows: Windows, beside: Windows) -> tuple[str, ...]:
        """What is worth saying of training windows before anything is learned.

        Args:
            beside: the pool and the sources.

        Errors: `DataError` ``units-few`` for remaining life of one unit, without any source.
        """
        known = windows.take(np.flatnonzero(windows.labelled))
        lives = {origin(known.names[r]) or r for r in known.recording} if known.names else set()
        if self.is_life and len(lives) == 1 and not (beside.labelled & ~beside.at_target).any():
            raise DataError.of(
                "units-few",
                "the life of one unit",
                "how long another lives cannot be tried on the same one",
                "two or more units that failed, or --source with units of another kind",
            )
        return ()

    def relabelled(self, windows: Windows) -> Windows:
        """The windows with their numbers as float32 (n_windows, 1), none above the cap.

        Errors: `DataError` ``target-text`` for labels that are no numbers.
        """
        y = windows.y if windows.y.dtype.kind == "f" else numbers(windows.y)
        y = np.asarray(y, dtype=np.float32).reshape(len(windows), -1)
        if self.cap:
            y = np.where(np.isfinite(y), np.minimum(y, np.float32(self.cap)), y)
        return replace(windows, y=y)

    def classes(self, windows: Windows) -> tuple[str, ...]:
        """The columns of a model.

        Errors: `DataError` ``labels-missing`` where no target is known, ``failure-missing`` where
        that is so as no unit was seen to fail, ``target-constant`` where all are the same.
        """
        y = self.relabelled(windows).y
        known = y[np.isfinite(y)]
        if not len(known):
            code, why, remedy = "labels-missing", "a number must be known of some", (
                "name the column of the numbers, or a channel with target=NAME"
            )  # fmt: skip
            if self.is_life:
                code, why = "failure-missing", "remaining life is learned from units that failed"
                remedy = "recordings of units that ran to failure, or what remained at their ends"
            raise DataError.of(code, f"no target known of {len(windows)} windows", why, remedy)
        if np.ptp(known) <= 1e-6 * (1 + np.abs(known).max()):
            raise DataError.of(
                "target-constant",
                f"all {len(known)} known targets are {known[0]:g}",
                "there is nothing to tell apart",
                "data in which the target changes" + (", or a higher cap" if self.cap else ""),
            )
        return self.outputs.columns

    def truth(self, windows: Windows, columns: Sequence[str]) -> Array:
        """The numbers float32 (n_windows, 1), NaN where unknown."""
        return self.relabelled(windows).y

    def _values(self, data: Dataset) -> list[Array]:
        """What is estimated at every sample of each recording, NaN where unknown."""
        if self.is_life:
            return remaining_life(data.recordings, UNITS[self.unit or "s"])
        if not self.target:
            return [span_values(recording) for recording in data.recordings]
        names = [channel.name for channel in data.channels]
        if self.target not in names:
            raise DataError.of(
                "target-unknown",
                f"target {self.target!r}",
                "no channel of the data has that name",
                f"{nearest(self.target, names)}, {REMAINING}, or none for the label",
            )
        row = names.index(self.target)
        return [recording.values[row] for recording in data.recordings]


def numbers(labels: Array) -> Array:
    """Labels as float32 (n_windows,), NaN where there is none.

    Errors: `DataError` ``target-text``.
    """
    found = np.full(len(labels), np.nan, dtype=np.float32)
    wrong = []
    for text in sorted({str(label) for label in labels} - {""}):
        try:
            value = float(text)
        except ValueError:
            wrong.append(text)
            continue
        found[labels == text] = value
    if wrong:
        raise DataError.of(
            "target-text",
            f"labels {', '.join(wrong[:5])}",
            "a number is to be estimated",
            "name the column of the numbers with label=..., or take task classification",
        )
    return found


def _without(data: Dataset, target: str) -> Dataset:
    """The data without a channel and what is derived from it."""

    def stays(channel: Channel) -> bool:
        return channel.name != target and not (
            channel.derive and parse(channel.derive).source == target
        )

    kept = [row for row, channel in enumerate(data.channels) if stays(channel)]
    if not any(not data.channels[row].derive for row in kept):
        raise DataError.of(
            "target-alone",
            f"target {target!r} is the only measured channel",
            "a soft sensor tells one channel from others",
            "more channels, or the task forecasting",
        )
    channels = tuple(data.channels[row] for row in kept)

    def cut(recording: Recording) -> Recording:
        return replace(recording, values=recording.values[kept], channels=channels)

    return replace(data, recordings=tuple(cut(recording) for recording in data.recordings))
