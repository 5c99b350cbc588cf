"""The contract of a task."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from edgegraft.tasks.task import Task
from edgegraft.testing.ground import Check, assert_frozen, run_all
from edgegraft.testing.samples import sample_windows
from edgegraft_edge.errors import EdgegraftError


def _is_frozen(task: Task) -> None:
    assert_frozen(task)
    assert task.name, "it has no name"


def _classes(task: Task) -> None:
    windows = sample_windows()
    assert task.classes(windows) == windows.classes, f"classes {task.classes(windows)}"
    y = np.where(windows.y == "rest", "rest", "")
    try:
        task.classes(dataclasses.replace(windows, y=y))
    except EdgegraftError:
        return
    raise AssertionError("one class only is taken without an error of Edgegraft's")


def _metrics(task: Task) -> None:
    assert task.primary in task.metrics, f"{task.primary!r} is not among {sorted(task.metrics)}"
    codes = np.array([0, 1, 2, 0, 1, 2, 2])
    sure = np.full((len(codes), 3), 0.01, dtype=np.float32)
    sure[np.arange(len(codes)), codes] = 0.98
    for name, metric in task.metrics.items():
        values = metric(sure, codes), metric(np.roll(sure, 1, axis=1), codes)
        assert all(np.isfinite(value) for value in values), f"{name} is not finite: {values}"
        assert values[0] != values[1], f"{name} cannot tell right from wrong"


TASK_CHECKS: Mapping[str, Check] = {
    "is_frozen": _is_frozen,
    "classes": _classes,
    "metrics": _metrics,
}


def check_task(task: Task, *, leave_out: Mapping[str, str] | None = None) -> None:
    """All contracts of a task: named classes, a primary metric, metrics that tell apart."""
    run_all(TASK_CHECKS, type(task).__name__, leave_out or {}, task)
