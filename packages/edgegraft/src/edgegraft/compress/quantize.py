"""Post-training int8: a float program becomes one of integer primitives.

Ranges of the values are read from calibration windows (training windows, never test ones); then
the program is rewritten from its input on. Convolutions and matrices with fixed weights turn
their input into int8, and what follows stays int8 as long as each operation has an integer form;
where one has none the value becomes float again, so every program has an int8 form, and
`Program.float_operations` says what of it still needs floating point.

Weights: symmetric, one scale for each output channel. Values: one scale and zero point, which
always include zero.

Source: Jacob et al., CVPR 2018; Nagel et al., A White Paper on Neural Network Quantization, 2021.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edgegraft.passes.layout import channels_last
from edgegraft_edge.bundle import Bundle, make
from edgegraft_edge.errors import OptionError
from edgegraft_edge.integer import HIGHEST, LOWEST, SOFTMAX_SCALE, SOFTMAX_ZERO, quantize
from edgegraft_edge.primitives import PRIMITIVES
from edgegraft_edge.program import INPUT, Draft, Op, Program, chain, split
from edgegraft_edge.signal import Array

_BATCH = 64
_SMALLEST_SCALE = 1e-9


@dataclass(frozen=True)
class Quantization:
    """How a program is made 8-bit."""

    method: str = field(default="min-max", metadata={"help": "min-max"})


@dataclass(frozen=True)
class Range:
    """Lowest and highest of a value over the calibration windows."""

    low: float
    high: float

    @property
    def parameters(self) -> tuple[float, int]:
        """(scale, zero) of int8 that covers the range and zero.

        >>> Range(0.0, 2.55).parameters
        (0.009999999776482582, -128)
        """
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        scale = float(np.float32(max((high - low) / (HIGHEST - LOWEST), _SMALLEST_SCALE)))
        return scale, int(np.clip(round(LOWEST - low / scale), LOWEST, HIGHEST))


def quantized(program: Program, calibration: Array) -> Program:
    """The program in int8.

    Args:
        program: from raw windows; what takes text apart must stand in front of it.
        calibration: windows of the training set as the program takes them, (n_windows, ...);
            a hundred are enough, of all classes.

    Returns: a program with integer primitives that takes and gives float32 like the first.
    """
    last = channels_last(program, *calibration.shape[1:])
    return _Rewrite(last, observed(last, calibration)).run()


def observed(program: Program, x: Array) -> Mapping[str, Range]:
    """The range of every value of a program over windows x (n_windows, ...)."""
    found: dict[str, Range] = {}
    for first in range(0, len(x), _BATCH):
        values: dict[str, Array] = dict(program.constants)
        values[INPUT] = np.asarray(x[first : first + _BATCH], np.float32)
        _widen(found, INPUT, values[INPUT])
        last_use = {name: index for index, op in enumerate(program.ops) for name in op.inputs}
        for index, op in enumerate(program.ops):
            values[op.output] = PRIMITIVES[op.kind](*(values[n] for n in op.inputs), **op.attrs)
            _widen(found, op.output, values[op.output])
            for name in set(op.inputs):
                if last_use[name] == index and name not in program.constants:
                    del values[name]
    return found


def _widen(found: dict[str, Range], name: str, value: Array) -> None:
    low, high = float(value.min()), float(value.max())
    if name in found:
        low, high = min(low, found[name].low), max(high, found[name].high)
    found[name] = Range(low, high)


def quantized_bundle(
    bundle: Bundle, calibration: Array | None = None, options: Quantization = Quantization()
) -> Bundle:
    """The bundle with its program in int8; windows, classes and decision stay as they are.

    Args:
        calibration: training windows as in the spec (n_windows, ...); the golden windows stand
            in where there are none.

    Returns: an unsigned bundle without models of other runtimes; its expected probabilities are
    those of the integer program.

    Errors: `OptionError` "precision-same" for a bundle that is 8-bit already.
    """
    if bundle.precision != "float":
        raise OptionError.of(
            "precision-same",
            f"a bundle that is {bundle.precision} already",
            "its float weights are gone",
            "the float bundle that it was made of",
        )
    windows = bundle.golden if calibration is None else calibration
    readers, rest = split(bundle.program)
    numbers = windows if readers is None else readers.run(windows)
    program = quantized(rest, numbers)
    if readers is not None:
        program = chain(readers, program)
    manifest = bundle.manifest
    facts = {
        "to": program.precision,
        "calibration_windows": len(windows),
        "calibration_from": "golden" if calibration is None else "training",
        **asdict(options),
    }
    return make(
        program,
        bundle.spec,
        bundle.classes,
        bundle.decision,
        bundle.golden,
        name=manifest.name,
        version=manifest.version,
        created=manifest.created,
        lineage={**manifest.lineage, "precision": facts},
        verdict=manifest.verdict,
        licences=manifest.licences,
        card=bundle.card,
    )


@dataclass(frozen=True)
class _Eight:
    """A value in int8."""

    name: str
    scale: float
    zero: int


class _Rewrite:
    def __init__(self, program: Program, ranges: Mapping[str, Range]) -> None:
        self.program, self.ranges, self.draft = program, ranges, Draft()
        self.readers = Counter(name for op in program.ops for name in op.inputs)
        self.readers[program.output] += 1
        self.next = {name: op for op in program.ops for name in op.inputs}
        self.floats: dict[str, str] = {INPUT: INPUT}
        self.eights: dict[str, _Eight] = {}

    def run(self) -> Program:
        done: set[str] = set()
        for op in self.program.ops:
            if op.output in done:
                continue
            rule = _RULES.get(op.kind)
            given = rule(self, op) if rule is not None else None
            if given is None:
                names = [self.real(name) for name in op.inputs]
                self.floats[op.output] = self.draft.add(op.kind, *names, **op.attrs)
            else:
                done.update(given)
        return self.draft.finish(str(self.real(self.program.output)))

    def constant(self, name: str) -> Array | None:
        return self.program.constants.get(name)

    def real(self, name: str) -> str | Array:
        """The value as float32."""
        if name in self.program.constants:
            return self.program.constants[name]
        if name not in self.floats:
            eight = self.eights[name]
            self.floats[name] = self.draft.add(
                "dequantize", eight.name, scale=eight.scale, zero=eight.zero
            )
        return self.floats[name]

    def eight(self, name: str) -> _Eight:
        """The value as int8, with the parameters of its range if it is not yet."""
        if name not in self.eights:
            scale, zero = self.ranges[name].parameters
            made = self.draft.add("quantize", str(self.real(name)), scale=scale, zero=zero)
            self.eights[name] = _Eight(made, scale, zero)
        return self.eights[name]

    def give(self, name: str, made: str, scale: float, zero: int) -> None:
        self.eights[name] = _Eight(made, scale, zero)

    def cut(self, name: str) -> tuple[str, float, int, int, int, list[str]]:
        """Through the activations after a value that only cut it, and are its only readers.

        Returns: the last value, its scale and zero, bounds in steps, and the values passed.
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
        scale, zero = self.ranges[name].parameters
        steps = quantize(np.array([low, high]), scale=scale, zero=zero).tolist()
        return name, scale, zero, steps[0], steps[1], passed


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
    return np.clip(steps, -(1 << 30), 1 << 30).astype(np.int32)


