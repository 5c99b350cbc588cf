"""Precision and recall of anomaly scores over all thresholds, and over all widths of a buffer.

Labels of anomalies begin and end a little early or late. VUS-PR (Paparrizos and others, "Volume
Under the Surface", VLDB 2022) therefore softens them by buffers of every width from 0 to `window`
samples and averages the area under the precision-recall curve: no threshold to choose, no point
adjusted, robust to a lag. Buffers, thresholds and the existence factor are those of the authors'
and of TSB-AD's implementation, so that figures can stand beside published ones.

The work is a few sums over bins of the score: (window + 1) passes over the samples near labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from edgegraft.tasks.ranges import ranges
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Array

N_THRESHOLDS = 250
USUAL_WINDOW = 125
LONGEST_WINDOW = 300


class Volumes(NamedTuple):
    """Volumes under the two surfaces, each 0 to 1."""

    pr: float
    roc: float


def auc_pr(scores: Array, truth: Array) -> float:
    """Area under the precision-recall curve of single samples (average precision).

    Args:
        scores: (n_timepoints,), higher is more anomalous.
        truth: bool (n_timepoints,).

    NaN without an anomalous sample.

    >>> auc_pr(np.array([0.1, 0.9, 0.8, 0.2]), np.array([0, 1, 1, 0]))
    1.0
    """
    scores, truth = _checked(scores, truth)
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits, ordered = np.cumsum(truth[order]), scores[order]
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    recall, precision = hits[ends] / hits[-1], hits[ends] / (ends + 1)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def vus_pr(scores: Array, truth: Array, *, window: int = USUAL_WINDOW) -> float:
    """Volume under the precision-recall surface.

    Args:
        scores: (n_timepoints,), higher is more anomalous.
        truth: bool (n_timepoints,).
        window: the widest buffer in samples, half of it on each side; `window_of` finds a
            period of the series as TSB-AD does.

    NaN without an anomalous sample. Errors: `DataError` ``scores-shape``.

    >>> truth = np.zeros(200, bool)
    >>> truth[90:110] = True
    >>> round(vus_pr(truth.astype(float), truth, window=0), 3)
    1.0
    >>> vus_pr(np.roll(truth, 5).astype(float), truth, window=20) > 0.5
    True
    """
    return volumes(scores, truth, window=window).pr


def volumes(scores: Array, truth: Array, *, window: int = USUAL_WINDOW) -> Volumes:
    """Volumes under the precision-recall and the ROC surface, see `vus_pr`."""
    scores, truth = _checked(scores, truth)
    if not truth.any():
        return Volumes(float("nan"), float("nan"))
    bins = _bins(scores)
    predicted = np.cumsum(np.bincount(bins, minlength=N_THRESHOLDS))
    areas = [
        _areas(tp, positives, existing, predicted, len(scores))
        for tp, positives, existing in _surface(bins, truth, window)
    ]
    pr, roc = np.mean(areas, axis=0)
    return Volumes(float(pr), float(roc))


def window_of(values: Array) -> int:
    """A width of buffer for a series: the lag of its highest autocorrelation peak, as TSB-AD
    takes it, at most 300 samples; 125 where there is no such peak.

    Args:
        values: (n_timepoints,)

    >>> window_of(np.sin(np.arange(2000) * 2 * np.pi / 48))
    48
    """
    series = np.asarray(values, dtype=np.float64).ravel()[:20_000]
    series = series[np.isfinite(series)]
    if len(series) < 8 or np.ptp(series) == 0:
        return USUAL_WINDOW
    series = series - series.mean()
    spectrum = np.fft.rfft(series, 2 * len(series))
    correlation = np.fft.irfft(spectrum * spectrum.conj())[: min(len(series), 401)][3:]
    correlation = correlation / np.dot(series, series)
    inner = correlation[1:-1]
    peaks = 1 + np.flatnonzero((inner > correlation[:-2]) & (inner > correlation[2:]))
    if not len(peaks):
        return USUAL_WINDOW
    best = int(peaks[np.argmax(correlation[peaks])])
    return best + 3 if 3 <= best <= LONGEST_WINDOW else USUAL_WINDOW


def _bins(scores: Array) -> Array:
    """For each sample the first of the falling thresholds that lets it through."""
    ordered = -np.sort(-scores)
    places = np.linspace(0, len(scores) - 1, N_THRESHOLDS).astype(np.int64)
    return np.searchsorted(-ordered[places], -scores, side="left")


def _surface(bins: Array, truth: Array, window: int) -> Iterator[tuple[Array, Array, Array]]:
    """For each width of buffer: true positives, mean count of positives, and share of anomalies
    that were met, each (n_thresholds,)."""
    n = len(truth)
    spans = np.array(ranges(truth), dtype=np.int64)
    firsts, lasts = spans[:, 0], spans[:, 1]
    inside = np.cumsum(np.bincount(bins[truth], minlength=N_THRESHOLDS)).astype(float)
    n_true = float(truth.sum())
    for width in range(window + 1):
        half = width // 2
        soft = np.zeros(N_THRESHOLDS)
        if half:
            away = np.arange(1, half + 1)
            height = np.sqrt(1 - away / width)
            places = np.stack([firsts[:, None] - away, lasts[:, None] + away])
            heights = np.broadcast_to(height, places.shape)
            kept = (places >= 0) & (places < n)
            kept[kept] = ~truth[places[kept]]
            at, which = np.unique(places[kept], return_inverse=True)
            level = np.minimum(np.bincount(which, heights[kept], minlength=len(at)), 1.0)
            soft = np.cumsum(np.bincount(bins[at], level, minlength=N_THRESHOLDS))
        met = _earliest(bins, firsts, lasts, half)
        existing = np.cumsum(np.bincount(met, minlength=N_THRESHOLDS)) / len(met)
        # A buffer's samples count as positives only as far as they were predicted.
        yield inside + soft, n_true + soft / 2, existing


def _earliest(bins: Array, firsts: Array, lasts: Array, half: int) -> Array:
    """For each anomaly with its buffers, merged where they touch, its samples' smallest bin."""
    apart = lasts[:-1] + half < firsts[1:] - half
    starts = np.maximum(firsts[np.concatenate([[True], apart])] - half, 0)
    ends = np.minimum(lasts[np.concatenate([apart, [True]])] + half, len(bins) - 1)
    # reduceat wants the start of every second piece inside the array, hence one more element.
    pairs = np.stack([starts, ends + 1], axis=1).ravel()
    return np.minimum.reduceat(np.append(bins, N_THRESHOLDS), pairs)[::2]


def _areas(
    tp: Array, positives: Array, existing: Array, predicted: Array, n: int
) -> tuple[float, float]:
    recall = np.minimum(tp / positives, 1.0) * existing
    precision = tp / predicted
    fall_out = (predicted - tp) / np.maximum(n - positives, 1.0)
    pr = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    x, y = np.concatenate([[0.0], fall_out, [1.0]]), np.concatenate([[0.0], recall, [1.0]])
    return pr, float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def _checked(scores: Array, truth: Array) -> tuple[Array, Array]:
    scores, truth = np.asarray(scores, dtype=np.float64), np.asarray(truth)
    if scores.ndim != 1 or scores.shape != truth.shape or not np.isfinite(scores).all():
        raise DataError.of(
            "scores-shape",
            f"scores {scores.shape} with {np.sum(~np.isfinite(scores))} that are no numbers, "
            f"labels {truth.shape}",
            "each sample has one finite score and one label",
            "scores and labels of (n_timepoints,)",
        )
    return scores, truth.astype(bool)
