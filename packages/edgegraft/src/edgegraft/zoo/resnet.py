"""Residual networks (He et al., CVPR 2016) of 18, 34 and 50 layers.

In the bottleneck of the larger ones the 3 x 3 convolution has the stride, as in every library's
weights today ("v1.5"); `early` puts it in the first 1 x 1, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.graph import Graph
from edgegraft.zoo.image_folder import expect, read_folder
from edgegraft.zoo.image_names import Dialect, Site
from edgegraft.zoo.image_network import Family
from edgegraft.zoo.layers import Network, relu
from edgegraft.zoo.maps import Map, MapLayers, Padding


def resnet(
    depths: Sequence[int] = (2, 2, 2, 2),
    features: Sequence[int] = (64, 128, 256, 512),
    *,
    stem: int = 64,
    bottleneck: bool = False,
    early: bool = False,
    size: tuple[int, int] = (224, 224),
    padding: Padding = "half",
) -> Network:
    """Pictures (n, 3, height, width) -> the mean of the last map, (n, features[-1]).

    Args:
        depths: residual units of each layer.
        features: what each layer gives; a bottleneck works on a quarter of it.

    >>> net = resnet((1, 1), (4, 8), stem=4, size=(32, 32))
    >>> net.blocks, net.weights["layer2.0.shortcut.weight"].shape
    (('stem', 'layer1', 'layer2'), (8, 4, 1, 1))
    """
    layers = MapLayers(size, padding=padding)
    at = layers.map_conv("stem.conv", layers.input, stem, kernel=7, stride=2, activation=relu)
    taps = {"stem": at.value}
    at = layers.map_max_pool(at, kernel=3, stride=2, pad=1)
    for layer, (depth, n_out) in enumerate(zip(depths, features, strict=True), start=1):
        for unit in range(depth):
            stride = 2 if layer > 1 and unit == 0 else 1
            at = _unit(layers, f"layer{layer}.{unit}", at, n_out, stride, bottleneck, early)
        taps[f"layer{layer}"] = at.value
    return layers.finish(layers.pool(at.value), blocks=tuple(taps), taps=taps, top=at.value)


def _unit(
    layers: MapLayers, name: str, at: Map, n_out: int, stride: int, bottleneck: bool, early: bool
) -> Map:
    past = at
    if stride != 1 or at.n_features != n_out:
        past = layers.map_conv(f"{name}.shortcut", at, n_out, stride=stride)
    if bottleneck:
        first, second = (stride, 1) if early else (1, stride)
        at = layers.map_conv(f"{name}.conv1", at, n_out // 4, stride=first, activation=relu)
        at = layers.map_conv(
            f"{name}.conv2", at, n_out // 4, kernel=3, stride=second, activation=relu
        )
        at = layers.map_conv(f"{name}.conv3", at, n_out, start=0.0)
    else:
        at = layers.map_conv(f"{name}.conv1", at, n_out, kernel=3, stride=stride, activation=relu)
        at = layers.map_conv(f"{name}.conv2", at, n_out, kernel=3, start=0.0)
    return layers.map_add(at, past, relu)


def dialects(
    depths: Sequence[int] = (2, 2, 2, 2),
    features: Sequence[int] = (64, 128, 256, 512),
    *,
    stem: int = 64,
    bottleneck: bool = False,
    early: bool = False,
) -> tuple[Dialect, ...]:
    """Names of torchvision and timm, which are the same, and of transformers."""
    torchvision = {"stem.conv": Site("conv1", "bn1")}
    transformers = {"stem.conv": _hf("embedder.embedder")}
    n_before = stem
    for layer, (depth, n_out) in enumerate(zip(depths, features, strict=True), start=1):
        for unit in range(depth):
            own, there = f"layer{layer}.{unit}", f"encoder.stages.{layer - 1}.layers.{unit}"
            if unit == 0 and (layer > 1 or n_before != n_out):
                torchvision[f"{own}.shortcut"] = Site(f"{own}.downsample.0", f"{own}.downsample.1")
                transformers[f"{own}.shortcut"] = _hf(f"{there}.shortcut")
            for conv in range(1, 4 if bottleneck else 3):
                torchvision[f"{own}.conv{conv}"] = Site(f"{own}.conv{conv}", f"{own}.bn{conv}")
                transformers[f"{own}.conv{conv}"] = _hf(f"{there}.layer.{conv - 1}")
        n_before = n_out
    return (
        Dialect("torchvision", torchvision, head=("fc.",)),
        Dialect("transformers", transformers, prefix="resnet.", head=("classifier.",)),
    )


def _hf(name: str) -> Site:
    return Site(f"{name}.convolution", f"{name}.normalization")


FAMILY = Family(resnet, dialects)


class ResNet:
    """The architecture "resnet": options depths, features, stem, bottleneck, early."""

    model_types = ("resnet",)

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Graph:
        """With the weights of a file, or drawn by the card's seed."""
        return FAMILY.graph(card, weights)

    @classmethod
    def from_folder(cls, path: Path) -> Graph:
        """A folder as ``save_pretrained`` of transformers writes it."""
        folder = read_folder(path)
        config = folder.config
        expect(
            config, {"hidden_act": "relu", "downsample_in_first_stage": False, "num_channels": 3}
        )
        options = {
            "depths": config.get("depths", [3, 4, 6, 3]),
            "features": config.get("hidden_sizes", [256, 512, 1024, 2048]),
            "stem": config.get("embedding_size", 64),
            "bottleneck": config.get("layer_type", "bottleneck") == "bottleneck",
            "early": config.get("downsample_in_bottleneck", False),
        }
        return FAMILY.graph(folder.card("resnet", options), folder.data)
