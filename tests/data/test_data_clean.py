"""Cleaning steps on their own: resampling without aliases, units, rates, windows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft.data.account import Quarantine, RowAccount
from edgegraft.data.clean import clean
from edgegraft.data.dataset import Dataset, cut_all
from edgegraft.data.labelling import window_labels
from edgegraft.data.source import DataOptions
from edgegraft.data.track import Notes, Track
from edgegraft.data.units import QUANTITIES, convert
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Channel, LabelSpan, Recording, WindowSpec


def track(values, rate_hz, labels=None, classes=("",), **more):
    values = np.atleast_2d(np.asarray(values, dtype=np.float32))
    n_rows = values.shape[1]
    channels = tuple(Channel(f"c{number}") for number in range(len(values)))
    return Track(
        "t",
        values,
        channels,
        np.arange(n_rows),
        np.zeros(n_rows, dtype=np.int64) if labels is None else np.asarray(labels),
        classes,
        **({"ns": np.round(np.arange(n_rows) * 1e9 / rate_hz).astype(np.int64)} | more),
    )


def cleaned(*tracks, **options):
    rows_in = sum(len(item) for item in tracks)
    return clean(list(tracks), rows_in, Notes(), DataOptions.of(**options), "t")


def tone(frequency, rate_hz, length_s=10):
    return np.sin(2 * np.pi * frequency * np.arange(round(length_s * rate_hz)) / rate_hz)


def test_resampling_keeps_what_fits_and_removes_what_would_alias():
    kept = cleaned(track(tone(5, 200), 200), rate_hz=50).recordings[0]
    assert kept.rate_hz == 50.0
    assert kept.n_timepoints == 500
    np.testing.assert_allclose(kept.values[0, 50:450], tone(5, 50)[50:450], atol=0.02)
    # 70 Hz cannot be told from 20 Hz at 50 Hz; it must vanish rather than turn up there.
    gone = cleaned(track(tone(70, 200), 200), rate_hz=50).recordings[0]
    assert np.abs(gone.values[0, 50:450]).max() < 0.02


@given(
    st.sampled_from([20.0, 48.0, 50.0, 62.5, 100.0, 208.0]),
    st.sampled_from([16.0, 25.0, 50.0, 119.0]),
)
@settings(max_examples=24, deadline=None)
def test_resampled_recordings_last_as_long_and_carry_their_labels(rate_hz, to_hz):
    n_rows = int(8 * rate_hz)
    labels = np.arange(n_rows) // (n_rows // 2 + 1)
    data = cleaned(track(tone(1, rate_hz, 8), rate_hz, labels, ("a", "b")), rate_hz=to_hz)
    (recording,) = data.recordings
    assert recording.length_s == pytest.approx(8, abs=2 / to_hz + 2 / rate_hz + 0.2)
    first, second = recording.labels
    assert (first.label, second.label) == ("a", "b")
    assert first.stop == second.start
    assert first.stop / to_hz == pytest.approx(4, abs=2 / min(to_hz, rate_hz) + 0.1)


def test_a_rate_within_two_percent_is_taken_as_it_is():
    values = np.random.default_rng(0).normal(size=(1, 300)).astype(np.float32)
    data = cleaned(track(values, 50.4), rate_hz=50)
    np.testing.assert_array_equal(data.recordings[0].values, values)
    assert "resample" not in {step.name for step in data.log}


@pytest.mark.parametrize(
    ("rate", "meant"), [(49.98, 50.0), (1 / 300.4, 1 / 300), (62.5, 62.5), (104.2, 104.0)]
)
def test_rates_are_rounded_to_what_was_meant(rate, meant):
    assert cleaned(track(np.arange(100.0), rate)).rate_hz == pytest.approx(meant)


@given(
    st.sampled_from(
        [(unit, to) for units in QUANTITIES.values() for unit in units for to in units]
    ),
    st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_units_convert_there_and_back(pair, values):
    unit, to = pair
    values = np.array(values)
    np.testing.assert_allclose(convert(convert(values, unit, to), to, unit), values, atol=1e-6)


def test_known_conversions():
    for value, unit, to, expected in [
        (1, "g", "m/s^2", 9.80665),
        (180, "dps", "rad/s", np.pi),
        (0, "degC", "K", 273.15),
        (72, "F", "C", 22.2222),
        (3300, "mV", "V", 3.3),
        (60, "rpm", "deg/s", 360),
        (1, "bar", "kPa", 100),
    ]:
        assert convert(np.array([value]), unit, to)[0] == pytest.approx(expected, rel=1e-4)


def test_an_account_that_does_not_balance_is_an_error():
    with pytest.raises(DataError, match="account-unbalanced"):
        RowAccount(10, 7, (Quarantine("x", 2),), 0)


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=80),
    st.lists(st.integers(0, 3), min_size=80, max_size=80),
    st.sampled_from(["split", "interpolate"]),
)
@settings(max_examples=150, deadline=None)
def test_whatever_the_times_the_account_balances_and_recordings_are_even(times, values, gap):
    ns = np.array(times, dtype=np.int64) * 10_000_000
    data = np.array([values[: len(times)]], dtype=np.float32)
    item = track(data, 100, ns=ns)
    try:
        dataset = clean([item], len(times), Notes(), DataOptions.of(gap=gap), "t")
    except DataError as error:
        if error.code in {"rate-missing", "time-coarse"}:
            return
        raise
    assert dataset.account.rows_in == len(times)
    for recording in dataset.recordings:
        assert np.isfinite(recording.values).all()
        assert all(
            0 <= span.start < span.stop <= recording.n_timepoints for span in recording.labels
        )
    # No value is made up outside the range of what was measured.
    low, high = data.min(), data.max()
    assert all(
        low <= item.values.min() and item.values.max() <= high for item in dataset.recordings
    )


def recording(n_timepoints, spans=(), group="g"):
    values = np.arange(n_timepoints, dtype=np.float32)[None]
    return Recording(
        values, (Channel("x"),), 10.0, tuple(LabelSpan(*span) for span in spans), group
    )


@given(
    st.integers(10, 60),
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(0.01, 1.0),
    st.integers(0, 60),
)
@settings(max_examples=80, deadline=None)
def test_window_labels_are_the_majority_of_at_least_the_purity(n, length, stride, purity, turn):
    turn = min(turn, n)
    item = recording(n, [span for span in ((0, turn, "a"), (turn, n, "b")) if span[0] < span[1]])
    spec = WindowSpec(length / 10, stride / 10, 10.0, item.channels)
    windows = cut_all([item], spec, purity)
    for start, label in zip(windows.start, windows.y, strict=True):
        of_a = max(0, min(turn, start + length) - start)
        most = max(of_a, length - of_a)
        if most < purity * length - 1e-6:
            assert label == ""
        elif label:
            assert {"a": of_a, "b": length - of_a}[label] == most


def test_windows_never_span_two_recordings_and_keep_their_places():
    windows = Dataset((recording(25), recording(33, group="h"))).windows(1.0, 0.5)
    assert windows.recording.tolist() == [0] * 4 + [1] * 5
    assert windows.start.tolist() == [0, 5, 10, 15, 0, 5, 10, 15, 20]
    assert windows.groups.tolist() == ["g"] * 4 + ["h"] * 5
    assert windows.x[5, 0].tolist() == list(range(5, 15))


def test_usual_windows_fit_the_data():
    assert Dataset((recording(1000),)).windows().x.shape[2] == 128
    assert Dataset((recording(100), recording(90))).windows().x.shape[2] == 90
    with pytest.raises(DataError, match="recordings-short"):
        Dataset((recording(20),)).windows(5.0)
    with pytest.raises(DataError, match="purity-range"):
        Dataset((recording(20),)).windows(1.0, purity=0.0)
    with pytest.raises(DataError, match="recordings-differ"):
        Dataset((recording(20), Recording(np.zeros((1, 9)), (Channel("y"),), 10.0)))
    assert window_labels(recording(20), np.array([0]), 5, 0.5).tolist() == [""]
