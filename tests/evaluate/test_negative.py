"""Which source hurts: before the guard and after it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgegraft.adapt.probe import Probe
from edgegraft.evaluate.compare import OutOfFold, Row
from edgegraft.evaluate.negative import POOL, effects, summed_up
from edgegraft.tasks.classification import Classification
from edgegraft.testing.samples import sample_windows
from edgegraft.zoo.registry import load_backbone

TASK = Classification()
WINDOWS = sample_windows(n_per_class=16)
ROW = Row(load_backbone("statistics"), "probe", Probe(), "control")


def right_in(share: float, seed: int) -> OutOfFold:
    """Right in that share of the windows, the same in every group."""
    codes = WINDOWS.codes(WINDOWS.classes)
    wrong = np.random.default_rng(seed).random(len(codes)) >= share
    return OutOfFold(ROW, np.eye(3)[(codes + wrong) % 3], 0.0)


def found_for(**trusting: OutOfFold):
    named = {name.replace("_", " "): table for name, table in trusting.items()}
    return effects(
        WINDOWS, TASK, reference=right_in(0.8, 0), guard=right_in(0.8, 0), trusting=named,
        n_folds=4,
    )  # fmt: skip


def test_a_source_that_hurts_is_named_with_its_loss():
    found = found_for(bad=right_in(0.1, 1), same=right_in(0.8, 0))
    bad, same = found
    assert (bad.source, bad.hurt, bad.helped) == ("bad", True, False)
    assert bad.before.high < 0
    assert bad.after.mean == 0
    assert (same.hurt, same.helped) == (False, False)
    told = summed_up(found)
    assert "negative transfer from bad (-" in told
    assert "same" not in told
    assert "with the guard +0.0 points of macro F1" in told


def test_a_source_that_helps_is_said_to():
    (good,) = effects(
        WINDOWS, TASK, reference=right_in(0.2, 1), guard=right_in(1.0, 0),
        trusting={POOL: right_in(1.0, 0)}, n_folds=4,
    )  # fmt: skip
    assert good.helped
    assert not good.hurt
    assert good.sentence.startswith("the pool helps: taken on trust +")
    assert "no source hurts beyond chance" in summed_up((good,))


def test_differences_are_paired_and_intervals_cover_them():
    for effect in found_for(bad=right_in(0.1, 1), other=right_in(0.7, 2)):
        for difference in (effect.before, effect.after):
            assert difference.low <= difference.mean <= difference.high
            assert difference.unit == "group"
            assert difference.n_folds == 4
    codes = WINDOWS.codes(WINDOWS.classes)
    reference, bad = right_in(0.8, 0), right_in(0.1, 1)
    scores = [TASK.metrics[TASK.primary](t.probabilities, codes) for t in (bad, reference)]
    assert found_for(bad=bad)[0].before.mean == pytest.approx(scores[0] - scores[1])


def test_the_most_harmful_source_stands_first():
    found = found_for(mild=right_in(0.6, 3), bad=right_in(0.1, 1))
    assert [effect.source for effect in found] == ["bad", "mild"]


def test_effects_are_plain_json():
    (found,) = found_for(bad=right_in(0.1, 1))
    told = found.as_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["source"] == "bad"
    assert told["sentence"] == found.sentence
