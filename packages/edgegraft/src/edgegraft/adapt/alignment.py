"""How embeddings of domains are brought together, so that one head can read all of them.

Each alignment takes embeddings of the target and of every source and gives them back in one space.
The target gets there by an affine map alone, the same for a window that comes later, so the map
folds into a linear head: what ships never needs a pool. `standardised` and `recoloured` move the
sources to where the target is, and leave the target alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from edgegraft.adapt.ridge import decompose
from edgegraft_edge.signal import Array

N_PICKED = 700
"""Windows by which principal directions are found: of more, so many evenly through all."""
_TINY = 1e-6


@dataclass(frozen=True)
class Aligned:
    """Embeddings in one space.

    Attributes:
        own: float32 (n_own, n_dims), the target's.
        others: float32 (n_windows, n_dims) of each source.
        mean, matrix: ``own = (z - mean) @ matrix`` of the target's embeddings z; none of both
            where it was left as it is.
    """

    own: Array
    others: tuple[Array, ...]
    mean: Array | None = None
    matrix: Array | None = None

    def folded(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        """Weight and bias of a head in this space as they are on the target's embeddings."""
        if self.matrix is None or self.mean is None:
            return weight, bias
        weight = self.matrix @ weight
        return weight, bias - self.mean @ weight


Align = Callable[[Array, Sequence[Array], Sequence[Array]], Aligned]
"""(target's embeddings, those of each source, its codes) -> aligned."""


def as_they_are(own: Array, others: Sequence[Array], codes: Sequence[Array]) -> Aligned:
    """No alignment at all."""
    return Aligned(own, tuple(others))


def standardised(own: Array, others: Sequence[Array], codes: Sequence[Array]) -> Aligned:
    """Every source's features at the mean and deviation that they have in the target.

    That is what standardising each domain by itself amounts to: batch normalisation with a
    domain's own statistics, in closed form.

    Source: Y. Li, N. Wang, J. Shi, J. Liu, X. Hou, Revisiting batch normalization for practical
    domain adaptation, 2016 (AdaBN).

    >>> own, other = np.array([[0.0], [2.0]]), np.array([[10.0], [30.0]])
    >>> standardised(own, [other], [np.arange(2)]).others[0].ravel().round(3) + 0.0
    array([0., 2.], dtype=float32)
    """
    mean, spread, _ = _moments(own)
    found = []
    for other in others:
        centre, wide, there = _moments(other)
        gain = np.where(there, spread / np.where(there, wide, 1.0), 0.0)
        found.append(((other - centre) * gain.astype(np.float32) + mean).astype(np.float32))
    return Aligned(own, tuple(found))


@dataclass(frozen=True)
class Recoloured:
    """Sources whitened, then given the target's covariance, in the leading directions of both.

    Source: B. Sun, J. Feng, K. Saenko, Return of frustratingly easy domain adaptation, AAAI 2016
    (CORAL).

    Attributes:
        n_directions: principal directions of all domains together that are kept.
        shrink: part of each covariance that gives way to the mean of its diagonal.
    """

    n_directions: int = 128
    shrink: float = 0.1

    def __call__(self, own: Array, others: Sequence[Array], codes: Sequence[Array]) -> Aligned:
        space = principal(own, others, self.n_directions)
        mean, covariance = self._moments(space.own)
        colour, found = _power(covariance, 0.5), []
        for other in space.others:
            centre, covariance = self._moments(other)
            away = (other - centre) @ (_power(covariance, -0.5) @ colour)
            found.append((away + mean).astype(np.float32))
        return Aligned(space.own, tuple(found), space.mean, space.matrix)

    def _moments(self, z: Array) -> tuple[Array, Array]:
        """Mean (n_dims,) and covariance (n_dims, n_dims), shrunk."""
        centre = z.mean(axis=0)
        away = (z - centre).astype(np.float64)
        found = away.T @ away / len(z)
        usual = float(np.trace(found)) / len(found) or 1.0
        return centre, (1 - self.shrink) * found + self.shrink * usual * np.eye(len(found))


