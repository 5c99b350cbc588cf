"""What share of the pool each class has: estimated, not assumed."""

from __future__ import annotations

import numpy as np

from edgegraft_edge.signal import Array

_ROUNDS = 200
_ENOUGH = 1e-6


def estimate_shares(likely: Array, prior: Array | None = None, strength: float = 1.0) -> Array:
    """Class shares (n_classes,) under which the windows are as likely as they can be.

    Expectation maximisation (M. Saerens, P. Latinne, C. Decaestecker, Adjusting the outputs of
    a classifier to new a priori probabilities, Neural Computation 2002), shrunk toward a prior:
    labels that spread along a graph reach every window a little, and without a prior the
    largest class would swallow the smallest ones.

    Args:
        likely: (n_windows, n_classes), how likely each window is under each class, up to a
            factor for each window: posteriors divided by the shares they were computed with.
        prior: shares expected beforehand (n_classes,); the same for all unless given.
        strength: weight of the prior against that of all windows.

    >>> likely = np.repeat([[0.9, 0.1], [0.1, 0.9]], [90, 10], axis=0)
    >>> estimate_shares(likely, strength=0.0).round(2).tolist()
    [1.0, 0.0]
    >>> estimate_shares(likely, strength=1.0).round(2).tolist()
    [0.69, 0.31]
    """
    n_classes = likely.shape[1]
    expected = np.full(n_classes, 1 / n_classes) if prior is None else prior / prior.sum()
    known = likely[likely.sum(axis=1) > 0]
    if not len(known):
        return np.asarray(expected, dtype=np.float64)
    known = known / known.sum(axis=1, keepdims=True)
    shares = np.asarray(expected, dtype=np.float64)
    for _ in range(_ROUNDS):
        posterior = known * shares
        posterior /= np.maximum(posterior.sum(axis=1, keepdims=True), 1e-300)
        fresh = (posterior.mean(axis=0) + strength * expected) / (1 + strength)
        if np.abs(fresh - shares).max() < _ENOUGH:
            break
        shares = fresh
    return np.asarray(shares)
