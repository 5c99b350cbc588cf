"""Derived channels: computed from what is measured, in training and on the device alike.

A :class:`~edgegraft_edge.signal.Channel` with a text in `derive` is not asked of the source. The
kinds, one channel each:

===================  ============================================================================
``start:NAME:N``     mean of the first N samples of NAME; of those so far while there are fewer
``startstd:NAME:N``  their standard deviation
``mean:NAME:N``      mean of the last N samples, of those so far while there are fewer
``age``              seconds of signal since the beginning
``hour.sin``         sine of the time of day (``hour.cos``: cosine), of the week from Monday on
                     (``weekday``), of the year (``yearday``); in UTC, ``hour.sin:2`` two hours
                     ahead of it
``heating:NAME:B``   how far NAME is below B, else 0 (degrees; their mean over a day: degree days)
``cooling:NAME:B``   how far NAME is above B, else 0
===================  ============================================================================

The beginning is that of the machine as far as it was heard: a gap, or a clock set back, ends a
recording but begins no new life, so `start`, `startstd` and `age` go on behind it, `age` without
what was lost. `mean` starts anew behind a gap, as windows do. Samples that are not finite are left
out of means. All sums run in the order of the samples in float64, so pieces of any size give the
same float32 numbers as the whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgegraft_edge.errors import DataError, Problem, nearest
from edgegraft_edge.signal import Array, Channel

EVERY = "*"
COUNTED = ("start", "startstd", "mean")
DEGREES = ("heating", "cooling")
CALENDAR = {"hour": 86400.0, "weekday": 604800.0, "yearday": 31556952.0}
"""Seconds of each period; the year is the mean Gregorian one, right to a day."""
KINDS = (*COUNTED, *DEGREES, "age", *CALENDAR)
MAX_SAMPLES = 1 << 20
FIRST_DATE_S = 1e8  # March 1973; a smaller time is a clock that was never set
_MONDAY = {"weekday": 3 * 86400.0}  # 1970 began on a Thursday
_CALENDAR = re.compile(r"(hour|weekday|yearday)\.(sin|cos)(?::([+-]?\d+(?:\.\d+)?))?")


@dataclass(frozen=True)
class Derived:
    """What one derived channel is.

    Attributes:
        kind: one of `KINDS`.
        source: name of the channel it is computed from, "" for time alone.
        number: samples, base in the unit of the source, or hours ahead of UTC.
        wave: ``sin`` or ``cos`` of the calendar, else "".
    """

    kind: str
    source: str = ""
    number: float = 0.0
    wave: str = ""


def parse(text: str) -> Derived:
    """What a text in `Channel.derive` says.

    Errors: `DataError` ``derive-unknown`` for another kind, ``derive-form``.

    >>> parse("start:temp:20"), parse("hour.sin:+2").number
    (Derived(kind='start', source='temp', number=20.0, wave=''), 2.0)
    """
    kind, _, rest = text.partition(":")
    known = kind.partition(".")[0] if kind.partition(".")[0] in CALENDAR else kind
    if known not in KINDS:
        raise DataError.of(
            "derive-unknown",
            f"a channel derived by {kind!r}",
            "there is no such kind",
            nearest(kind, KINDS),
        )
    if text == "age":
        return Derived("age")
    found = _CALENDAR.fullmatch(text)
    if found:
        hours = float(found[3] or 0)
        if abs(hours) <= 14:
            return Derived(found[1], "", hours, found[2])
    source, _, digits = rest.rpartition(":")
    number = _number(digits)
    if kind in DEGREES and source and number is not None:
        return Derived(kind, source, number)
    whole = number is not None and number == int(number) and 1 <= number <= MAX_SAMPLES
    if kind in COUNTED and source and whole and number is not None:
        return Derived(kind, source, number)
    form = {
        "age": "age",
        **dict.fromkeys(COUNTED, f"{kind}:CHANNEL:SAMPLES, samples 1 to {MAX_SAMPLES}"),
        **dict.fromkeys(DEGREES, f"{kind}:CHANNEL:BASE"),
        **dict.fromkeys(CALENDAR, f"{known}.sin or {known}.cos, with :HOURS ahead of UTC"),
    }[known]
    raise DataError.of("derive-form", f"a channel derived by {text!r}", "its form is another", form)


def asked(texts: Iterable[str], channels: Sequence[Channel]) -> tuple[Channel, ...]:
    """The derived channels that a user asks for, each named as its text.

    ``*`` in place of a channel stands for every measured one; ``hour`` (or ``hour:2``) stands for
    ``hour.sin`` and ``hour.cos``, and so do ``weekday`` and ``yearday``.

    Errors: `DataError` with all that is wrong: as of `parse`, ``channel-missing``,
    ``derive-nested``.

    >>> [c.name for c in asked(["start:*:20", "hour"], [Channel("a"), Channel("b")])]
    ['start:a:20', 'start:b:20', 'hour.sin', 'hour.cos']
    """
    measured = [channel for channel in channels if not channel.derive]
    found: dict[str, None] = {}
    for text in texts:
        kind, colon, rest = text.strip().partition(":")
        if kind in CALENDAR:
            found |= {f"{kind}.{wave}{colon}{rest}": None for wave in ("sin", "cos")}
        elif rest.startswith(f"{EVERY}:"):
            found |= {f"{kind}:{channel.name}{rest[1:]}": None for channel in measured}
        else:
            found[text.strip()] = None
    units = {channel.name: channel.unit for channel in measured}
    made = [Channel(text, derive=text) for text in found if text not in {c.name for c in channels}]
    problems = faults((*channels, *made))
    if problems:
        raise DataError(problems)
    return tuple(
        Channel(channel.name, _unit(parse(channel.derive), units), channel.derive)
        for channel in made
    )


def faults(channels: Sequence[Channel]) -> list[Problem]:
    """Every problem of the derived ones among some channels."""
    measured = [channel.name for channel in channels if not channel.derive]
    derived = {channel.name for channel in channels if channel.derive}
    problems: list[Problem] = []
    for channel in channels:
        if not channel.derive:
            continue
        try:
            source = parse(channel.derive).source
        except DataError as error:
            problems += error.problems
            continue
        found = f"a channel derived by {channel.derive!r}"
        if source in derived:
            why, remedy = f"{source!r} is derived itself", "derive it from a measured channel"
            problems.append(Problem("derive-nested", found, why, remedy))
        elif source and source not in measured:
            why = f"there is no channel {source!r}"
            remedy = nearest(source, measured) if measured else "a measured channel"
            problems.append(Problem("channel-missing", found, why, remedy))
    return problems


def derive(
    values: Array, channels: Sequence[Channel], rate_hz: float, start_s: float = 0.0
) -> Array:
    """A whole recording with its derived rows.

    Args:
        values: (n_measured, n_timepoints), the measured channels in their order.
        channels: all of them, measured and derived, in the order that is wanted.
        start_s: time of the first sample in seconds since 1970; 0 if unknown.

    Returns: float32 (n_channels, n_timepoints).

    Errors: as of `Derivation`.

    >>> channels = (Channel("x"), Channel("mean:x:2", derive="mean:x:2"))
    >>> derive(np.array([[1.0, 3.0, 5.0]]), channels, 1.0).tolist()
    [[1.0, 3.0, 5.0], [1.0, 2.0, 4.0]]
    """
    return Derivation(channels, rate_hz).push(values, at_s=start_s)


class Derivation:
    """Derived channels of a live stream, in bounded memory.

    Args:
        channels: measured and derived ones, in the order that is wanted.

    Errors: `DataError` as of `faults`.

    >>> live = Derivation((Channel("x"), Channel("age", derive="age")), rate_hz=2.0)
    >>> live.push(np.array([[5.0]])).tolist(), live.push(np.array([[6.0, 7.0]])).tolist()
    ([[5.0], [0.0]], [[6.0, 7.0], [0.5, 1.0]])
    """

    def __init__(self, channels: Sequence[Channel], rate_hz: float):
        problems = faults(channels)
        if problems:
            raise DataError(problems)
        self._rate_hz = rate_hz
        self._texts = [channel.derive for channel in channels]
        self._derived = [parse(text) if text else None for text in self._texts]
        self._places = [place for place, of in enumerate(self._derived) if of is None]
        row = {channels[place].name: row for row, place in enumerate(self._places)}
        self._rows = [row.get(of.source, 0) if of else 0 for of in self._derived]
        self._dated = any(of is not None and of.kind in CALENDAR for of in self._derived)
        self.restart()

    def restart(self) -> None:
        """Forget everything: another machine, or the same after a repair."""
        self._count = 0
        self._zero, self._zero_s = 0, 0.0  # a sample, and its time
        self._starts = {
            text: _Start(int(of.number))
            for text, of in zip(self._texts, self._derived, strict=True)
            if of is not None and of.kind in ("start", "startstd")
        }
        self.gap()

    def gap(self) -> None:
        """What follows is not next to what was before: running means start anew."""
        self._means = {
            text: _Mean(int(of.number))
            for text, of in zip(self._texts, self._derived, strict=True)
            if of is not None and of.kind == "mean"
        }

    def push(self, samples: Array, at_s: float | None = None) -> Array:
        """Take (n_measured, any count) samples and give float32 (n_channels, count).

        `at_s` is the time of the first of them; where it is less than half a sample off, or None,
        time goes on at the rate.

        Errors: `DataError` ``channel-count``; ``clock-unknown`` where a calendar is asked of a
        time before 1973.
        """
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity
            samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 2 or len(samples) != len(self._places):
            raise DataError.of(
                "channel-count",
                f"samples of shape {samples.shape}",
                f"{len(self._places)} channels are measured",
                "give (n_channels, n_timepoints) without the derived ones",
            )
        count = samples.shape[1]
        self._set_clock(at_s)
        number = np.arange(self._count, self._count + count)
        time = self._zero_s + (number - self._zero) / self._rate_hz
        out = np.empty((len(self._derived), count), dtype=np.float32)
        out[self._places] = samples
        for place, of in enumerate(self._derived):
            if of is not None:
                row = samples[self._rows[place]].astype(np.float64)
                with np.errstate(over="ignore"):
                    out[place] = self._row(self._texts[place], of, row, number, time)
        self._count += count
        return out

    def memory(self) -> dict[str, Any]:
        """What a device must keep over a restart of its own: plain numbers, for `recall`."""
        return {"count": self._count, "starts": {t: s.state for t, s in self._starts.items()}}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Go on from a `memory` of the same channels, as after a gap."""
        self._zero += int(memory["count"]) - self._count
        self._count = int(memory["count"])
        for text, state in memory["starts"].items():
            if text in self._starts:
                self._starts[text].state = tuple(state)
        self.gap()

    def _row(self, text: str, of: Derived, row: Array, number: Array, time: Array) -> Array:
        if of.kind in ("start", "startstd"):
            mean, deviation = self._starts[text].push(row)
            return mean if of.kind == "start" else deviation
        if of.kind == "mean":
            return self._means[text].push(row)
        if of.kind == "age":
            age: Array = number / self._rate_hz
            return age
        if of.kind in DEGREES:
            below = of.number - row if of.kind == "heating" else row - of.number
            return np.maximum(below, 0.0)
        period = CALENDAR[of.kind]
        phase = (time + _MONDAY.get(of.kind, 0.0) + 3600.0 * of.number) % period / period
        wave: Array = (np.sin if of.wave == "sin" else np.cos)(2.0 * np.pi * phase)
        return wave

    def _set_clock(self, at_s: float | None) -> None:
        expected = self._zero_s + (self._count - self._zero) / self._rate_hz
        if at_s is not None and abs(at_s - expected) > 0.5 / self._rate_hz:
            self._zero, self._zero_s = self._count, float(at_s)
            expected = self._zero_s
        if self._dated and expected < FIRST_DATE_S:
            raise DataError.of(
                "clock-unknown",
                f"a sample at {expected:g} s",
                "hour, weekday and yearday need the time in seconds since 1970",
                "a column of timestamps, or at_s when pushing; or leave these channels out",
            )


