"""Which channels of a program belong together, and the program without some of them.

Every channel that a convolution or a matrix gives gets a number, and the number follows it
through whatever reads it: activations and pools pass it on, a sum of two values ties theirs, a
depthwise convolution keeps them, a head of many channels reads them all. What must stay (the
classes, what an operation reads that is not known here) is tied to number 0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgegraft.passes.layout import ELEMENTWISE
from edgegraft.passes.trace import Form, trace
from edgegraft_edge.program import INPUT, Op, Program
from edgegraft_edge.signal import Array

FIXED = 0
_UNARY = frozenset(ELEMENTWISE)
_REDUCE = ("mean", "max", "min", "sum")


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix that gives channels.

    Attributes:
        weight: name of its constant; axis: along which it gives them, 0 or 1.
        ids: number of each channel that it gives, int (n_out,).
    """

    weight: str
    axis: int
    ids: Array


@dataclass(frozen=True)
class Channels:
    """Numbers of channels, tied ones alike, and where each constant has them.

    Attributes:
        layers: what gives channels that can be left out.
        slices: constant -> ((axis, ids), ...), the numbers along some of its axes.
        values: value -> numbers along its axis 1; None where it has no such axis.
    """

    program: Program
    layers: tuple[Layer, ...]
    slices: Mapping[str, tuple[tuple[int, Array], ...]]
    values: Mapping[str, Array | None]

    @property
    def spaces(self) -> tuple[Array, ...]:
        """Sets of numbers of which whole layers are made; those that are fixed are left out."""
        found: list[set[int]] = []
        for layer in self.layers:
            own = {int(number) for number in layer.ids} - {FIXED}
            touching = [each for each in found if each & own]
            for each in touching:
                own |= each
                found.remove(each)
            if own:
                found.append(own)
        return tuple(np.array(sorted(each)) for each in found)

    def without(self, gone: Collection[int]) -> Program:
        """The program without these channels: smaller constants, no masks."""
        removed = np.array(sorted(gone), dtype=np.int64)
        constants = dict(self.program.constants)
        for name, places in self.slices.items():
            for axis, ids in places:
                keep = np.flatnonzero(~np.isin(ids, removed))
                constants[name] = np.ascontiguousarray(np.take(constants[name], keep, axis=axis))
        ops = tuple(self._narrowed(op, removed) for op in self.program.ops)
        return replace(self.program, ops=ops, constants=constants)

    def _narrowed(self, op: Op, removed: Array) -> Op:
        """Attributes that count channels, counted anew."""
        attrs = dict(op.attrs)
        ids = self.values.get(op.output)
        if op.kind == "reshape" and ids is not None and attrs["shape"][0] != -1:
            attrs["shape"] = [int((~np.isin(ids, removed)).sum()), *attrs["shape"][1:]]
        if attrs.get("groups", 1) > 1:
            own = self.values[op.inputs[0]]
            if own is not None and attrs["groups"] == len(own):
                attrs["groups"] = int((~np.isin(own, removed)).sum())
        return replace(op, attrs=attrs)


def channels(program: Program, *shape: int) -> Channels:
    """Follow every channel of a program for windows of `shape`.

    >>> from edgegraft_edge.program import Draft
    >>> draft = Draft()
    >>> one = draft.add("conv1d", "x", np.ones((6, 2, 3)), np.zeros(6))
    >>> two = draft.add("conv1d", one, np.ones((4, 6, 3)), np.zeros(4))
    >>> program = draft.finish(draft.add("mean", two, axes=[2], keepdims=False))
    >>> found = channels(program, 2, 20)
    >>> [len(space) for space in found.spaces]
    [6]
    >>> smaller = found.without(found.spaces[0][:2])
    >>> [smaller.constants[op.inputs[1]].shape for op in smaller.ops[:2]]
    [(4, 2, 3), (4, 4, 3)]
    """
    return _Walk(program, trace(program, *shape)).run()


