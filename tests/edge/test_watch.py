"""A watch learns on the device: from nothing, from the past only, within bounds."""

from __future__ import annotations

import io
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft_edge import cli
from edgegraft_edge.alarms import Alarms, FalseAlarms
from edgegraft_edge.errors import DataError, ModelError, OptionError
from edgegraft_edge.surprise import Lags, Level, Memory, Shape
from edgegraft_edge.watch import Watch, Watching, surprise_of

SMALL = Watching(
    shapes=(3, 7), neighbours=4, lags=40, level=30, memory=60, learn=20, rest_least=5, rest_most=50
)
values_of = st.lists(
    st.one_of(
        st.floats(-1e6, 1e6, width=32),
        st.sampled_from([float("nan"), float("inf"), 0.0, 1.0, 1e30]),
    ),
    min_size=1,
    max_size=250,
)


def wave(n: int, seed: int = 0, noise: float = 0.1) -> np.ndarray:
    return np.sin(np.arange(n) / 8) + noise * np.random.default_rng(seed).normal(size=n)


@settings(max_examples=40, deadline=None)
@given(values=values_of, cuts=st.lists(st.integers(0, 250), max_size=4), keep=st.integers(0, 250))
def test_one_by_one_in_blocks_and_after_a_restart_are_the_same(values, cuts, keep):
    watch = Watch(options=SMALL)
    single = [watch.push(value) for value in values]
    blocks = Watch(options=SMALL)
    edges = sorted({0, *(min(cut, len(values)) for cut in cuts), len(values)})
    parts = [blocks.scores(np.array(values[a:b])) for a, b in pairwise(edges)]
    assert np.concatenate(parts).tolist() == single
    begun, file = Watch(options=SMALL), io.BytesIO()
    before = [begun.push(value) for value in values[:keep]]
    begun.save(file)
    file.seek(0)
    restarted = Watch.load(file)
    assert before + [restarted.push(value) for value in values[keep:]] == single
    assert (restarted.p, restarted.samples, restarted.skipped) == (
        watch.p,
        watch.samples,
        watch.skipped,
    )


def test_a_score_depends_on_the_past_only():
    values = wave(400)
    other = np.concatenate([values[:300], 50 + wave(100, 1)])
    one, two = Watch(options=SMALL).scores(values), Watch(options=SMALL).scores(other)
    assert one[:300].tolist() == two[:300].tolist()
    assert two[300] > one[300:].max()


def test_shapes_are_distances_to_the_nearest_curves():
    values = np.random.default_rng(0).normal(size=120)
    lags, shape = Lags(50, 12), Shape(6, 50, 3)
    found = [shape.distance(lags.push(float(value)), lags.count) for value in values]
    for at in (40, 77, 119):
        newest = values[at - 5 : at + 1]
        away = [
            np.sum((values[at - 5 - lag : at + 1 - lag] - newest) ** 2)
            for lag in range(6, 51)
            if at - 5 - lag >= 0
        ]
        assert found[at] == pytest.approx(np.sqrt(np.mean(np.sort(away)[:3]) / 6))


def test_a_huge_value_leaves_no_trace_in_later_distances():
    values = np.tile([0.0, 1.0, 3.0, 2.0], 40)
    values[30] = 1e12
    lags, shape = Lags(50, 8), Shape(4, 50, 3)
    found = [shape.distance(lags.push(float(value)), lags.count) for value in values]
    assert max(found) > 1e11
    assert found[-1] == 0.0


@given(st.lists(st.integers(0, 9), min_size=2, max_size=80))
def test_surprise_is_the_share_of_the_memory(numbers):
    memory = Memory(30)
    for number in numbers[:-1]:
        memory.surprise(float(number))
    kept = numbers[:-1][-30:]
    last = min(numbers[-1], max(kept))  # a record adds more
    above = sum(number >= last for number in kept)
    assert 10 ** -memory.surprise(float(last)) == pytest.approx((above + 1) / (len(kept) + 1))


