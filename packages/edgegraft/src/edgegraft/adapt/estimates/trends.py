"""A window as a few trends: channels fused into components, each seen over several spans.

Sensors of one machine tell one story with independent noise. Fusing them into the few directions
that tell the target, before anything else is done, averages the noise away; what is left is so
small that smooth learners need few machines. Components are read over spans of the window, as a
slope, and in every family of derived channels (``start:*:20``, ``mean:*:50``: the same channels at
the beginning, over longer times), so that drift from the own beginning is among the features.

Source: partial least squares by SIMPLS, de Jong, Chemometrics and Intelligent Laboratory Systems
1993; fusion into a health index before similarity, Wang et al., PHM 2008.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgegraft_edge.derived import parse
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Channel

SHARES = (1 / 6, 1 / 3, 1.0)
"""Spans over which a component is averaged, as shares of the window, back from its end."""
_QUIET = 1e-6
_FAMILIES = ("start", "mean")


@dataclass(frozen=True)
class Layout:
    """Which channel of a window is what.

    Attributes:
        base: places of the measured channels.
        families: for each family of derived channels that has every measured one, its places.
        starts: how many of the first families are beginnings.
        alone: places of all other channels, of which the last value counts.
        centred: whether all is read as drift from the first beginning, which needs one.

    >>> names = ("a", "b", "start:a:20", "start:b:20", "age")
    >>> Layout.of([Channel(n, derive=n if len(n) > 1 else "") for n in names])
    Layout(base=(0, 1), families=((2, 3),), starts=1, alone=(4,), centred=False)
    """

    base: tuple[int, ...]
    families: tuple[tuple[int, ...], ...] = ()
    starts: int = 0
    alone: tuple[int, ...] = ()
    centred: bool = False

    def only(self, kept: Sequence[int]) -> Layout:
        """The same for some of the measured channels, by their position in `base`."""
        families = tuple(tuple(family[n] for n in kept) for family in self.families)
        return replace(self, base=tuple(self.base[n] for n in kept), families=families)

    @property
    def read(self) -> tuple[tuple[int, ...], ...]:
        """The families that are features: all, or without the beginnings where these are taken."""
        return self.families[self.starts :] if self.centred else self.families

    @classmethod
    def of(cls, channels: Sequence[Channel]) -> Layout:
        base = [place for place, channel in enumerate(channels) if not channel.derive]
        found: dict[tuple[str, float], dict[str, int]] = {}
        for place, channel in enumerate(channels):
            if channel.derive:
                of = parse(channel.derive)
                if of.kind in _FAMILIES:
                    found.setdefault((of.kind, of.number), {})[of.source] = place
        names = [channels[place].name for place in base]
        whole = {key: rows for key, rows in found.items() if base and set(names) <= set(rows)}
        order = sorted(whole, key=lambda key: (_FAMILIES.index(key[0]), key[1]))
        families = tuple(tuple(whole[key][name] for name in names) for key in order)
        taken = {*base, *(place for family in families for place in family)}
        alone = tuple(place for place in range(len(channels)) if place not in taken)
        return cls(tuple(base), families, sum(key[0] == "start" for key in order), alone)


@dataclass(frozen=True)
class Seen:
    """What is read of windows before channels are fused; it needs no training.

    Attributes:
        views: float32 (n_windows, n_views, n_base): means over the spans, the slope, the families.
        alone: float32 (n_windows, n_alone).
    """

    views: Array
    alone: Array

    def take(self, index: Array) -> Seen:
        return Seen(self.views[index], self.alone[index])

    @classmethod
    def of(cls, x: Array, layout: Layout) -> Seen:
        """Of windows (n_windows, n_channels, n_timepoints)."""
        x = np.asarray(x, dtype=np.float32)
        base = x[:, list(layout.base)]
        last = base[:, :, -1:]  # taken off first: sums of what is large lose the small change
        spans = np.matmul(base - last, span_weights(x.shape[2]))
        spans[:, :, : len(SHARES)] += last
        families = [x[:, list(family), -1][:, None] for family in layout.read]
        views = np.concatenate([spans.transpose(0, 2, 1), *families], axis=1)
        if layout.centred:
            moved = np.arange(views.shape[1]) != len(SHARES)  # a slope has no level
            views[:, moved] -= x[:, list(layout.families[0]), -1][:, None]
        return cls(views, x[:, list(layout.alone), -1])

    def __len__(self) -> int:
        return len(self.views)


@dataclass(frozen=True)
class Trends:
    """Fused components of windows, as features.

    Attributes:
        layout: which channel is what.
        n_timepoints: of a window.
        level, scale: float32 (n_base,), mean and deviation of the channels' means.
        weight: float32 (n_base, n_components), of the channels in units of `scale`.
        low, high: float32 (n_views, n_base), in units of `scale`, what views are held between: a
            sensor that breaks, or a fault of another kind, must not drown all other channels.
    """

    layout: Layout
    n_timepoints: int
    level: Array
    scale: Array
    weight: Array
    low: Array
    high: Array

    def features(self, seen: Seen) -> Array:
        """Features float32 (n_windows, n_features)."""
        views = np.clip(_scaled(seen.views, self.level, self.scale), self.low, self.high)
        fused = views @ self.weight
        found = fused.reshape(len(seen), -1) @ self._drifts()
        return np.asarray(np.concatenate([found, seen.alone], axis=1), dtype=np.float32)

    def program(self) -> Program:
        """Windows (n_windows, n_channels, n_timepoints) -> features (n_windows, n_features)."""
        draft, last = Draft(), self.n_timepoints
        newest = draft.add("slice", "x", axis=2, start=last - 1, stop=last)
        level = draft.constant(self.level[:, None])
        if self.layout.centred:
            first = draft.add("gather", newest, np.array(self.layout.families[0]), axis=1)
            level = draft.add("add", first, level)
        base = draft.add("gather", "x", np.array(self.layout.base), axis=1)
        views = [draft.add("matmul", draft.add("sub", base, level), span_weights(last))]
        for family in self.layout.read:
            value = draft.add("gather", newest, np.array(family), axis=1)
            views.append(draft.add("sub", value, level))
        joined = draft.add("concat", *views, axis=2) if len(views) > 1 else views[0]
        joined = draft.add("div", joined, self.scale[:, None])
        joined = draft.add("minimum", draft.add("maximum", joined, self.low.T), self.high.T)
        fused = draft.add("matmul", draft.add("transpose", joined, axes=[0, 2, 1]), self.weight)
        n_views = self.n_views
        flat = draft.add("reshape", fused, shape=[n_views * self.weight.shape[1]])
        parts = [draft.add("matmul", flat, self._drifts())]
        if self.layout.alone:
            alone = draft.add("gather", newest, np.array(self.layout.alone), axis=1)
            parts.append(draft.add("reshape", alone, shape=[len(self.layout.alone)]))
        return draft.finish(draft.add("concat", *parts, axis=1) if len(parts) > 1 else parts[0])

    @property
    def n_views(self) -> int:
        return len(SHARES) + 1 + len(self.layout.read)

    def _drifts(self) -> Array:
        """All views as they are, and how far the mean is from each beginning."""
        n_components = self.weight.shape[1]
        views = np.eye(self.n_views)
        first = len(SHARES) + 1
        starts = 0 if self.layout.centred else self.layout.starts
        drifts = [views[len(SHARES) - 1] - views[first + n] for n in range(starts)]
        rows = np.stack([*views, *drifts]) if drifts else views
        return np.kron(rows.T, np.eye(n_components)).astype(np.float32)


def span_weights(n_timepoints: int) -> Array:
    """Float32 (n_timepoints, n_spans + 1): what gives the means of the spans, and the slope.

    The slope is the change from one end of the window to the other on its line of least squares.
    """
    columns = []
    for share in SHARES:
        length = max(1, round(share * n_timepoints))
        columns.append(np.r_[np.zeros(n_timepoints - length), np.full(length, 1 / length)])
    ramp = np.linspace(-0.5, 0.5, n_timepoints) if n_timepoints > 1 else np.zeros(1)
    columns.append(ramp / max(float(ramp @ ramp), _QUIET))
    return np.stack(columns, axis=1).astype(np.float32)


def fit_trends(
    seen: Seen,
    y: Array,
    layout: Layout,
    n_timepoints: int,
    n_components: int,
    *,
    weights: Array | None = None,
) -> Trends:
    """Components of the channels' means that tell the target, and it where it is small.

    A channel that never changes has no part. Beside the target itself, the target cut off at its
    median and lower quartile is told, so that what bends only near the end has its direction too.

    Args:
        seen: of windows of `n_timepoints`.
        y: float (n_windows,).
        weights: importance of each window.

    >>> rng = np.random.default_rng(0)
    >>> y = np.linspace(0, 1, 60)
    >>> x = np.stack([y, -y, 0 * y], axis=1)[:, :, None] + 0.1 * rng.normal(size=(60, 3, 8))
    >>> layout = Layout((0, 1, 2))
    >>> trends = fit_trends(Seen.of(x, layout), y, layout, 8, 1)
    >>> z = trends.program().run(x)
    >>> z.shape, bool(abs(np.corrcoef(z[:, 2], y)[0, 1]) > 0.95)
    ((60, 4), True)
    """
    y = np.asarray(y, dtype=np.float64)
    weights = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    share = weights / weights.sum()
    means = np.asarray(seen.views[:, len(SHARES) - 1], dtype=np.float64)
    level = share @ means
    spread = np.sqrt(share @ (means - level) ** 2)
    live = spread > _QUIET * (1 + np.abs(level))
    scale = np.where(live, spread, 1.0)
    rows = np.where(live, (means - level) / scale, 0.0)
    cuts = (np.inf, *np.quantile(y, (0.5, 0.25)))
    targets = np.stack([np.minimum(y, cut) for cut in cuts], axis=1)
    targets -= share @ targets
    targets /= np.sqrt(share @ targets**2) + _QUIET * (1 + np.abs(y).max())
    weight = directions(rows, targets, n_components, share)
    level, scale = level.astype(np.float32), scale.astype(np.float32)
    views = _scaled(seen.views, level, scale)
    return Trends(
        layout,
        n_timepoints,
        level,
        scale,
        weight.astype(np.float32),
        views.min(axis=0),
        views.max(axis=0),
    )


def _scaled(views: Array, level: Array, scale: Array) -> Array:
    """Views (n_windows, n_views, n_base) less the level, which a slope has not, over the scale."""
    found = views.copy()
    found[:, np.arange(views.shape[1]) != len(SHARES)] -= level
    found /= scale
    return found


def directions(rows: Array, targets: Array, n_components: int, share: Array) -> Array:
    """Directions (n_features, n_components) of greatest covariance with the targets, by SIMPLS.

    Args:
        rows: centred features (n_samples, n_features).
        targets: centred (n_samples, n_targets).
        share: of each sample, summing to one.
    """
    gram = (rows * share[:, None]).T @ rows
    cross = (rows * share[:, None]).T @ targets
    found, basis = [], np.zeros((rows.shape[1], 0))
    for _ in range(min(n_components, rows.shape[1])):
        vectors, sizes, _ = np.linalg.svd(cross, full_matrices=False)
        if sizes[0] < _QUIET:
            break
        direction = vectors[:, 0] * (np.sign(vectors[:, 0].sum()) or 1.0)
        variance = direction @ gram @ direction
        if variance < _QUIET:
            break
        direction = direction / np.sqrt(variance)
        loading = gram @ direction
        loading -= basis @ (basis.T @ loading)
        loading /= np.sqrt(loading @ loading) + 1e-300
        basis = np.column_stack([basis, loading])
        cross = cross - np.outer(loading, loading @ cross)
        found.append(direction)
    if not found:
        return np.zeros((rows.shape[1], 1))
    return np.stack(found, axis=1)
