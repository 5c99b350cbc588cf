"""The closed form against what it stands for: refitting without the sample or the group."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from edgegraft.adapt.augment import MOST_ROWS, n_copies, vary
from edgegraft.adapt.calibration import softmax
from edgegraft.adapt.leave_out import bundle_blocks, left_out_blocks, with_copies
from edgegraft.adapt.ridge import fit_ridge
from edgegraft_edge.signal import Windows


def refitted_scores(z, codes, n_classes, strength, blocks, n_scored):
    """What scikit-learn's ridge says of each block when it is fitted without it."""
    mean, spread = z.mean(axis=0), z.std(axis=0)
    rows = (z - mean) / spread / np.sqrt(z.shape[1])  # one scaling, as the closed form holds it
    alpha = strength * (rows**2).sum() / len(rows)
    targets = np.eye(n_classes)[codes]
    scores = np.zeros((len(z), n_classes))
    for block in blocks:
        rest = np.setdiff1d(np.arange(len(z)), block)
        # scikit-learn centres on the rest; the hat matrix does the same exactly
        scores[block] = Ridge(alpha=alpha).fit(rows[rest], targets[rest]).predict(rows[block])
    return scores[:n_scored]


@pytest.mark.parametrize("shape", [(24, 7), (24, 60)])
@pytest.mark.parametrize("grouped", [False, True])
def test_ridge_left_out_equals_refitting(shape, grouped):
    rng = np.random.default_rng(1)
    z = rng.normal(size=shape)
    codes = np.tile([0, 1, 2], 8)
    groups = np.repeat(list("abcd"), 6) if grouped else None
    fit = fit_ridge(z, codes, 3, groups=groups, strengths=[0.1])
    blocks = left_out_blocks(codes, groups, 3)
    assert len(blocks) == (4 if grouped else 24)
    expected = softmax(refitted_scores(z, codes, 3, 0.1, blocks, 24) / fit.temperature)
    np.testing.assert_allclose(fit.left_out, expected, rtol=1e-5, atol=1e-6)


def test_ridge_copies_are_left_out_with_their_originals():
    rng = np.random.default_rng(2)
    originals = rng.normal(size=(12, 5))
    z = np.concatenate([originals, originals + 0.1 * rng.normal(size=(12, 5))])
    codes = np.tile(np.repeat([0, 1], 6), 2)
    fit = fit_ridge(z, codes, 2, n_originals=12, strengths=[0.1])
    assert fit.left_out.shape == (12, 2)
    blocks = with_copies([np.array([i]) for i in range(12)], 12, 24)
    expected = softmax(refitted_scores(z, codes, 2, 0.1, blocks, 12) / fit.temperature)
    np.testing.assert_allclose(fit.left_out, expected, rtol=1e-5, atol=1e-6)


def test_ridge_strength_does_not_follow_groups_that_cannot_be_foretold():
    """Each group is a cluster of its own: strangers are chance, members are certain."""
    rng = np.random.default_rng(7)
    groups = np.repeat(list("abcdefgh"), 6)
    codes = np.repeat([0, 1] * 4, 6)
    centres = np.repeat(rng.normal(size=(8, 30)), 6, axis=0)
    z = centres + 0.3 * rng.normal(size=(48, 30))
    alone, grouped = fit_ridge(z, codes, 2), fit_ridge(z, codes, 2, groups=groups)
    assert grouped.strength == alone.strength
    assert grouped.choice_loss == pytest.approx(alone.choice_loss)
    assert grouped.choice_loss < 0.2 < 0.6 < grouped.log_loss
    assert grouped.temperature > alone.temperature  # sure of itself only as far as with strangers


