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
from pathlib import Path
from typing import Any

from edgegraft_edge import parts

GROUPS = {
    "sources": "edgegraft.sources",
    "architectures": "edgegraft.architectures",
    "tasks": "edgegraft.tasks",
    "strategies": "edgegraft.strategies",
    "exporters": "edgegraft.exporters",
    "steps": "edgegraft.steps",
    "backends": "edgegraft_edge.backends",
}


def names(group: str) -> tuple[str, ...]:
    """Names registered in a group, sorted; imports none of them."""
    return tuple(sorted(parts.entries(GROUPS[group])))


def find(group: str, name: str) -> Any:
    """Load one named thing.

    Errors: `OptionError` with the nearest names when there is none of that name, or with the
    install line when the package behind it lacks something.
    """
    return parts.load(GROUPS[group], name, _one(group))


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
