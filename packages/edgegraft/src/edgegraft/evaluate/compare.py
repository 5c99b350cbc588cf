"""Rows of the comparison: every way of adapting, scored on the same paired folds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from threading import Event
from typing import Any, Literal

import numpy as np

from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.scored import SelfScoring, score
from edgegraft.adapt.strategy import Strategy, Watch
from edgegraft.data.domains import apart, joined
from edgegraft.data.split import Fold
from edgegraft.evaluate.bootstrap import intervals
from edgegraft.evaluate.evaluation import units_of
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.signal import Array, Windows

Role = Literal["candidate", "control"]


@dataclass(frozen=True)
class Row:
    """One way of adapting: a backbone, a strategy with its options, and its role.

    Attributes:
        role: a `candidate` transfers something or is what the user asked for; a `control`
            is what could be had without.
        source: the one source domain that it learns from, where it is not all of them.
        draws: what it learns from beside target labels: "the pool", "the sources".
    """

    backbone: Backbone
    strategy_name: str
    strategy: Strategy
    role: Role
    source: str = ""
    draws: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        at = f"@{self.source}" if self.source else ""
        return f"{self.backbone.card.name}/{self.strategy_name}{at}"

    @property
    def pretrained(self) -> bool:
        return self.backbone.card.kind == "pretrained" and self.strategy_name != "scratch"

    @property
    def transfers(self) -> tuple[str, ...]:
        """What it has from elsewhere than labels of the target; empty if nothing."""
        return (*(("pretrained weights",) if self.pretrained else ()), *self.draws)


@dataclass(frozen=True)
class OutOfFold:
    """What a row says of each window when that window's fold was left out of training.

    Attributes:
        probabilities: float64 (n_windows, n_columns), NaN where a window is in no fold; the
            classes of the windows, then those that only sources know (see `columns_of`). Of a
            task that estimates, its estimates.
        seconds: time to adapt and predict, all folds.
    """

    row: Row
    probabilities: Array
    seconds: float

    @property
    def tested(self) -> Array:
        """Bool (n_windows,): which windows were in a fold."""
        return np.asarray(np.isfinite(self.probabilities).all(axis=1))


Keep = Callable[[str, Callable[[], Array]], Array]
"""Returns the array kept under a name, or computes and keeps it: a killed run resumes here."""


def compute(name: str, make: Callable[[], Array]) -> Array:
    """The keep that keeps nothing."""
    return make()


def columns_of(windows: Windows, beside: Windows | None, task: Task) -> tuple[str, ...]:
    """The classes of labelled windows, then those that only source domains know."""
    classes = task.classes(windows)
    more = () if beside is None else beside.classes
    return (*classes, *(name for name in more if name not in classes))


def cross_validate(
    rows: Sequence[Row],
    windows: Windows,
    folds: Sequence[Fold],
    task: Task,
    *,
    beside: Windows | None = None,
    seed: int,
    watch: Watch,
    keep: Keep = compute,
    workers: int = 1,
) -> list[OutOfFold]:
    """Adapt each row on each fold's training part and predict the rest; all is refitted per fold.

    Args:
        windows: labelled windows of the target (n_windows, n_channels, n_timepoints).
        beside: pool and sources; of them a fold trains on what shares no group and no sample with
            the windows that it tests.
        workers: folds worked on at a time, each with one thread; results do not depend on it.
    """
    if not rows:
        return []
    classes = columns_of(windows, beside, task)
    tables = {row.name: np.full((len(windows), len(classes)), np.nan) for row in rows}
    seconds = dict.fromkeys(tables, 0.0)
    done = dict.fromkeys(tables, 0)
    stop = Event()

    def work(row: Row, number: int) -> tuple[str, int, Array, float]:
        fold = folds[number]

        def watched(event: str, values: Mapping[str, Any]) -> None:
            if stop.is_set():
                raise KeyboardInterrupt  # the main thread was told to stop, so the workers do
            watch(event, {**values, "row": row.name, "fold": number + 1})

        def fit() -> Array:
            train = training_part(windows, beside, fold)
            adapted = _adapted(row, train, task, seed, watched)
            predictions = adapted.predict(windows.take(fold.test))
            out = np.zeros((len(fold.test), len(classes)))
            place = {name: column for column, name in enumerate(classes)}
            out[:, [place[name] for name in predictions.classes]] = predictions.probabilities
            if stop.is_set():  # training ends early then, with the best so far: not to be kept
                raise KeyboardInterrupt
            return out

        began = time.perf_counter()
        watched("fold-start", {})
        part = keep(f"{row.name}/{number}", fit)
        return row.name, number, part, time.perf_counter() - began

    pool = ThreadPoolExecutor(max_workers=workers)
    jobs = [pool.submit(work, row, number) for row, number in _in_order(rows, len(folds), beside)]
    try:
        for job in as_completed(jobs):
            name, number, part, took = job.result()
            tables[name][folds[number].test] = part
            seconds[name] += took
            done[name] += 1
            watch("fold", {"row": name, "fold": done[name], "folds": len(folds)})
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
    return [OutOfFold(row, tables[row.name], seconds[row.name]) for row in rows]


def training_part(windows: Windows, beside: Windows | None, fold: Fold) -> Windows:
    """What a fold trains on: its labelled windows, and of the rest what the tested do not know."""
    train = windows.take(fold.train)
    if beside is None or not len(beside):
        return train
    return joined(train, apart(beside, windows.take(fold.test)))


def _adapted(row: Row, train: Windows, task: Task, seed: int, watch: Watch) -> Adapted:
    """The row's model; with pool or sources it is kept in mind, as the guard asks for it again."""
    more = not (train.labelled & train.at_target).all()
    if more and isinstance(row.strategy, SelfScoring):
        return score(row.strategy, row.backbone, train, task, seed=seed, watch=watch).adapted
    return row.strategy.adapt(row.backbone, train, task, seed=seed, watch=watch)


