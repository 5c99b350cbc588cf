"""Source task first: where no pretrained model fits, train one on a task that you have.

A dense network on 28 x 28 pixels learns handwritten digits as a good camera sees them, of which
there are plenty. It is then adapted to another camera, dim, noisy and mounted askew, for which
there are two labelled pictures of each digit. The digits come with scikit-learn (8 x 8, brought to
28 x 28) and the other camera is made up, so this runs anywhere::

    python examples/source_to_target.py --out runs/digits

With data of your own: two folders of pictures with a folder for each class, and in the shell::

    edgegraft pretrain plenty/ --backbone dense-28 --size 28 --out own.safetensors
    edgegraft adapt few/ --backbone own.safetensors --size 28 --out runs/few

Whether it helps is not a matter of course: from the digits 0 to 4 to the digits 5 to 9 the same
network is worse than from scratch, and the verdict says so.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import rotate
from sklearn.datasets import load_digits

import edgegraft as eg
from edgegraft.adapt.pretrain import save
from edgegraft.adapt.source_task import SourceTask, learn_source
from edgegraft.adapt.strategy import build_strategy
from edgegraft.data.split import few_shot
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.picture import resized
from edgegraft_edge.signal import GREY, ImageSpec, Windows

LABELS = 2
CHANGES = ("crop", "light", "turn")  # no "flip": a mirrored digit is no digit


def digits() -> Windows:
    """1,797 handwritten digits as pictures of 28 x 28 pixels."""
    found = load_digits()
    small = np.rint(found.images * (255 / 16)).astype(np.uint8)
    x = np.stack([resized(picture[None], 28, 28) for picture in small])
    return Windows(x, found.target.astype(str), np.full(len(x), ""), ImageSpec(28, 28, GREY))


def other_camera(windows: Windows) -> Windows:
    """The same pictures, dim, noisy and askew."""
    noise = np.random.default_rng(0).normal(0, 12, windows.x.shape)
    tilted = rotate(windows.x, 12, axes=(2, 3), reshape=False, order=1)
    x = np.clip(0.5 * tilted + 20 + noise, 0, 255).astype(np.uint8)
    return replace(windows, x=x)


def main(out: Path) -> dict[str, float]:
    """The whole way; gives the accuracy with and without the source task."""
    everything = digits()
    source = everything.take(np.arange(900))
    target = other_camera(everything.take(np.arange(900, len(everything))))

    learned = learn_source(
        load_backbone("dense-28"),
        source,
        Classification(),
        SourceTask(epochs=20, augmentation=CHANGES),
        name="digits-good-camera",
        data="digits of scikit-learn",
    )
    weights = out / "digits-good-camera.safetensors"
    save(learned, weights)

    few = few_shot(target, LABELS, seed=0)
    rest = np.setdiff1d(np.arange(len(target)), few)
    known, new = target.take(few), target.take(rest)
    options = {f"{name}.augmentation": CHANGES for name in ("finetune", "gradual", "scratch")}
    run = eg.adapt(known, test=new, backbone=weights, options=options, out=out / "run")
    eg.export(run, format="onnx", out=out / "digits.egb")
    scratch = build_strategy("scratch", options)
    blank = scratch.adapt(load_backbone("dense-28"), known, Classification(), seed=0)
    return {
        "transfer": run.summary["evaluation"]["metrics"]["accuracy"],
        "scratch": eg.evaluate(blank, new).metrics["accuracy"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/source_to_target"))
    for name, accuracy in main(parser.parse_args().out).items():
        print(f"{name:10} {accuracy:.3f}")
