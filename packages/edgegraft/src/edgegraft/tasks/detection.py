"""How well anomalies are detected in series, in one place.

* `vus_pr`, `volumes`, `auc_pr`: of scores, without a threshold (:mod:`.surface`).
* `range_score`, `range_f1`, `detection_delay`, `false_alarms_per_day`: of alarms
  (:mod:`.ranges`).
* `nab_score`: of scores, with one threshold for a whole corpus (:mod:`.nab_score`).
* `spans`: from scores and a threshold to events with a beginning, an end and a severity.

Point-adjusted F1 is left out on purpose: it calls a whole anomaly found when one sample of it was,
so that random scores look good (Kim and others, AAAI 2022).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edgegraft.tasks.nab_score import PROFILES, NabScore, Profile, Scored, nab_score, nab_scores
from edgegraft.tasks.ranges import (
    Delays,
    Range,
    RangeScore,
    detection_delay,
    false_alarms_per_day,
    flags,
    range_f1,
    range_score,
    ranges,
)
from edgegraft.tasks.surface import Volumes, auc_pr, volumes, vus_pr, window_of
from edgegraft_edge.signal import Array

__all__ = [
    "PROFILES",
    "Delays",
    "NabScore",
    "Profile",
    "Range",
    "RangeScore",
    "Scored",
    "Span",
    "Volumes",
    "auc_pr",
    "detection_delay",
    "false_alarms_per_day",
    "flags",
    "nab_score",
    "nab_scores",
    "range_f1",
    "range_score",
    "ranges",
    "spans",
    "volumes",
    "vus_pr",
    "window_of",
]


class Span(NamedTuple):
    """An event: its first and last sample, inclusive, and the highest score inside."""

    first: int
    last: int
    severity: float


def spans(scores: Array, threshold: float, *, gap: int = 0) -> tuple[Span, ...]:
    """Runs of scores at or above a threshold.

    Args:
        scores: (n_timepoints,)
        threshold: the lowest score that is an alarm.
        gap: runs with at most so many samples between them are one event.

    >>> spans(np.array([0.1, 0.9, 0.2, 0.8, 0.1]), 0.5)
    (Span(first=1, last=1, severity=0.9), Span(first=3, last=3, severity=0.8))
    >>> spans(np.array([0.1, 0.9, 0.2, 0.8, 0.1]), 0.5, gap=1)
    (Span(first=1, last=3, severity=0.9),)
    """
    scores = np.asarray(scores, dtype=np.float64)
    found: list[Span] = []
    for first, last in ranges(scores >= threshold):
        start = found.pop().first if found and first - found[-1].last - 1 <= gap else first
        found.append(Span(start, last, float(scores[start : last + 1].max())))
    return tuple(found)
