"""Varied copies of labelled windows: a closed-form head learns what does not matter.

A copy is a little faster or slower, earlier or later, stronger or weaker than its original.
The set follows Um et al., Data Augmentation of Wearable Sensor Data, ICMI 2017; whether copies
serve is not assumed but measured, by leaving each original out together with its copies.
"""

from __future__ import annotations

import numpy as np

from edgegraft_edge.signal import Array

MOST_ROWS = 600
"""Originals and copies together: beyond this, labels do the work and copies only cost."""
_GAIN, _PACE, _SHIFT = 0.1, 0.1, 0.1


def n_copies(n_windows: int, most: int) -> int:
    """How many copies of each window, at most `most`, keep the rows within `MOST_ROWS`.

    >>> n_copies(60, 7), n_copies(300, 7), n_copies(600, 7)
    (7, 1, 0)
    """
    return max(0, min(most, MOST_ROWS // max(1, n_windows) - 1))


def vary(x: Array, count: int, *, seed: int) -> Array:
    """`count` copies of every window, one set after the other.

    Args:
        x: (n_windows, n_channels, n_timepoints).

    Returns: float32 (count * n_windows, n_channels, n_timepoints). All channels of a window are
    changed alike; what a copy reads beyond the edges is mirrored there; its mean is kept.

    >>> vary(np.ones((2, 1, 8)), 3, seed=0).shape
    (6, 1, 8)
    """
    random = np.random.default_rng(seed)
    length = x.shape[2]
    if not count or length < 3:
        return np.zeros((0, *x.shape[1:]), dtype=np.float32)
    source = np.tile(np.asarray(x, dtype=np.float32), (count, 1, 1))
    n_rows = len(source)
    gain = np.exp(_GAIN * random.standard_normal((n_rows, 1, 1)))
    pace = np.exp(_PACE * random.standard_normal((n_rows, 1)))
    shift = random.uniform(-_SHIFT, _SHIFT, (n_rows, 1)) * length
    place = (np.arange(length) - length / 2) * pace + length / 2 + shift
    last = length - 1
    place = np.abs((place + last) % (2 * last) - last)  # mirrored at both edges
    left = np.minimum(place.astype(np.int64), last - 1)
    part = (place - left)[:, None, :]
    moved = np.take_along_axis(source, left[:, None, :], axis=2) * (1 - part)
    moved += np.take_along_axis(source, left[:, None, :] + 1, axis=2) * part
    mean = moved.mean(axis=2, keepdims=True)
    return np.asarray(mean + (moved - mean) * gain, dtype=np.float32)
