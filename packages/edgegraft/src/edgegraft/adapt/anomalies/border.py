"""Where an alarm begins: from the rate of false alarms that a user allows.

A rate is a share of normal windows ("0.01", "1%") or a number per time ("1/day", "2/week"). For a
number per time, windows that overlap are not counted one by one: the highest score in each stretch
of one window's length stands for it, since one disturbance raises all windows that hold it. The
border is the conformal quantile of left-out normal scores (Vovk, Gammerman, Shafer, 2005). Where
alarms are to be rarer than what was seen can show, the tail is taken to be exponential (Pickands
1975, with shape 0), and the border is marked as extrapolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgegraft.tasks.anomaly import ANOMALY
from edgegraft_edge.alarms import FalseAlarms
from edgegraft_edge.errors import OptionError
from edgegraft_edge.heads import LinearHead
from edgegraft_edge.signal import Array, Windows, WindowSpec

_SURE = float(np.log(19.0))  # log odds of 95 to 5


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


def border(held: Array, allowed: FalseAlarms, windows: Windows | None = None) -> Border:
    """The border for scores of left-out normal windows.

    Args:
        held: (n_windows,)
        windows: whose scores they are, of a series; without them only shares can be asked for.

    Errors: `OptionError` ``false-alarms`` for a number per time of windows without a clock.

    >>> found = border(np.arange(99.0), FalseAlarms(share=0.1))
    >>> found.score, found.extrapolated
    (89.0, False)
    """
    held = np.asarray(held, dtype=np.float64)
    if allowed.per_s is None:
        share, scores = float(allowed.share or 0.0), held
    else:
        if windows is None or not isinstance(windows.spec, WindowSpec):
            raise OptionError.of(
                "false-alarms",
                f"{86_400 * allowed.per_s:g} false alarms a day",
                "such windows follow no clock",
                "a share of windows, such as 0.01",
            )
        scores = highest(held, windows)
        share = allowed.p(windows.spec.length_s)
    score, beyond = quantile(scores, share)
    return Border(score, float(np.median(held)), float((held > score).mean()), beyond)


def alarm_head(found: Border, classes: Sequence[str]) -> LinearHead:
    """Probability one half at the border, 5 % at what is usual."""
    slope = _SURE / max(found.score - found.usual, 0.02 * abs(found.score) + 1e-6)
    sign = np.array([1.0 if name == ANOMALY else -1.0 for name in classes]) / 2
    weight = (slope * sign)[None, :].astype(np.float32)
    return LinearHead(weight, (-slope * found.score * sign).astype(np.float32))


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
