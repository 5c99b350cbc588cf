"""The compiled inner loop of MiniRocket's features; importing it loads numba.

Every value in here is a whole number kept in float32 (see `edgegraft.zoo.minirocket`), so
sums are exact in any order, and contracting a product and a sum changes nothing. Indices are
unsigned, because numba guards signed ones against wrapping, and the guard stops LLVM from
vectorising.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

_U = np.uint64
_STEP = 32  # rows are filled up to a multiple of this, so that the counting loop has no tail


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    options = {"nogil": True, "boundscheck": False, "fastmath": {"contract"}}
    try:
        found: Callable[..., None] = njit(cache=True, **options)(function)
    except RuntimeError:  # neither this folder nor the user's can be written: compile every time
        found = njit(**options)(function)
    return found


@_compiled
def pool(
    x: Any,
    low: Any,
    high: Any,
    centre: Any,
    gain: Any,
    dilations: Any,
    n_biases: Any,
    subset_start: Any,
    subset: Any,
    biases: Any,
    taps: Any,
    out: Any,
) -> None:
    """Proportions of positive values of every kernel at every bias.

    Args:
        x: float32 (n_windows, n_channels, n_timepoints), raw.
        low, high, centre, gain: float32 (n_channels,), held in range, then to whole numbers.
        dilations, n_biases: int64 (n_dilations,).
        subset_start: int64 (n_dilations * 84 + 1,) into `subset`, channels of each kernel.
        biases: float32 (n_features,), by dilation, kernel, bias.
        taps: int64 (n_dilations, 84, 3), positions of the three positive weights.
        out: float32 (n_windows, n_features), written.
    """
    n_windows, n_channels, n_time = x.shape
    one, two, three, four, eight = _U(1), _U(2), _U(3), _U(4), _U(8)
    length = _U(n_time)
    margin = four * _U(dilations.max())
    width = ((length + two * margin) // _U(64) + two) * _U(64)
    # Row c of `level` is channel c between margins of zero; of `nine`, its sum of nine taps.
    # The last row of both is for sums over several channels.
    level = np.zeros(_U(n_channels + 1) * width, np.float32)
    nine = np.zeros(_U(n_channels + 1) * width, np.float32)
    row = np.zeros(width, np.float32)
    shared = _U(n_channels) * width
    never = np.float32(-3e38)
    triple = np.float32(3)
    none = np.int32(0)
    for window in range(n_windows):
        for channel in range(n_channels):
            start = _U(channel) * width + margin
            least, most = low[channel], high[channel]
            shift, factor = centre[channel], gain[channel]
            values = x[window, channel]
            for t in range(length):
                held = min(max(values[t], least), most)
                level[start + t] = np.rint((held - shift) * factor)
        place = _U(0)
        for step in range(len(dilations)):
            dilation = _U(dilations[step])
            reach = four * dilation
            for channel in range(n_channels):
                to = _U(channel) * width
                a = to + margin - reach
                b, c, d = a + dilation, a + two * dilation, a + three * dilation
                e = to + margin
                f, g, h = e + dilation, e + two * dilation, e + three * dilation
                i = e + reach
                for t in range(length):
                    nine[to + t] = (
                        (level[a + t] + level[b + t] + level[c + t])
                        + (level[d + t] + level[e + t] + level[f + t])
                        + (level[g + t] + level[h + t] + level[i + t])
                    )
            for kernel in range(84):
                which = _U(step * 84 + kernel)
                first, last = _U(subset_start[which]), _U(subset_start[which + one])
                a = _U(subset[first]) * width
                source = a
                if last - first > one:
                    source = shared
                    to = shared + margin
                    b = _U(subset[first + one]) * width
                    for t in range(length):
                        level[to + t] = level[a + margin + t] + level[b + margin + t]
                        nine[shared + t] = nine[a + t] + nine[b + t]
                    first += two
                    while first + one < last:
                        a = _U(subset[first]) * width
                        b = _U(subset[first + one]) * width
                        for t in range(length):
                            level[to + t] += level[a + margin + t] + level[b + margin + t]
                            nine[shared + t] += nine[a + t] + nine[b + t]
                        first += two
                    if first < last:
                        a = _U(subset[first]) * width
                        for t in range(length):
                            level[to + t] += level[a + margin + t]
                            nine[shared + t] += nine[a + t]
                begin, count = _U(0), length
                if kernel >= 42:  # the second half of the kernels sees no padding
                    begin, count = reach, length - eight * dilation
                origin = source + margin - reach + begin
                a = origin + _U(taps[step, kernel, 0]) * dilation
                b = origin + _U(taps[step, kernel, 1]) * dilation
                c = origin + _U(taps[step, kernel, 2]) * dilation
                d = source + begin
                scale = np.float32(1) / np.float32(count)
                filled = (count + _U(_STEP - 1)) // _U(_STEP) * _U(_STEP)
                # The first four biases are counted while the row is made.
                end = place + _U(n_biases[step])
                p, q = min(place + one, end - one), min(place + two, end - one)
                r = min(place + three, end - one)
                bias0, bias1, bias2, bias3 = biases[place], biases[p], biases[q], biases[r]
                n0, n1, n2, n3 = none, none, none, none
                for t in range(count):
                    value = triple * (level[a + t] + level[b + t] + level[c + t]) - nine[d + t]
                    row[t] = value
                    n0 = np.int32(n0 + (value > bias0))
                    n1 = np.int32(n1 + (value > bias1))
                    n2 = np.int32(n2 + (value > bias2))
                    n3 = np.int32(n3 + (value > bias3))
                out[window, place] = np.float32(n0) * scale
                out[window, p] = np.float32(n1) * scale
                out[window, q] = np.float32(n2) * scale
                out[window, r] = np.float32(n3) * scale
                place = r + one
                for t in range(count, filled):
                    row[t] = never
                while place + four <= end:
                    p, q = place + one, place + two
                    r = place + three
                    bias0, bias1, bias2, bias3 = biases[place], biases[p], biases[q], biases[r]
                    n0, n1, n2, n3 = none, none, none, none
                    for t in range(filled):
                        value = row[t]
                        n0 = np.int32(n0 + (value > bias0))
                        n1 = np.int32(n1 + (value > bias1))
                        n2 = np.int32(n2 + (value > bias2))
                        n3 = np.int32(n3 + (value > bias3))
                    out[window, place] = np.float32(n0) * scale
                    out[window, p] = np.float32(n1) * scale
                    out[window, q] = np.float32(n2) * scale
                    out[window, r] = np.float32(n3) * scale
                    place += four
                while place < end:
                    bias0 = biases[place]
                    n0 = none
                    for t in range(filled):
                        n0 = np.int32(n0 + (row[t] > bias0))
                    out[window, place] = np.float32(n0) * scale
                    place += one
