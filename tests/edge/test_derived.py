"""Derived channels: the same numbers in pieces as in one, on the device as in training."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from edgegraft_edge.bundle import Bundle, make
from edgegraft_edge.decision import Decision
from edgegraft_edge.derived import Derivation, asked, derive, faults, parse
from edgegraft_edge.errors import BundleError, DataError
from edgegraft_edge.manifest import Manifest
from edgegraft_edge.program import Draft
from edgegraft_edge.runner import Runner
from edgegraft_edge.signal import Channel, WindowSpec
from edgegraft_edge.windowing import cut

START_S = 1_700_000_000.0  # Tuesday, 14 November 2023, 22:13:20 UTC
MEASURED = (Channel("x", "degC"), Channel("y"))
EVERY = ("start:*:7", "startstd:x:7", "mean:y:5", "age", "hour", "weekday:-3.5", "yearday",
         "heating:x:18", "cooling:x:22")  # fmt: skip
ALL = (*MEASURED, *asked(EVERY, MEASURED))


def channel(text: str) -> Channel:
    return Channel(text, derive=text)


def alone(
    text: str, values: list[float], rate_hz: float = 1.0, start_s: float = 0.0
) -> list[float]:
    row = derive(np.array([values]), (Channel("x"), channel(text)), rate_hz, start_s)[1]
    return [round(float(value), 5) for value in row]


@settings(max_examples=60, deadline=None)
@given(
    values=some.lists(
        some.tuples(*2 * [some.floats(-1e6, 1e6, width=32) | some.just(np.nan)]),
        min_size=1, max_size=60,
    ),
    cuts=some.lists(some.integers(0, 60), max_size=12),
    rate_hz=some.sampled_from([0.1, 1.0, 3.0, 12000.0]),
    timed=some.booleans(),
)  # fmt: skip
def test_pieces_of_any_size_give_the_bits_of_the_whole(values, cuts, rate_hz, timed):
    x = np.array(values, dtype=np.float32).T
    whole = derive(x, ALL, rate_hz, START_S)
    live, found = Derivation(ALL, rate_hz), []
    edges = [0, *sorted(cut for cut in cuts if cut <= x.shape[1]), x.shape[1]]
    for begin, end in pairwise(edges):
        at_s = START_S + begin / rate_hz if timed or begin == 0 else None
        found.append(live.push(x[:, begin:end], at_s))
    assert np.concatenate(found, axis=1).tobytes() == whole.tobytes()


def test_start_is_the_mean_of_what_came_first():
    assert alone("start:x:3", [1, 3, 8, 100, 7]) == [1, 2, 4, 4, 4]
    assert alone("startstd:x:2", [1, 3, 8]) == [0, 1, 1]
    assert alone("start:x:2", [np.nan, 4, np.inf, 6, 9])[1:] == [4, 4, 5, 5]


def test_the_deviation_of_large_numbers_keeps_its_digits():
    row = alone("startstd:x:4", [1e6, 1e6 + 1, 1e6 + 2, 1e6 + 3])
    assert row[-1] == pytest.approx(np.std([0, 1, 2, 3]), abs=1e-4)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 50])
def test_a_running_mean_is_that_of_the_last_samples(length):
    x = np.random.default_rng(length).normal(size=200).astype(np.float32)
    expected = [x[max(0, end - length) : end].astype(float).mean() for end in range(1, 201)]
    found = derive(x[None], (Channel("x"), channel(f"mean:x:{length}")), 1.0)[1]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_running_mean_forgets_what_is_not_finite():
    assert alone("mean:x:2", [1, np.nan, 3, 5]) == [1, 1, 3, 4]


def test_degrees_under_and_over_a_base():
    assert alone("heating:x:18", [10, 18, 25]) == [8, 0, 0]
    assert alone("cooling:x:22", [10, 22, 25]) == [0, 0, 3]


def test_the_calendar_of_a_known_day():
    midnight_thursday = 1_700_092_800.0  # 16 November 2023
    assert alone("hour.cos", [0, 0], 1 / 21600, midnight_thursday) == [1, 0]
    assert alone("hour.sin:6", [0], 1.0, midnight_thursday) == [1]
    monday = midnight_thursday - 3 * 86400
    assert alone("weekday.cos", [0], 1.0, monday) == [1]
    new_year = 1_704_067_200.0
    assert alone("yearday.cos", [0], 1.0, new_year) == [pytest.approx(1, abs=2e-4)]


def test_age_counts_seconds_and_a_gap_begins_no_new_life():
    live = Derivation(
        (Channel("x"), channel("age"), channel("start:x:2"), channel("mean:x:2")), 2.0
    )
    live.push(np.array([[1.0, 3.0]]), 10.0)
    live.gap()
    assert live.push(np.array([[9.0]]), 100.0)[:, 0].tolist() == [9, 1, 2, 9]
    live.restart()
    assert live.push(np.array([[5.0]]), 200.0)[:, 0].tolist() == [5, 0, 5, 5]


def test_the_calendar_follows_the_time_behind_a_gap():
    live = Derivation((Channel("x"), channel("hour.cos")), 1.0)
    midnight = 1_700_092_800.0
    live.push(np.zeros((1, 3)), midnight)
    assert live.push(np.zeros((1, 1)), midnight + 43200)[1, 0] == -1


def test_a_device_that_restarts_recalls_its_beginning():
    channels = (Channel("x"), channel("start:x:2"), channel("age"), channel("hour.sin"))
    first, second = Derivation(channels, 1.0), Derivation(channels, 1.0)
    first.push(np.array([[2.0, 4.0, 50.0]]), START_S)
    second.recall(first.memory())
    later = second.push(np.array([[70.0]]), START_S + 3)
    assert later.tobytes() == first.push(np.array([[70.0]]), START_S + 3).tobytes()


def test_units_follow_the_source():
    units = {item.name: item.unit for item in ALL}
    assert (units["start:x:7"], units["age"], units["hour.sin"]) == ("degC", "s", "")


@pytest.mark.parametrize(
    ("text", "code", "remedy"),
    [
        ("strat:x:20", "derive-unknown", "start"),
        ("start:tmp:20", "channel-missing", "temp"),
        ("start:temp:0", "derive-form", "SAMPLES"),
        ("start:temp:2.5", "derive-form", "SAMPLES"),
        ("start:20", "derive-form", "SAMPLES"),
        ("heating:temp:warm", "derive-form", "BASE"),
        ("hour:99", "derive-form", "HOURS"),
        ("age:3", "derive-form", "age"),
    ],
)
def test_what_cannot_be_derived_is_refused(text, code, remedy):
    with pytest.raises(DataError) as caught:
        asked([text], [Channel("temp")])
    assert caught.value.code == code
    assert remedy in caught.value.problems[0].remedy


def test_nothing_is_derived_of_the_derived():
    channels = (Channel("x"), channel("mean:x:3"), channel("start:mean:x:3:5"))
    assert [problem.code for problem in faults(channels)] == ["derive-nested"]


@pytest.mark.parametrize("at_s", [None, 0.0, 12.5])
def test_a_calendar_needs_a_clock(at_s):
    with pytest.raises(DataError) as caught:
        Derivation((Channel("x"), channel("hour.sin")), 1.0).push(np.zeros((1, 2)), at_s)
    assert caught.value.code == "clock-unknown"


def test_names_may_hold_colons():
    assert parse("mean:a:b:5").source == "a:b"


def spec_of(channels: tuple[Channel, ...]) -> WindowSpec:
    return WindowSpec(4.0, 2.0, 1.0, channels)


def test_a_manifest_holds_derived_channels_and_is_the_old_one_without():
    plain = Manifest(spec_of(MEASURED), ("a", "b"))
    assert b"derive" not in plain.to_bytes()
    manifest = Manifest(spec_of(ALL), ("a", "b"))
    assert Manifest.from_bytes(manifest.to_bytes()).spec == spec_of(ALL)


@pytest.mark.parametrize(
    "channels",
    [
        (Channel("x"), channel("start:z:5")),
        (Channel("x"), channel("nonsense")),
        (channel("age"),),
        (Channel("x"), Channel("y", derive=5)),  # type: ignore[arg-type]
    ],
)
def test_a_manifest_of_what_cannot_be_derived_is_refused(channels):
    with pytest.raises(BundleError):
        Manifest(spec_of(channels), ("a", "b"))


def levels() -> Bundle:
    """Class by whether the last value is above the mean of the first three."""
    channels = (Channel("x"), channel("start:x:3"), channel("hour.cos"))
    weight = np.zeros((3, 4, 2), np.float32)
    weight[0, 3], weight[1, 3] = (-1, 1), (1, -1)
    draft = Draft()
    flat = draft.add("reshape", "x", shape=[12])
    scores = draft.add("matmul", flat, weight.reshape(12, 2))
    program = draft.finish(draft.add("softmax", scores, axis=-1))
    return make(program, spec_of(channels), ("low", "high"), decision=Decision(emit="window"))


def test_a_runner_computes_derived_channels_and_asks_for_the_measured():
    bundle = levels()
    x = np.random.default_rng(0).normal(size=(1, 40)).astype(np.float32)
    x[0, 9] = np.nan  # that window is not scored; the channels go on
    full = derive(x, bundle.spec.channels, 1.0, START_S)
    windows, starts = cut(full, bundle.spec)
    whole = [s for s, w in zip(starts, windows, strict=True) if np.isfinite(w).all()]
    for size in (1, 3, 40):
        runner, events = Runner(bundle, channels=["other", "x"]), []
        for begin in range(0, 40, size):
            part = np.repeat(x[:, begin : begin + size], 2, axis=0)
            found = runner.push(part, at_s=START_S + begin)
            events += [event for event in found if event.reason != "skipped"]
        assert [event.at_s - START_S - 3 for event in events] == whole
        expected = bundle.score(np.stack([w for w in windows if np.isfinite(w).all()])).max(axis=1)
        assert [event.probability for event in events] == pytest.approx(expected, abs=1e-6)
    assert runner.counters.not_finite == 1


def test_a_runner_without_a_clock_says_so():
    with pytest.raises(DataError) as caught:
        Runner(levels()).push(np.zeros((1, 8)))
    assert caught.value.code == "clock-unknown"
