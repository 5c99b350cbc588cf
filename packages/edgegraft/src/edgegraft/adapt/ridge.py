"""Ridge heads in closed form, with exact leave-one-out and leave-one-group-out scores.

One eigendecomposition of the smaller Gram matrix serves every regularisation strength. With
the hat matrix ``H`` of the centred problem (intercept included), the residual that sample i
(or group G) would have had if it had been left out is ``e_i / (1 - H_ii)`` (or
``(I - H_GG)^-1 e_G``): exact for a given scaling of the features, without refitting.

Source: Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 2009, section 7.10;
Allen, Technometrics 1974 (PRESS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgegraft.adapt.calibration import best_temperature, softmax
from edgegraft.adapt.leave_out import bundle_blocks, left_out_blocks, with_copies
from edgegraft_edge.heads import LinearHead
from edgegraft_edge.signal import Array

STRENGTHS: tuple[float, ...] = tuple(float(a) for a in np.logspace(-4, 2, 13))
"""Regularisation strengths tried, relative to the mean eigenvalue of the Gram matrix."""
TEMPERATURES = np.geomspace(0.02, 2.0, 31)
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
        choice_loss: by which strengths and copies are compared, single samples left out.
        strength: the regularisation chosen, relative.
        temperature: what the scores were divided by.
    """

    head: LinearHead
    left_out: Array | None
    log_loss: float | None
    choice_loss: float | None
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
    emphasis: float = 0.0,
    one_scale: bool = False,
) -> RidgeFit:
    """Fit a ridge head: strength by the log loss of single samples left out, temperature of groups.

    What groups left out say is honest of strangers, and so goes into temperature, probabilities
    and weights. But where strangers are a matter of chance (bearings of another damage), their
    log loss is lowest for a head that says nothing, and a strength chosen by it is far too high.

    Args:
        z: embeddings (n_samples, embedding_dim).
        codes: class of each sample, int (n_samples,).
        groups: text (n_samples,); a group is left out whole if every class keeps a sample.
        weights: importance of each sample (n_samples,), mean 1.
        n_originals: where the samples after the first so many are varied copies of these, set
            after set: they are left out with their originals, and only originals are scored.
        emphasis: features are weighted by their `separability` to this power. The weights come
            from the labels, so the closed form no longer serves: up to five parts, made of whole
            groups, are left out and everything is fitted anew.
        one_scale: without emphasis, divide all features by one number and not each by its own
            deviation: where their scale says something, as of TF-IDF, whose rare terms would drown
            all others.

    >>> rng = np.random.default_rng(0)
    >>> codes = np.repeat([0, 1], 20)
    >>> z = rng.normal(size=(40, 5)) + 3 * codes[:, None]
    >>> fit = fit_ridge(z, codes, 2)
    >>> bool((fit.left_out.argmax(1) == codes).mean() > 0.9)
    True
    """
    z = np.asarray(z, dtype=np.float32)  # as devices compute it; sums below are in double
    weights = np.ones(len(z)) if weights is None else np.asarray(weights, dtype=np.float64)
    n_originals = n_originals or len(z)
    kept = slice(None, n_originals)
    blocks = left_out_blocks(codes[kept], None if groups is None else groups[kept], n_classes)
    system = _solve(z, codes, n_classes, weights, emphasis, one_scale)
    if not blocks:
        head = system.head(DEFAULT_STRENGTH, DEFAULT_TEMPERATURE)
        return RidgeFit(head, None, None, None, DEFAULT_STRENGTH, DEFAULT_TEMPERATURE)

    def left_out(blocks: list[Array], strengths: Sequence[float]) -> list[Array]:
        if emphasis:
            parts = bundle_blocks(blocks, codes[kept], 0)
            return _refitted(z, codes, n_classes, weights, emphasis, parts, n_originals, strengths)
        whole = with_copies(blocks, n_originals, len(z))
        return [system.left_out(strength, whole)[kept] for strength in strengths]

    def calibrated(table: Array) -> tuple[float, float]:
        return best_temperature(table, codes[kept], TEMPERATURES, weights=weights[kept])

    singles = left_out_blocks(codes[kept], None, n_classes)
    tables = left_out(singles, strengths)
    choices = [calibrated(table) for table in tables]
    best = int(np.argmin([loss for _, loss in choices]))
    table, (temperature, choice_loss) = tables[best], choices[best]
    loss = choice_loss
    if len(blocks) < len(singles):
        (table,) = left_out(blocks, [strengths[best]])
        temperature, loss = calibrated(table)
    head = system.head(strengths[best], temperature)
    probabilities = softmax(table / temperature)
    return RidgeFit(head, probabilities, loss, choice_loss, strengths[best], temperature)


