"""Frozen backbones under heads: probe, trees, blend, and the ranking."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.tree import ExtraTreeClassifier

from edgegraft.adapt.blend import Blend, weigh
from edgegraft.adapt.expert import Expert, grow_trees
from edgegraft.adapt.probe import Probe, Trees
from edgegraft.adapt.select import rank_backbones
from edgegraft.adapt.strategy import build_strategy, check_options
from edgegraft.data.dataset import open_data
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError, OptionError


@pytest.fixture(scope="module")
def windows():
    return open_data("synthetic:n=90,seed=2").windows()


STRATEGIES = [Probe(), Probe(head="logistic"), Probe(balanced=True), Probe(copies=3), Trees(40)]


@pytest.mark.parametrize("strategy", [*STRATEGIES, Blend(partners=("spectrum",))], ids=str)
def test_adapted_predicts_as_its_program(windows, strategy):
    train, rest = windows.take(slice(0, 60)), windows.take(slice(60, 90))
    adapted = strategy.adapt(load_backbone("statistics"), train, Classification(), seed=0)
    predictions = adapted.predict(rest)
    np.testing.assert_allclose(
        predictions.probabilities, adapted.program.run(rest.x), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, atol=1e-5)
    assert (predictions.labels == rest.y).mean() > 0.6


@pytest.mark.parametrize("strategy", [Probe(), Trees(20), Blend(partners=())], ids=str)
def test_adapted_is_the_same_for_the_same_seed(windows, strategy):
    task, backbone = Classification(), load_backbone("statistics")
    first, second = (strategy.adapt(backbone, windows, task, seed=5) for _ in range(2))
    np.testing.assert_array_equal(
        first.predict(windows).probabilities, second.predict(windows).probabilities
    )


def test_adapted_from_one_label_per_class(windows):
    index = [int(np.flatnonzero(windows.y == label)[0]) for label in windows.classes]
    adapted = Blend().adapt(
        load_backbone("minirocket"), windows.take(index), Classification(), seed=0
    )
    assert (adapted.predict(windows).labels == windows.y).mean() > 1 / len(windows.classes)
    weights = adapted.lineage["weights"]  # with nothing to leave out they stay where they start
    assert weights["minirocket+LinearHead"] == weights["statistics+TreesHead"] == 0.4
    assert weights["spectrum+TreesHead"] == 0.2


def grown_alike(z, codes, seed, n_trees):
    """The same trees, left to scikit-learn: their mean prediction."""
    seeds = np.random.default_rng(seed).integers(0, 2**31 - 1, n_trees)
    trees = [ExtraTreeClassifier(random_state=int(own)).fit(z, codes) for own in seeds]
    return trees, lambda x: np.mean([tree.predict_proba(x) for tree in trees], axis=0)


def test_trees_read_out_as_scikit_learn_grew_them():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 6)).astype(np.float32)
    codes = (z[:, 0] * z[:, 1] > 0).astype(int) + (z[:, 2] > 1)
    head = grow_trees(z, codes, 3, seed=1, n_trees=30)
    _, predict = grown_alike(z, codes, 1, 30)
    fresh = rng.normal(size=(500, 6)).astype(np.float32)
    np.testing.assert_allclose(head.scores(fresh), predict(fresh), atol=1e-6)


def test_trees_threshold_on_a_float32_value_goes_the_same_way():
    z = np.float32([[0.1], [0.2], [0.3], [0.4]])
    codes = np.array([0, 0, 1, 1])
    head = grow_trees(z, codes, 2, seed=0, n_trees=50)
    trees, predict = grown_alike(z, codes, 0, 50)
    edges = np.concatenate([tree.tree_.threshold for tree in trees])
    at_edges = np.concatenate([edges, np.nextafter(np.float32(edges), 1)])[:, None]
    at_edges = at_edges.astype(np.float32)
    np.testing.assert_allclose(head.scores(at_edges), predict(at_edges), atol=1e-6)


def test_trees_keep_the_place_of_a_class_that_is_absent():
    head = grow_trees(np.float32([[0.0], [1.0]]), np.array([0, 2]), 3, seed=0, n_trees=5)
    np.testing.assert_array_equal(head.scores(np.float32([[0.0], [1.0]])), [[1, 0, 0], [0, 0, 1]])


def expert_that(likely):
    table = np.stack([likely, 1 - likely], axis=1)
    return Expert(load_backbone("statistics"), None, table)


def test_weights_go_to_the_expert_that_knows_and_prior_holds_them_back():
    codes = np.zeros(40, dtype=int)
    good, bad = expert_that(np.full(40, 0.95)), expert_that(np.full(40, 0.2))
    free = weigh([good, bad], codes, prior=0.01)
    held = weigh([good, bad], codes, prior=200.0)
    assert free[0] > 0.95
    assert 0.5 < held[0] < free[0]
    assert free.sum() == pytest.approx(1)


def test_weights_start_from_shares():
    codes = np.zeros(40, dtype=int)
    alike = [expert_that(np.full(40, 0.7)), expert_that(np.full(40, 0.7))]
    assert weigh(alike, codes, 50.0, np.array([1.0, 3.0])) == pytest.approx([0.25, 0.75])
    unknown = [*alike[:1], replace(alike[1], left_out=None)]
    assert weigh(unknown, codes, 50.0, np.array([1.0, 3.0])) == pytest.approx([0.25, 0.75])


def test_ranking_puts_noise_behind_and_says_why(windows):
    rows = rank_backbones(
        [load_backbone(name) for name in ("spectrum", "statistics", "minirocket")],
        windows,
        Classification(),
        seed=0,
    )
    losses = [row.log_loss for row in rows]
    assert losses == sorted(losses)
    assert all("left out" in row.because for row in rows)


def test_ranking_keeps_a_backbone_that_cannot_take_the_windows_last(windows):
    from edgegraft_edge.signal import WindowSpec

    short = replace(windows, x=windows.x[:, :, :6],
                    spec=WindowSpec.from_shape(windows.spec.n_channels, 6))  # fmt: skip
    rows = rank_backbones(
        [load_backbone("minirocket"), load_backbone("statistics")], short, Classification(), seed=0
    )
    assert rows[-1].backbone == "minirocket"
    assert "cannot" in rows[-1].because


def test_options_misspelt_are_all_named_at_once():
    with pytest.raises(OptionError) as caught:
        check_options({"probe.hed": "ridge", "blnd.prior": 1, "probe.head": "ridge"})
    assert [problem.code for problem in caught.value.problems] == ["option-unknown"] * 2
    assert "head" in caught.value.problems[0].remedy
    assert "blend" in caught.value.problems[1].remedy


@pytest.mark.parametrize(
    "options",
    [
        {"probe.head": "rigde"},
        {"probe.copies": 1.5},
        {"probe.balanced": "no"},
        {"finetune.epochs": "five"},
        {"finetune.epochs": True},
        {"finetune.frozen": "stem"},
        {"finetune.frozen": [1]},
        {"blend.prior": None},
    ],
)
def test_options_of_another_type_are_refused(options):
    with pytest.raises(OptionError) as caught:
        check_options(options)
    assert [problem.code for problem in caught.value.problems] == ["option-value"]
    assert next(iter(options)) in caught.value.problems[0].found


def test_options_take_whole_numbers_for_real_ones_and_lists_for_tuples():
    check_options({"finetune.frozen": ["stem"], "finetune.learning_rate": 1, "blend.prior": 2})
    check_options({"finetune.epochs": np.int64(3), "finetune.dropout": np.float32(0.5)})


def test_strategy_from_options():
    assert build_strategy("blend", {"blend.copies": 0, "probe.copies": 4}).copies == 0


def test_probe_on_one_class_is_refused(windows):
    one = windows.take(np.flatnonzero(windows.y == windows.classes[0]))
    with pytest.raises(DataError, match="one-class"):
        Probe().adapt(load_backbone("statistics"), one, Classification(), seed=0)
