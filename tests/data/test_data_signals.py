"""Signals that go wrong: each is set aside, cut, mended on record, or told by the audit."""

import numpy as np
import pytest
from data_toys import HEAD, outcome, put, quarantine, rows, step_names, text

from edgegraft.data.audit import audit
from edgegraft.data.dataset import open_data
from edgegraft_edge.signal import Windows

START = 1_700_000_000_000
WAVE_HEAD = ["timestamp", "acc_x [m/s2]", "acc_y [m/s2]", "acc_z [m/s2]", "label"]


def wave(n_rows=600, step_ms=20.0, seed=0, scale=1.0, times=None):
    """Rows with gravity on z and movement on all axes."""
    random = np.random.default_rng(seed)
    values = scale * (random.normal(size=(n_rows, 3)) * 0.3 + [0, 0, 9.81])
    times = START + np.arange(n_rows) * step_ms if times is None else times
    return [
        [f"{time:.3f}", *(f"{value:.5f}" for value in row), "walk" if n % 200 < 100 else "sit"]
        for n, (time, row) in enumerate(zip(times, values, strict=True))
    ]


def times_of(dataset):
    return [(round(item.start_s * 1000) - START, item.n_timepoints) for item in dataset.recordings]


def test_bursts_of_nan_are_counted_and_no_window_spans_them(tmp_path):
    table = wave()
    for number in range(300, 340):
        table[number][2] = "nan"
    dataset = open_data(put(tmp_path, text(table, WAVE_HEAD)))
    assert quarantine(dataset) == {"value-missing": 40}
    assert times_of(dataset) == [(0, 300), (6800, 260)]
    assert "value-missing" in audit(dataset).codes


def test_without_timestamps_a_lost_row_is_a_gap_too(tmp_path):
    table = [row[1:] for row in rows()]
    table[100][0] = "err"
    dataset = open_data(put(tmp_path, text(table, HEAD[1:])), rate_hz=50)
    assert [item.n_timepoints for item in dataset.recordings] == [100, 99]


def test_a_gap_cuts_the_recording_and_no_window_spans_it(tmp_path):
    table = wave()
    dataset = open_data(put(tmp_path, text(table[:200] + table[260:], WAVE_HEAD)))
    assert times_of(dataset) == [(0, 200), (5200, 340)]
    windows = dataset.windows(1.0, 0.5)
    assert len(windows) == 7 + 12
    assert "gap-split" in audit(dataset).codes


@pytest.mark.parametrize(("lost", "stretches"), [(1, 1), (4, 1), (5, 2)])
def test_gaps_are_interpolated_up_to_the_bound(tmp_path, lost, stretches):
    table = wave()
    path = put(tmp_path, text(table[:200] + table[200 + lost :], WAVE_HEAD))
    assert len(open_data(path).recordings) == 2
    dataset = open_data(path, gap="interpolate", max_gap_s=0.08)
    assert len(dataset.recordings) == stretches
    assert dataset.account.accepted == 600 - lost
    if stretches == 1:
        assert dataset.recordings[0].n_timepoints == 600
        whole = open_data(put(tmp_path, text(table, WAVE_HEAD), "whole.csv")).recordings[0].values
        np.testing.assert_allclose(dataset.recordings[0].values[:, :200], whole[:, :200], atol=1e-4)


def test_rows_out_of_order_are_sorted(tmp_path):
    table = wave()
    shuffled = [table[number] for number in np.random.default_rng(0).permutation(600)]
    swapped = [*table[:10], table[11], table[10], *table[12:]]
    expected = open_data(put(tmp_path, text(table, WAVE_HEAD), "expected.csv"))
    for case in (shuffled, swapped):
        dataset = open_data(put(tmp_path, text(case, WAVE_HEAD)))
        assert "sort" in step_names(dataset)
        np.testing.assert_array_equal(dataset.recordings[0].values, expected.recordings[0].values)
        assert dataset.recordings[0].labels == expected.recordings[0].labels


