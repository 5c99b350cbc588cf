"""Boosted trees, grown by scikit-learn and read out as arrays that every runtime takes.

Source: Friedman, Greedy function approximation: a gradient boosting machine, 2001.
"""

from __future__ import annotations

import numpy as np

from edgegraft.threads import one_thread
from edgegraft_edge.heads import TreesHead
from edgegraft_edge.signal import Array

N_TREES, RATE, LEAVES, LEAST, SHRINK = 150, 0.05, 15, 40, 1.0


def boost_trees(
    z: Array,
    y: Array,
    *,
    seed: int,
    n_trees: int = N_TREES,
    rate: float = RATE,
    leaves: int = LEAVES,
    least: int = LEAST,
    weights: Array | None = None,
    quantile: float | None = None,
) -> TreesHead:
    """Trees whose mean leaf value is the estimate; squared loss, or that of a quantile.

    Args:
        z: features (n_samples, n_features); taken as float32, as a device computes them.
        y: float (n_samples,).
        least: samples a leaf must hold, fewer where there are few.

    >>> z = np.linspace(0, 1, 200, dtype=np.float32)[:, None]
    >>> head = boost_trees(z, np.where(z[:, 0] > 0.5, 10.0, 2.0), seed=0)
    >>> head.scores(np.float32([[0.1], [0.9]])).round().ravel().tolist()
    [2.0, 10.0]
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    z = np.asarray(z, dtype=np.float32)
    trees = HistGradientBoostingRegressor(
        loss="squared_error" if quantile is None else "quantile",
        quantile=quantile,
        max_iter=n_trees,
        learning_rate=rate,
        max_leaf_nodes=leaves,
        min_samples_leaf=max(2, min(least, len(z) // 20)),
        l2_regularization=SHRINK,
        early_stopping=False,
        random_state=seed,
    )
    with one_thread():  # OpenMP keeps its number of threads for each thread that asks
        return read_out(trees.fit(z, np.asarray(y, dtype=np.float64), sample_weight=weights))


def read_out(grown: object) -> TreesHead:
    """The arrays of a fitted `HistGradientBoostingRegressor`.

    Its sum of trees becomes a mean: every leaf is taken times the number of trees, and the
    constant that boosting began with is added to all leaves.
    """
    trees = [stage[0].nodes for stage in grown._predictors]  # type: ignore[attr-defined]
    baseline = float(np.ravel(grown._baseline_prediction)[0])  # type: ignore[attr-defined]
    feature, threshold, left, right, value, roots = [], [], [], [], [], []
    offset = 0
    for nodes in trees:
        leaf = nodes["is_leaf"].astype(bool)
        exact = nodes["num_threshold"].astype(np.float64)
        # the largest float32 not above the threshold sends every float32 the same way
        border = exact.astype(np.float32)
        above = border.astype(np.float64) > exact
        border[above] = np.nextafter(border[above], np.float32(-np.inf))
        feature.append(np.where(leaf, 0, nodes["feature_idx"]))
        threshold.append(np.where(leaf, np.float32(0), border))
        left.append(np.where(leaf, -1, nodes["left"].astype(np.int64) + offset))
        right.append(np.where(leaf, -1, nodes["right"].astype(np.int64) + offset))
        value.append(np.where(leaf, nodes["value"] * len(trees) + baseline, 0.0))
        roots.append(offset)
        offset += len(nodes)
    return TreesHead(
        np.concatenate(feature).astype(np.int64),
        np.concatenate(threshold).astype(np.float32),
        np.concatenate(left).astype(np.int64),
        np.concatenate(right).astype(np.int64),
        np.concatenate(value).astype(np.float32)[:, None],
        np.array(roots, dtype=np.int64),
    )
