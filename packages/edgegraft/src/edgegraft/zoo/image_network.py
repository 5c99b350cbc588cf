"""Image networks as backbones: what the families of architectures have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.graph import Graph
from edgegraft.zoo.image_names import Dialect, dialect_of, finite, read_names
from edgegraft.zoo.intake import ImageIntake
from edgegraft.zoo.layers import Network
from edgegraft.zoo.weights import state_dict

IMAGENET_MEAN, IMAGENET_SCALE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Family:
    """Networks of one kind.

    Attributes:
        build: options, with `size` and `padding` -> the network with weights of zero.
        dialects: the same options, without these two -> how libraries write it.
    """

    build: Callable[..., Network]
    dialects: Callable[..., tuple[Dialect, ...]]

    def graph(self, card: BackboneCard, data: bytes | None) -> Graph:
        """A backbone by its card, with the weights of a file, or drawn by the card's seed.

        Options of a card, besides those of the family: `size` (a number, or height and width),
        `mean` and `scale` of the colours, `padding` and `epsilon` where the file is not as its
        library usually writes it.

        Errors: `ModelError` when the weights are not those of the network.
        """
        options = dict(card.options)
        size = _size(options.pop("size", 224))
        intake = ImageIntake(
            *size,
            3,
            tuple(map(float, options.pop("mean", IMAGENET_MEAN))),
            tuple(map(float, options.pop("scale", IMAGENET_SCALE))),
        )
        padding, epsilon = options.pop("padding", None), options.pop("epsilon", None)
        own = self.build(size=size, padding=padding or "half", **options)
        card = replace(card, n_parameters=sum(array.size for array in own.weights.values()))
        if data is None:
            return Graph(replace(card, kind="random"), intake, own.drawn(card.seed))
        tensors = finite(state_dict(data))
        if set(tensors) != set(own.weights):
            dialect = dialect_of(tensors, self.dialects(**options))
            if padding is None and dialect.padding != "half":
                own = self.build(size=size, padding=dialect.padding, **options)
            tensors = read_names(tensors, dialect, epsilon)
        return Graph(card, intake, own.with_weights(tensors))


def _size(size: Any) -> tuple[int, int]:
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return int(height), int(width)


def prefixed(block: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Names of a block's parts, with the block before them."""
    return {f"{block}.{part}": value for part, value in parts.items()}
