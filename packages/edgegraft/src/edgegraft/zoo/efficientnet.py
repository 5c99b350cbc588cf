"""EfficientNet (Tan and Le, ICML 2019): inverted residuals with squeeze and excitation."""

from __future__ import annotations

from math import ceil
from pathlib import Path

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.graph import Graph
from edgegraft.zoo.image_folder import expect, read_folder
from edgegraft.zoo.image_names import Dialect, Site
from edgegraft.zoo.image_network import Family
from edgegraft.zoo.layers import Network, silu
from edgegraft.zoo.maps import Map, MapLayers, Padding
from edgegraft.zoo.mobilenet import rounded, timm_unit

STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""How many times a unit widens, features, depth, stride and kernel, at width and depth 1."""

_OPEN = 4.0  # where the gate of a drawn network starts: all but open


def efficientnet(
    width: float = 1.0,
    depth: float = 1.0,
    *,
    size: tuple[int, int] = (224, 224),
    padding: Padding = "half",
) -> Network:
    """Pictures (n, 3, height, width) -> the mean of the last map, (n, 1280 * width).

    >>> net = efficientnet(size=(32, 32))
    >>> net.weights["stage2.0.squeeze.weight"].shape, net.weights["head.conv.bias"].shape
    ((4, 96, 1, 1), (1280,))
    """
    layers = MapLayers(size, padding=padding)
    at = layers.map_conv(
        "stem.conv", layers.input, rounded(32 * width), kernel=3, stride=2, activation=silu
    )
    taps = {"stem": at.value}
    for stage, (wider, features, repeats, first, kernel) in enumerate(STAGES, start=1):
        for unit in range(ceil(repeats * depth)):
            stride, n_out = first if unit == 0 else 1, rounded(features * width)
            at = _unit(layers, f"stage{stage}.{unit}", at, n_out, wider, kernel, stride)
        taps[f"stage{stage}"] = at.value
    at = layers.map_conv("head.conv", at, rounded(1280 * width), activation=silu)
    taps["head"] = at.value
    return layers.finish(layers.pool(at.value), blocks=tuple(taps), taps=taps, top=at.value)


def _unit(
    layers: MapLayers, name: str, at: Map, n_out: int, wider: int, kernel: int, stride: int
) -> Map:
    past, n_squeezed = at, max(1, at.n_features // 4)
    if wider > 1:
        at = layers.map_conv(f"{name}.expand", at, wider * at.n_features, activation=silu)
    at = layers.map_conv(
        f"{name}.depthwise", at, at.n_features,
        kernel=kernel, stride=stride, depthwise=True, activation=silu,
    )  # fmt: skip
    at = _gated(layers, name, at, n_squeezed)
    if stride != 1 or past.n_features != n_out:
        return layers.map_conv(f"{name}.project", at, n_out)
    return layers.map_add(layers.map_conv(f"{name}.project", at, n_out, start=0.0), past)


def _gated(layers: MapLayers, name: str, at: Map, n_squeezed: int) -> Map:
    """Each feature times a gate between 0 and 1, from the means of all (Hu et al., CVPR 2018)."""
    draft = layers.draft
    means = draft.add("mean", at.value, axes=[2, 3])
    squeezed = layers.conv(f"{name}.squeeze", means, at.n_features, n_squeezed, activation=silu)
    weight = layers.weight(f"{name}.excite.weight", at.n_features, n_squeezed, 1, 1, start=0.0)
    bias = layers.weight(f"{name}.excite.bias", at.n_features, start=_OPEN)
    gate = draft.add("sigmoid", draft.add("conv2d", squeezed, weight, bias))
    return Map(draft.add("mul", at.value, gate), at.n_features, *at.size)


def dialects(width: float = 1.0, depth: float = 1.0) -> tuple[Dialect, ...]:
    """Names of torchvision, timm and transformers."""
    torchvision = {"stem.conv": Site("features.0.0", "features.0.1")}
    timm = {"stem.conv": Site("conv_stem", "bn1")}
    transformers = {"stem.conv": Site("embeddings.convolution", "embeddings.batchnorm")}
    number = 0
    for stage, (wider, _, repeats, _, _) in enumerate(STAGES, start=1):
        for unit in range(ceil(repeats * depth)):
            own, here = f"stage{stage}.{unit}", f"blocks.{stage - 1}.{unit}"
            at, there = f"features.{stage}.{unit}.block", f"encoder.blocks.{number}"
            first = 1 if wider > 1 else 0
            if first:
                torchvision[f"{own}.expand"] = Site(f"{at}.0.0", f"{at}.0.1")
                transformers[f"{own}.expand"] = _hf(f"{there}.expansion", "expand")
            torchvision |= {
                f"{own}.depthwise": Site(f"{at}.{first}.0", f"{at}.{first}.1"),
                f"{own}.squeeze": Site(f"{at}.{first + 1}.fc1"),
                f"{own}.excite": Site(f"{at}.{first + 1}.fc2"),
                f"{own}.project": Site(f"{at}.{first + 2}.0", f"{at}.{first + 2}.1"),
            }
            timm |= timm_unit(own, here, expands=wider > 1) | {
                f"{own}.squeeze": Site(f"{here}.se.conv_reduce"),
                f"{own}.excite": Site(f"{here}.se.conv_expand"),
            }
            deep = f"{there}.depthwise_conv.depthwise"
            transformers |= {
                f"{own}.depthwise": Site(f"{deep}_conv", f"{deep}_norm"),
                f"{own}.squeeze": Site(f"{there}.squeeze_excite.reduce"),
                f"{own}.excite": Site(f"{there}.squeeze_excite.expand"),
                f"{own}.project": _hf(f"{there}.projection", "project"),
            }
            number += 1
    torchvision["head.conv"] = Site("features.8.0", "features.8.1")
    timm["head.conv"] = Site("conv_head", "bn2")
    transformers["head.conv"] = Site("encoder.top_conv", "encoder.top_bn")
    return (
        Dialect("torchvision", torchvision, head=("classifier.",)),
        Dialect("timm", timm, head=("classifier.",)),
        Dialect("transformers", transformers, "efficientnet.", ("classifier.",), 1e-3, "same"),
    )


def _hf(place: str, name: str) -> Site:
    return Site(f"{place}.{name}_conv", f"{place}.{name}_bn")


FAMILY = Family(efficientnet, dialects)


class EfficientNet:
    """The architecture "efficientnet": options width, depth."""

    model_types = ("efficientnet",)

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Graph:
        """With the weights of a file, or drawn by the card's seed."""
        return FAMILY.graph(card, weights)

    @classmethod
    def from_folder(cls, path: Path) -> Graph:
        """A folder as ``save_pretrained`` of transformers writes it."""
        folder = read_folder(path)
        config = folder.config
        wider, features, repeats, strides, kernels = (
            list(row) for row in zip(*STAGES, strict=True)
        )
        wanted = {
            "hidden_act": "swish",
            "num_channels": 3,
            "depth_divisor": 8,
            "expand_ratios": wider,
            "out_channels": features,
            "in_channels": [32, *features[:-1]],
            "num_block_repeats": repeats,
            "strides": strides,
            "kernel_sizes": kernels,
            "squeeze_expansion_ratio": 0.25,
            "pooling_type": "mean",
        }
        options = {
            "width": config.get("width_coefficient", 1.0),
            "depth": config.get("depth_coefficient", 1.0),
            "padding": "same",
            "epsilon": config.get("batch_norm_eps", 1e-3),
            "size": config.get("image_size", 224),  # what its lists of padding are made for
        }
        wanted["depthwise_padding"] = _even_pads(int(options["size"]), options["depth"])
        expect(config, wanted)
        return FAMILY.graph(folder.card("efficientnet", options), folder.data)


def _even_pads(size: int, depth: float) -> list[int]:
    """Units that halve a map of odd size, which is padded alike on both sides.

    >>> _even_pads(260, 1.2)
    [5, 8, 16]
    """
    size, number, found = ceil(size / 2), 0, []
    for _, _, repeats, stride, _ in STAGES:
        if stride == 2:
            found += [number] if size % 2 else []
            size = ceil(size / 2)
        number += ceil(repeats * depth)
    return found
