"""The published checks pass what is right and name what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
from outside_parts import Levels, NearestMean

from edgegraft.adapt.strategy import unwatched
from edgegraft.tasks.classification import Classification
from edgegraft.testing import (
    BACKBONE_CHECKS,
    STEP_CHECKS,
    assert_agrees,
    check_backbone,
    check_step,
    check_strategy,
    sample_windows,
)
from edgegraft_edge import steps
from edgegraft_edge.program import Draft

rng = np.random.default_rng(0)


class Changes(Levels):
    def embed(self, x):
        x *= 1.0
        return super().embed(x)


class Wide(Levels):
    def embed(self, x):
        return super().embed(x).astype(np.float64)


class Random(Levels):
    def embed(self, x):
        return super().embed(x) + rng.normal(size=(1, 3 * x.shape[1])).astype(np.float32)


class OneChannel(Levels):
    def embed(self, x):
        return super().embed(x[:, :1])


class BatchBound(Levels):
    def embed(self, x):
        z = super().embed(x)
        return z - z.mean(axis=0)


class Unlike(Levels):
    def program(self, n_channels, n_timepoints):
        return Levels(1.01).program(n_channels, n_timepoints)


class NoCard(Levels):
    @property
    def card(self):
        return replace(super().card, licence="")


class Singular(Levels):
    def embed(self, x):
        with np.errstate(all="ignore"):
            return super().embed(x) / x.std(axis=2).max(axis=1, keepdims=True)


@dataclass(frozen=True)
class Peeks(Levels):
    first: str = ""

    def fit(self, windows, *, seed):
        return replace(self, first=str(windows.y[0]))

    def embed(self, x):
        return super().embed(x) + np.float32(len(self.first) + ord(self.first[0]))


@dataclass
class Thawed:
    gain: float = 1.0
    card = Levels().card
    embed, program = Levels.embed, Levels.program

    def fit(self, windows, *, seed):
        return self


def test_a_right_backbone_passes_every_check():
    check_backbone(Levels())


@pytest.mark.parametrize(
    ("backbone", "caught_by"),
    [
        (Changes(), "leaves_input"),
        (Wide(), "one_channel"),
        (Random(), "repeats"),
        (OneChannel(), "portable_nine_channels"),
        (BatchBound(), "windows_apart"),
        (Unlike(), "portable_one_channel"),
        (NoCard(), "card"),
        (Singular(), "quiet_channels"),
        (Peeks(), "reads_no_labels"),
        (Thawed(), "frozen"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_wrong_backbone_is_named_by_its_check(backbone, caught_by):
    with pytest.raises(AssertionError) as caught:
        check_backbone(backbone)
    assert f"\n  {caught_by}: " in str(caught.value)


@dataclass(frozen=True)
class NoHelp(NearestMean):
    loudness: float = 1.0


class Thawing(NearestMean):
    def adapt(self, backbone, train, task, *, seed, watch=unwatched):
        train.x[0] = 0.0
        return super().adapt(backbone, train, task, seed=seed, watch=watch)


class Elsewhere(NearestMean):
    """Its program is that of a model a little less sure than the one that answers here."""

    def adapt(self, backbone, train, task, *, seed, watch=unwatched):
        adapted = super().adapt(backbone, train, task, seed=seed, watch=watch)

        class Torn(type(adapted)):
            @property
            def program(self):
                return replace(adapted, temperature=1.05).program

        return Torn(**{entry.name: getattr(adapted, entry.name) for entry in fields(adapted)})


class Guesses(NearestMean):
    def adapt(self, backbone, train, task, *, seed, watch=unwatched):
        mixed = replace(train, y=np.random.default_rng(0).permutation(train.y))
        return super().adapt(backbone, mixed, task, seed=seed, watch=watch)


class Unseeded(NearestMean):
    def adapt(self, backbone, train, task, *, seed, watch=unwatched):
        sharper = NearestMean(sharpness=float(rng.uniform(0.01, 0.2)))
        return sharper.adapt(backbone, train, task, seed=seed, watch=watch)


class WantsLabels(NearestMean):
    def adapt(self, backbone, train, task, *, seed, watch=unwatched):
        assert train.labelled.all()
        return super().adapt(backbone, train, task, seed=seed, watch=watch)


class WantsMany(NearestMean):
    def adapt(self, backbone, train, task, *, seed, watch=unwatched):
        assert np.unique(train.y, return_counts=True)[1].min() > 1
        return super().adapt(backbone, train, task, seed=seed, watch=watch)


class Opaque(NearestMean):
    def adapt(self, backbone, train, task, *, seed, watch=unwatched):
        adapted = super().adapt(backbone, train, task, seed=seed, watch=watch)
        return replace(adapted, lineage={"options": self})


@pytest.mark.parametrize(
    ("strategy", "caught_by"),
    [
        (NoHelp(), "options"),
        (Thawing(), "leaves_input"),
        (Elsewhere(), "portable"),
        (Guesses(), "learns"),
        (Unseeded(), "repeats"),
        (WantsLabels(), "unlabelled"),
        (WantsMany(), "single_member"),
        (Opaque(), "lineage"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_wrong_strategy_is_named_by_its_check(strategy, caught_by):
    check_strategy(NearestMean(), Levels(), Classification())
    with pytest.raises(AssertionError) as caught:
        check_strategy(strategy, Levels(), Classification())
    assert f"\n  {caught_by}: " in str(caught.value)


def test_leaving_out_needs_a_name_that_exists():
    others = {name: "the test looks at this one" for name in BACKBONE_CHECKS if name != "repeats"}
    check_backbone(Wide(), leave_out=others)
    with pytest.raises(AssertionError, match="names no check"):
        check_backbone(Levels(), leave_out={"repeets": "a misspelt name"})


@pytest.mark.parametrize("name", ["standard", "unit_range", "per_window", "none"])
def test_built_in_steps_keep_the_contract(name):
    check_step(getattr(steps, name))


def bad_shape(x):
    draft = Draft()
    return draft.finish(draft.add("mean", "x", axes=[2]))


def bad_divide(x):
    with np.errstate(all="ignore"):
        scale = 1 / x.std(axis=(0, 2))[:, None]
    draft = Draft()
    return draft.finish(draft.add("mul", "x", np.where(np.isfinite(scale), scale, np.nan)))


def bad_random(x):
    draft = Draft()
    return draft.finish(draft.add("mul", "x", np.float32(rng.normal())))


def bad_change(x):
    x -= x.mean()
    return steps.standard(x)


@pytest.mark.parametrize(
    ("step", "caught_by"),
    [
        (bad_shape, "keeps_shape"),
        (bad_divide, "quiet_channels"),
        (bad_random, "repeats_and_is_portable"),
        (bad_change, "leaves_input"),
    ],
)
def test_a_wrong_step_is_named_by_its_check(step, caught_by):
    assert caught_by in STEP_CHECKS
    with pytest.raises(AssertionError, match=f"\n  {caught_by}: "):
        check_step(step)


def test_ties_are_allowed_only_in_the_stated_share():
    expected = np.ones((10, 100), dtype=np.float32)
    found = expected.copy()
    found[0, 0] = 1.5
    assert_agrees(found, expected, ties=1e-3)
    found[0, 1] = 1.5
    with pytest.raises(AssertionError, match=r"0\.20%"):
        assert_agrees(found, expected, ties=1e-3)
    with pytest.raises(AssertionError, match="shape"):
        assert_agrees(found[:5], expected)


def test_sample_windows_repeat_and_cover_groups_and_classes():
    first, second = sample_windows(seed=4), sample_windows(seed=4)
    assert np.array_equal(first.x, second.x)
    assert set(first.groups) == {"g0", "g1", "g2", "g3"}
    for group in set(first.groups):
        assert set(first.y[first.groups == group]) == set(first.classes)
