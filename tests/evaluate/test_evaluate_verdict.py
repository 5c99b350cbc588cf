"""The verdict: right when there is a difference, silent when there is none."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

from edgegraft.adapt.strategy import build_strategy
from edgegraft.data.dataset import open_data
from edgegraft.data.split import folds
from edgegraft.evaluate.compare import OutOfFold, Row, columns_of, cross_validate
from edgegraft.evaluate.sections import sections
from edgegraft.evaluate.verdict import compare, judge
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.signal import Windows

TASK = Classification()


@dataclass(frozen=True)
class Named:
    """A backbone of which the verdict needs the card only."""

    card: BackboneCard


def row(name, strategy="probe", role="control", kind="fixed"):
    card = BackboneCard(name, name, "", kind, "none")
    return Row(Named(card), strategy, build_strategy("probe"), role)


def labelled(n_groups, per_group, rng):
    n = n_groups * per_group
    y = rng.choice(["a", "b", "c"], n)
    y[:3] = ["a", "b", "c"]
    return Windows.of(np.zeros((n, 1, 4)), y=y, groups=np.repeat(np.arange(n_groups), per_group))


def table_of(windows, accuracy, rng):
    """Probabilities right with this rate; persons differ in how easy they are."""
    codes = windows.codes(("a", "b", "c"))
    ease = {group: rng.normal(0, 0.1) for group in sorted(set(windows.groups.tolist()))}
    chance = np.clip(accuracy + np.array([ease[group] for group in windows.groups]), 0, 1)
    wrong = (codes + rng.integers(1, 3, len(codes))) % 3
    guess = np.where(rng.random(len(codes)) < chance, codes, wrong)
    return 0.1 + 0.7 * np.eye(3)[guess]


def verdict_on(windows, good, bad, rng, **more):
    preferred = row("encoder", "blend", "candidate", "pretrained")
    tables = [
        OutOfFold(preferred, table_of(windows, good, rng), 1.0),
        OutOfFold(row("minirocket"), table_of(windows, bad, rng), 1.0),
    ]
    return judge(tables, windows, TASK, preferred=preferred, n_folds=5, **more)


@pytest.mark.parametrize(("good", "bad", "outcome"), [(0.95, 0.6, "helped"), (0.6, 0.95, "hurt")])
def test_verdict_sees_a_large_difference(good, bad, outcome):
    rng = np.random.default_rng(0)
    verdict = verdict_on(labelled(15, 20, rng), good, bad, rng)
    assert verdict.outcome == outcome
    assert verdict.shipped.role == ("candidate" if outcome == "helped" else "control")


def test_verdict_rarely_sees_what_is_not_there():
    rng = np.random.default_rng(1)
    seen = [verdict_on(labelled(12, 15, rng), 0.8, 0.8, rng, seed=n).outcome for n in range(120)]
    assert seen.count("undecided") >= 114  # at most one in twenty claims a difference


def test_verdict_without_pretrained_weights_claims_no_transfer():
    rng = np.random.default_rng(2)
    windows = labelled(12, 15, rng)
    asked = row("statistics", "trees", "candidate")
    tables = [
        OutOfFold(asked, table_of(windows, 0.95, rng), 1.0),
        OutOfFold(row("minirocket"), table_of(windows, 0.5, rng), 1.0),
    ]
    verdict = judge(tables, windows, TASK, preferred=asked, n_folds=5)
    assert verdict.outcome == "undecided"
    assert "no transfer" in verdict.because
    assert "statistics/trees against the best control, minirocket/probe: +" in verdict.because
    assert verdict.shipped is asked


def test_evidence_reads_on_from_the_outcome_and_the_report_does_not_repeat_it():
    rng = np.random.default_rng(3)
    windows = labelled(12, 15, rng)
    asked = row("encoder", "probe", "candidate", "pretrained")
    tables = [
        OutOfFold(asked, table_of(windows, 0.95, rng), 1.0),
        OutOfFold(row("minirocket"), table_of(windows, 0.5, rng), 1.0),
    ]
    verdict = judge(tables, windows, TASK, preferred=asked, n_folds=5)
    said = r"encoder/probe against the best control, minirocket/probe: \+\d+\.\d points of macro F1"
    assert re.match(said + r" \(95 % interval \+", verdict.because)
    assert sections({"verdict": verdict.as_dict()})["because"] == ""
    assert verdict.shipped_because == "the first choice, and none did better"


def test_verdict_without_tables_ships_the_default_and_says_why():
    preferred = row("encoder", "blend", "candidate", "pretrained")
    verdict = judge([], labelled(3, 3, np.random.default_rng(0)), TASK, preferred=preferred,
                    n_folds=0)  # fmt: skip
    assert verdict.outcome == "undecided"
    assert verdict.difference is None
    assert "too few" in verdict.because


def test_difference_of_a_table_with_itself_is_nothing():
    rng = np.random.default_rng(3)
    windows = labelled(8, 10, rng)
    table = table_of(windows, 0.8, rng)
    found = compare(table, table, windows, TASK, n_folds=4)
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)
    assert (found.unit, found.n_units) == ("group", 8)


def test_difference_is_positive_for_the_lower_loss():
    rng = np.random.default_rng(4)
    windows = labelled(8, 10, rng)
    task = Classification(primary="log_loss")
    good, bad = table_of(windows, 0.95, rng), table_of(windows, 0.5, rng)
    assert compare(good, bad, windows, task, n_folds=4).mean > 0


@pytest.mark.parametrize("primary", ["macro_f1", "log_loss"])
def test_difference_over_one_unit_has_no_interval(primary):
    windows = Windows.of(np.zeros((6, 1, 4)), y=list("abcabc"), groups=["only one"] * 6)
    windows = replace(windows, recording=np.zeros(6, dtype=int), start=np.arange(6) * 4)
    rng = np.random.default_rng(5)
    good, bad = table_of(windows, 1, rng), table_of(windows, 0, rng)
    task = Classification(primary=primary)
    found = compare(good, bad, windows, task, n_folds=2)
    assert found.mean > 0
    assert (found.unit, found.n_units) == ("window", 6)  # one recording is no unit to draw from

    good[1:] = np.nan  # only one window was tested by both
    found = compare(good, bad, windows, task, n_folds=2)
    assert found.n_units == 1
    widest = 1.0 if primary == "macro_f1" else np.inf
    assert (found.low, found.high) == (-widest, widest)


def test_folds_are_scored_alike_by_one_worker_and_by_three():
    windows = open_data("synthetic:n=60,seed=3").windows()
    rows = [
        Row(load_backbone("statistics"), "probe", build_strategy("probe"), "control"),
        Row(load_backbone("spectrum"), "trees", build_strategy("trees"), "control"),
    ]
    parts = folds(windows, 3, seed=0)
    seen = []
    options = {"seed": 0, "watch": lambda event, values: seen.append(event)}
    alone = cross_validate(rows, windows, parts, TASK, **options)
    shared = cross_validate(rows, windows, parts, TASK, workers=3, **options)
    for one, other in zip(alone, shared, strict=True):
        assert np.isfinite(one.probabilities).all()
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
    assert seen.count("fold") == 12


@dataclass(frozen=True)
class EndsEarly:
    """A strategy that is stopped while it trains, and makes do with the best so far."""

    def adapt(self, backbone, train, task, *, seed, watch):
        try:
            while True:
                watch("epoch", {})
        except KeyboardInterrupt:
            return build_strategy("probe").adapt(backbone, train, task, seed=seed)


def test_what_was_cut_short_by_an_interrupt_is_not_kept():
    windows = open_data("synthetic:n=60,seed=3").windows()
    statistics = load_backbone("statistics")
    rows = [
        Row(statistics, "slow", EndsEarly(), "control"),
        Row(statistics, "probe", build_strategy("probe"), "control"),
    ]
    kept = []

    def keep(name, make):
        array = make()
        kept.append(name)
        return array

    def watch(event, values):
        if event == "fold":
            raise KeyboardInterrupt  # what Ctrl-C does in the main thread

    with pytest.raises(KeyboardInterrupt):
        cross_validate(rows, windows, folds(windows, 3, seed=0), TASK, seed=0, watch=watch,
                       keep=keep, workers=4)  # fmt: skip
    assert kept
    assert not [name for name in kept if "slow" in name]


def test_what_draws_on_pool_or_sources_is_transfer_and_no_control():
    rng = np.random.default_rng(4)
    windows = labelled(12, 15, rng)
    guard = replace(row("minirocket", "guard", "candidate"), draws=("the pool", "the sources"))
    expert = replace(row("minirocket", "spread", "candidate"), draws=("the pool",))
    naive = replace(row("minirocket", "pooled"), draws=("the sources",), source="load 0")
    tables = [
        OutOfFold(guard, table_of(windows, 0.9, rng), 1.0),
        OutOfFold(expert, table_of(windows, 0.97, rng), 1.0),
        OutOfFold(naive, table_of(windows, 0.95, rng), 1.0),
        OutOfFold(row("statistics", "trees"), table_of(windows, 0.5, rng), 1.0),
    ]
    verdict = judge(tables, windows, TASK, preferred=guard, n_folds=5)
    assert (verdict.outcome, verdict.candidate, verdict.reference.name) == (
        "helped", guard, "statistics/trees",
    )  # fmt: skip
    assert naive.name == "minirocket/pooled@load 0"
    assert "beside the labels it has the pool and the sources" in verdict.because
    found = sections({"verdict": verdict.as_dict()})
    assert "without the pool and the sources" in found["finding"].evidence
    assert found["because"] == ""


def test_a_candidate_without_transfer_is_held_against_one_that_transfers():
    rng = np.random.default_rng(5)
    windows = labelled(15, 20, rng)
    own = row("raw", "forecast-blend", "candidate")
    pretrained = row("mixer", "forecast-mixer", "candidate", "pretrained")
    tables = [
        OutOfFold(own, table_of(windows, 0.95, rng), 1.0),
        OutOfFold(pretrained, table_of(windows, 0.8, rng), 1.0),
        OutOfFold(row("raw", "seasonal-naive"), table_of(windows, 0.4, rng), 1.0),
    ]
    verdict = judge(tables, windows, TASK, preferred=own, n_folds=5)
    assert (verdict.outcome, verdict.candidate, verdict.reference) == ("hurt", pretrained, own)
    assert verdict.shipped is own


def test_classes_that_only_a_source_knows_are_columns_behind_those_of_the_target():
    windows = open_data("synthetic:n=60,seed=3").windows()
    other = replace(windows, domains=np.full(len(windows), "other"),
                    groups=np.full(len(windows), "nobody"),
                    y=np.where(windows.y == "idle", "rest", windows.y))  # fmt: skip
    seen = {}

    @dataclass(frozen=True)
    class Asks:
        """A strategy that notes what it was given, and says the source's class of everything."""

        def adapt(self, backbone, train, task, *, seed, watch):
            seen["domains"], seen["groups"] = set(train.domains), set(train.groups)
            as_target = replace(train, domains=np.full(len(train), ""))
            return build_strategy("probe").adapt(backbone, as_target, task, seed=seed)

    rows = [Row(load_backbone("statistics"), "asks", Asks(), "candidate")]
    parts = folds(windows, 2, seed=0)
    (table,) = cross_validate(
        rows, windows, parts, TASK, beside=other, seed=0, watch=lambda event, values: None
    )
    assert seen["domains"] == {"", "other"}
    assert "nobody" in seen["groups"]
    assert table.probabilities.shape == (60, 4)
    np.testing.assert_allclose(table.probabilities.sum(axis=1), 1, atol=1e-5)
    assert columns_of(windows, other, TASK) == (*windows.classes, "rest")
    idle = windows.y == "idle"
    assert table.probabilities[idle][:, 3].mean() > 0.2  # told apart from its namesake by nothing
