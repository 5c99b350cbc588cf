"""Estimates of remaining life: few units, intervals, another fault mode; programs that ship."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

from edgegraft.adapt.estimates.boosted import boost_trees, read_out
from edgegraft.adapt.estimates.crossing import familiar
from edgegraft.adapt.estimates.estimating import blend_shares
from edgegraft.adapt.estimates.interval import fit_offsets
from edgegraft.adapt.estimates.kernel import fit_kernels
from edgegraft.adapt.estimates.regress import Boost, Median, Regress, fit_affine, statistics_program
from edgegraft.adapt.estimates.trend import Trend
from edgegraft.adapt.estimates.trends import Layout, Seen, fit_trends
from edgegraft.data.dataset import Dataset
from edgegraft.data.domains import beside, joined
from edgegraft.data.source import DataOptions
from edgegraft.data.split import Fold
from edgegraft.tasks.classification import Classification
from edgegraft.tasks.regression import Regression
from edgegraft.testing import sample_windows
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.signal import Channel, Recording

TASK = Regression(target="remaining", unit="cycles", cap=60)
SIGNS = np.array([1.0, -1.0, 1.0, 1.0])


def lives(n_units, seed, *, signs=SIGNS, ends=0.0):
    """Windows of units whose four channels drift ever faster, each from its own level."""
    rng = np.random.default_rng(seed)
    channels = tuple(Channel(name) for name in "abcd")
    recordings = []
    for unit in range(n_units):
        life = int(rng.integers(70, 130))
        wear = np.exp((np.arange(life) - life) / 15.0)
        level = rng.normal(scale=0.5, size=(4, 1))
        values = level + 3 * signs[:, None] * wear + 0.15 * rng.normal(size=(4, life))
        values = values[:, : int(life * (1 - ends * rng.uniform(0.1, 0.6)))]
        name = f"unit {seed}-{unit}"
        recordings.append(Recording(values.astype(np.float32), channels, 1.0, (), name, 0.0, name))
    options = DataOptions(window_s=12.0, stride_s=3.0)
    data = Dataset(tuple(recordings), options=options).with_derived(("start:*:8", "age"))
    return TASK.windows(data)


def rmse(adapted, windows):
    point = adapted.predict(windows).estimates.point.ravel()
    return float(np.sqrt(np.mean((point - windows.y.ravel()) ** 2)))


def adapt(strategy, windows, backbone="raw", task=TASK):
    return strategy.adapt(load_backbone(backbone), windows, task, seed=0)


@pytest.fixture(scope="module")
def taught():
    return lives(12, 0)


@pytest.fixture(scope="module")
def asked():
    return lives(12, 1)


@pytest.fixture(scope="module")
def trend(taught):
    return adapt(Trend(), taught)


def test_strategies_learn_and_the_control_does_not(taught, asked, trend):
    found = {
        "trend": rmse(trend, asked),
        "boost": rmse(adapt(Boost(trees=60), taught), asked),
        "regress": rmse(adapt(Regress(), taught, "statistics"), asked),
    }
    plain = rmse(adapt(Median(), taught), asked)
    assert plain > 15
    assert max(found.values()) < 0.6 * plain, (found, plain)


def test_intervals_hold_what_they_say_and_widen_with_life(asked, trend):
    said = trend.predict(asked).estimates
    low, high = (each.ravel() for each in said.interval(0.9))
    truth = asked.y.ravel()
    assert 0.7 < np.mean((low <= truth) & (truth <= high)) < 0.98
    late, early = truth < 10, truth > 30
    assert (high - low)[late].mean() < 0.6 * (high - low)[early].mean()
    assert low.min() >= 0
    assert high.max() <= TASK.cap


def test_the_program_is_the_model(asked, trend):
    table = trend.predict(asked).probabilities
    assert np.allclose(trend.program.run(asked.x), table, atol=1e-3)
    assert trend.outputs.columns == ("remaining@0.05", "remaining@0.5", "remaining@0.95")


def test_another_fault_mode_is_told_by_what_both_share(taught):
    """On the target channel b rises where it fell on the sources: it must not be asked."""
    other = lives(8, 5, signs=np.array([1.0, 4.0, 1.0, 1.0]))
    blind = rmse(adapt(Trend(), taught), other)
    unlabelled = replace(other, y=np.full_like(other.y, np.nan))
    crossed = adapt(Trend(trees=30), joined(unlabelled, beside(other, sources={"old": taught})))
    assert crossed.lineage["learners"][-1]["left_out_channels"] == ["b"]
    assert crossed.lineage["target_units"] == 0
    assert rmse(crossed, other) < 0.6 * blind


def test_few_target_lives_settle_shares_and_intervals(taught):
    other = lives(10, 6, signs=np.array([1.0, 4.0, 1.0, 1.0]))
    few = np.isin(other.groups, np.unique(other.groups)[:3])
    own, rest = other.take(np.flatnonzero(few)), other.take(np.flatnonzero(~few))
    crossed = adapt(Trend(trees=30), joined(own, beside(own, sources={"old": taught})))
    assert crossed.lineage["target_units"] == 3
    assert rmse(crossed, rest) < 12
    alone = adapt(Trend(trees=30, alone=True), joined(own, beside(own, sources={"old": taught})))
    assert "target_units" not in alone.lineage


def test_too_few_units_are_refused(taught):
    one = taught.take(np.flatnonzero(taught.groups == taught.groups[0])[:1])
    other = replace(one, y=one.y + 1)
    with pytest.raises(DataError) as error:
        adapt(Boost(), joined(one, other).take(np.array([0])))
    assert error.value.problems[0].code == "target-constant"


def test_other_tasks_are_refused():
    with pytest.raises(OptionError) as error:
        adapt(Trend(), sample_windows(), task=Classification())
    assert error.value.problems[0].code == "task-differs"


def test_boosted_trees_are_those_of_scikit_learn():
    rng = np.random.default_rng(3)
    z = rng.normal(size=(400, 5)).astype(np.float32)
    y = z[:, 0] ** 2 + np.sin(3 * z[:, 1])
    grown = HistGradientBoostingRegressor(max_iter=40, early_stopping=False).fit(z, y)
    fresh = rng.normal(size=(300, 5)).astype(np.float32)
    assert np.allclose(read_out(grown).scores(fresh)[:, 0], grown.predict(fresh), atol=1e-4)
    upper = boost_trees(z, y, seed=0, quantile=0.9).scores(z)[:, 0]
    assert 0.85 < np.mean(y <= upper) < 0.99


def test_affine_equals_ridge_of_scikit_learn():
    rng = np.random.default_rng(4)
    z, y = rng.normal(size=(50, 6)), rng.normal(size=50)
    half = np.arange(25), np.arange(25, 50)
    folds = [Fold(half[0], half[1]), Fold(half[1], half[0])]
    head, strength, left_out = fit_affine(z, y, folds, strengths=[0.5])
    for fold in folds:
        mean, spread = z[fold.train].mean(axis=0), z[fold.train].std(axis=0)
        alpha = 0.5 * 6  # relative to the mean eigenvalue: of scaled features, their number
        reference = Ridge(alpha=alpha).fit((z[fold.train] - mean) / spread, y[fold.train])
        expected = reference.predict((z[fold.test] - mean) / spread)
        assert np.allclose(left_out[fold.test], expected)
    assert strength == 0.5
    assert head.weight.shape == (6, 1)


def test_a_kernel_holds_still_beyond_its_rows():
    x = np.linspace(0, 1, 60)[:, None]
    (found,) = fit_kernels(x, 5 + x[:, 0], 1.0, [1e-6])
    assert np.allclose(found.estimate(np.array([[9.0]])), found.estimate(np.array([[1.0]])))
    assert np.allclose(found.program().run(x)[:, 0], found.estimate(x), atol=1e-3)


@pytest.mark.parametrize("centred", [False, True])
def test_trends_compute_the_same_as_their_program(taught, centred):
    layout = replace(Layout.of(taught.spec.channels), centred=centred).only([0, 2, 3])
    seen = Seen.of(taught.x, layout)
    trends = fit_trends(seen, taught.y.ravel(), layout, 12, 2)
    assert np.allclose(trends.program().run(taught.x), trends.features(seen), atol=1e-3)
    described = statistics_program(layout, 12).run(taught.x)
    assert described.shape == (len(taught), 3 * (4 + 2 + 2) + 1)


def test_channels_that_never_change_do_not_matter(taught):
    still = replace(taught, x=taught.x.copy())
    still.x[:, 0] = 7.0
    assert np.isfinite(adapt(Trend(trees=0), still).predict(still).probabilities).all()
    layout = Layout.of(taught.spec.channels)
    seen = Seen.of(still.x, layout)
    assert 0 in familiar(seen, seen).tolist()


def test_offsets_of_few_rows_stay_in_order():
    found = fit_offsets(np.array([1.0, 2.0, 3.0]), np.array([1.5, 1.0, 3.0]), (0.05, 0.5, 0.95))
    table = found.at(np.array([0.0, 9.0]))
    assert (np.diff(table, axis=1) >= 0).all()
    assert (table[:, 1] == 0).all()


def test_shares_follow_errors_as_far_as_units_go():
    y = np.arange(30.0)
    tables = np.stack([y, y + 10 * np.sin(y)], axis=1)
    many, few = blend_shares(tables, y, 100), blend_shares(tables, y, 2)
    assert many[0] > 0.97
    assert 0.6 < few[0] < 0.7
