"""What is asked of a model: which targets, which losses, which metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from edgegraft_edge.signal import Array, Windows

Metric = Callable[[Array, Array], float]
"""(probabilities (n_windows, n_classes), codes int (n_windows,)) -> one number."""


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

    def bound(self, windows: Windows) -> Task:
        """The task as these training windows settle it, e.g. which of their labels is normal."""
        ...

    def relabelled(self, windows: Windows) -> Windows:
        """The windows with their labels as this task takes them."""
        ...

    def classes(self, windows: Windows) -> tuple[str, ...]:
        """The classes of a training set. Errors: `DataError` if there are fewer than two."""
        ...
