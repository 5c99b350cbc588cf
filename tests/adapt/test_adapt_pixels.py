"""Changes of pictures: what they keep, and that each does what it says."""

from __future__ import annotations

import numpy as np
import pytest

from edgegraft.adapt import pixels
from edgegraft.adapt.augment import AUGMENTATIONS, MOST_PICTURES, USUAL, chosen, n_copies, vary
from edgegraft.testing.samples import sample_pictures

OURS = ("flip", "crop", "light", "colour", "turn", "cutout")


def _pictures(n: int = 40, n_channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, n_channels, 12, 18)).astype(np.float32)


@pytest.mark.parametrize("name", OURS)
def test_each_keeps_shape_type_and_input_and_goes_by_the_seed(name):
    change, x = AUGMENTATIONS[name], _pictures()
    before = x.copy()
    first, second = (change(x, np.random.default_rng(3)) for _ in range(2))
    assert first.dtype == np.float32
    assert first.shape == x.shape
    assert np.array_equal(first, second)
    assert np.array_equal(x, before)
    assert not np.array_equal(first, x)
    assert np.isfinite(first).all()
    flat = np.zeros((3, 784), np.float32)
    assert change(flat, np.random.default_rng(0)) is flat
    one = np.ones((2, 1, 1, 1), np.float32)
    assert change(one, np.random.default_rng(0)).shape == one.shape


def test_flip_mirrors_about_half():
    x = _pictures(400)
    found = pixels.flip(x, np.random.default_rng(0))
    mirrored = np.array([np.array_equal(a, b[..., ::-1]) for a, b in zip(found, x, strict=True)])
    kept = np.array([np.array_equal(a, b) for a, b in zip(found, x, strict=True)])
    assert (mirrored ^ kept).all()
    assert 0.4 < mirrored.mean() < 0.6


def test_crop_moves_by_a_tenth_at_most():
    x = np.zeros((200, 1, 30, 50), np.float32)
    x[:, :, 15, 25] = 1
    found = pixels.crop(x, np.random.default_rng(0))
    _, _, row, column = np.nonzero(found)
    assert (found.sum(axis=(1, 2, 3)) == 1).all()
    assert (row.min(), row.max(), column.min(), column.max()) == (12, 18, 20, 30)


def test_light_changes_all_channels_alike_and_colour_does_not():
    x = np.repeat(_pictures(20, 1), 3, axis=1)
    lit = pixels.light(x, np.random.default_rng(0))
    assert np.array_equal(lit[:, 0], lit[:, 2])
    tinted = pixels.colour(x, np.random.default_rng(0))
    assert not np.allclose(tinted[:, 0], tinted[:, 2])


def test_turn_keeps_the_middle_and_a_flat_picture():
    x = _pictures(30)[:, :, :11, :17]
    found = pixels.turn(x, np.random.default_rng(0))
    assert np.allclose(found[:, :, 5, 8], x[:, :, 5, 8], atol=1e-5)
    assert np.allclose(pixels.turn(np.ones_like(x), np.random.default_rng(0)), 1)


def test_cutout_covers_one_square_with_the_mean():
    x = _pictures()
    found = pixels.cutout(x, np.random.default_rng(0))
    changed = (found != x).any(axis=1)
    assert (changed.sum(axis=(1, 2)) == 9).all()
    assert np.allclose(found[0, 0][changed[0]], x[0, 0].mean(), atol=1e-6)


def test_auto_stands_for_changes_of_the_kind():
    assert [step.__name__ for step in chosen(("auto",), "image")] == list(USUAL["image"])


def test_copies_of_pictures_are_raw_pixels():
    windows = sample_pictures()
    copies = vary(windows.x, 3, seed=5)
    assert copies.dtype == np.uint8
    assert copies.shape == (3 * len(windows), *windows.x.shape[1:])
    assert np.array_equal(copies, vary(windows.x, 3, seed=5))
    flat = pixels.varied(np.full((4, 1, 9, 9), 100, np.uint8), 20, seed=0)
    assert (np.ptp(flat, axis=(1, 2, 3)) == 0).all()  # only how bright it is can change
    assert 60 < flat.min() < flat.max() < 150
    assert vary(windows.x[:, :, :1, :1], 1, seed=0).shape == (len(windows), 3, 1, 1)
    assert vary(windows.x, 0, seed=0).shape == (0, *windows.x.shape[1:])


def test_pictures_get_fewer_copies():
    windows = sample_pictures(8, 8, n_per_class=4)
    assert n_copies(windows, 7) == 7
    many = sample_pictures(8, 8, n_per_class=MOST_PICTURES // 3)
    assert n_copies(many, 7) == 0
