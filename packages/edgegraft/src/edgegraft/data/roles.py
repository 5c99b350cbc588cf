"""Which column of a table is what, by the options or by the usual names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgegraft.data.source import DataOptions
from edgegraft.data.table import Table, is_text, numbers, split_unit
from edgegraft_edge.errors import DataError, Problem, nearest

TIME = re.compile(
    r"(time|times|timestamp|time_?stamp|ts|t|epoch|unix_?time|date_?time|date|utc|millis|micros"
    r"|uptime|seconds|elapsed)([_ ]?(s|sec|ms|us|ns|utc|iso|local))?"
)
LABEL = (
    "label",
    "labels",
    "class",
    "activity",
    "gesture",
    "category",
    "class_label",
    "activity_label",
    "class_name",
    "label_name",
)
LABEL_TEXT = ("state", "condition", "fault", "event", "target")  # labels only if they are text
GROUP = (
    "group",
    "groups",
    "person",
    "subject",
    "user",
    "participant",
    "volunteer",
    "patient",
    "machine",
    "device",
    "site",
    "rig",
)
RECORDING = ("recording", "session", "trial", "run", "segment", "take", "experiment")
COUNTER = (
    "seq",
    "sequence",
    "counter",
    "index",
    "idx",
    "sample",
    "sample_index",
    "sample_no",
    "packet",
    "packet_id",
    "row",
    "n",
    "no",
    "frame",
    "seqno",
    "sequence_number",
)
CHANNEL = ("channel", "sensor", "variable", "axis", "signal", "metric", "quantity", "feature")
VALUE = ("value", "reading", "val", "measurement")
FILE_LEVEL = ("folder", "filename")  # what label= and group= may say instead of a column


@dataclass(frozen=True)
class Roles:
    """Names of columns by what they are; "" where there is none.

    Attributes:
        channels: columns of numbers that are signals, in the order of the table.
        channel, value: the two columns of a long table that name and hold a reading.
    """

    time: str = ""
    date: str = ""
    label: str = ""
    group: str = ""
    recording: str = ""
    channel: str = ""
    value: str = ""
    channels: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def find_roles(table: Table, options: DataOptions, known_elsewhere: Sequence[str] = ()) -> Roles:
    """The role of each column.

    Args:
        known_elsewhere: fields that a metadata file supplies, which need no column.

    Errors: `DataError` "column-missing" for named columns that are not there (all of them),
    "channel-text" for a channel that holds text, "channels-none".
    """
    names = list(table.columns)
    plain = {name: split_unit(name)[0].lower().replace(" ", "_") for name in names}
    problems: list[Problem] = []
    taken: set[str] = set()

    def role(given: str | None, usual: Sequence[str], suffixes: bool = False) -> str:
        if given is not None and given not in FILE_LEVEL:
            if given in names:
                taken.add(given)
                return given
            if given not in known_elsewhere:
                problems.append(_column_missing(table, given, names))
            return ""
        if given in FILE_LEVEL:
            return ""
        for word in usual:
            for name in names:
                ending = suffixes and re.fullmatch(rf"{word}_?(id|name|no|number)", plain[name])
                if name not in taken and (plain[name] == word or ending):
                    taken.add(name)
                    return name
        return ""

    time = role(options.time, _times(names, plain))
    date = (
        "date"
        if plain.get(time) == "time" and "date" in names and is_text_time(table, time)
        else ""
    )
    taken |= {date} - {""}
    label = role(options.label, LABEL)
    if not label and options.label is None:
        label = role(None, [word for word in LABEL_TEXT if _holds_text(table, word, plain)])
    group = role(options.group, GROUP, suffixes=True)
    recording = role(options.recording, RECORDING, suffixes=True)
    channel, value = _long_pair(table, plain, taken)
    channels, ignored = _channels(table, options, plain, taken, bool(channel), problems)
    if problems:
        raise DataError(problems)
    return Roles(time, date, label, group, recording, channel, value, channels, ignored)


def is_text_time(table: Table, name: str) -> bool:
    """Whether a time column holds times of day, which need the date of another column."""
    if not is_text(table.columns[name]):
        return False
    first = table.columns[name].slice(0, 50).to_pylist()
    return any(re.match(r"\s*\d{1,2}:\d\d", cell or "") for cell in first)


def _times(names: Sequence[str], plain: dict[str, str]) -> list[str]:
    """Plain names that say time, the most telling first."""
    found = [plain[name] for name in names if TIME.fullmatch(plain[name])]
    return sorted(
        found, key=lambda name: (not name.startswith(("timestamp", "datetime")), name == "date")
    )


def _column_missing(table: Table, given: str, names: Sequence[str]) -> Problem:
    return Problem(
        "column-missing",
        f"{table.place} has no column {given!r}",
        "it was asked for by name",
        nearest(given, names) if names else "a column name from the head line",
    )


def _holds_text(table: Table, word: str, plain: dict[str, str]) -> bool:
    for name, column in table.columns.items():
        if plain[name] == word and is_text(column):
            return numbers(column.slice(0, 1000)).share < 0.5
    return False


def _long_pair(table: Table, plain: dict[str, str], taken: set[str]) -> tuple[str, str]:
    def first(words: Sequence[str]) -> str:
        return next((name for name in plain if plain[name] in words and name not in taken), "")

    channel, value = first(CHANNEL), first(VALUE)
    if not channel or not value or not is_text(table.columns[channel]):
        return "", ""
    if numbers(table.columns[channel].slice(0, 1000)).share > 0.5:
        return "", ""
    taken |= {channel, value}
    return channel, value


def _channels(
    table: Table,
    options: DataOptions,
    plain: dict[str, str],
    taken: set[str],
    is_long: bool,
    problems: list[Problem],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns of signals, and the columns that are left out."""
    rest = [name for name in table.columns if name not in taken]
    if is_long:
        return (), tuple(rest)
    if options.channels is not None:
        by_name = {split_unit(name)[0]: name for name in table.columns} | {
            name: name for name in table.columns
        }
        missing = [name for name in options.channels if name not in by_name]
        problems += [_column_missing(table, name, list(by_name)) for name in missing]
        chosen = [by_name[name] for name in options.channels if name in by_name]
        for name in chosen:
            if not _is_numeric(table, name):
                problems.append(
                    Problem(
                        "channel-text",
                        f"{table.place}: channel {name!r} holds text",
                        "a signal is made of numbers",
                        "leave it out of the channels",
                    )
                )
        return tuple(chosen), tuple(name for name in rest if name not in chosen)
    chosen = [name for name in rest if plain[name] not in COUNTER and _is_numeric(table, name)]
    if not chosen:
        problems.append(
            Problem(
                "channels-none",
                f"{table.place} has columns {', '.join(table.columns)[:120]}",
                "none that is left holds numbers",
                "one column per channel, or another delimiter, or time= and label= by name",
            )
        )
    return tuple(chosen), tuple(name for name in rest if name not in chosen)


def _is_numeric(table: Table, name: str) -> bool:
    """Whether most cells are numbers; looked at in slices, as a column may start with gaps."""
    column = table.columns[name]
    if not is_text(column):
        return str(column.type).startswith(("int", "uint", "float", "double", "halffloat"))
    step = max(1, len(column) // 4)
    parts = [numbers(column.slice(start, 500)) for start in range(0, len(column), step)]
    missing = sum(
        int(part.faults["value-missing"].sum()) for part in parts if "value-missing" in part.faults
    )
    total = sum(len(part.values) for part in parts)
    known = sum(part.share * len(part.values) for part in parts) - missing
    return total > missing and known >= 0.5 * (total - missing)
