"""Changes that leave the label of a window true: drawn anew in training, or as kept copies.

Those that training draws take and give (n, n_channels, t); strengths are for windows in units
of their own deviation, as after the step "standard". Copies are for closed-form heads, which so
learn what does not matter; whether they serve is not assumed but measured, by leaving each
original out together with its copies.

Source of the set: Um et al., Data Augmentation of Wearable Sensor Data, ICMI 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from edgegraft.adapt import pixels, spectrogram
from edgegraft_edge.errors import OptionError, Problem, nearest
from edgegraft_edge.signal import Array, Kind, Windows

Augmentation = Callable[[Array, np.random.Generator], Array]

_JITTER, _GAIN, _SHIFT, _STRETCH, _MASK = 0.05, 0.1, 0.1, 0.1, 0.15
MOST_ROWS = 600
"""Originals and copies together: beyond this, labels do the work and copies only cost."""
MOST_PICTURES = 120
"""The same of pictures, which cost a network a thousand times as much."""


def jitter(x: Array, random: np.random.Generator) -> Array:
    """White noise, a twentieth of the deviation of each window and channel."""
    noise = random.standard_normal(x.shape, dtype=np.float32)
    return np.asarray(x + _JITTER * noise * x.std(axis=2, keepdims=True), dtype=np.float32)


def scaling(x: Array, random: np.random.Generator) -> Array:
    """Each channel a little louder or softer, by about a tenth."""
    gain = np.exp(_GAIN * random.standard_normal((*x.shape[:2], 1), dtype=np.float32))
    return np.asarray(x * gain, dtype=np.float32)


def shift(x: Array, random: np.random.Generator) -> Array:
    """Each window earlier or later by up to a tenth of its length; its edge is held."""
    n_windows, _, length = x.shape
    reach = int(length * _SHIFT)
    offset = random.integers(-reach, reach + 1, size=(n_windows, 1))
    place = (np.arange(length) + offset).clip(0, length - 1)
    return np.asarray(np.take_along_axis(x, place[:, None, :], axis=2))


def stretch(x: Array, random: np.random.Generator) -> Array:
    """Each window slower or faster by about a tenth, around its middle; edges are held."""
    n_windows, _, length = x.shape
    factor = np.exp(_STRETCH * random.standard_normal((n_windows, 1)))
    place = (np.arange(length) - length / 2) * factor + length / 2
    below = np.floor(place).astype(np.int64)
    part = (place - below)[:, None, :].astype(np.float32)
    low, high = (
        np.take_along_axis(x, index.clip(0, length - 1)[:, None, :], axis=2)
        for index in (below, below + 1)
    )
    return np.asarray(low + part * (high - low), dtype=np.float32)


def offset(x: Array, random: np.random.Generator) -> Array:
    """Each channel a little higher or lower, by about a tenth of the training set's deviation."""
    level = _GAIN * random.standard_normal((*x.shape[:2], 1), dtype=np.float32)
    return np.asarray(x + level, dtype=np.float32)


def mask(x: Array, random: np.random.Generator) -> Array:
    """A stretch of 15 % of each window, in all channels, is replaced by its mean there."""
    n_windows, _, length = x.shape
    width = max(1, int(length * _MASK))
    start = random.integers(0, max(1, length - width + 1), size=(n_windows, 1))
    time = np.arange(length)
    hidden = (time >= start) & (time < start + width)
    return np.asarray(np.where(hidden[:, None, :], x.mean(axis=2, keepdims=True), x))


def dropped(x: Array, random: np.random.Generator) -> Array:
    """One channel in ten falls silent; never all of a window."""
    silent = random.random(x.shape[:2]) < 0.1
    silent[silent.all(axis=1)] = False
    return np.asarray(np.where(silent[:, :, None], np.float32(0), x), dtype=np.float32)


AUGMENTATIONS: Mapping[str, Augmentation] = MappingProxyType(
    {
        "jitter": jitter,
        "scaling": scaling,
        "offset": offset,
        "shift": shift,
        "stretch": stretch,
        "mask": mask,
        "dropped": dropped,
        "time-shift": spectrogram.time_shift,
        "time-mask": spectrogram.time_mask,
        "band-mask": spectrogram.band_mask,
        "spectral-noise": spectrogram.spectral_noise,
        "flip": pixels.flip,
        "crop": pixels.crop,
        "light": pixels.light,
        "colour": pixels.colour,
        "turn": pixels.turn,
        "cutout": pixels.cutout,
    }
)


USUAL: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        "series": ("jitter", "scaling", "shift"),
        "audio": ("time-shift", "time-mask", "band-mask", "spectral-noise"),
        "image": ("flip", "crop", "light"),
        "text": (),
    }
)
"""What "auto" stands for, by the kind of windows."""


def chosen(names: tuple[str, ...], kind: Kind = "series") -> tuple[Augmentation, ...]:
    """Augmentations by name. Errors: `OptionError` listing each name that is none.

    >>> [step.__name__ for step in chosen(("shift", "jitter"))]
    ['shift', 'jitter']
    """
    if names == ("auto",):
        names = USUAL[kind]
    problems = [
        Problem(
            "augmentation-unknown",
            f"augmentation {name!r}",
            "there is none of that name",
            nearest(name, list(AUGMENTATIONS)),
        )
        for name in names
        if name not in AUGMENTATIONS
    ]
    if problems:
        raise OptionError(problems)
    return tuple(AUGMENTATIONS[name] for name in names)


def n_copies(windows: Windows, most: int) -> int:
    """How many copies of each window, at most `most`, keep the rows within `MOST_ROWS`.

    Within `MOST_PICTURES` of pictures, and none of sound and text: nothing here varies those.

    >>> [n_copies(Windows.of(np.zeros((n, 1, 9))), 7) for n in (60, 300, 600)]
    [7, 1, 0]
    """
    rows = {"series": MOST_ROWS, "image": MOST_PICTURES}.get(windows.spec.kind, 0)
    return max(0, min(most, rows // max(1, len(windows)) - 1))


def vary(x: Array, count: int, *, seed: int) -> Array:
    """`count` copies of every window, one set after the other.

    Args:
        x: (n_windows, n_channels, n_timepoints), or pictures (n_windows, n_channels, h, w).

    Returns: float32 (count * n_windows, n_channels, n_timepoints). All channels of a window are
    changed alike; what a copy reads beyond the edges is mirrored there; its mean is kept. Of
    pictures uint8, see `edgegraft.adapt.pixels.varied`.

    >>> vary(np.ones((2, 1, 8)), 3, seed=0).shape
    (6, 1, 8)
    """
    if x.ndim == 4:
        return pixels.varied(x, count, seed=seed)
    random = np.random.default_rng(seed)
    length = x.shape[2]
    if not count or length < 3:
        return np.zeros((0, *x.shape[1:]), dtype=np.float32)
    source = np.tile(np.asarray(x, dtype=np.float32), (count, 1, 1))
    n_rows = len(source)
    gain = np.exp(_GAIN * random.standard_normal((n_rows, 1, 1)))
    pace = np.exp(_STRETCH * random.standard_normal((n_rows, 1)))
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
