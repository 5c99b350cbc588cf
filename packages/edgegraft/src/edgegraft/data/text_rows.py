"""Rows of sentences out of one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgegraft.data.account import CleaningStep, Quarantine
from edgegraft.data.conventions import parse_json
from edgegraft.data.roles import FILE_LEVEL, GROUP
from edgegraft.data.source import DataOptions
from edgegraft.data.text_tells import INTENT, LINES, TEXT, TREES, plain_name
from edgegraft_edge.errors import DataError, Problem, nearest

MAX_LINE = 1 << 20


@dataclass(frozen=True)
class Sentence:
    """One row: its text (None where there is none), label and group, and where it stood."""

    text: str | None
    label: str
    group: str
    place: str


@dataclass
class TextRows:
    """What a file held: sentences, and rows that were no rows.

    `rows_in` counts both.
    """

    sentences: list[Sentence] = field(default_factory=list)
    rows_in: int = 0
    quarantined: list[Quarantine] = field(default_factory=list)
    steps: list[CleaningStep] = field(default_factory=list)

    def join(self, other: TextRows) -> None:
        self.sentences += other.sentences
        self.rows_in += other.rows_in
        self.quarantined += other.quarantined
        self.steps += other.steps


@dataclass(frozen=True)
class _Columns:
    text: str
    label: str
    group: str


def read_rows(path: Path, place: str, part: str, options: DataOptions) -> TextRows:
    """All rows of a table or of a file of JSON.

    Errors: `DataError` "text-column", "column-missing", "json-form", and what reading raises.
    """
    format = path.suffix.lower()
    if format in TREES:
        return _tree(path, place, part, options)
    if format in LINES:
        return _lines(path, place, options)
    return _table(path, place, options)


def _table(path: Path, place: str, options: DataOptions) -> TextRows:
    from edgegraft.data.delimited import read_delimited
    from edgegraft.data.parquet import read_parquet

    if path.suffix.lower() in (".parquet", ".pq"):
        table = read_parquet(path)
    else:
        table = read_delimited(path, options.delimiter, options.encoding)
    columns = _columns(list(table.columns), place, options)
    cells = {
        role: table.columns[name].to_pylist() if name else [None] * len(table)
        for role, name in (
            ("text", columns.text),
            ("label", columns.label),
            ("group", columns.group),
        )
    }
    sentences = [
        Sentence(_text(text), _word(label), _word(group), f"{place} row {row + 1}")
        for text, label, group, row in zip(
            cells["text"], cells["label"], cells["group"], table.rows.tolist(), strict=True
        )
    ]
    quarantined = [
        replace(item, example=item.example.replace(table.place, place, 1))
        for item in table.quarantined
    ]
    return TextRows(sentences, table.rows_in, quarantined, list(table.steps))


def _lines(path: Path, place: str, options: DataOptions) -> TextRows:
    from edgegraft.data.delimited import read_text

    rows = TextRows()
    objects: list[tuple[int, Mapping[str, Any]]] = []
    bad: dict[str, list[int]] = {}
    for number, line in enumerate(read_text(path, options.encoding).split("\n"), 1):
        if not line.strip():
            continue
        rows.rows_in += 1
        if len(line) > MAX_LINE:
            bad.setdefault("line-long", []).append(number)
            continue
        try:
            value = parse_json(line.encode("utf-8"), f"{place} line {number}")
        except DataError as error:
            bad.setdefault(error.code, []).append(number)
            continue
        if isinstance(value, dict):
            objects.append((number, value))
        else:
            bad.setdefault("json-form", []).append(number)
    rows.quarantined = [
        Quarantine(code, len(lines), f"{place} line {lines[0]}") for code, lines in bad.items()
    ]
    if not objects:
        return rows
    rows.sentences = _objects([(f"{place} line {n}", value) for n, value in objects], options)
    return rows


def _tree(path: Path, place: str, part: str, options: DataOptions) -> TextRows:
    from edgegraft.data.delimited import read_text

    tree = parse_json(read_text(path, options.encoding).encode("utf-8"), place)
    if isinstance(tree, dict):
        lists = {name: value for name, value in tree.items() if isinstance(value, list)}
        if part and part not in lists:
            raise DataError.of(
                "column-missing",
                f"{place} has parts {', '.join(lists)[:120]}",
                f"there is no part {part!r}",
                nearest(part, list(lists)) if lists else "the name of the file alone",
            )
        chosen = {part: lists[part]} if part else lists
    elif isinstance(tree, list) and not part:
        chosen = {"": tree}
    else:
        raise _form(place)
    rows = TextRows()
    for name, items in chosen.items():
        inner = f"{place}/{name}" if name else place
        found = _items(items, name, inner, options)
        rows.join(TextRows(found, len(items)))
    return rows


def _items(items: Sequence[Any], name: str, place: str, options: DataOptions) -> list[Sentence]:
    """Of a list of ``[text, label]``, of objects, or of texts in pieces under the label `name`."""
    places = [f"{place}/{number}" for number in range(len(items))]
    if all(isinstance(item, list) and 1 <= len(item) <= 3 for item in items):
        return [
            Sentence(_text(item[0]), _word(item[1] if len(item) > 1 else None), "", where)
            for item, where in zip(items, places, strict=True)
        ]
    if all(isinstance(item, dict) and isinstance(item.get("data"), list) for item in items):
        return [
            Sentence("".join(_piece(piece) for piece in item["data"]), name, "", where)
            for item, where in zip(items, places, strict=True)
        ]
    if all(isinstance(item, dict) for item in items):
        found = _objects(list(zip(places, items, strict=True)), options)
        return [replace(each, label=each.label or name) for each in found]
    raise _form(place)


def _piece(value: Any) -> str:
    return str(value.get("text") or "") if isinstance(value, dict) else ""


def _objects(
    objects: Sequence[tuple[str, Mapping[str, Any]]], options: DataOptions
) -> list[Sentence]:
    names = list({name: None for _, value in objects for name in value})
    columns = _columns(names, objects[0][0] if objects else "", options)
    return [
        Sentence(
            _text(value.get(columns.text)),
            _word(value.get(columns.label)),
            _word(value.get(columns.group)),
            place,
        )
        for place, value in objects
    ]


def _columns(names: list[str], place: str, options: DataOptions) -> _Columns:
    plain = {name: plain_name(name) for name in names}
    problems: list[Problem] = []
    taken: set[str] = set()

    def role(asked: str | None, usual: Sequence[str]) -> str:
        if asked in FILE_LEVEL:
            return ""
        if asked is not None:
            if asked not in names:
                problems.append(
                    Problem(
                        "column-missing",
                        f"{place} has no column {asked!r}",
                        "it was asked for by name",
                        nearest(asked, names) if names else "a name from the head line",
                    )
                )
            taken.add(asked)
            return asked
        for word in usual:
            for name in names:
                ending = plain[name] in (f"{word}_id", f"{word}_name")
                if name not in taken and (plain[name] == word or (ending and usual is GROUP)):
                    taken.add(name)
                    return name
        return ""

    text = role(options.text, TEXT)
    label = role(options.label, INTENT)
    group = role(options.group, GROUP)
    if not text and not problems:
        problems.append(
            Problem(
                "text-column",
                f"{place} has columns {', '.join(names)[:120]}",
                "none has a usual name for sentences",
                "text=COLUMN, or name the column text",
            )
        )
    if problems:
        raise DataError(problems)
    return _Columns(text, label, group)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _word(value: Any) -> str:
    """A label or group as text; whole numbers without a decimal point, "" where there is none."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _form(place: str) -> DataError:
    return DataError.of(
        "json-form",
        f"{place}: neither objects with a text nor lists of text and label",
        "its sentences cannot be told",
        '[{"text": "...", "label": "..."}], or JSON lines',
    )
