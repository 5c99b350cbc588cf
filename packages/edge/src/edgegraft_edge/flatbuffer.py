"""FlatBuffers tables, read with every offset checked: what a ``.tflite`` file is made of.

A table is a place in the file with a list of offsets to its fields; a field that is absent has
its default. Nothing is taken on trust: a place outside the file, a vector longer than the file,
or text that is no text is an error with a code, and nothing is copied before it was checked.

Source: the FlatBuffers binary format, https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgegraft_edge.errors import ModelError
from edgegraft_edge.signal import Array

MAX_ITEMS = 100_000  # of a vector of tables or offsets


@dataclass(frozen=True)
class Table:
    """A table in a file: `data` of the whole file, and the table's place in it.

    Fields are named by their number in the schema; each reader gives the default for a field
    that is absent. Errors: `ModelError` "tflite-damaged".
    """

    data: bytes
    place: int

    @classmethod
    def root(cls, data: bytes) -> Table:
        """The table that a file starts from."""
        return cls(data, _scalar(data, 0, "<I"))

    def number(self, field: int, form: str, default: float = 0) -> int | float:
        """A scalar by its `struct` form, e.g. "<i"."""
        place = self._field(field)
        return _scalar(self.data, place, form) if place else default

    def integer(self, field: int, form: str = "<i", default: int = 0) -> int:
        return int(self.number(field, form, default))

    def table(self, field: int) -> Table | None:
        place = self._field(field)
        return Table(self.data, self._follow(place)) if place else None

    def text(self, field: int) -> str:
        return self.array(field, np.dtype(np.uint8)).tobytes().decode("utf-8", "replace")

    def array(self, field: int, dtype: np.dtype[Any]) -> Array:
        """A vector of scalars, as a read-only view of the file."""
        place = self._field(field)
        if not place:
            return np.zeros(0, dtype)
        start, count = self._vector(place, dtype.itemsize)
        return np.frombuffer(self.data, dtype.newbyteorder("<"), count, start)

    def tables(self, field: int) -> Iterator[Table]:
        place = self._field(field)
        if not place:
            return
        start, count = self._vector(place, 4)
        if count > MAX_ITEMS:
            raise damaged(f"a list of {count} tables")
        for index in range(count):
            yield Table(self.data, self._follow(start + 4 * index))

    def _field(self, field: int) -> int:
        """Where the field is; 0 if it is absent."""
        offsets = self.place - _scalar(self.data, self.place, "<i")
        size = _scalar(self.data, offsets, "<H")
        if 4 + 2 * field + 2 > size:
            return 0
        away = _scalar(self.data, offsets + 4 + 2 * field, "<H")
        return self.place + away if away else 0

    def _follow(self, place: int) -> int:
        return place + _scalar(self.data, place, "<I")

    def _vector(self, place: int, size: int) -> tuple[int, int]:
        """Where the items of a vector start, and how many there are."""
        start = self._follow(place)
        count = _scalar(self.data, start, "<I")
        if start + 4 + count * size > len(self.data):
            raise damaged(f"a list of {count} items at byte {start}")
        return start + 4, count


def _scalar(data: bytes, place: int, form: str) -> int:
    if not 0 <= place <= len(data) - struct.calcsize(form):
        raise damaged(f"a place at byte {place} of {len(data)}")
    value: int = struct.unpack_from(form, data, place)[0]
    return value


def damaged(found: str) -> ModelError:
    """The error for bytes that are no file of that format."""
    return ModelError.of(
        "tflite-damaged",
        f"a .tflite file with {found}",
        "its bytes contradict each other or end too early",
        "fetch or convert the file again",
    )
