"""From scores to labels to events: thresholds, smoothing, hold-off, abstain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgegraft_edge.signal import Array


@dataclass(frozen=True)
class Predictions:
    """What a predictor says of windows.

    Attributes:
        classes: names of the columns.
        probabilities: float32 (n_windows, n_classes).

    >>> Predictions(("a", "b"), np.array([[0.2, 0.8]])).labels.tolist()
    ['b']
    """

    classes: tuple[str, ...]
    probabilities: Array

    @property
    def labels(self) -> Array:
        """Text (n_windows,): the class with the highest probability."""
        labels: Array = np.asarray(self.classes)[self.probabilities.argmax(axis=1)]
        return labels
