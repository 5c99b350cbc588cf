"""Finds named things: code by entry points, cards by folder. Listing imports nothing heavy.

Groups of code are ``edgegraft.sources``, ``.architectures``, ``.tasks``, ``.strategies``,
``.exporters``, ``.steps`` and ``edgegraft_edge.backends``; here they are named by the part
behind the dot. Built-ins are declared as entry points like anybody's, so an outside package
adds a thing by declaring it.

>>> "probe" in names("strategies")
True
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from edgegraft_edge.errors import OptionError, nearest

GROUPS = {
    "sources": "edgegraft.sources",
    "architectures": "edgegraft.architectures",
    "tasks": "edgegraft.tasks",
    "strategies": "edgegraft.strategies",
    "exporters": "edgegraft.exporters",
    "steps": "edgegraft.steps",
    "backends": "edgegraft_edge.backends",
}


def _entries(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUPS[group])}


def names(group: str) -> tuple[str, ...]:
    """Names registered in a group, sorted; imports none of them."""
    return tuple(sorted(_entries(group)))


def find(group: str, name: str) -> Any:
    """Load one named thing.

    Errors: `OptionError` with the nearest names when there is none of that name, or with the
    install line when the package behind it lacks something.
    """
    entries = _entries(group)
    if name not in entries:
        raise OptionError.of(
            "name-unknown",
            f"{_one(group)} {name!r}",
            "nothing is registered under that name",
            nearest(name, list(entries)),
        )
    try:
        return entries[name].load()
    except ModuleNotFoundError as error:
        distribution = entries[name].dist
        package = distribution.name if distribution else "edgegraft"
        raise OptionError.of(
            "extra-missing",
            f"{_one(group)} {name!r} needs {error.name!r}",
            "that package is not installed",
            f"pip install '{package}[{name}]' or pip install {error.name}",
        ) from error


def _one(group: str) -> str:
    """The name of a group for one member of it: "strategies" is plural of "strategy"."""
    return group.removesuffix("ies") + "y" if group.endswith("ies") else group.removesuffix("s")


@cache
def cards(folder: str) -> Mapping[str, Mapping[str, Any]]:
    """TOML cards shipped in a folder of this package (``"zoo/cards"``), by their `name`."""
    root = resources.files("edgegraft").joinpath(folder)
    found = {}
    for entry in sorted(root.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".toml"):
            card = tomllib.loads(entry.read_text(encoding="utf-8"))
            found[str(card["name"])] = card
    return found


def card_file(folder: str, name: str) -> Path:
    """Path of a file that ships beside the cards, e.g. weights."""
    return Path(str(resources.files("edgegraft").joinpath(folder, name)))
