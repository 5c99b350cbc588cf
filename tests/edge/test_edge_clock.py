"""The clock of a stream: gaps, jumps, repeats, drift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft_edge.clock import Clock
from edgegraft_edge.errors import DataError


def _places(times, count=1, rate_hz=10.0, late_s=1.0):
    clock = Clock(rate_hz, late_s)
    return [clock.place(float(at_s), count)[0] for at_s in times]


@settings(max_examples=60, deadline=None)
@given(
    start_s=st.sampled_from([0.0, -5.0, 1.7e9]),
    rate_hz=st.sampled_from([1.0, 20.0, 50.0, 100.0, 12_000.0]),
    chunk=st.integers(1, 40),
    jitter=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 1000),
)
def test_an_even_stream_has_no_gaps(start_s, rate_hz, chunk, jitter, seed):
    rng = np.random.default_rng(seed)
    times = start_s + np.arange(0, 30 * chunk, chunk) / rate_hz
    # Float64 tells 0.2 us apart at today's epoch: no finer jitter than that is asked for.
    times = times + rng.uniform(-jitter / 2, jitter / 2, len(times)) / rate_hz
    assert set(_places(times, chunk, rate_hz)) == {"next"}


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 0.1, 0.3], ["next", "next", "gap"]),
        ([0, 0.1, 0.24], ["next", "next", "next"]),
        ([0, 0.1, 0.1, 0.2], ["next", "next", "repeat", "next"]),
        ([0, 0.1, 0.2, 0.15, 0.3], ["next", "next", "next", "late", "next"]),
        ([1.7e9, 0.0, 0.1], ["next", "back", "next"]),
        ([0.0, 1.7e9, 1.7e9 + 0.1], ["next", "gap", "next"]),
    ],
)
def test_single_samples_are_placed(times, expected):
    assert _places(times) == expected


def test_many_late_samples_mean_that_the_clock_went_back():
    before = [0.1 * index for index in range(10)]
    after = [0.35 + 0.1 * index for index in range(10)]
    places = _places(before + after, late_s=10.0)
    # Those behind 0.9 s are late; once the clock has caught up the stream goes on.
    assert places.count("late") == 6
    slow = [0.5 + 0.01 * index for index in range(12)]
    assert "back" in _places(before + slow, late_s=10.0)


def test_no_time_continues_where_the_last_sample_ended():
    clock = Clock(10.0, 1.0)
    assert clock.place(None, 5) == ("next", 0.0)
    assert clock.place(None, 1)[1] == pytest.approx(0.5)
    assert clock.place(2.0, 1)[0] == "gap"
    assert clock.place(None, 1)[1] == pytest.approx(2.1)


@pytest.mark.parametrize("at_s", [float("nan"), float("inf")])
def test_time_that_is_no_number_is_refused(at_s):
    with pytest.raises(DataError) as caught:
        Clock(10.0, 1.0).place(at_s, 1)
    assert caught.value.code == "time-not-finite"


@pytest.mark.parametrize(
    ("real_hz", "expected"), [(10.0, 0.0), (10.5, 0.05), (5.0, -0.5), (40.0, 3.0)]
)
def test_drift_is_measured_through_quantised_times_and_single_gaps(real_hz, expected):
    clock = Clock(10.0, 1.0)
    times = np.arange(80) / real_hz
    times[40:] += 7.0
    for at_s in np.round(times, 3):
        clock.place(float(at_s), 1)
    assert clock.drift() == pytest.approx(expected, abs=0.005)
    assert clock.drift() is None  # not again before as much was seen again
