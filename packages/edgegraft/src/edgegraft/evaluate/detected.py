"""How well alarms meet anomalies along time: a classifier of windows on whole recordings.

The windows of a recording stand in a row, in the order of their ends: one score, one truth and one
alarm for each, as a device sees them. Rates and delays are in the time of the recordings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgegraft.tasks.detection import (
    detection_delay,
    range_score,
    spans,
    vus_pr,
)
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import UNLABELLED, Array, Windows, WindowSpec

BORDER = 0.5
DAY_S = 86_400.0
LEAST = 3
"""Windows that make a row."""
MOST_EVENTS = 200


@dataclass(frozen=True)
class Alarm:
    """One event, or an anomaly that none met.

    Attributes:
        recording: name of the recording.
        start_s, end_s: from the start of the recording, of its first window's end to its last's.
        severity: the highest score; 0.0 for an anomaly that was missed.
        kind: ``found`` (it meets an anomaly), ``false`` or ``missed``.
        delay_s: of a found one, from the beginning of the anomaly; None else.
    """

    recording: str
    start_s: float
    end_s: float
    severity: float
    kind: str
    delay_s: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class DetectionEvaluation:
    """Scores of alarms along time.

    Attributes:
        n: windows; `n_recordings` of recordings with enough of them.
        metrics: vus_pr and range precision, recall and F1 (means over recordings that have an
            anomaly), delay_s (mean over found anomalies), false_alarms_per_day, and
            alarmed_share, of normal time under alarm: an alarm that never ends finds everything.
        intervals: by name at 95 %, from drawing whole recordings; empty where there is one.
        anomalies, found: how many there are and how many an alarm met.
        false_alarms: how many, in `normal_days` of normal time.
        asked_per_day: false alarms a day that were asked for; None if nobody did.
        per_recording: by name, its own scores.
        events: by recording and time.
    """

    n: int
    n_recordings: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    anomalies: int
    found: int
    false_alarms: int
    normal_days: float
    asked_per_day: float | None
    per_recording: Mapping[str, Mapping[str, float]]
    events: tuple[Alarm, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values; what is unknown is NaN."""
        return {
            **{name: getattr(self, name) for name in (
                "n", "n_recordings", "anomalies", "found", "false_alarms", "normal_days",
                "asked_per_day",
            )},
            "metrics": dict(self.metrics),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "per_recording": {name: dict(each) for name, each in self.per_recording.items()},
            "events": [event.as_dict() for event in self.events[:MOST_EVENTS]],
        }  # fmt: skip


@dataclass(frozen=True)
class Row:
    """The windows of one recording in order: positions among all, scores, truth, ends."""

    name: str
    rows: Array
    scores: Array
    truth: Array
    ends_s: Array
    step_s: float


def rows_of(windows: Windows, scores: Array, normal: str) -> list[Row]:
    """Recordings as rows of windows; those of fewer than `LEAST` windows are left out.

    Unlabelled windows count as normal: what nobody marked is held to be usual.

    Args:
        scores: (n_windows,), NaN where a window was not scored, which leaves it out.
        normal: the label of normal windows.

    Errors: `DataError` "not-series" for pictures and sentences.
    """
    spec = windows.spec
    if not isinstance(spec, WindowSpec):
        raise DataError.of(
            "not-series",
            f"windows of kind {spec.kind}",
            "alarms along time need recordings",
            "evaluate, which scores windows one by one",
        )
    found = []
    seen = np.isfinite(scores)
    odd = (windows.y != normal) & (windows.y != UNLABELLED)
    for number in np.unique(windows.recording[seen]):
        rows = np.flatnonzero((windows.recording == number) & seen)
        rows = rows[np.argsort(windows.start[rows], kind="stable")]
        steps = np.diff(windows.start[rows])
        if len(rows) < LEAST or not (steps > 0).all():
            continue
        name = windows.names[number] if number < len(windows.names) else f"recording {number}"
        found.append(
            Row(
                name,
                rows,
                np.asarray(scores, dtype=np.float64)[rows],
                odd[rows],
                (windows.start[rows] + spec.n_timepoints) / spec.rate_hz,
                float(np.median(steps)) / spec.rate_hz,
            )
        )
    return found


