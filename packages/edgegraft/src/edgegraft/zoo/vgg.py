"""VGG with 16 layers (Simonyan and Zisserman, ICLR 2015).

Of its 138 million weights 120 million are in two dense layers, which need pictures of one size
and bring features little; so the embedding is the mean of the last map, unless asked for.
"""

from __future__ import annotations

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.graph import Graph
from edgegraft.zoo.image_names import Dialect, Site
from edgegraft.zoo.image_network import Family
from edgegraft.zoo.layers import Network, relu
from edgegraft.zoo.maps import MapLayers, Padding

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Features and depth."""
_DENSE = 4096


def vgg16(
    *, dense: bool = False, size: tuple[int, int] = (224, 224), padding: Padding = "half"
) -> Network:
    """Pictures (n, 3, height, width) -> the mean of the last map, (n, 512).

    Args:
        dense: go on through the two dense layers, (n, 4096); pictures of 224 x 224 only.

    >>> net = vgg16(size=(32, 32))
    >>> net.blocks, net.weights["block1.conv2.weight"].shape
    (('block1', 'block2', 'block3', 'block4', 'block5'), (64, 64, 3, 3))
    """
    layers = MapLayers(size, padding=padding)
    at, taps = layers.input, {}
    for block, (features, depth) in enumerate(BLOCKS, start=1):
        for conv in range(1, depth + 1):
            name = f"block{block}.conv{conv}"
            at = layers.map_conv(name, at, features, kernel=3, activation=relu)
        at = layers.map_max_pool(at, kernel=2, stride=2)
        taps[f"block{block}"] = at.value
    if not dense:
        return layers.finish(layers.pool(at.value), blocks=tuple(taps), taps=taps, top=at.value)
    if at.size != (7, 7):
        raise TypeError(f"the dense layers take maps of 7 x 7, not {at.height} x {at.width}")
    value = layers.draft.add("reshape", at.value, shape=[-1])
    value = layers.linear("dense.fc1", value, 49 * at.n_features, _DENSE, activation=relu)
    value = layers.linear("dense.fc2", value, _DENSE, _DENSE, activation=relu)
    return layers.finish(value, blocks=(*taps, "dense"), taps=taps, top=at.value)


def dialects(*, dense: bool = False) -> tuple[Dialect, ...]:
    """Names of torchvision, without and with normalisation; timm has the same."""
    plain, normed, i, j = {}, {}, 0, 0
    for block, (_, depth) in enumerate(BLOCKS, start=1):
        for conv in range(1, depth + 1):
            own = f"block{block}.conv{conv}"
            plain[own] = Site(f"features.{i}")
            normed[own] = Site(f"features.{j}", f"features.{j + 1}")
            i, j = i + 2, j + 3
        i, j = i + 1, j + 1
    head: tuple[str, ...] = ("classifier.", "pre_logits.", "head.")
    if dense:
        full = {"dense.fc1": Site("classifier.0"), "dense.fc2": Site("classifier.3")}
        plain, normed, head = plain | full, normed | full, ("classifier.6.",)
    return (
        Dialect("torchvision", plain, head=head),
        Dialect("torchvision with batch normalisation", normed, head=head),
    )


FAMILY = Family(vgg16, dialects)


class VGG16:
    """The architecture "vgg16": option dense."""

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Graph:
        """With the weights of a file, or drawn by the card's seed."""
        return FAMILY.graph(card, weights)
