"""What the shipped pretrained encoder is worth on people it never saw: UCI HAR, same run.

    python bench/pretrained_encoder.py --data FOLDER [--labels 1 5 10 25 50 100] [--seeds 5]

FOLDER holds train.npz and test.npz (x, y, groups, rate_hz, channels), people apart. The encoder
was trained on other people, other devices and other recordings (see its card); nothing of it was
chosen on the test people. Every row is frozen with the same closed-form head on the same labels,
so rows differ in their features only.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import t

from edgegraft.adapt.probe import Probe
from edgegraft.data.split import few_shot
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.signal import Windows

BACKBONES = ("conv1d-motion", "conv1d-random", "minirocket", "statistics")
# Measured before on the same windows: a published self-supervised motion encoder (62k), frozen.
PUBLISHED = {1: 0.530, 5: 0.679, 10: 0.741, 25: 0.807, 50: 0.844, 100: 0.849}


def read(file: Path) -> Windows:
    archive = np.load(file, allow_pickle=False)
    return Windows.of(
        archive["x"],
        archive["y"],
        archive["groups"],
        float(archive["rate_hz"]),
        [str(name) for name in archive["channels"]],
    )


def one(train: Windows, test: Windows, name: str, n_labels: int, seed: int) -> dict:
    few = train.take(few_shot(train, n_labels, seed=seed))
    began = time.perf_counter()
    adapted = Probe().adapt(load_backbone(name), few, Classification(), seed=seed)
    seconds = time.perf_counter() - began
    accuracy = float(np.mean(adapted.predict(test).labels == test.y))
    return {
        "backbone": name,
        "labels": n_labels,
        "seed": seed,
        "accuracy": accuracy,
        "seconds": round(seconds, 3),
    }


def cell(values: list[float]) -> str:
    """Mean and half width of its 95 % t interval over seeds."""
    found = np.array(values)
    if len(found) < 2:
        return f"{found.mean():.3f}"
    half = t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / len(found) ** 0.5
    return f"{found.mean():.3f} ({half:.3f})"


def markdown(cells: list[dict], labels: list[int]) -> str:
    lines = [
        "Accuracy on unseen people of UCI HAR, frozen features and a closed-form head: mean over",
        "seeds (half width of the 95 % t interval); n labels per class.",
        "",
        "| features | " + " | ".join(f"n={n}" for n in labels) + " |",
        "|---|" + "---|" * len(labels),
    ]
    for name in dict.fromkeys(c["backbone"] for c in cells):
        row = [
            cell([c["accuracy"] for c in cells if (c["backbone"], c["labels"]) == (name, n)])
            for n in labels
        ]
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    reference = " | ".join(f"{PUBLISHED[n]:.3f}" if n in PUBLISHED else "" for n in labels)
    lines.append(f"| published encoder, measured before | {reference} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", type=int, nargs="+", default=list(PUBLISHED))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    train, test = read(asked.data / "train.npz"), read(asked.data / "test.npz")
    cells = []
    for name in asked.backbones:
        for n_labels in asked.labels:
            for seed in range(asked.seeds):
                cells.append(one(train, test, name, n_labels, seed))
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "pretrained_encoder.json").write_text(json.dumps(cells, indent=1))
    table = markdown(cells, asked.labels)
    (asked.out / "pretrained_encoder.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
