"""How well an embedding suits labels, without fitting a head: LogME and the H-score.

Both look at the labelled windows only as a whole, so they leave nothing out and see nothing of
strangers. They are here to be compared with: backbones are chosen by what their heads say of
windows left out (`edgegraft.adapt.select`), since neither measure is comparable between
embeddings of other widths.

Sources: K. You, Y. Liu, J. Wang, M. Long, LogME: Practical assessment of pre-trained models for
transfer learning, ICML 2021; Y. Bao and others, An information-theoretic approach to
transferability in task transfer learning, ICIP 2019; S. Ibrahim, N. Ponomareva, R. Mazumder,
Newer is not always better: Rethinking transferability metrics, ECML PKDD 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgegraft_edge.signal import Array

_TINY = 1e-10
_STEPS, _NEAR = 1000, 1e-8


@dataclass(frozen=True)
class Spectrum:
    """An embedding by its singular values: computed once, it serves every measure.

    Attributes:
        rows: float64 (n_windows, embedding_dim), as given or with the mean of each feature gone.
        values: squared singular values above nothing (rank,), falling.
        vectors: left singular vectors (n_windows, rank).
    """

    rows: Array
    values: Array
    vectors: Array

    @classmethod
    def of(cls, rows: Array) -> Spectrum:
        """By the smaller Gram matrix, so 10,000 features of 600 windows are a tenth of a second.

        >>> Spectrum.of(np.array([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]])).values.tolist()
        [9.0, 4.0]
        """
        rows = np.asarray(rows)
        wide = len(rows) <= rows.shape[1]
        gram = (rows @ rows.T if wide else rows.T @ rows).astype(np.float64)
        values, vectors = np.linalg.eigh(gram)
        # a product of single precision leaves noise of about that size in the small values
        least = max(_TINY, np.finfo(rows.dtype).eps if rows.dtype.kind == "f" else _TINY)
        kept = np.flatnonzero(values > least * len(gram) * max(float(values[-1]), _TINY))[::-1]
        values, vectors = values[kept], vectors[:, kept]
        if not wide:
            vectors = rows @ vectors / np.sqrt(values)
        return cls(rows, values, np.asarray(vectors, dtype=np.float64))

    @cached_property
    def shrinkage(self) -> float:
        """How far the covariance goes toward a multiple of the identity, 0 to 1.

        Source: O. Ledoit, M. Wolf, A well-conditioned estimator for large-dimensional covariance
        matrices, Journal of Multivariate Analysis 2004.
        """
        n_windows, width = self.rows.shape
        mean = float(self.values.sum()) / n_windows / width
        square = float((self.values**2).sum()) / n_windows**2
        lengths = np.einsum("ij,ij->i", self.rows, self.rows, dtype=np.float64)
        spread = square / width - mean**2
        chance = (float((lengths**2).sum()) / n_windows - square) / (width * n_windows)
        return float(np.clip(chance / spread, 0, 1)) if spread > _TINY * mean**2 else 1.0


def standardised(z: Array) -> Array:
    """Features of mean zero and deviation one, constant ones zero; float32 as `z`.

    >>> standardised(np.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    z = np.asarray(z, dtype=np.float32)
    rows = z - z.mean(axis=0)
    spread = np.sqrt(np.einsum("ij,ij->j", rows, rows) / len(rows))
    floor = 1e-6 * (1 + np.abs(z).max(axis=0))
    return np.asarray(rows * np.where(spread > floor, 1 / np.maximum(spread, 1e-30), 0))


def log_evidence(embedding: Array | Spectrum, codes: Array, n_classes: int) -> float:
    """LogME: the mean log evidence per window of Bayesian linear models, one for each class.

    Each says 1 for windows of its class and 0 for others, with a Gaussian prior of precision
    alpha on its weights and noise of precision beta; both are set to where the evidence is
    highest, by fixed-point steps on the singular values.

    Args:
        embedding: (n_windows, embedding_dim), or its `Spectrum`.
        codes: class of each window, int (n_windows,).

    >>> rng = np.random.default_rng(0)
    >>> codes = np.repeat([0, 1], 30)
    >>> told = rng.normal(size=(60, 4)) + codes[:, None]
    >>> log_evidence(told, codes, 2) > log_evidence(rng.normal(size=(60, 4)), codes, 2)
    True
    """
    spectrum = embedding if isinstance(embedding, Spectrum) else Spectrum.of(embedding)
    goal = np.eye(n_classes)[codes]
    goal = goal[:, goal.any(axis=0)]
    n_windows = len(codes)
    values = spectrum.values[:, None]
    along = (spectrum.vectors.T @ goal) ** 2
    beyond = np.maximum((goal**2).sum(axis=0) - along.sum(axis=0), 0)
    alpha = np.ones(goal.shape[1])
    beta = np.ones(goal.shape[1])
    for _ in range(_STEPS):
        before = alpha / beta
        freedom, length, residual = _posterior(values, along, beyond, before)
        alpha = freedom / np.maximum(length, _TINY)
        beta = (n_windows - freedom) / np.maximum(residual, _TINY)
        if np.all(np.abs(alpha / beta - before) <= _NEAR * before):
            break
    _, length, residual = _posterior(values, along, beyond, alpha / beta)
    found = (
        len(values) * np.log(alpha)
        + n_windows * np.log(beta / (2 * np.pi))
        - np.log(alpha + beta * values).sum(axis=0)
        - beta * residual
        - alpha * length
    )
    return float(found.mean() / (2 * n_windows))


def _posterior(
    values: Array, along: Array, beyond: Array, ratio: Array
) -> tuple[Array, Array, Array]:
    """Effective parameters, squared length of the mean weights, squared residual; (n_classes,)."""
    share = values / (values + ratio)
    length = (values * along / (values + ratio) ** 2).sum(axis=0)
    residual = ((1 - share) ** 2 * along).sum(axis=0) + beyond
    return share.sum(axis=0), length, residual


def h_score(
    embedding: Array | Spectrum, codes: Array, n_classes: int, *, shrunk: bool = True
) -> float:
    """H-score: the trace of the inverse covariance of features times that of their class means.

    Args:
        embedding: (n_windows, embedding_dim), whose mean is taken off here; or the `Spectrum` of
            one without mean.
        codes: class of each window, int (n_windows,).
        shrunk: shrink the covariance (Ibrahim and others), without which more features than
            windows always give the number of classes less one.

    >>> codes = np.array([0, 0, 1, 1])
    >>> told = np.array([[0.0, 1.0], [0.0, -1.0], [1.0, 1.0], [1.0, -1.0]])
    >>> round(h_score(told, codes, 2, shrunk=False), 6)
    1.0
    """
    if not isinstance(embedding, Spectrum):
        embedding = Spectrum.of(np.asarray(embedding) - np.mean(embedding, axis=0))
    counts = np.bincount(codes, minlength=n_classes)
    means = (np.eye(n_classes)[codes] / np.maximum(counts, 1)).T @ embedding.vectors
    between = counts @ means**2  # of each direction, its share of variance between classes
    if not shrunk:
        return float(between.sum())
    shrinkage = embedding.shrinkage
    n_windows, width = embedding.rows.shape
    values = embedding.values / n_windows
    usual = float(values.sum()) / width
    kept = (1 - shrinkage) * values
    return float((kept * between / np.maximum(kept + shrinkage * usual, _TINY * usual)).sum())
