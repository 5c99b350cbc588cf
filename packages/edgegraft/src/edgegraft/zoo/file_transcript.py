"""Operators of a network file, written as a program; what is common to all such formats.

A file tells nodes (operators with the names of what they read and give), constants, and the shape
of its input. A :class:`Transcript` writes these nodes as a program, operator by operator, and
works out every shape anew; nothing in a file is run.

Files with channels last keep their own order of axes in `Value.shape`; `Value.order` says which
of them stands where in the program, so that nothing is transposed that need not be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from edgegraft_edge.program import INPUT, Draft
from edgegraft_edge.signal import Array

MAX_VALUES = 1 << 26  # of one array inside a network, for one window


@dataclass(frozen=True)
class Node:
    """An operator of a file: its name there, names of values ("" where absent), attributes."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class FileModel:
    """What a file says.

    Attributes:
        constants: float32, or int64 where they are sizes and axes.
        input: name of the one input that is computed from, and its `shape` there, with 1 for the
            window axis, and 0 where the file leaves a size open.
        channels_last: whether places come before channels, as in TensorFlow.
        floors: values of 8 bit -> the smallest number that they can hold.
        pixels: (mean, scale) of a pixel from 0 to 255, where the file tells: the network takes
            (pixel - mean) / scale.
        licence: as the file states it.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    input: str
    shape: tuple[int, ...]
    outputs: tuple[str, ...]
    channels_last: bool = False
    floors: Mapping[str, float] = field(default_factory=dict)
    pixels: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    licence: str = ""


@dataclass(frozen=True)
class Value:
    """A value of a file in the program.

    Attributes:
        name: in the program.
        shape: as in the file, with 1 for the window axis.
        order: the file's axis at each axis of the program; the window axis is first in both.
        features: the file's axis of features (channels).
    """

    name: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    features: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape in the program."""
        return tuple(self.shape[axis] for axis in self.order)


class RefusedError(Exception):
    """An operator in a form that cannot be written; the text says what form."""


Writer = Callable[["Transcript", Node], None]


@dataclass(frozen=True)
class Layer:
    """Something with weights: what it is, what it reads, and how many places that has."""

    kind: str
    reads: str
    places: int


