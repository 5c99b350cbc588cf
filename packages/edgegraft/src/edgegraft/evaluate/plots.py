"""Plots of the report as small inline SVG: no script, no font, colours from the page's style.

Drawn by hand rather than by a plotting library: a plot takes a few kB, follows light and dark,
and its text stays at reading size at the width of a phone (`WIDTH` is about that width).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 380
N_COLOURS = 8
SHAPES = 3
TARGET, POOL = "target", "pool"
"""Where a point of a map is from; any other word is the name of a source."""
MAX_POINTS = 1500
"""Points drawn in a map; more only cost bytes."""
FEW_POINTS = 150
"""Up to so many, marks are drawn larger."""


@dataclass(frozen=True)
class Scale:
    """Maps values low..high to start..stop of the picture, perhaps by their logarithm."""

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(value), math.log(low), math.log(high)
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.stop - self.start), 1)


@dataclass(frozen=True)
class Line:
    """One line of a chart; `low` and `high`, if there, make a band around it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values in low..high, at most about `most` of them.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(-1.3, 4.1)
    [0.0, 2.0, 4.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 5) if m * power >= rough * 0.999), 10 * power)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) + 0.0 for index in range(first, last + 1)]


def padded(values: Iterable[float], share: float = 0.08) -> tuple[float, float]:
    """Range of the finite values with some air; 0..1 if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    air = (high - low) * share or abs(high) * share or 0.1
    return low - air, high + air


def number(value: float) -> str:
    """A tick label: as short as it can be.

    >>> number(0.5), number(10.0), number(-2.0), number(12000.0)
    ('0.5', '10', '−2', '12k')
    """
    text = f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"
    return text.replace("-", "−")


def percent(value: float) -> str:
    """A tick label for a share: 0.9 as ``90 %``."""
    return f"{number(round(100 * value, 6))} %"


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "middle") -> Markup:
    """Words at a place."""
    return Markup('<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>').format(
        round(x, 1), round(y, 1), kind, anchor, content
    )


def rule(x1: float, y1: float, x2: float, y2: float, kind: str = "grid") -> Markup:
    """A straight line."""
    return Markup('<path class="{}" d="M{} {}L{} {}"/>').format(kind, x1, y1, x2, y2)


def picture(height: float, says: str, parts: Iterable[str]) -> Markup:
    """The parts as one picture of `WIDTH`; `says` is read out in its place."""
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        WIDTH, height, says
    )
    return head + Markup("").join(parts) + Markup("</svg>")


def interval_plot(mean: float, low: float, high: float, unit: str, outcome: str) -> Markup:
    """A difference with its interval, against zero.

    The values are in `unit`, already scaled for reading.
    """
    left, right = padded([mean, low, high, 0.0], 0.12)
    reach = 0.35 * max(abs(left), abs(right))  # zero never stands at the very edge
    across = Scale(min(left, -reach), max(right, reach), 10, WIDTH - 10)
    zero, middle = across(0.0), 42
    parts = [
        Markup('<rect class="band {}" x="{}" y="22" width="{}" height="40"/>').format(
            outcome, across(low), max(0.5, round(across(high) - across(low), 1))
        ),
        rule(across(low), middle, across(high), middle, f"whisker {outcome}"),
        rule(zero, 16, zero, 70, "zero"),
        Markup('<circle class="dot {}" cx="{}" cy="{}" r="6"/>').format(
            outcome, across(mean), middle
        ),
        text(zero - 8, 12, "← worse", "quiet", "end"),
        text(zero + 8, 12, "better →", "quiet", "start"),
    ]
    parts += [text(across(tick), 84, number(tick)) for tick in ticks(across.low, across.high)]
    parts.append(text(WIDTH / 2, 101, f"difference in {unit}", "quiet"))
    says = f"Difference {mean:.3g}, interval {low:.3g} to {high:.3g} {unit}, against zero"
    return picture(106, says, parts)


def frame(
    across: Scale,
    up: Scale,
    x_ticks: Sequence[float],
    x_label: str,
    y_format: Callable[[float], str],
) -> list[Markup]:
    """Grid lines, tick labels and the label of the horizontal axis."""
    parts = []
    for tick in ticks(up.low, up.high):
        parts.append(rule(across.start, up(tick), across.stop, up(tick)))
        parts.append(text(across.start - 6, up(tick) + 4, y_format(tick), "", "end"))
    for tick in x_ticks:
        parts.append(text(across(tick), up.start + 18, number(tick)))
    parts.append(text((across.start + across.stop) / 2, up.start + 36, x_label, "quiet"))
    return parts


def _finite(line: Line) -> list[tuple[float, float, float, float]]:
    """Points (x, y, low, high) of a line; the band closes where its ends are unknown."""
    rows = []
    for index, (x, y) in enumerate(zip(line.x, line.y, strict=True)):
        low = line.low[index] if index < len(line.low) else y
        high = line.high[index] if index < len(line.high) else y
        if math.isfinite(x) and math.isfinite(y):
            rows.append(
                (x, y, low if math.isfinite(low) else y, high if math.isfinite(high) else y)
            )
    return rows


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    says: str,
    logarithmic: bool = False,
    y_format: Callable[[float], str] = number,
    from_zero: bool = False,
) -> Markup:
    """Lines over a common horizontal axis; nothing if they have no two places on it."""
    drawn = [(index % N_COLOURS, _finite(line)) for index, line in enumerate(lines)]
    points = [point for _, rows in drawn for point in rows]
    xs = sorted({point[0] for point in points})
    if len(xs) < 2:
        return Markup("")
    logarithmic = logarithmic and xs[0] > 0
    across = Scale(xs[0], xs[-1], 56, WIDTH - 20, logarithmic)
    low, high = padded(value for point in points for value in point[1:])
    up = Scale(0.0 if from_zero and low > 0 else low, high, 196, 12)
    x_ticks = xs if len(xs) <= 7 and logarithmic else ticks(xs[0], xs[-1])
    parts = frame(across, up, x_ticks, x_label, y_format)
    for colour, rows in drawn:
        top = [f"{across(x)} {up(high)}" for x, _, _, high in rows]
        bottom = [f"{across(x)} {up(low)}" for x, _, low, _ in reversed(rows)]
        if any(low < high for _, _, low, high in rows):
            parts.append(
                Markup('<path class="area c{}" d="M{}Z"/>').format(colour, "L".join(top + bottom))
            )
    for colour, rows in drawn:
        path = "L".join(f"{across(x)} {up(y)}" for x, y, _, _ in rows)
        if path:
            parts.append(Markup('<path class="line c{}" d="M{}"/>').format(colour, path))
        if len(rows) <= 12:
            parts += [
                Markup('<circle class="dot c{}" cx="{}" cy="{}" r="3.5"/>').format(
                    colour, across(x), up(y)
                )
                for x, y, _, _ in rows
            ]
    return picture(240, says, parts)


def reliability_plot(dots: Iterable[Sequence[float]], says: str) -> Markup:
    """Dots (confidence, accuracy, n): on the diagonal a model is as often right as it says."""
    drawn = [dot for dot in dots if all(map(math.isfinite, dot)) and dot[2] > 0]
    if not drawn:
        return Markup("")
    across, up = Scale(0, 1, 56, WIDTH - 24), Scale(0, 1, 226, 12)
    parts = frame(across, up, [], "confidence of the model", percent)
    parts += [text(across(tick), up.start + 18, percent(tick)) for tick in ticks(0, 1)]
    parts.append(rule(across(0), up(0), across(1), up(1), "zero"))
    most = max(n for _, _, n in drawn)
    parts += [
        Markup('<circle class="dot c0 see" cx="{}" cy="{}" r="{}"/>').format(
            across(confidence), up(accuracy), round(3 + 9 * math.sqrt(n / most), 1)
        )
        for confidence, accuracy, n in drawn
    ]
    return picture(268, says, parts)


def trade_off(
    points: Sequence[tuple[float, float, bool, str]], *, x_label: str, says: str
) -> Markup:
    """Shares over a cost: (cost, share, whether no cheaper one reaches it, name) for each point.

    Points of the front are joined; the others are pale.
    """
    across = Scale(*padded([point[0] for point in points]), 56, WIDTH - 20)
    low, high = padded([point[1] for point in points], 0.1)
    up = Scale(low, min(1.0, high), 196, 12)
    parts = frame(across, up, ticks(across.low, across.high), x_label, percent)
    front = sorted((cost, share) for cost, share, best, _ in points if best)
    path = "L".join(f"{across(cost)} {up(share)}" for cost, share in front)
    parts.append(Markup('<path class="line c0" d="M{}"/>').format(path))
    parts += [
        Markup('<circle class="dot {}" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>').format(
            "c0" if best else "c7 see", across(cost), up(share), name
        )
        for cost, share, best, name in points
    ]
    return picture(240, says, parts)


def look(index: int) -> str:
    """Style of the class at `index`: a colour, and another shape when the colours are used up."""
    return f"c{index % N_COLOURS} k{index // N_COLOURS % SHAPES}"


def scatter_map(points: Sequence[Mapping[str, object]], labels: Sequence[str], says: str) -> Markup:
    """Embeddings in two dimensions, one look for each label, wrong predictions ringed.

    Points of a pool (``"domain": "pool"``) are small and grey, those of sources small crosses in
    the colour of their label; both lie beneath the others.
    """
    step = max(1, math.ceil(len(points) / MAX_POINTS))
    drawn = [point for point in points[::step] if _is_placed(point)]
    if not drawn:
        return Markup("")
    xs, ys = ([float(str(point[key])) for point in drawn] for key in ("x", "y"))
    across = Scale(*padded(xs, 0.02), 6, WIDTH - 6)
    up = Scale(*padded(ys, 0.02), 314, 6)
    places = [(across(x), up(y), point) for x, y, point in zip(xs, ys, drawn, strict=True)]
    own = [each for each in places if each[2].get("domain", TARGET) == TARGET]
    pool = [(x, y) for x, y, point in places if point.get("domain") == POOL]
    few = len(own) <= FEW_POINTS
    parts = [_dots(pool, "pool", "the pool")] if pool else []
    for index, label in enumerate(labels):
        away = [
            (x, y)
            for x, y, point in places
            if point.get("domain", TARGET) not in (TARGET, POOL) and str(point["label"]) == label
        ]
        if away:
            parts.append(_crosses(away, index, label))
    for index, label in enumerate(labels):
        here = [(x, y, point) for x, y, point in own if str(point["label"]) == label]
        if here:
            kind = f"{look(index)}{' few' if few else ''}"
            parts.append(_dots([(x, y) for x, y, _ in here], kind, label))
        parts += [
            Markup('<circle class="ring" cx="{}" cy="{}" r="{}"/>').format(
                x, y, 6.5 if few else 4.5
            )
            for x, y, point in here
            if point.get("correct") is False
        ]
    return picture(320, says, parts)


def _is_placed(point: Mapping[str, object]) -> bool:
    values = [point.get(key) for key in ("x", "y")]
    return all(value is not None and math.isfinite(float(str(value))) for value in values)


def _dots(places: Iterable[tuple[float, float]], kind: str, title: str) -> Markup:
    marks = "".join(f"M{x} {y}h0" for x, y in places)
    return Markup('<path class="marks {}" d="{}"><title>{}</title></path>').format(
        kind, marks, title
    )


def _crosses(places: Iterable[tuple[float, float]], index: int, title: str) -> Markup:
    marks = "".join(f"M{round(x - 2.5, 1)} {y}h5M{x} {round(y - 2.5, 1)}v5" for x, y in places)
    return Markup('<path class="crosses c{}" d="{}"><title>{}</title></path>').format(
        index % N_COLOURS, marks, title
    )


def swatch_of(domain: str) -> Markup:
    """The key to a point of the pool, or of a source."""
    inner = (
        Markup('<path class="marks pool" d="M4.5 4.5h0"/>')
        if domain == POOL
        else Markup('<path class="crosses c7" d="M2 4.5h5M4.5 2v5"/>')
    )
    return Markup('<svg class="swatch" viewBox="0 0 9 9" aria-hidden="true">{}</svg>').format(inner)


def swatch(index: int) -> Markup:
    """The key to one look, for a legend."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 9 9" aria-hidden="true">'
        '<path class="marks {}" d="M4.5 4.5h0"/></svg>'
    ).format(look(index))


def stroke(index: int) -> Markup:
    """The key to one line, for a legend."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 12 12" aria-hidden="true">'
        '<path class="line c{}" d="M0 6L12 6"/></svg>'
    ).format(index % N_COLOURS)
