"""Residual networks for small pictures (He et al., CVPR 2016, section 4.2): 6 n + 2 layers.

Where a layer halves the map, what goes past it is every second pixel, with zeros for the new
features (option A of the paper), or a convolution, as in the ResNet-8 of MLPerf Tiny.
"""

from __future__ import annotations

from typing import Literal

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.graph import Graph
from edgegraft.zoo.image_names import Dialect, Site
from edgegraft.zoo.image_network import Family
from edgegraft.zoo.layers import Network, relu
from edgegraft.zoo.maps import Map, MapLayers, Padding

Shortcut = Literal["zeros", "conv"]
FEATURES = (16, 32, 64)


def cifar_resnet(
    depth: int = 20,
    shortcut: Shortcut = "zeros",
    *,
    size: tuple[int, int] = (32, 32),
    padding: Padding = "half",
) -> Network:
    """Pictures (n, 3, height, width) -> the mean of the last map, (n, 64).

    >>> net = cifar_resnet(20)
    >>> net.drawn(0).program.run([[[[0.5]*32]*32]*3]).shape, len(net.weights) // 2
    ((1, 64), 19)
    """
    layers = MapLayers(size, padding=padding)
    at = layers.map_conv("stem.conv", layers.input, FEATURES[0], kernel=3, activation=relu)
    taps = {"stem": at.value}
    for layer, n_out in enumerate(FEATURES, start=1):
        for unit in range(_units(depth)):
            name, stride = f"layer{layer}.{unit}", 2 if layer > 1 and unit == 0 else 1
            past = at
            at = layers.map_conv(
                f"{name}.conv1", at, n_out, kernel=3, stride=stride, activation=relu
            )
            at = layers.map_conv(f"{name}.conv2", at, n_out, kernel=3, start=0.0)
            if stride != 1:
                past = _past(layers, f"{name}.shortcut", past, n_out, shortcut)
            at = layers.map_add(at, past, relu)
        taps[f"layer{layer}"] = at.value
    return layers.finish(layers.pool(at.value), blocks=tuple(taps), taps=taps, top=at.value)


def _units(depth: int) -> int:
    if depth < 8 or depth % 6 != 2:
        raise TypeError(f"depth {depth} is not 6 n + 2")
    return (depth - 2) // 6


def _past(layers: MapLayers, name: str, at: Map, n_out: int, shortcut: Shortcut) -> Map:
    if shortcut == "conv":
        return layers.map_conv(name, at, n_out, stride=2)
    draft = layers.draft
    value = draft.add("slice", at.value, axis=2, start=0, stop=at.height, step=2)
    value = draft.add("slice", value, axis=3, start=0, stop=at.width, step=2)
    n_before = (n_out - at.n_features) // 2
    n_after = n_out - at.n_features - n_before
    value = draft.add("pad", value, before=[n_before, 0, 0], after=[n_after, 0, 0])
    return Map(value, n_out, -(-at.height // 2), -(-at.width // 2))


def dialects(depth: int = 20, shortcut: Shortcut = "zeros") -> tuple[Dialect, ...]:
    """Names as in torchvision, which the .th files of pytorch_resnet_cifar10 share."""
    sites = {"stem.conv": Site("conv1", "bn1")}
    for layer in range(1, len(FEATURES) + 1):
        for unit in range(_units(depth)):
            name = f"layer{layer}.{unit}"
            for conv in (1, 2):
                sites[f"{name}.conv{conv}"] = Site(f"{name}.conv{conv}", f"{name}.bn{conv}")
            if shortcut == "conv" and layer > 1 and unit == 0:
                sites[f"{name}.shortcut"] = Site(f"{name}.shortcut")
    return (Dialect("pytorch_resnet_cifar10", sites, head=("linear.", "fc.")),)


FAMILY = Family(cifar_resnet, dialects)


class CifarResNet:
    """The architecture "cifar-resnet": options depth, shortcut."""

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Graph:
        """With the weights of a file, or drawn by the card's seed."""
        return FAMILY.graph(card, weights)
