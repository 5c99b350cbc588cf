"""What is learned from normal windows alone."""

from __future__ import annotations

import numpy as np
import pytest

import edgegraft as eg
from edgegraft.adapt.normality import Distance, PatchMemory, coreset, nearest_distance
from edgegraft.evaluate.where import activation_maps
from edgegraft.tasks.anomaly import Anomaly
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.graph import Graph
from edgegraft.zoo.intake import ImageIntake
from edgegraft.zoo.layers import Layers, relu
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.signal import GREY, ImageSpec, Windows

SIDE = 24


def small_network() -> Graph:
    layers = Layers()
    first = layers.conv("stem", "x", 1, 8, kernel=3, stride=2, activation=relu)
    second = layers.conv("block1", first, 8, 16, kernel=3, stride=2, activation=relu)
    network = layers.finish(
        layers.pool(second),
        blocks=("stem", "block1"),
        taps={"stem": first, "block1": second},
        top=second,
    )
    card = BackboneCard("small", "small", "a small network", "random", "none", takes=("image",))
    return Graph(card, ImageIntake(n_channels=1), network.drawn(0))


def spots(n: int, seed: int) -> tuple[Windows, np.ndarray]:
    """Noise, every second picture with a bright spot, whose middle is given too."""
    random = np.random.default_rng(seed)
    x = random.integers(60, 90, size=(n, 1, SIDE, SIDE))
    middle = random.integers(4, SIDE - 4, size=(n, 2))
    for row in range(0, n, 2):
        i, j = middle[row]
        x[row, 0, i - 2 : i + 3, j - 2 : j + 3] = 200
    y = np.where(np.arange(n) % 2, "good", "spot")
    windows = Windows(x.astype(np.uint8), y, np.full(n, ""), ImageSpec(SIDE, SIDE, GREY))
    return windows, middle


@pytest.fixture(scope="module")
def task():
    return Anomaly(normal="good")


@pytest.mark.parametrize("strategy", [Distance(), PatchMemory()])
def test_spots_are_found_and_false_alarms_are_as_asked(strategy, task):
    train, _ = spots(240, 0)
    test, _ = spots(400, 1)
    train, test = task.relabelled(train), task.relabelled(test)
    adapted = strategy.adapt(small_network(), train, task, seed=0)
    said = adapted.predict(test)
    alarms = said.labels == "anomaly"
    assert alarms[test.y == "anomaly"].mean() > 0.9
    assert alarms[test.y == "good"].mean() < 0.12  # 5 % wanted, 120 normal windows seen
    np.testing.assert_allclose(adapted.program.run(test.x), said.probabilities, atol=2e-3)


def test_anomalies_in_the_training_set_change_nothing(task):
    train, _ = spots(80, 0)
    train = task.relabelled(train)
    only = train.take(np.flatnonzero(train.y == "good"))
    both, alone = (Distance().adapt(small_network(), w, task, seed=0) for w in (train, only))
    assert np.array_equal(both.predict(train).probabilities, alone.predict(train).probabilities)


def test_a_defect_has_a_place(task):
    train, _ = spots(120, 0)
    test, middle = spots(40, 1)
    adapted = PatchMemory().adapt(small_network(), task.relabelled(train), task, seed=0)
    target = np.full(40, adapted.classes.index("anomaly"))
    maps = activation_maps(adapted.program, test.x, target)
    found = [np.unravel_index(heat.argmax(), heat.shape) for heat in maps[::2]]
    assert np.mean(np.abs(np.array(found) - middle[::2]).max(axis=1) <= 4) > 0.9


def test_adapt_from_normal_windows_alone_and_with_anomalies(tmp_path):
    train, _ = spots(80, 0)
    test, _ = spots(60, 1)
    normal = train.take(np.flatnonzero(train.y == "good"))
    alone = eg.adapt(normal, test=test, backbone=small_network(), task="anomaly", out=tmp_path)
    assert alone.summary["shipped"]["strategy"] == "patch-memory"
    assert any("normal" in warning for warning in alone.summary["warnings"])
    assert alone.summary["evaluation"]["metrics"]["accuracy"] > 0.8
    assert eg.load(tmp_path).classes == ("anomaly", "good")
    both = eg.adapt(train, backbone=small_network(), task="anomaly", normal="good", folds=2)
    assert {row["strategy"] for row in both.summary["candidates"]} == {"patch-memory", "distance"}


def test_what_is_normal_must_be_clear():
    train, _ = spots(20, 0)
    with pytest.raises(DataError) as caught:
        Anomaly(normal="god").relabelled(train)
    assert caught.value.code == "normal-unknown"
    assert "good" in str(caught.value)
    y = np.where(train.y == "good", "a", "b")
    unclear = Windows(train.x, y, train.groups, train.spec)
    with pytest.raises(DataError):
        Anomaly().bound(unclear)


def test_refusals(task):
    train, _ = spots(20, 0)
    few = task.relabelled(train).take(np.array([1, 3, 5]))
    with pytest.raises(DataError) as caught:
        Distance().adapt(small_network(), few, task, seed=0)
    assert caught.value.code == "labels-few"
    with pytest.raises(OptionError) as caught:
        Distance().adapt(small_network(), train, Classification(), seed=0)
    assert caught.value.code == "task-differs"
    with pytest.raises(OptionError) as caught:
        PatchMemory(blocks=("stam",)).adapt(small_network(), train, task, seed=0)
    assert caught.value.code == "block-unknown"
    with pytest.raises(OptionError):
        PatchMemory().adapt(load_backbone("dense-28"), train, task, seed=0)
    with pytest.raises(OptionError):
        Distance(false_alarms=1.5)


def test_coreset_leaves_nothing_far_away():
    random = np.random.default_rng(0)
    rows = np.concatenate([random.normal(size=(500, 2)), [[9.0, 9.0]]]).astype(np.float32)
    kept = coreset(rows, 40, 0)
    assert kept.shape == (40, 2)
    assert nearest_distance(rows, kept).max() < 1.0
