"""Several experts of what is normal in a series, and their joint grade.

`Departures` is learned from normal windows, is bound to their channels and length, and gives one
number for a window: the mean grade of its experts (see
:mod:`edgegraft.adapt.anomalies.grade`). It says how much of that number each channel and each
time point makes up, and can be re-centred on another machine of the same kind from a few windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgegraft.adapt.anomalies.departure import LEARN, Detector
from edgegraft.adapt.anomalies.grade import Grades
from edgegraft.adapt.anomalies.series_view import Scaling, View
from edgegraft.zoo.backbone import BackboneCard, shipped_card
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Windows

DEFAULT = ("pca", "neighbours", "density", "spectral", "forecast")
Parts = Sequence[tuple[Array, Array]]
_PULL = 5  # windows for which the fleet counts when a new device is centred


@dataclass(frozen=True, eq=False)
class Departures:
    """A bound backbone whose embedding is one number, the joint grade of a window.

    Attributes:
        scaling: of the channels.
        n_timepoints: of a window.
        names: of the experts.
        detectors: one for each expert.
        usual: view -> mean features (n_channels, n_features) of normal windows.
        grades: that make scores of different experts comparable.
        weights: of the experts, any positive numbers.
    """

    scaling: Scaling
    n_timepoints: int
    names: tuple[str, ...]
    detectors: tuple[Detector, ...]
    usual: dict[str, Array]
    grades: Grades
    weights: tuple[float, ...]

    @property
    def card(self) -> BackboneCard:
        return shipped_card("raw")

    def fit(self, windows: Windows, *, seed: int) -> Departures:
        """It is bound already."""
        return self

    def scores(self, x: Array) -> Array:
        """What each expert says of raw windows, (n_windows, n_experts)."""
        seen = views(self.scaling.apply(x), self.names)
        return _scores(self.names, self.detectors, seen)

    def embed(self, x: Array) -> Array:
        """Joint grades float32 (n_windows, 1)."""
        return joint(self.grades.apply(self.scores(x)), self.weights)[:, None]

    def program(self, *shape: int) -> Program:
        """The same for the device."""
        draft = Draft()
        z = draft.call(self.scaling.program())
        seen: dict[str, str] = {}
        scores = []
        for name, detector in zip(self.names, self.detectors, strict=True):
            view = LEARN[name][0]
            if view not in seen:
                seen[view] = draft.call(View(view, self.n_timepoints).program(), z)
            scores.append(draft.call(detector.program(), seen[view]))
        joined = draft.add("concat", *scores, axis=1) if len(scores) > 1 else scores[0]
        return draft.finish(draft.call(self.grades.program(self.weights), joined))

    def contributions(self, x: Array) -> Array:
        """How much each channel and time point adds to the joint grade.

        Returns: float32 (n_windows, n_channels, n_timepoints), >= 0; a window's sum is its grade.
        """
        z = self.scaling.apply(x)
        seen = views(z, self.names)
        scores = _scores(self.names, self.detectors, seen)
        share = np.asarray(self.weights) / np.sum(self.weights)
        graded = self.grades.apply(scores) * share
        found = np.zeros(z.shape)
        for name, detector, grade in zip(self.names, self.detectors, graded.T, strict=True):
            view = LEARN[name][0]
            parts = detector.shares(seen[view])
            total = parts.sum(axis=(1, 2), keepdims=True)
            parts = parts / np.maximum(total, 1e-12) * grade[:, None, None]
            found += parts @ View(view, self.n_timepoints).spread
        return np.asarray(found, dtype=np.float32)

    def recentred(self, x: Array) -> Departures:
        """The same model around another machine of the kind.

        Args:
            x: windows of its beginning, taken as normal (n_windows, n_channels, n_timepoints).

        Location and scale of each channel are estimated again, the scale pulled to the fleet's;
        then the centre of every expert moves with the mean of its features.
        """
        return _recentred(self, x, self.scaling.toward(Scaling.of(x), len(x), _PULL))


def views(z: Array, names: Sequence[str]) -> dict[str, Array]:
    """The views that these experts take of scaled windows, by name."""
    return {
        view: View(view, z.shape[2]).features(z)
        for view in dict.fromkeys(LEARN[name][0] for name in names)
    }


def joint(grades: Array, weights: Sequence[float]) -> Array:
    """Weighted mean of grades (n_windows, n_experts) -> (n_windows,)."""
    share = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    return np.asarray(grades @ share, dtype=np.float32)


def learn(
    x: Array,
    names: Sequence[str],
    parts: Parts,
    *,
    most: int = 300,
    seed: int = 0,
    scaling: Scaling | None = None,
) -> tuple[Departures, Array]:
    """Experts of all windows, graded by what each says of windows that it was not learned from.

    Args:
        x: normal windows (n_windows, n_channels, n_timepoints), finite.
        parts: positions of a part and of what may teach beside it; see `time_blocks`.
        most: windows that the expert `neighbours` remembers.
        scaling: of the channels, where it is known already.

    Returns: the model with even weights, and left-out scores (n_windows, n_experts), NaN where a
    window was in no part.
    """
    scaling = scaling or Scaling.of(x)
    seen = views(scaling.apply(x), names)
    held = left_out(seen, names, parts, most=most, seed=seed)
    detectors = tuple(_taught(name, seen, most, seed) for name in names)
    usual = {view: features.mean(axis=0) for view, features in seen.items()}
    grades = Grades.of(held[np.isfinite(held).all(axis=1)])
    even = (1.0,) * len(names)
    model = Departures(scaling, x.shape[2], tuple(names), detectors, usual, grades, even)
    return model, held


def left_out(
    seen: dict[str, Array], names: Sequence[str], parts: Parts, *, most: int = 300, seed: int = 0
) -> Array:
    """Scores (n_windows, n_experts) of the windows of each part by experts of the rest."""
    held = np.full((len(next(iter(seen.values()))), len(names)), np.nan)
    for part, rest in parts:
        fewer = {view: features[rest] for view, features in seen.items()}
        asked = {view: features[part] for view, features in seen.items()}
        detectors = [_taught(name, fewer, most, seed) for name in names]
        held[part] = _scores(names, detectors, asked)
    return held


def learn_fleet(
    machines: Sequence[Array],
    names: Sequence[str],
    *,
    n_first: int,
    own: Array | None = None,
    most: int = 300,
    seed: int = 0,
) -> tuple[Departures, Array]:
    """One model of several machines of a kind, to be re-centred on another one.

    Each machine is brought to its own location and scale, so that the experts learn how such
    machines move and not how they differ. Grades come from whole machines left out, each centred
    on its first `n_first` windows and judged by all later ones, as the new device will be.

    Args:
        machines: normal windows of each (n_windows, n_channels, n_timepoints), in order of time.
        own: windows of the new device, to learn from like those of another machine.

    Returns: as `learn`, for the later windows of every machine.
    """
    everyone = list(range(len(machines)))
    held = []
    for gone in everyone if len(everyone) > 1 else ():
        model = _pooled([machines[i] for i in everyone if i != gone], names, most, seed)
        first = min(n_first, len(machines[gone]) // 2)
        model = model.recentred(machines[gone][:first])
        held.append(model.scores(machines[gone][first:]))
    if not held:  # one machine: its own stretches
        n = len(machines[0])
        parts = [(p, np.setdiff1d(np.arange(n), p)) for p in np.array_split(np.arange(n), 5)]
        return learn(machines[0], names, parts, most=most, seed=seed)
    scores = np.concatenate(held)
    model = _pooled([*machines, *([] if own is None else [own])], names, most, seed)
    return replace(model, grades=Grades.of(scores)), scores


def _pooled(machines: Sequence[Array], names: Sequence[str], most: int, seed: int) -> Departures:
    """Experts of all machines, each at its own location and scale; grades are still empty."""
    own = [Scaling.of(x) for x in machines]
    seen = [views(scaling.apply(x), names) for scaling, x in zip(own, machines, strict=True)]
    usual = {view: np.mean([s[view].mean(axis=0) for s in seen], axis=0) for view in seen[0]}
    moved = {
        view: np.concatenate([s[view] - s[view].mean(axis=0) + usual[view] for s in seen])
        for view in usual
    }
    detectors = tuple(_taught(name, moved, most, seed) for name in names)
    typical = Scaling(
        np.mean([s.location for s in own], axis=0).astype(np.float32),
        np.exp(np.mean([np.log(s.scale) for s in own], axis=0)).astype(np.float32),
    )
    none = Grades.of(np.zeros((8, len(names))))
    even = (1.0,) * len(names)
    return Departures(typical, machines[0].shape[2], tuple(names), detectors, usual, none, even)


def _recentred(model: Departures, x: Array, scaling: Scaling) -> Departures:
    seen = views(scaling.apply(x), model.names)
    share = len(x) / (len(x) + _PULL)
    by = {view: share * (f.mean(axis=0) - model.usual[view]) for view, f in seen.items()}
    detectors = tuple(
        detector.moved(by[LEARN[name][0]])
        for name, detector in zip(model.names, model.detectors, strict=True)
    )
    usual = {view: model.usual[view] + by[view] for view in by}
    return replace(model, scaling=scaling, detectors=detectors, usual=usual)


def _taught(name: str, seen: dict[str, Array], most: int, seed: int) -> Detector:
    view, teach = LEARN[name]
    return teach(seen[view], most=most, seed=seed)


def _scores(names: Sequence[str], detectors: Sequence[Detector], seen: dict[str, Array]) -> Array:
    pairs = zip(names, detectors, strict=True)
    return np.stack([d.score(seen[LEARN[name][0]]) for name, d in pairs], axis=1)