def test_duplicate_rows_are_dropped_and_contradictions_set_aside(tmp_path):
    table = wave()
    other = [table[80][0], "1", "2", "3", "walk"]
    dataset = open_data(put(tmp_path, text([*table, *table[100:150], other], WAVE_HEAD)))
    assert dataset.account.as_dict() == {
        "rows_in": 651,
        "accepted": 600,
        "quarantined": {"time-duplicate": 1},
        "duplicates": 50,
    }
    assert times_of(dataset) == [(0, 600)]


def test_a_clock_set_back_cuts_rather_than_mixes(tmp_path):
    times = START + np.arange(600) * 20.0
    times[300:] -= 3000
    table = wave(times=times)
    dataset = open_data(put(tmp_path, text(table, WAVE_HEAD)))
    assert times_of(dataset) == [(0, 300), (3000, 300)]
    assert "clock-back" in audit(dataset).codes


def test_a_clock_that_jumps_to_1970_is_set_aside(tmp_path):
    times = START + np.arange(600) * 20.0
    times[300:320] = np.arange(20) * 20.0
    dataset = open_data(put(tmp_path, text(wave(times=times), WAVE_HEAD)))
    assert quarantine(dataset) == {"time-1970": 20}
    assert times_of(dataset) == [(0, 300), (6400, 280)]


def test_a_clock_that_was_never_set_is_refused(tmp_path):
    times = START + np.arange(600) * 20.0
    times[:400] -= START - 5
    assert outcome(put(tmp_path, text(wave(times=times), WAVE_HEAD)))[0] & {
        "time-range",
        "time-1970",
    }


@pytest.mark.parametrize("bits", [16, 32])
def test_a_counter_that_wraps_goes_on(tmp_path, bits):
    times = (2**bits - 6000 + np.arange(600) * 20) % 2**bits
    head = ["uptime_ms", *WAVE_HEAD[1:]]
    dataset = open_data(put(tmp_path, text(wave(times=times), head)))
    assert [item.n_timepoints for item in dataset.recordings] == [600]
    assert "counter-wrap" in audit(dataset).codes


@pytest.mark.parametrize(("sigma", "expected"), [(0.2, False), (2.5, True)])
def test_jitter_beyond_two_percent_is_told(tmp_path, sigma, expected):
    random = np.random.default_rng(0)
    times = START + np.arange(600) * 20.0 + random.uniform(-sigma, sigma, 600)
    dataset = open_data(put(tmp_path, text(wave(times=times), WAVE_HEAD)))
    assert ("rate-jitter" in audit(dataset).codes) == expected
    assert len(dataset.recordings) == 1


def test_drift_beyond_two_percent_is_told_and_evened_out(tmp_path):
    times = START + np.cumsum(np.linspace(19, 21, 600))
    dataset = open_data(put(tmp_path, text(wave(times=times), WAVE_HEAD)))
    assert "rate-drift" in audit(dataset).codes
    assert "even-grid" in step_names(dataset)


def test_another_rate_in_one_file_is_resampled_on_record(tmp_path):
    put(tmp_path, text(wave(600), WAVE_HEAD), "a.csv")
    put(tmp_path, text(wave(600), WAVE_HEAD), "b.csv")
    put(tmp_path, text(wave(600, step_ms=10), WAVE_HEAD), "c.csv")
    dataset = open_data(tmp_path)
    assert dataset.rate_hz == 50.0
    assert [item.n_timepoints for item in dataset.recordings] == [600, 600, 300]
    assert "rate-differs" in audit(dataset).codes
    assert outcome(tmp_path, rate_hz=5000.0)[0] == {"rate-far"}


def test_a_missing_channel_is_named_and_a_swapped_one_bound_by_name(tmp_path):
    table = wave()
    put(tmp_path, text(table, WAVE_HEAD), "a.csv")
    put(
        tmp_path, text([row[:3] + row[4:] for row in table], WAVE_HEAD[:3] + WAVE_HEAD[4:]), "b.csv"
    )
    assert quarantine(open_data(tmp_path)) == {"channel-missing": 600}
    test = open_data(tmp_path / "b.csv")
    assert "channel-missing" in audit(tmp_path / "a.csv", test).codes