@dataclass(frozen=True)
class _System:
    """A centred, scaled and decomposed ridge problem, for any strength.

    Attributes:
        mean, scale: float64 (embedding_dim,), rows are ``root * (z - mean) / scale``.
        vectors, values: left singular vectors of the rows and their squared singular values.
        spectrum: ``vectors.T @ goal``; goal are the centred targets, ``root`` the root weights.
    """

    mean: Array
    scale: Array
    rows: Array
    values: Array
    vectors: Array
    spectrum: Array
    goal: Array
    root: Array
    targets: Array
    offset: Array

    @property
    def unit(self) -> float:
        return max(float(self.values.sum()) / len(self.rows), _TINY)

    def coefficients(self, strength: float) -> Array:
        """Float64 (embedding_dim, n_classes) on raw embeddings."""
        dual = self.vectors @ (self.spectrum / (self.values + strength * self.unit)[:, None])
        return np.asarray((self.rows.T @ dual.astype(np.float32)) / self.scale[:, None])

    def head(self, strength: float, temperature: float) -> LinearHead:
        coefficients = self.coefficients(strength)
        bias = self.offset - self.mean @ coefficients
        return LinearHead(
            (coefficients / temperature).astype(np.float32),
            (bias / temperature).astype(np.float32),
        )

    def scores(self, z: Array, strengths: Sequence[float]) -> list[Array]:
        """Scores of other embeddings (n, embedding_dim) at each strength."""
        fresh = (z - self.mean.astype(np.float32)) * (1 / self.scale).astype(np.float32)
        kernel = ((fresh @ self.rows.T).astype(np.float64)) @ self.vectors
        return [
            self.offset + kernel @ (self.spectrum / (self.values + s * self.unit)[:, None])
            for s in strengths
        ]

    def left_out(self, strength: float, blocks: list[Array]) -> Array:
        """Scores of every sample with its block left out, exactly, by the hat matrix."""
        shrink = self.values / (self.values + strength * self.unit)
        return np.asarray(self.targets - _left_out_residuals(
            shrink, self.vectors, self.spectrum, self.goal, self.root, blocks))  # fmt: skip


def _solve(
    z: Array, codes: Array, n_classes: int, weights: Array, emphasis: float, one_scale: bool = False
) -> _System:
    root = np.sqrt(weights)[:, None]
    share = weights / weights.sum()
    mean = np.einsum("i,ij->j", share, z)
    rows = z - mean.astype(np.float32)
    mean = mean.astype(np.float32).astype(np.float64)
    spread = np.sqrt(np.einsum("i,ij,ij->j", share, rows, rows))
    scale = np.where(spread > _TINY * (1 + np.abs(mean)), spread, np.inf)
    if one_scale and not emphasis:
        usual = np.sqrt(np.square(spread).mean()) or 1.0
        scale = np.where(np.isfinite(scale), usual, np.inf)
    rows *= (1 / scale).astype(np.float32)
    told = separability(rows, codes, n_classes) ** emphasis if emphasis else np.ones(z.shape[1])
    told /= np.sqrt(max(float(np.square(told[np.isfinite(scale)]).sum()), _TINY))
    rows *= told.astype(np.float32)
    rows *= root.astype(np.float32)
    targets = np.eye(n_classes)[codes]
    offset = share @ targets
    goal = (targets - offset) * root
    values, vectors = decompose(rows)
    return _System(mean, scale / told, rows, values, vectors, vectors.T @ goal, goal, root,
                   targets, offset)  # fmt: skip


def separability(rows: Array, codes: Array, n_classes: int) -> Array:
    """Variance of each feature between classes over that within (embedding_dim,), floored.

    Args:
        rows: features of zero mean and unit variance (n_samples, embedding_dim).

    Source: R. A. Fisher, The use of multiple measurements in taxonomic problems, 1936.

    >>> rows = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    >>> separability(rows, np.array([0, 0, 1, 1]), 2).round(1).tolist()
    [20.4, 0.0]
    """
    counts = np.bincount(codes, minlength=n_classes)
    member = (np.eye(n_classes)[codes] / np.maximum(counts, 1)).astype(rows.dtype)
    centres = member.T @ rows
    away = rows - centres[codes]
    within = np.einsum("ij,ij->j", away, away, dtype=np.float64)
    within /= max(1, len(codes) - int((counts > 0).sum()))
    ratio: Array = (np.maximum(1 - within, 0) + 0.02) / (within + 0.05)
    return ratio


def _refitted(
    z: Array,
    codes: Array,
    n_classes: int,
    weights: Array,
    emphasis: float,
    parts: list[Array],
    n_originals: int,
    strengths: Sequence[float],
) -> list[Array]:
    """Scores of the originals, each part left out with its copies and everything fitted anew."""
    tables = [np.zeros((n_originals, n_classes)) for _ in strengths]
    for part in parts:
        gone = with_copies([part], n_originals, len(z))[0]
        rest = np.setdiff1d(np.arange(len(z)), gone)
        system = _solve(z[rest], codes[rest], n_classes, weights[rest], emphasis)
        for table, scores in zip(tables, system.scores(z[part], strengths), strict=True):
            table[part] = scores
    return tables


def decompose(rows: Array) -> tuple[Array, Array]:
    """Eigenvalues and left singular vectors of rows (n, d), by the smaller Gram matrix."""
    n_rows, n_columns = rows.shape
    if n_rows <= n_columns:
        values, vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64))
        return np.maximum(values, 0), vectors
    values, right = np.linalg.eigh((rows.T @ rows).astype(np.float64))
    keep = values > _TINY * max(float(values[-1]), _TINY)
    return values[keep], rows @ right[:, keep] / np.sqrt(values[keep])


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
