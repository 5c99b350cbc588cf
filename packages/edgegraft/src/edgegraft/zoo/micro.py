"""A network small enough for a microcontroller, made only of what has an integer form.

Windows are brought to unit scale by the step in front of the network and bounded there; then
come convolutions along time with a clipped ReLU each, the mean and the maximum over time, and
whatever head stands on them. Nothing in between looks at a window's own statistics, so the whole
network is integer throughout once quantised. Activations are bounded because what is bounded
loses least in eight bits: A. Howard et al., MobileNets, arXiv:1704.04861, 2017 (ReLU6);
depthwise separable convolutions are those of the same paper.

Sound comes as a log-mel spectrogram and pictures as they are, with kernels of 3 x 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.graph import Graph
from edgegraft.zoo.intake import ImageIntake
from edgegraft.zoo.layers import Layers, Network
from edgegraft.zoo.log_mel import LogMel
from edgegraft.zoo.weights import state_dict
from edgegraft_edge.errors import DataError, ModelError
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Spec, Windows

MAX_PARAMETERS = 60_000
BOUND = 8.0
"""Windows of unit scale are cut at this many deviations."""
CLIP = 6.0
"""Upper end of every activation."""
SIDE = 3
"""Of a kernel over pictures and spectrograms, whatever the kernels along time are."""
_POOLS = ("mean", "max")


@dataclass(frozen=True)
class MicroShape:
    """The convolutions: one width, kernel length and stride per block.

    Attributes:
        separable: whether blocks after the first are a depthwise and a pointwise convolution.
        decimate: keep every so many timepoints of a window, before all else; 1 keeps all.
        crop: share of a window that is looked at, its middle.
        pools: what is taken over time of the last block, "mean", "max" or both.

    Errors: `ModelError` "network-shape" where no network can be made of them.

    >>> MicroShape().scaled(0.5).widths
    (16, 24, 32)
    """

    widths: tuple[int, ...] = (32, 48, 64)
    kernels: tuple[int, ...] = (9, 5, 3)
    strides: tuple[int, ...] = (2, 2, 2)
    separable: bool = False
    decimate: int = 1
    crop: float = 1.0
    pools: tuple[str, ...] = _POOLS

    def __post_init__(self) -> None:
        lists = (self.widths, self.kernels, self.strides)
        wrong = []
        if len({len(each) for each in lists}) != 1 or not self.widths:
            wrong.append("widths, kernels and strides of unequal number")
        elif min(*self.widths, *self.kernels, *self.strides, self.decimate) < 1:
            wrong.append("a width, kernel, stride or decimate below one")
        if not 0 < self.crop <= 1:
            wrong.append(f"crop={self.crop}")
        if not self.pools or not set(self.pools) <= set(_POOLS):
            wrong.append(f"pools {', '.join(self.pools) or 'of none'}")
        if wrong:
            raise ModelError.of(
                "network-shape",
                f"options of a micro network: {'; '.join(wrong)}",
                "no network can be made of them",
                "widths, kernels and strides of one length from 1 up, pools mean and max",
            )

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> MicroShape:
        """From a card's options. Errors: `ModelError` "network-shape"."""
        try:
            numbers = {
                name: tuple(map(int, options[name]))
                for name in ("widths", "kernels", "strides")
                if name in options
            }
            pools = {"pools": tuple(options["pools"])} if "pools" in options else {}
            return cls(**{**options, **numbers, **pools})
        except (TypeError, ValueError) as error:
            raise ModelError.of(
                "network-shape",
                f"options of a micro network: {error}",
                "no network can be made of them",
                "widths, kernels, strides, separable, decimate, crop and pools",
            ) from error

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names from the signal up: stem, block1, ..."""
        return ("stem", *(f"block{index}" for index in range(1, len(self.widths))))

    def scaled(self, factor: float) -> MicroShape:
        """The same with widths times `factor`, in steps of 4."""
        widths = tuple(max(4, 4 * round(width * factor / 4)) for width in self.widths)
        return replace(self, widths=widths)

    def options(self) -> dict[str, Any]:
        """As a card holds them: what differs from the default."""
        plain = MicroShape()
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
            if value != getattr(plain, name)
        }


def micro(shape: MicroShape, n_channels: int, *, flat: bool = True) -> Network:
    """The network; `flat` for signals (n, n_channels, t), else pictures.

    >>> network = micro(MicroShape(), 9)
    >>> sum(array.size for array in network.weights.values())
    19632
    >>> network.drawn(0).program.run(np.ones((2, 9, 128))).shape
    (2, 128)
    """
    layers = Layers()
    value, n_in = "x", n_channels
    if flat:  # a picture of one row: one form of convolution serves both
        value = layers.draft.add("reshape", value, shape=[n_channels, 1, -1])
    taps = {}
    for index, block in enumerate(shape.blocks):
        width, kernel, stride = (
            each[index] for each in (shape.widths, shape.kernels, shape.strides)
        )
        size, step = ((1, kernel), (1, stride)) if flat else ((SIDE, SIDE), (stride, stride))
        if shape.separable and index:
            value = layers.conv(
                f"{block}.depthwise", value, n_in, n_in, kernel=size, stride=step, groups=n_in,
                activation=clipped,
            )  # fmt: skip
            value = layers.conv(f"{block}.pointwise", value, n_in, width, activation=clipped)
        else:
            value = layers.conv(
                f"{block}.conv", value, n_in, width, kernel=size, stride=step, activation=clipped
            )
        taps[block], n_in = value, width
    pools = [layers.draft.add(kind, value, axes=[2, 3], keepdims=False) for kind in shape.pools]
    joined = layers.draft.add("concat", *pools, axis=1) if len(pools) > 1 else pools[0]
    return layers.finish(joined, blocks=shape.blocks, taps=taps, top=value)


def clipped(draft: Draft, value: str) -> str:
    """ReLU up to `CLIP`: in integers it is part of the convolution before it."""
    return draft.add("minimum", draft.add("relu", value), np.float32(CLIP))


@dataclass(frozen=True)
class MicroIntake:
    """What a micro network takes: bounded signals (n, n_channels, t).

    Sound is a spectrogram (n, 1, n_mels, n_frames), its logarithm brought to about unit scale by
    constants; pictures are as `ImageIntake` gives them.
    """

    decimate: int = 1
    crop: float = 1.0
    n_mels: int = 40

    def program(self, spec: Spec) -> Program:
        """Errors: `DataError` "kind-differs", "window-short"."""
        if spec.kind == "image":
            pixels = ImageIntake(n_channels=spec.shape[0], mean=(0.5,), scale=(0.25,))
            return pixels.program(spec)
        draft, value = Draft(), "x"
        if spec.kind == "audio":
            logs = draft.call(LogMel(self.n_mels).program(spec))
            value = draft.add("div", draft.add("add", logs, np.float32(6.5)), np.float32(2.0))
            return draft.finish(_bounded(draft, value))
        if spec.kind != "series":
            raise DataError.of(
                "kind-differs",
                f"windows of kind {spec.kind}",
                "a micro network takes series, sound or pictures",
                "a backbone for that kind (edgegraft models list)",
            )
        length = spec.shape[1]
        kept = max(1, round(length * self.crop))
        if kept < length or self.decimate > 1:
            first = (length - kept) // 2
            value = draft.add(
                "slice", value, axis=2, start=first, stop=first + kept, step=self.decimate
            )
        return draft.finish(_bounded(draft, value))


def _bounded(draft: Draft, value: str) -> str:
    high = draft.add("minimum", value, np.float32(BOUND))
    return draft.add("maximum", high, np.float32(-BOUND))


@dataclass(frozen=True, eq=False)
class Micro(Graph):
    """The architecture "micro": a network that is made for the channels of its windows.

    Attributes:
        shape: its blocks.

    >>> windows = Windows.of(np.random.default_rng(0).normal(size=(4, 3, 64)), rate_hz=50.0)
    >>> backbone = Micro.of(MicroShape()).fit(windows, seed=0)
    >>> backbone.embed(windows.x).shape
    (4, 128)
    """

    shape: MicroShape = MicroShape()

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Micro:
        """With the weights of a safetensors file, or drawn by the card's seed.

        The options of a card are the fields of `MicroShape`.

        Errors: `ModelError` when they are not those of the network, or it is too large.
        """
        shape = MicroShape.from_options(card.options)
        if weights is None:
            return cls._drawn(replace(card, kind="random"), shape, 3, flat=True)
        tensors = state_dict(weights)
        stem = tensors.get("stem.conv.weight")
        n_channels = stem.shape[1] if stem is not None and stem.ndim == 4 else 1
        flat = stem is None or stem.shape[2:3] == (1,)
        network = micro(shape, n_channels, flat=flat).with_weights(tensors)
        card = replace(card, n_parameters=_count(network))
        return cls(card, MicroIntake(shape.decimate, shape.crop), network, shape=shape)

    @classmethod
    def of(cls, shape: MicroShape, seed: int = 0, name: str = "micro") -> Micro:
        """A network of that shape, random weights by seed."""
        card = BackboneCard(
            name=name,
            architecture="micro",
            summary="small convolutional network for a microcontroller",
            kind="random",
            licence="Apache-2.0",
            seed=seed,
            options=shape.options(),
            takes=("series", "audio", "image"),
        )
        return cls.from_card(card, None)

    @classmethod
    def _drawn(cls, card: BackboneCard, shape: MicroShape, n_channels: int, *, flat: bool) -> Micro:
        network = micro(shape, n_channels, flat=flat)
        n_parameters = _count(network)
        if n_parameters > MAX_PARAMETERS:
            raise ModelError.of(
                "network-size",
                f"{n_parameters} parameters",
                f"a micro network has at most {MAX_PARAMETERS}",
                "smaller widths or kernels, or separable=true",
            )
        return cls(
            replace(card, n_parameters=n_parameters),
            MicroIntake(shape.decimate, shape.crop),
            network.drawn(card.seed),
            shape=shape,
        )

    def fit(self, windows: Windows, *, seed: int) -> Self:
        """Bind to windows; a network of kind "random" is made for their channels, by `seed`.

        Errors: `ModelError` "channels-differ" for weights of another number of channels.
        """
        front = self.intake.program(windows.spec)
        flat = windows.spec.kind == "series"
        n_channels = 1 if windows.spec.kind == "audio" else windows.spec.shape[0]
        bound = self
        if self.card.kind == "random":
            card = replace(self.card, seed=seed)
            drawn = self._drawn(card, self.shape, n_channels, flat=flat)
            bound = replace(self, card=drawn.card, network=drawn.network)
        elif self._stem.shape[1] != n_channels or (self._stem.shape[2] == 1) != flat:
            raise ModelError.of(
                "channels-differ",
                f"windows of {n_channels} channels",
                f"the weights of {self.card.name!r} are for {self._stem.shape[1]}",
                "weights that were trained on such windows, or random ones",
            )
        return replace(bound, front=front, spec=windows.spec)

    @property
    def _stem(self) -> Array:
        return self.network.weights["stem.conv.weight"]


def _count(network: Network) -> int:
    return sum(array.size for array in network.weights.values())
