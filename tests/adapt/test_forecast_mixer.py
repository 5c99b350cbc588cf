import shutil
from dataclasses import replace

import numpy as np
import pytest

import edgegraft as eg
from edgegraft.adapt.forecasts.lagged import lagged
from edgegraft.adapt.forecasts.mixer import ForecastMixer, _later, rows_of
from edgegraft.adapt.forecasts.mixer_head import Unit, fit_bands, fit_head
from edgegraft.adapt.forecasts.series_prior import series_prior
from edgegraft.tasks.forecasting import Forecasting
from edgegraft.testing import check_estimator
from edgegraft.testing.samples import sample_series
from edgegraft.zoo.hub_forecast import HubForecaster
from edgegraft.zoo.mixer import Mixer
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError, ModelError, OptionError

HORIZON = 12


class Repeats(HubForecaster):
    """A forecaster of others that says the last season again, as its package would."""

    def forecast(self, x, horizon):
        at = x.shape[2] - HORIZON + np.arange(horizon) % HORIZON
        return x[..., at]


@pytest.fixture(scope="module")
def repeats(tmp_path_factory):
    card = replace(load_backbone("raw").card, name="repeats", kind="pretrained")
    return Repeats(card, tmp_path_factory.mktemp("model"), "chronos", 64, HORIZON)


def opened(seed=0, **sizes):
    raw = sample_series(seed=seed, **sizes)
    task = Forecasting(horizon=HORIZON).bound(raw)
    return task, task.relabelled(raw)


def error(adapted, task, windows):
    point = adapted.predict(windows).estimates.point.reshape(len(windows), -1)
    return float(np.abs(point - windows.y).mean())


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_it_keeps_the_contract_of_estimators(mode):
    check_estimator(ForecastMixer(mode=mode), load_backbone("mixer-series"), Forecasting())


def test_on_raw_windows_it_takes_the_network_that_ships():
    task, train = opened()
    adapted = ForecastMixer().adapt(load_backbone("raw"), train, task, seed=0)
    assert adapted.lineage["backbones"] == ["mixer-series"]
    assert adapted.lineage["pretrained"]


def test_the_head_learns_from_the_windows():
    task, train = opened()
    test = task.relabelled(sample_series(seed=1))
    network = load_backbone("mixer-random")
    frozen = ForecastMixer(mode="frozen").adapt(network, train, task, seed=0)
    fitted = ForecastMixer().adapt(network, train, task, seed=0)
    assert error(fitted, task, test) < 0.6 * error(frozen, task, test)


def test_the_network_that_ships_forecasts_without_any_learning():
    time = np.arange(400)
    phases = np.linspace(0, 1, 9)[:, None]
    days = np.exp(np.cos(2 * np.pi * (time / 24 + phases)))
    noise = np.random.default_rng(0).normal(size=days.shape)
    rows = (20 + 3 * days + 0.3 * noise).astype(np.float32)[:, None]
    ahead = load_backbone("mixer-series").forecast(rows[..., :352], 48)
    off = np.abs(ahead - rows[..., 352:]).mean()
    assert off < 0.4 * np.abs(rows[..., 352:] - rows[..., :352].mean()).mean()
    day_before = rows[..., 352 - 24 : 352][..., np.arange(48) % 24]
    assert off < 1.3 * np.abs(day_before - rows[..., 352:]).mean()


def test_intervals_cover_what_they_say():
    task, train = opened(n_per_recording=80, n_timepoints=96)
    test = task.relabelled(sample_series(seed=1, n_per_recording=80, n_timepoints=96))
    adapted = ForecastMixer().adapt(load_backbone("mixer-series"), train, task, seed=0)
    low, high = adapted.predict(test).estimates.interval(0.9)
    truth = test.y.reshape(low.shape)
    assert 0.8 < np.mean((low <= truth) & (truth <= high)) < 0.97


def test_only_targets_are_forecast():
    raw = sample_series()
    task = Forecasting(horizon=HORIZON, target=("c1",)).bound(raw)
    train = task.relabelled(raw)
    adapted = ForecastMixer().adapt(load_backbone("mixer-series"), train, task, seed=0)
    assert adapted.classes == task.outputs.columns
    other = train.x.copy()
    other[:, 0] = 7.0
    same = adapted.predict(replace(train, x=other)).probabilities
    assert np.allclose(same, adapted.predict(train).probabilities)


