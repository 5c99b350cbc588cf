"""Anomalies in spacecraft telemetry and the NAB series, TSB-AD style, beside Sub-PCA.

    python bench/anomaly.py --msl FOLDER --nab FOLDER [--corpora msl-first msl-all nab]
        [--protocols unlabelled normal] [--half development|test|all] [--alarms] [--out NAME]

FOLDER of --msl holds msl.npz and labeled_anomalies.csv (NASA/JPL, 27 channels of one rover, a
train and a test part each, 55 columns), that of --nab the folders data and labels of the Numenta
Anomaly Benchmark. `msl-first` is the first column of each (the telemetry itself, as TSB-AD-U takes
it), `msl-all` all columns that ever move (as TSB-AD-M), `nab` every series with an anomaly, its
first 15 % being the train part.

Two protocols, for Sub-PCA and for ours alike. `unlabelled`: both parts are one series without
labels; Sub-PCA is fitted to the series that it scores, as its authors do, ours scores each
twentieth by experts of the rest. `normal`: only the train part is learned from, and Sub-PCA is
fitted to it too. Only the test part is scored, by VUS-PR with the series' period as the widest
buffer. No method sees a label, nothing is chosen per series.

A window's score is placed in three ways, again the same for all: `centre` (Sub-PCA's own), `mean`
(each sample gets the mean of all windows that hold it) and `end` (the last sample, which is what a
device knows without delay). Sub-PCA after TSB-AD's description: window by autocorrelation, columns
standardised, distances to all principal axes divided by their share of variance. Of many columns,
the mean of it over columns, each scaled to 0..1; "PCA of samples" is what TSB-AD-M calls PCA.

Cells are written as they come; cells already there are not run again.

With --alarms the other question is asked: experts of the train part alone, a border for 1 % and for
0.1 % of normal windows, and what then happens in the test part: how many of its normal samples
alarm, how many anomalies are met, range F1, and the delay in samples. Written beside as *_alarms.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgegraft.adapt.anomalies.border import quantile
from edgegraft.adapt.anomalies.departures import DEFAULT, joint, learn, left_out, views
from edgegraft.adapt.anomalies.grade import Grades
from edgegraft.adapt.anomalies.series_view import Scaling
from edgegraft.adapt.anomalies.time_blocks import time_blocks
from edgegraft.tasks.detection import detection_delay, range_f1, vus_pr, window_of
from edgegraft_edge.signal import Windows

PLACES = ("mean", "centre", "end")
OURS = "fused"
N_FOLDS, N_FOLDS_MANY = 20, 8  # of one column, of many
SHORTEST = 64


class Series(NamedTuple):
    """One series: what came first (train), what is scored (test), both (n_timepoints, n)."""

    name: str
    train: np.ndarray
    test: np.ndarray
    truth: np.ndarray


def msl(folder: Path, first: bool) -> Iterator[Series]:
    stored = np.load(folder / "msl.npz")
    rows = csv.DictReader((folder / "labeled_anomalies.csv").open())
    for row in sorted(rows, key=lambda row: row["chan_id"]):
        train, test = (stored[f"{row['chan_id']}_{part}"] for part in ("train", "test"))
        truth = np.zeros(len(test), bool)
        for begin, end in json.loads(row["anomaly_sequences"]):
            truth[begin : end + 1] = True
        moving = np.ptp(np.concatenate([train, test]), axis=0) > 0
        moving[1:] &= not first
        moving[0] = True
        yield Series(row["chan_id"], train[:, moving], test[:, moving], truth)


def nab(folder: Path) -> Iterator[Series]:
    windows = json.loads((folder / "labels" / "combined_windows.json").read_text())
    for name in sorted(name for name in windows if windows[name]):
        rows = list(csv.reader((folder / "data" / name).open()))[1:]
        at = np.array([np.datetime64(row[0]) for row in rows])
        values = np.array([[float(row[1])] for row in rows], dtype=np.float64)
        truth = np.zeros(len(values), bool)
        for begin, end in windows[name]:
            truth |= (at >= np.datetime64(begin[:19])) & (at <= np.datetime64(end[:19]))
        n = round(0.15 * len(values))
        yield Series(name, values[:n], values[n:], truth[n:])


def sub_pca(fitted: np.ndarray, series: np.ndarray, length: int) -> np.ndarray:
    """(n_windows,) of a series (n_timepoints,), by principal axes of the windows of `fitted`."""
    rows, asked = (sliding_window_view(each, length) for each in (fitted, series))
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(scale == 0, 1, scale)
    z, q = (rows - mean) / scale, (asked - mean) / scale
    kept = (z != 0).any(axis=0)
    if not kept.any():  # a train part that never moves has no axes
        return np.sqrt((q**2).sum(axis=1))
    return to_axes(z[:, kept], q[:, kept], length)


def to_axes(z: np.ndarray, q: np.ndarray, most: float) -> np.ndarray:
    """Sum of distances of rows `q` to unit vectors along the axes of `z`, over their share."""
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    values, vectors = np.maximum(values[::-1], 1e-12 * values[-1]), vectors[:, ::-1]
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(len(values))])
    share = values / values.sum()
    count = min(z.shape) if most >= 1 else int(np.searchsorted(np.cumsum(share), most)) + 1
    gaps = (q**2).sum(axis=1)[:, None] + 1 - 2 * q @ vectors[:, :count]
    return (np.sqrt(np.maximum(gaps, 0)) / share[:count]).sum(axis=1)


def sub_pca_of(fitted: np.ndarray, whole: np.ndarray, length: int) -> np.ndarray:
    found = []
    for a, b in zip(fitted.T, whole.T, strict=True):
        scores = sub_pca(a, b, length)
        found.append((scores - scores.min()) / max(np.ptp(scores), 1e-12))
    return np.mean(found, axis=0)


def pca_of_samples(fitted: np.ndarray, whole: np.ndarray) -> np.ndarray:
    scale = np.where(fitted.std(axis=0) == 0, 1, fitted.std(axis=0))
    z, q = (fitted - fitted.mean(axis=0)) / scale, (whole - fitted.mean(axis=0)) / scale
    kept = (z != 0).any(axis=0)
    return to_axes(z[:, kept], q[:, kept], 0.75)


def ours(whole: np.ndarray, n_train: int, length: int, protocol: str) -> dict[str, np.ndarray]:
    """Scores of each expert and of all of them, (n_windows,) of every window of the series."""
    x = sliding_window_view(whole, length, axis=0).astype(np.float32)
    n_normal = n_train - length + 1
    folds = N_FOLDS if whole.shape[1] == 1 else N_FOLDS_MANY
    if protocol == "normal":
        model, _ = learn(x[:n_normal], DEFAULT, blocks(n_normal, length, 10))
        scores, grades = model.scores(x), model.grades
    else:
        seen = views(Scaling.of(x).apply(x), DEFAULT)
        scores = left_out(seen, DEFAULT, blocks(len(x), length, folds))
        grades = Grades.of(scores)
    even = (1.0,) * len(DEFAULT)
    return {**dict(zip(DEFAULT, scores.T, strict=True)), OURS: joint(grades.apply(scores), even)}


def blocks(n: int, length: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """As `time_blocks` of windows of one recording, one sample apart."""
    spec = Windows.of(np.zeros((1, 1, length))).spec
    none, zeros = np.full(n, ""), np.zeros(n, dtype=np.int64)
    x = np.zeros((n, 1, length), np.float32)
    return time_blocks(Windows(x, none, none, spec, zeros, np.arange(n)), count)


def placed(scores: np.ndarray, length: int, place: str) -> np.ndarray:
    """Scores of windows (n_windows,) as scores of samples (n_windows + length - 1,)."""
    before = {"centre": length // 2, "end": length - 1}.get(place)
    if before is not None:
        after = length - 1 - before
        return np.concatenate([np.full(before, scores[0]), scores, np.full(after, scores[-1])])
    sums = np.concatenate([[0.0], np.cumsum(scores, dtype=np.float64)])
    index = np.arange(len(scores) + length - 1)
    low, high = np.maximum(0, index - length + 1), np.minimum(len(scores) - 1, index)
    return (sums[high + 1] - sums[low]) / (high + 1 - low)


def cells(series: Series, corpus: str, protocol: str) -> list[dict]:
    whole = np.concatenate([series.train, series.test]).astype(np.float64)
    n_train = len(series.train)
    fitted = whole[:n_train] if protocol == "normal" else whole
    buffer = window_of(whole[:, 0])
    longest = max(8, n_train // 3)
    period = window_of(fitted[:, 0])
    own, length = min(period, longest), min(max(period, SHORTEST), longest)
    began = time.process_time()
    found = {
        "Sub-PCA": (sub_pca_of(fitted, whole, own), own),
        "Sub-PCA, our window": (sub_pca_of(fitted, whole, length), length),
    }
    middle = time.process_time()
    if whole.shape[1] > 1:
        found["PCA of samples"] = (pca_of_samples(fitted, whole), 1)
    found |= {k: (v, length) for k, v in ours(whole, n_train, length, protocol).items()}
    seconds = {OURS: time.process_time() - middle, "Sub-PCA": (middle - began) / 2}
    return [
        {
            "corpus": corpus,
            "protocol": protocol,
            "series": series.name,
            "method": method,
            "window": int(used),
            "seconds": round(seconds.get(method, 0.0), 3),
            **{
                place: round(vus_pr(placed(scores, used, place)[n_train:], series.truth,
                                    window=buffer), 5)
                for place in PLACES
            },
        }
        for method, (scores, used) in found.items()
    ]  # fmt: skip


def alarms(series: Series, corpus: str) -> list[dict]:
    """What borders for two shares of normal windows do in the test part, without delay."""
    whole = np.concatenate([series.train, series.test]).astype(np.float64)
    n_train = len(series.train)
    length = min(max(window_of(series.train[:, 0]), SHORTEST), max(8, n_train // 3))
    x = sliding_window_view(whole, length, axis=0).astype(np.float32)
    n_normal = n_train - length + 1
    model, held = learn(x[:n_normal], DEFAULT, blocks(n_normal, length, 10))
    usual = joint(model.grades.apply(held), model.weights)
    grades = model.embed(x[n_normal:])[:, 0]  # of windows that end in the test part
    found = []
    for share in (0.01, 0.001):
        line, beyond = quantile(usual, share)
        told = grades > line
        delays = detection_delay(told, series.truth, rate_hz=1.0)
        found.append(
            {
                "corpus": corpus,
                "series": series.name,
                "asked": share,
                "extrapolated": beyond,
                "alarmed": round(float(told[~series.truth].mean()), 5),
                "met": delays.found,
                "anomalies": delays.total,
                "delay": delays.mean_s if delays.found else None,
                "range_f1": round(range_f1(told, series.truth), 5),
            }
        )
    return found


def table_of_alarms(rows: list[dict]) -> str:
    lines = [
        "# Alarms at a border for a share of normal windows\n",
        "Experts of the train part alone; see `bench/anomaly.py --alarms`. Normal samples of the "
        "test part that alarm (median and mean over series), anomalies met, mean delay in samples, "
        "mean range F1.\n",
        "| corpus | asked | median | mean | met | delay | range F1 |",
        "|---|---|---|---|---|---|---|",
    ]
    for corpus in dict.fromkeys(row["corpus"] for row in rows):
        for share in (0.01, 0.001):
            part = [r for r in rows if r["corpus"] == corpus and r["asked"] == share]
            shares = [row["alarmed"] for row in part]
            met, total = (sum(row[key] for row in part) for key in ("met", "anomalies"))
            late = np.mean([row["delay"] for row in part if row["delay"] is not None])
            f1 = np.mean([row["range_f1"] for row in part])
            told = f"{np.median(shares):.4f} | {np.mean(shares):.4f} | {met} of {total}"
            lines.append(f"| {corpus} | {share:g} | {told} | {late:.0f} | {f1:.3f} |")
    return "\n".join(lines) + "\n"


def interval(values: np.ndarray) -> tuple[float, float]:
    """Of a mean over series: 95 % of 10,000 bootstrap means."""
    random = np.random.default_rng(0)
    means = random.choice(values, (10_000, len(values))).mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def table(rows: list[dict], half: str) -> str:
    lines = [
        f"# Anomalies in series, {half} series\n",
        "Mean VUS-PR over series by how a window's score is placed in time (see "
        "`bench/anomaly.py`); in brackets, for the mean and centre placement, the difference from "
        "Sub-PCA with the same placement over the same series, with a 95 % bootstrap interval.\n",
    ]
    for corpus in dict.fromkeys(row["corpus"] for row in rows):
        for protocol in dict.fromkeys(row["protocol"] for row in rows):
            part = [r for r in rows if r["corpus"] == corpus and r["protocol"] == protocol]
            names = sorted({row["series"] for row in part})
            if not names:
                continue
            lines += [f"\n## {corpus}, {protocol}: {len(names)} series\n",
                      "| method | mean | centre | end (no delay) | seconds a series |",
                      "|---|---|---|---|---|"]  # fmt: skip
            by = {(r["method"], r["series"]): r for r in part}
            for method in dict.fromkeys(row["method"] for row in part):
                told = []
                for place in PLACES:
                    own = np.array([by[method, name][place] for name in names])
                    base = np.array([by["Sub-PCA", name][place] for name in names])
                    text = f"{own.mean():.3f}"
                    if method != "Sub-PCA" and place != "end":
                        low, high = interval(own - base)
                        text += f" ({(own - base).mean():+.3f}, {low:+.3f} to {high:+.3f})"
                    told.append(text)
                seconds = np.mean([by[method, name]["seconds"] for name in names])
                cost = f"{seconds:.1f}" if method in (OURS, "Sub-PCA") else ""
                lines.append(f"| {method} | {' | '.join(told)} | {cost} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--msl", type=Path)
    parser.add_argument("--nab", type=Path)
    parser.add_argument("--corpora", nargs="+", default=["msl-first", "nab", "msl-all"])
    parser.add_argument("--protocols", nargs="+", default=["unlabelled", "normal"])
    parser.add_argument("--half", choices=("development", "test", "all"), default="all")
    parser.add_argument("--alarms", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    name = "anomaly" if options.half == "all" else f"anomaly_{options.half}"
    out = options.out or Path(__file__).parent / "results" / name
    if options.alarms:
        out = out.with_name(out.name + "_alarms")
    place = out.with_suffix(".json")
    done = json.loads(place.read_text()) if place.exists() else []
    known = {(row["corpus"], row.get("protocol", ""), row["series"]) for row in done}
    for corpus in options.corpora:
        folder = options.nab if corpus == "nab" else options.msl
        if folder is None:
            continue
        found = nab(folder) if corpus == "nab" else msl(folder, corpus == "msl-first")
        for index, series in enumerate(found):
            if options.half != "all" and (index % 2 == 0) != (options.half == "development"):
                continue
            if options.alarms:
                if (corpus, "", series.name) not in known:
                    done += alarms(series, corpus)
                    place.write_text(json.dumps(done, indent=1) + "\n")
                continue
            for protocol in options.protocols:
                if (corpus, protocol, series.name) in known:
                    continue
                done += cells(series, corpus, protocol)
                print(corpus, protocol, series.name, done[-1]["mean"], flush=True)
                place.write_text(json.dumps(done, indent=1) + "\n")
    text = table_of_alarms(done) if options.alarms else table(done, options.half)
    out.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
