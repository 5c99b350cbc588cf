"""Few labels, unseen people, on UCI HAR: Edgegraft's whole `adapt` beside its peers, same run.

    python bench/uci_har.py --data FOLDER [--labels 1 5 10 25 50 100] [--seeds 5] [--whole 10]

FOLDER holds train.npz and test.npz (x, y, groups, rate_hz, channels), people apart. Labels are
drawn from the training people with a seed; every method gets the same ones and is scored on all
windows of the test people. Nothing is tuned on the test people.

"edgegraft blend" is the default strategy alone; at the numbers of labels named by --whole also the
whole `adapt` runs, with every control, the verdict and the choice of what ships.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
from threadpoolctl import threadpool_limits

import edgegraft as eg
from edgegraft.adapt.strategy import build_strategy
from edgegraft.data.split import few_shot
from edgegraft.evaluate.evaluation import evaluate
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone

TARGETS = {1: 0.58, 5: 0.84, 10: 0.905, 25: 0.947, 50: 0.960, 100: 0.975}


def peers() -> dict:
    from aeon.classification.convolution_based import (
        MiniRocketClassifier,
        MultiRocketHydraClassifier,
    )
    from aeon.classification.feature_based import Catch22Classifier
    from sklearn.ensemble import ExtraTreesClassifier

    return {
        "aeon MiniRocket + ridge": lambda seed: MiniRocketClassifier(random_state=seed),
        "aeon MultiRocket-Hydra": lambda seed: MultiRocketHydraClassifier(random_state=seed),
        "aeon catch22 + extra trees": lambda seed: Catch22Classifier(
            estimator=ExtraTreesClassifier(200, random_state=seed), random_state=seed
        ),
    }


def blend(few, test, seed: int) -> dict:
    began = time.perf_counter()
    with threadpool_limits(limits=1):
        adapted = build_strategy("blend").adapt(
            load_backbone("conv1d-motion"), few, Classification(), seed=seed
        )
        seconds = time.perf_counter() - began
        scored = evaluate(adapted, test)
    return {
        "accuracy": scored.metrics["accuracy"],
        "macro_f1": scored.metrics["macro_f1"],
        "log_loss": scored.metrics["log_loss"],
        "seconds": seconds,
    }


def whole(few, test, seed: int) -> dict:
    began = time.perf_counter()
    run = eg.adapt(few, test=test, seed=seed)
    return {
        "accuracy": run.summary["evaluation"]["metrics"]["accuracy"],
        "macro_f1": run.summary["evaluation"]["metrics"]["macro_f1"],
        "seconds": time.perf_counter() - began,
        "verdict": run.summary["verdict"],
        "shipped": f"{run.summary['shipped']['backbone']}/{run.summary['shipped']['strategy']}",
    }


def one(train, test, n_labels: int, seed: int, names: list[str], fully: bool) -> dict[str, dict]:
    few = train.take(few_shot(train, n_labels, seed=seed))
    found = {"edgegraft blend": blend(few, test, seed)}
    if fully:
        found["edgegraft adapt (whole)"] = whole(few, test, seed)
    for name, make in peers().items():
        if name not in names:
            continue
        began = time.perf_counter()
        model = make(seed).fit(few.x.astype(np.float64), few.y)
        guess = model.predict(test.x.astype(np.float64))
        found[name] = {
            "accuracy": float((guess == test.y).mean()),
            "seconds": time.perf_counter() - began,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", type=int, nargs="+", default=list(TARGETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--whole", type=int, nargs="*", default=[10])
    parser.add_argument("--peers", nargs="*", default=list(peers()))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/uci_har")
    options = parser.parse_args()
    train = eg.open_data(options.data / "train.npz").windows()
    test = eg.open_data(options.data / "test.npz").windows()
    cells = []
    for n_labels in options.labels:
        for seed in range(options.seeds):
            fully = n_labels in options.whole
            for name, values in one(train, test, n_labels, seed, options.peers, fully).items():
                cells.append({"method": name, "labels": n_labels, "seed": seed} | values)
                print(json.dumps(cells[-1]), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(cells, indent=1))
    table = markdown(cells, options.labels)
    options.out.with_suffix(".md").write_text(table)
    print(table)


def markdown(cells: list[dict], labels: list[int]) -> str:
    """Mean accuracy and its 95 % t interval over seeds, and the mean seconds."""
    from scipy.stats import t

    lines = [
        "Accuracy on unseen people, mean over seeds (half width of the 95 % t interval); seconds",
        "are fits alone, except for the whole `adapt` (controls, verdict, report) and for peers,",
        "whose prediction of the test windows is in it.",
        "",
        "| method | " + " | ".join(f"n={n}" for n in labels) + " | seconds |",
        "|---|" + "---|" * (len(labels) + 1),
    ]
    for method in dict.fromkeys(cell["method"] for cell in cells):
        row, seconds = [], []
        for n in labels:
            own = [c for c in cells if c["method"] == method and c["labels"] == n]
            values = np.array([c["accuracy"] for c in own])
            if not len(values):
                row.append("")
                continue
            seconds.append(np.mean([c["seconds"] for c in own]))
            half = 0.0
            if len(values) > 1:
                half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
            row.append(f"{values.mean():.3f} ({half:.3f})")
        lines.append(
            f"| {method} | " + " | ".join(row) + f" | {min(seconds):.1f}-{max(seconds):.1f} |"
        )
    goal = " | ".join(f"{TARGETS[n]:.3f}" if n in TARGETS else "" for n in labels)
    lines.append(f"| aim | {goal} | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
