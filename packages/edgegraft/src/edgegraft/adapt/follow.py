"""Labels of a pool that follow its shape: what heads say of its windows, smoothed over neighbours.

Labels cannot be trusted to spread from a source's windows to the target's along a graph: the two
often lie in pieces that hardly touch. What a head on aligned embeddings says of each window of the
pool can, since it is right for most neighbours of a window that it gets wrong.

Source: D. Zhou and others, Learning with local and global consistency, NIPS 2003; as correction
of a predictor: Q. Huang and others, Combining label propagation and simple models, ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgegraft.adapt.alignment import principal
from edgegraft.adapt.neighbours import Neighbours, diffuse, neighbours
from edgegraft_edge.signal import Array

_DIRECTIONS = 128
_FLOOR = 1e-9


@dataclass(frozen=True)
class Following:
    """How labels follow.

    Attributes:
        n_neighbours: how many neighbours each window looks for.
        alpha: weight of the neighbours against what the heads say, below 1.
        balance: how far the share of each class goes toward what is expected, 0 to 1.
    """

    n_neighbours: int = 5
    alpha: float = 0.5
    balance: float = 0.25


def graph_of(views: Sequence[Array], following: Following, seed: int) -> Neighbours:
    """Neighbours by all views together, each counting the same.

    Args:
        views: embeddings (n_windows, n_dims) of the same windows.
    """
    together = [principal(view, (), _DIRECTIONS).own for view in views]
    return neighbours(np.concatenate(together, axis=1), following.n_neighbours, seed=seed)


def follow(
    graph: Neighbours, said: Array, codes: Array, shares: Array, following: Following
) -> Array:
    """The class of each window (n_windows,), by what is said of it and of its neighbours.

    Args:
        said: probabilities (n_windows, n_classes).
        codes: int (n_windows,), classes that are known, -1 elsewhere.
        shares: expected share of each class (n_classes,).

    >>> z = np.array([[0.0], [0.1], [0.2], [0.3], [9.0], [9.1], [9.2], [9.3]])
    >>> said = np.eye(2)[[0, 0, 1, 0, 1, 1, 1, 1]] * 0.4 + 0.3
    >>> rule = Following(n_neighbours=3, alpha=0.9)
    >>> graph = graph_of([z], rule, 0)
    >>> follow(graph, said, np.full(8, -1), np.array([0.5, 0.5]), rule).tolist()
    [0, 0, 0, 0, 1, 1, 1, 1]
    """
    sure = codes >= 0
    seeds = toward(said, shares, following.balance)
    seeds[sure] = np.eye(said.shape[1])[codes[sure]]
    reached = diffuse(graph, seeds, alpha=following.alpha) + _FLOOR * seeds
    reached /= np.maximum(reached.sum(axis=1, keepdims=True), 1e-300)
    found = toward(reached, shares, following.balance).argmax(axis=1)
    return np.where(sure, codes, found)


def toward(said: Array, shares: Array, strength: float, rounds: int = 20) -> Array:
    """Probabilities reweighted by class so that their mean goes some way toward the shares.

    >>> said = np.array([[0.9, 0.1], [0.6, 0.4]])
    >>> toward(said, np.array([0.5, 0.5]), 1.0).mean(axis=0).round(2).tolist()
    [0.5, 0.5]
    """
    said = said + _FLOOR
    gain = np.ones(said.shape[1])
    for _ in range(rounds if strength else 0):
        mean = _rows(said * gain).mean(axis=0)
        gain *= shares / np.maximum(mean, _FLOOR)
        gain = np.maximum(gain / max(float(gain.max()), _FLOOR), _FLOOR)
    return _rows(said * gain**strength)


def _rows(table: Array) -> Array:
    return np.asarray(table / table.sum(axis=1, keepdims=True))
