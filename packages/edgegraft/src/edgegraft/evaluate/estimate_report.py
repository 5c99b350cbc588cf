"""What the pages show of estimates, in plain values: fans, errors by step, truth and estimate.

The mapping is described in the guide on estimates; any part of it may be missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgegraft_edge.estimate import POINT, Outputs
from edgegraft_edge.signal import Array, Windows, WindowSpec

FANS = (("best", 0.0), ("typical", 0.5), ("one in ten is worse", 0.9), ("worst", 1.0))
"""Forecasts that are drawn, by their place among all when ordered by error."""
UNITS = (("best", 0.0), ("typical", 0.5), ("worst", 1.0))
DOTS = 400
"""Windows drawn of truth against estimate, for each quantity."""
LONGEST = 240
"""Samples drawn in one line; of longer ones every so many."""
QUANTITIES = 4
"""Quantities of which truth against estimate is drawn."""
LEAST = 5
"""Windows of a unit that make a line over time."""
CONTROLS = 3
TIMES = (("d", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3))


def estimate_section(
    outputs: Outputs,
    windows: Windows,
    truth: Array,
    table: Array,
    others: Mapping[str, Array],
) -> dict[str, Any]:
    """The report's `estimates`.

    Args:
        windows: what the estimates are of; a quantity that is one of their channels is drawn
            before its forecast, too.
        truth: float (n_windows, n_targets), NaN where unknown.
        table: estimates of what ships (n_windows, n_columns), NaN where a window was not tested.
        others: the same of controls, by name.

    >>> windows = Windows.of(np.zeros((3, 1, 8)), channels=["s"])
    >>> table = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])
    >>> found = estimate_section(Outputs(("life",), ("h",)), windows, table[:, 1:2], table, {})
    >>> found["scatter"][0]["truth"]
    [2.0, 5.0, 8.0]
    """
    seen = np.isfinite(table).all(axis=1) & np.isfinite(truth).any(axis=1)
    rows = np.flatnonzero(seen)
    if not len(rows):
        return {"outputs": outputs.as_dict()}
    values = np.asarray(table)[rows].reshape(len(rows), *outputs.shape)
    known = np.asarray(truth, dtype=np.float64)[rows].reshape(len(rows), *outputs.shape[:2])
    scale, unit = _scale(outputs, known)
    error = _relative(values[..., outputs.levels.index(POINT)] - known, scale)
    ahead = outputs.steps[-1] > 0
    kept = windows.take(rows)
    found: dict[str, Any] = {
        "outputs": outputs.as_dict(),
        "n": len(rows),
        "error_unit": unit,
        "reliability": _reliability(outputs, values, known),
        "per_step": _per_step(outputs, values, known, error),
        "time": _time_of(kept, outputs.steps[-1]),
    }
    if ahead:
        found["fans"] = list(_fans(outputs, kept, values, known, error))
        found["controls"] = {
            name: _errors(np.abs(_relative(_points(outputs, other[rows]) - known, scale)))
            for name, other in list(others.items())[:CONTROLS]
        }
    if not ahead:
        found["scatter"] = list(_scatter(outputs, kept, values, known))
        found["over_time"] = list(_over_time(outputs, kept, values, known, error))
    return found


def _points(outputs: Outputs, table: Array) -> Array:
    """Point estimates (n_windows, n_quantities, n_steps) of a table."""
    point = outputs.levels.index(POINT)
    return np.asarray(table).reshape(len(table), *outputs.shape)[..., point]


def _scale(outputs: Outputs, known: Array) -> tuple[Array, str]:
    """What errors are divided by, and the unit that they then have.

    One unit for all quantities: that; otherwise each counts in its standard deviations.
    """
    n_quantities = known.shape[1]
    if len(set(outputs.units)) == 1 and (n_quantities == 1 or outputs.units[0]):
        return np.ones(n_quantities), outputs.units[0]
    flat = known.transpose(1, 0, 2).reshape(n_quantities, -1)
    spread = np.array([
        np.std(row[np.isfinite(row)]) if np.isfinite(row).any() else 1.0 for row in flat
    ])  # fmt: skip
    return np.where(spread > 0, spread, 1.0), "standard deviations"


def _relative(error: Array, scale: Array) -> Array:
    return np.asarray(error / scale[None, :, None])


def _mean(values: Array, axis: int | tuple[int, ...]) -> Array:
    """Mean of what is known, NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.asarray(
        np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)
    )


def _errors(absolute: Array) -> list[float]:
    """Mean absolute error of each step."""
    return _plain(_mean(absolute, (0, 1)))


def _per_step(
    outputs: Outputs, values: Array, known: Array, error: Array
) -> list[dict[str, float]]:
    mae = _mean(np.abs(error), (0, 1))
    held = (values[..., 0] <= known) & (known <= values[..., -1])
    share = _mean(np.where(np.isfinite(known), held, np.nan), (0, 1))
    has_interval = len(outputs.levels) > 1
    return [
        {"step": step, "error": _short(mae[at])}
        | ({"coverage": _short(share[at])} if has_interval else {})
        for at, step in enumerate(outputs.steps)
    ]


def _reliability(outputs: Outputs, values: Array, known: Array) -> list[dict[str, float]]:
    there = np.isfinite(known)
    return [
        {"level": level, "share": _short((known <= values[..., at])[there].mean())}
        for at, level in enumerate(outputs.levels)
    ]


