"""CSV and its relatives: every line becomes a row or is counted with the reason why not."""

from __future__ import annotations

import codecs
import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from edgegraft.data.account import CleaningStep, Quarantine
from edgegraft.data.table import MAX_COLUMNS, NUMBER, Table
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Array

MAX_BYTES = 2 * 2**30
MAX_LINE = 2**20
DELIMITERS = (",", ";", "\t", "|")


def read_delimited(path: Path, delimiter: str | None = None, encoding: str | None = None) -> Table:
    """Read a text table with one head line.

    Errors: `DataError`: "file-empty", "file-large", "text-encoding", "columns-many", "line-long",
    "header-missing", "column-duplicate", "delimiter-unknown", "delimiter-wrong", "field-count",
    "rows-none", "table-damaged". Single bad lines are quarantined: "nul-byte", "line-long",
    "quote-open", "stray-return", "row-short", "row-long", "row-truncated".
    """
    place = path.name
    data = _as_utf8(_bytes(path), place, encoding)
    head, data = _head(data, place)
    found = _delimiter(head, data, delimiter, place)
    names = _names(head, found, place)
    ends_with_newline = data.endswith(b"\n")
    data, rows, rows_in, quarantined = _without_bad_lines(data, place)
    if rows_in == 0:
        raise DataError.of(
            "rows-none", place, "there is a head line and no row below it", "add rows"
        )
    steps = [] if found == "," else [CleaningStep("delimiter", place, {"delimiter": found})]
    table, invalid = _parse(data, names, found, place)
    if len(invalid) and _all_one_longer(invalid, table.num_rows, len(names), found):
        names = [*names, ""]
        table, invalid = _parse(data, names, found, place)
    keep = np.ones(len(rows), dtype=bool)
    keep[[number - 1 for number, _, _ in invalid]] = False
    quarantined += _invalid(
        invalid, rows, len(rows), table.num_rows, len(names), ends_with_newline, place
    )
    if keep.sum() != table.num_rows:
        raise _damaged(place, f"{int(keep.sum())} lines gave {table.num_rows} rows")
    unnamed = [number for number, name in enumerate(names) if not name]
    if unnamed:
        steps.append(CleaningStep("column-unnamed", place, {"ignored": len(unnamed)}))
    columns = {name: table.column(number) for number, name in enumerate(names) if name}
    return Table(place, columns, rows[keep], rows_in, tuple(quarantined), tuple(steps))


def read_text(path: Path, encoding: str | None = None) -> str:
    """A whole text file, ends of lines as "\\n".

    Errors: `DataError` "file-empty", "file-large", "text-encoding" with the offset of the byte.
    """
    text = _as_utf8(_bytes(path), path.name, encoding).decode("utf-8")
    return text.replace("\r\n", "\n")