def test_a_forecaster_of_the_hub_forecasts_and_has_no_program(repeats):
    task, train = opened()
    adapted = ForecastMixer().adapt(repeats, train, task, seed=0)
    said = adapted.predict(train).estimates
    assert np.allclose(said.point, repeats.forecast(train.x, HORIZON), atol=1e-4)
    low, high = said.interval(0.9)
    truth = train.y.reshape(low.shape)
    assert 0.85 < np.mean((low <= truth) & (truth <= high)) <= 1
    with pytest.raises(ModelError) as caught:
        _ = adapted.program
    assert caught.value.code == "program-none"


def test_a_backbone_that_cannot_forecast_is_refused():
    task, train = opened()
    with pytest.raises(OptionError) as caught:
        ForecastMixer().adapt(load_backbone("statistics"), train, task, seed=0)
    assert caught.value.code == "backbone-forecaster"


def test_series_that_stand_still_are_refused():
    task, train = opened()
    still = replace(train, x=np.full_like(train.x, 3.0), y=np.full_like(train.y, 3.0))
    with pytest.raises(DataError) as caught:
        ForecastMixer().adapt(load_backbone("mixer-series"), still, task, seed=0)
    assert caught.value.code == "series-constant"


def test_one_channel_that_stands_still_does_no_harm():
    task, train = opened()
    x, y = train.x.copy(), train.y.copy()
    x[:, 0], y[:, :HORIZON] = 3.0, 3.0
    adapted = ForecastMixer().adapt(
        load_backbone("mixer-series"), replace(train, x=x, y=y), task, seed=0
    )
    point = adapted.predict(replace(train, x=x, y=y)).estimates.point
    assert np.allclose(point[:, 0], 3.0, atol=0.05)


@pytest.mark.parametrize(
    "options", [{"mode": "warm"}, {"share": 2.0}, {"held_out": 0.0}, {"worth": 0.0}]
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(OptionError):
        ForecastMixer(**options)


def test_what_is_held_out_begins_after_what_is_fitted_on_is_over():
    task, train = opened()
    series = lagged(train, task.outputs.names, HORIZON)
    early, late = _later(series, 0.25)
    assert len(early) > 8
    for number in np.unique(series.recording):
        last = series.start[early][series.recording[early] == number].max()
        first = series.start[late][series.recording[late] == number].min()
        assert last + HORIZON <= first


def test_a_head_of_more_worth_changes_less():
    task, train = opened()
    x, y, weights = rows_of(lagged(train, task.outputs.names, HORIZON))
    prior = series_prior(x.shape[1], HORIZON, 12, rows=500)
    ahead = np.repeat(x[:, -1:], HORIZON, axis=1)
    gaps = []
    for worth in (1.0, 1e6):
        head = fit_head(prior, x, y, ahead, weights, worth=worth, share=1.0)
        gaps.append(np.abs(head.forecast(ahead, Unit.of(x)) - ahead).mean())
    assert gaps[1] < 1e-2 * gaps[0]


def test_bands_widen_with_the_errors_and_with_the_window():
    random = np.random.default_rng(0)
    errors = random.normal(size=(400, 2, 3)) * np.array([1.0, 2.0, 4.0])
    bands = fit_bands(errors, np.ones((400, 2)), np.ones(2), (0.05, 0.5, 0.95))
    upper = bands.table[0, :, 2]
    assert upper[0] < upper[1] < upper[2]
    assert (bands.table[..., 1] == 0).all()
    assert bands.spread(np.array([[9.0, 1.0]]))[0, 0] > 2 * bands.spread(np.ones((1, 1)))[0, 0]


def test_a_mixer_of_other_sizes_serves_as_well():
    task, train = opened()
    small = Mixer.random(0, context=32, horizon=8, patch=8, width=8, latent=8, lags=(1, 12))
    adapted = ForecastMixer(mode="finetune", epochs=1).adapt(small, train, task, seed=0)
    assert adapted.lineage["forecast"]["mode"] in ("head", "finetune")
    assert np.isfinite(adapted.predict(train).probabilities).all()


def test_forecasts_of_large_numbers_go_to_c(tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler is installed")
    raw = sample_series()
    noise = np.random.default_rng(0).normal(size=raw.x.shape)
    loud = replace(raw, x=((raw.x + noise) * 1e5).astype(np.float32))
    run = eg.adapt(loud, task=Forecasting(horizon=HORIZON), strategy="forecast-mixer", folds=2,
                   curve=False)  # fmt: skip
    assert run.summary["shipped"]["backbone"] == "mixer-series"
    eg.export(run, format="c", out=tmp_path / "c")
    assert (tmp_path / "c" / "model.egb").is_file()
