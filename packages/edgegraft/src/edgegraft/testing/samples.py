"""Windows of every kind to try things with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np

from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.signal import (
    FULL_SCALE,
    GREY,
    RGB,
    Array,
    Channel,
    ImageSpec,
    Kind,
    Spec,
    TextSpec,
    Windows,
    WindowSpec,
)


def sample_windows(
    n_channels: int = 3,
    n_timepoints: int = 64,
    n_per_class: int = 8,
    n_classes: int = 3,
    *,
    seed: int = 0,
    rate_hz: float = 50.0,
    noise: float = 0.1,
) -> Windows:
    """Labelled windows that any backbone can tell apart: each class has its own tone and level.

    With `noise` of 3 nobody is sure any more. Groups are ``g0`` to ``g3`` in turn; class names
    are not in alphabetical order of their code.

    >>> windows = sample_windows(n_channels=2, n_timepoints=32)
    >>> windows.x.shape, windows.classes
    ((24, 2, 32), ('rest', 'spin', 'walk'))
    """
    rng = np.random.default_rng(seed)
    words = ["walk", "rest", "spin", "lift", "fall", "turn"][:n_classes]
    code = np.tile(np.arange(n_classes), n_per_class)
    time = np.arange(n_timepoints) / n_timepoints
    phase = rng.uniform(0, 2 * np.pi, size=(len(code), n_channels, 1))
    gain = 1.0 + 0.5 * np.arange(n_channels)[:, None]
    tone = np.sin(2 * np.pi * (2 + 3 * code[:, None, None]) * time + phase)
    x = gain * tone + 0.5 * code[:, None, None] + noise * rng.normal(size=tone.shape)
    return Windows.of(
        x,
        y=[words[index] for index in code],
        groups=[f"g{index // n_classes % 4}" for index in range(len(code))],
        rate_hz=rate_hz,
        channels=[f"c{index}" for index in range(n_channels)],
    )


def sample_pictures(
    height: int = 32,
    width: int = 40,
    channels: tuple[Channel, ...] = RGB,
    n_per_class: int = 4,
    *,
    seed: int = 0,
) -> Windows:
    """Labelled pictures of three classes: stripes that lie, stand, or stand closer.

    >>> from edgegraft_edge.signal import GREY
    >>> sample_pictures(28, 28, GREY).x.shape
    (12, 1, 28, 28)
    """
    rng = np.random.default_rng(seed)
    code = np.tile(np.arange(3), n_per_class)
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    waves = np.stack([rows + 0 * columns, columns + 0 * rows, 2 * columns + 0 * rows])
    phase = rng.uniform(0, 2 * np.pi, size=(len(code), 1, 1))
    light = np.sin(waves[code] * 0.8 + phase)[:, None] + 0.2 * rng.normal(
        size=(len(code), len(channels), height, width)
    )
    x = np.clip(128 + 80 * light, 0, 255).astype(np.uint8)
    return _labelled(x, code, ImageSpec(height, width, channels))


def sample_sounds(
    n_timepoints: int = 4000, rate_hz: float = 8000.0, n_per_class: int = 4, *, seed: int = 0
) -> Windows:
    """Labelled sounds of three classes, which are tones of three pitches in some noise.

    >>> sample_sounds().spec.kind
    'audio'
    """
    rng = np.random.default_rng(seed)
    code = np.tile(np.arange(3), n_per_class)
    time = np.arange(n_timepoints) / rate_hz
    pitch = 250.0 * 2.0**code * (1 + 0.02 * rng.normal(size=len(code)))
    x = 0.3 * np.sin(2 * np.pi * pitch[:, None] * time)
    x = x + 0.02 * rng.normal(size=x.shape)
    length_s = n_timepoints / rate_hz
    spec = WindowSpec(length_s, length_s, rate_hz, (Channel("sound", FULL_SCALE),))
    return _labelled(x[:, None].astype(np.float32), code, spec)


def sample_sentences(n_bytes: int = 96, n_per_class: int = 4, *, seed: int = 0) -> Windows:
    """Labelled sentences of three classes.

    >>> windows = sample_sentences()
    >>> windows.spec.unpack(windows.x[:1])
    ('please switch the light in the hall on',)
    """
    rng = np.random.default_rng(seed)
    what = ["switch the light", "play a song by the band", "how warm will it be"]
    rooms = ["hall", "kitchen", "garden", "office", "cellar", "attic"]
    code = np.tile(np.arange(3), n_per_class)
    shift = int(rng.integers(6)) if seed else 0
    rooms_of = [rooms[(index // 3 + shift) % 6] for index in range(len(code))]
    texts = [
        f"please {what[index]} in the {room} {'on' if index == 0 else 'tonight'}"
        for index, room in zip(code, rooms_of, strict=True)
    ]
    spec = TextSpec(n_bytes)
    return _labelled(spec.pack(texts), code, spec)


def sample_series(
    n_channels: int = 2, n_timepoints: int = 72, n_per_recording: int = 30, *, seed: int = 0
) -> Windows:
    """Overlapping windows of three recordings of seasonal series; labels are numbers as text.

    A season has twelve samples; its strength drifts within a recording, and the label is that
    strength at the end of a window, so it can be told from the window. Groups are the recordings.

    >>> windows = sample_series()
    >>> windows.x.shape, sorted(set(windows.groups.tolist()))
    ((90, 2, 72), ['m0', 'm1', 'm2'])
    """
    rng = np.random.default_rng(seed)
    x, y, numbers, starts = [], [], [], []
    length = n_timepoints + 6 * (n_per_recording - 1)
    time = np.arange(length)
    for number in range(3):
        strength = 2 + np.sin(2 * np.pi * (time / length + rng.uniform()))
        phase = np.arange(n_channels)[:, None] * 0.7 + 2 * np.pi * number / 3
        season = strength * np.sin(2 * np.pi * time / 12 + phase)
        values = 5 * number + season + 0.2 * rng.normal(size=(n_channels, length))
        for start in range(0, length - n_timepoints + 1, 6):
            x.append(values[:, start : start + n_timepoints])
            y.append(f"{strength[start + n_timepoints - 1]:.4f}")
            numbers.append(number)
            starts.append(start)
    names = tuple(f"m{number}" for number in range(3))
    spec = WindowSpec(
        float(n_timepoints), 6.0, 1.0, tuple(Channel(f"c{index}") for index in range(n_channels))
    )
    return Windows(
        np.array(x, dtype=np.float32),
        np.array(y),
        np.array([names[number] for number in numbers]),
        spec,
        np.array(numbers, dtype=np.int64),
        np.array(starts, dtype=np.int64),
        names,
    )


def _labelled(x: Array, code: Array, spec: Spec) -> Windows:
    words = np.array(["walk", "rest", "spin"])
    groups = np.array([f"g{index // 3 % 4}" for index in range(len(code))])
    return Windows(x, words[code], groups, spec)


Sample = Callable[[int], Windows]
"""Seed -> labelled windows."""

SAMPLES: Mapping[Kind, Mapping[str, Sample]] = {
    "series": {
        "one_channel": lambda seed: sample_windows(1, 64, seed=seed),
        "nine_channels": lambda seed: sample_windows(9, 100, seed=seed),
        "short_windows": lambda seed: sample_windows(2, 24, seed=seed),
        "long_windows": lambda seed: sample_windows(2, 501, seed=seed),
    },
    "audio": {
        "low_rate": lambda seed: sample_sounds(seed=seed),
        "high_rate": lambda seed: sample_sounds(16000, 16000.0, n_per_class=2, seed=seed),
    },
    "image": {
        "small_grey": lambda seed: sample_pictures(28, 28, GREY, seed=seed),
        "colour": lambda seed: sample_pictures(n_per_class=2, seed=seed),
    },
    "text": {
        "sentences": lambda seed: sample_sentences(seed=seed),
        "long_text": lambda seed: sample_sentences(600, n_per_class=2, seed=seed),
    },
}
"""What backbones of each kind of windows are tried with."""


def usual_windows(backbone: Backbone, seed: int = 0) -> Windows:
    """Windows of the first kind that the backbone takes."""
    kind = cast("Kind", backbone.card.takes[0])
    if kind == "series":
        return sample_windows(seed=seed)
    return next(iter(SAMPLES[kind].values()))(seed)
