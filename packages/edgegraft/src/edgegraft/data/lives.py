"""How long a unit had left, at every sample of its recordings; and labels that are numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgegraft.data.track import origin
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Array, Recording

FAILED = frozenset({"failed", "failure", "end of life", "eol"})
RUNNING = frozenset({"running", "censored", "suspended", "healthy"})


def remaining_life(recordings: Sequence[Recording], unit_s: float | None) -> list[Array]:
    """What remained at every sample of each recording, float64 (n_timepoints,).

    Recordings that gaps made of one are one life. Where no recording carries a label, each life
    ends in failure at its last sample. Else a life's last label says what remained there: a
    number (in the unit), or "failed"; of lives without one, and of those "running", nothing is
    known.

    Args:
        unit_s: seconds of the unit; None counts samples.

    Errors: `DataError` ``target-text`` for labels that say neither.

    >>> from edgegraft_edge.signal import Channel
    >>> one = Recording(np.zeros((1, 4), np.float32), (Channel("x"),), 0.5)
    >>> remaining_life([one], 1.0)[0].tolist(), remaining_life([one], None)[0].tolist()
    ([6.0, 4.0, 2.0, 0.0], [3.0, 2.0, 1.0, 0.0])
    """
    marked = any(recording.labels for recording in recordings)
    lives: dict[str, list[int]] = {}
    for number, recording in enumerate(recordings):
        name = origin(recording.name) or f"#{number}"
        lives.setdefault(name, []).append(number)
    found = [np.full(recording.n_timepoints, np.nan) for recording in recordings]
    for parts in lives.values():
        anchor = _anchor([recordings[part] for part in parts], unit_s) if marked else None
        if marked and anchor is None:
            continue
        times = _times([recordings[part] for part in parts], unit_s)
        end, left = anchor if anchor is not None else (float(times[-1][-1]), 0.0)
        for part, time in zip(parts, times, strict=True):
            rest = end + left - time
            found[part] = np.where(rest >= 0, rest, np.nan)
    return found


def span_values(recording: Recording) -> Array:
    """The labels of a recording as numbers, float64 (n_timepoints,), NaN where there is none.

    Errors: `DataError` ``target-text`` for a label that is no number.
    """
    found = np.full(recording.n_timepoints, np.nan)
    for span in recording.labels:
        if span.label:
            found[span.start : span.stop] = _number(span.label)
    return found


def _times(parts: Sequence[Recording], unit_s: float | None) -> list[Array]:
    """Time of every sample since the life began, in the unit."""
    first = parts[0].start_s
    per_sample = [1 / part.rate_hz / unit_s if unit_s else 1.0 for part in parts]
    scale = 1 / unit_s if unit_s else parts[0].rate_hz
    return [
        (part.start_s - first) * scale + np.arange(part.n_timepoints) * step
        for part, step in zip(parts, per_sample, strict=True)
    ]


def _anchor(parts: Sequence[Recording], unit_s: float | None) -> tuple[float, float] | None:
    """Time of the last label of a life, and what remained then."""
    times = _times(parts, unit_s)
    for part, time in zip(reversed(parts), reversed(times), strict=True):
        for span in sorted(part.labels, key=lambda span: -span.stop):
            text = span.label.strip().lower()
            if not text:
                continue
            if text in RUNNING:
                return None
            left = 0.0 if text in FAILED else _number(span.label)
            return float(time[min(span.stop, len(time)) - 1]), left
    return None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError.of(
            "target-text",
            f"the label {text!r}",
            "a number is to be estimated",
            "name the column of the numbers with label=..., or take task classification",
        ) from None
