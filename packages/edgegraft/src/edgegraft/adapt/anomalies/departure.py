"""How far are the features of a window from normal ones: quadratic forms and nearest neighbours.

Each detector gives one number for a window, divides it among the features, and is a program.
Sub-sequence PCA, the density of an embedding, a distance of spectra and the residual of a
forecast are all quadratic forms ``(f - centre)' P (f - centre)`` of some features, so one value
serves them; they differ in how P is learned.

Sources: residuals of principal components, Jackson and Mudholkar, Technometrics 1979; probabilistic
PCA, Tipping and Bishop, J. R. Stat. Soc. B 1999; shrinkage of covariances, Ledoit and Wolf, J.
Multivariate Analysis 2004.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from edgegraft.adapt.anomalies.reconstruction import autoencoder
from edgegraft.adapt.normality import coreset
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array

_TINY = 1e-9
_FLOOR = 1.0  # of an eigenvalue, in mean eigenvalues: weak directions are not blown up
_MOST_COMPONENTS = 24
_NOTHING_MOVES = 1e4  # a form whose every block is still sees rounding alone


class Detector(Protocol):
    """Scores features float32 (n_windows, n_blocks, n_features), higher for stranger ones."""

    def score(self, features: Array) -> Array:
        """(n_windows,)"""
        ...

    def shares(self, features: Array) -> Array:
        """How much of the score each feature makes up, >= 0, of the shape of `features`."""
        ...

    def moved(self, by: Array) -> Detector:
        """The same around a centre moved by (n_blocks, n_features), as on another device."""
        ...

    def program(self) -> Program:
        """From features to scores (n_windows, 1)."""
        ...


@dataclass(frozen=True, eq=False)
class Quadratic:
    """Root of the mean, over blocks, of a quadratic form in units of its usual value.

    Attributes:
        centre: (n_blocks, n_features)
        base: (n_blocks, n_features), weight of each squared feature.
        weight: (n_blocks, n_features, n_components), squared projections added ...
        sign: ... or, with -1, taken away.
        usual: (n_blocks,), mean of the form over normal windows.
    """

    centre: Array
    base: Array
    weight: Array
    sign: float
    usual: Array

    def forms(self, features: Array) -> Array:
        """The forms themselves, (n_windows, n_blocks), in units of the usual value."""
        d = features.reshape(len(features), *self.centre.shape) - self.centre
        projected = np.matmul(d.transpose(1, 0, 2), self.weight).transpose(1, 0, 2)
        found = (d * d * self.base).sum(axis=2) + self.sign * (projected**2).sum(axis=2)
        return np.asarray(np.maximum(found, 0) / self.usual)

    def score(self, features: Array) -> Array:
        return np.asarray(np.sqrt(self.forms(features).mean(axis=1) + _TINY))

    def shares(self, features: Array) -> Array:
        d = features.reshape(len(features), *self.centre.shape) - self.centre
        projected = np.matmul(d.transpose(1, 0, 2), self.weight)
        back = np.matmul(projected, self.weight.transpose(0, 2, 1)).transpose(1, 0, 2)
        parts = np.maximum(d * (d * self.base + self.sign * back), 0)
        total = parts.sum(axis=2, keepdims=True)
        whole = self.forms(features)[:, :, None]
        parts = parts / np.maximum(total, _TINY) * whole / self.centre.shape[0]
        return np.asarray(parts.reshape(features.shape))

    def moved(self, by: Array) -> Quadratic:
        return replace(
            self, centre=(self.centre + by.reshape(self.centre.shape)).astype(np.float32)
        )

    def program(self) -> Program:
        draft = Draft()
        n_blocks, n_features, n_components = self.weight.shape
        blocks = draft.add("reshape", "x", shape=[n_blocks, n_features])
        d = draft.add("sub", blocks, self.centre)
        found = ""
        if self.base.any():
            squares = draft.add("mul", draft.add("mul", d, d), self.base)
            found = draft.add("sum", squares, axes=[2])
        if n_components:
            kernels = self.weight.transpose(0, 2, 1).reshape(-1, 1, n_features)
            none = np.zeros(len(kernels), np.float32)
            projected = draft.add("conv1d", d, np.ascontiguousarray(kernels), none, groups=n_blocks)
            projected = draft.add("reshape", projected, shape=[n_blocks, n_components])
            projected = draft.add("sum", draft.add("mul", projected, projected), axes=[2])
            if not found:
                found = projected
            else:
                found = draft.add("sub" if self.sign < 0 else "add", found, projected)
        found = draft.add("mul", draft.add("relu", found), (1 / self.usual)[:, None])
        mean = draft.add("mean", found, axes=[1])
        root = draft.add("sqrt", draft.add("add", mean, np.float32(_TINY)))
        return draft.finish(draft.add("reshape", root, shape=[1]))


@dataclass(frozen=True, eq=False)
class Nearest:
    """Distance to the nearest remembered row, over all blocks together.

    Attributes:
        rows: float32 (n_rows, n_blocks * n_features), in units of `scale`.
        scale: float32 (n_blocks, n_features).
    """

    rows: Array
    scale: Array

    def score(self, features: Array) -> Array:
        return np.asarray(np.sqrt(self._gaps(features).min(axis=1) + _TINY))

    def _gaps(self, features: Array) -> Array:
        z = (features / self.scale).reshape(len(features), -1)
        gaps = (z**2).sum(axis=1)[:, None] - 2 * (z @ self.rows.T) + (self.rows**2).sum(axis=1)
        return np.asarray(np.maximum(gaps, 0))

    def shares(self, features: Array) -> Array:
        nearest = self.rows[self._gaps(features).argmin(axis=1)]
        z = (features / self.scale).reshape(len(features), -1)
        return np.asarray(((z - nearest) ** 2).reshape(features.shape))

    def moved(self, by: Array) -> Nearest:
        return replace(self, rows=(self.rows + (by / self.scale).ravel()).astype(np.float32))

    def program(self) -> Program:
        draft = Draft()
        z = draft.add("mul", "x", (1 / self.scale).astype(np.float32))
        z = draft.add("reshape", z, shape=[-1])
        size = draft.add("sum", draft.add("mul", z, z), axes=[1])
        product = draft.add("matmul", z, np.ascontiguousarray(-2 * self.rows.T))
        gaps = draft.add("add", draft.add("add", product, size), (self.rows**2).sum(axis=1))
        least = draft.add("relu", draft.add("min", gaps, axes=[1]))
        return draft.finish(draft.add("sqrt", draft.add("add", least, np.float32(_TINY))))


def subsequence_pca(features: Array, *, most: int = 0, seed: int = 0) -> Quadratic:
    """Distance from the principal components of lagged windows, per channel.

    Along strong components a distance counts in units of their spread, along all others in one
    common unit (probabilistic PCA with a floor), so that few components need be kept.
    """
    centre, values, vectors = _spectra(features)
    floor = _FLOOR * np.maximum(values.mean(axis=1, keepdims=True), 1e-6)
    n_kept = max(1, min(_MOST_COMPONENTS, int((values > 0.1 * floor).sum(axis=1).max())))
    values, vectors = values[:, :n_kept], vectors[:, :, :n_kept]
    taken = 1 / floor - 1 / (np.maximum(values, 0) + floor)
    weight = vectors * np.sqrt(np.maximum(taken, 0))[:, None, :]
    base = np.repeat(1 / floor, features.shape[2], axis=1)
    return _settled(Quadratic(centre, base, weight, -1.0, np.ones(len(centre))), features)


def density(features: Array, *, most: int = 0, seed: int = 0) -> Quadratic:
    """A Gaussian over the features of all channels together, its covariance shrunk.

    The shrinkage is Ledoit and Wolf's, toward one variance, after scaling each feature.
    """
    n, n_blocks, n_features = features.shape
    flat = features.reshape(n, 1, -1).astype(np.float64)
    scale = flat.std(axis=0) + 0.05
    whiten = _whitening((flat - flat.mean(axis=0))[:, 0] / scale) / scale.T
    found = Quadratic(
        flat.mean(axis=0), np.zeros((1, n_blocks * n_features)), whiten[None], 1.0, np.ones(1)
    )
    return _settled(found, features)


def spectral(features: Array, *, most: int = 0, seed: int = 0) -> Quadratic:
    """Distance of log spectra, per channel, by their shrunk covariance."""
    centre = features.mean(axis=0, dtype=np.float64)
    rows = features.transpose(1, 0, 2).astype(np.float64)
    weight = np.stack([_whitening(row - c) for row, c in zip(rows, centre, strict=True)])
    none = np.zeros_like(centre)
    return _settled(Quadratic(centre, none, weight, 1.0, np.ones(len(centre))), features)


def forecast_residual(features: Array, *, most: int = 0, seed: int = 0) -> Quadratic:
    """What a ridge forecast of the last eighth of a window, from the rest, leaves over."""
    n, n_blocks, n_features = features.shape
    ahead = max(1, n_features // 8)
    centre = features.mean(axis=0, dtype=np.float64)
    weight = np.zeros((n_blocks, n_features, ahead))
    for block in range(n_blocks):
        z = features[:, block].astype(np.float64) - centre[block]
        past, future = z[:, :-ahead], z[:, -ahead:]
        gram = past.T @ past
        gram[np.diag_indices_from(gram)] += 1e-2 * np.trace(gram) / len(gram) + 1e-6 * n
        ridge = np.linalg.solve(gram, past.T @ future)
        left = (future - past @ ridge).std(axis=0) + 0.02
        weight[block] = np.concatenate([-ridge, np.eye(ahead)]) / left
    return _settled(
        Quadratic(centre, np.zeros_like(centre), weight, 1.0, np.ones(n_blocks)), features
    )


def neighbours(features: Array, *, most: int = 300, seed: int = 0) -> Nearest:
    """The nearest of at most `most` remembered windows (greedy k-centre)."""
    scale = np.full(features.shape[1:], np.sqrt(np.prod(features.shape[1:])), np.float32)
    rows = (features / scale).reshape(len(features), -1).astype(np.float32)
    return Nearest(coreset(rows, most, seed), scale)


LEARN: dict[str, tuple[str, Callable[..., Detector]]] = {
    "pca": ("shape", subsequence_pca),
    "neighbours": ("outline", neighbours),
    "density": ("statistics", density),
    "spectral": ("spectrum", spectral),
    "forecast": ("shape", forecast_residual),
    "autoencoder": ("outline", autoencoder),
}
"""Experts by name: which view they take, and how they learn from its features."""


def _spectra(features: Array) -> tuple[Array, Array, Array]:
    """Centre, falling eigenvalues and eigenvectors of each block's covariance."""
    centre = features.mean(axis=0, dtype=np.float64)
    z = (features - centre).transpose(1, 0, 2)
    covariance = np.matmul(z.transpose(0, 2, 1), z) / max(1, len(features) - 1)
    values, vectors = np.linalg.eigh(covariance)
    return centre, np.maximum(values[:, ::-1], 0), vectors[:, :, ::-1]


