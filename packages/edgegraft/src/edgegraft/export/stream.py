"""Streams in C: samples in, events out, beside the C of a model.

What :class:`edgegraft_edge.windowing.Ring` and :class:`edgegraft_edge.decision.Decider` do in
Python, ``edgegraft_stream.c`` does in C, and what is written here ties both to one model: buffers,
its decision as numbers, and what prepares a sample.

Thresholds lose nothing on the way. Python rounds a mean to six digits and compares it with the
threshold; rounding keeps order, so there is a least mean that passes, and it is looked for here
and written down. Scores of an int8 model are whole steps of 1/256, so for each number of smoothed
windows there is a least sum, and no floating point is needed. Hold-off becomes samples.

Where a model is integer throughout and its windows are prepared value by value, samples are
turned into int8 as they come and the window is kept in a quarter of the memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from math import ceil

import numpy as np

from edgegraft.export.c.emit import model_of
from edgegraft.export.c.model import Model
from edgegraft.export.c.text import number
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.decision import Decision
from edgegraft_edge.errors import ExportError
from edgegraft_edge.integer import SOFTMAX_SCALE, SOFTMAX_ZERO
from edgegraft_edge.primitives import PRIMITIVES
from edgegraft_edge.program import INPUT, Program
from edgegraft_edge.signal import Array, WindowSpec, series_spec

MOVES = ("reshape", "transpose")
_ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_CUTS = {"maximum": ">", "minimum": "<"}
_ALLOWANCE_S = 1e-6  # as edgegraft_edge.decision.Decider allows
_ROUND = 6
MAX_RECENT_BYTES = 1 << 16


@dataclass(frozen=True)
class Front:
    """How a sample becomes int8, each channel by itself.

    Attributes:
        lines: C statements on the float ``value`` of channel ``channel``, in order.
        tables: name -> float32 (n_channels,) that the statements read.
        scale, zero: of the int8 values.
        last: whether the model takes them as (n_timepoints, n_channels).
    """

    lines: tuple[str, ...]
    tables: Mapping[str, Array]
    scale: float
    zero: int
    last: bool


def front_of(program: Program, n_channels: int, n_timepoints: int) -> Front | None:
    """What stands before the first int8 value; None where it is more than value by value.

    >>> from edgegraft_edge.program import Draft
    >>> draft = Draft()
    >>> value = draft.add("div", draft.add("sub", "x", np.float32([[1], [2]])), np.float32(4))
    >>> eight = draft.add("quantize", value, scale=0.1, zero=0)
    >>> front = front_of(draft.finish(draft.add("dequantize", eight, scale=0.1, zero=0)), 2, 5)
    >>> front.lines
    ('value = value - before0[channel];', 'value = value / 4.0f;')
    """
    if sum(op.kind == "quantize" for op in program.ops) != 1:
        return None
    place: Array = np.arange(n_channels * n_timepoints).reshape(1, n_channels, n_timepoints)
    value, lines, tables = INPUT, list[str](), dict[str, Array]()
    for op in program.ops:
        others = [name for name in op.inputs if name != value]
        if value not in op.inputs or any(name not in program.constants for name in others):
            return None
        if op.kind == "quantize":
            order = place.ravel()
            plain = np.arange(order.size)
            turned = plain.reshape(n_channels, n_timepoints).T.ravel()
            same = np.array_equal(order, plain)
            if not same and not np.array_equal(order, turned):
                return None
            scale, zero = float(op.attrs["scale"]), int(op.attrs["zero"])
            return Front(tuple(lines), tables, scale, zero, not same)
        if op.kind in MOVES:
            place = PRIMITIVES[op.kind](place, **op.attrs)
        elif len(others) == 1 and op.kind in (*_ARITHMETIC, *_CUTS):
            constant = program.constants[others[0]]
            if np.broadcast_shapes(constant.shape, place.shape) != place.shape:
                return None
            each = _by_channel(constant, place, n_channels, n_timepoints)
            if each is None:
                return None
            if (each == each[0]).all():
                other = number(each[0])
            else:
                other = f"before{len(tables)}[channel]"
                tables[f"before{len(tables)}"] = each
            lines.append(_statement(op.kind, other, first=op.inputs[0] == value))
        else:
            return None
        value = op.output
    return None


def _statement(kind: str, other: str, *, first: bool) -> str:
    if kind in _CUTS:
        return f"value = {other} {_CUTS[kind]} value ? {other} : value;"
    pair = ("value", other) if first else (other, "value")
    return f"value = {pair[0]} {_ARITHMETIC[kind]} {pair[1]};"


def _by_channel(constant: Array, place: Array, n_channels: int, n_timepoints: int) -> Array | None:
    """A constant that meets each channel with one number: float32 (n_channels,)."""
    spread = np.empty(n_channels * n_timepoints, np.float32)
    spread[place.ravel()] = np.broadcast_to(constant, place.shape).ravel()
    table = spread.reshape(n_channels, n_timepoints)
    return table[:, 0].copy() if (table == table[:, :1]).all() else None


def least_mean(threshold: float) -> float:
    """The least float64 of [0, 1] that `Decider` takes as sure; 0 always is at threshold 0.

    >>> round(least_mean(0.6), 9), round(least_mean(0.6), 6) >= 0.6
    (0.5999995, True)
    """
    return _least(lambda mean: round(mean, _ROUND) >= threshold)


def _least(passes: Callable[[float], bool]) -> float:
    """The least float64 from 0 on that passes; order of bits is order of values."""
    low, high = 0, struct.unpack("<q", struct.pack("<d", 1.0))[0]
    while low < high:
        middle = (low + high) // 2
        if passes(struct.unpack("<d", struct.pack("<q", middle))[0]):
            high = middle
        else:
            low = middle + 1
    return float(struct.unpack("<d", struct.pack("<q", low))[0])


def least_sums(decision: Decision) -> list[int]:
    """For 1 to `smooth` windows, the least sum of steps of 1/256 that `Decider` takes as sure.

    >>> least_sums(Decision(threshold=0.5, smooth=3))
    [128, 256, 384]
    """
    found = []
    for count in range(1, decision.smooth + 1):
        low, high = 0, 256 * count
        while low < high:
            middle = (low + high) // 2
            if round(middle / 256 / count, _ROUND) >= decision.threshold:
                high = middle
            else:
                low = middle + 1
        found.append(low)
    return found


def hold_off(decision: Decision, rate_hz: float) -> int:
    """Hold-off in samples.

    >>> hold_off(Decision(hold_off_s=0.3), 10.0)
    3
    """
    samples = (decision.hold_off_s - _ALLOWANCE_S) * rate_hz
    return max(0, ceil(samples - 1e-9))


def is_integer(model: Model) -> bool:
    """Whether its scores are int8 probabilities in steps of 1/256."""
    if model.integers is None:
        return False
    attrs = model.integers.exit.attrs
    return (attrs["scale"], attrs["zero"]) == (SOFTMAX_SCALE, SOFTMAX_ZERO)


def stream_files(
    bundle: Bundle, *, prefix: str = "model", decision: Decision | None = None
) -> dict[str, bytes]:
    """What a bundle's C needs to run on a stream: path -> text.

    Args:
        prefix: of the names of the model's C.
        decision: in place of the one in the bundle.

    Errors: `DataError` "kind-differs" for pictures and sentences, `ExportError` "stream-memory"
    where smoothing would need more memory than microcontrollers have, "stream-derived" where
    channels are derived.
    """
    spec, decision = series_spec(bundle.spec), decision or bundle.decision
    derived = [channel.name for channel in spec.channels if channel.derive]
    if derived:
        raise ExportError.of(
            "stream-derived",
            f"derived channels {', '.join(derived[:8])}",
            "the stream in C takes measured ones; edgegraft-edge computes them on the device",
            "run the bundle with edgegraft-edge, call the model in C with whole windows, or train "
            "without --derive",
        )
    model = model_of(bundle.program, *spec.shape, prefix=prefix)
    eight = is_integer(model)
    recent = decision.smooth * len(bundle.classes) * (1 if eight else 4)
    if recent > MAX_RECENT_BYTES:
        raise ExportError.of(
            "stream-memory",
            f"smoothing over {decision.smooth:,} windows of {len(bundle.classes)} classes",
            f"it would keep {recent:,} bytes of scores, and {MAX_RECENT_BYTES:,} are the most",
            "a smaller smooth in the decision",
        )
    front = front_of(model.program, *spec.shape) if eight else None
    runtime = resources.files("edgegraft").joinpath("export/c/runtime")
    names = {"prefix": prefix, "upper": prefix.upper()}
    return {
        **{
            f"src/{name}": runtime.joinpath(name).read_bytes()
            for name in ("edgegraft_stream.h", "edgegraft_stream.c")
        },
        f"src/{prefix}_stream.h": _header(spec, decision, eight, front, names).encode(),
        f"src/{prefix}_stream.c": _source(
            spec, decision, len(bundle.classes), eight, front, names
        ).encode(),
    }


def _header(
    spec: WindowSpec, decision: Decision, eight: bool, front: Front | None, names: Mapping[str, str]
) -> str:
    prefix, upper = names["prefix"], names["upper"]
    kind = "int8_t" if front is not None else "float"
    steps = f"    int8_t steps[{upper}_S8_INPUT_SIZE];\n" if eight and front is None else ""
    score = "int8_t" if eight else "float"
    return f"""/* A stream of samples through the model. Written by Edgegraft. */
