"""A plain dense network on small arrays, e.g. 28 x 28 pixels."""

from __future__ import annotations

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.graph import Graph
from edgegraft.zoo.intake import ImageIntake
from edgegraft.zoo.layers import Layers, Network, relu
from edgegraft.zoo.weights import read_weights


def dense(height: int = 28, width: int = 28, widths: tuple[int, ...] = (256, 128)) -> Network:
    """Pixels in a row, then matrices with ReLU between; the last one gives the embedding.

    >>> import numpy as np
    >>> dense(8, 8, (16, 4)).drawn(0).program.run(np.ones((2, 1, 8, 8))).shape
    (2, 4)
    """
    layers = Layers()
    value, n_in = layers.draft.add("reshape", "x", shape=[-1]), height * width
    blocks = []
    for index, width_ in enumerate(widths, start=1):
        block = f"layer{index}"
        value = layers.linear(f"{block}.dense", value, n_in, width_, activation=relu)
        blocks.append(block)
        n_in = width_
    return layers.finish(value, blocks=tuple(blocks))


class Dense:
    """The architecture "dense": options height, width, widths."""

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Graph:
        """With the weights of a safetensors file, or drawn by the card's seed."""
        options = dict(card.options)
        height, width = int(options.pop("height", 28)), int(options.pop("width", 28))
        network = dense(height, width, tuple(options.pop("widths", (256, 128))), **options)
        intake = ImageIntake(height, width, 1, (0.5,), (0.5,))
        card, network = read_weights(card, network, weights)
        return Graph(card, intake, network)
