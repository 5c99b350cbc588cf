"""What int8 costs in accuracy: float beside int8 by each calibration, tuned int8, and a peer.

    python bench/int8.py --data FOLDER [--labels 10 25 100] [--seeds 5] [--models blend ...]
    python bench/int8.py --data FOLDER --development
    python bench/int8.py --merge PART.json ...

FOLDER holds train.npz and test.npz of UCI HAR, people apart. Labels are drawn from the training
people with a seed, and windows to calibrate with are drawn from those labelled windows; all are
scored on the same 950 windows of the test people. Each row of int8 is the integer program itself,
run in NumPy. The peer is onnxruntime's `quantize_static` (QDQ, int8, per channel) of the same
float model as ONNX, with the same calibration windows, run in ONNX Runtime.

With --development the test people stay unseen: a third of the training people take their place.
Defaults were chosen there.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from threadpoolctl import threadpool_limits

import edgegraft as eg
from development_data import by_person
from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.strategy import build_strategy
from edgegraft.compress.aware import Aware, tuned
from edgegraft.compress.calibrate import METHODS, Quantization, spread
from edgegraft.compress.quantize import quantize_program
from edgegraft.data.split import few_shot
from edgegraft.export.onnx import OUTPUT, emit
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.program import Program

MODELS = {
    "blend": ("blend", "conv1d-motion", {}),
    "conv1d": ("finetune", "conv1d-motion", {"epochs": 10}),
    "micro": ("finetune", "micro-random", {"epochs": 30, "learning_rate": 2e-3}),
}
TESTED, TUNED_ON = 950, 2400
MOST_TUNED = 200  # windows; tuning the larger network on more takes minutes here
DEFAULT = Quantization().method
EVERYTHING = Quantization(least_sqnr_db=0.0)


def rows(adapted: Adapted, few: eg.Windows, test: eg.Windows, model: str) -> Iterator[dict]:
    """Float first, then each int8 form, each with its accuracy."""
    program, classes = adapted.program, np.array(adapted.classes)
    x = few.x[spread(few, 200)]
    wanted: list[np.ndarray] = []

    def row(name: str, run, size: int, **facts) -> dict:
        scores = np.concatenate([run(test.x[i : i + 50]) for i in range(0, len(test.x), 50)])
        wanted.append(scores)
        right = classes[scores.argmax(axis=1)] == test.y
        agree = (scores.argmax(axis=1) == wanted[0].argmax(axis=1)).mean()
        return {"form": name, "accuracy": float(right.mean()), "agree": float(agree),
                "size_bytes": size, **facts}  # fmt: skip

    def int8(name: str, made, seconds: float) -> dict:
        return row(name, made.program.run, made.program.size_bytes, seconds=seconds,
                   sqnr_db=made.sqnr_db, precision=made.program.precision)  # fmt: skip

    yield row("float", program.run, program.size_bytes)
    for method in METHODS if model != "blend" else (DEFAULT,):
        began = time.perf_counter()
        made = quantize_program(program, x, Quantization(method=method))
        yield int8(f"int8, {method}", made, time.perf_counter() - began)
    if model == "blend":
        return
    began = time.perf_counter()
    run, size = peer(program, x)
    yield row("onnxruntime quantize_static", run, size, seconds=time.perf_counter() - began)
    everything = quantize_program(program, x, EVERYTHING)
    yield int8("int8 wherever there is an integer form", everything, 0.0)
    if model == "conv1d" and len(few.x) > MOST_TUNED:
        return
    began = time.perf_counter()
    options = Aware(epochs=int(np.clip(TUNED_ON // len(few.x), 4, 30)))
    better = tuned(everything, program, few.x, options)
    yield int8("the same, tuned", better, time.perf_counter() - began)


def peer(program: Program, x: np.ndarray):
    """The float model as onnxruntime quantises it: a function, and its bytes of constants."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quant_pre_process,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter([{"x": x[i : i + 1]} for i in range(len(x))])

        def get_next(self):
            return next(self.left, None)

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("float.onnx", "ready.onnx", "int8.onnx")]
        paths[0].write_bytes(emit(program, *x.shape[1:]))
        quant_pre_process(str(paths[0]), str(paths[1]), skip_symbolic_shape=True)
        quantize_static(
            str(paths[1]), str(paths[2]), Reader(), quant_format=QuantFormat.QDQ,
            per_channel=True, activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        model = paths[2].read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    kept = onnx.load_from_string(model).graph.initializer
    size = sum(onnx.numpy_helper.to_array(each).nbytes for each in kept)
    return lambda batch: session.run([OUTPUT], {"x": batch})[0], size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 25, 100])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--merge", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    name = "int8_development" if options.development else "int8"
    out = options.out or Path(__file__).parent / "results" / name
    if options.merge:
        cells = [cell for part in options.merge for cell in json.loads(part.read_text())]
    else:
        cells = measured(options)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(cells, indent=1))
    out.with_suffix(".md").write_text(markdown(cells))
    print(markdown(cells))


