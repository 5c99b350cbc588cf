"""Channels last: the order in which small devices and integer kernels want their values.

Programs are written with the channels before time and place. This pass rewrites convolutions and
pools as those with the channels last and keeps every value between them in that order, so that
what a network needs is one transposition at its beginning and at most one at its end. A
convolution along time becomes one over an image of one row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgegraft.passes.trace import Form, trace
from edgegraft_edge.program import INPUT, Draft, Op, Program
from edgegraft_edge.signal import Array

ELEMENTWISE = (
    "add", "sub", "mul", "div", "maximum", "minimum", "greater", "abs", "sqrt", "log", "exp",
    "erf", "round", "tanh", "sigmoid", "relu", "leaky_relu",
)  # fmt: skip
Order = tuple[int | None, ...]
"""Which axis of the value as written stands at each place; None is an axis of length one."""


@dataclass(frozen=True)
class _Stored:
    """A value as it is kept in the new program."""

    name: str
    order: Order


def channels_last(program: Program, *shape: int) -> Program:
    """The same program with its convolutions in the channels-last order.

    Args:
        shape: of one window.

    >>> draft = Draft()
    >>> value = draft.add("conv1d", "x", np.ones((4, 2, 3)), np.zeros(4))
    >>> program = draft.finish(draft.add("mean", value, axes=[2], keepdims=False))
    >>> last = channels_last(program, 2, 10)
    >>> [op.kind for op in last.ops]
    ['transpose', 'reshape', 'conv2d_last', 'mean']
    >>> x = np.random.default_rng(0).normal(size=(3, 2, 10)).astype(np.float32)
    >>> bool(np.allclose(program.run(x), last.run(x), atol=1e-5))
    True
    """
    convolutions = ("conv1d", "conv2d", "max_pool2d")
    if not any(op.kind in convolutions for op in program.ops):
        return program
    return _Rewrite(program, trace(program, *shape)).run()


class _Rewrite:
    def __init__(self, program: Program, forms: Mapping[str, Form]) -> None:
        self.program, self.forms, self.draft = program, forms, Draft()
        self.values: dict[str, _Stored] = {INPUT: _Stored(INPUT, self._plain(INPUT))}
        self._weights: dict[str, Array] = {}
        self._made: dict[tuple[str, Order], str] = {}  # a value that two want is turned once

    def run(self) -> Program:
        for op in self.program.ops:
            rule = _RULES.get(op.kind)
            stored = rule(self, op) if rule is not None else None
            if stored is None:
                names = [self.plain(name) for name in op.inputs]
                stored = _Stored(
                    self.draft.add(op.kind, *names, **op.attrs), self._plain(op.output)
                )
            self.values[op.output] = stored
        return self.draft.finish(str(self.plain(self.program.output)))

    # -- values and their order

    def _plain(self, name: str) -> Order:
        return tuple(range(len(self.forms[name].shape)))

    def sizes(self, name: str) -> tuple[int, ...]:
        return self.forms[name].shape

    def plain(self, name: str) -> str | Array:
        """The value in its written order, or the constant."""
        if name not in self.values:
            return self.kept(self.program.constants[name], name)
        return self.ordered(name, self._plain(name))

    def kept(self, array: Array, name: str) -> str | Array:
        """A constant under the name that it had, if it is a weight ("block.part")."""
        if "." not in name:
            return array
        if name not in self._weights:
            self._weights[name] = array
            return self.draft.constant(array, name)
        return name if np.array_equal(self._weights[name], array) else array

    def ordered(self, name: str, order: Order) -> str:
        """The value in another order: a transposition, or nothing but another shape."""
        if self.values[name].order == order:
            return self.values[name].name
        if (name, order) not in self._made:
            self._made[name, order] = self._turned(name, order)
        return self._made[name, order]

    def _turned(self, name: str, order: Order) -> str:
        stored = self.values[name]
        sizes = self.sizes(name)
        have = [axis for axis in stored.order if axis is not None]
        want = [axis for axis in order if axis is not None]
        value = stored.name
        moving = [axis for axis in have if sizes[axis] > 1 or axis == 0]
        moved = [axis for axis in want if sizes[axis] > 1 or axis == 0]
        if moving != moved:
            if len(have) < len(stored.order):
                value = self._reshaped(value, [sizes[axis] for axis in have])
            value = self.draft.add("transpose", value, axes=[have.index(axis) for axis in want])
            if len(want) == len(order):
                return value
        return self._reshaped(value, [1 if axis is None else sizes[axis] for axis in order])

    def _reshaped(self, value: str, sizes: Sequence[int]) -> str:
        return self.draft.add("reshape", value, shape=list(sizes[1:]))

    def image(self, name: str) -> str:
        """(n, c, t) as (n, 1, t, c); (n, c, h, w) as (n, h, w, c)."""
        return self.ordered(name, self.image_order(name))

    def image_order(self, name: str) -> Order:
        return (0, None, 2, 1) if len(self.sizes(name)) == 3 else (0, 2, 3, 1)

    def constant(self, array: Array, rank: int, order: Order) -> Array:
        """A constant that broadcasts with a value of that rank, for that order."""
        wide = array.reshape((1,) * (rank - array.ndim) + array.shape)
        kept = wide.transpose([axis for axis in order if axis is not None])
        for place, axis in enumerate(order):
            if axis is None:
                kept = np.expand_dims(kept, place)
        return np.ascontiguousarray(kept)


def _constant_weights(rewrite: _Rewrite, op: Op) -> bool:
    return all(name in rewrite.program.constants for name in op.inputs[1:])


def _conv(rewrite: _Rewrite, op: Op) -> _Stored | None:
    if not _constant_weights(rewrite, op):
        return None
    weight, bias = (rewrite.program.constants[name] for name in op.inputs[1:])
    attrs = dict(op.attrs)
    if op.kind == "conv1d":
        weight = weight[:, :, None, :]
        stride, dilation = attrs.pop("stride", 1), attrs.pop("dilation", 1)
        left, right = attrs.pop("pad", (0, 0))
        attrs |= {"stride": [1, stride], "dilation": [1, dilation], "pad": [0, left, 0, right]}
    image = rewrite.image(op.inputs[0])
    kernels = rewrite.kept(np.ascontiguousarray(weight.transpose(0, 2, 3, 1)), op.inputs[1])
    found = rewrite.draft.add("conv2d_last", image, kernels, bias, **attrs)
    return _Stored(found, rewrite.image_order(op.output))


def _pool(rewrite: _Rewrite, op: Op) -> _Stored:
    found = rewrite.draft.add("max_pool2d_last", rewrite.image(op.inputs[0]), **op.attrs)
    return _Stored(found, rewrite.image_order(op.output))


def _elementwise(rewrite: _Rewrite, op: Op) -> _Stored | None:
    rank = len(rewrite.sizes(op.output))
    given = [name for name in op.inputs if name in rewrite.values]
    if not given or any(len(rewrite.sizes(name)) != rank for name in given):
        return None
    largest = max(given, key=lambda name: np.prod(rewrite.sizes(name)))
    order = rewrite.values[largest].order
    names = [
        rewrite.ordered(name, order)
        if name in rewrite.values
        else rewrite.constant(rewrite.program.constants[name], rank, order)
        for name in op.inputs
    ]
    return _Stored(rewrite.draft.add(op.kind, *names, **op.attrs), order)


def _reduce(rewrite: _Rewrite, op: Op) -> _Stored:
    stored, rank = rewrite.values[op.inputs[0]], len(rewrite.sizes(op.inputs[0]))
    axes = [axis % rank for axis in op.attrs["axes"]]
    keep = op.attrs.get("keepdims", True)
    order = stored.order
    # An axis of length one that was put in goes with those that are reduced away.
    gone = axes if keep else [*axes, None]
    places = [place for place, axis in enumerate(order) if axis in gone]
    found = rewrite.draft.add(op.kind, stored.name, axes=places, keepdims=keep)
    if keep:
        return _Stored(found, order)
    left = [axis for axis in order if axis not in gone]
    numbers = {axis: place for place, axis in enumerate(sorted(a for a in left if a is not None))}
    return _Stored(found, tuple(numbers[axis] for axis in left if axis is not None))


def _along(name: str) -> Callable[[_Rewrite, Op], _Stored]:
    """What acts along one axis named by an attribute."""

    def rule(rewrite: _Rewrite, op: Op) -> _Stored:
        rank = len(rewrite.sizes(op.inputs[0]))
        order = rewrite.values[op.inputs[0]].order
        place = order.index(op.attrs.get(name, -1) % rank)
        attrs = {**op.attrs, name: place}
        value = rewrite.values[op.inputs[0]].name
        return _Stored(rewrite.draft.add(op.kind, value, **attrs), order)

    return rule


def _softmax(rewrite: _Rewrite, op: Op) -> _Stored | None:
    rank = len(rewrite.sizes(op.inputs[0]))
    order = rewrite.values[op.inputs[0]].order
    if order.index(op.attrs.get("axis", -1) % rank) != len(order) - 1:
        return None  # runtimes have it along the last axis
    value = rewrite.values[op.inputs[0]].name
    return _Stored(rewrite.draft.add("softmax", value, axis=-1), order)


def _concat(rewrite: _Rewrite, op: Op) -> _Stored | None:
    if not all(name in rewrite.values for name in op.inputs):
        return None
    order = rewrite.values[op.inputs[0]].order
    place = order.index(op.attrs["axis"] % len(rewrite.sizes(op.output)))
    names = [rewrite.ordered(name, order) for name in op.inputs]
    return _Stored(rewrite.draft.add("concat", *names, axis=place), order)


def _pad(rewrite: _Rewrite, op: Op) -> _Stored:
    stored = rewrite.values[op.inputs[0]]
    attrs = dict(op.attrs)
    for side in ("before", "after"):
        sizes = (0, *op.attrs[side])
        attrs[side] = [0 if axis is None else sizes[axis] for axis in stored.order[1:]]
    return _Stored(rewrite.draft.add("pad", stored.name, **attrs), stored.order)


def _transpose(rewrite: _Rewrite, op: Op) -> _Stored:
    stored = rewrite.values[op.inputs[0]]
    names = {old: new for new, old in enumerate(op.attrs["axes"])}
    return _Stored(
        stored.name, tuple(None if axis is None else names[axis] for axis in stored.order)
    )


def _reshape(rewrite: _Rewrite, op: Op) -> _Stored | None:
    """Where the order of what is longer than one stays, a reshape needs no transposition."""
    stored, sizes = rewrite.values[op.inputs[0]], rewrite.sizes(op.inputs[0])
    moving = [axis for axis in stored.order if axis is not None and sizes[axis] > 1]
    if moving != sorted(moving):
        return None
    new = rewrite.sizes(op.output)
    value = rewrite.draft.add("reshape", stored.name, shape=list(new[1:]))
    return _Stored(value, tuple(range(len(new))))


_RULES: Mapping[str, Callable[[_Rewrite, Op], _Stored | None]] = {
    "conv1d": _conv,
    "conv2d": _conv,
    "max_pool2d": _pool,
    "mean": _reduce,
    "sum": _reduce,
    "max": _reduce,
    "min": _reduce,
    "slice": _along("axis"),
    "softmax": _softmax,
    "concat": _concat,
    "pad": _pad,
    "transpose": _transpose,
    "reshape": _reshape,
    **dict.fromkeys(ELEMENTWISE, _elementwise),
}
