"""From uneven rows to unbroken, evenly sampled recordings, by steps that are recorded.

The order is fixed: bind channels by name, convert units, sort, drop duplicates, lay labelled
spans over the rows, find the rate, split at gaps, put on an even grid, resample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgegraft.data.account import RowAccount
from edgegraft.data.dataset import Dataset
from edgegraft.data.grid import common_rate, even_out, find_rate, split_at_gaps
from edgegraft.data.source import DataOptions
from edgegraft.data.track import Notes, Track, merged
from edgegraft.data.units import convert, convertible, parse_units, usual
from edgegraft_edge.errors import DataError, Problem, nearest
from edgegraft_edge.signal import Channel

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
    target = common_rate(tracks, rates, options)
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


def _nothing_left(account: RowAccount, uri: str) -> DataError:
    worst = max(account.quarantined, key=lambda item: item.rows, default=None)
    return DataError.of(
        worst.code if worst else "rows-none",
        f"{uri}: {account}",
        "not one row could be used",
        "look at the first example named",
    )
