"""What values a program takes on: which windows are looked at, and the range that int8 covers.

A range that holds every value ever seen wastes steps on a few outliers; one that cuts too much
loses peaks. `min-max` keeps everything, `percentile` cuts a fixed share of each tail, `mse`
takes the cut with the least squared error, by histograms: memory does not grow with windows.

The default was chosen on the training people of UCI HAR (bench/int8.py --development).

Sources: the squared error of a clipped quantiser, Banner et al., NeurIPS 2019; histograms of
values, Migacz, 8-bit Inference with TensorRT, 2017.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edgegraft_edge.errors import OptionError, Problem, nearest
from edgegraft_edge.integer import HIGHEST, LOWEST
from edgegraft_edge.primitives import PRIMITIVES
from edgegraft_edge.program import INPUT, Program
from edgegraft_edge.signal import Array, Windows

Method = Literal["min-max", "percentile", "mse"]
METHODS: tuple[Method, ...] = ("min-max", "percentile", "mse")
_BATCH = 64
_BINS = 2048
_NARROW = 1e-2
"""Of their size: a span below this has too few float32 for so many bins."""
_CUTS = np.linspace(1.0, 0.3, 29)
_SMALLEST_SCALE = 1e-9


@dataclass(frozen=True)
class Quantization:
    """How a program is made 8-bit.

    Errors: `OptionError` with every option that is out of its range.

    >>> Quantization(method="percentile", percentile=99.9).windows
    200
    """

    method: Method = field(
        default="percentile",
        metadata={"help": "how ranges are read: min-max, percentile, or mse (least squared error)"},
    )
    percentile: float = field(
        default=99.99,
        metadata={"help": "share of the values in percent that method percentile keeps"},
    )
    windows: int = field(default=200, metadata={"help": "most calibration windows looked at"})
    least_sqnr_db: float = field(
        default=20.0,
        metadata={
            "help": "signal to noise of the result in decibels below which the loudest "
            "operations stay float"
        },
    )
    integer_only: bool = field(
        default=False,
        metadata={"help": "refuse a program that needs floats once its input is in integers"},
    )

    def __post_init__(self) -> None:
        problems = [
            Problem("option-range", f"{name}={getattr(self, name)}", why, remedy)
            for name, good, why, remedy in (
                ("percentile", 50 < self.percentile <= 100, "it keeps most values", "99.99"),
                ("windows", self.windows >= 1, "a range is read from windows", "200"),
            )
            if not good
        ]
        if self.method not in METHODS:
            problems.append(
                Problem(
                    "option-value",
                    f"method={self.method!r}",
                    "there is none of that name",
                    nearest(str(self.method), METHODS),
                )
            )
        if problems:
            raise OptionError(problems)


@dataclass(frozen=True)
class Range:
    """Lowest and highest of a value over the calibration windows."""

    low: float
    high: float

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    @property
    def parameters(self) -> tuple[float, int]:
        """(scale, zero) of int8 that covers the range and zero.

        >>> Range(0.0, 2.55).parameters
        (0.009999999776482582, -128)
        """
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        scale = float(np.float32(max((high - low) / (HIGHEST - LOWEST), _SMALLEST_SCALE)))
        return scale, int(np.clip(round(LOWEST - low / scale), LOWEST, HIGHEST))


def spread(windows: Windows, count: int, *, seed: int = 0) -> Array:
    """Positions of windows to calibrate with, int64 (at most `count`,), in rising order.

    Classes take turns, and within a class its groups (people, machines) do, so that a few
    windows show as much as they can.

    >>> windows = Windows.of(np.zeros((5, 1, 4)), ["a", "a", "a", "a", "b"])
    >>> len(spread(windows, 2)), "b" in windows.y[spread(windows, 2)]
    (2, True)
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(windows.x))
    classes, groups = (np.unique(v, return_inverse=True)[1] for v in (windows.y, windows.groups))
    pairs = classes * (groups.max(initial=0) + 1) + groups
    within = _turns(pairs[order])  # which of its class and group a window is
    by_class = np.lexsort((within, classes[order]))
    turn = np.empty(len(order), np.int64)
    turn[by_class] = _turns(classes[order][by_class])
    return np.sort(order[np.argsort(turn, kind="stable")[:count]])


