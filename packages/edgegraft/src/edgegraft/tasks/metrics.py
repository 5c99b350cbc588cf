"""Metrics: how far probabilities agree with labels; of estimates see `estimate_metrics`.

Classification metrics take probabilities (n_windows, n_classes) and codes int (n_windows,), the
positions of the true classes. A code outside ``0 .. n_classes - 1`` (by custom -1) is a class
that the model does not know: always an error, and in macro averages one further class that is
never found.

Conventions, the same as scikit-learn's defaults: macro averages of precision, recall and F1 go
over the classes that occur in the truth *or* were predicted, an undefined ratio counts as 0;
balanced accuracy goes over the classes in the truth. No windows at all give NaN, never a warning.

Every classification metric here is a function of sums over windows (:class:`Tallied`), so that
a bootstrap needs the windows only once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from edgegraft_edge.signal import Array

N_BINS = 15
CELLS = 4_000_000
"""Numbers of a table that are tallied at once."""
SMALLEST = float(np.finfo(np.float32).eps)
"""Probabilities are float32: below this a zero is only a rounded one."""


@dataclass(frozen=True)
class Tallied:
    """A metric that is a function of sums over windows; call it like any metric.

    Attributes:
        name: e.g. ``"macro_f1"``.
        better: which direction is good.
        tally: (probabilities, codes) -> terms float64 (n_windows, ...), to be summed.
        finish: sums, with any leading axes, -> values with these axes

    >>> accuracy(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
    0.5
    """

    name: str
    better: Literal["higher", "lower"]
    tally: Callable[[Array, Array], Array]
    finish: Callable[[Array], Array]

    def __call__(self, probabilities: Array, codes: Array) -> float:
        rows = max(1, CELLS // max(1, np.shape(probabilities)[1]))  # forecasts are wide
        parts = [
            self.tally(*_checked(probabilities[at : at + rows], codes[at : at + rows])).sum(axis=0)
            for at in range(0, max(1, len(probabilities)), rows)
        ]
        return float(self.finish(parts[0] if len(parts) == 1 else np.sum(parts, axis=0)))


class PerClass(NamedTuple):
    """Scores of each class, float64 (n_classes,); `support` counts its windows."""

    precision: Array
    recall: Array
    f1: Array
    support: Array


def _checked(probabilities: Array, codes: Array) -> tuple[Array, Array]:
    """Codes are whole numbers; the truth of estimates stays what it is."""
    truth = np.asarray(codes)
    whole = truth if truth.dtype.kind == "f" else truth.astype(np.int64)
    return np.asarray(probabilities, dtype=np.float64), whole


def _ratio(part: Array, whole: Array, empty: float = 0.0) -> Array:
    """`part / whole`, and `empty` where `whole` is nothing."""
    part, whole = np.broadcast_arrays(np.asarray(part, dtype=float), np.asarray(whole, dtype=float))
    ratio: Array = np.divide(part, whole, out=np.full(part.shape, empty), where=whole != 0)
    return ratio


# Counts per class: found, in the truth, predicted. The last place is the unknown class.


def _count_terms(probabilities: Array, codes: Array) -> Array:
    n_windows, n_classes = probabilities.shape
    known = (codes >= 0) & (codes < n_classes)
    truth = np.where(known, codes, n_classes)
    guess = probabilities.argmax(axis=1)
    terms = np.zeros((n_windows, 3, n_classes + 1))
    rows = np.arange(n_windows)
    terms[rows, 0, truth] = truth == guess
    terms[rows, 1, truth] = 1.0
    terms[rows, 2, guess] = 1.0
    return terms


def _counts(sums: Array) -> tuple[Array, Array, Array]:
    return sums[..., 0, :], sums[..., 1, :], sums[..., 2, :]


def _accuracy(sums: Array) -> Array:
    hits, truth, _ = _counts(sums)
    return _ratio(hits.sum(axis=-1), truth.sum(axis=-1), np.nan)


def _balanced_accuracy(sums: Array) -> Array:
    hits, truth, _ = _counts(sums)
    return _ratio(_ratio(hits, truth).sum(axis=-1), (truth > 0).sum(axis=-1), np.nan)


def _macro(score: Callable[[Array, Array, Array], Array]) -> Callable[[Array], Array]:
    def finish(sums: Array) -> Array:
        hits, truth, guess = _counts(sums)
        occurs = truth + guess > 0
        return _ratio(score(hits, truth, guess).sum(axis=-1), occurs.sum(axis=-1), np.nan)

    return finish


def _f1(hits: Array, truth: Array, guess: Array) -> Array:
    return _ratio(2 * hits, truth + guess)


def _weighted_f1(sums: Array) -> Array:
    hits, truth, guess = _counts(sums)
    weighted = (_f1(hits, truth, guess) * truth).sum(axis=-1)
    return _ratio(weighted, truth.sum(axis=-1), np.nan)


# Means of a loss per window.


def _of_truth(probabilities: Array, codes: Array) -> Array:
    """Probability given to the true class; 0 where the model does not know it."""
    known = (codes >= 0) & (codes < probabilities.shape[1])
    rows = np.arange(len(codes))
    return np.where(known, probabilities[rows, np.where(known, codes, 0)], 0.0)


def _with_count(losses: Array) -> Array:
    return np.stack([losses, np.ones_like(losses)], axis=-1)


def _log_terms(probabilities: Array, codes: Array) -> Array:
    return _with_count(-np.log(np.clip(_of_truth(probabilities, codes), SMALLEST, 1.0)))


def _brier_terms(probabilities: Array, codes: Array) -> Array:
    squares = (probabilities**2).sum(axis=1)
    return _with_count(squares - 2 * _of_truth(probabilities, codes) + 1)


def _mean(sums: Array) -> Array:
    return _ratio(sums[..., 0], sums[..., 1], np.nan)


# Calibration: confidence against accuracy, in bins of equal width.


def _bins(confidence: Array) -> Array:
    """Bin of each confidence; bins are open at the bottom, closed at the top."""
    bins: Array = np.ceil(confidence * N_BINS).astype(np.int64)
    return bins.clip(1, N_BINS) - 1


def _calibration_terms(probabilities: Array, codes: Array) -> Array:
    terms = np.zeros((len(codes), 3, N_BINS))
    confidence = probabilities.max(axis=1, initial=0.0)
    rows, bins = np.arange(len(codes)), _bins(confidence)
    terms[rows, 0, bins] = 1.0
    terms[rows, 1, bins] = confidence
    terms[rows, 2, bins] = probabilities.argmax(axis=1) == codes
    return terms


def _calibration_error(sums: Array) -> Array:
    count, confidence, hits = _counts(sums)
    return _ratio(np.abs(hits - confidence).sum(axis=-1), count.sum(axis=-1), np.nan)


accuracy = Tallied("accuracy", "higher", _count_terms, _accuracy)
balanced_accuracy = Tallied("balanced_accuracy", "higher", _count_terms, _balanced_accuracy)
macro_precision = Tallied(
    "macro_precision",
    "higher",
    _count_terms,
    _macro(lambda hits, truth, guess: _ratio(hits, guess)),
)
macro_recall = Tallied(
    "macro_recall", "higher", _count_terms, _macro(lambda hits, truth, guess: _ratio(hits, truth))
)
macro_f1 = Tallied("macro_f1", "higher", _count_terms, _macro(_f1))
weighted_f1 = Tallied("weighted_f1", "higher", _count_terms, _weighted_f1)
log_loss = Tallied("log_loss", "lower", _log_terms, _mean)
brier = Tallied("brier", "lower", _brier_terms, _mean)
calibration_error = Tallied("calibration_error", "lower", _calibration_terms, _calibration_error)

CLASSIFICATION: Mapping[str, Tallied] = {
    metric.name: metric
    for metric in (
        accuracy,
        balanced_accuracy,
        macro_f1,
        macro_precision,
        macro_recall,
        weighted_f1,
        log_loss,
        brier,
        calibration_error,
    )
}
"""All of them by name. Brier: summed over classes (Brier 1950). `calibration_error`: expected
calibration error in 15 bins of equal width (Guo et al. 2017)."""


def confusion(probabilities: Array, codes: Array, n_truths: int | None = None) -> Array:
    """Counts int64 (n_truths, n_classes): rows are true classes, columns predicted ones.

    `n_truths` above n_classes makes rows for classes that the model does not know (codes from
    n_classes on); codes outside the rows, such as -1, are left out.

    >>> confusion(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1])).tolist()
    [[1, 0], [1, 0]]
    """
    probabilities, codes = _checked(probabilities, codes)
    n_classes = probabilities.shape[1]
    n_truths = n_classes if n_truths is None else n_truths
    inside = (codes >= 0) & (codes < n_truths)
    cells = codes[inside] * n_classes + probabilities.argmax(axis=1)[inside]
    return np.bincount(cells, minlength=n_truths * n_classes).reshape(n_truths, n_classes)


def per_class(probabilities: Array, codes: Array) -> PerClass:
    """Precision, recall, F1 and number of windows of each class; undefined ratios are 0.

    >>> per_class(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1])).recall.tolist()
    [1.0, 0.0]
    """
    sums = _count_terms(*_checked(probabilities, codes)).sum(axis=0)
    hits, truth, guess = (counts[:-1] for counts in _counts(sums))
    return PerClass(_ratio(hits, guess), _ratio(hits, truth), _f1(hits, truth, guess), truth)


class CalibrationBin(NamedTuple):
    """Windows whose confidence lies in (low, high]: how many, how sure, how often right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def calibration_bins(probabilities: Array, codes: Array) -> tuple[CalibrationBin, ...]:
    """The bins behind `calibration_error`, without the empty ones."""
    sums = _calibration_terms(*_checked(probabilities, codes)).sum(axis=0)
    count, confidence, hits = _counts(sums)
    return tuple(
        CalibrationBin(
            index / N_BINS,
            (index + 1) / N_BINS,
            int(count[index]),
            float(confidence[index] / count[index]),
            float(hits[index] / count[index]),
        )
        for index in np.flatnonzero(count)
    )
