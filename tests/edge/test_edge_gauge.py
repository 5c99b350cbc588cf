"""Alarms of estimates: a stream and a batch agree, with each other and with a plain model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from edge_toys import TOY_SPEC
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft_edge import cli
from edgegraft_edge.bundle import Bundle, make, write
from edgegraft_edge.decision import Decision, Predictions
from edgegraft_edge.errors import OptionError
from edgegraft_edge.estimate import Outputs
from edgegraft_edge.gauge import Gauge, below_border, gauged, judge_of
from edgegraft_edge.program import Draft
from edgegraft_edge.runner import Runner
from edgegraft_edge.signal import Windows
from edgegraft_edge.windowing import cut

LIFE = Outputs(("life",), ("h",))
LOAD = Outputs(("load", "heat"), ("kW", "degC"), steps=(1, 2), levels=(0.1, 0.5, 0.9))


def _plain(decision: Decision, rows: np.ndarray, ends_s: list[float]) -> list[tuple[float, str]]:
    """Changes of state, written down independently: the point against both borders."""
    state, changed_s, found = "within", None, []
    for index, at_s in enumerate(ends_s):
        recent = rows[max(0, index + 1 - decision.smooth) : index + 1].astype(np.float64)
        points = recent.mean(axis=0)[1::3]
        low = decision.low - points.min() if decision.low is not None else -1.0
        high = points.max() - decision.high if decision.high is not None else -1.0
        now = "within" if max(low, high) < 0 else "low" if low >= high else "high"
        waited = changed_s is None or at_s - changed_s >= decision.hold_off_s
        if now != state and waited:
            state, changed_s = now, at_s
            found.append((at_s, now))
    return found


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 30),
    low=st.sampled_from([None, -4.0, 0.0]),
    high=st.sampled_from([None, 5.0, 9.0]),
    smooth=st.sampled_from([1, 2, 4]),
    hold_off_s=st.sampled_from([0.0, 2.0, 3.5]),
)
def test_batch_stream_and_plain_model_give_the_same_alarms(
    seed, count, low, high, smooth, hold_off_s
):
    rows = np.random.default_rng(seed).integers(-12, 16, (count, 12)).astype(np.float32)
    decision = Decision(low=low, high=high, smooth=smooth, hold_off_s=hold_off_s)
    ends_s = [float(index + 1) for index in range(count)]
    batch = gauged(decision, Predictions(LOAD.columns, rows, LOAD), ends_s)
    gauge = Gauge(decision, LOAD)
    steps = [gauge.step(at_s, row) for at_s, row in zip(ends_s, rows, strict=True)]
    assert tuple(event for event in steps if event) == batch
    if low is None and high is None:
        assert [event.kind for event in batch] == ["estimate"] * count
    else:
        assert [(event.at_s, event.label) for event in batch] == _plain(decision, rows, ends_s)
        assert all((e.kind == "alarm") == (e.label != "within") for e in batch)


def test_how_sure_an_alarm_must_be_chooses_the_end_of_the_interval():
    rows = [np.array([10.0 - step, 50.0 - step, 90.0 - step]) for step in range(0, 80, 10)]
    first = {}
    for sure in (0.05, 0.5, 0.95):
        gauge = Gauge(Decision(low=20.0, sure=sure), LIFE)
        events = [gauge.step(float(at), row) for at, row in enumerate(rows)]
        first[sure] = next(event for event in events if event)
    assert [first[sure].at_s for sure in (0.05, 0.5, 0.95)] == [0.0, 3.0, 7.0]
    assert first[0.05].probability < 0.5 <= first[0.5].probability < first[0.95].probability
    gauge = Gauge(Decision(high=60.0, sure=0.95), LIFE)  # mirrored: the lower end must be above
    assert gauge.step(0.0, np.array([50.0, 70.0, 90.0])) is None
    assert gauge.step(1.0, np.array([61.0, 70.0, 90.0])).label == "high"


def test_an_alarm_names_what_lies_farthest_beyond_and_gives_its_numbers():
    row = np.array([0, 1, 2, 0, 8, 9, 0, 3, 4, 0, 12, 15], dtype=float)
    event = Gauge(Decision(high=7.0), LOAD).step(1.0, row)
    assert (event.label, event.reason, event.severity) == ("high", "heat+2", 5.0)
    assert event.values["heat+2@0.5"] == 12.0
    assert set(event.values) == set(LOAD.columns)
    plain = event.as_dict()
    assert plain["kind"] == "alarm"
    assert "started_s" not in plain
    json.dumps(plain)


def test_borders_are_for_one_quantity_where_it_is_named():
    row = np.array([0, 1, 2, 0, 8, 9, 0, 3, 4, 0, 12, 15], dtype=float)
    event = Gauge(Decision(high=7.0, of="load"), LOAD).step(1.0, row)
    assert (event.reason, event.severity) == ("load+2", 1.0)
    assert set(event.values) == set(LOAD.columns[:6])
    assert Gauge(Decision(high=10.0, of="load"), LOAD).step(1.0, row) is None
    assert Gauge(Decision(high=10.0, of="heat"), LOAD).step(1.0, row).reason == "heat+2"
    with pytest.raises(OptionError, match="quantity-unknown"):
        Gauge(Decision(of="lod"), LOAD)


def test_a_window_that_could_not_be_judged_says_so_and_an_alarm_survives_a_gap():
    gauge = Gauge(Decision(low=5.0, smooth=3), LIFE)
    assert gauge.step(1.0, np.array([1.0, 2.0, 3.0])).kind == "alarm"
    gauge.reset()
    assert gauge.step(2.0, np.array([1.0, 2.0, 3.0])) is None  # it still stands
    skipped = gauge.step(3.0, None)
    assert (skipped.label, skipped.kind, skipped.reason) == ("unsure", "change", "skipped")
    assert skipped.values == {}
    gauge.restart()
    assert gauge.step(4.0, np.array([1.0, 2.0, 3.0])).kind == "alarm"


def test_every_window_gives_its_numbers_and_what_stands_while_a_change_is_held_off():
    gauge = Gauge(Decision(low=5.0, hold_off_s=10.0, emit="window"), LIFE)
    rows = [[8.0, 9.0, 10.0], [1.0, 2.0, 3.0], [8.0, 9.0, 10.0], [8.0, 9.0, 10.0]]
    events = [gauge.step(6.0 * at, np.array(row)) for at, row in enumerate(rows)]
    assert [(e.label, e.kind) for e in events] == [
        ("within", "estimate"),
        ("low", "alarm"),
        ("low", "estimate"),  # held off
        ("within", "change"),
    ]


def test_the_quantile_must_be_one_that_the_model_estimates():
    with pytest.raises(OptionError, match="sure-level"):
        Gauge(Decision(low=1.0, sure=0.8), LIFE)
    Gauge(Decision(sure=0.8), LIFE)  # without a border nobody asks


@pytest.mark.parametrize(
    "options", [{"low": "5"}, {"low": 5.0, "high": 5.0}, {"sure": 1.0}, {"high": float("nan")}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(OptionError, match="decision-option"):
        Decision(**options)


def test_options_of_estimates_travel_only_where_they_were_chosen():
    assert set(Decision().as_dict()) == {"threshold", "smooth", "hold_off_s", "emit"}
    chosen = Decision(low=3.0, sure=0.95)
    assert Decision.from_dict(chosen.as_dict()) == chosen


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=3, max_size=3), st.floats(-60, 60))
def test_the_probability_below_a_border_rises_with_the_border(quantiles, border):
    rising = np.sort(quantiles)
    here = below_border((0.05, 0.5, 0.95), rising, border)
    assert 0.05 <= here <= 0.95
    assert here <= below_border((0.05, 0.5, 0.95), rising, border + 1.0)


def make_gauging(decision: Decision | None = None) -> Bundle:
    """Estimates the mean of the first channel, now, with an interval of one on each side."""
    draft = Draft()
    mean = draft.add("mean", "x", axes=[2], keepdims=False)
    weights = np.zeros((3, 3))
    weights[0] = 1.0
    spread = draft.add("add", draft.add("matmul", mean, weights), np.array([-1.0, 0.0, 1.0]))
    outputs = Outputs(("level",), ("m/s2",))
    golden = np.random.default_rng(3).normal(size=(6, 3, 20))
    return make(
        draft.finish(spread), TOY_SPEC, outputs.columns, decision, golden=golden, outputs=outputs
    )


def _signal(n_timepoints: int) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(3, n_timepoints)).astype(np.float32)
    x[0] += 4 * np.sin(np.arange(n_timepoints) / 25)
    return x


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), smooth=st.integers(1, 3))
def test_a_stream_in_any_pieces_gives_the_events_of_the_whole_recording(seed, smooth):
    bundle, signal = make_gauging(), _signal(300)
    decision = Decision(low=-2.0, high=2.0, smooth=smooth, hold_off_s=1.0)
    runner, events, place = Runner(bundle, decision=decision), [], 0
    random = np.random.default_rng(seed)
    while place < signal.shape[1]:
        stop = place + int(random.integers(1, 40))
        events += runner.push(signal[:, place:stop])
        place = stop
    x, starts = cut(signal, TOY_SPEC)
    windows = Windows(x, np.full(len(x), ""), np.full(len(x), ""), TOY_SPEC)
    ends_s = np.round((starts + TOY_SPEC.n_timepoints - 1) / TOY_SPEC.rate_hz, 6)
    assert tuple(events) == gauged(decision, bundle.predict(windows), ends_s)
    assert any(event.kind == "alarm" for event in events)


def test_classes_are_decided_and_estimates_gauged():
    bundle = make_gauging()
    assert isinstance(judge_of(Decision(), bundle.classes, bundle.outputs), Gauge)
    assert [event.kind for event in Runner(bundle).push(_signal(40))] == ["estimate"] * 5


def test_the_command_prints_alarms_and_counts_them(tmp_path, capsys):
    write(tmp_path / "m.egb", make_gauging(Decision(high=2.0)))
    head = ",".join(TOY_SPEC.channel_names)
    rows = "\n".join(",".join(f"{value:.6g}" for value in row) for row in _signal(300).T)
    (tmp_path / "rows.csv").write_text(f"{head}\n{rows}\n")
    base = ["run", str(tmp_path / "m.egb"), "--source", str(tmp_path / "rows.csv")]
    assert cli.main([*base, "--backend", "numpy", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    events = [line for line in lines if "summary" not in line]
    assert {event["kind"] for event in events} == {"alarm", "change"}
    assert all(event["values"]["level@0.5"] >= 2.0 for event in events if event["kind"] == "alarm")
    assert lines[-1]["summary"]["events"] == len(events)
    assert cli.main([*base, "--backend", "numpy", "--low", "-2", "--sure", "0.95"]) == 0
    more = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["label"] for event in more} == {"high", "low", "within"}
