"""The command `edgegraft-edge watch`: rows in, anomalies out, without any bundle."""

from __future__ import annotations

import argparse
import io
import json
import math
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgegraft_edge.alarms import Alarms, FalseAlarms
from edgegraft_edge.decision import Event
from edgegraft_edge.errors import DataError, OptionError, nearest
from edgegraft_edge.files import replace_file
from edgegraft_edge.rows import (
    TIME_UNITS,
    Rows,
    delimiter_of,
    header_names,
    named_unit,
    time_place,
)
from edgegraft_edge.signal import Channel, WindowSpec
from edgegraft_edge.watch import Watch

SAVE_EVERY_S = 600.0
_NUMBER = re.compile(r"[-+0-9.,eE]+|nan|inf|[-+]inf|null|none|na|n/a", re.IGNORECASE)
_EPOCH = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": math.inf}
"""Numbers below these are seconds, milliseconds, ... since 1970."""


class Again:
    """A stream of lines whose first ones were looked at before."""

    def __init__(self, source: Any, n_lines: int):
        self._source = source
        self.lines = [line for line in (source.readline(1 << 20) for _ in range(n_lines)) if line]

    def readline(self, most: int) -> bytes:
        line: bytes = self.lines.pop(0) if self.lines else self._source.readline(most)
        return line


def add_watch(commands: Any, source: Callable[[str | None], Any], speed: Any) -> None:
    """Add the command to a parser.

    Args:
        source: opens the rows by name; None or "-" is standard input.
        speed: reads the argument of `--replay`.
    """
    summary = "learn what is usual from rows as they come, and say what is not; needs no bundle"
    command: argparse.ArgumentParser = commands.add_parser(
        "watch", help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
    )
    command.set_defaults(command=lambda arguments: run_watch(arguments, source))
    command.add_argument(
        "--source", help="rows as CSV with a header; - for standard input (the default)"
    )
    command.add_argument("--json", action="store_true", help="answer as JSON")
    command.add_argument(
        "--channel", action="append", default=[], metavar="COLUMN",
        help="watch this column; may be given again (default: all with numbers but the time)",
    )  # fmt: skip
    command.add_argument(
        "--false-alarms", default="1/day", metavar="RATE",
        help="how many are allowed: 1/day, 2/week, or a share of samples as 0.001 (default: 1/day)",
    )  # fmt: skip
    command.add_argument(
        "--state", metavar="FILE", help="go on from what was learnt, and save it here at the end"
    )
    command.add_argument("--replay", type=speed, metavar="SPEED", help="pace by time: 1x, 10x, ...")
    command.add_argument("--rate-hz", type=float, help="rows a second (default: measured)")
    command.add_argument(
        "--time-column", default="", help="column with timestamps (default: found)"
    )
    command.add_argument(
        "--time-unit", default="", choices=sorted(TIME_UNITS), help="of numbers (default: found)"
    )


def run_watch(arguments: argparse.Namespace, source: Callable[[str | None], Any]) -> int:
    """Print an event a line; the exit code is the answer."""
    allowed = FalseAlarms.parse(arguments.false_alarms)
    rate_hz = arguments.rate_hz
    if rate_hz is not None and not 0 < rate_hz < math.inf:
        raise OptionError.of("rate-range", f"--rate-hz {rate_hz}", "it is above 0", "--rate-hz 1")
    with source(arguments.source) as opened:
        rows, names = _rows(opened, arguments)
        watch = _watch(arguments.state, len(names))
        alarms = Alarms(allowed, names, period_s=1 / rate_hz if rate_hz else None)
        keep = _Keep(arguments.state, watch)
        try:
            _follow(rows, watch, alarms, rate_hz, arguments.replay, keep)
            code = 0
        except KeyboardInterrupt:
            code = 130
        _say(alarms.finish())
        keep.now()
    if rows.account.rows == 0 and code == 0:
        raise DataError.of(
            "rows-missing", "a header without rows", "there is nothing to watch", "add rows"
        )
    _summary(rows, watch, alarms, arguments.json)
    return code


class _Keep:
    """Saves what was learnt now and then, so that little is lost when the power is."""

    def __init__(self, state: str | None, watch: Watch):
        self._path = Path(state) if state else None
        self._watch = watch
        self.now()  # that it cannot be written is told before a day was watched

    def sometimes(self) -> None:
        if time.monotonic() - self._saved_s > SAVE_EVERY_S:
            self.now()

    def now(self) -> None:
        self._saved_s = time.monotonic()
        if self._path is None:
            return
        file = io.BytesIO()
        self._watch.save(file)
        try:
            replace_file(self._path, file.getvalue())
        except OSError as error:
            raise DataError.of(
                "state-unwritable", str(self._path), error.strerror or "it cannot be written",
                "another --state",
            ) from error  # fmt: skip


