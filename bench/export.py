"""Seconds, sizes and parity of every export of sensor models, and what each runtime takes here.

    python bench/export.py --data UCI_HAR [--out FILE]

UCI_HAR holds train.npz. Three models are fitted with 25 labels of each class: the default blend,
the probe on `conv1d-motion`, and a `micro` network. Each is exported to every format in float and
in int8 (ranges from the labelled windows), one after another in this process; every export includes
its proof on the golden windows. Latencies are medians of one window, one thread, best of five
rounds, all runtimes turn by turn.
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
from edgegraft import catalog
from edgegraft.adapt.strategy import build_strategy
from edgegraft.compress.quantize import quantized_bundle
from edgegraft.data.split import few_shot
from edgegraft.export.c import host
from edgegraft.export.c.emit import model_of
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge import bundle, runner
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.errors import EdgegraftError

MODELS = (
    ("default blend", "conv1d-motion", "blend", {}),
    ("conv1d-motion, probe", "conv1d-motion", "probe", {}),
    ("micro-random, scratch", "micro-random", "scratch", {"epochs": 5}),
)
FORMATS = ("onnx", "litert", "executorch", "c")
CALLS, ROUNDS = 60, 5


def fitted(windows: eg.Windows, backbone: str, strategy: str, options: dict) -> Bundle:
    adapted = build_strategy(strategy, options).adapt(
        load_backbone(backbone), windows, Classification(), seed=0
    )
    golden = windows.x[few_shot(windows, 2, seed=0)]
    return bundle.make(adapted.program, adapted.spec, adapted.classes, golden=golden)


def exported(source: Bundle, kind: str) -> tuple[dict, Bundle | None]:
    exporter = catalog.find("exporters", kind)()
    began = time.perf_counter()
    try:
        packed = exporter.export(source)
        if hasattr(exporter, "sources"):
            files = exporter.sources(packed)
            size = sum(len(data) for path, data in files.items() if path.startswith("src/"))
        else:
            size = len(packed.model(kind))
    except EdgegraftError as error:
        return {"seconds": round(time.perf_counter() - began, 2), "refused": error.code}, None
    return {"seconds": round(time.perf_counter() - began, 2), "kib": round(size / 1024, 1)}, packed


def latencies(packed: dict[str, Bundle]) -> dict[str, float]:
    """Milliseconds of one window in each runtime, turn by turn."""
    some = next(iter(packed.values()))
    window = some.golden[:1].astype(np.float32)
    runs = {"numpy": runner.open_model(some, "numpy")}
    for kind, source in packed.items():
        if kind == "c":
            runs[kind] = host.hosted(model_of(source.program, *source.golden.shape[1:]))
        else:
            runs[kind] = runner.open_model(source, kind)
    medians: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            each = []
            for _ in range(CALLS):
                began = time.perf_counter()
                run(window)
                each.append(time.perf_counter() - began)
            medians[name].append(float(np.median(each)))
    return {name: round(1000 * min(found), 4) for name, found in medians.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/export")
    options = parser.parse_args()
    train = eg.open_data(options.data / "train.npz").windows()
    few = train.take(few_shot(train, 25, seed=0))
    found = []
    with threadpool_limits(limits=1):
        for name, backbone, strategy, settings in MODELS:
            whole = fitted(few, backbone, strategy, settings)
            began = time.perf_counter()
            eight = quantized_bundle(whole, few.x)
            seconds = round(time.perf_counter() - began, 2)
            for source in (whole, eight):
                row = {"model": name, "precision": source.precision, "exports": {}}
                row["constants_kib"] = round(source.program.size_bytes / 1024, 1)
                row["quantise_seconds"] = seconds if source is eight else 0.0
                packed = {}
                for kind in FORMATS:
                    row["exports"][kind], made = exported(source, kind)
                    if made is not None:
                        packed[kind] = made
                row["latency_ms"] = latencies(packed)
                found.append(row)
                print(row, flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(found, indent=1))
    options.out.with_suffix(".md").write_text(markdown(found))
    print(markdown(found))


def markdown(rows: list[dict]) -> str:
    lines = [
        "Exports of models for windows of 9 x 128 (UCI HAR), with their proof on golden windows:",
        "seconds, and KiB of the file (of C: of its source).",
        "",
        "| model | precision | quantise s | " + " | ".join(FORMATS) + " |",
        "|---|---|---|" + "---|" * len(FORMATS),
    ]
    for row in rows:
        cells = [
            f"{cell['seconds']} s, refused: {cell['refused']}"
            if "refused" in cell
            else f"{cell['seconds']} s, {cell['kib']:g} KiB"
            for cell in (row["exports"][kind] for kind in FORMATS)
        ]
        head = f"| {row['model']} | {row['precision']} | {row['quantise_seconds']} | "
        lines.append(head + " | ".join(cells) + " |")
    names = ("numpy", *FORMATS)
    lines += [
        "",
        "Milliseconds of one window on this machine, one thread, called from Python:",
        "",
        "| model | precision | " + " | ".join(names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for row in rows:
        cells = [
            f"{row['latency_ms'][name]:g}" if name in row["latency_ms"] else "" for name in names
        ]
        lines.append(f"| {row['model']} | {row['precision']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
