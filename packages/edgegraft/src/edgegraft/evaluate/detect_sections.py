"""From the report's `detection` to what its pages show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgegraft.evaluate import detect_plots, plots
from edgegraft.evaluate.wording import capital, duration, figure, known, span

SHOWN_EVENTS = 12
KINDS = {"found": "found", "false": "false alarm", "missed": "missed"}


def detection_sections(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates need of alarms along time; empty where there are none."""
    drawn = report.get("detection")
    if not isinstance(drawn, Mapping) or not drawn.get("timelines"):
        return {}
    border = known(drawn.get("border")) or 0.5
    timelines = [
        {"title": entry.get("recording"), "plot": detect_plots.timeline(entry, border)}
        for entry in drawn["timelines"]
    ]
    events = [_event(event) for event in drawn.get("events") or ()]
    return {
        "tiles": _tiles(drawn),
        "timelines": [entry for entry in timelines if entry["plot"]],
        "key": [
            (detect_plots.key("odd full"), "anomaly"),
            (detect_plots.key("alarm"), "alarm"),
            (plots.stroke(0), "score"),
            (detect_plots.key("heat"), str(drawn.get("contributes") or "contribution")),
        ],
        "events": events[:SHOWN_EVENTS],
        "more": max(0, len(events) - SHOWN_EVENTS),
        "sentence": _sentence(drawn),
    }


def _tiles(drawn: Mapping[str, Any]) -> list[dict[str, Any]]:
    metrics, ends = drawn.get("metrics") or {}, drawn.get("intervals") or {}
    names = ("vus_pr", "range_f1", "delay_s", "false_alarms_per_day", "alarmed_share")
    return [
        {"metric": name, "value": metrics.get(name), "interval": span(ends.get(name), name)}
        for name in names
        if known(metrics.get(name)) is not None
    ]


def _sentence(drawn: Mapping[str, Any]) -> str:
    """What was found, and false alarms against what was asked for."""
    count, found = drawn.get("anomalies"), drawn.get("found")
    said = "No anomaly is labelled"
    if count:
        said = f"{found} of {count} anomalies were met by an alarm"
    false, days = drawn.get("false_alarms"), known(drawn.get("normal_days")) or 0.0
    said += f"; {false} false {'alarm' if false == 1 else 'alarms'} in {_days(days)} of normal time"
    asked = known(drawn.get("asked_per_day"))
    if asked is not None:
        said += f", where {figure(asked * days)} were asked for"
        if asked * days < 1:
            said += " (too short a time to tell)"
    return said + "."


def _days(days: float) -> str:
    """
    >>> _days(2.5), _days(0.25), _days(0.01)
    ('2.50 days', '6.00 hours', '14\\xa0min 24\\xa0s')
    """
    if days >= 1:
        return f"{figure(days)} days"
    return f"{figure(24 * days)} hours" if days >= 1 / 12 else duration(days * 86_400)


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    start, end = known(event.get("start_s")) or 0.0, known(event.get("end_s")) or 0.0
    return {
        "recording": event.get("recording"),
        "start": clock(start),
        "lasts": duration(end - start) if end > start else "one window",
        "severity": "" if event.get("kind") == "missed" else figure(known(event["severity"]) or 0),
        "kind": capital(KINDS.get(str(event.get("kind")), "")),
        "says": str(event.get("kind")),
        "delay": "" if known(event.get("delay_s")) is None else duration(event["delay_s"]),
    }


def clock(seconds: float) -> str:
    """Time since the start as hours, minutes and seconds, with days where there are some.

    >>> clock(3725.0), clock(200_000.0)
    ('1:02:05', '2\\xa0d 7:33:20')
    """
    whole = round(seconds)
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    return (f"{days}\u00a0d " if days else "") + f"{hours}:{minutes:02}:{left:02}"
