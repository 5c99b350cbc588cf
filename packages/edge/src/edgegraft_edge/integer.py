"""Integer primitives: what an 8-bit network computes, bit for bit, in NumPy.

Values are int8 with a scale and a zero point, ``real = scale * (q - zero)``; weights are
symmetric with one scale for each output channel; sums are int32. A sum becomes int8 again by a
fixed-point multiplication: a 32-bit factor and a shift that both follow from the scales, so a
program holds scales only and every runtime derives the same integers. Channels come last, as
integer kernels want them.

These functions are the reference: the C of a microcontroller must give the same bits.
Convolutions round twice (`scaled`) and matrices once (`scaled_once`), each as LiteRT's reference
kernel of that operator does: a network of ten matrices drifts by two steps otherwise.

Sources: Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference, CVPR 2018; the rounding (twice, halves away from zero and then
to nearest) is that of the reference kernels of TensorFlow Lite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import frexp
from types import MappingProxyType

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgegraft_edge.signal import Array

LOWEST, HIGHEST = -128, 127
SOFTMAX_SCALE, SOFTMAX_ZERO = 1 / 256, -128
_EXACT_FLOAT32 = (1 << 24) // (255 * 128)  # products of so many int8 pairs sum without rounding
_ADD_SHIFT = 20
_EXP_BITS = 20


def fixed_point(real: float) -> tuple[int, int]:
    """A factor as (multiplier, shift): ``real = multiplier * 2**(shift - 31)``, 0 <= real.

    >>> fixed_point(0.25)
    (1073741824, -1)
    """
    if real == 0.0:
        return 0, 0
    fraction, shift = frexp(real)
    multiplier = int(np.floor(fraction * (1 << 31) + 0.5))
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    if shift < -31:
        return 0, 0
    if shift > 30:
        return (1 << 31) - 1, 30
    return multiplier, shift


def fixed_points(reals: Sequence[float] | Array) -> tuple[Array, Array]:
    """Factors as int64 arrays (multipliers, shifts)."""
    pairs = [fixed_point(float(real)) for real in np.ravel(reals)]
    multipliers, shifts = zip(*pairs, strict=True)
    return np.array(multipliers, np.int64), np.array(shifts, np.int64)


def scaled(x: Array, multiplier: Array | int, shift: Array | int) -> Array:
    """``x * multiplier * 2**(shift - 31)`` in integers, rounded as the reference does.

    Args:
        x: integers of up to 32 bits, any shape; multiplier and shift broadcast with it.

    Returns: int64 of that shape.
    """
    shift = np.asarray(shift, np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    product = (np.asarray(x, np.int64) << left) * np.asarray(multiplier, np.int64)
    product += np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.where(product >= 0, product >> 31, -((-product) >> 31))  # towards zero
    mask = (np.int64(1) << right) - 1
    threshold = (mask >> 1) + (high < 0)
    return np.asarray((high >> right) + ((high & mask) > threshold))


def scaled_once(x: Array, multiplier: Array | int, shift: Array | int) -> Array:
    """``x * multiplier * 2**(shift - 31)`` in integers, rounded once, halves away from zero.

    Args:
        x: integers of up to 32 bits, any shape; multiplier and shift broadcast with it.

    Returns: int64 of that shape.

    >>> scaled_once(np.array([-3, -1, 1, 3]), *fixed_point(0.5)).tolist()
    [-2, -1, 1, 2]
    """
    x, right = np.asarray(x, np.int64), 31 - np.asarray(shift, np.int64)
    product = np.abs(x) * np.asarray(multiplier, np.int64) + (np.int64(1) << (right - 1))
    return np.asarray(np.sign(x) * (product >> right))


def _bounded(x: Array, low: int, high: int) -> Array:
    return np.clip(x, low, high).astype(np.int8)


def quantize(x: Array, *, scale: float, zero: int) -> Array:
    """float32 -> int8, halves away from zero; NaN gives the zero point.

    >>> quantize(np.float32([0.0, 1.0, -99.0]), scale=0.5, zero=3).tolist()
    [3, 5, -128]
    """
    steps = np.nan_to_num(np.asarray(x, np.float32) / np.float32(scale), posinf=1e9, neginf=-1e9)
    steps = np.clip(steps, -1e9, 1e9).astype(np.float64)
    whole = np.copysign(np.floor(np.abs(steps) + 0.5), steps)
    return _bounded(whole + zero, LOWEST, HIGHEST)


def dequantize(q: Array, *, scale: float, zero: int) -> Array:
    """int8 -> float32."""
    return np.asarray((q.astype(np.int32) - zero).astype(np.float32) * np.float32(scale))


def requantize(q: Array, *, x_scale: float, x_zero: int, scale: float, zero: int) -> Array:
    """int8 -> int8 of another scale."""
    multiplier, shift = fixed_point(x_scale / scale)
    return _bounded(scaled(q.astype(np.int64) - x_zero, multiplier, shift) + zero, LOWEST, HIGHEST)


def conv2d_int8(
    x: Array,
    weight: Array,
    bias: Array,
    weight_scale: Array,
    *,
    x_scale: float,
    x_zero: int,
    scale: float,
    zero: int,
    low: int = LOWEST,
    high: int = HIGHEST,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Array:
    """x int8 (n, h, w, c_in) -> int8 (n, h, w, c_out); `pad` is top, left, bottom, right.

    weight int8 (c_out, kh, kw, c_in / groups), bias int32 (c_out,) in steps of
    ``x_scale * weight_scale``, weight_scale float32 (c_out,). `low` and `high` bound the output:
    an activation that only cuts costs nothing.
    """
    sums = convolve_last(x, weight, -float(x_zero), stride, dilation, groups, pad) + bias
    factors = float(x_scale) * weight_scale.astype(np.float64) / float(scale)
    return _bounded(scaled(sums, *fixed_points(factors)) + zero, low, high)


def convolve_last(
    x: Array,
    weight: Array,
    offset: float,
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    pad: Sequence[int],
) -> Array:
    """Exact sums int64 of a convolution over int8 values plus `offset`; padding adds nothing."""
    c_out, *taps, c_in = weight.shape
    exact: type = np.float32 if taps[0] * taps[1] * c_in <= _EXACT_FLOAT32 else np.float64
    top, left, bottom, right = pad
    values = x.astype(exact) + exact(offset)
    if any(pad):
        values = np.pad(values, ((0, 0), (top, bottom), (left, right), (0, 0)))
    kernels: Array = weight.astype(exact)
    rows, columns = ((n - 1) * d + 1 for n, d in zip(taps, dilation, strict=True))
    height = (values.shape[1] - rows) // stride[0] + 1
    width = (values.shape[2] - columns) // stride[1] + 1
    sums = np.zeros((len(x), height, width, c_out), exact)
    for i in range(taps[0]):
        for j in range(taps[1]):
            first, left_most = i * dilation[0], j * dilation[1]
            seen = values[
                :,
                first : first + (height - 1) * stride[0] + 1 : stride[0],
                left_most : left_most + (width - 1) * stride[1] + 1 : stride[1],
            ]
            if groups == c_out == values.shape[3] and c_in == 1:
                sums += seen * kernels[:, i, j, 0]
            else:
                parts = np.split(seen, groups, axis=3)
                each = np.split(kernels[:, i, j], groups, axis=0)
                found = [part @ kernel.T for part, kernel in zip(parts, each, strict=True)]
                sums += np.concatenate(found, axis=3) if groups > 1 else found[0]
    return sums.astype(np.int64)


def dense_int8(
    x: Array,
    weight: Array,
    bias: Array,
    weight_scale: Array,
    *,
    x_scale: float,
    x_zero: int,
    scale: float,
    zero: int,
    low: int = LOWEST,
    high: int = HIGHEST,
) -> Array:
    """x int8 (n, ..., c_in) -> int8 (n, ..., c_out); weight int8 (c_out, c_in).

    The rest is as in `conv2d_int8`, but for the rounding: once.
    """
    exact: type = np.float32 if weight.shape[1] <= _EXACT_FLOAT32 else np.float64
    sums = (x.astype(exact) - exact(x_zero)) @ weight.T.astype(exact)
    factors = float(x_scale) * weight_scale.astype(np.float64) / float(scale)
    found = scaled_once(sums.astype(np.int64) + bias, *fixed_points(factors))
    return _bounded(found + zero, low, high)


def add_int8(
    a: Array,
    b: Array,
    *,
    a_scale: float,
    a_zero: int,
    b_scale: float,
    b_zero: int,
    scale: float,
    zero: int,
    low: int = LOWEST,
    high: int = HIGHEST,
) -> Array:
    """int8 + int8 -> int8, each with a scale of its own."""
    (a_factor, a_shift), (b_factor, b_shift), (factor, shift) = add_factors(a_scale, b_scale, scale)
    one = scaled((a.astype(np.int64) - a_zero) << _ADD_SHIFT, a_factor, a_shift)
    other = scaled((b.astype(np.int64) - b_zero) << _ADD_SHIFT, b_factor, b_shift)
    return _bounded(scaled(one + other, factor, shift) + zero, low, high)


def add_factors(a_scale: float, b_scale: float, scale: float) -> tuple[tuple[int, int], ...]:
    """(multiplier, shift) of both terms, shifted left by 20 bits, and of their sum."""
    twice = 2.0 * max(a_scale, b_scale)
    factors = (a_scale / twice, b_scale / twice, twice / ((1 << _ADD_SHIFT) * scale))
    return tuple(fixed_point(factor) for factor in factors)


def mul_int8(
    a: Array,
    b: Array,
    *,
    a_scale: float,
    a_zero: int,
    b_scale: float,
    b_zero: int,
    scale: float,
    zero: int,
    low: int = LOWEST,
    high: int = HIGHEST,
) -> Array:
    """int8 * int8 -> int8, each with a scale of its own; shapes broadcast."""
    multiplier, shift = fixed_point(float(a_scale) * b_scale / scale)
    product = (a.astype(np.int64) - a_zero) * (b.astype(np.int64) - b_zero)
    return _bounded(scaled(product, multiplier, shift) + zero, low, high)


def mean_int8(
    x: Array,
    *,
    axes: Sequence[int],
    x_scale: float,
    x_zero: int,
    scale: float,
    zero: int,
    keepdims: bool = True,
) -> Array:
    """Mean of int8 values over axes -> int8."""
    count = int(np.prod([x.shape[axis] for axis in axes]))
    sums = (x.astype(np.int64) - x_zero).sum(axis=tuple(axes), keepdims=keepdims)
    multiplier, shift = mean_factor(x_scale, scale, count)
    return _bounded(scaled(sums, multiplier, shift) + zero, LOWEST, HIGHEST)


def mean_factor(x_scale: float, scale: float, count: int) -> tuple[int, int]:
    """(multiplier, shift) from a sum of `count` values to their mean.

    The factor between the scales, divided by the count in integers, as the kernels do.

    >>> mean_factor(0.5, 0.5, 3)
    (715827882, 0)
    """
    multiplier, shift = fixed_point(float(x_scale) / float(scale))
    more = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << more) // count, shift - more


def average_pool_int8(
    x: Array,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
    low: int = LOWEST,
    high: int = HIGHEST,
) -> Array:
    """x int8 (n, h, w, c) -> means of patches, same scale; padding is not counted.

    `pad` is top, left, bottom, right. Halves away from zero.
    """
    top, left, bottom, right = pad
    edges = ((0, 0), (top, bottom), (left, right), (0, 0))
    sums, counts = (
        patches(np.pad(value, edges), kernel, stride).sum(axis=(4, 5))
        for value in (x.astype(np.int64), np.ones((1, *x.shape[1:3], 1), np.int64))
    )
    means = np.sign(sums) * ((np.abs(sums) + counts // 2) // counts)
    return _bounded(means, low, high)


def patches(x: Array, kernel: tuple[int, int], stride: tuple[int, int]) -> Array:
    """Patches of x (n, h, w, c), as a view: (n, rows, columns, c, kh, kw)."""
    rows = sliding_window_view(x, kernel[0], axis=1)[:, :: stride[0]]
    return sliding_window_view(rows, kernel[1], axis=2)[:, :, :: stride[1]]


def table_int8(x: Array, table: Array) -> Array:
    """Any function of one int8 value: table int8 (256,), its first entry for -128."""
    return np.asarray(table[x.astype(np.int64) - LOWEST])


def softmax_int8(x: Array, *, x_scale: float) -> Array:
    """Softmax over the last axis -> int8 of scale 1/256 and zero -128; up to 2,000 classes."""
    table = exponentials(x_scale)
    found = table[x.max(axis=-1, keepdims=True).astype(np.int64) - x]
    total = found.sum(axis=-1, keepdims=True)
    return _bounded((found * 256 + total // 2) // total + SOFTMAX_ZERO, LOWEST, HIGHEST)


def exponentials(x_scale: float) -> Array:
    """int64 (256,): ``exp(-x_scale * d)`` for d = 0..255 in steps of 2**-20."""
    found = np.floor(np.exp(-float(x_scale) * np.arange(256)) * (1 << _EXP_BITS) + 0.5)
    return np.asarray(found, np.int64)


INTEGER: Mapping[str, Callable[..., Array]] = MappingProxyType(
    {
        "quantize": quantize,
        "dequantize": dequantize,
        "requantize": requantize,
        "conv2d_int8": conv2d_int8,
        "dense_int8": dense_int8,
        "add_int8": add_int8,
        "mul_int8": mul_int8,
        "mean_int8": mean_int8,
        "average_pool_int8": average_pool_int8,
        "table_int8": table_int8,
        "softmax_int8": softmax_int8,
    }
)
"""Name -> NumPy function; scales are attributes, or constants where each channel has its own."""