class _Start:
    """Mean and deviation of the first samples; of those so far while there are fewer."""

    def __init__(self, most: int):
        self._most = most
        self.state: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)  # count, shift, sum, sum of squares

    def push(self, row: Array) -> tuple[Array, Array]:
        count, shift, total, squares = self.state
        if count >= self._most:
            counts = np.full(len(row), float(self._most))
            sums, powers = np.full(len(row), total), np.full(len(row), squares)
        else:
            finite = np.isfinite(row)
            if not count and finite.any():
                shift = float(row[finite.argmax()])
            counts = count + np.cumsum(finite)
            taken = np.where(finite & (counts <= self._most), row - shift, 0.0)
            counts = np.minimum(counts, self._most)
            sums, powers = _running(total, taken), _running(squares, taken**2)
        if len(row):
            self.state = (float(counts[-1]), shift, float(sums[-1]), float(powers[-1]))
        known = np.maximum(counts, 1.0)
        mean = np.where(counts > 0, shift + sums / known, np.nan)
        deviation = np.sqrt(np.maximum(powers / known - (sums / known) ** 2, 0.0))
        return mean, np.where(counts > 0, deviation, np.nan)


class _Mean:
    """Mean of the last samples: sums over blocks, forwards and backwards, that never drift.

    The last N samples are the end of one block of N and the beginning of the next (van Herk,
    1992), so that each mean takes two sums whatever N is, and a sample is forgotten wholly.
    """

    def __init__(self, length: int):
        self._length = length
        self._held = np.zeros(0)  # the block before, if there is one, and the part of this one

    def push(self, row: Array) -> Array:
        length, before = self._length, len(self._held)
        every = np.concatenate([self._held, row])
        n_blocks = -(-len(every) // length)
        padded = np.full(n_blocks * length, np.nan)
        padded[: len(every)] = every
        blocks = padded.reshape(n_blocks, length)
        finite = np.isfinite(blocks)
        sums = _both_ways(np.where(finite, blocks, 0.0))
        counts = _both_ways(finite.astype(np.float64))
        full = len(every) // length
        self._held = every[max(0, full - 1) * length :]
        mean: Array = np.where(counts > 0, sums / np.maximum(counts, 1.0), np.nan)
        return mean.reshape(-1)[before : before + len(row)]


def _both_ways(blocks: Array) -> Array:
    """Sum of each value, those before it in its block, and those behind its place in the last."""
    forwards = np.cumsum(blocks, axis=1)
    backwards = np.cumsum(blocks[:-1, :0:-1], axis=1)[:, ::-1]
    forwards[1:, :-1] += backwards
    return forwards


def _running(start: float, row: Array) -> Array:
    return np.cumsum(np.concatenate([[start], row]))[1:]


def _unit(of: Derived, units: Mapping[str, str]) -> str:
    return "s" if of.kind == "age" else units.get(of.source, "")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
