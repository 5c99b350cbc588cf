"""What rounding alone explains: fixed for floats, asked of the program for integers."""

from __future__ import annotations

import numpy as np
import pytest

from edgegraft_edge.program import Draft
from edgegraft_edge.rounding import SHARE, STEPS, TOLERANCE, allowed


def soft(step, sums=4):
    """A matrix and a softmax in int8; `step` is what one step of a score weighs."""
    draft = Draft()
    eight = draft.add("quantize", "x", scale=0.1, zero=0)
    random = np.random.default_rng(0)
    weight = random.integers(-127, 128, (3, sums)).astype(np.int8)
    ones = np.full(3, 0.01, np.float32)
    made = draft.add(
        "dense_int8", eight, weight, np.zeros(3, np.int32), ones,
        x_scale=0.1, x_zero=0, scale=step, zero=0,
    )  # fmt: skip
    made = draft.add("softmax_int8", made, x_scale=step)
    return draft.finish(draft.add("dequantize", made, scale=1 / 256, zero=-128))


X = np.random.default_rng(1).normal(size=(40, 4)).astype(np.float32)


def test_float_programs_have_a_fixed_tolerance():
    draft = Draft()
    program = draft.finish(draft.add("softmax", "x"))
    assert (allowed(program, X, program.run(X)) == TOLERANCE).all()


@pytest.mark.parametrize("step", [0.02, 0.3])
def test_a_step_of_each_score_is_explained_and_four_are_not(step):
    program = soft(step)
    p = program.run(X)
    room = allowed(program, X, p)
    unsure = p.max(axis=1).argmin()
    odds = np.exp(np.array([1, -1]) * step)
    one = p[unsure] * odds[0] / (p[unsure] * odds[0] + (1 - p[unsure]))
    assert (np.abs(one - p[unsure]) <= room[unsure] + 1e-6).all()
    assert room.max() < 4 * step + STEPS / 256
    assert room[p.max(axis=1) > 0.999].max(initial=0.0) < 0.03  # a sure window stays sure


def test_it_repeats_and_grows_with_what_a_step_weighs():
    fine, coarse = soft(0.02), soft(0.3)
    first, second = (allowed(fine, X, fine.run(X)) for _ in range(2))
    assert np.array_equal(first, second)
    assert allowed(coarse, X, coarse.run(X)).max() > 3 * first.max()
    assert 0 < SHARE < 1
