"""BERT and its kin (MiniLM, say): encoders over word pieces, of any size.

Source: Devlin, Chang, Lee, Toutanova, BERT: Pre-training of Deep Bidirectional Transformers,
NAACL 2019; as sentence encoders: Reimers and Gurevych, Sentence-BERT, EMNLP 2019.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgegraft.zoo import transformer
from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.layers import Layers, Network
from edgegraft.zoo.text_intake import (
    TextGraph,
    config_of,
    letters_wordpiece,
    licence_of,
    weights_of,
    wordpiece_of,
)
from edgegraft.zoo.weights import Tensors, read_weights
from edgegraft_edge.errors import ModelError

_PARTS = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "mix",
    "attention.output.LayerNorm": "mix_norm",
    "intermediate.dense": "wide",
    "output.dense": "narrow",
    "output.LayerNorm": "norm",
}


@dataclass(frozen=True)
class BertShape:
    """The sizes of a BERT.

    Attributes:
        n_vocabulary, n_positions: rows of the tables of tokens and of places.
        dim, wide: of tokens, and within a layer.
        unit: whether embeddings have length one, as of sentence encoders.

    >>> BertShape(50, dim=8, wide=16, n_layers=1, n_heads=2).network(4).drawn(0).blocks
    ('embed', 'layer1')
    """

    n_vocabulary: int
    n_positions: int = 512
    dim: int = 32
    wide: int = 64
    n_layers: int = 2
    n_heads: int = 2
    activation: str = "gelu"
    epsilon: float = 1e-12
    pad: int = 0
    unit: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any], unit: bool = False) -> BertShape:
        """From a config.json. Errors: `ModelError` "config-unknown"."""
        place = config.get("position_embedding_type", "absolute")
        if place != "absolute" or config.get("is_decoder"):
            raise ModelError.of(
                "config-unknown",
                f"position_embedding_type={place!r}, is_decoder={config.get('is_decoder')!r}",
                "only encoders with absolute places are written here",
                "another network",
            )
        try:
            return cls(
                int(config["vocab_size"]),
                int(config["max_position_embeddings"]),
                int(config["hidden_size"]),
                int(config["intermediate_size"]),
                int(config["num_hidden_layers"]),
                int(config["num_attention_heads"]),
                str(config.get("hidden_act", "gelu")),
                float(config.get("layer_norm_eps", 1e-12)),
                int(config.get("pad_token_id") or 0),
                unit,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError.of(
                "folder-form",
                f"a config.json of BERT that lacks {error}",
                "it says the sizes of the network",
                "fetch the whole folder again",
            ) from error

    def network(self, n_tokens: int, taps: tuple[str, ...] = ()) -> Network:
        """From numbers of tokens (n_windows, n_tokens) to the mean over tokens (n_windows, dim).

        With `taps` the means of these blocks stand side by side instead.
        """
        layers, sizes = Layers(), {"n_tokens": n_tokens, "dim": self.dim, "n_heads": self.n_heads}
        draft, dim = layers.draft, self.dim
        activation = transformer.activation_of(self.activation)
        mask = transformer.token_mask(draft, "x", self.pad)
        hidden = transformer.seen_by_all(draft, mask, n_tokens)
        table = layers.weight("embed.tokens", self.n_vocabulary, dim)
        places = layers.weight("embed.places", self.n_positions, dim)
        places = draft.add("slice", places, axis=0, start=0, stop=n_tokens)
        value = layers.add(draft.add("lookup", "x", table), places)
        value = layers.layer_norm("embed.norm", value, dim, epsilon=self.epsilon)
        values = {"embed": value}
        for number in range(1, self.n_layers + 1):
            block = f"layer{number}"
            three = [
                layers.linear(f"{block}.{name}", value, dim, dim)
                for name in ("query", "key", "value")
            ]
            mixed = transformer.attention(draft, three, hidden, **sizes)
            mixed = layers.linear(f"{block}.mix", mixed, dim, dim)
            value = layers.layer_norm(
                f"{block}.mix_norm", layers.add(value, mixed), dim, epsilon=self.epsilon
            )
            wide = layers.linear(f"{block}.wide", value, dim, self.wide, activation=activation)
            narrow = layers.linear(f"{block}.narrow", wide, self.wide, dim)
            value = layers.layer_norm(
                f"{block}.norm", layers.add(value, narrow), dim, epsilon=self.epsilon
            )
            values[block] = value
        chosen = [values[name] for name in taps] or [value]
        means = [transformer.mean_over(draft, each, mask, n_tokens) for each in chosen]
        out = draft.add("concat", *means, axis=1) if len(means) > 1 else means[0]
        if self.unit:
            out = transformer.unit_length(draft, out)
        return layers.finish(out, blocks=tuple(values))

    def translate(self, tensors: Tensors) -> Tensors:
        """From the names of transformers to the network's own; heads of tasks are left out."""
        plain = {name.removeprefix("bert."): array for name, array in tensors.items()}
        try:
            types = plain["embeddings.token_type_embeddings.weight"][0]
            found = {
                "embed.tokens": plain["embeddings.word_embeddings.weight"],
                "embed.places": plain["embeddings.position_embeddings.weight"] + types,
            }
            for part in ("weight", "bias"):
                old = {"weight": "gamma", "bias": "beta"}[part]  # as TensorFlow named them
                for name in (f"embeddings.LayerNorm.{part}", f"embeddings.LayerNorm.{old}"):
                    if name in plain:
                        found[f"embed.norm.{part}"] = plain[name]
        except KeyError:
            return tensors  # of another network: with_weights says what does not fit
        for name, array in plain.items():
            if not name.startswith("encoder.layer."):
                continue
            number, _, rest = name.removeprefix("encoder.layer.").partition(".")
            where, _, part = rest.rpartition(".")
            part = {"gamma": "weight", "beta": "bias"}.get(part, part)
            if where in _PARTS and number.isdigit():
                matrix = array.T if array.ndim == 2 else array
                found[f"layer{int(number) + 1}.{_PARTS[where]}.{part}"] = np.ascontiguousarray(
                    matrix
                )
        return found


