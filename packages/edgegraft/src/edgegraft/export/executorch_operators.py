"""Each primitive in the torch operators that ExecuTorch has, in a table that mirrors PRIMITIVES.

What :mod:`edgegraft.zoo.torch_program` computes in a way that can be traced is taken from there;
trees become gathers, and sorting takes the k smallest of k.

Convolutions of a program in its channels-last form are computed with the channels first, as torch
has them, and stay so until something needs the other order: XNNPACK keeps its own order inside, so
that no transposition is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgegraft.export.executorch_integer import INTEGER_EMITTERS, kept
from edgegraft.export.executorch_network import Emit, Network, Value, fixed
from edgegraft.zoo.torch_program import torch_functions
from edgegraft_edge.signal import Array


def _taken(kind: str) -> Emit:
    """As torch computes it, in the order of the program."""

    def emit(network: Network, *inputs: Value | Array, **attrs: Any) -> Value:
        return Value(torch_functions()[kind](*map(network.tensor, inputs), **attrs))

    return emit


def _each(kind: str) -> Emit:
    """Value by value, which leaves the order of the axes alone."""

    def emit(network: Network, *inputs: Value | Array, **attrs: Any) -> Value:
        values = [x for x in inputs if isinstance(x, Value)]
        constants = [x for x in inputs if not isinstance(x, Value)]
        first = bool(values) and all(x.first for x in values)
        first = first and all(x.ndim <= 1 or x.size == 1 for x in constants)
        if not first:
            return _taken(kind)(network, *inputs, **attrs)
        tensors = [
            x.tensor if isinstance(x, Value) else network.tensor(_along_channels(x)) for x in inputs
        ]
        return Value(torch_functions()[kind](*tensors, **attrs), first=True)

    return emit


def _along_channels(constant: Array) -> Array:
    """A number, or one for each channel, where the channels stand before height and width."""
    return constant.reshape(()) if constant.size == 1 else constant.reshape(-1, 1, 1)


def _reduced(kind: str) -> Emit:
    def emit(network: Network, x: Value, *, axes: Sequence[int], keepdims: bool = True) -> Value:
        if not x.first:
            return _taken(kind)(network, x, axes=axes, keepdims=keepdims)
        places = sorted(x.axis(axis) for axis in axes)
        found = torch_functions()[kind](x.tensor, axes=places, keepdims=True)
        if keepdims:
            return Value(found, first=True)
        gone = [axis % 4 for axis in axes]
        last = found.permute(0, 2, 3, 1)
        return Value(last.reshape([n for axis, n in enumerate(last.shape) if axis not in gone]))

    return emit


def _reshape(network: Network, x: Value, *, shape: Sequence[int]) -> Value:
    tensor = x.tensor if x.first and tuple(x.tensor.shape[2:]) == (1, 1) else x.plain
    return Value(tensor.reshape(len(tensor), *shape))


def _convolved(
    network: Network,
    x: Tensor,
    weight: Value | Array,
    bias: Value | Array,
    *,
    stride: Sequence[int] = (1, 1),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    pad: Sequence[int] = (0, 0, 0, 0),
) -> Tensor:
    """(n, c, h, w) with weights (c_out, c_in, kh, kw); `pad` is top, left, bottom, right.

    Values stay in rows: portable kernels refuse to mix orders in memory.
    """
    top, left, bottom, right = pad
    around = (top, left)
    if around != (bottom, right):
        x, around = functional.pad(x, (left, right, top, bottom)), (0, 0)
    kernels, offsets = network.tensor(weight), network.tensor(bias)
    sizes = tuple(stride), around, tuple(dilation)
    return functional.conv2d(x, kernels, offsets, *sizes, groups)


def _conv2d(
    network: Network, x: Value, weight: Value | Array, bias: Value | Array, **attrs: Any
) -> Value:
    return Value(_convolved(network, x.plain, weight, bias, **attrs))


def _conv1d(
    network: Network,
    x: Value,
    weight: Value | Array,
    bias: Value | Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    pad: Sequence[int] = (0, 0),
) -> Value:
    """In two dimensions, of height one: XNNPACK has no other convolution."""
    flat = Value(weight.plain.unsqueeze(2)) if isinstance(weight, Value) else weight[:, :, None]
    sizes = {"stride": (1, stride), "dilation": (1, dilation), "pad": (0, pad[0], 0, pad[1])}
    found = _convolved(network, x.plain.unsqueeze(2), flat, bias, groups=groups, **sizes)
    return Value(found.squeeze(2))


def _conv2d_last(
    network: Network, x: Value, weight: Value | Array, bias: Value | Array, **attrs: Any
) -> Value:
    kernels = fixed(weight, "weights of a convolution").transpose(0, 3, 1, 2)
    return Value(_convolved(network, x.channels_first, kernels, bias, **attrs), first=True)


def _max_pool2d_last(network: Network, x: Value, **attrs: Any) -> Value:
    return Value(torch_functions()["max_pool2d"](x.channels_first, **attrs), first=True)


def _sort(network: Network, x: Value) -> Value:
    plain = x.plain
    return Value(torch.topk(plain, plain.shape[-1], largest=False, sorted=True).values)


def _picked(network: Network, x: Tensor, places: Array, axis: int) -> Tensor:
    """Entries along an axis, by an array of places, whose axes take the place of that one."""
    axis %= x.ndim
    flat = network.keep(np.asarray(places, np.int64).ravel() % x.shape[axis])
    picked = x.index_select(axis, flat)
    return picked.reshape(*x.shape[:axis], *np.shape(places), *x.shape[axis + 1 :])


def _gather(network: Network, x: Value, index: Value | Array, *, axis: int) -> Value:
    return Value(_picked(network, x.plain, fixed(index, "places"), axis))


def _slice(network: Network, x: Value, *, axis: int, start: int, stop: int, step: int = 1) -> Value:
    if step > 0 and not x.first:
        return _taken("slice")(network, x, axis=axis, start=start, stop=stop, step=step)
    places = np.arange(x.plain.shape[axis])[start:stop:step]
    return Value(_picked(network, x.plain, places, axis))


def _lookup(network: Network, ids: Value | Array, table: Value | Array) -> Value:
    return Value(network.tensor(table)[network.tensor(ids).long()])


def _trees(network: Network, x: Value, *parts: Value | Array) -> Value:
    """All trees go down one level at a time; a leaf leads to itself. For one window."""
    feature, threshold, left, right, value, roots = (
        fixed(part, "nodes of trees") for part in parts
    )
    itself, leaf = np.arange(len(left)), left < 0
    features = network.keep(np.where(leaf, 0, feature).astype(np.int64))
    thresholds = network.keep(np.asarray(threshold, np.float32))
    lefts, rights = (
        network.keep(np.where(leaf, itself, child).astype(np.int64)) for child in (left, right)
    )
    row, node = x.plain.reshape(-1), network.keep(roots.astype(np.int64))
    for _ in range(_depth(left, right, roots)):
        seen = row.index_select(0, features.index_select(0, node))
        goes_left = seen <= thresholds.index_select(0, node)
        node = torch.where(goes_left, lefts.index_select(0, node), rights.index_select(0, node))
    leaves = network.keep(np.asarray(value, np.float32)).index_select(0, node)
    return Value(leaves.mean(0, keepdim=True))


def _depth(left: Array, right: Array, roots: Array) -> int:
    """Levels below the roots; children are numbered after their parents, so there is an end."""
    depth, level = 0, np.unique(roots)
    while (inner := level[left[level] >= 0]).size:
        level = np.unique(np.concatenate([left[inner], right[inner]]))
        depth += 1
    return depth


_EACH = ("add", "sub", "mul", "div", "maximum", "minimum", "greater", "abs", "sqrt", "log", "exp",
         "erf", "round", "tanh", "sigmoid", "relu", "leaky_relu")  # fmt: skip
_TAKEN = ("softmax", "matmul", "max_pool2d", "frame", "transpose", "pad",
          "concat")  # fmt: skip

_FLOAT: Mapping[str, Emit] = {
    **{kind: _each(kind) for kind in _EACH},
    **{kind: _taken(kind) for kind in _TAKEN},
    **{kind: _reduced(kind) for kind in ("mean", "sum", "max", "min")},
    "conv1d": _conv1d,
    "conv2d": _conv2d,
    "conv2d_last": _conv2d_last,
    "max_pool2d_last": _max_pool2d_last,
    "reshape": _reshape,
    "sort": _sort,
    "gather": _gather,
    "slice": _slice,
    "lookup": _lookup,
    "trees": _trees,
}

EMITTERS: Mapping[str, Emit] = MappingProxyType(
    {
        **{kind: kept(kind, emit) for kind, emit in _FLOAT.items()},
        **INTEGER_EMITTERS,
    }
)
"""Primitive -> function of the network, its inputs and attributes that gives a `Value`."""
