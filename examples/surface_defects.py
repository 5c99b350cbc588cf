"""Quality control by camera: a phone-sized ImageNet network learns defects of steel surfaces.

Ten labelled pictures of each of six defects, a small MobileNet that was trained on ImageNet and
knows nothing of steel; texture features with trees are the control. The pictures are the NEU
surface defect data base (Song and Yan, 2013), a folder for each defect; the network is a .tflite
file, whose weights are read and tuned like any others::

    python examples/surface_defects.py NEU_FOLDER mobilenet_v1_0.25_128_quant.tflite

With pictures of your own, a folder for each class, the same in the shell::

    edgegraft doctor pictures/
    edgegraft adapt pictures/ --backbone mobilenet_v1_0.25_128_quant.tflite --out runs/parts
    edgegraft explain runs/parts pictures/ --out maps
    edgegraft export runs/parts --out parts.egb
    edgegraft-edge run parts.egb --source camera_folder/

Where only good parts can be had, learn what is normal: ``--task anomaly`` (see the guide).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import edgegraft as eg
from edgegraft.data.split import few_shot
from edgegraft.evaluate.where import write_maps

LABELS, TESTED = 10, 50


def main(data: Path, network: Path, out: Path) -> dict[str, object]:
    """The whole way; gives the verdict, what ships, and its accuracy on other pictures."""
    pictures = eg.open_data(data).windows()
    test = few_shot(pictures, TESTED, seed=1)
    rest = pictures.take(np.setdiff1d(np.arange(len(pictures)), test))
    train, test = rest.take(few_shot(rest, LABELS, seed=0)), pictures.take(test)

    run = eg.adapt(train, test=test, backbone=network, out=out / "run")
    bundle = eg.export(run, format="onnx", out=out / "steel.egb")
    write_maps(bundle, test, out / "maps", most=12)
    return {
        "verdict": run.summary["verdict"],
        "shipped": run.summary["shipped"]["strategy"],
        "accuracy": run.summary["evaluation"]["metrics"]["accuracy"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with a folder of pictures for each class")
    parser.add_argument("network", type=Path, help="a .tflite or .onnx file, or weights")
    parser.add_argument("--out", type=Path, default=Path("runs/surface_defects"))
    asked = parser.parse_args()
    for name, value in main(asked.data, asked.network, asked.out).items():
        print(f"{name:10} {value}")
