"""Adversarial, source-free and test-time transfer: they help under a shift, and do no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgegraft.adapt.across import lay, learn, of_encoder
from edgegraft.adapt.adversarial import Cdan, Dann
from edgegraft.adapt.divergence import DIVERGENCES, Adversary, Views, grown, reverse
from edgegraft.adapt.feature_net import FeatureNet, unit_scales
from edgegraft.adapt.loop import Lesson, Training, train
from edgegraft.adapt.mixture import mix
from edgegraft.adapt.probe import Probe, Trees
from edgegraft.adapt.shot import Shot, centroid_labels
from edgegraft.adapt.strategy import build_strategy, unwatched
from edgegraft.adapt.tent import Tent, TestTime
from edgegraft.data.domains import beside, joined, pool_of
from edgegraft.tasks.classification import Classification
from edgegraft.testing import check_strategy, sample_windows
from edgegraft.zoo.conv1d import Conv1d
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError, ModelError, OptionError

SMALL = {"widths": [6, 8, 8], "kernels": [7, 5, 3], "strides": [2, 2, 2], "pooled": [1, 2]}
TASK = Classification()
KINDS = (Dann, Cdan, Shot, Tent)
ALL = pytest.mark.parametrize("kind", KINDS)


def encoder():
    made = Conv1d.random(seed=0, **SMALL)
    return replace(made, card=replace(made.card, name="toy", kind="pretrained"))


def shifted(windows):
    """The same activities on a device with other gains and levels, and a slow drift."""
    gain, level = np.array([0.4, 2.0, 1.0]), np.array([1.5, -1.0, 2.0])
    drift = np.linspace(-0.5, 0.5, windows.x.shape[2])
    x = windows.x * gain[:, None] + level[:, None] + drift
    return replace(windows, x=x.astype(np.float32))


def two_devices(labels=0, noise=1.2):
    """Training windows (source, pool and so many labels per class), and the target's test."""
    source = sample_windows(n_per_class=16, seed=0, noise=noise)
    pool = shifted(sample_windows(n_per_class=16, seed=1, noise=noise))
    test = shifted(sample_windows(n_per_class=16, seed=2, noise=noise))
    target = pool.take(np.arange(3 * labels))
    train = beside(target, pool.take(np.arange(3 * labels, len(pool))), {"old": source})
    return (joined(target, train) if labels else train), test


def accuracy(model, windows):
    return float(np.mean(model.predict(windows).labels == windows.y))


def test_the_gradient_of_a_reversal_points_the_other_way():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    value = reverse(x, 0.5)
    assert torch.equal(value.detach(), x.detach())
    (value * torch.tensor([3.0, 4.0])).sum().backward()
    assert x.grad.tolist() == [-1.5, -2.0]


def test_an_adversary_learns_the_domain_while_what_it_sees_unlearns_it():
    bound = Adversary().bound(4, 2, seed=0)
    weights = {name: torch.tensor(a, requires_grad=True) for name, a in bound.parameters.items()}
    z = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    said = torch.full((4, 2), 0.5)
    loss = bound.loss(weights, Views(z[:4], z[4:], torch.zeros(4).long(), said, said), 1.0)
    loss.backward()
    with torch.no_grad():
        step = 0.05
        moved = {n: w - step * w.grad for n, w in weights.items()}
        views = Views(z[:4], z[4:], torch.zeros(4).long(), said, said)
        assert bound.loss(moved, views, 1.0) < loss  # the classifier descends its loss
        after = z - step * z.grad
        views = Views(after[:4], after[4:], torch.zeros(4).long(), said, said)
        assert bound.loss(weights, views, 1.0) > loss  # what it sees climbs it


@pytest.mark.parametrize("name", DIVERGENCES)
def test_descending_a_divergence_brings_domains_together(name):
    random = np.random.default_rng(0)
    stretch, level = ([1.5, 0.3, 0.6], 0.0) if name == "coral" else ([0.5, 0.5, 0.5], 1.0)
    source = torch.tensor(random.normal(size=(40, 3)) * 0.5, dtype=torch.float32)
    target = torch.tensor(random.normal(size=(40, 3)) * stretch + level, dtype=torch.float32)
    bound = DIVERGENCES[name].bound(3, 2, seed=0)
    weights = {n: torch.tensor(a, requires_grad=True) for n, a in bound.parameters.items()}
    gain, shift = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    said = torch.full((40, 2), 0.5)

    def gap():
        z = (target * gain + shift).detach()
        return float((z.mean(0) - source.mean(0)).norm() + (z.std(0) - source.std(0)).norm())

    before = gap()
    optimiser = torch.optim.Adam([gain, shift, *weights.values()], lr=0.01)
    for step in range(200):
        optimiser.zero_grad()
        views = Views(source, target * gain + shift, torch.zeros(40).long(), said, said)
        bound.loss(weights, views, grown(step / 200)).backward()
        optimiser.step()
    assert gap() < 0.5 * before


