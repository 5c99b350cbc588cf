"""Each primitive as operators of LiteRT: one small function each, in a table like PRIMITIVES.

A file is written for one window at a time, so the window axis has length one throughout: what
walks down a tree gathers from the window itself. Operators of 8 bits are in
:mod:`edgegraft.export.litert_integer`.

Source: the TensorFlow Lite schema, version 3, and the semantics of its reference kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from edgegraft.export.litert_graph import Graph, Value
from edgegraft.export.litert_integer import INTEGER_EMITTERS
from edgegraft.export.litert_layers import WIDE, convolved, padded, placed, refused, two
from edgegraft_edge.signal import Array

_LOWEST = float(np.finfo(np.float32).min)
_TINY = np.float32(1e-30)
MAX_DEPTH = 64  # of trees: each level is seven operators


# -- element by element


def _both(operator: str, kind: str) -> Callable[..., Value]:
    def emit(graph: Graph, a: Value, b: Value) -> Value:
        return two(graph, operator, kind, graph.number(a), graph.number(b))

    return emit


def _one(operator: str, kind: str = "") -> Callable[..., Value]:
    def emit(graph: Graph, x: Value) -> Value:
        return graph.node(operator, [x], x.shape, kind=kind)

    return emit


def _greater(graph: Graph, a: Value, b: Value) -> Value:
    truth = two(graph, "GREATER", "Greater", graph.number(a), graph.number(b), np.bool_)
    return graph.cast(truth, np.float32)


def _leaky_relu(graph: Graph, x: Value, *, slope: float = 0.01) -> Value:
    return graph.node("LEAKY_RELU", [x], x.shape, kind="LeakyRelu", alpha=float(slope))


def _erf(graph: Graph, x: Value) -> Value:
    """Abramowitz and Stegun, 1964, formula 7.1.26, like the primitive, in float32."""

    def add(a: Value, b: float) -> Value:
        return two(graph, "ADD", "Add", a, graph.constant(np.float32(b)))

    def mul(a: Value, b: Value | float) -> Value:
        other = b if isinstance(b, Value) else graph.constant(np.float32(b))
        return two(graph, "MUL", "Mul", a, other)

    def div(a: Value, b: Value) -> Value:
        return two(graph, "DIV", "Div", a, b)

    size = graph.node("ABS", [x], x.shape, kind="Abs")
    t = div(graph.constant(np.float32(1)), add(mul(size, 0.3275911), 1.0))
    series = mul(t, 1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = mul(add(series, factor), t)
    power = graph.node("EXP", [mul(mul(size, size), -1.0)], x.shape, kind="Exp")
    found = add(mul(mul(series, power), -1.0), 1.0)
    least = two(graph, "MAXIMUM", "MaximumMinimum", size, graph.constant(_TINY))
    return mul(found, div(x, least))


def _softmax(graph: Graph, x: Value, *, axis: int = -1) -> Value:
    last = len(x.shape) - 1
    axis %= len(x.shape)
    order = list(range(len(x.shape)))
    order[axis], order[last] = last, axis
    turned = x if axis == last else graph.transpose(x, order)
    flat = turned if len(x.shape) <= WIDE else graph.reshape(turned, (-1, turned.shape[-1]))
    found = graph.node("SOFTMAX", [flat], flat.shape, kind="Softmax", beta=1.0)
    if flat is not turned:
        found = graph.reshape(found, turned.shape)
    return found if axis == last else graph.transpose(found, order)


# -- sums


def _matmul(graph: Graph, a: Value, b: Value) -> Value:
    a, b = graph.number(a), graph.number(b)
    if b.array is not None and b.array.ndim <= 2 and a.array is None:
        weight = b.array.reshape(len(b.array), -1).T
        shape = (*a.shape[:-1], len(weight))
        found = graph.node(
            "FULLY_CONNECTED", [a, graph.constant(weight)], shape,
            kind="FullyConnected", keepNumDims=len(shape) > 2,
        )  # fmt: skip
        return found if b.array.ndim == 2 else graph.reshape(found, shape[:-1])
    if min(len(a.shape), len(b.shape)) < 2:
        raise refused(
            f"a product of shapes {a.shape} and {b.shape}",
            "its kernel multiplies matrices",
            "reshape the vector to a matrix in the program",
        )
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*batch, a.shape[-2], b.shape[-1])
    return graph.node("BATCH_MATMUL", [a, b], shape, kind="BatchMatMul")


def _conv2d_last(graph: Graph, x: Value, weight: Value, bias: Value, **attrs: Any) -> Value:
    kernels = graph.array(weight, "weights of a convolution")
    biases = graph.array(bias, "biases of a convolution")
    return convolved(
        graph, x, kernels.astype(np.float32), graph.constant(biases.astype(np.float32)), **attrs
    )


def _conv2d(graph: Graph, x: Value, weight: Value, bias: Value, **attrs: Any) -> Value:
    kernels = graph.array(weight, "weights of a convolution").transpose(0, 2, 3, 1)
    last = graph.transpose(x, (0, 2, 3, 1))
    found = _conv2d_last(graph, last, graph.constant(np.ascontiguousarray(kernels)), bias, **attrs)
    return graph.transpose(found, (0, 3, 1, 2))


def _conv1d(
    graph: Graph,
    x: Value,
    weight: Value,
    bias: Value,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    pad: Sequence[int] = (0, 0),
) -> Value:
    kernels = graph.array(weight, "weights of a convolution")[:, :, None]
    rows = graph.reshape(x, (x.shape[0], x.shape[1], 1, x.shape[2]))
    found = _conv2d(
        graph, rows, graph.constant(kernels), bias,
        stride=(1, stride), dilation=(1, dilation), groups=groups, pad=(0, pad[0], 0, pad[1]),
    )  # fmt: skip
    return graph.reshape(found, (found.shape[0], found.shape[1], found.shape[3]))


def _max_pool2d_last(
    graph: Graph,
    x: Value,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int] = (0, 0, 0, 0),
) -> Value:
    lowest = -128 if x.dtype == np.int8 else _LOWEST
    x, sizes, padding = placed(graph, x, kernel, stride, (1, 1), pad, lowest)
    return graph.node(
        "MAX_POOL_2D", [x], (1, *sizes, x.shape[3]), kind="Pool2D", padding=padding,
        strideH=int(stride[0]), strideW=int(stride[1]),
        filterHeight=int(kernel[0]), filterWidth=int(kernel[1]),
    )  # fmt: skip


def _max_pool2d(graph: Graph, x: Value, **attrs: Any) -> Value:
    found = _max_pool2d_last(graph, graph.transpose(x, (0, 2, 3, 1)), **attrs)
    return graph.transpose(found, (0, 3, 1, 2))


def _reduce(operator: str) -> Callable[..., Value]:
    def emit(graph: Graph, x: Value, *, axes: Sequence[int], keepdims: bool = True) -> Value:
        gone = sorted({int(axis) % len(x.shape) for axis in axes})
        shape = [
            1 if axis in gone else n
            for axis, n in enumerate(x.shape)
            if keepdims or axis not in gone
        ]
        index = graph.constant(np.array(gone, np.int32))
        return graph.node(operator, [x, index], shape, kind="Reducer", keepDims=bool(keepdims))

    return emit


# -- what only moves values


def _pad(
    graph: Graph, x: Value, *, before: Sequence[int], after: Sequence[int], value: float = 0
) -> Value:
    pairs = [[0, 0], *([int(b), int(a)] for b, a in zip(before, after, strict=True))]
    plain = x.scale.zero if x.scale is not None else 0
    return padded(graph, x, pairs, None if value == plain else value)


def _frame(graph: Graph, x: Value, *, length: int, hop: int) -> Value:
    starts = np.arange(0, x.shape[2] - length + 1, hop)
    index = (starts[:, None] + np.arange(length)).astype(np.int32)
    return graph.gather(x, graph.constant(index), 2)


def _sort(graph: Graph, x: Value) -> Value:
    size = x.shape[-1]
    falling, places = graph.value(x.shape, x.dtype, x.scale), graph.value(x.shape, np.int32)
    graph.write("TOPK_V2", [x, graph.constant(np.int32(size))], [falling, places], "TopKV2")
    back = graph.constant(np.arange(size - 1, -1, -1, dtype=np.int32))
    return graph.gather(falling, back, len(x.shape) - 1)


def _concat(graph: Graph, *values: Value, axis: int) -> Value:
    first = next((v for v in values if v.array is None), values[0])
    if first.dtype == np.int8 and first.scale is not None:
        values = tuple(graph.eight(v, first.scale.scale[0], first.scale.zero) for v in values)
    axis %= len(first.shape)
    shape = list(first.shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    return graph.node("CONCATENATION", values, shape, kind="Concatenation", axis=axis)


def _reshape(graph: Graph, x: Value, *, shape: Sequence[int]) -> Value:
    size = int(np.prod(x.shape))
    known = int(np.prod([n for n in shape if n != -1])) or 1
    return graph.reshape(x, (1, *(size // known if n == -1 else n for n in shape)))


def _slice(graph: Graph, x: Value, *, axis: int, start: int, stop: int, step: int = 1) -> Value:
    axis %= len(x.shape)
    places = range(x.shape[axis])[start:stop:step]
    ends = [[0, n, 1] for n in x.shape]
    mask = 0
    last = places[-1] + (1 if step > 0 else -1)
    if last < 0:  # below zero would count from the end
        last, mask = 0, 1 << axis
    ends[axis] = [places[0], last, step]
    bounds = (graph.constant(np.array(column, np.int32)) for column in zip(*ends, strict=True))
    shape = [len(places) if at == axis else n for at, n in enumerate(x.shape)]
    return graph.node("STRIDED_SLICE", [x, *bounds], shape, kind="StridedSlice", endMask=mask)


def _gather(graph: Graph, x: Value, index: Value, *, axis: int) -> Value:
    axis %= len(x.shape)
    places = graph.array(index, "places to gather").astype(np.int64) % x.shape[axis]
    return graph.gather(x, graph.constant(places.astype(np.int32)), axis)


def _lookup(graph: Graph, ids: Value, table: Value) -> Value:
    rows = graph.constant(graph.array(table, "rows to look up").astype(np.float32))
    return graph.gather(rows, graph.cast(ids, np.int32), 0)


def _trees(
    graph: Graph,
    x: Value,
    feature: Value,
    threshold: Value,
    left: Value,
    right: Value,
    value: Value,
    roots: Value,
) -> Value:
    """All trees go down one level at a time; a node is numbered by twice its place."""
    features, thresholds, lefts, rights, values, starts = (
        graph.array(each, "nodes of trees")
        for each in (feature, threshold, left, right, value, roots)
    )
    leaf = lefts < 0
    own = np.arange(len(leaf))
    children = 2 * np.stack([np.where(leaf, own, lefts), np.where(leaf, own, rights)], 1).ravel()
    depth = _depth(lefts, rights)
    if depth > MAX_DEPTH:
        raise refused(
            f"trees of {depth} levels",
            f"each level is written out, up to {MAX_DEPTH}",
            "shallower trees, or another head",
        )
    window = graph.reshape(x, (x.shape[-1],))
    tables = [
        graph.constant(np.repeat(each, 2).astype(kind))
        for each, kind in (
            (np.where(leaf, 0, features), np.int32),
            (np.where(leaf, 0, thresholds), np.float32),
        )
    ]
    below = graph.constant(children.astype(np.int32))
    node = graph.constant((2 * starts).astype(np.int32))
    for _ in range(depth):
        seen = graph.gather(window, _taken(graph, tables[0], node), 0)
        bound = _taken(graph, tables[1], node)
        right_way = graph.node("GREATER", [seen, bound], seen.shape, dtype=np.bool_, kind="Greater")
        step = graph.cast(right_way, np.int32)
        chosen = graph.node("ADD", [step, node], step.shape, kind="Add")
        node = _taken(graph, below, chosen)
    leaves = graph.constant(np.repeat(values.astype(np.float32), 2, axis=0))
    found = _taken(graph, leaves, node)
    first = graph.constant(np.array([0], np.int32))
    return graph.node("MEAN", [found, first], (1, values.shape[1]), kind="Reducer", keepDims=True)


def _taken(graph: Graph, table: Value, index: Value) -> Value:
    """Rows of a constant; computed here where the index is constant too."""
    if index.array is not None and table.array is not None:
        return graph.constant(table.array[index.array])
    return graph.gather(table, index, 0)


def _depth(left: Array, right: Array) -> int:
    """Levels below a root, of the deepest tree; a child comes after its parent."""
    level = np.zeros(len(left), np.int64)
    for node in np.flatnonzero(left >= 0):
        level[[left[node], right[node]]] = level[node] + 1
    return int(level.max(initial=0))


EMITTERS: Mapping[str, Callable[..., Value]] = MappingProxyType(
    {
        "add": _both("ADD", "Add"),
        "sub": _both("SUB", "Sub"),
        "mul": _both("MUL", "Mul"),
        "div": _both("DIV", "Div"),
        "maximum": _both("MAXIMUM", "MaximumMinimum"),
        "minimum": _both("MINIMUM", "MaximumMinimum"),
        "greater": _greater,
        "abs": _one("ABS", "Abs"),
        "sqrt": _one("SQRT"),
        "log": _one("LOG"),
        "exp": _one("EXP", "Exp"),
        "erf": _erf,
        "round": _one("ROUND"),
        "tanh": _one("TANH"),
        "sigmoid": _one("LOGISTIC"),
        "relu": _one("RELU"),
        "leaky_relu": _leaky_relu,
        "softmax": _softmax,
        "matmul": _matmul,
        "conv1d": _conv1d,
        "conv2d": _conv2d,
        "conv2d_last": _conv2d_last,
        "max_pool2d": _max_pool2d,
        "max_pool2d_last": _max_pool2d_last,
        "pad": _pad,
        "frame": _frame,
        "mean": _reduce("MEAN"),
        "sum": _reduce("SUM"),
        "max": _reduce("REDUCE_MAX"),
        "min": _reduce("REDUCE_MIN"),
        "sort": _sort,
        "concat": _concat,
        "reshape": _reshape,
        "transpose": lambda graph, x, *, axes: graph.transpose(x, axes),
        "slice": _slice,
        "gather": _gather,
        "lookup": _lookup,
        "trees": _trees,
        **INTEGER_EMITTERS,
    }
)
"""Primitive -> what writes it into a graph; the same keys as `PRIMITIVES`."""