def _follow(
    rows: Rows,
    watch: Watch,
    alarms: Alarms,
    rate_hz: float | None,
    speed: float | None,
    keep: _Keep,
) -> None:
    begin, first_s = time.monotonic(), None
    for count, (given_s, sample) in enumerate(rows):
        at_s = count / (rate_hz or 1.0) if given_s is None else given_s
        first_s = at_s if first_s is None else first_s
        if speed:
            wait_s = (at_s - first_s) / speed - (time.monotonic() - begin)
            time.sleep(min(max(wait_s, 0.0), 60.0))
        watch.push(sample[:, 0].tolist())
        _say(alarms.step(at_s, watch))
        keep.sometimes()


def _rows(opened: Any, arguments: argparse.Namespace) -> tuple[Rows, tuple[str, ...]]:
    again = Again(opened, 2)
    if not again.lines:
        raise DataError.of(
            "source-empty", "an empty source", "the first line names the columns", "add a header"
        )
    names = header_names(again.lines[0])
    place = time_place(names, arguments.time_column, arguments.channel)
    if place is None and arguments.rate_hz is None and "/" in arguments.false_alarms:
        raise DataError.of(
            "time-missing", f"columns {', '.join(names)[:80]}",
            "a number of alarms per time needs a time column or the rate of the rows",
            "--rate-hz 1, --time-column NAME, or --false-alarms 0.001",
        )  # fmt: skip
    unknown = [name for name in arguments.channel if name not in names]
    if unknown:
        raise OptionError.of(
            "channel-unknown", f"--channel {unknown[0]}", "no column has that name",
            nearest(unknown[0], names),
        )  # fmt: skip
    text = _text_columns(again.lines, names)
    chosen = arguments.channel or [
        name for at, name in enumerate(names) if at != place and at not in text
    ]
    if not chosen:
        raise DataError.of(
            "channel-missing", f"columns {', '.join(names)[:80]}", "none is left to watch",
            "a table with a column of numbers",
        )  # fmt: skip
    spec = WindowSpec(1.0, 1.0, 1.0, tuple(Channel(name) for name in chosen))
    unit = arguments.time_unit or _unit(again.lines, names, place)
    rows = Rows(again, spec, time_column=arguments.time_column, time_unit=unit)
    return rows, tuple(chosen)


def _text_columns(lines: list[bytes], names: list[str]) -> set[int]:
    """Columns whose first cell holds letters: labels and notes, which nobody can watch."""
    cells = _cells(lines)
    if len(cells) != len(names):
        return set()
    return {at for at, cell in enumerate(cells) if cell and not _NUMBER.fullmatch(cell)}


def _cells(lines: list[bytes]) -> list[str]:
    """The first row, if it is there, cut as the header is."""
    if len(lines) < 2:
        return []
    header, row = (line.decode("utf-8-sig", "replace").strip("\r\n") for line in lines)
    return [cell.strip().strip('"') for cell in row.split(delimiter_of(header))]


def _unit(lines: list[bytes], names: list[str], place: int | None) -> str:
    """By the name of the time column, or by the size of its first number."""
    if place is None or named_unit(names[place]) in TIME_UNITS:
        return ""
    try:
        number = abs(float(_cells(lines)[place]))
    except (IndexError, ValueError):
        return "s"  # text, which is read as seconds
    return next(unit for unit, most in _EPOCH.items() if number < most or unit == "ns")


def _watch(state: str | None, n_channels: int) -> Watch:
    if not state or not Path(state).exists():
        return Watch(n_channels)
    watch = Watch.load(state)
    if watch.n_channels != n_channels:
        raise OptionError.of(
            "watch-channels", f"{state} of {watch.n_channels} channels, rows of {n_channels}",
            "a watch goes on with the channels that it began with", "--channel, or another --state",
        )  # fmt: skip
    return watch


def _say(event: Event | None) -> None:
    if event is not None:
        print(json.dumps(event.as_dict()), flush=True)


def _summary(rows: Rows, watch: Watch, alarms: Alarms, as_json: bool) -> None:
    account, counts = rows.account, {"samples": watch.samples, "skipped": watch.skipped}
    if as_json:
        summary = {**account.as_dict(), **counts, "alarms": alarms.events,
                   "period_s": alarms.period_s}  # fmt: skip
        print(json.dumps({"summary": summary}))
        return
    for code, fault in account.faults.items():
        text = f"[{code}] {fault.count} rows, first in line {fault.first_line}: {fault.found}"
        print(text, file=sys.stderr)
    print(
        f"{account.rows} rows, {account.malformed} malformed; {watch.samples} samples, "
        f"{watch.skipped} skipped, {alarms.events} alarms",
        file=sys.stderr,
    )
