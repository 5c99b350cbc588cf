"""Whom to trust where labels are too few to leave any out: what the pool's structure says.

Three questions about the pool, each put to several views of the windows, all of which must say
yes before labels that spread over it are believed:

* Do the labelled windows lie in it, those of every class? A pool of other things, or of one
  activity, does not hold their neighbours.
* Does it fall into about as many parts as there are classes? A pool without gaps lets labels run
  everywhere.
* Do the labels reach all of it? Parts that hold no label (bearings of another damage) would get
  theirs by chance.

And one about sources, which needs no pool: labels of the target are honest test data for a model
that saw none of them. If labels dealt at random fit what it says as well, the source is unrelated.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import factorial, prod

import numpy as np

from edgegraft.adapt.evidence import Evidence
from edgegraft.adapt.neighbours import Neighbours, diffuse, neighbours
from edgegraft.adapt.paired import surprise
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.cache import embed_cached
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Array

VIEWS = ("minirocket", "statistics", "mel-statistics", "texture", "tfidf")
"""Backbones that look at windows in different ways; those that can take them are asked."""
MOST_POOL = 2000
"""So many windows of the pool are enough to see its structure."""
N_NEAR = 3
STRANGE, OUTSIDE = 0.005, 0.9
"""Error rate at which a pool of the same windows is taken for a foreign one, in each view; and
the share of the pool that lies farther in than every labelled window of a foreign one."""
SLOW = 0.9
"""Eigenvalues above this stand for parts that a random walk on the graph seldom leaves."""
MISSING = 0.001
"""Error rate at which a class is taken for one that the pool lacks, in each view. It is low because
groups differ: the few windows of a class in a thinned pool lie apart as well."""
ENOUGH_PARTS, REACHED = 2 / 3, 0.7
"""Parts for each class (classes that look alike may share one), and reach, that are asked for."""
N_DEALT = 5000


@dataclass(frozen=True)
class View:
    """The pool and the labelled windows as one backbone sees them.

    Attributes:
        home: p-value of the labelled windows lying in the pool like its own.
        lacking: p-value of each class's windows doing so, of the worst class, times the classes.
        parts: eigenvalues of the graph above `SLOW`, counted up to the number of classes.
        reach: share of the pool that labels reach along the graph, 0 to 1 (participation ratio).
    """

    backbone: str
    home: float
    lacking: float
    parts: int
    reach: float


@dataclass(frozen=True)
class Structure:
    """What all views say of the pool; see the module."""

    views: tuple[View, ...]
    n_classes: int

    @property
    def objection(self) -> str:
        """Why labels that spread over the pool are not to be believed; empty if they are."""
        if not self.views:
            return "no backbone could look at the pool"
        if min(view.home for view in self.views) < STRANGE:
            return "the labelled windows do not lie in the pool"
        if min(view.lacking for view in self.views) < MISSING:
            return "the pool seems to lack a class that is labelled"
        parts = min(view.parts for view in self.views)
        if parts < max(2, ENOUGH_PARTS * self.n_classes):
            return f"the pool falls into {parts} parts, too few for {self.n_classes} classes"
        reach = min(view.reach for view in self.views)
        if reach < REACHED:
            return f"labels reach {100 * reach:.0f} % of the pool"
        return ""


def structure_of(evidence: Evidence, backbone: Backbone, *, seed: int) -> Structure:
    """Look at the pool, or at so many windows of it, through the backbone and further views."""
    n_labelled, n_classes = len(evidence.target), len(evidence.classes)
    own = evidence.own.take(
        np.concatenate([np.arange(n_labelled), n_labelled + _sampled(len(evidence.pool), seed)])
    )
    seeds = np.zeros((len(own), n_classes))
    if n_labelled:
        seeds[np.arange(n_labelled), evidence.codes] = 1
    found = []
    names = [name for name in VIEWS if name != backbone.card.name]
    for each in (backbone, *map(load_backbone, names)):
        if own.spec.kind not in each.card.takes or len(own) - n_labelled <= N_NEAR:
            continue
        try:
            z = _standard(embed_cached(each.fit(own, seed=seed), own.x))
        except DataError:  # MiniRocket, say, needs nine timepoints
            continue
        graph = neighbours(z)
        home, lacking = 1.0, 1.0
        if n_labelled:
            home, lacking = _home(z[:n_labelled], z[n_labelled:], evidence.codes)
        reach = _reach(graph, seeds, n_labelled) if n_labelled else 0.0
        parts = _parts(graph, n_classes)
        found.append(View(each.card.name, home, lacking, parts, reach))
    return Structure(tuple(found), n_classes)


def _sampled(n_pool: int, seed: int) -> Array:
    """Which windows of a pool are looked at, sorted."""
    return np.sort(np.random.default_rng(seed).permutation(n_pool)[:MOST_POOL])


def dealt(probabilities: Array, codes: Array, *, seed: int = 0) -> float:
    """P-value of "unrelated": how often labels dealt at random fit probabilities as well.

    The labels are those of the windows, in another order. Exact up to 5000 orders, else 5000 drawn
    ones; with one label for each of three classes it cannot be below 1/6.

    Args:
        probabilities: (n_windows, n_classes), of a model that saw none of these labels.
        codes: int (n_windows,).

    >>> dealt(np.eye(4), np.arange(4))
    0.041666666666666664
    """
    losses, rows = surprise(probabilities, 1e-3), np.arange(len(codes))
    if len(codes) <= 6 and factorial(len(codes)) <= N_DEALT:
        orders = np.array(list(permutations(codes.tolist())))
        here = losses[rows, orders].sum(axis=1)
        return float((here <= losses[rows, codes].sum() + 1e-9).mean())
    random = np.random.default_rng(seed)
    orders = random.permuted(np.tile(codes, (N_DEALT, 1)), axis=1)
    here = losses[rows, orders].sum(axis=1)
    return float((1 + (here <= losses[rows, codes].sum() + 1e-9).sum()) / (1 + N_DEALT))


def n_orders(labels: Array) -> int:
    """In how many orders these labels can stand.

    >>> n_orders(np.array(["a", "b", "c"])), n_orders(np.array(["a", "a", "b", "b"]))
    (6, 6)
    """
    counts = np.unique(labels, return_counts=True)[1].tolist()
    return factorial(len(labels)) // prod(factorial(count) for count in counts)


def _standard(z: Array) -> Array:
    """Features of mean 0 and deviation 1, outliers drawn in, rows scaled by their number."""
    z = np.asarray(z, dtype=np.float64)
    mean, spread = z.mean(axis=0), z.std(axis=0)
    scale = np.where(spread > 1e-7 * (1 + np.abs(mean)), spread, np.inf)
    return np.asarray(np.clip((z - mean) / scale, -5, 5) / np.sqrt(z.shape[1]))


def _home(labelled: Array, pool: Array, codes: Array) -> tuple[float, float]:
    """P-values of the labelled windows being as near to the pool as its own windows are.

    Of all together by their mean rank among the pool's distances to its nearest others (normal
    approximation), and of the worst class by its nearest window (Bonferroni over classes).
    """
    from scipy.special import ndtr

    own = np.sort(_nearest(pool, pool, 1))
    rank = np.searchsorted(own, _nearest(labelled, pool, 0)) / (len(own) + 1)
    together = float(ndtr((0.5 - rank.mean()) * np.sqrt(12 * len(rank))))
    if rank.min() > OUTSIDE:
        together = 0.0
    each = [
        (1 - rank[codes == code].min()) ** int((codes == code).sum()) for code in np.unique(codes)
    ]
    return together, float(min(1.0, min(each) * len(each)))


def _nearest(rows: Array, pool: Array, skipped: int) -> Array:
    """Mean squared distance to the nearest windows of the pool (n_rows,)."""
    squares = np.square(rows).sum(axis=1)[:, None] + np.square(pool).sum(axis=1)
    squares -= 2 * rows @ pool.T
    count = min(skipped + N_NEAR, len(pool))
    near = np.sort(np.partition(squares, count - 1, axis=1)[:, :count], axis=1)
    return np.asarray(near[:, skipped:].mean(axis=1))


def _parts(graph: Neighbours, most: int) -> int:
    """Parts that a random walk seldom leaves: eigenvalues above `SLOW`, at most so many."""
    from scipy.sparse.csgraph import connected_components
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    apart = int(connected_components(graph.weights, directed=False, return_labels=False))
    if apart >= most or most >= len(graph) - 1:
        return min(most, apart)
    start = np.random.default_rng(0).normal(size=len(graph))
    matrix = graph.normalised.astype(np.float64)
    try:
        values = eigsh(matrix, k=most, v0=start, tol=1e-3, return_eigenvectors=False)
    except ArpackNoConvergence as error:  # those that did converge are a lower bound
        values = error.eigenvalues
    return max(apart, int((values > SLOW).sum()))


def _reach(graph: Neighbours, seeds: Array, n_labelled: int) -> float:
    """How evenly labels reach the pool: 1 if all of it alike, 1/n if one window only."""
    arrived = diffuse(graph, seeds / np.maximum(seeds.sum(axis=0), 1)).sum(axis=1)
    arrived = (arrived / np.sqrt(np.maximum(graph.degree, 1e-12)))[n_labelled:]
    square = float(np.square(arrived).sum())
    return float(arrived.sum() ** 2 / (len(arrived) * square)) if square > 0 else 0.0
