"""A small network that squeezes a window through a bottleneck, and what it cannot give back.

Without its nonlinearity it would be principal components, which the expert `pca` has in closed
form; it is asked by name only. Source: Sakurada and Yairi, MLSDA 2014.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array

_TINY = 1e-9
STEPS = 200
BATCH = 128
RATE = 3e-3


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Root mean square of what is not given back, over all blocks together.

    Attributes:
        centre: (n_blocks, n_features), taken from the features first.
        weights: (n_in, n_out) per layer, tanh between them.
        biases: (n_out,) per layer.
    """

    centre: Array
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    def score(self, features: Array) -> Array:
        return np.asarray(np.sqrt(self.shares(features).mean(axis=(1, 2)) + _TINY))

    def shares(self, features: Array) -> Array:
        flat = (features - self.centre).reshape(len(features), -1)
        value = flat
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            value = (np.tanh(value) if index else value) @ weight + bias
        return np.asarray(((flat - value) ** 2).reshape(features.shape))

    def moved(self, by: Array) -> Reconstruction:
        return Reconstruction((self.centre + by).astype(np.float32), self.weights, self.biases)

    def program(self) -> Program:
        draft = Draft()
        flat = draft.add("reshape", draft.add("sub", "x", self.centre), shape=[-1])
        value = flat
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            value = draft.add("tanh", value) if index else value
            value = draft.add("add", draft.add("matmul", value, weight), bias)
        left = draft.add("sub", flat, value)
        mean = draft.add("mean", draft.add("mul", left, left), axes=[1])
        return draft.finish(draft.add("sqrt", draft.add("add", mean, np.float32(_TINY))))


def autoencoder(features: Array, *, most: int = 0, seed: int = 0) -> Reconstruction:
    """Train one on features (n_windows, n_blocks, n_features); the same seed, the same network."""
    import torch  # the floor above need not load it

    centre = features.mean(axis=0)
    rows = torch.from_numpy((features - centre).reshape(len(features), -1).astype(np.float32))
    width = rows.shape[1]
    sizes = (width, max(8, width // 2), max(2, width // 8), max(8, width // 2), width)
    random = torch.Generator().manual_seed(seed)
    weights = [
        (torch.randn(a, b, generator=random) / a**0.5).requires_grad_() for a, b in pairwise(sizes)
    ]
    biases = [torch.zeros(b, requires_grad=True) for b in sizes[1:]]
    ascent = torch.optim.Adam([*weights, *biases], lr=RATE)
    for _ in range(STEPS):
        batch = rows[torch.randint(len(rows), (min(BATCH, len(rows)),), generator=random)]
        value = batch
        for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            value = (torch.tanh(value) if index else value) @ weight + bias
        loss = ((value - batch) ** 2).mean()
        ascent.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        ascent.step()
    return Reconstruction(
        centre.astype(np.float32),
        tuple(weight.detach().numpy() for weight in weights),
        tuple(bias.detach().numpy() for bias in biases),
    )
