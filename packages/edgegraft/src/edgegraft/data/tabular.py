"""Tables: CSV and Parquet, one file or a folder, long or wide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegraft.data.account import Quarantine
from edgegraft.data.conventions import (
    TABLES,
    FileFacts,
    SpanRow,
    facts_of,
    read_metadata,
    serial,
    spans_near,
    table_files,
)
from edgegraft.data.source import DataOptions
from edgegraft.data.text_tells import holds_text
from edgegraft.data.track import Notes, Span, Track
from edgegraft_edge.errors import DataError, Problem
from edgegraft_edge.signal import UNLABELLED, Array

if TYPE_CHECKING:
    from edgegraft.data.clock import Clock
    from edgegraft.data.dataset import Dataset
    from edgegraft.data.sift import Sifted

_SINGLE = (*TABLES, ".txt", ".dat")


class TableSource:
    """Tables with one row per point in time (wide) or per reading (long).

    What the columns are is told by their names or by options; labels and groups come from
    columns, ``metadata.csv|jsonl``, spans, folder names or file names, in this order.
    """

    def accepts(self, uri: str) -> bool:
        path = Path(uri)
        if path.is_dir():
            found = any(item.suffix.lower() in TABLES for item in path.rglob("*"))
            return found and not holds_text(uri)
        return path.is_file() and path.suffix.lower() in _SINGLE and not holds_text(uri)

    def open(self, uri: str, options: DataOptions) -> Dataset:
        from edgegraft.data.clean import clean

        path = Path(uri.removeprefix("table:"))
        root = path if path.is_dir() else path.parent
        files = table_files(path) if path.is_dir() else [path]
        tracks, rows_in, notes = read_files(files, root, path.is_dir(), options)
        return clean(tracks, rows_in, notes, options, uri)


def read_files(
    files: Sequence[Path], root: Path, is_folder: bool, options: DataOptions
) -> tuple[list[Track], int, Notes]:
    """Tracks of several files, the number of rows in them, and what was noted.

    A file of a folder that cannot be read counts as one quarantined row; if none can be read,
    the errors of all are raised.
    """
    notes, tracks, rows_in = Notes(), [], 0
    metadata = read_metadata(root) if is_folder else {}
    facts = [facts_of(file, root, metadata) for file in files]
    names = _stem_labels(facts, is_folder, options)
    problems: list[Problem] = []
    for file, fact, stem_label in zip(files, facts, names, strict=True):
        place = file.relative_to(root).as_posix()
        try:
            found, rows, quarantined = _read_one(
                file, place, fact, stem_label, root, options, notes
            )
        except OSError as error:
            problems.append(
                Problem("file-unreadable", place, str(error)[:120], "check that it may be read")
            )
            notes.quarantined.append(Quarantine("file-unreadable", 1, place))
            rows_in += 1
            continue
        except DataError as error:
            problems += error.problems
            notes.quarantined.append(Quarantine(error.code, 1, place))
            rows_in += 1
            continue
        tracks += found
        rows_in += rows
        notes.quarantined += quarantined
    if not tracks and problems:
        raise DataError(problems)
    _note_metadata(metadata, files, root, notes)
    return tracks, rows_in, notes


def _stem_labels(facts: Sequence[FileFacts], is_folder: bool, options: DataOptions) -> list[str]:
    """The label that each file's name gives, "" where names do not say labels."""
    if options.label == "filename":
        return [fact.stem for fact in facts]
    if options.label is not None:
        return [UNLABELLED] * len(facts)
    if any(fact.dotted for fact in facts):
        return [fact.stem if fact.dotted else UNLABELLED for fact in facts]
    if not is_folder or serial(fact.stem for fact in facts):
        return [UNLABELLED] * len(facts)
    return [fact.stem for fact in facts]


def _note_metadata(
    metadata: Mapping[str, Any], files: Sequence[Path], root: Path, notes: Notes
) -> None:
    if not metadata:
        return
    known = set()
    for file in files:
        relative = file.relative_to(root)
        known |= {relative.as_posix(), relative.with_suffix("").as_posix(), file.name, file.stem}
    absent = sorted(set(metadata) - known)
    if absent:
        notes.did("metadata-without-file", "", files=len(absent), first=absent[0])


def _read_one(
    file: Path,
    place: str,
    fact: FileFacts,
    stem_label: str,
    root: Path,
    options: DataOptions,
    notes: Notes,
) -> tuple[list[Track], int, list[Quarantine]]:
    from edgegraft.data.delimited import read_delimited
    from edgegraft.data.parquet import read_parquet
    from edgegraft.data.roles import find_roles
    from edgegraft.data.sift import sift

    if file.suffix.lower() in (".parquet", ".pq"):
        table = read_parquet(file)
    else:
        table = read_delimited(file, options.delimiter, options.encoding)
    roles = find_roles(table, options, list(fact.fields))
    spans = spans_near(file, root, options.spans)
    rows, quarantined, steps = sift(table, roles, options, place)
    tracks = _tracks(rows, place, fact, stem_label, spans, options)
    notes.steps += table.steps
    for name, values in steps:
        notes.did(name, place, **values)
        notes.duplicates += values["rows"] if name == "drop-duplicates" else 0
    return tracks, table.rows_in, [*table.quarantined, *quarantined]


