"""Checks of what a task leaves out or alarms of: units and their ends, normal time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sized

import numpy as np

from edgegraft.data.finding import Evidence, Finding
from edgegraft.data.question import (
    REMAINING,
    Question,
    is_normal,
    labels_of,
    normal_mask,
)
from edgegraft.data.track import origin
from edgegraft_edge.signal import UNLABELLED

FEW_UNITS = 5
COMMON = 0.3
"""Share of anomalies from which they are none."""
DAY_S = 86_400.0


def check_units(evidence: Evidence, asked: Question) -> Iterator[Finding]:
    """How many units (machines, people, recordings) there are to leave out."""
    groups = {group for _, group, _ in evidence.pieces} - {""}
    units = groups or {origin(name) for name, _, _ in evidence.pieces}
    if 1 < len(units) < FEW_UNITS:
        yield Finding(
            "units-few",
            "warning",
            f"{len(units)} units",
            "intervals over so few say little; record more machines, even shortly",
        )
    elif len(units) == 1 and REMAINING in asked.target:
        yield Finding(
            "units-few",
            "trouble",
            "one unit only",
            "remaining life needs other units that ran to failure, to be tried on",
        )
    elif len(units) == 1:
        yield Finding(
            "units-one", "note", "one unit only: scores hold for later times of this unit alone"
        )


def check_ends(evidence: Evidence, asked: Question) -> Iterator[Finding]:
    """Units that were not run to failure, and those that gaps cut."""
    pieces = [(name, group or origin(name)) for name, group, _ in evidence.pieces]
    if REMAINING in asked.target:
        counts = Counter(unit for _, unit in pieces)
        cut = [unit for unit, count in counts.items() if count > 1]
        if cut:
            yield Finding(
                "unit-cut",
                "warning",
                f"{len(cut)} units come in several recordings, the first is {cut[0]}",
                "life is counted to the end of each: gap='interpolate' joins short gaps",
            )
        yield Finding(
            "failure-assumed",
            "note",
            f"each of {len(pieces)} recordings is taken to end in its failure",
            "leave out units that were taken out of service before, or label their remaining life",
        )
        return
    if asked.target or asked.task != "regression":
        return
    series = [each for each in labels_of(evidence) if np.isfinite(each).sum() >= 4]
    falls = [bool(np.mean(np.diff(each[np.isfinite(each)]) <= 0) > 0.95) for each in series]
    if not series or not all(falls):
        return  # not a life that counts down
    ends = [float(each[np.isfinite(each)][-1]) for each in series]
    step = max(float(np.median([np.abs(np.diff(e[np.isfinite(e)])).max() for e in series])), 1e-12)
    alive = [place for place, end in enumerate(ends) if end > 1.5 * step]
    if alive:
        yield Finding(
            "unit-without-failure",
            "warning",
            f"{len(alive)} of {len(ends)} units end before their failure, the label of the first "
            f"at {ends[alive[0]]:g}",
            "fine where these lives are known; else leave them out of training",
        )


def check_normal(evidence: Evidence, asked: Question) -> Iterator[Finding]:
    """Of an anomaly task: how much is normal, how long, and whether it moves or drifts."""
    pieces = [values for _, _, values in evidence.pieces if values.shape[1]]
    if pieces and all((np.ptp(values, axis=1) == 0).all() for values in pieces):
        yield Finding(
            "series-constant",
            "trouble",
            "no channel ever moves",
            "check the sensors: whatever moves at all would be an anomaly",
        )
    total, odd, labelled = 0, 0, 0
    for recording in evidence.dataset.recordings:
        total += recording.n_timepoints
        for span in recording.labels:
            if span.label != UNLABELLED:
                labelled += span.stop - span.start
                odd += (span.stop - span.start) * (not is_normal(span.label, asked))
    if not total:
        return
    if labelled and odd == labelled == total:
        yield Finding(
            "normal-missing", "trouble", "nothing is labelled normal",
            "normal=LABEL: a detector learns what is normal",
        )  # fmt: skip
    elif labelled and odd > COMMON * labelled:
        yield Finding(
            "anomalies-common",
            "warning",
            f"{odd / labelled:.0%} of what is labelled is no {asked.normal or 'normal'} time",
            "what is so common is better told apart as a class: task classification",
        )
    rate_hz = evidence.dataset.rate_hz
    length_s = (total - odd) / rate_hz if rate_hz and rate_hz != 1.0 else 0.0
    if 0 < length_s < DAY_S:
        yield Finding(
            "normal-short",
            "note",
            f"{said_time(length_s)} of normal time",
            "a rate of false alarms can be checked down to about one in that time, no lower",
        )
    yield from _drifts(evidence, asked)


def _drifts(evidence: Evidence, asked: Question) -> Iterator[Finding]:
    moved = []
    for place, channel in enumerate(evidence.dataset.channels):
        for recording in evidence.dataset.recordings:
            values = recording.values[place][normal_mask(recording, asked)]
            values = values[np.isfinite(values)]
            if len(values) < 200:
                continue
            quarters = np.array_split(values.astype(np.float64), 4)
            spread = np.median([quarter.std() for quarter in quarters])
            means = [float(quarter.mean()) for quarter in quarters]
            steps = np.diff(means)
            if abs(np.sign(steps).sum()) == len(steps) and abs(means[-1] - means[0]) > 3 * max(
                spread, 1e-9
            ):
                moved.append((channel.name, recording.name))
    if moved:
        yield Finding(
            "normal-drifts",
            "warning",
            f"channel {moved[0][0]!r} leaves its level in {moved[0][1] or 'a recording'} without "
            f"being labelled ({len(moved)} times in all)",
            "learn from the latest time, or differences: derive=start:* or mean:*",
        )


def said_time(seconds: float) -> str:
    """
    >>> said_time(90.0), said_time(86400.0), said_time(5400.0)
    ('90 s', '24 h', '1.5 h')
    """
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:.3g} min" if seconds < 3600 else f"{seconds / 3600:.4g} h"


def verb(plural: str, of: Sized) -> str:
    """
    >>> verb("move", ["a"]), verb("move", ["a", "b"])
    ('moves', 'move')
    """
    return f"{plural}s" if len(of) == 1 else plural


def listed(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
