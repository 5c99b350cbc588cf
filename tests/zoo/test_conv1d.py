"""The convolutional encoder: any channels, rate and length; portable; bound by its card."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgegraft.testing import assert_agrees, check_backbone
from edgegraft.zoo.conv1d import LONGEST, SHORTEST, Conv1d, Shape, resampling
from edgegraft_edge.errors import ModelError
from edgegraft_edge.signal import Windows
from edgegraft_edge.tensors import dump

SMALL = {"widths": [4, 6], "kernels": [5, 3], "strides": [2, 2], "pooled": [0, 1]}


def noise(n_windows=6, n_channels=3, n_timepoints=90, rate_hz=1.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_windows, n_channels, n_timepoints)).cumsum(axis=2) * 0.3
    return Windows.of(x, rate_hz=rate_hz)


def at_rate(rate_hz):
    encoder = Conv1d.random(seed=3, **SMALL)
    return replace(encoder, card=replace(encoder.card, rate_hz=rate_hz))


def test_conv1d_keeps_the_contract_of_backbones():
    check_backbone(Conv1d.random())


@pytest.mark.parametrize("n_channels", [1, 2, 7])
@pytest.mark.parametrize("n_timepoints", [3, 31, 128, 333])
def test_conv1d_program_equals_torch(n_channels, n_timepoints):
    windows = noise(5, n_channels, n_timepoints)
    encoder = Conv1d.random(seed=2, **SMALL).fit(windows, seed=0)
    z = encoder.embed(windows.x)
    assert z.shape == (5, n_channels * encoder.shape.channel_dim)
    assert_agrees(encoder.program(n_channels, n_timepoints).run(windows.x), z)


@pytest.mark.parametrize(
    ("rate_hz", "n_timepoints", "seen"),
    [
        (50.0, 128, 128),  # the card's own rate
        (20.0, 50, 125),  # resampled up
        (100.0, 256, 128),  # and down
        (1.0, 128, 128),  # unknown
        (12_000.0, 2048, 2048),  # another kind of signal
        (20.0, 200, LONGEST),  # long windows do not grow beyond what is paid for
        (50.0, 20, SHORTEST),
    ],
)
def test_conv1d_resamples_to_the_rate_of_its_card(rate_hz, n_timepoints, seen):
    windows = noise(4, 2, n_timepoints, rate_hz)
    encoder = at_rate(50.0).fit(windows, seed=0)
    assert encoder.prepare(windows.x).shape == (4, 2, seen)
    assert_agrees(encoder.program(2, n_timepoints).run(windows.x), encoder.embed(windows.x))


def test_conv1d_resampling_keeps_slow_waves_and_drops_what_the_rate_cannot_show():
    fine = (np.arange(200) + 0.5) / 100  # seconds at 100 Hz
    coarse = (np.arange(80) + 0.5) / 40
    matrix = resampling(200, 80)
    slow, fast = np.sin(2 * np.pi * 3 * fine), np.sin(2 * np.pi * 35 * fine)
    inner = slice(8, -8)
    assert np.abs(slow @ matrix - np.sin(2 * np.pi * 3 * coarse))[inner].max() < 0.02
    assert np.abs(fast @ matrix)[inner].max() < 0.1


def test_conv1d_channels_are_encoded_by_themselves():
    windows = noise()
    encoder = Conv1d.random(**SMALL)
    z = encoder.embed(windows.x).reshape(6, 3, -1)
    swapped = encoder.embed(windows.x[:, ::-1]).reshape(6, 3, -1)
    np.testing.assert_allclose(z, swapped[:, ::-1], rtol=1e-5, atol=1e-6)


def test_conv1d_level_and_scale_reach_the_embedding():
    encoder, x = Conv1d.random(**SMALL), noise().x
    z, raised, louder = (encoder.embed(v).reshape(6, 3, -1) for v in (x, x + 0.5, x * 3.0))
    assert (raised[:, :, 0] - z[:, :, 0] > 0.003).all()
    np.testing.assert_allclose(louder[:, :, 1] - z[:, :, 1], np.log(3.0), atol=0.01)
    for changed in (raised, louder):  # and the convolutions see them too
        assert (np.abs(changed - z)[:, :, 2:].max(axis=2) > 0.01).all()


def test_conv1d_weights_travel_as_safetensors():
    encoder = Conv1d.random(seed=5, **SMALL)
    again = Conv1d.from_card(encoder.card, dump(encoder.weights))
    x = noise().x
    assert np.array_equal(again.embed(x), encoder.embed(x))
    assert again.card.n_parameters == sum(map(np.size, encoder.weights.values()))


def test_conv1d_random_weights_follow_the_seed_and_trained_ones_do_not():
    windows = noise()
    control = Conv1d.random(**SMALL)
    first, second = (control.fit(windows, seed=seed).embed(windows.x) for seed in (1, 2))
    assert not np.allclose(first, second)
    trained = replace(control, card=replace(control.card, kind="pretrained"))
    first, second = (trained.fit(windows, seed=seed).embed(windows.x) for seed in (1, 2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    "options",
    [
        {"widths": [4]},
        {"widths": [4, 4, 4, 0]},
        {"pooled": [4]},
        {"pooled": []},
        {"depth": [3]},
        {"widths": "wide"},
        {"widths": 7},
    ],
)
def test_conv1d_refuses_options_that_make_no_network(options):
    with pytest.raises(ModelError, match="network-shape"):
        Conv1d.random(**options)


def test_conv1d_refuses_weights_of_another_shape_and_too_many():
    card = Conv1d.random(**SMALL).card
    with pytest.raises(ModelError, match="weights-shape"):
        Conv1d.from_card(card, dump(Conv1d.random().weights))
    with pytest.raises(ModelError, match="network-size"):
        Conv1d.random(widths=[64, 128, 256, 512])


def test_conv1d_blocks_name_the_weights_from_the_signal_up():
    shape = Shape()
    assert shape.blocks == ("stem", "block1", "block2", "block3")
    assert [name.split(".")[0] for name in shape.sizes][::2] == list(shape.blocks)
