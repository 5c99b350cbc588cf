"""Log power in bands, as a backbone, for signals whose frequencies tell.

A window is cut into overlapping frames; each goes through a Hann window and a discrete
Fourier transform written as two matrix products, so that a device without an FFT computes the
same. Power is added up in bands of a third of an octave; a band's features are the mean and
the deviation of its log power over the frames. Band edges stand on a grid in hertz where the
rate is known, otherwise on fractions of half the rate. The level of the channel comes along.
Each feature is finally squashed between -1 and 1 by its spread over the training windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from edgegraft.zoo.backbone import BackboneCard, embed_in_batches, shipped_card, unfitted
from edgegraft.zoo.level import (
    centred,
    check_dim,
    check_shape,
    squash,
    to_usual,
    usual_features,
    usual_level,
    window_shape,
)
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Windows

LEAST_TIMEPOINTS = 4
_SHORTEST_FRAME = 32
_FLOOR = 1e-3  # of the usual power: what is below counts as silence


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Band powers: (n_windows, n_channels, n_timepoints) -> (n_windows, embedding_dim).

    >>> windows = Windows.of(np.random.default_rng(0).standard_normal((20, 3, 128)), rate_hz=50)
    >>> Spectrum().fit(windows, seed=0).embed(windows.x).shape
    (20, 81)
    """

    bands_per_octave: int = field(default=3, metadata={"help": "how finely bands divide octaves"})
    longest_frame: int = field(default=256, metadata={"help": "most timepoints of a frame"})
    squashed: bool = field(
        default=True, metadata={"help": "bring features between -1 and 1; needs equal windows"}
    )
    card: BackboneCard = field(
        default_factory=lambda: shipped_card("spectrum"), metadata={"help": "what it is"}
    )
    centre: Array | None = field(default=None, metadata={"help": "set by fit"})
    scale: Array | None = field(default=None, metadata={"help": "set by fit"})
    mean: Array | None = field(default=None, metadata={"help": "of each feature, set by fit"})
    gain: Array | None = field(default=None, metadata={"help": "of each feature, set by fit"})
    rate_hz: float | None = field(default=None, metadata={"help": "set by fit, where known"})
    frame: int = field(default=0, metadata={"help": "timepoints of a frame, set by fit"})

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Spectrum:
        return cls(card=card, **card.options)

    def fit(self, windows: Windows, *, seed: int) -> Spectrum:
        """Take level, scale, rate and frame from these windows; `seed` plays no part.

        A rate of exactly 1 is what windows carry of which the rate is not known.
        """
        centre, scale = usual_level(windows)
        n_timepoints = windows.x.shape[2]
        frame = 1 << max(0, int(np.log2(max(1, n_timepoints // 2))))
        frame = min(max(frame, _SHORTEST_FRAME), self.longest_frame, n_timepoints)
        rate_hz = windows.series.rate_hz
        known = None if rate_hz == 1.0 else float(rate_hz)
        bound = replace(
            self, centre=centre, scale=scale, rate_hz=known, frame=frame, mean=None, gain=None
        )
        if not self.squashed:
            return bound
        mean, gain = usual_features(bound.embed(windows.x))
        return replace(bound, mean=mean, gain=gain)

    def embed(self, x: Array) -> Array:
        """Band powers float32 (n_windows, embedding_dim).

        Errors: `ModelError` before `fit`; `DataError` for other channels than those of `fit`, or
        for windows of fewer than four timepoints.
        """
        return embed_in_batches(self.program(*window_shape(x)), x)

    def program(self, *shape: int) -> Program:
        """The band powers from primitives; `embed` interprets the same."""
        n_channels, n_timepoints = shape
        if self.centre is None or self.scale is None:
            raise unfitted(self.card.name)
        check_shape(self.card.name, n_channels, n_timepoints, len(self.centre), LEAST_TIMEPOINTS)
        length = min(self.frame, n_timepoints)
        n_frames, hop = _frames(n_timepoints, length)
        draft = Draft()
        signal, level = centred(draft, to_usual(draft, self.centre, self.scale))
        frames = draft.add("frame", signal, length=length, hop=hop)
        if hop * (n_frames - 1) + length + hop <= n_timepoints:
            frames = draft.add("slice", frames, axis=2, start=0, stop=n_frames)
        cosine, sine = _transform(length)
        real, imaginary = draft.add("matmul", frames, cosine), draft.add("matmul", frames, sine)
        power = draft.add(
            "add", draft.add("mul", real, real), draft.add("mul", imaginary, imaginary)
        )
        bands = _bands(length, self.rate_hz, self.bands_per_octave)
        loud = draft.add("add", draft.add("matmul", power, bands), np.float32(_FLOOR))
        logs = draft.add("log", loud)  # (n_windows, n_channels, n_frames, n_bands)
        mean = draft.add("mean", logs, axes=[2])
        parts = [draft.add("reshape", mean, shape=[n_channels, bands.shape[1]]), level]
        if n_frames > 1:
            away = draft.add("sub", logs, mean)
            spread = draft.add("mean", draft.add("mul", away, away), axes=[2])
            spread = draft.add("sqrt", draft.add("add", spread, np.float32(_FLOOR)))
            parts.append(draft.add("reshape", spread, shape=[n_channels, bands.shape[1]]))
        table = draft.add("concat", *parts, axis=2)
        width = bands.shape[1] * (2 if n_frames > 1 else 1) + 1
        flat = draft.add("reshape", table, shape=[n_channels * width])
        if self.mean is not None and self.gain is not None:
            check_dim(self.card.name, n_channels * width, len(self.mean))
            flat = squash(draft, flat, self.mean, self.gain)
        return draft.finish(flat)


def _frames(n_timepoints: int, length: int) -> tuple[int, int]:
    """How many frames, and how far apart: they overlap by half or a little more."""
    spare = n_timepoints - length
    n_frames = 1 + -(-spare // max(1, length // 2))
    return n_frames, max(1, spare // max(1, n_frames - 1))


def _transform(length: int) -> tuple[Array, Array]:
    """Float32 (length, n_bins) twice: a frame less its mean, through Hann, to its spectrum.

    White noise of unit variance gets powers that add up to one over all bins.
    """
    time = np.arange(length)
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * (time + 0.5) / length)
    bins = np.arange(1, length // 2 + 1)
    angle = 2.0 * np.pi * time[:, None] * bins / length
    gain = np.sqrt(1.0 / (len(bins) * np.sum(hann**2)))
    parts = [hann[:, None] * wave(angle) * gain for wave in (np.cos, np.sin)]
    cosine, sine = (part - part.mean(axis=0) for part in parts)
    return cosine.astype(np.float32), sine.astype(np.float32)


def _bands(length: int, rate_hz: float | None, per_octave: int) -> Array:
    """Float32 (n_bins, n_bands) of ones and zeros; every bin is in one band, no band is empty."""
    bins = np.arange(1, length // 2 + 1)
    frequency = bins * rate_hz / length if rate_hz else bins / (length / 2)
    place = np.floor(np.log2(frequency) * per_octave + 1e-6).astype(int)
    return np.asarray(place[:, None] == np.unique(place), dtype=np.float32)
