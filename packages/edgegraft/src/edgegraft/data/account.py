"""What became of every row: accepted, quarantined for a reason, or a duplicate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgegraft_edge.errors import DataError


@dataclass(frozen=True)
class Quarantine:
    """Rows that were set aside for one reason, with the place of the first of them."""

    code: str
    rows: int
    example: str = ""


@dataclass(frozen=True)
class RowAccount:
    """Rows in = accepted + quarantined + duplicates, always.

    A row is a line of a table, a reading of a recording, or a ready window.

    Errors: `DataError` ("account-unbalanced") if rows went missing, which would be a defect of
    the source.

    >>> RowAccount(10, 7, (Quarantine("cell-text", 2, "a.csv line 4"),), 1).as_dict()["quarantined"]
    {'cell-text': 2}
    """

    rows_in: int = 0
    accepted: int = 0
    quarantined: tuple[Quarantine, ...] = ()
    duplicates: int = 0

    def __post_init__(self) -> None:
        out = self.accepted + sum(item.rows for item in self.quarantined) + self.duplicates
        if out != self.rows_in:
            raise DataError.of(
                "account-unbalanced",
                f"{self.rows_in} rows in, {out} accounted for",
                "no row may vanish or appear",
                "report this as a defect of the source, with the data that shows it",
            )

    def __add__(self, other: RowAccount) -> RowAccount:
        merged: dict[str, Quarantine] = {}
        for item in self.quarantined + other.quarantined:
            seen = merged.get(item.code, Quarantine(item.code, 0, item.example))
            merged[item.code] = Quarantine(item.code, seen.rows + item.rows, seen.example)
        return RowAccount(
            self.rows_in + other.rows_in,
            self.accepted + other.accepted,
            tuple(merged.values()),
            self.duplicates + other.duplicates,
        )

    @property
    def n_quarantined(self) -> int:
        return sum(item.rows for item in self.quarantined)

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows_in": self.rows_in,
            "accepted": self.accepted,
            "quarantined": {item.code: item.rows for item in self.quarantined},
            "duplicates": self.duplicates,
        }

    @property
    def note(self) -> str:
        """What was set aside, in a sentence; "" if nothing was."""
        reasons = ", ".join(f"{item.code} {item.rows:,}" for item in self.quarantined)
        return (
            f"{self.n_quarantined:,} of {self.rows_in:,} rows were set aside ({reasons}); "
            "edgegraft doctor says where"
            if reasons
            else ""
        )

    def __str__(self) -> str:
        reasons = ", ".join(
            f"{item.rows} {item.code} ({item.example})"
            if item.example
            else f"{item.rows} {item.code}"
            for item in self.quarantined
        )
        return (
            f"{self.rows_in} rows in: {self.accepted} accepted, "
            f"{self.n_quarantined} quarantined{f' [{reasons}]' if reasons else ''}, "
            f"{self.duplicates} duplicates"
        )


@dataclass(frozen=True)
class CleaningStep:
    """One thing that was done to the data, in plain values.

    Attributes:
        name: e.g. "sort", "gap-split", "resample", "convert", "label-from".
        recording: which recording or file, "" for all.
        values: what it found and did, e.g. ``{"rows": 3}``.
    """

    name: str
    recording: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "recording": self.recording, **self.values}

    def __str__(self) -> str:
        values = ", ".join(f"{key} {value}" for key, value in self.values.items())
        return f"{self.name}{f' {self.recording}' if self.recording else ''}: {values}"
