"""Normal windows in parts that can be left out: whole machines, whole recordings, stretches."""

from __future__ import annotations

import numpy as np

from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Array, Windows, WindowSpec

FEWEST = 4


def time_blocks(windows: Windows, n_blocks: int = 5) -> list[tuple[Array, Array]]:
    """Positions of a part, and of all windows that may stand beside it, part by part.

    Whole groups are left out where there are three or more, else whole recordings where there are
    as many as blocks and each holds several windows, else stretches of time; what overlaps a
    stretch in time belongs to neither side.

    Errors: `DataError` ``labels-few`` for fewer windows than can be divided.

    >>> windows = Windows.of(np.zeros((20, 1, 4)))
    >>> parts = time_blocks(windows, 4)
    >>> len(parts), parts[0][0].tolist(), len(parts[0][1])
    (4, [0, 1, 2, 3, 4], 15)
    """
    n = len(windows)
    if n < FEWEST:
        raise DataError.of(
            "labels-few",
            f"{n} normal windows",
            "some must be left out to find where normal ends",
            f"at least {FEWEST} normal windows, better 200: longer recordings or a smaller stride",
        )
    owners = _owners(windows, n_blocks)
    everyone = np.arange(n)
    if owners is not None:
        return [(everyone[owners == name], everyone[owners != name]) for name in np.unique(owners)]
    order = np.lexsort((windows.start, windows.recording))
    length = windows.spec.n_timepoints if isinstance(windows.spec, WindowSpec) else 0
    found = []
    for block in np.array_split(order, min(n_blocks, n // 2)):
        rest = np.setdiff1d(everyone, block)
        for recording in np.unique(windows.recording[block]):
            own = windows.start[block[windows.recording[block] == recording]]
            near = (
                (windows.recording[rest] == recording)
                & (windows.start[rest] > own.min() - length)
                & (windows.start[rest] < own.max() + length)
            )
            if (~near).sum() >= FEWEST:
                rest = rest[~near]
        found.append((block, rest))
    return found


def _owners(windows: Windows, n_blocks: int) -> Array | None:
    """A name of the part for each window, where whole groups or recordings are parts."""
    groups = windows.groups
    if len(set(groups.tolist()) - {""}) >= 3:
        return groups
    recordings = np.unique(windows.recording)
    if n_blocks <= len(recordings) <= len(windows) // 4:
        return np.asarray(np.searchsorted(recordings, windows.recording) % n_blocks)
    return None
