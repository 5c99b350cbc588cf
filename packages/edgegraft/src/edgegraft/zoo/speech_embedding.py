"""Google's speech embedding: a small network that heard very many people say very many things.

Pairs of convolutions along the bands and along time over a spectrogram of 32 mel bands, 96
features for each 0.76 s of sound, a new one each 80 ms; a longer window gives the mean of them.
Its weights do not ship; they are read from ``embedding_model.tflite``, or from safetensors.

Source: Lin, Kilgour, Roblek, Sharifi, Training Keyword Spotters with Limited and Synthesized
Speech Data, ICASSP 2020.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.graph import Graph
from edgegraft.zoo.layers import Layers, Network
from edgegraft.zoo.sound_front import SoundIntake
from edgegraft.zoo.tflite_file import Tflite
from edgegraft.zoo.weights import read_weights
from edgegraft_edge.errors import ModelError
from edgegraft_edge.program import Draft

_WIDTHS = (24, 48, 72, 96, 96)
_POOLS = ((2, 2), (1, 2), (2, 2), (1, 2), (2, 2))  # after each stage, in time and in bands
_SLOPE, _FLOOR = 0.2, -0.4


def speech_embedding() -> Network:
    """(n_windows, 1, n_frames, 32), with 76 frames at least -> (n_windows, 96).

    >>> network = speech_embedding()
    >>> sum(weight.size for weight in network.weights.values())
    328224
    >>> network.drawn(0).program.run(np.ones((2, 1, 92, 32))).shape
    (2, 96)
    """
    layers = Layers()
    value = layers.draft.add("pad", "x", before=[0, 0, 1], after=[0, 0, 1])
    value = layers.conv("stage1.conv1", value, 1, 24, kernel=3, pad=0, activation=_leaky)
    n_in, count, taps = 24, 1, {}
    for stage, (width, pool) in enumerate(zip(_WIDTHS, _POOLS, strict=True), start=1):
        for _ in range(1 if stage == 1 else 2):
            for kernel, pad in (((1, 3), (0, 1, 0, 1)), ((3, 1), 0)):
                count += 1
                name = f"stage{stage}.conv{count}"
                value = layers.conv(
                    name, value, n_in, width, kernel=kernel, pad=pad, activation=_leaky
                )
                n_in = width
        value = layers.draft.add("max_pool2d", value, kernel=list(pool), stride=list(pool))
        taps[f"stage{stage}"] = value
    value = layers.conv("top.conv", value, 96, 96, kernel=(3, 1), pad=0)
    taps["top"] = value
    return layers.finish(layers.pool(value), blocks=tuple(taps), taps=taps, top=value)


def _leaky(draft: Draft, value: str) -> str:
    """No value stays below -0.4, so that silence does not weigh."""
    bent = draft.add("leaky_relu", value, slope=_SLOPE)
    return draft.add("maximum", bent, np.float32(_FLOOR))


class SpeechEmbedding:
    """The architecture "speech-embedding"; it has no options."""

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Graph:
        """With the weights of the .tflite file or of safetensors, or drawn by the card's seed."""
        network, intake = speech_embedding(), SoundIntake("speech-mel")
        if weights is None or weights[4:8] != b"TFL3":
            card, network = read_weights(card, network, weights)
            return Graph(card, intake, network)
        found = tuple(Tflite.from_card(card, weights).network.weights.values())
        own = network.weights
        if [array.shape for array in found] != [array.shape for array in own.values()]:
            raise ModelError.of(
                "weights-shape",
                f"{card.name} with the weights of another network",
                "its layers differ from those of the speech embedding",
                "embedding_model.tflite; other networks by their own path",
            )
        network = network.with_weights(dict(zip(own, found, strict=True)))
        n_parameters = sum(array.size for array in found)
        return Graph(replace(card, n_parameters=n_parameters), intake, network)
