"""Where a chunk of samples stands in time: next in line, after a gap, late, or a jump back."""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

from edgegraft_edge.errors import DataError

Place = Literal["next", "gap", "back", "late", "repeat"]
GAP_PERIODS = 1.75  # as in the cleaning of data before training
DRIFT = 0.02
MAX_DRIFT = 0.10
LATE_IN_A_ROW = 8
_MEASURED_SAMPLES = 64
_MEASURED_STEPS = 16


class Clock:
    """Follows the timestamps of a stream of known rate.

    A step of more than 1.75 sample periods is a gap. A chunk from before the last sample is
    late (or a repeat, at the same time) and left out; when it is older than `late_s`, or eight
    in a row are late, the clock itself has gone back and time starts anew from there.

    >>> clock = Clock(rate_hz=10.0, late_s=1.0)
    >>> [clock.place(at_s, 1)[0] for at_s in (0.0, 0.1, 0.1, 0.2, 0.5, 0.4, -9.0)]
    ['next', 'next', 'repeat', 'next', 'gap', 'late', 'back']
    """

    def __init__(self, rate_hz: float, late_s: float):
        self._period = 1.0 / rate_hz
        self._late_s = late_s
        self._started = False
        self._first = self._last = -self._period
        self._count = 1
        self._late_run = 0
        self._steps: deque[tuple[float, bool]] = deque(maxlen=_MEASURED_SAMPLES)
        self._measured = 0

    def place(self, at_s: float | None, count: int) -> tuple[Place, float]:
        """Take a chunk of `count` samples; None for the time of its first continues the last.

        Returns: what it is, and the time of its first sample in seconds.

        Errors: `DataError` for a time that is no number.
        """
        if at_s is None:
            place: Place = "next"
            at_s = self._last + self._period
        elif not math.isfinite(at_s):
            raise DataError.of(
                "time-not-finite", f"a sample at {at_s}", "time is a number", "drop such samples"
            )
        elif not self._started:
            place = "next"
        else:
            place = self._compare(at_s)
            if place in ("late", "repeat"):
                return place, at_s
        at_s = float(at_s)
        self._late_run = 0
        if place == "back":
            self._steps.clear()
            self._measured = 0
        self._started = True
        self._first = at_s
        self._last = at_s + (count - 1) * self._period
        self._count = count
        return place, at_s

    def drift(self) -> float | None:
        """How far the measured rate is off, e.g. 0.05; None until enough was seen since asked.

        The mean step without gaps; when most steps look like gaps and are alike, their median.
        """
        if self._measured < _MEASURED_SAMPLES or len(self._steps) < _MEASURED_STEPS:
            return None
        self._measured = 0
        even = [step for step, is_gap in self._steps if not is_gap]
        if 2 * len(even) > len(self._steps):
            return self._period * len(even) / sum(even) - 1.0
        ordered = sorted(step for step, _ in self._steps)
        low, middle, high = (ordered[len(ordered) * quarter // 4] for quarter in (1, 2, 3))
        return self._period / middle - 1.0 if high < 1.5 * low else None

    def _compare(self, at_s: float) -> Place:
        allowance = DRIFT * (self._count - 1)
        step = (at_s - self._last) / self._period
        # A millionth, as times of many digits do not subtract exactly.
        if step <= 1e-6 - allowance:
            self._late_run += 1
            if self._last - at_s > self._late_s or self._late_run > LATE_IN_A_ROW:
                return "back"
            return "repeat" if abs(step) <= 1e-6 else "late"
        is_gap = step > GAP_PERIODS + allowance + 1e-6
        self._steps.append(((at_s - self._first) / self._count, is_gap))  # seconds per sample
        self._measured += self._count
        return "gap" if is_gap else "next"
