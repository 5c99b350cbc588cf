"""What a forecast is asked for: targets, contexts, covariates known ahead, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgegraft.data.dataset import Dataset
from edgegraft.data.rolling import rolling_origin
from edgegraft.data.season import autocorrelation, find_seasons
from edgegraft.tasks.forecasting import Forecasting
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.signal import Channel, Recording, Windows

HOUR = 1 / 3600


def hours(n: int, seed: int = 0) -> np.ndarray:
    """A load with a day and a week, and the temperature that it follows."""
    random, t = np.random.default_rng(seed), np.arange(n)
    warm = 15 + 8 * np.sin(2 * np.pi * t / 24) + np.cumsum(random.normal(0, 0.3, n))
    week = 5 * np.sin(2 * np.pi * t / 168)
    return np.stack([50 + 2 * warm + week + random.normal(0, 1, n), warm]).astype(np.float32)


def dataset(n: int = 900, copies: int = 1) -> Dataset:
    channels = (Channel("load", "kW"), Channel("temp", "C"))
    return Dataset(
        tuple(
            Recording(hours(n, seed), channels, HOUR, name=f"house {seed}")
            for seed in range(copies)
        )
    )


def split(task: Forecasting, data: Dataset) -> tuple[Forecasting, Windows]:
    windows = task.windows(data)
    bound = task.bound(windows)
    return bound, bound.relabelled(windows)


def test_windows_hold_what_came_before_and_what_followed():
    data = dataset()
    bound, found = split(Forecasting(target=("load",), horizon=24, context=72), data)
    assert found.x.shape[1:] == (2, 72)
    assert found.y.shape[1:] == (24,)
    values = data.recordings[0].values
    at = int(found.start[5])
    np.testing.assert_array_equal(found.x[5], values[:, at : at + 72])
    np.testing.assert_array_equal(found.y[5], values[0, at + 72 : at + 96])
    assert bound.outputs.columns[:3] == ("load+1@0.05", "load+1@0.5", "load+1@0.95")
    assert bound.outputs.units == ("kW",)
    assert found.spec.n_timepoints == 72


def test_windows_that_are_split_stay_as_they_are():
    bound, found = split(Forecasting(horizon=12, context=48), dataset())
    assert bound.relabelled(found) is found
    assert bound.bound(found).outputs == bound.outputs


def test_season_and_context_are_found():
    bound, found = split(Forecasting(horizon=24), dataset(2000))
    assert bound.season == 24
    assert found.x.shape[2] == 3 * 168


def test_the_day_is_the_season_though_the_week_correlates_more():
    values = hours(2000)
    values[0] += 20 * np.sin(2 * np.pi * np.arange(2000) / 168)
    assert find_seasons([values], rate_hz=HOUR) == (24, 168)


@pytest.mark.parametrize("season", [7, 12, 48])
def test_a_season_of_any_length_is_found(season):
    random, t = np.random.default_rng(1), np.arange(40 * season)
    x = np.sin(2 * np.pi * t / season) + 0.02 * t + random.normal(0, 0.3, len(t))
    assert find_seasons([x[None]])[0] == season


def test_noise_and_walks_have_no_season():
    random = np.random.default_rng(2)
    assert find_seasons([random.normal(size=(3, 900))]) == ()
    assert not autocorrelation([np.ones((2, 100))], 20).any()


def test_known_channels_are_seen_ahead():
    data = dataset()
    _, found = split(Forecasting(target=("load",), known=("temp",), horizon=24, context=72), data)
    values = data.recordings[0].values
    at = int(found.start[3])
    np.testing.assert_array_equal(found.x[3, 0], values[0, at : at + 72])
    np.testing.assert_array_equal(found.x[3, 1], values[1, at + 24 : at + 96])


def test_known_channels_are_not_forecast():
    bound, _ = split(Forecasting(known=("temp",), horizon=24, context=72), dataset())
    assert bound.target == ("load",)


def test_mase_is_one_for_a_forecast_as_bad_as_the_season_before():
    bound, found = split(Forecasting(target=("load",), horizon=24, context=72), dataset(2000))
    naive = np.repeat(found.x[:, 0, -24:, None], 3, axis=2).reshape(len(found), -1)
    assert bound.metrics["mase"](naive, found.y) == pytest.approx(1, abs=0.1)


def test_a_constant_channel_has_a_scale():
    x = np.ones((20, 2, 30), np.float32)
    x[:, 0] = np.arange(30) % 7
    assert Forecasting(horizon=6).bound(Windows.of(x)).scale[1] == 1.0


def test_what_never_changes_is_refused():
    with pytest.raises(DataError) as caught:
        Forecasting(horizon=6).bound(Windows.of(np.ones((20, 1, 30))))
    assert caught.value.code == "series-constant"


def test_rolling_origins_never_train_on_what_is_tested():
    _, found = split(Forecasting(horizon=24, context=48), dataset(700, copies=2))
    for fold in rolling_origin(found, 4, ahead=24 + 48):
        for number in (0, 1):
            train = found.start[fold.train][found.recording[fold.train] == number]
            test = found.start[fold.test][found.recording[fold.test] == number]
            assert train.max() + 48 + 24 <= test.min() + 48


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"horizon": 0}, "forecast-form"),
        ({"levels": (0.1, 0.9)}, "forecast-form"),
        ({"levels": (0.9, 0.5)}, "forecast-form"),
        ({"target": ("a",), "known": ("a",)}, "forecast-form"),
        ({"context": 1}, "forecast-form"),
        ({"primary": "accuracy"}, "metric-unknown"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, code):
    with pytest.raises(OptionError) as caught:
        Forecasting(**options)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("task", "code"),
    [
        (Forecasting(horizon=900), "series-short"),
        (Forecasting(horizon=24, context=2000), "series-short"),
        (Forecasting(target=("lod",)), "channel-missing"),
        (Forecasting(known=("weather",)), "channel-missing"),
        (Forecasting(known=("load", "temp")), "forecast-size"),
    ],
)
def test_data_that_do_not_fit_are_refused(task, code):
    with pytest.raises(DataError) as caught:
        task.bound(task.windows(dataset()))
    assert caught.value.code == code


def test_other_windows_are_refused_once_bound():
    bound, _ = split(Forecasting(horizon=24, context=72), dataset())
    windows = Forecasting(horizon=24, context=48).windows(dataset())
    with pytest.raises(DataError) as caught:
        bound.relabelled(windows)
    assert caught.value.code == "series-short"


def test_windows_without_targets_cannot_teach():
    bound, found = split(Forecasting(horizon=24, context=72), dataset())
    with pytest.raises(DataError) as caught:
        bound.classes(replace(found, y=np.full_like(found.y, np.nan)))
    assert caught.value.code == "targets-missing"
    with pytest.raises(DataError) as caught:
        Forecasting().classes(found)
    assert caught.value.code == "task-unbound"
