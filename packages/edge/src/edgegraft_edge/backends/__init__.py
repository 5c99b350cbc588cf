"""Backends run a model of one runtime; found by name through entry points.

Others add one by declaring ``name = "package.module:Class"`` in the group
``edgegraft_edge.backends``; a bundle holds its model under the same name.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import ClassVar, Protocol, cast

from edgegraft_edge.errors import OptionError, nearest
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
    from importlib.metadata import entry_points

    return tuple(sorted(entry.name for entry in entry_points(group=GROUP)))


def find(name: str) -> Backend:
    """The backend of that name, with its default options.

    Errors: `OptionError` with the nearest names, or with the install line of its extra.

    >>> type(find("numpy")).__name__
    'NumpyBackend'
    """
    from importlib.metadata import entry_points

    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in entries:
        raise OptionError.of(
            "backend-unknown",
            f"backend {name!r}",
            "nothing is registered under that name",
            nearest(name, list(entries)),
        )
    try:
        return cast("Backend", entries[name].load()())
    except ImportError as error:
        raise missing(name, error.name or name) from error


def missing(extra: str, package: str) -> OptionError:
    """The error for a runtime that is not installed."""
    return OptionError.of(
        "extra-missing",
        f"backend {extra!r} needs {package!r}",
        "that package is not installed",
        f"pip install 'edgegraft-edge[{extra}]' or pip install {package}",
    )


def importable(package: str) -> bool:
    """Whether a package is installed, without importing it."""
    return find_spec(package) is not None
