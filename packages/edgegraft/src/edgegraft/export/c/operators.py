"""How each primitive becomes C: element by element, or as another way to read what is there.

:data:`EMITTERS` mirrors :data:`edgegraft_edge.primitives.PRIMITIVES`: each takes the body that is
being written, the form of the result, the values as :class:`Expression` or constant, and the
attributes of the primitive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np

from edgegraft.export.c import float_kernels, int8_kernels
from edgegraft.export.c.body import Body, Value, address, counters_of, nested
from edgegraft.export.c.expression import Expression, Leaf, contiguous, merged
from edgegraft.export.c.int8_kernels import checked_shift
from edgegraft.export.c.text import ctype_of, number
from edgegraft.passes.trace import Form
from edgegraft_edge.errors import ExportError
from edgegraft_edge.integer import add_factors, fixed_point, mean_factor
from edgegraft_edge.primitives import PRIMITIVES
from edgegraft_edge.signal import Array

Emitter = Callable[..., Expression]
_LONG_SUM = 512  # sums beyond this are compensated


def _operand(
    body: Body, value: Value, shape: tuple[int, ...], ctype: str
) -> tuple[str, list[Leaf]]:
    """Text and leaves of an operand in an expression of that shape."""
    if not isinstance(value, Expression):
        if value.size == 1 and ctype == "float":
            return number(float(value.ravel()[0])), []
        dtype = "float32" if ctype == "float" else "int8"
        name = body.constants.array(value, dtype)
        leaf = Leaf(name, ctype, 0, contiguous(value.shape))
        return "{0}", [leaf.broadcast(value.shape, shape)]
    if value.ctype != ctype:
        raise ExportError.of(
            "export-c-operation",
            f"an operation of {ctype} on values of {value.ctype}",
            "the C kernels have no such mixture",
            "dequantize before it",
        )
    if value.size < prod(shape):
        value = body.settled(value)
    return value.text, [leaf.broadcast(value.shape, shape) for leaf in value.leaves]


def elementwise(
    body: Body, form: Form, template: str, values: Sequence[Value], takes: str = "float"
) -> Expression:
    """An expression over values that broadcast; the template has ``{0}``, ``{1}`` for them."""
    texts: list[str] = []
    leaves: list[Leaf] = []
    for value in values:
        words, found = _operand(body, value, form.shape, takes)
        places = []
        for leaf in found:
            if leaf not in leaves:
                leaves.append(leaf)
            places.append("{" + str(leaves.index(leaf)) + "}")
        texts.append(words.format(*places))
    text = template.format(*texts)
    return body.short(Expression(form.shape, ctype_of(form.dtype), text, tuple(leaves)))


def _float(template: str) -> Emitter:
    def emit(body: Body, form: Form, *values: Value) -> Expression:
        return elementwise(body, form, template, values)

    return emit


def _leaky_relu(body: Body, form: Form, x: Value, *, slope: float = 0.01) -> Expression:
    return elementwise(body, form, f"eg_leaky_relu({{0}}, {number(slope)})", [x])


def _quantize(body: Body, form: Form, x: Value, *, scale: float, zero: int) -> Expression:
    return elementwise(body, form, f"eg_quantize({{0}}, {number(scale)}, {int(zero)})", [x])


def _dequantize(body: Body, form: Form, q: Value, *, scale: float, zero: int) -> Expression:
    template = f"eg_dequantize({{0}}, {number(scale)}, {int(zero)})"
    return elementwise(body, form, template, [q], "int8_t")


def _requantize(
    body: Body, form: Form, q: Value, *, x_scale: float, x_zero: int, scale: float, zero: int
) -> Expression:
    multiplier, shift = fixed_point(x_scale / scale)
    checked_shift(255, shift, "requantize")
    template = f"eg_requantize({{0}}, {int(x_zero)}, {multiplier}, {shift}, {int(zero)})"
    return elementwise(body, form, template, [q], "int8_t")


def _pair(kind: str) -> Emitter:
    def emit(
        body: Body, form: Form, a: Value, b: Value, *, a_scale: float, a_zero: int,
        b_scale: float, b_zero: int, scale: float, zero: int, low: int = -128, high: int = 127,
    ) -> Expression:  # fmt: skip
        fields = {"a_zero": a_zero, "b_zero": b_zero, "zero": zero, "low": low, "high": high}
        if kind == "add":
            one, other, last = add_factors(a_scale, b_scale, scale)
            checked_shift(1 << 29, last[1], "add_int8")
            names = ("a_multiplier", "a_shift", "b_multiplier", "b_shift", "multiplier", "shift")
            fields |= dict(zip(names, (*one, *other, *last), strict=True))
        else:
            multiplier, shift = fixed_point(float(a_scale) * b_scale / scale)
            checked_shift(255 * 255, shift, "mul_int8")
            fields |= {"multiplier": multiplier, "shift": shift}
        name = body.constants.structure("eg_pair_s8", {k: int(v) for k, v in fields.items()})
        return elementwise(body, form, f"eg_{kind}_s8({{0}}, {{1}}, &{name})", [a, b], "int8_t")

    return emit


def _table(body: Body, form: Form, x: Value, table: Value) -> Expression:
    name = body.constants.array(_constant(table, "table_int8"), "int8")
    return elementwise(body, form, f"{name}[{{0}} + 128]", [x], "int8_t")


def _constant(value: Value, kind: str) -> Array:
    if isinstance(value, Expression):
        raise ExportError.of(
            "export-not-constant",
            f"{kind} with computed weights",
            "its C keeps them in flash",
            "constants in the program",
        )
    return value


# -- what only moves


def _expression(body: Body, value: Value) -> Expression:
    if isinstance(value, Expression):
        return value
    return body.dense(value)


def _reshape(body: Body, form: Form, x: Value, *, shape: list[int]) -> Expression:
    value = _expression(body, x)
    found = value.reshaped(form.shape)
    if found is None:
        found = body.dense(value).reshaped(form.shape)
    assert found is not None  # what lies densely has every shape of its size
    return found


def _transpose(body: Body, form: Form, x: Value, *, axes: list[int]) -> Expression:
    return _expression(body, x).transposed(axes)


def _slice(
    body: Body, form: Form, x: Value, *, axis: int, start: int, stop: int, step: int = 1
) -> Expression:
    value = _expression(body, x)
    axis %= len(value.shape)
    first, _, by = slice(start, stop, step).indices(value.shape[axis])
    return value.sliced(axis, first, by, form.shape[axis])


def _frame(body: Body, form: Form, x: Value, *, length: int, hop: int) -> Expression:
    return body.settled(_expression(body, x)).framed(length, hop, form.shape[2])


def _concat(body: Body, form: Form, *values: Value, axis: int) -> Expression:
    ctype = ctype_of(form.dtype)
    axis %= len(form.shape)
    out, place = body.buffer(ctype, form.shape), 0
    dtype = "float32" if ctype == "float" else "int8"
    for value in values:
        part = value if isinstance(value, Expression) else body.dense(value, dtype)
        size = part.shape[axis]
        body.loop(out.sliced(axis, place, 1, size), part)
        place += size
    return out


def _pad(
    body: Body, form: Form, x: Value, *, before: list[int], after: list[int], value: float = 0
) -> Expression:
    inside = _expression(body, x)
    out = body.buffer(inside.ctype, form.shape)
    fill = number(value) if inside.ctype == "float" else str(int(value))
    body.loop(out, Expression(form.shape, inside.ctype, fill, ()))
    target = out
    for axis, (first, size) in enumerate(zip((0, *before), inside.shape, strict=True)):
        target = target.sliced(axis, first, 1, size)
    body.loop(target, inside)
    return out


def _gather(body: Body, form: Form, x: Value, index: Value, *, axis: int) -> Expression:
    value = body.dense(x)
    axis %= len(value.shape)
    n_in = value.shape[axis]
    rows = _constant(index, "gather").astype(np.int64).ravel() % n_in
    outer, inner = prod(value.shape[:axis]), prod(value.shape[axis + 1 :])
    out = body.buffer(value.ctype, form.shape)
    size = inner * (4 if value.ctype == "float" else 1)
    name = body.constants.array(rows, "int32")
    body.call("eg_gather", [value, out, name, outer, n_in, len(rows), size], [value], out)
    return out


# -- what sums up


def _reduce(kind: str) -> Emitter:
    def emit(
        body: Body, form: Form, x: Value, *, axes: list[int], keepdims: bool = True,
        **scales: Any,
    ) -> Expression:  # fmt: skip
        value = _expression(body, x)
        rank = len(value.shape)
        gone = {axis % rank for axis in axes}
        count = prod(value.shape[axis] for axis in gone)
        out = body.buffer(ctype_of(form.dtype), form.shape)
        before, line, after = _summed(kind, value, count, scales)
        kept = [axis for axis in range(rank) if axis not in gone]
        shape = [value.shape[axis] for axis in kept]
        target = Leaf(out.leaves[0].name, out.ctype, 0, contiguous(tuple(shape)))
        outer = merged(
            tuple(shape),
            [target.strides, *(tuple(leaf.strides[a] for a in kept) for leaf in value.leaves)],
        )
        inner = merged(
            tuple(value.shape[axis] for axis in sorted(gone)),
            [tuple(leaf.strides[a] for a in sorted(gone)) for leaf in value.leaves],
        )
        counters = counters_of(len(outer) + len(inner))
        places = [
            address(leaf, counters, [*(s[n + 1] for _, s in outer), *(s[n] for _, s in inner)])
            for n, leaf in enumerate(value.leaves)
        ]
        found = address(target, counters[: len(outer)], [s[0] for _, s in outer])
        within = nested(
            [size for size, _ in inner],
            counters[len(outer) :],
            [line.format(value.text.format(*places))],
        )
        lines = [*before, *within, f"{found} = {after};"]
        body.step(
            nested([size for size, _ in outer], counters[: len(outer)], lines)
            if outer
            else ["{", *(f"    {each}" for each in lines), "}"],
            [value],
            out,
        )
        return out

    return emit


def _summed(
    kind: str, value: Expression, count: int, scales: Mapping[str, Any]
) -> tuple[list[str], str, str]:
    """What stands before the loop of a reduction, within it, and what it gives."""
    if kind == "mean_int8":
        multiplier, shift = mean_factor(scales["x_scale"], scales["scale"], count)
        checked_shift(255 * count, shift, "mean_int8")
        zeros = -int(scales["x_zero"]) * count
        sum_ = f"eg_scaled(sum, {multiplier}, {shift}) + {int(scales['zero'])}"
        return [f"int32_t sum = {zeros};"], "sum += {0};", f"eg_bounded({sum_}, -128, 127)"
    if kind in ("max", "min"):
        function = "eg_maximum" if kind == "max" else "eg_minimum"
        if value.ctype == "float":
            start = "-INFINITY" if kind == "max" else "INFINITY"
            return [f"float best = {start};"], f"best = {function}(best, {{0}});", "best"
        sign, start = (">", "-128") if kind == "max" else ("<", "127")
        before = [f"int32_t best = {start};"]
        return before, f"best = {{0}} {sign} best ? {{0}} : best;", "(int8_t)best"
    if value.ctype != "float":
        raise ExportError.of(
            "export-c-operation", f"{kind} of int8 values", "it is computed on floats",
            "mean_int8, or dequantize before it",
        )  # fmt: skip
    after = f"sum / {number(count)}" if kind == "mean" else "sum"
    if count > _LONG_SUM:
        return ["float sum = 0.0f, lost = 0.0f;"], "eg_sum(&sum, &lost, {0});", after
    return ["float sum = 0.0f;"], "sum += {0};", after


def refused(kind: str, why: str, remedy: str) -> Emitter:
    """An emitter that says why there is none."""

    def emit(body: Body, form: Form, *values: Value, **attrs: Any) -> Expression:
        raise ExportError.of("export-c-operation", f"operation {kind!r}", why, remedy)

    return emit


_TEXT = ("it takes text apart, which is done in NumPy", "--format onnx, on a device with NumPy")
_ORDER = ("its weights are computed", "constant weights, so that the channels can come last")

EMITTERS: Mapping[str, Emitter] = MappingProxyType(
    {
        "add": _float("({0} + {1})"),
        "sub": _float("({0} - {1})"),
        "mul": _float("({0} * {1})"),
        "div": _float("({0} / {1})"),
        "maximum": _float("eg_maximum({0}, {1})"),
        "minimum": _float("eg_minimum({0}, {1})"),
        "greater": _float("({0} > {1} ? 1.0f : 0.0f)"),
        "abs": _float("fabsf({0})"),
        "sqrt": _float("sqrtf({0})"),
        "log": _float("logf({0})"),
        "exp": _float("expf({0})"),
        "erf": _float("erff({0})"),
        "round": _float("rintf({0})"),
        "tanh": _float("tanhf({0})"),
        "sigmoid": _float("eg_sigmoid({0})"),
        "relu": _float("eg_maximum({0}, 0.0f)"),
        "leaky_relu": _leaky_relu,
        "softmax": float_kernels.softmax,
        "matmul": float_kernels.matmul,
        "conv1d": refused("conv1d", *_ORDER),
        "conv2d": refused("conv2d", *_ORDER),
        "conv2d_last": float_kernels.conv2d_last,
        "max_pool2d": refused("max_pool2d", *_ORDER),
        "max_pool2d_last": int8_kernels.max_pool2d_last,
        "pad": _pad,
        "frame": _frame,
        "mean": _reduce("mean"),
        "sum": _reduce("sum"),
        "max": _reduce("max"),
        "min": _reduce("min"),
        "sort": float_kernels.sort,
        "concat": _concat,
        "reshape": _reshape,
        "transpose": _transpose,
        "slice": _slice,
        "gather": _gather,
        "lookup": float_kernels.lookup,
        "trees": float_kernels.trees,
        "quantize": _quantize,
        "dequantize": _dequantize,
        "requantize": _requantize,
        "conv2d_int8": int8_kernels.conv2d_int8,
        "dense_int8": int8_kernels.dense_int8,
        "add_int8": _pair("add"),
        "mul_int8": _pair("mul"),
        "mean_int8": _reduce("mean_int8"),
        "average_pool_int8": int8_kernels.average_pool_int8,
        "table_int8": _table,
        "softmax_int8": int8_kernels.softmax_int8,
        **{kind: refused(kind, *_TEXT) for kind in ("wordpiece", "bytepair", "terms")},
    }
)
"""Primitive -> what writes its C; a test holds it together with the table of primitives."""


def folded(kind: str, values: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    """What an operation on constants gives: it is computed here, not on the device."""
    with np.errstate(all="ignore"):
        return np.asarray(PRIMITIVES[kind](*values, **attrs))