def test_the_tail_goes_on_below_the_share_of_one():
    memory = Memory(2000)
    for number in np.random.default_rng(0).exponential(size=2000):
        memory.tail(float(number))
    # True probabilities are exp(-x); the estimate is on the careful side.
    for number in (7.0, 10.0):
        found = memory.tail(number)
        assert np.exp(-number) / 3 < found < 40 * np.exp(-number)


def test_the_level_is_a_mean_that_forgets():
    level = Level(100)
    assert [level.distance(value) for value in (4.0, 4.0, 10.0)] == [0.0, 0.0, 6.0]
    assert level.mean == pytest.approx(6.0)


@pytest.mark.parametrize("constant", [0.0, 3.3, -1e8, 1e-9])
def test_a_constant_is_never_unusual_until_it_moves(constant):
    watch, alarms = Watch(), Alarms(FalseAlarms(share=0.01), ("x",), period_s=1.0)
    for at in range(1500):
        assert watch.push(constant) == 0.0
        assert alarms.step(float(at), watch) is None
    assert watch.push(constant + abs(constant) + 1.0) > 0.999
    assert alarms.step(1500.0, watch).kind == "alarm"


def test_what_is_not_finite_is_left_out_and_counted():
    values = wave(300)
    whole = Watch(options=SMALL).scores(values)
    watch = Watch(options=SMALL)
    for at, value in enumerate(values):
        if at % 50 == 7:
            assert [watch.push(bad) for bad in (float("nan"), float("inf"))] == [0.0, 0.0]
            assert watch.p == 1.0
        assert watch.push(float(value)) == whole[at]
    assert (watch.samples, watch.skipped) == (300, 12)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("spike", lambda v: np.concatenate([v[:1500], v[1500:1501] + 5, v[1501:]])),
        ("level", lambda v: v + 3.0 * (np.arange(len(v)) >= 1500)),
        ("rhythm", lambda v: np.concatenate([v[:1500], wave(1200, 3)[::3][:300], v[1800:]])),
        ("stops", lambda v: np.where((np.arange(len(v)) >= 1500) & (np.arange(len(v)) < 1600),
                                     v[1500] + 1.5, v)),
    ],
)  # fmt: skip
def test_what_is_unlike_before_is_found_soon(name, change):
    scores = Watch().scores(change(wave(2000)))
    assert scores[:1500].max() < 0.999
    assert scores[1500:1540].max() > scores[300:1500].max()


def test_a_repeat_is_held_back_and_what_surprises_more_is_not():
    values = wave(1500)
    values[1000], values[1040], values[1080] = 5.0, 4.0, 200.0
    surprise = np.array([surprise_of(s) for s in Watch().scores(values)])
    assert surprise[1040] < 0.6 * surprise[1000] < surprise[1000] < surprise[1080]


@pytest.mark.parametrize("kind", ["noise", "drifting", "counts"])
def test_false_alarms_are_as_rare_as_was_asked(kind):
    random = np.random.default_rng(1)
    values = random.normal(size=12_000)
    if kind == "drifting":
        for at in range(1, len(values)):
            values[at] += 0.95 * values[at - 1]
    if kind == "counts":
        values = random.poisson(2.0, 12_000).astype(float)
    watch, alarms = Watch(), Alarms(FalseAlarms.parse("1/hour"), ("x",))
    for at, value in enumerate(values.tolist()):
        watch.push(value)
        alarms.step(at * 10.0, watch)
    allowed = 12_000 * 10 / 3600
    assert 0 < alarms.events <= 1.3 * allowed


def test_memory_does_not_grow():
    watch = Watch(2, SMALL)

    def size():
        return sum(value.nbytes for value in watch.state().values() if value.dtype.kind == "f")

    watch.scores(np.stack([wave(400), wave(400, 1)]))
    before = size()
    watch.scores(np.stack([wave(3000), wave(3000, 1)]))
    assert size() <= before + 16 * SMALL.rest_most


