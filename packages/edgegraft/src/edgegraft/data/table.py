"""A table as it stands in one file, before anything is made of it; and cells turned to numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edgegraft.data.account import CleaningStep, Quarantine
from edgegraft_edge.signal import Array

MAX_COLUMNS = 4096
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_DECIMAL_COMMA = r"^[+-]?\d*,\d+([eE][+-]?\d+)?$"
_MISSING = ["", "na", "n/a", "nan", "null", "none", "-", "?"]
_INFINITE = r"^[+-]?inf(inity)?$"


@dataclass(frozen=True)
class Table:
    """Columns of one file.

    Attributes:
        place: name of the file, for messages.
        columns: text or numbers, by name, all of one length.
        rows: int64 (n_rows,), where each row stood among the rows of the file, from 0.
        rows_in: how many rows the file had.
        quarantined: rows that could not even be read as rows.
        steps: what was done while reading.
    """

    place: str
    columns: Mapping[str, Any]
    rows: Array
    rows_in: int
    quarantined: tuple[Quarantine, ...] = ()
    steps: tuple[CleaningStep, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Numbers:
    """A column as numbers.

    Attributes:
        values: float64 (n_rows,), NaN where `faults` says why.
        faults: bool (n_rows,) by code; no row is under two codes.
        share: share of the cells that are numbers or missing.
        decimal_comma: whether the cells had commas for points.
    """

    values: Array
    faults: Mapping[str, Array]
    share: float
    decimal_comma: bool = False


def numbers(column: Any) -> Numbers:
    """Cells as numbers; what is not one is told apart: missing, infinite, too large, or text.

    >>> found = numbers(pa.chunked_array([["1.5", "", "x", "1e400"]]))
    >>> {code: rows.tolist().index(True) for code, rows in found.faults.items()}
    {'value-missing': 1, 'cell-text': 2, 'value-infinite': 3}
    """
    if len(column) == 0:
        return Numbers(np.zeros(0), {}, 0.0)
    if not is_text(column):
        return _from_numbers(column)
    try:
        return _from_numbers(pc.cast(column, pa.float64()), column)
    except pa.ArrowInvalid:
        pass
    cells = pc.utf8_trim_whitespace(column)
    comma = False
    numeric = _matches(cells, NUMBER)
    if not numeric.any() or _share(_matches(cells, _DECIMAL_COMMA)) > 0.1:
        with_comma = _matches(cells, _DECIMAL_COMMA)
        if with_comma.any():
            comma, cells = True, pc.replace_substring(cells, ",", ".", max_replacements=1)
            numeric = _matches(cells, NUMBER)
    lower = pc.utf8_lower(cells)
    missing = mask(pc.is_in(lower, pa.array(_MISSING)))
    infinite = _matches(lower, _INFINITE)
    parsed = pc.cast(pc.if_else(pa.array(numeric), _one(cells), None), pa.float64())
    found = _from_numbers(parsed, cells)
    known = numeric | missing | infinite
    faults = {
        "value-missing": missing,
        "cell-text": ~known,
        "value-infinite": infinite | (numeric & ~np.isfinite(_filled(parsed, 0.0))),
        "integer-large": found.faults.get("integer-large", np.zeros(len(cells), dtype=bool)),
    }
    return Numbers(
        found.values,
        {code: rows for code, rows in faults.items() if rows.any()},
        _share(known),
        comma,
    )


def is_text(column: Any) -> bool:
    """Whether a column holds text."""
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def texts(column: Any) -> tuple[Array, list[str]]:
    """A column as codes: int64 (n_rows,), and the trimmed texts they stand for; missing is ""."""
    if not is_text(column):
        column = pc.cast(_plain_floats(column), pa.string())
    encoded = _one(pc.fill_null(column, "")).dictionary_encode()
    names = [str(name).strip() for name in encoded.dictionary.to_pylist()]
    unique = sorted(set(names))
    place = np.array([unique.index(name) for name in names], dtype=np.int64)
    codes = np.asarray(encoded.indices.to_numpy(zero_copy_only=False))
    return place[codes] if len(names) else np.zeros(0, dtype=np.int64), unique


def _plain_floats(column: Any) -> Any:
    """Whole floats as integers, so that a label 1.0 reads "1"."""
    if pa.types.is_floating(column.type):
        try:
            return pc.cast(column, pa.int64())
        except pa.ArrowInvalid:
            return column
    return column


def _from_numbers(column: Any, cells: Any = None) -> Numbers:
    missing_cells = mask(pc.is_null(column))
    values = _filled(column, np.nan)
    faults = {
        "value-missing": missing_cells | np.isnan(values),
        "value-infinite": np.isinf(values),
    }
    if cells is None:
        share = 1.0
    else:
        share = _share(~missing_cells)
        large = np.abs(values) >= 2.0**63
        if large.any():
            faults["integer-large"] = large & _matches(
                pc.utf8_trim_whitespace(cells), r"^[+-]?\d+$"
            )
            faults["integer-large"] &= ~faults["value-infinite"]
    # What float32 cannot hold would turn to infinity later, unseen.
    faults["value-infinite"] |= np.abs(values) > np.finfo(np.float32).max
    if "integer-large" in faults:
        faults["value-infinite"] &= ~faults["integer-large"]
    bad = np.logical_or.reduce(list(faults.values()))
    return Numbers(
        np.where(bad, np.nan, values),
        {code: rows for code, rows in faults.items() if rows.any()},
        share,
    )


def _filled(column: Any, value: float) -> Array:
    cast = pc.cast(column, pa.float64(), safe=False)
    return np.asarray(
        _one(pc.fill_null(cast, value)).to_numpy(zero_copy_only=False), dtype=np.float64
    )


def mask(values: Any) -> Array:
    """An Arrow column of truth values as bool (n_rows,); null is false."""
    return np.asarray(_one(pc.fill_null(values, False)).to_numpy(zero_copy_only=False), dtype=bool)


def _matches(cells: Any, pattern: str) -> Array:
    return mask(pc.match_substring_regex(cells, pattern))


def _one(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _share(mask: Array) -> float:
    return float(mask.mean()) if len(mask) else 0.0


def split_unit(name: str) -> tuple[str, str]:
    """Name and unit of a column head.

    >>> split_unit("acc_x [m/s2]"), split_unit("temp (degC)"), split_unit("level")
    (('acc_x', 'm/s2'), ('temp', 'degC'), ('level', ''))
    """
    found = re.fullmatch(r"\s*(.+?)\s*[\[(]\s*([^\])]*?)\s*[\])]\s*", name)
    return (found[1], found[2]) if found else (name.strip(), "")
