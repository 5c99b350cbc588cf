"""How series come to a network read from a file."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from edgegraft.zoo.intake import kind_error
from edgegraft_edge.errors import DataError
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Spec, WindowSpec


@dataclass(frozen=True)
class SeriesIntake:
    """Windows of a series in the shape that a network wants, as they are.

    Attributes:
        sizes: of one window there, channels first: (n_values,), (n_channels, n_timepoints), or
            (n_channels, height, width), where time may be the rows, the columns, or, with one
            channel, the rows of a table of time by channels.

    >>> import numpy as np
    >>> spec = WindowSpec.from_shape(10, 49)
    >>> SeriesIntake((1, 49, 10)).program(spec).run(np.ones((2, 10, 49))).shape
    (2, 1, 49, 10)
    """

    sizes: tuple[int, ...]

    def program(self, spec: Spec) -> Program:
        """Windows of that spec -> float32 (n_windows, *sizes).

        Errors: `DataError` "kind-differs", "window-shape".
        """
        if not isinstance(spec, WindowSpec):
            raise kind_error(spec, "series")
        channels, times = spec.shape
        sizes, draft = self.sizes, Draft()
        if sizes == (channels, times):
            return draft.finish("x")
        if sizes in ((channels, times, 1), (channels, 1, times), (1, channels, times)):
            return draft.finish(draft.add("reshape", "x", shape=list(sizes)))
        if sizes == (1, times, channels) or (len(sizes) == 1 and prod(spec.shape) == sizes[0]):
            turned = draft.add("transpose", "x", axes=[0, 2, 1])
            return draft.finish(draft.add("reshape", turned, shape=list(sizes)))
        raise DataError.of(
            "window-shape",
            f"windows of {channels} channels x {times} timepoints",
            f"the network takes {' x '.join(map(str, sizes))}",
            f"windows of {self._fitting()}",
        )

    def _fitting(self) -> str:
        if len(self.sizes) == 1:
            return f"{self.sizes[0]} numbers"
        if len(self.sizes) == 2:
            return f"{self.sizes[0]} channels x {self.sizes[1]} timepoints"
        channels, height, width = self.sizes
        if channels == 1:
            return f"{width} channels x {height} timepoints"
        return f"{channels} channels x {height * width} timepoints"