def test_windows_whose_class_is_clear_weigh_more_where_certainty_counts():
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    sure, unsure = torch.tensor([[0.999, 0.001]]), torch.tensor([[0.5, 0.5]])
    bound = Adversary(conditional=True, by_certainty=True).bound(2, 2, seed=0)
    weights = {n: torch.tensor(a) for n, a in bound.parameters.items()}
    views = Views(z, z.detach(), torch.zeros(2).long(), torch.cat([sure, unsure]),
                  torch.cat([unsure, unsure]))  # fmt: skip
    bound.loss(weights, views, 1.0).backward()
    plain = Adversary(conditional=True).bound(2, 2, seed=0)
    other = z.detach().clone().requires_grad_()
    plain.loss(weights, replace(views, source=other), 1.0).backward()
    ratio = (z.grad.norm(dim=1) / other.grad.norm(dim=1)).tolist()
    assert ratio[0] > 1 > ratio[1]


@ALL
@pytest.mark.parametrize(("name", "noise"), [("toy", 1.2), ("statistics", 2.5)])
def test_each_helps_where_the_device_changed(kind, name, noise):
    backbone = encoder() if name == "toy" else load_backbone(name)
    train, test = two_devices(noise=noise)
    alone = Dann(strength=0.0, per_domain=False, epochs=5).adapt(backbone, train, TASK, seed=0)
    model = kind(epochs=10).adapt(backbone, train, TASK, seed=0)
    assert accuracy(alone, test) < 0.7
    assert accuracy(model, test) > accuracy(alone, test) + 0.1
    np.testing.assert_allclose(
        model.program.run(test.x), model.predict(test).probabilities, atol=2e-3
    )


@ALL
def test_each_keeps_the_contract_on_features_that_are_fixed(kind):
    check_strategy(kind(epochs=4), load_backbone("statistics"), TASK)


@ALL
def test_each_takes_labels_of_the_target_where_there_are_some(kind):
    train, test = two_devices(labels=2)
    model = kind(epochs=4).adapt(encoder(), train, TASK, seed=0)
    assert model.lineage["evidence"] == {
        "labelled": 6,
        "pool": 42,
        "sources": {"old": 48},
        "unrelated": [],
    }
    assert model.lineage["fallback"] == ""
    assert accuracy(model, test) > 0.5


@ALL
def test_each_says_when_there_is_nothing_to_transfer(kind):
    plain = kind(epochs=2).adapt(encoder(), sample_windows(), TASK, seed=0)
    assert plain.lineage["fallback"].startswith("no source")
    source = sample_windows()
    train = beside(source.take([]), None, {"old": source})
    only = kind(epochs=2).adapt(encoder(), train, TASK, seed=0)
    assert only.lineage["fallback"].startswith("no window of the target")
    assert accuracy(only, source) > 0.8


@ALL
def test_each_repeats_with_the_pool_and_the_sources(kind):
    train, test = two_devices()
    said = [
        kind(epochs=3).adapt(encoder(), train, TASK, seed=seed).predict(test).probabilities
        for seed in (3, 3, 4)
    ]
    np.testing.assert_allclose(said[0], said[1], atol=1e-6)
    assert np.abs(said[0] - said[2]).max() > 1e-4


@ALL
def test_interrupted_training_keeps_what_it_has(kind):
    train, test = two_devices()

    def watch(event, values):
        if event == "epoch" and values["epoch"] == 2:
            raise KeyboardInterrupt

    model = kind().adapt(encoder(), train, TASK, seed=0, watch=watch)
    assert model.lineage["training"]["stopped"] == "interrupt"
    assert model.lineage["training"]["epochs"] == 2
    assert np.isfinite(model.predict(test).probabilities).all()


