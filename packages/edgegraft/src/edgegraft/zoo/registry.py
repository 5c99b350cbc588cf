"""Backbones by name: cards for what ships, entry points for code, paths for own weights.

>>> load_backbone("statistics").card.kind
'fixed'
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from dataclasses import fields, is_dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgegraft import catalog
from edgegraft.options import check_values
from edgegraft.zoo.backbone import Backbone, BackboneCard, shipped_card
from edgegraft_edge import json_text, parts
from edgegraft_edge.errors import ModelError, OptionError, Problem, nearest

_CARDS, _WEIGHTS = "zoo/cards", "zoo/weights_data"
SUFFIXES = (".safetensors", ".pth", ".pt", ".th", ".bin")
"""Of files of weights."""
FORMATS = ("tflite", "onnx")
"""Architectures that read files of any network: the file is the network, so they have no card."""
_MODEL = re.compile(rf"(?P<path>.+\.(?P<kind>{'|'.join(FORMATS)}))(?:@(?P<cut>.+))?", re.I | re.S)


def list_backbones() -> tuple[BackboneCard, ...]:
    """Cards of all backbones that have a name, sorted by it; imports none of them.

    An architecture that an outside package registered without a card is listed under its
    own name.
    """
    cards = [shipped_card(name) for name in catalog.cards(_CARDS)]
    covered = {card.architecture for card in cards}
    covered.update(FORMATS)
    cards += [_bare_card(name) for name in catalog.names("architectures") if name not in covered]
    return tuple(sorted(cards, key=lambda card: card.name))


def load_backbone(name_or_path: str | Path) -> Backbone:
    """A backbone by its name, or from a file or folder of weights.

    * ``minirocket``: a card that ships. One whose weights do not ship takes them from the folder
      of weights (`weights_folder`), where ``edgegraft models fetch`` puts them.
    * ``walk.safetensors``: weights with their card, ``walk.toml``, beside them; its `checksum`
      (sha256, hexadecimal) must be that of the file.
    * ``minilm``: one whose weights another installed package carries, which the card names.
    * ``resnet18:FILE``: a card's or an architecture's network with the weights of any file,
      safetensors or a PyTorch state dict. ``resnet18:random`` draws them.
    * ``orders:rpm=1772,n_balls=9``: a backbone with options, as many as the fields that a user
      may set.
    * a folder with a ``config.json``, as from Hugging Face, of transformers or of timm.
    * ``timm:resnet18.a1_in1k``: a network by its name in timm, where timm is installed, with the
      weights from the folder of weights.
    * ``hf:amazon/chronos-bolt-small``: a forecaster from the cache of the hub, where the package
      of its makers is installed; a folder of one is read the same way.
    * ``net.tflite`` or ``net.onnx``: a network of another tool, cut at its last pooled value;
      ``net.tflite@NAME`` cuts it at the value of that name. A card ``net.toml`` beside it, where
      there is one, holds its licence and options.

    Errors: `OptionError` for a name that is not known; `ModelError` for a file that is missing
    or damaged, a card that is not of the form, or weights that are not the card's.
    """
    name = str(name_or_path)
    shipped = catalog.cards(_CARDS)
    architectures = catalog.names("architectures")
    before, colon, after = name.partition(":")
    if before == "timm" and colon:
        from edgegraft.zoo.timm_names import timm_card

        card = timm_card(after)
        return _build(card, _fetched(card))
    if before == "hf" and colon:
        from edgegraft.zoo.hub_forecast import load_hub_name

        return load_hub_name(after)
    if colon and before in {*shipped, *architectures}:
        return _load_named(before, after, before in shipped)
    path = Path(name_or_path)
    if path.is_dir() and (path / "config.json").is_file():
        return _load_folder(path)
    file = _MODEL.fullmatch(name)
    if file:
        return _load_model(Path(file["path"]), file["kind"].lower(), file["cut"] or "")
    if isinstance(name_or_path, Path) or name.endswith(".safetensors"):
        return _load_path(path)
    if name in shipped:
        card = shipped_card(name)
        if card.weights:
            return _build(card, _checked(catalog.card_file(_WEIGHTS, card.weights), card))
        if card.kind == "pretrained" and "package" not in card.options:
            return _build(card, _fetched(card))
        return _build(card, None)
    if name in architectures:
        return _build(_bare_card(name), None)
    raise OptionError.of(
        "backbone-unknown",
        f"backbone {name!r}",
        "there is no card and no architecture of that name",
        nearest(name, sorted({*shipped, *architectures})) + ", or the path of a .safetensors file",
    )


def weights_folder() -> Path:
    """Where weights lie that a user fetched: ``$EDGEGRAFT_WEIGHTS``, else in the user's cache."""
    named = os.environ.get("EDGEGRAFT_WEIGHTS")
    return Path(named) if named else Path.home() / ".cache" / "edgegraft" / "weights"