def _in_order(rows: Sequence[Row], n_folds: int, beside: Windows | None) -> list[tuple[Row, int]]:
    """Every row on every fold; with much beside, fold after fold, which embed the same windows.

    The guard comes last then: what it weighs is fitted by that time.
    """
    rows = _costly_first(rows)
    if beside is not None and len(beside):
        rows = sorted(rows, key=lambda row: row.strategy_name == "guard")
        return [(row, number) for number in range(n_folds) for row in rows]
    return [(row, number) for row in rows for number in range(n_folds)]


def _costly_first(rows: Sequence[Row]) -> list[Row]:
    """Trained networks before closed forms, so that no worker idles at the end."""
    quick = ("probe", "trees", "blend")
    return sorted(rows, key=lambda row: quick.index(row.strategy_name)
                  if row.strategy_name in quick else -1)  # fmt: skip


def scores_of(table: OutOfFold, windows: Windows, task: Task) -> Mapping[str, float]:
    """All metrics of a row over the windows that were in a fold."""
    truth = task.truth(windows, task.classes(windows))
    return {
        name: float(metric(table.probabilities[table.tested], truth[table.tested]))
        for name, metric in task.metrics.items()
    }


def intervals_of(table: OutOfFold, windows: Windows, task: Task) -> Mapping[str, Any]:
    """Bootstrap intervals of all metrics of a row, drawn over groups where these are known."""
    kept = windows.take(table.tested)
    truth = task.truth(kept, task.classes(windows))
    _, units = units_of(kept, task.outputs)
    return intervals(task.metrics, table.probabilities[table.tested], truth, units)


def as_row(table: OutOfFold | None, row: Row, windows: Windows, task: Task) -> dict[str, Any]:
    """A row as the report and ``--json`` list it."""
    return {
        "backbone": row.backbone.card.name,
        "strategy": row.strategy_name,
        "role": row.role,
        "pretrained": row.pretrained,
        **({"source": row.source} if row.source else {}),
        **({"transfers": list(row.transfers)} if row.draws else {}),
        "metrics": dict(scores_of(table, windows, task)) if table else {},
        "intervals": dict(intervals_of(table, windows, task)) if table else {},
        "seconds": round(table.seconds, 3) if table else None,
    }