@pytest.mark.parametrize("kind", [Shot, Tent])
def test_interrupted_settling_keeps_what_it_has(kind):
    train, test = two_devices()
    model = kind(epochs=2).adapt(encoder(), train, TASK, seed=0)
    seen = []

    def watch(event, values):
        seen.append(event)
        if seen.count("epoch") == 3:
            raise KeyboardInterrupt

    settled = kind().settle(model, pool_of(train), watch=watch)
    assert settled.lineage["settled"]["stopped"] == "interrupt"
    assert np.isfinite(settled.predict(test).probabilities).all()


def test_settling_needs_the_model_and_the_target_alone():
    train, test = two_devices()
    source = train.take(~train.at_target)
    model = Dann(epochs=4, per_domain=False).adapt(
        encoder(), replace(source, domains=np.full(len(source), "")), TASK, seed=0
    )
    del source
    shot = Shot(settling=30)
    settled = shot.settle(model, pool_of(train), seed=0)
    assert accuracy(settled, test) > accuracy(model, test) + 0.1
    head = settled.members[0].head
    assert np.array_equal(head.weight, model.members[0].head.weight)
    moved = settled.members[0].backbone.weights
    assert not np.array_equal(
        moved["stem.weight"], model.members[0].backbone.weights["stem.weight"]
    )


def test_settling_refuses_what_it_cannot_follow():
    windows = sample_windows()
    statistics = load_backbone("statistics")
    trees = Trees(n_trees=5).adapt(statistics, windows, TASK, seed=0)
    probe = Probe().adapt(statistics, windows, TASK, seed=0)
    for model, code in (
        (trees, "head-not-linear"),
        (mix([probe, probe], [1, 1], {}), "head-not-linear"),
        (probe, "backbone-fixed"),
    ):
        with pytest.raises(OptionError) as caught:
            Shot().settle(model, windows)
        assert caught.value.code == code
    for model in (trees, mix([probe, probe], [1, 1], {})):
        with pytest.raises(OptionError) as caught:
            Tent().settle(model, windows)
        assert caught.value.code == "head-not-linear"


def test_pseudo_labels_keep_known_classes_and_leave_empty_ones_out():
    random = np.random.default_rng(0)
    truth = np.repeat([0, 2], 20)
    z = random.normal(size=(40, 5)) + 4 * np.eye(5)[truth]
    said = np.eye(3)[truth] * 0.5 + 0.5 / 3
    codes = np.full(40, -1)
    codes[0] = 2
    labels = centroid_labels(z, said, codes)
    assert labels[0] == 2
    assert np.array_equal(labels[1:], truth[1:])


def test_only_the_targets_statistics_ship():
    train, _ = two_devices()
    ground = lay(encoder(), train, TASK, Dann(), 0)
    assert np.abs(ground.centres[0] - ground.centres[1]).max() > 0.01
    head = ground.target_shape().finish(ground.parameters)
    unit = (ground.encoder.embed(ground.evidence.pool.x) - ground.centres[0]) / ground.scales[0]
    logits = unit @ ground.parameters["head.out.weight"] + ground.parameters["head.out.bias"]
    said = head.scores(ground.encoder.embed(ground.evidence.pool.x))
    np.testing.assert_allclose(
        np.log(said) - np.log(said)[:, :1], logits - logits[:, :1], atol=0.01
    )


def test_statistics_of_few_windows_are_drawn_toward_those_of_all():
    random = np.random.default_rng(0)
    many, one = random.normal(size=(200, 2)), np.full((1, 2), 9.0)
    centres, scales = unit_scales([one, many], per_domain=True)
    assert np.all(centres[0] < 2)
    assert np.all(scales[0] > 0.3)


def test_the_layer_on_fixed_features_starts_as_the_identity_and_learns():
    train, _ = two_devices(noise=2.5)
    options = Dann(epochs=3)
    ground = lay(load_backbone("statistics"), train, TASK, options, 0)
    assert isinstance(ground.encoder, FeatureNet)
    x = ground.evidence.pool.x
    np.testing.assert_allclose(ground.encoder.embed(x), ground.encoder.prepare(x), atol=1e-6)
    trained = learn(ground, options, unwatched)
    moved = ground.encoder.with_weights(of_encoder(trained.parameters))
    assert np.abs(moved.embed(x) - ground.encoder.embed(x)).max() > 1e-4
    np.testing.assert_allclose(moved.program(*x.shape[1:]).run(x), moved.embed(x), atol=1e-3)


