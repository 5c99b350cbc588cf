"""The score of the Numenta Anomaly Benchmark, computed from scores of samples.

A detection inside a labelled window earns up to one point, more the earlier it comes; only the
earliest of a window counts. One outside costs, less just after a window. A window without any
detection costs too. One threshold serves all series of a corpus and is the one that scores best,
as the benchmark has it. 0 is a detector that never speaks, 100 one that speaks at the first sample
of every window and nowhere else (Lavin and Ahmad, "Evaluating Real-time Anomaly Detection
Algorithms", ICMLA 2015).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgegraft.tasks.ranges import Range
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Array

PROBATION = 0.15
PROBATION_CAP = 750
FAR = 3.0
"""So many lengths of a window after its end a false alarm costs the whole point."""
NEVER = 1.1
"""A threshold that lets nothing through."""


@dataclass(frozen=True)
class Profile:
    """What a detection, a false alarm and a missed window weigh."""

    hit: float = 1.0
    false_alarm: float = 0.11
    miss: float = 1.0


PROFILES: Mapping[str, Profile] = {
    "standard": Profile(),
    "reward_low_FP": Profile(false_alarm=0.22),
    "reward_low_FN": Profile(miss=2.0),
}


@dataclass(frozen=True)
class Scored:
    """A series with the scores that a detector gave it.

    Attributes:
        scores: float (n_timepoints,), higher is more anomalous.
        windows: the labelled windows, (first, last) sample, both inclusive, in order of time.
        name: of the series.

    Errors: `DataError` ``nab-series``.
    """

    scores: Array
    windows: tuple[Range, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        scores = np.asarray(self.scores, dtype=np.float64)
        windows = tuple(Range(int(a), int(b)) for a, b in self.windows)
        ends = [end for window in windows for end in window]
        if (
            scores.ndim != 1
            or not np.isfinite(scores).all()
            or ends != sorted(ends)
            or (ends and (ends[0] < 0 or ends[-1] >= len(scores)))
        ):
            raise DataError.of(
                "nab-series",
                f"{self.name or 'a series'}: scores of shape {scores.shape}, windows {windows}",
                "scores are finite numbers in a row, windows lie apart and inside, in order",
                "check the scores and labels of this series",
            )
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "windows", windows)

    @property
    def probation(self) -> int:
        """Samples at the beginning that are not judged."""
        return min(int(PROBATION * len(self.scores)), PROBATION_CAP)


@dataclass(frozen=True)
class NabScore:
    """A detector's score on a corpus.

    Attributes:
        score: 0 for a detector that never speaks, 100 for a perfect one.
        threshold: a score at or above it is a detection.
        raw: points before they are normalised.
        each: raw points of each series.
    """

    score: float
    threshold: float
    raw: float
    each: tuple[float, ...]


def nab_score(
    corpus: Sequence[Scored], profile: Profile | str = "standard", *, threshold: float | None = None
) -> NabScore:
    """The score of a corpus, at the best threshold for all its series or at a given one.

    Errors: `DataError` ``nab-empty`` for a corpus without a window.

    >>> scores = np.zeros(100)
    >>> scores[60] = 1.0
    >>> nab_score([Scored(scores, (Range(60, 79),))]).score
    100.0
    >>> scores[[60, 99]] = 0.0, 1.0  # missed, and a false alarm after one length
    >>> round(nab_score([Scored(scores, (Range(60, 79),))], threshold=1.0).raw, 3)
    -1.109
    """
    weights = PROFILES[profile] if isinstance(profile, str) else profile
    n_windows = sum(len(series.windows) for series in corpus)
    if n_windows == 0:
        raise DataError.of(
            "nab-empty", f"{len(corpus)} series", "none has a labelled window", "labelled series"
        )
    changes = [_changes(series, weights) for series in corpus]
    nothing = [_nothing(series, weights) for series in corpus]
    if threshold is None:
        threshold = _best(
            np.concatenate([at for at, _ in changes]),
            np.concatenate([change for _, change in changes]),
            sum(nothing),
        )
    each = tuple(
        start + float(change[at >= threshold].sum())
        for start, (at, change) in zip(nothing, changes, strict=True)
    )
    raw, worst, best = sum(each), -weights.miss * n_windows, weights.hit * n_windows
    return NabScore(100.0 * (raw - worst) / (best - worst), threshold, raw, each)


def nab_scores(corpus: Sequence[Scored]) -> dict[str, NabScore]:
    """The score under each profile, each at its own best threshold."""
    return {name: nab_score(corpus, name) for name in PROFILES}


def position_weight(place: Array) -> Array:
    """The worth of a detection at a place relative to the end of a window: -1 is its first sample,
    0 its end, 1 one length later.

    >>> position_weight(np.array([-1.0, 0.0, 3.0])).round(3).tolist()
    [0.987, 0.0, -1.0]
    """
    place = np.asarray(place, dtype=np.float64)
    return np.where(place >= FAR, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(place, FAR))) - 1.0)


def _changes(series: Scored, weights: Profile) -> tuple[Array, Array]:
    """Scores of the judged samples, falling, and what the points change by as each is let
    through."""
    n = len(series.scores)
    worth = np.full(n, -weights.false_alarm)
    number = np.full(n, -1)
    top = float(position_weight(np.array([-1.0]))[0])
    for index, (first, last) in enumerate(series.windows):
        length = last - first + 1
        inside = np.arange(first, last + 1)
        worth[inside] = position_weight((inside - last - 1) / length) * weights.hit / top
        number[inside] = index
        after = np.arange(last + 1, n)
        if len(after):
            place = (after - last) / max(length - 1, 1)
            worth[after] = position_weight(place) * weights.false_alarm
    judged = np.arange(n) >= series.probation
    order = np.flatnonzero(judged)[np.argsort(-series.scores[judged], kind="stable")]
    change = worth[order]
    for index in range(len(series.windows)):
        own = np.flatnonzero(number[order] == index)
        best = np.maximum.accumulate(np.append(-weights.miss, change[own]))
        change[own] = np.diff(best)
    return series.scores[order], change


def _nothing(series: Scored, weights: Profile) -> float:
    """Points of a series of which nothing is let through."""
    return -weights.miss * sum(window.last >= series.probation for window in series.windows)


def _best(at: Array, change: Array, nothing: float) -> float:
    order = np.argsort(-at, kind="stable")
    points, ordered = nothing + np.cumsum(change[order]), at[order]
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    best = int(ends[np.argmax(points[ends])])
    return float(ordered[best]) if points[best] > nothing else max(NEVER, float(ordered[0]) + 0.1)
