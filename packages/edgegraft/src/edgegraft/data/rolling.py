"""A rolling origin: what comes first trains, what follows tests, and the origin moves on.

Time only goes forward: no training window knows a sample that a test window is asked for. The
context of a test window may well reach into training time, as it does on a device.

Source: Tashman, Out-of-sample tests of forecasting accuracy, International Journal of Forecasting
2000.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from edgegraft.data.split import Fold
from edgegraft_edge.errors import SplitError
from edgegraft_edge.signal import Array, Windows

FIRST = 0.5
"""Share of each recording that trains before the first origin."""


def rolling_origin(
    windows: Windows, n_folds: int, *, ahead: int, first: float = FIRST
) -> tuple[Fold, ...]:
    """Folds of forecasts: each tests a block of time, and trains on what was over before it.

    Every recording is divided at the same shares of its length, so series that run side by side
    are cut at the same times.

    Args:
        windows: with known targets up to `ahead` samples after the last one of each window.
        first: share of each recording before the first origin.

    Errors: `SplitError` "origins-few" where a fold would train or test on nothing.

    >>> windows = Windows.of(np.zeros((8, 1, 4)), y=list("abababab"))
    >>> from dataclasses import replace
    >>> series = replace(windows, recording=np.zeros(8, int), start=np.arange(8))
    >>> [(fold.train.tolist(), fold.test.tolist()) for fold in rolling_origin(series, 2, ahead=2)]
    [([0, 1, 2], [4, 5]), ([0, 1, 2, 3, 4], [6, 7])]
    """
    known = np.flatnonzero(windows.labelled)
    share = _shares(windows, known)
    borders = np.linspace(first, 1, n_folds + 1)
    found = []
    for low, high in pairwise(borders):
        test = known[(share >= low) & (share < high)]
        origin = {
            number: int(windows.start[test][windows.recording[test] == number].min())
            for number in set(windows.recording[test].tolist())
        }
        before = known[share < low]
        never = np.iinfo(np.int64).max
        of_each = [origin.get(number, never) for number in windows.recording[before].tolist()]
        starts = np.array(of_each, dtype=np.int64)
        train = before[windows.start[before] + ahead <= starts]
        if not len(train) or not len(test):
            raise SplitError.of(
                "origins-few",
                f"{len(known)} windows for {n_folds} origins, {ahead} samples ahead",
                "what trains must be over before what is tested begins",
                "a longer recording, a shorter horizon, or fewer folds",
            )
        found.append(Fold(np.sort(train), np.sort(test), "time", len(before) - len(train)))
    return tuple(found)


def _shares(windows: Windows, known: Array) -> Array:
    """How far into its recording each window lies, 0 to below 1."""
    share = np.zeros(len(known))
    for number in np.unique(windows.recording[known]):
        own = np.flatnonzero(windows.recording[known] == number)
        order = np.argsort(windows.start[known][own], kind="stable")
        share[own[order]] = np.arange(len(own)) / len(own)
    return share
