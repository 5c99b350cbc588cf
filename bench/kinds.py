"""Pictures, sound and text: transfer beside scratch beside the classical control.

    python bench/kinds.py --data DATA [--sets surface digits snips clinc] [--seeds 5]

DATA is the folder of development data: surface defects (neu_surface), spoken digits (fsdd),
intents (snips, clinc150), and the weights of others (weights). Of each set a part is the test, the
same for every row and count of labels; the rest gives the labels. Speakers of the test are in no
training set.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import edgegraft as eg
from edgegraft.adapt.strategy import build_strategy
from edgegraft.data.dataset import open_data
from edgegraft.data.split import few_shot
from edgegraft.evaluate.out_of_scope import auroc, highest_probability, nearness
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.cache import embed_cached
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.signal import TextSpec, Windows

LABELS = (1, 5, 10, 25)
CLINC_INTENTS = 15


@dataclass(frozen=True)
class Row:
    """One way of adapting: backbone, strategy, and what part it plays."""

    name: str
    backbone: str
    strategy: str
    role: str


@dataclass(frozen=True)
class Case:
    """A data set: seed -> (windows that give labels, windows of the test), and its rows."""

    name: str
    split: Callable[[int], tuple[Windows, Windows]]
    rows: tuple[Row, ...]


@dataclass(frozen=True, eq=False)
class Kept:
    """A bound backbone that embeds the same windows once."""

    backbone: Any

    def embed(self, x: np.ndarray) -> np.ndarray:
        return embed_cached(self.backbone, x)


def cases(data: Path, wanted: list[str]) -> Iterator[Case]:
    weights = data / "weights"
    mobile = str(weights / "imagenet_mobilenet" / "mobilenet_v1_0.25_128_quant.tflite")
    larger = str(weights / "imagenet_mobilenet" / "mobilenet_v2_1.0_224_quant.tflite")
    residual = f"cifar-resnet20:{weights / 'cifar10_resnet' / 'resnet20-12fca82f.th'}"
    speech = str(weights / "speech_embedding" / "embedding_model.tflite")
    if "surface" in wanted:
        rows = (
            Row("MobileNetV1 0.25, blend", mobile, "blend", "transfer"),
            Row("MobileNetV1 0.25, probe", mobile, "probe", "transfer"),
            Row("MobileNetV2 1.0, blend", larger, "blend", "transfer"),
            Row("ResNet-20 of CIFAR-10, blend", residual, "blend", "transfer"),
            Row("ResNet-20 of CIFAR-10, gradual", residual, "gradual", "transfer"),
            Row("ResNet-20 of CIFAR-10, finetune", residual, "finetune", "transfer"),
            Row("ResNet-20 from scratch", residual, "scratch", "scratch"),
            Row("texture, trees", "texture", "trees", "classical"),
        )
        yield Case("surface", lambda seed: surface(data / "neu_surface", seed), rows)
    if "digits" in wanted:
        rows = (
            Row("speech embedding, blend", speech, "blend", "transfer"),
            Row("speech embedding, probe", speech, "probe", "transfer"),
            Row("MobileNetV1 0.25 over spectrograms, blend", mobile, "blend", "transfer"),
            Row("MobileNetV1 0.25 over spectrograms, probe", mobile, "probe", "transfer"),
            Row("MobileNetV1 0.25 over spectrograms, gradual", mobile, "gradual", "transfer"),
            Row("DS-CNN from scratch", "ds-cnn", "scratch", "scratch"),
            Row("mel statistics, trees", "mel-statistics", "trees", "classical"),
        )
        yield Case("digits", lambda seed: digits(data / "fsdd" / "recordings", seed), rows)
    text = (
        Row("MiniLM, blend", "minilm", "blend", "transfer"),
        Row("MiniLM, probe", "minilm", "probe", "transfer"),
        Row("small BERT from scratch", "bert-tiny-random", "scratch", "scratch"),
        Row("TF-IDF, ridge", "tfidf", "probe", "classical"),
    )
    if "snips" in wanted:
        yield Case("snips", lambda seed: snips(data / "snips", seed), text)
    if "clinc" in wanted:
        yield Case("clinc", lambda seed: clinc(data / "clinc150" / "data", seed), text)


def surface(folder: Path, seed: int) -> tuple[Windows, Windows]:
    """Steel surfaces, six defects; a sixth of the pictures of each class is the test."""
    windows = pictures(folder)
    test = few_shot(windows, 50, seed=1000 + seed)
    return windows.take(np.setdiff1d(np.arange(len(windows)), test)), windows.take(test)


@cache
def pictures(folder: Path) -> Windows:
    return open_data(folder).windows()


def digits(folder: Path, seed: int) -> tuple[Windows, Windows]:
    """Spoken digits; two of the six speakers are the test, in turn."""
    windows = spoken(folder)
    speakers = sorted(set(windows.groups.tolist()))
    held = {speakers[seed % len(speakers)], speakers[(seed + 1) % len(speakers)]}
    tested = np.isin(windows.groups, list(held))
    test = windows.take(np.flatnonzero(tested))
    return windows.take(np.flatnonzero(~tested)), test.take(few_shot(test, 40, seed=0))


@cache
def spoken(folder: Path) -> Windows:
    return open_data(folder).windows()  # digit_speaker_take.wav says label and group


def sentences(texts: list[str], labels: list[str]) -> Windows:
    spec = TextSpec(160)
    return Windows(spec.pack(texts), np.array(labels), np.full(len(texts), ""), spec)


@cache
def snips(folder: Path, _: int) -> tuple[Windows, Windows]:
    """Seven intents of a voice assistant; its own validation sentences are the test."""
    parts = []
    for kind in ("train", "validate"):
        texts, labels = [], []
        for file in sorted(folder.glob(f"2017*/*/{kind}_*.json")):
            intent = file.parent.name
            if file.name != f"{kind}_{intent}.json":
                continue
            found = json.loads(decoded(file.read_bytes()))[intent]
            texts += ["".join(part["text"] for part in entry["data"]) for entry in found]
            labels += [intent] * len(found)
        parts.append(sentences(texts, labels))
    return parts[0], parts[1]


def decoded(data: bytes) -> str:
    """Some of the files are UTF-8, some Latin-1."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


