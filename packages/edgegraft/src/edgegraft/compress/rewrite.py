"""A float program rewritten with integer primitives, operation by operation from its input on.

Convolutions and matrices with fixed weights turn their input into int8, and what follows stays
int8 as long as each operation has an integer form; where one has none, or where its rounding
would disturb the result too much, the value becomes float again. Functions of one value that
follow each other become one table of 256 results; activations that only cut become bounds of
the operation before them.

Weights: symmetric, one scale for each output channel. Values: one scale and zero point, which
always include zero.

Source: Jacob et al., CVPR 2018; Nagel et al., A White Paper on Neural Network Quantization, 2021.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from edgegraft.compress.calibrate import Range
from edgegraft.compress.noise import Rounding
from edgegraft.passes.trace import Form
from edgegraft_edge.integer import HIGHEST, LOWEST, SOFTMAX_SCALE, SOFTMAX_ZERO, quantize
from edgegraft_edge.primitives import MOVES, PRIMITIVES
from edgegraft_edge.program import INPUT, Draft, Op, Program
from edgegraft_edge.signal import Array

_SMALLEST_SCALE = 1e-9
_MOST_BIAS = 1 << 30


@dataclass(frozen=True)
class Weights:
    """What an integer operation was made of, in float: (c_out, ...) and (c_out,)."""

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Rewritten:
    """A program with integer primitives.

    Attributes:
        roundings: of each value that is int8 now, for judging them one by one.
        weights: float weights of the convolutions and matrices, by the value that they give.
        steps: (scale, zero) of each int8 value of the new program that was rounded.
        stayed: operations of the float program that are still done in float.
        shown: the same, giving further values in float; names: theirs, by those of the float
            program.
    """

    program: Program
    roundings: Mapping[str, Rounding]
    weights: Mapping[str, Weights]
    steps: Mapping[str, tuple[float, int]]
    stayed: tuple[Op, ...]
    shown: Program
    names: Mapping[str, str]


def rewritten(
    program: Program,
    forms: Mapping[str, Form],
    ranges: Mapping[str, Range],
    keep_float: Collection[str] = (),
    show: Collection[str] = (),
) -> Rewritten:
    """The program with integer primitives wherever there is one.

    Args:
        program: with its channels last.
        forms, ranges: of its values.
        keep_float: values that must not become int8.
        show: values that are wanted in float besides the result.
    """
    endless = {name for name, held in ranges.items() if not held.finite}
    return _Rewrite(program, forms, ranges, frozenset(keep_float) | endless).run(show)


@dataclass(frozen=True)
class _Eight:
    """A value in int8."""

    name: str
    scale: float
    zero: int

    @property
    def reals(self) -> Array:
        """What its 256 steps stand for, float32."""
        steps = np.arange(LOWEST, HIGHEST + 1, dtype=np.float32)
        return np.asarray((steps - np.float32(self.zero)) * np.float32(self.scale))


@dataclass(frozen=True)
class _Table:
    """A function of an int8 value that nobody has asked for yet: its 256 results."""

    source: _Eight
    results: Array


@dataclass
class _Rewrite:
    program: Program
    forms: Mapping[str, Form]
    ranges: Mapping[str, Range]
    keep_float: frozenset[str]
    draft: Draft = field(default_factory=Draft)
    floats: dict[str, str] = field(default_factory=lambda: {INPUT: INPUT})
    eights: dict[str, _Eight] = field(default_factory=dict)
    tables: dict[str, _Table] = field(default_factory=dict)
    roundings: dict[str, Rounding] = field(default_factory=dict)
    weights: dict[str, Weights] = field(default_factory=dict)
    steps: dict[str, tuple[float, int]] = field(default_factory=dict)
    stayed: list[Op] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.readers = Counter(name for op in self.program.ops for name in op.inputs)
        self.readers[self.program.output] += 1
        self.next = {name: op for op in self.program.ops for name in op.inputs}

    def run(self, show: Collection[str]) -> Rewritten:
        done: set[str] = set()
        for op in self.program.ops:
            if op.output in done:
                continue
            rule = _RULES.get(op.kind)
            given = rule(self, op) if rule and op.output not in self.keep_float else None
            if given is None:
                names = [self.real(name) for name in op.inputs]
                self.floats[op.output] = self.draft.add(op.kind, *names, **op.attrs)
                self.stayed.append(op)
            else:
                done.update(given)
        program = self.draft.finish(str(self.real(self.program.output)))
        made = {op.output for op in program.ops}
        weights = {name: pair for name, pair in self.weights.items() if name in made}
        seen = {name: str(self.real(name)) for name in show}
        shown = self.draft.finish(program.output, *seen.values())
        return Rewritten(
            program,
            self.roundings,
            weights,
            self.steps,
            tuple(self.stayed),
            shown,
            MappingProxyType(seen),
        )

    def constant(self, name: str) -> Array | None:
        return self.program.constants.get(name)

    def whole(self, name: str) -> bool:
        """Whether the value is there in int8, or as a function of one that is."""
        return name in self.eights or name in self.tables

    def real(self, name: str) -> str | Array:
        """The value as float32."""
        if name in self.program.constants:
            return self.program.constants[name]
        if name not in self.floats:
            eight = self.eight(name)
            self.floats[name] = self.draft.add(
                "dequantize", eight.name, scale=eight.scale, zero=eight.zero
            )
        return self.floats[name]

    def eight(self, name: str) -> _Eight:
        """The value as int8, with the parameters of its range if it is not yet."""
        if name not in self.eights:
            scale, zero = self.ranges[name].parameters
            if name in self.tables:
                table = self.tables[name]
                steps = quantize(table.results, scale=scale, zero=zero)
                made = self.draft.add("table_int8", table.source.name, steps)
            else:
                made = self.draft.add("quantize", str(self.real(name)), scale=scale, zero=zero)
            self.give(name, made, scale, zero)
        return self.eights[name]

    def give(
        self,
        name: str,
        made: str,
        scale: float,
        zero: int,
        weights: Mapping[str, Array] | None = None,
        *,
        moved: bool = False,
    ) -> None:
        """Note that a value is int8 now; what was only moved has not been rounded again."""
        self.eights[name] = _Eight(made, scale, zero)
        self.steps[made] = (scale, zero)
        if not moved:
            self.roundings[name] = Rounding(name, scale, zero, weights or {})

    def cut(self, name: str) -> tuple[str, float, int, int, int, list[str]] | None:
        """Through the activations after a value that only cut it, and are its only readers.

        Returns: the last value, its scale and zero, bounds in steps, and the values passed; None
        where that value is to stay float.
        """
        passed, low, high = [name], -np.inf, np.inf
        while self.readers[name] == 1 and name in self.next:
            op = self.next[name]
            bound = self.constant(op.inputs[1]) if len(op.inputs) == 2 else None
            if op.kind == "relu":
                low = max(low, 0.0)
            elif op.kind in ("minimum", "maximum") and bound is not None and bound.size == 1:
                if op.kind == "minimum":
                    high = min(high, float(bound.ravel()[0]))
                else:
                    low = max(low, float(bound.ravel()[0]))
            else:
                break
            name = op.output
            passed.append(name)
        if self.keep_float.intersection(passed):
            return None
        scale, zero = self.ranges[name].parameters
        steps = quantize(np.array([low, high]), scale=scale, zero=zero).tolist()
        return name, scale, zero, steps[0], steps[1], passed

    def added(self, name: str, bias: Array) -> tuple[Array, list[str]]:
        """A bias with the constants that are added to a value next, and the values passed."""
        passed, shape = [name], self.forms[name].shape
        while self.readers[name] == 1 and name in self.next and self.next[name].kind == "add":
            after = self.next[name]
            more = [self.by_channel(other, name) for other in after.inputs if other != name]
            if not more or more[0] is None or self.forms[after.output].shape != shape:
                break
            bias, name = np.asarray(bias + more[0], np.float32), after.output
            passed.append(name)
        return bias, passed

    def by_channel(self, name: str, value: str) -> Array | None:
        """A constant with one number for each channel (the last axis) of a value, or one at all."""
        array, shape = self.constant(name), self.forms[value].shape
        if array is None or len(shape) < 2:
            return None
        if array.size == 1:
            return np.full(shape[-1], array.ravel()[0], np.float32)
        if array.size == shape[-1] == array.shape[-1]:
            return np.asarray(array.ravel(), np.float32)
        return None


Given = list[str] | None
"""Values of the float program that a rule has given; None where it does not apply."""


def weights_int8(weight: Array) -> tuple[Array, Array]:
    """Weights (c_out, ...) as int8 and their scales float32 (c_out,), symmetric.

    >>> weights_int8(np.float32([[1.0, -2.54], [0.0, 0.0]]))[0].tolist()
    [[50, -127], [0, 0]]
    """
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    scale = np.maximum(largest / HIGHEST, _SMALLEST_SCALE).astype(np.float32)
    steps = weight / scale.reshape(-1, *(1,) * (weight.ndim - 1))
    return np.clip(np.rint(steps), -HIGHEST, HIGHEST).astype(np.int8), scale


def bias_int32(bias: Array, x_scale: float, weight_scale: Array) -> Array:
    """Biases in steps of the sums they join."""
    steps = np.rint(bias.astype(np.float64) / (x_scale * weight_scale.astype(np.float64)))
    return np.clip(steps, -_MOST_BIAS, _MOST_BIAS).astype(np.int32)


# -- rules: convolutions and matrices, where integers begin


def _conv(rewrite: _Rewrite, op: Op) -> Given:
    weight, bias = (rewrite.constant(name) for name in op.inputs[1:])
    if weight is None or bias is None:
        return None
    return _weighted(rewrite, "conv2d_int8", op, weight, bias, [op.output], dict(op.attrs))


def _dense(rewrite: _Rewrite, op: Op) -> Given:
    weight = rewrite.constant(op.inputs[1])
    if weight is None or weight.ndim != 2:
        return None
    bias, passed = rewrite.added(op.output, np.zeros(weight.shape[1], np.float32))
    kernels = np.ascontiguousarray(weight.T)
    return _weighted(rewrite, "dense_int8", op, kernels, bias, passed, {})


def _weighted(
    rewrite: _Rewrite,
    kind: str,
    op: Op,
    weight: Array,
    bias: Array,
    passed: list[str],
    attrs: dict[str, Any],
) -> Given:
    """A convolution or matrix; `passed` are its value and that with the bias."""
    found, source = rewrite.cut(passed[-1]), op.inputs[0]
    waits = source in rewrite.keep_float and not rewrite.whole(source)
    if found is None or waits or source in rewrite.program.constants:
        return None
    last, scale, zero, low, high, cuts = found
    x = rewrite.eight(source)
    kernels, weight_scale = weights_int8(weight)
    made = rewrite.draft.add(
        kind,
        x.name,
        kernels,
        bias_int32(bias, x.scale, weight_scale),
        weight_scale,
        x_scale=x.scale,
        x_zero=x.zero,
        scale=scale,
        zero=zero,
        low=low,
        high=high,
        **attrs,
    )
    rounded = kernels * weight_scale.reshape(-1, *(1,) * (weight.ndim - 1))
    if kind == "dense_int8":
        rounded = rounded.T
    rewrite.weights[made] = Weights(weight, bias)
    rewrite.give(last, made, scale, zero, {op.inputs[1]: np.asarray(rounded, np.float32)})
    return [*passed, *cuts]


# -- rules: what follows in integers


def _two(rewrite: _Rewrite, kind: str, op: Op, b: _Eight | None = None) -> Given:
    """Two int8 values; `b` stands in for the second."""
    found = rewrite.cut(op.output)
    if found is None:
        return None
    a, b = rewrite.eight(op.inputs[0]), b or rewrite.eight(op.inputs[1])
    last, scale, zero, low, high, passed = found
    made = rewrite.draft.add(
        kind, a.name, b.name, a_scale=a.scale, a_zero=a.zero, b_scale=b.scale, b_zero=b.zero,
        scale=scale, zero=zero, low=low, high=high,
    )  # fmt: skip
    rewrite.give(last, made, scale, zero)
    return passed


def _negative(rewrite: _Rewrite, x: _Eight) -> _Eight:
    """Minus a value, exactly: the steps counted from the other end."""
    table = np.arange(HIGHEST, LOWEST - 1, -1).astype(np.int8)
    made = rewrite.draft.add("table_int8", x.name, table)
    rewrite.steps[made] = (x.scale, -1 - x.zero)
    return _Eight(made, *rewrite.steps[made])


def _arithmetic(rewrite: _Rewrite, op: Op) -> Given:
    """A function of one value if it can be, else two values, else one and a constant."""
    function = _function(rewrite, op)
    if function is not None:
        return function
    if op.kind != "div" and all(rewrite.whole(name) for name in op.inputs):
        if op.kind == "sub":
            return _two(rewrite, "add_int8", op, _negative(rewrite, rewrite.eight(op.inputs[1])))
        return _two(rewrite, f"{op.kind}_int8", op)
    return _by_channel(rewrite, op)


def _by_channel(rewrite: _Rewrite, op: Op) -> Given:
    """A number for each channel: a convolution of one tap, each channel by itself."""
    first = rewrite.whole(op.inputs[0])
    source, other = op.inputs if first else op.inputs[::-1]
    shape = rewrite.forms[op.output].shape
    if not rewrite.whole(source) or rewrite.forms[source].shape != shape:
        return None
    number = rewrite.by_channel(other, source)
    if number is None or (op.kind == "div" and not first):
        return None
    one, none = np.ones_like(number), np.zeros_like(number)
    gain, shift = {
        "mul": (number, none),
        "div": (1 / np.where(number == 0, np.nan, number), none),
        "add": (one, number),
        "sub": (one, -number) if first else (-one, number),
    }[op.kind]
    shift, passed = rewrite.added(op.output, shift)
    found = rewrite.cut(passed[-1])
    if found is None or not np.isfinite(gain).all():
        return None
    x, (last, scale, zero, low, high, cuts) = rewrite.eight(source), found
    channels = shape[-1]
    image = rewrite.draft.add("reshape", x.name, shape=[1, -1, channels])
    kernels, weight_scale = weights_int8(gain[:, None, None, None])
    made = rewrite.draft.add(
        "conv2d_int8", image, kernels, bias_int32(shift, x.scale, weight_scale), weight_scale,
        x_scale=x.scale, x_zero=x.zero, scale=scale, zero=zero, low=low, high=high,
        groups=channels,
    )  # fmt: skip
    rewrite.steps[made] = (scale, zero)
    back = rewrite.draft.add("reshape", made, shape=list(shape[1:]))
    rewrite.give(last, back, scale, zero)
    return [*passed, *cuts]


def _mean(rewrite: _Rewrite, op: Op) -> Given:
    if not rewrite.whole(op.inputs[0]):
        return None
    x, (scale, zero) = rewrite.eight(op.inputs[0]), rewrite.ranges[op.output].parameters
    sizes = rewrite.forms[op.inputs[0]].shape
    count = int(np.prod([sizes[axis] for axis in op.attrs["axes"]]))
    x_scale = x.scale * count if op.kind == "sum" else x.scale
    made = rewrite.draft.add(
        "mean_int8", x.name, x_scale=x_scale, x_zero=x.zero, scale=scale, zero=zero, **op.attrs
    )
    rewrite.give(op.output, made, scale, zero)
    return [op.output]


def _moved(rewrite: _Rewrite, op: Op) -> Given:
    """What gives some of the values it takes, as they are."""
    if not rewrite.whole(op.inputs[0]):
        return None
    x, attrs = rewrite.eight(op.inputs[0]), dict(op.attrs)
    if op.kind == "pad":
        real = float(op.attrs.get("value", 0))
        attrs["value"] = int(quantize(np.array([real]), scale=x.scale, zero=x.zero)[0])
    others = [rewrite.program.constants[name] for name in op.inputs[1:]]
    made = rewrite.draft.add(op.kind, x.name, *others, **attrs)
    rewrite.give(op.output, made, x.scale, x.zero, moved=True)
    return [op.output]


def _concat(rewrite: _Rewrite, op: Op) -> Given:
    if not all(rewrite.whole(name) for name in op.inputs):
        return None
    scale, zero = rewrite.ranges[op.output].parameters
    names = [rewrite.eight(name) for name in op.inputs]
    if len({(x.scale, x.zero) for x in names}) == 1:
        scale, zero = names[0].scale, names[0].zero
    parts = [
        x.name
        if (x.scale, x.zero) == (scale, zero)
        else rewrite.draft.add(
            "requantize", x.name, x_scale=x.scale, x_zero=x.zero, scale=scale, zero=zero
        )
        for x in names
    ]
    rewrite.give(op.output, rewrite.draft.add("concat", *parts, **op.attrs), scale, zero)
    return [op.output]


def _function(rewrite: _Rewrite, op: Op) -> Given:
    """Any function of one int8 value; of several values where all follow from the same one."""
    results: dict[str, Array] = {}
    sources: set[_Eight] = set()
    for name in op.inputs:
        array = rewrite.constant(name)
        if array is not None and array.size == 1:
            results[name] = np.asarray(array.ravel()[0], np.float32)
        elif name in rewrite.tables:
            table = rewrite.tables[name]
            sources.add(table.source)
            results[name] = table.results
        elif name in rewrite.eights:
            sources.add(rewrite.eights[name])
            results[name] = rewrite.eights[name].reals
    shapes = {rewrite.forms[n].shape for n in op.inputs if rewrite.constant(n) is None}
    if len(results) < len(set(op.inputs)) or len(sources) != 1 or len(shapes) != 1:
        return None
    with np.errstate(all="ignore"):
        found = PRIMITIVES[op.kind](*(results[name] for name in op.inputs), **op.attrs)
    rewrite.tables[op.output] = _Table(sources.pop(), np.asarray(found, np.float32))
    return [op.output]


def _softmax(rewrite: _Rewrite, op: Op) -> Given:
    last = len(rewrite.forms[op.output].shape) - 1
    if not rewrite.whole(op.inputs[0]) or op.attrs.get("axis", -1) not in (-1, last):
        return None
    x = rewrite.eight(op.inputs[0])
    made = rewrite.draft.add("softmax_int8", x.name, x_scale=x.scale)
    rewrite.give(op.output, made, SOFTMAX_SCALE, SOFTMAX_ZERO)
    return [op.output]


_FUNCTIONS = ("relu", "leaky_relu", "sigmoid", "tanh", "erf", "exp", "log", "sqrt", "abs", "round",
              "maximum", "minimum", "greater")  # fmt: skip
_RULES: Mapping[str, Callable[[_Rewrite, Op], Given]] = {
    **dict.fromkeys(MOVES, _moved),
    **dict.fromkeys(_FUNCTIONS, _function),
    **dict.fromkeys(("add", "sub", "mul", "div"), _arithmetic),
    **dict.fromkeys(("mean", "sum"), _mean),
    "conv2d_last": _conv,
    "matmul": _dense,
    "concat": _concat,
    "softmax": _softmax,
}

INTEGER_FORMS = frozenset(_RULES)
"""Kinds of float operations that have an integer form, given what they are used on."""
