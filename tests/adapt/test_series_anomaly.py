"""Anomalies of series: experts, their joint grade, the border, fleets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import edgegraft as eg
from edgegraft.adapt.anomalies.border import alarm_head, border, highest, quantile
from edgegraft.adapt.anomalies.departure import LEARN
from edgegraft.adapt.anomalies.departures import DEFAULT, learn
from edgegraft.adapt.anomalies.fused import Density, Fused, Spectral, SubsequencePca
from edgegraft.adapt.anomalies.grade import Grades
from edgegraft.adapt.anomalies.series_view import VIEWS, View
from edgegraft.adapt.anomalies.time_blocks import time_blocks
from edgegraft.data.dataset import Dataset
from edgegraft.tasks.anomaly import Anomaly
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.alarms import FalseAlarms
from edgegraft_edge.errors import DataError, ModelError, OptionError
from edgegraft_edge.runner import Runner
from edgegraft_edge.signal import Channel, LabelSpan, Recording, Windows

RAW = load_backbone("raw")
LENGTH = 64


def signal(n: int, seed: int, *, gain: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """Two noisy waves (2, n)."""
    random, t = np.random.default_rng(seed), np.arange(n)
    clean = np.stack([np.sin(t * 2 * np.pi / 32), 0.5 * np.cos(t * 2 * np.pi / 16)])
    return gain * (clean + 0.1 * random.normal(size=(2, n))) + offset


def cut(values: np.ndarray, label: str = "ok", stride: int = 8, **more) -> Windows:
    starts = np.arange(0, values.shape[1] - LENGTH + 1, stride)
    x = np.stack([values[:, s : s + LENGTH] for s in starts])
    found = Windows.of(x, y=[label] * len(x), rate_hz=1.0)
    return replace(found, recording=np.zeros(len(x), np.int64), start=starts, **more)


@pytest.fixture(scope="module")
def normal() -> Windows:
    return cut(signal(4000, 0))


@pytest.fixture(scope="module")
def fused(normal):
    return Fused(false_alarms="0.02").adapt(RAW, normal, Anomaly(), seed=0)


@pytest.mark.parametrize("shape", [(1, 16), (3, 200)])
@pytest.mark.parametrize("name", [*LEARN, "all"])
def test_the_program_says_what_python_says(name, shape):
    random = np.random.default_rng(1)
    x = random.normal(size=(60, *shape)).cumsum(axis=2).astype(np.float32)
    names = DEFAULT if name == "all" else (name,)
    blocks = time_blocks(Windows.of(x))
    model, held = learn(x, names, blocks, most=20)
    asked = np.concatenate([x[:10], 5 * x[:10] + 3])
    assert np.isfinite(held).all()
    np.testing.assert_allclose(model.program(*shape).run(asked), model.embed(asked), atol=2e-3)
    assert (model.embed(asked)[10:] > model.embed(asked)[:10]).all()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("length", [8, 63, 300])
def test_a_view_says_where_its_features_come_from(view, length):
    seen = View(view, length)
    assert seen.features(np.ones((2, 3, length))).shape == (2, 3, seen.n_features)
    np.testing.assert_allclose(seen.spread.sum(axis=1), 1, rtol=1e-5)
    assert seen.spread.shape == (seen.n_features, length)


def test_normal_windows_alarm_as_rarely_as_asked_and_faults_do(fused):
    said = fused.predict(cut(signal(20_000, 1)))
    share = (said.labels == "anomaly").mean()
    assert 0.002 < share < 0.05
    faulty = signal(2000, 2)
    faulty[1] += 0.6 * np.sin(np.arange(2000) * 2 * np.pi / 5)
    assert (fused.predict(cut(faulty)).labels == "anomaly").mean() > 0.95
    assert fused.classes == ("anomaly", "ok")


def test_contributions_sum_to_the_grade_and_point_at_the_fault(fused):
    values = signal(LENGTH, 3)
    values[1, 40:56] += np.where(np.arange(16) % 2, 1.5, -1.5)
    window = values[None].astype(np.float32)
    model = fused.members[0].backbone
    parts = model.contributions(window)
    assert parts.shape == window.shape
    assert (parts >= 0).all()
    np.testing.assert_allclose(parts.sum(), model.embed(window), rtol=1e-4)
    assert parts[0, 1].sum() > 0.8 * parts[0].sum()
    inside = parts[0, 1, 40:56].mean()
    assert inside > 1.5 * np.delete(parts[0, 1], np.s_[40:56]).mean()


def test_a_channel_that_never_moved_is_watched_too():
    values = np.concatenate([signal(3000, 4), np.full((1, 3000), 7.0)])
    model = Fused().adapt(RAW, cut(values), Anomaly(), seed=0)
    later = np.concatenate([signal(300, 5), np.full((1, 300), 7.0)])
    moved = later.copy()
    moved[2] += 3.0
    assert (model.predict(cut(later)).labels == "ok").mean() > 0.9
    assert (model.predict(cut(moved)).labels == "anomaly").all()


def test_grades_follow_ranks_inside_and_never_tie_outside():
    held = np.random.default_rng(0).exponential(size=(400, 2))
    grades = Grades.of(held)
    inside = grades.apply(held)[:, 0]
    assert (np.diff(inside[np.argsort(held[:, 0])]) >= -1e-5).all()
    for share in (0.5, 0.1, 0.02):
        assert (inside > -np.log(share)).mean() == pytest.approx(share, abs=0.02)
    outside = grades.apply(np.array([[10.0, 10.0], [20.0, 20.0], [200.0, 200.0]]))
    assert (np.diff(outside, axis=0) > 0.1).all()
    flat = Grades.of(np.zeros((50, 1))).apply(np.array([[0.0], [1.0]]))
    assert np.isfinite(flat).all()
    assert flat[1] > flat[0]


def test_the_border_is_conformal_or_says_that_it_is_extrapolated():
    random = np.random.default_rng(0)
    held = random.exponential(size=2000)
    found = border(held, FalseAlarms.parse("2%"))
    assert not found.extrapolated
    assert (random.exponential(size=20_000) > found.score).mean() == pytest.approx(0.02, abs=0.006)
    score, beyond = quantile(held, 1e-5)
    assert beyond
    assert 9 < score < 14
    head = alarm_head(found, ("anomaly", "ok"))
    np.testing.assert_allclose(head.scores(np.array([[found.score]]))[0], 0.5, atol=1e-5)
    np.testing.assert_allclose(head.scores(np.array([[found.usual]]))[0, 0], 0.05, atol=1e-5)


def test_a_rate_counts_a_disturbance_once_however_small_the_stride():
    windows = cut(signal(20_000, 6), stride=4)
    values = np.random.default_rng(0).normal(size=len(windows))
    peaks = highest(values, windows)
    assert len(peaks) == pytest.approx(20_000 / LENGTH, abs=2)
    # one disturbance in 1,000 s: a sixteenth of the stretches of 64 s
    found = border(values, FalseAlarms.parse("86.4/day"), windows)
    assert (peaks > found.score).mean() == pytest.approx(0.064, abs=0.01)


def test_few_faults_weigh_experts_only_where_left_out_ones_are_found_better(normal):
    task = Anomaly(normal="ok")
    faults = cut(_hum(signal(5000, 8)), "hum", stride=24)
    train = task.relabelled(_both(normal, faults))
    asked = ("neighbours", "spectral")
    weighed = Fused(experts=asked).adapt(RAW, train, task, seed=0)
    even = Fused(experts=asked, weigh=False).adapt(RAW, train, task, seed=0)
    assert set(even.lineage["weights"].values()) == {1.0}
    assert weighed.lineage["weights"]["spectral"] > 1 > weighed.lineage["weights"]["neighbours"]
    usual, strange = cut(signal(4000, 10)), cut(_hum(signal(4000, 9)))
    found = []
    for model in (weighed, even):
        grades = model.members[0].backbone
        found.append(np.mean(grades.embed(strange.x) > np.median(grades.embed(usual.x))))
    assert found[0] > found[1]
    picked = normal.take(np.random.default_rng(7).permutation(len(normal))[:20])
    noise = task.relabelled(_both(normal, replace(picked, y=np.full(20, "odd"))))
    nothing = Fused().adapt(RAW, noise, task, seed=0)
    assert set(nothing.lineage["weights"].values()) == {1.0}


def _hum(values):
    values[0] += 0.12 * (-1.0) ** np.arange(values.shape[1])  # averaged away in an outline
    return values


def _both(a: Windows, b: Windows) -> Windows:
    return Windows(
        np.concatenate([a.x, b.x]),
        np.concatenate([a.y, b.y]),
        np.concatenate([a.groups, b.groups]),
        a.spec,
        np.concatenate([a.recording, b.recording + 1]),
        np.concatenate([a.start, b.start]),
    )


def test_a_fleet_is_re_centred_on_a_new_machine():
    gains = [(1.0, 0.0), (3.0, 10.0), (0.4, -4.0), (2.0, 5.0), (0.7, 1.0)]
    machines = [
        cut(signal(1600, 20 + i, gain=g, offset=o), domains=np.full(193, f"machine {i}"))
        for i, (g, o) in enumerate(gains[:4])
    ]
    first = cut(signal(200, 30, gain=5.0, offset=-20.0), domains=np.full(18, ""))
    train = machines[0]
    for each in [*machines[1:], first]:
        train = replace(_both(train, each), domains=np.concatenate([train.domains, each.domains]))
    adapted = Fused(false_alarms="0.05").adapt(RAW, train, Anomaly(normal="ok"), seed=0)
    assert adapted.lineage["machines"] == 4
    later = signal(4000, 31, gain=5.0, offset=-20.0)
    faulty = later + np.array([[0.0], [4.0]]) * np.sin(np.arange(4000) * 2 * np.pi / 5)
    assert (adapted.predict(cut(later)).labels == "anomaly").mean() < 0.15
    assert (adapted.predict(cut(faulty)).labels == "anomaly").mean() > 0.9
    elsewhere = adapted.members[0].backbone.recentred(machines[0].x[:20])
    assert elsewhere.embed(cut(signal(500, 32)).x).mean() < 2
    alone = Fused(alone=True).adapt(RAW, train, Anomaly(normal="ok"), seed=0)
    assert alone.lineage["machines"] == 0


@pytest.mark.parametrize("strategy", [SubsequencePca(), Density(), Spectral()])
def test_an_expert_can_be_asked_alone(strategy, normal):
    model = strategy.adapt(RAW, normal, Anomaly(), seed=0)
    assert len(model.lineage["weights"]) == 1
    assert (model.predict(replace(normal, x=normal.x * 4)).labels == "anomaly").mean() > 0.9


def test_the_same_seed_gives_the_same_model(normal, fused):
    again = Fused(false_alarms="0.02").adapt(RAW, normal, Anomaly(), seed=0)
    assert np.array_equal(again.predict(normal).probabilities, fused.predict(normal).probabilities)


def test_what_cannot_be_learned_from_is_refused_by_a_code(normal):
    def code(windows: Windows, task=None, **options) -> str:
        with pytest.raises((DataError, OptionError)) as caught:
            Fused(**options).adapt(RAW, windows, task or Anomaly(normal="ok"), seed=0)
        return caught.value.code

    assert code(normal, Classification()) == "task-differs"
    assert code(normal.take(np.arange(3))) == "labels-few"
    assert code(replace(normal, x=np.ones_like(normal.x))) == "constant"
    assert code(Windows.of(normal.x[:, :, :6], y=normal.y)) == "window-short"
    assert code(normal, experts=("psychic",)) == "option-range"
    assert code(normal, false_alarms="sometimes") == "false-alarms"
    with pytest.raises(OptionError):
        Anomaly(unlabelled="perhaps")


@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_a_signal_that_repeats_exactly_does_not_ring_at_rounding(noise):
    wave = np.sin(np.arange(LENGTH) * 2 * np.pi / 32) + np.zeros((50, 2, 1))
    windows = Windows.of(wave + noise * np.random.default_rng(0).normal(size=wave.shape))
    windows = replace(windows, y=np.full(50, "ok"))
    model = Fused().adapt(RAW, windows, Anomaly(), seed=0)
    np.testing.assert_allclose(
        model.program.run(windows.x), model.predict(windows).probabilities, atol=0.1
    )
    assert set(model.predict(windows).labels) == {"ok"}
    assert set(model.predict(replace(windows, x=windows.x + 0.1)).labels) == {"anomaly"}


def test_windows_with_gaps_are_not_learned_from(normal):
    holed = normal.x.copy()
    holed[::7, 0, 3] = np.nan
    model = Fused().adapt(RAW, replace(normal, x=holed), Anomaly(), seed=0)
    assert np.isfinite(model.predict(normal).probabilities).all()


def test_an_interval_marks_every_window_that_it_reaches_into():
    values = signal(1000, 11).astype(np.float32)
    channels = (Channel("a"), Channel("b"))
    spans = (LabelSpan(0, 500, "ok"), LabelSpan(500, 520, "leak"), LabelSpan(520, 1000, "ok"))
    data = Dataset((Recording(values, channels, 1.0, spans),))
    task = Anomaly()
    windows = task.windows(data)
    assert windows.series.n_timepoints == 64  # two periods of one channel, four of the other
    assert windows.series.n_stride == 16
    own = Anomaly(window=100, stride=7).windows(data).series
    assert (own.n_timepoints, own.n_stride) == (100, 7)
    task = task.bound(windows)
    y = task.relabelled(windows).y
    reached = (windows.start < 520) & (windows.start + windows.series.n_timepoints > 500)
    assert task.normal == "ok"
    assert (y[reached] == "anomaly").all()
    assert (y[~reached] == "ok").all()


def test_recordings_without_any_label_are_taken_for_normal():
    windows = replace(cut(signal(1000, 12)), y=np.full(118, ""))
    task = Anomaly().bound(windows)
    assert set(task.relabelled(windows).y) == {"normal"}
    with pytest.raises(DataError):
        Anomaly(unlabelled="unknown").bound(windows)


def test_adapt_ships_a_model_that_streams_alarms_with_severity(tmp_path):
    values = signal(6000, 13)
    faulty = signal(3000, 14)
    faulty[0, 1000:1200] += 1.5
    place = tmp_path / "normal.csv"
    np.savetxt(place, values.T, delimiter=",", header="flow,pressure", comments="", fmt="%.5f")
    run = eg.adapt(
        str(place), task="anomaly", options={"anomaly.false_alarms": "0.002"}, out=tmp_path / "m",
        curve=False, data_options={"rate_hz": 1.0},
    )  # fmt: skip
    assert run.summary["shipped"]["strategy"] == "fused"
    with pytest.raises(ModelError) as caught:
        eg.export(run, format="onnx", precision="int8", out=tmp_path / "int8.egb")
    assert caught.value.code == "int8-anomaly"
    eg.export(run, format="onnx", out=tmp_path / "float.egb")
    bundle = eg.load(tmp_path / "m")
    runner = Runner(bundle)
    events = [event for part in np.split(faulty, 30, axis=1) for event in runner.push(part)]
    alarms = [event for event in events if event.kind == "alarm"]
    ends = [event for event in events if event.kind == "end"]
    assert any(1000 <= event.at_s <= 1140 for event in alarms)
    worst = max(ends, key=lambda event: event.severity)
    assert worst.severity > 0.5
    assert 1000 <= worst.started_s <= 1140 <= worst.at_s <= 1400
