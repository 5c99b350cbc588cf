"""Ridge heads in closed form, with exact leave-one-out and leave-one-group-out scores.

One eigendecomposition of the smaller Gram matrix serves every regularisation strength. With
the hat matrix ``H`` of the centred problem (intercept included), the residual that sample i
(or group G) would have had if it had been left out is ``e_i / (1 - H_ii)`` (or
``(I - H_GG)^-1 e_G``): exact for a given scaling of the features, without refitting.

Source: Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 2009, section 7.10;
Allen, Technometrics 1974 (PRESS). Probabilities: a temperature (Guo et al., ICML 2017), fitted
here on the left-out scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgegraft_edge.heads import LinearHead
from edgegraft_edge.signal import Array

STRENGTHS: tuple[float, ...] = tuple(float(a) for a in np.logspace(-4, 2, 13))
"""Regularisation strengths tried, relative to the mean eigenvalue of the Gram matrix."""
TEMPERATURES: tuple[float, ...] = tuple(float(t) for t in np.geomspace(0.02, 2.0, 31))
DEFAULT_STRENGTH, DEFAULT_TEMPERATURE = 0.3, 0.2
_TINY = 1e-7


@dataclass(frozen=True)
class RidgeFit:
    """A fitted head and what it would have said of samples it had not seen.

    Attributes:
        head: linear head on the raw embedding (scaling and temperature folded in).
        left_out: probabilities float64 (n_samples, n_classes) with each sample (or its whole
            group) left out; None when a class would vanish with it, so nothing honest can be said.
        log_loss: of the left-out probabilities; None without them.
        strength: the regularisation chosen, relative.
        temperature: what the scores were divided by.
    """

    head: LinearHead
    left_out: Array | None
    log_loss: float | None
    strength: float
    temperature: float


def fit_ridge(
    z: Array,
    codes: Array,
    n_classes: int,
    *,
    groups: Array | None = None,
    weights: Array | None = None,
    n_originals: int | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> RidgeFit:
    """Fit a ridge head; strength and temperature are chosen by left-out log loss.

    Args:
        z: embeddings (n_samples, embedding_dim).
        codes: class of each sample, int (n_samples,).
        groups: text (n_samples,); a group is left out whole if every class keeps a sample.
        weights: importance of each sample (n_samples,), mean 1.
        n_originals: where the samples after the first so many are varied copies of these, set
            after set: they are left out with their originals, and only originals are scored.

    >>> rng = np.random.default_rng(0)
    >>> codes = np.repeat([0, 1], 20)
    >>> z = rng.normal(size=(40, 5)) + 3 * codes[:, None]
    >>> fit = fit_ridge(z, codes, 2)
    >>> bool((fit.left_out.argmax(1) == codes).mean() > 0.9)
    True
    """
    z = np.asarray(z, dtype=np.float32)  # as devices compute it; sums below are in double
    weights = np.ones(len(z)) if weights is None else np.asarray(weights, dtype=np.float64)
    root = np.sqrt(weights)[:, None]
    share = weights / weights.sum()
    mean = np.einsum("i,ij->j", share, z)
    rows = z - mean.astype(np.float32)
    mean = mean.astype(np.float32).astype(np.float64)
    spread = np.sqrt(np.einsum("i,ij,ij->j", share, rows, rows))
    scale = np.where(spread > _TINY * (1 + np.abs(mean)), spread, np.inf) * np.sqrt(z.shape[1])
    targets = np.eye(n_classes)[codes]
    offset = np.average(targets, axis=0, weights=weights)
    rows *= (1 / scale).astype(np.float32)
    rows *= root.astype(np.float32)
    goal = (targets - offset) * root

    values, vectors = _decompose(rows)
    spectrum = vectors.T @ goal
    unit = max(float(values.sum()) / len(z), _TINY)
    strength, temperature, left_out, loss = DEFAULT_STRENGTH, DEFAULT_TEMPERATURE, None, np.inf
    n_originals = n_originals or len(z)
    blocks = left_out_blocks(
        codes[:n_originals], None if groups is None else groups[:n_originals], n_classes
    )
    if blocks:
        blocks = with_copies(blocks, n_originals, len(z))
        scored = slice(None, n_originals)
        for candidate in strengths:
            shrink = values / (values + candidate * unit)
            residuals = _left_out_residuals(shrink, vectors, spectrum, goal, root, blocks)
            scores = (targets - residuals)[scored]
            warmth, value = _best_temperature(scores, codes[scored], weights[scored])
            if value < loss - 1e-9:
                strength, temperature, loss, left_out = candidate, warmth, value, scores
    dual = vectors @ (spectrum / (values + strength * unit)[:, None])
    coefficients = (rows.T @ dual.astype(np.float32)) / scale[:, None]
    head = LinearHead(
        (coefficients / temperature).astype(np.float32),
        ((offset - mean @ coefficients) / temperature).astype(np.float32),
    )
    if left_out is None:
        return RidgeFit(head, None, None, strength, temperature)
    return RidgeFit(head, softmax(left_out / temperature), float(loss), strength, temperature)


def softmax(scores: Array) -> Array:
    """Rows to probabilities, along the last axis."""
    exp = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probabilities: Array = exp / exp.sum(axis=-1, keepdims=True)
    return probabilities


def _decompose(rows: Array) -> tuple[Array, Array]:
    """Eigenvalues and left singular vectors of rows (n, d), by the smaller Gram matrix."""
    n_rows, n_columns = rows.shape
    if n_rows <= n_columns:
        values, vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64))
        return np.maximum(values, 0), vectors
    values, right = np.linalg.eigh((rows.T @ rows).astype(np.float64))
    keep = values > _TINY * max(float(values[-1]), _TINY)
    return values[keep], rows @ right[:, keep] / np.sqrt(values[keep])


def left_out_blocks(codes: Array, groups: Array | None, n_classes: int) -> list[Array]:
    """Index sets to leave out: whole groups where every class survives that, else single samples.

    Empty when some class has one sample only.

    >>> groups = np.array(["p", "p", "q", "q"])
    >>> [block.tolist() for block in left_out_blocks(np.array([0, 1, 0, 1]), groups, 2)]
    [[0, 1], [2, 3]]
    """
    counts = np.bincount(codes, minlength=n_classes)
    if counts[counts > 0].min() < 2:
        return []
    singles = [np.array([i]) for i in range(len(codes))]
    if groups is None or len(set(groups.tolist())) < 2:
        return singles
    blocks = []
    for group in sorted(set(groups.tolist())):
        index = np.flatnonzero(groups == group)
        remains = counts - np.bincount(codes[index], minlength=n_classes)
        blocks += [index] if (remains[counts > 0] > 0).all() else [singles[i] for i in index]
    return blocks


def with_copies(blocks: list[Array], n_originals: int, n_rows: int) -> list[Array]:
    """Blocks of originals with the rows of their copies.

    >>> [block.tolist() for block in with_copies([np.array([0]), np.array([1])], 2, 6)]
    [[0, 2, 4], [1, 3, 5]]
    """
    steps = np.arange(0, n_rows, n_originals)
    return [(block + steps[:, None]).ravel() for block in blocks]


def _left_out_residuals(
    shrink: Array, vectors: Array, spectrum: Array, goal: Array, root: Array, blocks: list[Array]
) -> Array:
    residual = goal - vectors @ (shrink[:, None] * spectrum)
    out = np.empty_like(residual)
    share = root / np.sqrt((root**2).sum())
    alone = np.array([block[0] for block in blocks if len(block) == 1], dtype=np.int64)
    if len(alone):
        leverage = (vectors[alone] ** 2) @ shrink + share[alone, 0] ** 2
        out[alone] = residual[alone] / np.maximum(1 - leverage, _TINY)[:, None]
    for block in blocks:
        if len(block) > 1:
            part = vectors[block]
            hat = (part * shrink) @ part.T + share[block] @ share[block].T
            out[block] = np.linalg.solve((1 + _TINY) * np.eye(len(block)) - hat, residual[block])
    unscaled: Array = out / root
    return unscaled


def _best_temperature(scores: Array, codes: Array, weights: Array) -> tuple[float, float]:
    """The temperature with the lowest log loss on left-out scores, and that loss."""
    scores = scores - scores.max(axis=1, keepdims=True)
    cold = 1 / np.array(TEMPERATURES)
    exponents = scores[None] * cold[:, None, None]
    likely = exponents[:, np.arange(len(codes)), codes]
    surprise = np.log(np.exp(exponents).sum(axis=2)) - likely
    losses = np.minimum(surprise, -np.log(1e-12)) @ weights / weights.sum()
    best = int(np.argmin(losses))
    return TEMPERATURES[best], float(losses[best])


def log_loss(probabilities: Array, codes: Array, weights: Array | None = None) -> float:
    """Mean negative log probability of the true class, clipped at 1e-12."""
    likely = probabilities[np.arange(len(codes)), codes]
    return float(np.average(-np.log(np.maximum(likely, 1e-12)), weights=weights))
