"""Did the transfer help? A paired comparison with the best control, and what to ship.

Transfer is whatever a row has from elsewhere than labels of the target: pretrained weights, the
pool, source domains. A control for the verdict has none of them, so where something transfers, a
candidate that learns from the target alone is held against it like any other control. (Naive
pooling with a source is a control too, of how the source is used: it may ship, but nothing is
held against it.)

The best candidate and the best control are scored on the same windows, each left out of
training with its whole group. The difference gets a bootstrap interval over groups (or
recordings, or windows), widened by ``sqrt(1 + k / (k - 1))`` for k folds, because the training
sets of folds overlap (Nadeau and Bengio, Machine Learning 2003). The verdict is *helped* if
the interval lies above zero, *hurt* if below, else *undecided*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from edgegraft.evaluate.bootstrap import intervals
from edgegraft.evaluate.compare import OutOfFold, Row
from edgegraft.evaluate.evaluation import units_of
from edgegraft.evaluate.wording import SHARES, UNITS, figure, listed, metric_name
from edgegraft.tasks.metrics import Tallied, log_loss
from edgegraft.tasks.task import Metric, Task
from edgegraft_edge.signal import Array, Windows

Outcome = Literal["helped", "hurt", "undecided"]
LEVEL = 0.95
SHIP_LEVEL = 0.8
"""A control displaces the preferred row only if the interval at this level excludes zero."""


@dataclass(frozen=True)
class Difference:
    """A paired difference, positive when the first is better.

    Attributes:
        low, high: interval at `level`; the whole range when too few units are known.
        unit: what was resampled, "group", "recording" or "window"; `n_units` of them.
    """

    metric: str
    mean: float
    low: float
    high: float
    level: float
    n_folds: int
    n_units: int
    unit: str


@dataclass(frozen=True)
class Verdict:
    """Whether transfer helped, against which control, by how much, and what ships."""

    outcome: Outcome
    candidate: Row | None
    reference: Row | None
    difference: Difference | None
    because: str
    shipped: Row
    shipped_because: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "candidate": _named(self.candidate),
            "reference": _named(self.reference),
            "difference": asdict(self.difference) if self.difference else None,
            "because": self.because,
            "transferred": bool(self.candidate and self.candidate.transfers),
        }


def compare(
    first: Array,
    second: Array,
    windows: Windows,
    task: Task,
    *,
    n_folds: int,
    level: float = LEVEL,
    seed: int = 0,
) -> Difference:
    """The paired difference in the task's primary metric between two out-of-fold tables.

    Args:
        first, second: probabilities (n_windows, n_classes), NaN where not tested.
    """
    tested = np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1)
    truth = task.truth(windows, task.classes(windows))[tested]
    unit, units = units_of(windows.take(tested), task.outputs)
    paired = _paired(task.metrics[task.primary], first.shape[1], truth)
    both = np.concatenate([first, second], axis=1)[tested]
    mean = paired(both, truth)
    found = intervals({"difference": paired}, both, truth, units, level=level, seed=seed)
    low, high = found.get("difference", (-np.inf, np.inf))
    widening = np.sqrt(1 + n_folds / max(1, n_folds - 1))
    low, high = mean - widening * max(0.0, mean - low), mean + widening * max(0.0, high - mean)
    better = getattr(task.metrics[task.primary], "better", "")
    if better == "higher" and task.outputs is None:  # a share
        low, high = max(low, -1.0), min(high, 1.0)
    return Difference(
        task.primary,
        float(mean),
        float(low),
        float(high),
        level,
        n_folds,
        len(set(units.tolist())),
        unit,
    )


def judge(
    tables: Sequence[OutOfFold],
    windows: Windows,
    task: Task,
    *,
    preferred: Row,
    n_folds: int,
    seed: int = 0,
) -> Verdict:
    """The verdict on the best candidate that transfers, and the row that ships.

    Where the preferred row draws on a pool or on sources it is the one that is judged: to pick
    the best of many experts would flatter it. The preferred row ships unless another beats it:
    with 80 % confidence in the paired difference, so that noise among many rows does not choose.
    """
    if not tables:
        because = (
            "a class has too few labelled windows to leave any out, so nothing could be compared"
            if len(windows)
            else "the target has no labels, so nothing could be compared"
        )
        return Verdict(
            "undecided",
            None,
            None,
            None,
            because,
            preferred,
            "the first choice, as nothing could be compared",
        )
    scores = {table.row.name: _score(table, windows, task) for table in tables}
    by_name = {table.row.name: table for table in tables}

    def best(rows: list[OutOfFold]) -> OutOfFold | None:
        return max(rows, key=lambda table: scores[table.row.name], default=None)

    candidates = [table for table in tables if table.row.role == "candidate"]
    transfers = [table for table in candidates if table.row.transfers] or candidates
    if preferred.draws:
        transfers = [by_name[preferred.name]]
    candidate = best(transfers)
    without = [table for table in tables if not table.row.transfers]
    if candidate is None or not candidate.row.transfers:
        without = [table for table in without if table.row.role == "control"]
    control = best(without)
    if candidate is None or control is None:
        because = "no candidate ran" if candidate is None else "no control ran"
        return Verdict(
            "undecided",
            candidate.row if candidate else None,
            control.row if control else None,
            None,
            because,
            preferred,
            "the only choice",
        )
    difference = compare(
        candidate.probabilities, control.probabilities, windows, task, n_folds=n_folds, seed=seed
    )
    outcome: Outcome = (
        "helped" if difference.low > 0 else "hurt" if difference.high < 0 else "undecided"
    )
    if not candidate.row.transfers:
        outcome = "undecided"  # nothing was transferred
    shipped, why = _ship(by_name, scores, windows, task, preferred, n_folds, seed)
    return Verdict(
        outcome,
        candidate.row,
        control.row,
        difference,
        _sentence(candidate.row, control.row, difference),
        shipped,
        why,
    )


def _ship(
    tables: Mapping[str, OutOfFold],
    scores: Mapping[str, float],
    windows: Windows,
    task: Task,
    preferred: Row,
    n_folds: int,
    seed: int,
) -> tuple[Row, str]:
    start = tables[preferred.name]
    challengers = sorted(
        (table for table in tables.values() if scores[table.row.name] > scores[preferred.name]),
        key=lambda table: -scores[table.row.name],
    )
    for challenger in challengers:
        edge = compare(
            challenger.probabilities,
            start.probabilities,
            windows,
            task,
            n_folds=n_folds,
            level=SHIP_LEVEL,
            seed=seed,
        )
        if edge.low > 0:
            mean, low, high = (_plain(end, edge.metric) for end in (edge.mean, edge.low, edge.high))
            points = "points of " if edge.metric in SHARES else "in "
            return challenger.row, (
                f"it beats {preferred.name} by {mean} {points}{metric_name(edge.metric)} "
                f"({100 * SHIP_LEVEL:.0f} % interval {low} to {high})"
            )
    return preferred, (
        "the first choice, and none did better"
        if not challengers
        else f"the first choice; {challengers[0].row.name} did better, but within chance"
    )


def _score(table: OutOfFold, windows: Windows, task: Task) -> float:
    """The primary metric, higher better; the log loss settles ties."""
    truth = task.truth(windows, task.classes(windows))[table.tested]
    metric = task.metrics[task.primary]
    sign = -1 if getattr(metric, "better", "higher") == "lower" else 1
    said = table.probabilities[table.tested]
    if task.outputs is not None:
        return sign * metric(said, truth)
    return sign * metric(said, truth) - 1e-6 * log_loss(said, truth)


def _paired(metric: Metric, n_classes: int, truth: Array) -> Metric:
    """The metric's difference between the left and the right half of a joined table."""
    sign = -1.0 if getattr(metric, "better", "higher") == "lower" else 1.0
    if not isinstance(metric, Tallied):
        return lambda both, codes: (
            sign * (metric(both[:, :n_classes], codes) - metric(both[:, n_classes:], codes))
        )

    one = metric.tally(np.full((1, n_classes), 1 / n_classes), np.zeros_like(truth[:1]))

    def tally(both: Array, codes: Array) -> Array:
        left = metric.tally(both[:, :n_classes], codes)
        return np.stack([left, metric.tally(both[:, n_classes:], codes)], axis=1)

    def finish(sums: Array) -> Array:
        left, right = np.moveaxis(sums, sums.ndim - one.ndim, 0)
        return np.asarray(sign * (metric.finish(left) - metric.finish(right)))

    return Tallied("difference", "higher", tally, finish)


