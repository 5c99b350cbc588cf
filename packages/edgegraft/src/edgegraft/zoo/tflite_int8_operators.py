"""Operators of quantised TensorFlow Lite files, each written in integer primitives.

Source: the semantics of the reference kernels of TensorFlow Lite; which of their factors are
products in float32, and which in float64, decides single steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from edgegraft.zoo.file_transcript import Node, RefusedError, same_pad
from edgegraft.zoo.tflite_int8 import Eight, Scale, Transcript8
from edgegraft_edge.integer import (
    HIGHEST,
    LOWEST,
    SOFTMAX_SCALE,
    SOFTMAX_ZERO,
    fixed_point,
    quantize,
    scaled,
)
from edgegraft_edge.signal import Array

_FUSED: Mapping[int, tuple[float, float]] = {
    0: (-np.inf, np.inf),
    1: (0.0, np.inf),
    2: (-1.0, 1.0),
    3: (0.0, 6.0),
}
"""Number of a fused activation -> the bounds that it sets."""


def bounds(node: Node, scale: Scale) -> tuple[int, int]:
    """Lowest and highest step that the fused activation of an operator leaves."""
    fused = int(node.attrs.get("fused", 0))
    if fused not in _FUSED:
        raise RefusedError(f"a fused activation {fused}")
    low, high = (
        int(np.clip(np.rint(real / scale.scale) + scale.zero, LOWEST, HIGHEST))
        if np.isfinite(real)
        else int(np.sign(real)) * 200
        for real in _FUSED[fused]
    )
    return max(low, LOWEST), min(high, HIGHEST)


def _conv(transcript: Transcript8, node: Node) -> None:
    x, to = transcript.eight(node.inputs[0]), transcript.scale(node.outputs[0])
    deep = node.kind == "DEPTHWISE_CONV_2D"
    weight, weight_scale = transcript.weights(node.inputs[1], 3 if deep else 0)
    if weight.ndim != 4 or len(x.shape) != 4:
        raise RefusedError(f"a kernel of shape {weight.shape} on values {x.shape}")
    kernels = np.ascontiguousarray(weight.transpose(3, 1, 2, 0) if deep else weight)
    c_out, *taps, c_in = kernels.shape
    groups = x.shape[3] if deep else x.shape[3] // c_in
    stride, dilation = node.attrs["stride"], node.attrs["dilation"]
    if c_in * groups != x.shape[3] or c_out % groups:
        raise RefusedError(f"a kernel of shape {weight.shape} on {x.shape[3]} channels")
    pad, sizes = _placed(node, x, taps, stride, dilation)
    low, high = bounds(node, to)
    made = transcript.draft.add(
        "conv2d_int8", x.name, kernels, transcript.bias(node, c_out), weight_scale,
        x_scale=x.scale, x_zero=x.zero, scale=to.scale, zero=to.zero, low=low, high=high,
        stride=list(stride), dilation=list(dilation), groups=groups, pad=pad,
    )  # fmt: skip
    transcript.give(node, made, (1, *sizes, c_out))


def _placed(
    node: Node, x: Eight, taps: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Padding (top, left, bottom, right), and the places that come out."""
    places = x.shape[1:3]
    if len(x.shape) != 4 or min(*stride, *dilation, *taps) < 1:
        raise RefusedError(f"a kernel of {list(taps)} places on values {x.shape}")
    pad = same_pad(places, taps, stride, dilation) if node.attrs["same"] else [0, 0, 0, 0]
    sizes = [
        (places[i] + pad[i] + pad[2 + i] - (taps[i] - 1) * dilation[i] - 1) // stride[i] + 1
        for i in range(2)
    ]
    if min(sizes) < 1:
        raise RefusedError(f"a kernel of {list(taps)} places on {list(places)}")
    return pad, sizes


def _dense(transcript: Transcript8, node: Node) -> None:
    x, to = transcript.eight(node.inputs[0]), transcript.scale(node.outputs[0])
    weight, weight_scale = transcript.weights(node.inputs[1], 0)
    if weight.ndim != 2 or node.attrs["shuffled"]:
        raise RefusedError(f"a matrix of shape {weight.shape}")
    c_out, c_in = weight.shape
    x = x if node.attrs["keep"] else _flat(transcript, x, c_in)
    if x.shape[-1] != c_in:
        raise RefusedError(f"a matrix of shape {weight.shape} on values {x.shape}")
    x_scale = x.scale
    if len(transcript.tensors[node.inputs[1]].scales) == 1:
        # the kernels multiply these two in float32, and those of every channel in float64
        product = np.float32(x.scale) * weight_scale[0]
        x_scale = float(product) / float(weight_scale[0])
    low, high = bounds(node, to)
    made = transcript.draft.add(
        "dense_int8", x.name, weight, transcript.bias(node, c_out), weight_scale,
        x_scale=x_scale, x_zero=x.zero, scale=to.scale, zero=to.zero, low=low, high=high,
    )  # fmt: skip
    transcript.give(node, made, (*x.shape[:-1], c_out))


