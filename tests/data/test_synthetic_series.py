from typing import Any

import numpy as np
import pytest

from edgegraft.data.synthetic_series import SeriesKinds, draw_series
from edgegraft_edge.errors import OptionError


def drawn(n: int = 60, length: int = 480, **kinds: Any) -> np.ndarray:
    made = draw_series(n, length, np.random.default_rng(3), SeriesKinds(**kinds))
    return np.asarray(made.values, dtype=np.float64)


def test_rows_are_finite_of_unit_deviation_and_all_different() -> None:
    rows = drawn()
    assert np.isfinite(rows).all()
    assert np.allclose(rows.mean(axis=1), 0, atol=1e-4)
    assert np.quantile(rows.std(axis=1), 0.1) > 0.9
    assert len(np.unique(rows[:, :3], axis=0)) == len(rows)


def test_a_seed_draws_the_same_rows() -> None:
    assert (drawn() == drawn()).all()


def test_a_season_comes_back() -> None:
    rows = drawn(periods=(20,), shares=(1.0,), no_season=0.0, odd=0.0)
    after = np.mean(rows[:, :-20] * rows[:, 20:], axis=1).mean()
    between = np.mean(rows[:, :-10] * rows[:, 10:], axis=1).mean()
    assert after > between + 0.15
    without = drawn(periods=(20,), shares=(1.0,), no_season=1.0, odd=0.0)
    gap = np.mean(without[:, :-20] * without[:, 20:] - without[:, :-20] * without[:, 10:-10])
    assert gap < 0.05


def test_the_periods_told_are_those_asked_for() -> None:
    kinds = SeriesKinds((24, 96), (0.5, 0.5), no_season=0.2)
    made = draw_series(300, 64, np.random.default_rng(0), kinds)
    assert set(made.periods.tolist()) == {0, 24, 96}


@pytest.mark.parametrize(
    "kinds", [{"shares": (1.0,)}, {"odd": 2.0}, {"periods": (1,), "shares": (1.0,)}]
)
def test_shares_that_make_no_sense_are_refused(kinds: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="share"):
        SeriesKinds(**kinds)
