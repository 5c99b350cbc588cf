"""Operators of TensorFlow Lite, each written as a program; what their options are called here
is told by :mod:`edgegraft.zoo.tflite_file`, which reads them.

Source: the semantics of the reference kernels of TensorFlow Lite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgegraft.zoo.file_transcript import Node, RefusedError, Transcript, Value, same_pad
from edgegraft.zoo.layers import gelu, relu, relu6
from edgegraft_edge.program import Draft


def _activated(transcript: Transcript, node: Node, value: Value) -> None:
    """Give a value, through the activation that is fused with its operator."""
    fused = int(node.attrs.get("fused", 0))
    if fused not in _FUSED:
        raise RefusedError(f"a fused activation {fused}")
    function = _FUSED[fused]
    if function is None and transcript.model.floors.get(node.outputs[0]) == 0:
        function = relu  # its 8 bits hold nothing below zero
    transcript.give(node, transcript.each(value, function) if function else value)


def _relu_one(draft: Draft, value: str) -> str:
    return draft.add("minimum", draft.add("maximum", value, np.float32(-1)), np.float32(1))


def _tanh(draft: Draft, value: str) -> str:
    return draft.add("tanh", value)


def _hard_swish(draft: Draft, value: str) -> str:
    gate = relu6(draft, draft.add("add", value, np.float32(3)))
    return draft.add("mul", draft.add("mul", value, gate), np.float32(1 / 6))


_FUSED: Mapping[int, Callable[[Draft, str], str] | None] = {
    0: None,
    1: relu,
    2: _relu_one,
    3: relu6,
    4: _tanh,
}


def _conv(transcript: Transcript, node: Node) -> None:
    weight = transcript.array(node.inputs[1])
    if weight.ndim != 4:
        raise RefusedError(f"a kernel of shape {weight.shape}")
    value = transcript.channels_first(transcript.value(node.inputs[0]))
    if node.kind == "DEPTHWISE_CONV_2D":
        weight, groups = weight.transpose(3, 0, 1, 2), value.sizes[1]
    else:
        weight = weight.transpose(0, 3, 1, 2)
        groups = max(1, value.sizes[1] // max(1, weight.shape[1]))
    stride, dilation = node.attrs["stride"], node.attrs["dilation"]
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    found = transcript.conv(
        value,
        weight,
        transcript.array(bias) if bias else None,
        stride=stride,
        dilation=dilation,
        groups=groups,
        pad=_pad_of(node, value.sizes[2:], weight.shape[2:]),
    )
    _activated(transcript, node, found)


def _pad_of(node: Node, places: tuple[int, ...], kernel: tuple[int, ...]) -> list[int]:
    stride, dilation = node.attrs["stride"], node.attrs.get("dilation", [1, 1])
    if min(*stride, *dilation, *kernel) < 1 or len(places) != 2:
        raise RefusedError(f"strides {stride} and dilations {dilation}")
    if not node.attrs["same"]:
        return [0, 0, 0, 0]
    return same_pad(places, kernel, stride, dilation)


def _pool(transcript: Transcript, node: Node) -> None:
    value = transcript.channels_first(transcript.value(node.inputs[0]))
    kernel, stride = node.attrs["kernel"], node.attrs["stride"]
    pad = _pad_of(node, value.sizes[2:], tuple(kernel))
    kind = "mean" if node.kind == "AVERAGE_POOL_2D" else "max"
    _activated(
        transcript, node, transcript.pooled(kind, value, kernel=kernel, stride=stride, pad=pad)
    )


def _dense(transcript: Transcript, node: Node) -> None:
    weight = transcript.array(node.inputs[1])
    value = transcript.value(node.inputs[0])
    if weight.ndim != 2 or node.attrs["shuffled"]:
        raise RefusedError(f"a matrix of shape {weight.shape}")
    if not node.attrs["keep"]:
        value = transcript.reshaped(value, (-1, weight.shape[1]))
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    found = transcript.dense(value, weight.T, transcript.array(bias) if bias else None)
    _activated(transcript, node, found)


def _matmul(transcript: Transcript, node: Node) -> None:
    if node.attrs["turned"]:
        raise RefusedError("matrices that are turned")
    value = transcript.value(node.inputs[0])
    transcript.give(node, transcript.dense(value, transcript.array(node.inputs[1]), None))


def _elementwise(kind: str) -> Callable[[Transcript, Node], None]:
    def write(transcript: Transcript, node: Node) -> None:
        _activated(transcript, node, transcript.elementwise(kind, *node.inputs[:2]))

    return write


def _each(function: Callable[[Draft, str], str]) -> Callable[[Transcript, Node], None]:
    def write(transcript: Transcript, node: Node) -> None:
        transcript.give(node, transcript.each(transcript.value(node.inputs[0]), function))

    return write


def _one(kind: str) -> Callable[[Draft, str], str]:
    return lambda draft, value: draft.add(kind, value)


def _leaky(transcript: Transcript, node: Node) -> None:
    slope = float(node.attrs["slope"])
    value = transcript.value(node.inputs[0])
    transcript.give(
        node,
        transcript.each(value, lambda draft, name: draft.add("leaky_relu", name, slope=slope)),
    )


def _square(draft: Draft, value: str) -> str:
    return draft.add("mul", value, value)


def _rsqrt(draft: Draft, value: str) -> str:
    return draft.add("div", np.float32(1), draft.add("sqrt", value))


def _squared_difference(transcript: Transcript, node: Node) -> None:
    away = transcript.elementwise("sub", *node.inputs[:2])
    transcript.give(node, transcript.each(away, _square))


def _reduce(kind: str) -> Callable[[Transcript, Node], None]:
    def write(transcript: Transcript, node: Node) -> None:
        value = transcript.value(node.inputs[0])
        axes = transcript.numbers(node.inputs[1])
        transcript.give(node, transcript.reduced(kind, value, axes, node.attrs["keep"]))

    return write


def _reshape(transcript: Transcript, node: Node) -> None:
    named = len(node.inputs) > 1 and node.inputs[1]
    shape = transcript.numbers(node.inputs[1]) if named else node.attrs["shape"]
    value = transcript.value(node.inputs[0])
    transcript.give(node, transcript.reshaped(value, shape))


def _squeeze(transcript: Transcript, node: Node) -> None:
    value = transcript.value(node.inputs[0])
    rank = len(value.shape)
    axes = {axis % rank for axis in node.attrs["axes"]} or {
        axis for axis in range(1, rank) if value.shape[axis] == 1
    }
    if 0 in axes or any(value.shape[axis] != 1 for axis in axes):
        raise RefusedError(f"axes {sorted(axes)} of shape {value.shape}")
    shape = [n for axis, n in enumerate(value.shape) if axis not in axes]
    transcript.give(node, transcript.reshaped(value, shape))


def _expand(transcript: Transcript, node: Node) -> None:
    value = transcript.value(node.inputs[0])
    (axis,) = transcript.numbers(node.inputs[1])
    shape = list(value.shape)
    shape.insert(axis % (len(shape) + 1), 1)
    transcript.give(node, transcript.reshaped(value, shape))


def _transpose(transcript: Transcript, node: Node) -> None:
    axes = transcript.numbers(node.inputs[1])
    transcript.give(node, transcript.transposed(transcript.value(node.inputs[0]), axes))


def _pad(transcript: Transcript, node: Node) -> None:
    pairs = np.array(transcript.numbers(node.inputs[1])).reshape(-1, 2)
    value = transcript.value(node.inputs[0])
    before, after = (column.tolist() for column in pairs.T)
    transcript.give(node, transcript.padded(value, before, after))


def _concat(transcript: Transcript, node: Node) -> None:
    values = [transcript.value(name) for name in node.inputs]
    _activated(transcript, node, transcript.joined(values, node.attrs["axis"]))


def _softmax(transcript: Transcript, node: Node) -> None:
    value, beta = transcript.value(node.inputs[0]), np.float32(node.attrs.get("beta", 1.0))
    if beta != 1:
        value = transcript.each(value, lambda draft, name: draft.add("mul", name, beta))
    transcript.give(node, transcript.softmax(value, -1))


def _strided_slice(transcript: Transcript, node: Node) -> None:
    begin, end, ellipsis, new, shrink = node.attrs["masks"]
    starts, stops, steps = (transcript.numbers(name) for name in node.inputs[1:4])
    value = transcript.value(node.inputs[0])
    if ellipsis or new or shrink or len(starts) > len(value.shape):
        raise RefusedError("a slice that adds or drops axes")
    for axis, (start, stop, step) in enumerate(zip(starts, stops, steps, strict=True)):
        size = value.shape[axis]
        first = 0 if begin >> axis & 1 else start
        last = size if end >> axis & 1 else stop
        if step < 1:
            raise RefusedError("a slice backwards")
        if axis and (first, last, step) != (0, size, 1):
            value = transcript.sliced(value, axis, first, last, step)
    transcript.give(node, value)


def _same(transcript: Transcript, node: Node) -> None:
    name = node.inputs[0]
    if name in transcript.constants:  # weights of 16 bit, brought to 32
        transcript.constants[node.outputs[0]] = transcript.constants[name]
    else:
        transcript.give(node, transcript.value(name))


WRITERS: Mapping[str, Callable[[Transcript, Node], None]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _conv,
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": _matmul,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "ADD": _elementwise("add"),
    "SUB": _elementwise("sub"),
    "MUL": _elementwise("mul"),
    "DIV": _elementwise("div"),
    "MAXIMUM": _elementwise("maximum"),
    "MINIMUM": _elementwise("minimum"),
    "SQUARED_DIFFERENCE": _squared_difference,
    "RELU": _each(relu),
    "RELU6": _each(relu6),
    "RELU_N1_TO_1": _each(_relu_one),
    "HARD_SWISH": _each(_hard_swish),
    "GELU": _each(gelu),
    "TANH": _each(_tanh),
    "LOGISTIC": _each(_one("sigmoid")),
    "EXP": _each(_one("exp")),
    "LOG": _each(_one("log")),
    "SQRT": _each(_one("sqrt")),
    "RSQRT": _each(_rsqrt),
    "ABS": _each(_one("abs")),
    "SQUARE": _each(_square),
    "NEG": _each(lambda draft, value: draft.add("mul", value, np.float32(-1))),
    "LEAKY_RELU": _leaky,
    "MEAN": _reduce("mean"),
    "SUM": _reduce("sum"),
    "REDUCE_MAX": _reduce("max"),
    "REDUCE_MIN": _reduce("min"),
    "RESHAPE": _reshape,
    "SQUEEZE": _squeeze,
    "EXPAND_DIMS": _expand,
    "TRANSPOSE": _transpose,
    "PAD": _pad,
    "CONCATENATION": _concat,
    "SOFTMAX": _softmax,
    "STRIDED_SLICE": _strided_slice,
    "QUANTIZE": _same,
    "DEQUANTIZE": _same,
}
"""Operator -> what writes it."""
