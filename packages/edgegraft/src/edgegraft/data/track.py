"""Rows of one recording as they were read, still uneven; what cleaning works on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from edgegraft.data.account import CleaningStep, Quarantine
from edgegraft_edge.signal import Array, Channel

Span = tuple[int, int, str]


@dataclass(frozen=True)
class Track:
    """Rows in the order of the file.

    Attributes:
        name: file, and what tells it apart inside of it.
        values: float32 (n_channels, n_rows), all finite.
        channels: one per row of `values`.
        rows: int64 (n_rows,), where each row stood in the file: the clock if there is none.
        labels: int64 (n_rows,) positions in `classes`.
        classes: texts; "" for unlabelled.
        ns: int64 (n_rows,) nanoseconds, or None without timestamps.
        since_1970: whether `ns` counts from 1970.
        group: person, machine or site.
        rate_hz: as the file states it, if it does.
        spans: labelled spans (start_ns, stop_ns, label) that go before `labels`.
        lines: rows of the file that make one row here (more than one in a long table).
    """

    name: str
    values: Array
    channels: tuple[Channel, ...]
    rows: Array
    labels: Array
    classes: tuple[str, ...] = ("",)
    ns: Array | None = None
    since_1970: bool = False
    group: str = ""
    rate_hz: float | None = None
    spans: tuple[Span, ...] = ()
    lines: int = 1

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def times(self) -> Array:
        """`ns`, once there are times. A track gets them at the latest when it is cleaned."""
        assert self.ns is not None
        return self.ns

    def take(self, index: Array) -> Track:
        """Some rows, by position or bool mask, in that order."""
        return replace(
            self,
            values=self.values[:, index],
            rows=self.rows[index],
            labels=self.labels[index],
            ns=None if self.ns is None else self.ns[index],
        )


@dataclass
class Notes:
    """What cleaning sets aside and does, gathered on the way."""

    quarantined: list[Quarantine] = field(default_factory=list)
    steps: list[CleaningStep] = field(default_factory=list)
    duplicates: int = 0

    def set_aside(self, track: Track, rows: Array, code: str) -> Track:
        """The track without some rows (bool mask), which are counted."""
        if not rows.any():
            return track
        first = int(track.rows[int(np.argmax(rows))]) + 1
        self.quarantined.append(
            Quarantine(code, int(rows.sum()) * track.lines, f"{track.name} row {first}")
        )
        return track.take(~rows)

    def did(self, name: str, recording: str = "", **values: object) -> None:
        self.steps.append(CleaningStep(name, recording, values))


def origin(name: str) -> str:
    """The name of what was recorded in one go, of which gaps and a clock set back made several.

    >>> origin("walk/1.csv@2"), origin("walk/1.csv~2@14"), origin("a@b.csv")
    ('walk/1.csv', 'walk/1.csv', 'a@b.csv')
    """
    return re.sub(r"(~\d+)?(@\d+)?$", "", name)


def merged(items: Iterable[Quarantine]) -> tuple[Quarantine, ...]:
    """One entry per code, with the first example."""
    found: dict[str, Quarantine] = {}
    for item in items:
        seen = found.get(item.code)
        found[item.code] = replace(seen, rows=seen.rows + item.rows) if seen else item
    return tuple(found.values())
