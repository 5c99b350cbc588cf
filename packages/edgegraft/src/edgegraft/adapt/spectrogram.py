"""Changes of spectrograms that leave what was said: masks, shifts in time, noise.

Each takes and gives prepared sound as a network sees it, (n_windows, n_channels, n_mels,
n_frames); all channels of a window are changed alike. What has not these four axes is left as
it is.

Source of the masks: Park et al., SpecAugment: A simple data augmentation method for automatic
speech recognition, Interspeech 2019, with its masks in shares of the picture.
"""

from __future__ import annotations

import numpy as np

from edgegraft_edge.signal import Array

_TIME_MASK, _BAND_MASK, _SHIFT, _NOISE = 0.15, 0.15, 0.15, 0.1


def time_mask(x: Array, random: np.random.Generator) -> Array:
    """A stretch of up to 15 % of the time is replaced by the mean of its window."""
    return _masked(x, random, 3, _TIME_MASK)


def band_mask(x: Array, random: np.random.Generator) -> Array:
    """Neighbouring bands, up to 15 % of them, are replaced by the mean of their window."""
    return _masked(x, random, 2, _BAND_MASK)


def time_shift(x: Array, random: np.random.Generator) -> Array:
    """Each window earlier or later by up to 15 % of its length; its edge is held."""
    if x.ndim != 4:
        return x
    n_windows, length = len(x), x.shape[3]
    reach = int(length * _SHIFT)
    offset = random.integers(-reach, reach + 1, size=(n_windows, 1))
    place = (np.arange(length) + offset).clip(0, length - 1)
    return np.asarray(np.take_along_axis(x, place[:, None, None, :], axis=3))


def spectral_noise(x: Array, random: np.random.Generator) -> Array:
    """White noise, a tenth of the deviation of each window."""
    if x.ndim != 4:
        return x
    noise = random.standard_normal((len(x), 1, *x.shape[2:]), dtype=np.float32)
    spread = x.std(axis=(1, 2, 3), keepdims=True)
    return np.asarray(x + _NOISE * spread * noise, dtype=np.float32)


def _masked(x: Array, random: np.random.Generator, axis: int, most: float) -> Array:
    if x.ndim != 4:
        return x
    n_windows, length = len(x), x.shape[axis]
    width = random.integers(0, int(length * most) + 1, size=(n_windows, 1))
    start = (random.random((n_windows, 1)) * (length - width + 1)).astype(np.int64)
    place = np.arange(length)
    hidden = (place >= start) & (place < start + width)
    shape = [n_windows, 1, 1, 1]
    shape[axis] = length
    mean = x.mean(axis=(2, 3), keepdims=True, dtype=np.float32)
    return np.asarray(np.where(hidden.reshape(shape), mean, x), dtype=np.float32)