@cache
def clinc(folder: Path, _: int) -> tuple[Windows, Windows]:
    """Fifteen intents drawn from 150, with their own test sentences."""
    found = json.loads((folder / "data_full.json").read_text())
    names = sorted({label for _, label in found["train"]})
    chosen = set(np.random.default_rng(0).choice(names, CLINC_INTENTS, replace=False).tolist())
    parts = []
    for kind in ("train", "test"):
        kept = [(text, label) for text, label in found[kind] if label in chosen]
        parts.append(sentences([text for text, _ in kept], [label for _, label in kept]))
    return parts[0], parts[1]


def score(row: Row, train: Windows, test: Windows, n_labels: int, seed: int) -> tuple[float, float]:
    """Accuracy on the test, and seconds of adapting."""
    few = train.take(few_shot(train, n_labels, seed=seed))
    began = time.perf_counter()
    strategy = build_strategy(row.strategy)
    adapted = strategy.adapt(load_backbone(row.backbone), few, Classification(), seed=seed)
    seconds = time.perf_counter() - began
    kept = tuple(replace(m, backbone=Kept(m.backbone)) for m in adapted.members)
    said = replace(adapted, members=kept).predict(test)
    return float(np.mean(said.labels == test.y)), seconds


def measure(case: Case, seeds: int, labels: tuple[int, ...]) -> list[dict[str, Any]]:
    found = []
    for row in case.rows:
        cells, took = {}, []
        for n_labels in labels:
            scores = []
            for seed in range(seeds):
                accuracy, seconds = score(row, *case.split(seed), n_labels, seed)
                scores.append(accuracy)
                took.append(seconds)
            cells[str(n_labels)] = {"mean": np.mean(scores), "deviation": np.std(scores, ddof=1)}
            print(f"{case.name:8} {row.name:45} {n_labels:3} {np.mean(scores):.3f}", flush=True)
        found.append(
            {"row": row.name, "role": row.role, "accuracy": cells, "seconds": np.median(took)}
        )
    return found


def verdict(case: Case) -> dict[str, Any]:
    """The whole `adapt` at ten labels per class: what is said and what ships."""
    train, test = case.split(0)
    few = train.take(few_shot(train, 10, seed=0))
    began = time.perf_counter()
    run = eg.adapt(few, test=test, backbone=case.rows[0].backbone, curve=False)
    return {
        "verdict": run.summary["verdict"],
        "because": run.summary["because"],
        "shipped": run.summary["shipped"],
        "accuracy": run.summary["evaluation"]["metrics"]["accuracy"],
        "seconds": round(time.perf_counter() - began, 1),
        "warnings": run.summary["warnings"],
    }


