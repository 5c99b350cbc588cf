"""Windows to label next: coverage, doubt, the switch, and what labels are worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import nnls

import edgegraft as eg
from edgegraft.adapt.active import (
    Projection,
    covering,
    disagreement,
    facility,
    fused,
    k_centre,
    margin,
    radius,
    tells_errors,
    typical,
)
from edgegraft.adapt.choice import ENOUGH, choose, doubt_of, views_of
from edgegraft.adapt.committee import convene, curve
from edgegraft.data.split import few_shot
from edgegraft.evaluate.worth import EXPONENTS, power_law, worth
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.signal import Windows

NONE = np.zeros(0, dtype=np.int64)


def clumps(n_clumps=6, size=30, spread=0.3, seed=0):
    """Points around corners far apart, and the corner of each."""
    rng = np.random.default_rng(seed)
    corners = 10 * np.eye(n_clumps)
    member = np.repeat(np.arange(n_clumps), size)
    return (corners[member] + spread * rng.normal(size=(len(member), n_clumps))).astype(
        np.float32
    ), member


@pytest.mark.parametrize(
    "way",
    [
        lambda z, taken, count: facility(z, taken, count)[0],
        k_centre,
        typical,
        lambda z, taken, count: covering(z, taken, count, reach=2.0),
    ],
    ids=["facility", "k_centre", "typical", "covering"],
)
def test_coverage_finds_every_clump_once_and_passes_over_those_that_are_labelled(way):
    z, member = clumps()
    chosen = way(z, NONE, 6)
    assert sorted(member[chosen]) == list(range(6))
    taken = np.array([0, 35])  # of the first two clumps
    rest = way(z, taken, 4)
    assert sorted(member[rest]) == [2, 3, 4, 5]
    assert not set(rest) & set(taken)


def test_facility_adds_less_and_less_and_is_greedy_in_what_counts():
    z, member = clumps()
    chosen, gains = facility(z, NONE, 12)
    assert len(set(chosen.tolist())) == 12
    assert (np.diff(gains) <= 1e-6).all()
    worth_of = np.where(member == 4, 1.0, 0.01)
    assert (member[facility(z, NONE, 2, worth=worth_of)[0]] == 4).all()
    allowed = member == 2
    assert (member[facility(z, NONE, 3, allowed=allowed)[0]] == 2).all()
    assert len(facility(z, NONE, 1000)[0]) == len(z)


def test_facility_is_not_far_from_the_best_pair_there_is():
    z = np.random.default_rng(0).normal(size=(14, 2)).astype(np.float32)
    reach = radius(z, nearest=3)
    like = np.exp(-np.square(z[:, None] - z).sum(axis=2) / reach**2)

    def covered(pair):
        return like[list(pair)].max(axis=0).mean()

    best = max(covered((i, j)) for i in range(14) for j in range(i))
    chosen, gains = facility(z, NONE, 2, reach=reach)
    assert gains.sum() == pytest.approx(covered(chosen), rel=1e-5)
    assert covered(chosen) >= (1 - 1 / np.e) * best


def test_windows_that_share_samples_come_last():
    z = np.linspace(0, 1, 12, dtype=np.float32)[:, None] ** 2
    shares = np.stack([np.zeros(12), np.arange(12) / 2], axis=1)  # each half over the next
    chosen = facility(z, NONE, 6, shares=shares)[0]
    assert np.abs(np.subtract.outer(chosen, chosen))[~np.eye(6, dtype=bool)].min() >= 2
    assert len(facility(z, NONE, 12, shares=shares)[0]) == 12  # but they do come
    beside = facility(z, np.array([5]), 1, shares=shares)[0]
    assert beside[0] not in (4, 6)


def test_projection_keeps_distances_of_what_has_few_directions():
    rng = np.random.default_rng(0)
    low = rng.normal(size=(60, 3))
    wide = low @ rng.normal(size=(3, 200))
    project = Projection.of(wide, 5)
    assert project.directions.shape == (200, 3)
    z = fused([project(wide), project(wide)])
    standard = (wide - wide.mean(axis=0)) / wide.std(axis=0)
    standard /= np.sqrt(np.square(standard).sum(axis=1).mean())
    ours, theirs = (np.linalg.norm(a[:30] - a[30:], axis=1) for a in (z, standard))
    assert ours == pytest.approx(theirs, rel=1e-3)
    assert not Projection.of(np.ones((5, 4)))(np.ones((2, 4))).any()


def test_doubt_is_highest_where_classes_or_members_are_torn():
    tables = np.array([[[0.9, 0.1], [0.5, 0.5], [1.0, 0.0]], [[0.8, 0.2], [0.5, 0.5], [0.0, 1.0]]])
    assert margin(tables.mean(axis=0)).argsort().tolist()[0] == 0
    assert margin(tables.mean(axis=0))[1:] == pytest.approx([1.0, 1.0])
    assert disagreement(tables).argmax() == 2
    assert disagreement(tables)[1] == pytest.approx(0)
    assert margin(np.ones((3, 1))).tolist() == [0, 0, 0]


def test_whether_doubt_tells_errors_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    doubt, wrong = rng.normal(size=40), rng.random(40) < 0.3
    pairs = [doubt[i] > doubt[j] for i in np.flatnonzero(wrong) for j in np.flatnonzero(~wrong)]
    assert tells_errors(doubt, wrong) == pytest.approx(np.mean(pairs))
    assert tells_errors(doubt, np.arange(40) < 2) is None


def test_a_committee_guesses_and_leaves_out_whole_groups():
    z, member = clumps(3, 20)
    some = np.concatenate([np.flatnonzero(member == c)[:4] for c in range(3)])
    said = convene([z, z[:, :2]], z, some, member[some], 3)
    assert said.tables.shape == (3, 60, 3)
    assert said.tables.sum(axis=2) == pytest.approx(np.ones((3, 60)), abs=1e-5)
    assert (said.mean.argmax(axis=1) == member).all()
    assert np.isfinite(said.left_out).all()
    alone = convene([z], z, some[:9], member[some[:9]], 3)  # one label of the last class
    assert np.isnan(alone.left_out[-1]).all()
    assert np.isfinite(alone.left_out[:-1]).all()


# -- the switch, on windows


@pytest.fixture(scope="module")
def pool():
    """Windows that a person labels, with their views."""
    windows = eg.open_data("synthetic:n=150,seed=3").windows()
    views, notes = views_of(windows, [load_backbone(n) for n in ("statistics", "spectrum")])
    assert not notes
    return windows, list(views.values()), fused(list(views.values()))


def with_labels(windows, index):
    y = np.full(len(windows), "", dtype=windows.y.dtype)
    y[index] = windows.y[index]
    return replace(windows, y=y)


def test_coverage_comes_first_and_doubt_with_enough_labels(pool):
    windows, views, z = pool
    assert doubt_of(with_labels(windows, NONE), views, z).by == "coverage"
    few = with_labels(windows, few_shot(windows, ENOUGH - 1, seed=0))
    early = doubt_of(few, views, z)
    assert early.by == "coverage"
    assert early.worth is None
    assert early.committee is not None  # it guesses all the same
    later = doubt_of(with_labels(windows, few_shot(windows, ENOUGH, seed=0)), views, z)
    assert later.by == "doubt"
    assert later.worth.shape == (len(windows),)


def test_labels_that_say_nothing_keep_coverage(pool):
    windows, views, z = pool
    rng = np.random.default_rng(0)
    said = []
    for seed in range(6):
        index = few_shot(windows, 12, seed=seed)
        mixed = with_labels(windows, index)
        mixed.y[index] = rng.permutation(mixed.y[index])
        said.append(doubt_of(mixed, views, z))
    assert {each.by for each in said} <= {"coverage", "doubt"}
    held = [each.because for each in said if each.by == "coverage"]
    assert held
    assert all("does not tell right from wrong" in because for because in held)


def test_choosing_meets_every_class_with_two_labels_each(pool):
    windows, views, z = pool
    chosen, gains, _ = choose(with_labels(windows, NONE), views, z, 6)
    assert set(windows.y[chosen]) == set(windows.classes)
    assert gains.shape == (6,)


# -- the way that people take


def test_label_next_proposes_windows_without_label_and_repeats_itself(pool):
    windows, _, _ = pool
    some = with_labels(windows, few_shot(windows, 1, seed=0))
    found = eg.label_next(some, 5, backbone="statistics")
    assert [each.rank for each in found.proposals] == [1, 2, 3, 4, 5]
    places = [each.window for each in found.proposals]
    assert len(set(places)) == 5
    assert not some.labelled[places].any()
    assert (found.n_labels, found.n_open) == (3, 147)
    assert all(each.guess in windows.classes and 0 < each.confidence <= 1
               for each in found.proposals)  # fmt: skip
    assert found.worth.gain is None
    again = eg.label_next(some, 5, backbone="statistics")
    assert again.proposals == found.proposals


def test_a_pool_that_lies_apart_counts_on_after_the_data():
    data = eg.open_data("synthetic:n=12,seed=1").windows()
    found = eg.label_next(data, 4, unlabelled="synthetic:n=40,seed=2", backbone="statistics")
    assert all(12 <= each.window < 52 for each in found.proposals)
    assert all(each.recording.startswith("synthetic:n=40") for each in found.proposals)
    assert found.windows.labelled[:12].all()
    assert not found.windows.labelled[12:].any()


@pytest.mark.parametrize(
    ("count", "code"), [(0, "count-range"), (148, "pool-small"), (10**6, "pool-small")]
)
def test_counts_that_cannot_be_are_refused(pool, count, code):
    windows, _, _ = pool
    some = with_labels(windows, few_shot(windows, 1, seed=0))
    with pytest.raises((OptionError, DataError)) as caught:
        eg.label_next(some, count, backbone="statistics")
    assert caught.value.code == code


def test_nothing_left_to_label_and_no_backbone_are_named(pool):
    windows, _, _ = pool
    with pytest.raises(DataError) as caught:
        eg.label_next(windows, 1)
    assert caught.value.code == "nothing-to-label"
    short = Windows.of(np.random.default_rng(0).normal(size=(8, 1, 4)))
    with pytest.raises(DataError) as caught:
        eg.label_next(short, 1, backbone="minirocket")
    assert caught.value.code == "no-backbone"


# -- what labels are worth


def test_a_power_law_is_found_again_and_drawn_on_with_an_interval():
    counts = np.array([6, 12, 24, 48, 96])
    truth = 0.05 + 0.8 * counts**-0.6
    law = power_law(counts, truth)
    assert law(192) == pytest.approx(0.05 + 0.8 * 192**-0.6, abs=0.005)
    inside = 0
    for seed in range(12):
        noise = np.random.default_rng(seed).normal(0, 0.02, (8, 5))
        found = worth(counts, 1 - truth + noise, 96, 96, seed=seed)
        at, low, high = found.expected
        assert low <= at <= high
        inside += low <= 0.95 - 0.8 * 192**-0.6 <= high
    assert inside >= 8


def test_nothing_is_said_where_points_do_not_carry_it():
    counts, flat = [4, 8, 16, 32], 0.6 + np.random.default_rng(0).normal(0, 0.05, (8, 4))
    assert worth(counts, flat, 32, 16).because == "the curve does not rise beyond chance"
    rising = flat + np.array([0, 0.1, 0.15, 0.2])
    assert worth(counts, rising, 32, 16).gain is not None
    assert "not drawn on" in worth(counts, rising, 32, 60).because
    assert worth(counts[:3], rising[:, :3], 16, 4).gain is None
    assert worth([], np.zeros((0, 0)), 3, 20).gain is None


def test_curves_keep_groups_apart_and_need_four_labels_of_each_class():
    z, member = clumps(2, 40, spread=4.0)
    person = np.tile([f"p{i}" for i in range(8)], 10)
    counts, scores = curve(z, member, 2, groups=person)
    assert counts == sorted(set(counts))
    assert counts[-1] <= 60  # two of eight people are always left out
    assert scores.shape == (8, len(counts))
    assert scores[:, -1].mean() > scores[:, 0].mean()
    assert curve(z[:43], member[:43], 2)[0] == []


def test_the_law_is_the_one_of_least_squares_with_nothing_below_zero():
    rng = np.random.default_rng(0)
    n = np.array([6.0, 12, 24, 48])
    for _ in range(20):
        errors = rng.normal(0.3, 0.1, 4) + rng.choice([-1, 1]) * n**-0.5
        best = min(nnls(np.stack([np.ones(4), n**-x], axis=1), errors)[1] for x in EXPONENTS)
        law = power_law(n.tolist(), errors.tolist())
        assert min(law.floor, law.scale) >= 0
        assert np.linalg.norm(errors - [law(m) for m in n]) == pytest.approx(best, abs=1e-9)