def _bytes(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError.of(
            "file-large",
            f"{path.name} has {size / 2**30:.1f} GiB",
            f"text tables up to {MAX_BYTES / 2**30:g} GiB are read into memory",
            "convert it to Parquet, or divide it",
        )
    data = path.read_bytes()
    if size < 4096 and not data.strip(b"\xef\xbb\xbf\xff\xfe \t\r\n"):
        raise DataError.of(
            "file-empty", path.name, "there is nothing in it", "remove it, or record again"
        )
    return data


def _as_utf8(data: bytes, place: str, encoding: str | None) -> bytes:
    """The text as UTF-8 with "\\n" or "\\r\\n" at the ends of lines."""
    if encoding is None and data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    data = data.removeprefix(codecs.BOM_UTF8)
    if encoding is None and data[:4096].count(0) > len(data[:4096]) // 4:
        raise DataError.of(
            "text-encoding",
            f"{place}: every other byte is NUL",
            "it looks like UTF-16 without its mark",
            "encoding='utf-16-le', or save it as UTF-8",
        )
    try:
        if encoding is None:
            data.decode("utf-8")
        else:
            data = data.decode(encoding).removeprefix("\ufeff").encode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError.of(
            "text-encoding",
            f"{place}: byte 0x{error.object[error.start]:02x} at offset {error.start}",
            f"it is not {encoding or 'UTF-8'}",
            "save the file as UTF-8, or name its encoding, e.g. encoding='latin-1'",
        ) from None
    except (LookupError, UnicodeError) as error:
        raise DataError.of(
            "text-encoding",
            f"{place}: {error}",
            f"it cannot be read as {encoding}",
            "utf-8 or latin-1",
        ) from None
    return data if b"\n" in data or b"\r" not in data else data.replace(b"\r", b"\n")


def _head(data: bytes, place: str) -> tuple[bytes, bytes]:
    """The first line that is neither empty nor a comment, and all that follows it."""
    start = 0
    while start < len(data):
        stop = data.find(b"\n", start)
        stop = len(data) if stop < 0 else stop
        line = data[start:stop].strip(b"\r\n ")
        if line and not line.startswith(b"#"):
            break
        start = stop + 1
    else:
        raise DataError.of("file-empty", place, "there are only empty lines", "record again")
    widest = max(line.count(mark.encode()) for mark in DELIMITERS) + 1
    if widest > MAX_COLUMNS:
        raise DataError.of(
            "columns-many",
            f"{place}: {widest} columns",
            f"at most {MAX_COLUMNS} are read",
            "one row per point in time, one column per channel: it may be transposed",
        )
    if len(line) > MAX_LINE:
        raise DataError.of(
            "line-long",
            f"{place}: the head line has {len(line)} bytes",
            f"at most {MAX_LINE} are read",
            "a head line with the names of the columns",
        )
    if b"\0" in line:
        raise DataError.of(
            "nul-byte", f"{place}: the head line", "it holds NUL bytes", "record again"
        )
    return line, data[stop + 1 :]


def _delimiter(head: bytes, data: bytes, given: str | None, place: str) -> str:
    line = head.decode("utf-8")
    given = {"tab": "\t", "\\t": "\t"}.get(given or "", given)
    if given is not None:
        if len(given) != 1 or given not in line:
            raise DataError.of(
                "delimiter-wrong",
                f"{place}: head line {line[:80]!r}",
                f"it has no {given!r}",
                "leave the delimiter out: it is found by itself",
            )
        return given
    counts = {mark: _fields(line, mark) for mark in DELIMITERS}
    first = [text for text in data[:65536].decode("utf-8", "ignore").splitlines() if text.strip()][
        :20
    ]
    # The delimiter gives most lines as many fields as the head line; a decimal comma does not.
    fits = {
        mark: (np.mean([_fields(text, mark) == count for text in first]) if first else 0.0, count)
        for mark, count in counts.items()
        if count > 1
    }
    if fits:
        return max(fits, key=lambda mark: fits[mark])
    if first and len(first[0].split()) > 1 and len(line.split()) > 1:
        raise DataError.of(
            "delimiter-unknown",
            f"{place}: head line {line[:80]!r}",
            "none of comma, semicolon, tab and bar is in it",
            "put one of these between the columns",
        )
    return ","


def _fields(line: str, mark: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=mark), []))
    except csv.Error:
        return 0


def _names(head: bytes, mark: str, place: str) -> list[str]:
    import re

    try:
        names = [name.strip() for name in next(csv.reader([head.decode("utf-8")], delimiter=mark))]
    except csv.Error as error:
        raise DataError.of(
            "header-form",
            f"{place}: the head line, {error}",
            "a line break stands within it, or a quote is never closed",
            "record again, or mend the first line",
        ) from error
    given = [name for name in names if name]
    if given and all(re.fullmatch(NUMBER, name.replace(",", ".")) for name in given):
        raise DataError.of(
            "header-missing",
            f"{place}: the first line is {', '.join(names)[:80]}",
            "columns are bound by name, and these are numbers",
            "add a first line with the names",
        )
    repeated = sorted({name for name in given if given.count(name) > 1})
    if repeated:
        raise DataError.of(
            "column-duplicate",
            f"{place}: {', '.join(repeated[:8])}",
            "two columns of one name cannot be told apart",
            "give every column a name of its own",
        )
    return names


