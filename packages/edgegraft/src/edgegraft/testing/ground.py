"""What the checks stand on: how to run them, and how to compare."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgegraft_edge import tensors
from edgegraft_edge.errors import EdgegraftError
from edgegraft_edge.program import Program, split
from edgegraft_edge.signal import Array, Windows

TOLERANCE = 1e-4
TIES = 1e-3
CANCELLED = 3e-4
"""What one value in a thousand may be off by: where large terms cancel, few digits are left."""
Check = Callable[..., None]
_COMPARING = frozenset({"greater", "round", "trees"})


def assert_agrees(
    found: Array,
    expected: Array,
    *,
    ties: float = 0.0,
    tolerance: float = TOLERANCE,
    size: float = 0.0,
) -> None:
    """Assert that two arrays are equal to `tolerance`, relative to the size of their values.

    The size of a value is its own, or that of its column, or a hundredth of all, or `size`,
    whatever is largest; with ``size=1`` probabilities are compared as they stand.
    At most the share `ties` of the entries may differ by more: where a program compares, a
    value on the threshold may round to either side in two runtimes.

    >>> assert_agrees(np.array([1.0, 2.0]), np.array([1.0, 2.00001]))
    """
    assert found.shape == expected.shape, f"shape {found.shape} where {expected.shape} is expected"
    own = np.abs(expected.astype(np.float64))
    floor = np.maximum(own.mean(axis=0, keepdims=True), max(float(own.mean()) / 100, size, 1e-6))
    scale = np.maximum(own, floor)
    off = np.abs(found.astype(np.float64) - expected) / scale
    share = float(np.mean(~(off <= tolerance)))
    assert share <= ties, (
        f"{share:.2%} of the values differ by more than {tolerance:g}, the worst by {off.max():.2g}"
    )


def run_all(
    checks: Mapping[str, Check], what: str, leave_out: Mapping[str, str], *args: Any
) -> None:
    """Run checks by name; one `AssertionError` tells of all that do not hold."""
    unknown = sorted(set(leave_out) - set(checks))
    assert not unknown, f"leave_out names no check: {unknown}; there are {sorted(checks)}"
    failures = []
    for name, check in checks.items():
        if name in leave_out:
            continue
        try:
            check(*args)
        except (AssertionError, EdgegraftError) as error:
            failures.append(f"{name}: {error or 'does not hold'}")
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
    assert not failures, f"{what} breaks {len(failures)} contract(s):\n  " + "\n  ".join(failures)


def _onnx(program: Program, x: Array) -> Array:
    """What ONNX Runtime makes of the program, after what it has no operators for."""
    import onnxruntime

    from edgegraft.export.onnx import emit

    readers, program = split(program)
    x = np.asarray(x, dtype=np.float32) if readers is None else readers.run(x)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        emit(program, *x.shape[1:]), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": x})[0])


def assert_portable(program: Program, x: Array, expected: Array, *, size: float = 0.0) -> None:
    """Assert that a program, saved and loaded, and as ONNX graph, gives `expected`.

    One value in a thousand may be off by more than `TOLERANCE`: by up to `CANCELLED`, or by
    anything where the program compares and a value sits on the threshold.
    """
    text = json.dumps(program.as_dict())
    loaded = Program.from_dict(json.loads(text), tensors.load(tensors.dump(program.constants)))
    interpreted = program.run(x)
    assert np.array_equal(loaded.run(x), interpreted), "a saved and loaded program differs"
    compares = any(op.kind in _COMPARING for op in program.ops)
    for found in (interpreted, _onnx(program, x)):
        assert_agrees(found, expected, ties=TIES, size=size)
        if not compares:
            assert_agrees(found, expected, tolerance=CANCELLED, size=size)


def assert_untouched(windows: Windows, copy: Windows) -> None:
    """Assert that windows are what their copy is."""
    for name in ("x", "y", "groups"):
        assert np.array_equal(getattr(windows, name), getattr(copy, name)), f"it changed {name}"


def copy_of(windows: Windows) -> Windows:
    """The same windows in arrays of their own."""
    return windows.take(np.arange(len(windows)))


def assert_frozen(value: Any) -> None:
    """Assert that a value is a frozen dataclass."""
    assert dataclasses.is_dataclass(value), f"{type(value).__name__} is no dataclass"
    parameters = getattr(type(value), "__dataclass_params__", None)
    assert getattr(parameters, "frozen", False), f"{type(value).__name__} is not frozen"
