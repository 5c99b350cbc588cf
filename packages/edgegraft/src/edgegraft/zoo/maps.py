"""Layers over maps: convolutions that know the size of what they take.

Where a stride halves a map, frameworks pad it in two ways. "half" pads half the kernel on every
side (PyTorch). "same" pads as much as keeps ``ceil(size / stride)`` places, and more of it after
than before (TensorFlow), which hangs on the size of the map; so sizes are followed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgegraft.zoo.layers import Activation, Layers
from edgegraft_edge.errors import ModelError

Padding = Literal["half", "same"]


@dataclass(frozen=True)
class Map:
    """A value (n_windows, n_features, height, width) of a network that is being written."""

    value: str
    n_features: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width


class MapLayers(Layers):
    """Writes a network over pictures of one size; see `edgegraft.zoo.layers.Layers`.

    >>> layers = MapLayers((9, 12), padding="same")
    >>> halved = layers.map_conv("stem.conv", layers.input, 8, kernel=3, stride=2)
    >>> halved.n_features, halved.size
    (8, (5, 6))
    """

    def __init__(
        self, size: tuple[int, int], *, n_channels: int = 3, padding: Padding = "half"
    ) -> None:
        super().__init__()
        self.padding = padding
        self.input = Map("x", n_channels, *size)

    def map_conv(
        self,
        name: str,
        at: Map,
        n_out: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        depthwise: bool = False,
        activation: Activation | None = None,
        start: float | None = None,
    ) -> Map:
        """A convolution with weights `name`.weight and `name`.bias; `depthwise` is one a channel.

        `start` is for the last one of a residual branch.
        """
        top, left, bottom, right = pad = self._pad(at, kernel, stride)
        value = self.conv(
            name,
            at.value,
            at.n_features,
            n_out,
            kernel=kernel,
            stride=stride,
            pad=pad,
            groups=at.n_features if depthwise else 1,
            activation=activation,
            start=start,
        )
        return _smaller(value, n_out, at, kernel, stride, (top + bottom, left + right))

    def map_max_pool(self, at: Map, *, kernel: int, stride: int, pad: int = 0) -> Map:
        """The largest of each patch."""
        value = self.draft.add(
            "max_pool2d", at.value, kernel=[kernel] * 2, stride=[stride] * 2, pad=[pad] * 4
        )
        return _smaller(value, at.n_features, at, kernel, stride, (2 * pad, 2 * pad))

    def map_add(self, one: Map, other: Map, activation: Activation | None = None) -> Map:
        """The sum of a residual branch and what goes past it."""
        value = self.add(one.value, other.value, activation)
        return Map(value, one.n_features, one.height, one.width)

    def _pad(self, at: Map, kernel: int, stride: int) -> tuple[int, int, int, int]:
        if self.padding == "half":
            half = kernel // 2
            return half, half, half, half
        high, wide = (max(0, (-(-n // stride) - 1) * stride + kernel - n) for n in at.size)
        return high // 2, wide // 2, high - high // 2, wide - wide // 2


def _smaller(
    value: str, n_out: int, at: Map, kernel: int, stride: int, added: tuple[int, int]
) -> Map:
    height, width = (
        (n + pad - kernel) // stride + 1 for n, pad in zip(at.size, added, strict=True)
    )
    if min(height, width) < 1:
        raise ModelError.of(
            "size-small",
            f"a map of {at.height} x {at.width} before a kernel of {kernel}",
            "nothing is left of it",
            "a larger size in [options] of the card",
        )
    return Map(value, n_out, height, width)