def _tracks(
    rows: Sifted,
    place: str,
    fact: FileFacts,
    stem_label: str,
    spans: Sequence[SpanRow],
    options: DataOptions,
) -> list[Track]:
    """One track per group and recording of a table."""
    by_row = rows.label is not None
    label = _file_label(fact, stem_label, options)
    group = _file_group(fact, by_row, options)
    codes, classes = rows.label or (np.zeros(len(rows.rows), dtype=np.int64), [label])
    if all(_is_whole(name) for name in classes if name):
        classes = [UNLABELLED if name == "-1" else name for name in classes]
    whole = Track(
        place,
        rows.values,
        rows.channels,
        rows.rows,
        codes,
        tuple(classes),
        rows.ns,
        rows.clock is not None and rows.clock.since_1970,
        group,
        options.rate_hz if rows.clock is None else None,
        lines=rows.lines,
    )
    parts = []
    for name, of_group, index in _parts(rows):
        part = whole if index is None else whole.take(index)
        part = replace(part, name=f"{place}{name}", group=of_group or group)
        parts.append(replace(part, spans=_span_times(spans, part, rows.clock)))
    return parts


def _parts(rows: Sifted) -> list[tuple[str, str, Array | None]]:
    """Suffix of the name, group, and rows of each track; all rows if nothing divides them."""
    if rows.group is None and rows.recording is None:
        return [("", "", None)]
    n_rows = len(rows.rows)
    blank: tuple[Array, list[str]] = (np.zeros(n_rows, dtype=np.int64), [""])
    group, recording = rows.group or blank, rows.recording or blank
    key = group[0] * len(recording[1]) + recording[0]
    order = np.argsort(key, kind="stable")
    cuts = np.flatnonzero(np.diff(key[order])) + 1
    parts: list[tuple[str, str, Array | None]] = []
    for index in np.split(order, cuts) if n_rows else []:
        of_group = group[1][group[0][index[0]]]
        of_recording = recording[1][recording[0][index[0]]]
        suffix = "".join(f"#{name}" for name in (of_group, of_recording) if name)
        parts.append((suffix, of_group, index))
    return parts


def _file_label(fact: FileFacts, stem_label: str, options: DataOptions) -> str:
    for name in (options.label or "label", "label"):
        if fact.fields.get(name):
            return fact.fields[name]
    folders = fact.folders
    if options.label is None and options.group == "folder":
        folders = folders[1:]  # the outer one is the group, as asked for
    if options.label in (None, "folder") and folders:
        return folders[-1]
    return stem_label


def _file_group(fact: FileFacts, labelled_rows: bool, options: DataOptions) -> str:
    from edgegraft.data.roles import GROUP

    if options.group is not None and options.group != "folder":
        return fact.fields.get(options.group, "")
    named = next((fact.fields[name] for name in GROUP if fact.fields.get(name)), "")
    if named and options.group is None:
        return named
    labelled_otherwise = labelled_rows or bool(fact.fields.get("label"))
    if len(fact.folders) > 1 or (
        fact.folders and (labelled_otherwise or options.group == "folder")
    ):
        return fact.folders[0]
    return ""


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdigit()


def _span_times(spans: Sequence[SpanRow], track: Track, clock: Clock | None) -> tuple[Span, ...]:
    """Spans in the time of a track: dates, numbers since 1970, or numbers since its start."""
    if not spans:
        return ()
    import pyarrow as pa

    from edgegraft.data.clock import EARLIEST_S, FACTORS, read_clock

    texts = [span.start for span in spans] + [span.end for span in spans]
    try:
        values = np.array([float(text) for text in texts])
    except ValueError:
        ns = read_clock(pa.chunked_array([texts]), "start").ns
    else:
        unit = spans[0].unit or "s"
        if track.since_1970 and np.abs(values).max() >= EARLIEST_S:
            ns = read_clock(pa.chunked_array([texts]), "start").ns
        else:
            if not spans[0].unit and clock is not None and not clock.since_1970:
                unit = clock.unit  # numbers like those of the time column
            begin = int(track.times.min()) if track.since_1970 and len(track) else 0
            ns = begin + np.round(values * FACTORS[unit]).astype(np.int64)
    half = len(spans)
    return tuple(
        (int(ns[number]), int(ns[number + half]), span.label) for number, span in enumerate(spans)
    )
