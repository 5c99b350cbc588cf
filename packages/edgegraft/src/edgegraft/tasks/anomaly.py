"""Normal or not: learned from normal windows, tried on whatever else is labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgegraft.data.dataset import Dataset
from edgegraft.tasks.metrics import CLASSIFICATION
from edgegraft.tasks.task import Metric
from edgegraft_edge.errors import DataError, nearest
from edgegraft_edge.signal import UNLABELLED, Array, Windows

ANOMALY = "anomaly"
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

    @property
    def metrics(self) -> Mapping[str, Metric]:
        return CLASSIFICATION

    @property
    def outputs(self) -> None:
        """Nothing is estimated."""
        return None

    def windows(self, data: Dataset) -> Windows:
        """As the data set is cut by itself."""
        return data.windows()

    def truth(self, windows: Windows, columns: Sequence[str]) -> Array:
        """Codes int (n_windows,): the place of each label among the columns, -1 if none."""
        return windows.codes(columns)

    def bound(self, windows: Windows) -> Anomaly:
        """The task with the label that counts as normal in these windows.

        Errors: `DataError` "normal-unknown" where no label can be taken for normal.
        """
        return replace(self, normal=self._normal(windows))

    def relabelled(self, windows: Windows) -> Windows:
        """The same windows with the normal label and "anomaly" for all others.

        Errors: `DataError` "normal-unknown" where no label can be taken for normal.
        """
        normal = self._normal(windows)
        y = np.where(windows.y == normal, normal, ANOMALY)
        return replace(windows, y=np.where(windows.y == UNLABELLED, UNLABELLED, y))

    def classes(self, windows: Windows) -> tuple[str, ...]:
        """Both names, "anomaly" and the normal label, sorted, whether or not there are anomalies.

        Errors: `DataError` "normal-unknown".
        """
        return tuple(sorted((ANOMALY, self._normal(windows))))

    def _normal(self, windows: Windows) -> str:
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
