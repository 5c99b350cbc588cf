"""Few labels and a pool, unseen people, on UCI HAR: spread labels beside labels alone and peers.

    python bench/few_labels.py --data FOLDER [--labels 1 5 10 25 50 100] [--seeds 0 1 2 3 4]
        [--pools full uneven] [--methods NAME ...] [--development]

FOLDER holds train.npz and test.npz (x, y, groups, rate_hz, channels), people apart. Labels are
drawn from the training people with a seed, as in `uci_har.py`; all other training windows are
the pool, without labels. In the uneven pool classes fall from ten to one in geometric steps, in
an order drawn with the seed. Every method gets the same labels and pool and is scored on all
windows of the test people, one by one: none sees them before. With --development the test
people are a third of the training people, drawn with the seed, and test.npz is not read.

Cells are written as they come; cells already there are not run again. Seconds are processor time
of a fit whose embeddings are cached (a second fit after one that filled the cache); for peers,
whose features are not cached, of the whole fit.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import edgegraft as eg
from edgegraft.adapt.scored import forget
from edgegraft.adapt.strategy import build_strategy
from edgegraft.data.split import few_shot
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone

AIMS = {1: 0.85, 5: 0.94, 10: 0.955, 25: 0.965, 50: 0.975, 100: 0.98}
OURS = {
    "spread": ("spread", {}),
    "blend": ("blend", {}),
    "guard": ("guard", {}),
    "spread, uniform shares": ("spread", {"spread.shares": "uniform"}),
    "spread, shares of the labels": ("spread", {"spread.shares": "labels"}),
}
PEERS = ("aeon MiniRocket + ridge", "sklearn LabelSpreading, ridge")
UNEVEN = 10


def thinned(windows: eg.Windows, labelled: np.ndarray, seed: int) -> np.ndarray:
    """Positions of an uneven pool: the labelled windows stay, classes fall to a tenth."""
    random = np.random.default_rng([11, seed])
    names = random.permutation(np.unique(windows.y))
    rest = np.setdiff1d(np.arange(len(windows)), labelled)
    kept = [labelled]
    for name, share in zip(names, np.geomspace(1, 1 / UNEVEN, len(names)), strict=True):
        own = rest[windows.y[rest] == name]
        most = np.unique(windows.y, return_counts=True)[1].min()
        kept.append(random.permutation(own)[: max(1, round(share * most))])
    return np.sort(np.concatenate(kept))


def own(method: str, given: eg.Windows, test: eg.Windows, seed: int) -> dict:
    name, options = OURS[method]
    strategy = build_strategy(name, options)
    backbone = load_backbone("conv1d-motion")
    strategy.adapt(backbone, given, Classification(), seed=seed)
    forget()  # the fits, not the embeddings
    began = time.process_time()
    adapted = strategy.adapt(backbone, given, Classification(), seed=seed)
    seconds = time.process_time() - began
    said = adapted.predict(test)
    codes = test.codes(adapted.classes)
    likely = said.probabilities[np.arange(len(codes)), codes]
    return {
        "accuracy": float((said.probabilities.argmax(axis=1) == codes).mean()),
        "log_loss": float(-np.log(np.maximum(likely, 1e-12)).mean()),
        "seconds": seconds,
    }


def peer(method: str, given: eg.Windows, test: eg.Windows, seed: int) -> dict:
    from aeon.transformations.collection.convolution_based import MiniRocket
    from sklearn.decomposition import PCA
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.semi_supervised import LabelSpreading

    few = given.take(np.flatnonzero(given.labelled))
    began = time.process_time()
    base = given if "Spreading" in method else few
    features = MiniRocket(random_state=seed).fit(base.x.astype(np.float64))
    z, y = features.transform(base.x.astype(np.float64)), base.y
    if "Spreading" in method:
        flat = PCA(32, random_state=seed).fit_transform(StandardScaler().fit_transform(z))
        names, codes = np.unique(few.y, return_inverse=True)
        known = np.full(len(given), -1)
        known[given.labelled] = codes
        graph = LabelSpreading(kernel="knn", n_neighbors=10, alpha=0.9, max_iter=1000)
        y = names[graph.fit(flat, known).transduction_]
    head = make_pipeline(
        StandardScaler(with_mean=False), RidgeClassifierCV(alphas=np.logspace(-3, 3, 10))
    ).fit(z, y)
    seconds = time.process_time() - began
    guess = head.predict(features.transform(test.x.astype(np.float64)))
    return {"accuracy": float((guess == test.y).mean()), "seconds": seconds}


def cell(method: str, train: eg.Windows, test: eg.Windows, n: int, seed: int, pool: str) -> dict:
    labelled = few_shot(train, n, seed=seed)
    y = np.full(len(train), "", dtype=train.y.dtype)
    y[labelled] = train.y[labelled]
    given = replace(train, y=y)
    if pool == "uneven":
        given = given.take(thinned(train, labelled, seed))
    run = peer if method in PEERS else own
    return {"method": method, "labels": n, "seed": seed, "pool": pool} | run(
        method, given, test, seed
    )


def people(data: Path, seed: int, development: bool) -> tuple[eg.Windows, eg.Windows]:
    train = eg.open_data(data / "train.npz").windows()
    if development:
        from development_data import by_person

        return by_person(train, seed)
    return train, eg.open_data(data / "test.npz").windows()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", type=int, nargs="+", default=list(AIMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--pools", nargs="+", default=["full", "uneven"])
    parser.add_argument("--methods", nargs="+", default=[*OURS, *PEERS])
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    name = "few_labels_development" if options.development else "few_labels"
    out = options.out or Path(__file__).parent / "results" / name
    out.parent.mkdir(parents=True, exist_ok=True)
    place = out.with_suffix(".json")
    cells = json.loads(place.read_text()) if place.exists() else []
    known = {(c["method"], c["labels"], c["seed"], c["pool"]) for c in cells}
    for seed in options.seeds:
        train, test = people(options.data, seed, options.development)
        for pool in options.pools:
            for n in options.labels:
                for method in options.methods:
                    if (method, n, seed, pool) in known:
                        continue
                    cells.append(cell(method, train, test, n, seed, pool))
                    print(json.dumps(cells[-1]), flush=True)
                    place.write_text(json.dumps(cells, indent=1))
    table = markdown(cells, options.development)
    out.with_suffix(".md").write_text(table)
    print(table)


def markdown(cells: list[dict], development: bool) -> str:
    """Accuracy by method and labels; below, the difference from labels alone, paired by seed."""
    whom = "a third of the training people, in turn" if development else "unseen people"
    lines = [
        f"Accuracy on {whom}, mean over seeds (half width of the 95 % t interval); second, the",
        "difference from the blend on labels alone with the same labels, in points. Made by",
        "`bench/few_labels.py`, which says what the seconds are.",
    ]
    labels = sorted({c["labels"] for c in cells})
    for pool in dict.fromkeys(c["pool"] for c in cells):
        here = [c for c in cells if c["pool"] == pool]
        by = {(c["method"], c["labels"], c["seed"]): c for c in here}
        head = " | ".join(f"n={n}" for n in labels)
        lines += ["", f"Pool: {pool}", "", f"| method | {head} | seconds |"]
        lines.append("|---|" + "---|" * (len(labels) + 1))
        for method in dict.fromkeys(c["method"] for c in here):
            row, seconds = [], []
            for n in labels:
                seeds = sorted(s for m, k, s in by if (m, k) == (method, n))
                if not seeds:
                    row.append("")
                    continue
                values = [by[method, n, s]["accuracy"] for s in seeds]
                seconds += [by[method, n, s]["seconds"] for s in seeds]
                both = [s for s in seeds if ("blend", n, s) in by]
                apart = [
                    100 * (by[method, n, s]["accuracy"] - by["blend", n, s]["accuracy"])
                    for s in both
                ]
                text = interval(values, 3)
                if method != "blend" and apart:
                    text += f", {interval(apart, 1, sign=True)}"
                row.append(text)
            lines.append(
                f"| {method} | " + " | ".join(row) + f" | {min(seconds):.1f}-{max(seconds):.1f} |"
            )
        if not development:
            aims = " | ".join(str(AIMS.get(n, "")) for n in labels)
            lines.append(f"| aim | {aims} | 3 |")
    return "\n".join(lines) + "\n"


def interval(values: list[float], digits: int, sign: bool = False) -> str:
    """Mean and half width of its 95 % t interval."""
    from scipy.stats import t

    half = 0.0
    if len(values) > 1:
        half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    mean = float(np.mean(values))
    return f"{mean:{'+' if sign else ''}.{digits}f} ({half:.{digits}f})"


if __name__ == "__main__":
    main()
