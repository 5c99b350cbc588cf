"""Splits: nothing straddles, nothing is lost, and what cannot be split says why."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from edgegraft.data.split import few_shot, folds, holdout, leave_one_group_out, time_ordered
from edgegraft_edge.errors import SplitError
from edgegraft_edge.signal import Channel, Windows, WindowSpec

MODEST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def long_recordings(labels_of, groups=None, stride=2, length=4):
    """One recording per list of labels, cut into windows that overlap by half."""
    y = np.concatenate([np.array(labels, dtype=str) for labels in labels_of])
    recording = np.repeat(np.arange(len(labels_of)), [len(labels) for labels in labels_of])
    start = np.concatenate([np.arange(len(labels)) * stride for labels in labels_of])
    names = [""] * len(labels_of) if groups is None else groups
    return Windows(
        np.zeros((len(y), 1, length), np.float32),
        y,
        np.array([str(names[number]) for number in recording]),
        WindowSpec(length, stride, 1.0, (Channel("x"),)),
        recording,
        start,
    )


def overlapping(windows, fold):
    """Pairs of one training and one test window that share a sample."""
    same = windows.recording[fold.train][:, None] == windows.recording[fold.test][None]
    apart = np.abs(windows.start[fold.train][:, None] - windows.start[fold.test][None])
    return int((same & (apart < windows.spec.n_timepoints)).sum())


labels = st.sampled_from(["a", "b", "c", ""])
grouped = st.lists(st.tuples(labels, st.sampled_from("pqrst")), min_size=1, max_size=60)
recorded = st.lists(st.lists(labels, min_size=1, max_size=12), min_size=1, max_size=8)


@given(grouped, st.integers(2, 4), st.integers(0, 3))
@MODEST
def test_folds_keep_groups_whole_and_test_each_window_once(rows, n_folds, seed):
    windows = Windows.of(
        np.zeros((len(rows), 1, 3)), y=[row[0] for row in rows], groups=[row[1] for row in rows]
    )
    assume(windows.has_groups)
    try:
        found = folds(windows, n_folds, seed=seed)
    except SplitError:  # refused, with a code: see the table below
        return
    tested = np.concatenate([fold.test for fold in found])
    assert sorted(tested.tolist()) == np.flatnonzero(windows.labelled).tolist()
    for fold in found:
        assert not set(windows.groups[fold.train]) & set(windows.groups[fold.test])
        assert set(windows.y[fold.train]) == set(windows.classes)
        assert len(fold.test)


@given(recorded, st.integers(2, 4), st.integers(0, 3))
@MODEST
def test_folds_of_recordings_never_let_overlapping_windows_face(rows, n_folds, seed):
    windows = long_recordings(rows)
    try:
        found = folds(windows, n_folds, seed=seed)
    except SplitError:  # refused, with a code: see the table below
        return
    tested = np.concatenate([fold.test for fold in found])
    assert sorted(tested.tolist()) == np.flatnonzero(windows.labelled).tolist()
    for fold in found:
        assert overlapping(windows, fold) == 0
        assert set(windows.y[fold.train]) == set(windows.classes)
        kept = len(fold.train) + len(fold.test) + fold.purged
        assert kept == windows.labelled.sum()


@given(recorded, st.floats(0.05, 0.95), st.integers(0, 3))
@MODEST
def test_holdout_and_time_order_purge_what_overlaps(rows, fraction, seed):
    windows = long_recordings(rows)
    for split in (
        lambda: holdout(windows, fraction, seed=seed),
        lambda: time_ordered(windows, fraction),
    ):
        try:
            fold = split()
        except SplitError:
            continue
        assert overlapping(windows, fold) == 0
        assert len(fold.train)
        assert len(fold.test)
        assert set(windows.y[fold.train]) == set(windows.classes)
        assert len(fold.train) + len(fold.test) + fold.purged == windows.labelled.sum()


@given(grouped, st.integers(1, 6), st.integers(0, 3))
@MODEST
def test_few_shot_takes_n_of_each_class_and_spreads_them(rows, n_per_class, seed):
    windows = Windows.of(
        np.zeros((len(rows), 1, 3)), y=[row[0] for row in rows], groups=[row[1] for row in rows]
    )
    assume(windows.labelled.any() and windows.has_groups)
    chosen = few_shot(windows, n_per_class, seed=seed)
    assert len(set(chosen.tolist())) == len(chosen)
    for label in windows.classes:
        of_class = windows.y == label
        taken = chosen[of_class[chosen]]
        assert len(taken) == min(n_per_class, of_class.sum())
        n_groups = len(set(windows.groups[of_class]))
        assert len(set(windows.groups[taken])) == min(len(taken), n_groups)


def test_folds_of_single_windows_are_stratified_to_one_window():
    windows = Windows.of(np.zeros((100, 1, 3)), y=["a"] * 70 + ["b"] * 30)
    for fold in folds(windows, 5, seed=1):
        assert fold.by == "window"
        assert (windows.y[fold.test] == "a").sum() == 14
        assert (windows.y[fold.test] == "b").sum() == 6


def test_folds_balance_groups_of_unequal_size():
    sizes = [90, 60, 50, 40, 30, 30, 20, 20, 10, 10]
    groups = np.repeat([f"person {number}" for number in range(10)], sizes)
    y = np.tile(["walk", "sit"], 180)
    windows = Windows.of(np.zeros((360, 1, 3)), y=y, groups=groups)
    assert max(len(fold.test) for fold in folds(windows, 4, seed=0)) <= 100


def test_folds_prefer_whole_recordings_and_fall_back_to_stretches():
    whole = long_recordings([["a"] * 5, ["b"] * 5] * 4)
    assert {fold.by for fold in folds(whole, 4, seed=0)} == {"recording"}
    single = long_recordings([["a"] * 10 + ["b"] * 10])
    found = folds(single, 2, seed=0)
    assert {fold.by for fold in found} == {"stretch"}
    assert all(fold.purged for fold in found)


def test_folds_are_the_same_for_the_same_seed():
    windows = Windows.of(np.zeros((40, 1, 3)), y=["a", "b"] * 20)
    first, again, other = (folds(windows, 4, seed=seed) for seed in (3, 3, 4))
    assert [fold.test.tolist() for fold in first] == [fold.test.tolist() for fold in again]
    assert [fold.test.tolist() for fold in first] != [fold.test.tolist() for fold in other]


def test_leave_one_group_out_tests_each_group_alone():
    windows = Windows.of(np.zeros((6, 1, 3)), y=list("ababab"), groups=list("qqpprr"))
    found = leave_one_group_out(windows)
    assert [fold.test.tolist() for fold in found] == [[2, 3], [0, 1], [4, 5]]


def test_time_order_takes_the_last_part_of_each_recording():
    windows = long_recordings([["a"] * 8, ["b"] * 8], stride=4)
    fold = time_ordered(windows, 0.25)
    assert fold.test.tolist() == [6, 7, 14, 15]
    assert fold.by == "time"


def test_a_window_that_overlaps_is_purged_from_training_only():
    windows = long_recordings([["a", "b"] * 5], stride=2)
    fold = time_ordered(windows, 0.3)
    assert fold.test.tolist() == [7, 8, 9]
    assert fold.train.tolist() == [0, 1, 2, 3, 4, 5]
    assert fold.purged == 1


def of(y, groups=None):
    return Windows.of(np.zeros((len(y), 1, 3)), y=list(y), groups=groups and list(groups))


@pytest.mark.parametrize(
    ("split", "code"),
    [
        (lambda: folds(of("aab" * 3), 1, seed=0), "folds-few"),
        (lambda: folds(of(["", ""]), 2, seed=0), "nothing-labelled"),
        (lambda: folds(of("aaaa"), 2, seed=0), "one-class"),
        (lambda: folds(of("aaab"), 2, seed=0), "class-one-member"),
        (lambda: folds(of("aabb"), 5, seed=0), "samples-fewer-than-folds"),
        (lambda: folds(of("abababab", "ppppqqqq"), 3, seed=0), "groups-fewer-than-folds"),
        (lambda: folds(of("aaaabbaa", "ppppqqqq"), 2, seed=0), "class-one-group"),
        (lambda: leave_one_group_out(of("abab")), "groups-unknown"),
        (lambda: leave_one_group_out(of("ababab", ["p", "p", "q", "q", "", ""])), "group-missing"),
        (lambda: leave_one_group_out(of("aaaabb", "ppqqqq")), "class-one-group"),
        (lambda: holdout(of("aabb"), 1.5, seed=0), "fraction-range"),
        (lambda: few_shot(of("aabb"), 0, seed=0), "labels-few"),
        (lambda: time_ordered(of("aaab"), 0.25), "class-lost"),
        (lambda: time_ordered(of("a"), 0.5), "samples-fewer-than-folds"),
    ],
)
def test_what_cannot_be_split_says_why(split, code):
    with pytest.raises(SplitError) as caught:
        split()
    assert code in {problem.code for problem in caught.value.problems}
    assert all(problem.remedy for problem in caught.value.problems)


def test_a_gap_does_not_part_what_was_recorded_in_one_go():
    windows = long_recordings([["a"] * 4, ["a"] * 4, ["b"] * 4, ["b"] * 4] * 2)
    names = tuple(f"{file}.csv@{part}" for file in ("1", "2", "3", "4") for part in (1, 2))
    windows = replace(windows, names=names)
    for fold in folds(windows, 2, seed=0):
        assert fold.by == "recording"
        train, test = (
            {names[number][0] for number in windows.recording[part]}
            for part in (fold.train, fold.test)
        )
        assert not train & test
