"""Is a ``.tflite`` file one that LiteRT can be given? Asked before the runtime sees it.

LiteRT follows what a file says without checking all of it, and some damaged files end the
process. So a file is read here first, table by table: its places and sizes, that each value is
given before it is read, and for each operator the types, options and shapes that its kernel
counts on. Only operators that :mod:`edgegraft` writes are let through.

Source: the TensorFlow Lite schema, version 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, prod
from typing import Any

import numpy as np

from edgegraft_edge.errors import ModelError
from edgegraft_edge.flatbuffer import Table, damaged
from edgegraft_edge.signal import Array

MAX_TENSORS, MAX_VALUES, MAX_AXES = 50_000, 1 << 26, 6
KERNELS, REFERENCE = "edgegraft.kernels", b"reference"
_TYPES = {0: "float32", 2: "int32", 6: "bool", 9: "int8"}
_INT32, _FLOAT32, _INT64, _UINT8 = (np.dtype(n) for n in ("int32", "float32", "int64", "uint8"))
_LARGEST_STEP = 1 << 15  # a stride, a dilation, a side of a kernel
_RATIO = 2.0**16  # between the scales of what an operator with weights reads and gives
_SHRINK = 2.0**18


@dataclass(frozen=True)
class Tensor:
    """A value: shape, name of its type, scales, and its numbers if it is a constant."""

    shape: tuple[int, ...]
    type: str
    data: Array | None
    scales: tuple[float, ...]
    zeros: tuple[int, ...]
    axis: int


@dataclass(frozen=True)
class Node:
    """An operator with what it reads and gives, and its table of options."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    options: Table = field(repr=False)


def check_file(data: bytes) -> None:
    """Let pass what LiteRT can be given.

    Errors: `ModelError` "tflite-damaged" for bytes that contradict each other, "litert-input" for
    other than one input and one output of fixed sizes, "litert-operator" for what is no operator
    of ours, or in another form.
    """
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise damaged("no mark TFL3 at its beginning")
    model = Table.root(data)
    graphs = list(model.tables(2))
    if model.integer(0, "<I") != 3 or len(graphs) != 1:
        raise damaged(f"{len(graphs)} networks of version {model.integer(0, '<I')}")
    if list(model.tables(9)) or list(model.tables(8)):
        raise damaged("values that lie in other files")
    graph, buffers = graphs[0], _buffers(model)
    tables = list(graph.tables(0))
    if len(tables) > MAX_TENSORS:
        raise damaged(f"{len(tables)} values")
    tensors = [_tensor(table, buffers) for table in tables]
    given, found = (_numbers(graph, at, len(tensors)) for at in (1, 2))
    if len(given) != 1 or len(found) != 1:
        raise _input(f"{len(given)} inputs and {len(found)} outputs")
    _check_ends(tensors[given[0]], tensors[found[0]])
    known = {index for index, tensor in enumerate(tensors) if tensor.data is not None}
    if given[0] in known:
        raise damaged("an input that is a constant")
    known.add(given[0])
    codes = [_code(table) for table in model.tables(1)]
    for table in graph.tables(3):
        reads, gives = (_numbers(table, at, len(tensors)) for at in (1, 2))
        if not gives or not reads or not known.issuperset(reads) or known.intersection(gives):
            raise damaged("operators that are out of order")
        known.update(gives)
        _check_node(table, codes, [tensors[i] for i in reads], [tensors[i] for i in gives])
    if found[0] not in known:
        raise damaged("an output that nothing gives")


def wants_reference(data: bytes) -> bool:
    """Whether a file says that its steps are those of the reference kernels alone.

    Errors: `ModelError` "tflite-damaged".
    """
    model = Table.root(data)
    buffers = list(model.tables(4))
    for entry in model.tables(6):
        index = entry.integer(1, "<I")
        if entry.text(0) == KERNELS and index < len(buffers):
            return buffers[index].array(0, _UINT8).tobytes() == REFERENCE
    return False


def _input(found: str) -> ModelError:
    return ModelError.of(
        "litert-input",
        f"a .tflite file with {found}",
        "one window (1, ...) of fixed sizes goes in, and its scores come out",
        "export the model with edgegraft export --format litert",
    )


def _check_ends(given: Tensor, found: Tensor) -> None:
    for tensor in (given, found):
        if tensor.type not in ("float32", "int8"):
            raise _input(f"{tensor.type} at an end")
        if not tensor.shape or tensor.shape[0] != 1:
            raise _input(f"an end of shape {tensor.shape}")


