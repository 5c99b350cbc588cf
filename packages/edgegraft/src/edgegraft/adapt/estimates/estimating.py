"""What strategies that estimate one number share: targets, folds of whole units, intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgegraft.adapt.estimates.interval import fit_offsets
from edgegraft.data.domains import labelled_target
from edgegraft.data.split import Fold, folds
from edgegraft.tasks.task import Task
from edgegraft_edge.errors import DataError, OptionError, SplitError
from edgegraft_edge.estimate import Outputs
from edgegraft_edge.program import Draft, Program, chain
from edgegraft_edge.signal import Array, Windows

_ROOM = 0.1  # of the range of training targets: so far beyond them estimates may go


EVEN = 5
"""Units that even shares of learners count as."""


@dataclass(frozen=True)
class Learner:
    """A fitted program to one number, and what was said of units left out of its fit.

    Attributes:
        program: raw windows -> (n_windows, 1).
        left_out: float64 (n_windows,) of its material.
        chosen: what it settled on, plain JSON values.
    """

    program: Program
    left_out: Array
    chosen: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Material:
    """Windows of known target, and how they are divided.

    Attributes:
        windows: labelled windows of the target device.
        y: float64 (n_windows,).
        folds: whole units left out in turn; none where there is nothing to leave out.
        low, high: between which estimates are held.
    """

    windows: Windows
    y: Array
    folds: tuple[Fold, ...]
    low: float
    high: float

    @property
    def tested(self) -> Array:
        """Int (n_tested,), the windows that were left out once."""
        return np.sort(np.concatenate([fold.test for fold in self.folds]))

    @property
    def n_units(self) -> int:
        """Groups, or the parts that were left out where groups are not known."""
        known = set(self.windows.groups.tolist()) - {""}
        return len(known) if len(known) > 1 else len(self.folds)

    def clipped(self, values: Array) -> Array:
        return np.clip(values, self.low, self.high)

    def rmse(self, left_out: Array) -> float:
        tested = self.tested
        return float(np.sqrt(np.mean((left_out[tested] - self.y[tested]) ** 2)))


def material(train: Windows, task: Task, n_folds: int, seed: int) -> Material:
    """The labelled windows of `train` for a task that estimates one number now.

    Errors: `OptionError` ``task-differs`` for a task that does not; `DataError` of `Task.classes`.
    """
    outputs_of(task)
    windows = labelled_target(train)
    task.classes(windows)
    return material_of(windows, task, n_folds, seed)


def material_of(windows: Windows, task: Task, n_folds: int, seed: int) -> Material:
    """The same of windows whose targets are all known, wherever they come from."""
    y = np.asarray(windows.y, dtype=np.float64).reshape(len(windows), -1)[:, 0]
    low, high = _limits(y)
    least, most = getattr(task, "limits", None) or (low, high)
    low, high = max(low, least), min(high, most)
    return Material(windows, y, _folds(windows, n_folds, seed), low, high)


def outputs_of(task: Task) -> Outputs:
    """What the task estimates, if that is one number.

    Errors: `OptionError` ``task-differs``.
    """
    outputs = task.outputs
    if outputs is None or outputs.n_targets != 1:
        raise OptionError.of(
            "task-differs",
            f"the task {task.name}",
            "this strategy estimates one number",
            "--task regression",
        )
    return outputs


def finished(
    program: Program, known: Material, left_out: Array, task: Task
) -> tuple[Program, Outputs]:
    """The program with its intervals, from estimates of what was left out (n_windows,)."""
    outputs = outputs_of(task)
    tested = known.tested
    groups = known.windows.groups[tested] if known.windows.has_groups else None
    offsets = fit_offsets(left_out[tested], known.y[tested], outputs.levels, groups)
    return chain(program, offsets.program(known.low, known.high)), outputs


def blend_shares(tables: Array, y: Array, n_units: int, weights: Array | None = None) -> Array:
    """Shares (n_members,), none negative, summing to one: of least squared error, and even.

    Args:
        tables: left-out estimates (n_samples, n_members).
        n_units: from which the shares are told; even shares count as much as `EVEN` units.
        weights: importance of each sample.

    >>> y = np.arange(9.0)
    >>> blend_shares(np.stack([y + 1, y + 8], axis=1), y, 95).round(3).tolist()
    [0.975, 0.025]
    """
    from scipy.optimize import nnls

    root = np.sqrt(np.ones(len(y)) if weights is None else weights / np.mean(weights))
    heavy = 1e3 * np.sqrt(len(y)) * (1 + np.abs(tables).max())  # a row: they sum to one
    rows = np.vstack([tables * root[:, None], np.full(tables.shape[1], heavy)])
    shares, _ = nnls(rows, np.r_[y * root, heavy])
    even = np.full(len(shares), EVEN / len(shares))
    return np.asarray((n_units * shares / shares.sum() + even) / (n_units + EVEN))


def blended(programs: Sequence[Program], shares: Array, low: float, high: float) -> Program:
    """The weighted mean of programs to (n_windows, 1), each held between low and high."""
    draft, total = Draft(), ""
    for program, share in zip(programs, shares, strict=True):
        value = draft.add("minimum", draft.call(program), np.array([high]))
        value = draft.add("maximum", value, np.array([low]))
        value = draft.add("mul", value, np.array([share]))
        total = draft.add("add", total, value) if total else value
    return draft.finish(total)


def _limits(y: Array) -> tuple[float, float]:
    room = _ROOM * float(y.max() - y.min())
    return float(y.min()) - room, float(y.max()) + room


def _folds(windows: Windows, n_folds: int, seed: int) -> tuple[Fold, ...]:
    problem: SplitError | None = None
    for count in range(n_folds, 1, -1):
        try:
            return folds(windows, count, seed=seed)
        except SplitError as error:
            problem = error
    raise DataError.of(
        "units-few",
        f"{len(windows)} windows of known target",
        f"nothing can be left out to learn from ({problem})",
        "windows of two machines or recordings, or more of one",
    )