def test_of_several_channels_the_worst_counts_and_is_named():
    values = np.stack([wave(900), wave(900, 1), wave(900, 2)])
    values[1, 800] = 7.0
    watch, alarms = Watch(3), Alarms(FalseAlarms(share=0.001), ("a", "b", "c"), period_s=1.0)
    events = []
    for at, row in enumerate(values.T.tolist()):
        watch.push(row)
        events += [event for event in [alarms.step(float(at), watch)] if event]
    assert [event.kind for event in events] == ["alarm", "end"]
    assert events[0].at_s == events[1].started_s == 800.0
    assert max(events[0].values, key=events[0].values.get) == "b"
    assert events[1].severity >= events[0].severity > 3.0


def test_time_may_be_irregular_and_jump_back():
    watch, alarms = Watch(), Alarms(FalseAlarms.parse("1/day"), ("x",))
    random, at_s = np.random.default_rng(0), 0.0
    for at, value in enumerate(wave(700).tolist()):
        at_s += random.choice([60.0, 60.0, 60.0, 7200.0, -3600.0, 0.0])
        watch.push(30.0 if at == 650 else value)
        event = alarms.step(at_s, watch)
        assert event is None or at >= 650
        found = at == 650 and event.at_s == at_s
        assert found or at != 650
    assert alarms.period_s == 60.0


@pytest.mark.parametrize(
    ("text", "period_s", "p"),
    [("1/day", 300.0, 1 / 288), ("2 per week", 3600.0, 2 / 168), ("1/hours", 7200.0, 1.0),
     ("0.1%", 1.0, 0.001), ("0.01", 5.0, 0.01)],
)  # fmt: skip
def test_a_rate_becomes_a_p_value(text, period_s, p):
    assert FalseAlarms.parse(text).p(period_s) == pytest.approx(p)


@pytest.mark.parametrize("text", ["", "none", "0/day", "1/fortnight", "2", "-1/day", "1.2.3/day"])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(OptionError) as caught:
        FalseAlarms.parse(text)
    assert caught.value.code == "false-alarms"


def test_options_out_of_range_are_all_named():
    with pytest.raises(OptionError) as caught:
        Watching(shapes=(1,), neighbours=0, rest=2.0)
    assert [problem.found.split(" ")[0] for problem in caught.value.problems] == [
        "shapes",
        "neighbours",
        "rest",
    ]


def test_other_channels_and_other_states_are_refused(tmp_path):
    with pytest.raises(DataError, match="watch-channels"):
        Watch(2).push(1.0)
    with pytest.raises(DataError, match="watch-channels"):
        Watch(2).scores(np.zeros((3, 5)))
    path = tmp_path / "state.npz"
    path.write_bytes(b"PK nonsense")
    with pytest.raises(ModelError, match="watch-state"):
        Watch.load(path)
    state = Watch(options=SMALL).state()
    with pytest.raises(ModelError, match="watch-state"):
        Watch.restored({**state, "watch": np.array('{"format": 99}')})
    del state["channel0/lags"]
    with pytest.raises(ModelError, match="watch-state"):
        Watch.restored(state)


def csv_of(values: np.ndarray, step: int = 60_000) -> str:
    rows = [f"{at * step},{value!r}" for at, value in enumerate(values.tolist())]
    return "\n".join(["time_ms,load [kW]", *rows]) + "\n"


