"""Mixtures of whole models, left-out scores of any strategy, and what goes beside the target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgegraft.adapt.blend import Blend
from edgegraft.adapt.evidence import gather
from edgegraft.adapt.mixture import Mixture, mix
from edgegraft.adapt.probe import Probe, Trees
from edgegraft.adapt.scored import SelfScoring, score
from edgegraft.data.domains import apart, beside, from_sources, joined, pool_of, sources_of
from edgegraft.tasks.classification import Classification
from edgegraft.testing.samples import sample_windows
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Windows

TASK = Classification()
STATISTICS = load_backbone("statistics")


def test_a_mixture_predicts_what_its_program_computes_and_shares_the_embedding() -> None:
    windows = sample_windows(noise=3.0)
    two = [
        Probe().adapt(STATISTICS, windows.take(rows), TASK, seed=0)
        for rows in (np.arange(len(windows)), np.flatnonzero(windows.y != windows.classes[0]))
    ]
    mixed = mix(two, [0.3, 0.7], {"strategy": "test"})
    assert isinstance(mixed, Mixture)
    said = mixed.predict(windows).probabilities
    assert np.allclose(mixed.program.run(windows.x), said, atol=1e-5)
    assert np.allclose(said.sum(axis=1), 1, atol=1e-5)
    unknown = said[:, 0]  # the second model does not know the first class
    assert np.allclose(unknown, 0.3 * two[0].predict(windows).probabilities[:, 0], atol=1e-5)
    same = mix([two[0], two[0]], [1, 1], {})
    assert len(same.program.ops) < 1.2 * len(two[0].program.ops) + 5


def test_the_left_out_scores_of_a_blend_are_of_its_calibrated_mixture() -> None:
    windows = sample_windows(noise=3.0)
    found = score(Blend(copies=0), STATISTICS, windows, TASK, seed=0)
    assert isinstance(Blend(), SelfScoring)
    assert found.left_out is not None
    assert np.allclose(found.left_out.sum(axis=1), 1)
    right = found.left_out.argmax(axis=1) == windows.codes(found.adapted.classes)
    assert 0.4 < right.mean() < 1.0, "as good as noisy windows allow, not what was seen"


def test_a_strategy_without_scores_of_its_own_is_fitted_anew_without_each_part() -> None:
    windows = sample_windows()
    noise = replace(windows, x=np.random.default_rng(0).normal(size=windows.x.shape))
    found = score(Trees(n_trees=30), STATISTICS, noise, TASK, seed=0)
    assert found.left_out is not None
    right = found.left_out.argmax(axis=1) == windows.codes(found.adapted.classes)
    assert right.mean() < 0.7, "it saw what it was to be scored on"


def test_evidence_is_sorted_by_domain_and_label() -> None:
    windows = sample_windows()
    source = replace(windows, domains=np.full(len(windows), "other"))
    half = np.arange(len(windows)) % 2 == 0
    target = replace(windows, y=np.where(half, windows.y, ""))
    found = gather(joined(target, source), TASK)
    assert (len(found.target), len(found.pool)) == (half.sum(), (~half).sum())
    assert list(found.sources) == ["other"]
    assert np.isfinite(found.own.x).all()
    assert abs(found.own.x.mean()) < 1e-4, "the step was not fitted on all target windows"


def test_a_source_of_other_classes_is_left_aside_and_named() -> None:
    windows = sample_windows()
    other = replace(
        windows,
        y=np.array([f"not {label}" for label in windows.y]),
        domains=np.full(len(windows), "odd"),
    )
    found = gather(joined(windows, other), TASK)
    assert (found.classes, found.unrelated, dict(found.sources)) == (windows.classes, ("odd",), {})


def test_without_target_labels_the_classes_are_those_of_the_sources() -> None:
    windows = sample_windows()
    train = beside(windows.take(np.arange(0)), windows, {"m1": windows})
    found = gather(train, TASK)
    assert (len(found.target), found.classes) == (0, windows.classes)


def test_what_is_tested_has_no_part_in_the_pool() -> None:
    windows = sample_windows()
    people = np.array(["p", "q"] * len(windows))[: len(windows)]
    windows = replace(windows, groups=people)
    rest = beside(windows, windows, {"s": windows})
    kept = apart(rest, windows.take(np.flatnonzero(people == "p")))
    assert set(kept.groups.tolist()) == {"q"}
    assert (len(pool_of(kept)), len(sources_of(kept)["s"])) == (len(windows) // 2,) * 2
    assert not sources_of(from_sources(kept, ("none",)))


def test_overlapping_windows_of_the_rest_are_purged() -> None:
    windows = replace(
        sample_windows(),
        groups=np.full(24, ""),
        recording=np.zeros(24, dtype=np.int64),
        start=np.arange(24) * 32,
    )
    assert windows.x.shape == (24, 3, 64)
    rest = beside(windows, rest=windows.take(np.arange(0, 24, 2)))
    assert apart(rest, windows.take([5])).start.tolist() == [
        start for start in range(0, 24 * 32, 64) if start not in (4 * 32, 6 * 32)
    ]


def test_everything_that_does_not_fit_is_said_at_once() -> None:
    target = Windows.of(np.zeros((4, 1, 8)), y=list("abab"), channels=["x"])
    blank = Windows.of(np.zeros((2, 1, 8)), channels=["x"])
    longer = Windows.of(np.zeros((2, 1, 9)), channels=["x"])
    with pytest.raises(DataError) as caught:
        beside(target, longer, {"m1": blank})
    assert {p.code for p in caught.value.problems} == {"window-length", "source-unlabelled"}
