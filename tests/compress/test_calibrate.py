"""Ranges of values: what each method covers, and which windows are looked at."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some

from edgegraft.compress.calibrate import (
    METHODS,
    Quantization,
    Range,
    least_error,
    observed,
    spread,
    within,
)
from edgegraft.testing.programs import program_of, windows
from edgegraft_edge.errors import OptionError
from edgegraft_edge.integer import dequantize, quantize
from edgegraft_edge.program import INPUT
from edgegraft_edge.signal import Windows

NUMBERS = some.arrays(np.float32, st.integers(1, 60), elements=st.floats(-1e4, 1e4, width=32))


def error(x: np.ndarray, held: Range) -> float:
    scale, zero = held.parameters
    back = dequantize(quantize(x, scale=scale, zero=zero), scale=scale, zero=zero)
    return float(np.square(back.astype(np.float64) - x).sum())


@given(NUMBERS)
def test_within_its_range_a_value_moves_by_half_a_step(x):
    held = Range(float(x.min()), float(x.max()))
    scale, zero = held.parameters
    back = dequantize(quantize(x, scale=scale, zero=zero), scale=scale, zero=zero)
    assert np.abs(back - x).max() <= scale * 1.001  # half for rounding, half for the zero point
    assert dequantize(np.int8([zero]), scale=scale, zero=zero)[0] == 0.0
    assert -128 <= zero <= 127
    assert scale > 0


@settings(max_examples=40, deadline=None)
@given(NUMBERS, st.sampled_from(METHODS))
def test_no_method_goes_beyond_what_was_seen(x, method):
    x = x.reshape(-1, 1)
    found = observed(program_of("abs"), x, Quantization(method=method, percentile=90.0))
    assert found[INPUT].low >= x.min() - 1e-3 * np.ptp(x)
    assert found[INPUT].high <= x.max() + 1e-3 * np.ptp(x)
    assert found["v0"].low >= 0


@pytest.mark.parametrize("method", METHODS)
def test_ranges_do_not_depend_on_the_order_of_windows_nor_on_batches(method):
    x = windows(150)
    options = Quantization(method=method)
    one = observed(program_of("tanh"), x, options)
    other = observed(program_of("tanh"), x[::-1].copy(), options)
    assert one == other


def test_cutting_an_outlier_lessens_the_error():
    x = np.random.default_rng(0).normal(size=200_000)
    x[0] = 60.0
    held = Range(float(x.min()), float(x.max()))
    histogram = np.histogram(x, 2048, (held.low, held.high))[0]
    cut = least_error(histogram, held)
    assert cut.high < 50
    assert error(x, cut) < 0.95 * error(x, held)
    assert within(histogram, held, 99.9).high < 6


def test_a_value_that_never_changes_and_one_that_is_not_finite():
    assert Range(0.0, 0.0).parameters[0] > 0
    found = observed(program_of("log"), np.zeros((2, 1)), Quantization(method="mse"))
    assert not found["v0"].finite


def test_windows_are_spread_over_classes_and_groups():
    y = ["a"] * 90 + ["b"] * 9 + ["c"]
    groups = [f"g{index % 3}" for index in range(100)]
    all_windows = Windows.of(np.zeros((100, 1, 4)), y, groups)
    chosen = spread(all_windows, 13)
    labels, counts = np.unique(all_windows.y[chosen], return_counts=True)
    assert dict(zip(labels.tolist(), counts.tolist(), strict=True)) == {"a": 6, "b": 6, "c": 1}
    for label in "ab":
        mine = all_windows.groups[chosen][all_windows.y[chosen] == label]
        assert np.unique(mine, return_counts=True)[1].tolist() == [2, 2, 2]
    assert np.array_equal(chosen, spread(all_windows, 13))
    assert not np.array_equal(chosen, spread(all_windows, 13, seed=1))
    assert len(spread(all_windows, 500)) == 100


def test_options_have_help_and_say_all_that_is_wrong():
    assert all(option.metadata.get("help") for option in fields(Quantization))
    with pytest.raises(OptionError) as caught:
        Quantization(method="mean", percentile=3.0, windows=0)  # type: ignore[arg-type]
    assert len(caught.value.problems) == 3
