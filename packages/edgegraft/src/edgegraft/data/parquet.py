"""Parquet files, with their page checksums verified where they have some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from edgegraft.data.account import CleaningStep
from edgegraft.data.table import MAX_COLUMNS, Table
from edgegraft_edge.errors import DataError

MAX_BYTES = 8 * 2**30  # in memory


def read_parquet(path: Path) -> Table:
    """Read a whole Parquet file.

    A flipped bit is caught by the page checksum; a file without checksums is at least held
    against the smallest and largest values that it states.

    Errors: `DataError` "file-damaged", "file-large", "columns-many", "column-duplicate",
    "rows-none".
    """
    place = path.name
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_size(file, place)
            _check_names(file.schema_arrow.names, place)
            table = file.read()
            _check_statistics(file.metadata, table, place)
    except (pa.ArrowException, OSError, OverflowError, ValueError) as error:
        raise DataError.of(
            "file-damaged",
            f"{place}: {str(error)[:200]}",
            "it is not a whole, unchanged Parquet file",
            "copy it again from where it was written",
        ) from None
    names = table.column_names
    if not table.num_rows:
        raise DataError.of("rows-none", place, "there is not one row in it", "add rows")
    columns, ignored = {}, []
    for name in names:
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        kind = column.type
        if pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
            column = column.cast(pa.int8() if pa.types.is_boolean(kind) else pa.float64())
        elif not (
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_timestamp(kind)
            or pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
        ):
            ignored.append(name)
            continue
        columns[name] = column
    steps = [CleaningStep("column-type", place, {"ignored": name}) for name in ignored]
    return Table(place, columns, np.arange(table.num_rows), table.num_rows, (), tuple(steps))


def _check_names(names: list[str], place: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError.of(
            "column-duplicate",
            f"{place}: {', '.join(repeated[:8])}",
            "two columns of one name cannot be told apart",
            "give every column a name of its own",
        )


def _check_size(file: pq.ParquetFile, place: str) -> None:
    meta = file.metadata
    if meta.num_columns > MAX_COLUMNS:
        raise DataError.of(
            "columns-many",
            f"{place}: {meta.num_columns} columns",
            f"at most {MAX_COLUMNS} are read",
            "one row per point in time, one column per channel: it may be transposed",
        )
    size = sum(meta.row_group(number).total_byte_size for number in range(meta.num_row_groups))
    if size > MAX_BYTES:
        raise DataError.of(
            "file-large",
            f"{place} unpacks to {size / 2**30:.1f} GiB",
            f"at most {MAX_BYTES / 2**30:g} GiB are read into memory",
            "divide it",
        )


def _check_statistics(meta: pq.FileMetaData, table: pa.Table, place: str) -> None:
    for number, name in enumerate(
        meta.row_group(0).to_dict()["columns"] if meta.num_row_groups else []
    ):
        key = name["path_in_schema"]
        groups = [meta.row_group(group).column(number) for group in range(meta.num_row_groups)]
        stated = [group.statistics for group in groups]
        kind = table.schema.field(key).type if key in table.column_names else pa.null()
        plain = pa.types.is_floating(kind) or pa.types.is_integer(kind)
        if not plain or not all(item is not None and item.has_min_max for item in stated):
            continue
        values = table.column(key)
        if pa.types.is_floating(kind):  # statistics leave NaN out
            values = values.filter(pc.is_finite(values))
        found = pc.min_max(values).as_py()
        low, high = min(item.min for item in stated), max(item.max for item in stated)
        if found["min"] is not None and (found["min"] < low or found["max"] > high):
            raise DataError.of(
                "file-damaged",
                f"{place}: column {key!r} reaches from {found['min']} to {found['max']}",
                f"the file itself says from {low} to {high}: a bit was flipped",
                "copy it again from where it was written",
            )
