"""What belongs together when scores are resampled: people, machines, recordings, blocks of time."""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgegraft_edge.estimate import Outputs
from edgegraft_edge.signal import Array, Windows, WindowSpec

Unit = Literal["group", "recording", "block", "window"]
FEW_UNITS = 5
"""Below this the bootstrap covers too little: with 3 units 0.80 where 0.95 was asked for."""
BLOCKS = 20
"""Blocks of time that one recording is divided into, or fewer where windows are long."""


def units_of(windows: Windows, outputs: Outputs | None = None) -> tuple[Unit, Array]:
    """The largest units that are known: groups, else recordings, else windows.

    Estimates of one recording, and all forecasts, go by contiguous blocks of time: windows that
    follow each other share samples, and forecasts are asked for later times of the same series. A
    block is no shorter than a window, or than twice what is asked ahead, as far as there are two.
    Series of one length count as recorded side by side, and share their blocks.

    >>> windows = Windows.of(np.zeros((6, 1, 8)), groups=list("aabbcc"))
    >>> units_of(windows)[0], units_of(windows, Outputs(("load",), steps=(1,)))[0]
    ('group', 'block')
    """
    ahead = outputs is not None and outputs.steps[-1] > 0
    n_recordings = len(set(windows.recording.tolist()))
    if windows.has_groups and not ahead:
        return "group", windows.groups
    if 1 < n_recordings < len(windows) and not ahead:
        return "recording", windows.recording
    if outputs is not None and len(windows) > 1:
        return "block", blocks_of(windows, outputs.steps[-1])
    return "window", np.arange(len(windows))


def blocks_of(windows: Windows, ahead: int = 0) -> Array:
    """The block of time of each window, int (n_windows,).

    >>> windows = Windows.of(np.zeros((100, 1, 4)))
    >>> from dataclasses import replace
    >>> one = replace(windows, recording=np.zeros(100, int), start=np.arange(100))
    >>> len(np.unique(blocks_of(one))), len(np.unique(blocks_of(one, ahead=16)))
    (20, 3)
    """
    numbers = np.unique(windows.recording)
    if len(numbers) == len(windows):  # one window each: in the order that they stand
        return np.asarray(np.arange(len(windows)) * min(BLOCKS, len(windows)) // len(windows))
    begins = np.zeros(int(numbers.max()) + 1, dtype=np.int64)
    spans = np.zeros(len(begins), dtype=np.int64)
    for number in numbers:
        own = windows.start[windows.recording == number]
        begins[number], spans[number] = own.min(), np.ptp(own) + 1
    width = windows.spec.n_timepoints if isinstance(windows.spec, WindowSpec) else 1
    beside = np.ptp(spans[numbers]) <= 1 and np.ptp(begins[numbers]) <= 1
    total = int(spans.max()) if beside else int(spans.sum())
    count = int(np.clip(total // (2 * ahead or width), 2, BLOCKS))
    length = -(-total // count)
    place = (windows.start - begins[windows.recording]) // length
    if beside:
        return np.asarray(place)
    return np.asarray(np.unique(windows.recording * (count + 1) + place, return_inverse=True)[1])


def warnings_of(unit: Unit, units: Array) -> list[str]:
    """What is to be said where there are few units.

    >>> warnings_of("group", np.array(["a", "a"]))
    ['Only 1 group: intervals from so few are too narrow.']
    """
    n_units = len(set(units.tolist()))
    if n_units >= FEW_UNITS:
        return []
    name = "block of time" if unit == "block" else unit
    plural = name.replace("block", "blocks") if unit == "block" else f"{name}s"
    return [
        f"Only {n_units} {name if n_units == 1 else plural}: intervals from so few are too narrow."
    ]
