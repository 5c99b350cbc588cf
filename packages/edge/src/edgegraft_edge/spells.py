"""Anomalies as spells: an alarm when one begins, its end with how long and how bad it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from edgegraft_edge.decision import Decider, Decision, Event
from edgegraft_edge.signal import Array

ANOMALY = "anomaly"
_SURE = math.log(19.0)
_MOST = 1e-6


class Spells(Decider):
    """Judges windows that are normal or an anomaly; batch and stream go through this one place.

    The window with which an anomaly begins gives an ``alarm``; the one with which it is over an
    ``end``, whose label is what follows, ``started_s`` when the alarm was and ``severity`` the
    highest of all its windows. Everything else is as in `Decider`, its options too: `smooth` and
    `hold_off_s` keep a spell from falling apart.

    Severity is 0 at the border of an alarm and 1 as far beyond it as usual windows lie below: the
    log odds of the model, in units of log 19.

    >>> import numpy as np
    >>> spells = Spells(Decision(), ("anomaly", "ok"))
    >>> for at_s, p in enumerate([0.05, 0.95, 0.9, 0.1]):
    ...     event = spells.step(float(at_s), np.array([p, 1 - p]))
    ...     if event is not None:
    ...         print(event.kind, event.label, event.severity, event.started_s)
    change ok 0.0 None
    alarm anomaly 1.0 None
    end ok 1.0 1.0
    """

    def __init__(self, decision: Decision, classes: Sequence[str]):
        super().__init__(decision, classes)
        self._began_s: float | None = None
        self._worst = 0.0

    def restart(self) -> None:
        super().restart()
        self._began_s, self._worst = None, 0.0

    def step(self, at_s: float, probabilities: Array | None) -> Event | None:
        event = super().step(at_s, probabilities)
        severity = 0.0
        if self._said is not None and self._said[0] == ANOMALY and self._recent:
            place = self.classes.index(ANOMALY)
            severity = severity_of(sum(row[place] for row in self._recent) / len(self._recent))
            self._worst = max(self._worst, severity)
        if event is None:
            return None
        if event.kind == "window":
            return replace(event, severity=severity, started_s=self._began_s)
        if event.label == ANOMALY:
            self._began_s = at_s
            return replace(event, kind="alarm", severity=severity)
        began_s, worst = self._began_s, self._worst
        self._began_s, self._worst = None, 0.0
        if began_s is None:
            return event
        return replace(event, kind="end", severity=worst, started_s=began_s)


def severity_of(probability: float) -> float:
    """How far beyond the border, from the probability of an anomaly.

    >>> severity_of(0.5), severity_of(0.95), severity_of(0.01)
    (0.0, 1.0, 0.0)
    """
    kept = min(max(float(probability), _MOST), 1 - _MOST)
    return round(max(math.log(kept / (1 - kept)) / _SURE, 0.0), 3)
