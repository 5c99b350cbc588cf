"""Texture: the classical control of pictures."""

from __future__ import annotations

import numpy as np
import pytest

from edgegraft.testing.samples import sample_pictures
from edgegraft.zoo.registry import load_backbone
from edgegraft.zoo.texture import Texture, _cells
from edgegraft_edge.errors import DataError, ModelError
from edgegraft_edge.signal import GREY, ImageSpec, Windows


def _pictures(x: np.ndarray) -> Windows:
    x = np.asarray(x, np.uint8)
    channels = GREY if x.shape[1] == 1 else sample_pictures().spec.channels
    blank = np.full(len(x), "")
    return Windows(x, blank, blank, ImageSpec(*x.shape[2:], channels))


def _raw(x: np.ndarray) -> np.ndarray:
    windows = _pictures(x)
    return Texture().fit(windows, seed=0).embed(windows.x)


def test_the_card_is_of_the_catalog_and_takes_pictures_alone():
    backbone = load_backbone("texture")
    assert (backbone.card.kind, backbone.card.takes) == ("fixed", ("image",))
    with pytest.raises(DataError) as caught:
        backbone.fit(Windows.of(np.zeros((2, 1, 16))), seed=0)
    assert caught.value.code == "kind-differs"


def test_before_fit_and_for_other_sizes_it_refuses():
    windows = sample_pictures()
    with pytest.raises(ModelError):
        Texture().embed(windows.x)
    with pytest.raises(DataError) as caught:
        Texture().fit(windows, seed=0).embed(windows.x[:, :, :-1])
    assert caught.value.code == "window-shape"


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 40), (1, 28, 28), (3, 300, 20)])
def test_any_size_gives_finite_features(shape):
    x = np.random.default_rng(0).integers(0, 256, (3, *shape))
    found = _raw(x)
    assert np.isfinite(found).all()
    assert found.shape[0] == 3


def test_cells_are_means_of_equal_stretches():
    assert np.allclose(_cells(6, 3).T @ np.arange(6.0), [0.5, 2.5, 4.5])
    assert np.allclose(_cells(5, 2).T @ np.ones(5), 1)


def test_the_histogram_of_a_flat_picture_stands_in_its_bin():
    grey = np.full((1, 1, 32, 32), 255)
    assert _raw(grey)[0, :12].round(5).tolist() == [0.0] * 11 + [1.0]


def test_directions_of_edges_are_told_apart():
    lines = np.tile(np.repeat([0, 200], 4), 8)
    standing = np.broadcast_to(lines, (1, 1, 64, 64))
    apart = np.abs(_raw(standing) - _raw(standing.transpose(0, 1, 3, 2)))
    assert apart.max() > 0.3


def test_colour_counts_where_there_is_colour():
    red, green = np.zeros((2, 1, 3, 32, 32), np.uint8)
    red[:, 0], green[:, 1] = 154, 79  # as bright as each other
    assert np.abs(_raw(red) - _raw(green)).max() > 0.5


def test_features_are_bounded_and_nothing_is_learned():
    windows = sample_pictures()
    fitted = Texture().fit(windows, seed=0)
    extremes = np.stack([windows.x[0] * 0, windows.x[0] * 0 + 255, windows.x[0] // 128 * 255])
    assert np.abs(fitted.embed(extremes)).max() < 10
    again = Texture().fit(windows.take([0]), seed=1)
    assert np.array_equal(fitted.embed(windows.x), again.embed(windows.x))


def test_histograms_add_up_to_one():
    noise = np.random.default_rng(0).integers(0, 256, (4, 1, 32, 32))
    found = _raw(noise)
    assert np.allclose(found[:, :12].sum(axis=1), 1, atol=1e-4)
    assert found[:, :12].min() > -1e-4
