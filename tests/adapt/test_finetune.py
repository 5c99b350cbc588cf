"""Strategies that train: they learn, keep to their options, and survive tiny data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgegraft.adapt.augment import AUGMENTATIONS
from edgegraft.adapt.calibration import best_temperature, log_loss, softmax
from edgegraft.adapt.finetune import FineTune, Gradual, Scratch
from edgegraft.adapt.network import class_weights, loss_of, start_head
from edgegraft.adapt.tuning import TEMPERATURES
from edgegraft.tasks.classification import Classification
from edgegraft.testing import check_strategy, sample_windows
from edgegraft.zoo.conv1d import Conv1d
from edgegraft.zoo.statistics import Statistics
from edgegraft_edge.errors import OptionError
from edgegraft_edge.heads import DenseHead, LinearHead

SMALL = {"widths": [6, 8, 8], "kernels": [7, 5, 3], "strides": [2, 2, 2], "pooled": [1, 2]}
TASK = Classification()
ALL = pytest.mark.parametrize("kind", [FineTune, Gradual, Scratch])


def source(seed=0):
    encoder = Conv1d.random(seed=seed, **SMALL)
    return replace(encoder, card=replace(encoder.card, name="toy", kind="pretrained"))


def accuracy(adapted, windows):
    return float(np.mean(adapted.predict(windows).labels == windows.y))


def weights_of(adapted):
    return adapted.members[0].backbone.weights


@ALL
def test_trained_strategies_keep_the_contract(kind):
    check_strategy(kind(epochs=4), source(), TASK)


@ALL
@pytest.mark.parametrize("n_per_class", [1, 2])
def test_trained_strategies_survive_one_or_two_windows_per_class(kind, n_per_class):
    train = sample_windows(n_per_class=n_per_class)
    adapted = kind(epochs=2).adapt(source(), train, TASK, seed=0)
    assert adapted.lineage["training"]["held_out"] == 0
    assert accuracy(adapted, train) == 1.0


def test_finetune_starts_from_the_source_and_moves_all_of_it():
    encoder = source()
    tuned = weights_of(FineTune(epochs=2).adapt(encoder, sample_windows(), TASK, seed=0))
    for name, array in encoder.weights.items():
        moved = np.abs(tuned[name] - array).max()
        assert 0 < moved < 0.1, name


def test_finetune_frozen_blocks_stay():
    encoder = source()
    options = FineTune(epochs=2, frozen=("stem", "block1"))
    tuned = weights_of(options.adapt(encoder, sample_windows(), TASK, seed=0))
    same = {
        name.split(".")[0] for name in tuned if np.array_equal(tuned[name], encoder.weights[name])
    }
    assert same == {"stem", "block1"}


def test_scratch_forgets_the_source():
    train = sample_windows()
    first = Scratch(epochs=2).adapt(source(0), train, TASK, seed=4)
    second = Scratch(epochs=2).adapt(source(1), train, TASK, seed=4)
    other = Scratch(epochs=2).adapt(source(0), train, TASK, seed=5)
    assert all(np.array_equal(a, weights_of(second)[name]) for name, a in weights_of(first).items())
    assert not np.array_equal(weights_of(first)["stem.weight"], weights_of(other)["stem.weight"])
    assert first.lineage["pretrained"] is False


def test_gradual_moves_lower_blocks_less_and_pull_holds_it():
    encoder, train = source(), sample_windows()
    options = Gradual(epochs=10, mix=1.0, learning_rate=5e-3)

    def moved(options):
        tuned = weights_of(options.adapt(encoder, train, TASK, seed=0))
        return [
            float(np.sqrt(np.mean((tuned[f"{b}.weight"] - encoder.weights[f"{b}.weight"]) ** 2)))
            for b in encoder.blocks
        ]

    free, held = moved(replace(options, pull=0.0)), moved(replace(options, pull=30.0))
    assert 0 < free[0] < free[1] < free[2]
    assert sum(held) < 0.7 * sum(free)


def test_gradual_mix_zero_is_the_source_with_its_closed_form_head():
    encoder, train = source(), sample_windows()
    kept = weights_of(Gradual(epochs=3, mix=0.0).adapt(encoder, train, TASK, seed=0))
    assert all(np.array_equal(kept[name], array) for name, array in encoder.weights.items())


def test_gradual_unfreezes_from_the_top():
    options, blocks = Gradual(head_share=0.2), ("stem", "block1", "block2")
    open_at = [
        [block for block in blocks if options.pace(blocks, block, share) > 0]
        for share in (0.0, 0.25, 0.45, 0.9)
    ]
    assert open_at == [[], ["block2"], ["block1", "block2"], list(blocks)]


@pytest.mark.parametrize("loss", ["cross-entropy", "binary-cross-entropy", "mse"])
@pytest.mark.parametrize("activation", ["relu", "leaky-relu", "sigmoid", "tanh"])
def test_finetune_added_layers_and_losses(loss, activation):
    options = FineTune(epochs=3, hidden=(12, 9), activation=activation, loss=loss)
    train = sample_windows()
    adapted = options.adapt(source(), train, TASK, seed=0)
    head = adapted.members[0].head
    assert isinstance(head, DenseHead)
    assert [weight.shape[1] for weight in head.weights] == [12, 9, 3]
    said = adapted.predict(train).probabilities
    np.testing.assert_allclose(adapted.program.run(train.x), said, atol=1e-4)
    assert accuracy(adapted, train) > 0.8


def test_finetune_class_weights_favour_the_class():
    train = sample_windows(n_per_class=6)
    train = replace(train, x=np.random.default_rng(0).normal(size=train.x.shape).astype("f"))
    common = {"epochs": 8, "held_out": 0.0, "learning_rate": 1e-2, "augmentation": ()}
    share = {
        text: (
            FineTune(**common, class_weights=text)
            .adapt(source(), train, TASK, seed=0)
            .predict(sample_windows(seed=9))
            .probabilities[:, 0]
            .mean()
        )
        for text in ("none", "rest=30")
    }
    assert share["rest=30"] > share["none"] + 0.05


def test_finetune_until_reaches_its_target_on_held_out_windows():
    options = FineTune(epochs=50, until="accuracy>=0.8")
    adapted = options.adapt(source(), sample_windows(n_per_class=24), TASK, seed=0)
    training = adapted.lineage["training"]
    assert training["stopped"] == "target"
    assert training["history"][-1]["validation_accuracy"] >= 0.8
    assert training["held_out"] > 0


def test_finetune_holds_out_only_where_labels_allow_or_a_target_asks():
    def held_out(n_per_class, **options):
        windows = sample_windows(n_per_class=n_per_class)
        adapted = FineTune(epochs=1, **options).adapt(source(), windows, TASK, seed=0)
        return adapted.lineage["training"]["held_out"]

    assert held_out(8) == 0
    assert held_out(8, patience=3) > 0
    assert held_out(20) > 0
    assert held_out(20, held_out=0.0) == 0
    with pytest.raises(OptionError, match="target-unseen"):
        held_out(2, until="accuracy>=0.9")


def test_finetune_resumes_each_part_from_its_own_file(tmp_path):
    train, options = sample_windows(n_per_class=20), FineTune(epochs=3, checkpoint=str(tmp_path))
    whole = options.adapt(source(), train, TASK, seed=0)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2  # with windows held out, and with all

    class Stop(Exception):
        pass

    def watch(event, values):
        if event == "epoch":
            raise Stop

    again = options.adapt(source(), train, TASK, seed=0, watch=watch)  # nothing is left to train
    assert np.array_equal(again.predict(train).probabilities, whole.predict(train).probabilities)
    with pytest.raises(Stop):
        options.adapt(source(), train, TASK, seed=1, watch=watch)
    assert whole.lineage["options"]["checkpoint"] == ""


def test_finetune_interrupt_gives_a_model_all_the_same():
    count = 0

    def watch(event, values):
        nonlocal count
        count += event == "epoch"
        if count == 2:
            raise KeyboardInterrupt

    train = sample_windows()
    adapted = FineTune(epochs=30).adapt(source(), train, TASK, seed=0, watch=watch)
    assert adapted.lineage["training"]["stopped"] == "interrupt"
    assert accuracy(adapted, train) > 0.8


def test_finetune_leaves_threads_and_random_state_of_torch_alone():
    torch.manual_seed(11)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(11)
    FineTune(epochs=1).adapt(source(), sample_windows(n_per_class=2), TASK, seed=0)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"frozen": ("blok1",)}, "block-unknown"),
        ({"class_weights": "walkk=2"}, "class-unknown"),
        ({"class_weights": "walk=-1"}, "option-value"),
        ({"class_weights": "heavy"}, "class-unknown"),
        ({"augmentation": ("jiter",)}, "augmentation-unknown"),
        ({"activation": "gelu"}, "activation-unknown"),
        ({"dropout": 1.0}, "option-range"),
        ({"hidden": (0,)}, "option-range"),
        ({"until": "f2>=0.9"}, "metric-unknown"),
        ({"epochs": 0}, "option-range"),
    ],
)
def test_finetune_refuses_options_with_a_code(options, code):
    with pytest.raises(OptionError) as caught:
        FineTune(**options).adapt(source(), sample_windows(), TASK, seed=0)
    assert caught.value.code == code


def test_finetune_refuses_a_backbone_without_weights():
    with pytest.raises(OptionError, match="backbone-fixed"):
        FineTune().adapt(Statistics(), sample_windows(), TASK, seed=0)


# -- parts


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_augmentation_changes_windows_a_little_and_by_its_seed(name):
    along_time = AUGMENTATIONS[name].__module__.endswith(".augment")
    shape = (40, 3, 64) if along_time else (40, 3, 20, 32)
    x = np.random.default_rng(0).normal(size=shape).cumsum(axis=-1).cumsum(axis=2)
    x = x.astype(np.float32)
    copy = x.copy()
    change = AUGMENTATIONS[name]
    first, again = (change(x, np.random.default_rng(3)) for _ in range(2))
    other = change(x, np.random.default_rng(4))
    assert first.shape == x.shape
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(x, copy)
    assert np.corrcoef(first.ravel(), x.ravel())[0, 1] > (0.5 if along_time else 0.3)


def test_start_head_with_hidden_layers_folds_its_scale():
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], 20)
    z = (rng.normal(size=(60, 10)) + 2 * np.eye(3, 10)[codes]) * np.geomspace(0.3, 3, 10) + 5
    for hidden, kind in (((), LinearHead), ((16,), DenseHead)):
        shape, parameters = start_head(z, codes, 3, hidden=hidden, seed=1)
        head = shape.finish(parameters)
        assert isinstance(head, kind)
        tensors = {name: torch.tensor(array) for name, array in parameters.items()}
        logits = shape.forward(tensors, torch.tensor(z, dtype=torch.float32)).numpy()
        np.testing.assert_allclose(head.scores(z.astype("f")), softmax(logits), atol=1e-3)
        assert np.mean(head.scores(z.astype("f")).argmax(1) == codes) > 0.8


def test_temperature_cools_what_is_too_sure_and_trusts_few_windows_little():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(300, 3))
    codes = np.array([rng.choice(3, p=p) for p in softmax(logits)])
    found, loss = best_temperature(logits, codes, TEMPERATURES)
    assert 0.8 < found < 1.25
    assert loss == pytest.approx(log_loss(softmax(logits / found), codes))
    found, _ = best_temperature(4 * logits, codes, TEMPERATURES)
    assert 3 < found < 5
    cautious, _ = best_temperature(4 * logits[:4], codes[:4], TEMPERATURES, caution=2.0)
    assert abs(np.log(cautious)) < abs(np.log(found))


@pytest.mark.parametrize("loss", ["cross-entropy", "binary-cross-entropy", "mse"])
def test_losses_prefer_the_truth_and_weigh_samples(loss):
    codes = torch.tensor([0, 1])
    right, wrong = (
        torch.tensor([[3.0, -3.0], [-3.0, 3.0]]),
        torch.tensor([[3.0, -3.0], [3.0, -3.0]]),
    )
    even, first = torch.ones(2), torch.tensor([1.0, 0.0])
    assert loss_of(loss, right, codes, even) < loss_of(loss, wrong, codes, even)
    assert torch.isclose(loss_of(loss, right, codes, first), loss_of(loss, wrong, codes, first))


def test_class_weights_as_text():
    classes, codes = ("a=b", "c"), np.array([0, 0, 0, 1])
    assert class_weights("none", classes, codes).tolist() == [1, 1]
    assert class_weights("a=b=2.5,c=1", classes, codes).tolist() == [2.5, 1]
    assert (class_weights("balanced", classes, codes)[codes].sum()) == pytest.approx(4)
