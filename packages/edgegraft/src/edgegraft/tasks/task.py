"""What is asked of a model: which targets, which losses, which metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from edgegraft.data.dataset import Dataset
from edgegraft_edge.estimate import Outputs
from edgegraft_edge.signal import Array, Windows

Metric = Callable[[Array, Array], float]
"""(table (n_windows, n_columns), truth) -> one number.

Of classes the table holds probabilities and the truth codes int (n_windows,); of estimates the
table holds their columns and the truth float (n_windows, n_targets), NaN where unknown.
"""


class Task(Protocol):
    """A task names its metrics and turns labels into targets."""

    @property
    def name(self) -> str: ...

    @property
    def primary(self) -> str:
        """The metric that selection and verdict go by."""
        ...

    @property
    def metrics(self) -> Mapping[str, Metric]: ...

    @property
    def outputs(self) -> Outputs | None:
        """What is estimated, once the task is bound; None of a task that tells classes apart."""
        ...

    def windows(self, data: Dataset) -> Windows:
        """How opened data is cut for this task."""
        ...

    def bound(self, windows: Windows) -> Task:
        """The task as these training windows settle it, e.g. which of their labels is normal."""
        ...

    def relabelled(self, windows: Windows) -> Windows:
        """The windows with their labels as this task takes them."""
        ...

    def classes(self, windows: Windows) -> tuple[str, ...]:
        """The columns that a model of this training set gives: its classes, or its estimates.

        Errors: `DataError` where nothing can be learned, e.g. of fewer than two classes.
        """
        ...

    def truth(self, windows: Windows, columns: Sequence[str]) -> Array:
        """What metrics compare a table of these columns with."""
        ...
