"""MiniRocket against a slow and plain rewriting of itself, and its promises."""

import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft.zoo.minirocket import MiniRocket
from edgegraft_edge.errors import DataError, ModelError
from edgegraft_edge.signal import Windows

SHARED = Path(__file__).parents[2].parent / "shared/data"


def _windows(n_windows=12, n_channels=3, n_timepoints=40, seed=0, scale=1.0):
    steps = np.random.default_rng(seed).standard_normal((n_windows, n_channels, n_timepoints))
    return Windows.of(np.cumsum(steps, axis=2) * scale)


def _plainly(backbone: MiniRocket, window: np.ndarray) -> list[float]:
    """Features of one window by np.convolve, straight from the description of the method."""
    k = backbone.kernels
    held = np.clip(window, k.low[:, None], k.high[:, None])
    x = np.rint((held - k.centre[:, None]) * k.gain[:, None]).astype(np.float64)
    triples = list(combinations(range(9), 3))
    features, place = [], 0
    for step, dilation in enumerate(k.dilations):
        padded = [i for i in range(84) if (i + step) % 2 == 0]
        bare = [i for i in range(84) if (i + step) % 2 == 1]
        for position, kernel in enumerate(padded + bare):
            weights = np.full(9, -1.0)
            weights[list(triples[kernel])] = 2.0
            spread = np.zeros(8 * dilation + 1)
            spread[::dilation] = weights
            combination = step * 84 + position
            chosen = k.subset[k.subset_start[combination] : k.subset_start[combination + 1]]
            assert len(set(chosen.tolist())) == len(chosen) > 0
            total = x[chosen].sum(axis=0)
            if position < 42:
                total = np.pad(total, 4 * dilation)
            row = np.convolve(total, spread[::-1], mode="valid")
            for bias in k.biases[place : place + k.n_biases[step]]:
                features.append(float(np.mean(row > bias)))
            place += k.n_biases[step]
    return features


@pytest.mark.parametrize(("n_channels", "n_timepoints"), [(1, 9), (1, 33), (3, 40), (12, 25)])
def test_minirocket_equals_plain_convolutions(n_channels, n_timepoints):
    windows = _windows(6, n_channels, n_timepoints)
    backbone = MiniRocket(n_features=84 * 7).fit(windows, seed=1)
    z = backbone.embed(windows.x)
    assert z.shape == (6, 84 * 7)
    for window, row in zip(windows.x[:2], z[:2], strict=True):
        np.testing.assert_allclose(row, _plainly(backbone, window), atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    n_channels=st.integers(1, 11),
    n_timepoints=st.integers(9, 90),
    scale=st.sampled_from([1e-3, 1.0, 1e6]),
    digits=st.sampled_from([None, 0, 1]),
    seed=st.integers(0, 1000),
)
def test_minirocket_program_counts_the_same(n_channels, n_timepoints, scale, digits, seed):
    """On rounded signals too, where a float convolution would land on its biases."""
    train = _windows(8, n_channels, n_timepoints, seed, scale)
    x = _windows(5, n_channels, n_timepoints, seed + 1, scale).x
    if digits is not None:
        x = (np.round(x / scale, digits) * scale).astype(np.float32)
        train = Windows.of(x)
    backbone = MiniRocket(n_features=840).fit(train, seed=seed)
    z = backbone.embed(x)
    assert ((z >= 0) & (z <= 1)).all()
    np.testing.assert_allclose(backbone.program(n_channels, n_timepoints).run(x), z, atol=1e-6)


def test_minirocket_sums_stay_exact():
    """The largest sum of whole numbers, plus a half, is a float32; so every bias is, too."""
    for n_channels in (1, 4, 30):
        train = _windows(8, n_channels, 50)
        k = MiniRocket(n_features=840).fit(train, seed=0).kernels
        largest = np.rint((k.high - k.centre) * k.gain).max() * 12 * min(n_channels, 9)
        assert 2**22 < largest < 2**23 - 1
        assert np.array_equal(k.biases % 1, np.full(len(k.biases), 0.5, dtype=np.float32))


def test_minirocket_is_blind_to_units_and_levels():
    """A power of two changes no digit, so the features are the same to the bit."""
    windows = _windows()
    other = Windows.of(windows.x * np.float32(0.25))
    first, second = (MiniRocket(n_features=840).fit(w, seed=3) for w in (windows, other))
    assert np.array_equal(first.embed(windows.x), second.embed(other.x))


def test_minirocket_gives_every_channel_the_same_deviation():
    """Also one of heavy tails, which a division by the range would make small."""
    random = np.random.default_rng(0)
    x = random.standard_normal((60, 3, 200))
    x[:, 1] = 50.0 + 9.0 * random.uniform(-1, 1, (60, 200))
    x[:, 2] = random.standard_t(3, (60, 200)) / 1000
    kernels = MiniRocket(n_features=840).fit(Windows.of(x), seed=0).kernels
    held = np.clip(x, kernels.low[:, None], kernels.high[:, None])
    whole = (held - kernels.centre[:, None]) * kernels.gain[:, None]
    np.testing.assert_allclose(whole.std(axis=(0, 2)) / whole[:, 0].std(), 1.0, rtol=0.1)