class Bert:
    """The architecture "bert": options n_layers, dim, wide, n_heads, n_positions."""

    model_types: ClassVar = ("bert",)

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> TextGraph:
        """Over single letters, with the weights of a file or drawn by the card's seed."""
        intake = letters_wordpiece()
        shape = BertShape(intake.n_vocabulary, **card.options)
        network = shape.network(intake.n_tokens)
        card, network = read_weights(card, network, weights, shape.translate)
        return TextGraph(card, intake, network, shape=shape)

    @classmethod
    def from_folder(cls, folder: Path, card: BackboneCard | None = None) -> TextGraph:
        """A folder as transformers or sentence-transformers write it.

        Errors: `ModelError` "folder-form", "config-unknown", "weights-shape".
        """
        shape = BertShape.of(config_of(folder), unit=_is_sentence_encoder(folder))
        intake = wordpiece_of(folder, shape.pad)
        weights = weights_of(folder, card.checksum if card else "")
        card = card or card_of(folder, "bert", weights)
        card, network = read_weights(card, shape.network(intake.n_tokens), weights, shape.translate)
        return TextGraph(card, intake, network, shape=shape)


def card_of(folder: Path, architecture: str, weights: bytes) -> BackboneCard:
    """The card of a folder of weights."""
    return BackboneCard(
        name=folder.resolve().name,
        architecture=architecture,
        summary=f"{architecture} from the folder {folder.resolve().name}",
        kind="pretrained",
        licence=licence_of(folder),
        checksum=hashlib.sha256(weights).hexdigest(),
        weights=str(folder),
        takes=("text",),
    )


def blank(graph: TextGraph, card: BackboneCard) -> TextGraph:
    """The same network with random weights, under that card."""
    drawn = graph.network.drawn(card.seed)
    return replace(graph, card=replace(card, kind="random"), network=drawn)


def _is_sentence_encoder(folder: Path) -> bool:
    """Whether embeddings were trained at length one: sentence-transformers writes down so."""
    try:
        return "Normalize" in (folder / "modules.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