def _numbers(table: Table, at: int, count: int) -> list[int]:
    numbers = [int(index) for index in table.array(at, _INT32)]
    if any(not 0 <= index < count for index in numbers):
        raise damaged(f"a value {numbers} of {count}")
    return numbers


def _buffers(model: Table) -> list[Array]:
    found = []
    for table in model.tables(4):
        if table.integer(1, "<Q") or table.integer(2, "<Q"):
            raise damaged("numbers that lie after the file")
        found.append(table.array(0, _UINT8))
    if not found or len(found[0]):
        raise damaged("no empty buffer at the beginning")
    return found


def _tensor(table: Table, buffers: list[Array]) -> Tensor:
    shape = tuple(int(n) for n in table.array(0, _INT32))
    signature = tuple(int(n) for n in table.array(7, _INT32))
    kind, buffer = table.integer(1, "<b"), table.integer(2, "<I")
    if signature and signature != shape:
        raise _input(f"a value of open size {signature}")
    if len(shape) > MAX_AXES or min(shape, default=1) < 1 or prod(shape) > MAX_VALUES:
        raise damaged(f"a value of shape {shape}")
    if kind not in _TYPES or buffer >= len(buffers):
        raise damaged(f"a value of type {kind} in buffer {buffer} of {len(buffers)}")
    if table.integer(5, "<B") or table.table(6) or table.integer(10, "<I"):
        raise damaged("a value that varies, or is packed")
    try:
        table.array(3, _UINT8).tobytes().decode()
    except UnicodeDecodeError:
        raise damaged("a name that is no text") from None
    data, dtype = None, np.dtype(_TYPES[kind])
    if len(buffers[buffer]):
        if prod(shape) * dtype.itemsize != len(buffers[buffer]):
            raise damaged(f"{len(buffers[buffer])} bytes for a constant of shape {shape}")
        data = np.frombuffer(buffers[buffer].tobytes(), dtype).reshape(shape)
        if kind == 0 and not np.isfinite(data).all():
            raise damaged("weights that are no numbers")
    scales, zeros, axis = _scales(table.table(4), shape)
    return Tensor(shape, _TYPES[kind], data, scales, zeros, axis)


def _scales(
    told: Table | None, shape: tuple[int, ...]
) -> tuple[tuple[float, ...], tuple[int, ...], int]:
    if told is None:
        return (), (), 0
    scales = tuple(float(n) for n in told.array(2, _FLOAT32))
    zeros = tuple(int(n) for n in told.array(3, _INT64))
    axis = told.integer(6)
    told.array(0, _FLOAT32), told.array(1, _FLOAT32)
    if told.integer(4, "<B"):
        raise damaged("scales of another form")
    if any(not isfinite(n) or not 1e-20 < n < 1e20 for n in scales) or len(zeros) != len(scales):
        raise damaged("scales that are no numbers")
    if any(not -128 <= n <= 127 for n in zeros) or not 0 <= axis < max(1, len(shape)):
        raise damaged(f"zero points {zeros[:4]} along axis {axis}")
    if len(scales) > 1 and len(scales) != shape[axis]:
        raise damaged(f"{len(scales)} scales for a value of shape {shape}")
    return scales, zeros, axis


def _code(table: Table) -> int:
    return max(table.integer(0, "<b"), table.integer(3))


# -- operators: type, options and shape of each, as their kernels want them


class _Wrong(Exception):
    """An operator in another form than ours; the text says what form."""


def _check_node(table: Table, codes: list[int], reads: list[Tensor], gives: list[Tensor]) -> None:
    index = table.integer(0, "<I")
    if index >= len(codes):
        raise damaged(f"an operator {index} of {len(codes)}")
    if codes[index] not in OPERATORS:
        raise _operator(f"operator {codes[index]}", "Edgegraft writes no such operator")
    name, options, n_inputs, check = OPERATORS[codes[index]]
    told = table.table(4)
    if table.integer(3, "<B") != options or (options and told is None):
        raise damaged(f"{name} with options of another operator")
    if table.integer(11, "<B") or len(table.array(5, _UINT8)):
        raise damaged(f"{name} with options of another form")
    wrong_count = n_inputs and len(reads) != n_inputs
    if wrong_count or len(gives) != (2 if name == "TOPK_V2" else 1):
        raise damaged(f"{name} that reads {len(reads)} values and gives {len(gives)}")
    node = Node(name, tuple(reads), tuple(gives), told or Table(b"\4\0\4\0\4\0\0\0", 4))
    try:
        _check_scales(node)
        check(node)
    except _Wrong as error:
        raise _operator(f"{name} with {error}", "its kernel counts on another form") from error


