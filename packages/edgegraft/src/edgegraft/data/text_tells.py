"""Whether a file holds sentences: told by its columns and by a look at the first of its cells."""

from __future__ import annotations

import codecs
import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path

from edgegraft.data.roles import COUNTER, GROUP, LABEL, LABEL_TEXT, TIME
from edgegraft.data.table import NUMBER, split_unit

TABLES = (".csv", ".tsv", ".parquet", ".pq")
LINES = (".jsonl", ".ndjson")
TREES = (".json",)
FORMATS = (*TABLES, *LINES, *TREES)
PLAIN = ".txt"
TEXT = (
    "text",
    "sentence",
    "sentences",
    "utterance",
    "query",
    "question",
    "phrase",
    "command",
    "transcript",
    "transcription",
    "message",
    "prompt",
    "review",
    "comment",
    "document",
    "content",
)
"""Usual names of a column of sentences."""
INTENT = (*LABEL, "intent", "topic", "sentiment", "emotion", "tag", "domain", *LABEL_TEXT)
"""Usual names of what a sentence is labelled with."""
_ASIDE = ("id", "uid", "uuid", "part", "split", "fold", "length", "confidence", "score", "lang")
_LOOK = 1 << 16
_FILES = 3
_TREE = re.compile(
    r'\{\s*"[^"]+"\s*:\s*\[\s*(\[\s*"|\{\s*"data"\s*:\s*\[\s*\{\s*"text")'  # parts, or snips
    r'|\[\s*\{\s*"(' + "|".join(TEXT) + r')"\s*:\s*"'
)


def holds_text(uri: str) -> bool:
    """Whether a file, a folder, or a part of a JSON file holds sentences; looks at its start.

    A table does that has a column with a usual name of `TEXT` that is mostly words, and besides
    no column of numbers that might be a signal.
    """
    path = Path(uri)
    if path.is_dir():
        return _folder_holds(path)
    if path.is_file():
        return _file_holds(path)
    above = path.parent
    return above.is_file() and above.suffix.lower() in TREES and _file_holds(above)


def _folder_holds(root: Path) -> bool:
    """Whether the first files of that format which most have hold sentences."""
    by_format: dict[str, list[Path]] = {}
    count = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            count += 1
            if not name.startswith("."):
                by_format.setdefault(Path(name).suffix.lower(), []).append(Path(folder, name))
        if count > 2000:
            break
    if not by_format:
        return False
    format, files = max(by_format.items(), key=lambda item: len(item[1]))
    if format == PLAIN:
        return all(_is_prose(file) for file in files[:_FILES])
    return format in FORMATS and all(_file_holds(file) for file in files[:_FILES])


def _file_holds(path: Path) -> bool:
    format = path.suffix.lower()
    try:
        if format in (".parquet", ".pq"):
            return _parquet_holds(path)
        with path.open("rb") as file:
            start = _decoded(file.read(_LOOK))
    except (OSError, ValueError):
        return False
    if format in LINES:
        return re.match(r"\s*\{", start) is not None and any(
            re.search(rf'"{name}"\s*:\s*"', start.partition("\n")[0]) for name in TEXT
        )
    if format in TREES:
        return _TREE.match(start.lstrip("\ufeff \t\r\n")) is not None
    return format in TABLES and _table_holds(start)


def _is_prose(path: Path) -> bool:
    """Whether most lines of a text file have words, and more letters than digits."""
    try:
        with path.open("rb") as file:
            start = _decoded(file.read(4096))
    except OSError:
        return False
    return not start.strip() or _is_words(start.splitlines()[:20])


def _table_holds(start: str) -> bool:
    lines = [line for line in start.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) < 2:
        return False
    for mark in (",", ";", "\t", "|"):
        try:
            rows = list(csv.reader(lines[: 51 if len(lines) > 51 else None], delimiter=mark))
        except csv.Error:
            continue
        names = [plain_name(name) for name in rows[0]]
        if any(name in TEXT for name in names):
            cells = [
                [row[place] for row in rows[1:] if len(row) > place] for place in range(len(names))
            ]
            return columns_hold(names, cells)
    return False


def _parquet_holds(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            if not any(plain_name(name) in TEXT for name in names) or len(names) > 256:
                return False
            batch = next(file.iter_batches(50), None)
    except (pa.ArrowException, OSError):
        return False
    if batch is None:
        return False
    cells = [[str(cell) for cell in column.to_pylist()] for column in batch.columns]
    return columns_hold([plain_name(name) for name in names], cells)


def columns_hold(names: Sequence[str], cells: Sequence[Sequence[str]]) -> bool:
    """Whether columns with these plain names are of sentences, and none of a signal.

    >>> columns_hold(["query", "intent"], [["turn it on"], ["light"]])
    True
    >>> columns_hold(["time", "acc_x", "command"], [["0.1"], ["9.81"], ["stop"]])
    False
    """
    texts = [place for place, name in enumerate(names) if name in TEXT]
    if not any(_is_words(cells[place]) for place in texts):
        return False
    aside = {*INTENT, *COUNTER, *_ASIDE}
    for place, name in enumerate(names):
        known = name in aside or TIME.fullmatch(name) or name.startswith(GROUP)
        if place not in texts and not known and _is_numbers(cells[place]):
            return False
    return True


def plain_name(name: str) -> str:
    """The name of a column without unit, in lower case."""
    bare = name.strip().lstrip("\ufeff").strip('"')
    return split_unit(bare)[0].lower().replace(" ", "_") if bare else ""


def _is_words(cells: Sequence[str]) -> bool:
    """Whether most cells hold more letters than digits."""
    some = [cell for cell in cells if cell.strip()]
    wordy = sum(sum(map(str.isalpha, cell)) > 2 * sum(map(str.isdigit, cell)) for cell in some)
    return bool(some) and wordy > 0.5 * len(some)


def _is_numbers(cells: Sequence[str]) -> bool:
    some = [cell.strip() for cell in cells if cell.strip()]
    return bool(some) and sum(bool(re.match(NUMBER, cell)) for cell in some) > 0.5 * len(some)


def _decoded(start: bytes) -> str:
    utf16 = start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return start.decode("utf-16" if utf16 else "utf-8", "ignore")
