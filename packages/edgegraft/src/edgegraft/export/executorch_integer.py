"""Integer primitives for ExecuTorch: the pattern that it reads as eight bits.

An int8 value is dequantised, computed with and quantised again, with the scales of the program;
XNNPACK turns the three into one integer kernel. Where it has none, ExecuTorch's portable kernels
compute the three as they stand, in float32. Rounding is then to nearest, halves to even, after a
product in float, where the reference rounds twice in integers: values may differ by one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.ao.quantization.fx import _decomposed  # noqa: F401  (registers quantized_decomposed)
from torch.nn import functional

from edgegraft.export.executorch_network import Emit, Network, Value, fixed
from edgegraft_edge.integer import HIGHEST, LOWEST, SOFTMAX_SCALE, SOFTMAX_ZERO, patches
from edgegraft_edge.signal import Array


def _quantized(x: Tensor, scale: float, zero: int, first: bool = False) -> Value:
    eight = torch.ops.quantized_decomposed.quantize_per_tensor.default(
        x, scale, zero, LOWEST, HIGHEST, torch.int8
    )
    return Value(eight, first, scale, zero)


def _real(eight: Tensor, scale: float, zero: int) -> Tensor:
    found: Tensor = torch.ops.quantized_decomposed.dequantize_per_tensor.default(
        eight, scale, zero, LOWEST, HIGHEST, torch.int8
    )
    return found


def _read(x: Value, scale: float, zero: int, *, order: str = "tensor") -> Tensor:
    """An int8 value as the one who reads it understands its steps; `order` is a part of `Value`.

    XNNPACK knows one scale of a value, that of its writer; another one is put in by arithmetic.
    """
    eight: Tensor = getattr(x, order)
    if x.scale is None or (x.scale, x.zero) == (scale, zero):
        return _real(eight, scale, zero)
    steps = _real(eight, x.scale, x.zero) * (1 / x.scale) + x.zero
    return (steps - zero) * scale


def _real_weight(network: Network, weight: Array, weight_scale: Array) -> Tensor:
    zeros = np.zeros(len(weight), np.int64)
    parts = (network.keep(part) for part in (weight, weight_scale.astype(np.float32), zeros))
    found: Tensor = torch.ops.quantized_decomposed.dequantize_per_channel.default(
        *parts, 0, -HIGHEST, HIGHEST, torch.int8
    )
    return found


def _real_bias(network: Network, bias: Array, x_scale: float, weight_scale: Array) -> Tensor:
    steps = float(x_scale) * weight_scale.astype(np.float64)
    return network.keep((bias * steps).astype(np.float32))


def _padded(real: Tensor, pad: Sequence[int], scale: float, zero: int) -> Tensor:
    """Zeros around (n, c, h, w), on int8 values; `pad` is top, left, bottom, right."""
    top, left, bottom, right = pad
    wide = functional.pad(real, (left, right, top, bottom))
    return _real(_quantized(wide, scale, zero).tensor, scale, zero)


def _cut(x: Tensor, scale: float, zero: int, low: int, high: int) -> Tensor:
    """Bounds in steps, as an activation before the value becomes int8."""
    if (low, high) == (LOWEST, HIGHEST):
        return x
    if (low, high) == (zero, HIGHEST):
        return functional.relu(x)
    return functional.hardtanh(x, (low - zero) * scale, (high - zero) * scale)


def kept(kind: str, emit: Emit) -> Emit:
    """A primitive that takes int8 too: it gives values of the scale that it was given."""

    def on_either(network: Network, *inputs: Value | Array, **attrs: Any) -> Value:
        x = inputs[0]
        if not isinstance(x, Value) or x.tensor.dtype != torch.int8:
            return emit(network, *inputs, **attrs)
        if x.scale is None or kind not in _SHARED:
            found = emit(network, *inputs, **attrs)
            return Value(found.tensor, found.first, x.scale, x.zero)
        if kind == "pad":
            attrs["value"] = (attrs.get("value", 0) - x.zero) * x.scale
        given = [
            Value(_real(one.tensor, x.scale, x.zero), one.first) if isinstance(one, Value) else one
            for one in inputs
        ]
        found = emit(network, *given, **attrs)
        return _quantized(found.tensor, x.scale, x.zero, found.first)

    return on_either


_SHARED = ("max_pool2d_last", "reshape", "transpose", "slice", "pad", "concat")
"""What XNNPACK moves as int8 when it stands between `_real` and `_quantized`."""


def _quantize(network: Network, x: Value, *, scale: float, zero: int) -> Value:
    return _quantized(x.tensor, scale, zero, x.first)


def _dequantize(network: Network, x: Value, *, scale: float, zero: int) -> Value:
    return Value(_read(x, scale, zero), x.first)


def _requantize(
    network: Network, x: Value, *, x_scale: float, x_zero: int, scale: float, zero: int
) -> Value:
    return _quantized(_read(x, x_scale, x_zero), scale, zero, x.first)


def _conv2d(
    network: Network,
    x: Value,
    weight: Value | Array,
    bias: Value | Array,
    weight_scale: Value | Array,
    *,
    x_scale: float,
    x_zero: int,
    scale: float,
    zero: int,
    low: int = LOWEST,
    high: int = HIGHEST,
    stride: Sequence[int] = (1, 1),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    pad: Sequence[int] = (0, 0, 0, 0),
) -> Value:
    kernels, offsets, each = (fixed(part, "int8 weights") for part in (weight, bias, weight_scale))
    real = _read(x, x_scale, x_zero, order="channels_first")
    top, left, bottom, right = pad
    around = (top, left)
    if around != (bottom, right):
        real, around = _padded(real, pad, x_scale, x_zero), (0, 0)
    found = functional.conv2d(
        real,
        _real_weight(network, kernels.transpose(0, 3, 1, 2), each),
        _real_bias(network, offsets, x_scale, each),
        tuple(stride),
        around,
        tuple(dilation),
        groups,
    )
    return _quantized(_cut(found, scale, zero, low, high), scale, zero, first=True)


def _dense(
    network: Network,
    x: Value,
    weight: Value | Array,
    bias: Value | Array,
    weight_scale: Value | Array,
    *,
    x_scale: float,
    x_zero: int,
    scale: float,
    zero: int,
    low: int = LOWEST,
    high: int = HIGHEST,
) -> Value:
    kernels, offsets, each = (fixed(part, "int8 weights") for part in (weight, bias, weight_scale))
    found = functional.linear(
        _read(x, x_scale, x_zero, order="plain"),
        _real_weight(network, kernels, each),
        _real_bias(network, offsets, x_scale, each),
    )
    return _quantized(_cut(found, scale, zero, low, high), scale, zero)


def _two(
    function: Callable[[Tensor, Tensor], Tensor],
    network: Network,
    a: Value | Array,
    b: Value | Array,
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
    sides = [x if isinstance(x, Value) else Value(network.keep(x)) for x in (a, b)]
    first = all(x.first for x in sides)
    order = "tensor" if first else "plain"
    one = _read(sides[0], a_scale, a_zero, order=order)
    found = function(one, _read(sides[1], b_scale, b_zero, order=order))
    return _quantized(_cut(found, scale, zero, low, high), scale, zero, first)


def _mean(
    network: Network,
    x: Value,
    *,
    axes: Sequence[int],
    x_scale: float,
    x_zero: int,
    scale: float,
    zero: int,
    keepdims: bool = True,
) -> Value:
    places = sorted(x.axis(axis) for axis in axes)
    found = _read(x, x_scale, x_zero).mean(places, keepdim=True)
    eight = _quantized(found, scale, zero, x.first)
    if keepdims:
        return eight
    plain = eight.plain
    gone = {axis % plain.ndim for axis in axes}
    shape = [size for axis, size in enumerate(plain.shape) if axis not in gone]
    return Value(plain.reshape(shape), False, scale, zero)


def _average_pool(
    network: Network,
    x: Value,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int] = (0, 0, 0, 0),
    low: int = LOWEST,
    high: int = HIGHEST,
) -> Value:
    """Padding counts for nothing: each mean is divided by the share of its patch that is there."""
    scale, zero = (1.0, 0) if x.scale is None else (x.scale, x.zero)
    top, left, bottom, right = pad
    real = _real(x.channels_first, scale, zero)
    if any(pad):
        ones = np.ones((1, *real.shape[2:], 1), np.float32)
        ones = np.pad(ones, ((0, 0), (top, bottom), (left, right), (0, 0)))
        shares = patches(ones, (kernel[0], kernel[1]), (stride[0], stride[1])).mean(axis=(4, 5))
        real = _padded(real, pad, scale, zero)
        real = functional.avg_pool2d(real, tuple(kernel), tuple(stride))
        real = real / network.keep(shares.transpose(0, 3, 1, 2).astype(np.float32))
    else:
        real = functional.avg_pool2d(real, tuple(kernel), tuple(stride))
    return _quantized(_cut(real, scale, zero, low, high), scale, zero, first=True)


def _table(network: Network, x: Value, table: Value | Array) -> Value:
    """Exact: the entry of each value, as it stands in the program."""
    entries = network.keep(fixed(table, "tables"))
    places = (x.tensor.long() - LOWEST).reshape(-1)
    return Value(entries.index_select(0, places).reshape(x.tensor.shape), x.first)


def _softmax(network: Network, x: Value, *, x_scale: float) -> Value:
    zero = x.zero  # it falls out, but the kernel wants that of the writer
    found = torch.softmax(_read(x, x_scale, zero, order="plain"), dim=-1)
    return _quantized(found, SOFTMAX_SCALE, SOFTMAX_ZERO)


INTEGER_EMITTERS: Mapping[str, Emit] = MappingProxyType(
    {
        "quantize": _quantize,
        "dequantize": _dequantize,
        "requantize": _requantize,
        "conv2d_int8": _conv2d,
        "dense_int8": _dense,
        "add_int8": partial(_two, torch.add),
        "mul_int8": partial(_two, torch.mul),
        "mean_int8": _mean,
        "average_pool_int8": _average_pool,
        "table_int8": _table,
        "softmax_int8": _softmax,
    }
)
