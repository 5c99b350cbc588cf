"""A small trainable network on the embedding of a backbone that has no weights to train.

The embedding is brought to fewer, uncorrelated features by a fixed matrix (principal components
of the windows at hand); on these stands one residual layer that starts as the identity. So a
training begins at what a closed-form head makes of the fixed features, and moves from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgegraft.zoo.backbone import Backbone, BackboneCard
from edgegraft.zoo.cache import embed_cached
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Windows

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = "layer"
_TINY = 1e-6
_MOST_ROWS = 1500  # windows are as many as principal components need


@dataclass(frozen=True, eq=False)
class FeatureNet:
    """A bound backbone with a layer on it; a `Trainable`.

    Attributes:
        base: the backbone, bound to its windows.
        matrix: float32 (embedding_dim, n_features); shift: float32 (n_features,).
        weights: "layer.down", "layer.bias", "layer.up" of the residual layer.
    """

    base: Backbone
    card: BackboneCard
    matrix: Array
    shift: Array
    weights: Mapping[str, Array]

    @property
    def blocks(self) -> tuple[str, ...]:
        return (BLOCK,)

    def fit(self, windows: Windows, *, seed: int) -> FeatureNet:
        """Itself: the backbone below is bound already."""
        return self

    def prepare(self, x: Array) -> Array:
        """Windows -> features below the layer, float32 (n_windows, n_features)."""
        return self.reduced(embed_cached(self.base, x))

    def reduced(self, z: Array) -> Array:
        """Embeddings (n_windows, embedding_dim) -> float32 (n_windows, n_features)."""
        return np.asarray(z @ self.matrix + self.shift, dtype=np.float32)

    def forward(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        import torch

        inner = torch.relu(x @ weights[f"{BLOCK}.down"] + weights[f"{BLOCK}.bias"])
        return x + inner @ weights[f"{BLOCK}.up"]

    def embed(self, x: Array) -> Array:
        features = self.prepare(x)
        inner = np.maximum(
            features @ self.weights[f"{BLOCK}.down"] + self.weights[f"{BLOCK}.bias"], 0
        )
        return np.asarray(features + inner @ self.weights[f"{BLOCK}.up"], dtype=np.float32)

    def program(self, *shape: int) -> Program:
        draft = Draft()
        z = draft.call(self.base.program(*shape))
        value = draft.add("add", draft.add("matmul", z, self.matrix), self.shift)
        down, bias, up = (self.weights[f"{BLOCK}.{part}"] for part in ("down", "bias", "up"))
        inner = draft.add("relu", draft.add("add", draft.add("matmul", value, down), bias))
        return draft.finish(draft.add("add", value, draft.add("matmul", inner, up)))

    def with_weights(self, weights: Mapping[str, Array]) -> FeatureNet:
        return replace(self, weights=dict(weights))

    def with_card(self, card: BackboneCard) -> FeatureNet:
        """The same network under another card."""
        return replace(self, card=card)

    def with_random_weights(self, seed: int) -> FeatureNet:
        return replace(self, weights=drawn(self.matrix.shape[1], seed))


def drawn(n_features: int, seed: int, width: int = 64) -> dict[str, Array]:
    """Weights of a layer that changes nothing yet."""
    random = np.random.default_rng([seed, 13])
    down = random.normal(0, np.sqrt(2 / n_features), (n_features, width))
    return {
        f"{BLOCK}.down": down.astype(np.float32),
        f"{BLOCK}.bias": np.zeros(width, np.float32),
        f"{BLOCK}.up": np.zeros((width, n_features), np.float32),
    }


def feature_net(
    base: Backbone, domains: Sequence[Array], *, seed: int, per_domain: bool, most: int = 128
) -> tuple[FeatureNet, list[Array]]:
    """The network on a bound backbone, and the features of each domain below its layer.

    Args:
        base: bound to windows of the first domain.
        domains: embeddings of each domain (n_windows, embedding_dim), the target's first.
        per_domain: bring every feature of every domain to zero mean and unit deviation by
            itself; the network then expects what the first domain gives.
        most: features at most.

    >>> from edgegraft.testing.samples import sample_windows
    >>> from edgegraft.zoo.registry import load_backbone
    >>> windows = sample_windows()
    >>> bound = load_backbone("statistics").fit(windows, seed=0)
    >>> z = bound.embed(windows.x)
    >>> net, (features,) = feature_net(bound, [z], seed=0, per_domain=True)
    >>> bool(np.allclose(net.embed(windows.x), features, atol=1e-3))
    True
    """
    centres, scales = unit_scales(domains, per_domain=per_domain)
    unit = [(z - c) / s for z, c, s in zip(domains, centres, scales, strict=True)]
    rows = np.concatenate(unit)
    axes = principal_axes(rows, most, seed=seed)
    first = (rows @ axes[:, :1]).std()  # the widest of the features gets unit deviation
    axes = axes / (first + _TINY)
    matrix = (axes / scales[0][:, None]).astype(np.float32)
    shift = (-(centres[0] / scales[0]) @ axes).astype(np.float32)
    net = FeatureNet(base, base.card, matrix, shift, drawn(matrix.shape[1], seed))
    return net, [(z @ axes).astype(np.float32) for z in unit]


def principal_axes(rows: Array, most: int, *, seed: int) -> Array:
    """Directions of unit length in which centred rows vary most, float64 (dim, at most `most`).

    >>> principal_axes(np.array([[0.0, 2.0], [0.0, -2.0]]), 5, seed=0).round(3).tolist()
    [[0.0], [-1.0]]
    """
    if len(rows) > _MOST_ROWS:
        rows = rows[np.random.default_rng([seed, 17]).permutation(len(rows))[:_MOST_ROWS]]
    rows = np.asarray(rows, dtype=np.float64)
    # Through the products of windows, which are fewer than the features of random kernels.
    values, vectors = np.linalg.eigh(rows @ rows.T)
    kept = np.flatnonzero(values > 1e-6 * max(values.max(), _TINY))[::-1][:most]
    axes: Array = (rows.T @ vectors[:, kept]) / np.sqrt(values[kept])
    signs = np.where(axes[np.abs(axes).argmax(axis=0), np.arange(len(kept))] < 0, 1.0, -1.0)
    return np.asarray(axes * signs)


def unit_scales(
    domains: Sequence[Array],
    *,
    per_domain: bool,
    one_scale: bool = False,
    caution: float = 10.0,
) -> tuple[list[Array], list[Array]]:
    """Centre and deviation of each domain's embedding, float64 (embedding_dim,) each.

    Statistics of a domain are drawn toward those of all windows as if it had seen `caution` more
    of these; what hardly varies is not blown up. Without `per_domain` all domains share theirs;
    with `one_scale` so do the features of a domain (principal components keep their order).

    Source of the statistics by domain: Li et al., Revisiting Batch Normalization for Practical
    Domain Adaptation (AdaBN), 2016.

    >>> centres, _ = unit_scales([np.zeros((90, 1)), np.ones((90, 1))], per_domain=True)
    >>> [round(float(c[0]), 2) for c in centres]
    [0.05, 0.95]
    """
    rows = np.concatenate([np.asarray(z, np.float64) for z in domains])
    centre, power = rows.mean(axis=0), rows.var(axis=0)
    centres, variances = [], []
    for z in domains:
        share = len(z) / (len(z) + caution) if per_domain and len(z) else 0.0
        own = np.asarray(z, np.float64)
        mean = own.mean(axis=0) if share else centre
        centres.append(share * mean + (1 - share) * centre)
        variances.append(share * own.var(axis=0) + (1 - share) * power if share else power)
    floor = _TINY + 0.05 * float(np.median(np.sqrt(power)))
    if one_scale:
        variances = [np.full_like(variance, variance.mean()) for variance in variances]
    return centres, [np.sqrt(variance) + floor for variance in variances]
