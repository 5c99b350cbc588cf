"""Labels that spread over a pool: what they give, what they survive, what they say of it."""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from edgegraft.adapt import neighbours as graphs
from edgegraft.adapt import views
from edgegraft.adapt.balance import estimate_shares
from edgegraft.adapt.blend import Blend
from edgegraft.adapt.distil import STRENGTH, Lesson
from edgegraft.adapt.neighbours import (
    Neighbours,
    diffuse,
    join,
    modularity,
    neighbours,
    spread_labels,
    to_shares,
)
from edgegraft.adapt.spread import Spread
from edgegraft.adapt.views import coordinates, explained, levelled, look
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.signal import Windows

PEOPLE, N_TIMEPOINTS = 6, 64


def moons(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    angle, codes = random.uniform(0, np.pi, count), np.arange(count) % 2
    side = 1 - 2 * codes
    z = np.stack([side * np.cos(angle) + codes, side * np.sin(angle) + 0.5 * codes], axis=1)
    return (z + 0.06 * random.standard_normal(z.shape)).astype(np.float32), codes


def seeds_of(codes: np.ndarray, known: np.ndarray) -> np.ndarray:
    seeds = np.zeros((len(codes), int(codes.max()) + 1))
    seeds[known, codes[known]] = 1
    return seeds


def movements(counts: tuple[int, ...], seed: int) -> Windows:
    """Oscillations whose pace is the class; people differ in level and strength."""
    random = np.random.default_rng(seed)
    codes = random.permutation(np.repeat(np.arange(len(counts)), counts))
    person = np.arange(len(codes)) % PEOPLE
    t = np.arange(N_TIMEPOINTS) / N_TIMEPOINTS
    pace = np.array([3.0, 5.0, 8.0])[codes] * random.uniform(0.85, 1.15, len(codes))
    phase = random.uniform(0, 2 * np.pi, len(codes))
    wave = np.sin(2 * np.pi * pace[:, None] * t + phase[:, None])
    strength = np.linspace(0.6, 1.6, PEOPLE)[person][:, None]
    noise = 0.4 * random.standard_normal((2, len(codes), N_TIMEPOINTS))
    x = np.stack([strength * wave + noise[0], 0.5 * wave + noise[1]], axis=1)
    x += np.linspace(-0.5, 0.5, PEOPLE)[person][:, None, None]
    return Windows.of(
        x.astype(np.float32),
        y=np.array(["slow", "even", "fast"])[codes],
        groups=np.array([f"p{p}" for p in person]),
    )


def few(windows: Windows, per_class: int, seed: int = 0) -> Windows:
    """All windows, with labels left on some of each class."""
    random = np.random.default_rng(seed)
    kept = np.concatenate(
        [random.permutation(np.flatnonzero(windows.y == c))[:per_class] for c in windows.classes]
    )
    y = np.full(len(windows), "", dtype=windows.y.dtype)
    y[kept] = windows.y[kept]
    return replace(windows, y=y)


def accuracy(adapted, test: Windows) -> float:
    said = adapted.predict(replace(test, y=np.full(len(test), ""))).probabilities
    return float((np.array(adapted.classes)[said.argmax(axis=1)] == test.y).mean())


def fitted(train: Windows, **options):
    quick = {"views": ("minirocket",), "heads": ("minirocket",), "rows": 300} | options
    return Spread(**quick).scored(load_backbone("statistics"), train, Classification(), seed=0)


def test_one_label_per_moon_is_enough():
    z, codes = moons(600, 0)
    soft = spread_labels(neighbours(z, 8), seeds_of(codes, np.array([0, 1])))
    nearest = np.square(z[:, None] - z[None, :2]).sum(axis=2).argmin(axis=1)
    assert (soft.argmax(axis=1) == codes).mean() > 0.98
    assert (nearest == codes).mean() < 0.9


def test_conjugate_gradients_solve_the_system():
    z, _ = moons(120, 1)
    graph = neighbours(z, 6)
    goal = np.abs(np.random.default_rng(0).standard_normal((120, 3)))
    dense = np.eye(120) - 0.95 * graph.normalised.toarray().astype(np.float64)
    assert np.allclose(diffuse(graph, goal, alpha=0.95), 0.05 * np.linalg.solve(dense, goal),
                       atol=1e-4)  # fmt: skip


def test_graph_is_symmetric_and_holds_the_true_neighbours():
    z, _ = moons(200, 2)
    weights = neighbours(z, 5).weights.toarray()
    assert np.allclose(weights, weights.T)
    assert not weights.diagonal().any()
    squares = np.square(z[:, None] - z[None]).sum(axis=2)
    nearest = np.argsort(squares, axis=1)[:, 1:6]
    assert (np.take_along_axis(weights, nearest, axis=1) > 0).all()


def test_cells_find_nearly_all_neighbours_in_little_memory(monkeypatch):
    random = np.random.default_rng(0)
    z = (random.standard_normal((50, 16))[random.integers(0, 50, 6000)] * 2).astype(np.float32)
    z += random.standard_normal(z.shape).astype(np.float32)
    exact = neighbours(z, 10).weights
    monkeypatch.setattr(graphs, "EXACT", 0)
    near = neighbours(z, 10).weights
    both = (exact > 0).multiply(near > 0).sum()
    assert both / (exact > 0).sum() > 0.8
    tracemalloc.start()
    neighbours(np.tile(z, (4, 1)) + 0.1 * random.standard_normal((24_000, 16)), 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24_000**2  # bytes: a quarter of all distances


def test_windows_that_no_label_reaches_get_the_shares():
    z = np.concatenate([np.zeros((5, 1)), np.full((5, 1), 99.0)]) + np.arange(10)[:, None] / 100
    seeds = np.zeros((10, 2))
    seeds[0, 0] = seeds[1, 1] = 1
    graph = neighbours(z, 3)
    soft = to_shares(diffuse(graph, seeds), np.array([0.25, 0.75]))
    assert np.allclose(soft[5:], [0.25, 0.75])
    assert np.allclose(soft.sum(axis=1), 1)


def test_modularity_tells_true_parts_from_dealt_ones():
    z, codes = moons(300, 3)
    graph = neighbours(z, 8)
    dealt = np.random.default_rng(0).permutation(codes)
    assert modularity(graph, np.eye(2)[codes]) > 0.4
    assert abs(modularity(graph, np.eye(2)[dealt])) < 0.1


def test_views_join_into_one_graph():
    z, codes = moons(300, 4)
    blind = np.random.default_rng(1).standard_normal((300, 2))
    graph = join([neighbours(z, 8), neighbours(blind, 8)], np.array([3.0, 1.0]))
    assert isinstance(graph, Neighbours)
    assert modularity(graph, np.eye(2)[codes]) > modularity(neighbours(blind, 8),
                                                            np.eye(2)[codes])  # fmt: skip


def test_estimated_shares_come_near_ten_to_one():
    random = np.random.default_rng(0)
    codes = (random.uniform(size=2000) < 1 / 11).astype(int)
    z = random.standard_normal(2000) + 3 * codes
    likely = np.exp(-0.5 * np.square(z[:, None] - np.array([0.0, 3.0])))
    assert abs(estimate_shares(likely, strength=0.0)[1] - codes.mean()) < 0.02
    assert codes.mean() < estimate_shares(likely, strength=1.0)[1] < 0.5


def test_spread_beats_labels_alone_on_unseen_windows():
    train, test = movements((80, 80, 80), 0), movements((60, 60, 60), 1)
    given = few(train, 1)
    labels = given.take(np.flatnonzero(given.labelled))
    alone = Blend(partners=("minirocket",), trees=(), copies=0).adapt(
        load_backbone("statistics"), labels, Classification(), seed=0
    )
    spread = fitted(given)
    assert accuracy(spread.adapted, test) > accuracy(alone, test) + 0.05
    assert spread.left_out is None  # of one label nothing can be left out


def test_rare_classes_survive_in_the_pool():
    train, test = movements((200, 60, 20), 2), movements((60, 60, 60), 3)
    adapted = fitted(few(train, 5)).adapted
    found = np.array(adapted.classes)[adapted.predict(test).probabilities.argmax(axis=1)]
    for name in test.classes:
        assert (found == name)[test.y == name].mean() > 0.7


def test_what_others_say_of_a_row_is_a_fit_without_it():
    random = np.random.default_rng(0)
    z = random.standard_normal((30, 8)).astype(np.float32)
    targets, weights = np.eye(2)[(z[:, 0] > 0).astype(int)], random.uniform(0.2, 2, 30)
    lesson = Lesson.of(views.View(load_backbone("statistics"), z), np.arange(30))
    said = lesson.by_others(targets, weights)
    share = weights / weights.mean()
    offset = share @ targets / 30
    for row in range(30):
        rest = np.delete(np.arange(30), row)
        matrix = lesson.gram[np.ix_(rest, rest)] + np.diag(STRENGTH / share[rest])
        dual = np.linalg.solve(matrix, targets[rest] - offset)
        assert np.allclose(said[row], lesson.gram[row, rest] @ dual + offset, atol=1e-6)


def test_left_out_is_honest():
    train = movements((80, 80, 80), 4)
    given = few(train, 12)
    codes = given.take(np.flatnonzero(given.labelled)).codes(given.classes)
    true = fitted(given).left_out
    assert true.shape == (36, 3)
    assert np.allclose(true.sum(axis=1), 1)
    assert (true.argmax(axis=1) == codes).mean() > 0.8
    right = []
    for seed in range(3):
        y = given.y.copy()
        rows = np.flatnonzero(given.labelled)
        y[rows] = np.random.default_rng(seed).permutation(y[rows])
        dealt = fitted(replace(given, y=y))
        codes = given.take(rows).codes(given.classes)
        right.append((dealt.left_out.argmax(axis=1) == replace(given, y=y).take(rows)
                      .codes(given.classes)).mean())  # fmt: skip
    assert np.mean(right) < 0.5  # chance is a third


def test_without_pool_it_is_a_blend_and_says_so(monkeypatch):
    quick = Blend(partners=(), trees=(), copies=0)
    monkeypatch.setattr(sys.modules[Spread.__module__], "Blend", lambda normalise: quick)
    train = movements((8, 8, 8), 5)
    adapted = fitted(train).adapted
    assert "without label" in adapted.lineage["without_pool"]
    assert adapted.lineage["strategy"] == "spread"
    assert accuracy(adapted, train) > 0.6


def test_spread_is_the_same_every_time_and_ignores_sources():
    given = few(movements((40, 40, 40), 6), 2)
    first, again = fitted(given).adapted, fitted(given).adapted
    foreign = few(movements((10, 10, 10), 7), 10)
    parts = {
        name: np.concatenate([getattr(given, name), getattr(foreign, name)])
        for name in ("x", "y", "groups")
    }
    domains = np.repeat(["", "elsewhere"], [len(given), len(foreign)])
    beside = replace(Windows.of(parts["x"], y=parts["y"], groups=parts["groups"]), domains=domains)
    said = [m.predict(given).probabilities for m in (first, again, fitted(beside).adapted)]
    assert np.array_equal(said[0], said[1])
    assert np.array_equal(said[0], said[2])


def test_groups_lose_their_level_only_where_it_is_a_nuisance():
    random = np.random.default_rng(0)
    groups = np.repeat(["a", "b", "c"], 40)
    z = random.standard_normal((120, 5)).astype(np.float32)
    moved = z + np.repeat([[0.0], [1.0], [2.0]], 40, axis=0)
    assert explained(levelled(moved, groups), groups) < 0.01
    windows = movements((80, 80, 80), 8)
    view = look(load_backbone("statistics"), (), windows, 0)
    assert explained(coordinates(view, windows.groups, 0), windows.groups) < 0.02
    bearings = np.array([f"{y}{i % 2}" for i, y in enumerate(windows.y)])
    apart = replace(view[0], z=np.eye(3)[windows.codes(windows.classes)] * 9 + view[0].z[:, :3])
    assert explained(coordinates([apart], bearings, 0), bearings) > 0.5


def test_embeddings_that_are_too_many_to_hold_are_computed_where_needed(monkeypatch):
    train, test = movements((80, 80, 80), 9), movements((60, 60, 60), 10)
    held = fitted(few(train, 2)).adapted
    monkeypatch.setattr(views, "MOST_NUMBERS", 1)
    monkeypatch.setattr(views, "_BATCH", 100)
    assert not len(look(load_backbone("minirocket"), (), train, 0)[0].z)
    adapted = fitted(few(train, 2)).adapted
    assert accuracy(adapted, test) > accuracy(held, test) - 0.1


@pytest.mark.slow
def test_pool_of_200_000_embeddings_stays_in_bounds():
    import resource
    import time

    random = np.random.default_rng(0)
    codes = random.integers(0, 60, 200_000)
    z = 1.2 * random.standard_normal((60, 64))[codes] + random.standard_normal((200_000, 64))
    began = time.process_time()
    graph = neighbours(z.astype(np.float32), 18)
    soft = spread_labels(graph, seeds_of(codes % 6, np.arange(600)), alpha=0.9)
    assert time.process_time() - began < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 * 2**20
    assert (soft.argmax(axis=1) == codes % 6).mean() > 0.95
