"""How much likelier a source's window is in the target, as weights for its rows.

Source: T. Kanamori, S. Hido, M. Sugiyama, A least-squares approach to direct importance
estimation, JMLR 2009 (uLSIF); flattening: H. Shimodaira, Improving predictive inference under
covariate shift, 2000.
"""

from __future__ import annotations

import numpy as np

from edgegraft_edge.signal import Array

N_CENTRES = 100
WIDTHS: tuple[float, ...] = (0.5, 1.0, 2.0)
"""Of the kernels, in units of the median distance between windows."""
PENALTIES: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)


def density_ratio(source: Array, own: Array, *, seed: int, flatten: float = 1.0) -> Array:
    """Weights (n_source,), mean 1, by kernels around windows of the target.

    Width and penalty are those with the least squared error on half of the windows held out.

    Args:
        source, own: rows (n, n_dims) of a few dimensions in which distances count.
        flatten: the power that ratios are raised to; 0 leaves every weight at 1.

    >>> rng = np.random.default_rng(0)
    >>> source, own = rng.normal(size=(200, 1)), rng.normal(size=(100, 1)) + 2
    >>> weights = density_ratio(source, own, seed=0)
    >>> bool(weights[source[:, 0] > 1].mean() > 3 * weights[source[:, 0] < 0].mean())
    True
    """
    random = np.random.default_rng(seed)
    centres = own[random.permutation(len(own))[:N_CENTRES]]
    far_source, far_own = _squares(source, centres), _squares(own, centres)
    median = float(np.median(np.concatenate([far_source, far_own]))) or 1.0
    halves = [random.permutation(len(rows)) % 2 == 0 for rows in (source, own)]
    best, choice = np.inf, (1.0, 0.1)
    for width in WIDTHS:
        near_source = np.exp(-far_source / (2 * width**2 * median))
        near_own = np.exp(-far_own / (2 * width**2 * median))
        for penalty in PENALTIES:
            loss = 0.0
            for flip in (False, True):
                here, there = halves[0] ^ flip, halves[1] ^ flip
                if not (here.any() and there.any() and (~here).any() and (~there).any()):
                    continue
                alpha = _fit(near_source[here], near_own[there], penalty)
                ratio = near_source[~here] @ alpha
                loss += np.square(ratio).mean() / 2 - (near_own[~there] @ alpha).mean()
            if loss < best:
                best, choice = loss, (width, penalty)
    width, penalty = choice
    near_source = np.exp(-far_source / (2 * width**2 * median))
    near_own = np.exp(-far_own / (2 * width**2 * median))
    ratio = near_source @ _fit(near_source, near_own, penalty)
    weights = np.maximum(ratio, 1e-2 * max(float(ratio.mean()), 1e-12)) ** flatten
    found: Array = weights / weights.mean()
    return found


def _fit(near_source: Array, near_own: Array, penalty: float) -> Array:
    quadratic = near_source.T @ near_source / len(near_source)
    usual = float(np.trace(quadratic)) / len(quadratic) or 1.0
    quadratic += penalty * usual * np.eye(len(quadratic))
    found: Array = np.maximum(np.linalg.solve(quadratic, near_own.mean(axis=0)), 0)
    return found


def _squares(rows: Array, centres: Array) -> Array:
    found = np.square(rows).sum(axis=1)[:, None] + np.square(centres).sum(axis=1)
    return np.asarray(np.maximum(found - 2 * rows @ centres.T, 0))
