"""Linear heads taught by labels that spread, in closed form, with any rows left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from edgegraft.adapt.views import View
from edgegraft_edge.heads import LinearHead
from edgegraft_edge.signal import Array

STRENGTH = 0.1
"""Regularisation relative to the mean eigenvalue of the Gram matrix."""
_TINY = 1e-7


@dataclass(frozen=True)
class Lesson:
    """Embeddings of one view that a head learns from; their inner products serve every fit.

    Attributes:
        view: where they are from.
        mean, scale: float32 (dim,), of the rows.
        rows: float32 (n_rows, dim), at mean zero and unit deviation.
        gram: float64 (n_rows, n_rows), scaled to a mean diagonal of one.
        unit: what the inner products were divided by.
    """

    view: View
    mean: Array
    scale: Array
    rows: Array
    gram: Array
    unit: float

    @classmethod
    def of(cls, view: View, index: Array) -> Lesson:
        """The rows of a view at `index`."""
        z = np.asarray(view.rows(index), dtype=np.float32)
        mean, spread = z.mean(axis=0), z.std(axis=0)
        scale = np.where(spread > _TINY * (1 + np.abs(mean)), spread, np.inf).astype(np.float32)
        rows = (z - mean) / scale
        gram = (rows @ rows.T).astype(np.float64)
        unit = max(float(np.trace(gram)) / len(gram), _TINY)
        return cls(view, mean, scale, rows, gram / unit, unit)

    def solve(self, targets: Array, weights: Array) -> tuple[Array, Array]:
        """Dual coefficients (n_rows, n_classes) and offset (n_classes,) of weighted ridge.

        Args:
            targets: (n_rows, n_classes), rows sum to one.
            weights: importance of each row (n_rows,); rows of weight zero take no part.
        """
        used, root, offset, factor = self._system(targets, weights)
        dual = np.zeros((len(self.rows), targets.shape[1]))
        dual[used] = root * linalg.cho_solve(factor, root * (targets[used] - offset))
        return dual, offset

    def by_others(self, targets: Array, weights: Array) -> Array:
        """What a head that learned from all other rows says of each (n_rows, n_classes).

        The closed form of leaving one out (Allen, Technometrics 1974); rows of weight zero are
        said nothing of, and stay zero.
        """
        used, root, offset, factor = self._system(targets, weights)
        alone = np.diagonal(linalg.lapack.dpotri(factor[0], lower=True)[0])[:, None]
        solved = linalg.cho_solve(factor, root * (targets[used] - offset))
        found = np.zeros_like(targets)
        found[used] = targets[used] - solved / (root * alone)
        return found

    def _system(
        self, targets: Array, weights: Array
    ) -> tuple[Array, Array, Array, tuple[Array, bool]]:
        """Rows used, roots of their weights, offset, and the Cholesky factor of the ridge."""
        used = np.flatnonzero(weights > 0)
        share = weights[used] / weights[used].mean()
        root = np.sqrt(share)[:, None]
        matrix = root * self.gram[np.ix_(used, used)] * root.T
        matrix[np.diag_indices(len(used))] += STRENGTH
        factor = linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        return used, root, share @ targets[used] / len(used), factor

    def scores(self, dual: Array, offset: Array) -> Array:
        """What such a head says of all rows (n_rows, n_classes), before softmax."""
        return np.asarray(self.gram @ dual + offset)

    def head(self, dual: Array, offset: Array, temperature: float) -> LinearHead:
        """The head for embeddings as they come from the backbone."""
        weight = (self.rows.T @ (dual / self.unit).astype(np.float32)) / self.scale[:, None]
        bias = offset - self.mean @ weight
        return LinearHead(
            (weight / temperature).astype(np.float32), (bias / temperature).astype(np.float32)
        )