def out_of_scope(folder: Path, case: Case, seeds: int) -> dict[str, Any]:
    """How well sentences that belong to no intent are told apart, at ten labels per class.

    By the highest probability, which is what the threshold in a bundle goes by, and by nearness
    to class means of embeddings.
    """
    found = json.loads((folder / "data_full.json").read_text())["oos_test"]
    outside = sentences([text for text, _ in found], [""] * len(found))
    scores: dict[str, list[float]] = {}
    for row in (row for row in case.rows if row.role != "scratch"):
        for seed in range(seeds):
            train, test = case.split(seed)
            few = train.take(few_shot(train, 10, seed=seed))
            strategy = build_strategy(row.strategy)
            adapted = strategy.adapt(load_backbone(row.backbone), few, Classification(), seed=seed)
            kept = tuple(replace(m, backbone=Kept(m.backbone)) for m in adapted.members)
            cached = replace(adapted, members=kept)
            said = [highest_probability(cached.predict(w).probabilities) for w in (test, outside)]
            scores.setdefault(f"{row.name}, highest probability", []).append(auroc(*said))
            z, known, other = (kept[0].backbone.embed(w.x) for w in (test, few, outside))
            codes = few.codes(few.classes)
            near = [nearness(each, known, codes) for each in (z, other)]
            scores.setdefault(f"{row.backbone}, nearness", []).append(auroc(*near))
    return {
        name: {"mean": np.mean(values), "deviation": np.std(values, ddof=1)}
        for name, values in scores.items()
    }


def table(results: dict[str, Any]) -> str:
    counts = results["labels"]
    lines = ["# Pictures, sound and text", ""]
    lines.append(
        f"Accuracy on the test, mean (deviation) over {results['seeds']} draws, by labels per "
        "class; median seconds of one adaptation on one core."
    )
    for name, case in results["cases"].items():
        head = " | ".join(map(str, counts))
        lines += [
            "",
            f"## {name}",
            "",
            f"| row | part | {head} | s |",
            "|---|---|" + "---|" * (len(counts) + 1),
        ]
        for row in case["rows"]:
            cells = [row["accuracy"][str(n)] for n in counts]
            text = " | ".join(f"{c['mean']:.3f} ({c['deviation']:.3f})" for c in cells)
            lines.append(f"| {row['row']} | {row['role']} | {text} | {row['seconds']:.1f} |")
        if "out_of_scope" in case:
            lines += ["", "| out of scope, 10 labels | AUROC |", "|---|---|"]
            for score_name, cell in case["out_of_scope"].items():
                text = f"{cell['mean']:.3f} ({cell['deviation']:.3f})"
                lines.append(f"| {score_name} | {text} |")
        found = case.get("verdict")
        if found:
            shipped = f"{found['shipped']['backbone']}/{found['shipped']['strategy']}"
            lines += [
                "",
                f"Whole `adapt` at 10 labels, seed 0: {found['verdict']} ({found['because']}); "
                f"ships {shipped}, accuracy {found['accuracy']:.3f}, {found['seconds']} s.",
            ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["surface", "digits", "snips", "clinc"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=int, nargs="+", default=list(LABELS))
    parser.add_argument("--no-verdict", action="store_true", help="leave the whole adapt out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    file = asked.out / "kinds.json"
    results: dict[str, Any] = {"seeds": asked.seeds, "labels": asked.labels, "cases": {}}
    if file.exists():
        before = json.loads(file.read_text())
        if (before["seeds"], before["labels"]) == (asked.seeds, asked.labels):
            results = before  # sets can be measured one after the other
    with threadpool_limits(limits=1):
        import torch

        torch.set_num_threads(1)
        for case in cases(asked.data, asked.sets):
            found: dict[str, Any] = {"rows": measure(case, asked.seeds, tuple(asked.labels))}
            if case.name == "clinc":
                folder = asked.data / "clinc150" / "data"
                found["out_of_scope"] = out_of_scope(folder, case, asked.seeds)
            if not asked.no_verdict:
                found["verdict"] = verdict(case)
            results["cases"][case.name] = found
            file.write_text(json.dumps(results, indent=1, default=float) + "\n")
            (asked.out / "kinds.md").write_text(table(json.loads(file.read_text())))


if __name__ == "__main__":
    main()
