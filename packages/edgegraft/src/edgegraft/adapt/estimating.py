"""What strategies that estimate one number share: targets, folds of whole units, intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgegraft.adapt.interval import fit_offsets
from edgegraft.data.domains import labelled_target
from edgegraft.data.split import Fold, folds
from edgegraft.tasks.task import Task
from edgegraft_edge.errors import DataError, OptionError, SplitError
from edgegraft_edge.estimate import Outputs
from edgegraft_edge.program import Program, chain
from edgegraft_edge.signal import Array, Windows

_ROOM = 0.1  # of the range of training targets: so far beyond them estimates may go


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
