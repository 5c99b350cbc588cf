"""A weighted ridge of embeddings in closed form, for any targets that its rows are given.

One decomposition of the rows serves every regularisation strength and every set of targets. So
what a head would say without some rows is exact and costs a small solve: a row that is left out
is one whose target is what the others say of it (Allen, The relationship between variable
selection and data augmentation, Technometrics 1974).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgegraft.adapt.ridge import decompose
from edgegraft_edge.heads import LinearHead
from edgegraft_edge.signal import Array

_TINY = 1e-7


@dataclass(frozen=True)
class Hat:
    """Rows, centred and scaled together, and their decomposition; see `hat`.

    Attributes:
        mean, scale: float64 (embedding_dim,), rows are ``(z - mean) / scale``.
        rows: float32 (n_rows, embedding_dim), times the root of their weights.
        root: float64 (n_rows, 1), root of the weights.
        values, vectors: squared singular values (rank,), left singular vectors (n_rows, rank).
    """

    mean: Array
    scale: Array
    rows: Array
    root: Array
    values: Array
    vectors: Array

    @cached_property
    def share(self) -> Array:
        weights = np.square(self.root[:, 0])
        found: Array = weights / weights.sum()
        return found

    @cached_property
    def unit(self) -> float:
        return max(float(self.values.sum()) / len(self.rows), _TINY)

    def coefficients(self, targets: Array, strength: float) -> tuple[Array, Array]:
        """Weight (embedding_dim, n_classes) and bias (n_classes,) on the embeddings as given."""
        offset = self.share @ targets
        spectrum = self.vectors.T @ ((targets - offset) * self.root)
        dual = self.vectors @ (spectrum / (self.values + strength * self.unit)[:, None])
        weight = (self.rows.T @ dual.astype(np.float32)).astype(np.float64) / self.scale[:, None]
        return weight, offset - self.mean @ weight

    def scores(self, targets: Array, strength: float) -> Array:
        """What the head says of the rows that it was fitted on (n_rows, n_classes)."""
        offset = self.share @ targets
        spectrum = self.vectors.T @ ((targets - offset) * self.root)
        kept = self.values / (self.values + strength * self.unit)
        found: Array = offset + (self.vectors @ (kept[:, None] * spectrum)) / self.root
        return found

    def left_out(self, targets: Array, strength: float, blocks: list[Array]) -> Array:
        """Scores (n_rows, n_classes) of each row without its block; of rows in none, as fitted."""
        found = self.scores(targets, strength)
        alone = np.array([block[0] for block in blocks if len(block) == 1], dtype=np.int64)
        fitted = found.copy()
        if len(alone):
            kept = self.values / (self.values + strength * self.unit)
            leverage = np.square(self.vectors[alone]) @ kept + self.share[alone]
            away = (targets[alone] - fitted[alone]) / np.maximum(1 - leverage, _TINY)[:, None]
            found[alone] = targets[alone] - away
        for block in blocks:
            if len(block) > 1:
                found[block] = self.apart(targets, strength, block, fitted)
        return found

    def apart(
        self, targets: Array, strength: float, block: Array, fitted: Array | None = None
    ) -> Array:
        """Scores (n_block, n_classes) of the rows of a block by a head that saw none of them."""
        fitted = self.scores(targets, strength) if fitted is None else fitted
        kept = self.values / (self.values + strength * self.unit)
        part, root = self.vectors[block], self.root[block]
        hat = (part * kept) @ part.T + np.sqrt(np.outer(self.share[block], self.share[block]))
        residual = (targets[block] - fitted[block]) * root
        away = np.linalg.solve((1 + _TINY) * np.eye(len(block)) - hat, residual) / root
        found: Array = targets[block] - away
        return found


def hat(z: Array, weights: Array | None = None, *, one_scale: bool = False) -> Hat:
    """Centre, scale and decompose rows (n_rows, embedding_dim).

    Args:
        weights: importance of each row (n_rows,), above zero.
        one_scale: divide all features by one number and not each by its own deviation.

    >>> z = np.random.default_rng(0).normal(size=(8, 3))
    >>> y = z[:, :1]
    >>> without = hat(z).left_out(y, 1e-9, [np.array([0])])
    >>> bool(np.allclose(without[0], y[0], atol=1e-4))
    True
    """
    z = np.asarray(z, dtype=np.float32)
    weights = np.ones(len(z)) if weights is None else np.asarray(weights, dtype=np.float64)
    root, share = np.sqrt(weights)[:, None], weights / weights.sum()
    mean = np.einsum("i,ij->j", share, z).astype(np.float32)
    rows = z - mean
    spread = np.sqrt(np.einsum("i,ij,ij->j", share, rows, rows))
    scale = np.where(spread > _TINY * (1 + np.abs(mean)), spread, np.inf)
    if one_scale:
        scale = np.where(np.isfinite(scale), np.sqrt(np.square(spread).mean()) or 1.0, np.inf)
    scale *= np.sqrt(max(int(np.isfinite(scale).sum()), 1))
    rows *= (1 / scale).astype(np.float32) * root.astype(np.float32)
    values, vectors = decompose(rows)
    return Hat(mean.astype(np.float64), scale, rows, root, values, vectors)


def linear_head(weight: Array, bias: Array, temperature: float) -> LinearHead:
    """The head of a fit at a temperature."""
    return LinearHead(
        (weight / temperature).astype(np.float32), (bias / temperature).astype(np.float32)
    )
