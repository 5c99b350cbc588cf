"""Derived channels of opened data: what the runner computes on the device, for recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgegraft.data.track import origin
from edgegraft_edge.derived import Derivation, asked
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Recording


def derived(recordings: Sequence[Recording], texts: Sequence[str]) -> tuple[Recording, ...]:
    """Recordings with channels derived from theirs, behind the measured ones.

    Recordings that gaps made of one are one life: what counts from the beginning goes on.

    Errors: `DataError` as of `edgegraft_edge.derived`, naming the recording.

    >>> import numpy as np
    >>> from edgegraft_edge.signal import Channel
    >>> one = Recording(np.array([[4.0, 6.0]], np.float32), (Channel("x"),), 1.0)
    >>> derived([one], ["start:x:5"])[0].values.tolist()
    [[4.0, 6.0], [4.0, 5.0]]
    """
    if not recordings or not texts:
        return tuple(recordings)
    first = recordings[0]
    channels = (*first.channels, *asked(texts, first.channels))
    live, life = Derivation(channels, first.rate_hz), None
    found = []
    for recording in recordings:
        own = origin(recording.name)
        live.gap()
        if not own or own != life:
            live.restart()
        life = own
        try:
            values = live.push(recording.values, recording.start_s)
        except DataError as error:
            raise DataError(
                replace(problem, found=f"{recording.name or 'a recording'}: {problem.found}")
                for problem in error.problems
            ) from error
        found.append(replace(recording, values=values, channels=channels))
    return tuple(found)
