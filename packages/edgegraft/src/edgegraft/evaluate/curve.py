"""What labels are worth: scores over growing numbers of labelled windows per class."""

from __future__ import annotations

from collections.abc import Sequence
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
    found = []
    metric = task.metrics[task.primary]
    for count in counts:
        scores: dict[str, list[float]] = {name: [] for name, _ in rows}
        for repeat in range(min(n_repeats, len(folds))):
            fold = folds[repeat]
            train = windows.take(fold.train)
            drawn = train.take(few_shot(train, count, seed=seed + repeat))
            test = windows.take(fold.test)
            for name, row in rows:
                adapted = row.strategy.adapt(row.backbone, drawn, task, seed=seed)
                guess = adapted.predict(test).probabilities
                scores[name].append(float(metric(guess, test.codes(classes))))
        for name, values in scores.items():
            found.append(
                {
                    "row": name,
                    "labels_per_class": count,
                    "score": float(np.mean(values)),
                    "low": float(min(values)),
                    "high": float(max(values)),
                    "n_repeats": len(values),
                }
            )
        watch("curve", {"labels_per_class": count})
    return found
