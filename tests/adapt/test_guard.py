"""The guard: what it refuses, what it takes, and what its promises are worth."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.guard import Guard, Way, guarded, ways_of
from edgegraft.adapt.paired import holm, independent, sign_flip, surprise, units_of, wager
from edgegraft.adapt.probe import Probe
from edgegraft.adapt.ruling import by_labels, left_out, sentence, tables_of
from edgegraft.adapt.scored import Scored, score
from edgegraft.data.domains import beside, joined
from edgegraft.tasks.classification import Classification
from edgegraft.testing.samples import sample_windows
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Windows

TASK = Classification()
STATISTICS = load_backbone("statistics")


@dataclass(frozen=True)
class Said:
    """A strategy whose left-out probabilities are made up; its model is that of a probe.

    Attributes:
        likely: probability of what is true, for every window.
    """

    likely: float

    def adapt(self, backbone, train, task, *, seed, watch=None) -> Adapted:
        return self.scored(backbone, train, task, seed=seed).adapted

    def scored(self, backbone, train, task, *, seed, watch=None) -> Scored:
        found = Probe().scored(backbone, train, task, seed=seed)
        target = train.take(np.flatnonzero(train.labelled & train.at_target))
        classes = found.adapted.classes
        rest = (1 - self.likely) / (len(classes) - 1)
        table = np.full((len(target), len(classes)), rest)
        table[np.arange(len(target)), target.codes(classes)] = self.likely
        return Scored(found.adapted, table)


@dataclass(frozen=True)
class Refusing:
    def adapt(self, backbone, train, task, *, seed, watch=None) -> Adapted:
        raise DataError.of("odd", "an odd thing", "it cannot be", "another")


def guard_of(windows: Windows, experts: dict[str, object], reference: float = 0.6):
    ways = [Way(name, strategy) for name, strategy in experts.items()]
    found = guarded(Way("labels", Said(reference)), ways, STATISTICS, windows, TASK, seed=0)
    lines = {line["name"]: line for line in found.adapted.lineage["guard"]["experts"]}
    return found, lines, found.adapted.lineage["guard"]


@pytest.fixture(scope="module")
def windows() -> Windows:
    found = sample_windows(n_per_class=12)
    return replace(found, groups=np.array([f"p{index % 10}" for index in range(len(found))]))


def test_harmful_experts_get_nothing(windows):
    _, lines, guard = guard_of(windows, {"wrong": Said(0.05), "sure and wrong": Said(0.0)})
    assert guard["rule"] == "mixture"
    assert lines["labels"]["weight"] == 1
    assert lines["wrong"]["weight"] == lines["sure and wrong"]["weight"] == 0
    assert "labels is served alone" in guard["sentence"]


def test_a_clearly_better_expert_takes_the_place_of_the_reference(windows):
    found, lines, guard = guard_of(windows, {"better": Said(0.95), "wrong": Said(0.05)}, 0.45)
    assert guard["rule"] == "test"
    assert lines["better"]["p_value"] <= 0.05
    assert (lines["labels"]["weight"], lines["better"]["weight"]) == (0, 1)
    assert found.left_out.argmax(axis=1).tolist() == windows.codes(windows.classes).tolist()


def test_an_equal_expert_does_not_displace_the_reference(windows):
    _, lines, guard = guard_of(windows, {"equal": Said(0.6)})
    assert guard["rule"] == "mixture"
    assert lines["labels"]["weight"] >= 0.5


def test_few_units_never_drop_the_reference(windows):
    few = replace(windows, groups=np.array([f"p{index % 4}" for index in range(len(windows))]))
    _, lines, guard = guard_of(few, {"better": Said(0.95)}, 0.45)
    assert guard["rule"] == "mixture"
    assert 0 < lines["better"]["weight"] <= 0.5 <= lines["labels"]["weight"]


def test_an_expert_that_fails_is_told_of(windows):
    _, lines, _ = guard_of(windows, {"odd": Refusing()})
    assert lines["odd"]["weight"] == 0
    assert lines["odd"]["because"] == "could not be fitted: an odd thing: it cannot be"


def test_the_lineage_is_plain_json(windows):
    _, _, guard = guard_of(windows, {"better": Said(0.9), "odd": Refusing()})
    assert json.loads(json.dumps(guard)) == guard
    assert set(guard) == {"reference", "experts", "rule", "bound", "sentence"}
    for line in guard["experts"]:
        assert list(line) == ["name", "log_loss", "accuracy", "p_value", "weight", "because"]
    assert guard["experts"][0]["name"] == guard["reference"]
    assert sum(line["weight"] for line in guard["experts"]) == pytest.approx(1, abs=1e-3)
    bound = guard["bound"]
    assert bound["mixture"] <= bound["reference"] + bound["ln2"]


@pytest.mark.parametrize("seed", range(30))
def test_the_mixture_loses_at_most_ln_2_to_the_reference(seed):
    random = np.random.default_rng(seed)
    n_windows, n_experts = random.integers(1, 60), random.integers(1, 6)
    likely = random.choice([0.0, 1e-9, 0.3, 1.0], (n_windows, n_experts))
    if seed % 3 == 0:  # right while it earns trust, then wrong
        likely[:, 1:] = (np.arange(n_windows) < n_windows // 2)[:, None]
        likely[:, 0] = 0.5
    if seed % 3 == 1:
        likely[:, 0] = random.uniform(0.2, 1.0, n_windows)
    found = wager(likely, float(random.uniform(0.0, 1.0)) if seed % 2 else 1.0)
    assert found.mixture <= surprise(likely[:, 0]).sum() + np.log(2) + 1e-9 * (1 + found.reference)
    assert found.holds
    assert found.weights.sum() == pytest.approx(1)


def test_the_bound_is_reached_by_an_expert_that_is_always_wrong():
    found = wager(np.tile([0.5, 0.0], (40, 1)))
    assert found.mixture - found.reference == pytest.approx(np.log(2), abs=1e-6)


def test_tempered_evidence_moves_less():
    likely = np.tile([0.5, 0.7], (10, 1))
    firm, shy = wager(likely, 1.0), wager(likely, 0.2)
    assert firm.weights[1] > shy.weights[1]
    assert shy.holds


def test_windows_of_one_unit_count_as_few():
    units = np.repeat(np.arange(4), 10)
    same = np.repeat(np.random.default_rng(0).normal(size=4), 10)[:, None]
    other = np.random.default_rng(1).normal(size=(40, 1))
    assert 4 <= independent(same, units) < independent(other, units) <= 40
    assert independent(other, np.arange(40)) == 40


def test_the_error_rate_of_the_test_with_dependent_windows():
    """Two views of equal worth, people who differ, windows of one person alike: no real gain."""
    rejected, n_runs = 0, 120
    for run in range(n_runs):
        random = np.random.default_rng([run, 5])
        units = np.repeat(np.arange(8), 6)
        codes = random.permutation(np.arange(48) % 3)
        likely = []
        for _ in range(2):
            own = random.normal(size=(8, 3, 6))
            z = 2.0 * np.eye(3, 6)[codes] + own[units, codes] + 1.5 * random.normal(size=(48, 6))
            table = np.zeros((48, 3))
            for unit in range(8):  # nearest class centre, the unit left out
                kept = units != unit
                centres = np.stack([z[kept & (codes == c)].mean(axis=0) for c in range(3)])
                away = np.square(z[~kept][:, None] - centres).sum(axis=2)
                scores = np.exp(-(away - away.min(axis=1, keepdims=True)) / 4)
                table[~kept] = scores / scores.sum(axis=1, keepdims=True)
            likely.append(table[np.arange(48), codes])
        losses = surprise(np.array(likely).T, 1e-3)
        rejected += sign_flip(losses[:, 0] - losses[:, 1], units) <= 0.05
    assert rejected / n_runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / n_runs)


def test_the_test_sees_a_real_gain():
    random = np.random.default_rng(0)
    assert sign_flip(0.3 + 0.2 * random.normal(size=40), np.arange(40) % 10) < 0.02
    assert sign_flip(-0.3 + 0.2 * random.normal(size=40), np.arange(40) % 10) > 0.5
    assert sign_flip(np.zeros(40), np.arange(40)) == 1


def test_holm_leaves_one_alone_and_never_exceeds_one():
    assert holm([0.2]) == [0.2]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_recordings_are_units_where_groups_are_unknown(windows):
    assert len(np.unique(units_of(windows))) == 10
    alone = replace(windows, groups=np.full(len(windows), ""))
    assert len(np.unique(units_of(alone))) == len(alone)


def test_left_out_probabilities_do_not_decide_their_own_weight():
    """One unit speaks loudest for the expert: its own windows are served less of it."""
    y = np.array(["a", "b"] * 12)
    codes = np.arange(24) % 2
    good = np.where(np.eye(2)[codes] > 0, 0.6, 0.4)
    odd = np.where(np.eye(2)[codes] > 0, 0.66, 0.34)
    odd[20:] = odd[20:, ::-1]
    odd[[6, 7]] = odd[[6, 7]] > 0.5
    odd[[8, 9, 10, 11, 14, 15]] = np.eye(2)[codes[[8, 9, 10, 11, 14, 15]]] * 0.9 + 0.05
    tables = tables_of([(good, ("a", "b")), (odd, ("a", "b"))], y, np.arange(24) // 2)
    everything = by_labels(tables.likely, tables.right, tables.units, alpha=0.05, seed=0)
    kept = np.setdiff1d(np.arange(24), [6, 7])
    rest = by_labels(
        tables.likely[kept], tables.right[kept], tables.units[kept], alpha=0.05, seed=0
    )
    assert rest.weights[1] < everything.weights[1]
    table = left_out(tables, alpha=0.05, seed=0)
    expected = np.tensordot(rest.weights, tables.probabilities[:, [6, 7]], axes=1)
    np.testing.assert_allclose(table[[6, 7]], expected)


def test_sentences_name_what_is_served():
    assert "spread 100 %" in sentence("test", {"spread": 1.0}, "blend")
    assert "structure" in sentence("structure", {"blend": 0.5, "spread": 0.5}, "blend")
    assert "nothing is tested" in sentence("source-only", {"blend": 1.0}, "blend")


# -- one and two labels, and none -----------------------------------------------------------------


def clustered(n: int, seed: int, shift: float = 0.0, n_classes: int = 3) -> Windows:
    """Windows in as many tight parts as there are classes."""
    found = sample_windows(n_per_class=n, n_classes=n_classes, seed=seed, noise=0.6)
    return replace(found, x=found.x + np.float32(shift))


def one_label(windows: Windows) -> Windows:
    first = [int(np.flatnonzero(windows.y == name)[0]) for name in windows.classes]
    return windows.take(np.array(first))


@pytest.fixture(scope="module")
def few() -> Windows:
    return one_label(clustered(10, 1))


def with_pool(target: Windows, pool: Windows) -> Windows:
    return joined(target, beside(target, pool))


def lines_of(windows: Windows, **options):
    model = Guard(reference="probe", **options).adapt(STATISTICS, windows, TASK, seed=0)
    guard = model.lineage["guard"]
    return model, {line["name"]: line for line in guard["experts"]}, guard


def test_with_one_label_a_pool_with_parts_is_believed_to_a_half(few):
    model, lines, guard = lines_of(with_pool(few, clustered(40, 2)), experts=("spread",))
    assert guard["rule"] == "structure"
    assert guard["bound"] is None
    assert lines["spread"]["weight"] == lines["probe"]["weight"] == 0.5
    assert "structure" in guard["sentence"]
    tested = clustered(20, 3)
    said = model.predict(tested)
    assert (said.probabilities.argmax(axis=1) == tested.codes(said.classes)).mean() > 0.9


def test_with_one_label_a_foreign_pool_is_not_used(few):
    foreign = replace(clustered(40, 2), x=np.cumsum(clustered(40, 2).x[:, ::-1], axis=-1))
    _, lines, guard = lines_of(with_pool(few, foreign), experts=("spread",))
    assert lines["spread"]["weight"] == 0
    assert lines["probe"]["weight"] == 1
    assert "do not lie in the pool" in lines["spread"]["because"]
    assert "probe is served alone" in guard["sentence"]


def test_with_one_label_a_pool_without_gaps_is_not_used(few):
    random = np.random.default_rng(0)
    blob = replace(clustered(40, 2), x=random.normal(size=(120, 3, 64)).astype(np.float32))
    _, lines, _ = lines_of(with_pool(few, blob), experts=("spread",))
    assert lines["spread"]["weight"] == 0
    assert lines["spread"]["because"]


def test_with_two_labels_a_pool_that_lacks_classes_is_not_used():
    every = clustered(40, 1)
    target = every.take(np.concatenate([np.flatnonzero(every.y == n)[:2] for n in every.classes]))
    pool = clustered(160, 2)
    pool = pool.take(np.flatnonzero(pool.y != pool.classes[0]))
    _, lines, _ = lines_of(with_pool(target, pool), experts=("spread",))
    assert lines["spread"]["weight"] == 0
    assert lines["spread"]["because"]


@pytest.mark.parametrize("broken", [False, True])
def test_with_one_label_a_source_is_tested_on_labels_it_did_not_see(broken):
    source = clustered(12, 4, n_classes=5)
    if broken:
        source = replace(source, y=np.random.default_rng(0).permutation(source.y))
    few = one_label(clustered(10, 1, n_classes=5))
    train = joined(few, beside(few, None, {"machine": source}))
    _, lines, guard = lines_of(train, experts=("weighted",))
    assert guard["rule"] == "structure"
    # it is expected to know 6 of 7, having known 5 of 5; one order in 120 fits as well: its own
    expected = 0 if broken else 6 / 7 * (1 - 2 / 120)
    assert lines["weighted"]["weight"] == pytest.approx(expected, abs=1e-3)
    if broken:
        assert "no better than by chance" in lines["weighted"]["because"]


def test_without_labels_sources_are_served_and_the_model_says_so():
    pool = clustered(30, 2)
    pool = replace(pool, y=np.full(len(pool), ""))
    train = joined(pool, beside(pool, None, {"machine": clustered(12, 4)}))
    model, _, guard = lines_of(train, experts=("standardise",))
    assert guard["rule"] == "source-only"
    assert guard["bound"] is None
    assert "No labels of the target" in guard["sentence"]
    tested = clustered(20, 3)
    said = model.predict(tested)
    assert (said.probabilities.argmax(axis=1) == tested.codes(said.classes)).mean() > 0.9


# -- the strategy -----------------------------------------------------------------------------


def test_without_pool_and_sources_the_reference_is_served_alone(windows):
    model = Guard(reference="probe").adapt(STATISTICS, windows, TASK, seed=0)
    guard = model.lineage["guard"]
    assert [line["name"] for line in guard["experts"]] == ["probe"]
    assert guard["sentence"] == "Neither pool nor source was given: probe is served alone."
    plain = Probe().adapt(STATISTICS, windows, TASK, seed=0).predict(windows).probabilities
    same = model.predict(windows).probabilities.argmax(axis=1) == plain.argmax(axis=1)
    assert same.all()


def test_the_program_says_what_the_model_says(windows):
    few = windows.take(np.arange(18))
    model = Guard(reference="probe").adapt(
        STATISTICS, with_pool(few, windows.take(np.arange(18, 36))), TASK, seed=0
    )
    said = model.predict(windows).probabilities
    np.testing.assert_allclose(model.program.run(windows.x), said, atol=1e-5)
    np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-5)


def test_several_sources_are_tried_one_by_one(few):
    more = {"m1": clustered(8, 4), "m2": clustered(8, 5)}
    train = joined(few, beside(few, None, more))
    names = [way.name for way in ways_of(train)]
    assert {"weighted", "weighted from m1", "weighted from m2"} <= set(names)
    assert "pooled" not in names
    assert "tent" not in names
    assert len(ways_of(train, each_source=False)) == 3


def test_scores_are_kept_in_memory(windows, monkeypatch):
    calls = []
    original = Probe.scored

    def counted(self, *arguments, **named):
        calls.append(1)
        return original(self, *arguments, **named)

    monkeypatch.setattr(Probe, "scored", counted)
    strategy = Probe(balanced=True)
    first = score(strategy, STATISTICS, windows, TASK, seed=991)
    assert score(strategy, STATISTICS, windows, TASK, seed=991) is first
    assert len(calls) == 1
    changed = replace(windows, x=windows.x + np.float32(1))
    assert score(strategy, STATISTICS, changed, TASK, seed=991) is not first


def test_one_label_for_each_of_three_classes_gives_chance_its_third(few):
    train = joined(few, beside(few, None, {"machine": clustered(12, 4)}))
    _, lines, _ = lines_of(train, experts=("weighted",))
    assert lines["weighted"]["weight"] == pytest.approx(4 / 5 * (1 - 2 / 6), abs=1e-3)
    two = few.take(np.flatnonzero(few.y != few.classes[0]))
    source = clustered(12, 4).take(np.flatnonzero(clustered(12, 4).y != few.classes[0]))
    _, lines, _ = lines_of(joined(two, beside(two, None, {"m": source})), experts=("weighted",))
    assert lines["weighted"]["weight"] == 0