@dataclass(frozen=True)
class Components:
    """Directions in which classes of all domains lie alike and windows differ most.

    In the leading principal directions, the linear form of joint distribution adaptation: means
    of the domains, and of each class in them (of the target's by what a ridge head fitted on the
    sources says, over a few rounds), lie close; the variance of all is kept.

    Source: S. Pan, I. Tsang, J. Kwok, Q. Yang, Domain adaptation via transfer component analysis,
    2011; M. Long, J. Wang, G. Ding, J. Sun, P. Yu, Transfer feature learning with joint
    distribution adaptation, ICCV 2013.

    Attributes:
        n_directions: principal directions to choose in.
        n_components: how many of the directions found are kept.
        rounds: how often classes of the target are said anew; 0 aligns the domains' means alone.
        strength: of the penalty on the size of a direction, relative to its mean variance.
    """

    n_directions: int = 128
    n_components: int = 64
    rounds: int = 5
    strength: float = 0.1

    def __call__(self, own: Array, others: Sequence[Array], codes: Sequence[Array]) -> Aligned:
        space = principal(own, others, self.n_directions)
        if not others:
            return space
        centres = [other.mean(axis=0) for other in space.others]
        rows = np.concatenate([z - z.mean(axis=0) for z in (space.own, *space.others)])
        scatter = (rows.T @ rows).astype(np.float64) / len(rows)  # within domains
        every, source = np.concatenate(codes), np.concatenate(space.others)
        found, said = np.eye(scatter.shape[0]), np.full(len(own), -1)  # nothing is said yet
        for _ in range(self.rounds + 1):
            away = [space.own.mean(axis=0) - centre for centre in centres]
            for each, known in zip(space.others, codes, strict=True):
                away += [
                    space.own[said == c].mean(axis=0) - each[known == c].mean(axis=0)
                    for c in np.intersect1d(said, known)
                ]
            found = self._directions(scatter, np.stack(away).astype(np.float64))
            said = _nearest_class(source @ found, every, space.own @ found)
        assert space.matrix is not None
        return Aligned(
            (space.own @ found).astype(np.float32),
            tuple((other @ found).astype(np.float32) for other in space.others),
            space.mean,
            space.matrix @ found,
        )

    def _directions(self, scatter: Array, away: Array) -> Array:
        usual = float(np.trace(scatter)) / len(scatter) or 1.0
        between = (
            away.T @ away / max(float(np.square(away).sum()), 1e-12) * float(np.trace(scatter))
        )
        values, vectors = eigh(scatter, between + self.strength * usual * np.eye(len(scatter)))
        count = min(self.n_components, len(values))
        found: Array = vectors[:, ::-1][:, :count] * np.sqrt(usual)
        return found


def principal(own: Array, others: Sequence[Array], most: int) -> Aligned:
    """All domains, each feature by one scale, in their leading principal directions together.

    The means of the domains count once each, so a large one does not hide the others.
    """
    every = np.concatenate([own, *others]).astype(np.float32)
    mean = every.mean(axis=0)
    spread = every.std(axis=0)
    there = spread > _TINY * (1 + np.abs(mean))
    scale = np.where(there, spread, np.inf) * np.sqrt(max(int(there.sum()), 1))
    count = min(len(every), max(N_PICKED, most))
    picked = every[np.linspace(0, len(every) - 1, count).astype(np.int64)]
    rows = (picked - mean) * (1 / scale).astype(np.float32)
    values, vectors = decompose(rows)
    kept = np.argsort(values)[::-1][: min(most, len(values))]
    kept = kept[values[kept] > 1e-7 * max(float(values.max(initial=0.0)), _TINY)]
    axes = (rows.T @ vectors[:, kept].astype(np.float32)) / np.sqrt(values[kept])
    matrix = axes.astype(np.float64) / scale[:, None]

    def moved(z: Array) -> Array:
        return np.asarray(((z - mean) * (1 / scale).astype(np.float32)) @ axes.astype(np.float32))

    return Aligned(
        moved(own), tuple(moved(other) for other in others), mean.astype(np.float64), matrix
    )


def _moments(z: Array) -> tuple[Array, Array, Array]:
    """Mean and deviation of each feature (embedding_dim,), and whether it varies at all."""
    mean, spread = z.mean(axis=0), z.std(axis=0)
    return mean, spread, spread > _TINY * (1 + np.abs(mean))


def _power(matrix: Array, exponent: float) -> Array:
    values, vectors = np.linalg.eigh(matrix)
    raised = np.maximum(values, 1e-12 * max(float(values[-1]), 1e-12)) ** exponent
    return np.asarray((vectors * raised) @ vectors.T)


def _nearest_class(z: Array, codes: Array, others: Array) -> Array:
    """The class whose ridge score is highest (n_others,), of those that occur in `codes`."""
    present, compact = np.unique(codes, return_inverse=True)
    mean = z.mean(axis=0)
    rows, goal = z - mean, np.eye(len(present))[compact]
    gram = rows.T @ rows
    gram += 0.1 * (np.trace(gram) / len(gram) or 1.0) * np.eye(len(gram))
    weight = np.linalg.solve(gram, rows.T @ (goal - goal.mean(axis=0)))
    found: Array = present[((others - mean) @ weight + goal.mean(axis=0)).argmax(axis=1)]
    return found