def _fans(
    outputs: Outputs, windows: Windows, values: Array, known: Array, error: Array
) -> Iterator[dict[str, Any]]:
    """A few forecasts, each of one quantity of one window, from the best to the worst."""
    by = _mean(np.abs(error), 2)
    whole = np.isfinite(known).all(axis=2)
    order = np.argwhere(whole if whole.any() else np.isfinite(by))
    if not len(order):
        return
    order = order[np.argsort(by[order[:, 0], order[:, 1]], kind="stable")]
    channels = windows.spec.channel_names if isinstance(windows.spec, WindowSpec) else ()
    taken: set[tuple[int, int]] = set()
    for kind, share in FANS:
        row, quantity = (int(at) for at in order[round(share * (len(order) - 1))])
        if (row, quantity) in taken:
            continue
        taken.add((row, quantity))
        name = outputs.names[quantity]
        context: list[float] = []
        if name in channels:
            before = windows.x[row, channels.index(name)]
            context = _plain(before[-min(len(before), max(24, 2 * outputs.steps[-1]), LONGEST) :])
        yield {
            "kind": kind,
            "quantity": name,
            "unit": outputs.units[quantity],
            "recording": _name(windows, row),
            "start": int(windows.start[row]),
            "error": _short(by[row, quantity]),
            "context": context,
            "steps": list(outputs.steps),
            "truth": _plain(known[row, quantity]),
            "levels": list(outputs.levels),
            "quantiles": [_plain(line) for line in values[row, quantity].T],
        }


def _scatter(
    outputs: Outputs, windows: Windows, values: Array, known: Array
) -> Iterator[dict[str, Any]]:
    for quantity, name in enumerate(outputs.names[:QUANTITIES]):
        there = np.flatnonzero(np.isfinite(known[:, quantity, 0]))
        if not len(there):
            continue
        drawn = there[np.unique(np.linspace(0, len(there) - 1, DOTS).astype(int))]
        found = values[drawn, quantity, 0]
        yield {
            "quantity": name,
            "unit": outputs.units[quantity],
            "n": len(there),
            "truth": _plain(known[drawn, quantity, 0]),
            "point": _plain(found[:, outputs.levels.index(POINT)]),
            "low": _plain(found[:, 0]) if found.shape[1] > 1 else [],
            "high": _plain(found[:, -1]) if found.shape[1] > 1 else [],
            "interval": _short(outputs.levels[-1] - outputs.levels[0]),
        }


def _over_time(
    outputs: Outputs, windows: Windows, values: Array, known: Array, error: Array
) -> Iterator[dict[str, Any]]:
    """The first quantity of a few units along time, from the best to the worst."""
    units = windows.groups if windows.has_groups else windows.recording
    size = np.abs(error[:, 0, 0])
    lines: list[tuple[float, Array]] = []
    for unit in np.unique(units):
        rows = np.flatnonzero((units == unit) & np.isfinite(known[:, 0, 0]))
        recordings, counts = np.unique(windows.recording[rows], return_counts=True)
        if len(rows) and counts.max() >= LEAST:
            rows = rows[windows.recording[rows] == recordings[counts.argmax()]]
            rows = rows[np.argsort(windows.start[rows], kind="stable")]
            lines.append((float(np.nanmean(size[rows])), rows))
    lines.sort(key=lambda line: line[0])
    spec, taken = windows.spec, set()
    rate_hz = spec.rate_hz if isinstance(spec, WindowSpec) else 1.0
    width = spec.n_timepoints if isinstance(spec, WindowSpec) else 1
    for kind, share in UNITS:
        if not lines or (at := round(share * (len(lines) - 1))) in taken:
            continue
        taken.add(at)
        mae, rows = lines[at]
        rows = rows[:: max(1, math.ceil(len(rows) / LONGEST))]
        found = values[rows, 0, 0]
        yield {
            "kind": kind if len(lines) > 1 else "the only one",
            "unit_name": str(windows.groups[rows[0]]) or _name(windows, int(rows[0])),
            "quantity": outputs.names[0],
            "unit": outputs.units[0],
            "error": _short(mae),
            "x": _plain((windows.start[rows] + width - 1) / rate_hz),
            "truth": _plain(known[rows, 0, 0]),
            "point": _plain(found[:, outputs.levels.index(POINT)]),
            "low": _plain(found[:, 0]) if found.shape[1] > 1 else [],
            "high": _plain(found[:, -1]) if found.shape[1] > 1 else [],
        }


def _time_of(windows: Windows, last: int) -> dict[str, Any]:
    """How many samples make the unit of time that suits `last` samples; none if unknown."""
    spec = windows.spec
    if not isinstance(spec, WindowSpec) or spec.rate_hz == 1.0:
        return {"unit": "samples", "samples": 1.0}
    name, seconds = time_unit(max(1, last) / spec.rate_hz)
    return {"unit": name, "samples": seconds * spec.rate_hz}


def time_unit(length_s: float) -> tuple[str, float]:
    """The unit in which a length is two or more, and its seconds.

    >>> time_unit(86400.0 * 4), time_unit(86400.0), time_unit(0.5)
    (('d', 86400.0), ('h', 3600.0), ('ms', 0.001))
    """
    return next(((name, each) for name, each in TIMES if length_s >= 2 * each), TIMES[-1])


def _name(windows: Windows, row: int) -> str:
    number = int(windows.recording[row])
    return windows.names[number] if number < len(windows.names) else f"recording {number}"


def _plain(values: Sequence[float] | Array) -> list[float]:
    return [_short(value) for value in np.asarray(values, dtype=np.float64).tolist()]


def _short(value: float) -> float:
    """Five significant figures: what a plot can show, in few bytes."""
    return float(f"{float(value):.5g}")