#ifndef {upper}_STREAM_H
#define {upper}_STREAM_H

#include "{prefix}.h"
#include "edgegraft_stream.h"

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_RATE_HZ {number(spec.rate_hz)}
#define {upper}_STRIDE {spec.n_stride}u
#define {upper}_SMOOTH {decision.smooth}u
#define {upper}_STREAM_ARENA_BYTES {upper}_{"S8_" if eight else ""}ARENA_BYTES

typedef struct {{
    eg_ring ring;
    eg_decider decider;
    uint64_t seen;   /* samples so far */
    uint64_t broken; /* after the last sample that held no number; 0: there was none */
    {kind} window[{spec.n_channels * spec.n_timepoints}];
{steps}    {score} recent[{upper}_SMOOTH * {upper}_N_CLASSES];
}} {prefix}_stream;

/* Begins a stream; also after the clock has jumped. */
void {prefix}_stream_start({prefix}_stream *stream);

/* Tells of a gap of so many samples: windows and smoothing begin anew. */
void {prefix}_stream_gap({prefix}_stream *stream, uint64_t samples);

/* Takes one sample, channels in the order and units of the bundle. 1 when there is an event,
 * else 0. `arena`: {upper}_STREAM_ARENA_BYTES, aligned to 16, that keep nothing between calls. */
