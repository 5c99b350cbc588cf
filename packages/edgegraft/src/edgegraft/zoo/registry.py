"""Backbones by name: cards for what ships, entry points for code, paths for own weights.

>>> load_backbone("statistics").card.kind
'fixed'
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

from edgegraft import catalog
from edgegraft.zoo.backbone import Backbone, BackboneCard, shipped_card
from edgegraft_edge import parts
from edgegraft_edge.errors import ModelError, OptionError, nearest

_CARDS, _WEIGHTS = "zoo/cards", "zoo/weights_data"


def list_backbones() -> tuple[BackboneCard, ...]:
    """Cards of all backbones that have a name, sorted by it; imports none of them.

    An architecture that an outside package registered without a card is listed under its
    own name.
    """
    cards = [shipped_card(name) for name in catalog.cards(_CARDS)]
    covered = {card.architecture for card in cards}
    cards += [_bare_card(name) for name in catalog.names("architectures") if name not in covered]
    return tuple(sorted(cards, key=lambda card: card.name))


def load_backbone(name_or_path: str | Path) -> Backbone:
    """A backbone by its name, or from a ``.safetensors`` file with its card beside it.

    The card of ``walk.safetensors`` is ``walk.toml``; its `checksum` (sha256, hexadecimal) must be
    that of the file.

    Errors: `OptionError` for a name that is not known; `ModelError` for a file that is missing
    or damaged, a card that is not of the form, or weights that are not the card's.
    """
    name = str(name_or_path)
    if isinstance(name_or_path, Path) or name.endswith(".safetensors"):
        return _load_path(Path(name_or_path))
    shipped = catalog.cards(_CARDS)
    architectures = catalog.names("architectures")
    if name in shipped:
        card = shipped_card(name)
        if not card.weights:
            return _build(card, None)
        return _build(card, _checked(catalog.card_file(_WEIGHTS, card.weights), card))
    if name in architectures:
        return _build(_bare_card(name), None)
    raise OptionError.of(
        "backbone-unknown",
        f"backbone {name!r}",
        "there is no card and no architecture of that name",
        nearest(name, sorted({*shipped, *architectures})) + ", or the path of a .safetensors file",
    )


def _load_path(path: Path) -> Backbone:
    beside = path.with_suffix(".toml")
    for file, what in ((path, "weights"), (beside, "the card of the weights")):
        if not file.is_file():
            raise ModelError.of(
                "weights-missing",
                f"no file {file}",
                f"it should hold {what}",
                "check the path; edgegraft pretrain writes weights and card side by side",
            )
    try:
        card = BackboneCard.from_dict(tomllib.loads(beside.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError.of(
            "card-form", f"{beside}: {error}", "a card is a TOML file", "see docs/add"
        ) from error
    return _build(card, _checked(path, card))


def _checked(file: Path, card: BackboneCard) -> bytes:
    """The bytes of a file of weights, if they are those that its card tells of."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ModelError.of(
            "weights-missing",
            f"{file} cannot be read ({error.strerror})",
            f"{card.name} needs its weights",
            "install edgegraft again, or check the path",
        ) from error
    expected = card.checksum.removeprefix("sha256:").lower()
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ModelError.of(
            "checksum-mismatch",
            f"{file} with sha256 {found[:12]}...",
            f"its card says {expected[:12] + '...' if expected else 'none'}",
            "fetch or train the weights again; a card belongs to one file",
        )
    return data


def _bare_card(architecture: str) -> BackboneCard:
    """The card of an architecture that came without one."""
    entry = parts.entries(catalog.GROUPS["architectures"])[architecture]
    origin = entry.dist.name if entry.dist else "this environment"
    return BackboneCard(
        name=architecture,
        architecture=architecture,
        summary=f"Registered by {origin}, without a card.",
        kind="fixed",
        licence="see its package",
    )


def _build(card: BackboneCard, weights: bytes | None) -> Backbone:
    architecture = catalog.find("architectures", card.architecture)
    if not hasattr(architecture, "from_card"):
        raise ModelError.of(
            "architecture-form",
            f"architecture {card.architecture!r} has no from_card",
            "it is called as Architecture.from_card(card, weights)",
            "add that classmethod; see docs/add",
        )
    try:
        backbone: Backbone = architecture.from_card(card, weights)
    except TypeError as error:
        raise ModelError.of(
            "card-options",
            f"card {card.name!r}: {error}",
            f"{card.architecture} does not take these options",
            "correct [options] in the card",
        ) from error
    return backbone
