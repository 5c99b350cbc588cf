"""Sentences with their labels: tables, lines or trees of JSON, and folders of text files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgegraft.data.account import CleaningStep, Quarantine, RowAccount
from edgegraft.data.conventions import facts_of, serial, table_files
from edgegraft.data.dataset import Dataset
from edgegraft.data.source import DataOptions
from edgegraft.data.text_rows import Sentence, TextRows, read_rows
from edgegraft.data.text_tells import FORMATS, PLAIN, TREES, holds_text
from edgegraft_edge.errors import DataError, Problem
from edgegraft_edge.signal import UNLABELLED, TextSpec, Windows


class TextSource:
    """Sentences as windows, each by itself: a file, or a folder with all below it.

    * CSV, TSV, Parquet and JSON lines with a column of text; label and group are columns too.
    * JSON: a list of objects, or lists of ``[text, label]`` by part, of which
      ``data.json/train`` opens one.
    * A folder of ``.txt``: in folders named as the labels each file is one sentence, otherwise
      each line is one and the file's name the label.

    What cannot be used is set aside by row: "text-missing", "text-empty", "nul-byte",
    "text-surrogate", "json-damaged". Of rows with the same text, label and group the first is
    kept. A sentence longer than `n_bytes` is cut at a character, and the log says so.

    Errors: `DataError` "text-column", "column-missing", "text-encoding" with the offset,
    "sentences-none", "file-missing", and what reading a table raises.
    """

    def accepts(self, uri: str) -> bool:
        return holds_text(uri)

    def open(self, uri: str, options: DataOptions) -> Dataset:
        path, part = _place(uri.removeprefix("text:"))
        root = path if path.is_dir() else path.parent
        files = table_files(path, (*FORMATS, PLAIN)) if path.is_dir() else [path]
        if not files:
            raise _none(uri, RowAccount())
        found, problems = _read_all(files, root, path.is_dir(), part, options)
        if problems and not found.sentences:
            raise DataError(problems)
        return _dataset(found, uri, options)


def _place(text: str) -> tuple[Path, str]:
    """A file or folder, and the part of a JSON file that is meant."""
    path = Path(text)
    if path.exists():
        return path, ""
    if path.parent.is_file() and path.parent.suffix.lower() in TREES:
        return path.parent, path.name
    raise DataError.of(
        "file-missing", str(path), "there is no such file or folder", "check the path"
    )


def _read_all(
    files: Sequence[Path], root: Path, is_folder: bool, part: str, options: DataOptions
) -> tuple[TextRows, list[Problem]]:
    """Sentences of all files; a file of a folder that cannot be read is one row set aside."""
    whole = TextRows()
    problems: list[Problem] = []
    plain = [file for file in files if file.suffix.lower() == PLAIN]
    by_folder = any(len(_folders(file, root)) > 0 for file in plain)
    counted = serial([file.stem for file in plain])
    for file in files:
        place = file.relative_to(root).as_posix()
        try:
            if file.suffix.lower() == PLAIN:
                stem = UNLABELLED if counted or not is_folder else file.stem
                rows = _plain(file, place, by_folder and is_folder, stem, options)
            else:
                rows = read_rows(file, place, part, options)
        except (DataError, OSError) as error:
            if isinstance(error, DataError):
                problems += error.problems
                code = error.code
            else:
                code = "file-unreadable"
                problems.append(Problem(code, place, str(error)[:120], "check that it may be read"))
            if not is_folder:
                raise DataError(problems) from error
            rows = TextRows(rows_in=1, quarantined=[Quarantine(code, 1, place)])
        whole.join(_known_by_folder(rows, file, root, options) if is_folder else rows)
    return whole, problems


def _folders(file: Path, root: Path) -> tuple[str, ...]:
    return facts_of(file, root, {}).folders


def _plain(file: Path, place: str, whole: bool, stem: str, options: DataOptions) -> TextRows:
    """A text file: one sentence, or one a line."""
    from edgegraft.data.delimited import read_text

    text = read_text(file, options.encoding)
    if whole:
        return TextRows([Sentence(text, "", "", place)], 1)
    lines = [line for line in text.splitlines() if line.strip()]
    return TextRows(
        [Sentence(line, stem, "", f"{place} line {n}") for n, line in enumerate(lines, 1)],
        len(lines),
    )


def _known_by_folder(rows: TextRows, file: Path, root: Path, options: DataOptions) -> TextRows:
    """Labels and groups from the names of folders, where rows do not say them."""
    folders = _folders(file, root)
    label = group = UNLABELLED
    if options.group == "folder" and folders:
        group, folders = folders[0], folders[1:]
    elif options.group is None and len(folders) > 1:
        group = folders[0]
    if options.label in (None, "folder") and folders:
        label = folders[-1]
    rows.sentences = [
        replace(each, label=each.label or label, group=each.group or group)
        for each in rows.sentences
    ]
    return rows


@dataclass(frozen=True)
class _Kept:
    """A sentence that can be used."""

    text: str
    label: str
    group: str
    place: str


def _sift(rows: TextRows) -> tuple[list[_Kept], list[Quarantine], int]:
    """Sentences that can be used, once each; the others by the reason; how many came twice."""
    kept: dict[tuple[str, str, str], _Kept] = {}
    faults: dict[str, list[str]] = {}
    duplicates = 0
    for each in rows.sentences:
        fault = _fault(each.text)
        if fault:
            faults.setdefault(fault, []).append(each.place)
            continue
        text = (each.text or "").strip()
        key = (text, each.label, each.group)
        duplicates += key in kept
        kept.setdefault(key, _Kept(text, each.label, each.group, each.place))
    found = [Quarantine(code, len(places), places[0]) for code, places in faults.items()]
    return list(kept.values()), found, duplicates


def _fault(text: str | None) -> str:
    """Why a sentence cannot be used; "" if it can."""
    if text is None:
        return "text-missing"
    if "\0" in text:
        return "nul-byte"
    if any("\ud800" <= char <= "\udfff" for char in text):
        return "text-surrogate"
    return "" if text.strip() else "text-empty"


def _dataset(rows: TextRows, uri: str, options: DataOptions) -> Dataset:
    kept, quarantined, duplicates = _sift(rows)
    account = RowAccount()
    for item in (*rows.quarantined, *quarantined):  # one of each code
        account = account + RowAccount(item.rows, 0, (item,))
    account = account + RowAccount(len(kept) + duplicates, len(kept), (), duplicates)
    if not kept:
        raise _none(uri, account)
    spec = TextSpec(options.n_bytes)
    texts = [each.text for each in kept]
    sizes = [len(text.encode()) for text in texts]
    log = list(rows.steps)
    n_cut = sum(size > spec.n_bytes for size in sizes)
    if n_cut:
        values = {"sentences": n_cut, "of": len(texts), "longest_bytes": max(sizes)}
        log.append(CleaningStep("text-cut", "", {**values, "n_bytes": spec.n_bytes}))
    if duplicates:
        log.append(CleaningStep("drop-duplicates", "", {"rows": duplicates}))
    windows = Windows(
        spec.pack(texts),
        np.array([each.label for each in kept]),
        np.array([each.group for each in kept]),
        spec,
        names=tuple(each.place for each in kept),
    )
    return Dataset(ready=windows, account=account, log=tuple(log), options=options, uri=uri)


def _none(uri: str, account: RowAccount) -> DataError:
    return DataError.of(
        "sentences-none",
        f"{uri!r}: {account}",
        "not one sentence can be used",
        "a table with a column named text, or text=COLUMN",
    )
