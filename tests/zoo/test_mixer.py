import numpy as np
import pytest

from edgegraft.adapt.forecasts.pretrain_mixer import MixerTraining, lesson, pretrain_mixer
from edgegraft.testing import check_backbone
from edgegraft.zoo.mixer import Mixer, mixed
from edgegraft.zoo.own_unit import in_unit
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import ModelError, OptionError
from edgegraft_edge.signal import Windows

SMALL = {
    "context": 64, "horizon": 16, "patch": 8, "width": 12, "hidden": [8, 12], "latent": 16,
    "lags": [1, 4, 12, 24],
    "experts": 3, "rank": 6, "gate": 8,
}  # fmt: skip


def series(n: int = 5, n_channels: int = 2, length: int = 90, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(n, n_channels, length))
    return np.cumsum(drawn, axis=2).astype(np.float32)


@pytest.fixture(scope="module")
def small() -> Mixer:
    return Mixer.random(3, **SMALL)


def test_it_keeps_the_contract_of_backbones(small: Mixer) -> None:
    check_backbone(small)


def test_torch_computes_what_the_program_computes(small: Mixer) -> None:
    import torch

    weights = {name: torch.tensor(array) for name, array in small.weights.items()}
    for length in (64, 90, 20):
        x = series(length=length)
        z = small.forward(weights, torch.tensor(x)).numpy()
        assert np.allclose(z, small.embed(x), atol=1e-4)
        unit, level, scale = in_unit(torch.tensor(x), small.shape)
        _, said, _ = mixed(weights, unit.reshape(-1, 64), small.shape)
        ahead = (said.reshape(5, 2, 16) * scale + level).numpy()
        assert np.allclose(ahead, small.forecast(x, 16), atol=1e-3)


def test_forecasts_move_and_scale_with_the_series(small: Mixer) -> None:
    x = series()
    there = small.forecast(1000 + 50 * x, 30)
    assert np.allclose(there, 1000 + 50 * small.forecast(x, 30), rtol=1e-3, atol=0.5)
    assert np.allclose(small.forecast(x * 1e-5, 30), small.forecast(x, 30) * 1e-5, atol=1e-8)


def test_a_longer_horizon_is_forecast_from_forecasts(small: Mixer) -> None:
    x = series()
    first = small.forecast(x, 16)
    longer = small.forecast(x, 40)
    assert np.array_equal(longer[..., :16], first)
    seen = np.concatenate([x, first], axis=2)
    assert np.allclose(longer[..., 16:32], small.forecast(seen, 16), atol=1e-4)
    assert np.allclose(small.forecast(x, 5), first[..., :5], atol=1e-4)


def test_a_channel_that_stands_still_is_forecast_to_stay(small: Mixer) -> None:
    still = np.full((1, 1, 64), 21.5, dtype=np.float32)
    assert np.allclose(small.forecast(still, 16), 21.5, atol=1e-2)


def test_only_the_end_of_a_long_window_is_seen(small: Mixer) -> None:
    x = series(length=200)
    assert np.array_equal(small.forecast(x, 16), small.forecast(x[..., -64:], 16))


def test_random_weights_follow_the_seed(small: Mixer) -> None:
    windows = Windows.of(series())
    first, second = (small.fit(windows, seed=seed).embed(windows.x) for seed in (5, 6))
    assert not np.array_equal(first, second)


def test_lessons_are_in_units_of_the_window() -> None:
    x, y, kind = lesson(40, Mixer.random(0, **SMALL).shape, 0.3, np.random.default_rng(0))
    shown = x != 0
    assert x.shape[1:] == (64,)
    assert y.shape == (len(x), 16)
    assert set(kind.tolist()) <= {0, 1, 2}
    assert np.allclose(x.sum(axis=1) / shown.sum(axis=1), 0, atol=1e-2)
    assert np.allclose((x**2).sum(axis=1) / shown.sum(axis=1), 1, atol=5e-2)
    assert (~shown).any(axis=1).mean() > 0.1


def test_pretraining_learns_to_forecast() -> None:
    options = MixerTraining(epochs=6, series=256, batch_size=32)
    losses = []

    def watch(event, values):
        losses.append(values.get("loss"))

    mixer = pretrain_mixer(options, shape=SMALL, seed=1, watch=watch)
    x, y, _ = lesson(200, mixer.shape, 0.0, np.random.default_rng(7))
    off = np.median(np.abs(mixer.forecast(x[:, None], 16)[:, 0] - y))
    assert off < 0.85 * np.median(np.abs(y))
    assert off < 0.95 * np.median(np.abs(x[:, -1:] - y))
    told = [loss for loss in losses if loss is not None]
    assert told[-1] < told[0]


@pytest.mark.parametrize(
    "options",
    [{"context": 65, "patch": 8}, {"hidden": [3]}, {"width": 0}, {"colour": 3}, {"lags": [512]}],
)
def test_sizes_that_make_no_network_are_refused(options):
    with pytest.raises(ModelError) as caught:
        Mixer.random(0, **options)
    assert caught.value.code == "network-shape"


def test_weights_of_another_shape_are_refused(small: Mixer) -> None:
    from dataclasses import replace

    from edgegraft_edge.tensors import dump

    card = replace(small.card, options={**SMALL, "width": 16})
    with pytest.raises(ModelError) as caught:
        Mixer.from_card(card, dump(small.weights))
    assert caught.value.code == "weights-shape"


def test_training_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(OptionError):
        MixerTraining(short=1.0)


def test_the_random_mixer_has_a_card() -> None:
    mixer = load_backbone("mixer-random")
    assert mixer.card.n_parameters == sum(array.size for array in mixer.weights.values())
