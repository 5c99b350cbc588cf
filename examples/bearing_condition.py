"""Bearing condition: which part is faulty, learned from faults of one size, told of another.

The bearing data of Case Western Reserve University: accelerometers at the drive end and the fan end
of a motor at 12 kHz, with faults of 7, 14 and 21 thousandths of an inch cut into a bearing, at four
loads. FOLDER holds an .npz for each recording with the arrays DE and FE, named as
``1797_IR_21_DE12.npz``: turns a minute, part, size::

    python examples/bearing_condition.py FOLDER --out runs/bearing

The shaft speed is a channel, as a motor knows it of itself; the fault orders follow from the
geometry of the bearing. Neither needs a label, so beside the model that learned there is a rule
that did not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import edgegraft as eg
from edgegraft.adapt.strategy import build_strategy
from edgegraft.evaluate.evaluation import evaluate
from edgegraft.export.onnx import OnnxExporter
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge import bundle as bundles

RATE_HZ, WINDOW = 12000.0, 24000
BEARING = "n_balls=9,ball_mm=7.94,pitch_mm=39.04"
PARTS = ("B", "IR", "ORat6")


def recorded(folder: Path, mils: str, per_recording: int = 3) -> eg.Windows:
    """Windows of two seconds of the recordings of one size; groups are recordings."""
    x, y, groups = [], [], []
    for part in PARTS:
        for file in sorted(folder.glob(f"*_{part}_{mils}_DE12.npz")):
            with np.load(file) as held:
                both = np.stack([held["DE"], held["FE"]])
            speed = np.full((1, WINDOW), float(file.name.split("_")[0]))
            for start in range(0, per_recording * WINDOW, WINDOW):
                x.append(np.concatenate([both[:, start : start + WINDOW], speed]))
                y.append(part.partition("at")[0])
                groups.append(file.stem)
    return eg.Windows.of(np.stack(x), y, groups, RATE_HZ, ["DE", "FE", "rpm"])


def main(folder: Path, out: Path, learned: str = "21", tested: str = "7") -> dict[str, float]:
    """The whole way; gives the accuracy on the other size, and the rule's on both."""
    train, test = recorded(folder, learned), recorded(folder, tested)
    orders, task = load_backbone(f"orders:speed=rpm,{BEARING}"), Classification()
    model = build_strategy("probe", {"probe.balanced": True}).adapt(orders, train, task, seed=0)
    rule = build_strategy("bearing-rule").adapt(orders, train, task, seed=0)
    out.mkdir(parents=True, exist_ok=True)
    made = bundles.make(
        model.program,
        train.spec,
        model.classes,
        golden=test.x[::9],
        lineage=model.lineage,
        name="bearing",
    )
    bundles.write(out / "bearing.egb", OnnxExporter().export(made))
    return {
        "learned": evaluate(model, test, task).metrics["accuracy"],
        "rule": evaluate(rule, test, task).metrics["accuracy"],
        "bundle": evaluate(bundles.read(out / "bearing.egb"), test, task).metrics["accuracy"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    for name, value in main(asked.folder, asked.out).items():
        print(f"{name:10} {value:.3f}")
