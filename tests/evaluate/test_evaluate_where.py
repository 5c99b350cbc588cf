"""Maps of where a model looked point at what tells the classes apart."""

from __future__ import annotations

import numpy as np
import pytest

import edgegraft as eg
from edgegraft.evaluate.where import activation_maps, last_maps, overlay
from edgegraft.zoo.layers import Layers, relu
from edgegraft_edge.program import Draft, Program, chain
from edgegraft_edge.signal import GREY, ImageSpec, Windows

SIDE = 24


def spots(n: int = 40, seed: int = 0) -> tuple[Windows, np.ndarray]:
    """Noise; half of the pictures have a bright spot, whose middle is given too."""
    random = np.random.default_rng(seed)
    x = random.integers(60, 90, size=(n, 1, SIDE, SIDE))
    middle = random.integers(4, SIDE - 4, size=(n, 2))
    for row in range(0, n, 2):
        i, j = middle[row]
        x[row, 0, i - 3 : i + 4, j - 3 : j + 4] = 220
    y = np.where(np.arange(n) % 2, "whole", "spot")
    windows = Windows(x.astype(np.uint8), y, np.full(n, ""), ImageSpec(SIDE, SIDE, GREY))
    return windows, middle


def bright_program() -> Program:
    """A convolution that sees light, its mean, and a probability of a spot."""
    layers = Layers()
    top = layers.conv("stem", "x", 1, 2, kernel=3, activation=relu)
    network = layers.finish(layers.pool(top), blocks=("stem",), top=top)
    weight = np.stack([np.full((1, 3, 3), 1 / 9), np.full((1, 3, 3), -1 / 9)]).astype(np.float32)
    bias = np.array([-120.0, 60.0], np.float32)
    network = network.with_weights({"stem.weight": weight, "stem.bias": bias})
    draft = Draft()
    logits = draft.add("matmul", "x", np.array([[0.5, -0.5], [-0.5, 0.5]]))
    return chain(network.program, draft.finish(draft.add("softmax", logits, axis=1)))


@pytest.mark.parametrize("how", ["gradient", "cover"])
def test_maps_peak_in_the_spot(how):
    windows, middle = spots()
    maps = activation_maps(bright_program(), windows.x, np.zeros(40, int), how=how)
    assert maps.shape == (40, SIDE, SIDE)
    assert maps.min() >= 0
    assert maps.max() <= 1
    for row in range(0, 40, 2):
        place = np.unravel_index(maps[row].argmax(), maps[row].shape)
        assert np.abs(np.array(place) - middle[row]).max() <= 5


def test_last_maps_leave_out_what_is_convolved_again():
    draft = Draft()
    weight, bias = np.ones((1, 1, 1, 1)), np.zeros(1)
    first = draft.add("relu", "x")
    gate = draft.add("conv2d", draft.add("mean", first, axes=[2, 3]), weight, bias)
    top = draft.add("mul", first, draft.add("sigmoid", gate))
    program = draft.finish(draft.add("mean", top, axes=[2, 3], keepdims=False))
    assert last_maps(program) == (top,)


def test_what_is_averaged_twice_has_places_only_before_the_first():
    draft = Draft()
    top = draft.add("relu", "x")
    once = draft.add("relu", draft.add("mean", top, axes=[2, 3]))
    program = draft.finish(draft.add("mean", once, axes=[2, 3], keepdims=False))
    assert last_maps(program) == (top,)


def test_a_model_without_maps_is_asked_by_covering():
    windows, _ = spots(60)
    run = eg.adapt(windows, backbone="dense-28", strategy="probe", folds=2, curve=False)
    maps = activation_maps(run.bundle.program, windows.x)
    assert not last_maps(run.bundle.program)
    assert maps.any()


def test_overlay_is_a_picture():
    drawn = overlay(np.full((3, 4, 5), 90, np.uint8), np.eye(4, 5))
    assert drawn.shape == (4, 5, 3)
    assert drawn.dtype == np.uint8
    assert drawn[0, 0, 0] > drawn[0, 1, 0]
