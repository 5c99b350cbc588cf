"""Summary statistics against NumPy's own, and where signals are degenerate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft.zoo.level import usual_level
from edgegraft.zoo.statistics import QUANTILES, Statistics
from edgegraft_edge.errors import DataError, ModelError
from edgegraft_edge.signal import Windows


def _windows(n_windows=20, n_channels=3, n_timepoints=50, seed=0):
    steps = np.random.default_rng(seed).standard_normal((n_windows, n_channels, n_timepoints))
    return Windows.of(np.cumsum(steps, axis=2))


def _table(windows, x=None):
    """Statistics (n_windows, n_channels, n_statistics), without the correlations."""
    fitted = Statistics(squashed=False).fit(windows, seed=0)
    z = fitted.embed(windows.x if x is None else x)
    n_channels = windows.x.shape[1]
    n_pairs = n_channels * (n_channels - 1) // 2
    return z[:, : z.shape[1] - n_pairs].reshape(len(z), n_channels, -1), z[
        :, z.shape[1] - n_pairs :
    ]


def test_statistics_are_those_of_numpy():
    windows = _windows()
    table, correlations = _table(windows)
    centre, scale = usual_level(windows)
    x = (windows.x.astype(np.float64) - centre[:, None]) / scale[:, None]
    np.testing.assert_allclose(table[..., 0], x.mean(axis=2), atol=1e-5)
    np.testing.assert_allclose(table[..., 1], x.std(axis=2), rtol=1e-4)
    np.testing.assert_allclose(
        table[..., 7 : 7 + len(QUANTILES)].transpose(2, 0, 1),
        np.quantile(x, QUANTILES, axis=2),
        atol=1e-4,
    )
    slope = np.polyfit(np.linspace(-1, 1, 50), x.reshape(-1, 50).T, 1)[0]
    np.testing.assert_allclose(table[..., -1].ravel(), slope, atol=1e-4)
    expected = [np.corrcoef(window)[(0, 1, 0), (1, 2, 2)] for window in x]
    np.testing.assert_allclose(correlations, expected, atol=0.02)


def test_statistics_see_crossings_and_periods():
    time = np.arange(64)
    slow, fast = np.sin(2 * np.pi * time / 32 + 0.1), np.sin(2 * np.pi * time / 4 + 0.1)
    table, _ = _table(Windows.of(np.stack([slow, fast])[:, None]))
    crossings = table[:, 0, 7 + len(QUANTILES)]
    assert crossings[0] == pytest.approx(4 / 63, abs=0.02)
    assert crossings[1] == pytest.approx(0.5, abs=0.05)
    lag_four = table[:, 0, 7 + len(QUANTILES) + 1 + 2]
    assert lag_four[1] > 0.9, "a period of four repeats after four"


@settings(max_examples=15, deadline=None)
@given(
    n_channels=st.integers(1, 6),
    n_timepoints=st.integers(4, 70),
    level=st.sampled_from([0.0, 9.81, -1e6]),
    seed=st.integers(0, 1000),
)
def test_statistics_finite_on_anything_finite(n_channels, n_timepoints, level, seed):
    train = _windows(8, n_channels, n_timepoints, seed)
    fitted = Statistics(squashed=False).fit(train, seed=0)
    x = np.full((5, n_channels, n_timepoints), level, dtype=np.float32)
    x[1, 0, 0] += 1
    x[2, :, ::2] = 1e6
    x[3, :, ::2] = 3e38
    x[4] *= np.random.default_rng(seed).standard_normal(x[4].shape)
    z = fitted.embed(x)
    assert z.dtype == np.float32
    assert np.isfinite(z).all()


def test_statistics_of_a_constant_say_still_at_any_level():
    """Rounding of a large mean must not look like a signal."""
    train = _windows(n_channels=1)
    levels = np.array([0.1, 9.81, 1e3 + 0.1, 1e6 + 0.3], dtype=np.float32)
    x = np.repeat(levels[:, None, None], 50, axis=2)
    table, _ = _table(train, x)
    assert np.abs(table[:, 0, 1]).max() < 1e-6, "spread"
    assert np.abs(table[:, 0, 4]).max() < 1e-6, "skewness"
    assert np.abs(table[:, 0, 7 + len(QUANTILES)]).max() < 1e-6, "crossings"


def test_statistics_pairs_are_bounded():
    windows = _windows(n_channels=40, n_timepoints=20)
    wide = Statistics(squashed=False).fit(windows, seed=0).embed(windows.x)
    bare = Statistics(max_pairs=0).fit(windows, seed=0).embed(windows.x)
    assert wide.shape[1] - bare.shape[1] == 120
    neighbours = [np.corrcoef(window)[0, 1] for window in windows.x]
    np.testing.assert_allclose(wide[:, bare.shape[1]], neighbours, atol=0.02)


def test_statistics_batches_agree_with_one_run():
    windows = _windows(n_windows=600, n_channels=9, n_timepoints=64)
    fitted = Statistics(squashed=False).fit(windows, seed=0)
    np.testing.assert_allclose(
        fitted.embed(windows.x), fitted.program(9, 64).run(windows.x), rtol=1e-4, atol=1e-5
    )


def test_statistics_refusals():
    with pytest.raises(ModelError) as unfitted:
        Statistics().embed(_windows().x)
    assert unfitted.value.code == "backbone-unfitted"
    with pytest.raises(DataError) as none:
        Statistics(squashed=False).fit(_windows().take([]), seed=0)
    assert none.value.code == "windows-none"
    fitted = Statistics(squashed=False).fit(_windows(), seed=0)
    with pytest.raises(DataError) as channels:
        fitted.embed(_windows(n_channels=2).x)
    assert channels.value.code == "channel-count"
    with pytest.raises(DataError) as short:
        fitted.embed(_windows(n_timepoints=3).x)
    assert short.value.code == "window-short"


def test_statistics_squashed_features_stay_between_minus_one_and_one():
    windows = Windows.of(np.random.default_rng(0).standard_normal((8, 2, 64)))
    fitted = Statistics().fit(windows, seed=0)
    far = fitted.embed(windows.x * 1e4)
    assert np.abs(far).max() <= 1
    raw = Statistics(squashed=False).fit(windows, seed=0).embed(windows.x)
    near = fitted.embed(windows.x)
    mean = raw.mean(axis=0)
    spread = np.maximum(raw.std(axis=0), 0.03 * (1 + np.abs(mean)))
    expected = np.tanh((raw - mean) / (2 * spread))
    np.testing.assert_allclose(near, expected, atol=2e-3)
