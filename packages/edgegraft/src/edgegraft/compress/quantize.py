"""Post-training int8: a float program, or a bundle, becomes one of integer primitives.

Ranges of the values are read from calibration windows (training windows, never test ones:
:mod:`edgegraft.compress.calibrate`). Every operation that has an integer form is tried alone
(:mod:`edgegraft.compress.noise`); those that would disturb the result too much stay float, and
are named. The rest is rewritten (:mod:`edgegraft.compress.rewrite`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgegraft.compress.calibrate import Quantization, evenly, observed
from edgegraft.compress.equalize import equalized
from edgegraft.compress.noise import Judged, all_values, each_alone, finite
from edgegraft.compress.rewrite import INTEGER_FORMS, Rewritten, Weights, rewritten
from edgegraft.passes.layout import channels_last
from edgegraft.passes.trace import trace
from edgegraft.zoo.cost import multiply_adds
from edgegraft_edge.bundle import Bundle, make
from edgegraft_edge.errors import ExportError, ModelError, OptionError, Problem
from edgegraft_edge.primitives import BY_VALUE, MOVES
from edgegraft_edge.program import INPUT, Op, Program, chain, split
from edgegraft_edge.signal import Array

__all__ = ["Kept", "Quantization", "Quantized", "float_operations", "quantize_program",
           "quantized", "quantized_bundle", "remade"]  # fmt: skip
_DEFAULT = Quantization()
_JUDGED = 64  # windows that the result is judged by
_OF_EMBEDDING = 0.5  # of a network without its head: random weights hardly tell windows apart
_NAMED = 4
_MULTIPLY_ADDS, _LEAST_WINDOWS = 4_000_000_000, 16  # of all calibration windows together
_STEPS, _STEP_DB = 6, 4.0  # how often the loudest are left out, and how much stricter each time


@dataclass(frozen=True)
class Kept:
    """Operations that stay float.

    Attributes:
        operation: their kind.
        count: how many.
        reason: why.
    """

    operation: str
    count: int
    reason: str

    def __str__(self) -> str:
        return f"{self.count} x {self.operation}: {self.reason}"


@dataclass(frozen=True)
class Quantized:
    """A program in int8, and what became of it.

    Attributes:
        program: with integer primitives; takes and gives float32 like the first.
        kept_float: operations that stay float; what prepares a window value by value, and what
            only moves values, is not listed.
        sqnr_db: signal to noise over calibration windows in decibels, of what its softmax takes or
            else of its result.
        weights: float weights of its convolutions and matrices, by the value that they give.
        steps: (scale, zero) of its int8 values, where they were rounded.
    """

    program: Program
    kept_float: tuple[Kept, ...]
    sqnr_db: float
    weights: Mapping[str, Weights]
    steps: Mapping[str, tuple[float, int]]


def quantized(program: Program, calibration: Array, options: Quantization = _DEFAULT) -> Program:
    """The program in int8: `quantize_program` without what it says."""
    return quantize_program(program, calibration, options).program


def quantize_program(
    program: Program, calibration: Array, options: Quantization = _DEFAULT
) -> Quantized:
    """The program in int8.

    Args:
        program: from raw windows; what takes text apart must stand in front of it.
        calibration: windows of the training set as the program takes them, (n_windows, ...);
            a hundred are enough, of all classes; of a large network fewer are looked at.

    Errors: `ExportError` "integer-only" when only integers are wanted and some operation needs
    floats, with every such operation; `OptionError` "precision-same".

    >>> from edgegraft_edge.heads import LinearHead
    >>> x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    >>> head = LinearHead(np.eye(4, 3, dtype=np.float32), np.zeros(3, np.float32))
    >>> found = quantize_program(head.program(), x)
    >>> [op.kind for op in found.program.ops], found.sqnr_db > 30
    (['quantize', 'dense_int8', 'softmax_int8', 'dequantize'], True)
    """
    if program.precision != "float":
        raise OptionError.of(
            "precision-same",
            f"a program that is {program.precision} already",
            "its float weights are gone",
            "the float program that it was made of",
        )
    x = np.asarray(calibration, np.float32)
    x = evenly(x, _affordable(program, x, options.windows))
    plain = channels_last(program, *x.shape[1:])
    best = _search(plain, x, options, 0)
    if best.sqnr_db < best.least_db:
        steps = 0 if options.integer_only else _STEPS
        best = max(best, _search(equalized(plain, x), x, options, steps), key=lambda b: b.sqnr_db)
    found, stayed = best.found, _stayed(best)
    inside = [each for each in stayed if not each.front]
    if options.integer_only and (inside or found.program.precision == "float"):
        raise ExportError(
            Problem(
                "integer-only",
                str(kept),
                "only integers are wanted once the window is quantised",
                "a board with floating point, or a network of convolutions and matrices",
            )
            for kept in _counted(inside or stayed)
        )
    return Quantized(found.program, _counted(stayed), best.sqnr_db, found.weights, found.steps)


def _affordable(program: Program, x: Array, most: int) -> int:
    """How many windows to look at: fewer where one is dear."""
    dear = multiply_adds(program, *x.shape[1:])
    return max(1, min(most, max(_LEAST_WINDOWS, _MULTIPLY_ADDS // max(1, dear))))


@dataclass(frozen=True)
class _Best:
    """What was found for a float program: `noisy` values and those in `front` stay float."""

    program: Program
    found: Rewritten
    sqnr_db: float
    least_db: float
    noisy: Mapping[str, float]
    front: frozenset[str]


def _search(program: Program, x: Array, options: Quantization, steps: int) -> _Best:
    """Everything in integers if that is good enough, or all behind the front; else without the
    loudest operations, more of them at each of so many steps.
    """
    forms, ranges = trace(program, *x.shape[1:]), observed(program, x, options)
    judged, few = Judged.of(program), evenly(x, _JUDGED)
    wanted = all_values(program, few)
    sound = finite(wanted)

    def attempt(kept: Collection[str]) -> tuple[Rewritten, float]:
        made = rewritten(program, forms, ranges, kept, judged.names)
        found = all_values(made.shown, few)
        if sound and not finite(found):
            return made, 0.0
        return made, judged.db(wanted, {n: found[made.names[n]] for n in judged.names})

    found, sqnr = attempt(())
    front, noisy = _front(program), dict[str, float]()
    embeds = front and not judged.early
    least = options.least_sqnr_db * (_OF_EMBEDDING if embeds else 1)
    if sqnr < least or any(op.output in front for op in _harder(found.stayed)):
        found, sqnr = attempt(front)  # in integers wholly, or not at all
    for step in range(steps):
        if sqnr >= least:
            break
        noise = each_alone(judged, x, found.roundings)
        most = least + _STEP_DB * step
        noisy |= {name: db for name, db in noise.items() if db < most}
        found, sqnr = attempt({*front, *noisy})
    return _Best(program, found, sqnr, least, noisy, front)


def _harder(ops: Iterable[Op]) -> Iterator[Op]:
    """Those that do more than change a window value by value."""
    return (op for op in ops if op.kind not in BY_VALUE and op.kind not in MOVES)


def _front(program: Program) -> frozenset[str]:
    """What prepares windows for a network: all before its first trained weights, which have names.

    Empty where nothing has a name: then nothing tells features and network apart.
    """
    trained, ahead = set[str](), {INPUT}
    for op in program.ops:
        if any(name in trained or "." in name for name in op.inputs):
            trained.add(op.output)
        else:
            ahead.add(op.output)
    feeds: set[str] = set()
    for op in reversed(program.ops):
        if op.output in trained or op.output in feeds:
            feeds.update(op.inputs)
    last = {name for op in program.ops if op.output in trained for name in op.inputs}
    return frozenset((ahead & feeds) - last)


@dataclass(frozen=True)
class _Stayed:
    operation: str
    reason: str
    front: bool  # before anything is int8


def _stayed(best: _Best) -> list[_Stayed]:
    """What is still done in float, but for preparing a window value by value, and why."""
    program, noisy = best.program, best.noisy
    ahead, listed = {INPUT}, []
    for op in best.found.stayed:
        given = [name for name in op.inputs if name not in program.constants]
        first = all(name in ahead for name in given)
        if first:
            ahead.add(op.output)
            if op.kind in BY_VALUE or op.kind in MOVES:
                continue
        loud = [noisy[name] for name in (op.output, *given) if name in noisy]
        if op.output in best.front:
            reason = "prepares windows for the network"
        elif loud:
            reason = f"rounding would leave {min(loud):.0f} dB of signal to noise"
        elif op.kind not in INTEGER_FORMS:
            reason = "has no integer form"
        elif any(name in program.constants for name in op.inputs):
            reason = "takes floats, or a constant that is not one number a channel"
        else:
            reason = "takes floats"
        listed.append(_Stayed(op.kind, reason, first))
    return listed


def _counted(stayed: Iterable[_Stayed]) -> tuple[Kept, ...]:
    counts = Counter((each.operation, each.reason) for each in stayed)
    return tuple(Kept(operation, count, why) for (operation, why), count in counts.items())


def float_operations(program: Program) -> tuple[str, ...]:
    """See `Program.float_operations`."""
    return program.float_operations


def quantized_bundle(
    bundle: Bundle, calibration: Array | None = None, options: Quantization = _DEFAULT
) -> Bundle:
    """The bundle with its program in int8; windows, classes and decision stay as they are.

    The threshold of the decision stays too. It was set by probabilities in float, so the lineage
    says how many answers to calibration windows changed by the step to int8 ("answers_changed").

    Args:
        calibration: training windows as in the spec (n_windows, ...); the golden windows stand
            in where there are none.

    Returns: an unsigned bundle without models of other runtimes; its expected probabilities are
    those of the integer program.

    Errors: as `quantize_program`; `ModelError` "int8-nothing" where no operation can be int8,
    "int8-estimates" of a model that estimates numbers, "int8-anomaly" of one whose lineage has
    `float_only`.
    """
    if bundle.outputs is not None:
        raise ModelError.of(
            "int8-estimates",
            f"a model that estimates {', '.join(bundle.outputs.names[:5])}",
            "256 steps are too coarse for numbers and their intervals",
            "precision float: such models are small",
        )
    if why := bundle.manifest.lineage.get("float_only"):
        raise ModelError.of(
            "int8-anomaly",
            f"a model of the strategy {bundle.manifest.lineage.get('strategy')}",
            str(why),
            "precision float; fewer experts or less memory make it smaller",
        )
    windows = bundle.golden if calibration is None else evenly(calibration, options.windows)
    readers, rest = split(bundle.program)
    found = quantize_program(rest, windows if readers is None else readers.run(windows), options)
    facts = {
        "calibration": "golden windows" if calibration is None else "training windows",
        **asdict(options),
        "windows": len(windows),
    }
    return remade(bundle, found, windows, facts)


def remade(bundle: Bundle, found: Quantized, windows: Array, facts: Mapping[str, Any]) -> Bundle:
    """The bundle with what became of its program, after what takes text apart.

    Args:
        windows: raw, that answers before and after are compared on.
        facts: for its lineage.

    Errors: `ModelError` "int8-nothing".
    """
    if found.program.precision == "float":
        raise ModelError.of(
            "int8-nothing",
            "a program of which nothing can be int8: "
            + "; ".join(map(str, found.kept_float[:_NAMED])),
            "8-bit weights and values would change its answers",
            "precision float, or a network such as the micro student",
        )
    readers, _ = split(bundle.program)
    program = found.program if readers is None else chain(readers, found.program)
    manifest = bundle.manifest
    said = {
        "now": program.precision,
        "sqnr_db": round(found.sqnr_db, 1),
        "kept_float": [str(kept) for kept in found.kept_float],
        **facts,
        **_changed(bundle, program, windows),
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
        lineage={**manifest.lineage, "precision": said},
        verdict=manifest.verdict,
        licences=manifest.licences,
        card=bundle.card,
    )


def _changed(bundle: Bundle, program: Program, windows: Array) -> Mapping[str, Any]:
    """How many of the windows are answered otherwise, and how far the probabilities went."""
    answers, probabilities = [], []
    for each in (bundle.program, program):
        found = np.concatenate([each.run(windows[i : i + 1]) for i in range(len(windows))])
        sure = found.max(axis=1) >= bundle.decision.threshold
        answers.append(np.where(sure, found.argmax(axis=1), -1))
        probabilities.append(found)
    away = np.abs(probabilities[1] - probabilities[0])
    return {
        "answers_changed": int((answers[0] != answers[1]).sum()),
        "probability_moved": round(float(away.max()), 4),
    }
