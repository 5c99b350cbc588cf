"""Labels of windows, from labelled spans of a recording."""

from __future__ import annotations

import numpy as np

from edgegraft_edge.signal import UNLABELLED, Array, Recording


def window_labels(recording: Recording, starts: Array, n_timepoints: int, purity: float) -> Array:
    """The label of each window: the one that covers most of it, if it covers enough.

    Returns: text (n_windows,), "" where no label covers `purity` of the window.
    """
    classes = sorted({span.label for span in recording.labels})
    covered = np.zeros((len(classes), len(starts)), dtype=np.int64)
    for span in recording.labels:
        shared = np.minimum(span.stop, starts + n_timepoints) - np.maximum(span.start, starts)
        covered[classes.index(span.label)] += np.maximum(shared, 0)
    if not classes or not len(starts):
        return np.full(len(starts), UNLABELLED)
    most = covered.argmax(axis=0)
    enough = covered.max(axis=0) >= max(1.0, purity * n_timepoints - 1e-9)
    return np.where(enough, np.array(classes)[most], UNLABELLED)
