"""Programs: what a device computes, as data.

A :class:`Program` is a short list of named primitives over arrays with constants.
Preprocessing, fixed features, networks, heads and probabilities are all written as
programs, so one interpreter in NumPy, one emitter to ONNX and (later) one to C serve
everything, and the device computes what Python computed.

Values are float32 with the window axis first: ``(n_windows, ...)``. Constants have no
window axis. The primitives are in :data:`PRIMITIVES`; each follows the ONNX operator of
the same meaning, so that emitting is one line.

>>> draft = Draft()
>>> centred = draft.add("sub", "x", draft.add("mean", "x", axes=[2]))
>>> power = draft.add("mean", draft.add("mul", centred, centred), axes=[2])
>>> program = draft.finish(draft.add("reshape", power, shape=[-1]))
>>> program.run(np.array([[[1.0, 3.0], [0.0, 0.0]]], dtype=np.float32)).tolist()
[[1.0, 0.0]]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgegraft_edge.errors import ModelError, Problem, nearest
from edgegraft_edge.signal import Array

MAX_OPS = 10_000
INPUT = "x"


@dataclass(frozen=True)
class Op:
    """One primitive: what kind, on which values, giving which value, with which attributes."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "inputs": list(self.inputs),
            "output": self.output,
            "attrs": dict(self.attrs),
        }


