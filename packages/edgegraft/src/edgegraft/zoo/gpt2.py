"""GPT-2, of any size: a decoder over byte pairs, whose last token stands for the sentence.

Source: Radford et al., Language Models are Unsupervised Multitask Learners, 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from edgegraft.zoo import transformer
from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.bert import card_of
from edgegraft.zoo.layers import Layers, Network
from edgegraft.zoo.text_intake import (
    TextGraph,
    bytepair_of,
    config_of,
    letters_bytepair,
    weights_of,
)
from edgegraft.zoo.weights import Tensors, read_weights
from edgegraft_edge.errors import ModelError

_PARTS = {
    "ln_1": "norm1",
    "attn.c_attn": "three",
    "attn.c_proj": "mix",
    "ln_2": "norm2",
    "mlp.c_fc": "wide",
    "mlp.c_proj": "narrow",
}


@dataclass(frozen=True)
class Gpt2Shape:
    """The sizes of a GPT-2.

    Attributes:
        pool: "last" token, or the "mean" over tokens.

    >>> Gpt2Shape(50, dim=8, wide=16, n_layers=1, n_heads=2).network(4).drawn(0).blocks
    ('embed', 'layer1', 'final')
    """

    n_vocabulary: int
    n_positions: int = 1024
    dim: int = 32
    wide: int = 128
    n_layers: int = 2
    n_heads: int = 2
    activation: str = "gelu_new"
    epsilon: float = 1e-5
    pad: int = 0
    pool: Literal["last", "mean"] = "last"

    @classmethod
    def of(cls, config: Mapping[str, Any], pad: int) -> Gpt2Shape:
        """From a config.json. Errors: `ModelError` "folder-form", "config-unknown"."""
        odd = [
            name
            for name, usual in (
                ("scale_attn_weights", True),
                ("scale_attn_by_inverse_layer_idx", False),
                ("add_cross_attention", False),
            )
            if config.get(name, usual) != usual
        ]
        if odd:
            raise ModelError.of(
                "config-unknown",
                f"{', '.join(odd)} of another value than usual",
                "networks of that kind are not written here",
                "another network",
            )
        try:
            dim = int(config["n_embd"])
            return cls(
                int(config["vocab_size"]),
                int(config["n_positions"]),
                dim,
                int(config.get("n_inner") or 4 * dim),
                int(config["n_layer"]),
                int(config["n_head"]),
                str(config.get("activation_function", "gelu_new")),
                float(config.get("layer_norm_epsilon", 1e-5)),
                pad,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError.of(
                "folder-form",
                f"a config.json of GPT-2 that lacks {error}",
                "it says the sizes of the network",
                "fetch the whole folder again",
            ) from error

    def network(self, n_tokens: int, taps: tuple[str, ...] = ()) -> Network:
        """From numbers of tokens (n_windows, n_tokens) to one embedding each (n_windows, dim)."""
        layers, sizes = Layers(), {"n_tokens": n_tokens, "dim": self.dim, "n_heads": self.n_heads}
        draft, dim = layers.draft, self.dim
        activation = transformer.activation_of(self.activation)
        mask = transformer.token_mask(draft, "x", self.pad)
        later = np.triu(np.full((n_tokens, n_tokens), transformer.HIDDEN), 1)
        hidden = draft.constant(later)  # what fills up comes last, so nobody sees it
        table = layers.weight("embed.tokens", self.n_vocabulary, dim)
        places = layers.weight("embed.places", self.n_positions, dim)
        places = draft.add("slice", places, axis=0, start=0, stop=n_tokens)
        value = layers.add(draft.add("lookup", "x", table), places)
        values = {"embed": value}
        for number in range(1, self.n_layers + 1):
            block = f"layer{number}"
            norm = layers.layer_norm(f"{block}.norm1", value, dim, epsilon=self.epsilon)
            three = layers.linear(f"{block}.three", norm, dim, 3 * dim)
            parts = [
                draft.add("slice", three, axis=2, start=dim * place, stop=dim * (place + 1))
                for place in range(3)
            ]
            mixed = transformer.attention(draft, parts, hidden, **sizes)
            value = layers.add(value, layers.linear(f"{block}.mix", mixed, dim, dim))
            norm = layers.layer_norm(f"{block}.norm2", value, dim, epsilon=self.epsilon)
            wide = layers.linear(f"{block}.wide", norm, dim, self.wide, activation=activation)
            value = layers.add(value, layers.linear(f"{block}.narrow", wide, self.wide, dim))
            values[block] = value
        values["final"] = layers.layer_norm("final.norm", value, dim, epsilon=self.epsilon)
        pool = transformer.last_of if self.pool == "last" else transformer.mean_over
        chosen = [values[name] for name in taps or ("final",)]
        pooled = [pool(draft, each, mask, n_tokens) for each in chosen]
        out = draft.add("concat", *pooled, axis=1) if len(pooled) > 1 else pooled[0]
        return layers.finish(out, blocks=tuple(values))

    def translate(self, tensors: Tensors) -> Tensors:
        """From the names of transformers to the network's own; heads of tasks are left out."""
        plain = {name.removeprefix("transformer."): array for name, array in tensors.items()}
        try:
            found = {
                "embed.tokens": plain["wte.weight"],
                "embed.places": plain["wpe.weight"],
                "final.norm.weight": plain["ln_f.weight"],
                "final.norm.bias": plain["ln_f.bias"],
            }
        except KeyError:
            return tensors  # of another network: with_weights says what does not fit
        for name, array in plain.items():
            number, _, rest = name.removeprefix("h.").partition(".")
            where, _, part = rest.rpartition(".")
            if name.startswith("h.") and where in _PARTS and number.isdigit():
                found[f"layer{int(number) + 1}.{_PARTS[where]}.{part}"] = array
        return found


class Gpt2:
    """The architecture "gpt2": options n_layers, dim, wide, n_heads, n_positions, pool."""

    model_types: ClassVar = ("gpt2",)

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> TextGraph:
        """Over single bytes, with the weights of a file or drawn by the card's seed."""
        intake = letters_bytepair()
        shape = Gpt2Shape(intake.n_vocabulary, pad=intake.pad, **card.options)
        network = shape.network(intake.n_tokens)
        card, network = read_weights(card, network, weights, shape.translate)
        return TextGraph(card, intake, network, shape=shape)

    @classmethod
    def from_folder(cls, folder: Path, card: BackboneCard | None = None) -> TextGraph:
        """A folder as transformers write it.

        Errors: `ModelError` "folder-form", "config-unknown", "weights-shape".
        """
        intake = bytepair_of(folder)
        shape = Gpt2Shape.of(config_of(folder), intake.pad)
        weights = weights_of(folder, card.checksum if card else "")
        card = card or card_of(folder, "gpt2", weights)
        card, network = read_weights(card, shape.network(intake.n_tokens), weights, shape.translate)
        return TextGraph(card, intake, network, shape=shape)