def evenly(x: Array, count: int) -> Array:
    """At most so many of the windows x (n_windows, ...), from all over.

    >>> evenly(np.arange(10), 4).tolist()
    [0, 3, 6, 9]
    """
    if len(x) <= count:
        return x
    return np.asarray(x[np.linspace(0, len(x) - 1, count).round().astype(int)])


def _turns(labels: Array) -> Array:
    """For each label, how often it came before."""
    found, seen = np.empty(len(labels), np.int64), dict[int, int]()
    for index, label in enumerate(labels.tolist()):
        found[index] = seen.get(label, 0)
        seen[label] = found[index] + 1
    return found


def observed(
    program: Program, x: Array, options: Quantization | None = None
) -> Mapping[str, Range]:
    """The range that int8 should cover, of every value of a program over windows x (n, ...)."""
    options = options or Quantization()
    found: dict[str, Range] = {}
    for name, value in values(program, x):
        low, high = float(value.min()), float(value.max())
        if name in found:
            low, high = min(low, found[name].low), max(high, found[name].high)
        found[name] = Range(low, high)
    if options.method == "min-max":
        return found
    counts = {name: np.zeros(_BINS, np.int64) for name, held in found.items() if held.finite}
    for name, value in values(program, x):
        if name in counts and found[name].high > found[name].low:
            low, high = found[name].low, found[name].high
            narrow = high - low < _NARROW * max(abs(low), abs(high))
            fine = value.astype(np.float64) if narrow else value
            counts[name] += np.histogram(fine, _BINS, (low, high))[0]
    for name, histogram in counts.items():
        if options.method == "mse":
            found[name] = least_error(histogram, found[name])
        else:
            found[name] = within(histogram, found[name], options.percentile)
    return found


def values(program: Program, x: Array) -> Iterator[tuple[str, Array]]:
    """(name, value) of the input and of all operations, some windows at a time."""
    last_use = {name: index for index, op in enumerate(program.ops) for name in op.inputs}
    for first in range(0, len(x), _BATCH):
        held: dict[str, Array] = dict(program.constants)
        held[INPUT] = np.asarray(x[first : first + _BATCH], np.float32)
        yield INPUT, held[INPUT]
        for index, op in enumerate(program.ops):
            with np.errstate(all="ignore"):
                found = PRIMITIVES[op.kind](*(held[n] for n in op.inputs), **op.attrs)
            held[op.output] = found
            yield op.output, found
            for name in set(op.inputs):
                if last_use[name] == index and name not in program.constants:
                    del held[name]


def within(histogram: Array, held: Range, percentile: float) -> Range:
    """The range without the outermost values of both ends.

    Args:
        histogram: int64 (n_bins,) over `held`.

    >>> within(np.array([1, 98, 1]), Range(0.0, 3.0), 98.0)
    Range(low=1.0, high=2.0)
    """
    total = int(histogram.sum())
    if not total:
        return held
    left_out = total * (1 - percentile / 100) / 2
    edges = np.linspace(held.low, held.high, len(histogram) + 1)
    below = np.concatenate([[0], np.cumsum(histogram)])
    low = edges[np.searchsorted(below, left_out + 1e-9, side="right") - 1]
    high = edges[np.searchsorted(below, total - left_out - 1e-9, side="left")]
    return Range(float(low), float(high))


def least_error(histogram: Array, held: Range) -> Range:
    """The range, cut at either end, with the least squared error of the values in `histogram`.

    >>> least_error(np.array([10**6] * 10 + [0] * 989 + [1]), Range(0.0, 1000.0)).high < 1000
    True
    """
    filled = np.flatnonzero(histogram)
    if not len(filled):
        return held
    width = (held.high - held.low) / len(histogram)
    centres, counts = held.low + (filled + 0.5) * width, histogram[filled].astype(np.float64)

    def error(low: float, high: float) -> float:
        scale, zero = Range(low, high).parameters
        steps = np.clip(np.rint(centres / scale) + zero, LOWEST, HIGHEST)
        away = (steps - zero) * scale - centres
        return float((away * away * counts).sum())

    low, high = held.low, held.high
    if high > 0:
        high = min((high * float(cut) for cut in _CUTS), key=lambda edge: error(low, edge))
    if low < 0:
        low = min((low * float(cut) for cut in _CUTS), key=lambda edge: error(edge, high))
    return Range(low, high)
