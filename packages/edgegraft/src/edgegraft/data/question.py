"""What a task asks of data, and the targets that it asks for as plain series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgegraft.data.finding import Evidence
from edgegraft_edge.errors import OptionError, nearest
from edgegraft_edge.signal import UNLABELLED, Array, Recording

REMAINING = "remaining"
"""The target that counts down to the end of each recording."""
TASKS = ("forecasting", "regression", "anomaly")
NORMAL = ("normal", "good", "ok", "healthy", "baseline", "nominal", "0")


@dataclass(frozen=True)
class Question:
    """What is asked of the data.

    Attributes:
        task: "forecasting", "regression" or "anomaly".
        target: channels that are estimated; of a regression also "remaining", or none for the
            column of the label.
        context, horizon: samples that are seen and samples ahead; 0 if not settled yet.
        known: channels whose future is known.
        normal: label that counts as normal, of an anomaly task.

    Errors: `OptionError` "task-unknown".
    """

    task: str
    target: tuple[str, ...] = ()
    context: int = 0
    horizon: int = 0
    known: tuple[str, ...] = ()
    normal: str = ""

    @classmethod
    def of(cls, task: Any) -> Question | None:
        """What a task asks, by its fields; None where it has no checks.

        >>> Question.of(None) is None
        True
        """
        name = str(getattr(task, "name", ""))
        if name not in TASKS:
            return None
        target = getattr(task, "target", ()) or ()
        return cls(
            name,
            (target,) if isinstance(target, str) else tuple(target),
            int(getattr(task, "context", 0) or 0),
            int(getattr(task, "horizon", 0) or 0),
            tuple(getattr(task, "known", ()) or ()),
            str(getattr(task, "normal", "") or ""),
        )

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            known = ["classification", *TASKS]
            raise OptionError.of(
                "task-unknown", f"task {self.task!r}", "it has no checks", nearest(self.task, known)
            )


def targets_of(evidence: Evidence, asked: Question) -> dict[str, list[Array]]:
    """By name, the target of each piece, float (n_timepoints,)."""
    names = [channel.name for channel in evidence.dataset.channels]
    pieces = evidence.pieces
    if not pieces:
        return {}
    if asked.task == "regression" and REMAINING in asked.target:
        return {"the remaining life": [np.arange(v.shape[1], 0, -1.0) for _, _, v in pieces]}
    if asked.task == "regression" and not asked.target:
        found = labels_of(evidence)
        return {"the label": found} if any(np.isfinite(each).any() for each in found) else {}
    chosen = [name for name in asked.target or names if name in names and name not in asked.known]
    return {
        name: [values[names.index(name)].astype(np.float64) for _, _, values in pieces]
        for name in chosen
    }


def labels_of(evidence: Evidence) -> list[Array]:
    """Numbers in the label of each piece, float (n_timepoints,), NaN where there is none."""
    if evidence.dataset.ready is not None:
        return []
    found = []
    for recording in evidence.dataset.recordings:
        numbers = np.full(recording.n_timepoints, np.nan)
        for span in recording.labels:
            numbers[span.start : span.stop] = number_of(span.label)
        found.append(numbers)
    return found


def label_numbers(evidence: Evidence) -> tuple[int, list[str]]:
    """How many labels are numbers, and those that are not."""
    if evidence.dataset.ready is not None and evidence.windows.y.dtype.kind == "f":
        return int(evidence.windows.labelled.sum()), []
    if evidence.dataset.ready is not None:
        labels = [str(label) for label in evidence.windows.y]
    else:
        labels = [span.label for item in evidence.dataset.recordings for span in item.labels]
    bad = [label for label in labels if label != UNLABELLED and not np.isfinite(number_of(label))]
    return sum(label != UNLABELLED for label in labels) - len(bad), bad


def number_of(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def normal_mask(recording: Recording, asked: Question) -> Array:
    mask = np.ones(recording.n_timepoints, dtype=bool)
    for span in recording.labels:
        if span.label != UNLABELLED and not is_normal(span.label, asked):
            mask[span.start : span.stop] = False
    return mask


def is_normal(label: str, asked: Question) -> bool:
    return label == asked.normal if asked.normal else label.lower() in NORMAL
