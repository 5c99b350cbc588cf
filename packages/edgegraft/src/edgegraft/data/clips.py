"""Windows of recorded sound: of a clip the one where it is heard, of what is longer many.

A word is rarely said in the middle of its recording, nor for as long as a window. So a recording
of one label that is at most two windows long gives one window, laid so that the middle of its
energy is in the middle of the window as far as the recording reaches; zeros fill up what is too
short. Anything longer, or with several labels, is cut as a device will cut it, by the stride.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgegraft.data.labelling import window_labels
from edgegraft_edge.signal import UNLABELLED, Array, Recording, WindowSpec
from edgegraft_edge.windowing import cut

CLIP = 2.0  # windows: what is at most so long is a clip
LONGEST_CLIP_S = 2.0
USUAL_S = 1.0
_SILENT = 1e-3  # of the power of a recording's loudest window: what is below is a pause in it


def usual_length_s(lengths_s: Sequence[float]) -> float:
    """One second, or as much more as holds nine clips of ten, up to two; of recordings, one.

    >>> usual_length_s([0.3, 0.42, 0.55]), usual_length_s([0.8, 1.31]), usual_length_s([30.0, 60.0])
    (1.0, 1.4, 1.0)
    """
    most = float(np.quantile(lengths_s, 0.9, method="higher")) if len(lengths_s) else USUAL_S
    if most > LONGEST_CLIP_S:
        return USUAL_S
    return max(USUAL_S, int(np.ceil(round(most * 10, 6))) / 10)


def sound_windows(
    recording: Recording, spec: WindowSpec, purity: float
) -> tuple[Array, Array, Array]:
    """Windows of one recording.

    Returns: float32 (n_windows, n_channels, n_timepoints), text (n_windows,) labels, and int64
    (n_windows,), where each starts in the recording; 0 where it begins with filled up zeros.
    """
    n_timepoints, values = spec.n_timepoints, recording.values
    if not values.shape[1]:
        return np.zeros((0, *spec.shape), np.float32), np.zeros(0, "<U1"), np.zeros(0, np.int64)
    if len(recording.labels) <= 1 and values.shape[1] <= CLIP * n_timepoints:
        label = recording.labels[0].label if recording.labels else UNLABELLED
        window, start = centred(values, n_timepoints, _heard(recording))
        return window[None], np.array([label]), np.array([max(0, start)], dtype=np.int64)
    missing = max(0, n_timepoints - values.shape[1])
    x, starts = cut(np.pad(values, ((0, 0), (0, missing))), spec)
    y = window_labels(recording, starts, n_timepoints, purity)
    if len(recording.labels) == 1:
        power = np.square(x, dtype=np.float64).mean(axis=(1, 2))
        y = np.where(power > _SILENT * power.max(), y, UNLABELLED)
    return x, y, starts


def centred(values: Array, n_timepoints: int, energy: Array | None = None) -> tuple[Array, int]:
    """The stretch of that length whose middle is nearest to the middle of the energy.

    Args:
        values: (n_channels, any count).
        energy: (any count,), if not that of `values`.

    Returns: float32 (n_channels, n_timepoints), and where it starts in `values`, below 0 where
    zeros come first.

    >>> window, start = centred(np.array([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]), 3)
    >>> window.tolist(), start
    ([[1.0, 1.0, 1.0]], 3)
    """
    count = values.shape[1]
    if energy is None:
        energy = np.square(values, dtype=np.float64).sum(axis=0)
    total = float(energy.sum())
    middle = float(energy @ np.arange(count)) / total if total > 0 else (count - 1) / 2
    start = round(middle - (n_timepoints - 1) / 2)
    low, high = sorted((0, count - n_timepoints))
    start = min(max(start, low), high)
    out = np.zeros((len(values), n_timepoints), np.float32)
    first, last = max(0, start), min(count, start + n_timepoints)
    out[:, first - start : last - start] = values[:, first:last]
    return out, start


def _heard(recording: Recording) -> Array:
    """Energy of each sample, 0 outside of what the label spans."""
    energy = np.square(recording.values, dtype=np.float64).sum(axis=0)
    for span in recording.labels:
        energy[: span.start], energy[span.stop :] = 0, 0
    return np.asarray(energy)
