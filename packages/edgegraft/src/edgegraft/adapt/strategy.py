"""A strategy is a frozen dataclass of options with one verb, `adapt`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from edgegraft.adapt.adapted import Adapted
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.signal import Windows


class Watch(Protocol):
    """Is told how long work goes on: `edgegraft.cli` draws it, tests collect it."""

    def __call__(self, event: str, values: Mapping[str, Any]) -> None: ...


def unwatched(event: str, values: Mapping[str, Any]) -> None:
    """The watch that looks away."""


class Strategy(Protocol):
    """A way of adapting, e.g. ``Probe()`` or ``FineTune(epochs=20)``.

    Each field has a help sentence in its metadata (``field(metadata={"help": ...})``); options of
    the command line, recipes and the reference come from the fields.
    """

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """A new adapted model from labelled windows; windows without label are ignored."""
        ...
