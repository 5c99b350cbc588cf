"""Changes of pictures that leave what they show: mirrored, moved, lit otherwise, turned, covered.

Those for training take and give prepared pictures as a network sees them, float32 (n_windows,
n_channels, height, width); what has not these four axes is left as it is. Copies for closed-form
heads are made of raw pixels.

Sources: flip and padded crop, Krizhevsky, Sutskever and Hinton, NIPS 2012, and Lee et al.,
Deeply-supervised nets, AISTATS 2015; cutout, DeVries and Taylor, 2017.
"""

from __future__ import annotations

import numpy as np

from edgegraft_edge.picture import resized
from edgegraft_edge.signal import Array

_SHIFT, _LIGHT, _TINT, _TURN, _HOLE = 0.1, 0.2, 0.1, 12.0, 0.3
_LEAST_SIDE = 0.75  # of a picture that a copy still shows


def flip(x: Array, random: np.random.Generator) -> Array:
    """Every other picture is mirrored, left for right. Not for letters, digits or arrows."""
    if x.ndim != 4:
        return x
    mirrored = random.random(len(x)) < 0.5
    return np.where(mirrored[:, None, None, None], x[..., ::-1], x)


def crop(x: Array, random: np.random.Generator) -> Array:
    """Each picture is moved by up to a tenth of its sides; what was beyond is mirrored in."""
    if x.ndim != 4:
        return x
    for axis in (2, 3):
        n_places = x.shape[axis]
        reach = int(n_places * _SHIFT)
        moved = random.integers(-reach, reach + 1, size=(len(x), 1))
        place = _mirrored(np.arange(n_places) + moved, n_places)
        shape = [len(x), 1, 1, 1]
        shape[axis] = n_places
        x = np.take_along_axis(x, place.reshape(shape), axis=axis)
    return x


def light(x: Array, random: np.random.Generator) -> Array:
    """Contrast and brightness by about a fifth of what they are, or of the contrast."""
    if x.ndim != 4:
        return x
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    spread = x.std(axis=(1, 2, 3), keepdims=True)
    contrast = np.exp(_LIGHT * random.standard_normal((len(x), 1, 1, 1)))
    level = _LIGHT * random.standard_normal((len(x), 1, 1, 1)) * spread
    return np.asarray(mean + (x - mean) * contrast + level, dtype=np.float32)


def colour(x: Array, random: np.random.Generator) -> Array:
    """Each channel by about a tenth of the contrast."""
    if x.ndim != 4:
        return x
    level = _TINT * random.standard_normal((*x.shape[:2], 1, 1))
    return np.asarray(x + level * x.std(axis=(1, 2, 3), keepdims=True), dtype=np.float32)


def turn(x: Array, random: np.random.Generator) -> Array:
    """Each picture by up to twelve degrees; what was beyond its edge is mirrored in."""
    if x.ndim != 4:
        return x
    height, width = x.shape[2:]
    angle = np.deg2rad(random.uniform(-_TURN, _TURN, (len(x), 1, 1)))
    down = np.arange(height)[:, None] - (height - 1) / 2
    across = np.arange(width)[None, :] - (width - 1) / 2
    row = np.cos(angle) * down + np.sin(angle) * across + (height - 1) / 2
    column = np.cos(angle) * across - np.sin(angle) * down + (width - 1) / 2
    return _sampled(x, row, column)


def cutout(x: Array, random: np.random.Generator) -> Array:
    """A square of three tenths of the shorter side is replaced by the mean of the picture."""
    if x.ndim != 4:
        return x
    height, width = x.shape[2:]
    side = max(1, int(_HOLE * min(height, width)))
    hidden = np.ones((len(x), 1, 1, 1), dtype=bool)
    for axis, n_places in ((2, height), (3, width)):
        start = random.integers(0, n_places - side + 1, size=(len(x), 1))
        place = np.arange(n_places)
        shape = [len(x), 1, 1, 1]
        shape[axis] = n_places
        hidden = hidden & ((place >= start) & (place < start + side)).reshape(shape)
    return np.asarray(np.where(hidden, x.mean(axis=(2, 3), keepdims=True), x), dtype=x.dtype)


def varied(x: Array, count: int, *, seed: int, mirror: bool = True) -> Array:
    """`count` copies of every picture, one set after the other: parts of it, lit otherwise.

    Args:
        x: uint8 (n_windows, n_channels, height, width).
        mirror: whether half of the copies are mirrored, left for right.

    Returns: uint8 (count * n_windows, n_channels, height, width).

    >>> varied(np.full((2, 3, 8, 8), 100, np.uint8), 3, seed=0).shape
    (6, 3, 8, 8)
    """
    random = np.random.default_rng(seed)
    n_windows, _, height, width = x.shape
    out = np.empty((count * n_windows, *x.shape[1:]), np.uint8)
    for index in range(len(out)):
        picture = x[index % n_windows]
        share = random.uniform(_LEAST_SIDE, 1)
        rows, columns = max(1, round(share * height)), max(1, round(share * width))
        top = random.integers(height - rows + 1)
        left = random.integers(width - columns + 1)
        part = resized(picture[:, top : top + rows, left : left + columns], height, width)
        if mirror and random.random() < 0.5:
            part = part[:, :, ::-1]
        contrast, level = np.exp(0.5 * _LIGHT * random.standard_normal(2))
        mean = part.mean()
        value = mean * level + (part.astype(np.float32) - mean) * contrast
        out[index] = np.clip(np.rint(value), 0, 255)
    return out


def _mirrored(place: Array, n_places: int) -> Array:
    """Places beyond the ends, reflected at them."""
    last = max(1, n_places - 1)
    return np.asarray(np.abs((place + last) % (2 * last) - last) % n_places)


def _sampled(x: Array, row: Array, column: Array) -> Array:
    """Pictures (n, c, h, w) at places (n, h, w) between their pixels, linear."""
    n_windows, _, height, width = x.shape
    top, left = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
    number = np.arange(n_windows)[:, None, None]
    total = np.zeros(x.shape, np.float32)
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - (row - top)) * np.abs(1 - right - (column - left))
            at = _mirrored(top + down, height), _mirrored(left + right, width)
            found = x.transpose(0, 2, 3, 1)[number, at[0], at[1]]
            total += (found * weight[..., None]).transpose(0, 3, 1, 2).astype(np.float32)
    return total
