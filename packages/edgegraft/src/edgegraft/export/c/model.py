"""A program as the functions of one C file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgegraft.export.c.body import Body, Constants, Value
from edgegraft.export.c.counts import affine, function
from edgegraft.export.c.operators import EMITTERS, folded
from edgegraft.export.c.plan import ALIGNMENT, MemoryPlan
from edgegraft.export.c.text import ctype_of, number
from edgegraft.passes.layout import channels_last
from edgegraft.passes.trace import Form, trace
from edgegraft_edge.errors import ExportError
from edgegraft_edge.integer import INTEGER
from edgegraft_edge.program import INPUT, Draft, Op, Program

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Integers:
    """The part of a program that computes in integers only, and what enters and leaves it.

    Attributes:
        front: operations from the window to the `quantize` whose result it starts from.
        core: operations from there to what the last `dequantize` reads.
    """

    front: tuple[Op, ...]
    core: tuple[Op, ...]
    entry: Op
    exit: Op
    input_shape: Shape
    output_shape: Shape


@dataclass(frozen=True)
class Model:
    """The C of a program.

    Attributes:
        prefix: begins every name.
        input_shape: of a window, without the window axis.
        output_shape: of what it gives for a window.
        functions: C text of the functions, in order; `constants` stands before them.
        plan: of `run`, or of `run_s8` where the program is integer throughout.
        arena_bytes: what `run` needs.
        integers: set where there is a `run_s8`.
        blocks: how weights of int8 kernels lie; see `edgegraft_blocks.c`.
    """

    prefix: str
    program: Program = field(repr=False)
    input_shape: Shape
    output_shape: Shape
    constants: str = field(repr=False)
    functions: tuple[str, ...] = field(repr=False)
    plan: MemoryPlan
    arena_bytes: int
    weight_bytes: int
    integers: Integers | None = None
    blocks: bool = False
    counts: tuple[float, ...] = ()

    @property
    def s8_arena_bytes(self) -> int:
        return self.plan.arena_bytes if self.integers is not None else 0


def written(
    program: Program,
    *shape: int,
    prefix: str = "model",
    blocks: bool = False,
    counts: Sequence[float] = (),
) -> Model:
    """The C of a program for windows of `shape`.

    Args:
        counts: the value of one raw count in each channel, for a `quantize_i16` besides.
        blocks: weights of int8 kernels in blocks, for processors with dot products in every lane.

    Errors: `ExportError` "export-c-operation" and others, where C cannot have it.
    """
    program = _needed(channels_last(program, *shape))
    forms = trace(program, *shape)
    constants = Constants(prefix)
    out_shape = forms[program.output].shape
    integers = integers_of(program, forms)
    if integers is not None:
        front = Body(constants, blocks)
        start = front.given("window", "float", (1, *shape))
        front.given("input", "int8_t", integers.input_shape)
        _operations(
            front, program, integers.front, forms, INPUT, start, integers.entry.output, "input"
        )
        front_plan = front.plan()
        if front_plan.arena_bytes:  # it computes features: more than an affine map of each value
            integers, constants = None, Constants(prefix)
    if counts and (integers is None or len(shape) != 2):
        raise ExportError.of(
            "export-c-counts",
            "raw counts for a model that is not integer throughout",
            "there is no int8 input that they could become",
            "--precision int8 for a network of integers only, such as a micro student",
        )
    if integers is None:
        body = Body(constants, blocks)
        start = body.given("window", "float", (1, *shape))
        body.given("probabilities", "float", out_shape)
        _operations(
            body, program, program.ops, forms, INPUT, start, program.output, "probabilities"
        )
        plan = body.plan()
        run = _function(
            f"void {prefix}_run(const float *window, float *probabilities, void *arena)",
            body.lines(plan),
        )
        return Model(
            prefix, program, tuple(shape), out_shape[1:], "\n\n".join(constants.lines), (run,),
            plan, plan.arena_bytes, constants.size_bytes, blocks=blocks,
        )  # fmt: skip
    core = Body(constants, blocks)
    start = core.given("input", "int8_t", integers.input_shape)
    core.given("scores", "int8_t", integers.output_shape)
    last = integers.exit.inputs[0]
    _operations(core, program, integers.core, forms, integers.entry.output, start, last, "scores")
    plan = core.plan()
    places = [-(-plan.arena_bytes // ALIGNMENT) * ALIGNMENT]
    for size in (_size(integers.input_shape), _size(integers.output_shape)):
        places.append(-(-(places[-1] + size) // ALIGNMENT) * ALIGNMENT)
    functions: tuple[str, ...] = (
        _function(
            f"void {prefix}_quantize(const float *window, int8_t *input)",
            [line for line in front.lines(front_plan) if line != "(void)arena;"],
        ),
        _function(
            f"void {prefix}_run_s8(const int8_t *input, int8_t *scores, void *arena)",
            core.lines(plan),
        ),
        _whole_run(prefix, integers, places, _size(out_shape)),
    )
    if counts:
        of = affine(program, integers.front, *shape)
        extra = function(prefix, of, counts, integers.entry.attrs, shape[1])
        functions = (functions[0], extra, *functions[1:])
    return Model(
        prefix, program, tuple(shape), out_shape[1:], "\n\n".join(constants.lines), functions,
        plan, places[-1], constants.size_bytes, integers, blocks,
        tuple(counts),
    )  # fmt: skip


def _whole_run(prefix: str, integers: Integers, places: Sequence[int], size: int) -> str:
    scale, zero = number(integers.exit.attrs["scale"]), int(integers.exit.attrs["zero"])
    return _function(
        f"void {prefix}_run(const float *window, float *probabilities, void *arena)",
        [
            f"int8_t *const input = (int8_t *)arena + {places[0]};",
            f"int8_t *const scores = (int8_t *)arena + {places[1]};",
            "",
            f"{prefix}_quantize(window, input);",
            f"{prefix}_run_s8(input, scores, arena);",
            f"for (int32_t i = 0; i < {size}; i++) {{",
            f"    probabilities[i] = eg_dequantize(scores[i], {scale}, {zero});",
            "}",
        ],
    )


def integers_of(program: Program, forms: Mapping[str, Form]) -> Integers | None:
    """The integer part, if all between one `quantize` and one last `dequantize` is integer."""
    kinds = Counter(op.kind for op in program.ops)
    if kinds["quantize"] != 1 or kinds["dequantize"] != 1 or not program.ops:
        return None
    entry = next(op for op in program.ops if op.kind == "quantize")
    exit_ = program.ops[-1]
    if exit_.kind != "dequantize" or exit_.output != program.output:
        return None
    inside, core = {entry.output}, []
    for op in program.ops[:-1]:
        values = [name for name in op.inputs if name not in program.constants]
        if values and all(name in inside for name in values):
            if op.kind not in INTEGER and forms[op.output].dtype != np.int8:
                return None
            inside.add(op.output)
            core.append(op)
    if exit_.inputs[0] not in inside:
        return None
    rest = [op for op in program.ops[:-1] if op.output not in inside or op is entry]
    return Integers(
        tuple(rest), tuple(core), entry, exit_, forms[entry.output].shape,
        forms[exit_.inputs[0]].shape,
    )  # fmt: skip


def _operations(
    body: Body,
    program: Program,
    ops: Sequence[Op],
    forms: Mapping[str, Form],
    start: str,
    given: Value,
    last: str,
    output: str,
) -> None:
    """Write operations from the value `start` to the value `last`, into the array `output`."""
    values: dict[str, Value] = dict(program.constants)
    values[start] = given
    readers = Counter(name for op in ops for name in op.inputs)
    makers = {op.output: op for op in ops}
    wanted, ends = last, {last}
    while last in makers and makers[last].kind == "reshape":
        name = makers[last].inputs[0]
        if readers[name] > 1:
            break
        ends.add(last := name)
    for index, op in enumerate(ops):
        inputs = [values[name] for name in op.inputs]
        if all(isinstance(value, np.ndarray) for value in inputs):
            values[op.output] = folded(op.kind, inputs, op.attrs)  # type: ignore[arg-type]
            continue
        form = forms[op.output]
        if _size(form.shape) == 0:
            raise ExportError.of(
                "export-c-operation", f"{op.kind} (operation {index}) gives nothing",
                "C has no arrays of no values", "a longer window",
            )  # fmt: skip
        body.title = (
            f"{index}: {op.kind}, {ctype_of(form.dtype)} ({', '.join(map(str, form.shape))})"
        )
        body.output = output if op.output in ends else ""
        found = EMITTERS[op.kind](body, form, *inputs, **op.attrs)
        if readers[op.output] > 1 and not found.is_view:
            found = body.stored(found, result=False)
        values[op.output] = found
    body.title = "the result"
    body.output = ""
    final = values[wanted]
    if isinstance(final, np.ndarray):
        final = body.dense(final)
    if final.leaves[:1] and final.leaves[0].name == output and final.is_contiguous:
        return
    body.output = output
    body.stored(final)


def _needed(program: Program) -> Program:
    """Without operations whose result nobody reads."""
    draft = Draft()
    return draft.finish(draft.keep(program))


def _function(head: str, lines: Sequence[str]) -> str:
    body = "\n".join(f"    {line}" if line else "" for line in lines)
    return f"{head}\n{{\n{body}\n}}"


def _size(shape: Shape) -> int:
    return int(np.prod(shape))
