"""Columns of one size before a matrix: what a head needs whose features have many units.

A head's weights hold the scale of each feature. One int8 scale for all of them leaves small
features a step or two, and their large weights blow the rounding up. So the columns are brought
to zero mean and unit deviation by their values over calibration windows, and the matrix takes
the rest in: the same result in float, another in int8.

Source: scales moved between neighbouring layers, Nagel et al., Data-Free Quantization through
Weight Equalization and Bias Correction, ICCV 2019.
"""

from __future__ import annotations

import numpy as np

from edgegraft.compress.calibrate import values
from edgegraft_edge.program import Draft, Op, Program
from edgegraft_edge.signal import Array

_UNEVEN = 4.0  # times that ranges or offsets must differ to be worth two operations
_FLOOR = 0.05  # of the usual deviation: what hardly varies must not be blown up


def equalized(program: Program, x: Array) -> Program:
    """The program with the columns of unlike size before each fixed matrix brought to one.

    Args:
        x: calibration windows (n_windows, ...).

    >>> from edgegraft_edge.heads import LinearHead
    >>> x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32) * [1, 1, 100]
    >>> head = LinearHead(np.diag(np.float32([9, 9, 0.1])), np.zeros(3, np.float32))
    >>> found = equalized(head.program(), x)
    >>> [op.kind for op in found.ops]
    ['mul', 'add', 'matmul', 'add', 'add', 'softmax']
    >>> bool(np.allclose(found.run(x), head.scores(x), atol=1e-5))
    True
    """
    columns = _columns(program, x)
    draft, names = Draft(), {"x": "x"}

    def given(name: str) -> str | Array:
        if name not in names:
            names[name] = draft.constant(program.constants[name], name if "." in name else "")
        return names[name]

    for op in program.ops:
        if op.output in columns:
            names[op.output] = _level(
                draft, op, program, str(given(op.inputs[0])), *columns[op.output]
            )
        else:
            names[op.output] = draft.add(op.kind, *(given(n) for n in op.inputs), **op.attrs)
    return draft.finish(str(given(program.output)))


def _level(draft: Draft, op: Op, program: Program, value: str, centre: Array, scale: Array) -> str:
    weight = program.constants[op.inputs[1]].astype(np.float64)
    level = draft.add("add", draft.add("mul", value, 1 / scale), -centre / scale)
    product = draft.add("matmul", level, weight * scale[:, None])
    return draft.add("add", product, centre @ weight)


def _columns(program: Program, x: Array) -> dict[str, tuple[Array, Array]]:
    """Value of a matrix -> mean and deviation of the columns that it takes, where they differ."""
    wanted: dict[str, list[Op]] = {}
    for op in program.ops:
        if op.kind == "matmul" and op.inputs[0] not in program.constants:
            weight = program.constants.get(op.inputs[1])
            if weight is not None and weight.ndim == 2:
                wanted.setdefault(op.inputs[0], []).append(op)
    sums: dict[str, list[Array]] = {}
    for name, value in values(program, x):
        if name in wanted and value.ndim == 2:
            rows = value.astype(np.float64)
            parts = [
                np.full(rows.shape[1], len(rows)),
                rows.sum(axis=0),
                np.square(rows).sum(axis=0),
            ]
            held = sums.get(name)
            sums[name] = (
                parts if held is None else [a + b for a, b in zip(held, parts, strict=True)]
            )
    found = {}
    for name, (count, total, squares) in sums.items():
        mean = total / count
        spread = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        usual = float(np.median(spread))
        if not np.isfinite(usual) or usual <= 0:
            continue
        scale = np.maximum(spread, _FLOOR * usual)
        uneven = scale.max() / usual > _UNEVEN or float(np.abs(mean).max()) > _UNEVEN * usual
        if uneven:
            for op in wanted[name]:
                found[op.output] = (mean, scale)
    return found
