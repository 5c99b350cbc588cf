"""Sentence encoders that a package carries: real weights with no network and no download."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.bert import Bert, blank
from edgegraft.zoo.text_intake import TextGraph
from edgegraft_edge import parts


class Sentence:
    """The architecture "sentence": a BERT in the folder of an installed package.

    Options: `package`, its import name, and `distribution`, what is installed.
    """

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> TextGraph:
        """Errors: `OptionError` "extra-missing" where the package is not installed."""
        folder = packaged_folder(card)
        if folder is None:
            lacking = str(card.options.get("distribution", card.name))
            raise parts.missing(f"backbone {card.name!r}", lacking, "edgegraft", "text")
        graph = Bert.from_folder(folder, replace(card, kind="pretrained"))
        return graph if card.kind == "pretrained" else blank(graph, card)


def packaged_folder(card: BackboneCard) -> Path | None:
    """The folder with config.json of the package that a card names; None where there is none."""
    try:
        found = find_spec(str(card.options["package"]))
    except (KeyError, ImportError, ValueError):
        return None
    for place in (found.submodule_search_locations or ()) if found else ():
        for folder in (Path(place), Path(place) / "model"):
            if (folder / "config.json").is_file():
                return folder
    return None
