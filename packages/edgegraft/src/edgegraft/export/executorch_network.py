"""A program as a torch module that `torch.export` can trace, with one window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgegraft_edge.errors import ExportError
from edgegraft_edge.primitives import PRIMITIVES
from edgegraft_edge.program import INPUT, Program
from edgegraft_edge.signal import Array

_LAST_TO_FIRST = {0: 0, 1: 2, 2: 3, 3: 1}
"""Place of each axis of (n, h, w, c) in (n, c, h, w)."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    Attributes:
        tensor: as it lies.
        first: it is (n, c, h, w) and stands for (n, h, w, c).
        scale, zero: of an int8 value, where known.
    """

    tensor: Tensor
    first: bool = False
    scale: float | None = None
    zero: int = 0

    @property
    def plain(self) -> Tensor:
        """In the order of the program."""
        return self.tensor.permute(0, 2, 3, 1) if self.first else self.tensor

    @property
    def channels_first(self) -> Tensor:
        """(n, h, w, c) as (n, c, h, w)."""
        return self.tensor if self.first else self.tensor.permute(0, 3, 1, 2)

    def axis(self, number: int) -> int:
        """Where an axis of the program lies."""
        number %= self.tensor.ndim
        return _LAST_TO_FIRST[number] if self.first else number


Emit = Callable[..., Value]


class Network(torch.nn.Module):
    """A program as a module; equal constants are one buffer.

    Args:
        program: without what takes text apart.
        emitters: primitive -> function of the network, the inputs (`Value`, or the array of a
            constant) and the attributes, which gives a `Value`.
    """

    def __init__(self, program: Program, emitters: Mapping[str, Emit]) -> None:
        super().__init__()
        self.program, self.emitters = program, emitters
        self._scales = _scales(program)
        self._kept: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def forward(self, x: Tensor) -> Tensor:
        values: dict[str, Any] = dict(self.program.constants)
        values[INPUT] = Value(x)
        for op in self.program.ops:
            inputs = [values[name] for name in op.inputs]
            if not any(isinstance(value, Value) for value in inputs):
                values[op.output] = PRIMITIVES[op.kind](*inputs, **op.attrs)
                continue
            found = self.emitters[op.kind](self, *inputs, **op.attrs)
            if found.tensor.dtype == torch.int8 and found.scale is None:
                scale, zero = self._scales.get(op.output, (None, 0))
                found = replace(found, scale=scale, zero=zero)
            values[op.output] = found
        probabilities = self.tensor(values[self.program.output])
        return probabilities.clone() if probabilities is x else probabilities

    def keep(self, array: Array) -> Tensor:
        """A constant as a buffer of the module."""
        array = np.array(array, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._kept:
            self._kept[key] = f"k{len(self._kept)}"
            self.register_buffer(self._kept[key], torch.from_numpy(array))
        return self.get_buffer(self._kept[key])

    def tensor(self, value: Value | Array) -> Tensor:
        """A value in the order of the program; constants as float32."""
        if isinstance(value, Value):
            return value.plain
        return self.keep(np.asarray(value, np.float32))


def fixed(value: Value | Array, what: str) -> Array:
    """The values of a constant that must be known when the model is written.

    Errors: `ExportError` "export-not-constant".
    """
    if isinstance(value, Value):
        raise ExportError.of(
            "export-not-constant",
            f"{what} that are computed",
            "ExecuTorch wants them fixed",
            "pass them as constants of the program",
        )
    return value


def _scales(program: Program) -> Mapping[str, tuple[float, int]]:
    """Int8 value -> (scale, zero), as who reads it says; through what only moves values."""
    found: dict[str, tuple[float, int]] = {}
    for op in reversed(program.ops):
        attrs = op.attrs
        if op.kind == "dequantize":
            found[op.inputs[0]] = (attrs["scale"], attrs["zero"])
        elif "a_scale" in attrs:
            found.update(
                (name, (attrs[f"{side}_scale"], attrs[f"{side}_zero"]))
                for name, side in zip(op.inputs, "ab", strict=True)
            )
        elif "x_zero" in attrs:
            found[op.inputs[0]] = (attrs["x_scale"], attrs["x_zero"])
        elif op.output in found and "scale" not in attrs and not op.kind.endswith("_int8"):
            found.update(dict.fromkeys(op.inputs, found[op.output]))
    return found