def _flat(transcript: Transcript8, x: Eight, size: int) -> Eight:
    """(1, ..., size): one row for each window, as what scores windows must have."""
    if prod(x.shape) != size:
        raise RefusedError(f"a matrix for {size} values on {x.shape}")
    return x if len(x.shape) == 2 else _shaped(transcript, x, (1, size))


def _shaped(transcript: Transcript8, x: Eight, shape: tuple[int, ...]) -> Eight:
    made = transcript.draft.add("reshape", x.name, shape=list(shape[1:]))
    return Eight(made, shape, x.scale, x.zero)


def _reshape(transcript: Transcript8, node: Node) -> None:
    x = transcript.eight(node.inputs[0])
    named = len(node.inputs) > 1 and node.inputs[1]
    shape = transcript.numbers(node.inputs[1]) if named else node.attrs["shape"]
    known = prod(n for n in shape if n != -1)
    if list(shape).count(-1) > 1 or known < 1 or prod(x.shape) % known or len(shape) < 2:
        raise RefusedError(f"a shape {list(shape)} of {prod(x.shape)} values")
    _reshaped(transcript, node, x, [prod(x.shape) // known if n == -1 else n for n in shape])


def _reshaped(transcript: Transcript8, node: Node, x: Eight, shape: Sequence[int]) -> None:
    if prod(shape) != prod(x.shape) or shape[0] != 1 or min(shape) < 1:
        raise RefusedError(f"a shape {list(shape)} of values {x.shape}")
    turned = _shaped(transcript, x, tuple(shape))
    transcript.requantized(node, turned.name, x, turned.shape)


def _squeeze(transcript: Transcript8, node: Node) -> None:
    x = transcript.eight(node.inputs[0])
    rank = len(x.shape)
    axes = {axis % rank for axis in node.attrs["axes"]} or {
        axis for axis in range(1, rank) if x.shape[axis] == 1
    }
    if 0 in axes or any(x.shape[axis] != 1 for axis in axes):
        raise RefusedError(f"axes {sorted(axes)} of shape {x.shape}")
    _reshaped(transcript, node, x, [n for axis, n in enumerate(x.shape) if axis not in axes])


def _expand(transcript: Transcript8, node: Node) -> None:
    x = transcript.eight(node.inputs[0])
    (axis,) = transcript.numbers(node.inputs[1])
    shape = list(x.shape)
    shape.insert(axis % (len(shape) + 1), 1)
    _reshaped(transcript, node, x, shape)


def _transpose(transcript: Transcript8, node: Node) -> None:
    x = transcript.eight(node.inputs[0])
    axes = [axis % len(x.shape) for axis in transcript.numbers(node.inputs[1])]
    if sorted(axes) != list(range(len(x.shape))) or axes[0]:
        raise RefusedError(f"a transposition {axes}")
    made = transcript.draft.add("transpose", x.name, axes=axes)
    transcript.requantized(node, made, x, tuple(x.shape[axis] for axis in axes))


def _pad(transcript: Transcript8, node: Node) -> None:
    x = transcript.eight(node.inputs[0])
    pairs = np.array(transcript.numbers(node.inputs[1])).reshape(-1, 2)
    if len(pairs) != len(x.shape) or pairs.min() < 0 or pairs[0].any():
        raise RefusedError(f"a padding {pairs.tolist()} of values {x.shape}")
    before, after = (column[1:].tolist() for column in pairs.T)
    made = transcript.draft.add("pad", x.name, before=before, after=after, value=x.zero)
    shape = [n + int(b) + int(a) for n, (b, a) in zip(x.shape, pairs, strict=True)]
    transcript.requantized(node, made, x, tuple(shape))


def _concat(transcript: Transcript8, node: Node) -> None:
    values = [transcript.eight(name) for name in node.inputs]
    to, rank = transcript.scale(node.outputs[0]), len(values[0].shape)
    axis = node.attrs["axis"] % rank
    rest = [(*v.shape[:axis], *v.shape[axis + 1 :]) for v in values]
    if axis == 0 or any(each != rest[0] for each in rest) or node.attrs["fused"]:
        raise RefusedError(f"shapes {[v.shape for v in values]} joined at axis {axis}")
    if any(name not in transcript.values for name in node.inputs):
        raise RefusedError("constants beside values")
    parts = [
        v.name
        if (v.scale, v.zero) == (to.scale, to.zero)
        else transcript.draft.add(
            "requantize", v.name, x_scale=v.scale, x_zero=v.zero, scale=to.scale, zero=to.zero
        )
        for v in values
    ]
    shape = list(values[0].shape)
    shape[axis] = sum(v.shape[axis] for v in values)
    transcript.give(node, transcript.draft.add("concat", *parts, axis=axis), tuple(shape))


def _strided_slice(transcript: Transcript8, node: Node) -> None:
    begin, end, ellipsis, new, shrink = node.attrs["masks"]
    starts, stops, steps = (transcript.numbers(name) for name in node.inputs[1:4])
    x = transcript.eight(node.inputs[0])
    if ellipsis or new or shrink or len(starts) > len(x.shape):
        raise RefusedError("a slice that adds or drops axes")
    made, shape = x.name, list(x.shape)
    for axis, (start, stop, step) in enumerate(zip(starts, stops, steps, strict=True)):
        size = shape[axis]
        places = range(size)[
            slice(None if begin >> axis & 1 else start, None if end >> axis & 1 else stop, step)
        ]
        if step < 1 or (axis == 0 and len(places) != 1):
            raise RefusedError("a slice backwards, or of the windows")
        if axis and len(places) != size:
            made = transcript.draft.add(
                "slice", made, axis=axis, start=places.start, stop=places.stop, step=step
            )
        shape[axis] = len(places)
    transcript.requantized(node, made, x, tuple(shape))


def _pool(transcript: Transcript8, node: Node) -> None:
    x, to = transcript.eight(node.inputs[0]), transcript.scale(node.outputs[0])
    kernel, stride = node.attrs["kernel"], node.attrs["stride"]
    pad, sizes = _placed(node, x, kernel, stride, [1, 1])
    shape = {"kernel": list(kernel), "stride": list(stride), "pad": pad}
    low, high = bounds(node, to)
    if (x.scale, x.zero) != (to.scale, to.zero):
        raise RefusedError("a pool that changes the scale")
    if node.kind == "AVERAGE_POOL_2D":
        made = transcript.draft.add("average_pool_int8", x.name, **shape, low=low, high=high)
    else:
        made = transcript.draft.add("max_pool2d_last", x.name, **shape)
        if (low, high) != (LOWEST, HIGHEST):
            table = np.clip(np.arange(LOWEST, HIGHEST + 1), low, high).astype(np.int8)
            made = transcript.draft.add("table_int8", made, table)
    transcript.give(node, made, (1, *sizes, x.shape[3]))


def _mean(transcript: Transcript8, node: Node) -> None:
    x, to = transcript.eight(node.inputs[0]), transcript.scale(node.outputs[0])
    rank = len(x.shape)
    axes = sorted({axis % rank for axis in transcript.numbers(node.inputs[1])})
    keep = bool(node.attrs["keep"])
    if not axes or axes[0] == 0 or (not keep and len(axes) == rank - 1):
        raise RefusedError(f"a mean over axes {axes} of {rank}")
    made = transcript.draft.add(
        "mean_int8", x.name, axes=axes, keepdims=keep,
        x_scale=x.scale, x_zero=x.zero, scale=to.scale, zero=to.zero,
    )  # fmt: skip
    shape = (1 if axis in axes else n for axis, n in enumerate(x.shape) if keep or axis not in axes)
    transcript.give(node, made, tuple(shape))


def _two(kind: str) -> Callable[[Transcript8, Node], None]:
    def write(transcript: Transcript8, node: Node) -> None:
        a, b = (transcript.eight(name) for name in node.inputs[:2])
        if not {node.inputs[0], node.inputs[1]} & set(transcript.values):
            raise RefusedError("two constants")
        to = transcript.scale(node.outputs[0])
        low, high = bounds(node, to)
        a_scale = a.scale
        if kind == "mul_int8":  # the kernels compute this factor in float32
            factor = np.float32(a.scale) * np.float32(b.scale) / np.float32(to.scale)
            a_scale = float(factor) * to.scale / b.scale
        made = transcript.draft.add(
            kind, a.name, b.name, a_scale=a_scale, a_zero=a.zero, b_scale=b.scale,
            b_zero=b.zero, scale=to.scale, zero=to.zero, low=low, high=high,
        )  # fmt: skip
        transcript.give(node, made, np.broadcast_shapes(a.shape, b.shape))

    return write


def _softmax(transcript: Transcript8, node: Node) -> None:
    x, to = transcript.eight(node.inputs[0]), transcript.scale(node.outputs[0])
    if (to.scale, to.zero) != (SOFTMAX_SCALE, SOFTMAX_ZERO):
        raise RefusedError(f"an output of scale {to.scale:g} and zero {to.zero}")
    beta = float(node.attrs.get("beta", 1.0))
    if not beta > 0 or x.shape[-1] > 2000:
        raise RefusedError(f"a factor {beta:g} before it, or {x.shape[-1]} values")
    transcript.give(
        node, transcript.draft.add("softmax_int8", x.name, x_scale=x.scale * beta), x.shape
    )


def _table(function: Callable[[Array, Node], Array]) -> Callable[[Transcript8, Node], None]:
    """A function of one value, as the table of its 256 results."""

    def write(transcript: Transcript8, node: Node) -> None:
        x, to = transcript.eight(node.inputs[0]), transcript.scale(node.outputs[0])
        steps = np.arange(LOWEST, HIGHEST + 1, dtype=np.float64)
        with np.errstate(all="ignore"):
            found = function((steps - x.zero) * x.scale, node)
        table = quantize(found.astype(np.float32), scale=to.scale, zero=to.zero)
        transcript.give(node, transcript.draft.add("table_int8", x.name, table), x.shape)

    return write


def _cut(low: float, high: float) -> Callable[[Transcript8, Node], None]:
    """A function that only cuts: brought to the other scale in integers, then cut."""

    def write(transcript: Transcript8, node: Node) -> None:
        x, to = transcript.eight(node.inputs[0]), transcript.scale(node.outputs[0])
        steps = np.arange(LOWEST, HIGHEST + 1, dtype=np.int64) - x.zero
        found = scaled(steps, *fixed_point(x.scale / to.scale)) + to.zero
        ends = quantize(np.array([low, high], np.float32), scale=to.scale, zero=to.zero)
        table = np.clip(found, int(ends[0]), int(ends[1])).astype(np.int8)
        transcript.give(node, transcript.draft.add("table_int8", x.name, table), x.shape)

    return write


def _quantize(transcript: Transcript8, node: Node) -> None:
    """Float to int8 at the front, or int8 to another scale."""
    name = node.inputs[0]
    if name == transcript.input and name not in transcript.values:
        if transcript.first != transcript.input:
            raise RefusedError("a second turn of the input into 8 bits")
        transcript.begin(node.outputs[0])
        return
    x = transcript.eight(name)
    transcript.requantized(node, x.name, x, x.shape)


def _dequantize(transcript: Transcript8, node: Node) -> None:
    transcript.floats[node.outputs[0]] = transcript.eight(node.inputs[0])


def _hard_swish(x: Array, node: Node) -> Array:
    return np.asarray(x * np.clip(x + 3, 0, 6) / 6)


WRITERS: Mapping[str, Callable[[Transcript8, Node], Any]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _conv,
    "FULLY_CONNECTED": _dense,
    "ADD": _two("add_int8"),
    "MUL": _two("mul_int8"),
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "SOFTMAX": _softmax,
    "LOGISTIC": _table(lambda x, node: 1 / (1 + np.exp(-x))),
    "TANH": _table(lambda x, node: np.tanh(x)),
    "HARD_SWISH": _table(_hard_swish),
    "LEAKY_RELU": _table(lambda x, node: np.where(x > 0, x, float(node.attrs["slope"]) * x)),
    "RELU": _cut(0.0, np.inf),
    "RELU6": _cut(0.0, 6.0),
    "RELU_N1_TO_1": _cut(-1.0, 1.0),
    "RESHAPE": _reshape,
    "SQUEEZE": _squeeze,
    "EXPAND_DIMS": _expand,
    "TRANSPOSE": _transpose,
    "PAD": _pad,
    "CONCATENATION": _concat,
    "STRIDED_SLICE": _strided_slice,
    "QUANTIZE": _quantize,
    "DEQUANTIZE": _dequantize,
}
"""Operator -> what writes it."""
