"""Quantised ``.tflite`` files, read exactly: the same int8 values, not the numbers behind them.

Where :mod:`edgegraft.zoo.tflite_file` brings weights back to float, so that they can be trained,
this keeps the file's own scales, zero points and steps, and gives a program of integer
primitives. Its values are those of TensorFlow Lite's reference kernels; the few that round in
another way (softmax, functions by table) differ by one step at most.

Source: the TensorFlow Lite schema, version 3, its 8-bit quantisation specification, and the
semantics of its reference kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from edgegraft.zoo.file_transcript import MAX_VALUES, Node, RefusedError
from edgegraft.zoo.tflite_graph import DTYPES, code_of, node_of
from edgegraft_edge.errors import ModelError, Problem
from edgegraft_edge.flatbuffer import Table, damaged
from edgegraft_edge.program import INPUT, Draft, Program
from edgegraft_edge.signal import Array

_FLOAT, _INT32, _UINT8, _INT8 = 0, 2, 3, 9
_MAX_AXES = 8
_SHIFT = 128  # from uint8 to int8


@dataclass(frozen=True)
class Scale:
    """What the steps of an int8 value mean: ``real = scale * (q - zero)``."""

    scale: float
    zero: int


@dataclass(frozen=True)
class Int8Model:
    """A quantised file as a program.

    Attributes:
        program: float32 (n_windows, *shape) in the file's own units -> float32 (n_windows,
            *output_shape). It starts with one `quantize` and ends with one `dequantize`.
        shape: of one window, in the file's order of axes (channels last).
        input: the scale of the int8 input, or of what a float input is first turned into.
        output: the scale of the int8 output.
        shifted: whether the file's own input holds uint8, 128 more than here.
    """

    program: Program = field(repr=False)
    shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    input: Scale
    output: Scale
    shifted: bool = False


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value as the file describes it.

    Attributes:
        kind: number of its type in the schema.
        data: of a constant, in its own type; None of what is computed.
        scales, zeros: one, or one for each place along `axis`; none without quantisation.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    data: Array | None
    scales: Array
    zeros: Array
    axis: int


@dataclass(frozen=True)
class Eight:
    """A value of 8 bit in the program: its name there, its shape in the file, its scale."""

    name: str
    shape: tuple[int, ...]
    scale: float
    zero: int


def metadata_names(data: bytes) -> tuple[str, ...]:
    """Names of what a file says beside its network. Errors: `ModelError` "tflite-damaged"."""
    return tuple(entry.text(0) for entry in Table.root(data).tables(6))


def is_int8(data: bytes) -> bool:
    """Whether a file computes in 8 bits: some convolution or matrix reads 8-bit values.

    Errors: `ModelError` "tflite-damaged".
    """
    return any(x in (_INT8, _UINT8) for x, _ in _weighted(data))


def is_hybrid(data: bytes) -> bool:
    """Whether some convolution or matrix reads float values with weights of 8 bits.

    Errors: `ModelError` "tflite-damaged".
    """
    return any(x == _FLOAT and weight in (_INT8, _UINT8) for x, weight in _weighted(data))


def _weighted(data: bytes) -> list[tuple[int, int]]:
    """Types of what each convolution or matrix reads: of the value, and of the weights."""
    tensors, nodes, _, _ = read_parts(data)
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    return [
        (tensors[node.inputs[0]].kind, tensors[node.inputs[1]].kind)
        for node in nodes
        if node.kind in kinds and len(node.inputs) > 1 and all(node.inputs[:2])
    ]


def read_int8(data: bytes) -> Int8Model:
    """A file whose values are 8-bit integers, as a program of integer primitives.

    Errors: `ModelError` "tflite-damaged"; "network-input" for more than one input or output;
    "operator-unknown" and "operator-form" with all that stand in the way.
    """
    from edgegraft.zoo.tflite_int8_operators import WRITERS

    tensors, nodes, given, outputs = read_parts(data)
    inputs = [name for name in given if tensors[name].data is None]
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError.of(
            "network-input",
            f"a network with {len(inputs)} inputs and {len(outputs)} outputs",
            "windows come in at one place, and scores come out at one",
            "a network with one input and one output",
        )
    with _ends(inputs[0]):
        transcript = Transcript8(tensors, inputs[0])
    problems: list[Problem] = []
    unknown: dict[str, str] = {}
    for node in nodes:
        if node.kind not in WRITERS:
            unknown.setdefault(node.kind, node.outputs[0])
            continue
        if not all(transcript.knows(name) for name in node.inputs):
            continue
        try:
            WRITERS[node.kind](transcript, node)
        except RefusedError as error:
            problems.append(_form(node, f"with {error}"))
        except (ValueError, IndexError, TypeError, OverflowError, KeyError) as error:
            problems.append(_form(node, f"that contradicts itself ({error})"))
    problems = [
        Problem(
            "operator-unknown",
            f"{kind} (first giving {first!r})",
            "it has no 8-bit form here",
            f"the float file of the network; known are {', '.join(sorted(WRITERS))}",
        )
        for kind, first in unknown.items()
    ] + problems[:8]
    if not problems and not transcript.knows(outputs[0]):
        raise damaged(f"an output {outputs[0]!r} that nothing gives")
    if problems:
        raise ModelError(problems)
    with _ends(outputs[0]):
        return transcript.finish(outputs[0])


@contextmanager
def _ends(name: str) -> Iterator[None]:
    """Where the windows come in and the scores go out, what is refused is an error of its own."""
    try:
        yield
    except RefusedError as error:
        raise ModelError.of(
            "operator-form",
            f"an end {name!r} of the network with {error}",
            "windows must become integers, and integers scores",
            "the float file of the network, which edgegraft quantises",
        ) from error


def _form(node: Node, how: str) -> Problem:
    return Problem(
        "operator-form",
        f"{node.kind} (giving {node.outputs[0]!r}) {how}",
        "it cannot be written in integers in that form",
        "the float file of the network, which edgegraft quantises",
    )


def read_parts(
    data: bytes,
) -> tuple[Mapping[str, Tensor], tuple[Node, ...], tuple[str, ...], tuple[str, ...]]:
    """Tensors by name, operators, inputs and outputs of a file.

    Errors: `ModelError` "tflite-damaged".
    """
    if data[4:8] != b"TFL3":
        raise damaged("no mark TFL3 at its beginning")
    model = Table.root(data)
    graph = next(model.tables(2), None)
    if graph is None:
        raise damaged("no network in it")
    buffers = list(model.tables(4))
    names: list[str] = []
    tensors: dict[str, Tensor] = {}
    for index, table in enumerate(graph.tables(0)):
        tensor = _tensor(table, index, buffers)
        if tensor.name in tensors:
            tensor = replace(tensor, name=f"{tensor.name}#{index}")
        names.append(tensor.name)
        tensors[tensor.name] = tensor

    def name(index: int) -> str:
        if index == -1:
            return ""
        if not 0 <= index < len(names):
            raise damaged(f"a value {index} of {len(names)}")
        return names[index]

    codes = [code_of(each) for each in model.tables(1)]
    nodes = tuple(node_of(each, codes, name) for each in graph.tables(3))
    ends = [[name(int(i)) for i in graph.array(field, DTYPES[_INT32])] for field in (1, 2)]
    if "" in ends[0] + ends[1]:
        raise damaged("an input or output that is absent")
    return tensors, nodes, tuple(ends[0]), tuple(ends[1])


def _tensor(table: Table, index: int, buffers: list[Table]) -> Tensor:
    name, kind = table.text(3) or f"value{index}", table.integer(1, "<b")
    shape = tuple(int(n) for n in table.array(0, DTYPES[_INT32]))
    if len(shape) > _MAX_AXES:
        raise damaged(f"a value {name!r} of {len(shape)} axes")
    buffer = table.integer(2, "<I")
    if buffer >= len(buffers):
        raise damaged(f"a buffer {buffer} of {len(buffers)}")
    held = buffers[buffer].array(0, DTYPES[_UINT8]) if buffer else np.zeros(0, np.uint8)
    data = None
    if len(held):
        if kind not in DTYPES or table.table(6) is not None:
            data = np.zeros(0)  # text, sparse and packed weights: what reads them is refused
        elif min(shape, default=1) < 0 or prod(shape) * DTYPES[kind].itemsize != len(held):
            raise damaged(f"{len(held)} bytes for the constant {name!r} of shape {shape}")
        else:
            data = np.frombuffer(held.tobytes(), DTYPES[kind].newbyteorder("<")).reshape(shape)
    signature = tuple(int(n) for n in table.array(7, DTYPES[_INT32]))
    if data is None and len(signature) == len(shape):
        shape = signature
    told = table.table(4)
    scales = told.array(2, DTYPES[_FLOAT]) if told else np.zeros(0, np.float32)
    zeros = told.array(3, DTYPES[4]) if told else np.zeros(0, np.int64)
    if not np.isfinite(scales).all() or (len(scales) and scales.min() < 0):
        raise damaged(f"scales of {name!r} that are no numbers")
    if len(zeros) not in (0, 1, len(scales)):
        raise damaged(f"{len(zeros)} zero points for {len(scales)} scales")
    return Tensor(name, shape, kind, data, scales, zeros, told.integer(6) if told else 0)


class Transcript8:
    """Writes the operators of a quantised file as integer primitives.

    Errors of its methods: `RefusedError`.
    """

    def __init__(self, tensors: Mapping[str, Tensor], given: str) -> None:
        self.tensors, self.draft = tensors, Draft()
        self.values: dict[str, Eight] = {}
        self.floats: dict[str, Eight] = {}  # dequantised again: the int8 behind them
        self.input = self.first = given
        tensor = tensors[given]
        self.shape = tensor.shape[1:]
        if not 2 <= len(tensor.shape) <= 4 or tensor.shape[0] not in (1, -1):
            raise _input_error(tensor)
        if min(self.shape) < 1 or prod(self.shape) > MAX_VALUES:
            raise _input_error(tensor)
        if tensor.kind != _FLOAT:
            self.begin(given)

    def begin(self, name: str) -> None:
        """Turn the float input into the int8 value `name`."""
        scale = self.scale(name)
        made = self.draft.add("quantize", INPUT, scale=scale.scale, zero=scale.zero)
        self.values[name] = Eight(made, (1, *self.shape), scale.scale, scale.zero)
        self.first = name

    def finish(self, name: str) -> Int8Model:
        """The program that gives the value `name`."""
        found = self.floats[name] if name in self.floats else self.eight(name)
        made = self.draft.add("dequantize", found.name, scale=found.scale, zero=found.zero)
        if len(found.shape) < 2 or self.first not in self.values:
            raise _input_error(self.tensors[name])
        return Int8Model(
            self.draft.finish(made),
            self.shape,
            found.shape[1:],
            self.scale(self.first),
            Scale(found.scale, found.zero),
            self.tensors[self.input].kind == _UINT8,
        )

    # -- what operators read and give

    def knows(self, name: str) -> bool:
        if not name or name == self.input or name in self.values or name in self.floats:
            return True
        return self.tensors[name].data is not None

    def scale(self, name: str) -> Scale:
        """Scale and zero point of a value of 8 bit, as int8."""
        tensor = self.tensors[name]
        if tensor.kind not in (_INT8, _UINT8):
            raise RefusedError(f"a value {name!r} that is not of 8 bits")
        if len(tensor.scales) != 1 or tensor.scales[0] <= 0:
            raise RefusedError(f"a value {name!r} without one scale")
        zero = int(tensor.zeros[0]) if len(tensor.zeros) else 0
        zero -= _SHIFT if tensor.kind == _UINT8 else 0
        if not -128 <= zero <= 127:
            raise RefusedError(f"a zero point {zero} of {name!r}")
        return Scale(float(tensor.scales[0]), zero)

    def eight(self, name: str) -> Eight:
        """A value of 8 bit; a constant is kept in the program."""
        if name in self.values:
            return self.values[name]
        tensor = self.tensors[name]
        if tensor.data is None:
            raise RefusedError(f"a value {name!r} that is not of 8 bits")
        scale = self.scale(name)
        steps = tensor.data.astype(np.int16) - (_SHIFT if tensor.kind == _UINT8 else 0)
        shape = tensor.shape if len(tensor.shape) > 1 else (1, *tensor.shape)
        if shape[0] != 1:
            raise RefusedError(f"a constant of shape {tensor.shape} in place of a value")
        made = self.draft.constant(steps.astype(np.int8).reshape(shape[1:]))
        return Eight(made, shape, scale.scale, scale.zero)

    def weights(self, name: str, axis: int) -> tuple[Array, Array]:
        """Weights int8 and float32 scales, one for each place along `axis`."""
        tensor = self.tensors[name]
        if tensor.data is None or tensor.kind not in (_INT8, _UINT8):
            raise RefusedError("weights that are computed, or not of 8 bits")
        zero = _SHIFT if tensor.kind == _UINT8 else 0
        if np.any(tensor.zeros != zero) or (not len(tensor.zeros) and zero):
            raise RefusedError("weights whose zero is not in the middle")
        size = tensor.shape[axis]
        scales = tensor.scales
        if len(scales) != 1 and (len(scales) != size or tensor.axis % len(tensor.shape) != axis):
            raise RefusedError(f"{len(scales)} scales of weights {tensor.shape}")
        steps = (tensor.data.astype(np.int16) - zero).astype(np.int8)
        return steps, np.broadcast_to(scales, (size,)).astype(np.float32)

    def bias(self, node: Node, size: int) -> Array:
        """Biases int32 (size,); zeros where the operator has none."""
        if len(node.inputs) < 3 or not node.inputs[2]:
            return np.zeros(size, np.int32)
        tensor = self.tensors[node.inputs[2]]
        if tensor.data is None or tensor.kind != _INT32 or tensor.data.size != size:
            raise RefusedError(f"biases of shape {tensor.shape} for {size} channels")
        return tensor.data.reshape(-1).astype(np.int32)

    def numbers(self, name: str) -> list[int]:
        """A constant list of whole numbers."""
        tensor = self.tensors[name]
        if tensor.data is None or tensor.kind not in (_INT32, 4) or tensor.data.size > 64:
            raise RefusedError("sizes that are computed")
        return [int(number) for number in tensor.data.reshape(-1)]

    def give(self, node: Node, made: str, shape: tuple[int, ...]) -> None:
        """Name what an operator gives, with the scale that the file states."""
        name = node.outputs[0]
        if prod(shape) > MAX_VALUES or min(shape[1:], default=1) < 1 or shape[0] != 1:
            raise RefusedError(f"a value of {' x '.join(map(str, shape))} numbers")
        scale = self.scale(name)
        self.values[name] = Eight(made, tuple(shape), scale.scale, scale.zero)

    def requantized(self, node: Node, made: str, x: Eight, shape: tuple[int, ...]) -> None:
        """Give a value that still has the scale of `x`, in the scale of the output."""
        to = self.scale(node.outputs[0])
        if (x.scale, x.zero) != (to.scale, to.zero):
            made = self.draft.add(
                "requantize", made, x_scale=x.scale, x_zero=x.zero, scale=to.scale, zero=to.zero
            )
        self.give(node, made, shape)


def _input_error(tensor: Tensor) -> ModelError:
    shown = " x ".join(map(str, tensor.shape)) or "a number"
    return ModelError.of(
        "network-input",
        f"a network whose end {tensor.name!r} is {shown}",
        "the first axis is that of the windows, and one to three follow, each of a fixed size",
        "a network that takes one window at a time",
    )
