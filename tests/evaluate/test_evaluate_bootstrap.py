"""Bootstrap intervals: coverage, units, and the way for metrics from elsewhere."""

import numpy as np
import pytest

from edgegraft.evaluate import bootstrap
from edgegraft.evaluate.bootstrap import intervals
from edgegraft.tasks.metrics import CLASSIFICATION, accuracy, macro_f1

N_CLASSES = 4


def draw_groups(rng, n_groups, n_each, spread=0.8):
    """Predictions whose quality differs between groups."""
    quality = 1 / (1 + np.exp(-(1.2 + spread * rng.normal(size=(n_groups, 1)))))
    codes = rng.integers(0, N_CLASSES, (n_groups, n_each))
    wrong = (codes + rng.integers(1, N_CLASSES, codes.shape)) % N_CLASSES
    guess = np.where(rng.random(codes.shape) < quality, codes, wrong)
    return np.eye(N_CLASSES)[guess.ravel()], codes.ravel(), np.repeat(np.arange(n_groups), n_each)


@pytest.mark.parametrize("n_groups", [6, 12])
def test_intervals_cover_the_truth_as_often_as_they_say(n_groups):
    rng = np.random.default_rng(0)
    probabilities, codes, _ = draw_groups(rng, 20_000, 20)
    truth = accuracy(probabilities, codes)
    hits = 0
    for _ in range(200):
        ends = intervals({"a": accuracy}, *draw_groups(rng, n_groups, 20), n_resamples=300)["a"]
        hits += ends[0] <= truth <= ends[1]
    assert 0.88 <= hits / 200 <= 0.99


def test_windows_of_one_group_are_not_independent():
    probabilities, codes, units = draw_groups(np.random.default_rng(3), 8, 50, spread=1.5)
    by_group = intervals({"a": accuracy}, probabilities, codes, units)["a"]
    by_window = intervals({"a": accuracy}, probabilities, codes, np.arange(len(codes)))["a"]
    assert by_group[1] - by_group[0] > 2 * (by_window[1] - by_window[0])


def test_summing_equals_repeating_the_windows():
    probabilities, codes, units = draw_groups(np.random.default_rng(4), 7, 9)
    fast = intervals(CLASSIFICATION, probabilities, codes, units, n_resamples=60)
    calls = {name: (lambda p, c, m=metric: m(p, c)) for name, metric in CLASSIFICATION.items()}
    slow = intervals(calls, probabilities, codes, units, n_resamples=60)
    assert set(fast) == set(CLASSIFICATION)
    for name in CLASSIFICATION:
        assert fast[name] == pytest.approx(slow[name]), name


def test_same_seed_same_interval_other_seed_another():
    case = draw_groups(np.random.default_rng(5), 10, 20)
    first = intervals({"f": macro_f1}, *case, n_resamples=200, seed=1)
    assert first == intervals({"f": macro_f1}, *case, n_resamples=200, seed=1)
    assert first != intervals({"f": macro_f1}, *case, n_resamples=200, seed=2)


def test_chunks_do_not_change_what_is_drawn(monkeypatch):
    case = draw_groups(np.random.default_rng(6), 10, 20)
    whole = intervals({"f": macro_f1}, *case, n_resamples=200)
    monkeypatch.setattr(bootstrap, "CELLS", 70)
    assert intervals({"f": macro_f1}, *case, n_resamples=200) == whole


def test_one_unit_or_no_resamples_give_no_interval():
    probabilities, codes, units = draw_groups(np.random.default_rng(7), 4, 5)
    assert intervals({"a": accuracy}, probabilities, codes, np.zeros(20)) == {}
    assert intervals({"a": accuracy}, probabilities, codes, units, n_resamples=0) == {}
    assert intervals({"a": accuracy}, probabilities[:0], codes[:0], units[:0]) == {}
