"""Plots of estimates, as those of `plots`: small inline SVG in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from edgegraft.evaluate.plots import (
    WIDTH,
    Line,
    Scale,
    frame,
    line_chart,
    number,
    padded,
    percent,
    picture,
    rule,
    text,
    ticks,
)
from edgegraft.evaluate.wording import known

IN_FULL = {"d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds"}
LEFT, RIGHT, TOP, BOTTOM = 56, WIDTH - 14, 12, 196


def fan_chart(fan: Mapping[str, Any], time: Mapping[str, Any]) -> Markup:
    """A forecast: what was seen, what came, the median, and intervals as nested bands."""
    per = known(time.get("samples")) or 1.0
    steps = [float(step) / per for step in fan.get("steps") or ()]
    quantiles = [_numbers(line) for line in fan.get("quantiles") or ()]
    levels = [float(level) for level in fan.get("levels") or ()]
    context, truth = _numbers(fan.get("context")), _numbers(fan.get("truth"))
    if not steps or len(quantiles) != len(levels):
        return Markup("")
    before = [(at - len(context) + 1) / per for at in range(len(context))]
    across = Scale(min([0.0, *before]), max(steps), LEFT, RIGHT)
    drawn = [*context, *truth, *(value for line in quantiles for value in line)]
    up = Scale(*padded(drawn), BOTTOM, TOP)
    label = f"{_in_full(time)} from now"
    parts = frame(across, up, ticks(across.low, across.high), label, number)
    for place in range(len(levels) // 2):
        low, high = quantiles[place], quantiles[-1 - place]
        parts.append(_band(across, up, steps, low, high, "c0"))
    parts.append(rule(across(0), TOP, across(0), BOTTOM, "zero"))
    joined = [*zip(before, context, strict=True), *zip(steps, truth, strict=True)]
    parts.append(_path(across, up, joined, "line truth"))
    middle = quantiles[levels.index(0.5)] if 0.5 in levels else quantiles[len(levels) // 2]
    parts.append(_path(across, up, list(zip(steps, middle, strict=True)), "line c0"))
    says = f"Forecast of {fan.get('quantity')}, {fan.get('kind')}: truth, median and intervals"
    return picture(240, says, parts)


def _in_full(time: Mapping[str, Any]) -> str:
    unit = str(time.get("unit") or "samples")
    return IN_FULL.get(unit, unit)


def over_time(entry: Mapping[str, Any], seconds: float, unit: str) -> Markup:
    """Estimate and truth of one unit along time, with the interval as a band."""
    x = [value / seconds for value in _numbers(entry.get("x"))]
    truth, point = _numbers(entry.get("truth")), _numbers(entry.get("point"))
    low, high = _numbers(entry.get("low")), _numbers(entry.get("high"))
    if len(x) < 2:
        return Markup("")
    across = Scale(min(x), max(x), LEFT, RIGHT)
    up = Scale(*padded([*truth, *point, *low, *high]), BOTTOM, TOP)
    parts = frame(
        across, up, ticks(across.low, across.high), f"time in {IN_FULL.get(unit, unit)}", number
    )
    if low and high:
        parts.append(_band(across, up, x, low, high, "c0"))
    parts.append(_path(across, up, list(zip(x, point, strict=True)), "line c0"))
    parts.append(_path(across, up, list(zip(x, truth, strict=True)), "line truth"))
    says = f"{entry.get('quantity')} of {entry.get('unit_name')} over time: truth and estimate"
    return picture(240, says, parts)


def truth_scatter(entry: Mapping[str, Any]) -> Markup:
    """Estimates over truths; on the diagonal they agree. Whiskers are intervals, where few."""
    truth, point = _numbers(entry.get("truth")), _numbers(entry.get("point"))
    low, high = _numbers(entry.get("low")), _numbers(entry.get("high"))
    pairs = [(t, p) for t, p in zip(truth, point, strict=True) if _finite(t, p)]
    if not pairs:
        return Markup("")
    few = len(pairs) <= 150 and bool(low)
    ends = padded([value for pair in pairs for value in pair] + (low + high if few else []), 0.04)
    across, up = Scale(*ends, LEFT, RIGHT), Scale(*ends, 286, TOP)
    unit = f" in {entry['unit']}" if entry.get("unit") else ""
    label = f"true {entry.get('quantity')}{unit}"
    parts = frame(across, up, ticks(*ends), label, number)
    parts.append(rule(across(ends[0]), up(ends[0]), across(ends[1]), up(ends[1]), "zero"))
    if few:
        whiskers = "".join(
            f"M{across(t)} {up(a)}V{up(b)}" for t, a, b in zip(truth, low, high, strict=True)
            if _finite(t, a, b)
        )  # fmt: skip
        parts.append(Markup('<path class="spread" d="{}"/>').format(whiskers))
    marks = "".join(f"M{across(t)} {up(p)}h0" for t, p in pairs)
    kind = "few" if few else "many"
    parts.append(Markup('<path class="marks c0 {}" d="{}"/>').format(kind, marks))
    return picture(328, f"Estimated over true {entry.get('quantity')}", parts)


def step_chart(
    shipped: Sequence[float],
    controls: Mapping[str, Sequence[float]],
    name: str,
    steps: Sequence[int],
    time: Mapping[str, Any],
) -> tuple[Markup, list[str]]:
    """Mean error over how far ahead, of what ships and of controls; and the names drawn."""
    per = known(time.get("samples")) or 1.0
    x = [step / per for step in steps]
    lines = [Line(name, x, _numbers(shipped))]
    lines += [Line(each, x, _numbers(errors)) for each, errors in controls.items()]
    lines = [line for line in lines if len(line.y) == len(x)]
    label = f"{_in_full(time)} ahead"
    plot = line_chart(lines, x_label=label, says=f"Error over {label}", from_zero=True)
    return plot, [line.name for line in lines]


def coverage_chart(
    shares: Sequence[float], nominal: float, steps: Sequence[int], time: Mapping[str, Any]
) -> Markup:
    """What the widest interval holds, over how far ahead; the dashed line is what it should."""
    per = known(time.get("samples")) or 1.0
    x = [step / per for step in steps]
    y = _numbers(shares)
    if len(x) < 2 or len(y) != len(x):
        return Markup("")
    across = Scale(x[0], x[-1], LEFT, RIGHT)
    low, high = padded([*y, nominal], 0.25)
    up = Scale(max(0.0, min(low, nominal - 0.05)), min(1.0, max(high, nominal + 0.05)), BOTTOM, TOP)
    label = f"{_in_full(time)} ahead"
    parts = frame(across, up, ticks(x[0], x[-1]), label, percent)
    parts.append(rule(across.start, up(nominal), across.stop, up(nominal), "zero"))
    parts.append(_path(across, up, list(zip(x, y, strict=True)), "line c0"))
    return picture(240, f"Share held by intervals of {percent(nominal)} over {label}", parts)


def level_chart(entries: Sequence[Mapping[str, Any]]) -> Markup:
    """The share of truths at or below each quantile, over its level."""
    dots = [(known(entry.get("level")), known(entry.get("share"))) for entry in entries]
    drawn = [(x, y) for x, y in dots if x is not None and y is not None]
    if len(drawn) < 2:
        return Markup("")
    across, up = Scale(0, 1, LEFT, WIDTH - 24), Scale(0, 1, 226, TOP)
    parts = frame(across, up, [], "level of the quantile", percent)
    parts += [text(across(tick), up.start + 18, percent(tick)) for tick in ticks(0, 1)]
    parts.append(rule(across(0), up(0), across(1), up(1), "zero"))
    parts.append(_path(across, up, drawn, "line c0"))
    parts += [
        Markup('<circle class="dot c0" cx="{}" cy="{}" r="4.5"/>').format(across(x), up(y))
        for x, y in drawn
    ]
    return picture(268, "Share of truths at or below each quantile, over its level", parts)


def key(kind: str) -> Markup:
    """The key to a line of truth or to a band, for a legend."""
    if kind == "truth":
        mark = Markup('<path class="line truth" d="M0 6L12 6"/>')
    else:
        mark = Markup('<path class="area {}" d="M0 1L12 1L12 11L0 11Z"/>').format(kind)
    return Markup('<svg class="swatch" viewBox="0 0 12 12" aria-hidden="true">{}</svg>').format(
        mark
    )


def _band(
    across: Scale, up: Scale, x: Sequence[float], low: Sequence[float], high: Sequence[float],
    colour: str,
) -> Markup:  # fmt: skip
    top = [f"{across(a)} {up(b)}" for a, b in zip(x, high, strict=True) if _finite(a, b)]
    bottom = [f"{across(a)} {up(b)}" for a, b in zip(x, low, strict=True) if _finite(a, b)]
    if not top or not bottom:
        return Markup("")
    return Markup('<path class="area {}" d="M{}Z"/>').format(colour, "L".join(top + bottom[::-1]))


def _path(across: Scale, up: Scale, points: Sequence[tuple[float, float]], kind: str) -> Markup:
    """A line, broken where a value is unknown."""
    pieces: list[list[str]] = [[]]
    for x, y in points:
        if _finite(x, y):
            pieces[-1].append(f"{across(x)} {up(y)}")
        elif pieces[-1]:
            pieces.append([])
    drawn = "".join("M" + "L".join(piece) for piece in pieces if piece)
    return Markup('<path class="{}" d="{}"/>').format(kind, drawn) if drawn else Markup("")


def _numbers(values: Any) -> list[float]:
    found = [known(value) for value in values or ()]
    return [math.nan if value is None else value for value in found]


def _finite(*values: float) -> bool:
    return all(map(math.isfinite, values))
