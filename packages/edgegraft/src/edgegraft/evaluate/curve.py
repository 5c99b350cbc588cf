"""What labels are worth: scores over growing numbers of labelled windows per class."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.data.domains import apart, joined, pool_of
from edgegraft.data.split import Fold, few_shot
from edgegraft.evaluate.compare import Row, columns_of
from edgegraft.tasks.task import Task
from edgegraft_edge.signal import UNLABELLED, Windows

COUNTS = (1, 2, 5, 10, 25, 50, 100)


def learning_curve(
    rows: Sequence[tuple[str, Row]],
    windows: Windows,
    folds: Sequence[Fold],
    task: Task,
    *,
    seed: int,
    beside: Windows | None = None,
    n_repeats: int = 3,
    workers: int = 1,
    watch: Watch = unwatched,
) -> list[dict[str, Any]]:
    """Scores of rows, few labels drawn from a fold's training part and tested on its test part.

    Args:
        rows: (name in the plot, row); the same draws serve every row.
        beside: pool and sources. Where there is a pool, labelled windows that are not drawn join
            it without their labels, as they would have been there all the same.

    Returns: one entry per row and count, with the mean and the range over repeats.
    """
    classes = task.classes(windows)
    columns = columns_of(windows, beside, task)
    smallest = min(
        int(np.bincount(windows.take(fold.train).codes(classes), minlength=len(classes)).min())
        for fold in folds
    )
    counts = [count for count in COUNTS if count <= smallest]
    if smallest and (not counts or smallest >= 1.5 * counts[-1]):
        counts.append(smallest)
    metric = task.metrics[task.primary]
    draws = range(min(n_repeats, len(folds)))

    def score(count: int, repeat: int) -> list[float]:
        fold = folds[repeat]
        train, test = windows.take(fold.train), windows.take(fold.test)
        few = few_shot(train, count, seed=seed + repeat)
        drawn = train.take(few)
        if beside is not None and len(beside):
            drawn = joined(drawn, apart(beside, test))
            if len(pool_of(beside)):
                others = train.take(np.setdiff1d(np.arange(len(train)), few))
                drawn = joined(drawn, replace(others, y=np.full(len(others), UNLABELLED)))
        values = []
        for _, row in rows:
            said = row.strategy.adapt(row.backbone, drawn, task, seed=seed).predict(test)
            table = np.zeros((len(test), len(columns)))
            table[:, [columns.index(name) for name in said.classes]] = said.probabilities
            values.append(float(metric(table, test.codes(classes))))
        return values

    found = []
    pool = ThreadPoolExecutor(max_workers=workers)
    jobs = {count: [pool.submit(score, count, repeat) for repeat in draws] for count in counts}
    try:
        for count in counts:
            table = np.array([job.result() for job in jobs[count]])
            for (name, _), values in zip(rows, table.T, strict=True):
                found.append(
                    {
                        "row": name,
                        "labels_per_class": count,
                        "score": float(values.mean()),
                        "low": float(values.min()),
                        "high": float(values.max()),
                        "n_repeats": len(values),
                    }
                )
            watch("curve", {"labels_per_class": count})
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # on Ctrl-C, what has not begun is left
    return found
