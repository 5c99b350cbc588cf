"""Front ends of known sound networks, as programs: what they heard when they were trained.

* ``speech-mel``: of Google's speech embedding (Lin et al., Training Keyword Spotters with Limited
  and Synthesized Speech Data, ICASSP 2020): 32 mel bands of 60 to 3800 Hz in dB, 10 ms apart.
* ``mfcc``: of the keyword network of MLPerf Tiny (Banbury et al., NeurIPS 2021): 10 cepstral
  coefficients of 40 mel bands of 20 to 4000 Hz, 20 ms apart, of a clip scaled to its peak.
* ``lfbe``: of its streaming wake word: 40 mel bands of pre-emphasised sound, 32 ms apart.

Each takes sound at 16 kHz; other rates are brought to it by a bank of short filters
(`resampled`), and clips that are too short get silence at their end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

import numpy as np

from edgegraft.zoo.intake import kind_error
from edgegraft_edge.errors import DataError
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Spec, WindowSpec

RATE_HZ = 16000.0
_LOBES = 8
_FULL_SCALE = 32768.0  # of 16-bit sound, which the speech embedding was trained on
_QUIET = 1e-3  # peak below which a clip is not scaled up to full scale
_MAX_PHASES = 1000  # filters of a resampling


@dataclass(frozen=True)
class Front:
    """A front end: its shape for a clip of the length that its network was trained on.

    Attributes:
        write: (draft, sound (n_windows, 1, n_timepoints), n_timepoints) -> features
            (n_windows, channels, *places).
        n_timepoints: shortest clip; what is shorter is filled up with zeros.
        longer: whether its network takes longer clips; they are cut otherwise.
    """

    write: Callable[[Draft, str, int], str]
    channels: int
    places: tuple[int, int]
    n_timepoints: int
    longer: bool = True


@dataclass(frozen=True)
class SoundIntake:
    """Sound through the front end of that name.

    >>> from edgegraft_edge.signal import Channel, FULL_SCALE
    >>> spec = WindowSpec(1.0, 1.0, 8000.0, (Channel("sound", FULL_SCALE),))
    >>> SoundIntake("speech-mel").program(spec).run(np.zeros((1, 1, 8000))).shape
    (1, 1, 97, 32)
    """

    front: str

    def program(self, spec: Spec) -> Program:
        """Windows of that spec -> float32 (n_windows, channels, *places); channels are averaged.

        Errors: `DataError` "kind-differs", "rate-unknown".
        """
        if not isinstance(spec, WindowSpec):
            raise kind_error(spec, "audio")
        front, draft = FRONTS[self.front], Draft()
        value, length = "x", spec.n_timepoints
        if spec.n_channels > 1:
            value = draft.add("mean", value, axes=[1])
        value, length = resampled(draft, value, length, spec.rate_hz, RATE_HZ)
        if length < front.n_timepoints:
            missing = front.n_timepoints - length
            value = draft.add("pad", value, before=[0, 0], after=[0, missing])
            length = front.n_timepoints
        if length > front.n_timepoints and not front.longer:
            value = draft.add("slice", value, axis=2, start=0, stop=front.n_timepoints)
            length = front.n_timepoints
        return draft.finish(front.write(draft, value, length))


def resampled(
    draft: Draft, value: str, length: int, rate_hz: float, wanted_hz: float
) -> tuple[str, int]:
    """Sound at another rate, by one short filter for each phase of the new rate against the old.

    Filters are sincs under a Kaiser window of 8 lobes, widened where the rate falls, so that what
    the new rate cannot show is filtered out.

    Args:
        value: (n_windows, 1, n_timepoints) of `length` timepoints at `rate_hz`.

    Returns: the name of the new value, and its timepoints. Errors: `DataError` "rate-unknown".

    >>> draft = Draft()
    >>> value, length = resampled(draft, "x", 80, 8000.0, 16000.0)
    >>> time = np.arange(80) / 8000
    >>> found = draft.finish(value).run(np.sin(2 * np.pi * 500 * time)[None, None])[0, 0]
    >>> wanted = np.sin(2 * np.pi * 500 * np.arange(160) / 16000)
    >>> length, bool(np.abs(found - wanted)[40:120].max() < 1e-3)
    (160, True)
    """
    if not np.isfinite(rate_hz) or rate_hz < 1000:
        raise DataError.of(
            "rate-unknown",
            f"sound at {rate_hz:g} Hz",
            "speech has at least 1000 samples a second, and the network must know how many",
            "state the rate of the recordings",
        )
    ratio = Fraction(wanted_hz / rate_hz).limit_denominator(_MAX_PHASES)
    up, down = ratio.numerator, ratio.denominator
    if up == down:
        return value, length
    reach = max(1.0, down / up)
    half = int(np.ceil(_LOBES * reach))
    offsets = np.arange(up) * down / up
    taps = np.arange(-half, int(offsets[-1]) + half + 1)
    away = (taps - offsets[:, None]) / reach
    inside = np.clip(1 - (away / _LOBES) ** 2, 0, 1)
    weight = np.sinc(away) * np.i0(8.0 * np.sqrt(inside)) * (np.abs(away) < _LOBES)
    weight /= weight.sum(axis=1, keepdims=True)
    n_out = max(1, length * up // down)
    steps = -(-n_out // up)
    after = max(0, (steps - 1) * down + len(taps) - half - length)
    value = draft.add(
        "conv1d",
        value,
        weight[:, None, :],
        np.zeros(up),
        stride=down,
        pad=[half, after],
    )
    value = draft.add("slice", value, axis=2, start=0, stop=steps)
    if up > 1:
        value = draft.add("transpose", value, axes=[0, 2, 1])
        value = draft.add("reshape", value, shape=[1, steps * up])
        value = draft.add("slice", value, axis=2, start=0, stop=n_out)
    return value, n_out


# -- spectra


def _spectrum(
    draft: Draft, value: str, *, window: Array, hop: int, n_fft: int, mel: Array, root: bool
) -> str:
    """Energy in mel bands, (n_windows, 1, n_frames, n_bands).

    Args:
        window: (frame length,); mel: (n_fft / 2 + 1, n_bands); root: magnitude in place of power.
    """
    bins = np.flatnonzero(mel.any(axis=1))
    turn = 2 * np.pi * np.outer(np.arange(len(window)), bins) / n_fft
    frames = draft.add("frame", value, length=len(window), hop=hop)
    power = []
    for wave in (np.cos(turn), np.sin(turn)):
        part = draft.add("matmul", frames, wave * window[:, None])
        power.append(draft.add("mul", part, part))
    energy = draft.add("add", *power)
    if root:
        energy = draft.add("sqrt", energy)
    return draft.add("matmul", energy, mel[bins])


def _hann(length: int) -> Array:
    """Periodic."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


