"""Spectrograms as programs: sound to the log of its power in mel bands, or to cepstra of it.

A window is cut into overlapping frames; each goes through a Hann window and a discrete Fourier
transform written as two matrix products, its power through a matrix of triangles on the mel
scale (Stevens, Volkmann and Newman, 1937, in the form of O'Shaughnessy, 1987), and into a
logarithm. So a device without an FFT computes what was trained on, and in any runtime.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgegraft_edge.errors import DataError
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Spec, WindowSpec

LEAST_TIMEPOINTS = 8
_LEVEL = 0.1  # root of the mean power, in full scale
_SILENCE = 1e-4


@dataclass(frozen=True)
class LogMel:
    """Log power in mel bands: (n_windows, n_channels, t) -> (n_windows, 1, n_mels, n_frames).

    Windows are brought to one level, 20 dB below full scale, since microphones and distances
    differ by more than that; what is below 80 dB stays silent. A sine in full scale has a power
    of about one, whose logarithm is 0.

    Attributes:
        n_mels: bands.
        frame_s, hop_s: seconds of a frame, and from one to the next.
        low_hz, high_hz: where bands begin and end, or at half the rate where that is lower.
        floor: power that is added before the logarithm; what is below counts as silence.
        levelled: whether windows are brought to one level.
        most_frames: beyond these frames stand further apart.

    >>> from edgegraft_edge.signal import FULL_SCALE, Channel
    >>> spec = WindowSpec(1.0, 0.5, 8000.0, (Channel("sound", FULL_SCALE),))
    >>> log_mel = LogMel(n_mels=40)
    >>> log_mel.shape(spec), log_mel.program(spec).run(np.zeros((2, 1, 8000))).shape
    ((1, 40, 98), (2, 1, 40, 98))
    """

    n_mels: int = 40
    frame_s: float = 0.025
    hop_s: float = 0.010
    low_hz: float = 60.0
    high_hz: float = 8000.0
    floor: float = 1e-4
    levelled: bool = True
    most_frames: int = 1000

    def program(self, spec: Spec) -> Program:
        """Windows of that spec -> log power, a picture with time along its width.

        Errors: `DataError` "kind-differs", "window-short".
        """
        draft = Draft()
        logs = self.logs(draft, self.power(draft, spec))
        return draft.finish(draft.add("transpose", logs, axes=[0, 1, 3, 2]))

    def shape(self, spec: Spec) -> tuple[int, int, int]:
        """Of one spectrogram: (1, n_mels, n_frames)."""
        return 1, self.n_mels, self._frames(_of_sound(spec))[2]

    def power(self, draft: Draft, spec: Spec) -> str:
        """Writes the power in each band, (n_windows, 1, n_frames, n_mels)."""
        spec = _of_sound(spec)
        length, hop, n_frames = self._frames(spec)
        value = "x"
        if spec.n_channels > 1:
            value = draft.add("mean", value, axes=[1])
        if self.levelled:
            value = _levelled(draft, value)
        frames = draft.add("frame", value, length=length, hop=hop)
        if 1 + (spec.n_timepoints - length) // hop > n_frames:
            frames = draft.add("slice", frames, axis=2, start=0, stop=n_frames)
        n_points = 1 << int(np.ceil(np.log2(length)))
        bins = np.arange(1, n_points // 2 + 1)
        bands = mel_bands(
            bins * spec.rate_hz / n_points,
            self.n_mels,
            self.low_hz,
            min(self.high_hz, spec.rate_hz / 2),
        )
        used = bands.any(axis=1)
        cosine, sine = _transform(length, n_points, bins[used])
        parts = [draft.add("matmul", frames, wave) for wave in (cosine, sine)]
        squares = [draft.add("mul", part, part) for part in parts]
        return draft.add("matmul", draft.add("add", *squares), bands[used])

    def logs(self, draft: Draft, power: str) -> str:
        """Writes the logarithm of a power."""
        return draft.add("log", draft.add("add", power, np.float32(self.floor)))

    def _frames(self, spec: WindowSpec) -> tuple[int, int, int]:
        """Timepoints of a frame, timepoints to the next, and how many there are."""
        n_timepoints = spec.n_timepoints
        if n_timepoints < LEAST_TIMEPOINTS:
            raise DataError.of(
                "window-short",
                f"windows of {n_timepoints} timepoints",
                f"a spectrum needs {LEAST_TIMEPOINTS}",
                "cut longer windows",
            )
        wanted = round(self.frame_s * spec.rate_hz)
        length = min(max(wanted, LEAST_TIMEPOINTS), n_timepoints)
        hop = max(1, round(length * self.hop_s / self.frame_s))
        hop = max(hop, -(-(n_timepoints - length) // self.most_frames))
        return length, hop, min(self.most_frames, 1 + (n_timepoints - length) // hop)


def _levelled(draft: Draft, value: str) -> str:
    """Writes windows (n, 1, t) without offset and at one level."""
    centred = draft.add("sub", value, draft.add("mean", value, axes=[2]))
    power = draft.add("mean", draft.add("mul", centred, centred), axes=[2])
    size = draft.add("add", draft.add("sqrt", power), np.float32(_SILENCE))
    return draft.add("mul", draft.add("div", centred, size), np.float32(_LEVEL))


def cepstra(draft: Draft, logs: str, n_mels: int, count: int) -> str:
    """Writes the first cepstra of (..., n_mels) log powers: (..., count).

    An orthonormal cosine transform (Davis and Mermelstein, 1980); the first is the level.
    """
    place = (np.arange(n_mels)[:, None] + 0.5) * np.arange(count) * np.pi / n_mels
    matrix = np.cos(place) * np.sqrt(2.0 / n_mels)
    matrix[:, 0] /= np.sqrt(2.0)
    return draft.add("matmul", logs, matrix.astype(np.float32))


def mel_bands(frequency_hz: Array, n_mels: int, low_hz: float, high_hz: float) -> Array:
    """Triangles float32 (n_bins, n_mels), one bin wide at least, so that none is empty.

    >>> mel_bands(np.array([500.0, 1000.0, 1500.0]), 2, 0.0, 2000.0).astype(float).round(2).tolist()
    [[1.0, 0.16], [0.04, 0.97], [0.0, 0.51]]
    """
    low_hz = min(low_hz, high_hz / 8)
    apart = float(frequency_hz[1] - frequency_hz[0]) if len(frequency_hz) > 1 else high_hz
    ends = 2595.0 * np.log10(1.0 + np.array([low_hz, high_hz]) / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(ends[0], ends[1], n_mels + 2) / 2595.0) - 1.0)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    # not beyond the bins that there are, as the lowest centre may lie below the first
    centre = np.clip(centre, frequency_hz[0], frequency_hz[-1])
    left, right = np.minimum(left, centre - apart), np.maximum(right, centre + apart)
    bins = frequency_hz[:, None]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)), dtype=np.float32)


def _transform(length: int, n_points: int, bins: Array) -> tuple[Array, Array]:
    """Float32 (length, n_bins) twice: a frame less its mean, through Hann, to its spectrum."""
    time = np.arange(length)
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * (time + 0.5) / length)
    angle = 2.0 * np.pi * time[:, None] * bins / n_points
    gain = 2.0 / np.sum(hann)
    parts = [hann[:, None] * wave(angle) * gain for wave in (np.cos, np.sin)]
    cosine, sine = (part - part.mean(axis=0) for part in parts)
    return cosine.astype(np.float32), sine.astype(np.float32)


def _of_sound(spec: Spec) -> WindowSpec:
    if isinstance(spec, WindowSpec) and spec.kind == "audio":
        return spec
    raise DataError.of(
        "kind-differs",
        f"windows of kind {spec.kind}",
        "a spectrogram is of sound, whose channels are in full scale",
        f"edgegraft models list shows what takes kind {spec.kind}",
    )
