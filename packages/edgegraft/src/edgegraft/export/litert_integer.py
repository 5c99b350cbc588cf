"""The 8-bit primitives as operators of LiteRT, with the program's own scales and zero points.

A value of 8 bits carries its scale in the file, where a program names it at each operation; a
value that is read with another scale than it was given goes through a RESHAPE, which moves bytes
and says the new scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from edgegraft.export.litert_graph import Graph, Scale, Value
from edgegraft.export.litert_layers import convolved, padded, placed, refused, two
from edgegraft_edge.integer import HIGHEST, LOWEST, SOFTMAX_SCALE, SOFTMAX_ZERO, quantize
from edgegraft_edge.signal import Array

_ACTIVATIONS: Sequence[tuple[int, float, float]] = (
    (0, -np.inf, np.inf),
    (1, 0.0, np.inf),
    (2, -1.0, 1.0),
    (3, 0.0, 6.0),
)
"""Fused activations: number in the schema, and the bounds that they set."""


def activation(to: Scale, low: int, high: int) -> int | None:
    """The fused activation that bounds steps in that way; None where none does."""
    for number, least, most in _ACTIVATIONS:
        ends = quantize(
            np.array([least, most], np.float32), scale=to.scale[0], zero=to.zero
        ).tolist()
        if ends == [low, high]:
            return number
    return None


def _bounded(graph: Graph, value: Value, low: int, high: int) -> Value:
    """Steps cut by operators, where no fused activation does it."""
    for operator, bound, plain in (("MAXIMUM", low, LOWEST), ("MINIMUM", high, HIGHEST)):
        if bound != plain:
            edge = graph.constant(np.full((1,) * len(value.shape), bound, np.int8), value.scale)
            value = two(graph, operator, "MaximumMinimum", value, edge)
    return value


def _quantize(graph: Graph, x: Value, *, scale: float, zero: int) -> Value:
    return graph.node(
        "QUANTIZE", [x], x.shape, dtype=np.int8, scale=Scale.of(scale, zero), kind="Quantize"
    )


def _dequantize(graph: Graph, q: Value, *, scale: float, zero: int) -> Value:
    q = graph.eight(q, scale, zero)
    return graph.node("DEQUANTIZE", [q], q.shape, dtype=np.float32, kind="Dequantize")


def _requantize(
    graph: Graph, q: Value, *, x_scale: float, x_zero: int, scale: float, zero: int
) -> Value:
    q = graph.eight(q, x_scale, x_zero)
    return graph.node("QUANTIZE", [q], q.shape, scale=Scale.of(scale, zero), kind="Quantize")


def _biases(graph: Graph, bias: Value, x: Value, weight_scale: Array) -> Value:
    assert x.scale is not None
    product = np.float32(x.scale.scale[0]) * weight_scale
    scales = tuple(np.asarray(product, np.float32).astype(float).tolist())
    values = graph.array(bias, "biases").astype(np.int32)
    return graph.constant(values, Scale(scales))


def _conv(
    graph: Graph,
    x: Value,
    weight: Value,
    bias: Value,
    weight_scale: Value,
    *,
    x_scale: float,
    x_zero: int,
    scale: float,
    zero: int,
    low: int = LOWEST,
    high: int = HIGHEST,
    **places: Any,
) -> Value:
    x, to = graph.eight(x, x_scale, x_zero), Scale.of(scale, zero)
    scales = graph.array(weight_scale, "scales of weights")
    fused = activation(to, low, high)
    found = convolved(
        graph,
        x,
        graph.array(weight, "weights"),
        _biases(graph, bias, x, scales),
        weight_scale=scales,
        scale=to,
        fused=fused or 0,
        **places,
    )
    return found if fused is not None else _bounded(graph, found, low, high)


def _dense(
    graph: Graph,
    x: Value,
    weight: Value,
    bias: Value,
    weight_scale: Value,
    *,
    x_scale: float,
    x_zero: int,
    scale: float,
    zero: int,
    low: int = LOWEST,
    high: int = HIGHEST,
) -> Value:
    x, to = graph.eight(x, x_scale, x_zero), Scale.of(scale, zero)
    kernels, scales = graph.array(weight, "weights"), graph.array(weight_scale, "scales of weights")
    if len(np.unique(scales)) == 1:
        scales = scales[:1]
    told = Scale(tuple(scales.astype(float).tolist()))
    fused = activation(to, low, high)
    shape = (*x.shape[:-1], len(kernels))
    found = graph.node(
        "FULLY_CONNECTED",
        [x, graph.constant(kernels, told), _biases(graph, bias, x, scales)],
        shape,
        scale=to,
        kind="FullyConnected",
        keepNumDims=len(shape) > 2,
        fusedActivationFunction=fused or 0,
    )
    return found if fused is not None else _bounded(graph, found, low, high)


def _two(operator: str, kind: str) -> Callable[..., Value]:
    def emit(
        graph: Graph,
        a: Value,
        b: Value,
        *,
        a_scale: float,
        a_zero: int,
        b_scale: float,
        b_zero: int,
        scale: float,
        zero: int,
        low: int = LOWEST,
        high: int = HIGHEST,
    ) -> Value:
        a, b = graph.eight(a, a_scale, a_zero), graph.eight(b, b_scale, b_zero)
        to, shape = Scale.of(scale, zero), np.broadcast_shapes(a.shape, b.shape)
        fused = activation(to, low, high)
        found = graph.node(
            operator, [a, b], shape, scale=to, kind=kind, fusedActivationFunction=fused or 0
        )
        return found if fused is not None else _bounded(graph, found, low, high)

    return emit


def _mean(
    graph: Graph,
    x: Value,
    *,
    axes: Sequence[int],
    x_scale: float,
    x_zero: int,
    scale: float,
    zero: int,
    keepdims: bool = True,
) -> Value:
    x = graph.eight(x, x_scale, x_zero)
    gone = sorted({int(axis) % len(x.shape) for axis in axes})
    shape = [
        1 if axis in gone else n for axis, n in enumerate(x.shape) if keepdims or axis not in gone
    ]
    index = graph.constant(np.array(gone, np.int32))
    return graph.node(
        "MEAN", [x, index], shape, scale=Scale.of(scale, zero), kind="Reducer",
        keepDims=bool(keepdims),
    )  # fmt: skip


def _average(
    graph: Graph,
    x: Value,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int] = (0, 0, 0, 0),
    low: int = LOWEST,
    high: int = HIGHEST,
) -> Value:
    """Padding is left out of the mean, which "SAME" says; other paddings go through floats."""
    assert x.scale is not None
    same, sizes, padding = placed(graph, x, kernel, stride, (1, 1), pad, x.scale.zero)
    fused = activation(x.scale, low, high)
    if same is not x:
        return _average_by_sums(graph, x, kernel, stride, pad, low, high)
    found = graph.node(
        "AVERAGE_POOL_2D", [x], (1, *sizes, x.shape[3]), kind="Pool2D", padding=padding,
        strideH=int(stride[0]), strideW=int(stride[1]), filterHeight=int(kernel[0]),
        filterWidth=int(kernel[1]), fusedActivationFunction=fused or 0,
    )  # fmt: skip
    return found if fused is not None else _bounded(graph, found, low, high)


def _average_by_sums(
    graph: Graph,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    low: int,
    high: int,
) -> Value:
    """Sums of steps in float32, which are exact, divided by how many there are."""
    channels = x.shape[3]
    steps = graph.eight(x, 1.0, 0)
    real = graph.node("DEQUANTIZE", [steps], steps.shape, dtype=np.float32, kind="Dequantize")
    edges = [[0, 0], [pad[0], pad[2]], [pad[1], pad[3]], [0, 0]]
    ones = np.ones((channels, *kernel, 1), np.float32)
    sums = convolved(
        graph, padded(graph, real, edges, None), ones, graph.constant(np.zeros(channels)),
        stride=stride, groups=channels,
    )  # fmt: skip
    counts = _counts(x.shape[1:3], kernel, stride, pad)
    mean = two(graph, "DIV", "Div", sums, graph.constant(counts[None, :, :, None]))
    found = graph.node(
        "QUANTIZE", [mean], mean.shape, dtype=np.int8, scale=Scale.of(1.0, 0), kind="Quantize"
    )
    found = _bounded(graph, found, low, high)
    assert x.scale is not None
    return graph.eight(found, x.scale.scale[0], x.scale.zero)


def _counts(
    places: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int]
) -> Array:
    """How many places each patch covers, float32 (rows, columns)."""
    lines = []
    for i in range(2):
        line = np.pad(np.ones(places[i]), (pad[i], pad[2 + i]))
        starts = range(0, len(line) - kernel[i] + 1, stride[i])
        lines.append(np.array([line[s : s + kernel[i]].sum() for s in starts]))
    return np.asarray(np.maximum(np.outer(*lines), 1), np.float32)


def _table(graph: Graph, x: Value, table: Value, *, to: Scale | None = None) -> Value:
    """Each step looked up: any table is exact in this way."""
    results = graph.constant(graph.array(table, "a table").astype(np.int8), to or Scale.of(1.0, 0))
    place = two(graph, "ADD", "Add", graph.cast(x, np.int32), graph.constant(np.int32(-LOWEST)))
    return graph.gather(results, place, 0)


def _softmax(graph: Graph, x: Value, *, x_scale: float) -> Value:
    x = graph.eight(x, x_scale, x.scale.zero if x.scale is not None else 0)
    if len(x.shape) > 4:
        raise refused("a softmax over more than four axes", "its kernel has four", "fewer axes")
    to = Scale.of(SOFTMAX_SCALE, SOFTMAX_ZERO)
    return graph.node("SOFTMAX", [x], x.shape, scale=to, kind="Softmax", beta=1.0)


INTEGER_EMITTERS: Mapping[str, Callable[..., Value]] = MappingProxyType(
    {
        "quantize": _quantize,
        "dequantize": _dequantize,
        "requantize": _requantize,
        "conv2d_int8": _conv,
        "dense_int8": _dense,
        "add_int8": _two("ADD", "Add"),
        "mul_int8": _two("MUL", "Mul"),
        "mean_int8": _mean,
        "average_pool_int8": _average,
        "table_int8": _table,
        "softmax_int8": _softmax,
    }
)
"""Primitive of 8 bits -> what writes it into a graph."""