def _whitening(z: Array) -> Array:
    """(n_features, n_features) whose product with centred rows has unit covariance."""
    n, n_features = z.shape
    squares = z**2
    covariance = z.T @ z / n
    mean = np.trace(covariance) / n_features
    spread = ((covariance - mean * np.eye(n_features)) ** 2).sum()
    error = (squares.T @ squares / n - covariance**2).sum() / n
    share = min(1.0, max(0.02, error / max(spread, _TINY)))
    shrunk = (1 - share) * covariance + share * max(mean, 1e-6) * np.eye(n_features)
    values, vectors = np.linalg.eigh(shrunk)
    return np.asarray(vectors / np.sqrt(np.maximum(values, _TINY)))


def _settled(found: Quadratic, features: Array) -> Quadratic:
    """In units of the usual value; a block that never moves counts by the median of others."""
    usual = found.forms(features.reshape(len(features), *found.centre.shape)).mean(axis=0)
    alive = usual > 1e-6
    floor = float(np.median(usual[alive])) if alive.any() else _NOTHING_MOVES
    usual = np.where(alive, usual, floor)
    arrays = (found.centre, found.base, found.weight, usual)
    centre, base, weight, usual = (np.asarray(a, dtype=np.float32) for a in arrays)
    return Quadratic(centre, base, weight, found.sign, usual)
