"""A model of a fleet on a new device, from little of its normal time: UCI HAR people as machines.

    python bench/fleet_anomaly.py --data FOLDER [--first 3 5 8] [--normal walking]

FOLDER holds train.npz and test.npz (people apart). Walking on the level is normal, walking up and
down stairs are the faults. The training people are the fleet (their walking alone); each test
person gives the first windows of its walking, and is scored on the rest of it and on its stairs.

Rows: the device alone; the fleet as it comes; the fleet re-centred on the device; each the fused
experts. Figures: area under the ROC curve, mean over people, and the share of the person's later
normal windows that alarms at a border for 5 %, which should be .05.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import edgegraft as eg
from edgegraft.adapt.anomalies.border import quantile
from edgegraft.adapt.anomalies.departures import DEFAULT, Departures, joint, learn, learn_fleet
from edgegraft.adapt.anomalies.time_blocks import time_blocks

ASKED = 0.05


def area(normal: np.ndarray, strange: np.ndarray) -> float:
    ranked = np.sort(normal)
    low, high = np.searchsorted(ranked, strange), np.searchsorted(ranked, strange, side="right")
    return float(np.mean((low + high) / 2 / len(ranked)))


def scored(model: Departures, held: np.ndarray, later: np.ndarray, strange: np.ndarray) -> dict:
    line, _ = quantile(joint(model.grades.apply(held), model.weights), ASKED)
    normal = model.embed(later)[:, 0]
    return {
        "auc": area(normal, model.embed(strange)[:, 0]),
        "false_alarms": float((normal > line).mean()),
    }


def cells(train: eg.Windows, test: eg.Windows, normal: str, faults: list[str], n: int) -> list:
    fleet = [
        train.x[(train.groups == name) & (train.y == normal)] for name in np.unique(train.groups)
    ]
    fleet = [x for x in fleet if len(x) >= 8]
    whole, held = learn_fleet(fleet, DEFAULT, n_first=n)
    found = []
    for person in np.unique(test.groups):
        own = test.take(np.flatnonzero((test.groups == person) & (test.y == normal)))
        strange = test.x[(test.groups == person) & np.isin(test.y, faults)]
        first, later = own.x[:n], own.x[n:]
        if len(later) < 5 or not len(strange):
            continue
        both, _ = learn_fleet(fleet, DEFAULT, n_first=n, own=first)
        rows = {
            "fleet as it comes": (whole, held),
            "fleet re-centred": (whole.recentred(first), held),
            "fleet and device, re-centred": (both.recentred(first), held),
        }
        if n >= 8:
            zeros, apart = np.zeros(n, dtype=np.int64), np.arange(n) * 1000
            few = replace(own.take(np.arange(n)), recording=zeros, start=apart)
            rows["device alone"] = learn(first, DEFAULT, time_blocks(few))
        found += [
            {"first": n, "person": str(person), "method": name, **scored(*row, later, strange)}
            for name, row in rows.items()
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--first", type=int, nargs="+", default=[3, 5, 8])
    parser.add_argument("--normal", default="walking")
    parser.add_argument("--faults", nargs="+", default=["walking_upstairs", "walking_downstairs"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    train, test = (
        eg.open_data(options.data / f"{part}.npz").windows() for part in ("train", "test")
    )
    out = options.out or Path(__file__).parent / "results" / "fleet_anomaly"
    rows: list[dict] = []
    for n in options.first:
        rows += cells(train, test, options.normal, options.faults, n)
    out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = [f"# A fleet's model on a new device: {options.normal} is normal\n",
             "Area under the ROC curve, and the share of later normal windows that alarms (.05 "
             "was asked), means over test people; see `bench/fleet_anomaly.py`.\n",
             "| method | " + " | ".join(f"first {n} windows" for n in options.first) + " |",
             "|---|" + "---|" * len(options.first)]  # fmt: skip
    for method in methods:
        told = []
        for n in options.first:
            part = [r for r in rows if r["method"] == method and r["first"] == n]
            means = [np.mean([r[key] for r in part] or [0]) for key in ("auc", "false_alarms")]
            told.append(f"{means[0]:.3f}, {means[1]:.3f}" if part else "")
        lines.append(f"| {method} | {' | '.join(told)} |")
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print(out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