def run(capsys, *arguments: object) -> tuple[int, list[dict], str]:
    code = cli.main(["watch", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def test_the_command_tells_beginning_and_end(capsys, tmp_path):
    values = wave(900)
    values[800:803] = 6.0
    path = tmp_path / "rows.csv"
    path.write_text(csv_of(values) + "1,2,3\n")
    code, lines, _ = run(capsys, "--source", path, "--json", "--false-alarms", "1/day")
    *events, last = lines
    assert code == 0
    assert [event["kind"] for event in events][-2:] == ["alarm", "end"]
    assert events[-2]["at_s"] == events[-1]["started_s"] == 800 * 60
    assert list(events[-1]["values"]) == ["load"]
    summary = last["summary"]
    assert (summary["samples"], summary["malformed"], summary["period_s"]) == (900, 1, 60.0)
    assert summary["alarms"] == len(events) / 2


def test_the_command_goes_on_from_a_state(capsys, tmp_path):
    values = wave(700)
    values[650] = 6.0
    whole, first, second = (tmp_path / f"{name}.csv" for name in ("whole", "first", "second"))
    whole.write_text(csv_of(values))
    lines = csv_of(values).splitlines(keepends=True)
    first.write_text("".join(lines[:401]))
    second.write_text("".join([lines[0], *lines[401:]]))
    options = ("--false-alarms", "0.002", "--state", tmp_path / "state.npz")
    expected = run(capsys, "--source", whole, "--false-alarms", "0.002")[1]
    found = (
        run(capsys, "--source", first, *options)[1] + run(capsys, "--source", second, *options)[1]
    )
    assert found == expected != []
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    assert run(capsys, "--source", other, "--json", *options)[1][0]["error"][0]["code"] == (
        "watch-channels"
    )


@pytest.mark.parametrize(
    ("text", "arguments", "code"),
    [
        ("load\n1\n2\n", (), "time-missing"),
        ("time,load\n", (), "rows-missing"),
        ("", (), "source-empty"),
        ("time\n1\n", (), "channel-missing"),
        ("time,load\n1,2\n", ("--channel", "laod"), "channel-unknown"),
        ("time,load\n1,2\n", ("--false-alarms", "often"), "false-alarms"),
        ("load\n1\n", ("--rate-hz", "0"), "rate-range"),
        ("time,load\n1,2\n", ("--state", "no/such/folder/state.npz"), "state-unwritable"),
    ],
)
def test_the_command_refuses_with_a_code(capsys, tmp_path, text, arguments, code):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    exit_code, lines, err = run(capsys, "--source", path, "--json", *arguments)
    assert exit_code in (2, 3)
    assert lines[0]["error"][0]["code"] == code
    assert f"[{code}]" in err


@pytest.mark.parametrize("begin", ["1385200000", "1385200000000", "2013-11-23T09:46:40Z"])
def test_the_command_reads_times_of_any_unit(capsys, tmp_path, begin):
    path = tmp_path / "rows.csv"
    path.write_text(f"timestamp,x\n{begin},1\n")
    code, lines, _ = run(capsys, "--source", path, "--json")
    assert (code, lines[-1]["summary"]["samples"]) == (0, 1)


def test_columns_of_text_are_left_out_and_gaps_are_not(capsys, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("timestamp,note,a,b\n0,hello,,1\n1,bye,2,nan\n2,,3,4\n")
    code, lines, _ = run(capsys, "--source", path, "--json")
    summary = lines[-1]["summary"]
    assert (code, summary["samples"], summary["skipped"], summary["malformed"]) == (0, 1, 2, 0)


def test_what_was_learnt_is_kept_while_it_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("edgegraft_edge.cli_watch.SAVE_EVERY_S", -1.0)
    path, state = tmp_path / "rows.csv", tmp_path / "state.npz"
    path.write_text(csv_of(wave(50)))
    seen = []

    def stop(self, at_s, watch):
        seen.append(watch.samples)
        if len(seen) == 40:
            raise MemoryError("the power is gone")

    monkeypatch.setattr(Alarms, "step", stop)
    with pytest.raises(MemoryError):
        run(capsys, "--source", path, "--state", state)
    assert Watch.load(state).samples == 39


def test_decimal_commas_between_semicolons_are_numbers(capsys, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("time;a;b\n1;2,5;3,5\n2;2,5;3,5\n")
    code, lines, _ = run(capsys, "--source", path, "--json", "--rate-hz", "1")
    assert (code, lines[-1]["summary"]["samples"]) == (0, 2)