def evaluate_detection(
    scores: Array,
    windows: Windows,
    normal: str,
    *,
    border: float = BORDER,
    asked_per_day: float | None = None,
    n_resamples: int = 1000,
) -> DetectionEvaluation:
    """Score alarms of windows along their recordings.

    Args:
        scores: (n_windows,), probability of an anomaly.
        normal: the label of normal windows.
        border: the score from which on a window is an alarm.

    >>> windows = Windows.of(np.zeros((6, 1, 4)), y=["ok", "ok", "leak", "leak", "ok", "ok"])
    >>> from dataclasses import replace
    >>> tape = replace(windows, recording=np.zeros(6, int), start=np.arange(6) * 4)
    >>> found = evaluate_detection(np.array([0, 0, 0, 0.9, 0, 0.8]), tape, "ok")
    >>> found.found, found.false_alarms, found.metrics["delay_s"]
    (1, 1, 4.0)
    """
    rows = rows_of(windows, scores, normal)
    parts = [_part(row, border) for row in rows]
    names = [_distinct(row.name, at, rows) for at, row in enumerate(rows)]
    total = _total(parts, np.ones(len(parts)))
    events = tuple(event for row in rows for event in _events(row, border))
    metrics = {name: float(value) for name, value in total.items()}
    return DetectionEvaluation(
        n=sum(len(row.rows) for row in rows),
        n_recordings=len(rows),
        metrics=metrics,
        intervals=_intervals(parts, n_resamples),
        anomalies=int(sum(part["anomalies"] for part in parts)),
        found=int(sum(part["found"] for part in parts)),
        false_alarms=int(sum(part["false"] for part in parts)),
        normal_days=float(sum(part["days"] for part in parts)),
        asked_per_day=asked_per_day,
        per_recording={
            name: {key: part[key] for key in ("vus_pr", "range_f1", "anomalies", "found", "false")}
            for name, part in zip(names, parts, strict=True)
        },
        events=events,
    )


def _part(row: Row, border: float) -> dict[str, float]:
    """What one recording adds."""
    alarms = row.scores >= border
    delays = detection_delay(alarms, row.truth, rate_hz=1 / row.step_s)
    ranges = range_score(alarms, row.truth)
    usual = max(2, min(100, len(row.rows) // 20))
    return {
        "vus_pr": vus_pr(row.scores, row.truth, window=usual),
        "range_precision": ranges.precision,
        "range_recall": ranges.recall,
        "range_f1": ranges.f1,
        "anomalies": delays.total,
        "found": delays.found,
        "delay": float(np.nansum(delays.each_s)) if delays.total else 0.0,
        "false": sum(event.kind == "false" for event in _events(row, border)),
        "days": float((~row.truth).sum()) * row.step_s / DAY_S,
        "alarmed": float((alarms & ~row.truth).sum()) * row.step_s / DAY_S,
    }


def _total(parts: list[dict[str, float]], weight: Array) -> dict[str, Array]:
    """Metrics of recordings that count so often each, weight (..., n_recordings)."""
    found: dict[str, Array] = {}
    for name in ("vus_pr", "range_f1", "range_precision", "range_recall"):
        values = np.array([part[name] for part in parts])
        there = np.isfinite(values)
        found[name] = _over(weight @ np.where(there, values, 0.0), weight @ there.astype(float))
    sums = {
        name: weight @ np.array([part[name] for part in parts], dtype=float)
        for name in ("delay", "found", "anomalies", "false", "days", "alarmed")
    }
    found["found_share"] = _over(sums["found"], sums["anomalies"])
    found["delay_s"] = _over(sums["delay"], sums["found"])
    found["false_alarms_per_day"] = _over(sums["false"], sums["days"])
    found["alarmed_share"] = _over(sums["alarmed"], sums["days"])
    return found


def _over(part: Array, whole: Array) -> Array:
    part, whole = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    out = np.full(np.shape(part), np.nan)
    return np.asarray(np.divide(part, whole, out=out, where=whole > 0))


def _intervals(parts: list[dict[str, float]], n_resamples: int) -> dict[str, tuple[float, float]]:
    if len(parts) < 2 or not n_resamples:
        return {}
    random = np.random.default_rng(0)
    weight = random.multinomial(len(parts), np.full(len(parts), 1 / len(parts)), n_resamples)
    found = {}
    for name, values in _total(parts, weight.astype(float)).items():
        known = values[np.isfinite(values)]
        if len(known) > n_resamples / 2:
            low, high = np.quantile(known, [0.025, 0.975])
            found[name] = (float(low), float(high))
    return found


def _events(row: Row, border: float) -> list[Alarm]:
    """Alarms as events, and anomalies that none met, in order of time."""
    true = [(span.first, span.last) for span in spans(row.truth.astype(float), 0.5)]
    met: set[int] = set()
    found = []
    for span in spans(row.scores, border):
        own = [at for at, (a, b) in enumerate(true) if a <= span.last and span.first <= b]
        begin = None if not own else max(0, span.first - true[own[0]][0]) * row.step_s
        found.append(
            Alarm(
                row.name,
                round(float(row.ends_s[span.first]), 6),
                round(float(row.ends_s[span.last]), 6),
                round(span.severity, 4),
                "found" if own else "false",
                # a second event within one anomaly finds nothing new
                begin if own and not met & {own[0]} else None,
            )
        )
        met |= set(own)
    found += [
        Alarm(row.name, float(row.ends_s[a]), float(row.ends_s[b]), 0.0, "missed")
        for at, (a, b) in enumerate(true)
        if at not in met
    ]
    return sorted(found, key=lambda event: event.start_s)


def _distinct(name: str, at: int, rows: list[Row]) -> str:
    return name if sum(row.name == name for row in rows) == 1 else f"{name} ({at})"
