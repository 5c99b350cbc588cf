"""The contract of a strategy."""

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
from edgegraft.testing.samples import sample_windows, usual_windows
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.signal import Windows


@dataclass
class _Trial:
    """One adaptation that several checks look at."""

    strategy: Strategy
    backbone: Backbone
    task: Task
    events: list[tuple[str, Any]] = field(default_factory=list)

    @cached_property
    def train(self) -> Windows:
        return self.task.relabelled(usual_windows(self.backbone))

    @cached_property
    def test(self) -> Windows:
        return self.task.relabelled(usual_windows(self.backbone, seed=1))

    @cached_property
    def adapted(self) -> Adapted:
        def watch(event: str, values: Mapping[str, Any]) -> None:
            self.events.append((event, dict(values)))

        return self.strategy.adapt(self.backbone, self.train, self.task, seed=0, watch=watch)

    def again(self, train: Windows) -> Adapted:
        return self.strategy.adapt(self.backbone, train, self.task, seed=0)


def has_help(strategy: Strategy) -> None:
    """Assert that a strategy is frozen and that each option has a default and a help sentence."""
    assert_frozen(strategy)
    for option in dataclasses.fields(strategy):  # type: ignore[arg-type]
        has_default = (option.default, option.default_factory) != (dataclasses.MISSING,) * 2
        assert has_default, f"option {option.name} has no default"
        assert option.metadata.get("help"), f"option {option.name} has no help sentence"


def _options(trial: _Trial) -> None:
    has_help(trial.strategy)


def _learns(trial: _Trial) -> None:
    said = trial.adapted.predict(trial.test)
    assert said.classes == trial.train.classes, f"classes {said.classes}"
    shape = (len(trial.test), len(trial.train.classes))
    assert said.probabilities.shape == shape, f"shape {said.probabilities.shape}"
    assert said.probabilities.dtype == np.float32, f"probabilities are {said.probabilities.dtype}"
    assert np.allclose(said.probabilities.sum(axis=1), 1, atol=1e-4), "rows do not sum to one"
    accuracy = float(np.mean(said.labels == trial.test.y))
    assert accuracy > 0.5, f"accuracy {accuracy:.2f} where chance is 0.33 and 1.00 is easy"


def _lineage(trial: _Trial) -> None:
    json.dumps(dict(trial.adapted.lineage))


def _leaves_input(trial: _Trial) -> None:
    copy = copy_of(trial.task.relabelled(usual_windows(trial.backbone)))
    _ = trial.adapted
    assert_untouched(trial.train, copy)


def _portable(trial: _Trial) -> None:
    # Of easy windows every model is sure, and 0 and 1 agree whatever was computed on the way.
    noisy = trial.backbone.card.takes[0] == "series"
    train, test = (
        trial.task.relabelled(
            sample_windows(seed=seed, noise=3.0) if noisy else usual_windows(trial.backbone, seed)
        )
        for seed in (0, 1)
    )
    adapted = trial.again(train)
    assert_portable(adapted.program, test.x, adapted.predict(test).probabilities, size=1)


def _watch(trial: _Trial) -> None:
    _ = trial.adapted
    assert all(isinstance(event, str) for event, _ in trial.events), "an event is not text"
    json.dumps([values for _, values in trial.events])


def _repeats(trial: _Trial) -> None:
    first = trial.adapted.predict(trial.test).probabilities
    second = trial.again(trial.train).predict(trial.test).probabilities
    assert np.allclose(first, second, atol=1e-5), "the same seed gives two models"


def _unlabelled(trial: _Trial) -> None:
    y = trial.train.y.copy()
    y[::4] = ""
    classes = trial.again(dataclasses.replace(trial.train, y=y)).classes
    assert classes == trial.train.classes, f"classes {classes} with unlabelled windows"


def _single_member(trial: _Trial) -> None:
    last = trial.train.classes[-1]
    rare = np.flatnonzero(trial.train.y == last)
    few = trial.train.take(np.setdiff1d(np.arange(len(trial.train)), rare[1:]))
    said = trial.again(few).predict(trial.test)
    assert np.isfinite(said.probabilities).all(), "a class with one member breaks it"


STRATEGY_CHECKS: Mapping[str, Check] = {
    "options": _options,
    "learns": _learns,
    "lineage": _lineage,
    "leaves_input": _leaves_input,
    "portable": _portable,
    "watch": _watch,
    "repeats": _repeats,
    "unlabelled": _unlabelled,
    "single_member": _single_member,
}


def check_strategy(
    strategy: Strategy,
    backbone: Backbone,
    task: Task,
    *,
    leave_out: Mapping[str, str] | None = None,
) -> None:
    """All contracts of a strategy, on a backbone that is not fitted yet.

    Its options have defaults and help; it learns an easy problem, repeats for the same seed,
    takes unlabelled windows and a class with one member, changes nothing it was given; what
    it makes has a JSON lineage and a program that computes the same everywhere.
    """
    trial = _Trial(strategy, backbone, task)
    run_all(STRATEGY_CHECKS, type(strategy).__name__, leave_out or {}, trial)
