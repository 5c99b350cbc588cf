"""Recorded sound: one file, or a folder of them, at one rate and in one channel."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from edgegraft.data.account import CleaningStep, Quarantine, RowAccount
from edgegraft.data.clips import usual_length_s
from edgegraft.data.conventions import SPANS, SpanRow, spans_near, table_files
from edgegraft.data.dataset import Dataset
from edgegraft.data.metadata import Known, known_of
from edgegraft.data.source import DataOptions, tell
from edgegraft.data.track import merged
from edgegraft_edge.errors import DataError, Problem
from edgegraft_edge.signal import FULL_SCALE, UNLABELLED, Array, Channel, LabelSpan, Recording
from edgegraft_edge.sound import SUFFIXES, Sound, read_sound

CHANNEL = Channel("sound", FULL_SCALE)
MAX_SAMPLES = 1 << 29
"""Of all files together: 2 GiB in memory, 18 hours at 8 kHz."""
FARTHEST = 16  # times that a rate may be raised or lowered
_AT_ONCE = 64
_LOOKED_AT = 2000


class SoundSource:
    """WAV, FLAC and OGG files as recordings of one channel "sound" in full scale.

    Labels and groups are as for pictures (folders, ``metadata.csv|jsonl``, patterns; see
    `edgegraft.data.metadata`), and where nothing else tells them, from names such as
    ``label_group_take`` or ``label.anything``; labelled spans come from ``spans.csv``, in seconds.
    Channels are averaged. All files get one rate: the one asked for, else the commonest, behind
    an anti-aliasing filter. Windows are as `edgegraft.data.clips` says, usually of one second or
    what holds nine clips of ten. A file that is empty, cut off, damaged or not finite is set
    aside, and so is a silent one, unless its label is for silence. A row of the account is a file.

    Errors: `DataError` "sounds-none", "sounds-large", "rate-far", "spans-overlap", and if not one
    can be read the problems of `edgegraft_edge.sound.read_sound`.
    """

    def accepts(self, uri: str) -> bool:
        path = Path(uri)
        if path.is_dir():
            found = Counter(os.path.splitext(name)[1].lower() in SUFFIXES for name in _some(path))
            return found[True] > found[False]
        return path.is_file() and path.suffix.lower() in SUFFIXES

    def open(self, uri: str, options: DataOptions) -> Dataset:
        path = Path(uri.removeprefix("sound:"))
        if not path.exists():
            raise DataError.of(
                "file-missing", str(path), "there is no such file or folder", "check the path"
            )
        root = path if path.is_dir() else path.parent
        files = table_files(path, SUFFIXES) if path.is_dir() else [path]
        if not files:
            raise DataError.of(
                "sounds-none", str(path), "no sound is in it", f"files {', '.join(SUFFIXES)}"
            )
        known = known_of(files, root, options)
        steps = []
        # one folder around all is no label
        if path.is_dir() and options.label is None and len(set(known.labels)) < 2:
            known, how = _by_name(known, files, keep_groups=options.group is not None)
            steps += [CleaningStep("label-from", "", {"names": how})] if how else []
        heard, quarantined = _read(files, known)
        rate_hz = (
            options.rate_hz
            or Counter(sound.rate_hz for sound in heard if sound is not None).most_common(1)[0][0]
        )
        silent = _silent(heard, known.labels)
        quarantined += [Quarantine("sound-silent", 1, known.names[index]) for index in silent]
        recordings, resampled = [], Counter[float]()
        for index, (file, sound) in enumerate(zip(files, heard, strict=True)):
            if sound is None or index in silent:
                continue
            resampled[sound.rate_hz] += sound.rate_hz != rate_hz
            values = resample(sound, rate_hz, known.names[index])
            heard[index] = None
            spans = _spans(file, root, options, known.labels[index], values.shape[1], rate_hz)
            recordings.append(
                Recording(
                    values, (CHANNEL,), rate_hz, spans, known.groups[index], 0.0, known.names[index]
                )
            )
        account = RowAccount(len(files), len(recordings), merged(quarantined))
        window_s = options.window_s or usual_length_s([each.length_s for each in recordings])
        steps += _log(recordings, known, resampled, rate_hz, window_s)
        options = replace(options, window_s=window_s)
        return Dataset(tuple(recordings), None, account, tuple(steps), options, uri)


def resample(sound: Sound, rate_hz: float, name: str = "the sound") -> Array:
    """The mean of its channels at a rate, float32 (1, n_timepoints), with anti-aliasing.

    Polyphase filtering by a Kaiser window (scipy's `resample_poly`).

    Errors: `DataError` "rate-far" beyond 16 times.

    >>> resample(Sound(np.zeros((2, 16000), np.float32), 16000.0), 8000.0).shape
    (1, 8000)
    """
    if sound.rate_hz == rate_hz:
        return sound.mono
    ratio = Fraction(rate_hz / sound.rate_hz).limit_denominator(1000)
    if not 1 / FARTHEST <= rate_hz / sound.rate_hz <= FARTHEST or not ratio:
        raise DataError.of(
            "rate-far",
            f"{name} at {sound.rate_hz:g} Hz for a rate of {rate_hz:g} Hz",
            f"a rate more than {FARTHEST} times higher or lower is made up, or empty",
            "leave the file out, or choose a rate nearer to it with rate_hz=...",
        )
    from scipy.signal import resample_poly

    out = resample_poly(sound.mono.astype(np.float64), ratio.numerator, ratio.denominator, axis=1)
    return np.asarray(out, dtype=np.float32)


def _read(files: Sequence[Path], known: Known) -> tuple[list[Sound | None], list[Quarantine]]:
    """Each file in one channel, or None where it cannot be used."""
    heard: list[Sound | None] = []
    quarantined: list[Quarantine] = []
    problems: list[Problem] = []
    total = 0
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(files), _AT_ONCE):
            part, names = files[start : start + _AT_ONCE], known.names[start : start + _AT_ONCE]
            for name, found in zip(names, pool.map(partial(_heard), part, names), strict=True):
                if isinstance(found, DataError):
                    problems += found.problems
                    quarantined.append(Quarantine(found.code, 1, name))
                    heard.append(None)
                    continue
                heard.append(found)
                total += found.values.shape[1]
            if total > MAX_SAMPLES:
                raise DataError.of(
                    "sounds-large",
                    f"more than {MAX_SAMPLES:,} samples in {len(files)} files",
                    "they are held in memory",
                    "open a part of them, or bring them to a lower rate before",
                )
            tell(len(heard), len(files))
    if len(quarantined) == len(files):
        raise DataError(problems[:8])
    return heard, quarantined


def _heard(file: Path, name: str) -> Sound | DataError:
    try:
        sound = read_sound(file, name)
    except DataError as error:
        return error
    except OSError as error:
        why = error.strerror or "it cannot be read"
        return DataError.of("file-unreadable", name, why, "check that it may be read")
    values = sound.mono
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        found = f"{name} with {count} samples that are NaN or infinite"
        return DataError.of("sound-not-finite", found, "no feature of it is", "convert it again")
    return Sound(values, sound.rate_hz)


def _silent(heard: Sequence[Sound | None], labels: Sequence[str]) -> set[int]:
    """Which labelled files hold nothing at all, where most of their label hold something."""
    still = {
        index
        for index, sound in enumerate(heard)
        if sound is not None and labels[index] and not np.ptp(sound.values)
    }
    of = Counter(labels[index] for index, sound in enumerate(heard) if sound is not None)
    still_of = Counter(labels[index] for index in still)
    return {index for index in still if 2 * still_of[labels[index]] <= of[labels[index]]}


@dataclass(frozen=True)
class _Form:
    """A usual form of file names: how it is told, its pattern."""

    told: str
    pattern: str


_FORMS = (
    _Form("label_group_take", r"(?P<label>[^_]+)_(?P<group>[^_]+)_\d+"),
    _Form("label-group-take", r"(?P<label>[^-]+)-(?P<group>[^-]+)-\d+"),
    _Form("label_take", r"(?P<label>[^_]+)_\d+"),
    _Form("label-take", r"(?P<label>[^-]+)-\d+"),
)


def _by_name(known: Known, files: Sequence[Path], *, keep_groups: bool) -> tuple[Known, str]:
    """Labels (and groups) from names of a usual form, if all have it and labels repeat."""
    for form in _FORMS:
        found = [re.fullmatch(form.pattern, file.name.partition(".")[0]) for file in files]
        parts = [match.groupdict() for match in found if match]
        labels = Counter(part["label"] for part in parts)
        if len(parts) == len(files) and len(labels) > 1 and min(labels.values()) > 1:
            groups = tuple(part.get("group", "") for part in parts)
            told = tuple(part["label"] for part in parts)
            groups = known.groups if keep_groups else groups
            return replace(known, labels=told, groups=groups), form.told
    if all("." in file.stem for file in files):
        told = tuple(file.name.partition(".")[0] for file in files)
        return replace(known, labels=told), "label.anything"
    return known, ""


def _spans(
    file: Path, root: Path, options: DataOptions, label: str, count: int, rate_hz: float
) -> tuple[LabelSpan, ...]:
    """Labelled spans of a file: those written beside it, else all of it under its label."""
    beside = file.with_name(file.stem + ".spans.csv").is_file()
    if not beside and not options.spans and not any((root / name).is_file() for name in SPANS):
        return (LabelSpan(0, count, label),) if label != UNLABELLED else ()
    rows = sorted(
        (_moment(row.start, row), _moment(row.end, row), row.label)
        for row in spans_near(file, root, options.spans)
    )
    found: list[LabelSpan] = []
    for start_s, stop_s, name in rows:
        start, stop = round(start_s * rate_hz), min(count, round(stop_s * rate_hz))
        if found and start < found[-1].stop:
            raise DataError.of(
                "spans-overlap",
                f"{file.name}: spans of {found[-1].label!r} and {name!r} overlap",
                "a sample has one label",
                "end the first before the second starts",
            )
        if 0 <= start < stop:
            found.append(LabelSpan(start, stop, name))
    return tuple(found)


def _moment(text: str, row: SpanRow) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError.of(
            "spans-columns",
            f"a span of {row.label!r} from {row.start!r} to {row.end!r}",
            "spans of sound are in seconds from the start of the file",
            "numbers in columns start_s, end_s (or start_ms, end_ms)",
        )
    return value / 1000 if row.unit == "ms" else value


def _log(
    recordings: Sequence[Recording],
    known: Known,
    resampled: Counter[float],
    rate_hz: float,
    window_s: float,
) -> list[CleaningStep]:
    steps = [
        CleaningStep("resample", "", {"rate_hz": before, "to_hz": rate_hz, "files": count})
        for before, count in sorted(resampled.items())
        if count
    ]
    short = sum(each.length_s < window_s for each in recordings)
    if short:
        steps.append(CleaningStep("pad", "", {"clips": short, "to_s": window_s}))
    if known.absent:
        values = {"files": len(known.absent), "first": known.absent[0]}
        steps.append(CleaningStep("metadata-without-file", "", values))
    return steps


def _some(root: Path) -> Iterator[str]:
    """Names of files below a folder, without hidden ones and text, up to a bound."""
    count = 0
    for _, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith(".") and not name.lower().endswith(
                (".csv", ".jsonl", ".md", ".txt")
            ):
                count += 1
                yield name
        if count >= _LOOKED_AT:
            return