@dataclass(frozen=True)
class Program:
    """Primitives in order, from the value ``x`` to `output`; constants by name.

    Errors: `ModelError` when an operation is unknown, or reads what nothing gave.
    """

    ops: tuple[Op, ...]
    constants: Mapping[str, Array]
    output: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "constants", MappingProxyType(dict(self.constants)))
        problems = []
        if len(self.ops) > MAX_OPS:
            problems.append(
                Problem(
                    "program-size",
                    f"{len(self.ops)} operations",
                    f"at most {MAX_OPS} run",
                    "a smaller model",
                )
            )
        known = {INPUT, *self.constants}
        for op in self.ops:
            if op.kind not in PRIMITIVES:
                problems.append(
                    Problem(
                        "primitive-unknown",
                        f"operation {op.kind!r}",
                        "this version has no such primitive",
                        f"{nearest(op.kind, list(PRIMITIVES))}, or a newer edgegraft-edge",
                    )
                )
            problems += [
                Problem(
                    "program-value",
                    f"{op.kind} reads {name!r}",
                    "nothing before it gives that value",
                    "order the operations",
                )
                for name in op.inputs
                if name not in known
            ]
            known.add(op.output)
        if self.output not in known:
            problems.append(
                Problem(
                    "program-value",
                    f"the output {self.output!r}",
                    "nothing gives that value",
                    "name the last operation's output",
                )
            )
        if problems:
            raise ModelError(problems)

    def run(self, x: Array) -> Array:
        """Interpret the program in NumPy.

        Args:
            x: (n_windows, n_channels, n_timepoints), or whatever the program starts from.

        Returns: float32 (n_windows, ...).
        """
        values: dict[str, Array] = dict(self.constants)
        values[INPUT] = np.asarray(x, dtype=np.float32)
        last_use = {name: index for index, op in enumerate(self.ops) for name in op.inputs}
        for index, op in enumerate(self.ops):
            values[op.output] = PRIMITIVES[op.kind](*(values[n] for n in op.inputs), **op.attrs)
            for name in set(op.inputs):
                if last_use[name] == index and name != self.output and name in values:
                    del values[name]
        return np.asarray(values[self.output], dtype=np.float32)

    @property
    def size_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(int(array.nbytes) for array in self.constants.values())

    def as_dict(self) -> dict[str, Any]:
        """Operations and output as plain JSON values; constants travel apart, as tensors."""
        return {"ops": [op.as_dict() for op in self.ops], "output": self.output}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], constants: Mapping[str, Array]) -> Program:
        """The inverse of `as_dict`; refuses anything that is not of that form."""
        try:
            ops = tuple(
                Op(
                    str(op["kind"]),
                    tuple(map(str, op["inputs"])),
                    str(op["output"]),
                    dict(op.get("attrs", {})),
                )
                for op in data["ops"]
            )
            output = str(data["output"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError.of(
                "program-form",
                f"a program that lacks {error}",
                "operations need kind, inputs and output",
                "export it again",
            ) from error
        return cls(ops, constants, output)


class Draft:
    """Writes a program operation by operation; `add` returns the name of the new value."""

    def __init__(self) -> None:
        self._ops: list[Op] = []
        self._constants: dict[str, Array] = {}

    def constant(self, values: Any) -> str:
        """Keep an array (floats as float32, integers as int64) and return its name."""
        array = np.asarray(values)
        array = array.astype(np.int64 if array.dtype.kind in "iub" else np.float32)
        name = f"k{len(self._constants)}"
        self._constants[name] = np.ascontiguousarray(array)
        return name

    def add(self, kind: str, *inputs: Any, **attrs: Any) -> str:
        """Append a primitive; an input is the name of a value, or an array to keep as constant."""
        names = tuple(i if isinstance(i, str) else self.constant(i) for i in inputs)
        output = f"v{len(self._ops)}"
        self._ops.append(Op(kind, names, output, attrs))
        return output

    def call(self, program: Program, value: str = INPUT) -> str:
        """Inline another program, reading `value` in place of its input."""
        names = {INPUT: value}
        for name, array in program.constants.items():
            names[name] = self.constant(array)
        for op in program.ops:
            names[op.output] = self.add(op.kind, *(names[n] for n in op.inputs), **op.attrs)
        return names[program.output]

    def finish(self, output: str) -> Program:
        return Program(tuple(self._ops), self._constants, output)


IDENTITY = Program((), {}, INPUT)


def chain(*programs: Program) -> Program:
    """One program that runs each on the output of the one before."""
    draft, value = Draft(), INPUT
    for program in programs:
        value = draft.call(program, value)
    return draft.finish(value)


# -- primitives: each takes arrays with the window axis first, and attributes from JSON


def _conv1d(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    pad: tuple[int, int] = (0, 0),
) -> Array:
    """x (n, c_in, t), weight (c_out, c_in / groups, k), bias (c_out,) -> (n, c_out, t_out)."""
    n_windows = x.shape[0]
    c_out, c_in, taps = weight.shape
    x = np.pad(x, ((0, 0), (0, 0), tuple(pad)))
    spread = (taps - 1) * dilation + 1
    patches = sliding_window_view(x, spread, axis=2)[:, :, ::stride, ::dilation]
    n_out = patches.shape[2]
    patches = patches.reshape(n_windows, groups, c_in, n_out, taps).transpose(0, 1, 2, 4, 3)
    patches = patches.reshape(n_windows, groups, c_in * taps, n_out)
    kernels = weight.reshape(groups, c_out // groups, c_in * taps)
    out = np.matmul(kernels, patches).reshape(n_windows, c_out, n_out)
    return np.asarray(out + bias[:, None], dtype=np.float32)


def _conv2d(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Array:
    """x (n, c_in, h, w), weight (c_out, c_in / groups, kh, kw), bias (c_out,) -> (n, c_out, h, w).

    `pad` is top, left, bottom, right. With kh = 1 the rows share a convolution along time.
    """
    n_windows = x.shape[0]
    c_out, c_in, *taps = weight.shape
    top, left, bottom, right = pad
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows, columns = ((n - 1) * d + 1 for n, d in zip(taps, dilation, strict=True))
    patches = sliding_window_view(sliding_window_view(x, rows, axis=2), columns, axis=3)
    patches = patches[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    height, width = patches.shape[2:4]
    patches = patches.transpose(0, 1, 4, 5, 2, 3)
    patches = patches.reshape(n_windows, groups, c_in * taps[0] * taps[1], height * width)
    kernels = weight.reshape(groups, c_out // groups, c_in * taps[0] * taps[1])
    out = np.matmul(kernels, patches).reshape(n_windows, c_out, height, width)
    return np.asarray(out + bias[:, None, None], dtype=np.float32)


def _frame(x: Array, *, length: int, hop: int) -> Array:
    """(n, c, t) -> (n, c, n_frames, length); a tail shorter than a frame is left out."""
    return np.ascontiguousarray(sliding_window_view(x, length, axis=2)[:, :, ::hop])


def _sigmoid(x: Array) -> Array:
    out: Array = 0.5 * (1.0 + np.tanh(0.5 * x))
    return out


def _softmax(x: Array, *, axis: int = -1) -> Array:
    exp = np.exp(x - x.max(axis=axis, keepdims=True))
    out: Array = exp / exp.sum(axis=axis, keepdims=True)
    return out


def _reduce(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(x: Array, *, axes: list[int], keepdims: bool = True) -> Array:
        return function(x, axis=tuple(axes), keepdims=keepdims)

    return reduce


def _slice(x: Array, *, axis: int, start: int, stop: int, step: int = 1) -> Array:
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, stop, step)
    return x[tuple(index)]


def _trees(
    x: Array,
    feature: Array,
    threshold: Array,
    left: Array,
    right: Array,
    value: Array,
    roots: Array,
) -> Array:
    """Mean leaf value of binary trees: go left where x[feature] <= threshold.

    x (n, n_features); feature, threshold, left, right (n_nodes,) with left = -1 at a leaf;
    value (n_nodes, n_outputs); roots (n_trees,). Returns (n, n_outputs).
    """
    node = np.repeat(roots[None, :], len(x), axis=0)
    rows = np.arange(len(x))[:, None]
    while True:
        inner = left[node] >= 0
        if not inner.any():
            break
        goes_left = x[rows, feature[node]] <= threshold[node]
        node = np.where(inner, np.where(goes_left, left[node], right[node]), node)
    return np.asarray(value[node].mean(axis=1), dtype=np.float32)


PRIMITIVES: Mapping[str, Callable[..., Array]] = MappingProxyType(
    {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "maximum": np.maximum,
        "minimum": np.minimum,
        "greater": lambda a, b: np.greater(a, b).astype(np.float32),
        "abs": np.abs,
        "sqrt": np.sqrt,
        "log": np.log,
        "exp": np.exp,
        "round": np.rint,  # halves to even
        "tanh": np.tanh,
        "sigmoid": _sigmoid,
        "relu": lambda x: np.maximum(x, np.float32(0)),
        "leaky_relu": lambda x, slope=0.01: np.where(x > 0, x, np.float32(slope) * x),
        "softmax": _softmax,
        "matmul": np.matmul,
        "conv1d": _conv1d,
        "conv2d": _conv2d,
        "frame": _frame,
        "mean": _reduce(np.mean),
        "sum": _reduce(np.sum),
        "max": _reduce(np.max),
        "min": _reduce(np.min),
        "sort": lambda x: np.sort(x, axis=-1),
        "concat": lambda *xs, axis: np.concatenate(xs, axis=axis),
        "reshape": lambda x, *, shape: x.reshape(len(x), *shape),
        "transpose": lambda x, *, axes: np.transpose(x, axes),
        "slice": _slice,
        "gather": lambda x, index, *, axis: np.take(x, index, axis=axis),
        "trees": _trees,
    }
)
"""Name -> NumPy function; the window axis comes first and is never reduced or reshaped."""
