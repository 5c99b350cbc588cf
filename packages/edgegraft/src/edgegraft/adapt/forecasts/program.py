"""A forecast as one program: level, filters, channels known ahead, quantiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgegraft.adapt.forecasts.known_ahead import now, surprise
from edgegraft.adapt.forecasts.step_intervals import STILL
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array


@dataclass(frozen=True)
class Forecast:
    """All numbers of a forecast.

    Attributes:
        targets: places of the target channels in a window.
        filters: (n_targets, n_timepoints, n_steps).
        offsets: (n_targets, n_steps, n_levels), quantiles in units of a window's spread.
        variance: (n_targets,) of each channel, the floor of that spread.
        known: places of the channels known ahead.
        slopes: (n_targets, n_known).
    """

    targets: tuple[int, ...]
    filters: Array
    offsets: Array
    variance: Array
    known: tuple[int, ...] = ()
    slopes: Array | None = None

    def program(self) -> Program:
        """From windows (n_windows, n_channels, n_timepoints) to (n_windows, n_columns)."""
        n_targets, n_timepoints, n_steps = self.filters.shape
        draft = Draft()
        x = draft.add("gather", "x", np.array(self.targets), axis=1)
        last = draft.add("slice", x, axis=2, start=n_timepoints - 1, stop=n_timepoints)
        seen = draft.add("sub", x, last)
        ahead = self._ahead(draft, seen)
        if self.known and self.slopes is not None and np.any(self.slopes):
            ahead = draft.add("add", ahead, self._from_known(draft))
        ahead = draft.add("reshape", ahead, shape=[n_targets, n_steps])
        point = draft.add("reshape", draft.add("add", ahead, last), shape=[n_targets, n_steps, 1])
        if np.any(self.offsets):
            # of what is seen less its last value: the level of a signal may be large
            mean = draft.add("mean", seen, axes=[2])
            centred = draft.add("sub", seen, mean)
            power = draft.add("mean", draft.add("mul", centred, centred), axes=[2])
            floor = np.float32(STILL**2) * self.variance.astype(np.float32)[:, None]
            wide = draft.add("sqrt", draft.add("add", power, floor))
            wide = draft.add("reshape", wide, shape=[n_targets, 1, 1])
            apart = draft.add("mul", wide, self.offsets.astype(np.float32))
            point = draft.add("add", point, apart)
        else:
            point = draft.add("add", point, np.zeros(self.offsets.shape, np.float32))
        return draft.finish(draft.add("reshape", point, shape=[-1]))

    def _ahead(self, draft: Draft, seen: str) -> str:
        """What the filters say, less the last value: (n_windows, n_targets * n_steps)."""
        n_targets, n_timepoints, n_steps = self.filters.shape
        filters = self.filters.astype(np.float32)
        if np.array_equal(filters, np.repeat(filters[:1], n_targets, axis=0)):
            said = draft.add("matmul", seen, filters[0])
            return draft.add("reshape", said, shape=[n_targets * n_steps])
        taps = filters.transpose(0, 2, 1).reshape(n_targets * n_steps, 1, n_timepoints)
        bias = np.zeros(n_targets * n_steps, np.float32)
        said = draft.add("conv1d", seen, taps, bias, groups=n_targets)
        return draft.add("reshape", said, shape=[n_targets * n_steps])

    def _from_known(self, draft: Draft) -> str:
        """What channels known ahead add: (n_windows, n_targets * n_steps)."""
        assert self.slopes is not None
        n_timepoints, n_steps = self.filters.shape[1:]
        at = now(n_timepoints, n_steps)
        known = draft.add("gather", "x", np.array(self.known), axis=1)
        known = draft.add("sub", known, draft.add("slice", known, axis=2, start=at, stop=at + 1))
        flat = draft.add("reshape", known, shape=[len(self.known) * n_timepoints])
        each = surprise(self.filters, n_steps)
        weight = np.einsum("tk,tlh->klth", self.slopes, each)
        return draft.add("matmul", flat, weight.reshape(len(self.known) * n_timepoints, -1))
