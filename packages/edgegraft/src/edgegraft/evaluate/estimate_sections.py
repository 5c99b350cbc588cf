"""From the report's `estimates` and their evaluation to what its pages show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgegraft.evaluate import estimate_plots, plots
from edgegraft.evaluate.estimate_report import time_unit
from edgegraft.evaluate.wording import capital, figure, known, score

MANY_STEPS = 4
"""Steps ahead from which errors are drawn over them."""
IN_FULL = {"remaining": "remaining life"}
"""Quantities whose names read better in full."""
BESIDE = 0.03
"""How far an interval may hold more or less than it says and still be called right."""


def estimate_sections(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates need of estimates; empty where nothing was estimated."""
    drawn = report.get("estimates")
    evaluation = report.get("evaluation")
    if not isinstance(drawn, Mapping) or not drawn.get("outputs"):
        return {}
    scored = evaluation if isinstance(evaluation, Mapping) else {}
    return {
        "unit": unit_of_all(report),
        "fans": [_fan(fan, drawn) for fan in drawn.get("fans") or ()],
        "fan_key": _fan_key(drawn),
        "steps": _steps(drawn, report),
        "scatter": [_scatter(entry) for entry in drawn.get("scatter") or ()],
        "over_time": _over_time(drawn),
        "intervals": _intervals(drawn, scored),
        "targets": _targets(scored),
        "worst": [] if scored.get("per_group") else _worst(scored),
    }


def unit_of_all(report: Mapping[str, Any]) -> str:
    """The unit of what is estimated, where all quantities have one."""
    drawn = report.get("estimates")
    outputs = drawn.get("outputs") if isinstance(drawn, Mapping) else None
    units = set(outputs.get("units") or ()) if isinstance(outputs, Mapping) else set()
    return str(next(iter(units))) if len(units) == 1 else ""


def _fan(fan: Mapping[str, Any], drawn: Mapping[str, Any]) -> dict[str, Any]:
    unit = f" [{fan['unit']}]" if fan.get("unit") else ""
    return {
        "title": f"{capital(str(fan.get('kind')))}: {fan.get('quantity')}{unit}",
        "caption": f"{fan.get('recording')}, from sample {fan.get('start')}",
        "plot": estimate_plots.fan_chart(fan, drawn.get("time") or {}),
    }


def _fan_key(drawn: Mapping[str, Any]) -> list[tuple[Any, str]]:
    outputs = drawn.get("outputs") or {}
    levels = [float(level) for level in outputs.get("levels") or ()]
    shares = [levels[-1 - at] - levels[at] for at in range(len(levels) // 2)]
    found = [(estimate_plots.key("truth"), "what came"), (plots.stroke(0), "median")]
    if shares:
        said = " and ".join(plots.percent(round(share, 4)) for share in sorted(shares))
        found.append((estimate_plots.key("c0"), f"intervals of {said}"))
    return found


def _steps(drawn: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    entries = drawn.get("per_step") or ()
    if len(entries) < MANY_STEPS:
        return {}
    steps = [int(entry["step"]) for entry in entries]
    time = drawn.get("time") or {}
    shipped = report.get("shipped") or {}
    name = "/".join(str(shipped[key]) for key in ("backbone", "strategy") if shipped.get(key))
    errors, names = estimate_plots.step_chart(
        [entry.get("error") for entry in entries],
        drawn.get("controls") or {},
        name or "what ships",
        steps,
        time,
    )
    outputs = drawn.get("outputs") or {}
    levels = outputs.get("levels") or (0.5,)
    coverage = estimate_plots.coverage_chart(
        [entry.get("coverage") for entry in entries], round(levels[-1] - levels[0], 6), steps, time
    )
    return {
        "errors": errors,
        "unit": drawn.get("error_unit") or "",
        "legend": [(plots.stroke(at), each) for at, each in enumerate(names)],
        "coverage": coverage if len(levels) > 1 else "",
        "nominal": plots.percent(round(levels[-1] - levels[0], 4)),
    }


def _named(entry: Mapping[str, Any]) -> str:
    name = str(entry.get("quantity"))
    return IN_FULL.get(name, name)


def _scatter(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": _named(entry),
        "plot": estimate_plots.truth_scatter({**entry, "quantity": _named(entry)}),
        "n": entry.get("n"),
        "drawn": len(entry.get("truth") or ()),
    }


def _over_time(drawn: Mapping[str, Any]) -> dict[str, Any]:
    entries = [entry for entry in drawn.get("over_time") or () if entry.get("x")]
    if not entries:
        return {}
    samples = (drawn.get("time") or {}).get("unit") == "samples"
    longest = max(max(entry["x"]) for entry in entries)
    unit, seconds = ("samples", 1.0) if samples else time_unit(longest)
    quantity = _named(entries[0])
    return {
        "quantity": quantity,
        "plots": [
            {
                "title": f"{capital(str(entry.get('kind')))}: {entry.get('unit_name')}",
                "error": figure(known(entry.get("error")) or 0.0)
                + (f"\u00a0{entry['unit']}" if entry.get("unit") else ""),
                "plot": estimate_plots.over_time(entry, seconds, unit),
            }
            for entry in entries
        ],
        "key": [
            (estimate_plots.key("truth"), "truth"),
            (plots.stroke(0), "estimate"),
            *([(estimate_plots.key("c0"), "interval")] if entries[0].get("low") else []),
        ],
    }


def _intervals(drawn: Mapping[str, Any], scored: Mapping[str, Any]) -> dict[str, Any]:
    entries = scored.get("reliability") or drawn.get("reliability") or ()
    plot = estimate_plots.level_chart(entries) if len(entries) > 1 else ""
    rows = [
        {**entry, "name": plots.percent(known(entry.get("nominal")) or 0.0), "says": _says(entry)}
        for entry in scored.get("covered") or ()
        if isinstance(entry, Mapping)
    ]
    return {"plot": plot, "rows": rows} if plot or rows else {}


def _says(entry: Mapping[str, Any]) -> str:
    share, nominal = known(entry.get("share")), known(entry.get("nominal"))
    if share is None or nominal is None:
        return ""
    low, high = known(entry.get("low")), known(entry.get("high"))
    within = low is not None and high is not None and low <= nominal <= high
    if within or abs(share - nominal) <= BESIDE:
        return "as asked"
    return "too narrow" if share < nominal else "too wide"


def _targets(scored: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = scored.get("per_target")
    if not isinstance(found, Mapping) or len(found) < 2:
        return []
    return [{"name": name, **scores} for name, scores in found.items()]


def _worst(scored: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = [dict(entry) for entry in scored.get("worst") or () if isinstance(entry, Mapping)]
    most = max((known(entry.get("mae")) or 0.0 for entry in found), default=0.0) or 1.0
    return [
        entry | {"bar": round((known(entry.get("mae")) or 0.0) / most, 3),
                 "mae": score(entry.get("mae"), "mae")}
        for entry in found
    ]  # fmt: skip
