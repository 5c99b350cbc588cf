"""What is asked of a model: which targets, which losses, which metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol

from edgegraft.catalog import find, names
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


def as_lineage(task: Task) -> dict[str, Any]:
    """A bound task as plain JSON values under "task", for the lineage of what was adapted to it.

    Nothing of plain classification: labels and probabilities say it all.

    >>> from edgegraft.tasks.regression import Regression
    >>> as_lineage(Regression(cap=125.0))["task"]["cap"]
    125.0
    """
    if task.name == "classification" or task.name not in names("tasks"):
        return {}
    values = {entry.name: getattr(task, entry.name) for entry in fields(task)}  # type: ignore[arg-type]
    plain = {key: list(each) if isinstance(each, tuple) else each for key, each in values.items()}
    return {"task": plain}


def task_of(predictor: Any) -> Task | None:
    """The task that an adapted model or a bundle was made for, bound as it was; None if unknown."""
    manifest = getattr(predictor, "manifest", None)
    lineage = getattr(predictor, "lineage", {}) if manifest is None else manifest.lineage
    said = lineage.get("task")
    if not isinstance(said, Mapping) or said.get("name") not in names("tasks"):
        return None
    kind = find("tasks", str(said["name"]))
    known = {entry.name for entry in fields(kind)}
    task: Task = kind(
        **{key: tuple(each) if isinstance(each, list | tuple) else each
           for key, each in said.items() if key in known}
    )  # fmt: skip
    return task
