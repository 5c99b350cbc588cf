"""A micro student beside its teacher on UCI HAR: few labels, a pool without, unseen people.

    python bench/student.py --data FOLDER [--labels 10 25 50 100] [--seeds 5] [--keep FOLDER]
    python bench/student.py --data FOLDER --development --labels 25 100 --out FILE

FOLDER holds train.npz and test.npz, people apart. Of the training people's windows so many per
class carry a label (drawn by a seed), the rest is the pool. The teacher is the default blend of
the labels; the student a `micro` network that learns from it over labels and pool, in float and
in int8 (calibrated on labelled windows). Controls: the same network from the labels alone, and
trees on statistics, as emlearn would put them on a device. All are scored on all windows of the
test people. Options were chosen by --development, which splits the training people: two thirds
train, one third tests, another third for each seed.

Cells go to the JSON file one by one, so a run that was stopped goes on. --keep keeps the
students' bundles, float and int8; `bench/micro.py --bundle` says what the C of one of them takes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("EDGEGRAFT_CACHE", "off")

import numpy as np
from threadpoolctl import threadpool_limits

import edgegraft as eg
from development_data import by_person
from edgegraft.adapt.strategy import build_strategy
from edgegraft.compress.distill import Distillation, teach
from edgegraft.compress.quantize import quantized
from edgegraft.compress.teacher import Taught, taught
from edgegraft.data.split import few_shot
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.cost import multiply_adds
from edgegraft.zoo.micro import Micro, MicroShape
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge import bundle
from edgegraft_edge.decision import Predictions

HOW = Distillation(max_seconds=0)  # the default, however slow the machine
ALONE = Distillation(steps=1000, label_share=0.0, max_seconds=0)
METHODS = ("teacher", "student", "student int8", "labels alone", "trees on statistics")


def labels_alone(few: eg.Windows, classes: tuple[str, ...], seed: int) -> Taught:
    """The labels as if a teacher had said them, of copies and mixtures too."""

    class Labels:
        def predict(self, asked):
            return Predictions(classes, np.zeros((len(asked), len(classes)), np.float32))

    found = taught(Labels(), few, copies=8, mixed=0, held_out=0, seed=seed)
    truth = np.eye(len(classes), dtype=np.float32)[found.codes]
    return Taught(
        found.x, np.broadcast_to(truth, (len(found.x), *truth.shape)).copy(), found.codes,
        found.groups, found.held_out, found.classes, found.spec,
    )  # fmt: skip


def one(train: eg.Windows, test: eg.Windows, n_labels: int, seed: int, keep: Path | None) -> dict:
    """All methods with the labels of one draw."""
    rows = few_shot(train, n_labels, seed=seed)
    few = train.take(rows)
    pool = train.take(np.setdiff1d(np.arange(len(train)), rows))
    seconds = {}

    def timed(name, work):
        began = time.perf_counter()
        found = work()
        seconds[name] = round(time.perf_counter() - began, 2)
        return found

    blend = build_strategy("blend")
    encoder = load_backbone("conv1d-motion")
    teacher = timed("teacher", lambda: blend.adapt(encoder, few, Classification(), seed=seed))
    said = timed("ask", lambda: taught(teacher, few, pool, seed=seed))
    student = timed("student", lambda: teach(said, Micro.of(MicroShape()), HOW, seed=seed))
    classes = teacher.classes
    own = timed(
        "labels alone",
        lambda: teach(labels_alone(few, classes, seed), Micro.of(MicroShape()), ALONE, seed=seed),
    )
    forest = timed(
        "trees on statistics",
        lambda: build_strategy("trees").adapt(
            load_backbone("statistics"), few, Classification(), seed=seed
        ),
    )
    eight = quantized(student.program, few.x[few_shot(few, max(1, 200 // 6), seed=0)])
    if keep is not None:
        for name, program in (("float", student.program), ("int8", eight)):
            packed = bundle.make(
                program, test.spec, classes, golden=few.x[:: len(few) // 12][:12], name="student"
            )
            bundle.write(keep / f"{n_labels}-{seed}-{name}.egb", packed)
    tables = {
        "teacher": teacher.predict(test).probabilities,
        "student": student.predict(test).probabilities,
        "student int8": eight.run(test.x),
        "labels alone": own.predict(test).probabilities,
        "trees on statistics": forest.predict(test).probabilities,
    }
    codes = test.codes(classes)
    right = {name: table.argmax(axis=1) == codes for name, table in tables.items()}
    people = sorted(set(test.groups.tolist()))
    network = student.members[0].backbone
    return {
        "labels": n_labels,
        "seed": seed,
        "accuracy": {name: float(hits.mean()) for name, hits in right.items()},
        "hits": {
            name: [int(hits[test.groups == person].sum()) for person in people]
            for name, hits in right.items()
        },
        "windows": [int((test.groups == person).sum()) for person in people],
        "seconds": seconds,
        "parameters": network.card.n_parameters
        + student.members[0].head.weight.size
        + len(classes),
        "multiply_adds": multiply_adds(student.program, *test.spec.shape),
        "constants_bytes": {"float": student.program.size_bytes, "int8": eight.size_bytes},
        "precision": eight.precision,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 25, 50, 100])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/student")
    options = parser.parse_args()
    train = eg.open_data(options.data / "train.npz").windows()
    test = eg.open_data(options.data / "test.npz").windows()
    file = options.out.with_suffix(".json")
    found = json.loads(file.read_text()) if file.exists() else {"cells": []}
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    done = {(cell["labels"], cell["seed"]) for cell in found["cells"]}
    file.parent.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(limits=1):
        for seed in range(options.seeds):
            for n_labels in options.labels:
                if (n_labels, seed) in done:
                    continue
                parts = by_person(train, seed) if options.development else (train, test)
                cell = one(*parts, n_labels, seed, options.keep)
                found["cells"].append(cell)
                print(n_labels, seed, cell["accuracy"], cell["seconds"], flush=True)
                file.write_text(json.dumps(found, indent=1))
    table = markdown(found)
    options.out.with_suffix(".md").write_text(table)
    print(table)


def paired(cells: list[dict], one: str, other: str) -> tuple[float, float, float]:
    """Points that `one` is above `other`: mean over draws, and 95 % over test people and draws.

    Draws and people are both resampled, since either could have been others.
    """
    random = np.random.default_rng(0)
    gap = np.array([np.subtract(c["hits"][one], c["hits"][other]) for c in cells], float)
    weight = np.array([c["windows"] for c in cells], float)
    mean = 100 * gap.sum() / weight.sum()
    drawn = []
    for _ in range(4000):
        seeds = random.integers(0, len(cells), len(cells))[:, None]
        people = random.integers(0, weight.shape[1], weight.shape[1])[None]
        drawn.append(gap[seeds, people].sum() / weight[seeds, people].sum())
    low, high = np.quantile(drawn, [0.025, 0.975])
    return mean, 100 * low, 100 * high


def markdown(found: dict) -> str:
    cells = found["cells"]
    labels = sorted({cell["labels"] for cell in cells})
    first = cells[0]
    draws = ", ".join(f"{sum(c['labels'] == n for c in cells)} at n={n}" for n in labels)
    lines = [
        f"Accuracy on unseen people of UCI HAR, mean over draws of the labels ({draws}), with",
        "the rest of the training people's windows as a pool without labels.",
        "",
        "| method | " + " | ".join(f"n={n}" for n in labels) + " |",
        "|---|" + "---|" * len(labels),
    ]
    for method in METHODS:
        means = [
            np.mean([c["accuracy"][method] for c in cells if c["labels"] == n]) for n in labels
        ]
        lines.append(f"| {method} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    pairs = (
        ("student", "teacher"), ("student int8", "teacher"), ("student int8", "student"),
        ("student int8", "labels alone"), ("student int8", "trees on statistics"),
    )  # fmt: skip
    lines += ["", "Points of accuracy apart, 95 % interval over test people and draws:", ""]
    lines += ["| pair | " + " | ".join(f"n={n}" for n in labels) + " |"]
    lines += ["|---|" + "---|" * len(labels)]
    for pair in pairs:
        gaps = [paired([c for c in cells if c["labels"] == n], *pair) for n in labels]
        said = " | ".join(f"{mean:+.1f} ({low:+.1f} to {high:+.1f})" for mean, low, high in gaps)
        lines.append(f"| {pair[0]} against {pair[1]} | {said} |")
    seconds = {
        name: np.median([cell["seconds"][name] for cell in cells]) for name in first["seconds"]
    }
    lines += [
        "",
        f"The student has {first['parameters']:,} parameters and {first['multiply_adds']:,} "
        f"multiply-adds a window; constants {first['constants_bytes']['float'] / 1024:.1f} KiB in "
        f"float, {first['constants_bytes']['int8'] / 1024:.1f} KiB in int8 "
        f"({first['precision']} throughout).",
        "Median seconds on one thread, two such runs side by side: "
        + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items())
        + ".",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
