"""Parts of an imagined outside package: small, whole, and right."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgegraft.zoo.backbone import BackboneCard
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Windows


@dataclass(frozen=True)
class Levels:
    """Mean, deviation and roughness of each channel."""

    gain: float = field(default=1.0, metadata={"help": "Factor on all features."})

    @property
    def card(self) -> BackboneCard:
        return BackboneCard("levels", "levels", "Mean, deviation, roughness", "fixed", "MIT")

    def fit(self, windows: Windows, *, seed: int) -> Levels:
        return self

    def embed(self, x: Array) -> Array:
        rough = np.abs(np.diff(x, axis=2)).mean(axis=2)
        parts = [x.mean(axis=2), np.sqrt(x.var(axis=2) + 1e-6), rough]
        return (self.gain * np.concatenate(parts, axis=1)).astype(np.float32)

    def program(self, n_channels: int, n_timepoints: int) -> Program:
        draft = Draft()
        mean = draft.add("mean", "x", axes=[2])
        centred = draft.add("sub", "x", mean)
        power = draft.add("mean", draft.add("mul", centred, centred), axes=[2])
        spread = draft.add("sqrt", draft.add("add", power, np.float32(1e-6)))
        later = draft.add("slice", "x", axis=2, start=1, stop=n_timepoints)
        sooner = draft.add("slice", "x", axis=2, start=0, stop=n_timepoints - 1)
        rough = draft.add("mean", draft.add("abs", draft.add("sub", later, sooner)), axes=[2])
        flat = draft.add("reshape", draft.add("concat", mean, spread, rough, axis=1), shape=[-1])
        return draft.finish(draft.add("mul", flat, np.float32(self.gain)))