def _operator(found: str, why: str) -> ModelError:
    return ModelError.of(
        "litert-operator",
        f"a .tflite file with {found}",
        why,
        "export the model with edgegraft export --format litert",
    )


def _want(fits: bool, found: object) -> None:
    if not fits:
        raise _Wrong(str(found))


def _check_scales(node: Node) -> None:
    """Each 8-bit value that is computed, or that a kernel computes with, has one scale."""
    scales = []
    for tensor in (*node.inputs, *node.outputs):
        if tensor.type == "int8":
            _want(bool(tensor.scales), "a value of 8 bits without a scale")
            scales.append((min(tensor.scales), max(tensor.scales)))
            weights = node.name in _WEIGHTED and tensor is node.inputs[1]
            _want(weights or len(tensor.scales) == 1, "several scales of one value")
    if node.name == "ADD" and scales:  # its kernel ends the process at a factor of one
        largest, out = max(most for _, most in scales[:-1]), scales[-1][0]
        _want(largest < out * _SHRINK, f"scales from {largest:g} to {out:g}")


def _same_type(*tensors: Tensor, types: Sequence[str] = ("float32", "int8")) -> None:
    found = [tensor.type for tensor in tensors]
    _want(len(set(found)) == 1 and found[0] in types, f"types {', '.join(found)}")


def _same_scale(*tensors: Tensor) -> None:
    _want(len({(t.scales, t.zeros) for t in tensors if t.type == "int8"}) <= 1, "two scales")


def _shape(node: Node, shape: Sequence[int]) -> None:
    found = node.outputs[0].shape
    _want(found == tuple(shape), f"a result of shape {found} in place of {tuple(shape)}")


def _constant(tensor: Tensor, rank: int = 1) -> list[int]:
    """A constant of whole numbers, as a flat list."""
    _want(tensor.data is not None and tensor.type == "int32", "sizes that are computed")
    _want(len(tensor.shape) <= rank and tensor.data is not None, "sizes of a wrong form")
    assert tensor.data is not None
    return [int(n) for n in tensor.data.ravel()]


def _fused(node: Node, at: int) -> None:
    _want(node.options.integer(at, "<b") in (0, 1, 2, 3), "another fused activation")


def _broadcast(node: Node) -> tuple[int, ...]:
    try:
        found = np.broadcast_shapes(*(tensor.shape for tensor in node.inputs))
    except ValueError:
        found = ()
    _want(0 < len(found) <= MAX_AXES or not node.outputs[0].shape, "shapes that do not fit")
    return found


def _two(types: Sequence[str], fused: bool = True) -> Callable[[Node], None]:
    def check(node: Node) -> None:
        _same_type(*node.inputs, *node.outputs, types=types)
        if fused:
            _fused(node, 0)
        if node.name in ("MAXIMUM", "MINIMUM"):
            _same_scale(*node.inputs, *node.outputs)
        _shape(node, _broadcast(node))

    return check


def _greater(node: Node) -> None:
    _same_type(*node.inputs, types=("float32",))
    _want(node.outputs[0].type == "bool", "a result that is no truth")
    _shape(node, _broadcast(node))


def _one(node: Node) -> None:
    _same_type(*node.inputs, *node.outputs, types=("float32",))
    _want(isfinite(node.options.number(0, "<f", 0.0)), "a slope that is no number")
    _shape(node, node.inputs[0].shape)


def _plain(node: Node) -> None:
    _same_type(*node.inputs, *node.outputs, types=("float32",))
    _shape(node, node.inputs[0].shape)


def _softmax(node: Node) -> None:
    _same_type(*node.inputs, *node.outputs)
    _want(node.options.number(0, "<f", 0.0) == 1.0, "a factor before it")
    x, out = node.inputs[0], node.outputs[0]
    _want(1 <= len(x.shape) <= 4, f"{len(x.shape)} axes")
    if out.type == "int8":
        _want((out.scales, out.zeros) == ((1 / 256,), (-128,)), f"a result of scale {out.scales}")
        _want(x.scales[0] < 1e4, "a scale that is too large")
    _shape(node, x.shape)


