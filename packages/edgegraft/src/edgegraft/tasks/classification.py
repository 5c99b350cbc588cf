"""One label for each window, of a known set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgegraft.data.dataset import Dataset
from edgegraft.tasks.metrics import CLASSIFICATION
from edgegraft.tasks.task import Metric
from edgegraft_edge.errors import DataError, OptionError, nearest
from edgegraft_edge.signal import Array, Windows


@dataclass(frozen=True)
class Classification:
    """Classification of windows.

    Errors: `OptionError` when `primary` is not one of the metrics.

    >>> sorted(Classification().metrics)[:3]
    ['accuracy', 'balanced_accuracy', 'brier']
    """

    name: str = field(default="classification", metadata={"help": "name of the task"})
    primary: str = field(
        default="macro_f1", metadata={"help": "metric that selection and verdict go by"}
    )

    def __post_init__(self) -> None:
        if self.primary not in CLASSIFICATION:
            raise OptionError.of(
                "metric-unknown",
                f"metric {self.primary!r}",
                "classification does not measure that",
                nearest(self.primary, list(CLASSIFICATION)),
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

    def bound(self, windows: Windows) -> Classification:
        """The same task: the labels settle nothing beforehand."""
        return self

    def relabelled(self, windows: Windows) -> Windows:
        """The windows as they are: every label is a class."""
        return windows

    def classes(self, windows: Windows) -> tuple[str, ...]:
        """The classes of a training set, sorted.

        Errors: `DataError` ``labels-missing`` where no window is labelled, ``one-class`` where
        all labels are the same.

        >>> import numpy as np
        >>> Classification().classes(Windows.of(np.zeros((3, 1, 8)), y=["b", "a", ""]))
        ('a', 'b')
        """
        found = windows.classes
        if not found:
            raise DataError.of(
                "labels-missing",
                f"none of {len(windows)} windows carries a label",
                "a classifier learns from labelled windows",
                "name the column or file of the labels, or label a few windows of each class",
            )
        if len(found) < 2:
            raise DataError.of(
                "one-class",
                f"all {int(windows.labelled.sum())} labelled windows are {found[0]!r}",
                "with one class there is nothing to tell apart",
                "label some windows of another class",
            )
        return found