def _conv(rewrite: _Rewrite, op: Op) -> Given:
    weight, bias = (rewrite.constant(name) for name in op.inputs[1:])
    if weight is None or bias is None:
        return None
    return _weighted(rewrite, "conv2d_int8", op, weight, bias, op.output, dict(op.attrs))


def _dense(rewrite: _Rewrite, op: Op) -> Given:
    weight = rewrite.constant(op.inputs[1])
    if weight is None or weight.ndim != 2:
        return None
    output, bias, passed = op.output, np.zeros(weight.shape[1], np.float32), [op.output]
    after = rewrite.next.get(op.output)
    if after is not None and after.kind == "add" and rewrite.readers[op.output] == 1:
        other = [rewrite.constant(name) for name in after.inputs if name != op.output]
        if other and other[0] is not None and other[0].size in (1, weight.shape[1]):
            bias = np.broadcast_to(other[0].ravel(), weight.shape[1:]).astype(np.float32)
            output = after.output
            passed.append(output)
    kernels = np.ascontiguousarray(weight.T)
    given = _weighted(rewrite, "dense_int8", op, kernels, bias, output, {})
    return [*passed, *given]


def _weighted(
    rewrite: _Rewrite,
    kind: str,
    op: Op,
    weight: Array,
    bias: Array,
    output: str,
    attrs: dict[str, Any],
) -> list[str]:
    x = rewrite.eight(op.inputs[0])
    kernels, weight_scale = weights_int8(weight)
    last, scale, zero, low, high, passed = rewrite.cut(output)
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
    rewrite.give(last, made, scale, zero)
    return passed


