"""A small bundle in float and in int8, and C by hand, for what runs on emulated cores."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from edgegraft.compress.quantize import quantized
from edgegraft.export import emulator
from edgegraft_edge.bundle import Bundle, make
from edgegraft_edge.decision import Decision
from edgegraft_edge.program import Draft
from edgegraft_edge.signal import Channel, WindowSpec

needs_cores = pytest.mark.skipif(bool(emulator.missing()), reason=emulator.missing())
SPEC = WindowSpec(2.0, 0.5, 10.0, (Channel("x"), Channel("y")))


@cache
def toy(*, int8: bool) -> Bundle:
    """Standardised windows, a convolution, its mean over time, three classes."""
    random = np.random.default_rng(5)
    x = random.normal(size=(80, *SPEC.shape)).astype(np.float32) * 2 + 1
    draft = Draft()
    value = draft.add("sub", "x", np.float32([[1.0], [1.2]]))
    value = draft.add("div", value, np.float32([[2.0], [1.9]]))
    value = draft.add("conv1d", value, random.normal(size=(6, 2, 5)), np.zeros(6), stride=2)
    value = draft.add("mean", draft.add("relu", value), axes=[2], keepdims=False)
    usual = draft.finish(value).run(x).mean(axis=0)
    weight = 4 * random.normal(size=(6, 3))
    value = draft.add("add", draft.add("matmul", value, weight), -(usual @ weight))
    program = draft.finish(draft.add("softmax", value, axis=-1))
    if int8:
        program = quantized(program, x)
    decision = Decision(threshold=0.5, smooth=2, hold_off_s=1.0, emit="window")
    return make(program, SPEC, ("fall", "rest", "walk"), decision, golden=x[:6])


def by_hand(body: str, before: str = "") -> dict[str, bytes]:
    """A model of two int8 values that gives two, from the body of its function."""
    header = (
        "#include <stdint.h>\n#define MODEL_S8_ARENA_BYTES 64\n"
        "void model_run_s8(const int8_t *input, int8_t *scores, void *arena);\n"
    )
    source = (
        f'#include "model.h"\n{before}\n'
        "void model_run_s8(const int8_t *input, int8_t *scores, void *arena)\n"
        f"{{\n(void)arena;\nscores[0] = input[0];\nscores[1] = input[1];\n{body}\n}}\n"
    )
    return {"src/model.h": header.encode(), "src/model.c": source.encode()}
