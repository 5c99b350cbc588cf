"""A network file in its own runtime, to compare with: what did its maker's program compute?

LiteRT follows what a file says without checking all of it, and some damaged files end the
process; so a file that we did not write runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgegraft_edge import parts
from edgegraft_edge.errors import ModelError
from edgegraft_edge.integer import quantize
from edgegraft_edge.signal import Array

TIMEOUT_S = 600
_MODEL, _GIVEN, _FOUND = "model.tflite", "given.npy", "found.npy"


def run_tflite(model: bytes, x: Array) -> Array:
    """Outputs float32 (n_windows, ...) of LiteRT's reference kernels.

    Args:
        x: float32 (n_windows, ...) in the file's own order of axes and its real units.

    Errors: `OptionError` "extra-missing"; `ModelError` "import-runtime" with what LiteRT said.
    """
    if find_spec("ai_edge_litert") is None:
        raise parts.missing("a comparison with LiteRT", "ai-edge-litert", "edgegraft", "litert")
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / _MODEL).write_bytes(model)
        np.save(folder / _GIVEN, np.asarray(x, np.float32), allow_pickle=False)
        command = [sys.executable, "-m", "edgegraft.export.original", name]
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise _stopped(f"it took more than {TIMEOUT_S} s") from error
        if ended.returncode:
            said = [line for line in ended.stderr.splitlines() if line.strip()]
            raise _stopped(said[-1] if said else f"it ended with {ended.returncode}")
        return np.asarray(np.load(folder / _FOUND, allow_pickle=False), np.float32)


def run_onnx(model: bytes, x: Array) -> Array:
    """Outputs float32 (n_windows, ...) of ONNX Runtime.

    Errors: `ModelError` "import-runtime" with what the runtime said.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        name, kind = session.get_inputs()[0].name, session.get_inputs()[0].type
        dtype = np.float16 if "float16" in kind else np.float32
        rows = [session.run(None, {name: row[None].astype(dtype)})[0] for row in x]
    except Exception as error:  # the runtime's own classes differ from version to version
        raise _stopped(str(error).splitlines()[0][:300]) from error
    return np.asarray(np.concatenate(rows), np.float32)


def _stopped(said: str) -> ModelError:
    return ModelError.of(
        "import-runtime",
        f"a network that its own runtime does not run: {said}",
        "what it computes cannot be compared",
        "fetch or convert the file again",
    )


def main(folder: Path) -> None:
    """In a process of its own: run the model of a folder on the windows in it."""
    from ai_edge_litert import interpreter as runtime

    kernels, session = runtime.OpResolverType, None
    for kind in (kernels.BUILTIN_REF, kernels.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
        try:
            session = runtime.Interpreter(
                str(folder / _MODEL), num_threads=1, experimental_op_resolver_type=kind
            )
            session.allocate_tensors()
            break
        except ValueError:  # a few operators have no reference kernel
            if kind is kernels.BUILTIN_WITHOUT_DEFAULT_DELEGATES:
                raise
    assert session is not None
    given, found = session.get_input_details()[0], session.get_output_details()[0]
    rows = []
    for row in np.load(folder / _GIVEN, allow_pickle=False):
        session.set_tensor(given["index"], _stepped(row[None], given))
        session.invoke()
        rows.append(_real(session.get_tensor(found["index"]), found))
    np.save(folder / _FOUND, np.concatenate(rows), allow_pickle=False)


def _stepped(row: Array, detail: dict[str, Any]) -> Array:
    if detail["dtype"] == np.float32:
        return row
    scale, zero = detail["quantization"]
    more = 128 if detail["dtype"] == np.uint8 else 0
    steps = quantize(row, scale=float(scale), zero=int(zero) - more)
    return np.asarray(steps.astype(np.int16) + more, detail["dtype"])


def _real(value: Array, detail: dict[str, Any]) -> Array:
    if detail["dtype"] == np.float32:
        return value
    scale, zero = detail["quantization"]
    return np.asarray((value.astype(np.float32) - zero) * np.float32(scale), np.float32)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