def _without_bad_lines(data: bytes, place: str) -> tuple[bytes, Array, int, list[Quarantine]]:
    """The body without lines that would harm the others; the ordinals of the lines that stay."""
    raw = np.frombuffer(data, dtype=np.uint8)
    stops = np.flatnonzero(raw == 10)
    if len(raw) and raw[-1] != 10:
        stops = np.append(stops, len(raw))
    starts = np.concatenate([[0], stops[:-1] + 1]) if len(stops) else stops
    length = stops - starts
    blank = length == 0
    blank[length == 1] = raw[starts[length == 1]] == 13
    ordinal = np.cumsum(~blank) - 1
    faults: dict[str, Array] = {"line-long": length > MAX_LINE}
    if b"\0" in data:
        faults["nul-byte"] = _count(np.flatnonzero(raw == 0), starts) > 0
    if data.count(b"\r") != data.count(b"\r\n"):  # another end of line inside of one
        returns = _count(np.flatnonzero(raw == 13), starts)
        faults["stray-return"] = returns > (raw[np.maximum(stops - 1, 0)] == 13) * (length > 0)
    if b'"' in data:
        faults["quote-open"] = _count(np.flatnonzero(raw == 34), starts) % 2 == 1
    bad, quarantined = np.zeros(len(starts), dtype=bool), []
    for code, lines in faults.items():
        fresh = lines & ~bad
        if fresh.any():
            where = f"{place} row {int(ordinal[np.argmax(fresh)]) + 1}"
            quarantined.append(Quarantine(code, int(fresh.sum()), where))
            bad |= fresh
    kept = ordinal[~bad & ~blank]
    if bad.any():
        pieces, begin = [], 0
        for number in np.flatnonzero(bad):
            pieces.append(data[begin : starts[number]])
            begin = int(stops[number]) + 1
        data = b"".join([*pieces, data[begin:]])
    return data, kept.astype(np.int64), int((~blank).sum()), quarantined


def _count(places: Array, starts: Array) -> Array:
    return np.bincount(np.searchsorted(starts, places, side="right") - 1, minlength=len(starts))


Invalid = list[tuple[int, int, str]]


def _parse(data: bytes, names: list[str], mark: str, place: str) -> tuple[pa.Table, Invalid]:
    """All cells as text, and the number (from 1), field count and end of each invalid row."""
    invalid: Invalid = []

    def set_aside(row: arrow_csv.InvalidRow) -> str:
        invalid.append((row.number, row.actual_columns, row.text[-1:]))
        return "skip"

    keys = [str(number) for number in range(len(names))]
    if not data.strip(b"\r\n"):
        return pa.table({key: pa.array([], pa.string()) for key in keys}), invalid
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(
                column_names=keys, use_threads=False, block_size=8 * MAX_LINE
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=mark, invalid_row_handler=set_aside),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(keys, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise _damaged(place, str(error)[:200]) from None
    return table, invalid


def _damaged(place: str, found: str) -> DataError:
    return DataError.of(
        "table-damaged",
        f"{place}: {found}",
        "its lines cannot be told apart",
        "check the quotes and the ends of the lines",
    )


def _all_one_longer(invalid: Invalid, n_valid: int, n_names: int, mark: str) -> bool:
    """Whether each row merely ends with a delimiter, as some loggers write it."""
    return n_valid == 0 and all(count == n_names + 1 and end == mark for _, count, end in invalid)


def _invalid(
    invalid: Invalid,
    rows: Array,
    n_lines: int,
    n_valid: int,
    n_names: int,
    ends_with_newline: bool,
    place: str,
) -> list[Quarantine]:
    if not invalid:
        return []
    counts = [count for _, count, _ in invalid]
    usual = max(set(counts), key=counts.count)
    if n_valid < counts.count(usual):
        raise DataError.of(
            "field-count",
            f"{place}: {counts.count(usual)} rows have {usual} fields, the head line has {n_names}",
            "all values might stand under the wrong name",
            "name every column once in the head line; a decimal comma needs another delimiter",
        )
    found: dict[str, list[int]] = {}
    for number, count, _ in invalid:
        truncated = number == n_lines and count < n_names and not ends_with_newline
        code = "row-truncated" if truncated else "row-short" if count < n_names else "row-long"
        found.setdefault(code, []).append(number)
    return [
        Quarantine(code, len(numbers), f"{place} row {int(rows[numbers[0] - 1]) + 1}")
        for code, numbers in found.items()
    ]
