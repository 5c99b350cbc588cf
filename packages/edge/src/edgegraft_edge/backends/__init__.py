"""Backends run a model of one runtime; found by name through entry points.

Others add one by declaring ``name = "package.module:Class"`` in the group
``edgegraft_edge.backends``; a bundle holds its model under the same name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol, cast

from edgegraft_edge import parts
from edgegraft_edge.errors import OptionError
from edgegraft_edge.signal import Array

GROUP = "edgegraft_edge.backends"
Run = Callable[[Array], Array]
"""float32 (n_windows, n_channels, n_timepoints) -> probabilities (n_windows, n_classes)."""


class Backend(Protocol):
    """Turns the bytes of a model into a function; `name` is that of its entry point."""

    name: ClassVar[str]

    def open(self, model: bytes) -> Run:
        """Errors: `ModelError` for damaged bytes and for what the runtime cannot run."""
        ...


def names() -> tuple[str, ...]:
    """Names of all backends, installed with what they need or not."""
    return tuple(sorted(parts.entries(GROUP)))


def find(name: str) -> Backend:
    """The backend of that name, with its default options.

    Errors: `OptionError` with the nearest names, or with the install line of its extra.

    >>> type(find("numpy")).__name__
    'NumpyBackend'
    """
    return cast("Backend", parts.load(GROUP, name, "backend")())


def missing(extra: str, package: str) -> OptionError:
    """The error for a runtime of ours that is not installed."""
    return parts.missing(f"backend {extra!r}", package, "edgegraft-edge", extra)
