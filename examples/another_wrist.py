"""Few labels, much unlabelled data, and another device: transfer that is guarded.

A sensor on a wrist shall know three movements. Of the people that it is for there are four labelled
windows of each movement and many without a label; of other people, who wore another sensor (turned,
with another gain), all windows are labelled. A third set claims to be the same and has its labels
mixed up, as happens. All of it is made up, so this runs anywhere::

    python examples/another_wrist.py --out runs/wrist

With data of your own, in the shell::

    edgegraft adapt mine/ --labels-per-class 4 --unlabelled rest \\
        --source bench=others/ --source doubtful=found/ --test unseen/ --out runs/mine

The report says what the pool and each source are worth, which of them hurts when it is taken on
trust, and what was served.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

import edgegraft as eg
from edgegraft_edge.signal import Windows

LABELS = 4


def people(seed: int) -> Windows:
    """Movements of six people whom no other seed knows, felt by a noisy sensor."""
    windows = eg.open_data(f"synthetic:n=90,seed={seed}").windows()
    deviation = windows.x.std(axis=(0, 2), keepdims=True)
    noise = np.random.default_rng(seed).normal(size=windows.x.shape) * deviation
    return replace(
        windows,
        x=windows.x + noise.astype(np.float32),
        groups=np.array([f"{name} of {seed}" for name in windows.groups]),
    )


def other_sensor(windows: Windows) -> Windows:
    """The same movements, felt by a sensor that is turned and has another gain."""
    return replace(windows, x=1.8 * windows.x[:, [1, 2, 0]] + 0.5)


def mixed_up(windows: Windows) -> Windows:
    """The same windows with the labels of others."""
    return replace(windows, y=np.random.default_rng(0).permutation(windows.y))


def main(out: Path) -> dict[str, float]:
    """The whole way; gives the accuracy on unseen people, without and with pool and sources."""
    mine, unseen = people(1), people(4)
    asked = {"test": unseen, "labels_per_class": LABELS, "folds": 2, "backbone": "statistics"}
    quick = {"scratch.epochs": 2, "blend.copies": 0, "blend.n_trees": 20}
    alone = eg.adapt(mine, strategy="probe", options=quick, curve=False, **asked)
    guarded = eg.adapt(
        mine,
        unlabelled="rest",
        source={"bench": other_sensor(people(2)), "doubtful": mixed_up(people(3))},
        strategy="guard",
        options=quick,
        out=out / "run",
        **asked,
    )
    print(guarded.summary["guard"]["sentence"])
    for effect in guarded.summary["sources"]:
        print(effect["sentence"])
    eg.export(guarded, format="onnx", out=out / "wrist.egb")
    return {
        "labels alone": alone.summary["evaluation"]["metrics"]["accuracy"],
        "guarded": guarded.summary["evaluation"]["metrics"]["accuracy"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/another_wrist"))
    for name, accuracy in main(parser.parse_args().out).items():
        print(f"{name:14} {accuracy:.3f}")
