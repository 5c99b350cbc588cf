"""Out of scope: scores, the threshold's promise, and what a person is told."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft import shipping, workflow
from edgegraft.evaluate.out_of_scope import (
    auroc,
    decision_of,
    energy,
    highest_probability,
    judge,
    nearness,
    threshold_of,
)
from edgegraft_edge.decision import Predictions
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.signal import TextSpec, Windows

SPEC = TextSpec(64)


def windows(texts, labels):
    blank = np.full(len(texts), "")
    return Windows(SPEC.pack(texts), np.array(labels), blank, SPEC)


class Table:
    """A predictor that says what it was given, row by row."""

    def __init__(self, *tables):
        self.tables = [np.array(table) for table in tables]

    def predict(self, windows):
        return Predictions(("a", "b"), self.tables.pop(0))


def test_auroc_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    inside, outside = random.normal(1, 1, 200).round(1), random.normal(0, 1, 90).round(1)
    truth = np.repeat([1, 0], [200, 90])
    expected = roc_auc_score(truth, np.concatenate([inside, outside]))
    assert auroc(inside, outside) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(DataError, match="windows-none"):
        auroc(inside, outside[:0])


def test_scores_are_higher_for_what_is_known():
    random = np.random.default_rng(0)
    centres = 4 * random.normal(size=(3, 8))
    codes = np.repeat(np.arange(3), 20)
    known = centres[codes] + random.normal(size=(60, 8))
    inside = centres[codes] + random.normal(size=(60, 8))
    outside = 12 * random.normal(size=(60, 8))
    found = nearness(inside, known, codes + 5), nearness(outside, known, codes + 5)
    assert auroc(*found) > 0.95
    assert energy(np.array([[1e4, 0.0]])).tolist() == [1e4]
    assert highest_probability(np.array([[0.2, 0.8]])).tolist() == [0.8]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 300), st.floats(0, 0.3), st.integers(0, 99))
def test_the_threshold_rejects_no_larger_share_of_the_windows_left_out(n, share, seed):
    scores = np.random.default_rng(seed).random(n).round(2)
    assert (scores < threshold_of(scores, share)).sum() <= share * (n + 1)


def test_the_threshold_holds_for_new_windows_on_average():
    random = np.random.default_rng(0)
    rates = [
        (random.random(500) < threshold_of(random.random(39), 0.05)).mean() for _ in range(400)
    ]
    assert 0.04 < np.mean(rates) <= 0.055
    with pytest.raises(OptionError, match="option-range"):
        threshold_of(np.ones(5), 1.0)


def test_a_sentence_is_answered_alone_and_unsure_below_what_was_left_out():
    table = np.stack([np.linspace(0.5, 1.0, 99), np.linspace(0.5, 0.0, 99)], axis=1)
    decided = decision_of("text", table)
    assert decided.emit == "window"
    assert 0.5 < decided.threshold <= np.sort(table.max(axis=1))[4]
    assert decision_of("text", None).threshold == 0.0
    assert decision_of("text", table[:5]).threshold == 0.0
    assert decision_of("series", table).as_dict()["threshold"] == 0.0


def test_judging_counts_both_sides():
    predictor = Table([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], [[0.5, 0.5], [0.7, 0.3]])
    inside = windows(["x", "y", "z"], ["a", "b", ""])
    found = judge(predictor, inside, windows(["v", "w"], ["oos", "oos"]), threshold=0.65)
    assert (found.n_inside, found.n_outside) == (3, 2)
    assert found.auroc == pytest.approx(5 / 6)
    assert found.rejected_inside == pytest.approx(1 / 3)
    assert found.rejected_outside == 0.5
    assert found.accuracy == 0.5


def test_windows_of_a_known_class_are_not_outside():
    predictor = Table([[0.9, 0.1]], [[0.5, 0.5]])
    with pytest.raises(DataError, match="labels-inside"):
        judge(predictor, windows(["x"], ["a"]), windows(["v"], ["b"]))


# -- from data to the device


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    random = np.random.default_rng(0)
    words = {"light": ["lamp", "light", "bright"], "heat": ["warm", "heating", "degrees"]}
    rows = [
        {"text": " ".join(random.choice([*own, "the", "please", "now"], 5)), "intent": label}
        for label, own in words.items()
        for _ in range(20)
    ]
    folder = tmp_path_factory.mktemp("scope")
    data, outside = folder / "in.jsonl", folder / "out.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    outside.write_text('{"text": "who won the match"}\n{"text": "sing me a song"}')
    done = workflow.adapt(
        data, backbone="tfidf", strategy="probe", folds=4, out=folder / "run", curve=False
    )
    return done, data, outside


def test_the_threshold_is_in_the_bundle_and_in_the_report(run):
    done, _, _ = run
    threshold = shipping.load(done.folder).decision.threshold
    assert threshold > 0
    assert done.summary["unsure_below"] == threshold
    assert "unsure" in (done.folder / "report.md").read_text(encoding="utf-8")


def test_the_command_scores_what_is_out_of_scope(run, capsys):
    from edgegraft.cli.app import run as command

    done, data, outside = run
    arguments = ["evaluate", str(done.folder), str(data), "--out-of-scope", str(outside)]
    assert command([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["out_of_scope"]
    assert found["n_outside"] == 2
    assert found["auroc"] > 0.9
    assert found["rejected_inside"] <= 0.2
    assert command(arguments) == 0
    assert "out of scope" in capsys.readouterr().out
