"""Folders of image networks, as Hugging Face transformers and timm write them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgegraft.zoo.backbone import BackboneCard
from edgegraft_edge import json_text
from edgegraft_edge.errors import ModelError, Problem

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Folder:
    """What stands in a folder.

    Attributes:
        config: of config.json.
        pixels: options `size`, `mean` and `scale`, of preprocessor_config.json.
        data: bytes of the weights; `weights` is the name of their file.
        licence: as the README.md says, where there is one.
    """

    path: Path
    config: Mapping[str, Any]
    pixels: Mapping[str, Any]
    data: bytes
    weights: str
    licence: str

    def card(self, architecture: str, options: Mapping[str, Any]) -> BackboneCard:
        """The card of the folder; what `options` says stands over what the pixels say."""
        return BackboneCard(
            name=self.path.name,
            architecture=architecture,
            summary=f"{architecture} of the folder {self.path.name}",
            kind="pretrained",
            licence=self.licence,
            weights=self.weights,
            checksum=hashlib.sha256(self.data).hexdigest(),
            options={**self.pixels, **options},
            takes=("image", "audio"),
        )


def read_folder(path: Path) -> Folder:
    """Read config, pixels and weights of a folder; nothing in it is run.

    Errors: `ModelError` "folder-form" when a file is missing or is not of its form.
    """
    config = _json(path / "config.json")
    file = next((path / name for name in _WEIGHTS if (path / name).is_file()), None)
    if file is None:
        raise ModelError.of(
            "folder-form",
            f"{path} without {' or '.join(_WEIGHTS)}",
            "a folder of an image network holds its weights in one file",
            "fetch the whole folder again",
        )
    beside = path / "preprocessor_config.json"
    pixels = _pixels(_json(beside), config) if beside.is_file() else _pixels({}, config)
    return Folder(path.resolve(), config, pixels, file.read_bytes(), file.name, _licence(path))


def expect(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a network that differs from what is written here.

    Errors: `ModelError` "config-differs" with every such key; one that is absent is as wanted.

    >>> expect({"hidden_act": "relu", "output_stride": 32}, {"hidden_act": "relu"})
    """
    problems = [
        Problem(
            "config-differs",
            f"config.json says {key} = {config[key]!r}",
            f"the network here is the one with {value!r}",
            "a folder of the plain network, or an .onnx file of this one",
        )
        for key, value in wanted.items()
        if key in config and config[key] != value
    ]
    if problems:
        raise ModelError(problems)


def _json(file: Path) -> dict[str, Any]:
    try:
        return json_text.parse(file.read_bytes(), file.name)
    except OSError as error:
        raise ModelError.of(
            "folder-form", f"no {file} that can be read", "it is part of the folder",
            "fetch the whole folder again",
        ) from error  # fmt: skip


def _pixels(pixels: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Size, mean and scale, for pixels from 0 to 1."""
    found: dict[str, Any] = {"size": config.get("image_size", 224)}
    size = pixels.get("crop_size") if pixels.get("do_center_crop") else None
    size = size or pixels.get("size")
    if isinstance(size, Mapping):
        edge = size.get("shortest_edge", 224)
        size = [size.get("height", edge), size.get("width", edge)]
    if size:
        found["size"] = size
    factor = 255 * float(pixels.get("rescale_factor", 1 / 255))
    offset = 1.0 if pixels.get("rescale_offset") else 0.0
    mean, scale = pixels.get("image_mean"), pixels.get("image_std")
    if pixels.get("do_normalize", True) is False:
        mean, scale = [0.0] * 3, [1.0] * 3
    if mean and scale:
        if pixels.get("include_top"):  # it is divided by it a second time
            scale = [float(s) ** 2 for s in scale]
        found["mean"] = [(float(m) + offset) / factor for m in mean]
        found["scale"] = [float(s) / factor for s in scale]
    return found


def _licence(path: Path) -> str:
    """The licence in the head of a README.md, as the hub wants it there."""
    try:
        text = (path / "README.md").read_text(encoding="utf-8", errors="replace")[:4000]
    except OSError:
        return "not stated"
    found = re.search(r"^license:\s*(\S+)\s*$", text, re.MULTILINE)
    return found[1] if found and text.startswith("---") else "not stated"
