"""Golden windows in C, and the self-test that runs them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgegraft.export.c import text
from edgegraft.export.c.emit import values_of
from edgegraft.export.c.model import Model
from edgegraft_edge.signal import Array


def chosen(n_windows: int, count: int) -> Array:
    """Which golden windows go into flash: at most `count`, spread over all.

    >>> chosen(10, 3).tolist()
    [0, 4, 9]
    """
    return np.unique(np.linspace(0, n_windows - 1, min(count, n_windows)).astype(np.int64))


def golden(model: Model, x: Array, expected: Array, tolerance: float) -> Mapping[str, bytes]:
    """``src/model_golden.h`` and ``.c``: windows x (n, ...) with what they must give.

    Where the model is integer throughout, the int8 scores too; those must be equal bit for bit.
    """
    prefix, upper = model.prefix, model.prefix.upper()
    lines = [
        f"#ifndef {upper}_GOLDEN_H",
        f"#define {upper}_GOLDEN_H",
        "",
        "#include <stdint.h>",
        "",
        f"#define {upper}_GOLDEN_WINDOWS {len(x)}",
        f"#define {upper}_GOLDEN_TOLERANCE {text.number(tolerance)}",
        "",
    ]
    arrays = {"x": ("float", x), "probabilities": ("float", expected)}
    if model.integers is not None:
        names = (model.integers.entry.output, model.integers.exit.inputs[0])
        q, scores = values_of(model.program, x, *names)
        arrays |= {"input": ("int8_t", q), "scores": ("int8_t", scores)}
    source = [f'#include "{prefix}_golden.h"']
    for name, (ctype, array) in arrays.items():
        full = f"{prefix}_golden_{name}"
        lines.append(f"extern const {ctype} {full}[{array.size}];")
        source.append(text.table(ctype, full, array.astype(_DTYPES[ctype]), exported=True))
    return {
        f"src/{prefix}_golden.h": "\n".join([*lines, "", "#endif", ""]).encode("ascii"),
        f"src/{prefix}_golden.c": ("\n\n".join(source) + "\n").encode("ascii"),
    }


_DTYPES = {"float": np.float32, "int8_t": np.int8}


def selftest(model: Model) -> bytes:
    """``selftest.c``: runs the golden windows, prints PASS or FAIL and the largest difference."""
    prefix, upper = model.prefix, model.prefix.upper()
    parts = [_FLOAT_TEST, _INTEGER_TEST if model.integers is not None else "", _MAIN]
    whole = "".join(part.replace("@model", prefix).replace("@MODEL", upper) for part in parts)
    calls = "check_float()" + (" + check_integer()" if model.integers is not None else "")
    return whole.replace("@calls", calls).encode("ascii")


_FLOAT_TEST = """/* Runs the golden windows of the bundle; returns 0 when all agree. */
#include <math.h>
#include <stdio.h>

#include "@model.h"
#include "@model_golden.h"

static union {
    double align;
    uint8_t bytes[@MODEL_ARENA_BYTES + 16];
} memory;

static int verdict(const char *what, int wrong, double largest)
{
    printf("%s: %d of %d windows differ, largest difference %g: %s\\n", what, wrong,
           @MODEL_GOLDEN_WINDOWS, largest, wrong ? "FAIL" : "PASS");
    return wrong != 0;
}

static int check_float(void)
{
    static float found[@MODEL_OUTPUT_SIZE];
    float largest = 0.0f;
    int wrong = 0;
    for (int32_t n = 0; n < @MODEL_GOLDEN_WINDOWS; n++) {
        const float *expected = @model_golden_probabilities + n * @MODEL_OUTPUT_SIZE;
        int differs = 0;
        @model_run(@model_golden_x + n * @MODEL_INPUT_SIZE, found, memory.bytes);
        for (int32_t i = 0; i < @MODEL_OUTPUT_SIZE; i++) {
            const float difference = fabsf(found[i] - expected[i]);
            largest = difference > largest ? difference : largest;
            differs |= !(difference <= @MODEL_GOLDEN_TOLERANCE * fmaxf(1.0f, fabsf(expected[i])));
        }
        wrong += differs;
    }
    return verdict("@model_run", wrong, (double)largest);
}
"""

_INTEGER_TEST = """
static int check_integer(void)
{
    static int8_t input[@MODEL_S8_INPUT_SIZE];
    static int8_t found[@MODEL_OUTPUT_SIZE];
    int32_t largest = 0;
    int wrong = 0;
    for (int32_t n = 0; n < @MODEL_GOLDEN_WINDOWS; n++) {
        const int8_t *steps = @model_golden_input + n * @MODEL_S8_INPUT_SIZE;
        const int8_t *expected = @model_golden_scores + n * @MODEL_OUTPUT_SIZE;
        int differs = 0;
        @model_quantize(@model_golden_x + n * @MODEL_INPUT_SIZE, input);
        for (int32_t i = 0; i < @MODEL_S8_INPUT_SIZE; i++) {
            differs |= input[i] != steps[i];
        }
        @model_run_s8(steps, found, memory.bytes);
        for (int32_t i = 0; i < @MODEL_OUTPUT_SIZE; i++) {
            const int32_t difference = found[i] - expected[i];
            const int32_t size = difference < 0 ? -difference : difference;
            largest = size > largest ? size : largest;
            differs |= size != 0;
        }
        wrong += differs;
    }
    return verdict("@model_run_s8", wrong, (double)largest);
}
"""

_MAIN = """
int main(void)
{
    return @calls;
}
"""
