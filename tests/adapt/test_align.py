"""Closed-form domain adaptation on made-up shifts, each of a kind that a strategy is meant for."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from edgegraft.adapt.align import (
    Coral,
    Importance,
    Mmd,
    Pooled,
    Standardise,
    TowardSource,
    Transfer,
    Weighted,
)
from edgegraft.adapt.alignment import Components, Recoloured, as_they_are, standardised
from edgegraft.adapt.evidence import gather
from edgegraft.adapt.hat import hat
from edgegraft.adapt.probe import Probe
from edgegraft.adapt.scored import SelfScoring, score
from edgegraft.adapt.transfer import MOST_POOL, Parts, Rows, fit_view, known, thinned, view_of
from edgegraft.data.domains import joined
from edgegraft.tasks.classification import Classification
from edgegraft.testing.samples import sample_windows
from edgegraft.zoo.backbone import BackboneCard, shipped_card
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import OptionError
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Windows

TASK = Classification()
ALL = (Pooled, Weighted, Standardise, Coral, Mmd, Importance, TowardSource)
N_DIMS = 6


@dataclass(frozen=True)
class Plain:
    """A backbone whose embedding are the values themselves."""

    card: BackboneCard = field(default_factory=lambda: shipped_card("spectrum"))

    def fit(self, windows: Windows, *, seed: int) -> Plain:
        return self

    def embed(self, x: Array) -> Array:
        return np.asarray(x.reshape(len(x), -1), dtype=np.float32)

    def program(self, *shape: int) -> Program:
        return Draft().finish("x")


def rows(
    z: Array, codes: Array, domain: str = "", *, labelled: bool = True, groups: str = ""
) -> Windows:
    names = np.array(list("abcd"))[codes] if labelled else np.full(len(z), "")
    windows = Windows.of(z[:, None, :].astype(np.float32), names, np.full(len(z), groups))
    return replace(windows, domains=np.full(len(z), domain))


def draw(n: int, seed: int, *, n_classes: int = 3, far: float = 2.5, p: Array | None = None):
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(n_classes, N_DIMS))
    centres *= far / np.linalg.norm(centres, axis=1, keepdims=True)
    codes = random.choice(n_classes, n, p=p)
    return centres[codes] + random.normal(size=(n, N_DIMS)), codes


def plain(strategy: type[Transfer], **options: object) -> Transfer:
    return strategy(partners=(), normalise="none", **options)  # type: ignore[arg-type]


def accuracy(strategy: Transfer | Probe, train: Windows, z: Array, codes: Array) -> float:
    model = strategy.adapt(Plain(), train, TASK, seed=0)
    said = model.predict(rows(z, codes, labelled=False))
    return float(np.mean(said.labels == np.array(list("abcd"))[codes]))


def shifted(strategy: type[Transfer], change, **options: object) -> tuple[float, float]:
    """Accuracy of the strategy and of the source alone, where the target is changed."""
    (zs, ys), (zp, yp), (zt, yt) = (draw(n, k) for k, n in enumerate((300, 200, 300)))
    source, pool = rows(zs, ys, "s"), rows(change(zp), yp, labelled=False)
    alone = accuracy(plain(Pooled), source, change(zt), yt)
    return accuracy(plain(strategy, **options), joined(pool, source), change(zt), yt), alone


GAIN = np.random.default_rng(5).uniform(0.2, 4.0, N_DIMS)
LEVEL = np.random.default_rng(6).normal(size=N_DIMS) * 4
_MIX = np.random.default_rng(7).normal(size=(N_DIMS, N_DIMS))
COLOUR = _MIX @ _MIX.T / N_DIMS + 0.1 * np.eye(N_DIMS)


@pytest.mark.parametrize(
    ("strategy", "options", "change"),
    [
        (Standardise, {"follow": False}, lambda z: z * GAIN + LEVEL),
        (Standardise, {}, lambda z: z * GAIN + LEVEL),
        (TowardSource, {}, lambda z: z * GAIN + LEVEL),
        (Mmd, {"follow": False, "n_components": 4, "rounds": 0}, lambda z: z + LEVEL),
        (Coral, {"follow": False, "shrink": 0.0}, lambda z: z @ COLOUR + LEVEL),
    ],
)
def test_what_the_alignment_undoes_no_longer_costs_anything(strategy, options, change) -> None:
    found, alone = shifted(strategy, change, **options)
    same, _ = shifted(Pooled, lambda z: z)
    assert alone < same - 0.1, "the shift does no harm, so nothing can be learnt from it"
    assert found > alone + 0.1
    if strategy in (Standardise, TowardSource):
        assert found > same - 0.05


def test_correlations_that_differ_need_more_than_one_scale_for_each_feature() -> None:
    change = lambda z: z @ COLOUR  # noqa: E731
    coral, _ = shifted(Coral, change, follow=False, shrink=0.0)
    each, _ = shifted(Standardise, change, follow=False)
    assert coral > each


def test_importance_finds_the_part_of_a_source_that_the_target_lies_in() -> None:
    random = np.random.default_rng(0)
    zs, zt = random.uniform(-3, 3, (600, 2)), random.uniform(-3, 3, (600, 2))
    zt[:, 0] = np.abs(zt[:, 0]) * 0.5 + 1.5
    codes = [((z[:, 1] > 0) ^ (z[:, 0] < 0)).astype(int) for z in (zs, zt)]
    source = rows(zs, codes[0], "s")
    train = joined(rows(zt[:200], codes[1][:200], labelled=False), source)
    alone = accuracy(plain(Pooled), train, zt[200:], codes[1][200:])
    assert alone < 0.8
    assert accuracy(plain(Importance), train, zt[200:], codes[1][200:]) > alone + 0.15


def turned(z: Array, degrees: float = 72.0) -> Array:
    """Turned in the plane of the first two values, and in that of the next two."""
    away, angle = np.eye(N_DIMS), np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    away[:2, :2], away[2:4, 2:4] = turn, turn.T
    return z @ away


def few_labels(seed: int, per_class: int = 4) -> tuple[Windows, Windows, Array, Array]:
    (zs, ys), (zf, yf), (zt, yt) = (draw(n, seed + k) for k, n in enumerate((400, 300, 400)))
    few = np.concatenate([np.flatnonzero(yf == c)[:per_class] for c in range(3)])
    return rows(turned(zf[few]), yf[few]), rows(zs, ys, "s"), turned(zt), yt


def test_naive_pooling_hurts_and_weight_for_the_target_cures_it() -> None:
    found = []
    for seed in (10, 20, 30):
        target, source, z, codes = few_labels(seed, per_class=10)
        both = joined(target, source)
        alone = accuracy(Probe(normalise="none"), target, z, codes)
        ways = [accuracy(plain(way), both, z, codes) for way in (Pooled, Weighted)]
        found.append([alone, *ways])
    alone, naive, weighted = np.mean(found, axis=0)
    assert naive < alone - 0.05
    assert weighted > naive + 0.05


def test_a_head_pulled_toward_the_source_needs_fewer_labels() -> None:
    found = []
    for seed in (40, 50, 60, 70):
        (zs, ys), (zf, yf), (zt, yt) = (
            draw(n, seed + k, far=2.0) for k, n in enumerate((400, 300, 400))
        )
        few = np.concatenate([np.flatnonzero(yf == c)[:3] for c in range(3)])
        target, bent = rows(zf[few] + LEVEL / 8, yf[few]), zt + LEVEL / 8
        both = joined(target, rows(zs, ys, "s"))
        found.append([
            accuracy(plain(TowardSource), both, bent, yt),
            accuracy(Probe(normalise="none"), target, bent, yt),
        ])  # fmt: skip
    pulled, alone = np.mean(found, axis=0)
    assert pulled > alone + 0.03


def test_labels_follow_the_shape_of_the_pool_where_classes_lie_apart() -> None:
    with_pool, without = [], []
    for seed in (0, 10, 20):
        (zs, ys), (zp, yp), (zt, yt) = (
            draw(n, seed + k, far=4.5) for k, n in enumerate((90, 300, 300))
        )
        train = joined(rows(turned(zp, 40), yp, labelled=False), rows(zs, ys, "s"))
        with_pool.append(accuracy(plain(Standardise), train, turned(zt, 40), yt))
        without.append(accuracy(plain(Standardise, follow=False), train, turned(zt, 40), yt))
    assert np.mean(with_pool) > np.mean(without) + 0.02


def test_other_shares_of_classes_in_the_target_do_not_break_it() -> None:
    (zs, ys), (zp, yp) = draw(300, 1, far=4.0), draw(300, 2, far=4.0, p=[0.75, 0.15, 0.1])
    zt, yt = draw(400, 3, far=4.0)
    train = joined(rows(zp + LEVEL / 8, yp, labelled=False), rows(zs, ys, "s"))
    found = accuracy(plain(Standardise), train, zt + LEVEL / 8, yt)
    assert found > 0.75


@pytest.mark.parametrize(
    "align", [as_they_are, standardised, Recoloured(4), Components(4, 3, rounds=1)]
)
def test_a_head_on_the_embedding_says_what_it_says_of_aligned_windows(align) -> None:
    (zs, ys), (zp, yp), (zt, yt) = (draw(n, k) for k, n in enumerate((80, 60, 30)))
    train = joined(rows(zt[:10], yt[:10]), joined(rows(zp, yp, labelled=False), rows(zs, ys, "s")))
    evidence = gather(train, TASK, "none")
    view = view_of(Plain(), evidence, known(evidence), Parts(align), 0)
    fit = fit_view(view, view.rows.codes)
    own = Plain().embed(evidence.own.x)
    assert np.allclose(fit.head.scores(own), fit.own, atol=1e-5)
    if view.aligned.matrix is None:
        assert np.array_equal(view.aligned.own, own), "the target itself is moved"
    else:
        assert np.allclose((own - view.aligned.mean) @ view.aligned.matrix, view.aligned.own,
                           atol=1e-4)  # fmt: skip


def test_domains_standardised_by_themselves_are_the_same_up_to_the_targets_scale() -> None:
    (own, _), (other, _) = draw(50, 0), draw(70, 1)
    moved = standardised(
        own.astype(np.float32),
        [(other * GAIN + LEVEL).astype(np.float32)],
        [],
    )
    back = (moved.others[0] - own.mean(axis=0)) / own.std(axis=0)
    assert np.allclose(back, (other - other.mean(axis=0)) / other.std(axis=0), atol=1e-3)


def test_rows_left_out_by_the_hat_matrix_are_rows_that_were_never_there() -> None:
    random = np.random.default_rng(0)
    z, weights = random.normal(size=(30, 4)), random.uniform(0.5, 3, 30)
    z = (z - np.average(z, axis=0, weights=weights)).astype(np.float32)
    goal, strength = np.eye(3)[random.integers(0, 3, 30)], 0.2
    system = hat(z, weights, one_scale=True)
    block = np.array([3, 7, 20])
    found = system.left_out(goal, strength, [block, np.array([11])])
    for gone in (block, np.array([11])):
        rest = np.setdiff1d(np.arange(30), gone)
        inputs = np.c_[z / system.scale, np.ones(30)]
        root = np.sqrt(weights)[:, None]
        penalty = strength * system.unit * np.diag([1.0] * 4 + [0.0])
        left, right = (inputs * root)[rest], (goal * root)[rest]
        weight = np.linalg.solve(left.T @ left + penalty, left.T @ right)
        assert np.allclose(found[gone], inputs[gone] @ weight, atol=1e-4)


@pytest.mark.parametrize("strategy", ALL)
def test_left_out_scores_know_nothing_of_the_group_in_any_domain(strategy) -> None:
    """Each group has a mark of its own that gives its label away, in the source and pool too."""
    random = np.random.default_rng(0)
    marks = random.normal(size=(24, 40)) * 3
    codes = random.permutation(np.repeat([0, 1, 2], 8))
    parts = []
    for domain, labelled in (("", True), ("", False), ("s", True)):
        for group in range(24):
            z = marks[group] + random.normal(size=(3, 40))
            parts.append(rows(z, np.full(3, codes[group]), domain, labelled=labelled,
                              groups=f"g{group}"))  # fmt: skip
    train = parts[0]
    for part in parts[1:]:
        train = joined(train, part)
    assert isinstance(plain(strategy), SelfScoring)
    found = score(plain(strategy), Plain(), train, TASK, seed=0)
    assert found.left_out is not None
    right = found.left_out.argmax(axis=1) == np.repeat(codes, 3)
    assert right.mean() < 0.6, "it knows the label of a group that was left out"
    assert np.allclose(found.left_out.sum(axis=1), 1)


@pytest.mark.parametrize("strategy", ALL)
def test_every_way_takes_what_there_is(strategy) -> None:
    (zs, ys), (zp, yp), (zt, yt) = (draw(n, k, far=4.0) for k, n in enumerate((90, 60, 200)))
    few = np.concatenate([np.flatnonzero(yp == c)[:3] for c in range(3)])
    target, pool = rows(zp[few], yp[few]), rows(zp, yp, labelled=False)
    source = rows(zs, ys, "s")
    trains = {
        "labels and source": joined(target, source),
        "pool and source": joined(pool, source),
        "labels, pool and source": joined(joined(target, pool), source),
        "source alone": source,
        "labels alone": target,
        "labels and pool": joined(target, pool),
    }
    for name, train in trains.items():
        model = plain(strategy).adapt(Plain(), train, TASK, seed=0)
        said = model.predict(rows(zt, yt, labelled=False))
        assert (said.labels == np.array(list("abc"))[yt]).mean() > 0.8, name
        learned = model.lineage["learned_from"]
        assert learned["target labels"] == (len(target) if "labels" in name else 0)
        assert ("note" in model.lineage) == ("source" not in name)


def test_sources_are_those_named() -> None:
    (zs, ys), (zo, yo), (zt, yt) = (draw(n, k, far=4.0) for k, n in enumerate((90, 200, 200)))
    liar = rows(zo, (yo + 1) % 3, "liar")
    train = joined(rows(zt[:50], yt[:50], labelled=False), joined(rows(zs, ys, "s"), liar))
    named = plain(Standardise, sources=("s",))
    assert accuracy(named, train, zt[50:], yt[50:]) > 0.9
    assert accuracy(plain(Standardise, sources=("liar",)), train, zt[50:], yt[50:]) < 0.2
    lineage = named.adapt(Plain(), train, TASK, seed=0).lineage
    assert list(lineage["learned_from"]["sources"]) == ["s"]


@pytest.mark.parametrize("strategy", ALL)
def test_the_target_may_have_fewer_classes_or_more_than_the_source(strategy) -> None:
    (zs, ys), (zt, yt) = (draw(n, k, n_classes=4, far=4.0) for k, n in enumerate((160, 400)))
    few = np.concatenate([np.flatnonzero(yt == c)[:6] for c in range(3)])
    fewer = joined(rows(zt[few], yt[few]), rows(zs, ys, "s"))
    rest = np.flatnonzero(yt < 3)[100:]
    model = plain(strategy).adapt(Plain(), fewer, TASK, seed=0)
    assert model.classes == ("a", "b", "c", "d"), "the source tells of one more"
    assert accuracy(plain(strategy), fewer, zt[rest], yt[rest]) > 0.75
    known_there = ys < 2
    more = joined(rows(zt[few], yt[few]), rows(zs[known_there], ys[known_there], "s"))
    assert accuracy(plain(strategy), more, zt[rest], yt[rest]) > 0.75


def test_several_backbones_are_one_model_whose_program_says_the_same() -> None:
    windows = sample_windows(noise=3.0)
    other = sample_windows(seed=1, noise=3.0)
    source = replace(other, x=other.x * 2 + 1, domains=np.full(len(other), "s"))
    half = np.arange(len(windows)) % 2 == 0
    train = joined(replace(windows, y=np.where(half, windows.y, "")), source)
    model = Standardise().adapt(load_backbone("statistics"), train, TASK, seed=0)
    assert len(model.members) == 2
    said = model.predict(windows).probabilities
    assert np.allclose(model.program.run(windows.x), said, atol=1e-4)


def test_of_a_large_pool_so_many_windows_are_drawn() -> None:
    z, codes = draw(50, 0)
    pool = rows(np.zeros((MOST_POOL + 10, N_DIMS)), np.zeros(MOST_POOL + 10, int), labelled=False)
    evidence = gather(joined(pool, rows(z, codes, "s")), TASK, "none")
    assert len(thinned(evidence, 0).pool) == MOST_POOL


def test_wide_embeddings_of_many_rows_go_through_fewer_directions(monkeypatch) -> None:
    monkeypatch.setattr(sys.modules["edgegraft.adapt.transfer"], "MOST_ROWS", 4)
    assert accuracy(plain(Pooled), rows(*draw(100, 0, far=4.0)), *draw(200, 1, far=4.0)) > 0.8


def test_groups_go_whole_unless_a_class_would_be_gone_or_there_is_but_one() -> None:
    codes, groups = np.array([0, 1, 0, 1, 0, 1]), np.array(["p", "p", "q", "q", "p", ""])
    found = Rows(codes, groups, 4, 0, 2)
    assert [block.tolist() for block in found.blocks(found.target)] == [[0, 1, 4], [2, 3]]
    lone = Rows(codes[:4], np.array(["p"] * 4), 4, 0, 2)
    assert [len(block) for block in lone.blocks(lone.target)] == [1, 1, 1, 1]
    rare = Rows(np.array([0, 1, 0]), np.array(["p", "p", "q"]), 3, 0, 2)
    assert rare.blocks(rare.target) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: Weighted(target_weight=0.0),
        lambda: Standardise(alpha=1.0),
        lambda: Standardise(n_neighbours=0),
    ],
)
def test_options_that_make_no_sense_are_refused(make) -> None:
    with pytest.raises(OptionError) as caught:
        make()
    assert caught.value.problems[0].code == "option-range"
