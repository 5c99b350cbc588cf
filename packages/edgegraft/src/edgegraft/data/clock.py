"""Timestamps: ISO 8601 or numbers since 1970 or since a start, told apart and checked for range."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edgegraft.data.table import is_text, mask, numbers
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Array

FACTORS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
EARLIEST_S, LATEST_S = 631_152_000, 4_102_444_800  # 1990 and 2100: what a sensor's clock may say
_ISO = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?)?\s?(Z|z|UTC|[+-]\d\d(:?\d\d)?)?$"
_ZONED = r"(Z|z|UTC|:\d\d(:\d\d([.,]\d+)?)?\s?[+-]\d\d(:?\d\d)?)$"
_SLASHED = r"^\d{1,2}[/.]\d{1,2}[/.]\d{2,4}"
_SUFFIXES = {
    "s": ("s", "sec", "secs", "second", "seconds"),
    "ms": ("ms", "msec", "millis", "millisecond", "milliseconds"),
    "us": ("us", "usec", "micros", "microsecond", "microseconds"),
    "ns": ("ns", "nsec", "nanos", "nanosecond", "nanoseconds"),
}
_FEW = 0.1  # up to this share of odd timestamps is set aside; more refuses the column


@dataclass(frozen=True)
class Clock:
    """Timestamps of a table.

    Attributes:
        ns: int64 (n_rows,), nanoseconds since 1970, or since a start; 0 where `faults` says why.
        faults: bool (n_rows,) by code.
        since_1970: whether `ns` counts from 1970.
        unit: "iso" or the unit that the numbers were in.
        wraps: how often a counter ran over and was continued.
    """

    ns: Array
    faults: Mapping[str, Array]
    since_1970: bool
    unit: str
    wraps: int = 0

    @property
    def good(self) -> Array:
        """Bool (n_rows,): rows whose time is known."""
        bad = np.zeros(len(self.ns), dtype=bool)
        for rows in self.faults.values():
            bad |= rows
        return ~bad


def read_clock(
    column: Any,
    name: str = "time",
    *,
    unit: str | None = None,
    form: str | None = None,
    zone: str | None = None,
    rate_hz: float | None = None,
) -> Clock:
    """Timestamps from a column.

    Args:
        column: text, numbers or timestamps.
        name: head of the column; an ending like ``_ms`` names the unit.
        unit, form, zone: what the user says of unit, format (strptime) and time zone.
        rate_hz: the rate, if known; decides the unit of numbers that count from a start.

    Errors: `DataError` "time-unit-mixed", "time-unit-unknown", "time-zone-mixed", "date-ambiguous",
    "time-unreadable", "clock-change", "time-missing". Up to a tenth of odd rows is set aside
    under the same codes, "time-1970", "time-range" or "value-missing".

    >>> clock = read_clock(pa.chunked_array([["1700000000000", "1700000000020"]]))
    >>> clock.unit, clock.since_1970, int(clock.ns[1] - clock.ns[0])
    ('ms', True, 20000000)
    """
    if pa.types.is_timestamp(column.type):
        return _from_stamps(column, zone)
    if form is not None and is_text(column):
        return _from_form(column, form, zone)
    if is_text(column):
        first = numbers(column.slice(0, 1000))
        if first.share - _share(first.faults.get("value-missing")) < 0.5:
            return _from_text(column, zone)
    return _from_numbers(column, name, unit, rate_hz)


def _from_numbers(column: Any, name: str, unit: str | None, rate_hz: float | None) -> Clock:
    found = numbers(column)
    faults = dict(found.faults)
    if "cell-text" in faults:
        faults["time-unreadable"] = faults.pop("cell-text")
    for code in ("value-infinite", "integer-large"):
        if code in faults:
            faults["time-range"] = faults.get("time-range", False) | faults.pop(code)
    values = found.values
    good = np.isfinite(values)
    if not good.any():
        raise DataError.of(
            "time-missing", f"column {name!r}", "it holds no time at all", "time=..."
        )
    said = unit or _unit_of_name(name)
    by_unit = {
        key: good & (values >= EARLIEST_S * 1e9 / factor) & (values <= LATEST_S * 1e9 / factor)
        for key, factor in FACTORS.items()
    }
    if said is not None:
        by_unit = {said: by_unit[said]}
    best = max(by_unit, key=lambda key: int(by_unit[key].sum()))
    if by_unit[best].sum() >= 0.5 * good.sum():
        rest = good & ~by_unit[best]
        other = np.logical_or.reduce(
            [rows for key, rows in by_unit.items() if key != best] or [rest & False]
        )
        faults = _set_aside(faults, "time-unit-mixed", rest & other, name)
        low = rest & ~other & (values < EARLIEST_S * 1e9 / FACTORS[best])
        faults = _set_aside(
            faults, "time-1970", low & (np.abs(values) * FACTORS[best] < 2e17), name, 0.5
        )
        faults = _set_aside(
            faults, "time-range", rest & ~other & ~faults.get("time-1970", low & False), name
        )
        return Clock(_scaled(column, values, best, faults), _any(faults), True, best)
    values, wraps = _unwrapped(values, good)
    unit = said or _unit_of_steps(values[good], name, rate_hz)
    far = good & (np.abs(values) * FACTORS[unit] > EARLIEST_S * 1e9)
    faults = _set_aside(faults, "time-range", far, name)
    return Clock(_scaled(None, values, unit, faults), _any(faults), False, unit, wraps)


def _scaled(column: Any, values: Array, unit: str, faults: Mapping[str, Array]) -> Array:
    """Nanoseconds; whole numbers are scaled as such, since floats lose digits since 1970."""
    bad = np.logical_or.reduce([*faults.values(), ~np.isfinite(values)])
    factor = FACTORS[unit]
    if column is not None and not bad.all():
        try:
            whole = np.asarray(
                pc.fill_null(pc.cast(column, pa.int64()), 0).to_numpy(), dtype=np.int64
            )
            return np.where(bad, 0, np.where(bad, 0, whole) * factor)
        except pa.ArrowInvalid:
            pass
    safe = np.where(bad, 0.0, values)
    seconds = np.floor(safe)
    return np.asarray(
        seconds.astype(np.int64) * factor + np.round((safe - seconds) * factor).astype(np.int64)
    )


def _unit_of_name(name: str) -> str | None:
    last = re.split(r"[^a-z]+", re.sub(r"[)\]\s]+$", "", name.strip().lower()))[-1]
    if last == name.strip().lower() and len(last) <= 2:
        return None  # a column called "s" is no unit
    for unit, endings in _SUFFIXES.items():
        if last in endings:
            return unit
    return None


def _unit_of_steps(values: Array, name: str, rate_hz: float | None) -> str:
    """The unit of numbers that count from a start."""
    step = float(np.median(np.abs(np.diff(values)))) if len(values) > 1 else 0.0
    if rate_hz and step > 0:
        off = {unit: abs(np.log(step * rate_hz * factor / 1e9)) for unit, factor in FACTORS.items()}
        best = min(off, key=lambda unit: off[unit])
        if off[best] < np.log(1.5):
            return best
    if not (values == np.round(values)).all():
        return "s"
    if name.strip().lower() == "timestamp":
        return "ms"  # as Edge Impulse writes its tables
    raise DataError.of(
        "time-unit-unknown",
        f"column {name!r} counts from {values[0]:g} in steps of {step:g}",
        "these may be seconds, milliseconds or mere numbers",
        f"rename it {name}_ms (or _s, _us), or pass time_unit='ms' or rate_hz",
    )


def _unwrapped(values: Array, good: Array) -> tuple[Array, int]:
    """A counter of 16, 24 or 32 bits that ran over goes on counting."""
    place = np.flatnonzero(good)
    steps = np.diff(values[place])
    for bits in (16, 24, 32):
        size = 2.0**bits
        drops = (steps < -0.9 * size) & (values[place][:-1] > 0.9 * size)
        if drops.any() and values[place].max() < size and (steps[~drops] > -0.5 * size).all():
            values = values.copy()
            values[place[1:]] += np.cumsum(drops) * size
            return values, int(drops.sum())
    return values, 0


def _from_text(column: Any, zone: str | None) -> Clock:
    for kind in (pa.timestamp("ns"), pa.timestamp("ns", "UTC")):
        try:
            return _from_stamps(pc.cast(column, kind), zone)
        except pa.ArrowInvalid:
            continue
    cells = pc.utf8_trim_whitespace(column)
    missing = mask(pc.equal(cells, ""))
    iso = mask(pc.match_substring_regex(cells, _ISO)) & ~missing
    if iso.sum() < 0.5 * (~missing).sum():
        _refuse_dates(cells, missing)
    zoned = mask(pc.match_substring_regex(cells, _ZONED)) & iso
    faults = {"value-missing": missing, "time-unreadable": ~iso & ~missing}
    minority = zoned if zoned.sum() < 0.5 * iso.sum() else iso & ~zoned
    faults = _set_aside(faults, "time-zone-mixed", minority, "time")
    keep = iso & ~minority
    has_zone = bool((zoned & keep).any())
    ns, broken, far = _each(cells, keep, has_zone)
    faults["time-unreadable"] = faults["time-unreadable"] | broken
    faults["time-range"] = far
    _set_aside({}, "time-unreadable", faults["time-unreadable"], "time", 0.5)
    if not has_zone:
        ns, faults = _local(ns, faults, zone)
    return _in_range(ns, faults)


def _each(cells: Any, keep: Array, has_zone: bool) -> tuple[Array, Array, Array]:
    """Nanoseconds, which cells could not be read (30th of February) and which are too far off."""
    ns = np.zeros(len(keep), dtype=np.int64)
    broken, far = np.zeros(len(keep), dtype=bool), np.zeros(len(keep), dtype=bool)
    kind = pa.timestamp("ns", "UTC") if has_zone else pa.timestamp("ns")
    text = pc.replace_substring(cells, ",", ".")
    text = pc.replace_substring_regex(text, r"\s?(z|UTC)$", "Z")
    text = pc.replace_substring_regex(text, r"\s([+-]\d\d)", r"\1")
    for start in range(0, len(keep), 4096):
        part = np.flatnonzero(keep[start : start + 4096]) + start
        if not len(part):
            continue
        chosen = text.take(pa.array(part))
        try:
            ns[part] = np.asarray(pc.cast(pc.cast(chosen, kind), pa.int64()).to_numpy())
            continue
        except pa.ArrowInvalid:
            pass
        for place, cell in zip(part, chosen.to_pylist(), strict=True):
            try:
                ns[place] = pc.cast(pc.cast(pa.scalar(cell), kind), pa.int64()).as_py()
            except pa.ArrowInvalid:
                far[place] = _beyond_ns(cell, kind.tz)
                broken[place] = not far[place]
    return ns, broken, far


def _beyond_ns(cell: str, zone: str | None) -> bool:
    """Whether a cell is a time, only not between 1677 and 2262, where nanoseconds end."""
    try:
        pc.cast(pa.scalar(cell[:19] + ("Z" if zone else "")), pa.timestamp("s", zone))
    except pa.ArrowInvalid:
        return False
    return True


def _refuse_dates(cells: Any, missing: Array) -> None:
    slashed = mask(pc.match_substring_regex(cells, _SLASHED))
    example = next((cell for cell in cells.to_pylist() if cell), "")[:40]
    if slashed.sum() >= 0.5 * max(1, (~missing).sum()):
        raise DataError.of(
            "date-ambiguous",
            f"times like {example!r}",
            "day and month cannot be told apart",
            "write 2024-12-31T23:59:59, or pass time_format='%d/%m/%Y %H:%M:%S'",
        )
    raise DataError.of(
        "time-unreadable",
        f"times like {example!r}",
        "they are neither ISO 8601 nor numbers",
        "write 2024-12-31T23:59:59.250Z, or pass time_format or another time column",
    )


def _from_stamps(column: Any, zone: str | None) -> Clock:
    missing = mask(pc.is_null(column))
    kind = column.type
    faults = {"value-missing": missing} if missing.any() else {}
    try:
        column = pc.cast(column, pa.timestamp("ns", kind.tz))
        ns = np.asarray(pc.fill_null(pc.cast(column, pa.int64()), 0).to_numpy(), dtype=np.int64)
    except pa.ArrowInvalid:  # beyond what nanoseconds reach
        us = pc.cast(pc.cast(column, pa.timestamp("us", kind.tz), safe=False), pa.int64())
        values = np.asarray(pc.fill_null(us, 0).to_numpy(), dtype=np.int64)
        far = np.abs(values) > LATEST_S * 10**6
        ns = np.where(far, 0, values) * 1000
        faults = _set_aside(faults, "time-range", far & ~missing, "time")
    if kind.tz is None:
        ns, faults = _local(ns, faults, zone)
    return _in_range(ns, faults)


def _from_form(column: Any, form: str, zone: str | None) -> Clock:
    """Timestamps in a format that the user names."""
    cells = pc.utf8_trim_whitespace(column)
    unique = pc.unique(cells).to_pylist()
    known: dict[str | None, int | None] = {None: None, "": None}
    aware = "%z" in form
    for cell in unique:
        if cell:
            try:
                stamp = datetime.strptime(cell, form)
            except ValueError:
                known[cell] = None
                continue
            past = stamp - datetime(1970, 1, 1, tzinfo=stamp.tzinfo)
            offset = stamp.utcoffset()
            seconds = past.days * 86400 + past.seconds - (offset.total_seconds() if offset else 0)
            known[cell] = int(seconds) * 10**9 + past.microseconds * 1000
    found = [known[cell] for cell in cells.to_pylist()]
    missing = mask(pc.equal(cells, ""))
    broken = np.array([value is None for value in found]) & ~missing
    faults = _set_aside(
        {"value-missing": missing}, "time-unreadable", broken, f"format {form}", 0.5
    )
    ns = np.array([value or 0 for value in found], dtype=np.int64)
    if not aware:
        ns, faults = _local(ns, faults, zone)
    return _in_range(ns, faults)


def _local(
    ns: Array, faults: Mapping[str, Array], zone: str | None
) -> tuple[Array, dict[str, Array]]:
    """Times without a zone: UTC, unless a zone is named; a repeated hour is not guessed."""
    faults = dict(faults)
    bad = np.logical_or.reduce([*faults.values(), np.zeros(len(ns), dtype=bool)])
    good = np.flatnonzero(~bad)
    if zone is None:
        _refuse_clock_change(ns[good])
        return ns, faults
    local = pa.array(ns, pa.timestamp("ns"))
    try:
        early, late = (
            np.asarray(
                pc.cast(
                    pc.assume_timezone(local, zone, ambiguous=side, nonexistent=side), pa.int64()
                ).to_numpy()
            )
            for side in ("earliest", "latest")
        )
    except pa.ArrowInvalid as error:
        raise DataError.of(
            "time-zone-unknown",
            f"timezone {zone!r}: {str(error)[:80]}",
            "no zone has that name",
            "a name like Europe/Vienna",
        ) from None
    differ = early != late
    # Both readings of an hour left out are the same instant but one tick; of a repeated one, 1 h.
    missing_hour = differ & (np.abs(late - early) < 10**9) & ~bad
    faults = _set_aside(faults, "time-nonexistent", missing_hour, f"zone {zone}", 0.5)
    twice = differ & ~missing_hour
    back = np.zeros(len(ns), dtype=bool)
    back[good[1:]] = (np.diff(ns[good]) < 0) & twice[good[1:]]
    day = np.cumsum(np.concatenate([[False], twice[1:] & ~twice[:-1]]))
    second = np.zeros(len(ns), dtype=bool)
    for number in np.unique(day[back]):  # within one repeated hour, after the clock went back
        here = twice & (day == number)
        second |= here & (np.arange(len(ns)) >= np.flatnonzero(back & (day == number))[0])
    return np.where(second, late, early), faults


def _refuse_clock_change(ns: Array) -> None:
    steps = np.diff(ns)
    if not len(steps) or not (steps < 0).any():
        return
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    hour = np.abs(steps + 3600e9 - usual) <= max(2 * usual, 2e9)
    if 0 < hour.sum() <= 3 and (steps < 0).sum() <= 10 and usual < 600e9:
        when = np.datetime64(int(ns[int(np.argmax(hour))]), "ns")
        raise DataError.of(
            "clock-change",
            f"the time goes back one hour after {str(when)[:19]}",
            "as local time does when summer ends: rows of both hours would be mixed",
            "pass timezone='Europe/Vienna' (or yours), or timezone='UTC' if it is no local time",
        )


def _in_range(ns: Array, faults: Mapping[str, Array]) -> Clock:
    faults = dict(faults)
    bad = np.logical_or.reduce([*faults.values(), np.zeros(len(ns), dtype=bool)])
    if bad.all():
        raise DataError.of("time-missing", "the time column", "it holds no usable time", "time=...")
    early = ~bad & (ns < EARLIEST_S * 10**9)
    unset = early & (np.abs(ns) < 2 * 10**17)  # a clock that was never set counts from 1970 or so
    faults = _set_aside(faults, "time-1970", unset, "time", 0.5)
    late = ~bad & (ns > LATEST_S * 10**9)
    faults = _set_aside(faults, "time-range", (early & ~unset) | late, "time", 0.5)
    return Clock(np.where(bad, 0, ns), _any(faults), True, "iso")


def _set_aside(
    faults: Mapping[str, Array], code: str, rows: Array, name: str, at_most: float = _FEW
) -> dict[str, Array]:
    """The faults with some more rows; refuses the column if they are too many to be accidents."""
    if len(rows) and rows.mean() > at_most:
        found = f"{int(rows.sum())} of {len(rows)} times in {name!r}"
        why, remedy = _REASONS[code]
        raise DataError.of(code, found, why, remedy)
    if not rows.any():
        return dict(faults)
    return {**faults, code: faults.get(code, np.zeros(len(rows), dtype=bool)) | rows}


_REASONS = {
    "time-unit-mixed": (
        "seconds, milliseconds or microseconds since 1970 stand in one column",
        "write one unit, or divide the file where the unit changes",
    ),
    "time-1970": ("the clock was not set", "set the clock before recording, or pass rate_hz"),
    "time-range": ("they lie outside 1990 to 2100", "check the unit, or pass time_unit='ms'"),
    "time-zone-mixed": (
        "some have a time zone and others have none",
        "write them all with a zone, e.g. a Z at the end",
    ),
    "time-unreadable": (
        "they cannot be read as a time",
        "write 2024-12-31T23:59:59.250Z, or pass time_format",
    ),
    "time-nonexistent": (
        "the clock skips that hour when summer begins",
        "check the time zone, or record in UTC",
    ),
}


def _any(faults: Mapping[str, Array]) -> dict[str, Array]:
    return {code: rows for code, rows in faults.items() if np.any(rows)}


def _share(rows: Array | None) -> float:
    return 0.0 if rows is None or not len(rows) else float(rows.mean())
