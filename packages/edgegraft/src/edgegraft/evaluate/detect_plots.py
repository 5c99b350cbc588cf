"""A timeline of alarms: score and border, true anomalies, events, and what contributed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from edgegraft.evaluate.estimate_report import time_unit
from edgegraft.evaluate.plots import WIDTH, Scale, number, percent, picture, rule, text, ticks
from edgegraft.evaluate.wording import known

IN_FULL = {"d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds"}
LEFT, RIGHT = 74, WIDTH - 14
LANE, GAP = 12, 4
HEAT = 12
"""Height of one channel in the strip."""
SHADES = 5
LONGEST = 9
"""Letters of a channel's name that there is room for."""


def timeline(entry: Mapping[str, Any], border: float, begins_at_zero: bool = True) -> Markup:
    """One recording; nothing where it has no two places."""
    x = [known(value) or 0.0 for value in entry.get("x") or ()]
    score = [known(value) or 0.0 for value in entry.get("score") or ()]
    if len(x) < 2 or len(score) != len(x):
        return Markup("")
    ends = 0.0 if begins_at_zero else x[0], max(x[-1], known(entry.get("end_s")) or x[-1])
    unit, seconds = time_unit(ends[1] - ends[0])
    across = Scale(ends[0] / seconds, ends[1] / seconds, LEFT, RIGHT)
    up = Scale(0.0, 1.0, 118, 12)
    parts = []
    for tick in (0.0, 0.5, 1.0):
        parts.append(rule(LEFT, up(tick), RIGHT, up(tick)))
        parts.append(text(LEFT - 6, up(tick) + 4, percent(tick), "", "end"))
    for low, high in entry.get("truth") or ():
        parts.append(_block(across, low / seconds, high / seconds, 12, 106, "odd"))
    parts.append(rule(LEFT, up(border), RIGHT, up(border), "zero"))
    path = "L".join(
        f"{across(at / seconds)} {up(min(1.0, max(0.0, value)))}"
        for at, value in zip(x, score, strict=True)
    )
    parts.append(Markup('<path class="line c0 thin" d="M{}"/>').format(path))
    top = 130.0
    for name, key, kind in (("anomaly", "truth", "odd full"), ("alarm", "alarms", "alarm")):
        parts.append(text(LEFT - 6, top + 10, name, "quiet", "end"))
        parts.append(_lane(across, top))
        for low, high in entry.get(key) or ():
            parts.append(_block(across, low / seconds, high / seconds, top, LANE, kind))
        top += LANE + GAP
    top += GAP
    strip, top = _strip(entry, [at / seconds for at in x], across, top)
    parts += strip
    for tick in ticks(across.low, across.high):
        parts.append(text(across(tick), top + 14, number(tick)))
    label = f"{IN_FULL.get(unit, unit)} from the start"
    parts.append(text((LEFT + RIGHT) / 2, top + 32, label, "quiet"))
    says = f"Score of {entry.get('recording')} over time, with anomalies and alarms"
    return picture(round(top + 38, 1), says, parts)


def _strip(
    entry: Mapping[str, Any], x: Sequence[float], across: Scale, top: float
) -> tuple[list[Markup], float]:
    """What each channel adds, 0 to 1, as a row of cells, darker where it is more."""
    parts: list[Markup] = []
    channels = entry.get("channels") or ()
    for name, line in zip(channels, entry.get("heat") or (), strict=False):
        shown = name if len(str(name)) <= LONGEST else f"{str(name)[: LONGEST - 1]}…"
        parts.append(text(LEFT - 6, top + 10, shown, "quiet small", "end"))
        parts.append(_lane(across, top))
        for low, high, level in _runs(x, line):
            left, right = across(low), across(high)
            parts.append(
                Markup('<rect class="heat" x="{}" y="{}" width="{}" height="{}" '
                       'fill-opacity="{}"><title>{}</title></rect>').format(
                    left, top, max(1.0, round(right - left, 1)), HEAT, level, name
                )
            )  # fmt: skip
        top += HEAT + 2
    return parts, top


def _runs(x: Sequence[float], line: Iterable[Any]) -> list[tuple[float, float, float]]:
    """Stretches of one level: from, to, level; what is nothing is left out."""
    step = (x[-1] - x[0]) / max(1, len(x) - 1)
    found: list[tuple[float, float, float]] = []
    for at, value in zip(x, line, strict=False):
        size = known(value) or 0.0
        level = round(SHADES * min(1.0, max(0.0, size))) / SHADES
        if found and found[-1][2] == level and math.isclose(found[-1][1], at - step, abs_tol=step):
            found[-1] = (found[-1][0], at, level)
        else:
            found.append((at - step, at, level))
    return [run for run in found if run[2] > 0]


def _lane(across: Scale, top: float) -> Markup:
    return Markup('<rect class="lane" x="{}" y="{}" width="{}" height="{}"/>').format(
        across.start, top, across.stop - across.start, LANE
    )


def _block(across: Scale, low: float, high: float, top: float, height: float, kind: str) -> Markup:
    """A stretch of time, at least wide enough to be seen."""
    left, right = across(low), across(high)
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        kind, left, top, max(2.0, round(right - left, 1)), height
    )


def key(kind: str) -> Markup:
    """The key to a stretch of time, for a legend."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 12 12" aria-hidden="true">'
        '<rect class="{}" x="0" y="1" width="12" height="10"/></svg>'
    ).format(kind)
