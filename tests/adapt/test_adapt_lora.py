"""LoRA: what it trains, what it leaves alone, and what ships."""

import numpy as np
import pytest

from edgegraft.adapt.lora import Lora, LowRank, draw_updates
from edgegraft.tasks.classification import Classification
from edgegraft.testing import sample_windows
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import OptionError
from edgegraft_edge.signal import TextSpec, Windows

TASK = Classification()
SPEC = TextSpec(48)


def sentences(n_per_class=8):
    random = np.random.default_rng(0)
    words = {"light": ["lamp", "light", "bright"], "heat": ["warm", "heat", "cold"]}
    texts, labels = [], []
    for label, own in words.items():
        for _ in range(n_per_class):
            texts.append(" ".join(random.choice([*own, "the", "please", "now"], 4)))
            labels.append(label)
    return Windows(SPEC.pack(texts), np.array(labels), np.full(len(labels), ""), SPEC)


def tuned(name="bert-tiny-random", **options):
    windows = sentences()
    source = load_backbone(name).fit(windows, seed=0)
    adapted = Lora(epochs=3, **options).adapt(source, windows, TASK, seed=0)
    return source, adapted.members[0].backbone, adapted


@pytest.mark.parametrize("name", ["bert-tiny-random", "gpt2-tiny-random"])
def test_only_attention_moves_and_by_low_rank(name):
    source, after, _ = tuned(name, rank=2)
    moved = {
        weight: np.linalg.matrix_rank(after.weights[weight] - array, tol=1e-6)
        for weight, array in source.weights.items()
        if not np.array_equal(after.weights[weight], array)
    }
    parts = {"three"} if name.startswith("gpt2") else {"query", "value"}
    assert {weight.split(".")[1] for weight in moved} == parts
    assert len(moved) == 2 * len(parts)
    assert set(moved.values()) == {2}


def test_blocks_and_matrices_are_chosen_by_name():
    source, after, _ = tuned(blocks=("layer2",), matrices=("wide",))
    moved = [n for n, a in source.weights.items() if not np.array_equal(after.weights[n], a)]
    assert moved == ["layer2.wide.weight"]


def test_what_ships_is_the_network_itself_and_needs_no_adapter():
    source, after, adapted = tuned()
    assert type(after) is type(source)
    assert after.card == source.card
    windows = sentences(2)
    found = adapted.program.run(windows.x)
    assert np.allclose(found, adapted.predict(windows).probabilities, atol=1e-5)
    assert adapted.lineage["strategy"] == "lora"
    assert adapted.lineage["options"]["rank"] == 8


def test_training_starts_from_the_network_as_it_was():
    import torch

    windows = sentences()
    source = load_backbone("bert-tiny-random").fit(windows, seed=0)
    low = Lora().start(source, 0)
    assert isinstance(low, LowRank)
    weights = {name: torch.from_numpy(array) for name, array in low.weights.items()}
    x = torch.from_numpy(source.prepare(windows.x))
    assert np.allclose(low.forward(weights, x).numpy(), source.embed(windows.x), atol=1e-6)


def test_it_learns_what_a_frozen_network_does_not_tell():
    windows = sentences(16)
    adapted = Lora(epochs=30, learning_rate=1e-2, batch_size=16, augmentation=()).adapt(
        load_backbone("bert-tiny-random"), windows, TASK, seed=0
    )
    losses = [epoch["loss"] for epoch in adapted.lineage["training"]["history"]]
    assert losses[-1] < 0.5 * losses[0]


def test_convolutions_count_as_matrices():
    windows = sample_windows()
    source = load_backbone("conv1d-random").fit(windows, seed=0)
    adapted = Lora(epochs=2, rank=3).adapt(source, windows, TASK, seed=0)
    after = adapted.members[0].backbone
    deltas = [after.weights[n] - a for n, a in source.weights.items() if a.ndim > 1]
    assert all(0 < np.linalg.matrix_rank(d.reshape(len(d), -1), tol=1e-6) <= 3 for d in deltas)


def test_updates_are_drawn_anew_for_another_network():
    weights = {"a.w": np.ones((6, 4), np.float32)}
    one, same = (draw_updates(weights, ["a.w"], 9, 0) for _ in range(2))
    other = draw_updates({"a.w": 2 * weights["a.w"]}, ["a.w"], 9, 0)
    assert np.array_equal(one["a.w.down"], same["a.w.down"])
    assert not np.array_equal(one["a.w.down"], other["a.w.down"])
    assert one["a.w.down"].shape == (6, 4)
    assert not one["a.w.up"].any()


def test_wrong_options_are_refused_at_once():
    with pytest.raises(OptionError) as caught:
        Lora(rank=0, alpha=0.0)
    assert [problem.code for problem in caught.value.problems] == ["option-range"] * 2
    with pytest.raises(OptionError, match="block-unknown"):
        tuned(blocks=("layer7",))
    with pytest.raises(OptionError, match="backbone-fixed"):
        Lora().adapt(load_backbone("tfidf"), sentences(), TASK, seed=0)
