"""Spectrograms by their definition, sound into networks, and what the statistics do not hear."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.fft import dct

from edgegraft.adapt.augment import USUAL, chosen
from edgegraft.adapt.spectrogram import band_mask, time_mask, time_shift
from edgegraft.plan import CONTROLS
from edgegraft.testing.samples import sample_sounds
from edgegraft.zoo.ds_cnn import MelIntake, ds_cnn
from edgegraft.zoo.intake import ImageIntake
from edgegraft.zoo.log_mel import LogMel, cepstra, mel_bands
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError
from edgegraft_edge.program import Draft
from edgegraft_edge.signal import FULL_SCALE, Channel, ImageSpec, Windows, WindowSpec


def sound_spec(length_s=1.0, rate_hz=8000.0, n_channels=1):
    channels = tuple(Channel(f"c{i}", FULL_SCALE) for i in range(n_channels))
    return WindowSpec(length_s, length_s, rate_hz, channels)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def by_definition(x, rate_hz, n_mels, floor, low_hz=60.0):
    """The same spectrogram by way of an FFT."""
    length, hop = round(0.025 * rate_hz), round(0.010 * rate_hz)
    x = x - x.mean()
    x = 0.1 * x / (np.sqrt(np.mean(x * x)) + 1e-4)
    starts = np.arange(0, len(x) - length + 1, hop)
    frames = np.stack([x[start : start + length] for start in starts])
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(length) + 0.5) / length)
    n_points = 1 << int(np.ceil(np.log2(length)))
    shaped = (frames - frames.mean(axis=1, keepdims=True)) * hann
    spectrum = np.fft.rfft(shaped, n_points)[:, 1:] * 2 / hann.sum()
    hertz = np.arange(1, n_points // 2 + 1) * rate_hz / n_points
    bands = mel_bands(hertz, n_mels, low_hz, min(8000.0, rate_hz / 2))
    return np.log(np.abs(spectrum) ** 2 @ bands + floor).T


@pytest.mark.parametrize(("rate_hz", "n_mels"), [(8000.0, 40), (16000.0, 64)])
def test_log_mel_is_what_its_definition_says(rate_hz, n_mels):
    log_mel = LogMel(n_mels)
    x = noise(1, 1, int(rate_hz))
    found = log_mel.program(sound_spec(1.0, rate_hz)).run(x)[0, 0]
    expected = by_definition(x[0, 0].astype(np.float64), rate_hz, n_mels, log_mel.floor)
    assert found.shape == expected.shape == log_mel.shape(sound_spec(1.0, rate_hz))[1:]
    assert np.abs(found - expected).max() < 1e-4


def test_a_tone_stands_in_its_band():
    time = np.arange(8000) / 8000
    x = np.stack([np.sin(2 * np.pi * hertz * time) for hertz in (300, 1000, 3000)])
    picture = LogMel(40).program(sound_spec()).run(x[:, None].astype(np.float32))[:, 0]
    loudest = picture.mean(axis=2).argmax(axis=1)
    edges = 700 * (
        10 ** (np.linspace(*(2595 * np.log10(1 + np.array([60, 4000]) / 700)), 42) / 2595) - 1
    )
    assert np.abs(edges[1:-1][loudest] - [300, 1000, 3000]).max() < 80


def test_level_and_offset_are_not_heard():
    program = LogMel(40).program(sound_spec())
    x = noise(2, 1, 8000)
    assert np.abs(program.run(x) - program.run(0.05 * x + 0.01)).max() < 0.1
    silent = program.run(np.zeros((1, 1, 8000)))
    assert np.ptp(silent) == 0
    assert program.run(1e-6 * x).max() < -5  # and silence is not blown up


def test_channels_are_averaged():
    x = noise(1, 2, 4000)
    two = LogMel(20).program(sound_spec(0.5, n_channels=2)).run(x)
    one = LogMel(20).program(sound_spec(0.5)).run(x.mean(axis=1, keepdims=True))
    assert np.allclose(two, one, atol=1e-4)


def test_cepstra_are_a_cosine_transform():
    logs = noise(2, 1, 5, 40)
    draft = Draft()
    program = draft.finish(cepstra(draft, "x", 40, 13))
    assert np.allclose(program.run(logs), dct(logs, axis=-1, norm="ortho")[..., :13], atol=1e-5)


def test_no_band_is_empty_at_any_rate():
    for rate_hz in (100.0, 4000.0, 8000.0, 44100.0, 96000.0):
        for n_mels in (10, 40, 128):
            n_points = 1 << int(np.ceil(np.log2(max(8, 0.025 * rate_hz))))
            hertz = np.arange(1, n_points // 2 + 1) * rate_hz / n_points
            bands = mel_bands(hertz, n_mels, 60.0, min(8000.0, rate_hz / 2))
            assert (bands.sum(axis=0) > 0).all(), (rate_hz, n_mels)
            assert np.isfinite(bands).all()


def test_other_kinds_and_short_windows_are_refused():
    series = WindowSpec(1.0, 1.0, 50.0, (Channel("acc_x", "m/s2"),))
    for spec, code in (
        (series, "kind-differs"),
        (ImageSpec(32, 32), "kind-differs"),
        (sound_spec(0.0005), "window-short"),
    ):
        with pytest.raises(DataError) as caught:
            LogMel().program(spec)
        assert caught.value.code == code
    with pytest.raises(DataError):
        ImageIntake(32, 32).program(series)


# -- networks of pictures


def test_sound_comes_to_a_network_of_pictures_in_its_usual_range():
    x = sample_sounds(8000, 8000.0).x
    bare = ImageIntake(0, 0, 1).program(sound_spec()).run(x)
    assert bare.shape[1:] == (1, 64, 98)
    assert bare.min() >= 0
    assert bare.max() <= 255 * 1.0
    assert bare.std() > 0.05
    three = ImageIntake(32, 48, 3, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)).program(sound_spec()).run(x)
    assert three.shape[1:] == (3, 32, 48)
    assert np.allclose(three[:, 0] * 0.2 + 0.5, three[:, 2] * 0.1 + 0.3, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet8:random", "cifar-resnet20:random"])
def test_networks_of_pictures_hear_and_can_be_trained(name):
    import torch

    windows = sample_sounds()
    backbone = load_backbone(name).fit(windows, seed=0)
    z = backbone.embed(windows.x)
    assert len(z) == len(windows)
    assert np.allclose(backbone.program(1, 4000).run(windows.x[:2]), z[:2], atol=1e-3)
    weights = {n: torch.tensor(a, requires_grad=True) for n, a in backbone.weights.items()}
    backbone.forward(weights, torch.tensor(backbone.prepare(windows.x[:2]))).sum().backward()
    assert all(weight.grad is not None for weight in weights.values())


def test_the_keyword_network_is_small_and_takes_any_length():
    network = ds_cnn()
    assert sum(array.size for array in network.weights.values()) <= 50_000
    for length_s, rate_hz in ((0.3, 8000.0), (1.0, 16000.0), (2.0, 44100.0)):
        prepared = (
            MelIntake()
            .program(sound_spec(length_s, rate_hz))
            .run(noise(2, 1, round(length_s * rate_hz)))
        )
        assert np.abs(prepared.mean(axis=(1, 2, 3))).max() < 1e-3
        assert network.drawn(0).program.run(prepared).shape == (2, 64)


# -- statistics


def said(start, pace, seed, level=0.3):
    """Three tones one after the other, somewhere in a second of near silence."""
    rng = np.random.default_rng(seed)
    out = 0.0005 * rng.normal(size=8000)
    length = round(1200 * pace)
    for index, hertz in enumerate((400, 1600, 800)):
        first = start + index * length
        time = np.arange(length) / 8000
        out[first : first + length] += level * np.sin(2 * np.pi * hertz * time)
    return out[None].astype(np.float32)


def test_the_course_counts_and_not_when_how_fast_or_how_loud():
    order = [said(*each) for each in ((300, 1.0, 0), (3000, 1.0, 1), (800, 1.5, 2), (800, 0.8, 3))]
    x = np.stack([*order, order[0][:, ::-1], said(300, 1.0, 4, level=0.02)])
    blank = np.full(len(x), "")
    windows = Windows(x, blank, blank, sound_spec())
    z = replace(load_backbone("mel-statistics"), squashed=False).fit(windows, seed=0).embed(x)
    away = np.linalg.norm(z - z[0], axis=1)
    assert away[[1, 2, 3, 5]].max() < 0.5 * away[4]


def test_the_control_of_sound_is_fixed():
    assert CONTROLS["audio"] == (("mel-statistics", "trees"),)
    assert load_backbone("mel-statistics").card.kind == "fixed"


# -- augmentation


def test_masks_and_shifts_leave_most_as_it_was():
    random = np.random.default_rng(0)
    x = noise(20, 3, 40, 60)
    for change, axis in ((time_mask, 3), (band_mask, 2)):
        changed = (change(x, random) != x).any(axis=1)
        share = changed.mean(axis=(1, 2))
        assert 0 < share.mean() < 0.15
        # what is hidden is hidden in all bands of its time, or at all times of its band
        across = 1 if axis == 3 else 2
        assert np.array_equal(changed.any(axis=across), changed.all(axis=across))
    moved = time_shift(x, random)
    assert np.array_equal(moved[:, 0].max(axis=2) <= x[:, 0].max(axis=2), np.ones((20, 40), bool))
    assert not np.array_equal(moved, x)


def test_the_usual_changes_of_sound():
    for step in chosen(("auto",), "audio"):
        x = noise(4, 1, 40, 60)
        copy = x.copy()
        found = step(x, np.random.default_rng(1))
        assert found.shape == x.shape
        assert found.dtype == np.float32
        assert np.array_equal(x, copy)
        again = step(x, np.random.default_rng(1))
        assert np.array_equal(found, again)
        flat = noise(4, 32)
        assert np.array_equal(step(flat, np.random.default_rng(1)), flat)
    assert len(USUAL["audio"]) == 4
