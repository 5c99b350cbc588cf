"""Kernel ridge on a few centres: a smooth estimate, in closed form, small enough for a device.

Features are how near a row is to each of some training rows (a Gaussian of the distance), made
orthonormal over these (Nystroem); on them a ridge is solved for every strength from one
eigendecomposition.

Source: Williams and Seeger, Using the Nystroem method to speed up kernel machines, NIPS 2000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array

N_CENTRES, ROWS_PER_CENTRE = 250, 5
_FLOOR = 1e-6  # of the largest eigenvalue: what is smaller is noise of float32 on a device
_TINY = 1e-9


@dataclass(frozen=True)
class Kernel:
    """A fitted estimate.

    Attributes:
        level, scale: float64 (n_features,).
        low, high: float64 (n_features,), what rows are held between first: beyond the training
            rows nothing is near, and the estimate would fall back to its mean.
        centres: float64 (n_centres, n_features), in units of `scale`.
        width: one over the squared distance at which nearness falls to 1/e.
        weight: float64 (n_centres,); bias: the constant.
    """

    level: Array
    scale: Array
    low: Array
    high: Array
    centres: Array
    width: float
    weight: Array
    bias: float

    def estimate(self, rows: Array) -> Array:
        """Estimates float64 (n,) of rows (n, n_features)."""
        held = np.clip(rows, self.low, self.high)
        near = nearness((held - self.level) / self.scale, self.centres, self.width)
        found: Array = near @ self.weight + self.bias
        return found

    def program(self) -> Program:
        """The same for the device: (n, n_features) -> (n, 1)."""
        draft = Draft()
        held = draft.add("minimum", draft.add("maximum", "x", self.low), self.high)
        z = draft.add("div", draft.add("sub", held, self.level), self.scale)
        size = draft.add("sum", draft.add("mul", z, z), axes=[1])
        product = draft.add("matmul", z, -2.0 * self.centres.T)
        far = draft.add("add", draft.add("add", product, size), (self.centres**2).sum(axis=1))
        near = draft.add("exp", draft.add("mul", draft.add("relu", far), np.float32(-self.width)))
        value = draft.add("matmul", near, self.weight[:, None])
        return draft.finish(draft.add("add", value, np.array([self.bias])))


def fit_kernels(
    rows: Array,
    y: Array,
    width: float,
    strengths: Sequence[float],
    *,
    weights: Array | None = None,
    seed: int = 0,
) -> list[Kernel]:
    """One estimate for each strength.

    Args:
        rows: features (n, n_features).
        y: float (n,).
        width: relative: 1 is one over the mean squared distance of a row from the mean.
        strengths: ridge, relative to the number of rows.
        weights: importance of each row.

    >>> x = np.linspace(-2, 2, 80)[:, None]
    >>> (found,) = fit_kernels(x, np.sin(x[:, 0]), 1.0, [1e-6])
    >>> bool(np.abs(found.estimate(x) - np.sin(x[:, 0])).max() < 0.01)
    True
    """
    rows, y = np.asarray(rows, dtype=np.float64), np.asarray(y, dtype=np.float64)
    weights = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    share = weights / weights.sum()
    level = share @ rows
    spread = np.sqrt(share @ (rows - level) ** 2)
    live = spread > _TINY * (1 + np.abs(level))
    scale = np.where(live, spread, 1e9)  # what never changed says nothing, should it ever change
    scaled = (rows - level) / scale
    width = width / max(1, int(live.sum()))
    picked = np.random.default_rng(seed).choice(
        len(rows), min(N_CENTRES, max(40, len(rows) // ROWS_PER_CENTRE), len(rows)), replace=False
    )
    centres = scaled[np.sort(picked)]
    values, vectors = np.linalg.eigh(nearness(centres, centres, width))
    kept = values > _FLOOR * values[-1]
    turn = vectors[:, kept] / np.sqrt(values[kept])
    table = nearness(scaled, centres, width) @ turn
    offset, mean = share @ table, float(share @ y)
    table -= offset
    values, vectors = np.linalg.eigh((table * share[:, None]).T @ table)
    told = vectors.T @ ((table * share[:, None]).T @ (y - mean))
    low, high = rows.min(axis=0), rows.max(axis=0)
    found = []
    for strength in strengths:
        inner = vectors @ (told / (np.maximum(values, 0) + strength))
        found.append(
            Kernel(
                *(level, scale, low, high, centres, width),
                weight=turn @ inner,
                bias=mean - float(offset @ inner),
            )
        )
    return found


def nearness(rows: Array, centres: Array, width: float) -> Array:
    """How near each row (n, n_features) is to each centre: (n, n_centres), 1 at the same place."""
    far = (rows**2).sum(axis=1)[:, None] - 2 * rows @ centres.T + (centres**2).sum(axis=1)
    near: Array = np.exp(-width * np.maximum(far, 0))
    return near
