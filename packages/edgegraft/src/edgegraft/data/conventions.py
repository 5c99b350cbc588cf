"""What is said of a file outside of it: by folders, by its name, by metadata, by labelled spans."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from edgegraft_edge.errors import DataError

TABLES = (".csv", ".tsv", ".parquet", ".pq")
METADATA = ("metadata.csv", "metadata.jsonl")
SPANS = ("spans.csv", "labels.csv")
PARTS = ("train", "training", "test", "testing", "validation", "val")
MAX_FILES = 100_000
_FILE = ("file", "filename", "file_name", "path", "name")
_FROM = ("start", "start_s", "start_ms", "begin", "from", "start_time")
_TO = ("end", "end_s", "end_ms", "stop", "to", "end_time")


@dataclass(frozen=True)
class FileFacts:
    """What is known of one file from outside.

    Attributes:
        fields: from a metadata file.
        folders: names of the folders between root and file, without parts like "train".
        stem: the file name before its first dot.
        dotted: whether more than the format follows the first dot, as in ``walk.s07.csv``.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    stem: str = ""
    dotted: bool = False


def table_files(root: Path, suffixes: Iterable[str] = TABLES) -> list[Path]:
    """The data files below a folder, sorted; metadata, spans and hidden files are not data."""
    wanted = tuple(suffixes)
    found = []
    for path in sorted(root.rglob("*")):
        name = path.name.lower()
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if hidden or not name.endswith(wanted) or name in METADATA + SPANS or not path.is_file():
            continue
        if name.endswith(".spans.csv"):
            continue
        found.append(path)
        if len(found) > MAX_FILES:
            raise DataError.of(
                "files-many",
                f"{root.name}: more than {MAX_FILES} files",
                "they are read at once",
                "join them into fewer, larger files",
            )
    return found


def facts_of(path: Path, root: Path, metadata: Mapping[str, Mapping[str, str]]) -> FileFacts:
    relative = PurePosixPath(path.relative_to(root).as_posix())
    stem, _, rest = path.name.partition(".")
    keys = (str(relative), str(relative.with_suffix("")), path.name, path.stem)
    fields = next((metadata[key] for key in keys if key in metadata), {})
    folders = tuple(part for part in relative.parts[:-1] if part.lower() not in PARTS)
    return FileFacts(fields, folders, stem, "." in rest)


def serial(stems: Iterable[str]) -> bool:
    """Whether file names only count: rec01, rec02, ... and so cannot be labels.

    >>> serial(["rec01", "rec02"]), serial(["walk", "sit"])
    (True, False)
    """
    names = list(stems)
    bare = {re.sub(r"\d+", "#", name) for name in names}
    return (len(set(names)) == len(names) > 1 and len(bare) == 1) or len(names) == 1


def read_metadata(root: Path) -> dict[str, dict[str, str]]:
    """Fields by file, from metadata.csv or metadata.jsonl in the root folder.

    Errors: `DataError` "metadata-damaged", and what reading a table raises.
    """
    path = next((root / name for name in METADATA if (root / name).is_file()), None)
    if path is None:
        return {}
    rows = _json_lines(path) if path.suffix == ".jsonl" else table_rows(path)
    found: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, 1):
        low = {key.lower(): value for key, value in row.items()}
        name = next((low[key] for key in _FILE if low.get(key)), "")
        if not name:
            raise DataError.of(
                "metadata-damaged",
                f"{path.name} row {number}",
                "it does not name its file",
                "a field named file",
            )
        found[PurePosixPath(name.replace("\\", "/")).as_posix()] = row | low
    return found


def table_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a small text table as dicts of trimmed text; rows that are damaged are refused."""
    from edgegraft.data.delimited import read_delimited

    table = read_delimited(path)
    if table.quarantined:
        worst = table.quarantined[0]
        raise DataError.of(
            "metadata-damaged",
            f"{worst.example}: {worst.code}",
            "metadata must be whole",
            "correct that row",
        )
    columns = {name: column.to_pylist() for name, column in table.columns.items()}
    return [
        {name: str(cells[number]).strip() for name, cells in columns.items()}
        for number in range(len(table))
    ]


def _json_lines(path: Path) -> list[dict[str, str]]:
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            value = parse_json(line, f"{path.name} line {number}")
            if not isinstance(value, dict):
                raise DataError.of(
                    "metadata-damaged", f"{path.name} line {number}", "it is not an object", "{...}"
                )
            rows.append({key: "" if item is None else str(item) for key, item in value.items()})
    return rows


def parse_json(data: bytes, place: str) -> Any:
    """JSON from outside, without what hides in it: repeated keys, NaN, endless depth or digits.

    Errors: `DataError` "json-damaged".
    """

    def refuse(what: str) -> DataError:
        return DataError.of(
            "json-damaged", f"{place}: {what}", "it is not plain JSON", "write it again"
        )

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise refuse("a key occurs twice")
        return dict(pairs)

    def constant(name: str) -> float:
        raise refuse(f"the literal {name}")

    def whole(digits: str) -> int | float:
        if len(digits) > 400:
            raise refuse(f"a number of {len(digits)} digits")
        return int(digits)

    try:
        return json.loads(data, object_pairs_hook=unique, parse_constant=constant, parse_int=whole)
    except (ValueError, RecursionError) as error:
        raise refuse(str(error)[:120] or "nested too deeply") from None


@dataclass(frozen=True)
class SpanRow:
    """One line of a table of spans, still as text."""

    start: str
    end: str
    label: str
    file: str = ""
    unit: str = ""


def read_spans(path: Path) -> list[SpanRow]:
    """Labelled spans: columns start, end, label and perhaps file.

    Errors: `DataError` "spans-columns".
    """
    spans = []
    for row in table_rows(path):
        low = {key.lower().strip(): value for key, value in row.items()}
        start = next((key for key in _FROM if key in low), "")
        end = next((key for key in _TO if key in low), "")
        if not start or not end or "label" not in low:
            raise DataError.of(
                "spans-columns",
                f"{path.name} has columns {', '.join(row)[:80]}",
                "a span is start, end and label",
                "name the columns start,end,label",
            )
        file = next((low[key] for key in _FILE if key in low), "")
        unit = start.partition("_")[2] if start.endswith(("_s", "_ms")) else ""
        spans.append(SpanRow(low[start], low[end], low["label"], file, unit))
    return spans


def spans_near(path: Path, root: Path, named: str | None) -> list[SpanRow]:
    """The spans that belong to a file: ``<stem>.spans.csv`` beside it, or the folder's spans."""
    own = path.with_name(path.stem + ".spans.csv")
    if own.is_file():
        return read_spans(own)
    shared = Path(named) if named else next((root / n for n in SPANS if (root / n).is_file()), None)
    if shared is None:
        return []
    if not shared.is_file():
        raise DataError.of(
            "file-missing", f"spans {named!r}", "there is no such file", "check the path"
        )
    relative = path.relative_to(root).as_posix()
    names = {"", relative, path.name, path.stem, str(PurePosixPath(relative).with_suffix(""))}
    return [span for span in read_spans(shared) if span.file in names]
