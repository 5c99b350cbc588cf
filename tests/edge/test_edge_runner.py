"""The runner: streamed windows, scores and events equal the batch ones, whatever happens."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
from edge_toys import TOY_SPEC
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft_edge.backends.numpy import NumpyBackend
from edgegraft_edge.decision import Decision, decide
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.runner import Runner, verify
from edgegraft_edge.signal import Channel, Windows
from edgegraft_edge.windowing import cut


@dataclass
class Spy:
    """The NumPy backend, keeping what it was asked and what it said."""

    name: ClassVar[str] = "numpy"
    asked: list[np.ndarray] = field(default_factory=list)
    said: list[np.ndarray] = field(default_factory=list)

    def open(self, model):
        run = NumpyBackend().open(model)

        def spy(x):
            scores = run(x)
            self.asked.append(x[0])
            self.said.append(scores[0])
            return scores

        return spy


def _signal(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(3, count)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    chunks=st.lists(st.integers(0, 70), min_size=1, max_size=25),
    timed=st.booleans(),
    smooth=st.integers(1, 3),
)
def test_streamed_windows_scores_and_events_equal_the_batch(
    toy_bundle, seed, chunks, timed, smooth
):
    values = _signal(seed, sum(chunks))
    x, starts = cut(values, TOY_SPEC)
    decision = Decision(threshold=0.45, smooth=smooth, hold_off_s=1.0)
    spy = Spy()
    runner = Runner(toy_bundle, spy, decision=decision)
    events, position = [], 0
    for count in chunks:
        at_s = position / 10.0 if timed else None
        events += runner.push(values[:, position : position + count], at_s=at_s)
        position += count
    assert len(spy.asked) == len(x) == runner.counters.windows
    assert all(np.array_equal(a, b) for a, b in zip(spy.asked, x, strict=True))
    batch = toy_bundle.predict(Windows.of(x, rate_hz=10.0, channels=TOY_SPEC.channel_names))
    assert np.array_equal(np.reshape(spy.said, (-1, 3)), batch.probabilities)
    ends_s = (starts + TOY_SPEC.n_timepoints - 1) / 10.0
    expected = decide(decision, batch, ends_s)
    assert [(e.label, e.probability) for e in events] == [
        (e.label, e.probability) for e in expected
    ]
    assert np.allclose([e.at_s for e in events], [e.at_s for e in expected])
    assert runner.counters.accepted == sum(chunks)
    assert runner.counters.gaps == runner.counters.clock_back == runner.counters.late == 0


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    chunk=st.integers(1, 33),
)
def test_no_window_spans_a_gap(toy_bundle, seed, lengths, chunk):
    spy = Spy()
    runner = Runner(toy_bundle, spy)
    expected, start_s = [], 1.7e9
    for index, length in enumerate(lengths):
        values = _signal(seed + index, length)
        expected += list(cut(values, TOY_SPEC)[0])
        for first in range(0, length, chunk):
            runner.push(values[:, first : first + chunk], at_s=start_s + first / 10)
        start_s += length / 10 + 5.0
    assert len(spy.asked) == len(expected)
    assert all(np.array_equal(a, b) for a, b in zip(spy.asked, expected, strict=True))
    assert runner.counters.gaps == len(lengths) - 1
    assert runner.counters.accepted == sum(lengths)


def test_smoothing_does_not_reach_over_a_gap(toy_bundle):
    values = _signal(9, 60)
    rest = toy_bundle.score(cut(values[:, 30:50], TOY_SPEC)[0])[0]
    runner = Runner(toy_bundle, decision=Decision(smooth=5, emit="window"))
    runner.push(values[:, :30], at_s=0.0)
    (event,) = runner.push(values[:, 30:50], at_s=60.0)
    assert event.probability == pytest.approx(rest.max(), abs=1e-6)


def test_channels_are_bound_by_name_and_extra_ones_left_out(toy_bundle):
    values = _signal(0, 60)
    spy, straight = Spy(), Spy()
    Runner(toy_bundle, straight).push(values)
    mixed = np.stack([np.full(60, 9.0), values[2], values[0], values[1]])
    names = ["temperature", "acc_z", Channel("acc_x", "m/s2"), Channel("acc_y")]
    Runner(toy_bundle, spy, channels=names).push(mixed)
    assert np.array_equal(spy.said, straight.said)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"channels": ["acc_x", "acc_y"]}, "channel-missing"),
        ({"channels": [Channel("acc_x", "g"), "acc_y", "acc_z"]}, "unit-mismatch"),
        ({"rate_hz": 12.0}, "rate-mismatch"),
    ],
)
def test_sources_that_do_not_fit_are_refused(toy_bundle, options, code):
    with pytest.raises(DataError) as caught:
        Runner(toy_bundle, **options)
    assert caught.value.code == code


def test_unknown_backend_and_wrong_sample_shape(toy_bundle):
    with pytest.raises(OptionError):
        Runner(toy_bundle, "nunpy")
    with pytest.raises(DataError) as caught:
        Runner(toy_bundle).push(np.zeros((2, 5)))
    assert caught.value.code == "channel-count"


def test_windows_with_nan_are_skipped_counted_and_unsure(toy_bundle):
    values = _signal(1, 80)
    values[1, 30] = np.nan
    values[2, 31] = np.inf
    runner = Runner(toy_bundle, decision=Decision(emit="window"))
    events = runner.push(values)
    skipped = [event for event in events if event.reason == "skipped"]
    counters = runner.counters
    assert (counters.not_finite, counters.windows, counters.skipped) == (2, 13, 4)
    assert [event.at_s for event in skipped] == [3.4, 3.9, 4.4, 4.9]
    assert {event.label for event in skipped} == {"unsure"}
    assert counters.events == len(events) == 13


def test_values_beyond_float32_are_not_finite_and_nothing_warns(toy_bundle):
    runner = Runner(toy_bundle)
    runner.push(np.full((3, 20), 1e300))
    assert runner.counters.skipped == 1


def test_repeats_and_late_samples_are_counted_and_change_nothing(toy_bundle):
    values = _signal(2, 60)
    spy, clean = Spy(), Spy()
    Runner(toy_bundle, clean).push(values)
    runner = Runner(toy_bundle, spy)
    for index in range(60):
        runner.push(values[:, index : index + 1], at_s=index / 10)
        if index in (5, 40):
            runner.push(values[:, index : index + 1], at_s=index / 10)
            runner.push(values[:, index - 3 : index - 2], at_s=(index - 3) / 10)
    assert np.array_equal(spy.said, clean.said)
    counters = runner.counters
    assert (counters.accepted, counters.repeated, counters.late) == (60, 2, 2)


def test_clock_that_jumps_to_1970_starts_anew(toy_bundle):
    runner = Runner(toy_bundle, decision=Decision(hold_off_s=1000.0))
    first = runner.push(_signal(3, 20), at_s=1.7e9)
    again = runner.push(_signal(3, 20), at_s=0.0)
    assert [event.at_s for event in first + again] == [1.7e9 + 1.9, 1.9]
    assert runner.counters.clock_back == 1


@pytest.mark.parametrize("real_hz", [5.0, 13.0, 100.0])
def test_timestamps_of_another_rate_are_refused(toy_bundle, real_hz):
    def stream():
        for index in range(200):
            runner.push(np.zeros((3, 1)), at_s=index / real_hz)

    runner = Runner(toy_bundle)
    with pytest.raises(DataError) as caught:
        stream()
    assert caught.value.code == "rate-mismatch"
    assert f"{real_hz:g} Hz" in str(caught.value)


def test_small_drift_of_the_rate_is_counted(toy_bundle):
    runner = Runner(toy_bundle)
    for index in range(200):
        runner.push(np.zeros((3, 1)), at_s=index / 10.5)
    assert runner.counters.rate_off == 3
    assert runner.counters.gaps == 0


def test_counters_are_a_copy_and_count_unsure(toy_bundle):
    runner = Runner(toy_bundle, decision=Decision(threshold=1.0))
    before = runner.counters
    runner.push(_signal(4, 40))
    assert before.windows == 0
    assert runner.counters.unsure == runner.counters.windows == 5


def test_memory_stays_bounded_in_one_long_chunk(toy_bundle):
    values = np.zeros((3, 30_000), np.float32)
    runner = Runner(toy_bundle)
    runner._run = lambda x: np.array([[1.0, 0.0, 0.0]], np.float32)
    tracemalloc.start()
    runner.push(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert runner.counters.windows == (30_000 - 20) // 5 + 1
    assert peak < 500_000


def test_verify_agrees_with_itself(toy_bundle):
    (found,) = verify(toy_bundle)
    assert found.ok
    assert (found.max_abs, found.labels_agree, found.n_windows) == (0.0, 6, 6)
    assert found.latency_ms > 0
    assert found.as_dict()["ok"] is True
