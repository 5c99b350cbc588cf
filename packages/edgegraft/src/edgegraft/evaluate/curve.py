"""What labels are worth: scores over growing numbers of labelled windows per class."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.data.split import Fold, few_shot
from edgegraft.evaluate.compare import Row
from edgegraft.tasks.task import Task
from edgegraft_edge.signal import Windows

COUNTS = (1, 2, 5, 10, 25, 50, 100)


def learning_curve(
    rows: Sequence[tuple[str, Row]],
    windows: Windows,
    folds: Sequence[Fold],
    task: Task,
    *,
    seed: int,
    n_repeats: int = 3,
    workers: int = 1,
    watch: Watch = unwatched,
) -> list[dict[str, Any]]:
    """Scores of rows, few labels drawn from a fold's training part and tested on its test part.

    Args:
        rows: (name in the plot, row); the same draws serve every row.

    Returns: one entry per row and count, with the mean and the range over repeats.
    """
    classes = task.classes(windows)
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
        drawn = train.take(few_shot(train, count, seed=seed + repeat))
        values = []
        for _, row in rows:
            adapted = row.strategy.adapt(row.backbone, drawn, task, seed=seed)
            values.append(float(metric(adapted.predict(test).probabilities, test.codes(classes))))
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