def _cast(node: Node) -> None:
    _want({node.inputs[0].type, node.outputs[0].type} <= set(_TYPES.values()), "another type")
    _shape(node, node.inputs[0].shape)


def _to_int8(node: Node) -> None:
    _want(node.inputs[0].type in ("float32", "int8"), f"values {node.inputs[0].type}")
    _want(node.outputs[0].type == "int8", "a result that is not of 8 bits")
    _shape(node, node.inputs[0].shape)


def _to_float(node: Node) -> None:
    _want((node.inputs[0].type, node.outputs[0].type) == ("int8", "float32"), "other types")
    _shape(node, node.inputs[0].shape)


def _weights(node: Node, size: int, axis: int) -> Tensor:
    """Types and scales of an operator with weights; returns the weights."""
    x, weight, bias = (*node.inputs, None)[:3]
    assert x is not None
    assert weight is not None
    _same_type(x, weight, *node.outputs)
    _want(weight.data is not None, "weights that are computed")
    wanted = "float32" if x.type == "float32" else "int32"
    if bias is not None:
        fits = bias.type == wanted and bias.shape == (size,) and bias.data is not None
        _want(fits, f"biases {bias.type} of shape {bias.shape}")
    if x.type == "int8":
        _want(bias is not None, "no biases")
        _want(not any(weight.zeros), "weights whose zero is not in the middle")
        _want(len(weight.scales) == 1 or weight.axis == axis, "scales along another axis")
        factor = max(weight.scales) * x.scales[0] / node.outputs[0].scales[0]
        _want(factor < _RATIO, f"a factor {factor:g} between its scales")
    return weight


