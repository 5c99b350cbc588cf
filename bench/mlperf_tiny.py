"""MLPerf Tiny's reference networks through Edgegraft's C, on emulated Cortex-M cores.

    python bench/mlperf_tiny.py --weights MLPERF_TINY_FOLDER

The four int8 .tflite files of the benchmark (github.com/mlcommons/tiny, v1.0 and before) are read
exactly, written as C, compiled with gcc-arm-none-eabi and run in QEMU. Inputs are made up, since
the benchmark's data are not here: noise, levels and smooth fields. Every int8 score is compared
with LiteRT's reference kernels and with the NumPy reference; memory stands beside what
TensorFlow Lite Micro's interpreter allots.

Time on the reference board (Nucleo-L4R5ZI, Cortex-M4 at 120 MHz) is estimated from instructions,
beside what others published for that board. Those figures are of other code (the benchmark's own
port of TensorFlow Lite Micro, and X-CUBE-AI), so a ratio says how far an estimate for our code is
from what is usual there, and is no error of measurement alone.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from edgegraft.export import emulator
from edgegraft.export.c.emit import model_of, values_of
from edgegraft.export.target import board
from edgegraft.export.verification import build
from edgegraft.zoo.cost import multiply_adds
from edgegraft.zoo.tflite_int8 import read_int8
from edgegraft_edge.signal import Array

RESULTS = Path(__file__).parent / "results"
FILES = {
    "keyword spotting (DS-CNN)": "keyword_spotting/kws_ref_model.tflite",
    "visual wake words (MobileNetV1 0.25)": "visual_wake_words/vww_96_int8.tflite",
    "image classification (ResNet-8)": "image_classification/pretrainedResnet_quant.tflite",
    "anomaly detection (autoencoder)": "anomaly_detection/ad01_int8.tflite",
}
PUBLISHED_MS = {
    "keyword spotting (DS-CNN)": (1000 / 5.497, 1000 / 10.241),
    "visual wake words (MobileNetV1 0.25)": (1000 / 1.665, 1000 / 3.927),
    "image classification (ResNet-8)": (1000 / 1.420, 1000 / 3.956),
    "anomaly detection (autoencoder)": (1000 / 99.487, 1000 / 103.460),
}
"""From inferences a second, median: the reference submission of round 0.5
(github.com/mlcommons/tiny_results_v0.5, closed/reference/results/Nucleo-L4R5ZI) and that of
STMicroelectronics of round 0.7 (tiny_results_v0.7, NUCLEO_L4R5ZI)."""
BOARD, COUNT = "nucleo-l4r5zi", 200


def inputs(shape: tuple[int, ...], count: int, seed: int) -> Array:
    """int8 (count, *shape): thirds of noise, of levels with little noise, of smooth fields."""
    random = np.random.default_rng(seed)
    size = int(np.prod(shape))
    rows = []
    for index in range(count):
        if index % 3 == 0:
            row = random.integers(-128, 128, size)
        elif index % 3 == 1:
            row = random.integers(-128, 128) + random.normal(0, 6, size)
        else:
            walk = np.cumsum(random.normal(size=size))
            row = 256 * (walk - walk.min()) / np.ptp(walk) - 128
        rows.append(np.clip(np.rint(row), -128, 127).astype(np.int8).reshape(shape))
    return np.stack(rows)


def litert(data: bytes, x: Array) -> Array:
    """Scores int8 of LiteRT's reference kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    given, got = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for window in x:
        interpreter.set_tensor(given["index"], window.reshape(given["shape"]))
        interpreter.invoke()
        found.append(interpreter.get_tensor(got["index"]).ravel().copy())
    return np.stack(found)


