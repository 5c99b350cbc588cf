"""Rows of a delimited text stream, read line by line as they come: a header, then samples.

Channels are bound by the names in the header; ``acc_x [m/s2]`` or ``acc_x (m/s2)`` also says
the unit. Nothing is guessed for a bad row: it is counted, and the windows it falls in are not
scored.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np

from edgegraft_edge.errors import DataError, OptionError, nearest
from edgegraft_edge.signal import Array, Channel, WindowSpec
from edgegraft_edge.windowing import bind, measured

MAX_LINE_BYTES = 1 << 20
TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_UNIT = re.compile(r"^(.*?)\s*[\[(]([^\])]*)[\])]$")
_TIME = re.compile(  # the names under which time is found before training, too
    r"(time|times|timestamp|time_?stamp|ts|t|epoch|unix_?time|date_?time|date|utc|millis|micros"
    r"|uptime|seconds|elapsed)(?:[_ ]?(s|sec|ms|us|ns|utc|iso|local))?"
)
_NAMED_UNITS = {"sec": "s", "seconds": "s", "millis": "ms", "micros": "us"}
_PROBE_ROWS = 8


@dataclass
class Fault:
    """One kind of bad row: how often, where first, and what was found there."""

    count: int
    first_line: int
    found: str


@dataclass
class Account:
    """Every data row is among `rows`; `malformed` of them gave no sample or one of NaN."""

    rows: int = 0
    malformed: int = 0
    faults: dict[str, Fault] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def add(self, code: str, line: int, found: str) -> None:
        self.malformed += 1
        fault = self.faults.setdefault(code, Fault(0, line, found[:80]))
        fault.count += 1


class Rows:
    """An iterator of (time in seconds or None, samples (n_channels, 1)).

    Args:
        source: bytes to be read line by line.
        spec: names the channels; its rate tells the unit of bare numbers as time.
        time_column: name of the column with timestamps; found by convention when "".
        time_unit: s, ms, us or ns for numbers; found when "".

    Errors: `DataError` when the header is missing, unreadable or lacks channels.

    >>> spec = WindowSpec(1.0, 1.0, 100.0, (Channel("x"),))
    >>> rows = Rows(io.BytesIO(b"timestamp,x\\n0,1.5\\n10,2.5\\n20,oops\\n"), spec)
    >>> [(at_s, sample.tolist()) for at_s, sample in rows]
    [(0.0, [[1.5]]), (0.01, [[2.5]]), (0.02, [[nan]])]
    >>> rows.account.faults["cell-not-number"].first_line
    4
    """

    def __init__(
        self,
        source: io.BufferedIOBase | Any,
        spec: WindowSpec,
        *,
        time_column: str = "",
        time_unit: str = "",
    ):
        self.account = Account()
        self._source, self._spec, self._line = source, spec, 0
        header = self._header()
        units = [_UNIT.match(name) for name in header]
        names = [m.group(1) if m else name for m, name in zip(units, header, strict=True)]
        channels = [
            Channel(name, m.group(2) if m else "") for m, name in zip(units, names, strict=True)
        ]
        self._n_columns = len(header)
        self._time = time_place(names, time_column, spec.channel_names)
        self._places = bind(measured(spec), channels)
        named = named_unit(names[self._time]) if self._time is not None else ""
        self._scale = TIME_UNITS.get(time_unit or named)

    def __iter__(self) -> Iterator[tuple[float | None, Array]]:
        held: list[tuple[float | None, Array]] = []
        for at, values in self._samples():
            if self._time is None or self._scale is not None:
                yield _scaled(at, self._scale), values
                continue
            held.append((at, values))
            if len(held) >= min(_PROBE_ROWS, self._spec.n_timepoints):
                self._scale = _find_scale(held, self._spec.rate_hz)
                yield from ((_scaled(at, self._scale), values) for at, values in held)
                held = []
        scale = self._scale or _find_scale(held, self._spec.rate_hz)
        yield from ((_scaled(at, scale), values) for at, values in held)

    def _header(self) -> list[str]:
        raw = self._read_line()
        while raw is not None and not raw.strip():
            raw = self._read_line()
        if raw is None:
            raise _header_error("source-empty", "an empty source")
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise _header_error("source-encoding", "text in UTF-16")
        try:
            text = raw.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            found = f"byte 0x{raw[error.start]:02x} at offset {error.start} of the header"
            raise _header_error("source-encoding", found) from error
        self._delimiter = delimiter_of(text)
        try:
            cells = [cell.strip() for cell in self._split(text)]
        except (csv.Error, StopIteration) as error:
            raise _header_error("header-missing", f"a first line with {error}") from error
        if all(_number(cell, "") is not None for cell in cells):
            raise _header_error("header-missing", f"a first line of numbers: {text[:60]!r}")
        return cells

    def _samples(self) -> Iterator[tuple[float | None, Array]]:
        """Times as they stand in the rows, and samples."""
        while (raw := self._read_line()) is not None:
            if not raw.strip():
                continue
            self.account.rows += 1
            sample = self._sample(raw)
            if sample is not None:
                yield sample

    def _sample(self, raw: bytes) -> tuple[float | None, Array] | None:
        nothing = np.full((len(self._places), 1), np.nan, np.float32)
        # Without a clock a lost row would shift all that follow, so NaN takes its place;
        # with one, the gap shows by itself.
        lost = (None, nothing) if self._time is None else None
        try:
            cells = self._split(raw.decode("utf-8").strip("\r\n"))
        except (UnicodeDecodeError, csv.Error, StopIteration) as error:
            self.account.add("row-unreadable", self._line, str(error))
            return lost
        if len(cells) != self._n_columns:
            found = f"{len(cells)} fields, the header has {self._n_columns}"
            self.account.add("row-fields", self._line, found)
            return lost
        at = None
        if self._time is not None:
            at = _moment(cells[self._time].strip())
            if at is None:
                self.account.add("time-unreadable", self._line, repr(cells[self._time]))
                return None
        values = [_number(cells[place], self._delimiter) for place in self._places]
        if None in values:
            bad = cells[self._places[values.index(None)]]
            self.account.add("cell-not-number", self._line, repr(bad))
            return at, nothing
        with np.errstate(over="ignore"):
            return at, np.array(values, dtype=np.float64).astype(np.float32)[:, None]

    def _split(self, text: str) -> list[str]:
        if '"' in text or "\0" in text:
            return next(csv.reader([text], delimiter=self._delimiter, strict=True))
        return text.split(self._delimiter)

    def _read_line(self) -> bytes | None:
        raw: bytes = self._source.readline(MAX_LINE_BYTES)
        if not raw:
            return None
        self._line += 1
        if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
            while raw and not raw.endswith(b"\n"):
                raw = self._source.readline(MAX_LINE_BYTES)
            return b"\xff"  # no text: counted as unreadable
        return raw


def _number(cell: str, delimiter: str) -> float | None:
    """The number in a cell; NaN where it is empty; None where it is something else."""
    cell = cell.strip()
    if not cell:
        return math.nan
    if delimiter == ";":
        cell = cell.replace(",", ".")
    try:
        return float(cell) if "_" not in cell else None
    except ValueError:
        return None


def _moment(cell: str) -> float | None:
    """A bare number as it is, an ISO 8601 time as seconds since 1970; no zone means UTC."""
    try:
        number = float(cell)
        return number if math.isfinite(number) else None
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(cell)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def delimiter_of(header: str) -> str:
    """What stands between the columns of a header."""
    return max((",", ";", "\t"), key=header.count)


def header_names(line: bytes) -> list[str]:
    """The columns that a header names, without their units.

    >>> header_names(b"timestamp;load [kW]")
    ['timestamp', 'load']
    """
    text = line.decode("utf-8-sig", "replace").strip()
    cells = text.replace('"', "").split(delimiter_of(text))
    return [m.group(1) if (m := _UNIT.match(cell.strip())) else cell.strip() for cell in cells]


def time_place(names: Sequence[str], wanted: str, channels: Sequence[str]) -> int | None:
    """Where the time stands among columns: by the name wanted, or by convention, if at all.

    Args:
        channels: names that are no time, whatever they are called.

    Errors: `OptionError` ``time-column`` when there is no column of the name wanted.

    >>> time_place(["load", "Timestamp"], "", [])
    1
    """
    names = list(names)
    if wanted:
        if wanted not in names:
            raise OptionError.of(
                "time-column", f"no column {wanted!r}", "it holds the time", nearest(wanted, names)
            )
        return names.index(wanted)
    for place, name in enumerate(names):
        if _TIME.fullmatch(name.lower()) and name not in channels:
            return place
    return None


def named_unit(name: str) -> str:
    """The unit that the name of a time column says, e.g. "ms" of "time_ms"; "" if none."""
    match = _TIME.fullmatch(name.lower())
    words = (match.group(2) or match.group(1)) if match else ""
    return _NAMED_UNITS.get(words, words)


def _find_scale(held: list[tuple[float | None, Array]], rate_hz: float) -> float:
    """The unit of time whose median step comes nearest to the sample period."""
    times = [at for at, _ in held if at is not None]
    steps = sorted(after - before for before, after in pairwise(times) if after > before)
    if not steps:
        return 1.0
    step = steps[len(steps) // 2]
    return min(TIME_UNITS.values(), key=lambda scale: abs(math.log(step * scale * rate_hz)))


def _scaled(at: float | None, scale: float | None) -> float | None:
    # Divide, as 10 ms is 10 / 1000 s exactly and not 10 * 0.001.
    return None if at is None else at / round(1 / (scale or 1.0))


def _header_error(code: str, found: str) -> DataError:
    return DataError.of(
        code,
        found,
        "the first line names the columns, in UTF-8",
        "a line like 'timestamp,acc_x,acc_y', with the channels of the bundle",
    )
