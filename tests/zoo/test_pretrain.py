"""Pretraining: with labels, without, on sources of any form; what it writes can be loaded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgegraft.adapt.pretrain import Pretraining, pretrain, save
from edgegraft.adapt.ridge import fit_ridge
from edgegraft.adapt.signals import draw_signals
from edgegraft.testing import sample_windows
from edgegraft.zoo.conv1d import Conv1d
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError, ModelError, OptionError
from edgegraft_edge.signal import Windows

SHAPE = {"widths": [6, 8], "kernels": [7, 5], "strides": [2, 2], "pooled": [0, 1]}
FAST = Pretraining(epochs=2, rows=24, batch_size=12, length=48)


def unlabelled(windows):
    return replace(windows, y=np.full(len(windows), ""))


def same(a, b):
    return all(np.array_equal(array, b.weights[name]) for name, array in a.weights.items())


def test_pretrain_takes_sources_that_differ_in_channels_rate_length_and_labels():
    seen = []
    sources = [
        sample_windows(n_channels=3, n_timepoints=64),
        sample_windows(n_channels=1, n_timepoints=200, rate_hz=20.0, n_classes=2),
        unlabelled(sample_windows(n_channels=5, n_timepoints=30, rate_hz=1.0)),
    ]
    encoder = pretrain(sources, FAST, shape=SHAPE, watch=lambda *news: seen.append(news))
    assert encoder.card.kind == "pretrained"
    assert encoder.card.rate_hz == FAST.rate_hz
    assert encoder.embed(sample_windows(7, 90).x).shape == (24, 7 * encoder.shape.channel_dim)
    assert [values["epoch"] for event, values in seen if event == "epoch"] == [1, 2]


@pytest.mark.parametrize(
    "options",
    [
        replace(FAST, epochs=12, contrast=0.0),
        replace(FAST, epochs=12, labels=False, contrast=1.0, synthetic=0.0),
    ],
    ids=["labels", "no-labels"],
)
def test_pretrain_lowers_its_loss(options):
    losses = []
    pretrain(
        [sample_windows(n_per_class=16)],
        replace(options, learning_rate=5e-3),
        shape=SHAPE,
        watch=lambda event, values: losses.append(values["loss"]),
    )
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:2])


def test_pretrain_helps_on_what_it_saw():
    rng = np.random.default_rng(0)
    codes = np.tile([0, 1], 60)
    time = np.arange(64) / 64

    def tones(codes):
        phase = rng.uniform(0, 6.3, (len(codes), 1, 1))
        pitch = np.where(codes == 0, 10, 12)[:, None, None]
        return np.sin(2 * np.pi * pitch * time + phase) + rng.normal(size=(len(codes), 1, 64))

    source = Windows.of(tones(codes), codes.astype(str), rate_hz=50.0)
    few, test = tones(codes[:12]).astype("f"), tones(codes).astype("f")

    def score(encoder):
        head = fit_ridge(encoder.embed(few), codes[:12], 2).head
        return np.mean(head.scores(encoder.embed(test)).argmax(1) == codes)

    options = Pretraining(
        epochs=40, contrast=0.0, length=64, stretch=(1.0, 1.0), learning_rate=5e-3, batch_size=30
    )
    assert score(pretrain([source], options, shape=SHAPE)) > score(Conv1d.random(**SHAPE)) + 0.1


def test_pretrain_repeats_for_a_seed():
    source = [sample_windows()]
    first, again, other = (pretrain(source, FAST, shape=SHAPE, seed=s) for s in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)


def test_pretrain_goes_on_after_a_stop(tmp_path):
    path, source = tmp_path / "run.safetensors", [sample_windows()]
    options = replace(FAST, epochs=4)
    whole = pretrain(source, options, shape=SHAPE)

    class Stop(Exception):
        pass

    def watch(event, values):
        if values["epoch"] == 3:
            raise Stop

    with pytest.raises(Stop):
        pretrain(source, options, shape=SHAPE, checkpoint=path, watch=watch)
    assert same(pretrain(source, options, shape=SHAPE, checkpoint=path), whole)


def test_pretrain_saves_weights_with_a_card_that_loads(tmp_path):
    encoder = pretrain(
        [sample_windows()], FAST, name="toy", data="tones", licence="CC0-1.0", shape=SHAPE, seed=3
    )
    card = save(encoder, tmp_path / "toy")
    loaded = load_backbone(tmp_path / "toy.safetensors")
    assert loaded.card == card
    assert (card.name, card.data, card.licence, card.seed) == ("toy", "tones", "CC0-1.0", 3)
    assert "2 epochs" in card.recipe
    x = sample_windows(4, 77).x
    assert np.array_equal(loaded.embed(x), encoder.embed(x))
    raw = bytearray((tmp_path / "toy.safetensors").read_bytes())
    raw[-5] ^= 1
    (tmp_path / "toy.safetensors").write_bytes(raw)
    with pytest.raises(ModelError, match="checksum"):
        load_backbone(tmp_path / "toy.safetensors")


def test_pretrain_refuses_sources_it_cannot_learn_from():
    broken = sample_windows()
    broken.x[3, 1, 5] = np.nan
    with pytest.raises(DataError, match="windows-not-finite"):
        pretrain([broken], FAST, shape=SHAPE)
    with pytest.raises(DataError, match="sources-missing"):
        pretrain([], FAST, shape=SHAPE)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"labels": False, "contrast": 0.0}, "nothing-to-learn"),
        ({"contrast": -1.0}, "option-range"),
        ({"stretch": (2.0, 1.0)}, "option-range"),
        ({"stretch": (1.0,)}, "option-range"),
        ({"synthetic": 1.5}, "option-range"),
        ({"until": "accuracy>=0.9"}, "option-value"),
        ({"epochs": 0}, "option-range"),
    ],
)
def test_pretraining_options_are_checked(options, code):
    with pytest.raises(OptionError) as caught:
        Pretraining(**options)
    assert caught.value.code == code


def test_made_up_signals_are_finite_varied_and_by_their_seed():
    first, again, other = (draw_signals(200, 96, np.random.default_rng(s)) for s in (0, 0, 1))
    assert first.shape == (200, 1, 96)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert (first.std(axis=2) > 0).all()
    rough = np.abs(np.diff(first, axis=2)).mean(axis=2) / first.std(axis=2)
    assert np.quantile(rough, 0.9) > 5 * np.quantile(rough, 0.1)
