"""The Numenta Anomaly Benchmark's corpus, and three of its detectors made anew.

The detectors are written from their descriptions and give the published scores, which is how our
scorer is checked (`tests/tasks/test_detection.py`): windowed Gaussian; relative entropy (Wang and
others, "Statistical Techniques for Online Anomaly Detection in Data Centers", ICAC 2011); KNN-CAD
(Burnaev and Ishimtsev, "Conformalized density- and distance-based anomaly detection in
time-series data", 2016). KNN-CAD and relative entropy use the length or the range of the whole
file, as their published runs do; a device has neither.
"""

from __future__ import annotations

import csv
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from math import erfc
from pathlib import Path

import numpy as np
from scipy.stats import chi2

from edgegraft.tasks.detection import Range, Scored


@dataclass(frozen=True)
class Series:
    """One file: seconds since 1970 and values (n_timepoints,), labelled windows."""

    name: str
    at_s: np.ndarray
    values: np.ndarray
    windows: tuple[Range, ...]

    def scored(self, scores: np.ndarray) -> Scored:
        return Scored(scores, self.windows, self.name)


def corpus(folder: Path) -> list[Series]:
    """All files that are labelled, by name."""
    labels = json.loads((folder / "labels/combined_windows.json").read_text())
    return [_series(folder / "data" / name, name, labels[name]) for name in sorted(labels)]


def halves(series: list[Series]) -> tuple[list[Series], list[Series]]:
    """Even and odd places within each folder: what settings were chosen on, and the rest."""
    folders: dict[str, list[Series]] = {}
    for one in series:
        folders.setdefault(one.name.split("/")[0], []).append(one)
    seen = [one for of in folders.values() for one in of[::2]]
    return seen, [one for of in folders.values() for one in of[1::2]]


def _series(path: Path, name: str, windows: list) -> Series:
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    at_s = [_moment(row[0]) for row in rows]
    places = [Range(at_s.index(_moment(a)), at_s.index(_moment(b))) for a, b in windows]
    return Series(name, np.array(at_s), np.array([float(row[1]) for row in rows]), tuple(places))


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def null(values: np.ndarray) -> np.ndarray:
    return np.zeros(len(values))


def windowed_gaussian(values: np.ndarray, length: int = 6400, step: int = 100) -> np.ndarray:
    """1 less the tail probability under a normal distribution of the last samples, which moves on
    by steps once it is full."""
    scores, start, end, waiting, mean, spread = np.zeros(len(values)), 0, 0, 0, 0.0, 1.0
    for at, value in enumerate(values):
        if end:
            # Published scores have twelve decimals; with more, another threshold would be best.
            scores[at] = round(1 - 0.5 * erfc(abs(value - mean) / spread / 1.4142), 12)
        if end < length:
            end = at + 1
        else:
            waiting += 1
            if waiting < step:
                continue
            start, end, waiting = start + step, end + step, 0
        recent = values[start:end]
        mean, spread = recent.mean(), recent.std() or 1e-6
    return scores


def relative_entropy(values: np.ndarray, n_bins: int = 5, length: int = 52) -> np.ndarray:
    """1 where the histogram of the last samples is like none before, 0 elsewhere."""
    scores, low, width = np.zeros(len(values)), values.min(), np.ptp(values) / n_bins
    if not width:
        return scores
    bins = np.minimum(np.ceil((values - low) / width).astype(int), n_bins - 1)
    counts = np.concatenate([np.zeros((1, n_bins)), np.cumsum(np.eye(n_bins)[bins], axis=0)])
    border, known = chi2.isf(0.01, n_bins - 1), np.zeros((len(values), n_bins))
    m = 0
    for at, share in enumerate((counts[length:] - counts[:-length]) / length, length - 1):
        there = np.flatnonzero(share)
        with np.errstate(divide="ignore"):
            entropy = (share[there] * np.log(share[there] / known[:m, there])).sum(axis=1)
        if m and 2 * length * entropy.min() < border:
            continue
        scores[at] = float(m > 0)
        known[m] = share
        m += 1
    return scores


def knn_cad(values: np.ndarray, k: int = 27, length: int = 19) -> np.ndarray:
    """Share of earlier curves that lay nearer to their neighbours, in Mahalanobis distance."""
    n, probation = len(values), min(int(0.15 * len(values)), 750)
    curves = np.lib.stride_tricks.sliding_window_view(values, length)
    scores, first, quiet, metric = np.zeros(n), 0, -1, np.eye(length)
    memory: np.ndarray | None = None

    def strangeness(curve, known, k):
        away = known - curve
        return np.partition(np.einsum("ij,ij->i", away @ metric, away), k)[:k].sum()

    for count in range(probation, n + 1):
        known, curve = curves[first : first + probation - length], curves[count - length]
        if count % probation in (0, probation // 2):
            with suppress(np.linalg.LinAlgError):
                metric = np.linalg.inv(known.T @ known)
        if memory is None:
            memory = np.array([strangeness(one, known, k + 1) for one in known])
        new = strangeness(curve, known, k)
        share = float(np.mean(memory < new))
        first += count >= 2 * probation
        memory[(count - probation) % len(memory)] = new
        if quiet > 0:
            quiet -= 1
            share = 0.5
        elif share >= 0.9965:
            quiet = probation // 5
        scores[count - 1] = share
    return scores


PEERS = {
    "null": null,
    "windowedGaussian": windowed_gaussian,
    "relativeEntropy": relative_entropy,
    "knncad": knn_cad,
}
