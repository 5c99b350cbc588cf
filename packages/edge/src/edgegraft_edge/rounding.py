"""How far a runtime may be from the program by rounding alone.

A float program: a fixed tolerance. An integer one: its kernels may round elsewhere, which gives
values one step apart, and what a step of one value makes of a probability depends on everything
after it. So that is asked of the program itself: it is run again with half of what its
integer kernels give moved by one step, and its probabilities may differ by as much as they do
then. A window that is sure under that must stay sure.
"""

from __future__ import annotations

import numpy as np

from edgegraft_edge.estimate import Outputs
from edgegraft_edge.integer import HIGHEST, LOWEST, SOFTMAX_SCALE
from edgegraft_edge.primitives import PRIMITIVES
from edgegraft_edge.program import INPUT, Program
from edgegraft_edge.signal import Array

TOLERANCE = 1e-3
"""Of float programs: of what compares a value on its threshold may fall on the other side."""
OF_VALUE = 1e-4
"""Of an estimate itself, which may lie far from zero; beside `TOLERANCE` of what they span."""
SHARE, DRAWS, STEPS = 0.5, 4, 2
_BATCH = 16
_KERNELS = frozenset({"conv2d_int8", "dense_int8", "add_int8", "mul_int8", "mean_int8",
                      "average_pool_int8", "requantize", "softmax_int8"})  # fmt: skip


def allowed(program: Program, x: Array, expected: Array, outputs: Outputs | None = None) -> Array:
    """How far each probability or estimate may be from `expected`, float64 (n_windows, n_columns).

    Args:
        x: the windows, (n_windows, ...).
        outputs: what the columns are, where they are estimates, which have any scale: of a
            float program each may be off by a thousandth of what its quantity spans here.

    For an integer program: the largest difference among `DRAWS` runs with a `SHARE` of the values
    moved, and two steps of a probability in 8 bits.
    """
    spans = _spans(expected, outputs)
    if program.precision == "float":
        return spans * TOLERANCE + (0 if outputs is None else OF_VALUE * np.abs(expected))
    room = np.zeros(np.shape(expected))
    for draw in range(DRAWS):
        random = np.random.default_rng(draw)
        for first in range(0, len(x), _BATCH):
            part = slice(first, first + _BATCH)
            found = _moved(program, x[part], random).reshape(expected[part].shape)
            room[part] = np.maximum(room[part], np.abs(found - expected[part]))
    return room + STEPS * SOFTMAX_SCALE * spans


def _spans(expected: Array, outputs: Outputs | None) -> Array:
    """What probabilities span, which is 1, or each estimated quantity over all windows and steps.

    Returns: float64 (n_windows, n_columns).
    """
    if outputs is None:
        return np.ones(np.shape(expected))
    values = np.asarray(expected, dtype=np.float64).reshape(len(expected), len(outputs.names), -1)
    span = np.ptp(values, axis=(0, 2))[None, :, None]
    return np.broadcast_to(span, values.shape).reshape(np.shape(expected)) + np.finfo(float).tiny


def _moved(program: Program, x: Array, random: np.random.Generator) -> Array:
    """The program, with a share of what its kernels give one step higher or lower."""
    values: dict[str, Array] = dict(program.constants)
    values[INPUT] = np.asarray(x, dtype=np.float32)
    last_use = {name: index for index, op in enumerate(program.ops) for name in op.inputs}
    for index, op in enumerate(program.ops):
        with np.errstate(all="ignore"):
            found = PRIMITIVES[op.kind](*(values[name] for name in op.inputs), **op.attrs)
        if op.kind in _KERNELS:
            moves = random.choice([-1, 0, 1], np.shape(found), p=[SHARE / 2, 1 - SHARE, SHARE / 2])
            low, high = op.attrs.get("low", LOWEST), op.attrs.get("high", HIGHEST)
            found = np.clip(found.astype(np.int16) + moves, low, high).astype(np.int8)
        values[op.output] = found
        for name in set(op.inputs):
            if last_use[name] == index and name not in program.constants:
                values.pop(name, None)
    return np.asarray(values[program.output], dtype=np.float64)
