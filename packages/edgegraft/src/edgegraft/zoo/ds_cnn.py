"""A small keyword network: depthwise separable convolutions over a spectrogram.

Source: Y. Zhang, N. Suda, L. Lai, V. Chandra. Hello Edge: Keyword Spotting on Microcontrollers.
arXiv:1711.07128, 2017. Layers are those of DS-CNN, by default at 64 channels; without
normalisation by batches, which has no place in a program, blocks are residual instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.graph import Graph
from edgegraft.zoo.layers import Layers, Network, relu
from edgegraft.zoo.log_mel import LogMel
from edgegraft.zoo.weights import read_weights
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Spec


@dataclass(frozen=True)
class MelIntake:
    """A spectrogram of zero mean and unit deviation for each window, (n, 1, n_mels, n_frames)."""

    log_mel: LogMel = field(default_factory=LogMel)

    def program(self, spec: Spec) -> Program:
        """Errors: `DataError` "kind-differs", "window-short"."""
        draft = Draft()
        value = draft.call(self.log_mel.program(spec))
        return draft.finish(standardised(draft, value))


def standardised(draft: Draft, value: str) -> str:
    """Writes pictures (n, c, h, w) of zero mean and unit deviation each."""
    centred = draft.add("sub", value, draft.add("mean", value, axes=[1, 2, 3]))
    power = draft.add("mean", draft.add("mul", centred, centred), axes=[1, 2, 3])
    return draft.add("div", centred, draft.add("sqrt", draft.add("add", power, np.float32(0.01))))


def ds_cnn(width: int = 64, n_blocks: int = 4) -> Network:
    """A convolution of 10 x 4, then blocks of a depthwise 3 x 3 and a pointwise one.

    >>> network = ds_cnn()
    >>> sum(array.size for array in network.weights.values())
    21824
    >>> network.drawn(0).program.run(np.ones((2, 1, 40, 98))).shape
    (2, 64)
    """
    layers = Layers()
    value = layers.conv("stem", "x", 1, width, kernel=(4, 10), stride=2, activation=relu)
    blocks, taps = ["stem"], {"stem": value}
    for index in range(1, n_blocks + 1):
        block = f"block{index}"
        inner = layers.conv(f"{block}.depthwise", value, width, width, kernel=3, groups=width)
        inner = layers.conv(f"{block}.pointwise", inner, width, width, activation=relu)
        value = layers.add(value, inner)
        blocks.append(block)
        taps[block] = value
    return layers.finish(layers.pool(value), blocks=tuple(blocks), taps=taps, top=value)


class DsCnn:
    """The architecture "ds-cnn": options width, n_blocks, n_mels."""

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Graph:
        """With the weights of a safetensors file, or drawn by the card's seed."""
        options = dict(card.options)
        intake = MelIntake(LogMel(int(options.pop("n_mels", 40))))
        card, network = read_weights(card, ds_cnn(**options), weights)
        return Graph(card, intake, network)
