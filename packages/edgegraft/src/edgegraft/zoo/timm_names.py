"""Networks by their names in timm: those whose architecture is written here.

A name is ``ARCHITECTURE.TAG``, e.g. ``resnet18.a1_in1k``; the tag says who trained it how. What
the pixels have to be like stands in the registry of timm, or in the folder of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from edgegraft import catalog
from edgegraft.zoo.backbone import Backbone, BackboneCard
from edgegraft.zoo.image_folder import read_folder
from edgegraft_edge.errors import ModelError, OptionError, nearest
from edgegraft_edge.parts import missing

_DEEP = {"depths": [3, 4, 6, 3], "features": [256, 512, 1024, 2048], "bottleneck": True}
_SCALING = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))
_TF = {"padding": "same", "epsilon": 1e-3}

KNOWN: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "resnet18": ("resnet", {}),
    "resnet34": ("resnet", {"depths": [3, 4, 6, 3]}),
    "resnet50": ("resnet", _DEEP),
    "vgg16": ("vgg16", {}),
    "vgg16_bn": ("vgg16", {}),
    **{
        f"mobilenetv2_{round(100 * width):03d}": ("mobilenet-v2", {"width": width})
        for width in (0.35, 0.5, 0.75, 1.0, 1.4)
    },
    **{
        f"{prefix}efficientnet_b{number}": ("efficientnet", {"width": w, "depth": d, **extra})
        for prefix, extra in (("", {}), ("tf_", _TF))
        for number, (w, d) in enumerate(_SCALING)
    },
}
"""Architecture in timm -> architecture here, and its options."""


def timm_card(name: str) -> BackboneCard:
    """The card of a network, from the registry of timm.

    Errors: `OptionError` "extra-missing" without timm, "timm-unknown"; `ModelError`
    "family-unknown" for a family that is not written here.
    """
    architecture, options = _known(name.partition(".")[0])
    try:
        timm = import_module("timm.models")
    except ImportError as error:
        raise missing(f"timm:{name}", "timm", "edgegraft", "timm") from error
    if not timm.is_model_pretrained(name):
        raise OptionError.of(
            "timm-unknown",
            f"timm:{name}",
            "timm has no such network with weights",
            "ARCHITECTURE.TAG as timm.list_models(pretrained=True) lists them",
        )
    config = timm.get_pretrained_cfg(name).to_dict()
    hub = str(config.get("hf_hub_id") or "")
    return BackboneCard(
        name=f"timm:{name}",
        architecture=architecture,
        summary=f"{name} of timm",
        kind="pretrained",
        licence=str(config.get("license") or "not stated"),
        options={**options, **_pixels(config)},
        takes=("image", "audio"),
        fetch=f"hf:{hub}/model.safetensors" if hub else "",
    )


def load_timm(path: Path) -> Backbone:
    """A network from a folder as the hub has it for timm; needs no timm.

    Errors: `ModelError` "family-unknown", or when weights and config do not fit.
    """
    folder = read_folder(path)
    architecture, options = _known(str(folder.config["architecture"]))
    config = folder.config.get("pretrained_cfg")
    pixels = _pixels(config) if isinstance(config, Mapping) else {}
    card = folder.card(architecture, {**options, **pixels})
    backbone: Backbone = catalog.find("architectures", architecture).from_card(card, folder.data)
    return backbone


def _known(architecture: str) -> tuple[str, Mapping[str, Any]]:
    if architecture not in KNOWN:
        raise ModelError.of(
            "family-unknown",
            f"architecture {architecture!r} of timm",
            "it is not written here",
            f"{nearest(architecture, list(KNOWN))}, or an .onnx file of the network",
        )
    return KNOWN[architecture]


def _pixels(config: Mapping[str, Any]) -> dict[str, Any]:
    size = list(config.get("input_size", (3, 224, 224)))[1:]
    found = {"size": size, "mean": config.get("mean"), "scale": config.get("std")}
    return {name: list(value) for name, value in found.items() if value}