class _Walk:
    def __init__(self, program: Program, forms: Mapping[str, Form]) -> None:
        self.program, self.forms = program, forms
        self.parents = [FIXED]
        self.values: dict[str, Array | None] = {INPUT: self._fixed_of(INPUT)}
        self.layers: list[Layer] = []
        self.slices: dict[str, list[tuple[int, Array]]] = {}
        readers = [name for op in program.ops for name in op.inputs if name in program.constants]
        self.shared = {name for name in readers if readers.count(name) > 1}

    def run(self) -> Channels:
        for op in self.program.ops:
            rule = _RULES.get(op.kind, _Walk.unknown)
            self.values[op.output] = rule(self, op)
        self.fix(self.program.output)
        return Channels(
            self.program,
            tuple(replace(layer, ids=self.roots(layer.ids)) for layer in self.layers),
            {
                name: tuple((axis, self.roots(ids)) for axis, ids in places)
                for name, places in self.slices.items()
            },
            {n: None if ids is None else self.roots(ids) for n, ids in self.values.items()},
        )

    # -- numbers

    def new(self, count: int) -> Array:
        first = len(self.parents)
        self.parents += range(first, first + count)
        return np.arange(first, first + count)

    def root(self, number: int) -> int:
        while self.parents[number] != number:
            number = self.parents[number]
        return number

    def roots(self, ids: Array) -> Array:
        return np.array([self.root(int(number)) for number in ids], dtype=np.int64)

    def tie(self, one: Array, other: Array) -> None:
        for a, b in zip(one, other, strict=True):
            low, high = sorted((self.root(int(a)), self.root(int(b))))
            self.parents[high] = low  # number 0 stays the root of all that is tied to it

    def fix(self, name: str) -> None:
        ids = self.values.get(name)
        if ids is not None:
            self.tie(ids, np.zeros_like(ids))

    def ids(self, name: str) -> Array | None:
        return self.values.get(name)

    def sizes(self, name: str) -> tuple[int, ...]:
        return self.forms[name].shape

    def _fixed_of(self, name: str) -> Array | None:
        sizes = self.sizes(name)
        return np.zeros(sizes[1], np.int64) if len(sizes) > 1 else None

    # -- operations

    def unknown(self, op: Op) -> Array | None:
        for name in op.inputs:
            self.fix(name)
        return self._fixed_of(op.output)

    def conv(self, op: Op) -> Array | None:
        x, constants = self.ids(op.inputs[0]), self.program.constants
        weight = constants.get(op.inputs[1])
        named = all(n in constants and n not in self.shared for n in op.inputs[1:])
        if x is None or weight is None or not named:
            return self.unknown(op)
        groups = op.attrs.get("groups", 1)
        if groups == 1:
            given = self.new(len(weight))
            self.layers.append(Layer(op.inputs[1], 0, given))
            self.slices[op.inputs[1]] = [(0, given), (1, x)]
        elif groups == len(x) == len(weight):
            given = x
            self.slices[op.inputs[1]] = [(0, given)]
        else:
            return self.unknown(op)
        self.slices[op.inputs[2]] = [(0, given)]
        return given

    def matmul(self, op: Op) -> Array | None:
        x, weight = self.ids(op.inputs[0]), self.program.constants.get(op.inputs[1])
        plain = x is not None and len(self.sizes(op.inputs[0])) == 2
        if x is None or not plain or weight is None or weight.ndim != 2:
            return self.unknown(op)
        if op.inputs[1] in self.shared:
            return self.unknown(op)
        given = self.new(weight.shape[1])
        self.layers.append(Layer(op.inputs[1], 1, given))
        self.slices[op.inputs[1]] = [(0, x), (1, given)]
        return given

    def elementwise(self, op: Op) -> Array | None:
        given = [name for name in op.inputs if name not in self.program.constants]
        rank = len(self.sizes(op.output))
        found = [self.ids(name) for name in given]
        same = all(len(self.sizes(name)) == rank for name in given)
        if not same or any(ids is None for ids in found) or not found:
            return self.unknown(op)
        first = found[0]
        assert first is not None
        for ids in found[1:]:
            assert ids is not None
            if len(ids) != len(first):
                return self.unknown(op)
            self.tie(first, ids)
        for name in op.inputs:
            constant = self.program.constants.get(name)
            if constant is None or constant.size == 1:
                continue
            axis = 1 - (rank - constant.ndim)
            if axis < 0 or constant.shape[axis] == 1:
                continue
            if constant.shape[axis] != len(first) or name in self.shared:
                return self.unknown(op)
            self.slices[name] = [(axis, first)]
        return first

    def reduce(self, op: Op) -> Array | None:
        rank = len(self.sizes(op.inputs[0]))
        axes = {axis % rank for axis in op.attrs["axes"]}
        return self.unknown(op) if 1 in axes else self.ids(op.inputs[0])

    def same(self, op: Op) -> Array | None:
        return self.ids(op.inputs[0])

    def pad(self, op: Op) -> Array | None:
        touched = op.attrs["before"][0] or op.attrs["after"][0]
        return self.unknown(op) if touched else self.ids(op.inputs[0])

    def slice(self, op: Op) -> Array | None:
        axis = op.attrs["axis"] % len(self.sizes(op.inputs[0]))
        return self.unknown(op) if axis < 2 else self.ids(op.inputs[0])

    def concat(self, op: Op) -> Array | None:
        found = [self.ids(name) for name in op.inputs]
        known = [ids for ids in found if ids is not None]
        if len(known) < len(found) or op.attrs["axis"] % len(self.sizes(op.output)) != 1:
            return self.unknown(op)
        return np.concatenate(known)

    def reshape(self, op: Op) -> Array | None:
        before, after = self.sizes(op.inputs[0]), self.sizes(op.output)
        ids = self.ids(op.inputs[0])
        if ids is None or len(after) < 2:
            return self.unknown(op)
        if before[1] == after[1]:
            return ids
        if len(after) == 2:  # channels first: each becomes as many as it has places
            return np.repeat(ids, int(np.prod(before[2:])))
        return self.unknown(op)


_RULES: Mapping[str, Callable[[_Walk, Op], Array | None]] = {
    "conv1d": _Walk.conv,
    "conv2d": _Walk.conv,
    "matmul": _Walk.matmul,
    "max_pool2d": _Walk.same,
    "pad": _Walk.pad,
    "slice": _Walk.slice,
    "concat": _Walk.concat,
    "reshape": _Walk.reshape,
    **dict.fromkeys(_REDUCE, _Walk.reduce),
    **dict.fromkeys(_UNARY, _Walk.elementwise),
}
