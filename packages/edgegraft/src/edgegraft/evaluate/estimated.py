"""How good estimates are: errors with intervals, by group and step, and what intervals hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgegraft.evaluate.bootstrap import intervals
from edgegraft.evaluate.units import Unit, units_of, warnings_of
from edgegraft.tasks.task import Task
from edgegraft_edge.errors import DataError, ModelError
from edgegraft_edge.estimate import POINT, Outputs
from edgegraft_edge.signal import Array, Windows

LEVEL = 0.95
WORST = 5
"""Units that are named as the worst."""
OFF = 0.1
"""How far an interval may hold less than it says before a warning tells so."""


@dataclass(frozen=True)
class Covered:
    """What a central interval holds.

    Attributes:
        nominal: the share that it should hold.
        share: the share that it holds.
        low, high: interval of the share, from the bootstrap over units; NaN with one unit.
        width: its mean width, in the unit of the quantities.
    """

    nominal: float
    share: float
    low: float
    high: float
    width: float


@dataclass(frozen=True)
class EstimateEvaluation:
    """Scores of estimates on windows with known targets.

    Attributes:
        n: windows scored.
        outputs: what is estimated.
        metrics, intervals: by name, the task's; (low, high) at `level`.
        unit: what the bootstrap drew: groups, recordings or, of one recording and of forecasts,
            contiguous blocks of time, since windows beside each other share samples.
        n_units: how many of these there are.
        per_target: by quantity, its `unit`, n, mae, mse, bias and coverage (outermost interval).
        per_step: for each step ahead step, mae, mse and coverage.
        per_group: by group, n, mae, mse and coverage; empty where groups are unknown.
        covered: the central intervals, widest first; empty where the model gives none.
        reliability: by level of the quantiles, the share of truths at it or below.
        worst: the units with the largest mean absolute error: unit, n, mae, bias.
        seconds: time that the predictions took; NaN if not measured.
        warnings: what a reader of the scores must know.
    """

    n: int
    outputs: Outputs
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    unit: Unit
    n_units: int
    per_target: Mapping[str, Mapping[str, Any]]
    per_step: tuple[Mapping[str, float], ...]
    per_group: Mapping[str, Mapping[str, float]]
    covered: tuple[Covered, ...]
    reliability: Mapping[float, float]
    worst: tuple[Mapping[str, Any], ...]
    seconds: float = float("nan")
    level: float = LEVEL
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "n": self.n,
            "outputs": self.outputs.as_dict(),
            "metrics": dict(self.metrics),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "level": self.level,
            "unit": self.unit,
            "n_units": self.n_units,
            "per_target": {name: dict(scores) for name, scores in self.per_target.items()},
            "per_step": [dict(scores) for scores in self.per_step],
            "per_group": {name: dict(scores) for name, scores in self.per_group.items()},
            "covered": [vars(entry) | {} for entry in self.covered],
            "reliability": [
                {"level": level, "share": share} for level, share in self.reliability.items()
            ],
            "worst": [dict(entry) for entry in self.worst],
            "seconds": None if np.isnan(self.seconds) else self.seconds,
            "warnings": list(self.warnings),
        }


def evaluate_estimates(
    table: Array,
    windows: Windows,
    task: Task,
    *,
    seconds: float = float("nan"),
    n_resamples: int = 1000,
    seed: int = 0,
) -> EstimateEvaluation:
    """Score estimates (n_windows, n_columns) that are there already, e.g. out of fold.

    Args:
        windows: with float targets (n_windows, n_targets); those without a known one are left out.
        task: bound, so that its outputs are the columns of the table.

    Errors: `DataError` ``labels-missing`` where no target is known, `ModelError`
    ``estimates-shape`` or ``estimates-nan``.
    """
    outputs = task.outputs
    assert outputs is not None
    table = np.asarray(table)
    if table.shape != (len(windows), outputs.n_columns):
        raise ModelError.of(
            "estimates-shape",
            f"estimates of shape {table.shape}",
            f"{len(windows)} windows and {outputs.n_columns} columns need one row and one column "
            "for each",
            "return the columns of the task's outputs",
        )
    known = windows.labelled
    if windows.y.dtype.kind != "f" or not known.any():
        raise DataError.of(
            "labels-missing",
            f"none of {len(windows)} windows has a known target",
            "scores compare estimates with what came true",
            "name the column of the target, or longer recordings where it lies ahead",
        )
    table, windows = table[known], windows.take(known)
    if not np.isfinite(table).all():
        rows = int((~np.isfinite(table)).any(axis=1).sum())
        raise ModelError.of(
            "estimates-nan",
            f"{rows} of {len(table)} windows got an estimate that is not a number",
            "such an estimate means nothing",
            "look for missing values in the windows (edgegraft doctor) or damaged weights",
        )
    truth = task.truth(windows, outputs.columns)
    unit, units = units_of(windows, outputs)
    seen = _Seen.of(outputs, table, truth)
    covered = _covered(seen, units)
    return EstimateEvaluation(
        n=len(windows),
        outputs=outputs,
        metrics={name: float(metric(table, truth)) for name, metric in task.metrics.items()},
        intervals=intervals(
            task.metrics, table, truth, units, level=LEVEL, n_resamples=n_resamples, seed=seed
        ),
        unit=unit,
        n_units=len(np.unique(units)),
        per_target=_per_target(seen),
        per_step=_per_step(seen),
        per_group={
            group: seen.scores(rows=windows.groups == group)
            for group in sorted({str(name) for name in windows.groups} - {""})
        },
        covered=covered,
        reliability=_reliability(seen),
        worst=_worst(seen, unit, units, windows),
        seconds=seconds,
        warnings=(*_warnings(seen, covered), *warnings_of(unit, units)),
    )


@dataclass(frozen=True)
class _Seen:
    """What was estimated beside what came.

    Attributes:
        values: (n_windows, n_quantities, n_steps, n_levels).
        truth: (n_windows, n_quantities, n_steps), NaN where unknown; `known` where it is known.
        error: point less truth, 0 where unknown.
    """

    outputs: Outputs
    values: Array
    truth: Array
    known: Array
    error: Array

    @classmethod
    def of(cls, outputs: Outputs, table: Array, truth: Array) -> _Seen:
        n_windows = len(table)
        values = table.reshape(n_windows, *outputs.shape)
        truth = np.asarray(truth, dtype=np.float64).reshape(n_windows, *outputs.shape[:2])
        known = np.isfinite(truth)
        error = np.where(known, values[..., outputs.levels.index(POINT)] - truth, 0.0)
        return cls(outputs, values, truth, known, error)

    def inside(self, place: int = 0) -> Array:
        """Whether a known truth lies in the interval `place` steps in from the widest."""
        low, high = self.values[..., place], self.values[..., -1 - place]
        return np.asarray(self.known & (low <= self.truth) & (self.truth <= high))

    @cached_property
    def widest(self) -> Array:
        return self.inside()

    def scores(self, rows: Any = slice(None), quantity: Any = slice(None)) -> dict[str, Any]:
        """Errors of a part: n, mae, mse, bias, coverage; `n` counts windows with a known target."""
        found = self.along(None, rows, quantity)
        known = self.known[rows][:, quantity]
        n = int(known.reshape(len(known), -1).any(axis=1).sum())
        return {"n": n, **{name: float(value) for name, value in found.items()}}

    def along(
        self, axis: tuple[int, ...] | None, rows: Any = slice(None), quantity: Any = slice(None)
    ) -> dict[str, Array]:
        """Means over these axes of what is known; NaN where nothing is."""
        known, error = self.known[rows][:, quantity], self.error[rows][:, quantity]
        count = known.sum(axis=axis)
        terms = {"mae": np.abs(error), "mse": error**2, "bias": error}
        if len(self.outputs.levels) > 1:
            terms["coverage"] = self.widest[rows][:, quantity]
        return {name: _over(each.sum(axis=axis), count) for name, each in terms.items()}


def _over(total: Array, count: Array) -> Array:
    total, count = np.asarray(total, dtype=np.float64), np.asarray(count)
    out = np.full(total.shape, np.nan)
    return np.asarray(np.divide(total, count, out=out, where=count > 0))


def _per_target(seen: _Seen) -> dict[str, Mapping[str, Any]]:
    outputs = seen.outputs
    return {
        name: {"unit": unit, **seen.scores(quantity=[place])}
        for place, (name, unit) in enumerate(zip(outputs.names, outputs.units, strict=True))
    }


def _per_step(seen: _Seen) -> tuple[Mapping[str, float], ...]:
    n = seen.known.any(axis=1).sum(axis=0)
    found = seen.along((0, 1))
    return tuple(
        {"step": step, "n": int(n[at]), **{name: float(each[at]) for name, each in found.items()}}
        for at, step in enumerate(seen.outputs.steps)
    )


def _covered(seen: _Seen, units: Array) -> tuple[Covered, ...]:
    """The central intervals that the levels make, widest first."""
    levels, found = seen.outputs.levels, []
    _, unit = np.unique(units, return_inverse=True)
    for place in range(len(levels) // 2):
        nominal = levels[-1 - place] - levels[place]
        if abs(levels[place] + levels[-1 - place] - 1) > 1e-6:
            continue  # not a central one
        held = np.bincount(unit, seen.inside(place).sum(axis=(1, 2)))
        count = np.bincount(unit, seen.known.sum(axis=(1, 2)))
        low, high = _share_interval(held, count)
        width = seen.values[..., -1 - place] - seen.values[..., place]
        found.append(
            Covered(
                round(nominal, 6), float(held.sum() / count.sum()), low, high, float(width.mean())
            )
        )
    return tuple(found)


def _share_interval(held: Array, count: Array, n_resamples: int = 1000) -> tuple[float, float]:
    """Percentiles of a share over resampled units."""
    if len(held) < 2:
        return float("nan"), float("nan")
    random = np.random.default_rng(0)
    drawn = random.multinomial(len(held), np.full(len(held), 1 / len(held)), size=n_resamples)
    total = drawn @ count
    shares = (drawn @ held)[total > 0] / total[total > 0]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(shares, [tail, 1 - tail])
    return float(low), float(high)


def _reliability(seen: _Seen) -> dict[float, float]:
    count = seen.known.sum()
    return {
        level: float((seen.known & (seen.truth <= seen.values[..., place])).sum() / count)
        for place, level in enumerate(seen.outputs.levels)
    }


def _worst(
    seen: _Seen, unit: Unit, units: Array, windows: Windows
) -> tuple[Mapping[str, Any], ...]:
    found = []
    for name in np.unique(units):
        rows = np.asarray(units == name)
        scores = seen.scores(rows=rows)
        label = str(name)
        if unit == "recording" and int(name) < len(windows.names):
            label = windows.names[int(name)]
        if unit == "block":
            first, last = windows.start[rows].min(), windows.start[rows].max()
            label = f"windows from sample {first} to {last}"
        if scores["n"]:
            found.append({"unit": label, **scores})
    found.sort(key=lambda entry: -entry["mae"])
    return tuple(found[:WORST])


def _warnings(seen: _Seen, covered: tuple[Covered, ...]) -> list[str]:
    found = [
        f"Intervals of {100 * each.nominal:g} % hold {100 * each.share:.0f} % of the truth: they "
        f"are too {'narrow' if each.share < each.nominal else 'wide'}."
        for each in covered[:1]
        if abs(each.share - each.nominal) > OFF
    ]
    empty = [
        name for place, name in enumerate(seen.outputs.names) if not seen.known[:, place].any()
    ]
    if empty:
        found.append(f"No known value of {', '.join(empty)}: nothing was measured for it.")
    return found
