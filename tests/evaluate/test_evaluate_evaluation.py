"""Evaluation of predictors on windows."""

import json
from dataclasses import replace

import numpy as np
import pytest

from edgegraft.evaluate.evaluation import evaluate, evaluate_probabilities
from edgegraft.tasks import metrics
from edgegraft.tasks.classification import Classification
from edgegraft_edge.decision import Predictions
from edgegraft_edge.errors import DataError, ModelError
from edgegraft_edge.signal import Windows

CLASSES = ("run", "sit", "walk")


class Echo:
    """Says the probabilities that are written in the first channel of each window."""

    def __init__(self, classes=CLASSES):
        self.classes = classes

    def predict(self, windows):
        return Predictions(self.classes, windows.x[:, 0, : len(self.classes)])


def make_case(n_windows=60, n_groups=6, seed=0, labels=CLASSES):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(len(CLASSES)), n_windows).astype(np.float32)
    windows = Windows.of(
        probabilities[:, None, :],
        y=rng.choice(labels, n_windows),
        groups=[f"p{index % n_groups}" for index in range(n_windows)] if n_groups else None,
    )
    return probabilities, windows


def test_evaluate_measures_what_the_metrics_say():
    probabilities, windows = make_case()
    found = evaluate(Echo(), windows)
    codes = windows.codes(CLASSES)
    assert found.n == 60
    for name, metric in metrics.CLASSIFICATION.items():
        assert found.metrics[name] == pytest.approx(metric(probabilities, codes))
        low, high = found.intervals[name]
        assert low < high
    assert np.array(found.confusion).tolist() == metrics.confusion(probabilities, codes).tolist()
    assert found.seconds >= 0
    assert found.warnings == ()


def test_evaluate_and_probabilities_that_are_there_agree():
    probabilities, windows = make_case()
    alone = evaluate_probabilities(probabilities, windows, CLASSES)
    assert replace(evaluate(Echo(), windows), seconds=0.0) == replace(alone, seconds=0.0)


def test_dictionary_is_json_with_plain_numbers():
    _, windows = make_case()
    data = json.loads(json.dumps(evaluate(Echo(), windows).as_dict(), allow_nan=False))
    assert data["n"] == 60
    for name in ("accuracy", "macro_f1", "log_loss"):
        assert isinstance(data["metrics"][name], float)
        assert len(data["intervals"][name]) == 2
    assert sum(map(sum, data["confusion"])) == 60
    assert set(data["per_class"]) == set(CLASSES)
    assert sum(entry["n"] for entry in data["calibration"]) == 60
    without_time = evaluate_probabilities(*make_case()[:2], CLASSES).as_dict()
    assert without_time["seconds"] is None


def test_unlabelled_windows_are_left_out():
    probabilities, windows = make_case()
    labels = windows.y.copy()
    labels[::2] = ""
    found = evaluate(Echo(), replace(windows, y=labels))
    assert found.n == 30
    assert found.metrics == evaluate(Echo(), windows.take(slice(1, None, 2))).metrics
    assert evaluate_probabilities(probabilities, replace(windows, y=labels), CLASSES).n == 30


def test_groups_are_scored_one_by_one():
    probabilities, windows = make_case()
    found = evaluate(Echo(), windows)
    assert (found.unit, found.n_units) == ("group", 6)
    rows = windows.groups == "p2"
    expected = metrics.accuracy(probabilities[rows], windows.codes(CLASSES)[rows])
    assert found.per_group["p2"]["accuracy"] == pytest.approx(expected)
    assert sum(scores["n"] for scores in found.per_group.values()) == 60


def test_units_fall_back_to_recordings_then_windows():
    _, windows = make_case(n_groups=0)
    assert evaluate(Echo(), windows).unit == "window"
    cut = replace(windows, recording=np.arange(60) // 10)
    found = evaluate(Echo(), cut)
    assert (found.unit, found.n_units, found.per_group) == ("recording", 6, {})


def test_few_units_are_warned_of():
    _, windows = make_case(n_groups=3)
    (warning,) = evaluate(Echo(), windows).warnings
    assert warning.startswith("Only 3 groups")


def test_label_the_model_does_not_know_is_an_error_and_is_named():
    _, windows = make_case(labels=(*CLASSES, "Walk "))
    found = evaluate(Echo(), windows)
    n_unknown = int((windows.y == "Walk ").sum())
    assert found.unknown_labels == {"Walk ": n_unknown}
    assert found.truths == (*CLASSES, "Walk ")
    assert sum(found.confusion[3]) == n_unknown
    assert sum(map(sum, found.confusion)) == 60
    known = sum(scores["recall"] for scores in found.per_class.values())
    assert found.metrics["macro_recall"] == pytest.approx(known / 4)
    (warning,) = found.warnings
    assert "'walk'" in warning
    assert str(n_unknown) in warning


def test_class_without_windows_is_named():
    _, windows = make_case(labels=("run", "sit"))
    found = evaluate(Echo(), windows)
    assert any("'walk'" in warning for warning in found.warnings)
    assert found.per_class["walk"]["support"] == 0


@pytest.mark.parametrize(
    ("labels", "code"), [(("",), "labels-missing"), (("1", "2"), "labels-unknown")]
)
def test_labels_that_allow_no_score_are_refused(labels, code):
    _, windows = make_case(labels=labels)
    with pytest.raises(DataError) as caught:
        evaluate(Echo(), windows)
    assert caught.value.code == code


def test_probabilities_that_are_not_numbers_are_refused():
    probabilities, windows = make_case()
    probabilities[3, 1] = np.nan
    with pytest.raises(ModelError, match="1 of 60") as caught:
        evaluate_probabilities(probabilities, windows, CLASSES)
    assert caught.value.code == "probabilities-nan"


def test_probabilities_of_another_shape_are_refused():
    probabilities, windows = make_case()
    for wrong in (probabilities[:, :2], probabilities[:10], probabilities[:, 0]):
        with pytest.raises(ModelError) as caught:
            evaluate_probabilities(wrong, windows, CLASSES)
        assert caught.value.code == "probabilities-shape"


def test_task_with_a_metric_of_its_own_gets_an_interval_too():
    class Sure(Classification):
        @property
        def metrics(self):
            return {"confidence": lambda p, codes: float(p.max(axis=1).mean())}

    found = evaluate(Echo(), make_case()[1], Sure())
    low, high = found.intervals["confidence"]
    assert low < found.metrics["confidence"] < high
