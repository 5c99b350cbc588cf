"""Operators of ONNX, each written as a program.

Source: ONNX operator specifications, https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgegraft.zoo.file_transcript import Node, RefusedError, Transcript, Value, same_pad
from edgegraft.zoo.layers import gelu, relu
from edgegraft.zoo.onnx_constants import FLOATS, Write, folding, slice_parts
from edgegraft_edge.program import Draft

Function = Callable[[Draft, str], str]


def _window(node: Node, places: Sequence[int], kernel: Sequence[int]) -> tuple[Any, ...]:
    """Strides, dilations, and padding before and then after."""
    n = len(places)
    stride = [int(s) for s in node.attrs.get("strides", [1] * n)]
    dilation = [int(d) for d in node.attrs.get("dilations", [1] * n)]
    pad = [int(p) for p in node.attrs.get("pads", [0] * 2 * n)]
    if len({len(stride), len(dilation), len(kernel), n}) != 1 or len(pad) != 2 * n:
        raise RefusedError(f"a kernel {list(kernel)} on {list(places)} places")
    if min(*stride, *dilation, *kernel) < 1:
        raise RefusedError(f"strides {stride} and dilations {dilation}")
    auto = str(node.attrs.get("auto_pad", "NOTSET"))
    if auto.startswith("SAME"):
        pad = same_pad(places, kernel, stride, dilation)
        pad = pad if auto == "SAME_UPPER" else pad[n:] + pad[:n]
    elif auto == "VALID":
        pad = [0] * 2 * n
    return stride, dilation, pad


def _conv(transcript: Transcript, node: Node) -> None:
    weight = transcript.array(node.inputs[1])
    value = transcript.channels_first(transcript.value(node.inputs[0]))
    stride, dilation, pad = _window(node, value.sizes[2:], weight.shape[2:])
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    found = transcript.conv(
        value,
        weight,
        transcript.array(bias) if bias else None,
        stride=stride,
        dilation=dilation,
        groups=int(node.attrs.get("group", 1)),
        pad=pad,
    )
    transcript.give(node, found)


def _pool(transcript: Transcript, node: Node) -> None:
    value = transcript.channels_first(transcript.value(node.inputs[0]))
    places, kernel = value.sizes[2:], [int(k) for k in node.attrs["kernel_shape"]]
    stride, dilation, pad = _window(node, places, kernel)
    counts_pad = bool(node.attrs.get("count_include_pad", 0))
    if any(d != 1 for d in dilation):
        raise RefusedError("a pool with gaps")
    if node.attrs.get("ceil_mode", 0):
        if counts_pad and any(pad):
            raise RefusedError("a pool that counts padding and rounds up")
        pad = _rounded_up(places, kernel, stride, pad)
    kind = "max" if node.kind == "MaxPool" else "mean"
    found = transcript.pooled(
        kind, value, kernel=kernel, stride=stride, pad=pad, counts_pad=counts_pad
    )
    transcript.give(node, found)


def _rounded_up(
    places: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int]
) -> list[int]:
    """Padding with which a last patch that is not full counts as well."""
    n, pad = len(places), list(pad)
    for i in range(n):
        size = places[i] + pad[i]
        count = -(-(size + pad[n + i] - kernel[i]) // stride[i]) + 1
        if (count - 1) * stride[i] >= size:
            count -= 1
        pad[n + i] = max(pad[n + i], (count - 1) * stride[i] + kernel[i] - size)
    return pad


def _global(kind: str) -> Write:
    def write(transcript: Transcript, node: Node) -> None:
        value = transcript.value(node.inputs[0])
        axes = range(2, len(value.shape))
        transcript.give(node, transcript.reduced(kind, value, axes, keep=True))

    return write


def _reduce(kind: str) -> Write:
    def write(transcript: Transcript, node: Node) -> None:
        value = transcript.value(node.inputs[0])
        named = len(node.inputs) > 1 and node.inputs[1]
        axes = transcript.numbers(node.inputs[1]) if named else list(node.attrs.get("axes", []))
        keep = bool(node.attrs.get("keepdims", 1))
        transcript.give(node, transcript.reduced(kind, value, axes, keep))

    return write


def _gemm(transcript: Transcript, node: Node) -> None:
    attrs = node.attrs
    weight = transcript.array(node.inputs[1])
    if attrs.get("transA", 0) or weight.ndim != 2:
        raise RefusedError("a matrix that is turned")
    weight = (weight.T if attrs.get("transB", 0) else weight) * float(attrs.get("alpha", 1.0))
    bias = np.zeros(weight.shape[1])
    if len(node.inputs) > 2 and node.inputs[2]:
        given = transcript.array(node.inputs[2]) * float(attrs.get("beta", 1.0))
        bias = np.broadcast_to(given.reshape(-1), bias.shape)
    value = transcript.value(node.inputs[0])
    transcript.give(node, transcript.dense(value, weight, bias))


def _matmul(transcript: Transcript, node: Node) -> None:
    one, other = node.inputs[:2]
    matrix = transcript.constants.get(other)
    if matrix is not None and matrix.ndim == 2 and len(transcript.value(one).shape) < 4:
        transcript.give(node, transcript.dense(transcript.value(one), matrix, None))
        return
    names, shapes = [], []
    for name in (one, other):
        if name in transcript.constants:
            array = np.asarray(transcript.constants[name], np.float32)
            if array.ndim > 2 and array.shape[0] != 1:
                raise RefusedError(f"a constant of shape {array.shape} for each window")
            names.append(transcript.draft.constant(array))
            shapes.append(array.shape)
        else:
            value = transcript.filed(transcript.value(name))
            names.append(value.name)
            shapes.append(value.shape)
    if min(len(shape) for shape in shapes) < 2 or shapes[0][-1] != shapes[1][-2]:
        raise RefusedError(f"matrices of shapes {shapes[0]} and {shapes[1]}")
    if max(len(shape) for shape in shapes) < 3:
        raise RefusedError("a product across windows")
    front = np.broadcast_shapes(shapes[0][:-2], shapes[1][:-2])
    shape = (*front, shapes[0][-2], shapes[1][-1])
    order = tuple(range(len(shape)))
    found = Value(transcript.draft.add("matmul", *names), shape, order, len(shape) - 1)
    transcript.give(node, found)


def _add(transcript: Transcript, node: Node) -> None:
    """A sum; a constant right after a matrix is its bias, which is trained with it."""
    for one, other in (node.inputs[:2], node.inputs[1::-1]):
        if one in transcript.values and other in transcript.constants:
            value, bias = transcript.values[one], transcript.constants[other]
            if bias.size == value.shape[-1] and bias.shape[-1:] == value.shape[-1:]:
                found = transcript.biased(value, bias.reshape(-1))
                if found is not None:
                    transcript.give(node, found)
                    return
    transcript.give(node, transcript.elementwise("add", *node.inputs[:2]))


def _elementwise(kind: str) -> Write:
    def write(transcript: Transcript, node: Node) -> None:
        if len(node.inputs) != 2:
            raise RefusedError(f"{len(node.inputs)} inputs")
        transcript.give(node, transcript.elementwise(kind, *node.inputs))

    return write


def _each(function: Function) -> Write:
    def write(transcript: Transcript, node: Node) -> None:
        transcript.give(node, transcript.each(transcript.value(node.inputs[0]), function))

    return write


def _one(kind: str) -> Function:
    return lambda draft, value: draft.add(kind, value)


def _scaled(
    function: Callable[[Draft, str, float, float], str], *usual: tuple[str, float]
) -> Write:
    """A function of each element with numbers among the attributes."""

    def write(transcript: Transcript, node: Node) -> None:
        numbers = [float(node.attrs.get(name, default)) for name, default in usual]
        numbers += [0.0] * (2 - len(numbers))
        value = transcript.value(node.inputs[0])
        found = transcript.each(value, lambda draft, name: function(draft, name, *numbers[:2]))
        transcript.give(node, found)

    return write


def _hard_sigmoid(draft: Draft, value: str, alpha: float, beta: float) -> str:
    line = draft.add("add", draft.add("mul", value, np.float32(alpha)), np.float32(beta))
    return draft.add("minimum", draft.add("relu", line), np.float32(1))


def _hard_swish(draft: Draft, value: str) -> str:
    return draft.add("mul", value, _hard_sigmoid(draft, value, 1 / 6, 0.5))


def _leaky(draft: Draft, value: str, alpha: float, _: float) -> str:
    return draft.add("leaky_relu", value, slope=alpha)


def _elu(draft: Draft, value: str, alpha: float, _: float) -> str:
    below = draft.add("exp", draft.add("minimum", value, np.float32(0)))
    bent = draft.add("mul", draft.add("sub", below, np.float32(1)), np.float32(alpha))
    return draft.add("add", draft.add("relu", value), bent)


def _gelu(transcript: Transcript, node: Node) -> None:
    if node.attrs.get("approximate", "none") != "none":
        raise RefusedError("an approximation")
    transcript.give(node, transcript.each(transcript.value(node.inputs[0]), gelu))


def _clip(transcript: Transcript, node: Node) -> None:
    value = transcript.value(node.inputs[0])
    for index, (kind, name) in enumerate((("maximum", "min"), ("minimum", "max")), start=1):
        bound = node.attrs.get(name)
        if len(node.inputs) > index and node.inputs[index]:
            bound = transcript.array(node.inputs[index]).reshape(-1)[0]
        if bound is not None and abs(bound) < 1e38:
            limit = np.float32(bound)
            value = _bounded(transcript, value, kind, limit)
    transcript.give(node, value)


def _bounded(transcript: Transcript, value: Value, kind: str, limit: Any) -> Value:
    return transcript.each(value, lambda draft, name: draft.add(kind, name, limit))


def _power(transcript: Transcript, node: Node) -> None:
    value = transcript.value(node.inputs[0])
    exponents = transcript.array(node.inputs[1]).reshape(-1)
    if len(exponents) != 1 or exponents[0] not in (0.5, 1, 2, 3):
        raise RefusedError(f"exponents {exponents[:4].tolist()}")
    exponent = float(exponents[0])

    def raised(draft: Draft, name: str) -> str:
        if exponent == 0.5:
            return draft.add("sqrt", name)
        found = name
        for _ in range(int(exponent) - 1):
            found = draft.add("mul", found, name)
        return found

    transcript.give(node, transcript.each(value, raised))


def _prelu(transcript: Transcript, node: Node) -> None:
    value = transcript.value(node.inputs[0])
    below = transcript.each(value, lambda draft, name: draft.add("minimum", name, np.float32(0)))
    held = f"{node.outputs[0]}#below"
    transcript.values[held] = below
    bent = transcript.elementwise("mul", held, node.inputs[1])
    above = transcript.each(value, relu)
    total = transcript.draft.add("add", above.name, transcript.ordered(bent, value.order).name)
    transcript.give(node, Value(total, value.shape, value.order, value.features))


def _norm(transcript: Transcript, node: Node) -> None:
    """Normalisation by batches that could not be folded: a factor and a shift for each channel."""
    value = transcript.channels_first(transcript.value(node.inputs[0]))
    gain, shift, mean, variance = (
        transcript.array(name).astype(np.float64) for name in node.inputs[1:5]
    )
    factor = gain / np.sqrt(np.maximum(variance, 0) + float(node.attrs.get("epsilon", 1e-5)))
    if factor.shape != (value.sizes[1],):
        raise RefusedError(f"{factor.shape} factors for {value.sizes[1]} channels")
    form = (-1, *[1] * (len(value.sizes) - 2))
    scaled = transcript.draft.add("mul", value.name, factor.reshape(form))
    name = transcript.draft.add("add", scaled, (shift - mean * factor).reshape(form))
    transcript.give(node, Value(name, value.shape, value.order, value.features))


def _layer_norm(transcript: Transcript, node: Node) -> None:
    value = transcript.filed(transcript.value(node.inputs[0]))
    axis = int(node.attrs.get("axis", -1)) % len(value.shape)
    gain = transcript.array(node.inputs[1])
    shift = transcript.array(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    if axis != len(value.shape) - 1 or gain.shape != value.shape[-1:]:
        raise RefusedError(f"a normalisation from axis {axis}")
    draft = transcript.draft
    centred = draft.add("sub", value.name, draft.add("mean", value.name, axes=[axis]))
    power = draft.add("mean", draft.add("mul", centred, centred), axes=[axis])
    epsilon = np.float32(node.attrs.get("epsilon", 1e-5))
    unit = draft.add("div", centred, draft.add("sqrt", draft.add("add", power, epsilon)))
    name = draft.add("mul", unit, gain)
    if shift is not None:
        name = draft.add("add", name, shift)
    transcript.give(node, Value(name, value.shape, value.order, len(value.shape) - 1))


def _reshape(transcript: Transcript, node: Node) -> None:
    value = transcript.value(node.inputs[0])
    shape = transcript.numbers(node.inputs[1])
    if not node.attrs.get("allowzero", 0):
        shape = [value.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    transcript.give(node, transcript.reshaped(value, shape))


def _flatten(transcript: Transcript, node: Node) -> None:
    if node.attrs.get("axis", 1) != 1:
        raise RefusedError(f"axis {node.attrs['axis']}")
    transcript.give(node, transcript.reshaped(transcript.value(node.inputs[0]), (1, -1)))


def _axes(transcript: Transcript, node: Node) -> list[int]:
    named = len(node.inputs) > 1 and node.inputs[1]
    return transcript.numbers(node.inputs[1]) if named else list(node.attrs.get("axes", []))


def _squeeze(transcript: Transcript, node: Node) -> None:
    value = transcript.value(node.inputs[0])
    rank = len(value.shape)
    axes = {axis % rank for axis in _axes(transcript, node)}
    if not axes or 0 in axes or any(value.shape[axis] != 1 for axis in axes):
        raise RefusedError(f"axes {sorted(axes)} of shape {value.shape}")
    shape = [n for axis, n in enumerate(value.shape) if axis not in axes]
    transcript.give(node, transcript.reshaped(value, shape))


def _unsqueeze(transcript: Transcript, node: Node) -> None:
    value = transcript.value(node.inputs[0])
    axes = _axes(transcript, node)
    shape, rank = list(value.shape), len(value.shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    if 0 in {axis % rank for axis in axes}:
        raise RefusedError("an axis before that of the windows")
    transcript.give(node, transcript.reshaped(value, shape))


def _transpose(transcript: Transcript, node: Node) -> None:
    value = transcript.value(node.inputs[0])
    axes = node.attrs.get("perm", range(len(value.shape))[::-1])
    transcript.give(node, transcript.transposed(value, [int(axis) for axis in axes]))


def _concat(transcript: Transcript, node: Node) -> None:
    values = [transcript.value(name) for name in node.inputs]
    transcript.give(node, transcript.joined(values, int(node.attrs["axis"])))


def _pad(transcript: Transcript, node: Node) -> None:
    value = transcript.value(node.inputs[0])
    rank = len(value.shape)
    if node.attrs.get("mode", "constant") != "constant":
        raise RefusedError(f"a padding by {node.attrs['mode']}")
    named = len(node.inputs) > 1 and node.inputs[1]
    pads = transcript.numbers(node.inputs[1]) if named else list(node.attrs.get("pads", []))
    filled = len(node.inputs) > 2 and node.inputs[2] and transcript.array(node.inputs[2]).any()
    if filled or node.attrs.get("value", 0.0):
        raise RefusedError("a padding by other than zeros")
    if len(node.inputs) > 3 and node.inputs[3]:
        axes = [axis % rank for axis in transcript.numbers(node.inputs[3])]
        given, pads, n = pads, [0] * 2 * rank, len(axes)
        for place, axis in enumerate(axes):
            pads[axis], pads[rank + axis] = given[place], given[n + place]
    transcript.give(node, transcript.padded(value, pads[:rank], pads[rank:]))


def _slice(transcript: Transcript, node: Node) -> None:
    value = transcript.value(node.inputs[0])
    parts = (transcript.array(name) for name in node.inputs[1:] if name)
    _, *lists = slice_parts(node, len(value.shape), None, *parts)
    for start, stop, axis, step in zip(*lists, strict=True):
        if not step:
            raise RefusedError("a slice without steps")
        value = transcript.sliced(value, axis, start, stop, step)
    transcript.give(node, value)


def _split(transcript: Transcript, node: Node) -> None:
    value = transcript.value(node.inputs[0])
    axis = int(node.attrs.get("axis", 0)) % len(value.shape)
    n_parts = len(node.outputs)
    if len(node.inputs) > 1 and node.inputs[1]:
        sizes = transcript.numbers(node.inputs[1])
    else:
        each = -(-value.shape[axis] // n_parts)
        sizes = list(node.attrs.get("split", [])) or [
            min(each, value.shape[axis] - each * i) for i in range(n_parts)
        ]
    if sum(sizes) != value.shape[axis] or len(sizes) != n_parts or min(sizes) < 1 or not axis:
        raise RefusedError(f"parts of {sizes} of {value.shape}")
    start = 0
    for name, size in zip(node.outputs, sizes, strict=True):
        transcript.values[name] = transcript.sliced(value, axis, start, start + size)
        start += size


def _gather(transcript: Transcript, node: Node) -> None:
    value = transcript.filed(transcript.value(node.inputs[0]))
    index = transcript.array(node.inputs[1])
    axis = int(node.attrs.get("axis", 0)) % len(value.shape)
    size = value.shape[axis]
    if axis == 0 or index.dtype.kind != "i" or not index.size:
        raise RefusedError(f"a choice along axis {axis}")
    if index.min() < -size or index.max() >= size:
        raise RefusedError(f"a choice outside {size} places")
    shape = (*value.shape[:axis], *index.shape, *value.shape[axis + 1 :])
    if len(shape) < 2:
        raise RefusedError("one number of each window")
    name = transcript.draft.add("gather", value.name, index.reshape(-1), axis=axis)
    if index.ndim != 1:
        name = transcript.draft.add("reshape", name, shape=[int(n) for n in shape[1:]])
    order = tuple(range(len(shape)))
    features = value.features if index.ndim == 1 else len(shape) - 1
    transcript.give(node, Value(name, tuple(int(n) for n in shape), order, features))


def _softmax(transcript: Transcript, node: Node) -> None:
    value = transcript.value(node.inputs[0])
    transcript.give(node, transcript.softmax(value, int(node.attrs.get("axis", -1))))


def _sorted(transcript: Transcript, node: Node) -> None:
    """TopK of all values from the smallest: a sort."""
    value = transcript.filed(transcript.value(node.inputs[0]))
    axis = int(node.attrs.get("axis", -1)) % len(value.shape)
    last = len(value.shape) - 1
    whole = transcript.numbers(node.inputs[1]) == [value.shape[-1]]
    if axis != last or not whole or node.attrs.get("largest", 1):
        raise RefusedError("some of the values only")
    transcript.give(node, transcript.each(value, _one("sort")))


def _cast(transcript: Transcript, node: Node) -> None:
    if node.attrs.get("to") not in FLOATS:
        raise RefusedError("computed values as whole numbers")
    transcript.give(node, transcript.value(node.inputs[0]))


def _same(transcript: Transcript, node: Node) -> None:
    transcript.give(node, transcript.value(node.inputs[0]))


def _shape_of(transcript: Transcript, node: Node) -> None:
    shape = transcript.value(node.inputs[0]).shape
    part = slice(node.attrs.get("start", 0), node.attrs.get("end"))
    transcript.constants[node.outputs[0]] = np.array(shape[part], np.int64)


_WRITERS: Mapping[str, Write] = {
    "Conv": _conv,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global("mean"),
    "GlobalMaxPool": _global("max"),
    "ReduceMean": _reduce("mean"),
    "ReduceSum": _reduce("sum"),
    "ReduceMax": _reduce("max"),
    "ReduceMin": _reduce("min"),
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _add,
    "Sub": _elementwise("sub"),
    "Mul": _elementwise("mul"),
    "Div": _elementwise("div"),
    "Max": _elementwise("maximum"),
    "Min": _elementwise("minimum"),
    "Greater": _elementwise("greater"),
    "Pow": _power,
    "Relu": _each(relu),
    "Sigmoid": _each(_one("sigmoid")),
    "Tanh": _each(_one("tanh")),
    "Exp": _each(_one("exp")),
    "Log": _each(_one("log")),
    "Sqrt": _each(_one("sqrt")),
    "Abs": _each(_one("abs")),
    "Erf": _each(_one("erf")),
    "Round": _each(_one("round")),
    "Neg": _each(lambda draft, value: draft.add("mul", value, np.float32(-1))),
    "Reciprocal": _each(lambda draft, value: draft.add("div", np.float32(1), value)),
    "HardSwish": _each(_hard_swish),
    "HardSigmoid": _scaled(_hard_sigmoid, ("alpha", 0.2), ("beta", 0.5)),
    "LeakyRelu": _scaled(_leaky, ("alpha", 0.01)),
    "Elu": _scaled(_elu, ("alpha", 1.0)),
    "PRelu": _prelu,
    "Gelu": _gelu,
    "Clip": _clip,
    "BatchNormalization": _norm,
    "LayerNormalization": _layer_norm,
    "Softmax": _softmax,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Pad": _pad,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "TopK": _sorted,
    "Cast": _cast,
    "Identity": _same,
    "Dropout": _same,
    "Shape": _shape_of,
    "ConstantOfShape": _same,
}

WRITERS: Mapping[str, Write] = {kind: folding(kind, write) for kind, write in _WRITERS.items()}
"""Operator -> what writes it."""
