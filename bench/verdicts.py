"""Does the verdict come out, and does a control beat what ships? CWRU cross-load, BasicMotions.

    python bench/verdicts.py --cwru FOLDER [--seeds 5] [--labels 10] [--cases "0 to 3" ...]

FOLDER holds the CWRU recordings as .npz (arrays DE, FE) with index.json. Labels come from one
motor load, the test is another load (all classes that both have: ball, inner, outer race).
BasicMotions comes with aeon: its training part gives the labels, its test part the test.
Every control is fitted on the same labels and scored on the same test windows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import edgegraft as eg
from edgegraft.adapt.strategy import build_strategy
from edgegraft.data.split import few_shot
from edgegraft.evaluate.evaluation import evaluate
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone

LENGTH, PER_FILE = 1024, 40


def cwru(folder: Path, load_hp: int, sensor: str = "DE") -> eg.Windows:
    """Windows of the accelerometer at drive end (or fan end, "FE"); a group is a bearing."""
    x, y, groups = [], [], []
    for entry in json.loads((folder / "index.json").read_text()):
        if entry["load_hp"] != load_hp or entry["fault"].lower().startswith("normal"):
            continue
        if sensor not in entry["channels"]:
            continue
        values = np.load(folder / entry["file"])[sensor]
        n = min(PER_FILE, len(values) // LENGTH)
        x.append(values[: n * LENGTH].reshape(n, 1, LENGTH))
        y += [entry["fault"][:2]] * n
        groups += [f"{entry['fault']}_{entry['mils']}"] * n
    return eg.Windows.of(np.concatenate(x), y, groups, rate_hz=12000.0, channels=[sensor])


def basic_motions() -> tuple[eg.Windows, eg.Windows]:
    from aeon.datasets import load_classification

    parts = [load_classification("BasicMotions", split=name) for name in ("train", "test")]
    return tuple(eg.Windows.of(x, y, rate_hz=10.0) for x, y in parts)


def cases(folder: Path):
    for source, target in ((0, 3), (3, 0)):
        yield f"CWRU load {source} to {target}", cwru(folder, source), cwru(folder, target)
    yield ("BasicMotions", *basic_motions())


def one(train: eg.Windows, test: eg.Windows, n_labels: int, seed: int) -> dict:
    few = train.take(few_shot(train, n_labels, seed=seed))
    run = eg.adapt(few, test=test, seed=seed, curve=False)
    task = Classification()
    controls = {}
    for row in run.summary["controls"]:
        adapted = build_strategy(row["strategy"]).adapt(
            load_backbone(row["backbone"]), few, task, seed=seed
        )
        name = f"{row['backbone']}/{row['strategy']}"
        controls[name] = evaluate(adapted, test, task).metrics["accuracy"]
    shipped = run.summary["evaluation"]["metrics"]["accuracy"]
    return {
        "verdict": run.summary["verdict"],
        "shipped": f"{run.summary['shipped']['backbone']}/{run.summary['shipped']['strategy']}",
        "accuracy": shipped,
        "controls": controls,
        "behind": max(controls.values()) - shipped,
        "seconds": run.summary["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cwru", type=Path, required=True)
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cases", nargs="*", default=[""], help="parts of the names of cases")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/verdicts")
    options = parser.parse_args()
    cells = []
    for name, train, test in cases(options.cwru):
        if not any(part in name for part in options.cases):
            continue
        for n_labels in options.labels:
            for seed in range(options.seeds):
                cell = {"case": name, "labels": n_labels, "seed": seed}
                cells.append(cell | one(train, test, n_labels, seed))
                print(json.dumps(cells[-1]), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(cells, indent=1))
    table = markdown(cells)
    options.out.with_suffix(".md").write_text(table)
    print(table)


def markdown(cells: list[dict]) -> str:
    lines = [
        "Accuracy on the test part, mean over seeds. The best control is the one with the best",
        "mean on the test part, which nobody knows beforehand.",
        "",
        "| case | labels | seeds | shipped | best control | points behind | verdicts | ships |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((cell["case"], cell["labels"]) for cell in cells):
        own = [cell for cell in cells if (cell["case"], cell["labels"]) == key]
        shipped = np.mean([cell["accuracy"] for cell in own])
        names = own[0]["controls"]
        means = {n: np.mean([cell["controls"].get(n, np.nan) for cell in own]) for n in names}
        best = max(means, key=means.get)
        verdicts = [cell["verdict"] for cell in own]
        counted = ", ".join(f"{v} {verdicts.count(v)}" for v in dict.fromkeys(verdicts))
        ships = [cell["shipped"] for cell in own]
        listed = ", ".join(f"{s} {ships.count(s)}" for s in dict.fromkeys(ships))
        lines.append(
            f"| {key[0]} | {key[1]} | {len(own)} | {shipped:.3f} | {means[best]:.3f} ({best}) | "
            f"{100 * (means[best] - shipped):+.1f} | {counted} | {listed} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