def test_gradients_that_are_shortened_do_not_explode():
    start = {"w": np.full(3, 2.0, np.float32)}

    def loss(current, batch, random):
        return 1e4 * current["w"].square().sum()

    options = Training(optimiser="sgd", learning_rate=0.01, epochs=60, batch_size=4)
    with pytest.raises(ModelError):
        train(Lesson(start, 4, loss), options, seed=0)
    held = train(Lesson(start, 4, loss, steepest=1.0), options, seed=0)
    assert np.abs(held.parameters["w"]).max() < 2.0


def test_options_out_of_range_are_refused_together():
    for make, codes in (
        (lambda: Dann(divergence="wasserstein", strength=-1), {"option-value", "option-range"}),
        (lambda: Shot(rounds=0, pseudo=-1), {"option-range"}),
        (lambda: Tent(affine_rate=0), {"option-range"}),
        (lambda: Dann(dropout=1.0, target_weight=0), {"option-range"}),
    ):
        with pytest.raises(OptionError) as caught:
            make()
        assert {problem.code for problem in caught.value.problems} == codes


@pytest.mark.parametrize("name", ["dann", "cdan", "shot", "tent"])
def test_strategies_are_found_by_name(name):
    assert type(build_strategy(name)).__name__.lower() == name


# -- on a stream ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def live():
    source = sample_windows(n_per_class=30, seed=0, noise=3.0)
    return Probe().adapt(load_backbone("statistics"), source, TASK, seed=0), source


def test_test_time_never_changes_the_original(live):
    model, source = live
    test = shifted(sample_windows(n_per_class=30, seed=5, noise=3.0))
    before = model.predict(test).probabilities
    adapting = TestTime(model, source, learning_rate=0.05)
    adapting.predict(test)
    assert adapting.state.n_windows or adapting.n_resets
    assert np.array_equal(model.predict(test).probabilities, before)
    adapting.reset()
    np.testing.assert_allclose(adapting.now.predict(test).probabilities, before, atol=1e-4)


def test_test_time_on_a_stream_of_one_class_is_no_worse_than_the_original(live):
    model, source = live
    test = sample_windows(n_per_class=200, seed=6, noise=3.0)
    for name in test.classes:
        stream = test.take(np.flatnonzero(test.y == name))
        adapting = TestTime(model, source, learning_rate=0.05)
        assert accuracy(adapting, stream) >= accuracy(model, stream) - 0.005, name


def test_test_time_goes_back_when_a_hostile_stream_leads_it_astray(live, monkeypatch):
    model, source = live
    random = np.random.default_rng(0)
    test = sample_windows(n_per_class=60, seed=7, noise=3.0)
    noise = replace(test, x=(8 * random.normal(size=test.x.shape)).astype(np.float32))

    def afterwards():
        adapting = TestTime(model, source, learning_rate=0.5)
        for _ in range(4):
            adapting.predict(noise)
        return adapting.n_resets, accuracy(adapting.now, test)

    n_resets, guarded = afterwards()
    monkeypatch.setattr(TestTime, "_strayed", lambda self, state: False)
    assert n_resets > 0
    assert guarded >= accuracy(model, test) - 0.05
    assert afterwards()[1] < guarded - 0.1


def test_test_time_follows_a_small_change_of_the_device(live):
    model, source = live
    level = np.array([1.0, -1.0, 1.0], np.float32)[:, None]
    test = sample_windows(n_per_class=200, seed=8, noise=3.0)
    moved = replace(test, x=test.x + level)
    adapting = TestTime(model, source)
    assert accuracy(adapting, moved) > accuracy(model, moved) + 0.02


def test_test_time_starts_anew_after_so_many_windows(live):
    model, source = live
    adapting = TestTime(model, source, batch_size=10, every=30)
    adapting.predict(sample_windows(n_per_class=10, seed=9))
    assert adapting.state.n_windows == 0
    adapting.predict(sample_windows(n_per_class=5, seed=9))
    assert adapting.state.n_windows == 15


def test_test_time_refuses_what_makes_no_sense(live):
    model, source = live
    with pytest.raises(DataError) as caught:
        TestTime(model, source.take([]))
    assert caught.value.code == "reference-empty"
    with pytest.raises(OptionError) as caught:
        TestTime(model, source, drift=0, batch_size=0)
    assert len(caught.value.problems) == 2
