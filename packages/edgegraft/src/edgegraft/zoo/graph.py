"""A network with weights, as a backbone: what reads its windows, then a program that is trained.

Pictures, sound and text come to a network in one way: an *intake* turns windows of a spec into
what the network takes (resized pixels, a spectrogram, numbers of tokens), and is a program like
all else, so it travels in the bundle. The network runs in torch here, and in any runtime there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgegraft.zoo.backbone import BackboneCard, unfitted
from edgegraft.zoo.layers import Network
from edgegraft.zoo.torch_program import run_torch
from edgegraft_edge.program import Program, chain
from edgegraft_edge.signal import Array, Spec, Windows

if TYPE_CHECKING:
    from torch import Tensor

_BATCH_BYTES = 3 << 20  # of prepared windows at once: maps of more do not stay in the cache
_BATCH = 256  # windows at once: a sentence is small, but not what becomes of it


class Intake(Protocol):
    """What a network takes, as a frozen value."""

    def program(self, spec: Spec) -> Program:
        """Windows of that spec -> what the network takes, (n_windows, ...).

        Errors: `DataError` "kind-differs" for a kind that it cannot read.
        """
        ...


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as a backbone that can be frozen, tuned, or drawn anew.

    Attributes:
        intake: how windows come to the network.
        network: the network with its weights.
        front: the intake's program for the windows of `fit`.
        spec: of these windows.
    """

    card: BackboneCard
    intake: Intake
    network: Network
    front: Program | None = None
    spec: Spec | None = field(default=None)

    @property
    def weights(self) -> Mapping[str, Array]:
        return self.network.weights

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the blocks from the input up, for freezing."""
        return self.network.blocks

    @property
    def tempo(self) -> float:
        """How fast weights move in training, beside an encoder of a few layers.

        Deep pretrained networks lose what they know at the pace that suits small ones. The factor
        was picked on half of the steel surfaces, two draws, by a script that was not kept.
        """
        return 0.3 if self.card.kind == "pretrained" else 1.0

    def fit(self, windows: Windows, *, seed: int) -> Graph:
        """Bind to windows of this spec; a network of kind "random" is drawn by `seed`."""
        bound = replace(self, front=self.intake.program(windows.spec), spec=windows.spec)
        if self.card.kind != "random" or seed == self.card.seed:
            return bound
        return bound.with_random_weights(seed)

    def with_weights(self, weights: Mapping[str, Array]) -> Graph:
        """The same backbone, tuned."""
        return replace(self, network=self.network.with_weights(weights))

    def with_card(self, card: BackboneCard) -> Graph:
        """The same backbone under another card."""
        return replace(self, card=card)

    def with_random_weights(self, seed: int) -> Graph:
        """The same network, knowing nothing: the control of what was learned before."""
        known = self.card.kind != "random"
        card = replace(
            self.card,
            name=f"{self.card.name}-scratch" if known else self.card.name,
            kind="random",
            seed=seed,
            weights="",
            checksum="",
            data="",
            recipe="",
        )
        return replace(self, card=card, network=self.network.drawn(seed))

    def tapped(self, blocks: tuple[str, ...]) -> Graph:
        """The same network, embedding by the means of several blocks."""
        return replace(self, network=self.network.tapped(blocks))

    def prepare(self, x: Array) -> Array:
        """Windows as the network takes them, float32 (n_windows, ...)."""
        return self.run(self._front(), x)

    def forward(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Prepared windows -> (n_windows, embedding_dim), differentiable in `weights`."""
        found = run_torch(self.network.program, x, weights)
        assert not isinstance(found, tuple)
        return found

    def embed(self, x: Array) -> Array:
        """Windows (n_windows, ...) -> float32 (n_windows, embedding_dim)."""
        return self.run(chain(self._front(), self.network.program), x)

    def values(self, x: Array, names: tuple[str, ...]) -> tuple[Array, ...]:
        """Values inside the network by name, e.g. ``network.top``, of windows (n_windows, ...)."""
        import torch

        with torch.inference_mode():
            found = run_torch(self.network.program, torch.tensor(self.prepare(x)), outputs=names)
        return tuple(value.numpy() for value in found)

    def shapes(self, names: tuple[str, ...]) -> list[tuple[int, ...]]:
        """Shapes of values inside the network, for one window."""
        import torch

        assert self.spec is not None
        if not names:
            return []
        with torch.inference_mode():
            blank = run_torch(self._front(), torch.zeros(1, *self.spec.shape))
            assert not isinstance(blank, tuple)
            found = run_torch(self.network.program, blank, outputs=names)
        return [tuple(value.shape) for value in found]

    def _at_once(self, x: Array) -> int:
        """How many windows to run together, by the size that they are prepared to."""
        import torch

        with torch.inference_mode():
            prepared = run_torch(self._front(), torch.tensor(np.asarray(x[:1], np.float32)))
            assert not isinstance(prepared, tuple)
        size = 4 * max(1, int(np.prod(x.shape[1:])), int(np.prod(prepared.shape[1:])))
        return min(_BATCH, max(1, _BATCH_BYTES // size))

    def program(self, *shape: int) -> Program:
        """From raw windows to the embedding, for the device."""
        return chain(self._front(), self.network.program)

    def _front(self) -> Program:
        if self.front is None:
            raise unfitted(self.card.name)
        return self.front

    def run(self, program: Program, x: Array) -> Array:
        """A program on windows (n_windows, ...), in torch and in batches: float32."""
        import torch

        step = self._at_once(x)
        parts = []
        with torch.inference_mode():
            weights = {n: torch.from_numpy(np.array(a)) for n, a in program.constants.items()}
            for start in range(0, len(x), step):
                part = torch.from_numpy(np.array(x[start : start + step], dtype=np.float32))
                found = run_torch(program, part, weights)
                assert not isinstance(found, tuple)
                parts.append(found.numpy())
        return np.asarray(np.concatenate(parts), dtype=np.float32)
