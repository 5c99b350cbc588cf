"""What several operators of LiteRT need: two values that broadcast, padding, convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgegraft.export.litert_graph import Graph, Scale, Value
from edgegraft.zoo.file_transcript import same_pad
from edgegraft_edge.errors import ExportError
from edgegraft_edge.signal import Array

WIDE = 4  # axes that element-wise kernels broadcast over


def refused(found: str, why: str, remedy: str) -> ExportError:
    """The error for what LiteRT's operators cannot say."""
    return ExportError.of("export-litert-operation", found, why, remedy)


def two(graph: Graph, operator: str, kind: str, a: Value, b: Value, dtype: Any = None) -> Value:
    """An operator on two values that broadcast."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    if len(shape) > WIDE:
        return _narrowed(graph, operator, kind, a, b, shape, dtype)
    return graph.node(operator, [a, b], shape, dtype=dtype, kind=kind)


def _narrowed(
    graph: Graph, operator: str, kind: str, a: Value, b: Value, shape: tuple[int, ...], dtype: Any
) -> Value:
    """The same over fewer axes: those that broadcast alike are joined."""
    wide = [(1,) * (len(shape) - len(v.shape)) + v.shape for v in (a, b)]
    groups: list[list[int]] = []
    last: list[bool] = []
    for axis in (axis for axis in range(len(shape)) if shape[axis] > 1):
        full = [each[axis] == shape[axis] for each in wide]
        if groups and full == last:
            groups[-1].append(axis)
        else:
            groups.append([axis])
        last = full
    if len(groups) > WIDE:
        raise refused(
            f"{operator} over shapes {a.shape} and {b.shape}",
            f"its kernel broadcasts over {WIDE} axes",
            "fewer axes in the program",
        )
    joined = [
        _shaped(graph, value, [int(np.prod([each[axis] for axis in group])) for group in groups])
        for value, each in zip((a, b), wide, strict=True)
    ]
    narrow = [int(np.prod([shape[axis] for axis in group])) for group in groups]
    return graph.reshape(graph.node(operator, joined, narrow, dtype=dtype, kind=kind), shape)


def _shaped(graph: Graph, value: Value, shape: Sequence[int]) -> Value:
    if value.array is not None:
        return graph.constant(value.array.reshape(shape), value.scale)
    return graph.reshape(value, shape)


def placed(
    graph: Graph,
    x: Value,
    taps: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    pad: Sequence[int],
    value: float | None = None,
) -> tuple[Value, list[int], int]:
    """The input of a kernel over places, padded where "SAME" does not say it.

    Args:
        value: of the padding; None for zero (of int8, the zero point).

    Returns: the input, the places that come out, the number of the padding in the schema.
    """
    places = list(x.shape[1:3])
    sizes = [
        (places[i] + pad[i] + pad[2 + i] - (taps[i] - 1) * dilation[i] - 1) // stride[i] + 1
        for i in range(2)
    ]
    if not any(pad):
        return x, sizes, 1
    if list(pad) == same_pad(places, taps, stride, dilation) and sizes == [
        -(-place // step) for place, step in zip(places, stride, strict=True)
    ]:
        return x, sizes, 0
    top, left, bottom, right = pad
    return padded(graph, x, [[0, 0], [top, bottom], [left, right], [0, 0]], value), sizes, 1


def padded(graph: Graph, x: Value, pairs: Sequence[Sequence[int]], value: float | None) -> Value:
    """One value (None: zero) before and after along every axis."""
    shape = [n + int(b) + int(a) for n, (b, a) in zip(x.shape, pairs, strict=True)]
    edges = graph.constant(np.array(pairs, np.int32))
    if value is None:
        return graph.node("PAD", [x, edges], shape, kind="Pad")
    fill = graph.constant(np.array([value], x.dtype), x.scale)
    return graph.node("PADV2", [x, edges, fill], shape, kind="PadV2")


def convolved(
    graph: Graph,
    x: Value,
    weight: Array,
    bias: Value,
    *,
    weight_scale: Array | None = None,
    scale: Scale | None = None,
    stride: Sequence[int] = (1, 1),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    pad: Sequence[int] = (0, 0, 0, 0),
    fused: int = 0,
) -> Value:
    """x (1, h, w, c_in), weight (c_out, kh, kw, c_in / groups) -> (1, h, w, c_out)."""
    c_out, *taps, c_in = weight.shape
    x, sizes, padding = placed(graph, x, taps, stride, dilation, pad)
    options = {
        "padding": padding,
        "strideH": int(stride[0]),
        "strideW": int(stride[1]),
        "dilationHFactor": int(dilation[0]),
        "dilationWFactor": int(dilation[1]),
        "fusedActivationFunction": fused,
    }
    deep = groups > 1 and c_in == 1
    kernels = np.ascontiguousarray(weight.transpose(3, 1, 2, 0)) if deep else weight
    told = None
    if weight_scale is not None:
        told = Scale(tuple(weight_scale.astype(float).tolist()), 0, 3 if deep else 0)
    if deep:
        options["depthMultiplier"] = c_out // groups
    return graph.node(
        "DEPTHWISE_CONV_2D" if deep else "CONV_2D",
        [x, graph.constant(kernels, told), bias],
        (1, *sizes, c_out),
        scale=scale,
        kind="DepthwiseConv2D" if deep else "Conv2D",
        **options,
    )
