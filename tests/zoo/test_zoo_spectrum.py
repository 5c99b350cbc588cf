"""Band powers: tones land in their bands, noise adds up, odd shapes stay finite."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft.zoo.spectrum import Spectrum, _bands, _frames, _transform
from edgegraft_edge.signal import Windows


def _tones(frequencies_hz, rate_hz=100.0, n_timepoints=256):
    time = np.arange(n_timepoints) / rate_hz
    tones = np.sin(2 * np.pi * np.asarray(frequencies_hz)[:, None, None] * time)
    return Windows.of(tones, rate_hz=rate_hz)


def test_spectrum_tone_is_loudest_in_its_band():
    frequencies = [3.0, 9.0, 20.0, 40.0]
    windows = _tones(frequencies)
    fitted = Spectrum(squashed=False).fit(windows, seed=0)
    assert (fitted.rate_hz, fitted.frame) == (100.0, 128)
    bands = _bands(fitted.frame, 100.0, 3)
    loudest = fitted.embed(windows.x)[:, : bands.shape[1]].argmax(axis=1)
    for band, frequency in zip(loudest, frequencies, strict=True):
        inside = (np.flatnonzero(bands[:, band]) + 1) * 100.0 / fitted.frame
        assert inside.min() - 0.8 <= frequency <= inside.max() + 0.8


def test_spectrum_bands_stand_on_hertz_where_the_rate_is_known():
    """An octave higher at twice the rate and frame is the same bin, three bands on."""
    low, high = _bands(64, 50.0, 3), _bands(64, 100.0, 3)
    assert np.array_equal(low, high)
    assert not np.array_equal(_bands(64, 50.0, 3), _bands(64, 56.0, 3))
    for bands in (low, _bands(37, None, 3), _bands(256, 12_000.0, 3)):
        assert np.array_equal(bands.sum(axis=1), np.ones(len(bands)))
        assert (bands.sum(axis=0) >= 1).all()


def test_spectrum_noise_has_unit_power():
    cosine, sine = _transform(64)
    noise = np.random.default_rng(0).standard_normal((20_000, 64))
    power = ((noise @ cosine) ** 2 + (noise @ sine) ** 2).sum(axis=1).mean()
    assert power == pytest.approx(1.0, abs=0.05)
    assert np.abs(np.ones(64) @ cosine).max() < 1e-6, "the level must not leak into the bins"


@given(n_timepoints=st.integers(1, 3000), length=st.integers(1, 256))
def test_spectrum_frames_lie_inside_and_reach_the_end(n_timepoints, length):
    length = min(length, n_timepoints)
    n_frames, hop = _frames(n_timepoints, length)
    end = (n_frames - 1) * hop + length
    assert n_timepoints - n_frames < end <= n_timepoints
    assert hop <= max(1, length // 2)


@settings(max_examples=15, deadline=None)
@given(n_channels=st.integers(1, 4), n_timepoints=st.integers(4, 300), seed=st.integers(0, 99))
def test_spectrum_any_shape_and_any_finite_window(n_channels, n_timepoints, seed):
    x = np.random.default_rng(seed).standard_normal((6, n_channels, n_timepoints))
    fitted = Spectrum(squashed=False).fit(Windows.of(x), seed=0)
    x = x.astype(np.float32)
    x[0], x[1], x[2, :, ::2], x[3] = 0.0, 1e6, 3e38, x[3] * 1e6
    z = fitted.embed(x)
    assert z.dtype == np.float32
    assert np.isfinite(z).all()
    longer = np.concatenate([x, x], axis=2)
    assert np.isfinite(fitted.embed(longer)).all()


def test_spectrum_rate_of_one_means_unknown():
    windows = Windows.of(np.random.default_rng(0).standard_normal((4, 1, 64)))
    assert Spectrum(squashed=False).fit(windows, seed=0).rate_hz is None


def test_spectrum_squashed_features_stay_between_minus_one_and_one():
    windows = Windows.of(np.random.default_rng(0).standard_normal((8, 2, 64)))
    fitted = Spectrum().fit(windows, seed=0)
    far = fitted.embed(windows.x * 1e4)
    assert np.abs(far).max() <= 1
    raw = Spectrum(squashed=False).fit(windows, seed=0).embed(windows.x)
    near = fitted.embed(windows.x)
    mean = raw.mean(axis=0)
    spread = np.maximum(raw.std(axis=0), 0.03 * (1 + np.abs(mean)))
    expected = np.tanh((raw - mean) / (2 * spread))
    np.testing.assert_allclose(near, expected, atol=2e-3)
