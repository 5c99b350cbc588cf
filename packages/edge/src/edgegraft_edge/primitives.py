"""The primitives that programs are made of, in NumPy.

Each takes arrays with the window axis first, and attributes from JSON, and follows the ONNX
operator of the same meaning, so that emitting is one line. Those in
:data:`edgegraft_edge.tokens.READERS` take text apart; no other runtime has them, so they run
in NumPy before a model of such a runtime. Those in :data:`edgegraft_edge.integer.INTEGER` are the
8-bit forms of others; what only moves values (reshape, concat, slice, max, ...) takes int8 too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgegraft_edge.integer import INTEGER, patches
from edgegraft_edge.signal import Array
from edgegraft_edge.tokens import READERS


def _conv1d(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    pad: tuple[int, int] = (0, 0),
) -> Array:
    """x (n, c_in, t), weight (c_out, c_in / groups, k), bias (c_out,) -> (n, c_out, t_out)."""
    n_windows = x.shape[0]
    c_out, c_in, taps = weight.shape
    x = np.pad(x, ((0, 0), (0, 0), tuple(pad)))
    spread = (taps - 1) * dilation + 1
    patches = sliding_window_view(x, spread, axis=2)[:, :, ::stride, ::dilation]
    n_out = patches.shape[2]
    patches = patches.reshape(n_windows, groups, c_in, n_out, taps).transpose(0, 1, 2, 4, 3)
    patches = patches.reshape(n_windows, groups, c_in * taps, n_out)
    kernels = weight.reshape(groups, c_out // groups, c_in * taps)
    out = np.matmul(kernels, patches).reshape(n_windows, c_out, n_out)
    return np.asarray(out + bias[:, None], dtype=np.float32)


def _conv2d(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Array:
    """x (n, c_in, h, w), weight (c_out, c_in / groups, kh, kw), bias (c_out,) -> (n, c_out, h, w).

    `pad` is top, left, bottom, right. With kh = 1 the rows share a convolution along time.
    """
    c_out, c_in, *taps = weight.shape
    top, left, bottom, right = pad
    if any(pad):
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows, columns = ((n - 1) * d + 1 for n, d in zip(taps, dilation, strict=True))
    height = (x.shape[2] - rows) // stride[0] + 1
    width = (x.shape[3] - columns) // stride[1] + 1

    def seen(i: int, j: int) -> Array:
        """What the tap in row i, column j reads of every place: (n, c, height, width)."""
        first, left_most = i * dilation[0], j * dilation[1]
        last, right_most = first + (height - 1) * stride[0], left_most + (width - 1) * stride[1]
        return x[:, :, first : last + 1 : stride[0], left_most : right_most + 1 : stride[1]]

    if c_in == 1 and groups == c_out == x.shape[1]:  # one kernel a channel: tap by tap
        out = np.empty((len(x), c_out, height, width), np.float32)
        out[:] = bias[:, None, None]
        for i in range(taps[0]):
            for j in range(taps[1]):
                out += weight[:, 0, i, j, None, None] * seen(i, j)
        return out
    kernels = weight.reshape(groups, c_out // groups, c_in * taps[0] * taps[1])
    found = np.empty((len(x), groups, c_out // groups, height * width), np.float32)
    patches = np.empty((1, groups, c_in, *taps, height, width), np.float32)
    for row in range(len(x)):  # patches of one window stay in the processor's cache
        for i in range(taps[0]):
            for j in range(taps[1]):
                part = seen(i, j)[row].reshape(groups, c_in, height, width)
                patches[0, :, :, i, j] = part
        np.matmul(kernels, patches.reshape(groups, -1, height * width), out=found[row])
    found += bias.reshape(groups, -1, 1)
    return found.reshape(len(x), c_out, height, width)


def _conv2d_last(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Array:
    """x (n, h, w, c_in), weight (c_out, kh, kw, c_in / groups), bias (c_out,) -> (n, h, w, c_out).

    The same as `conv2d` with the channels last, as small devices want them.
    """
    first = x.transpose(0, 3, 1, 2), weight.transpose(0, 3, 1, 2)
    found = _conv2d(*first, bias, stride=stride, dilation=dilation, groups=groups, pad=pad)
    return np.ascontiguousarray(found.transpose(0, 2, 3, 1))


def _frame(x: Array, *, length: int, hop: int) -> Array:
    """(n, c, t) -> (n, c, n_frames, length); a tail shorter than a frame is left out."""
    return np.ascontiguousarray(sliding_window_view(x, length, axis=2)[:, :, ::hop])


def _sigmoid(x: Array) -> Array:
    out: Array = 0.5 * (1.0 + np.tanh(0.5 * x))
    return out


def _softmax(x: Array, *, axis: int = -1) -> Array:
    exp = np.exp(x - x.max(axis=axis, keepdims=True))
    out: Array = exp / exp.sum(axis=axis, keepdims=True)
    return out


def _reduce(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(x: Array, *, axes: list[int], keepdims: bool = True) -> Array:
        return function(x, axis=tuple(axes), keepdims=keepdims)

    return reduce


def _slice(x: Array, *, axis: int, start: int, stop: int, step: int = 1) -> Array:
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, stop, step)
    return x[tuple(index)]


def _trees(
    x: Array,
    feature: Array,
    threshold: Array,
    left: Array,
    right: Array,
    value: Array,
    roots: Array,
) -> Array:
    """Mean leaf value of binary trees: go left where x[feature] <= threshold.

    x (n, n_features); feature, threshold, left, right (n_nodes,) with left = -1 at a leaf;
    value (n_nodes, n_outputs); roots (n_trees,). Returns (n, n_outputs).
    """
    node = np.repeat(roots[None, :], len(x), axis=0)
    rows = np.arange(len(x))[:, None]
    while True:
        inner = left[node] >= 0
        if not inner.any():
            break
        goes_left = x[rows, feature[node]] <= threshold[node]
        node = np.where(inner, np.where(goes_left, left[node], right[node]), node)
    return np.asarray(value[node].mean(axis=1), dtype=np.float32)


def _max_pool2d(
    x: Array,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Array:
    """x (n, c, h, w) -> (n, c, h, w), the largest of each patch; `pad` top, left, bottom, right."""
    top, left, bottom, right = pad
    edges = ((0, 0), (0, 0), (top, bottom), (left, right))
    x = np.pad(x, edges, constant_values=-np.inf)
    found = sliding_window_view(sliding_window_view(x, kernel[0], axis=2), kernel[1], axis=3)
    return np.asarray(found[:, :, :: stride[0], :: stride[1]].max(axis=(4, 5)))


def _max_pool2d_last(
    x: Array,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Array:
    """x (n, h, w, c), float32 or int8; the same as `max_pool2d` with the channels last."""
    top, left, bottom, right = pad
    lowest = -128 if x.dtype == np.int8 else -np.inf
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=lowest)
    return np.asarray(patches(x, kernel, stride).max(axis=(4, 5)))


def _pad(x: Array, *, before: list[int], after: list[int], value: float = 0) -> Array:
    """One value before and after along every axis but the first."""
    return np.pad(x, ((0, 0), *zip(before, after, strict=True)), constant_values=value)


def _lookup(ids: Array, table: Array) -> Array:
    """Rows of `table` (n_rows, dim) by whole numbers (n, ...) held as float32 -> (n, ..., dim)."""
    return np.asarray(table[np.asarray(ids).astype(np.int64)])


def _erf(x: Array) -> Array:
    """The error function to 2e-7 (Abramowitz and Stegun, 1964, formula 7.1.26, in float64)."""
    z = np.abs(x.astype(np.float64))
    t = 1.0 / (1.0 + 0.3275911 * z)
    series = (
        (((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592
    ) * t
    return np.asarray(np.sign(x) * (1.0 - series * np.exp(-z * z)), dtype=np.float32)


PRIMITIVES: Mapping[str, Callable[..., Array]] = MappingProxyType(
    {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "maximum": np.maximum,
        "minimum": np.minimum,
        "greater": lambda a, b: np.greater(a, b).astype(np.float32),
        "abs": np.abs,
        "sqrt": np.sqrt,
        "log": np.log,
        "exp": np.exp,
        "erf": _erf,
        "round": np.rint,  # halves to even
        "tanh": np.tanh,
        "sigmoid": _sigmoid,
        "relu": lambda x: np.maximum(x, np.float32(0)),
        "leaky_relu": lambda x, slope=0.01: np.where(x > 0, x, np.float32(slope) * x),
        "softmax": _softmax,
        "matmul": np.matmul,
        "conv1d": _conv1d,
        "conv2d": _conv2d,
        "conv2d_last": _conv2d_last,
        "max_pool2d": _max_pool2d,
        "max_pool2d_last": _max_pool2d_last,
        "pad": _pad,
        "frame": _frame,
        "mean": _reduce(np.mean),
        "sum": _reduce(np.sum),
        "max": _reduce(np.max),
        "min": _reduce(np.min),
        "sort": lambda x: np.sort(x, axis=-1),
        "concat": lambda *xs, axis: np.concatenate(xs, axis=axis),
        "reshape": lambda x, *, shape: x.reshape(len(x), *shape),
        "transpose": lambda x, *, axes: np.transpose(x, axes),
        "slice": _slice,
        "gather": lambda x, index, *, axis: np.take(x, index, axis=axis),
        "lookup": _lookup,
        "trees": _trees,
        **INTEGER,
        **READERS,
    }
)
"""Name -> NumPy function; the window axis comes first and is never reduced or reshaped."""

MOVES = frozenset({"reshape", "transpose", "slice", "max", "min", "max_pool2d_last", "frame",
                   "gather", "pad", "sort", "concat"})  # fmt: skip
"""Primitives that give some of the values they take, as they are: int8 stays int8."""

BY_VALUE = frozenset({"add", "sub", "mul", "div", "maximum", "minimum", "relu", "round", "abs",
                      "tanh"})  # fmt: skip
"""Primitives that prepare a window value by value."""