def fetched_file(card: BackboneCard) -> Path | None:
    """The file of a card's weights in the folder of weights, if it is there."""
    files = (weights_file(card, suffix) for suffix in SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def weights_file(card: BackboneCard, suffix: str) -> Path:
    """Where the fetched weights of a card lie, or will."""
    return weights_folder() / f"{card.name.replace(':', '_')}{suffix}"


def is_here(card: BackboneCard) -> bool:
    """Whether a backbone can be loaded without fetching or installing anything."""
    if "package" in card.options:
        return find_spec(str(card.options["package"])) is not None
    return card.kind != "pretrained" or bool(card.weights) or fetched_file(card) is not None


def _fetched(card: BackboneCard) -> bytes:
    file = fetched_file(card)
    if file is None:
        raise ModelError.of(
            "weights-missing",
            f"no weights of {card.name!r} in {weights_folder()}",
            f"{card.name} does not ship with Edgegraft, and nothing is downloaded unasked",
            f"edgegraft models fetch {card.name}, or {card.name}:FILE with a file you have, or "
            f"{card.name}:random",
        )
    beside = file.with_name(f"{file.name}.sha256")
    if not card.checksum and beside.is_file():  # as it was when it was fetched
        card = replace(card, checksum=beside.read_text(encoding="ascii", errors="replace")[:64])
    return _checked(file, card) if card.checksum else file.read_bytes()


def _load_named(name: str, place: str, is_card: bool) -> Backbone:
    """A card's or an architecture's network with the weights of a file."""
    card = shipped_card(name) if is_card else _bare_card(name)
    if place == "random":
        return _build(replace(card, kind="random", checksum="", weights=""), None)
    path = Path(place)
    if path.is_dir():
        return _load_folder(path)
    if "=" in place and not path.exists():
        return _build(_with_options(card, place), None)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError.of(
            "weights-missing",
            f"no file {place!r} that can be read",
            f"it should hold the weights of {name}",
            f"check the path; {name}:random draws them",
        ) from error
    own = replace(
        card,
        name=f"{name}:{path.stem}",
        kind="pretrained",
        licence=card.licence if is_card else "not stated",
        checksum=hashlib.sha256(data).hexdigest(),
        weights=path.name,
    )
    return _build(own, data)


def _with_options(card: BackboneCard, text: str) -> BackboneCard:
    """A card with options from a text like ``rpm=1772,speed_unit=hz``, under a name of its own.

    Errors: `OptionError` ``option-unknown``, ``option-value``.
    """
    kind = catalog.find("architectures", card.architecture)
    words = (each.partition("=") for each in text.split(","))
    values = {name.strip(): _value(value.strip()) for name, _, value in words}
    known = {f.name: f for f in fields(kind)} if is_dataclass(kind) else {}
    own = [name for name, f in known.items() if name != "card" and f.metadata.get("help")
           and not f.metadata["help"].endswith("set by fit")]  # fmt: skip
    problems = [
        Problem("option-unknown", f"{card.name}:{name}", "it has no such option",
                nearest(name, own) if own else "its name alone")
        for name in values
        if name not in own
    ]  # fmt: skip
    problems = problems or check_values(kind, values, f"{card.name}:")
    if problems:
        raise OptionError(problems)
    return replace(card, name=f"{card.name}:{text}", options={**card.options, **values})


def _value(text: str) -> Any:
    """A whole number, a number, true or false, or the text itself."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _load_folder(path: Path) -> Backbone:
    """A Hugging Face folder, by the architecture that knows its ``model_type``."""
    try:
        config = json_text.parse((path / "config.json").read_bytes(), "config.json")
        if "model_type" not in config and "architecture" in config:
            from edgegraft.zoo.timm_names import load_timm

            return load_timm(path)
        if config.get("model_type") == "tinytimemixer" or "chronos_config" in config:
            from edgegraft.zoo.hub_forecast import load_forecaster

            return load_forecaster(path)
        kind = str(config["model_type"])
    except (OSError, KeyError) as error:
        raise ModelError.of(
            "folder-form",
            f"{path} without a config.json that names a model_type",
            "a folder of weights says what network they are of",
            "fetch the whole folder again",
        ) from error
    known = {}
    for name in catalog.names("architectures"):
        architecture = catalog.find("architectures", name)
        for each in getattr(architecture, "model_types", ()):
            known[each] = architecture
    if kind not in known:
        raise ModelError.of(
            "folder-kind",
            f"{path} holds a model of type {kind!r}",
            "no architecture here reads it",
            nearest(kind, sorted(known)),
        )
    backbone: Backbone = known[kind].from_folder(path)
    return backbone


def _load_model(path: Path, kind: str, cut: str) -> Backbone:
    """A network of another tool, by the architecture that reads its format."""
    architecture = catalog.find("architectures", kind)
    beside = path.with_suffix(".toml")
    if not (path.is_file() and beside.is_file()):
        found: Backbone = architecture.from_file(path, cut)
        return found
    card = _read_card(beside)
    if card.architecture != kind:
        raise ModelError.of(
            "card-form",
            f"{beside} is of architecture {card.architecture!r}",
            f"the file beside it is read as {kind!r}",
            f'architecture = "{kind}"',
        )
    data = _checked(path, card) if card.checksum else path.read_bytes()
    options = {**card.options, "cut": cut} if cut else card.options
    checksum = card.checksum or hashlib.sha256(data).hexdigest()
    return _build(replace(card, options=options, checksum=checksum, weights=path.name), data)


def _read_card(path: Path) -> BackboneCard:
    try:
        return BackboneCard.from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError.of(
            "card-form", f"{path}: {error}", "a card is a TOML file", "see docs/add"
        ) from error


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
    card = _read_card(beside)
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
