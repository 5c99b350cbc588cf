"""Forecasts in closed form: what they learn from little, what they survive, what they promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgegraft.adapt.forecasts.covariance import Covariance, fit_covariance
from edgegraft.adapt.forecasts.filters import drift, last_value, ridge, seasonal_naive
from edgegraft.adapt.forecasts.fit import Setting, choose, held_out
from edgegraft.adapt.forecasts.forecast import Drift, ForecastBlend, ForecastRidge, SeasonalNaive
from edgegraft.adapt.forecasts.known_ahead import surprises
from edgegraft.adapt.forecasts.lagged import Moments, applied, filled, lagged, moments
from edgegraft.adapt.forecasts.mixing import best_weights
from edgegraft.adapt.forecasts.step_intervals import offsets, spread
from edgegraft.data.dataset import Dataset
from edgegraft.tasks.forecasting import Forecasting
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.signal import Channel, Recording, Windows

HOUR = 1 / 3600
CONTEXT, HORIZON = 72, 24


def house(n: int, seed: int, shape: int = 0) -> np.ndarray:
    """Two loads (n_channels, n): a daily shape that is common, a level that wanders, noise."""
    random, t = np.random.default_rng(seed), np.arange(n)
    daily = np.random.default_rng(100 + shape).normal(size=24).cumsum()
    daily = 4 * (daily - daily.mean()) / daily.std()
    level = np.cumsum(random.normal(0, 0.25, (2, n)), axis=1)
    return (level + daily[t % 24] * [[1.0], [0.7]] + random.normal(0, 0.6, (2, n))).astype(
        np.float32
    )


def windows_of(values: np.ndarray, stride: int = 1, **options) -> tuple[Forecasting, Windows]:
    channels = tuple(Channel(f"c{place}") for place in range(len(values)))
    data = Dataset((Recording(values, channels, HOUR, name="house"),))
    task = Forecasting(horizon=HORIZON, context=CONTEXT, stride=stride, **options)
    windows = task.windows(data)
    task = task.bound(windows)
    return task, task.relabelled(windows)


def ends(windows: Windows, share: float) -> tuple[Windows, Windows]:
    """The first windows, and those that begin once all of these are over."""
    at = round(share * len(windows))
    later = windows.start >= windows.start[at] + HORIZON
    return windows.take(slice(0, at)), windows.take(later)


def fitted(strategy, train: Windows, task):
    return strategy.adapt(load_backbone("raw"), train, task, seed=0)


def score(model, task, windows: Windows, metric: str = "mse") -> float:
    return float(task.metrics[metric](model.predict(windows).probabilities, windows.y))


@pytest.fixture(scope="module")
def year():
    task, windows = windows_of(house(1500, seed=1), stride=4)
    return task, *ends(windows, 0.75)


@pytest.fixture(scope="module")
def model(year):
    task, train, _ = year
    return fitted(ForecastBlend(), train, task)


# -- filters


def test_naive_filters_say_what_they_are_named_for():
    x = np.array([[[1.0, 2.0, 4.0, 3.0]]], np.float32)
    assert applied(last_value(4, 3)[None], x).ravel().tolist() == [3, 3, 3]
    assert applied(seasonal_naive(4, 3, 2)[None], x).ravel().tolist() == [4, 3, 4]
    assert applied(seasonal_naive(4, 3, 9)[None], x).ravel().tolist() == [3, 3, 3]
    np.testing.assert_allclose(applied(drift(4, 3)[None], x).ravel(), 3 + np.arange(1, 4) * 2 / 3)


def test_filters_move_and_scale_with_the_window():
    random = np.random.default_rng(0)
    filters, x = random.normal(size=(1, 8, 3)), random.normal(size=(5, 1, 8)).astype(np.float32)
    moved = applied(filters, 3 * x + 40)
    np.testing.assert_allclose(moved, 3 * applied(filters, x) + 40, rtol=1e-4)


def test_ridge_is_least_squares_and_goes_to_what_it_is_pulled_to():
    random = np.random.default_rng(3)
    x = random.normal(size=(400, 1, 6)).astype(np.float32)
    true = random.normal(size=(1, 6, 2))
    true[:, -1] = 0  # the last value is the level
    series = lagged(
        replace(Windows.of(x, channels=["c"]), y=applied(true, x).reshape(400, -1)), ("c",), 2
    )
    given = moments(series)
    np.testing.assert_allclose(applied(ridge(given, 1e-9), x), series.y, atol=1e-3)
    toward = random.normal(size=(1, 6, 2))
    np.testing.assert_allclose(ridge(given, 1e9, toward), toward, atol=1e-4)


def test_the_covariance_of_a_walk_says_the_last_value():
    walk = Covariance((), np.log([5.0, 200, 1e-6, 1, 1e-6, 1, 1e-6]))
    found = walk.filters(20, 4)
    assert found[-1] == pytest.approx(np.ones(4), abs=0.04)
    assert np.abs(found[:-1]).max() < 0.04


def test_the_fit_of_a_covariance_lowers_the_error(year):
    task, train, test = year
    series, tested = (lagged(part, task.outputs.names, HORIZON) for part in (train, test))
    start = Covariance.start((24,), CONTEXT)
    found = fit_covariance(start, moments(series), series.n_samples)
    errors = [
        float(np.mean((applied(each.filters(CONTEXT, HORIZON)[None], tested.x) - tested.y) ** 2))
        for each in (start, found)
    ]
    assert errors[1] < 0.97 * errors[0]


def test_the_gradient_of_the_covariance_leads_to_a_minimum(year):
    task, train, _ = year
    series = lagged(train, task.outputs.names, HORIZON)
    given = moments(series)
    found = fit_covariance(Covariance.start((24,), CONTEXT), given, series.n_samples, pull=0.0)

    def cost(numbers):
        filters = Covariance((24,), numbers).filters(CONTEXT, HORIZON)
        return float((filters * (given.gram[0] @ filters - 2 * given.cross[0])).sum())

    random = np.random.default_rng(0)
    here = cost(found.numbers)
    nearby = [cost(found.numbers + random.normal(0, 0.3, len(found.numbers))) for _ in range(8)]
    assert here < min(nearby)


# -- mixing


def test_weights_stay_where_they_start_while_little_is_known():
    random = np.random.default_rng(0)
    errors = np.stack([random.normal(0, 1.0, 500), random.normal(0, 1.3, 500)])
    few, many = (best_weights(errors, np.ones(2), n)[0] for n in (0.1, 1e6))
    assert few == pytest.approx(0.5, abs=0.05)
    assert many > 0.57


def test_what_is_held_out_begins_after_what_is_fitted_on(year):
    task, train, _ = year
    series = lagged(train, task.outputs.names, HORIZON)
    fit, held = held_out(series, 0.25)
    assert len(held) == pytest.approx(0.25 * len(series), abs=1)
    assert series.start[fit].max() + HORIZON <= series.start[held].min()


def test_members_that_lose_to_the_naive_forecast_have_no_weight():
    random = np.random.default_rng(4)
    task, windows = windows_of(np.cumsum(random.normal(size=(1, 900)), axis=1).astype(np.float32))
    series = lagged(windows, task.outputs.names, HORIZON)
    trial = choose(series, Setting((), 1, ("ridge", "seasonal-naive")), 0.3)
    control = min(trial.chosen.costs[name] for name in ("last", "drift", "seasonal-naive"))
    for name, weight in trial.chosen.weights.items():
        if name == "ridge" and trial.chosen.costs[name] >= control:
            assert weight == 0
    assert trial.chosen.blend <= control * 1.001


# -- strategies


def test_the_blend_beats_naive_forecasts_and_covers(year, model):
    task, train, test = year
    for control in (SeasonalNaive(), Drift()):
        assert score(model, task, test) < 0.85 * score(fitted(control, train, task), task, test)
    assert 0.83 < score(model, task, test, "coverage") < 0.96


def test_days_of_data_are_enough_for_a_covariance_not_for_a_free_ridge(year):
    task, train, test = year
    few = train.take(slice(0, 24))
    blend, free = (fitted(each, few, task) for each in (ForecastBlend(), ForecastRidge()))
    assert score(blend, task, test) < 0.9 * score(free, task, test)


def test_the_device_computes_the_same(year, model):
    task, _, test = year
    part = test.take(slice(0, 40))
    series = lagged(part, task.outputs.names, HORIZON)
    table = model.program.run(part.x)
    np.testing.assert_allclose(table, model.predict(part).probabilities, rtol=1e-5)
    widths = model.predict(part).estimates.interval(0.9)
    wide = (widths[1] - widths[0])[:, 0, 0] / spread(series.x, series.variance)[:, 0]
    assert wide.std() < 0.4 * wide.mean()  # in units of the spread of the training channels


def test_intervals_widen_with_the_window(year, model):
    calm = year[2].take(slice(0, 1))
    stormy = replace(calm, x=calm.x * 5)
    widths = [np.subtract(*model.predict(each).estimates.interval(0.9)[::-1]).mean()
              for each in (calm, stormy)]  # fmt: skip
    assert widths[1] > 4 * widths[0]


def test_quantiles_never_cross_and_the_point_lies_between(year):
    task, train, test = year
    model = fitted(ForecastBlend(), train, replace(task, levels=(0.05, 0.25, 0.5, 0.75, 0.95)))
    values = model.predict(test).estimates.values
    assert (np.diff(values, axis=-1) >= 0).all()


def test_a_large_level_costs_no_precision(year, model):
    task, train, test = year
    far = [replace(part, x=part.x + 4096, y=part.y + 4096) for part in (train, test)]
    moved = fitted(ForecastBlend(), far[0], task)
    said = moved.predict(far[1]).estimates.point - 4096
    np.testing.assert_allclose(said, model.predict(test).estimates.point, atol=0.1)


def test_a_constant_channel_is_forecast_as_it_is():
    values = house(900, seed=5)
    values[1] = 7.0
    task, windows = windows_of(values, stride=4)
    train, test = ends(windows, 0.7)
    found = fitted(ForecastBlend(), train, task).predict(test).estimates
    np.testing.assert_allclose(found.values[:, 1], 7.0, atol=1e-4)
    assert np.isfinite(found.values).all()


def test_gaps_are_filled_to_learn_from():
    values = house(1500, seed=6)
    whole, windows = windows_of(values, stride=4)
    train, test = ends(windows, 0.7)
    holes = np.random.default_rng(0).random(values.shape) < 0.05
    _, gappy = windows_of(np.where(holes, np.nan, values).astype(np.float32), stride=4)
    model = fitted(ForecastBlend(), gappy.take(slice(0, len(train))), whole)
    assert score(model, whole, test) < 1.15 * score(
        fitted(ForecastBlend(), train, whole), whole, test
    )
    with pytest.raises(DataError) as caught:
        lagged(replace(train, x=np.full_like(train.x, np.nan)), whole.outputs.names, HORIZON)
    assert caught.value.code == "windows-few"


def test_many_short_recordings_are_enough():
    values = house(900, seed=8)
    channels = (Channel("c0"), Channel("c1"))
    parts = tuple(
        Recording(values[:, at : at + 118], channels, HOUR, name=f"part {at}")
        for at in range(0, 900, 120)
    )
    task = Forecasting(horizon=HORIZON, context=CONTEXT, stride=1)
    windows = task.windows(Dataset(parts))
    task = task.bound(windows)
    windows = task.relabelled(windows)
    for strategy in (ForecastBlend(), ForecastRidge()):
        found = fitted(strategy, windows, task)
        assert score(found, task, windows) < 0.5 * np.nanvar(windows.y)


def test_what_is_missing_at_the_ends_repeats():
    assert filled(np.array([[np.nan, 2.0, np.nan]])).tolist() == [[2, 2, 2]]
    assert filled(np.array([[np.nan, np.nan]])).tolist() == [[0, 0]]


def test_nothing_ahead_is_refused(year):
    _, train, _ = year
    with pytest.raises(OptionError) as caught:
        fitted(ForecastBlend(), train, Forecasting())
    assert caught.value.code == "strategy-task"


@pytest.mark.parametrize("options", [{"members": ("rigde",)}, {"held_out": 1.5}])
def test_wrong_options_are_refused(options):
    with pytest.raises(OptionError):
        ForecastBlend(**options)


# -- known ahead


def weather(n: int = 1500) -> np.ndarray:
    random, t = np.random.default_rng(7), np.arange(n)
    temp = 5 * np.sin(2 * np.pi * t / 24)
    walk = np.zeros(n)
    for at in range(1, n):
        walk[at] = 0.97 * walk[at - 1] + random.normal()
    load = 2 * (temp + walk) + random.normal(0, 0.5, n)
    return np.stack([load, temp + walk]).astype(np.float32)


def test_a_channel_known_ahead_helps():
    options = {"target": ("c0",)}
    scores = []
    for known in ((), ("c1",)):
        task, windows = windows_of(weather(), stride=3, known=known, **options)
        train, test = ends(windows, 0.7)
        model = fitted(ForecastBlend(), train, task)
        scores.append(score(model, task, test))
        np.testing.assert_allclose(
            model.program.run(test.x), model.predict(test).probabilities, rtol=1e-4, atol=1e-4
        )
    assert scores[1] < 0.3 * scores[0]


def test_a_channel_known_ahead_that_says_nothing_does_no_harm():
    values = weather()
    values[1] = np.random.default_rng(9).normal(size=values.shape[1])
    scores = []
    for known in ((), ("c1",)):
        task, windows = windows_of(values, stride=3, known=known, target=("c0",))
        train, test = ends(windows, 0.7)
        scores.append(score(fitted(ForecastBlend(), train, task), task, test))
    assert scores[1] < 1.03 * scores[0]


def test_gaps_in_what_is_known_ahead_are_refused():
    values = weather()
    values[1, 700] = np.nan
    task, windows = windows_of(values, stride=3, known=("c1",), target=("c0",))
    with pytest.raises(DataError) as caught:
        fitted(ForecastBlend(), windows, task)
    assert caught.value.code == "known-missing"


def test_a_context_without_the_past_of_what_is_known_ahead_is_refused():
    with pytest.raises(DataError) as caught:
        surprises(np.zeros((1, 24, 24)), np.zeros((2, 1, 24)))
    assert caught.value.code == "context-short"


# -- a new series


def test_two_weeks_pulled_to_the_pooled_model_beat_either_alone():
    own, pulled, pooled = [], [], []
    for seed in range(2):
        task, new = windows_of(house(336 + 700, seed=40 + seed, shape=seed), stride=2)
        train = new.take(new.start + CONTEXT + HORIZON <= 336)
        test = new.take(new.start + CONTEXT >= 336)
        old = [windows_of(house(1200, seed=seed * 9 + k, shape=10 + k), stride=6)[1]
               for k in range(3)]  # fmt: skip
        sources = Windows(
            np.concatenate([each.x for each in old]),
            np.concatenate([each.y for each in old]),
            np.concatenate([each.groups for each in old]),
            train.spec,
            np.concatenate([np.full(len(each), 1 + k) for k, each in enumerate(old)]),
            np.concatenate([each.start for each in old]),
            (),
            np.concatenate([np.full(len(each), f"house {k}") for k, each in enumerate(old)]),
        )
        both = Windows(
            *(np.concatenate([getattr(train, part), getattr(sources, part)])
              for part in ("x", "y", "groups")), train.spec,
            *(np.concatenate([getattr(train, part), getattr(sources, part)])
              for part in ("recording", "start")), (),
            np.concatenate([train.domains, sources.domains]),
        )  # fmt: skip
        as_target = replace(sources, domains=np.full(len(sources), ""))
        pulled.append(score(fitted(ForecastBlend(), both, task), task, test))
        own.append(score(fitted(ForecastBlend(alone=True), both, task), task, test))
        pooled.append(score(fitted(ForecastBlend(), as_target, task), task, test))
    assert np.mean(pulled) < np.mean(own)
    assert np.mean(pulled) < np.mean(pooled)


# -- intervals


def test_offsets_cover_what_they_were_read_from(year):
    task, train, _ = year
    series = lagged(train, task.outputs.names, HORIZON)
    said = np.repeat(series.x[:, :, -1:], HORIZON, axis=2)
    found = offsets(series, said, (0.05, 0.5, 0.95), 100, 1.0)
    wide = spread(series.x, series.variance)[..., None]
    inside = (series.y >= said + found[..., 0] * wide) & (series.y <= said + found[..., 2] * wide)
    assert inside.mean() == pytest.approx(0.9, abs=0.02)
    assert not found[..., 1].any()


def test_a_gram_matrix_that_rounding_made_indefinite_gets_more_weight():
    x = np.random.default_rng(0).normal(size=(6, 20))
    gram = x.T @ x - 1e-6 * np.eye(20)  # of six rows, less a little
    given = Moments(gram[None], np.ones((1, 20, 2)), np.array([6.0]))
    found = ridge(given, 1e-12)
    assert found.shape == (1, 20, 2)
    assert np.isfinite(found).all()
