"""A strategy is a frozen dataclass of options with one verb, `adapt`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from edgegraft.adapt.adapted import Adapted
from edgegraft.catalog import find, names
from edgegraft.options import check_values
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.errors import OptionError, Problem, nearest
from edgegraft_edge.signal import Windows


class Watch(Protocol):
    """Is told how long work goes on: `edgegraft.cli` draws it, tests collect it."""

    def __call__(self, event: str, values: Mapping[str, Any]) -> None: ...


def unwatched(event: str, values: Mapping[str, Any]) -> None:
    """The watch that looks away."""


class Strategy(Protocol):
    """A way of adapting, e.g. ``Probe()`` or ``FineTune(epochs=20)``.

    Each field has a help sentence in its metadata (``field(metadata={"help": ...})``); options of
    the command line, recipes and the reference come from the fields. A class attribute `tasks`
    names the tasks that it is made for, where that is not classification.
    """

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """A new adapted model.

        `train` may hold, beside labelled windows of the target, unlabelled ones (its pool) and
        labelled ones of source domains (`edgegraft.data.domains`); what a strategy has no use
        for it ignores.
        """
        ...


def tasks_of(strategy: str) -> tuple[str, ...]:
    """Names of the tasks that a strategy is made for.

    >>> tasks_of("probe"), tasks_of("distance")
    (('classification',), ('anomaly',))
    """
    made_for: tuple[str, ...] = getattr(find("strategies", strategy), "tasks", ("classification",))
    return made_for


def build_strategy(name: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """A strategy by name, with those of `options` that are written ``"<name>.<field>"``.

    Errors: `OptionError` for an unknown strategy or field, with the nearest names, and for values
    of another type.

    >>> build_strategy("probe", {"probe.balanced": True, "blend.copies": 0}).balanced
    True
    """
    kind = find("strategies", name)
    prefix = f"{name}."
    chosen = {
        key.removeprefix(prefix): value
        for key, value in (options or {}).items()
        if key.startswith(prefix)
    }
    problems = check_values(kind, chosen, prefix)
    if problems:
        raise OptionError(problems)
    strategy: Strategy = kind(**chosen)
    return strategy


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that name no strategy or task, or no field of it, all at once."""
    problems: list[Problem] = []
    for key in options:
        name = key.split(".")[0]
        known = [*names("strategies"), *names("tasks")]
        if name not in known or "." not in key:
            problems.append(
                Problem(
                    "option-unknown",
                    f"option {key}",
                    "options are written strategy.field or task.field",
                    nearest(name, known),
                )
            )
            continue
        if name in names("tasks"):
            field = {key.partition(".")[2]: options[key]}
            problems += check_values(find("tasks", name), field, f"{name}.")
            continue
        try:
            build_strategy(name, {key: options[key]})
        except OptionError as error:
            problems += error.problems
    if problems:
        raise OptionError(problems)