def measured(options: argparse.Namespace) -> list[dict]:
    cells = []
    train = eg.open_data(options.data / "train.npz").windows()
    test = train if options.development else eg.open_data(options.data / "test.npz").windows()
    for model in options.models:
        strategy, backbone, choices = MODELS[model]
        for n_labels in options.labels:
            for seed in range(options.seeds):
                pool, tested = by_person(train, seed) if options.development else (train, test)
                chosen = np.random.default_rng(0).permutation(len(tested.x))[:TESTED]
                tested = tested.take(np.sort(chosen))
                few = pool.take(few_shot(pool, n_labels, seed=seed))
                with threadpool_limits(limits=1):
                    adapted = build_strategy(strategy, choices).adapt(
                        load_backbone(backbone), few, Classification(), seed=seed
                    )
                    for row in rows(adapted, few, tested, model):
                        cells.append({"model": model, "labels": n_labels, "seed": seed, **row})
                        print(json.dumps(cells[-1]), flush=True)
    return cells


def markdown(cells: list[dict]) -> str:
    """Accuracy of float; what each int8 form loses to it, paired over seeds; size."""
    from scipy.stats import t

    lines = [
        "Float: mean accuracy on unseen people over seeds. The rest: points of accuracy against",
        "float on the same draws, mean (half width of the paired 95 % t interval); share of",
        "windows answered as float does; bytes of constants.",
        "",
    ]
    labels = sorted({cell["labels"] for cell in cells})
    for model in dict.fromkeys(cell["model"] for cell in cells):
        heads = " | ".join(f"n={n}" for n in labels)
        lines += [f"| {model} | {heads} | agrees | KiB |", "|---|" + "---|" * (len(labels) + 2)]
        own = [cell for cell in cells if cell["model"] == model]
        base = {(c["labels"], c["seed"]): c for c in own if c["form"] == "float"}
        for form in dict.fromkeys(cell["form"] for cell in own):
            parts = []
            mine = [cell for cell in own if cell["form"] == form]
            for n in labels:
                away = np.array([
                    c["accuracy"] - (0 if form == "float" else base[n, c["seed"]]["accuracy"])
                    for c in mine if c["labels"] == n
                ])  # fmt: skip
                if not len(away):
                    parts.append("")
                    continue
                if form == "float":
                    parts.append(f"{away.mean():.3f}")
                    continue
                half = 0.0
                if len(away) > 1:
                    half = t.ppf(0.975, len(away) - 1) * away.std(ddof=1) / len(away) ** 0.5
                parts.append(f"{100 * away.mean():+.2f} ({100 * half:.2f})")
            agree = np.mean([cell["agree"] for cell in mine])
            size = np.mean([cell["size_bytes"] for cell in mine]) / 1024
            lines.append(f"| {form} | " + " | ".join(parts) + f" | {agree:.3f} | {size:.0f} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
