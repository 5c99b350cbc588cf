"""Metrics against scikit-learn, and where scikit-learn has no answer."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from edgegraft.tasks import metrics
from edgegraft.tasks.estimate_metrics import estimate_metrics
from edgegraft_edge.estimate import Outputs

PAIRS = {
    "accuracy": reference.accuracy_score,
    "macro_f1": lambda y, p: reference.f1_score(y, p, average="macro", zero_division=0),
    "weighted_f1": lambda y, p: reference.f1_score(y, p, average="weighted", zero_division=0),
    "macro_precision": lambda y, p: reference.precision_score(
        y, p, average="macro", zero_division=0
    ),
    "macro_recall": lambda y, p: reference.recall_score(y, p, average="macro", zero_division=0),
}


def draw_case(seed, n_windows=40, n_classes=5, lowest=0):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(n_classes, 0.4), size=n_windows)
    # Truth from few classes, so that some are absent.
    codes = rng.choice(rng.integers(lowest, n_classes, size=3), size=n_windows)
    return probabilities, codes


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n_windows=st.integers(1, 60), n_classes=st.integers(2, 7))
def test_counting_metrics_equal_scikit_learn(seed, n_windows, n_classes):
    probabilities, codes = draw_case(seed, n_windows, n_classes, lowest=-1)
    guess = probabilities.argmax(axis=1)
    for name, expected in PAIRS.items():
        value = metrics.CLASSIFICATION[name](probabilities, codes)
        assert value == pytest.approx(expected(codes, guess), abs=1e-12), name
    with warnings.catch_warnings():  # scikit-learn warns of classes that are only predicted
        warnings.simplefilter("ignore")
        balanced = reference.balanced_accuracy_score(codes, guess)
    assert metrics.balanced_accuracy(probabilities, codes) == pytest.approx(balanced)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_probability_metrics_equal_scikit_learn(seed):
    probabilities, codes = draw_case(seed)
    labels = np.arange(probabilities.shape[1])
    inner = np.clip(probabilities, metrics.SMALLEST, 1)
    inner = inner / inner.sum(axis=1, keepdims=True)
    assert metrics.log_loss(inner, codes) == pytest.approx(
        reference.log_loss(codes, inner, labels=labels)
    )
    expected = reference.brier_score_loss(codes, inner, labels=labels, scale_by_half=False)
    assert metrics.brier(inner, codes) == pytest.approx(expected)


def test_log_loss_of_a_sure_mistake_is_large_and_finite():
    assert metrics.log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(15.94, abs=0.01)


def test_calibration_error_equals_its_definition():
    probabilities, codes = draw_case(3, n_windows=500, n_classes=3)
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == codes
    total = 0.0
    for low in np.arange(metrics.N_BINS) / metrics.N_BINS:
        inside = (confidence > low) & (confidence <= low + 1 / metrics.N_BINS)
        if inside.any():
            total += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    assert metrics.calibration_error(probabilities, codes) == pytest.approx(total)
    bins = metrics.calibration_bins(probabilities, codes)
    assert sum(entry.n for entry in bins) == 500
    assert all(entry.low < entry.confidence <= entry.high + 1e-12 for entry in bins)


def test_sure_and_right_is_perfectly_calibrated():
    assert metrics.calibration_error(np.eye(4), np.arange(4)) == 0.0


def test_unknown_class_counts_as_an_error_everywhere():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [1.0, 0.0]])
    codes = np.array([0, 1, -1])
    assert metrics.accuracy(probabilities, codes) == pytest.approx(2 / 3)
    assert metrics.balanced_accuracy(probabilities, codes) == pytest.approx(2 / 3)
    # F1 of the first class 2/3 (one false alarm), of the second 1, of the unknown 0.
    assert metrics.macro_f1(probabilities, codes) == pytest.approx((2 / 3 + 1) / 3)
    losses = -np.log([0.9, 0.8, metrics.SMALLEST])
    assert metrics.log_loss(probabilities, codes) == pytest.approx(losses.mean())
    assert metrics.brier(probabilities[2:], codes[2:]) == pytest.approx(2.0)
    assert metrics.confusion(probabilities, codes).tolist() == [[1, 0], [0, 1]]


def test_any_code_outside_the_classes_is_unknown():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    for metric in metrics.CLASSIFICATION.values():
        assert metric(probabilities, np.array([0, 7])) == metric(probabilities, np.array([0, -1]))


@pytest.mark.parametrize("name", list(metrics.CLASSIFICATION))
def test_no_windows_give_nan_without_warning(name):
    value = metrics.CLASSIFICATION[name](np.zeros((0, 3)), np.zeros(0, dtype=int))
    assert np.isnan(value)


@pytest.mark.parametrize("name", list(metrics.CLASSIFICATION))
def test_better_says_the_right_direction(name):
    metric = metrics.CLASSIFICATION[name]
    codes = np.array([0, 1, 2, 0])
    right = np.full((4, 3), 0.05)
    right[np.arange(4), codes] = 0.9
    good, bad = metric(right, codes), metric(np.roll(right, 1, axis=1), codes)
    assert good > bad if metric.better == "higher" else good < bad


def test_confusion_and_per_class_equal_scikit_learn():
    probabilities, codes = draw_case(11, n_windows=80)
    guess, labels = probabilities.argmax(axis=1), np.arange(5)
    found = metrics.confusion(probabilities, codes)
    assert (found == reference.confusion_matrix(codes, guess, labels=labels)).all()
    expected = reference.precision_recall_fscore_support(
        codes, guess, labels=labels, zero_division=0
    )
    for mine, theirs in zip(metrics.per_class(probabilities, codes), expected, strict=True):
        assert mine == pytest.approx(theirs)


def test_confusion_has_rows_for_classes_the_model_lacks():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [1.0, 0.0]])
    counts = metrics.confusion(probabilities, np.array([0, 2, 3]), n_truths=4)
    assert counts.tolist() == [[1, 0], [0, 0], [0, 1], [1, 0]]


POINTS = ("mse", "rmse", "mae", "r2")


def of_points(n_targets):
    outputs = Outputs(tuple(f"t{number}" for number in range(n_targets)), levels=(0.5,))
    return estimate_metrics(outputs)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n_targets=st.integers(1, 3))
def test_metrics_of_points_equal_scikit_learn(seed, n_targets):
    rng = np.random.default_rng(seed)
    truth, guess = rng.normal(1e4, 3, (2, 25, n_targets))
    found = {name: metric(guess, truth) for name, metric in of_points(n_targets).items()}
    assert found["mse"] == pytest.approx(reference.mean_squared_error(truth, guess))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(truth, guess))
    assert found["rmse"] == pytest.approx(found["mse"] ** 0.5)
    weighted = reference.r2_score(truth, guess, multioutput="variance_weighted")
    assert found["r2"] == pytest.approx(weighted)


@pytest.mark.parametrize("name", POINTS)
def test_points_of_nothing_are_nan(name):
    assert np.isnan(of_points(1)[name](np.zeros((0, 1)), np.zeros((0, 1))))