class Transcript:
    """Writes the nodes of a file as a program.

    Errors of its methods: `RefusedError`.
    """

    def __init__(self, model: FileModel) -> None:
        self.model = model
        self.draft = Draft()
        self.constants: dict[str, Array] = dict(model.constants)
        self.values: dict[str, Value] = {}
        self.layers: list[Layer] = []
        self._unbiased: dict[str, int] = {}  # values of matrices -> their layer
        shape = model.shape
        order = tuple(range(len(shape)))
        if model.channels_last and len(shape) > 2:
            order = (0, len(shape) - 1, *order[1:-1])
        features = order[1] if len(shape) > 1 else 0
        self.values[model.input] = Value(INPUT, shape, order, features)

    # -- what nodes read and give

    def knows(self, name: str) -> bool:
        return not name or name in self.values or name in self.constants

    def value(self, name: str) -> Value:
        if name not in self.values:
            raise RefusedError("a constant where a computed value is wanted")
        return self.values[name]

    def array(self, name: str) -> Array:
        """A constant."""
        if name not in self.constants:
            raise RefusedError("weights or sizes that are computed")
        return self.constants[name]

    def numbers(self, name: str) -> list[int]:
        """A constant list of whole numbers."""
        found = np.asarray(self.array(name)).reshape(-1)
        if len(found) > 64:
            raise RefusedError("a list of sizes that is too long")
        return [int(number) for number in found]

    def give(self, node: Node, value: Value) -> None:
        """Name what a node gives."""
        if prod(value.shape) > MAX_VALUES or min(value.shape[1:], default=1) < 1:
            raise RefusedError(f"a value of {' x '.join(map(str, value.shape))} numbers")
        self.values[node.outputs[0]] = value

    # -- order of axes

    def ordered(self, value: Value, order: Sequence[int]) -> Value:
        """The same value with its axes in another order."""
        order = tuple(order)
        if order == value.order:
            return value
        wide = [axis for axis in order if value.shape[axis] > 1 and axis]
        if wide == [axis for axis in value.order if value.shape[axis] > 1 and axis]:
            sizes = [value.shape[axis] for axis in order[1:]]
            name = self.draft.add("reshape", value.name, shape=sizes)
        else:
            axes = [value.order.index(axis) for axis in order]
            name = self.draft.add("transpose", value.name, axes=axes)
        return Value(name, value.shape, order, value.features)

    def filed(self, value: Value) -> Value:
        """With its axes as they are in the file."""
        return self.ordered(value, range(len(value.shape)))

    def channels_first(self, value: Value) -> Value:
        """As convolutions take it: channels, then places."""
        if len(value.shape) not in (3, 4):
            raise RefusedError(f"a convolution or pool over {len(value.shape)} axes")
        last = len(value.shape) - 1
        order = (0, last, *range(1, last)) if self.model.channels_last else range(last + 1)
        return self.ordered(value, order)

    def placed(self, name: str, sizes: Sequence[int]) -> Value:
        """A value of the program, (n_windows, channels, places ...), as one of the file."""
        if not self.model.channels_last:
            return Value(name, tuple(sizes), tuple(range(len(sizes))), 1)
        last = len(sizes) - 1
        return Value(name, (1, *sizes[2:], sizes[1]), (0, last, *range(1, last)), last)

    # -- operators

    def conv(
        self,
        value: Value,
        weight: Array,
        bias: Array | None,
        *,
        stride: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        pad: Sequence[int],
    ) -> Value:
        """A convolution; weight (c_out, c_in / groups, places ...), `pad` before, then after."""
        value = self.channels_first(value)
        _, c_in, *places = value.sizes
        c_out, shared, *kernel = weight.shape
        n = len(places)
        if len(kernel) != n or min(*stride, *dilation, groups, c_out) < 1 or min(pad) < 0:
            raise RefusedError(f"a kernel {weight.shape} with strides {list(stride)}")
        if shared * groups != c_in or c_out % groups:
            raise RefusedError(f"a kernel {weight.shape} in {groups} groups on {c_in} channels")
        bias = np.zeros(c_out, np.float32) if bias is None else np.asarray(bias).reshape(-1)
        if len(bias) != c_out:
            raise RefusedError(f"{len(bias)} biases for {c_out} channels")
        sizes = _sizes(places, kernel, stride, dilation, pad)
        kind = "depthwise" if groups > 1 and groups == c_in else "conv"
        names = self._weights(kind, value, weight, bias)
        attrs: dict[str, Any] = {"groups": groups}
        if n == 1:
            attrs |= {"stride": stride[0], "dilation": dilation[0], "pad": list(pad)}
        else:
            attrs |= {"stride": list(stride), "dilation": list(dilation), "pad": list(pad)}
        name = self.draft.add(f"conv{n}d", value.name, *names, **attrs)
        return self.placed(name, (1, c_out, *sizes))

    def dense(self, value: Value, weight: Array, bias: Array | None) -> Value:
        """A matrix (n_in, n_out) on the last axis."""
        value = self.filed(value)
        if weight.ndim != 2 or value.shape[-1] != weight.shape[0] or len(value.shape) < 2:
            raise RefusedError(f"a matrix {weight.shape} on values {value.shape}")
        bias = None if bias is None else np.asarray(bias).reshape(-1)
        if bias is not None and len(bias) != weight.shape[1]:
            raise RefusedError(f"{len(bias)} biases for {weight.shape[1]} columns")
        names = self._weights("dense", value, weight, bias)
        name = self.draft.add("matmul", value.name, names[0])
        if bias is None:
            self._unbiased[name] = len(self.layers) - 1
        else:
            name = self.draft.add("add", name, names[1])
        shape = (*value.shape[:-1], weight.shape[1])
        return Value(name, shape, tuple(range(len(shape))), len(shape) - 1)

    def biased(self, value: Value, bias: Array) -> Value | None:
        """What a matrix without a bias gives, with one; None of another value."""
        layer = self._unbiased.pop(value.name, None)
        if layer is None:
            return None
        weight = self.draft.constant(np.asarray(bias, np.float32), f"{layer}.bias")
        name = self.draft.add("add", value.name, weight)
        return Value(name, value.shape, value.order, value.features)

    def _weights(self, kind: str, value: Value, weight: Array, bias: Array | None) -> list[str]:
        """Keep the weights of a layer, under names that `finish` puts into blocks."""
        places = prod(value.shape[1:]) // max(1, value.shape[value.features])
        self.layers.append(Layer(kind, value.name, places))
        layer = f"{len(self.layers) - 1}"
        parts = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        return [
            self.draft.constant(np.asarray(array, np.float32), f"{layer}.{part}")
            for part, array in parts.items()
        ]

    def elementwise(self, kind: str, one: str, other: str) -> Value:
        """Two values, or a value and a constant, element by element."""
        if one in self.constants and other in self.constants:
            raise RefusedError("two constants")
        known = [self.values[name] for name in (one, other) if name in self.values]
        rank = max(len(value.shape) for value in known)
        like = next(value for value in known if len(value.shape) == rank)
        inputs, shapes = [], []
        for name in (one, other):
            if name in self.values:
                value = self._widened(self.values[name], rank)
                inputs.append(self.ordered(value, like.order).name)
                shapes.append(value.shape)
                continue
            array = np.asarray(self.constants[name], np.float32)
            if array.ndim > rank or (array.ndim == rank and array.shape[0] != 1):
                raise RefusedError(f"a constant of shape {array.shape} beside {like.shape}")
            shapes.append((1,) * (rank - array.ndim) + array.shape)
            if array.size > 1:
                array = array.reshape(shapes[-1]).transpose(like.order)
            inputs.append(self.draft.constant(array.reshape(array.shape if array.size > 1 else ())))
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            raise RefusedError(f"values of shapes {shapes[0]} and {shapes[1]}") from None
        return Value(self.draft.add(kind, *inputs), shape, like.order, like.features)

    def _widened(self, value: Value, rank: int) -> Value:
        """With axes of one element put in after the window axis, up to that rank."""
        more = rank - len(value.shape)
        if not more:
            return value
        return self.reshaped(value, (1, *[1] * more, *value.shape[1:]))

    def each(self, value: Value, function: Callable[[Draft, str], str]) -> Value:
        """A function of each element by itself."""
        return Value(function(self.draft, value.name), value.shape, value.order, value.features)

    def reshaped(self, value: Value, shape: Sequence[int]) -> Value:
        """Another shape, of the file's order of elements; -1 is what is left."""
        size, known = prod(value.shape), prod(n for n in shape if n != -1)
        if list(shape).count(-1) > 1 or known < 1 or size % known:
            raise RefusedError(f"a shape {list(shape)} of {size} elements")
        shape = tuple(size // known if n == -1 else int(n) for n in shape)
        if prod(shape) != size or not shape or shape[0] != 1 or len(shape) < 2:
            raise RefusedError(f"a shape {list(shape)} that joins windows")
        if shape == value.shape:
            return value
        value = self.filed(value)
        name = self.draft.add("reshape", value.name, shape=list(shape[1:]))
        features = len(shape) - 1 if self.model.channels_last or len(shape) != 4 else 1
        return Value(name, shape, tuple(range(len(shape))), features)

    def transposed(self, value: Value, axes: Sequence[int]) -> Value:
        """Other axes in the file; the program stays as it is."""
        axes = [axis % len(value.shape) for axis in axes]
        if sorted(axes) != list(range(len(value.shape))) or axes[0]:
            raise RefusedError(f"a transposition {axes}")
        shape = tuple(value.shape[axis] for axis in axes)
        order = tuple(axes.index(axis) for axis in value.order)
        return Value(value.name, shape, order, axes.index(value.features))

    def reduced(self, kind: str, value: Value, axes: Iterable[int], keep: bool) -> Value:
        """The mean, sum, max or min over some of the file's axes."""
        rank = len(value.shape)
        gone = sorted({axis % rank for axis in axes})
        if not gone or gone[0] == 0 or (not keep and len(gone) == rank - 1):
            raise RefusedError(f"a {kind} over axes {gone} of {rank}")
        name = self.draft.add(
            kind, value.name, axes=sorted(value.order.index(a) for a in gone), keepdims=keep
        )
        if keep:
            shape = tuple(1 if axis in gone else n for axis, n in enumerate(value.shape))
            return Value(name, shape, value.order, value.features)
        left = [axis for axis in range(rank) if axis not in gone]
        shape = tuple(value.shape[axis] for axis in left)
        order = tuple(left.index(axis) for axis in value.order if axis in left)
        features = left.index(value.features) if value.features in left else len(left) - 1
        return Value(name, shape, order, features)

    def pooled(
        self,
        kind: str,
        value: Value,
        *,
        kernel: Sequence[int],
        stride: Sequence[int],
        pad: Sequence[int],
        counts_pad: bool = False,
    ) -> Value:
        """The "mean" or "max" of patches; the mean leaves the padding out unless `counts_pad`."""
        value = self.channels_first(value)
        _, channels, *places = value.sizes
        if len(kernel) != len(places) or min(*kernel, *stride) < 1 or min(pad) < 0:
            raise RefusedError(f"a pool of {list(kernel)} places")
        sizes = _sizes(places, kernel, stride, [1] * len(places), pad)
        if list(kernel) == places and not any(pad):
            axes = list(range(2, 2 + len(places)))
            name = self.draft.add(kind, value.name, axes=axes)
            return self.placed(name, (1, channels, *sizes))
        flat = len(places) == 1  # along time: as a picture of one row
        name = value.name
        if flat:
            name = self.draft.add("reshape", name, shape=[channels, 1, *places])
            places, kernel, stride = [1, *places], [1, *kernel], [1, *stride]
            pad = [0, pad[0], 0, pad[1]]
        if kind == "max":
            name = self.draft.add(
                "max_pool2d", name, kernel=list(kernel), stride=list(stride), pad=list(pad)
            )
        else:
            ones = np.ones((channels, 1, *kernel), np.float32)
            shifts = np.zeros(channels, np.float32)
            attrs = {"stride": list(stride), "pad": list(pad)}
            name = self.draft.add("conv2d", name, ones, shifts, groups=channels, **attrs)
            share = _counts(places, kernel, stride, pad, counts_pad)
            name = self.draft.add("mul", name, (1 / share).astype(np.float32))
        if flat:
            name = self.draft.add("reshape", name, shape=[channels, *sizes])
        return self.placed(name, (1, channels, *sizes))

    def joined(self, values: Sequence[Value], axis: int) -> Value:
        """Values one after the other along an axis of the file."""
        first = values[0]
        axis = axis % len(first.shape)
        rest = [(*v.shape[:axis], *v.shape[axis + 1 :]) for v in values]
        if axis == 0 or any(each != rest[0] for each in rest):
            raise RefusedError(f"shapes {[v.shape for v in values]} joined at axis {axis}")
        names = [self.ordered(v, first.order).name for v in values]
        shape = list(first.shape)
        shape[axis] = sum(v.shape[axis] for v in values)
        name = self.draft.add("concat", *names, axis=first.order.index(axis))
        return Value(name, tuple(shape), first.order, first.features)

    def padded(self, value: Value, before: Sequence[int], after: Sequence[int]) -> Value:
        """Zeros before and after along every axis of the file."""
        if len(before) != len(value.shape) or len(after) != len(before):
            raise RefusedError("a padding for another number of axes")
        if min(*before, *after) < 0 or before[0] or after[0]:
            raise RefusedError(f"a padding {list(before)}, {list(after)}")
        if not any(before) and not any(after):
            return value
        name = self.draft.add(
            "pad",
            value.name,
            before=[int(before[axis]) for axis in value.order[1:]],
            after=[int(after[axis]) for axis in value.order[1:]],
        )
        shape = tuple(int(n + b + a) for n, b, a in zip(value.shape, before, after, strict=True))
        return Value(name, shape, value.order, value.features)

    def sliced(self, value: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
        axis = axis % len(value.shape)
        places = range(value.shape[axis])[start:stop:step]
        if axis == 0:
            if len(places) == 1:
                return value
            raise RefusedError("a slice of the windows")
        if step < 0 and places:  # a stop below 0 means the first element here
            stop = places[-1] - 1 if places[-1] else -value.shape[axis] - 1
        name = self.draft.add(
            "slice", value.name, axis=value.order.index(axis), start=start, stop=stop, step=step
        )
        shape = list(value.shape)
        shape[axis] = len(places)
        return Value(name, tuple(shape), value.order, value.features)

    def softmax(self, value: Value, axis: int) -> Value:
        place = value.order.index(axis % len(value.shape))
        return self.each(value, lambda draft, name: draft.add("softmax", name, axis=place))


def same_pad(
    places: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """TensorFlow's "SAME" padding, before and then after: the odd one is at the end.

    >>> same_pad([224, 224], [3, 3], [2, 2], [1, 1])
    [0, 0, 1, 1]
    """
    total = [
        max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
        for n, k, s, d in zip(places, kernel, stride, dilation, strict=True)
    ]
    return [t // 2 for t in total] + [t - t // 2 for t in total]


def _sizes(
    places: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    pad: Sequence[int],
) -> list[int]:
    n = len(places)
    sizes = [
        (places[i] + pad[i] + pad[n + i] - (kernel[i] - 1) * dilation[i] - 1) // stride[i] + 1
        for i in range(n)
    ]
    padded = (places[i] + pad[i] + pad[n + i] for i in range(n))
    if min(sizes) < 1 or prod(padded) > MAX_VALUES:
        raise RefusedError(f"a kernel of {list(kernel)} places on {list(places)}")
    return sizes


def _counts(
    places: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    counts_pad: bool,
) -> Array:
    """How many places each patch of a mean covers, float32 (height, width) of what comes out."""
    rows = []
    for i in range(2):
        line = np.ones(places[i])
        line = np.pad(line, (pad[i], pad[2 + i]), constant_values=float(counts_pad))
        starts = range(0, len(line) - kernel[i] + 1, stride[i])
        rows.append(np.array([line[s : s + kernel[i]].sum() for s in starts]))
    return np.asarray(np.maximum(np.outer(rows[0], rows[1]), 1), np.float32)
