"""Rates, gaps, and even grids: from rows with times to evenly sampled recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from edgegraft.data.source import DataOptions
from edgegraft.data.track import Notes, Track
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Array, LabelSpan, Recording

GAP = 1.75  # periods: one lost sample is a gap
RATE_TOLERANCE = 0.02
UNEVEN = 0.25  # periods off an even grid from which rows are interpolated


def find_rate(track: Track, notes: Notes) -> float | None:
    """Samples a second between gaps; None for a single row. Jitter and drift are noted."""
    steps = np.diff(track.times)
    steps = steps[steps > 0]
    if not len(steps):
        return track.rate_hz
    usual_step = float(np.median(steps))
    plain = steps[(steps <= GAP * usual_step)]
    rate = track.rate_hz or 1e9 / float(plain.mean())
    half = len(plain) // 2
    drift = abs(float(plain[:half].mean() / plain[half:].mean()) - 1) if half >= 16 else 0.0
    # Even rows have even steps; the 90th centile leaves lone late rows to the gaps.
    jitter = float(np.quantile(np.abs(plain * rate / 1e9 - 1), 0.9))
    notes.did(
        "rate",
        track.name,
        measured_hz=float(f"{1e9 / float(plain.mean()):.6g}"),
        jitter=round(jitter, 4),
        drift=round(drift, 4),
    )
    return rate


def common_rate(
    tracks: Sequence[Track], rates: Sequence[float | None], options: DataOptions
) -> float:
    if options.rate_hz:
        return options.rate_hz
    known = [(rate, len(track)) for rate, track in zip(rates, tracks, strict=True) if rate]
    if not known:
        if not tracks:
            return 1.0
        raise DataError.of(
            "rate-missing",
            f"{tracks[0].name} has a single time",
            "a rate needs two samples",
            "more rows, or pass rate_hz",
        )
    known.sort()
    weight = np.cumsum([count for _, count in known])
    return _rounded(known[int(np.searchsorted(weight, weight[-1] / 2))][0])


def _rounded(rate: float) -> float:
    """A rate as its maker meant it: 49.98 is 50; 0.00333 is once in 300 s."""
    meant = float(round(rate)) if rate >= 1 else 1.0 / max(1, round(1 / rate))
    if abs(rate / meant - 1) <= 0.005:
        return meant
    return float(f"{rate:.3g}") if abs(rate / float(f"{rate:.3g}") - 1) <= 0.002 else rate


def split_at_gaps(track: Track, rate_hz: float, options: DataOptions, notes: Notes) -> list[Track]:
    """Stretches without a gap; short gaps are left to be interpolated, if that is the policy."""
    steps = np.diff(track.times) * (rate_hz / 1e9)
    gaps = steps > GAP
    if options.gap == "interpolate":
        bridged = gaps & (steps <= options.max_gap_s * rate_hz + 1)
        if bridged.any():
            notes.did("gap-interpolate", track.name, gaps=int(bridged.sum()))
        gaps &= ~bridged
    cuts = np.flatnonzero(gaps) + 1
    if not len(cuts):
        return [track]
    longest = float(steps.max()) / rate_hz
    notes.did("gap-split", track.name, gaps=len(cuts), longest_s=round(longest, 6))
    parts = np.split(np.arange(len(track)), cuts)
    return [
        replace(track.take(part), name=f"{track.name}@{number + 1}")
        for number, part in enumerate(parts)
    ]


def even_out(track: Track, rate_hz: float, target_hz: float, notes: Notes) -> Recording:
    """One stretch on an even grid at the common rate, as a recording."""
    time = (track.times - track.times[0]) * (rate_hz / 1e9)  # in periods
    count = round(float(time[-1])) + 1
    values, labels = track.values, track.labels
    grid = np.linspace(0, float(time[-1]), count) if count > 1 else np.zeros(1)
    if count != len(time) or np.abs(time - grid).max(initial=0) > UNEVEN:
        values = np.stack([np.interp(grid, time, channel) for channel in values])
        labels = labels[_closest(time, grid)]
        notes.did("even-grid", track.name, rows=len(time), samples=count)
    if abs(rate_hz / target_hz - 1) > RATE_TOLERANCE and count > 1:
        values, labels = _resampled(values, labels, rate_hz, target_hz, track.name)
        notes.did("resample", track.name, rate_hz=float(f"{rate_hz:.6g}"), to_hz=target_hz)
    return Recording(
        np.ascontiguousarray(values, dtype=np.float32),
        track.channels,
        float(target_hz),
        label_spans(labels, track.classes),
        track.group,
        float(track.times[0] / 1e9) if track.since_1970 else 0.0,
        track.name,
    )


def _closest(time: Array, grid: Array) -> Array:
    right = np.clip(np.searchsorted(time, grid), 1, max(1, len(time) - 1))
    right = np.minimum(right, len(time) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(grid - time[left] <= time[right] - grid, left, right)


def _resampled(
    values: Array, labels: Array, rate_hz: float, target_hz: float, name: str
) -> tuple[Array, Array]:
    """Resampled by a ratio of whole numbers behind an anti-aliasing filter (scipy)."""
    from scipy.signal import resample_poly

    ratio = _ratio(target_hz / rate_hz)
    if ratio > 16 or ratio == 0:
        raise DataError.of(
            "rate-far",
            f"{name} at {rate_hz:g} Hz for a rate of {target_hz:g} Hz",
            "samples more than 16 times denser would be made up",
            f"a rate of at most {16 * rate_hz:g} Hz",
        )
    out = resample_poly(
        values.astype(np.float64), ratio.numerator, ratio.denominator, axis=1, padtype="line"
    )
    place = np.round(np.arange(out.shape[1]) / float(ratio)).astype(np.int64)
    return out, labels[np.minimum(place, len(labels) - 1)]


def _ratio(wanted: float) -> Fraction:
    """A ratio of small whole numbers within a thousandth: small ones make short filters."""
    for largest in (1, 3, 10, 30, 100, 300):
        ratio = Fraction(wanted).limit_denominator(largest)
        if ratio and abs(float(ratio) / wanted - 1) <= 1e-3:
            return ratio
    return Fraction(wanted).limit_denominator(10_000)


def label_spans(labels: Array, classes: Sequence[str]) -> tuple[LabelSpan, ...]:
    """Runs of one label; unlabelled runs are left out.

    >>> label_spans(np.array([0, 0, 1, 1, 1]), ("", "walk"))
    (LabelSpan(start=2, stop=5, label='walk'),)
    """
    if not len(labels):
        return ()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1])
    stops = np.append(starts[1:], len(labels))
    return tuple(
        LabelSpan(int(start), int(stop), classes[labels[start]])
        for start, stop in zip(starts, stops, strict=True)
        if classes[labels[start]]
    )
