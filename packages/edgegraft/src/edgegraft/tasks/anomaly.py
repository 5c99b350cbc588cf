"""Normal or not: learned from normal windows, tried on whatever else is labelled.

Of continuous recordings, anomalies are intervals. A window counts as an anomaly as soon as an
interval that is not normal reaches into it, so that no such window is ever learned from as normal.
A window is as long as what repeats itself, and windows follow each other by a quarter of that, so
that an anomaly is met soon after it begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgegraft.data.dataset import Dataset
from edgegraft.tasks.metrics import CLASSIFICATION
from edgegraft.tasks.surface import window_of
from edgegraft.tasks.task import Metric
from edgegraft_edge.alarms import FalseAlarms
from edgegraft_edge.errors import DataError, OptionError, nearest
from edgegraft_edge.signal import UNLABELLED, Array, Windows, WindowSpec

ANOMALY = "anomaly"
SHORTEST, MOST_CHANNELS = 64, 8
NORMAL_NAMES = ("normal", "good", "ok", "healthy", "baseline", "nominal")


@dataclass(frozen=True)
class Anomaly:
    """Two classes: one label counts as normal, every other one as an anomaly.

    >>> windows = Windows.of(np.zeros((3, 1, 8)), y=["ok", "crack", "hole"])
    >>> Anomaly().relabelled(windows).y.tolist()
    ['ok', 'anomaly', 'anomaly']
    """

    name: str = field(default="anomaly", metadata={"help": "name of the task"})
    normal: str = field(
        default="", metadata={"help": "label that counts as normal; found by its name if none"}
    )
    primary: str = field(
        default="macro_f1", metadata={"help": "metric that selection and verdict go by"}
    )
    false_alarms: str = field(
        default="",
        metadata={"help": "how many are allowed: 1/day, 2/week, or a share of normal windows"},
    )
    unlabelled: str = field(
        default="auto",
        metadata={"help": "what windows without a label are: unknown, normal, or (auto) normal "
                  "where nothing at all is labelled"},
    )  # fmt: skip

    window: int = field(
        default=0,
        metadata={"help": "samples of a window; 0: as the data says, else the period, 64 to 300"},
    )
    stride: int = field(
        default=0,
        metadata={"help": "samples from window to window; 0: as the data says, else a quarter"},
    )

    def __post_init__(self) -> None:
        if self.false_alarms:
            FalseAlarms.parse(self.false_alarms)
        if self.window < 0 or self.stride < 0:
            raise OptionError.of(
                "option-range",
                f"window={self.window}, stride={self.stride}",
                "they are numbers of samples",
                "window=128, stride=32, or 0",
            )
        if self.unlabelled not in ("auto", "unknown", "normal"):
            raise OptionError.of(
                "option-range",
                f"unlabelled={self.unlabelled!r}",
                "windows without a label are one of three things",
                "unlabelled=unknown, normal or auto",
            )

    @property
    def metrics(self) -> Mapping[str, Metric]:
        return CLASSIFICATION

    @property
    def outputs(self) -> None:
        """Nothing is estimated."""
        return None

    def windows(self, data: Dataset) -> Windows:
        """Recordings cut as said above; what is cut already, and what is no series, as it is."""
        found = data.windows()
        if data.ready is not None or found.spec.kind != "series":
            return found
        rate_hz, options = data.rate_hz, data.options
        length = self.window or _length(found.series.n_timepoints, options.window_s, data)
        stride = self.stride or max(1, length // 4)
        kept = options.stride_s is not None and not self.stride
        found = data.windows(length / rate_hz, None if kept else stride / rate_hz)
        return self._touched(found, data)

    def truth(self, windows: Windows, columns: Sequence[str]) -> Array:
        """Codes int (n_windows,): the place of each label among the columns, -1 if none."""
        return windows.codes(columns)

    def bound(self, windows: Windows) -> Anomaly:
        """The task with the label that counts as normal in these windows.

        Errors: `DataError` "normal-unknown" where no label can be taken for normal.
        """
        if self.unlabelled == "auto":
            told = len(windows.classes) > 0 or not isinstance(windows.spec, WindowSpec)
            settled = replace(self, unlabelled="unknown" if told else "normal")
        else:
            settled = self
        return replace(settled, normal=settled._normal(windows))

    def relabelled(self, windows: Windows) -> Windows:
        """The same windows with the normal label and "anomaly" for all others.

        Errors: `DataError` "normal-unknown" where no label can be taken for normal.
        """
        normal = self._normal(windows)
        y = np.where(windows.y == normal, normal, ANOMALY)
        rest = normal if self.unlabelled == "normal" else UNLABELLED
        return replace(windows, y=np.where(windows.y == UNLABELLED, rest, y))

    def classes(self, windows: Windows) -> tuple[str, ...]:
        """Both names, "anomaly" and the normal label, sorted, whether or not there are anomalies.

        Errors: `DataError` "normal-unknown".
        """
        return tuple(sorted((ANOMALY, self._normal(windows))))

    def _touched(self, windows: Windows, data: Dataset) -> Windows:
        """A window that an interval other than a normal one reaches into carries its label."""
        spans = [
            (number, span)
            for number, recording in enumerate(data.recordings)
            for span in recording.labels
        ]
        labels = sorted({span.label for _, span in spans} - {UNLABELLED})
        if self.normal:
            normal = {self.normal}
        elif self.unlabelled == "normal":
            normal = set()
        else:
            normal = {label for label in labels if label.lower() in NORMAL_NAMES}
            normal = normal or (set(labels) if len(labels) == 1 else set())
        y = windows.y.astype(object)
        length = windows.series.n_timepoints
        for number, span in spans:
            if span.label not in normal | {UNLABELLED}:
                inside = (windows.start < span.stop) & (windows.start + length > span.start)
                y[(windows.recording == number) & inside] = span.label
        return replace(windows, y=y.astype(str))

    def _normal(self, windows: Windows) -> str:
        if self.unlabelled == "normal":
            return self.normal or next(
                (label for label in windows.classes if label.lower() in NORMAL_NAMES), "normal"
            )
        known = [label for label in windows.classes if label != ANOMALY]
        if self.normal in known:
            return self.normal
        named = [label for label in known if label.lower() in NORMAL_NAMES]
        if not self.normal and len(named) == 1:
            return named[0]
        if not self.normal and len(known) == 1:
            return known[0]
        wanted = self.normal or "normal"
        raise DataError.of(
            "normal-unknown",
            f"labels {', '.join(known[:8]) or 'none'}",
            f"none of them is {wanted!r}" if self.normal else "which one is normal is not clear",
            nearest(wanted, known) if known else "label the normal windows",
        )


def _length(usual: int, asked_s: float | None, data: Dataset) -> int:
    """Samples of a window: as asked, or the usual period of the channels, 64 to 300."""
    if asked_s is not None or usual < SHORTEST:
        return usual
    longest = max(data.recordings, key=lambda recording: recording.n_timepoints)
    moving = [row for row in longest.values if np.nanstd(row) > 0][:MOST_CHANNELS]
    period = int(np.median([window_of(row) for row in moving])) if moving else usual
    shortest = min(recording.n_timepoints for recording in data.recordings)
    return max(min(max(period, SHORTEST), max(usual, shortest // 3)), min(usual, SHORTEST))
