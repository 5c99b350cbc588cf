"""The contracts of tasks and strategies that estimate numbers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.strategy import Strategy
from edgegraft.tasks.task import Task
from edgegraft.testing.ground import (
    Check,
    assert_frozen,
    assert_portable,
    assert_untouched,
    copy_of,
    run_all,
)
from edgegraft.testing.samples import sample_series
from edgegraft.testing.strategies import has_help
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.estimate import Estimates, Outputs
from edgegraft_edge.signal import Array, Windows

HORIZON = 12
"""Of tasks that look ahead, as they are tried: one season of `sample_series`."""


def _short(task: Task) -> Task:
    """The task with a horizon that the samples are long enough for."""
    if "horizon" in {entry.name for entry in dataclasses.fields(task)}:  # type: ignore[arg-type]
        return dataclasses.replace(task, horizon=HORIZON)  # type: ignore[type-var]
    return task


def _opened(task: Task, seed: int) -> tuple[Task, Windows]:
    raw = sample_series(seed=seed)
    bound = _short(task).bound(raw)
    return bound, bound.relabelled(raw)


@dataclass
class _Trial:
    """One adaptation that several checks look at."""

    strategy: Strategy
    backbone: Backbone
    asked: Task
    events: list[tuple[str, Any]] = field(default_factory=list)

    @cached_property
    def task(self) -> Task:
        return _opened(self.asked, 0)[0]

    @cached_property
    def outputs(self) -> Outputs:
        assert self.task.outputs is not None, "the bound task says nothing of its outputs"
        return self.task.outputs

    @cached_property
    def train(self) -> Windows:
        return _opened(self.asked, 0)[1]

    @cached_property
    def test(self) -> Windows:
        return self.task.relabelled(sample_series(seed=1))

    @cached_property
    def adapted(self) -> Adapted:
        def watch(event: str, values: Mapping[str, Any]) -> None:
            self.events.append((event, dict(values)))

        return self.strategy.adapt(self.backbone, self.train, self.task, seed=0, watch=watch)

    @cached_property
    def estimates(self) -> Estimates:
        return self.adapted.predict(self.test).estimates

    def again(self, train: Windows) -> Adapted:
        return self.strategy.adapt(self.backbone, train, self.task, seed=0)


def _options(trial: _Trial) -> None:
    has_help(trial.strategy)
    tasks = getattr(type(trial.strategy), "tasks", ())
    assert trial.task.name in tasks, f"its class attribute `tasks` is {tasks!r}"


def _form(trial: _Trial) -> None:
    said = trial.adapted.predict(trial.test)
    assert said.outputs == trial.outputs, f"it estimates {said.outputs}, not {trial.outputs}"
    assert said.classes == trial.outputs.columns, "its columns are named otherwise"
    table = said.probabilities
    shape = (len(trial.test), trial.outputs.n_columns)
    assert table.shape == shape, f"a table of {table.shape} instead of {shape}"
    assert table.dtype == np.float32, f"estimates are {table.dtype}"
    assert np.isfinite(table).all(), "an estimate is not finite"


def _quantiles(trial: _Trial) -> None:
    falls = np.diff(trial.estimates.values, axis=-1).min(initial=0.0)
    size = float(np.abs(trial.estimates.values).max())
    assert falls >= -1e-5 * size, f"a higher quantile lies {-falls:.2g} below a lower one"


def _learns(trial: _Trial) -> None:
    error, plain = _errors(trial, trial.estimates.point)
    assert error < 0.8 * plain, f"error {error:.3g}; {plain:.3g} by the mean of training"


def _errors(trial: _Trial, point: Array) -> tuple[float, float]:
    """Mean absolute error of the point, and of the mean of the training targets."""
    truth = trial.task.truth(trial.test, trial.outputs.columns).reshape(len(trial.test), -1)
    known = np.isfinite(truth)
    mean = np.nanmean(trial.train.y, axis=0)
    off = np.abs(point.reshape(truth.shape) - truth)[known]
    return float(off.mean()), float(np.abs(mean - truth)[known].mean())


def _lineage(trial: _Trial) -> None:
    json.dumps(dict(trial.adapted.lineage))


def _leaves_input(trial: _Trial) -> None:
    copy = copy_of(_opened(trial.asked, 0)[1])
    _ = trial.adapted
    assert_untouched(dataclasses.replace(trial.train, y=np.nan_to_num(trial.train.y)),
                     dataclasses.replace(copy, y=np.nan_to_num(copy.y)))  # fmt: skip


def _portable(trial: _Trial) -> None:
    table = trial.adapted.predict(trial.test).probabilities
    assert_portable(trial.adapted.program, trial.test.x, table, size=float(np.ptp(table)))


def _watch(trial: _Trial) -> None:
    _ = trial.adapted
    json.dumps([[event, values] for event, values in trial.events])


def _repeats(trial: _Trial) -> None:
    first = trial.adapted.predict(trial.test).probabilities
    second = trial.again(trial.train).predict(trial.test).probabilities
    size = float(np.abs(first).max())
    assert np.allclose(first, second, atol=1e-5 * size), "the same seed gives two models"


def _unknown(trial: _Trial) -> None:
    y = trial.train.y.copy()
    y[::4] = np.nan
    y[1::4, -1:] = np.nan if y.shape[1] > 1 else y[1::4, -1:]
    said = trial.again(dataclasses.replace(trial.train, y=y)).predict(trial.test)
    assert np.isfinite(said.probabilities).all(), "unknown targets break it"


ESTIMATOR_CHECKS: Mapping[str, Check] = {
    "options": _options,
    "form": _form,
    "quantiles": _quantiles,
    "learns": _learns,
    "lineage": _lineage,
    "leaves_input": _leaves_input,
    "portable": _portable,
    "watch": _watch,
    "repeats": _repeats,
    "unknown": _unknown,
}


def check_estimator(
    strategy: Strategy,
    backbone: Backbone,
    task: Task,
    *,
    leave_out: Mapping[str, str] | None = None,
) -> None:
    """All contracts of a strategy that estimates numbers, on a backbone that is not fitted yet.

    Its options have defaults and help; it learns seasonal series of three recordings, its
    quantiles never cross, unknown targets do not break it, it repeats for the same seed and
    changes nothing it was given; its program computes the same everywhere.
    """
    run_all(
        ESTIMATOR_CHECKS,
        type(strategy).__name__,
        leave_out or {},
        _Trial(strategy, backbone, task),
    )


# -- tasks


def _is_frozen(task: Task) -> None:
    assert_frozen(task)
    assert task.name, "it has no name"


def _settles(task: Task) -> None:
    bound, windows = _opened(task, 0)
    assert bound.outputs is not None, "a bound task says what it estimates"
    assert windows.y.dtype == np.float32, f"targets are {windows.y.dtype}"
    shape = (len(windows), bound.outputs.n_targets)
    assert windows.y.shape == shape, f"targets of {windows.y.shape} instead of {shape}"
    assert bound.classes(windows) == bound.outputs.columns, "its columns are named otherwise"
    assert windows.x.shape[1:] == windows.spec.shape, "windows and their spec differ"
    again = bound.bound(sample_series(seed=1))
    assert again.outputs == bound.outputs, "bound again to such windows it estimates otherwise"


def _metrics(task: Task) -> None:
    bound, windows = _opened(task, 0)
    outputs = bound.outputs
    assert outputs is not None
    assert bound.primary in bound.metrics, f"{bound.primary!r} is not in {sorted(bound.metrics)}"
    truth = bound.truth(windows, outputs.columns)
    assert truth.shape == (len(windows), outputs.n_targets), f"a truth of shape {truth.shape}"
    spread = np.nanstd(truth) * (np.array(outputs.levels) - 0.5)
    good = np.nan_to_num(truth)[..., None] + spread
    bad = np.nan_to_num(np.roll(truth, 7, axis=0))[..., None] + spread + 2 * np.nanstd(truth)
    for name, metric in bound.metrics.items():
        values = [metric(table.reshape(len(windows), -1), truth) for table in (good, bad)]
        assert all(np.isfinite(value) for value in values), f"{name} is not finite: {values}"
        if name != "width":
            assert values[0] != values[1], f"{name} cannot tell right from wrong"


ESTIMATING_TASK_CHECKS: Mapping[str, Check] = {
    "is_frozen": _is_frozen,
    "settles": _settles,
    "metrics": _metrics,
}


def check_estimating_task(task: Task, *, leave_out: Mapping[str, str] | None = None) -> None:
    """All contracts of a task that estimates numbers: what it settles, targets, metrics."""
    run_all(ESTIMATING_TASK_CHECKS, type(task).__name__, leave_out or {}, task)
