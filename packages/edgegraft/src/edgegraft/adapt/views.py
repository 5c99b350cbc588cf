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


@dataclass(frozen=True)
class View:
    """A backbone bound to windows of the target, and their embeddings (n_windows, dim)."""

    backbone: Backbone
    z: Array


def look(backbone: Backbone, names: Sequence[str], windows: Windows, seed: int) -> list[View]:
    """Views by the backbone given, and by those of `names` that can take these windows."""
    kind = windows.spec.kind
    others = [load_backbone(name) for name in names if name != backbone.card.name]
    views = []
    for each in (backbone, *(other for other in others if kind in other.card.takes)):
        try:
            bound = each.fit(windows, seed=seed)
            views.append(View(bound, embed_cached(bound, windows.x)))
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
        z = levelled(view.z, None)
        part = _components(z, seed)
        if groups is not None and explained(part, groups) < NUISANCE:
            part = _components(levelled(view.z, groups), seed)
        parts.append(part)
    return np.hstack(parts)


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


def _components(z: Array, seed: int) -> Array:
    """Principal components over the root of their deviation, total variance one.

    By a random range finder (N. Halko, P.-G. Martinsson, J. Tropp, Finding structure with
    randomness, SIAM Review 2011).
    """
    count = max(1, min(N_COORDINATES, len(z) // 3, z.shape[1]))
    z = z - z.mean(axis=0)
    random = np.random.default_rng(seed)
    start = random.standard_normal((z.shape[1], min(count + 16, *z.shape))).astype(np.float32)
    basis = np.linalg.qr(z @ start)[0]
    for _ in range(3):
        basis = np.linalg.qr(z @ (z.T @ basis))[0]
    left, values, _ = np.linalg.svd(basis.T @ z, full_matrices=False)
    found = (basis @ left[:, :count]) * np.sqrt(values[:count])
    found /= max(float(np.sqrt(np.square(found).sum() / len(found))), _TINY)
    return np.asarray(found, dtype=np.float32)