def test_a_constant_channel_is_told(tmp_path):
    table = [[*row[:2], "1.5", *row[3:]] for row in wave()]
    assert "channel-constant" in audit(put(tmp_path, text(table, WAVE_HEAD), "all/a.csv")).codes
    put(tmp_path, text(table, WAVE_HEAD), "some/a.csv")
    put(tmp_path, text(wave(seed=1), WAVE_HEAD), "some/b.csv")
    assert "channel-stuck" in audit(tmp_path / "some").codes


def test_a_clipped_channel_is_told():
    x = np.random.default_rng(0).normal(size=(50, 2, 100)).cumsum(axis=2)
    clipped = x.copy()
    clipped[:, 0] = np.clip(clipped[:, 0], -8, 8)
    assert "channel-clipped" not in audit(Windows.of(x)).codes
    found = audit(Windows.of(clipped))
    assert found.trouble
    assert "'c0' is held at its smallest value -8" in str(found)


def test_a_changed_unit_is_converted_where_it_is_said(tmp_path):
    put(tmp_path, text(wave(), WAVE_HEAD), "a.csv")
    in_g = [name.replace("m/s2", "g") for name in WAVE_HEAD]
    put(tmp_path, text(wave(400, scale=1 / 9.80665), in_g), "b.csv")
    dataset = open_data(tmp_path)
    assert {channel.unit for channel in dataset.channels} == {"m/s2"}
    levels = [float(np.median(np.linalg.norm(item.values, axis=0))) for item in dataset.recordings]
    assert levels == pytest.approx([9.83, 9.83], abs=0.05)
    assert "convert" in step_names(dataset)
    assert open_data(tmp_path, units="acc_x=g").channels[0].unit == "g"
    assert outcome(tmp_path, units="acc_x=degC")[0] == {"unit-mismatch"}
    assert outcome(tmp_path, units="acc_x=furlong")[0] == {"option-value"}
    assert outcome(tmp_path, units="acc_q=g")[0] == {"channel-missing"}


def test_a_changed_unit_is_told_where_it_is_not_said(tmp_path):
    bare = [name.partition(" ")[0] for name in WAVE_HEAD]
    put(tmp_path, text(wave(), bare), "a.csv")
    put(tmp_path, text(wave(scale=1 / 9.80665), bare), "b.csv")
    assert "unit-mixed" in audit(tmp_path).codes
    in_g = [name.replace("m/s2", "g") for name in WAVE_HEAD]
    assert "unit-suspect" in audit(put(tmp_path, text(wave(), in_g), "c.csv")).codes


def test_a_replaced_sensor_is_told(tmp_path):
    for number in range(5):
        table = wave(seed=number)
        if number == 4:
            table = [[*row[:2], str(float(row[2]) * 1000 + 4000), *row[3:]] for row in table]
        put(tmp_path, text(table, WAVE_HEAD), f"p{number}/a.csv")
    findings = {finding.code: finding for finding in audit(tmp_path).findings}
    assert "'acc_y'" in findings["channel-level"].text
    assert "p4" in findings["channel-level"].text


def test_nan_in_ready_windows_is_told_with_its_burst():
    x = np.random.default_rng(0).normal(size=(9, 2, 30))
    x[3, 1, 5:12] = np.nan
    (finding,) = (item for item in audit(Windows.of(x)).findings if item.code == "value-missing")
    assert "the first is 3, the longest burst 7 samples" in finding.text


def test_times_coarser_than_samples_are_spread_when_the_rate_is_known(tmp_path):
    table = [[row[0][:10], *row[1:]] for row in wave()]
    dataset = open_data(put(tmp_path, text(table, WAVE_HEAD)), rate_hz=50.0)
    assert dataset.account.accepted == 600
    assert [item.n_timepoints for item in dataset.recordings] == [600]
    assert "spread-times" in step_names(dataset)
