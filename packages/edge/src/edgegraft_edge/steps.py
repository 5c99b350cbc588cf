"""Preprocessing steps by name: each makes a program from the training windows it may see."""

from __future__ import annotations

import numpy as np

from edgegraft_edge.program import IDENTITY, Draft, Program
from edgegraft_edge.signal import Array

_TINY = 1e-6


def none(x: Array) -> Program:
    """Leave windows as they are."""
    return IDENTITY


def standard(x: Array) -> Program:
    """Zero mean and unit deviation per channel, by the statistics of the training windows.

    Args:
        x: training windows (n_windows, n_channels, n_timepoints).

    >>> x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    >>> bool(abs(standard(x).run(x).mean()) < 1e-6)
    True
    """
    mean = x.mean(axis=(0, 2), dtype=np.float64)[:, None]
    spread = x.std(axis=(0, 2), dtype=np.float64)[:, None]
    return _affine(mean, np.where(spread > _TINY, spread, 1.0))


def unit_range(x: Array) -> Program:
    """To 0..1 per channel, by the range of the training windows (n, n_channels, n_timepoints)."""
    low = x.min(axis=(0, 2))[:, None].astype(np.float64)
    width = x.max(axis=(0, 2))[:, None] - low
    return _affine(low, np.where(width > _TINY, width, 1.0))


def per_window(x: Array) -> Program:
    """Each window and channel to zero mean and unit deviation by itself; level and scale go."""
    draft = Draft()
    centred = draft.add("sub", "x", draft.add("mean", "x", axes=[2]))
    power = draft.add("mean", draft.add("mul", centred, centred), axes=[2])
    scale = draft.add("sqrt", draft.add("add", power, np.float32(_TINY)))
    return draft.finish(draft.add("div", centred, scale))


def _affine(shift: Array, scale: Array) -> Program:
    draft = Draft()
    return draft.finish(draft.add("div", draft.add("sub", "x", shift), scale))
