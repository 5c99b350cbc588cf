"""The source files of a model: header, functions, golden windows, our C library.

Everything is written from the program, in the same order each time: the same bundle gives the
same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files

import numpy as np

from edgegraft.compress.quantize import float_operations
from edgegraft.export.c import text
from edgegraft.export.c.model import Model, written
from edgegraft_edge.errors import OptionError
from edgegraft_edge.primitives import PRIMITIVES
from edgegraft_edge.program import INPUT, Program
from edgegraft_edge.signal import Array

RUNTIME = ("edgegraft.h", "edgegraft_f32.c", "edgegraft_s8.c")
BLOCKS = "edgegraft_blocks.c"
_ABOUT = "/* Written by Edgegraft from a bundle; do not edit: export again. */"


def emit(
    program: Program,
    *shape: int,
    prefix: str = "model",
    classes: Sequence[str] = (),
    defines: Mapping[str, str] | None = None,
) -> Mapping[str, bytes]:
    """The header and the source of a program.

    Args:
        shape: of one window.
        prefix: begins every name, and is that of the files.
        classes: names of the scores.
        defines: more macros for the header, name (without prefix) -> C text.

    Returns: ``src/model.h`` and ``src/model.c``.

    Errors: `ExportError` where C cannot have the program, `OptionError` for a prefix that is
    no C name.

    >>> from edgegraft.testing.programs import program_of
    >>> sources = emit(program_of("relu"), 3, 20, prefix="tiny")
    >>> sorted(sources)
    ['src/tiny.c', 'src/tiny.h']
    >>> print(sources["src/tiny.c"].decode().splitlines()[-3].strip())
    probabilities[i] = eg_maximum(window[i], 0.0f);
    """
    return sources_of(model_of(program, *shape, prefix=prefix), classes, defines)


def model_of(
    program: Program,
    *shape: int,
    prefix: str = "model",
    blocks: bool = False,
    counts: Sequence[float] = (),
) -> Model:
    """The functions and the memory plan of a program; what `emit` writes to files.

    Args:
        blocks: int8 weights in blocks of 16 channels by 4 values, for processors that take dot
            products of 4 bytes in every lane; microcontrollers want them row by row.
        counts: the value of one raw count in each channel's unit: int16 counts then become int8
            in integers only, by ``model_quantize_i16``.

    Errors: as `emit`.
    """
    if not text.is_identifier(prefix) or prefix.startswith(("eg_", "edgegraft")):
        raise OptionError.of(
            "option-value",
            f"prefix={prefix!r}",
            "it begins the names in C, and eg_ begins those of our library",
            "a short word of small letters, digits and _",
        )
    return written(program, *shape, prefix=prefix, blocks=blocks, counts=counts)


def sources_of(
    model: Model, classes: Sequence[str] = (), defines: Mapping[str, str] | None = None
) -> Mapping[str, bytes]:
    """The header and the source of a model."""
    return {
        f"src/{model.prefix}.h": header(model, classes, defines or {}).encode("ascii"),
        f"src/{model.prefix}.c": _source(model, classes).encode("ascii"),
    }


def runtime(blocks: bool = False) -> Mapping[str, bytes]:
    """Our C library, as files of the generated folder; `blocks` as in `model_of`."""
    folder = files("edgegraft.export.c") / "runtime"
    return {f"src/{name}": (folder / name).read_bytes() for name in names_of(blocks)}


def names_of(blocks: bool) -> tuple[str, ...]:
    """Files of our C library that a model needs."""
    return (*RUNTIME, BLOCKS) if blocks else RUNTIME


def header(model: Model, classes: Sequence[str], defines: Mapping[str, str]) -> str:
    """What a firmware includes: sizes, names, functions, and the memory plan as a comment."""
    prefix, upper = model.prefix, model.prefix.upper()
    integers = model.integers
    macros: dict[str, str] = {
        "INPUT_SIZE": str(int(np.prod(model.input_shape))),
        "OUTPUT_SIZE": str(int(np.prod(model.output_shape))),
        "N_CLASSES": str(int(np.prod(model.output_shape))),
        "ARENA_BYTES": str(max(model.arena_bytes, 1)),
        "WEIGHT_BYTES": str(model.weight_bytes),
        "HAS_S8": "1" if integers else "0",
        **(defines or {}),
    }
    lines = [
        _ABOUT,
        f"#ifndef {upper}_H",
        f"#define {upper}_H",
        "",
        "#include <stdint.h>",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        *(f"#define {upper}_{name} {value}" for name, value in macros.items()),
        "",
    ]
    if classes:
        lines += [f"extern const char *const {prefix}_classes[{len(classes)}];", ""]
    lines += [
        f"/* Scores a window of {upper}_INPUT_SIZE values in the order of the bundle"
        f" {model.input_shape}.",
        f" * arena: {upper}_ARENA_BYTES bytes, aligned to 8, that keep nothing between calls. */",
        f"void {prefix}_run(const float *window, float *probabilities, void *arena);",
        "",
    ]
    if integers is not None:
        lines += _integer_header(model)
    else:
        kinds = ", ".join(float_operations(model.program)) or "none"
        lines += [f"/* Computed in floating point: {kinds}. */", ""]
    of = "run_s8" if integers is not None else "run"
    table = model.plan.table().replace("\n", "\n * ")
    lines += [f"/* Memory of {prefix}_{of}, in its arena:", f" * {table}", " */", ""]
    return "\n".join([*lines, "#ifdef __cplusplus", "}", "#endif", "", "#endif", ""])


def _integer_header(model: Model) -> list[str]:
    prefix, upper, integers = model.prefix, model.prefix.upper(), model.integers
    assert integers is not None
    shape = integers.input_shape[1:]
    entry, exit_ = integers.entry.attrs, integers.exit.attrs
    return [
        f"#define {upper}_S8_INPUT_SIZE {int(np.prod(shape))}",
        f"#define {upper}_S8_ARENA_BYTES {max(model.s8_arena_bytes, 1)}",
        f"#define {upper}_INPUT_SCALE {text.number(entry['scale'])}",
        f"#define {upper}_INPUT_ZERO ({int(entry['zero'])})",
        f"#define {upper}_OUTPUT_SCALE {text.number(exit_['scale'])}",
        f"#define {upper}_OUTPUT_ZERO ({int(exit_['zero'])})",
        "",
        f"/* A window as int8 {shape}: what {prefix}_run_s8 takes. */",
        f"void {prefix}_quantize(const float *window, int8_t *input);",
        "",
        *(
            [
                f"/* int16 counts of the sensor {shape[1:]}, samples one after the other, as int8:",
                f" * at most one step from {prefix}_quantize, in integers only. */",
                f"void {prefix}_quantize_i16(const int16_t *counts, int8_t *input);",
                "",
            ]
            if model.counts
            else []
        ),
        "/* The same in integers only: no floating point is linked when only this is called.",
        f" * arena: {upper}_S8_ARENA_BYTES bytes. */",
        f"void {prefix}_run_s8(const int8_t *input, int8_t *scores, void *arena);",
        "",
    ]


def _source(model: Model, classes: Sequence[str]) -> str:
    parts = [
        _ABOUT,
        f'#include "{model.prefix}.h"\n\n#include "edgegraft.h"',
        model.constants,
    ]
    if classes:
        names = text.rows([text.string(name) for name in classes])
        parts.append(f"const char *const {model.prefix}_classes[{len(classes)}] = {{\n{names}}};")
    return "\n\n".join([part for part in [*parts, *model.functions] if part]) + "\n"


def values_of(program: Program, x: Array, *names: str) -> list[Array]:
    """What a program gives at some of its values, types as they are, for windows x (n, ...)."""
    values: dict[str, Array] = {**program.constants, INPUT: np.asarray(x, np.float32)}
    for op in program.ops:
        values[op.output] = PRIMITIVES[op.kind](*(values[n] for n in op.inputs), **op.attrs)
    return [values[name] for name in names]