def tflm_arena(path: Path) -> dict[str, int]:
    """Bytes that TensorFlow Lite Micro's interpreter allots, on this 64-bit machine."""
    code = (
        "import sys; from tflite_micro import runtime; "
        "runtime.Interpreter.from_file(sys.argv[1]).print_allocations()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    said = done.stdout + done.stderr
    pairs = re.findall(r"Arena allocation (total|head|tail) (\d+) bytes", said)
    return {name: int(value) for name, value in pairs}


def measure(name: str, path: Path, cores: list[str], count: int) -> dict:
    data = path.read_bytes()
    file = read_int8(data)
    model = model_of(file.program, *file.shape)
    x = inputs(file.shape, count, seed=len(name))
    real = (x.astype(np.float32) - file.input.zero) * np.float32(file.input.scale)
    reference = litert(data, x)
    assert model.integers is not None
    parts = (real[first : first + 20] for first in range(0, count, 20))
    ours = np.concatenate(
        [values_of(file.program, part, model.integers.exit.inputs[0])[0] for part in parts]
    ).reshape(count, -1)
    on_cores = {}
    for core in cores:
        with tempfile.TemporaryDirectory() as folder:
            built = build(model, core, Path(folder) / "b", entry="s8")
            found = emulator.emulate(built, x, limit_s=1200)
        on_cores[core] = {
            "instructions": int(np.median(found.instructions)),
            "flash_bytes": found.size.flash,
            "code_bytes": found.size.flash - model.weight_bytes,
            "arena_bytes": found.size.arena,
            "buffers_bytes": found.size.buffers,
            "stack_bytes": found.stack_bytes,
            "equal_to_numpy": bool(np.array_equal(found.outputs, ours)),
            "steps_from_litert": int(np.abs(found.outputs.astype(int) - reference).max()),
            "scores_equal_to_litert": float((found.outputs == reference).mean()),
        }
        print(name, core, on_cores[core], flush=True)
    estimate = board(BOARD).latency_ms(on_cores["m4"]["instructions"]) if "m4" in on_cores else None
    return {
        "name": name,
        "inputs": count,
        "scores_seen": len(np.unique(reference)),
        "multiply_adds": multiply_adds(file.program, *file.shape),
        "file_bytes": len(data),
        "weight_bytes": model.weight_bytes,
        "tflm_arena_bytes": tflm_arena(path),
        "cores": on_cores,
        "estimate_ms": estimate,
        "published_ms": dict(zip(("tflm", "x-cube-ai"), PUBLISHED_MS[name], strict=True)),
    }


def markdown(found: dict) -> str:
    card = board(BOARD)
    lines = [
        "# MLPerf Tiny's networks in C",
        "",
        f"{found['networks'][0]['inputs']} made-up inputs each; int8 scores on every core beside",
        "those of the NumPy reference (bits) and of LiteRT's reference kernels (the largest",
        "difference).",
        "",
        "| network | cores | equal to NumPy | steps from LiteRT | scores equal to LiteRT's |",
        "|---|---|---|---|---|",
    ]
    for row in found["networks"]:
        cores = row["cores"].values()
        lines.append(
            f"| {row['name']} | {', '.join(row['cores'])} "
            f"| {'yes' if all(core['equal_to_numpy'] for core in cores) else 'NO'} "
            f"| {max(core['steps_from_litert'] for core in cores)} "
            f"| {min(core['scores_equal_to_litert'] for core in cores):.4f} |"
        )
    lines += [
        "",
        "Memory, KiB (1,024 bytes), on the M4. RAM: what holds values, input and output with them;",
        "TensorFlow Lite Micro's total has its own records besides, larger on this 64-bit machine",
        "than on a board. Neither has the stack.",
        "",
        "| network | .tflite | our flash | of it code | our RAM | TFLM values | TFLM arena |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["networks"]:
        core, tflm = row["cores"]["m4"], row["tflm_arena_bytes"]
        sizes = (
            row["file_bytes"], core["flash_bytes"], core["code_bytes"],
            core["arena_bytes"] + core["buffers_bytes"], tflm["head"], tflm["total"],
        )  # fmt: skip
        lines.append(f"| {row['name']} | " + " | ".join(f"{s / 1024:.1f}" for s in sizes) + " |")
    names = list(found["networks"][0]["cores"])
    lines += [
        "",
        "Instructions of one window (not cycles), millions; and for each multiply-add.",
        "",
    ]
    lines.append("| network | multiply-adds | " + " | ".join(names) + " |")
    lines.append("|---|---|" + "---|" * len(names))
    for row in found["networks"]:
        counts = [row["cores"][name]["instructions"] for name in names]
        shown = [f"{n / 1e6:.2f} ({n / row['multiply_adds']:.1f})" for n in counts]
        lines.append(
            f"| {row['name']} | {row['multiply_adds'] / 1e6:.2f} | " + " | ".join(shown) + " |"
        )
    lines += [
        "",
        f"Time on {card.title}, ms: estimated at {card.cycles_per_instruction:g} cycles an",
        f"instruction and {card.clock_mhz:g} MHz, beside published figures of other code on the",
        "same board, and what the estimate is of each.",
        "",
        "| network | estimate | TFLM, round 0.5 | X-CUBE-AI, round 0.7 | ratio | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["networks"]:
        mine, (tflm, cube) = row["estimate_ms"], row["published_ms"].values()
        lines.append(
            f"| {row['name']} | {mine:.1f} | {tflm:.1f} | {cube:.1f} "
            f"| {mine / tflm:.2f} | {mine / cube:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--cores", nargs="+", default=["m0plus", "m3", "m4", "m7", "m55"])
    parser.add_argument("--inputs", type=int, default=COUNT)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    networks = [
        measure(name, options.weights / file, options.cores, options.inputs)
        for name, file in FILES.items()
    ]
    found = {"networks": networks}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "mlperf_tiny.json").write_text(json.dumps(found, indent=1) + "\n")
    (options.out / "mlperf_tiny.md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
