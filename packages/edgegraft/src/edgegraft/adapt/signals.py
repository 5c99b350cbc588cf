"""Made-up signals for pretraining: many kinds, so that an encoder has seen more than one domain.

Each row is a mixture of up to three of: a chirp, a tone with harmonics, coloured noise (white to
random walk), a burst, a step, an amplitude-modulated tone, a train of decaying impulses, and
noise that comes and goes; with a random level, loudness and sensor noise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgegraft_edge.signal import Array

Draw = Callable[[Array, int, np.random.Generator], Array]
_TURN = 2 * np.pi


def draw_signals(n_rows: int, n_timepoints: int, random: np.random.Generator) -> Array:
    """Float32 (n_rows, 1, n_timepoints), in about the units that the step "standard" gives.

    >>> draw_signals(3, 64, np.random.default_rng(0)).shape
    (3, 1, 64)
    """
    time = np.arange(n_timepoints) / n_timepoints
    total = np.zeros((n_rows, n_timepoints))
    for place in range(3):
        kind = random.integers(len(_KINDS), size=n_rows)
        loudness = np.exp(0.7 * random.standard_normal((n_rows, 1)))
        if place:  # one to three parts
            loudness *= random.random((n_rows, 1)) < 0.5
        for number, draw in enumerate(_KINDS):
            rows = np.flatnonzero(kind == number)
            if len(rows):
                total[rows] += loudness[rows] * draw(time, len(rows), random)
    total -= total.mean(axis=1, keepdims=True)
    total /= total.std(axis=1, keepdims=True) + 1e-3
    scale = np.exp(random.normal(-0.6, 0.9, (n_rows, 1)))
    level = random.normal(0, 1, (n_rows, 1)) * (random.random((n_rows, 1)) < 0.7)
    noise = np.exp(random.uniform(-6, -1.5, (n_rows, 1))) * random.standard_normal(total.shape)
    return np.asarray((total + noise) * scale + level, dtype=np.float32)[:, None, :]


def _between(low: float, high: float, n_rows: int, random: np.random.Generator) -> Array:
    """(n_rows, 1), evenly spread over the logarithm."""
    drawn: Array = np.exp(random.uniform(np.log(low), np.log(high), (n_rows, 1)))
    return drawn


def _chirp(time: Array, n_rows: int, random: np.random.Generator) -> Array:
    tone = _between(0.3, 40, n_rows, random)
    bend = 0.1 * random.standard_normal((n_rows, 1))
    phase: Array = tone * time * (1 + bend * time) + random.random((n_rows, 1))
    return np.asarray(np.sin(_TURN * phase))


def _harmonics(time: Array, n_rows: int, random: np.random.Generator) -> Array:
    tone, fall = _between(0.7, 12, n_rows, random), random.uniform(0, 1.5, (n_rows, 1))
    total = np.zeros((n_rows, len(time)))
    for order in range(1, 6):
        height = random.standard_normal((n_rows, 1)) / order**fall
        total += height * np.sin(_TURN * (order * tone * time + random.random((n_rows, 1))))
    return total


def _coloured(time: Array, n_rows: int, random: np.random.Generator) -> Array:
    slope = random.uniform(0, 2.5, (n_rows, 1))
    tones = np.maximum(np.fft.rfftfreq(len(time)), 1 / len(time))
    shape = (n_rows, len(tones))
    drawn = random.standard_normal(shape) + 1j * random.standard_normal(shape)
    noise = np.fft.irfft(drawn * tones ** (-slope / 2), len(time))
    noise -= noise.mean(axis=1, keepdims=True)
    return np.asarray(noise / (noise.std(axis=1, keepdims=True) + 1e-9))


def _burst(time: Array, n_rows: int, random: np.random.Generator) -> Array:
    width = _between(0.01, 0.2, n_rows, random)
    place = (time - random.random((n_rows, 1))) / width
    sign = random.choice([-3.0, 3.0], (n_rows, 1))
    return np.asarray(
        sign * np.exp(-(place**2) / 2) * np.cos(_TURN * place * random.random((n_rows, 1)))
    )


def _step(time: Array, n_rows: int, random: np.random.Generator) -> Array:
    width = _between(0.005, 0.3, n_rows, random)
    sign = random.choice([-2.0, 2.0], (n_rows, 1))
    return np.asarray(sign * np.tanh((time - random.random((n_rows, 1))) / width))


def _modulated(time: Array, n_rows: int, random: np.random.Generator) -> Array:
    tone, slow = _between(2, 40, n_rows, random), _between(0.3, 4, n_rows, random)
    phases = random.random((2, n_rows, 1))
    beat = 1 + np.sin(_TURN * (slow * time + phases[0]))
    return np.asarray(0.7 * beat * np.sin(_TURN * (tone * time + phases[1])))


def _impulses(time: Array, n_rows: int, random: np.random.Generator) -> Array:
    tone, decay = _between(1, 12, n_rows, random), random.uniform(2, 30, (n_rows, 1))
    phase = (tone * time + random.random((n_rows, 1))) % 1
    ring = random.uniform(0.5, 6, (n_rows, 1))
    return np.asarray(2 * np.exp(-phase * decay / tone**0.3) * np.sin(_TURN * phase * ring))


def _gated(time: Array, n_rows: int, random: np.random.Generator) -> Array:
    slow, phase = _between(0.3, 5, n_rows, random), random.random((n_rows, 1))
    gate = np.clip(np.sin(_TURN * (slow * time + phase)), 0, 1)
    return np.asarray(gate * random.standard_normal((n_rows, len(time))))


_KINDS: tuple[Draw, ...] = (
    _chirp,
    _harmonics,
    _coloured,
    _burst,
    _step,
    _modulated,
    _impulses,
    _gated,
)
