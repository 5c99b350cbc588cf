"""How good a predictor is on labelled windows: one function for models, bundles and devices."""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgegraft.adapt.adapted import Predictor
from edgegraft.evaluate.bootstrap import intervals
from edgegraft.evaluate.estimated import EstimateEvaluation, evaluate_estimates
from edgegraft.evaluate.units import FEW_UNITS as FEW_UNITS
from edgegraft.evaluate.units import Unit as Unit
from edgegraft.evaluate.units import units_of as units_of
from edgegraft.evaluate.units import warnings_of
from edgegraft.tasks.classification import Classification
from edgegraft.tasks.metrics import (
    CalibrationBin,
    accuracy,
    calibration_bins,
    confusion,
    log_loss,
    macro_f1,
    per_class,
)
from edgegraft.tasks.task import Task
from edgegraft_edge.errors import DataError, ModelError
from edgegraft_edge.signal import Array, Windows

LEVEL = 0.95
GROUP_METRICS = {"accuracy": accuracy, "macro_f1": macro_f1, "log_loss": log_loss}


@dataclass(frozen=True)
class Evaluation:
    """Scores of a predictor on labelled windows.

    Attributes:
        n: windows scored.
        metrics: by name, the task's.
        intervals: by name, (low, high) at `level`, from a bootstrap over units.
        unit: what the bootstrap drew: whole groups, whole recordings or single windows.
        n_units: how many of these there are.
        classes: the classes of the model, columns of `confusion`.
        truths: `classes`, then labels of the data that the model does not know; its rows.
        confusion: counts, one tuple for each true class.
        per_class: by class, precision, recall, f1 and support.
        per_group: by group, n, accuracy, macro_f1 and log_loss; empty where groups are unknown.
        calibration: confidence against accuracy, in bins.
        seconds: time that the predictions took; NaN if not measured.
        level: coverage of the intervals.
        warnings: what a reader of the scores must know.
    """

    n: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    unit: Unit
    n_units: int
    classes: tuple[str, ...]
    truths: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    per_class: Mapping[str, Mapping[str, float]]
    per_group: Mapping[str, Mapping[str, float]]
    calibration: tuple[CalibrationBin, ...]
    seconds: float = float("nan")
    level: float = LEVEL
    warnings: tuple[str, ...] = ()

    @property
    def unknown_labels(self) -> dict[str, int]:
        """Labels of the data that the model does not know, with their number of windows."""
        extra = range(len(self.classes), len(self.truths))
        return {self.truths[row]: sum(self.confusion[row]) for row in extra}

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `metrics` holds bare numbers, `intervals` stand apart."""
        return {
            "n": self.n,
            "metrics": dict(self.metrics),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "level": self.level,
            "unit": self.unit,
            "n_units": self.n_units,
            "classes": list(self.classes),
            "truths": list(self.truths),
            "confusion": [list(row) for row in self.confusion],
            "per_class": {name: dict(scores) for name, scores in self.per_class.items()},
            "per_group": {name: dict(scores) for name, scores in self.per_group.items()},
            "calibration": [entry._asdict() for entry in self.calibration],
            "unknown_labels": self.unknown_labels,
            "seconds": None if np.isnan(self.seconds) else self.seconds,
            "warnings": list(self.warnings),
        }


def evaluate(
    predictor: Predictor, windows: Windows, task: Task | None = None, *, seed: int = 0
) -> Evaluation | EstimateEvaluation:
    """Score anything with `predict` on the labelled windows; unlabelled ones are left out.

    A task that estimates must be given, bound as it was in training.

    Errors: `DataError` ``labels-missing`` or ``labels-unknown``, `ModelError`
    ``probabilities-shape`` or ``probabilities-nan``, and of estimates as `evaluate_estimates`.
    """
    windows = _labelled(windows)
    start = time.perf_counter()
    predictions = predictor.predict(windows)
    seconds = time.perf_counter() - start
    return evaluate_probabilities(
        predictions.probabilities,
        windows,
        predictions.classes,
        task,
        seconds=seconds,
        seed=seed,
    )


def evaluate_probabilities(
    probabilities: Array,
    windows: Windows,
    classes: Sequence[str],
    task: Task | None = None,
    *,
    seconds: float = float("nan"),
    n_resamples: int = 1000,
    seed: int = 0,
) -> Evaluation | EstimateEvaluation:
    """Score probabilities (n_windows, n_classes) that are there already, e.g. out of fold.

    Of a task that estimates they are its estimates (n_windows, n_columns).

    >>> windows = Windows.of(np.zeros((4, 1, 8)), y=["sit", "walk", "walk", ""])
    >>> p = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.5, 0.5]])
    >>> scored = evaluate_probabilities(p, windows, ("sit", "walk"))
    >>> scored.n, round(scored.metrics["accuracy"], 3), scored.confusion
    (3, 0.667, ((1, 0), (1, 1)))
    """
    task = task or Classification()
    if task.outputs is not None:
        return evaluate_estimates(
            probabilities, windows, task, seconds=seconds, n_resamples=n_resamples, seed=seed
        )
    classes = tuple(classes)
    probabilities = np.asarray(probabilities)
    _check_probabilities(probabilities, len(windows), classes)
    probabilities, windows = probabilities[windows.labelled], _labelled(windows)
    _check_probabilities(probabilities, len(windows), classes, finite=True)
    codes = windows.codes(classes)
    if (codes < 0).all():
        raise DataError.of(
            "labels-unknown",
            f"labels {_some(windows.classes)}; the model knows {_some(classes)}",
            "they have no class in common, so every prediction would be wrong",
            "name the column of the labels, or rename the labels as the model has them",
        )
    unknown = tuple(label for label in windows.classes if label not in set(classes))
    truths = classes + unknown
    unit, units = units_of(windows)
    scores = per_class(probabilities, codes)
    return Evaluation(
        n=len(windows),
        metrics={name: metric(probabilities, codes) for name, metric in task.metrics.items()},
        intervals=intervals(
            task.metrics,
            probabilities,
            codes,
            units,
            level=LEVEL,
            n_resamples=n_resamples,
            seed=seed,
        ),
        unit=unit,
        n_units=len(set(units.tolist())),
        classes=classes,
        truths=truths,
        confusion=tuple(
            tuple(row)
            for row in confusion(probabilities, windows.codes(truths), len(truths)).tolist()
        ),
        per_class={
            label: {
                "precision": float(scores.precision[index]),
                "recall": float(scores.recall[index]),
                "f1": float(scores.f1[index]),
                "support": int(scores.support[index]),
            }
            for index, label in enumerate(classes)
        },
        per_group=_per_group(probabilities, codes, windows.groups),
        calibration=calibration_bins(probabilities, codes),
        seconds=seconds,
        warnings=(*_label_warnings(windows, classes, unknown), *warnings_of(unit, units)),
    )


def _labelled(windows: Windows) -> Windows:
    if windows.labelled.all() and len(windows):
        return windows
    if not windows.labelled.any():
        raise DataError.of(
            "labels-missing",
            f"none of {len(windows)} windows carries a label",
            "scores compare predictions with labels",
            "name the column or file of the labels",
        )
    return windows.take(windows.labelled)


def _check_probabilities(
    probabilities: Array, n_windows: int, classes: tuple[str, ...], finite: bool = False
) -> None:
    if probabilities.shape != (n_windows, len(classes)):
        raise ModelError.of(
            "probabilities-shape",
            f"probabilities have shape {probabilities.shape}",
            f"{n_windows} windows and {len(classes)} classes need ({n_windows}, {len(classes)})",
            "return one row for each window and one column for each class",
        )
    if finite and not np.isfinite(probabilities).all():
        rows = int((~np.isfinite(probabilities)).any(axis=1).sum())
        raise ModelError.of(
            "probabilities-nan",
            f"{rows} of {n_windows} windows got a probability that is not a number",
            "such a prediction means nothing",
            "look for missing values in the windows (edgegraft doctor) or damaged weights",
        )


def _per_group(probabilities: Array, codes: Array, groups: Array) -> dict[str, Mapping[str, float]]:
    found: dict[str, Mapping[str, float]] = {}
    for group in sorted({str(name) for name in groups} - {""}):
        rows = groups == group
        found[group] = {"n": int(rows.sum())} | {
            name: metric(probabilities[rows], codes[rows]) for name, metric in GROUP_METRICS.items()
        }
    return found


def _label_warnings(
    windows: Windows, classes: tuple[str, ...], unknown: tuple[str, ...]
) -> list[str]:
    found = []
    folded = {name.strip().casefold(): name for name in classes}
    for label in unknown:
        n_windows = int((windows.y == label).sum())
        close = difflib.get_close_matches(label.strip().casefold(), list(folded), n=1, cutoff=0.8)
        hint = f"; the model knows {folded[close[0]]!r}" if close else ""
        found.append(
            f"{n_windows} windows are labelled {label!r}, a class that the model does not know"
            f"{hint}. They count as errors."
        )
    absent = [label for label in classes if label not in set(windows.classes)]
    if absent:
        found.append(f"No window of the classes {_some(absent)}: nothing was measured for them.")
    return found


def _some(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(repr(str(name)) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
