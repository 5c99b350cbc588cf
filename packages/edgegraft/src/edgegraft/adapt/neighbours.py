"""A sparse graph of near neighbours among windows, and labels that spread along it.

Edges fall off with the distance in units of what is usual around both ends (L. Zelnik-Manor,
P. Perona, Self-tuning spectral clustering, NIPS 2004), so that one graph serves dense and sparse
regions. Labels spread by local and global consistency (D. Zhou and others, Learning with local
and global consistency, NIPS 2003). Up to `EXACT` windows neighbours are exact; beyond, they are
sought in the nearest of about sqrt(n) cells of k-means only (the inverted file of H. Jegou,
M. Douze, C. Schmid, Product quantization for nearest neighbor search, PAMI 2011).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from edgegraft_edge.signal import Array

EXACT = 10_000
"""Windows up to which every distance is computed: some two seconds there, and it grows squared."""
ALPHA = 0.99
"""How far labels spread: what Zhou and others used throughout."""
LOCAL = 7
"""The neighbour whose distance is the scale around a window, as in Zelnik-Manor and Perona."""
N_PROBES = 8
_BLOCK_BYTES = 1 << 26
_TOLERANCE = 1e-5
_MOST_STEPS = 300


@dataclass(frozen=True)
class Neighbours:
    """A symmetric graph without loops.

    Attributes:
        weights: float32 (n_windows, n_windows), above zero between neighbours.
    """

    weights: sparse.csr_array

    def __len__(self) -> int:
        return int(self.weights.shape[0])

    @cached_property
    def degree(self) -> Array:
        """Float64 (n_windows,), sum of the weights at each window."""
        return np.asarray(self.weights.sum(axis=1), dtype=np.float64).ravel()

    @cached_property
    def normalised(self) -> sparse.csr_array:
        """``D^-1/2 W D^-1/2``; a window without neighbours keeps an empty row."""
        root = sparse.diags_array(1 / np.sqrt(np.maximum(self.degree, 1e-12)))
        return sparse.csr_array(root @ self.weights @ root)

    def take(self, index: Array) -> Neighbours:
        """The graph of some of the windows."""
        return Neighbours(sparse.csr_array(self.weights[index][:, index]))


def neighbours(z: Array, n_neighbours: int = 10, *, seed: int = 0) -> Neighbours:
    """The graph of each window's nearest ones by Euclidean distance, either way.

    Args:
        z: embeddings (n_windows, embedding_dim), scaled as their distances are to count.
        n_neighbours: how many each window looks for; less than n_windows - 1 are all there are.
        seed: of the cells, beyond `EXACT` windows.

    >>> z = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]])
    >>> graph = neighbours(z, 2)
    >>> graph.weights.toarray()[0].nonzero()[0].tolist()
    [1, 2]
    """
    z = np.ascontiguousarray(z, dtype=np.float32)
    count = min(n_neighbours, len(z) - 1)
    if count < 1:
        return Neighbours(sparse.csr_array((len(z), len(z)), dtype=np.float32))
    index, squares = _exact(z, count) if len(z) <= EXACT else _by_cells(z, count, seed)
    return Neighbours(_graph(index, squares))


def join(graphs: list[Neighbours], shares: Array | None = None) -> Neighbours:
    """One graph of several views of the same windows: the mean of their normalised weights.

    >>> one = neighbours(np.arange(6.0)[:, None], 2)
    >>> bool(np.allclose(join([one, one]).weights.toarray(), one.normalised.toarray()))
    True
    """
    each = np.full(len(graphs), 1 / len(graphs)) if shares is None else shares / np.sum(shares)
    parts = [share * graph.normalised for share, graph in zip(each, graphs, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return Neighbours(sparse.csr_array(total))


def spread_labels(
    graph: Neighbours, seeds: Array, *, alpha: float = ALPHA, shares: Array | None = None
) -> Array:
    """What every window is, by the labels that reach it along the graph.

    Solves ``(I - alpha S) F = Y`` for the normalised graph ``S`` by conjugate gradients. Columns
    are then scaled so that their mass is that of `shares` (class mass normalisation: X. Zhu,
    Z. Ghahramani, J. Lafferty, Semi-supervised learning using Gaussian fields, ICML 2003), and
    rows sum to one; a window that no label reaches gets `shares`.

    Args:
        seeds: (n_windows, n_classes), how much each window is known to be of each class; rows of
            zeros for those not known.
        alpha: weight of the neighbours against the seeds, below 1.
        shares: expected share of each class (n_classes,); without it masses stay as they come,
            but for each class's seeds counting the same in total.

    Returns: float64 (n_windows, n_classes), rows sum to one.

    >>> z = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]])
    >>> seeds = np.zeros((6, 2))
    >>> seeds[0, 0] = seeds[5, 1] = 1
    >>> spread_labels(neighbours(z, 2), seeds).argmax(axis=1).tolist()
    [0, 0, 0, 1, 1, 1]
    """
    seeds = np.asarray(seeds, dtype=np.float64)
    reached = diffuse(graph, seeds / np.maximum(seeds.sum(axis=0), 1e-12), alpha=alpha)
    return to_shares(reached, shares)


def to_shares(reached: Array, shares: Array | None = None) -> Array:
    """Rows that sum to one, columns first scaled to the mass of `shares`; see `spread_labels`."""
    n_classes = reached.shape[1]
    expected = np.full(n_classes, 1 / n_classes) if shares is None else np.asarray(shares)
    if shares is not None:
        mass = reached.sum(axis=0)
        reached = reached * (expected / np.where(mass > 0, mass, np.inf))
    total = reached.sum(axis=1, keepdims=True)
    found: Array = np.where(total > 0, reached / np.where(total > 0, total, 1.0), expected)
    return found


def diffuse(graph: Neighbours, seeds: Array, *, alpha: float = ALPHA) -> Array:
    """``(1 - alpha) (I - alpha S)^-1`` times the seeds, not below zero (n_windows, n_columns).

    Linear in the seeds, so what a single label does is one column. All columns go through
    conjugate gradients side by side (M. Hestenes, E. Stiefel, 1952).
    """
    goal = np.asarray((1 - alpha) * seeds, dtype=np.float64)
    matrix = graph.normalised.astype(np.float64)
    found, residual = np.zeros_like(goal), goal.copy()
    along, energy = residual.copy(), np.square(residual).sum(axis=0)
    enough = _TOLERANCE**2 * np.maximum(energy, 1e-300)
    for _ in range(_MOST_STEPS):
        if (energy <= enough).all():
            break
        image = along - alpha * (matrix @ along)
        step = energy / np.maximum((along * image).sum(axis=0), 1e-300)
        found += step * along
        residual -= step * image
        before, energy = energy, np.square(residual).sum(axis=0)
        along = residual + energy / np.maximum(before, 1e-300) * along
    return np.maximum(found, 0.0)


def modularity(graph: Neighbours, soft: Array) -> float:
    """How much more weight lies within classes than chance would put there, -1/2 to 1.

    Source: M. Newman, M. Girvan, Finding and evaluating community structure in networks, 2004;
    for soft labels as T. Nepusz and others, Fuzzy communities, 2008.

    >>> z = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]])
    >>> round(modularity(neighbours(z, 2), np.eye(2)[[0, 0, 0, 1, 1, 1]]), 2)
    0.5
    """
    total = float(graph.degree.sum())
    if total <= 0:
        return 0.0
    within = float(np.sum(soft * (graph.weights @ soft))) / total
    expected = np.square(graph.degree @ soft / total).sum()
    return float(within - expected)


def _graph(index: Array, squares: Array) -> sparse.csr_array:
    """Edges to the windows found (n, k), at locally scaled weights; each way counts."""
    n_windows, count = index.shape
    scale = np.sqrt(squares[:, min(LOCAL, count) - 1])
    scale = np.maximum(scale, 1e-3 * (float(scale.mean()) or 1.0))  # of windows that are the same
    near = np.exp(-squares / (scale[:, None] * scale[index]))
    rows = np.arange(0, n_windows * count + 1, count)
    one_way = sparse.csr_array((near.ravel().astype(np.float32), index.ravel(), rows),
                               shape=(n_windows, n_windows))  # fmt: skip
    return sparse.csr_array(one_way.maximum(one_way.T))


def _nearest(z: Array, others: Array, count: int) -> tuple[Array, Array]:
    """Of each row the nearest others in order: their index and squared distance (n, count)."""
    squares = np.square(others).sum(axis=1) - 2 * (z @ others.T)
    index = np.argpartition(squares, count - 1, axis=1)[:, :count]
    found = np.take_along_axis(squares, index, axis=1)
    order = np.argsort(found, axis=1, kind="stable")
    found = np.take_along_axis(found, order, axis=1) + np.square(z).sum(axis=1)[:, None]
    return np.take_along_axis(index, order, axis=1), np.maximum(found, 0)


def _exact(z: Array, count: int) -> tuple[Array, Array]:
    z = z - z.mean(axis=0)  # smaller numbers, finer differences
    step = max(1, _BLOCK_BYTES // (4 * len(z)))
    parts = [_without(*_nearest(z[i : i + step], z, count + 1), np.arange(i, min(i + step, len(z))))
             for i in range(0, len(z), step)]  # fmt: skip
    return np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts])


def _without(index: Array, squares: Array, own: Array) -> tuple[Array, Array]:
    """One column less: the window itself, or the farthest where it is not among them."""
    away = index == own[:, None]
    away[~away.any(axis=1), -1] = True
    kept = (len(index), index.shape[1] - 1)
    return index[~away].reshape(kept), squares[~away].reshape(kept)


def _by_cells(z: Array, count: int, seed: int) -> tuple[Array, Array]:
    """Neighbours among the windows of the cells nearest to the cell of each window."""
    z = z - z.mean(axis=0)
    centres, cell = cells(z, int(np.sqrt(len(z))), seed)
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(len(centres) + 1))
    probes = _nearest(centres, centres, min(N_PROBES, len(centres)))[0]
    index = np.zeros((len(z), count), dtype=np.int64)
    squares = np.zeros((len(z), count), dtype=np.float32)
    for number, near in enumerate(probes):
        own = order[starts[number] : starts[number + 1]]
        if not len(own):
            continue
        members = np.concatenate([order[starts[c] : starts[c + 1]] for c in near])
        if len(members) <= count:  # small cells: everything is near
            members = np.arange(len(z))
        step = max(1, _BLOCK_BYTES // (4 * len(members)))
        for i in range(0, len(own), step):
            rows = own[i : i + step]
            found, away = _nearest(z[rows], z[members], count + 1)
            index[rows], squares[rows] = _without(members[found], away, rows)
    return index, squares


def cells(z: Array, n_cells: int, seed: int, n_rounds: int = 8) -> tuple[Array, Array]:
    """Centres (n_cells, embedding_dim) by k-means on a sample, and the cell of each window (n,)."""
    random = np.random.default_rng(seed)
    sample = z[random.permutation(len(z))[: 40 * n_cells]]
    centres = sample[:n_cells].copy()
    for _ in range(n_rounds):
        cell = _nearest(sample, centres, 1)[0][:, 0]
        sums = sparse.csr_array((np.ones(len(cell), np.float32), (cell, np.arange(len(cell)))),
                                shape=(n_cells, len(cell)))  # fmt: skip
        counts = np.asarray(sums.sum(axis=1)).ravel()
        centres = np.where(counts[:, None] > 0, (sums @ sample) / np.maximum(counts, 1)[:, None],
                           centres)  # fmt: skip
    step = max(1, _BLOCK_BYTES // (4 * n_cells))
    parts = [_nearest(z[i : i + step], centres, 1)[0][:, 0] for i in range(0, len(z), step)]
    return centres.astype(np.float32), np.concatenate(parts)
