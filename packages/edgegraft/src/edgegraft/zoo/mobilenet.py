"""MobileNetV1 (Howard et al., 2017) and MobileNetV2 (Sandler et al., CVPR 2018), at any width."""

from __future__ import annotations

from pathlib import Path

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.graph import Graph
from edgegraft.zoo.image_folder import expect, read_folder
from edgegraft.zoo.image_names import Dialect, Site
from edgegraft.zoo.image_network import Family
from edgegraft.zoo.layers import Network, relu6
from edgegraft.zoo.maps import Map, MapLayers, Padding

V1_STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Of V1 features, depth and stride; of V2 how many times a unit widens, then the same."""


def rounded(n_features: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, and no more than a tenth below.

    >>> rounded(32 * 0.35), rounded(24 * 0.75), rounded(16 * 0.35)
    (16, 24, 8)
    """
    found = max(divisor, int(n_features + divisor / 2) // divisor * divisor)
    return found + divisor if found < 0.9 * n_features else found


def mobilenet_v1(
    width: float = 1.0, *, size: tuple[int, int] = (224, 224), padding: Padding = "half"
) -> Network:
    """Pictures (n, 3, height, width) -> the mean of the last map, (n, 1024 * width).

    >>> net = mobilenet_v1(0.25, size=(32, 32))
    >>> net.blocks[:2], net.weights["stage1.0.point.weight"].shape
    (('stem', 'stage1'), (16, 8, 1, 1))
    """
    layers = MapLayers(size, padding=padding)
    n_out = _plain(32 * width)
    at = layers.map_conv("stem.conv", layers.input, n_out, kernel=3, stride=2, activation=relu6)
    taps = {"stem": at.value}
    for stage, (features, depth, first) in enumerate(V1_STAGES, start=1):
        for unit in range(depth):
            name, stride = f"stage{stage}.{unit}", first if unit == 0 else 1
            at = _depthwise(layers, f"{name}.depthwise", at, stride)
            at = layers.map_conv(f"{name}.point", at, _plain(features * width), activation=relu6)
        taps[f"stage{stage}"] = at.value
    return layers.finish(layers.pool(at.value), blocks=tuple(taps), taps=taps, top=at.value)


def mobilenet_v2(
    width: float = 1.0, *, size: tuple[int, int] = (224, 224), padding: Padding = "half"
) -> Network:
    """Pictures (n, 3, height, width) -> the mean of the last map, (n, 1280 * max(1, width)).

    >>> net = mobilenet_v2(0.35, size=(32, 32))
    >>> net.blocks[-2:], net.weights["head.conv.weight"].shape
    (('stage7', 'head'), (1280, 112, 1, 1))
    """
    layers = MapLayers(size, padding=padding)
    at = layers.map_conv(
        "stem.conv", layers.input, rounded(32 * width), kernel=3, stride=2, activation=relu6
    )
    taps = {"stem": at.value}
    for stage, (wider, features, depth, first) in enumerate(V2_STAGES, start=1):
        for unit in range(depth):
            stride = first if unit == 0 else 1
            at = _inverted(
                layers, f"stage{stage}.{unit}", at, rounded(features * width), wider, stride
            )
        taps[f"stage{stage}"] = at.value
    at = layers.map_conv("head.conv", at, rounded(1280 * max(1.0, width)), activation=relu6)
    taps["head"] = at.value
    return layers.finish(layers.pool(at.value), blocks=tuple(taps), taps=taps, top=at.value)


def _plain(n_features: float) -> int:
    return max(8, int(n_features))


def _depthwise(layers: MapLayers, name: str, at: Map, stride: int) -> Map:
    return layers.map_conv(
        name, at, at.n_features, kernel=3, stride=stride, depthwise=True, activation=relu6
    )


def _inverted(layers: MapLayers, name: str, at: Map, n_out: int, wider: int, stride: int) -> Map:
    past = at
    if wider > 1:
        at = layers.map_conv(f"{name}.expand", at, wider * at.n_features, activation=relu6)
    at = _depthwise(layers, f"{name}.depthwise", at, stride)
    if stride != 1 or past.n_features != n_out:
        return layers.map_conv(f"{name}.project", at, n_out)
    return layers.map_add(layers.map_conv(f"{name}.project", at, n_out, start=0.0), past)


def v1_dialects(width: float = 1.0) -> tuple[Dialect, ...]:
    """Names of transformers, whose layers are numbered."""
    sites, number = {"stem.conv": _hf("conv_stem")}, 0
    for stage, (_, depth, _) in enumerate(V1_STAGES, start=1):
        for unit in range(depth):
            for part in ("depthwise", "point"):
                sites[f"stage{stage}.{unit}.{part}"] = _hf(f"layer.{number}")
                number += 1
    return (Dialect("transformers", sites, "mobilenet_v1.", ("classifier.",), 1e-3, "same"),)


def v2_dialects(width: float = 1.0) -> tuple[Dialect, ...]:
    """Names of torchvision, timm and transformers."""
    torchvision = {"stem.conv": Site("features.0.0", "features.0.1")}
    timm = {"stem.conv": Site("conv_stem", "bn1")}
    transformers = {"stem.conv": _hf("conv_stem.first_conv")}
    number = 1
    for stage, (wider, _, depth, _) in enumerate(V2_STAGES, start=1):
        for unit in range(depth):
            own, at = f"stage{stage}.{unit}", f"features.{number}.conv"
            there = "conv_stem" if number == 1 else f"layer.{number - 2}"
            last = 2 if wider > 1 else 1
            if wider > 1:
                torchvision[f"{own}.expand"] = Site(f"{at}.0.0", f"{at}.0.1")
                transformers[f"{own}.expand"] = _hf(f"{there}.expand_1x1")
            torchvision[f"{own}.depthwise"] = Site(f"{at}.{last - 1}.0", f"{at}.{last - 1}.1")
            torchvision[f"{own}.project"] = Site(f"{at}.{last}", f"{at}.{last + 1}")
            transformers[f"{own}.depthwise"] = _hf(f"{there}.conv_3x3")
            transformers[f"{own}.project"] = _hf(f"{there}.reduce_1x1")
            timm |= timm_unit(own, f"blocks.{stage - 1}.{unit}", expands=wider > 1)
            number += 1
    torchvision["head.conv"] = Site(f"features.{number}.0", f"features.{number}.1")
    timm["head.conv"] = Site("conv_head", "bn2")
    transformers["head.conv"] = _hf("conv_1x1")
    return (
        Dialect("torchvision", torchvision, head=("classifier.",)),
        Dialect("timm", timm, head=("classifier.",)),
        Dialect("transformers", transformers, "mobilenet_v2.", ("classifier.",), 1e-3, "same"),
    )


def timm_unit(own: str, there: str, *, expands: bool) -> dict[str, Site]:
    """Names of a unit's convolutions in timm, which numbers its normalisations through."""
    parts = [("depthwise", "conv_dw"), ("project", "conv_pwl" if expands else "conv_pw")]
    if expands:
        parts.insert(0, ("expand", "conv_pw"))
    return {
        f"{own}.{part}": Site(f"{there}.{layer}", f"{there}.bn{number}")
        for number, (part, layer) in enumerate(parts, start=1)
    }


def _hf(name: str) -> Site:
    return Site(f"{name}.convolution", f"{name}.normalization")


V1, V2 = Family(mobilenet_v1, v1_dialects), Family(mobilenet_v2, v2_dialects)


class MobileNetV1:
    """The architecture "mobilenet-v1": option width."""

    model_types = ("mobilenet_v1",)

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Graph:
        """With the weights of a file, or drawn by the card's seed."""
        return V1.graph(card, weights)

    @classmethod
    def from_folder(cls, path: Path) -> Graph:
        """A folder as ``save_pretrained`` of transformers writes it."""
        return _from_folder(V1, "mobilenet-v1", path)


class MobileNetV2:
    """The architecture "mobilenet-v2": option width."""

    model_types = ("mobilenet_v2",)

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Graph:
        """With the weights of a file, or drawn by the card's seed."""
        return V2.graph(card, weights)

    @classmethod
    def from_folder(cls, path: Path) -> Graph:
        """A folder as ``save_pretrained`` of transformers writes it."""
        return _from_folder(V2, "mobilenet-v2", path)


def _from_folder(family: Family, architecture: str, path: Path) -> Graph:
    folder = read_folder(path)
    config = folder.config
    wanted = {"hidden_act": "relu6", "min_depth": 8, "num_channels": 3}
    if family is V2:
        wanted |= {
            "expand_ratio": 6,
            "output_stride": 32,
            "depth_divisible_by": 8,
            "first_layer_is_expansion": True,
        }
    expect(config, wanted)
    options = {
        "width": config.get("depth_multiplier", 1.0),
        "padding": "same" if config.get("tf_padding", True) else "half",
        "epsilon": config.get("layer_norm_eps", 1e-3),
    }
    if family is V2 and options["width"] < 1:
        expect(config, {"finegrained_output": True})
    return family.graph(folder.card(architecture, options), folder.data)
