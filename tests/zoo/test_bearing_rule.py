"""The rule without labels: made-up bearings with a fault each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from machines import BEARING, GIVEN, machine, windows

from edgegraft.adapt.anomalies.bearing_rule import BearingRule
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.orders import Orders
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError, OptionError

KINDS = ("outer", "inner", "ball", "normal")


def fleet(seed: int, n: int = 2):
    orders = {**BEARING.faults, "normal": 0.0}
    rows = [machine(orders[kind], seed=10 * seed + s) for kind in KINDS for s in range(n)]
    return windows(*rows), np.repeat(KINDS, n)


def test_faults_are_named_without_any_label():
    data, truth = fleet(0)
    model = BearingRule().adapt(Orders(rpm=1500, **GIVEN), data, Classification(), seed=0)
    later, _ = fleet(1)
    assert model.classes == KINDS
    assert [model.classes[p] for p in model.predict(later).probabilities.argmax(axis=1)] == list(
        truth
    )


def test_labels_give_the_names_and_weak_means_ball_where_none_is_normal():
    data, truth = fleet(0)
    named = {"outer": "OR@6", "inner": "IR", "ball": "B"}
    faulty = np.flatnonzero(truth != "normal")
    labels = np.array([named.get(kind, "") for kind in truth])
    labelled = replace(data, y=labels).take(faulty)
    model = BearingRule().adapt(Orders(rpm=1500, **GIVEN), labelled, Classification(), seed=0)
    found = [model.classes[p] for p in model.predict(data).probabilities.argmax(axis=1)]
    assert found == [named.get(kind, "B") for kind in truth]


def test_the_rule_needs_the_orders_of_a_bearing():
    data, _ = fleet(0, 1)
    for backbone in (load_backbone("statistics"), Orders(rpm=1500)):
        with pytest.raises(OptionError) as caught:
            BearingRule().adapt(backbone, data, Classification(), seed=0)
        assert caught.value.code == "rule-backbone"


def test_labels_that_mean_nothing_to_it_are_named():
    data, _ = fleet(0, 1)
    data = replace(data, y=np.array(["outer", "x", "y", "normal"]))
    with pytest.raises(DataError) as caught:
        BearingRule().adapt(Orders(rpm=1500, **GIVEN), data, Classification(), seed=0)
    assert caught.value.code == "rule-names"
    named = BearingRule(names=("x=inner", "y=ball"))
    assert named.adapt(Orders(rpm=1500, **GIVEN), data, Classification(), seed=0).classes
