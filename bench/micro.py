"""The C of a micro student: flash and RAM by the linker, instructions, and speed beside peers.

    python bench/micro.py [--bundle STUDENT.egb] [--out FILE]

The student is a `micro` network for windows of 9 channels x 128 timepoints in int8: the bundle
that is named (`bench/student.py --keep` leaves some), else one with random weights, whose cost is
the same. On this machine its C is timed beside the same program as a LiteRT file, int8 in and
out, one thread each, turn by turn: medians of many calls, the best of the rounds. For the cores
it is compiled at -O2 and run in QEMU, which counts instructions, not cycles; beside it on the
Cortex-M4 a dense network in C by emlearn (package `emlearn`), built by the same compiler.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from edgegraft.compress.quantize import quantized
from edgegraft.export import emulator, verification
from edgegraft.export.c import host
from edgegraft.export.c.emit import model_of
from edgegraft.export.litert import emit
from edgegraft.zoo.cost import multiply_adds
from edgegraft.zoo.micro import Micro, MicroShape
from edgegraft_edge import bundle
from edgegraft_edge.heads import LinearHead
from edgegraft_edge.program import INPUT, Program, chain
from edgegraft_edge.signal import Array, Windows
from edgegraft_edge.steps import standard

N_CHANNELS, N_TIMEPOINTS, N_CLASSES = 9, 128, 6
CORES = ("m0plus", "m4", "m7", "m55")
CALLS, ROUNDS = 300, 7
HIDDEN = 32


def drawn() -> Program:
    """A micro network with random weights, in int8."""
    random = np.random.default_rng(0)
    x = random.normal(size=(200, N_CHANNELS, N_TIMEPOINTS)).astype(np.float32)
    network = Micro.of(MicroShape()).fit(Windows.of(x, rate_hz=50.0), seed=0)
    z = network.program(N_CHANNELS, N_TIMEPOINTS)
    size = z.run(x[:1]).shape[1]
    head = LinearHead(
        random.normal(0, 0.3, (size, N_CLASSES)).astype(np.float32),
        np.zeros(N_CLASSES, np.float32),
    )
    return quantized(chain(standard(x), z, head.program()), x)


def timed(calls: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Microseconds of each, turn by turn: medians of many calls, the best of the rounds."""
    medians: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            each = np.empty(CALLS)
            for index in range(CALLS):
                began = time.perf_counter_ns()
                call()
                each[index] = time.perf_counter_ns() - began
            medians[name].append(float(np.median(each)) / 1000)
    return {name: round(min(found), 1) for name, found in medians.items()}


def from_steps(program: Program) -> Program:
    """The program from its first `quantize` on: LiteRT's file has no floats at its ends then."""
    kinds = [op.kind for op in program.ops]
    first = kinds.index("quantize")
    entry = replace(program.ops[first], inputs=(INPUT,))
    names = {name for op in program.ops[first:] for name in op.inputs}
    constants = {name: array for name, array in program.constants.items() if name in names}
    return Program((entry, *program.ops[first + 1 :]), constants, program.output)


def outputs(interpreter: Any, steps: Array) -> Array:
    """What LiteRT says of int8 windows, (n_windows, n_classes)."""
    interpreter.allocate_tensors()
    given, found = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    seen = []
    for window in steps:
        interpreter.set_tensor(given["index"], window.reshape(given["shape"]))
        interpreter.invoke()
        seen.append(interpreter.get_tensor(found["index"]).ravel().astype(int))
    return np.array(seen)


