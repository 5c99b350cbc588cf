"""What is estimated, from recordings and from labels; what is refused, by its code."""

from dataclasses import replace

import numpy as np
import pytest

from edgegraft.data.dataset import Dataset
from edgegraft.data.lives import remaining_life, span_values
from edgegraft.data.source import DataOptions
from edgegraft.tasks.regression import Regression, numbers
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.signal import Channel, LabelSpan, Recording, Windows

CHANNELS = (Channel("load", "kW"), Channel("temp", "degC"))


def recording(n_timepoints, *, labels=(), name="a", start_s=0.0, rate_hz=1.0, seed=0):
    values = np.random.default_rng(seed).normal(size=(2, n_timepoints)).astype(np.float32)
    return Recording(values, CHANNELS, rate_hz, tuple(labels), name, start_s, name)


def opened(*recordings, window_s=5.0, stride_s=1.0):
    return Dataset(recordings, options=DataOptions(window_s=window_s, stride_s=stride_s))


def code_of(error):
    return [problem.code for problem in error.value.problems]


def test_a_life_ends_at_the_last_sample():
    windows = Regression(target="remaining", unit="cycles").windows(opened(recording(12)))
    assert windows.y.ravel().tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert windows.y.dtype == np.float32


def test_the_cap_bounds_targets_and_estimates():
    task = Regression(target="remaining", unit="cycles", cap=4)
    assert task.windows(opened(recording(12))).y.max() == 4
    assert task.limits == (0.0, 4)


def test_remaining_life_counts_time_over_gaps():
    first = recording(10, name="engine", rate_hz=2.0)
    second = recording(10, name="engine (after gap 1)", start_s=100.0, rate_hz=2.0)
    alike = remaining_life([first, replace(second, name="engine")], 1.0)
    assert alike[0][0] == pytest.approx(104.5)
    assert alike[1][-1] == 0


def test_units_of_time():
    hours = Regression(target="remaining", unit="h").windows(opened(recording(7205), stride_s=3600))
    assert hours.y.ravel().tolist() == pytest.approx([2.0, 1.0, 0.0])
    assert Regression(target="remaining", unit="h").outputs.units == ("h",)


def test_a_label_says_what_remained_at_its_end():
    known = recording(8, labels=[LabelSpan(7, 8, "20")], name="a")
    failed = recording(8, labels=[LabelSpan(0, 8, "failed")], name="b")
    running = recording(8, labels=[LabelSpan(0, 8, "running")], name="c")
    silent = recording(8, name="d")
    found = remaining_life([known, failed, running, silent], None)
    assert found[0].tolist() == [27, 26, 25, 24, 23, 22, 21, 20]
    assert found[1][-1] == 0
    assert np.isnan(found[2]).all()
    assert np.isnan(found[3]).all()


def test_a_channel_is_taken_out_with_what_is_derived_from_it():
    data = opened(recording(40)).with_derived(("start:*:5",))
    windows = Regression(target="temp").windows(data)
    assert windows.spec.channel_names == ("load", "start:load:5")
    truth = data.recordings[0].values[1]
    assert np.allclose(windows.y[:, 0], truth[windows.start + 4])


def test_labels_that_are_numbers_hold_at_the_end_of_a_window():
    spans = [LabelSpan(0, 6, "1.5"), LabelSpan(6, 12, "-2")]
    windows = Regression().windows(opened(recording(12, labels=spans)))
    assert windows.y.ravel().tolist() == [1.5, 1.5, -2, -2, -2, -2, -2, -2]
    assert span_values(recording(3)).tolist() == pytest.approx([np.nan] * 3, nan_ok=True)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: Regression(target="power").windows(opened(recording(12))), "target-unknown"),
        (lambda: numbers(np.array(["1", "walk"])), "target-text"),
        (lambda: span_values(recording(4, labels=[LabelSpan(0, 4, "walk")])), "target-text"),
        (
            lambda: Regression(target="x").windows(
                opened(Recording(np.zeros((1, 9), np.float32), (Channel("x"),), 1.0))
            ),
            "target-alone",
        ),
        (
            lambda: Regression(target="x").windows(Dataset(ready=Windows.of(np.zeros((2, 1, 4))))),
            "windows-ready",
        ),
        (
            lambda: Regression().classes(Windows.of(np.zeros((3, 1, 4)), y=["2", "2", ""])),
            "target-constant",
        ),
        (lambda: Regression().classes(Windows.of(np.zeros((3, 1, 4)))), "labels-missing"),
    ],
)
def test_what_cannot_be_is_refused_by_its_code(make, code):
    with pytest.raises(DataError) as error:
        make()
    assert code_of(error) == [code]


def test_units_that_never_failed_teach_nothing():
    running = recording(12, labels=[LabelSpan(0, 12, "running")])
    task = Regression(target="remaining")
    with pytest.raises(DataError) as error:
        task.classes(task.windows(opened(running)))
    assert code_of(error) == ["failure-missing"]


def test_options_out_of_range_are_told_all_at_once():
    with pytest.raises(OptionError) as error:
        Regression(target="remaining", cap=-1, unit="fortnights", coverage=1.0, primary="f1")
    assert code_of(error) == ["option-range"] * 4


def test_one_life_is_refused_unless_there_is_a_source():
    task = Regression(target="remaining", unit="cycles")
    one = task.windows(opened(recording(30)))
    with pytest.raises(DataError) as error:
        task.remarks(one, one.take([]))
    assert code_of(error) == ["units-few"]
    source = replace(one, domains=np.full(len(one), "old"))
    assert task.remarks(one, source) == ()
    two = task.windows(opened(recording(30), recording(30, name="b", seed=1)))
    assert task.remarks(two, two.take([])) == ()


def test_metrics_and_levels_follow_the_options():
    life = Regression(target="remaining", coverage=0.8)
    assert life.outputs.levels == (0.1, 0.5, 0.9)
    assert "phm_score" in life.metrics
    assert "phm_score" not in Regression().metrics
    assert Regression(coverage=0).outputs.levels == (0.5,)
