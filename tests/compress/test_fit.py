"""The search for a student that fits: costs, what is trained, chosen, and impossible."""

from __future__ import annotations

import numpy as np
import pytest

from edgegraft.adapt.probe import Probe
from edgegraft.compress import fit as fitting
from edgegraft.compress.distill import Distillation
from edgegraft.compress.fit import Budget, Cost, Search, candidates, estimate, fit
from edgegraft.compress.teacher import taught
from edgegraft.tasks.classification import Classification
from edgegraft.testing.samples import sample_windows
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import ExportError, OptionError
from edgegraft_edge.program import Draft

QUICK = Distillation(steps=100, batch_size=16, copies=1, mixed=1)
SEARCH = Search(candidates=2, steps=50, windows=(1.0,), decimates=(1, 2))


@pytest.fixture(autouse=True)
def few_widths(monkeypatch):
    monkeypatch.setattr(fitting, "WIDTHS", (0.25,))


@pytest.fixture(scope="module")
def said():
    windows = sample_windows(3, 64, 30, noise=0.7)
    teacher = Probe().adapt(load_backbone("statistics"), windows, Classification(), seed=0)
    return taught(teacher, windows, copies=1, mixed=1, held_groups=("g1",))


def test_every_candidate_is_costed_before_any_is_trained():
    found = candidates(sample_windows(3, 64), 3, SEARCH)
    assert len(found) == 8
    assert all(each.steps == 0 and each.agreement is None for each in found)
    products = [each.cost.multiply_adds for each in found]
    assert products == sorted(products)
    small = [each for each in found if each.shape.decimate == 2]
    assert len(small) == 4
    assert all(each.cost.ram_bytes > 0 < each.cost.flash_bytes for each in found)


def test_the_arena_is_what_lives_at_the_same_time():
    draft = Draft()
    one = draft.add("relu", "x")
    two = draft.add("mean", one, axes=[2], keepdims=False)
    three = draft.add("sub", two, np.float32(1))
    cost = estimate(draft.finish(draft.add("add", two, three)), (3, 50))
    assert cost.ram_bytes == 2 * 4 * 150
    assert cost.multiply_adds == 0


def test_what_is_chosen_fits_and_is_scored_on_groups_held_out(said):
    known = candidates(sample_windows(3, 64), 3, SEARCH)
    middle = sorted(each.cost.flash_bytes for each in known)[4] / 1024
    budget = Budget(flash_kib=middle)
    found = fit(said, budget, SEARCH, QUICK, seed=0)
    assert found.chosen.cost.flash_bytes <= middle * 1024
    assert found.chosen.steps == QUICK.steps
    trained = [each for each in found.tried if each.agreement is not None]
    assert 2 <= len(trained) <= SEARCH.candidates
    assert all(each.cost.flash_bytes <= middle * 1024 for each in trained)
    assert len(found.tried) == len(known)
    assert all(each.because for each in found.tried if each.agreement is None)
    rows = said.validation
    assert set(said.groups[rows]) == {"g1"}
    program = fitting.quantized(found.model.program, said.x[0][said.rows[:200]])
    guess = program.run(said.x[0][rows]).argmax(1)
    agreement = (guess == said.probabilities[0][rows].argmax(1)).mean()
    assert agreement == pytest.approx(found.chosen.agreement)


def test_a_linker_that_counts_more_sends_the_search_to_a_smaller_one(said):
    asked = []

    def confirm(program, shape):
        cost = estimate(program, shape)
        asked.append(cost.flash_bytes)
        more = 0 if len(asked) > 1 else 1 << 20
        return Cost(0, cost.flash_bytes + more, cost.ram_bytes, cost.multiply_adds, 0.0, "linker")

    found = fit(said, Budget(flash_kib=1000), SEARCH, QUICK, confirm=confirm, seed=0)
    assert len(asked) == 2
    assert asked[1] < asked[0]
    assert found.chosen.cost.counted == "linker"
    assert any("over flash" in each.because for each in found.tried)


def test_an_impossible_budget_says_what_would_be_enough(said):
    with pytest.raises(ExportError) as caught:
        fit(said, Budget(flash_kib=1, ram_kib=1), SEARCH, QUICK)
    assert caught.value.code == "budget-impossible"
    smallest = min(each.cost.flash_bytes for each in candidates(sample_windows(3, 64), 3, SEARCH))
    assert f"{smallest / 1024:.1f} KiB of flash" in str(caught.value)


def test_latency_needs_a_board():
    with pytest.raises(OptionError) as caught:
        Budget(latency_ms=20)
    assert caught.value.code == "budget-speed"
    budget = Budget(latency_ms=20, instructions_per_ms=1000)
    cost = Cost(0, 0, 0, 0, 21_000.0)
    assert cost.over(budget) == ("latency",)


def test_options_that_make_no_sense_are_named():
    with pytest.raises(OptionError) as caught:
        Search(candidates=0, precisions=("int4",))
    assert len(caught.value.problems) == 2