def _slaney_mel(n_bins: int, n_bands: int, low_hz: float, high_hz: float) -> Array:
    """Triangles of equal area on Slaney's mel scale (Auditory Toolbox, 1998), (n_bins, n_bands)."""
    log_step = np.log(6.4) / 27

    def mel(hz: float) -> float:
        return 3 * hz / 200 if hz < 1000 else 15 + np.log(hz / 1000) / log_step

    marks = np.linspace(mel(low_hz), mel(high_hz), n_bands + 2)
    edges = np.where(marks < 15, 200 * marks / 3, 1000 * np.exp(log_step * (marks - 15)))
    bins = np.linspace(0, RATE_HZ / 2, n_bins)[:, None]
    up = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0, np.minimum(up, down)) * 2 / (edges[2:] - edges[:-2]))


def _htk_mel(n_bins: int, n_bands: int, low_hz: float, high_hz: float) -> Array:
    """Triangles of height 1 on the HTK mel scale, drawn in mel, (n_bins, n_bands)."""

    def mel(hz: Array) -> Array:
        return np.asarray(1127 * np.log1p(hz / 700))

    low, high = mel(np.array([low_hz, high_hz])).tolist()
    edges = np.linspace(low, high, n_bands + 2)
    bins = mel(np.linspace(0, RATE_HZ / 2, n_bins))[:, None]
    up = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(up, down))
    triangles[0] = 0  # the mean is no tone
    return np.asarray(triangles)


def _decibels(draft: Draft, value: str, floor: float) -> str:
    held = draft.add("maximum", value, np.float32(floor))
    return draft.add("mul", draft.add("log", held), np.float32(10 / np.log(10)))


# -- front ends


def _speech_mel(draft: Draft, value: str, length: int) -> str:
    """Bands in dB, none more than 80 dB below the loudest of the clip, then / 10 + 2."""
    n_frames = (length - 512) // 160 + 1
    value = draft.add("mul", value, np.float32(_FULL_SCALE))
    # the window of 400 stands in the middle of the frame of 512
    value = draft.add("slice", value, axis=2, start=56, stop=56 + (n_frames - 1) * 160 + 400)
    mel = _slaney_mel(257, 32, 60.0, 3800.0)
    bands = _spectrum(draft, value, window=_hann(400), hop=160, n_fft=512, mel=mel, root=False)
    level = _decibels(draft, bands, 1e-10)
    loudest = draft.add("max", level, axes=[1, 2, 3])
    held = draft.add("maximum", level, draft.add("sub", loudest, np.float32(80)))
    return draft.add("add", draft.add("mul", held, np.float32(0.1)), np.float32(2))


def _mfcc(draft: Draft, value: str, length: int) -> str:
    peak = draft.add("maximum", draft.add("max", value, axes=[2]), np.float32(_QUIET))
    value = draft.add("div", value, peak)
    mel = _htk_mel(257, 40, 20.0, 4000.0)
    bands = _spectrum(draft, value, window=_hann(480), hop=320, n_fft=512, mel=mel, root=True)
    logs = draft.add("log", draft.add("add", bands, np.float32(1e-6)))
    angle = np.pi / 40 * np.outer(np.arange(40) + 0.5, np.arange(10))
    return draft.add("matmul", logs, np.cos(angle) * np.sqrt(2 / 40))


def _lfbe(draft: Draft, value: str, length: int) -> str:
    peak = draft.add("maximum", draft.add("max", value, axes=[2]), np.float32(_QUIET))
    value = draft.add("div", value, peak)
    later = draft.add("slice", value, axis=2, start=0, stop=length - 1)
    later = draft.add("pad", later, before=[0, 1], after=[0, 0])
    value = draft.add("sub", value, draft.add("mul", later, np.float32(1 - 2**-5)))
    mel = _htk_mel(513, 40, 0.0, 8000.0)
    bands = _spectrum(
        draft, value, window=np.hamming(1024) / 32, hop=512, n_fft=1024, mel=mel, root=False
    )
    level = draft.add("add", _decibels(draft, bands, 1e-30), np.float32(52))
    level = draft.add("mul", level, np.float32(1 / 64))
    level = draft.add("minimum", draft.add("relu", level), np.float32(1))
    level = draft.add("transpose", level, axes=[0, 3, 2, 1])
    return level


FRONTS: Mapping[str, Front] = MappingProxyType(
    {
        "speech-mel": Front(_speech_mel, 1, (76, 32), 512 + 75 * 160),
        "mfcc": Front(_mfcc, 1, (49, 10), 16000),
        "lfbe": Front(_lfbe, 40, (30, 1), 1024 + 29 * 512, longer=False),
    }
)
"""Front ends by name, known by the shape that they give."""