def host_speed(program: Program, x: Array) -> dict[str, float]:
    """C and LiteRT on this machine, int8 in and out; and whether they say the same."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    compiled = host.fastest(program, *x.shape[1:])
    steps = compiled.quantized(x)
    inner, shape = from_steps(program), compiled.model.integers.input_shape[1:]
    model = emit(inner, *shape, io="int8")
    interpreter = Interpreter(model_content=model, num_threads=1)
    reference = Interpreter(
        model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    scores = compiled.scores(steps).reshape(len(steps), -1).astype(int)
    apart = {
        name: int(np.abs(outputs(each, steps) - scores).max())
        for name, each in (("XNNPACK", interpreter), ("reference", reference))
    }
    run = compiled._function("run_s8")
    window, out = (
        np.ascontiguousarray(steps[0]),
        np.empty(compiled.scores(steps[:1]).shape[1:], np.int8),
    )
    arena = host._arena(compiled.model.s8_arena_bytes)
    at = [ctypes.c_void_p(array.ctypes.data) for array in (window, out, arena)]
    speed = timed({"C": lambda: run(*at), "LiteRT": interpreter.invoke})
    return {**{f"{name}_us": value for name, value in speed.items()}, "steps_apart": apart}


def on_core(program: Program, x: Array, core: str) -> dict[str, float]:
    model = model_of(program, *x.shape[1:])
    steps = host.hosted(model).quantized(x)
    with tempfile.TemporaryDirectory(prefix="edgegraft-") as folder:
        built = verification.build(model, core, Path(folder), entry="s8")
        found = emulator.emulate(built, steps)
    assert np.array_equal(found.outputs.ravel(), host.hosted(model).scores(steps).ravel())
    size, instructions = found.size, int(np.median(found.instructions))
    return {
        "flash_kib": round(size.flash / 1024, 1),
        "code_kib": round(size.code / 1024, 1),
        "ram_kib": round((size.ram + found.stack_bytes) / 1024, 1),
        "instructions": instructions,
        "per_multiply_add": round(instructions / multiply_adds(program, *x.shape[1:]), 2),
    }


def emlearn_on(core: str) -> dict[str, float]:
    """A dense network of emlearn over the same windows, by the same compiler."""
    import emlearn
    from sklearn.neural_network import MLPClassifier

    random = np.random.default_rng(0)
    x = random.normal(size=(120, N_CHANNELS * N_TIMEPOINTS)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is not trained to the end, which costs the same
        dense = MLPClassifier((HIDDEN,), max_iter=1).fit(x, np.arange(120) % N_CLASSES)
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):  # it leaves files
        written = emlearn.convert(dense, method="inline").save(name="dense")
    headers = {
        path.name: b"#pragma GCC system_header\n" + path.read_bytes()
        for path in Path(emlearn.__file__).parent.glob("eml_*.h")
    }
    files = {f"src/{name}": text for name, text in headers.items()}
    files["src/dense_net.h"] = b"#pragma GCC system_header\n" + written.encode()
    files["src/dense.h"] = (
        b"#include <stdint.h>\n#define DENSE_ARENA_BYTES 16\n"
        b"void dense_run(const float *window, float *probabilities, void *arena);\n"
    )
    files["src/dense.c"] = (
        '#include "dense.h"\n#include "dense_net.h"\n'
        "void dense_run(const float *window, float *probabilities, void *arena)\n"
        "{\n    (void)arena;\n"
        f"    (void)eml_net_predict_proba(&dense, window, {x.shape[1]}, probabilities,"
        f" {N_CLASSES});\n"
        "}\n"
    ).encode()
    with tempfile.TemporaryDirectory(prefix="edgegraft-") as folder:
        built = emulator.build(
            files, core, Path(folder), entry="float", n_inputs=x.shape[1], n_outputs=N_CLASSES,
            prefix="dense",
        )  # fmt: skip
        found = emulator.emulate(built, x[:4])
    apart = np.abs(found.outputs - dense.predict_proba(x[:4])).max()
    assert apart < 1e-3, f"emlearn's network computes something else ({apart})"
    products = x.shape[1] * HIDDEN + HIDDEN * N_CLASSES
    instructions = int(np.median(found.instructions))
    return {
        "flash_kib": round(found.size.flash / 1024, 1),
        "code_kib": round(found.size.code / 1024, 1),
        "ram_kib": round((found.size.ram + found.stack_bytes) / 1024, 1),
        "instructions": instructions,
        "per_multiply_add": round(instructions / products, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/micro")
    options = parser.parse_args()
    if options.bundle is None:
        program = drawn()
        x = np.random.default_rng(1).normal(size=(12, N_CHANNELS, N_TIMEPOINTS)).astype(np.float32)
    else:
        read = bundle.read(options.bundle)
        program, x = read.program, read.golden
    assert program.precision == "int8", program.float_operations
    found = {
        "student": "random weights" if options.bundle is None else options.bundle.name,
        "parameters": sum(a.size for a in program.constants.values() if a.dtype == np.int8),
        "multiply_adds": multiply_adds(program, *x.shape[1:]),
        "host": host_speed(program, x),
        "cores": {core: on_core(program, x, core) for core in CORES},
        "emlearn": {"m4": emlearn_on("m4")},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(found, indent=1))
    table = markdown(found)
    options.out.with_suffix(".md").write_text(table)
    print(table)


def markdown(found: dict) -> str:
    speed = found["host"]
    rows = [("student, " + core, found["cores"][core]) for core in found["cores"]] + [
        (f"emlearn dense network (float), {core}", row) for core, row in found["emlearn"].items()
    ]
    lines = [
        f"Micro student ({found['student']}): {found['parameters']:,} weights,"
        f" {found['multiply_adds']:,} multiply-adds a window of 9 x 128.",
        "",
        f"This machine, one thread, microseconds a window: C {speed['C_us']}, LiteRT int8 (XNNPACK)"
        f" {speed['LiteRT_us']}; ratio {speed['C_us'] / speed['LiteRT_us']:.2f}. Scores are at most"
        f" {speed['steps_apart']['reference']} steps from LiteRT's reference kernels,"
        f" {speed['steps_apart']['XNNPACK']} from XNNPACK's.",
        "",
        "| | flash KiB | code | RAM KiB with stack | instructions a window | a multiply-add |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['flash_kib']} | {row['code_kib']} | {row['ram_kib']} |"
        f" {row['instructions']:,} | {row['per_multiply_add']} |"
        for name, row in rows
    ]
    lines += [
        "",
        "Instructions are counted by QEMU; they are not cycles. The dense network of emlearn",
        f"({N_CHANNELS * N_TIMEPOINTS} x {HIDDEN} x {N_CLASSES}) is another model: compare what a",
        "multiply-add takes.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
