"""Anomalies as ranges of samples: precision, recall and F1 of ranges, delay, false alarms.

A range is (first, last), both inclusive positions of samples. Point-wise precision and recall ask
how many samples agree; these ask how well each anomaly was met as a whole (Tatbul and others,
"Precision and Recall for Time Series", NeurIPS 2018). Nothing here adjusts points: an anomaly of
which one sample was found counts by that sample only, unless `existence` says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.signal import Array

Bias = Literal["flat", "front", "middle", "back"]
BIASES: tuple[Bias, ...] = ("flat", "front", "middle", "back")
DAY_S = 86_400.0


class Range(NamedTuple):
    """A run of samples, both ends inclusive.

    >>> Range(3, 5).length
    3
    """

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


def ranges(flags: Array) -> tuple[Range, ...]:
    """The runs of true values, in order of time.

    >>> ranges(np.array([0, 1, 1, 0, 1]))
    (Range(first=1, last=2), Range(first=4, last=4))
    """
    edges = np.flatnonzero(np.diff(_flags(flags).astype(np.int8), prepend=0, append=0))
    return tuple(Range(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True))


def flags(found: Sequence[tuple[int, int]], n_timepoints: int) -> Array:
    """The inverse of `ranges`: bool (n_timepoints,), true inside each range.

    >>> flags([(1, 2)], 4).tolist()
    [False, True, True, False]
    """
    steps = np.zeros(n_timepoints + 1, dtype=np.int64)
    for first, last in found:
        steps[max(first, 0)] += 1
        steps[min(last + 1, n_timepoints)] -= 1
    return np.asarray(np.cumsum(steps[:-1]) > 0)


class RangeScore(NamedTuple):
    """Precision, recall and their harmonic mean, each 0 to 1; NaN where there is no anomaly."""

    precision: float
    recall: float
    f1: float


def range_score(
    found: Array,
    truth: Array,
    *,
    existence: float = 0.2,
    bias: Bias = "flat",
    cardinality: bool = True,
) -> RangeScore:
    """How well found ranges meet the true ones.

    Args:
        found: bool (n_timepoints,), or ranges.
        truth: bool (n_timepoints,), or ranges.
        existence: share of recall that is given for an anomaly that was met at all (alpha).
        bias: which part of an anomaly weighs most in recall; precision is always flat.
        cardinality: divide what an anomaly earns by the number of ranges that it was met by.

    Nothing found scores 0; without any true anomaly everything is NaN.

    Errors: `OptionError` ``range-option``, `DataError` ``flags-shape``.

    >>> range_score(np.array([0, 1, 1, 0]), np.array([0, 1, 1, 0])).f1
    1.0
    >>> range_score(np.array([0, 1, 0, 0]), np.array([1, 1, 1, 1]), existence=0.0).recall
    0.25
    """
    if not 0.0 <= existence <= 1.0 or bias not in BIASES:
        raise OptionError.of(
            "range-option",
            f"existence={existence!r}, bias={bias!r}",
            "existence is a share of 0 to 1 and bias is " + ", ".join(BIASES),
            "existence=0.2, bias='flat'",
        )
    _same_length(found, truth)
    guessed, true = _ranges(found), _ranges(truth)
    if not true:
        return RangeScore(np.nan, np.nan, np.nan)
    if not guessed:
        return RangeScore(0.0, 0.0, 0.0)
    recall = existence * _met(true, guessed) + (1 - existence) * _overlap(
        true, guessed, bias, cardinality
    )
    precision = _overlap(guessed, true, "flat", cardinality)
    both = precision + recall
    return RangeScore(precision, recall, 2 * precision * recall / both if both else 0.0)


def range_f1(found: Array, truth: Array, *, existence: float = 0.2) -> float:
    """F1 of ranges, see `range_score`.

    >>> range_f1(np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0]))
    0.8
    """
    return range_score(found, truth, existence=existence).f1


class Delays(NamedTuple):
    """How soon anomalies were found.

    Attributes:
        found: how many of them were met at all.
        total: how many there are.
        mean_s: mean seconds from the beginning of an anomaly to the first alarm inside it, over
            those that were met; NaN when none was.
        each_s: per anomaly, NaN where it was missed.
    """

    found: int
    total: int
    mean_s: float
    each_s: tuple[float, ...]


def detection_delay(found: Array, truth: Array, *, rate_hz: float) -> Delays:
    """How long after its beginning each true anomaly was met.

    Args:
        found: bool (n_timepoints,), alarms.
        truth: bool (n_timepoints,), or ranges.
        rate_hz: samples a second.

    >>> detection_delay(np.array([0, 0, 1, 0]), np.array([0, 1, 1, 1]), rate_hz=2.0).mean_s
    0.5
    """
    _same_length(found, truth)
    alarms = np.flatnonzero(_flags(found))
    each: list[float] = []
    for first, last in _ranges(truth):
        place = int(np.searchsorted(alarms, first))
        met = place < len(alarms) and alarms[place] <= last
        each.append((int(alarms[place]) - first) / rate_hz if met else float("nan"))
    seen = [delay for delay in each if delay == delay]
    mean = float(np.mean(seen)) if seen else float("nan")
    return Delays(len(seen), len(each), mean, tuple(each))


def false_alarms_per_day(found: Array, truth: Array, *, rate_hz: float) -> float:
    """Found ranges that meet no true one, for each day of normal samples.

    >>> false_alarms_per_day(np.array([1, 0, 0, 1]), np.array([0, 0, 1, 1]), rate_hz=2 / 86400)
    1.0
    """
    _same_length(found, truth)
    true = _ranges(truth)
    false = sum(not _meets(one, true) for one in _ranges(found))
    normal = len(np.asarray(found)) - sum(one.length for one in true)
    days = normal / rate_hz / DAY_S
    return false / days if days > 0 else float("nan")


def _met(of: Sequence[Range], by: Sequence[Range]) -> float:
    return sum(_meets(one, by) for one in of) / len(of)


def _meets(one: Range, others: Sequence[Range]) -> bool:
    lo, hi = _between(one, others)
    return hi > lo


def _between(one: Range, others: Sequence[Range]) -> tuple[int, int]:
    """Which of the others, in order of time, overlap one."""
    lasts, firsts = [r.last for r in others], [r.first for r in others]
    lo = int(np.searchsorted(lasts, one.first, side="left"))
    return lo, int(np.searchsorted(firsts, one.last, side="right"))


def _overlap(of: Sequence[Range], by: Sequence[Range], bias: Bias, cardinality: bool) -> float:
    """Mean share of each range that the others cover."""
    lasts, firsts = np.array([r.last for r in by]), np.array([r.first for r in by])
    lows = np.searchsorted(lasts, [r.first for r in of], side="left")
    highs = np.searchsorted(firsts, [r.last for r in of], side="right")
    total = 0.0
    for one, lo, hi in zip(of, lows, highs, strict=True):
        covered = sum(
            _weight(max(one.first, int(a)), min(one.last, int(b)), one, bias)
            for a, b in zip(firsts[lo:hi], lasts[lo:hi], strict=True)
        )
        share = covered / _weight(one.first, one.last, one, bias)
        total += share / (hi - lo) if cardinality and hi - lo > 1 else share
    return total / len(of)


def _weight(first: int, last: int, whole: Range, bias: Bias) -> float:
    """Sum of the weights of samples first..last of a range."""
    if bias == "flat":
        return float(last - first + 1)
    place = np.arange(first - whole.first, last - whole.first + 1)
    if bias == "front":
        return float((whole.length - place).sum())
    if bias == "back":
        return float((place + 1).sum())
    return float(np.minimum(place + 1, whole.length - place).sum())


def _flags(values: Array) -> Array:
    array = np.asarray(values)
    if array.ndim != 1 or (array.dtype != bool and not np.isin(array, (0, 1)).all()):
        raise DataError.of(
            "flags-shape",
            f"{array.dtype} of shape {array.shape}",
            "flags are one true or false value for each sample",
            "bool (n_timepoints,)",
        )
    return array.astype(bool)


def _ranges(values: Array | Sequence[tuple[int, int]]) -> tuple[Range, ...]:
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 2:
        return tuple(sorted(Range(int(a), int(b)) for a, b in array))
    return ranges(array)


def _same_length(found: Array, truth: Array) -> None:
    one, other = np.asarray(found), np.asarray(truth)
    if one.ndim == other.ndim == 1 and len(one) != len(other):
        raise DataError.of(
            "flags-shape",
            f"{len(one)} found and {len(other)} true samples",
            "each sample has one flag of each kind",
            "flags of the same samples",
        )