def _places(
    node: Node, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], same: bool
) -> list[int]:
    steps = [*kernel, *stride, *dilation]
    _want(min(steps) >= 1 and max(steps) <= _LARGEST_STEP, f"steps {steps}")
    places = node.inputs[0].shape[1:3]
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if same:
        return [-(-n // s) for n, s in zip(places, stride, strict=True)]
    sizes = [(n - k) // s + 1 for n, k, s in zip(places, spans, stride, strict=True)]
    _want(all(n >= k for n, k in zip(places, spans, strict=True)), "a kernel that is too large")
    return sizes


def _convolution(node: Node) -> None:
    deep, options = node.name == "DEPTHWISE_CONV_2D", node.options
    x, kernel = node.inputs[0].shape, node.inputs[1].shape
    _want(len(x) == len(kernel) == 4 and len(node.inputs) == 3, f"shapes {x} and {kernel}")
    c_out = kernel[3] if deep else kernel[0]
    _weights(node, c_out, 3 if deep else 0)
    if deep:
        multiplier = options.integer(3)
        _want(kernel[0] == 1 and multiplier >= 1, f"a kernel of shape {kernel}")
        _want(multiplier * x[3] == c_out, f"a kernel of shape {kernel} on {x[3]} channels")
    else:
        groups = x[3] // kernel[3]
        _want(groups >= 1 and groups * kernel[3] == x[3], f"a kernel of shape {kernel}")
        _want(c_out % groups == 0, f"a kernel of shape {kernel} on {x[3]} channels")
    shift = 1 if deep else 0
    _fused(node, 3 + shift)
    _want(options.integer(0, "<b") in (0, 1), "another padding")
    stride = [options.integer(2), options.integer(1)]
    dilation = [options.integer(5 + shift, default=1), options.integer(4 + shift, default=1)]
    sizes = _places(node, kernel[1:3], stride, dilation, options.integer(0, "<b") == 0)
    _shape(node, (x[0], *sizes, c_out))


def _pool(node: Node) -> None:
    _same_type(*node.inputs, *node.outputs)
    _same_scale(*node.inputs, *node.outputs)
    options, x = node.options, node.inputs[0].shape
    _want(len(x) == 4, f"a value of shape {x}")
    _fused(node, 5)
    _want(options.integer(0, "<b") in (0, 1), "another padding")
    stride = [options.integer(2), options.integer(1)]
    kernel = [options.integer(4), options.integer(3)]
    sizes = _places(node, kernel, stride, (1, 1), options.integer(0, "<b") == 0)
    _shape(node, (x[0], *sizes, x[3]))


def _dense(node: Node) -> None:
    x, kernel = node.inputs[0].shape, node.inputs[1].shape
    _want(len(kernel) == 2 and len(x) >= 2 and len(node.inputs) in (2, 3), f"a matrix {kernel}")
    _weights(node, kernel[0], 0)
    _want(x[-1] == kernel[1], f"a matrix of shape {kernel} on {x}")
    _fused(node, 0)
    _want(node.options.integer(1, "<b") == 0, "weights in another order")
    _want(len(x) == 2 or node.options.integer(2, "<B") == 1, "axes that are joined")
    _want(not node.options.integer(3, "<B"), "inputs of another form")
    _shape(node, (*x[:-1], kernel[0]))


def _matmul(node: Node) -> None:
    _same_type(*node.inputs, *node.outputs, types=("float32",))
    a, b = (tensor.shape for tensor in node.inputs)
    turned = [node.options.integer(at, "<B") for at in range(3)]
    _want(min(len(a), len(b)) >= 2 and not any(turned) and a[-1] == b[-2], f"shapes {a} and {b}")
    _want(max(len(a), len(b)) <= 5, f"shapes {a} and {b}")
    try:
        batch = np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        raise _Wrong(f"shapes {a} and {b}") from None
    _shape(node, (*batch, a[-2], b[-1]))


def _reduce(node: Node) -> None:
    x, axes = node.inputs[0], _constant(node.inputs[1])
    types = ("float32", "int8") if node.name != "SUM" else ("float32",)
    _same_type(x, *node.outputs, types=types)
    if node.name != "MEAN":
        _same_scale(x, *node.outputs)
    _want(bool(axes) and all(0 <= axis < len(x.shape) for axis in axes), f"axes {axes}")
    keep = bool(node.options.integer(0, "<B"))
    _shape(node, [1 if a in axes else n for a, n in enumerate(x.shape) if keep or a not in axes])


def _pad(node: Node) -> None:
    x, edges = node.inputs[0], node.inputs[1]
    pairs = np.array(_constant(edges, rank=2)).reshape(-1, 2)
    _want(edges.shape == (len(x.shape), 2) and pairs.min() >= 0, f"a padding {pairs.tolist()[:8]}")
    _want(len(x.shape) <= 4 or node.name == "PAD", f"{len(x.shape)} axes")
    _same_type(x, *node.inputs[2:], *node.outputs)
    _same_scale(x, *node.inputs[2:], *node.outputs)
    _want(all(prod(t.shape) == 1 and t.data is not None for t in node.inputs[2:]), "its value")
    _shape(node, [int(n + b + a) for n, (b, a) in zip(x.shape, pairs, strict=True)])


def _gather(node: Node) -> None:
    x, index = node.inputs
    _same_type(x, *node.outputs, types=("float32", "int8", "int32"))
    _same_scale(x, *node.outputs)
    axis = node.options.integer(0)
    _want(index.type == "int32" and node.options.integer(1) == 0, "another form of indices")
    _want(0 <= axis < len(x.shape), f"axis {axis}")
    if index.data is not None:
        fits = index.data.min() >= 0 and index.data.max() < x.shape[axis]
        _want(bool(fits), f"indices outside {x.shape[axis]}")
    _shape(node, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


def _top(node: Node) -> None:
    x, (values, places) = node.inputs[0], node.outputs
    count = _constant(node.inputs[1])
    _same_type(x, values)
    _same_scale(x, values)
    _want(len(x.shape) >= 1 and count == [x.shape[-1]], f"the highest {count}")
    _want((places.type, places.shape) == ("int32", x.shape), "places of another form")
    _shape(node, x.shape)


def _concat(node: Node) -> None:
    _same_type(*node.inputs, *node.outputs, types=("float32", "int8", "int32"))
    _same_scale(*node.inputs, *node.outputs)
    shapes, axis = [tensor.shape for tensor in node.inputs], node.options.integer(0)
    _want(0 <= axis < len(shapes[0]) <= 4, f"axis {axis} of shape {shapes[0]}")
    _want(node.options.integer(1, "<b") == 0, "a fused activation")
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    _want(len(rest) == 1 and {len(s) for s in shapes} == {len(shapes[0])}, f"shapes {shapes[:4]}")
    shape = list(shapes[0])
    shape[axis] = sum(each[axis] for each in shapes)
    _shape(node, shape)


def _reshape(node: Node) -> None:
    x, out, shape = node.inputs[0], node.outputs[0], _constant(node.inputs[1])
    _same_type(x, out, types=("float32", "int8", "int32", "bool"))
    told = [int(n) for n in node.options.array(0, _INT32)]
    _want(told in ([], shape) and prod(shape) == prod(x.shape), f"a shape {shape} of {x.shape}")
    _shape(node, shape)


def _transpose(node: Node) -> None:
    x, axes = node.inputs[0], _constant(node.inputs[1])
    _same_type(x, *node.outputs)
    _same_scale(x, *node.outputs)
    _want(sorted(axes) == list(range(len(x.shape))), f"axes {axes}")
    _shape(node, [x.shape[axis] for axis in axes])


def _slice(node: Node) -> None:
    x = node.inputs[0]
    starts, stops, steps = (_constant(tensor) for tensor in node.inputs[1:])
    masks = [node.options.integer(at) for at in range(5)]
    _same_type(x, *node.outputs)
    _same_scale(x, *node.outputs)
    _want({len(starts), len(stops), len(steps)} == {len(x.shape)}, "bounds of a wrong form")
    _want(len(x.shape) <= 5 and not any(masks[at] for at in (0, 2, 3, 4)), f"masks {masks}")
    _want(not node.options.integer(5, "<B"), "an offset")
    shape = []
    for axis, (start, stop, step) in enumerate(zip(starts, stops, steps, strict=True)):
        size = x.shape[axis]
        _want(0 <= start < size and 0 <= stop <= size and 0 < abs(step) <= size, f"step {step}")
        last = None if masks[1] >> axis & 1 else stop
        shape.append(len(range(size)[start:last:step]))
    _shape(node, shape)


_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_FLOATS, _ANY = ("float32",), ("float32", "int8")
OPERATORS: Mapping[int, tuple[str, int, int, Callable[[Node], Any]]] = {
    0: ("ADD", 11, 2, _two((*_ANY, "int32"))),
    1: ("AVERAGE_POOL_2D", 5, 1, _pool),
    2: ("CONCATENATION", 10, 0, _concat),
    3: ("CONV_2D", 1, 3, _convolution),
    4: ("DEPTHWISE_CONV_2D", 2, 3, _convolution),
    6: ("DEQUANTIZE", 38, 1, _to_float),
    9: ("FULLY_CONNECTED", 8, 0, _dense),
    14: ("LOGISTIC", 0, 1, _plain),
    17: ("MAX_POOL_2D", 5, 1, _pool),
    18: ("MUL", 21, 2, _two(_ANY)),
    19: ("RELU", 0, 1, _plain),
    22: ("RESHAPE", 17, 2, _reshape),
    25: ("SOFTMAX", 9, 1, _softmax),
    28: ("TANH", 0, 1, _plain),
    34: ("PAD", 22, 2, _pad),
    36: ("GATHER", 23, 2, _gather),
    39: ("TRANSPOSE", 26, 2, _transpose),
    40: ("MEAN", 27, 2, _reduce),
    41: ("SUB", 28, 2, _two(_FLOATS)),
    42: ("DIV", 29, 2, _two(_FLOATS)),
    45: ("STRIDED_SLICE", 32, 4, _slice),
    47: ("EXP", 33, 1, _plain),
    48: ("TOPK_V2", 34, 2, _top),
    53: ("CAST", 37, 1, _cast),
    55: ("MAXIMUM", 39, 2, _two(_ANY, fused=False)),
    57: ("MINIMUM", 39, 2, _two(_ANY, fused=False)),
    60: ("PADV2", 43, 3, _pad),
    61: ("GREATER", 44, 2, _greater),
    73: ("LOG", 0, 1, _plain),
    74: ("SUM", 27, 2, _reduce),
    75: ("SQRT", 0, 1, _plain),
    82: ("REDUCE_MAX", 27, 2, _reduce),
    89: ("REDUCE_MIN", 27, 2, _reduce),
    98: ("LEAKY_RELU", 75, 1, _one),
    101: ("ABS", 78, 1, _plain),
    114: ("QUANTIZE", 89, 1, _to_int8),
    116: ("ROUND", 0, 1, _plain),
    126: ("BATCH_MATMUL", 101, 2, _matmul),
}
"""Number in the schema -> name, number of its options, of its inputs (0: any), and its check."""
