"""Integer operations that are kernels of the C library, with multipliers derived here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgegraft.export.c.body import Body, Value
from edgegraft.export.c.expression import Expression
from edgegraft.export.c.float_kernels import constant, shape_of
from edgegraft.passes.trace import Form
from edgegraft_edge.errors import ExportError
from edgegraft_edge.integer import exponentials, fixed_points
from edgegraft_edge.signal import Array

_INT32 = (1 << 31) - 1
_MAX_CLASSES = 2000
_RAISED = -128
LANES, _GROUP, _PATCHES = 16, 4, 8  # as in edgegraft.h


def blocks(weight: Array) -> Array:
    """Weights (c_out, ...) in blocks of 16 output channels by 4 values, filled up with zeros.

    >>> blocks(np.ones((3, 5), np.int8)).shape
    (1, 2, 16, 4)
    """
    flat = weight.reshape(len(weight), -1)
    wide = np.pad(flat, ((0, -len(flat) % LANES), (0, -flat.shape[1] % _GROUP)))
    parts = wide.reshape(len(wide) // LANES, LANES, -1, _GROUP)
    return np.ascontiguousarray(parts.transpose(0, 2, 1, 3))


def _patches_bytes(inner: int) -> int:
    return _PATCHES * -(-inner // _GROUP) * _GROUP


def checked_shift(largest: int, shift: int, kind: str) -> None:
    """Errors: `ExportError` when a sum of that size, shifted left, would leave 32 bits."""
    if largest << max(shift, 0) > _INT32:
        raise ExportError.of(
            "export-c-overflow",
            f"{kind} with sums up to {largest:,} and a shift of {shift}",
            "they do not fit into 32 bits",
            "weights and biases within the range of their values, quantised again",
        )


def _weights(
    body: Body,
    kind: str,
    weight: Array,
    laid: Array,
    bias: Array,
    weight_scale: Array,
    folded: int | None,
    *,
    x_scale: float,
    x_zero: int,
    scale: float,
    zero: int,
    low: int,
    high: int,
) -> str:
    """The constant ``eg_weights_s8``; checks that no sum can overflow.

    `folded` is what the kernel takes off each value: its zero point where that is not part of
    the bias (None), 0 where it is, -128 where the values are raised to 0..255 besides.
    """
    flat = weight.reshape(len(weight), -1).astype(np.int64)
    added = bias.astype(np.int64)
    if folded is None:
        reach = max(128 + int(x_zero), 127 - int(x_zero))
    else:
        added = added - (int(x_zero) - folded) * flat.sum(axis=1)
        reach = 128 if folded == 0 else 255
    partial = np.abs(added) + reach * np.abs(flat).sum(axis=1)
    factors = float(x_scale) * weight_scale.astype(np.float64) / float(scale)
    multipliers, shifts = fixed_points(factors)
    for largest, shift in zip(partial.tolist(), shifts.tolist(), strict=True):
        checked_shift(largest, shift, kind)
    fill = -len(weight) % LANES if body.blocks else 0
    lists = (("bias", added), ("multiplier", multipliers), ("shift", shifts))
    fields: dict[str, object] = {"weight": body.constants.array(laid, "int8")}
    for name, values in lists:
        dtype = "int8" if name == "shift" else "int32"
        fields[name] = body.constants.array(np.pad(values, (0, fill)), dtype)
    numbers = {"x_zero": x_zero, "zero": zero, "low": low, "high": high}
    fields |= {name: int(value) for name, value in numbers.items()}
    return "&" + body.constants.structure("eg_weights_s8", fields)


def conv2d_int8(
    body: Body,
    form: Form,
    x: Value,
    weight: Value,
    bias: Value,
    weight_scale: Value,
    *,
    x_scale: float,
    x_zero: int,
    scale: float,
    zero: int,
    low: int = -128,
    high: int = 127,
    stride: Sequence[int] = (1, 1),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    pad: Sequence[int] = (0, 0, 0, 0),
) -> Expression:
    value = body.dense(x, "int8")
    kernels, added, scales = (constant(v, "conv2d_int8") for v in (weight, bias, weight_scale))
    c_out, *taps, inner = kernels.shape
    depthwise = inner == 1 and groups == c_out == value.shape[3]
    in_blocks = body.blocks and groups == 1 and not depthwise
    laid, folded = kernels, 0 if not depthwise else None
    if depthwise:
        laid = kernels[..., 0].transpose(1, 2, 0)
    elif in_blocks:
        laid, folded = blocks(kernels), _RAISED
    name = _weights(
        body, "conv2d_int8", kernels, laid, added, scales, folded,
        x_scale=x_scale, x_zero=x_zero, scale=scale, zero=zero, low=low, high=high,
    )  # fmt: skip
    shape = shape_of(body, form, value, taps, stride, dilation, groups, pad)
    out = body.buffer("int8_t", form.shape)
    if depthwise:
        function = "eg_depthwise_blocks_s8" if body.blocks else "eg_depthwise_s8"
        body.call(function, [shape, name, value, out], [value], out)
        return out
    if in_blocks:
        places = -(-form.shape[2] // _PATCHES) * _PATCHES
        read = max((places - 1) * stride[1] + taps[1], int(pad[1]) + value.shape[2])
        scratch = max(_patches_bytes(taps[0] * taps[1] * inner), read * inner + _GROUP)
        arguments = [shape, name, value, out, "@scratch"]
        body.call("eg_conv_blocks_s8", arguments, [value], out, scratch_bytes=scratch)
        return out
    near = taps[0] == 1 and (taps[1] == 1 or dilation[1] == 1)
    in_place = near and groups == 1 and not any(pad)  # every patch is read where it lies
    scratch = 0 if in_place else 2 * taps[0] * taps[1] * inner
    body.call(
        "eg_conv_s8", [shape, name, value, out, "@scratch"], [value], out, scratch_bytes=scratch
    )
    return out


def dense_int8(
    body: Body,
    form: Form,
    x: Value,
    weight: Value,
    bias: Value,
    weight_scale: Value,
    *,
    x_scale: float,
    x_zero: int,
    scale: float,
    zero: int,
    low: int = -128,
    high: int = 127,
) -> Expression:
    value = body.dense(x, "int8")
    kernels, added, scales = (constant(v, "dense_int8") for v in (weight, bias, weight_scale))
    laid, folded = (blocks(kernels), _RAISED) if body.blocks else (kernels, 0)
    name = _weights(
        body, "dense_int8", kernels, laid, added, scales, folded,
        x_scale=x_scale, x_zero=x_zero, scale=scale, zero=zero, low=low, high=high,
    )  # fmt: skip
    columns, inner = kernels.shape
    out = body.buffer("int8_t", form.shape)
    arguments = [name, value, out, value.size // inner, inner, columns]
    if body.blocks:
        scratch = _patches_bytes(inner)
        arguments.append("@scratch")
        body.call("eg_dense_blocks_s8", arguments, [value], out, scratch_bytes=scratch)
    else:
        body.call("eg_dense_s8", arguments, [value], out)
    return out


def max_pool2d_last(
    body: Body,
    form: Form,
    x: Value,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int] = (0, 0, 0, 0),
) -> Expression:
    value = body.dense(x)
    shape = shape_of(body, form, value, kernel, stride, pad=pad)
    out = body.buffer(value.ctype, form.shape)
    kind = "f32" if value.ctype == "float" else "s8"
    body.call(f"eg_max_pool_{kind}", [shape, value, out], [value], out)
    return out


def average_pool_int8(
    body: Body,
    form: Form,
    x: Value,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int] = (0, 0, 0, 0),
    low: int = -128,
    high: int = 127,
) -> Expression:
    value = body.dense(x, "int8")
    shape = shape_of(body, form, value, kernel, stride, pad=pad)
    out = body.buffer("int8_t", form.shape)
    body.call("eg_average_pool_s8", [shape, value, out, int(low), int(high)], [value], out)
    return out


def softmax_int8(body: Body, form: Form, x: Value, *, x_scale: float) -> Expression:
    value = body.dense(x, "int8")
    n = form.shape[-1]
    if n > _MAX_CLASSES:
        raise ExportError.of(
            "export-c-overflow",
            f"a softmax over {n:,} classes",
            f"sums of {_MAX_CLASSES:,} exponentials fit into 32 bits",
            "the float model, or fewer classes",
        )
    table = body.constants.array(exponentials(x_scale), "int32")
    out = body.buffer("int8_t", form.shape)
    body.call("eg_softmax_s8", [value, out, table, value.size // n, n], [value], out)
    return out
