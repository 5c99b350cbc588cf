"""From the raw counts of a sensor to int8, in integers only.

Where what stands before the first `quantize` is an affine map of each channel, perhaps cut at
bounds, a count becomes int8 by one multiplication, one sum and one shift. The factor is rounded
to the bits that 32-bit sums leave, so a value may come out one step away from what floats give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgegraft.export.c import text
from edgegraft_edge.errors import ExportError
from edgegraft_edge.integer import quantize
from edgegraft_edge.primitives import PRIMITIVES
from edgegraft_edge.program import INPUT, Op, Program
from edgegraft_edge.signal import Array

_COUNT = 1 << 15
_BITS = 30


@dataclass(frozen=True)
class Affine:
    """Each channel as ``factor * x + offset``, cut to ``low..high``; float64 (n_channels,)."""

    factor: Array
    offset: Array
    low: Array
    high: Array

    def times(self, k: Array) -> Affine:
        ends = np.sort([self.low * k, self.high * k], axis=0)
        return Affine(self.factor * k, self.offset * k, ends[0], ends[1])

    def plus(self, k: Array) -> Affine:
        return replace(self, offset=self.offset + k, low=self.low + k, high=self.high + k)

    def cut(self, bound: Callable[[Array, Array], Array], k: Array) -> Affine:
        return replace(self, low=bound(self.low, k), high=bound(self.high, k))


_STEPS: Mapping[str, Callable[[Affine, Array], Affine]] = {
    "add": lambda of, k: of.plus(k),
    "sub": lambda of, k: of.plus(-k),
    "mul": lambda of, k: of.times(k),
    "div": lambda of, k: of.times(1 / k),
    "minimum": lambda of, k: of.cut(np.minimum, k),
    "maximum": lambda of, k: of.cut(np.maximum, k),
}


def affine(program: Program, front: Sequence[Op], n_channels: int, n_timepoints: int) -> Affine:
    """What the operations before the first `quantize` do to each channel.

    Errors: `ExportError` "export-c-counts" when they do anything else, or leave the channels
    anywhere but last.
    """
    nothing, most = np.zeros(n_channels), np.full(n_channels, np.inf)
    found = Affine(np.ones(n_channels), nothing, -most, most)
    places = np.broadcast_to(np.arange(n_channels)[None, :, None], (1, n_channels, n_timepoints))
    value = INPUT
    for op in front:
        constants = [program.constants[name] for name in op.inputs[1:] if name in program.constants]
        if op.inputs[0] != value or len(constants) != len(op.inputs) - 1:
            raise _other(op.kind)
        if op.kind in ("reshape", "transpose"):
            places = PRIMITIVES[op.kind](places, **op.attrs)
        elif op.kind in _STEPS:
            found = _STEPS[op.kind](found, _each(constants[0], places, n_channels, op.kind))
        elif op.kind != "quantize":
            raise _other(op.kind)
        value = op.output
    if not np.array_equal(places.ravel(), np.tile(np.arange(n_channels), n_timepoints)):
        raise _other("another order of the channels")
    return found


def _each(constant: Array, places: Array, n_channels: int, kind: str) -> Array:
    """A constant that is one number for each channel, float64 (n_channels,)."""
    wide = np.broadcast_to(constant.astype(np.float64), places.shape)
    found = np.array([wide[places == channel][0] for channel in range(n_channels)])
    if not np.array_equal(found[places], wide):
        raise _other(f"{kind} with numbers that change along a channel")
    return found


def _other(what: str) -> ExportError:
    return ExportError.of(
        "export-c-counts",
        f"{what} before the first quantize",
        "raw counts become int8 by one affine map of each channel",
        "a step that scales channels (standard, unit-range), or floats",
    )


def function(
    prefix: str, of: Affine, lsb: Sequence[float], attrs: Mapping[str, float], n_timepoints: int
) -> str:
    """The C of ``quantize_i16``: int16 counts (n_timepoints, n_channels) to int8.

    Args:
        lsb: the value of one count, in each channel's unit.
        attrs: scale and zero of the `quantize`.

    Errors: `ExportError` "export-c-counts" for another number of channels or values of no sense.
    """
    n_channels = len(of.factor)
    if len(lsb) != n_channels or not all(np.isfinite(one) and one > 0 for one in lsb):
        raise ExportError.of(
            "export-c-counts",
            f"counts of {', '.join(map(str, lsb))}",
            f"each of {n_channels} channels needs the value of one count, above 0",
            f"{n_channels} numbers, in the order of the channels",
        )
    scale, zero = float(attrs["scale"]), int(attrs["zero"])
    factors, offsets = of.factor * np.array(lsb) / scale, of.offset / scale
    reach = np.abs(factors) * _COUNT + np.abs(offsets) + 1
    shifts = np.floor(_BITS - np.log2(reach)).astype(np.int64)
    if shifts.min() < 1:
        raise ExportError.of(
            "export-c-counts",
            f"counts that span {reach.max():.3g} steps of int8",
            "their products do not fit into 32 bits",
            "the value of one count in the unit of its channel",
        )
    shifts = np.minimum(shifts, _BITS)
    whole = [np.rint(each * 2.0**shifts).astype(np.int64) for each in (factors, offsets)]
    ends = [quantize(end, scale=scale, zero=zero) for end in (of.low, of.high)]
    rows = [
        f"{{{factor}, {offset}, {shift}, {low}, {high}}}"
        for factor, offset, shift, low, high in zip(*whole, shifts, *ends, strict=True)
    ]
    lines = [
        f"void {prefix}_quantize_i16(const int16_t *counts, int8_t *input)",
        "{",
        f"    static const eg_count channels[{n_channels}] = {{",
        *(f"    {line}" for line in text.rows(rows).splitlines()),
        "    };",
        f"    for (int32_t i = 0; i < {n_timepoints}; i++) {{",
        f"        for (int32_t j = 0; j < {n_channels}; j++) {{",
        f"            const int32_t at = i * {n_channels} + j;",
        f"            input[at] = eg_counted(counts[at], &channels[j], {zero});",
        "        }",
        "    }",
        "}",
    ]
    return "\n".join(lines)
