"""Voice commands by sound: a network that learned pictures reads speech as spectrograms.

Ten recordings of each digit, from four speakers; two others are the test. The network is the same
ImageNet MobileNet as for steel surfaces: sound comes to it as a picture, time across, pitch up. The
recordings are the free spoken digits (Jackson), whose names say digit and speaker::

    python examples/spoken_digits.py RECORDINGS mobilenet_v1_0.25_128_quant.tflite --out runs/digits

With recordings of your own, named ``word_speaker_take.wav`` or in a folder for each word::

    edgegraft doctor words/
    edgegraft adapt words/ --backbone mobilenet_v1_0.25_128_quant.tflite --out runs/words
    edgegraft export runs/words --out words.egb
    arecord -t raw -f S16_LE -r 8000 | edgegraft-edge run words.egb --source - --format s16le

A network that learned speech does better, where you have one: a ``.tflite`` of Google's speech
embedding takes the place of the MobileNet in these lines.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import edgegraft as eg
from edgegraft.data.split import few_shot

LABELS, TESTED = 10, 40


def main(data: Path, network: Path, out: Path) -> dict[str, object]:
    """The whole way; gives the verdict, what ships, and its accuracy on unseen speakers."""
    words = eg.open_data(data).windows()
    speakers = sorted(set(words.groups.tolist()))
    held = np.isin(words.groups, speakers[:2])
    known, unseen = words.take(np.flatnonzero(~held)), words.take(np.flatnonzero(held))
    train = known.take(few_shot(known, LABELS, seed=0))
    test = unseen.take(few_shot(unseen, TESTED, seed=0))

    run = eg.adapt(train, test=test, backbone=network, out=out / "run")
    eg.export(run, format="onnx", out=out / "digits.egb")
    return {
        "verdict": run.summary["verdict"],
        "shipped": run.summary["shipped"]["strategy"],
        "accuracy": run.summary["evaluation"]["metrics"]["accuracy"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of recordings, label_speaker_take.wav")
    parser.add_argument("network", type=Path, help="a .tflite or .onnx file, or weights")
    parser.add_argument("--out", type=Path, default=Path("runs/spoken_digits"))
    asked = parser.parse_args()
    for name, value in main(asked.data, asked.network, asked.out).items():
        print(f"{name:10} {value}")
