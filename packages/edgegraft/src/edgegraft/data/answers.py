"""Labels that a person filled in: a table with a row for each window that was asked about.

The table is what `edgegraft label` writes, as CSV or JSON. Its rows name a window three times over,
by number, by recording and by where it starts, so that a table can never label windows of other
data, or of the same data cut in another way.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from edgegraft.data.delimited import read_text
from edgegraft_edge.errors import DataError, EdgegraftError, Problem
from edgegraft_edge.signal import UNLABELLED, Array, Windows

UNSURE = "?"
"""Written for a label where a person cannot tell: stays unlabelled, and is not asked again."""
MOST_SAID = 12
_NEAR_S = 0.002


@dataclass(frozen=True)
class Answer:
    """One row of a filled-in table.

    Attributes:
        window: number of the window in the data.
        recording: its name, "" where the table does not say; `start_s` likewise None.
        label: what was filled in; "" for nothing, `UNSURE` for "cannot tell".
        place: file and row, for messages.
    """

    window: int
    label: str
    recording: str = ""
    start_s: float | None = None
    place: str = ""


def places(windows: Windows) -> tuple[list[str], Array]:
    """Name of the recording of each window, and where it starts in it, seconds float64.

    >>> windows = Windows.of(np.zeros((2, 1, 8)), rate_hz=4.0)
    >>> names, start_s = places(windows)
    >>> names, start_s.tolist()
    (['0', '1'], [0.0, 0.0])
    """
    known = windows.names
    names = [
        known[number] if number < len(known) else str(number)
        for number in windows.recording.tolist()
    ]
    return names, windows.start / float(getattr(windows.spec, "rate_hz", 1.0))


def read_answers(files: Iterable[str | PathLike[str]]) -> tuple[Answer, ...]:
    """The rows of filled-in tables, CSV or JSON, those without a label too.

    Errors: `DataError` with all that is wrong: "answers-form" for a file that is no such table,
    lacks the column `window` or `label`, or has a row without a number; "labels-missing" for one
    in which nothing was filled in; and what reading a text file raises.
    """
    found: list[Answer] = []
    problems: list[Problem] = []
    for file in map(Path, files):
        try:
            own = [_answer(row, f"{file.name} row {n}") for n, row in enumerate(_rows(file), 1)]
        except EdgegraftError as error:
            problems += error.problems
            continue
        wrong = [each for each in own if isinstance(each, Problem)]
        problems += wrong[:MOST_SAID]
        answers = [each for each in own if isinstance(each, Answer)]
        if not wrong and not any(each.label for each in answers):
            problems.append(
                Problem(
                    "labels-missing",
                    f"{file.name}: none of {len(own)} rows has a label",
                    "nothing was filled in",
                    f"a class in the column label, or {UNSURE} where one cannot tell",
                )
            )
        found += answers
    if problems:
        raise DataError(problems)
    return tuple(found)


def answered(windows: Windows, answers: Sequence[Answer]) -> Windows:
    """The windows with the labels that were filled in; a row without label changes nothing.

    Errors: `DataError` with all rows at once: "answer-unknown" for a row whose window is not in
    the data or is another there; "answer-conflict" for a window that has another label already,
    in the data or in another row.

    >>> windows = Windows.of(np.zeros((3, 1, 8)), y=["", "", "idle"])
    >>> answered(windows, [Answer(0, "walk"), Answer(1, "?")]).y.tolist()
    ['walk', '', 'idle']
    """
    names, start_s = places(windows)
    labels = windows.y.astype(object)
    problems: list[Problem] = []
    for answer in answers:
        problem = _misplaced(answer, names, start_s)
        if problem is not None:
            problems.append(problem)
        elif answer.label not in (UNLABELLED, UNSURE):
            known = str(labels[answer.window])
            if known not in (UNLABELLED, answer.label):
                problems.append(
                    Problem(
                        "answer-conflict",
                        f"{answer.place or 'an answer'}: window {answer.window} is "
                        f"{answer.label!r}, and {known!r} already",
                        "a label is never written over",
                        "correct one of the two",
                    )
                )
            labels[answer.window] = answer.label
    if problems:
        more = len(problems) - MOST_SAID
        if more > 0:
            last = problems[MOST_SAID - 1]
            problems[MOST_SAID - 1 :] = [
                replace(last, found=f"{last.found}; and {more} rows more like these")
            ]
        raise DataError(problems)
    return replace(windows, y=labels.astype(str))


def unsure(answers: Sequence[Answer]) -> Array:
    """Numbers of the windows of which a person cannot tell the class, int64."""
    return np.array(sorted({a.window for a in answers if a.label == UNSURE}), dtype=np.int64)


def table_to_fill(rows: Sequence[Mapping[str, Any]], *, as_json: bool = False) -> bytes:
    """Rows as the text of a table with an empty column `label` at the end."""
    filled = [{**row, "label": ""} for row in rows]
    if as_json:
        return (json.dumps({"windows": filled}, ensure_ascii=False, indent=1) + "\n").encode()
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(filled[0]) if filled else ["window", "label"])
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in filled)
    return text.getvalue().encode()


def _rows(file: Path) -> list[Mapping[str, Any]]:
    """Rows of a table by column, as they stand in the file."""
    if not file.is_file():
        raise DataError.of("file-missing", str(file), "there is no such file", "check the path")
    text = read_text(file)
    if file.suffix.lower() == ".json":
        try:
            rows = json.loads(text)["windows"]
            if not all(isinstance(row, dict) for row in rows):
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _no_table(file, "it is not the JSON that edgegraft label writes") from error
    else:
        head = text.partition("\n")[0]
        mark = max(",;\t", key=head.count)  # spreadsheets write what their language asks for
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=mark))
    columns = {str(name).strip().lower() for row in rows[:1] for name in row}
    lacking = [name for name in ("window", "label") if name not in columns]
    if not rows or lacking:
        found = f"no column {' and no column '.join(lacking)}" if rows else "no row"
        raise _no_table(file, found)
    return [{str(key).strip().lower(): value for key, value in row.items()} for row in rows]


def _no_table(file: Path, why: str) -> DataError:
    return DataError.of(
        "answers-form",
        f"{file.name}: {why}",
        "labels are read from the table that edgegraft label wrote, filled in",
        "edgegraft label DATA --next 20 --out next.csv, then fill in its last column",
    )


def _answer(row: Mapping[str, Any], place: str) -> Answer | Problem:
    label, recording = (str(row.get(name) or "").strip() for name in ("label", "recording"))
    try:
        number = float(str(row["window"]).replace(",", "."))
        start = str(row.get("start_s") or "").strip().replace(",", ".")
        if number != int(number):
            raise ValueError
        return Answer(int(number), label, recording, float(start) if start else None, place)
    except (ValueError, OverflowError):
        return Problem(
            "answers-form",
            f"{place}: window {row['window']!r}, start_s {row.get('start_s')!r}",
            "each row names its window by number",
            "leave the columns before label as they were written",
        )


def _misplaced(answer: Answer, names: Sequence[str], start_s: Array) -> Problem | None:
    """Why a row is not of these windows, if it is not."""
    place = answer.place or "an answer"
    if not 0 <= answer.window < len(names):
        found = f"{place}: window {answer.window} of {len(names)}"
    elif answer.recording and answer.recording != names[answer.window]:
        found = (
            f"{place}: window {answer.window} in {answer.recording!r}, which here is in "
            f"{names[answer.window]!r}"
        )
    elif answer.start_s is not None and abs(answer.start_s - start_s[answer.window]) > _NEAR_S:
        found = (
            f"{place}: window {answer.window} at {answer.start_s:g} s, which here starts at "
            f"{start_s[answer.window]:g} s"
        )
    else:
        return None
    return Problem(
        "answer-unknown",
        found,
        "the table is of other data, or of data cut in another way",
        "open the data with the options that the table was made with",
    )
