"""Integer primitives as ONNX operators: the same int8 values as the program, to within one step.

Convolutions and matrices are QLinearConv, so that a runtime uses its integer kernels. Sums and
products of two values are written as a runtime expects them, dequantised, computed, quantised;
it joins the three into one integer kernel. Runtimes round once and halves to even where the
reference rounds in fixed point: that is the step. Tables and softmax are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from edgegraft.export.onnx_operators import Graph
from edgegraft_edge.integer import HIGHEST, LOWEST, SOFTMAX_ZERO, exponentials

_INT8, _INT32, _INT64 = 3, 6, 7  # numbers of ONNX for types


def _scale(graph: Graph, scale: float) -> str:
    return graph.constant(np.float32(scale))


def _zero(graph: Graph, zero: int) -> str:
    return graph.constant(np.int8(zero))


def _quantize(graph: Graph, x: str, *, scale: float, zero: int) -> str:
    return graph.node("QuantizeLinear", x, _scale(graph, scale), _zero(graph, zero))


def _dequantize(graph: Graph, q: str, *, scale: float, zero: int) -> str:
    return graph.node("DequantizeLinear", q, _scale(graph, scale), _zero(graph, zero))


def _requantize(
    graph: Graph, q: str, *, x_scale: float, x_zero: int, scale: float, zero: int
) -> str:
    real = _dequantize(graph, q, scale=x_scale, zero=x_zero)
    return _quantize(graph, real, scale=scale, zero=zero)


def _held(graph: Graph, x: str, low: int, high: int) -> str:
    if low <= LOWEST and high >= HIGHEST:
        return x
    return graph.node("Clip", x, graph.constant(np.int8(low)), graph.constant(np.int8(high)))


def _linear(
    graph: Graph,
    x: str,
    kernels: str,
    bias: str,
    weight_scale: str,
    scales: Mapping[str, Any],
    **conv: Any,
) -> str:
    """QLinearConv over (n, c, ...); `scales` as in the primitive."""
    zeros = np.zeros(graph.arrays[weight_scale].shape, np.int8)
    found = graph.node(
        "QLinearConv",
        x,
        _scale(graph, scales["x_scale"]),
        _zero(graph, scales["x_zero"]),
        kernels,
        weight_scale,
        graph.constant(zeros),
        _scale(graph, scales["scale"]),
        _zero(graph, scales["zero"]),
        bias,
        **conv,
    )
    return _held(graph, found, scales.get("low", LOWEST), scales.get("high", HIGHEST))


def _conv2d(
    graph: Graph,
    x: str,
    weight: str,
    bias: str,
    weight_scale: str,
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
    **scales: Any,
) -> str:
    kernels = graph.array(weight, "weights of a convolution").transpose(0, 3, 1, 2)
    first = graph.node("Transpose", x, perm=[0, 3, 1, 2])
    found = _linear(
        graph, first, graph.constant(kernels), bias, weight_scale, scales,
        strides=list(stride), dilations=list(dilation), group=groups, pads=list(pad),
    )  # fmt: skip
    return graph.node("Transpose", found, perm=[0, 2, 3, 1])


def _dense(graph: Graph, x: str, weight: str, bias: str, weight_scale: str, **scales: Any) -> str:
    """A convolution of one tap: the operator for matrices takes no bias."""
    matrix = graph.array(weight, "weights of a matrix")
    n_out, n_in = matrix.shape
    rows = graph.shapes[x][1:-1]
    tall = graph.node("Reshape", x, graph.constant([0, -1, n_in, 1]))
    wide = graph.node("Transpose", tall, perm=[0, 2, 1, 3])
    kernels = graph.constant(matrix.reshape(n_out, n_in, 1, 1))
    found = _linear(graph, wide, kernels, bias, weight_scale, scales)
    back = graph.node("Transpose", found, perm=[0, 2, 1, 3])
    return graph.node("Reshape", back, graph.constant([0, *rows, n_out]))


def _two(operator: str) -> Callable[..., str]:
    def emit_two(
        graph: Graph,
        a: str,
        b: str,
        *,
        a_scale: float,
        a_zero: int,
        b_scale: float,
        b_zero: int,
        scale: float,
        zero: int,
        low: int = LOWEST,
        high: int = HIGHEST,
    ) -> str:
        one = _dequantize(graph, a, scale=a_scale, zero=a_zero)
        other = _dequantize(graph, b, scale=b_scale, zero=b_zero)
        found = _quantize(graph, graph.node(operator, one, other), scale=scale, zero=zero)
        return _held(graph, found, low, high)

    return emit_two


def _mean(
    graph: Graph,
    x: str,
    *,
    axes: list[int],
    x_scale: float,
    x_zero: int,
    scale: float,
    zero: int,
    keepdims: bool = True,
) -> str:
    real = _dequantize(graph, x, scale=x_scale, zero=x_zero)
    mean = graph.node("ReduceMean", real, graph.constant(list(axes)), keepdims=int(keepdims))
    return _quantize(graph, mean, scale=scale, zero=zero)


def _average_pool(
    graph: Graph,
    x: str,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
    low: int = LOWEST,
    high: int = HIGHEST,
) -> str:
    """Over whole numbers as floats, which is exact; halves away from zero as the reference."""
    real = graph.node("Cast", graph.node("Transpose", x, perm=[0, 3, 1, 2]), to=1)
    mean = graph.node(
        "AveragePool",
        real,
        kernel_shape=list(kernel),
        strides=list(stride),
        pads=list(pad),
        count_include_pad=0,
    )
    half = graph.node("Mul", graph.node("Sign", mean), graph.constant(np.float32(0.5)))
    whole = graph.node("Cast", graph.node("Add", mean, half), to=_INT32)  # towards zero
    found = graph.node("Cast", whole, to=_INT8)
    return _held(graph, graph.node("Transpose", found, perm=[0, 2, 3, 1]), low, high)


def _table(graph: Graph, x: str, table: str) -> str:
    place = graph.node("Cast", x, to=_INT32)
    place = graph.node("Sub", place, graph.constant(np.int32(LOWEST)))
    return graph.node("Gather", table, place, axis=0)


def _softmax(graph: Graph, x: str, *, x_scale: float) -> str:
    """In whole numbers, as the reference: exponentials by table, divided with rounding."""
    steps = graph.node("Cast", x, to=_INT64)
    last = graph.constant([-1])
    away = graph.node("Sub", graph.node("ReduceMax", steps, last, keepdims=1), steps)
    each = graph.node("Gather", graph.constant(exponentials(x_scale)), away, axis=0)
    total = graph.node("ReduceSum", each, last, keepdims=1)
    half = graph.node("Div", total, graph.constant(2))
    share = graph.node("Add", graph.node("Mul", each, graph.constant(256)), half)
    found = graph.node("Div", share, total)
    found = graph.node("Add", found, graph.constant(SOFTMAX_ZERO))
    found = graph.node("Min", found, graph.constant(HIGHEST))
    return graph.node("Cast", found, to=_INT8)


INTEGER_EMITTERS: Mapping[str, Callable[..., str]] = MappingProxyType(
    {
        "quantize": _quantize,
        "dequantize": _dequantize,
        "requantize": _requantize,
        "conv2d_int8": _conv2d,
        "dense_int8": _dense,
        "add_int8": _two("Add"),
        "mul_int8": _two("Mul"),
        "mean_int8": _mean,
        "average_pool_int8": _average_pool,
        "table_int8": _table,
        "softmax_int8": _softmax,
    }
)
"""Integer primitive -> what writes it into a graph; the same keys as `INTEGER`."""