int32_t {prefix}_push({prefix}_stream *stream, const float *sample, void *arena,
                   eg_event *event);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _source(
    spec: WindowSpec,
    decision: Decision,
    n_classes: int,
    eight: bool,
    front: Front | None,
    names: Mapping[str, str],
) -> str:
    prefix, upper = names["prefix"], names["upper"]
    sums = ", ".join(f"{value}u" for value in least_sums(decision)) if eight else "0u"
    last = front.last if front is not None else False
    kind = "s8" if eight else "f32"
    tables = "".join(
        f"static const float {name}[{len(values)}] = {{{', '.join(number(v) for v in values)}}};\n"
        for name, values in (front.tables if front is not None else {}).items()
    )
    take = ""
    if front is not None:
        lines = "".join(f"    {line}\n" for line in front.lines)
        take = f"""
/* What the model does first, with one value of one channel. */
static int8_t taken(uint32_t channel, float value)
{{
    (void)channel;
{lines}    return eg_quantize(value, {number(front.scale)}, {front.zero});
}}
"""
    if front is not None:
        push = f"""    int8_t steps[{spec.n_channels}];
    for (uint32_t channel = 0; channel < {spec.n_channels}u; channel++) {{
        steps[channel] = taken(channel, sample[channel]);
    }}
    const void *taking = steps;"""
    else:
        push = "    const void *taking = sample;"
    if front is not None:
        score = f"        {prefix}_run_s8(stream->window, scores, arena);"
    elif eight:
        score = (
            f"        {prefix}_quantize(stream->window, stream->steps);\n"
            f"        {prefix}_run_s8(stream->steps, scores, arena);"
        )
    else:
        score = f"        {prefix}_run(stream->window, scores, arena);"
    include = '#include "edgegraft.h"\n' if front is not None else ""
    return f"""/* A stream of samples through the model. Written by Edgegraft. */
#include "{prefix}_stream.h"
{include}
{tables}static const uint32_t least[] = {{{sums}}};
static const eg_decision decision = {{
    .n_classes = {n_classes}u,
    .smooth = {decision.smooth}u,
    .every_window = {int(decision.emit == "window")}u,
    .hold_off = {hold_off(decision, spec.rate_hz)}u,
    .least = least,
    .least_mean = {least_mean(decision.threshold)!r},
}};
{take}
void {prefix}_stream_start({prefix}_stream *stream)
{{
    stream->ring.window = (uint8_t *)stream->window;
    stream->ring.value_bytes = sizeof stream->window[0];
    stream->ring.n_channels = {spec.n_channels}u;
    stream->ring.n_timepoints = {spec.n_timepoints}u;
    stream->ring.n_stride = {upper}_STRIDE;
    stream->ring.last = {int(last)}u;
    stream->decider.decision = &decision;
    stream->decider.recent = stream->recent;
    stream->seen = 0u;
    stream->broken = 0u;
    eg_ring_reset(&stream->ring);
    eg_decider_restart(&stream->decider);
}}

void {prefix}_stream_gap({prefix}_stream *stream, uint64_t samples)
{{
    stream->seen += samples;
    eg_ring_reset(&stream->ring);
    eg_decider_reset(&stream->decider);
}}

int32_t {prefix}_push({prefix}_stream *stream, const float *sample, void *arena, eg_event *event)
{{
{push}
    const uint64_t at = stream->seen++;
    if (eg_is_broken(sample, {spec.n_channels}u) != 0) {{
        stream->broken = stream->seen;
    }}
    if (eg_ring_push(&stream->ring, taking) == 0) {{
        return 0;
    }}
    {"int8_t" if eight else "float"} scores[{upper}_N_CLASSES];
    const uint64_t first = stream->seen - {spec.n_timepoints}u;
    if (stream->broken <= first) {{
{score}
        return eg_decide_{kind}(&stream->decider, at, scores, event);
    }}
    return eg_decide_{kind}(&stream->decider, at, 0, event);
}}
"""
