"""What the pages show of alarms along time, in plain values: scores, spans, what contributed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgegraft.evaluate.detected import (
    BORDER,
    Row,
    evaluate_detection,
    rows_of,
)
from edgegraft.tasks.detection import spans
from edgegraft_edge.signal import Array, Windows, WindowSpec

SHOWN = 4
"""Recordings that are drawn: those with anomalies first."""
PLACES = 300
"""Places along time in one picture; of more the highest of each stretch is drawn."""
CHANNELS = 8
"""Channels in the strip of contributions, those that contribute most."""
CHANCE, STRONG = 3.0, 24.0
"""Deviations from which a departure is drawn, palest, and those that fill a cell."""


def detection_section(
    scores: Array,
    windows: Windows,
    normal: str,
    *,
    border: float = BORDER,
    asked_per_day: float | None = None,
    contributions: Array | None = None,
) -> dict[str, Any]:
    """The report's `detection`; empty where windows are no rows in time.

    Args:
        scores: (n_windows,), probability of an anomaly, NaN where a window was not tested.
        normal: the label of normal windows.
        contributions: (n_windows, n_channels), at least 0, how much each channel adds; how far
            each departs from normal windows if none.
    """
    if not isinstance(windows.spec, WindowSpec):
        return {}
    rows = rows_of(windows, scores, normal)
    if not rows:
        return {}
    scored = evaluate_detection(scores, windows, normal, border=border, asked_per_day=asked_per_day)
    if contributions is None:
        away = np.maximum(departures(windows, normal), CHANCE) / CHANCE
        heat = np.log(away) / np.log(STRONG / CHANCE)
    else:
        heat = np.asarray(contributions) / max(float(np.quantile(contributions, 0.999)), 1e-12)
    return {
        **scored.as_dict(),
        "border": border,
        "contributes": "departure from normal windows" if contributions is None else "contribution",
        "timelines": list(_timelines(rows, windows, np.clip(heat, 0, 1), border)),
    }


def departures(windows: Windows, normal: str) -> Array:
    """How far the level and the spread of each channel lie from those of normal windows.

    Returns: float (n_windows, n_channels), in deviations of normal windows, at least 0.

    >>> windows = Windows.of(np.ones((4, 2, 8)), y=["ok"] * 4)
    >>> departures(windows, "ok").shape
    (4, 2)
    """
    x = np.asarray(windows.x, dtype=np.float64)
    usual = windows.y == normal
    usual = usual if usual.any() else np.ones(len(x), dtype=bool)
    found = np.zeros(x.shape[:2])
    for each in (x.mean(axis=2), x.std(axis=2)):
        centre = np.median(each[usual], axis=0)
        around = 1.4826 * np.median(np.abs(each[usual] - centre), axis=0)
        around = np.where(around > 0, around, each[usual].std(axis=0))
        found = np.maximum(found, np.abs(each - centre) / np.where(around > 0, around, 1.0))
    return found


def _timelines(
    rows: list[Row], windows: Windows, heat: Array, border: float
) -> Iterator[dict[str, Any]]:
    names = windows.series.channel_names
    order = sorted(rows, key=lambda row: not row.truth.any())
    for row in order[:SHOWN]:
        width = -(-len(row.rows) // PLACES)
        edges = np.arange(0, len(row.rows), width)
        own = heat[row.rows]
        most = np.argsort(-np.maximum.reduceat(own, edges, axis=0).max(axis=0), kind="stable")
        most = np.sort(most[:CHANNELS])
        yield {
            "recording": row.name,
            "begin_s": float(row.ends_s[0]),
            "end_s": float(row.ends_s[-1]),
            "x": _plain(row.ends_s[edges]),
            "score": _plain(np.maximum.reduceat(row.scores, edges)),
            "truth": _spans(row.ends_s, row.truth.astype(float), 0.5),
            "alarms": _spans(row.ends_s, row.scores, border),
            "channels": [names[at] for at in most],
            "heat": [_plain(line) for line in np.maximum.reduceat(own, edges, axis=0)[:, most].T],
        }


def _spans(ends_s: Array, values: Array, border: float) -> list[list[float]]:
    return [[float(ends_s[span.first]), float(ends_s[span.last])] for span in spans(values, border)]


def _plain(values: Array) -> list[float]:
    return [float(f"{value:.5g}") for value in np.asarray(values, dtype=np.float64).tolist()]
