"""The micro network: sizes, kinds of windows, and that it is integer throughout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgegraft.compress.quantize import quantized
from edgegraft.testing.samples import sample_pictures, sample_sounds, sample_windows
from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.micro import BOUND, Micro, MicroShape, micro
from edgegraft_edge.errors import DataError, ModelError
from edgegraft_edge.program import chain
from edgegraft_edge.signal import TextSpec, Windows
from edgegraft_edge.tensors import dump

SHAPES = {
    "plain": MicroShape((8, 12), (9, 5), (2, 2)),
    "separable": MicroShape((8, 12, 16), (5, 5, 3), (2, 1, 2), separable=True),
    "short": MicroShape((8, 8), (5, 3), (1, 2), decimate=2, crop=0.5, pools=("mean",)),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    "windows",
    [sample_windows(4, 80), sample_pictures(28, 28), sample_sounds()],
    ids=["series", "image", "audio"],
)
def test_it_is_integer_throughout(name, windows):
    backbone = Micro.of(SHAPES[name]).fit(windows, seed=1)
    program = backbone.program(*windows.spec.shape)
    eight = quantized(program, windows.x)
    assert eight.float_operations == ()
    kinds = {op.kind for op in eight.ops}
    assert "conv2d_int8" in kinds
    if windows.spec.kind == "series":
        assert eight.precision == "int8"
    found, wanted = eight.run(windows.x), program.run(windows.x)
    assert np.abs(found - wanted).mean() < 0.03 * np.abs(wanted).max()


def test_separable_blocks_have_fewer_weights():
    plain, separable = (micro(MicroShape(separable=each), 9).weights for each in (False, True))
    assert sum(a.size for a in separable.values()) < sum(a.size for a in plain.values()) / 2
    assert separable["block1.depthwise.weight"].shape == (32, 1, 1, 5)


def test_cropping_and_decimating_read_the_middle():
    windows = sample_windows(2, 64)
    front = Micro.of(SHAPES["short"]).fit(windows, seed=0).front
    assert front.run(windows.x).shape == (len(windows), 2, 16)
    assert np.array_equal(front.run(windows.x), windows.x[:, :, 16:48:2])


def test_outliers_are_bounded():
    windows = sample_windows(2, 64)
    backbone = Micro.of(SHAPES["plain"]).fit(windows, seed=0)
    far = windows.x.copy()
    far[:, 0, 3] = 1e9
    assert np.abs(backbone.prepare(far)).max() == BOUND
    assert np.isfinite(backbone.embed(far)).all()


def test_trained_weights_come_back_by_their_file_and_know_their_channels():
    windows = sample_windows(3, 64)
    trained = Micro.of(SHAPES["plain"]).fit(windows, seed=5)
    card = BackboneCard(
        "mine", "micro", "trained", "pretrained", "Apache-2.0",
        options=SHAPES["plain"].options(),
    )  # fmt: skip
    again = Micro.from_card(card, dump(dict(trained.weights))).fit(windows, seed=0)
    assert np.array_equal(again.embed(windows.x), trained.embed(windows.x))
    with pytest.raises(ModelError) as caught:
        again.fit(sample_windows(2, 64), seed=0)
    assert caught.value.code == "channels-differ"


@pytest.mark.parametrize(
    "options",
    [
        {"widths": (8,), "kernels": (3, 3), "strides": (1, 1)},
        {"crop": 0.0},
        {"decimate": 0},
        {"pools": ("median",)},
    ],
)
def test_shapes_that_make_no_network_are_refused(options):
    with pytest.raises(ModelError) as caught:
        MicroShape(**options)
    assert caught.value.code == "network-shape"


def test_unknown_options_of_a_card_are_refused():
    with pytest.raises(ModelError) as caught:
        MicroShape.from_options({"wdths": (8,)})
    assert caught.value.code == "network-shape"


def test_a_network_beyond_the_bound_is_refused():
    with pytest.raises(ModelError) as caught:
        Micro.of(MicroShape().scaled(3))
    assert caught.value.code == "network-size"


def test_text_is_refused():
    sentences = TextSpec(8)
    windows = Windows(
        sentences.pack(["a", "b"]), np.array(["a", "b"]), np.array(["", ""]), sentences
    )
    with pytest.raises(DataError) as caught:
        Micro.of(MicroShape()).fit(windows, seed=0)
    assert caught.value.code == "kind-differs"


def test_random_weights_follow_the_seed():
    windows = sample_windows(3, 64)
    one, same, other = (Micro.of(SHAPES["plain"]).fit(windows, seed=s) for s in (1, 1, 2))
    assert np.array_equal(one.embed(windows.x), same.embed(windows.x))
    assert not np.array_equal(one.embed(windows.x), other.embed(windows.x))
    assert replace(one.card, seed=2) == other.card
    assert len(chain(one.front, one.network.program).ops) == len(one.program(3, 64).ops)
