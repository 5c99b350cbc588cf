"""What doctor says of data that a forecast, an estimate or an alarm would go wrong by."""

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from data_toys import put, text

from edgegraft.cli.app import cli
from edgegraft.data.audit import audit
from edgegraft.data.dataset import Dataset, open_data
from edgegraft.data.question import Question
from edgegraft.data.season import seasons, strength_of
from edgegraft.data.target_image import image_of
from edgegraft.workflow import adapt
from edgegraft_edge.errors import OptionError
from edgegraft_edge.signal import Channel, LabelSpan, Recording, Windows

HOUR_MS = 3_600_000
START_MS = 1_700_000_000_000


def hours(n_rows=600, seed=0):
    """Load with a day in it, temperature beside it."""
    random = np.random.default_rng(seed)
    time = np.arange(n_rows)
    load = 10 + 3 * np.sin(time / 24 * 2 * np.pi) + random.normal(size=n_rows)
    return {"load": load, "temp": 15 + random.normal(size=n_rows)}


def saved(tmp_path, columns, times=None, label=None, name="data.csv"):
    n_rows = len(next(iter(columns.values())))
    times = START_MS + np.arange(n_rows) * HOUR_MS if times is None else times
    head = ["timestamp", *columns, *(["label"] if label is not None else [])]
    rows = [
        [f"{times[at]:.0f}", *(f"{values[at]:.6f}" for values in columns.values())]
        + ([str(label[at])] if label is not None else [])
        for at in range(n_rows)
    ]
    return put(tmp_path, text(rows, head), name)


def found(data, task, **asked):
    return {
        finding.code: finding for finding in audit(data, asked=Question(task, **asked)).findings
    }


def test_a_day_in_hourly_samples_is_named_in_both(tmp_path):
    seen = found(saved(tmp_path, hours()), "forecasting", target=("load",), context=12)
    assert "24 samples (24 h)" in seen["seasonality"].text
    assert "season=24" in seen["seasonality"].remedy
    assert seen["season-beyond-context"].severity == "warning"
    assert "trend-leak" not in seen
    wide = found(saved(tmp_path, hours()), "forecasting", target=("load",), context=48)
    assert "season-beyond-context" not in wide


