"""Several looks at the same windows, and coordinates in which near means alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.cache import embed_cached
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Array, Windows

N_COORDINATES = 32
"""Of each view: distances in more dimensions differ by less and less."""
NUISANCE = 0.5
"""Groups that explain more of the variance than windows within them are what was recorded (a
bearing, a fault), not who wore the sensor; their level is left alone."""
LEAST_GROUP = 20
"""A group of fewer windows does not know its own level."""
_TINY = 1e-6


MOST_NUMBERS = 1 << 28
"""Embeddings of more numbers (1 GiB) are not held, but computed where they are needed."""
_BATCH = 4096
_SOME = 600


@dataclass(frozen=True)
class View:
    """A backbone bound to windows of the target, and their embeddings.

    Attributes:
        z: float32 (n_windows, dim); of no windows where all would be too much to hold.
        x: the windows after the steps, for embeddings that are not held.
    """

    backbone: Backbone
    z: Array
    x: Array | None = None

    def rows(self, index: Array) -> Array:
        """Embeddings of some windows (n_index, dim)."""
        if len(self.z) or self.x is None:
            return np.asarray(self.z[index])
        return self.backbone.embed(self.x[index])


def look(backbone: Backbone, names: Sequence[str], windows: Windows, seed: int) -> list[View]:
    """Views by the backbone given, and by those of `names` that can take these windows."""
    kind = windows.spec.kind
    others = [load_backbone(name) for name in names if name != backbone.card.name]
    views = []
    for each in (backbone, *(other for other in others if kind in other.card.takes)):
        try:
            bound = each.fit(windows, seed=seed)
            width = bound.embed(windows.x[:1]).shape[1]
            held = windows.x if len(windows) * width <= MOST_NUMBERS else windows.x[:0]
            views.append(View(bound, embed_cached(bound, held), windows.x))
        except DataError:  # MiniRocket, say, needs nine timepoints
            if each is backbone:
                raise
    return views


def coordinates(views: Sequence[View], groups: Array | None, seed: int) -> Array:
    """Float32 (n_windows, at most 32 for each view), every view with the same total variance.

    Features at unit deviation, groups each at their own level and deviation where that is a
    nuisance (see `NUISANCE`), principal components divided by the root of their deviation.

    >>> from edgegraft.testing.samples import sample_windows
    >>> windows = sample_windows()
    >>> views = look(load_backbone("statistics"), (), windows, 0)
    >>> z = coordinates(views, windows.groups, 0)
    >>> len(z) == len(windows), round(float(z.var(axis=0).sum()), 3)
    (True, 1.0)
    """
    parts = []
    for view in views:
        if view.x is not None and not len(view.z):
            parts.append(_in_batches(view, groups, seed))
            continue
        nuisance = groups is not None and _is_nuisance(view.z, groups, seed)
        part = _components(levelled(view.z, groups if nuisance else None), seed)
        parts.append(part)
    return np.hstack(parts)


def _is_nuisance(z: Array, groups: Array, seed: int) -> bool:
    """Whether groups explain less than `NUISANCE` of some windows' coordinates."""
    some = np.sort(np.random.default_rng(seed).permutation(len(z))[:_SOME])
    part = _components(levelled(z[some], None), seed)
    return explained(part, groups[some]) < NUISANCE


def levelled(z: Array, groups: Array | None) -> Array:
    """Features at mean zero and unit deviation, over all windows or in each group by itself.

    Deviations of a group are drawn a little toward those of all windows, so that what stands
    still in one group is not blown up; groups smaller than `LEAST_GROUP` go by all windows.
    Source of the idea: Y. Li and others, Revisiting batch normalization for practical domain
    adaptation, 2016.
    """
    mean, spread = z.mean(axis=0), z.std(axis=0)
    still = spread <= _TINY * (1 + np.abs(mean))
    whole: Array = ((z - mean) / np.where(still, np.inf, spread)).astype(np.float32)
    if groups is None:
        return whole
    for group in np.unique(groups[groups != ""]):
        rows = np.flatnonzero(groups == group)
        if len(rows) >= LEAST_GROUP:
            own = whole[rows]
            whole[rows] = (own - own.mean(axis=0)) / (0.9 * own.std(axis=0) + 0.1)
    return whole


def explained(z: Array, groups: Array) -> float:
    """Share of the variance of z (n_windows, dim) that lies between groups, 0 to 1."""
    z = z - z.mean(axis=0)
    between = sum(
        (groups == group).sum() * np.square(z[groups == group].mean(axis=0)).sum()
        for group in np.unique(groups)
    )
    return float(between / max(float(np.square(z).sum()), _TINY))


def _in_batches(view: View, groups: Array | None, seed: int) -> Array:
    """Coordinates of windows whose embeddings are not held.

    Axes come from a sample; groups are brought to their level along these axes.
    """
    assert view.x is not None
    n_windows = len(view.x)
    z = view.rows(np.sort(np.random.default_rng(seed).permutation(n_windows)[:_BATCH]))
    mean, spread = z.mean(axis=0), z.std(axis=0)
    scale = np.where(spread > _TINY * (1 + np.abs(mean)), spread, np.inf).astype(np.float32)
    axes = _axes((z - mean) / scale, seed)
    batches = (np.arange(i, min(i + _BATCH, n_windows)) for i in range(0, n_windows, _BATCH))
    part = np.concatenate([((view.rows(batch) - mean) / scale) @ axes for batch in batches])
    if groups is not None and explained(part, groups) < NUISANCE:
        part = levelled(part, groups) * part.std(axis=0)
    return _at_unit(part)


def _components(z: Array, seed: int) -> Array:
    """Principal components over the root of their deviation, total variance one."""
    z = z - z.mean(axis=0)
    return _at_unit(z @ _axes(z, seed))


def _axes(z: Array, seed: int) -> Array:
    """Principal axes over the root of the deviation along them (dim, at most 32).

    By a random range finder (N. Halko, P.-G. Martinsson, J. Tropp, Finding structure with
    randomness, SIAM Review 2011).
    """
    count = max(1, min(N_COORDINATES, len(z) // 3, z.shape[1]))
    start = np.random.default_rng(seed).standard_normal((z.shape[1], min(count + 16, *z.shape)))
    basis = np.linalg.qr(z @ start.astype(z.dtype))[0]
    for _ in range(3):
        basis = np.linalg.qr(z @ (z.T @ basis))[0]
    _, values, axes = np.linalg.svd(basis.T @ z, full_matrices=False)
    return np.asarray(axes[:count].T / np.sqrt(np.maximum(values[:count], _TINY)))


def _at_unit(z: Array) -> Array:
    z = z - z.mean(axis=0)
    size = max(float(np.sqrt(np.square(z).sum() / len(z))), _TINY)
    return np.asarray(z / size, dtype=np.float32)