def test_minirocket_by_seed_and_on_threads():
    windows = _windows(n_windows=30)
    first = MiniRocket(n_features=840).fit(windows, seed=3)
    assert np.array_equal(first.embed(windows.x), first.embed(windows.x, threads=2))
    other = MiniRocket(n_features=840).fit(windows, seed=4)
    assert not np.array_equal(first.embed(windows.x), other.embed(windows.x))
    assert first.kernels is not None
    assert MiniRocket().kernels is None, "fit must leave the unfitted backbone as it was"


def test_minirocket_default_size():
    backbone = MiniRocket().fit(_windows(4, 2, 128), seed=0)
    assert backbone.embed(_windows(2, 2, 128).x).shape == (2, 9996)
    assert backbone.program(2, 128).size_bytes < 200_000
    assert backbone.kernels.dilations.tolist() == sorted({int(2**e) for e in _exponents(128)})


def _exponents(n_timepoints):
    return np.linspace(0, np.log2((n_timepoints - 1) / 8), 32)


def test_minirocket_extreme_windows():
    train = _windows(n_channels=2)
    train.x[:, 1] = 9.81
    backbone = MiniRocket(n_features=840).fit(train, seed=0)
    x = np.zeros((5, 2, 40), dtype=np.float32)
    x[1], x[2], x[3], x[4, :, ::2] = 1e6, -1e6, 3e38, -3e38
    z = backbone.embed(x)
    assert np.isfinite(z).all()
    np.testing.assert_allclose(backbone.program(2, 40).run(x), z, atol=1e-6)
    x[:, 1] = 5.0
    assert np.array_equal(backbone.embed(x), z), "a channel constant in training tells nothing"


def test_minirocket_one_spike_does_not_flatten_the_rest():
    calm = _windows(n_windows=60, n_channels=1, n_timepoints=100)
    spiked = Windows.of(calm.x.copy())
    spiked.x[0, 0, 50] = 1e6
    first, second = (MiniRocket(n_features=840).fit(w, seed=0).kernels for w in (calm, spiked))
    assert second.gain[0] > 0.5 * first.gain[0]


def test_minirocket_refusals():
    with pytest.raises(DataError) as short:
        MiniRocket().fit(_windows(n_timepoints=8), seed=0)
    assert short.value.code == "window-short"
    with pytest.raises(DataError) as none:
        MiniRocket().fit(_windows().take([]), seed=0)
    assert none.value.code == "windows-none"
    broken = _windows()
    broken.x[2, 1, 5] = np.nan
    with pytest.raises(DataError) as holes:
        MiniRocket().fit(broken, seed=0)
    assert holes.value.code == "windows-not-finite"
    assert "c1" in str(holes.value)
    with pytest.raises(ModelError) as unfitted:
        MiniRocket().embed(_windows().x)
    assert unfitted.value.code == "backbone-unfitted"
    backbone = MiniRocket(n_features=840).fit(_windows(), seed=0)
    with pytest.raises(DataError) as channels:
        backbone.embed(_windows(n_channels=2).x)
    assert channels.value.code == "channel-count"
    with pytest.raises(DataError) as flat:
        backbone.embed(_windows().x[0])
    assert flat.value.code == "window-shape"
    with pytest.raises(DataError) as shorter:
        backbone.embed(_windows(n_timepoints=20).x)
    assert shorter.value.code == "window-short"


def test_minirocket_no_windows_no_rows():
    backbone = MiniRocket(n_features=840).fit(_windows(), seed=0)
    assert backbone.embed(np.zeros((0, 3, 40), dtype=np.float32)).shape == (0, 840)


def test_minirocket_compiles_where_nothing_can_be_written():
    code = (
        "from numba.core.caching import CacheImpl; CacheImpl._locator_classes = [];"
        "from edgegraft.zoo.ppv import pool; print(pool.py_func.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "pool", done.stderr


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the development data is not beside the checkout")
def test_minirocket_is_as_accurate_as_the_published_one():
    from aeon.transformations.collection.convolution_based import MiniRocket as Published
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = (np.load(SHARED / f"uci_har/{part}.npz") for part in ("train", "test"))
    x, y = train["x"].astype(np.float32), train["y"]
    scores = {"own": [], "published": []}
    for seed in range(5):
        random = np.random.default_rng(seed)
        few = np.concatenate(
            [random.choice(np.flatnonzero(y == c), 10, replace=False) for c in np.unique(y)]
        )
        published = Published(random_state=seed, n_jobs=1).fit(x[few])
        own = MiniRocket().fit(Windows.of(x[few]), seed=seed)
        for name, embed in (("own", own.embed), ("published", published.transform)):
            model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-3, 5, 9)))
            model.fit(embed(x[few]), y[few])
            scores[name].append(model.score(embed(test["x"].astype(np.float32)), test["y"]))
    difference = np.mean(scores["own"]) - np.mean(scores["published"])
    assert difference > -0.02, scores
