"""Low-rank updates: few parameters bend the matrices of a network, which itself stays frozen.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022. The updates are
merged into the weights at the end, so what ships is the network as it was, with other numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np

from edgegraft.adapt.finetune import FineTune
from edgegraft.adapt.network import Trainable
from edgegraft.zoo.backbone import BackboneCard
from edgegraft_edge.errors import OptionError, Problem, nearest
from edgegraft_edge.program import Program
from edgegraft_edge.signal import Array, Windows

if TYPE_CHECKING:
    from torch import Tensor

DOWN, UP = ".down", ".up"


@dataclass(frozen=True)
class Lora(FineTune):
    """Train low-rank updates of the matrices of chosen blocks, and a head.

    Errors: `OptionError` for a rank below one or a block that is not there.
    """

    epochs: int = field(default=20, metadata={"help": "passes over the training windows"})
    learning_rate: float = field(
        default=2e-3, metadata={"help": "step size at the start; it falls along a cosine"}
    )
    rank: int = field(default=8, metadata={"help": "rank of each update"})
    alpha: float = field(
        default=16.0, metadata={"help": "strength of the updates; each is scaled by alpha / rank"}
    )
    matrices: tuple[str, ...] = field(
        default=("query", "value", "three"),
        metadata={"help": "what in a block is updated, by name; all matrices if none has it"},
    )
    blocks: tuple[str, ...] = field(
        default=(), metadata={"help": "blocks to update; all but tables of tokens if none"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = [
            Problem("option-range", f"{name}={value}", why, remedy)
            for name, value, good, why, remedy in (
                ("rank", self.rank, self.rank >= 1, "an update has a rank", "8"),
                ("alpha", self.alpha, self.alpha > 0, "a strength is positive", "16"),
            )
            if not good
        ]
        if problems:
            raise OptionError(problems)

    def start(self, encoder: Trainable, seed: int) -> Trainable:
        unknown = [name for name in self.blocks if name not in encoder.blocks]
        if unknown:
            raise OptionError(
                Problem(
                    "block-unknown",
                    f"block {name!r}",
                    f"{encoder.card.name!r} has no such block",
                    nearest(name, list(encoder.blocks)),
                )
                for name in unknown
            )
        names = self._chosen(encoder)
        low = draw_updates(encoder.weights, names, self.rank, seed)
        return cast(Trainable, LowRank(encoder, low, self.alpha / self.rank))

    def _chosen(self, encoder: Trainable) -> list[str]:
        """Names of the matrices to update."""
        blocks = self.blocks or tuple(name for name in encoder.blocks if name != "embed")
        found = [
            name
            for name, array in encoder.weights.items()
            if array.ndim >= 2 and name.split(".")[0] in blocks
        ]
        return [name for name in found if set(name.split(".")) & set(self.matrices)] or found


def draw_updates(
    weights: Mapping[str, Array], names: list[str], rank: int, seed: int
) -> dict[str, Array]:
    """Two matrices for each weight, whose product starts at zero.

    Returns: name.down float32 (n_rows, rank), drawn; name.up float32 (rank, n_columns), zeros. An
    array of more than two axes counts as a matrix of its first axis by all others.
    """
    low = {}
    for name in names:
        n_rows, n_columns = _matrix(weights[name]).shape
        width = min(rank, n_rows, n_columns)
        # content in the seed: a checkpoint of another network is never taken for this one's
        random = np.random.default_rng([seed, zlib.crc32(weights[name].tobytes())])
        drawn = random.normal(0, 1 / np.sqrt(n_rows), (n_rows, width))
        low[name + DOWN] = drawn.astype(np.float32)
        low[name + UP] = np.zeros((width, n_columns), np.float32)
    return low


@dataclass(frozen=True, eq=False)
class LowRank:
    """A frozen encoder with updates of low rank; to training it looks like any encoder.

    Attributes:
        weights: the updates, "block.part.down" and "block.part.up"; what training moves.
        scale: of their products.
    """

    base: Trainable
    weights: Mapping[str, Array]
    scale: float

    @property
    def card(self) -> BackboneCard:
        return self.base.card

    @property
    def blocks(self) -> tuple[str, ...]:
        return self.base.blocks

    def fit(self, windows: Windows, *, seed: int) -> LowRank:
        return replace(self, base=self.base.fit(windows, seed=seed))

    def embed(self, x: Array) -> Array:
        """Of the network as it was: updates start at zero."""
        return self.base.embed(x)

    def program(self, *shape: int) -> Program:
        return self.base.program(*shape)

    def prepare(self, x: Array) -> Array:
        return self.base.prepare(x)

    def forward(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Prepared windows -> embeddings, differentiable in the updates."""
        bent = dict(self._frozen)
        for name in self._names:
            product = weights[name + DOWN] @ weights[name + UP]
            bent[name] = bent[name] + self.scale * product.reshape(bent[name].shape)
        return self.base.forward(bent, x)

    def with_weights(self, weights: Mapping[str, Array]) -> Trainable:
        """The encoder with these updates merged into its own weights."""
        merged = dict(self.base.weights)
        for name in self._names:
            product = weights[name + DOWN].astype(np.float64) @ weights[name + UP]
            bent = merged[name] + self.scale * product.reshape(merged[name].shape)
            merged[name] = bent.astype(np.float32)
        return self.base.with_weights(merged)

    def with_random_weights(self, seed: int) -> LowRank:
        """Updates of the same network, knowing nothing."""
        return replace(self, base=self.base.with_random_weights(seed))

    @cached_property
    def _names(self) -> list[str]:
        return [name.removesuffix(UP) for name in self.weights if name.endswith(UP)]

    @cached_property
    def _frozen(self) -> dict[str, Tensor]:
        import torch

        return {n: torch.from_numpy(np.array(a)) for n, a in self.base.weights.items()}


def _matrix(array: Array) -> Array:
    return array.reshape(len(array), -1)
