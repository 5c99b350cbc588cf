"""One thing that an audit found, and the evidence that its checks look at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from edgegraft.data.dataset import Dataset
from edgegraft_edge.signal import Array, Windows

SEVERITIES = ("trouble", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """What was found, how grave it is, and what would help.

    Attributes:
        code: stable name, e.g. "label-typo".
        severity: "trouble" (put it right first), "warning" (look at it) or "note".
        text: what was found, with its place.
        remedy: what would help.
    """

    code: str
    severity: str
    text: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.severity}: [{self.code}] {self.text}" + (
            f". Try: {self.remedy}" if self.remedy else ""
        )


@dataclass(frozen=True)
class Evidence:
    """Data as opened and as cut, and the same of test data if there is some.

    Attributes:
        uncut: why no windows could be cut, "" if they could.
    """

    dataset: Dataset
    windows: Windows
    uncut: str = ""
    test_dataset: Dataset | None = None
    test: Windows | None = None

    @cached_property
    def pieces(self) -> list[tuple[str, str, Array]]:
        """Name, group and values (n_channels, n_timepoints) of each recording, or (1, n_values)."""
        return pieces_of(self.dataset, self.windows)

    @cached_property
    def test_pieces(self) -> list[tuple[str, str, Array]]:
        if self.test_dataset is None or self.test is None:
            return []
        return pieces_of(self.test_dataset, self.test)


def pieces_of(dataset: Dataset, windows: Windows) -> list[tuple[str, str, Array]]:
    """Recordings; of ready windows, those of one recording side by side."""
    if dataset.ready is None:
        return [(item.name, item.group, item.values) for item in dataset.recordings]
    order = np.lexsort((windows.start, windows.recording))
    numbers = windows.recording[order]
    pieces = []
    for index in np.split(order, np.flatnonzero(np.diff(numbers)) + 1) if len(order) else []:
        number = int(windows.recording[index[0]])
        name = windows.names[number] if number < len(windows.names) else f"window {number}"
        alone = windows.x[index]  # pictures and sentences stand in a line
        line = alone if alone.ndim == 3 else alone.reshape(len(alone), 1, -1)
        values = np.concatenate(list(line), axis=1)
        pieces.append((name, str(windows.groups[index[0]]), values))
    return pieces