def _two(kind: str) -> Callable[[_Rewrite, Op], Given]:
    def rule(rewrite: _Rewrite, op: Op) -> Given:
        if not all(name in rewrite.eights for name in op.inputs):
            return None
        a, b = (rewrite.eight(name) for name in op.inputs)
        last, scale, zero, low, high, passed = rewrite.cut(op.output)
        made = rewrite.draft.add(
            kind, a.name, b.name, a_scale=a.scale, a_zero=a.zero, b_scale=b.scale, b_zero=b.zero,
            scale=scale, zero=zero, low=low, high=high,
        )  # fmt: skip
        rewrite.give(last, made, scale, zero)
        return passed

    return rule


def _mean(rewrite: _Rewrite, op: Op) -> Given:
    if op.inputs[0] not in rewrite.eights:
        return None
    x, (scale, zero) = rewrite.eight(op.inputs[0]), rewrite.ranges[op.output].parameters
    made = rewrite.draft.add(
        "mean_int8", x.name, x_scale=x.scale, x_zero=x.zero, scale=scale, zero=zero, **op.attrs
    )
    rewrite.give(op.output, made, scale, zero)
    return [op.output]


def _moved(rewrite: _Rewrite, op: Op) -> Given:
    """What gives some of the values it takes, as they are."""
    if op.inputs[0] not in rewrite.eights:
        return None
    x, attrs = rewrite.eight(op.inputs[0]), dict(op.attrs)
    if op.kind == "pad":
        attrs["value"] = x.zero
    others = [rewrite.program.constants[name] for name in op.inputs[1:]]
    made = rewrite.draft.add(op.kind, x.name, *others, **attrs)
    rewrite.give(op.output, made, x.scale, x.zero)
    return [op.output]


def _concat(rewrite: _Rewrite, op: Op) -> Given:
    if not all(name in rewrite.eights for name in op.inputs):
        return None
    scale, zero = rewrite.ranges[op.output].parameters
    names = [rewrite.eight(name) for name in op.inputs]
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


def _unary(rewrite: _Rewrite, op: Op) -> Given:
    """Any function of one value: a table of its 256 results."""
    others = [rewrite.constant(name) for name in op.inputs if name not in rewrite.eights]
    given = [name for name in op.inputs if name in rewrite.eights]
    if len(given) != 1 or any(other is None or other.size != 1 for other in others):
        return None
    x, (scale, zero) = rewrite.eight(given[0]), rewrite.ranges[op.output].parameters
    steps = np.arange(LOWEST, HIGHEST + 1, dtype=np.float32)
    real = (steps - np.float32(x.zero)) * np.float32(x.scale)
    arguments = [
        real if name in rewrite.eights else np.float32(rewrite.program.constants[name].ravel()[0])
        for name in op.inputs
    ]
    with np.errstate(all="ignore"):
        found = PRIMITIVES[op.kind](*arguments, **op.attrs)
    table = quantize(np.asarray(found, np.float32), scale=scale, zero=zero)
    rewrite.give(op.output, rewrite.draft.add("table_int8", x.name, table), scale, zero)
    return [op.output]


def _arithmetic(kind: str | None) -> Callable[[_Rewrite, Op], Given]:
    def rule(rewrite: _Rewrite, op: Op) -> Given:
        both = _two(kind)(rewrite, op) if kind is not None else None
        return both if both is not None else _unary(rewrite, op)

    return rule


def _softmax(rewrite: _Rewrite, op: Op) -> Given:
    if op.inputs[0] not in rewrite.eights or op.attrs.get("axis", -1) != -1:
        return None
    x = rewrite.eight(op.inputs[0])
    made = rewrite.draft.add("softmax_int8", x.name, x_scale=x.scale)
    rewrite.give(op.output, made, SOFTMAX_SCALE, SOFTMAX_ZERO)
    return [op.output]


_MOVES = ("reshape", "transpose", "slice", "max", "min", "max_pool2d_last", "frame", "gather",
          "pad", "sort")  # fmt: skip
_UNARY = ("relu", "leaky_relu", "sigmoid", "tanh", "erf", "exp", "log", "sqrt", "abs", "round",
          "sub", "div", "maximum", "minimum", "greater")  # fmt: skip
_RULES: Mapping[str, Callable[[_Rewrite, Op], Given]] = {
    "conv2d_last": _conv,
    "matmul": _dense,
    "add": _arithmetic("add_int8"),
    "mul": _arithmetic("mul_int8"),
    "mean": _mean,
    "concat": _concat,
    "softmax": _softmax,
    **dict.fromkeys(_MOVES, _moved),
    **dict.fromkeys(_UNARY, _unary),
}