def test_ridge_head_reproduces_a_plain_ridge():
    rng = np.random.default_rng(3)
    z = rng.normal(size=(30, 4))
    codes = (z[:, 0] > 0).astype(int)
    fit = fit_ridge(z, codes, 2, strengths=[1.0])
    rows = (z - z.mean(axis=0)) / z.std(axis=0) / 2
    plain = Ridge(alpha=(rows**2).sum() / 30).fit(rows, np.eye(2)[codes]).predict(rows)
    expected = softmax(plain / fit.temperature)
    np.testing.assert_allclose(fit.head.scores(z.astype(np.float32)), expected, atol=1e-4)


def test_ridge_one_label_per_class_claims_nothing():
    fit = fit_ridge(np.eye(3), np.arange(3), 3)
    assert fit.left_out is None
    assert fit.log_loss is None
    assert (fit.head.scores(np.eye(3)).argmax(axis=1) == np.arange(3)).all()


def test_ridge_group_that_holds_a_whole_class_is_left_out_by_samples():
    codes = np.array([0, 0, 1, 1])
    groups = np.array(["a", "a", "a", "b"])
    blocks = left_out_blocks(codes, groups, 2)
    assert sorted(block.tolist() for block in blocks) == [[0], [1], [2], [3]]


def test_ridge_constant_and_huge_features_are_harmless():
    rng = np.random.default_rng(4)
    z = rng.normal(size=(20, 3))
    z[:, 1] = 7.0
    z[:, 2] *= 1e8
    codes = (z[:, 0] > 0).astype(int)
    scores = fit_ridge(z, codes, 2).head.scores(z.astype(np.float32))
    assert np.isfinite(scores).all()


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(1, 9), count=st.integers(0, 4), length=st.integers(3, 40), seed=st.integers(0, 9)
)
def test_copies_keep_shape_mean_and_seed(n, count, length, seed):
    x = np.random.default_rng(seed).normal(size=(n, 2, length)).astype(np.float32)
    copies = vary(x, count, seed=seed)
    assert copies.shape == (n * count, 2, length)
    assert np.abs(copies).max(initial=0) <= 2 * np.abs(x).max() * 1.8
    np.testing.assert_array_equal(copies, vary(x, count, seed=seed))


def test_copies_stop_where_labels_are_many():
    windows = Windows.of(np.zeros((MOST_ROWS, 1, 9)))
    assert n_copies(windows, 7) == 0
    for n in range(1, MOST_ROWS, 7):
        assert (n_copies(windows.take(slice(0, n)), 7) + 1) * n <= MOST_ROWS


def test_emphasis_finds_the_feature_that_tells():
    rng = np.random.default_rng(5)
    codes = np.repeat([0, 1], 12)
    z = rng.normal(size=(24, 200))
    z[:, 0] += 3.0 * codes
    fresh = rng.normal(size=(400, 200))
    truth = np.repeat([0, 1], 200)
    fresh[:, 0] += 3.0 * truth
    right = {
        power: (fit_ridge(z, codes, 2, emphasis=power).head.scores(fresh).argmax(axis=1) == truth)
        for power in (0.0, 0.5)
    }
    assert right[0.5].mean() > right[0.0].mean() + 0.05


def test_emphasis_does_not_flatter_what_is_left_out():
    rng = np.random.default_rng(6)
    codes = np.tile([0, 1], 20)
    noise = rng.normal(size=(40, 500))
    fit = fit_ridge(noise, codes, 2, emphasis=0.5)
    assert (
        fit.log_loss > 0.6
    )  # nothing can be known: about log 2, not the much lower loss of a leak


def test_parts_keep_blocks_whole_and_every_class():
    codes = np.repeat([0, 1, 2], 8)
    groups = np.tile(np.repeat(list("abcd"), 2), 3)
    blocks = left_out_blocks(codes, groups, 3)
    parts = bundle_blocks(blocks, codes, 0, n_parts=3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(24))
    for part in parts:
        rest = np.setdiff1d(np.arange(24), part)
        assert set(codes[rest]) == {0, 1, 2}
        assert not set(groups[part]) & set(groups[rest])
