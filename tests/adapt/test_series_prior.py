import numpy as np
import pytest

from edgegraft.adapt.forecasts.series_prior import series_prior, unit_windows
from edgegraft_edge.errors import OptionError

CONTEXT, HORIZON, SEASON = 96, 24, 24


def windows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A daily profile, damped noise and a slow drift, cut into windows."""
    random = np.random.default_rng(seed)
    time = np.arange(n + CONTEXT + HORIZON)
    noise = np.zeros(len(time))
    for t in range(1, len(time)):
        noise[t] = 0.9 * noise[t - 1] + 0.3 * random.standard_normal()
    day = np.exp(np.cos(2 * np.pi * time / SEASON))
    values = day + noise + 0.5 * np.sin(time / 150)
    rows = np.lib.stride_tricks.sliding_window_view(values, CONTEXT + HORIZON)[:n]
    return unit_windows(rows[:, :CONTEXT], rows[:, CONTEXT:])


def error(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean((x @ weights - y) ** 2))


@pytest.fixture(scope="module")
def prior():  # type: ignore[no-untyped-def]
    return series_prior(CONTEXT, HORIZON, SEASON, rows=3000)


def test_alone_it_beats_the_last_day_again(prior) -> None:  # type: ignore[no-untyped-def]
    x, y = windows(600, 1)
    assert error(prior.filter(), x, y) < 0.8 * np.mean((x[:, -SEASON:] - y) ** 2)


def test_few_windows_pulled_to_it_beat_few_windows(prior) -> None:  # type: ignore[no-untyped-def]
    x, y = windows(60, 2)
    test = windows(600, 3)
    gram, cross = x.T @ x, x.T @ y
    alone = np.linalg.solve(gram + 0.1 * len(x) * np.eye(CONTEXT), cross)
    pulled = prior.pulled(gram, cross, len(x), 3 * len(x))
    assert error(pulled, *test) < 0.9 * error(alone, *test)
    assert error(prior.pulled(gram, cross, len(x), 1e9), *test) == pytest.approx(
        error(prior.filter(), *test), rel=1e-3
    )


def test_fewer_steps_are_its_first(prior) -> None:  # type: ignore[no-untyped-def]
    x, y = windows(60, 4)
    gram, cross = x.T @ x, x.T @ y
    whole = prior.pulled(gram, cross, len(x), 100)
    assert np.allclose(prior.pulled(gram, cross[:, :5], len(x), 100), whole[:, :5])


def test_it_is_drawn_by_its_seed() -> None:
    first = series_prior(32, 4, 8, rows=100, seed=1)
    series_prior.cache_clear()
    assert (first.gram == series_prior(32, 4, 8, rows=100, seed=1).gram).all()
    assert not (first.gram == series_prior(32, 4, 8, rows=100, seed=2).gram).all()


@pytest.mark.parametrize("values", [(0, 4, 8), (32, 0, 8), (32, 4, 1), (32, 4, -1)])
def test_a_size_that_makes_no_sense_is_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(OptionError, match="season"):
        series_prior(*values)
