"""From uneven rows to unbroken, evenly sampled recordings, by steps that are recorded.

The order is fixed: bind channels by name, convert units, sort, drop duplicates, lay labelled
spans over the rows, find the rate, split at gaps, put on an even grid, resample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from edgegraft.data.account import RowAccount
from edgegraft.data.dataset import Dataset
from edgegraft.data.source import DataOptions
from edgegraft.data.track import Notes, Track, merged
from edgegraft.data.units import convert, convertible, parse_units, usual
from edgegraft_edge.errors import DataError, Problem, nearest
from edgegraft_edge.signal import Array, Channel, LabelSpan, Recording

GAP = 1.75  # periods: one lost sample is a gap
RATE_TOLERANCE = 0.02
UNEVEN = 0.25  # periods off an even grid from which rows are interpolated
_RESET = 16  # rows that must follow a step back before it is taken for a clock set back


def clean(
    tracks: Sequence[Track], rows_in: int, notes: Notes, options: DataOptions, uri: str
) -> Dataset:
    """Recordings from tracks, with the account of all `rows_in` rows.

    Errors: `DataError`: "channel-missing", "unit-mismatch", "rate-missing", "time-coarse",
    "rate-far", "spans-overlap", or the commonest reason for which no row was accepted.
    """
    tracks = convert_units(bind_channels(tracks, options.channels, notes), options.units, notes)
    tracks = [part for track in tracks for part in put_in_order(_timed(track, options), notes)]
    tracks = [drop_duplicates(track, options.rate_hz, notes) for track in tracks]
    tracks = [lay_spans(track, notes) for track in tracks if len(track)]
    rates = [find_rate(track, notes) for track in tracks]
    target = _common_rate(tracks, rates, options)
    recordings, accepted = [], 0
    for track, rate in zip(tracks, rates, strict=True):
        for stretch in split_at_gaps(track, rate or target, options, notes):
            accepted += len(stretch) * stretch.lines
            recordings.append(even_out(stretch, rate or target, target, notes))
    account = RowAccount(rows_in, accepted, merged(notes.quarantined), notes.duplicates)
    if not recordings:
        raise _nothing_left(account, uri)
    return Dataset(tuple(recordings), None, account, tuple(notes.steps), options, uri)


def bind_channels(
    tracks: Sequence[Track], wanted: tuple[str, ...] | None, notes: Notes
) -> list[Track]:
    """All tracks with the same channels in the same order; tracks that lack one are set aside.

    Without `wanted`, the channels are those that most rows have.
    """
    if not tracks:
        return []
    if wanted is None:
        votes: dict[frozenset[str], int] = {}
        for track in tracks:
            held = frozenset(channel.name for channel in track.channels)
            votes[held] = votes.get(held, 0) + len(track)
        most = max(votes, key=lambda held: votes[held])
        order = next(
            track.channels
            for track in tracks
            if {channel.name for channel in track.channels} == most
        )
        wanted = tuple(channel.name for channel in order)
    bound, lacking = [], {}
    for track in tracks:
        names = [channel.name for channel in track.channels]
        missing = [name for name in wanted if name not in names]
        if missing:
            lacking[track.name] = (missing, names)
            notes.set_aside(track, np.ones(len(track), dtype=bool), "channel-missing")
            continue
        if tuple(names) != wanted:
            extra = [name for name in names if name not in wanted]
            notes.did("bind-channels", track.name, left_out=", ".join(extra), reordered=not extra)
        places = [names.index(name) for name in wanted]
        channels = tuple(track.channels[place] for place in places)
        values = track.values if list(names) == list(wanted) else track.values[places]
        bound.append(replace(track, channels=channels, values=values))
    if not bound:
        place, (missing, names) = next(iter(lacking.items()))
        raise DataError(
            Problem(
                "channel-missing",
                f"{place} has no channel {name!r}",
                "channels are bound by name",
                nearest(name, names) if names else "a table with columns of numbers",
            )
            for name in missing[:8]
        )
    return bound


def convert_units(tracks: list[Track], units: str | None, notes: Notes) -> list[Track]:
    """One unit per channel: the one asked for, or else the one that most rows have."""
    asked = parse_units(units)
    if not tracks:
        return tracks
    names = [channel.name for channel in tracks[0].channels]
    unknown = [name for name in asked if name not in names]
    if unknown:
        raise DataError.of(
            "channel-missing",
            f"a unit for {unknown[0]!r}",
            "there is no such channel",
            nearest(unknown[0], names),
        )
    target = []
    for place, name in enumerate(names):
        votes: dict[str, int] = {}
        for track in tracks:
            unit = usual(track.channels[place].unit)
            votes[unit] = votes.get(unit, 0) + len(track) * bool(unit)
        target.append(Channel(name, asked.get(name) or max(votes, key=lambda unit: votes[unit])))
    return [_converted(track, tuple(target), notes) for track in tracks]


def _converted(track: Track, target: tuple[Channel, ...], notes: Notes) -> Track:
    values = track.values
    for place, (have, want) in enumerate(zip(track.channels, target, strict=True)):
        unit = usual(have.unit)
        if unit == want.unit:
            continue
        if not unit:  # nothing is known: taken as it is, and said
            notes.did("unit-assumed", track.name, channel=have.name, unit=want.unit)
            continue
        if not convertible(unit, want.unit):
            raise DataError.of(
                "unit-mismatch",
                f"{track.name}: channel {have.name!r} in {unit!r}",
                f"elsewhere it is in {want.unit!r}, another quantity",
                "rename one of the two channels, or correct its unit",
            )
        values = values.copy() if values is track.values else values
        values[place] = convert(values[place].astype(np.float64), unit, want.unit)
        notes.did("convert", track.name, channel=have.name, unit=unit, to=want.unit)
    return replace(track, values=values, channels=target)


def _timed(track: Track, options: DataOptions) -> Track:
    """The track with times; without timestamps the position in the file and the rate give them."""
    if track.ns is not None:
        return track
    rate = track.rate_hz or options.rate_hz
    if rate is None:
        raise DataError.of(
            "rate-missing",
            f"{track.name} has no time column",
            "windows need a rate",
            "name it with time=..., or pass rate_hz=50",
        )
    ns = np.round(track.rows * (1e9 / rate)).astype(np.int64)
    return replace(track, ns=ns, rate_hz=rate)


def put_in_order(track: Track, notes: Notes) -> list[Track]:
    """Sort by time; where the clock was set back, cut instead, since rows would be mixed."""
    ns = track.times
    backs = np.flatnonzero(np.diff(ns) < 0) + 1
    if not len(backs):
        return [track]
    cuts = [place for place in backs if _is_reset(track, int(place))] if len(backs) <= 100 else []
    parts = np.split(np.arange(len(ns)), cuts)
    if cuts:
        first = int(track.rows[cuts[0]]) + 1
        notes.did("clock-back", track.name, times=len(cuts), row=first)
    ordered = []
    for number, part in enumerate(parts):
        times = ns[part]
        late = int((times < np.maximum.accumulate(times)).sum())
        piece = track.take(part[np.argsort(times, kind="stable")] if late else part)
        if late:
            notes.did("sort", track.name, rows=late)
        name = f"{track.name}~{number + 1}" if cuts else track.name
        ordered.append(replace(piece, name=name))
    return ordered


def _is_reset(track: Track, place: int) -> bool:
    """Whether a step back begins a long stretch beside earlier rows and does not repeat them."""
    before, after = track.times[:place], track.times[place:]
    turn = np.flatnonzero(np.diff(after) < 0)
    after = after[: int(turn[0]) + 1] if len(turn) else after
    earlier = np.flatnonzero(before >= after[0])
    if min(len(earlier), len(after)) < _RESET:
        return False
    earlier = earlier[np.argsort(before[earlier], kind="stable")]
    inside = np.flatnonzero(after <= before[earlier[-1]])
    match = earlier[np.searchsorted(before[earlier], after[inside])]
    same = before[match] == after[inside]
    same &= (track.values[:, match] == track.values[:, inside + place]).all(axis=0)
    return bool(same.mean() < 0.5)


def drop_duplicates(track: Track, rate_hz: float | None, notes: Notes) -> Track:
    """Rows at one time: repeats are dropped, contradictions set aside after the first."""
    ns = track.times
    again = np.concatenate([[False], ns[1:] == ns[:-1]]) if len(ns) else np.zeros(0, dtype=bool)
    if not again.any():
        return track
    first = np.maximum.accumulate(np.where(again, 0, np.arange(len(ns))))
    same = (track.values == track.values[:, first]).all(axis=0)
    same &= track.labels == track.labels[first]
    contrary = again & ~same
    if contrary.mean() > 0.3:
        return _spread(track, rate_hz, notes)
    n_same = int((again & same).sum())
    if n_same:
        notes.duplicates += n_same * track.lines
        notes.did("drop-duplicates", track.name, rows=n_same)
    kept = track.take(~(again & same))
    return notes.set_aside(kept, contrary[~(again & same)], "time-duplicate")


def _spread(track: Track, rate_hz: float | None, notes: Notes) -> Track:
    """Times coarser than the samples: counted on at the rate, anew after each gap."""
    ns = track.times
    steps = np.diff(ns)
    coarse = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    rate = track.rate_hz or rate_hz
    if rate is None:
        raise DataError.of(
            "time-coarse",
            f"{track.name}: several rows share each timestamp (every {coarse / 1e9:g} s)",
            "the time between them is not known",
            "pass rate_hz, or write finer timestamps",
        )
    begins = np.concatenate([[True], steps > 1.5 * coarse + 1e9 / rate]) if coarse else None
    if begins is None:
        begins = np.arange(len(ns)) == 0
    first = np.maximum.accumulate(np.where(begins, np.arange(len(ns)), 0))
    spread = ns[first] + np.round((np.arange(len(ns)) - first) * 1e9 / rate).astype(np.int64)
    order = np.argsort(spread, kind="stable")
    notes.did("spread-times", track.name, rows=len(ns), step_s=coarse / 1e9, rate_hz=rate)
    return replace(track, ns=spread).take(order)


def lay_spans(track: Track, notes: Notes) -> Track:
    """Labels of spans laid over the rows. Errors: `DataError` "spans-overlap", "span-order"."""
    if not track.spans:
        return track
    spans = sorted(track.spans)
    for (start, stop, label), following in zip(spans, [*spans[1:], None], strict=True):
        if stop <= start:
            raise DataError.of(
                "span-order",
                f"{track.name}: a span of {label!r} ends before it starts",
                "a span lasts from start to end",
                "swap start and end",
            )
        if following and following[0] < stop and following[2] != label:
            raise DataError.of(
                "spans-overlap",
                f"{track.name}: spans of {label!r} and {following[2]!r} overlap",
                "a sample has one label",
                "end the first before the second starts",
            )
    classes = list(track.classes)
    labels, ns, outside = track.labels.copy(), track.times, 0
    for start, stop, label in spans:
        if label not in classes:
            classes.append(label)
        first, last = np.searchsorted(ns, [start, stop])
        outside += int(first == last)
        labels[first:last] = classes.index(label)
    notes.did("lay-spans", track.name, spans=len(spans), outside=outside)
    return replace(track, labels=labels, classes=tuple(classes))


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


def _common_rate(
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


def _nothing_left(account: RowAccount, uri: str) -> DataError:
    worst = max(account.quarantined, key=lambda item: item.rows, default=None)
    return DataError.of(
        worst.code if worst else "rows-none",
        f"{uri}: {account}",
        "not one row could be used",
        "look at the first example named",
    )