@pytest.mark.parametrize("period", [5, 24, 97])
def test_seasons_are_found_under_noise_and_a_trend(period):
    random = np.random.default_rng(period)
    time = np.arange(12 * period)
    shape = np.sin(2 * np.pi * time / period) + 0.4 * np.sin(4 * np.pi * time / period + 1)
    series = shape + 0.5 * random.normal(size=len(time)) + 3 * time / len(time)
    assert abs(seasons(series)[0].samples - period) <= max(1, period // 50)
    series[5:9] = np.nan
    assert abs(seasons(series)[0].samples - period) <= max(1, period // 50)


def test_a_week_stands_beside_the_day():
    time = np.arange(24 * 7 * 10)
    weekend = (time // 24) % 7 >= 5
    load = np.sin(time / 24 * 2 * np.pi) * np.where(weekend, 0.3, 1.0) - 3.0 * weekend
    load = load + 0.1 * np.random.default_rng(0).normal(size=len(time))
    assert {season.samples for season in seasons(load, 1 / 3600)} & {168}


def test_random_walks_have_no_season():
    walks = [np.random.default_rng(seed).normal(size=800).cumsum() for seed in range(40)]
    assert sum(bool(seasons(walk)) for walk in walks) <= 2
    assert seasons(np.ones(200)) == ()
    assert seasons(np.arange(5.0)) == ()
    assert seasons(np.full(100, np.nan)) == ()
    assert strength_of(np.arange(200.0), 10) < 0.1  # a straight line repeats nothing


def test_time_alone_tells_a_trend(tmp_path):
    columns = hours()
    columns["load"] = columns["load"] + np.arange(600) / 20
    seen = found(saved(tmp_path, columns), "forecasting", target=("load",))
    assert seen["trend-leak"].severity == "warning"
    assert "split by time" in seen["trend-leak"].remedy


def test_a_channel_that_counts_gives_life_away(tmp_path):
    columns = {**hours(), "cycle": np.arange(600.0)}
    seen = found(saved(tmp_path, columns), "regression", target=("remaining",))
    assert seen["channel-counts"].severity == "trouble"
    assert "cycle" in seen["channel-counts"].text
    assert "load" not in seen["channel-counts"].text


@pytest.mark.parametrize(
    ("task", "shift", "severity"),
    [("forecasting", 3, "trouble"), ("forecasting", -3, "warning"), ("regression", 0, "trouble")],
)
def test_a_channel_that_shows_the_target_is_found_with_its_shift(tmp_path, task, shift, severity):
    columns = hours(900)
    walk = np.random.default_rng(1).normal(size=900).cumsum()
    columns["load"] = walk
    # what stands at t + shift of the target stands at t of the channel
    columns["copy"] = 4.0 - 2 * np.roll(walk, -shift)
    keep = slice(10, 890)
    columns = {name: values[keep] for name, values in columns.items()}
    seen = found(saved(tmp_path, columns), task, target=("load",))
    assert seen["target-leakage"].severity == severity
    assert "'copy'" in seen["target-leakage"].text
    if shift:
        word = "ahead" if shift > 0 else "later"
        assert f"3 samples {word}" in seen["target-leakage"].text


def test_what_only_rises_with_the_target_is_no_image_of_it(tmp_path):
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 1000, 800)
    columns = {"life": ramp + random.normal(size=800), "wear": ramp + random.normal(size=800)}
    assert "target-leakage" not in found(saved(tmp_path, columns), "regression", target=("life",))
    assert image_of([(columns["life"], columns["wear"])]) is None
    day = np.sin(np.arange(800) / 24 * 2 * np.pi)  # of a pure wave no shift can be told
    assert image_of([(day[6:], day[:-6])]) is None


def test_a_target_that_others_add_up_to_is_told(tmp_path):
    random = np.random.default_rng(0)
    phases = {name: random.normal(size=500).cumsum() for name in ("a", "b", "c")}
    seen = found(
        saved(tmp_path, {**phases, "total": sum(phases.values())}), "regression", target=("total",)
    )
    assert seen["target-computed"].severity == "warning"
    assert "target-leakage" not in seen


def test_targets_that_do_not_move(tmp_path):
    columns = hours()
    still = found(saved(tmp_path, {**columns, "load": np.ones(600)}), "forecasting",
                  target=("load",))  # fmt: skip
    assert still["target-constant"].severity == "trouble"
    nearly = np.where(np.arange(600) % 50 == 0, 1.0, 0.0)
    seen = found(saved(tmp_path, {**columns, "load": nearly}), "regression", target=("load",))
    assert seen["target-near-constant"].severity == "warning"


def test_series_shorter_than_context_and_horizon(tmp_path):
    path = saved(tmp_path, hours(100))
    assert found(path, "forecasting", context=96, horizon=24)["series-short"].severity == "trouble"
    assert "series-short" not in found(path, "forecasting", context=48, horizon=24)
    times = START_MS + np.r_[0:50, 90:140] * HOUR_MS
    parts = saved(tmp_path, hours(100), times)
    seen = found(parts, "forecasting", context=60, horizon=24)
    assert "2 of 2 series" in seen["series-short"].text


def test_times_off_the_grid(tmp_path):
    random = np.random.default_rng(0)
    times = START_MS + (np.arange(600) + random.uniform(-0.3, 0.3, 600)) * HOUR_MS
    seen = found(saved(tmp_path, hours(), times), "forecasting")
    assert seen["times-irregular"].severity == "trouble"
    assert "times-irregular" not in found(saved(tmp_path, hours()), "forecasting")


def test_what_is_asked_for_must_be_there(tmp_path):
    seen = found(saved(tmp_path, hours()), "forecasting", target=("laod",), known=("sun",))
    assert seen["target-missing"].severity == seen["covariate-missing"].severity == "trouble"
    assert "load" in seen["target-missing"].remedy
    assert found(saved(tmp_path, hours()), "regression")["target-missing"].severity == "trouble"
    with pytest.raises(OptionError, match="task-unknown"):
        Question("forcasting")


def test_test_data_that_lack_a_channel_or_go_beyond_training_are_told(tmp_path):
    train = saved(tmp_path, hours())
    higher = saved(tmp_path, {"load": hours(seed=1)["load"] + 4}, name="higher.csv")
    asked = Question("forecasting", target=("load",), known=("temp",))
    seen = {finding.code: finding for finding in audit(train, higher, asked=asked).findings}
    assert "not in the test data" in seen["covariate-missing"].text
    assert seen["target-outside"].severity == "warning"
    again = saved(tmp_path, hours(seed=1), name="again.csv")
    assert not {"covariate-missing", "target-outside"} & set(audit(train, again, asked=asked).codes)


def engines(ends, channels=("s1", "s2"), n_timepoints=80):
    """Run-to-failure recordings whose labels count down to `ends`."""
    recordings = []
    for number, end in enumerate(ends):
        values = np.random.default_rng(number).normal(size=(len(channels), n_timepoints))
        spans = tuple(
            LabelSpan(at, at + 1, f"{end + n_timepoints - 1 - at}") for at in range(n_timepoints)
        )
        recordings.append(
            Recording(
                values.astype(np.float32),
                tuple(map(Channel, channels)),
                1.0,
                spans,
                group=f"engine {number}",
                name=f"engine{number}.csv",
            )
        )
    return Dataset(tuple(recordings))


def test_units_that_end_alive_are_counted_and_numbers_are_no_classes():
    seen = found(engines([0, 0, 23, 0, 40, 0]), "regression")
    assert "2 of 6 units end before their failure" in seen["unit-without-failure"].text
    assert "23" in seen["unit-without-failure"].text
    assert not {"class-one-member", "label-typo", "imbalance", "class-one-group"} & set(seen)
    assert "unit-without-failure" not in found(engines([0, 0, 0, 0, 0]), "regression")


def test_units_too_few_and_cut_in_two():
    assert found(engines([0, 0]), "regression")["units-few"].severity == "warning"
    lone = found(engines([0]), "regression", target=("remaining",))
    assert lone["units-few"].severity == "trouble"
    whole = engines([0, 0, 0, 0, 0])
    assert "unit-cut" not in found(whole, "regression", target=("remaining",))
    again = Dataset((*whole.recordings, whole.recordings[0]))
    seen = found(again, "regression", target=("remaining",))
    assert "engine 0" in seen["unit-cut"].text
    assert "failure-assumed" in seen


def test_labels_that_are_no_numbers_are_shown(tmp_path):
    label = ["12"] * 300 + ["?"] * 300
    seen = found(saved(tmp_path, hours(), label=label), "regression")
    assert "'?'" in seen["target-text"].text


def test_normal_time_of_an_anomaly_task(tmp_path):
    label = np.full(600, "normal", dtype=object)
    label[100:400] = "leak"
    seen = found(saved(tmp_path, hours(), label=label), "anomaly")
    assert "50%" in seen["anomalies-common"].text
    seen = found(saved(tmp_path, hours(), label=np.full(600, "leak")), "anomaly")
    assert seen["normal-missing"].severity == "trouble"
    drifting = hours()
    drifting["load"] = drifting["load"] + np.arange(600) / 20
    seen = found(saved(tmp_path, drifting), "anomaly")
    assert "'load'" in seen["normal-drifts"].text
    assert "normal-drifts" not in found(saved(tmp_path, hours()), "anomaly")


def test_series_that_never_move_are_one_finding(tmp_path):
    dead = {"a": np.ones(200), "b": np.zeros(200)}
    assert found(saved(tmp_path, dead), "anomaly")["series-constant"].severity == "trouble"
    seen = found(saved(tmp_path, dead), "forecasting")
    assert seen["target-constant"].text == "a, b never move"
    assert seen["target-constant"].severity == "trouble"
    part = found(saved(tmp_path, {**hours(), "dead": np.ones(600)}), "forecasting")
    assert part["target-constant"].severity == "warning"  # the others can be forecast
    assert "series-constant" not in found(saved(tmp_path, hours()), "anomaly")


def test_half_an_hour_of_normal_time_is_said_to_be_short(tmp_path):
    times = START_MS + np.arange(600) * 3000
    seen = found(saved(tmp_path, hours(), times), "anomaly")
    assert "30 min" in seen["normal-short"].text
    assert "normal-short" not in found(saved(tmp_path, hours()), "anomaly")


def test_the_command_takes_the_task_and_leaves_with_its_trouble(tmp_path):
    path = str(saved(tmp_path, {**hours(), "load": np.ones(600)}))
    run = CliRunner().invoke(cli, ["doctor", path, "--task", "forecasting", "--target", "load"])
    assert run.exit_code == 1
    assert "target-constant" in run.output
    fine = str(saved(tmp_path, hours(), name="fine.csv"))
    run = CliRunner().invoke(cli, ["doctor", fine, "--task", "forecasting", "--json"])
    assert run.exit_code == 0
    assert '"seasonality"' in run.output
    assert "nothing-labelled" not in run.output


def test_trouble_is_told_to_who_adapts_without_asking(tmp_path):
    random = np.random.default_rng(0)
    walk = random.normal(size=400).cumsum()
    path = saved(tmp_path, {"load": walk, "copy": 2 * walk + 1, "temp": random.normal(size=400)})
    options = {"regression.target": "load"}
    run = adapt(
        path, task="regression", backbone="statistics", strategy="regress", folds=2, curve=False,
        options=options, data_options={"window_s": 86_400.0},
    )  # fmt: skip
    told = [note for note in run.summary["warnings"] if "target-leakage" in note or "shows" in note]
    assert len(told) == 1


@pytest.mark.parametrize("task", ["forecasting", "regression", "anomaly"])
def test_awkward_data_are_told_of_and_never_raise(tmp_path, task):
    short = open_data(saved(tmp_path, hours(3)))
    holes = hours(60)
    holes["load"][10:20] = np.nan
    for data in (short, saved(tmp_path, holes, name="holes.csv"), engines([0] * 3, n_timepoints=4)):
        audit(data, asked=Question(task, context=8, horizon=4))


@pytest.mark.parametrize("task", ["forecasting", "regression", "anomaly"])
def test_ready_windows_with_numbers_for_targets_are_looked_at_too(task):
    x = np.random.default_rng(0).normal(size=(40, 2, 32)).astype(np.float32)
    bare = Windows.of(x)
    numbers = replace(bare, y=np.arange(40, dtype=np.float32)[:, None])
    for windows in (bare, numbers):
        codes = audit(windows, asked=Question(task)).codes
        assert ("target-missing" in codes) == (task == "regression" and windows is bare)
