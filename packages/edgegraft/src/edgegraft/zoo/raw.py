"""The window itself, for strategies that look at it directly."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgegraft.zoo.backbone import BackboneCard, shipped_card
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Windows


@dataclass(frozen=True)
class Raw:
    """Embeds a window as its own values.

    >>> Raw().embed(np.array([[[1.0, 2.0], [3.0, 4.0]]])).tolist()
    [[1.0, 2.0, 3.0, 4.0]]
    """

    card: BackboneCard = field(
        default_factory=lambda: shipped_card("raw"), metadata={"help": "what it is"}
    )

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Raw:
        return cls(card)

    def fit(self, windows: Windows, *, seed: int) -> Raw:
        """Nothing is learned."""
        return self

    def embed(self, x: Array) -> Array:
        """Windows (n_windows, n_channels, n_timepoints) -> float32 (n_windows, n_values)."""
        x = np.asarray(x, dtype=np.float32)
        return x.reshape(len(x), -1)

    def program(self, *shape: int) -> Program:
        """The same for the device."""
        draft = Draft()
        return draft.finish(draft.add("reshape", "x", shape=[-1]))