def _named(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    named = {"backbone": row.backbone.card.name, "strategy": row.strategy_name, "role": row.role}
    return named | ({"transfers": list(row.transfers)} if row.draws else {})


def beside_labels(row: Row) -> str:
    """What a row has beside labels of the target, where that is more than weights."""
    return f"; beside the labels it has {listed(row.transfers)}" if row.draws else ""


def _sentence(candidate: Row, control: Row, difference: Difference) -> str:
    """The evidence, which an outcome stands before: "undecided: a/probe ..."."""
    level = f"{100 * difference.level:.0f} % interval"
    mean, low, high = (
        _plain(value, difference.metric, sign=True)
        for value in (difference.mean, difference.low, difference.high)
    )
    unit = difference.unit if difference.n_units == 1 else UNITS[difference.unit]
    basis = f"{difference.n_units} {unit}, {difference.n_folds} folds"
    if difference.n_units > 1:
        basis = f"{level} {low} to {high}, {basis}"
    transfer = "" if candidate.transfers else "no weights were pretrained: no transfer to judge; "
    name = metric_name(difference.metric)
    worth = f"{mean} points of {name}"
    if difference.metric not in SHARES:
        how = "better" if difference.mean >= 0 else "worse"
        worth = f"{name} {how} by {_plain(abs(difference.mean), difference.metric)}"
    return (
        f"{transfer}{candidate.name} against the best control, {control.name}: "
        f"{worth} ({basis}){beside_labels(candidate)}"
    )


def _plain(value: float, metric: str, sign: bool = False) -> str:
    """A difference in a line of a terminal: points of a hundred for shares.

    >>> _plain(0.031, "macro_f1"), _plain(-0.00004, "macro_f1", sign=True), _plain(1.234, "rmse")
    ('3.1', '+0.0', '1.23')
    """
    if metric in SHARES:
        text = f"{100 * value:+.1f}".replace("-0.0", "+0.0")
    else:
        text = f"{'+' if value >= 0 else ''}{figure(value)}"
    text = text.replace("\u2212", "-").replace("\u202f", ",")
    return text if sign else text.removeprefix("+")
