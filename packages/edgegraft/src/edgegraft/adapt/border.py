"""Where an alarm begins: from the rate of false alarms that a user allows.

A rate is a share of normal windows ("0.01", "1%") or a number per time ("1/day", "2/week",
"1/hour", "1/30d"). For a number per time, windows that overlap are not counted one by one: the
highest score in each stretch of one window's length stands for it, since one disturbance raises
all windows that hold it. The border is the conformal quantile of left-out normal scores (Vovk,
Gammerman, Shafer, 2005). Where alarms are to be rarer than what was seen can show, the tail is
taken to be exponential (Pickands 1975, with shape 0), and the border is marked as extrapolated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from edgegraft_edge.errors import OptionError
from edgegraft_edge.signal import Array, Windows, WindowSpec

DAY_S = 86_400.0
_UNITS = {
    **dict.fromkeys(("s", "second"), 1.0),
    **dict.fromkeys(("min", "minute"), 60.0),
    **dict.fromkeys(("h", "hour"), 3600.0),
    **dict.fromkeys(("d", "day"), DAY_S),
    "week": 7 * DAY_S,
    "month": 30 * DAY_S,
    "year": 365 * DAY_S,
}
_RATE = re.compile(r"\s*([0-9.]+)\s*(?:/|per\s)\s*([0-9.]*)\s*([a-z]+?)s?\s*")


@dataclass(frozen=True)
class Allowed:
    """False alarms that are allowed: a share of windows, or so many a day.

    >>> Allowed.parse("2/week").per_day, Allowed.parse("1%").share
    (0.2857142857142857, 0.01)
    """

    share: float | None = None
    per_day: float | None = None

    @classmethod
    def parse(cls, text: str | float) -> Allowed:
        """Errors: `OptionError` ``false-alarms`` for what is neither a share nor a rate."""
        found = _parsed(str(text).strip().lower())
        if found is None:
            raise OptionError.of(
                "false-alarms",
                f"false alarms {text!r}",
                "that is neither a share of windows between 0 and 1 nor a number per time",
                "0.01, 1%, 1/day, 2/week or 1/hour",
            )
        return found


@dataclass(frozen=True)
class Border:
    """The score from which on a window is an alarm.

    Attributes:
        score: the border itself.
        usual: median score of normal windows.
        share: of normal windows, how many lie beyond it.
        extrapolated: whether it lies beyond all that was seen.
    """

    score: float
    usual: float
    share: float
    extrapolated: bool


def border(held: Array, allowed: Allowed, windows: Windows | None = None) -> Border:
    """The border for scores of left-out normal windows.

    Args:
        held: (n_windows,)
        windows: whose scores they are, of a series; without them only shares can be asked for.

    Errors: `OptionError` ``false-alarms`` for a number per time of windows without a clock.

    >>> found = border(np.arange(99.0), Allowed(share=0.1))
    >>> found.score, found.extrapolated
    (89.0, False)
    """
    held = np.asarray(held, dtype=np.float64)
    if allowed.per_day is None:
        share, scores = float(allowed.share or 0.0), held
    else:
        if windows is None or not isinstance(windows.spec, WindowSpec):
            raise OptionError.of(
                "false-alarms",
                f"{allowed.per_day:g} false alarms a day",
                "such windows follow no clock",
                "a share of windows, such as 0.01",
            )
        scores = highest(held, windows)
        share = min(1.0, allowed.per_day * windows.spec.length_s / DAY_S)
    score, beyond = quantile(scores, share)
    return Border(score, float(np.median(held)), float((held > score).mean()), beyond)


def highest(scores: Array, windows: Windows) -> Array:
    """The highest score of each stretch of one window's length, recording by recording."""
    length = windows.series.n_timepoints
    cell = windows.start // length
    order = np.lexsort((cell, windows.recording))
    changes = (np.diff(windows.recording[order]) != 0) | (np.diff(cell[order]) != 0)
    firsts = np.concatenate([[0], 1 + np.flatnonzero(changes)])
    return np.asarray(np.maximum.reduceat(scores[order], firsts))


def quantile(scores: Array, share: float) -> tuple[float, bool]:
    """The score that a share of new normal ones at most exceeds, and whether it is extrapolated.

    >>> score, beyond = quantile(np.random.default_rng(0).exponential(size=500), 1e-4)
    >>> bool(8 < score < 11), beyond
    (True, True)
    """
    ranked = np.sort(np.asarray(scores, dtype=np.float64))
    n = len(ranked)
    place = int(np.ceil((1 - share) * (n + 1))) - 1
    if place < n:
        return float(ranked[max(place, 0)]), False
    tail = max(1, n // 5)
    start = float(ranked[n - tail - 1]) if n > tail else float(ranked[0])
    mean = max(float(ranked[-tail:].mean()) - start, 1e-3 * abs(start), 1e-9)
    beyond = start + mean * np.log(tail / (n + 1) / max(share, 1e-12))
    return float(max(beyond, ranked[-1])), True


def _parsed(text: str) -> Allowed | None:
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        return Allowed(share=share) if 0 < share < 1 else None
    except ValueError:
        pass
    match = _RATE.fullmatch(text)
    if match is None or match[3] not in _UNITS:
        return None
    try:
        number, count = float(match[1]), float(match[2] or 1)
    except ValueError:
        return None
    if number <= 0 or count <= 0:
        return None
    return Allowed(per_day=number * DAY_S / (count * _UNITS[match[3]]))
