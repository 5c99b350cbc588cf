"""Estimates: numbers with their intervals, for now (regression) or for later (forecasts).

A program that estimates gives one column for each quantity, step ahead and level, in that order
of nesting: ``n_columns = n_quantities * n_steps * n_levels``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from edgegraft_edge.errors import ModelError, Problem
from edgegraft_edge.signal import Array

POINT = 0.5
"""The level of the point estimate, the median."""
MAX_COLUMNS = 100_000


@dataclass(frozen=True)
class Outputs:
    """What the columns of a program that estimates are.

    Attributes:
        names: of the quantities, e.g. ``("life",)`` or the channels that are forecast.
        units: one for each quantity, "" where unknown.
        steps: samples ahead of the last one of a window, rising; 0 is now.
        levels: of quantiles, rising, among them 0.5; (0.5,) alone gives no intervals.

    Errors: `ModelError` ``outputs-form`` with every fault.

    >>> Outputs(("load",), ("kW",), steps=(1, 2), levels=(0.5, 0.95)).columns
    ('load+1@0.5', 'load+1@0.95', 'load+2@0.5', 'load+2@0.95')
    """

    names: tuple[str, ...]
    units: tuple[str, ...] = ()
    steps: tuple[int, ...] = (0,)
    levels: tuple[float, ...] = (0.05, POINT, 0.95)

    def __post_init__(self) -> None:
        if not self.units:
            object.__setattr__(self, "units", ("",) * len(self.names))
        rules = {
            f"names {self.names}": bool(self.names)
            and all(isinstance(name, str) and name for name in self.names)
            and len(set(self.names)) == len(self.names),
            f"units {self.units}": len(self.units) == len(self.names)
            and all(isinstance(unit, str) for unit in self.units),
            f"steps {self.steps[:8]}": _rising(self.steps)
            and all(type(step) is int and step >= 0 for step in self.steps),
            f"levels {self.levels}": _rising(self.levels)
            and POINT in self.levels
            and all(isinstance(level, int | float) and 0 < level < 1 for level in self.levels),
        }
        problems = [
            Problem(
                "outputs-form",
                found,
                "names and units belong together; steps and levels rise, with 0.5 among the levels",
                "export the model again",
            )
            for found, good in rules.items()
            if not good
        ]
        if not problems and self.n_columns > MAX_COLUMNS:
            why = f"at most {MAX_COLUMNS} are read"
            problems = [
                Problem("outputs-form", f"{self.n_columns} columns", why, "fewer steps or levels")
            ]
        if problems:
            raise ModelError(problems)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_quantities, n_steps, n_levels)"""
        return len(self.names), len(self.steps), len(self.levels)

    @property
    def n_targets(self) -> int:
        """Numbers that are estimated: quantities times steps."""
        return len(self.names) * len(self.steps)

    @property
    def n_columns(self) -> int:
        return self.n_targets * len(self.levels)

    @property
    def targets(self) -> tuple[str, ...]:
        """A name for each number that is estimated: ``load+2``, or ``life`` for now."""
        return tuple(
            f"{name}+{step}" if step else name for name in self.names for step in self.steps
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """A name for each column."""
        return tuple(f"{target}@{level:g}" for target in self.targets for level in self.levels)

    def as_dict(self) -> dict[str, Any]:
        return {key: list(value) for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outputs:
        """The inverse of `as_dict`. Errors: `TypeError` for other keys, `ModelError`."""
        return cls(**{key: tuple(value) for key, value in data.items()})


@dataclass(frozen=True)
class Estimates:
    """What a predictor estimates of windows.

    Attributes:
        outputs: what the numbers are.
        values: float32 (n_windows, n_quantities, n_steps, n_levels).

    >>> found = Estimates.of(Outputs(("life",)), np.array([[90.0, 100.0, 120.0]]))
    >>> found.point.tolist(), found.interval(0.9)[0].tolist()
    ([[[100.0]]], [[[90.0]]])
    """

    outputs: Outputs
    values: Array

    @classmethod
    def of(cls, outputs: Outputs, table: Array) -> Estimates:
        """From the table of a program, (n_windows, n_columns)."""
        return cls(outputs, np.asarray(table).reshape(len(table), *outputs.shape))

    @property
    def point(self) -> Array:
        """(n_windows, n_quantities, n_steps)"""
        return self.at(POINT)

    def at(self, level: float) -> Array:
        """The quantile of one level, (n_windows, n_quantities, n_steps)."""
        values: Array = self.values[..., self.outputs.levels.index(level)]
        return values

    def interval(self, coverage: float) -> tuple[Array, Array]:
        """Lower and upper end of the central interval, each (n_windows, n_quantities, n_steps)."""
        tail = (1 - coverage) / 2
        return self.at(round(tail, 6)), self.at(round(1 - tail, 6))


def _rising(values: tuple[Any, ...]) -> bool:
    return bool(values) and all(a < b for a, b in pairwise(values))
