"""Sound as samples: WAV files and raw PCM, whole or from a pipe, in full scale and in one channel.

WAV with 8, 16, 24 or 32 bits and with floats needs nothing but NumPy. FLAC, OGG and the rarer
encodings of WAV are left to `soundfile`, an extra. Nothing here changes the rate: a stream at
another rate than the bundle's is refused, and files are resampled where models are trained.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.rows import Account
from edgegraft_edge.signal import Array, WindowSpec
from edgegraft_edge.windowing import RATE_TOLERANCE

SUFFIXES = (".wav", ".wave", ".flac", ".ogg", ".oga")
MAX_BYTES = 1 << 30
"""Of a file, and of the samples in it."""
MAX_RATE_HZ = 1e6
_CHUNK_S = 0.05  # of a stream that is read at once: what it adds to the latency
_WIDTHS = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4, "f64le": 8}
ENCODINGS = tuple(_WIDTHS)
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNTOLD = 0x7FFF0000  # sizes from here on stand for "until the stream ends"


@dataclass(frozen=True)
class Sound:
    """Samples between -1 and 1, float32 (n_channels, n_timepoints), and their rate."""

    values: Array
    rate_hz: float

    @property
    def mono(self) -> Array:
        """The mean of the channels, (1, n_timepoints)."""
        return _mono(self.values)


@dataclass(frozen=True)
class Form:
    """How samples stand in bytes: one of `ENCODINGS`, channels side by side."""

    encoding: str
    n_channels: int
    rate_hz: float

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return _WIDTHS[self.encoding] * self.n_channels


def decode(data: bytes, form: Form) -> Array:
    """Whole frames of bytes as float32 (n_channels, n_timepoints), 1 being full scale.

    >>> decode(bytes([128, 192, 0]), Form("u8", 1, 8000.0)).tolist()
    [[0.0, 0.5, -1.0]]
    """
    encoding = form.encoding
    if encoding == "u8":
        flat = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)
    elif encoding == "s24le":
        parts = np.frombuffer(data, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(parts), 4), np.uint8)
        wide[:, 1:] = parts
        flat = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    elif encoding[0] == "s":
        bits = int(encoding[1:3])
        flat = np.frombuffer(data, f"<i{bits // 8}").astype(np.float32) / np.float32(
            2 ** (bits - 1)
        )
    else:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity
            flat = np.frombuffer(data, f"<f{_WIDTHS[encoding]}").astype(np.float32)
    return np.ascontiguousarray(flat.reshape(-1, form.n_channels).T)


def read_sound(path: Path, name: str = "") -> Sound:
    """A file as samples.

    Errors: `DataError` "sound-format", "sound-header", "sound-encoding", "sound-empty",
    "sound-truncated", "sound-large"; `OptionError` "extra-missing" for what needs soundfile.
    """
    name = name or path.name
    size = path.stat().st_size
    if size == 0:
        raise _error("sound-empty", f"{name}, a file of no bytes", "there is nothing in it")
    if size > MAX_BYTES:
        raise _large(name)
    data = path.read_bytes()
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        found = _read_wav(io.BytesIO(data), name)
        if found is not None:
            return found
    return _read_other(data, name)


def _read_wav(stream: io.BytesIO, name: str) -> Sound | None:
    """None for an encoding that is not read here."""
    form, declared = wav_header(stream, name)
    if form is None:
        return None
    rest = stream.read()
    if declared is None:
        whole = rest[: len(rest) - len(rest) % form.frame_bytes]
    else:
        whole = rest[:declared]
        if len(whole) < declared:
            raise _error(
                "sound-truncated",
                f"{name} holds {len(rest) / max(1, declared):.0%} of the samples that it says",
                "what is missing may be what its label is for",
            )
        whole = whole[: len(whole) - len(whole) % form.frame_bytes]
    if not whole:
        raise _error("sound-empty", f"{name} without a sample", "there is nothing to hear")
    return Sound(decode(whole, form), form.rate_hz)


def wav_header(stream: Any, name: str) -> tuple[Form | None, int | None]:
    """Reads up to the samples: their form (None if not read here), and their bytes if told.

    Errors: `DataError` "sound-format", "sound-header".
    """
    head = _exactly(stream, 12)
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
        raise _error("sound-format", f"{name} is no WAV", "it does not begin as one")
    form, seen = None, False
    for _ in range(1000):
        chunk = _exactly(stream, 8)
        if len(chunk) < 8:
            break
        kind, size = chunk[:4], int(struct.unpack("<I", chunk[4:])[0])
        if kind == b"data":
            if not seen:
                break
            return form, None if size >= _UNTOLD else size
        if size > 1 << 24:
            break
        body = _exactly(stream, size + size % 2)
        if kind == b"fmt ":
            form, seen = _form(body, name), True
    raise _error("sound-header", f"{name}, a WAV without format or samples", "it is damaged")


def _exactly(stream: Any, count: int) -> bytes:
    """So many bytes, or fewer at the end; a pipe may give them in pieces."""
    found = b""
    while len(found) < count and (more := stream.read(count - len(found))):
        found += more
    return found


def _form(body: bytes, name: str) -> Form | None:
    if len(body) < 16:
        raise _error("sound-header", f"{name}, a WAV with a short format", "it is damaged")
    tag, n_channels, rate, _, frame, bits = struct.unpack("<HHIIHH", body[:16])
    if tag == _EXTENSIBLE and len(body) >= 26:
        tag = struct.unpack("<H", body[24:26])[0]
    kind = {_PCM: "s", _FLOAT: "f"}.get(tag, "")
    encoding = "u8" if (kind, bits) == ("s", 8) else f"{kind}{bits}le"
    if encoding not in _WIDTHS:
        return None
    if not 0 < rate <= MAX_RATE_HZ or not 0 < n_channels <= 64:
        found = f"{name} says {rate} Hz and {n_channels} channels"
        raise _error("sound-header", found, "no microphone gives that")
    if frame != n_channels * bits // 8:
        return None  # samples in wider cells
    return Form(encoding, int(n_channels), float(rate))


def _read_other(data: bytes, name: str) -> Sound:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: its library is not there
        raise OptionError.of(
            "extra-missing",
            f"{name}, which is no plain WAV",
            "it is read by soundfile, which is not installed",
            "pip install edgegraft-edge[audio], or save it as 16-bit WAV",
        ) from error
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.frames * file.channels * 4 > MAX_BYTES:
                raise _large(name)
            values = file.read(dtype="float32", always_2d=True)
            rate_hz, told = float(file.samplerate), file.frames
    except soundfile.SoundFileError as error:
        why = str(error).splitlines()[0][-120:]
        raise _error("sound-format", f"{name} ({why})", "no reader of sound takes it") from error
    if not len(values):
        raise _error("sound-empty", f"{name} without a sample", "there is nothing to hear")
    if len(values) < told:
        found = f"{name} holds {len(values) / told:.0%} of the samples that it says"
        raise _error("sound-truncated", found, "what is missing may be what its label is for")
    return Sound(np.ascontiguousarray(values.T), rate_hz)


class SoundStream:
    """An iterator of (None, samples (1, some)) from a stream of bytes, as it comes.

    Args:
        source: bytes to be read.
        spec: of the bundle; it has one channel, which is what several become by their mean.
        encoding: one of `ENCODINGS` for bare samples of one channel; "wav" reads a header.
        rate_hz: of bare samples, if known.

    Errors: `DataError` "rate-mismatch" for another rate than the spec's, and what a header may
    raise; "channel-count" for a bundle that wants several channels.

    >>> from edgegraft_edge.signal import FULL_SCALE, Channel
    >>> spec = WindowSpec(0.001, 0.001, 8000.0, (Channel("sound", FULL_SCALE),))
    >>> stream = SoundStream(io.BytesIO(bytes([128] * 5)), spec, encoding="u8")
    >>> [samples.shape for _, samples in stream], stream.account.rows
    ([(1, 5)], 5)
    """

    def __init__(
        self,
        source: Any,
        spec: WindowSpec,
        *,
        encoding: str = "wav",
        rate_hz: float | None = None,
        name: str = "the stream",
    ):
        self.account = Account()
        if spec.n_channels != 1:
            found = f"a bundle of channels {', '.join(spec.channel_names[:8])}"
            raise DataError.of("channel-count", found, "sound is one channel", "a CSV of them")
        self._source, self._name = source, name
        self._left: int | None = None
        self._ready: Array | None = None
        if encoding == "wav":
            form, self._left = wav_header(source, name)
            if form is None:
                raise _error(
                    "sound-encoding",
                    f"{name} in an encoding that is not read as a stream",
                    "only plain samples come one by one",
                )
        elif encoding == "file":
            sound = _read_other(source.read(MAX_BYTES + 1), name)
            form, self._ready = Form("f32le", len(sound.values), sound.rate_hz), sound.values
        else:
            form = Form(encoding, 1, rate_hz or spec.rate_hz)
        self.form = form
        _check_rate(form.rate_hz, spec.rate_hz, name)

    def __iter__(self) -> Iterator[tuple[None, Array]]:
        form, count = self.form, max(1, round(_CHUNK_S * self.form.rate_hz))
        if self._ready is not None:
            for start in range(0, self._ready.shape[1], count):
                yield None, self._counted(self._ready[:, start : start + count])
            return
        kept = b""
        while self._left is None or self._left > 0:
            wanted = count * form.frame_bytes - len(kept)
            data = self._source.read(wanted if self._left is None else min(wanted, self._left))
            if not data:
                break
            if self._left is not None:
                self._left -= len(data)
            kept += data
            whole = len(kept) - len(kept) % form.frame_bytes
            if whole:
                yield None, self._counted(decode(kept[:whole], form))
            kept = kept[whole:]
        if self._left:
            self.account.add("sound-truncated", self.account.rows, f"{self._left} bytes missing")
        elif kept:
            self.account.add("sound-truncated", self.account.rows, "part of a sample")

    def silence(self, n_timepoints: int) -> Array:
        """What a stream that was shorter than a window lacks of it, (1, some) zeros."""
        missing = n_timepoints - self.account.rows if self.account.rows else 0
        return np.zeros((1, max(0, missing)), np.float32)

    def _counted(self, values: Array) -> Array:
        mono = _mono(values)
        self.account.rows += mono.shape[1]
        return mono


def encoding_of(name: str | None, begin: bytes, wanted: str = "") -> str:
    """How a source is to be read: "wav", "file", one of `ENCODINGS`, or "" for a table.

    Args:
        name: of the file; None for a pipe.
        begin: its first bytes.
        wanted: what was asked for; it decides.

    >>> encoding_of(None, b"RIFF"), encoding_of("day.csv", b"time,"), encoding_of("a", b"fLaC")
    ('wav', '', 'file')
    """
    if wanted:
        return "" if wanted == "csv" else wanted
    if begin and b"RIFF".startswith(begin[:4]):  # a pipe may show one byte at first
        return "wav"
    if begin[:4] in (b"fLaC", b"OggS"):
        return "file"
    known = name is not None and name.lower().endswith(SUFFIXES)
    return "wav" if known else ""


def _check_rate(found_hz: float, wanted_hz: float, name: str) -> None:
    if abs(found_hz / wanted_hz - 1.0) > RATE_TOLERANCE:
        raise DataError.of(
            "rate-mismatch",
            f"{name} at {found_hz:g} Hz for windows at {wanted_hz:g} Hz",
            "more than 2 % off, every sound would be too high or too low",
            f"record at that rate (arecord -r {wanted_hz:.0f}), or resample before: "
            f"ffmpeg -i IN -ar {wanted_hz:.0f} -ac 1 OUT.wav",
        )


def _mono(values: Array) -> Array:
    if len(values) == 1:
        return values
    return np.asarray(values.mean(axis=0, keepdims=True), dtype=np.float32)


def _large(name: str) -> DataError:
    return DataError.of(
        "sound-large",
        f"{name} with more than {MAX_BYTES >> 20} MiB",
        "a file is read into memory",
        "divide it, or stream it to edgegraft-edge run",
    )


def _error(code: str, found: str, why: str) -> DataError:
    return DataError.of(code, found, why, "record it again, or convert it to 16-bit WAV")
