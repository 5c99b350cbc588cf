"""What TensorFlow Lite Micro makes of an int8 file, where its interpreter is installed.

It gave wrong answers without a word for files that LiteRT runs, so a file meant for it is tried.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from edgegraft_edge.backends.litert_file import check_file
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.errors import ExportError
from edgegraft_edge.integer import dequantize, quantize
from edgegraft_edge.rounding import allowed
from edgegraft_edge.signal import Array


def run_micro(model: bytes, x: Array) -> Array:
    """Outputs float32 (n_windows, ...) of TensorFlow Lite Micro's interpreter on this machine.

    Args:
        model: a file with 8-bit ends; `x` float32 (n_windows, ...).

    Errors: `ExportError` "export-micro" with what the interpreter said; `ModelError` for a file
    that is damaged.
    """
    check_file(model)
    runtime = import_module("tflite_micro.python.tflite_micro.runtime")
    try:
        session = runtime.Interpreter.from_bytes(model)
        given, found = _scale(session.get_input_details(0)), _scale(session.get_output_details(0))
        rows = []
        for window in np.asarray(x, np.float32):
            session.set_input(quantize(window[None], scale=given[0], zero=given[1]), 0)
            session.invoke()
            rows.append(dequantize(session.get_output(0), scale=found[0], zero=found[1]))
    except (RuntimeError, ValueError, IndexError) as error:
        raise _refused(f"a file that it does not run: {error}") from error
    return np.concatenate(rows)


def check_micro(bundle: Bundle, model: bytes) -> bool:
    """Compare on the golden windows; False where the interpreter is not installed.

    Errors: `ExportError` "export-micro".
    """
    if find_spec("tflite_micro") is None:
        return False
    found, expected = run_micro(model, bundle.golden), bundle.expected
    away = np.abs(found.reshape(expected.shape) - expected)
    if (away > allowed(bundle.program, bundle.golden, expected, bundle.outputs)).any():
        raise _refused(f"outputs that differ by {away.max():.2g} on {len(found)} golden windows")
    return True


def _scale(detail: dict[str, Any]) -> tuple[float, int]:
    told = detail["quantization_parameters"]
    return float(told["scales"][0]), int(told["zero_points"][0])


def _refused(found: str) -> ExportError:
    return ExportError.of(
        "export-micro",
        f"TensorFlow Lite Micro gives {found}",
        "a microcontroller would compute something else",
        "edgegraft export --format c",
    )
