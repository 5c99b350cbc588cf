"""Checks of sound, beside those of any data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from edgegraft.data.finding import Evidence, Finding
from edgegraft_edge.signal import Array

FEW = 0.05  # share of recordings from which a fault is trouble
QUIET_DB = -60.0  # of full scale: there is next to nothing to hear
APART_DB = 12.0  # between groups, from which a model may know them by their loudness
_OFFSET = 0.02  # of full scale
_FULL = 0.99  # of full scale, at which clipped samples stand side by side
_HELD = 3
_LONGEST_S = 10.0  # of a recording that is compared
_BANDS, _FRAMES = 32, 32
_ALIKE = 0.985  # correlation of fingerprints
_AT_ONCE = 1024

Piece = tuple[str, str, Array]


def fingerprint(values: Array, rate_hz: float) -> Array:
    """Log power of a recording in 32 bands and 32 frames, as a vector of mean 0 and length 1.

    The same, nearly, for a copy at another gain, rate or compression; zeros if it is silent.

    >>> tone = np.sin(np.arange(8000) * 0.3)
    >>> bool(fingerprint(tone, 8000.0) @ fingerprint(0.2 * tone, 8000.0) > 0.99)
    True
    """
    values = np.asarray(values, np.float64)[: int(_LONGEST_S * rate_hz)]
    energy = np.cumsum(values * values)
    if not len(values) or energy[-1] <= 0:
        return np.zeros(_BANDS * _FRAMES, np.float32)
    # from where it begins to where it ends to be heard, so that added silence changes nothing
    first, last = np.searchsorted(energy, energy[-1] * np.array([0.005, 0.995]))
    values = values[first : max(last + 1, first + 64)]
    length = max(64, min(len(values), round(0.032 * rate_hz)))
    values = np.pad(values, (0, max(0, length - len(values))))
    starts = np.linspace(0, len(values) - length, _FRAMES).round().astype(int)
    frames = values[starts[:, None] + np.arange(length)] * np.hanning(length)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    hertz = np.fft.rfftfreq(length, 1 / rate_hz)
    edges = np.geomspace(100.0, min(3600.0, 0.45 * rate_hz), _BANDS + 1)
    place = np.clip(np.searchsorted(hertz, edges), 0, len(hertz) - 1)
    bands = np.stack(
        [power[:, low : max(high, low + 1)].mean(axis=1) for low, high in pairwise(place)]
    )
    logs = np.log(bands + 1e-4 * bands.max())
    logs -= logs.mean()
    size = float(np.linalg.norm(logs))
    return np.asarray(logs.ravel() / max(size, 1e-9), np.float32)


def check_quiet(evidence: Evidence) -> Iterator[Finding]:
    """Recordings in which there is next to nothing to hear."""
    found = [name for name, _, values in evidence.pieces if _level_db(values) < QUIET_DB]
    if found:
        yield _of(
            evidence, found, "sound-quiet", "are silent, or 60 dB below full scale",
            "listen to them: a muted microphone teaches silence under every label",
        )  # fmt: skip


def check_overload(evidence: Evidence) -> Iterator[Finding]:
    """Recordings that reach full scale and stay there for several samples."""
    found = [name for name, _, values in evidence.pieces if _clipped(values)]
    if found:
        yield _of(
            evidence, found, "sound-clipped", "are clipped at full scale",
            "record at a lower gain: what is cut off sounds like another spectrum",
        )  # fmt: skip


def check_offset(evidence: Evidence) -> Iterator[Finding]:
    """Recordings whose samples do not lie around zero."""
    found = [
        name for name, _, values in evidence.pieces if values.size and abs(values.mean()) > _OFFSET
    ]
    if found:
        yield Finding(
            "sound-offset",
            "warning",
            f"{len(found)} recordings lie beside zero by 2 % of full scale and more, as {found[0]}",
            "an input without a capacitor does that; spectra here leave it out, levels do not",
        )


def check_group_levels(evidence: Evidence) -> Iterator[Finding]:
    """Groups that are much louder than others."""
    of: dict[str, list[float]] = {}
    for _, group, values in evidence.pieces:
        level = _level_db(values)
        if group and level > QUIET_DB:
            of.setdefault(group, []).append(level)
    medians = {group: float(np.median(levels)) for group, levels in of.items()}
    if len(medians) < 2:
        return
    loud, soft = max(medians, key=lambda g: medians[g]), min(medians, key=lambda g: medians[g])
    if medians[loud] - medians[soft] > APART_DB:
        yield Finding(
            "level-differs",
            "warning",
            f"{loud} is {medians[loud] - medians[soft]:.0f} dB louder than {soft}",
            "one gain for all, or a backbone that does not hear the level",
        )


def check_alike(evidence: Evidence) -> Iterator[Finding]:
    """Recordings that sound the same though their samples differ; also between data and test."""
    ours = _prints(evidence.pieces, evidence.dataset.rate_hz)
    pairs = alike(ours)
    pieces = evidence.pieces
    across = [(a, b) for a, b in pairs if pieces[a][1] != pieces[b][1]]
    if pairs:
        one, other = (across or pairs)[0]
        between = "of different groups " if across else ""
        yield Finding(
            "sound-alike",
            "trouble" if across else "warning",
            f"{len(across or pairs)} pairs of recordings {between}sound the same: "
            f"{pieces[one][0]} and {pieces[other][0]}",
            "keep one of each, or give copies one group: what is on both sides makes scores too "
            "good",
        )
    if evidence.test_dataset is None:
        return
    theirs = _prints(evidence.test_pieces, evidence.test_dataset.rate_hz)
    both = alike(ours, theirs)
    if both:
        one, other = both[0]
        n_test = len({pair[1] for pair in both})
        yield Finding(
            "train-test-repeated",
            "trouble",
            f"{n_test} of {len(theirs)} test recordings sound as one of training: "
            f"{evidence.test_pieces[other][0]} and {pieces[one][0]}",
            "remove them from one side",
        )


def alike(ours: Array, theirs: Array | None = None) -> list[tuple[int, int]]:
    """Pairs of fingerprints (n, dim) that are of one sound: within `ours`, or with `theirs`."""
    within = theirs is None
    theirs = ours if theirs is None else theirs
    found: list[tuple[int, int]] = []
    if not len(ours) or not len(theirs):
        return found
    for start in range(0, len(ours), _AT_ONCE):
        near = ours[start : start + _AT_ONCE] @ theirs.T > _ALIKE
        for one, other in np.argwhere(near):
            if not within or one + start < other:
                found.append((int(one) + start, int(other)))
        if len(found) > 100_000:  # enough is known
            break
    return found


def _prints(pieces: list[Piece], rate_hz: float) -> Array:
    prints = [fingerprint(values[0], rate_hz or 1.0) for _, _, values in pieces]
    return np.array(prints, np.float32).reshape(len(pieces), _BANDS * _FRAMES)


def _level_db(values: Array) -> float:
    """Of full scale, the mean power where it is loudest: a pause in a clip counts for nothing."""
    if not values.size:
        return -np.inf
    power = np.square(values, dtype=np.float64).mean(axis=0)
    loud = np.sort(power)[-max(1, len(power) // 4) :].mean()
    return float(10 * np.log10(max(loud, 1e-20)))


def _clipped(values: Array) -> bool:
    if values.shape[1] < _HELD:
        return False
    full = np.abs(values).max(axis=0) >= _FULL
    held = np.convolve(full, np.ones(_HELD), "valid") >= _HELD
    return bool(held.sum() > max(2, values.shape[1] // 5000))


def _of(evidence: Evidence, found: list[str], code: str, what: str, remedy: str) -> Finding:
    share = len(found) / max(1, len(evidence.pieces))
    severity = "trouble" if share > FEW else "warning"
    return Finding(code, severity, f"{len(found)} recordings {what}, as {found[0]}", remedy)


CHECKS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    check_quiet,
    check_overload,
    check_offset,
    check_group_levels,
    check_alike,
)
