"""How much rounding one operation disturbs the result of a whole program.

Each operation that could be 8-bit is tried alone: its weights and its value are rounded, what
follows is computed in float, and the result is held against the float one. Noise of several
operations adds up, so one that takes more than its share is better left in float; the Fourier
transform in front of a logarithm is the usual case.

Source: quantisation noise adds over layers, Lin, Talathi, Annapureddy, ICML 2016.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from edgegraft.compress.calibrate import evenly
from edgegraft_edge.integer import dequantize, quantize
from edgegraft_edge.primitives import PRIMITIVES
from edgegraft_edge.program import INPUT, Op, Program
from edgegraft_edge.signal import Array

_BYTES = 256 << 20  # of values kept while operations are tried
_MOST_WINDOWS = 16
_LEAST_NOISE = 10**-9.9


@dataclass(frozen=True)
class Rounding:
    """What becomes int8 together.

    Attributes:
        value: name of the value in the float program.
        weights: names of constants -> how they look once rounded.
    """

    value: str
    scale: float
    zero: int
    weights: Mapping[str, Array] = field(default_factory=dict)


def signal_to_noise_db(expected: Array, found: Array) -> float:
    """How far results are from what they should be, in decibels; 99 where nothing differs,
    0 where something is not a number any more.

    The noise of each column is measured against how much that column varies between windows, and
    the decibels are averaged: columns count alike, whatever their unit, and a few that hardly
    vary do not decide. A column that is constant says nothing.

    Args:
        expected, found: (n_windows, ...).

    >>> x = np.random.default_rng(0).normal(size=(1000, 2))
    >>> round(signal_to_noise_db(x, x + np.random.default_rng(1).normal(size=x.shape) / 10))
    20
    """
    a = np.asarray(expected, np.float64).reshape(len(expected), -1)
    away = np.asarray(found, np.float64).reshape(len(expected), -1) - a
    varies = a.var(axis=0)
    told = varies > 1e-12 * max(float(np.square(a).mean()), 1e-30)
    if not told.any():
        told[:] = True
        varies = np.square(a).mean(axis=0) + 1e-30
    if not np.isfinite(away).all():
        return 0.0
    noise = np.square(away).mean(axis=0)[told] / varies[told]
    return float(-10 * np.log10(np.clip(noise, _LEAST_NOISE, 1.0)).mean())


@dataclass(frozen=True)
class Judged:
    """Where rounding is told by: values of a program, each a part on its own.

    What a softmax takes, since probabilities near 0 and 1 hide what changed; what trees say; the
    result where there is neither. Of a mixture every member counts: one must not hide another.
    """

    program: Program
    names: tuple[str, ...]

    @classmethod
    def of(cls, program: Program) -> Judged:
        makes = {op.output: op for op in program.ops}
        names = [op.output for op in program.ops if op.kind == "trees"]
        for op in program.ops:
            before = makes.get(op.inputs[0]) if op.kind == "softmax" else None
            if before is not None and before.kind in ("add", "matmul", "conv2d_last"):
                names.append(before.output)
        return cls(program, tuple(names) or (program.output,))

    @property
    def early(self) -> bool:
        """Whether it is not the result that is judged."""
        return self.names != (self.program.output,)

    def db(self, expected: Mapping[str, Array], found: Mapping[str, Array]) -> float:
        """Signal to noise of the worst part."""
        return min(signal_to_noise_db(expected[name], found[name]) for name in self.names)


def each_alone(judged: Judged, x: Array, roundings: Mapping[str, Rounding]) -> Mapping[str, float]:
    """Value -> signal to noise in decibels, where only it is rounded.

    Args:
        x: windows (n_windows, ...); as many are used as memory allows, at least four.
    """
    program = judged.program
    kept = all_values(program, evenly(x, _affordable(program, x)))
    index_of = {op.output: index for index, op in enumerate(program.ops)}
    found = {}
    for value, rounding in roundings.items():
        starts = [
            index
            for index, op in enumerate(program.ops)
            if any(name in rounding.weights for name in op.inputs)
        ]
        first = min([*starts, index_of.get(value, -1)])
        changed = _again(program, kept, rounding, first)
        found[value] = judged.db(kept, {**kept, **changed}) if finite(changed) else 0.0
    return found


def finite(values: Mapping[str, Array]) -> bool:
    """Whether nothing was divided by what rounding made zero, even where that is not seen later."""
    return all(np.isfinite(each).all() for each in values.values() if each.dtype.kind == "f")


def _affordable(program: Program, x: Array) -> int:
    one = sum(value.nbytes for value in all_values(program, x[:1]).values())
    return int(np.clip(_BYTES // max(1, one), 4, _MOST_WINDOWS))


def all_values(program: Program, x: Array) -> dict[str, Array]:
    """Every value of a program by name."""
    held: dict[str, Array] = {INPUT: np.asarray(x, np.float32)}
    for op in program.ops:
        held[op.output] = _computed(
            op, (held[n] if n in held else program.constants[n] for n in op.inputs)
        )
    return held


def _computed(op: Op, arguments: Iterable[Array]) -> Array:
    with np.errstate(all="ignore"):
        return PRIMITIVES[op.kind](*arguments, **op.attrs)


def _again(
    program: Program, kept: Mapping[str, Array], rounding: Rounding, first: int
) -> dict[str, Array]:
    """What one rounding changes; only what follows from it is computed anew."""
    changed: dict[str, Array] = dict(rounding.weights)

    def rounded(value: Array) -> Array:
        steps = quantize(value, scale=rounding.scale, zero=rounding.zero)
        return dequantize(steps, scale=rounding.scale, zero=rounding.zero)

    if first < 0:
        changed[rounding.value] = rounded(kept[rounding.value])
    for op in program.ops[max(first, 0) :]:
        forced = op.output == rounding.value
        if not forced and not any(name in changed for name in op.inputs):
            continue
        arguments = (
            changed[n] if n in changed else kept[n] if n in kept else program.constants[n]
            for n in op.inputs
        )
        value = _computed(op, arguments)
        changed[op.output] = rounded(value) if forced else value
    return changed
