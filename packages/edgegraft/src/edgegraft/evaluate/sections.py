"""From the report's mapping to what its pages show: sorted, paired up, measured out, drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from edgegraft.evaluate import plots
from edgegraft.evaluate.detect_sections import detection_sections
from edgegraft.evaluate.estimate_sections import estimate_sections, unit_of_all
from edgegraft.evaluate.wording import (
    FALLING,
    SHARES,
    columns,
    difference,
    figure,
    finding,
    known,
    listed,
    metric_name,
    pair,
    score,
    unit_of,
)

SHOWN_METRICS = 4
MANY_CLASSES = 8
MOST_CLASSES = 40
"""More than these are folded away, and no matrix of them is drawn."""
LONG_NAME = 10
SHOWN_GROUPS = 12
SHOWN_CONFUSIONS = 6
SHOWN_TRAININGS = 4
BOUND = ("mixture", "reference", "ln2")
RULES = {
    "test": "The reference is left only where such a test says so.",
    "mixture": "What a mixture may lose is bounded; the reference is left only where a paired test "
    "says so.",
    "structure": "That is an educated guess: more labels would let windows be left out.",
    "source-only": "A few labels of the target would let it be tested.",
}
"""What the guard goes by, in words for those who read a report."""


def sections(report: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the templates need, by section; a section that has nothing to say is empty."""
    evaluation = _at(report, "evaluation")
    primary = str(_at(report, "verdict", "difference").get("metric") or _usual(evaluation))
    unit = unit_of_all(report)
    found = finding(_at(report, "verdict"), unit)
    candidate = _at(report, "verdict", "candidate")
    because = str(_at(report, "verdict").get("because") or "")
    return {
        "finding": found,
        # A reason that is the evidence once more, in other words, says nothing new.
        "because": "" if f"{pair(candidate)} against" in because else because,
        "interval": _interval(_at(report, "verdict"), primary, unit),
        "primary": primary,
        "unit": unit,
        "estimates": estimate_sections(report),
        "detection": detection_sections(report),
        "tiles": _tiles(report, evaluation, primary),
        "rows": _rows(report.get("rows") or (), primary),
        "confusion": _confusion(evaluation),
        "many": MOST_CLASSES,
        "per_class": _per_class(evaluation),
        "per_group": _per_group(evaluation, primary),
        "calibration": _calibration(evaluation),
        "experts": _experts(_at(report, "guard"), _at(report, "data")),
        "beside": _beside(report),
        "learning": _learning(report.get("learning_curve") or (), primary),
        "map": _map(_at(report, "embedding_map")),
        "training": [_training(run) for run in (report.get("training") or ())[:SHOWN_TRAININGS]],
        "classes": _class_counts(_at(report, "data").get("classes")),
        "facts": {
            key: value
            for key, value in _at(report, "data").items()
            if key != "classes" and (key, value) != ("n_groups", 0)
        },
        "ranked": any(known(row.get("score")) is not None for row in report.get("selection") or ()),
        "warnings": _all_warnings(report, evaluation),
    }


def _at(mapping: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """A mapping inside; empty if it is not there."""
    found: Any = mapping
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _usual(evaluation: Mapping[str, Any]) -> str:
    """The metric to go by where no verdict names one."""
    metrics = list(_at(evaluation, "metrics"))
    return "macro_f1" if not metrics or "macro_f1" in metrics else columns(metrics)[0]


def _interval(verdict: Mapping[str, Any], metric: str, of: str = "") -> Markup | None:
    gap = _at(verdict, "difference")
    ends = [known(gap.get(key)) for key in ("mean", "low", "high")]
    if any(end is None for end in ends) or gap.get("n_units") == 1:
        return None
    factor, unit = (100, "points of ") if metric in SHARES else (1, "")
    mean, low, high = (factor * end for end in ends if end is not None)
    outcome = str(verdict.get("outcome") or "undecided")
    named = unit + metric_name(metric) + unit_of(metric, f"[{of}]" if of else "")
    return plots.interval_plot(mean, low, high, named, outcome)


def _tiles(
    report: Mapping[str, Any], evaluation: Mapping[str, Any], primary: str
) -> list[dict[str, Any]]:
    """Key figures of what ships."""
    metrics, ends = _at(evaluation, "metrics"), _at(evaluation, "intervals")
    names = columns((name for name in metrics if known(metrics[name]) is not None), primary, 3)
    unit = unit_of_all(report)
    return [
        {
            "metric": name,
            "value": metrics[name],
            "interval": ends.get(name),
            "unit": unit_of(name, unit),
        }
        for name in names
    ]


def _rows(rows: Sequence[Mapping[str, Any]], primary: str) -> dict[str, Any]:
    """Candidates and controls with their place on a common scale, best first."""
    if not rows:
        return {}
    there = {
        name
        for row in rows
        for name, value in _at(row, "metrics").items()
        if known(value) is not None
    }
    apart = there & {"macro_f1", "accuracy", "log_loss"} and primary not in ("vus_pr", "range_f1")
    names = columns(there, primary, 3 if apart else SHOWN_METRICS)
    if not names:
        return {}  # nothing was compared, and the warnings say why
    values = [known(_at(row, "metrics").get(primary)) for row in rows]
    ends = [_ends(_at(row, "intervals").get(primary)) for row in rows]
    finite = [value for value in values if value is not None]
    finite += [end for pair_of_ends in ends if pair_of_ends for end in pair_of_ends]
    low, high = plots.padded(finite, 0.05)
    if primary in SHARES:
        low, high = max(0.0, math.floor(100 * low) / 100), min(1.0, math.ceil(100 * high) / 100)
    drawn = [
        dict(row)
        | {"name": pair(row), "place": _share(value, low, high), "band": _band(end, low, high)}
        for row, value, end in zip(rows, values, ends, strict=True)
    ]

    def rank(row: Mapping[str, Any]) -> float:
        value = known(_at(row, "metrics").get(primary))
        return float("inf") if value is None else value if primary in FALLING else -value

    drawn.sort(key=rank)
    return {
        "rows": drawn,
        "metrics": names,
        "ends": [plots.percent(end) if primary in SHARES else figure(end) for end in (low, high)],
        "bands": any(row["band"] for row in drawn),
        "sizes": any(known(row.get("size_kib")) is not None for row in rows),
        "seconds": any(known(row.get("seconds")) is not None for row in rows),
    }


def _ends(ends: Any) -> tuple[float, float] | None:
    if not isinstance(ends, (list, tuple)) or len(ends) != 2:
        return None
    low, high = known(ends[0]), known(ends[1])
    return None if low is None or high is None else (low, high)


def _share(value: float | None, low: float, high: float) -> float | None:
    """Place of a value in low..high, in per cent."""
    if value is None or not high > low:
        return None
    return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 2)


def _band(ends: tuple[float, float] | None, low: float, high: float) -> tuple[float, float] | None:
    """Left edge and width of an interval, in per cent."""
    if ends is None:
        return None
    left, right = _share(ends[0], low, high), _share(ends[1], low, high)
    return None if left is None or right is None else (left, round(right - left, 2))


def _confusion(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    counts = evaluation.get("confusion") or ()
    classes = [str(name) for name in evaluation.get("classes") or ()]
    truths = [str(name) for name in evaluation.get("truths") or classes]
    if not counts or not classes or len(truths) < len(counts):
        return {}
    rows, mistakes = [], []
    for index, (truth, row) in enumerate(zip(truths, counts, strict=False)):
        total = sum(row)
        cells = [
            {"n": n, "share": round(n / total, 3) if total else 0.0, "right": place == index}
            for place, n in enumerate(row)
        ]
        rows.append({"truth": truth, "cells": cells, "n": total})
        mistakes += [
            {"truth": truth, "guess": classes[place], "n": n, "share": n / total}
            for place, n in enumerate(row)
            if n and place != index
        ]
    mistakes.sort(key=lambda entry: -entry["n"])
    drawn = len(classes) <= MOST_CLASSES
    return {
        "drawn": drawn,
        "classes": classes,
        "rows": rows,
        "numbered": len(classes) > MANY_CLASSES or max(map(len, classes)) > LONG_NAME,
        "mistakes": mistakes[: SHOWN_CONFUSIONS if drawn else 2 * SHOWN_CONFUSIONS],
        "n_mistakes": sum(entry["n"] for entry in mistakes),
        "n": sum(row["n"] for row in rows),
    }


def _per_class(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, **scores}
        for name, scores in _at(evaluation, "per_class").items()
        if isinstance(scores, Mapping)
    ]


def _per_group(evaluation: Mapping[str, Any], primary: str) -> dict[str, Any]:
    """Groups, worst first; where there are many, the rest is folded away."""
    found = [
        {"name": name, **scores}
        for name, scores in _at(evaluation, "per_group").items()
        if isinstance(scores, Mapping)
    ]
    if not found:
        return {}
    choice = ("accuracy", primary, "mae")
    metric = next((name for name in choice if any(name in row for row in found)), "accuracy")
    values = [known(row.get(metric)) for row in found]
    most = max((value for value in values if value is not None), default=1.0) or 1.0
    falling = metric in FALLING
    for row, value in zip(found, values, strict=True):
        row["bar"] = round((value or 0.0) / (most if falling else 1.0), 4)
    sign = -1.0 if falling else 1.0
    found.sort(
        key=lambda row: (known(row.get(metric)) is None, sign * (known(row.get(metric)) or 0))
    )
    split = SHOWN_GROUPS if len(found) > SHOWN_GROUPS + 4 else len(found)
    return {"metric": metric, "falling": falling, "first": found[:split], "rest": found[split:]}


def _calibration(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    error = known(_at(evaluation, "metrics").get("calibration_error"))
    says = "Accuracy over confidence"
    if error is not None:
        says += f", calibration error {score(error)}"
    dots = [
        [_or_nan(entry.get(key)) for key in ("confidence", "accuracy", "n")]
        for entry in evaluation.get("calibration") or ()
    ]
    plot = plots.reliability_plot(dots, says)
    return {"plot": plot, "error": error} if plot else {}


def _learning(points: Sequence[Mapping[str, Any]], primary: str) -> dict[str, Any]:
    names = list(dict.fromkeys(str(point.get("row")) for point in points))
    lines = []
    for name in names:
        own = [point for point in points if str(point.get("row")) == name]
        own.sort(key=lambda point: known(point.get("labels_per_class")) or 0.0)
        columns = {
            key: [_or_nan(point.get(key)) for point in own]
            for key in ("labels_per_class", "score", "low", "high")
        }
        lines.append(
            plots.Line(
                name, columns["labels_per_class"], columns["score"], columns["low"], columns["high"]
            )
        )
    repeats = [known(point.get("n_repeats")) for point in points]
    plot = plots.line_chart(
        lines,
        x_label="labels per class",
        says=f"{metric_name(primary)} over labels per class for {', '.join(names)}",
        logarithmic=True,
        y_format=plots.percent if primary in SHARES else plots.number,
    )
    most = max((value for value in repeats if value is not None), default=None)
    key = [(plots.stroke(index), name) for index, name in enumerate(names)]
    return {"plot": plot, "legend": key, "n_repeats": most} if plot else {}


def _experts(guard: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The reference and every expert, with how much of each is served, heaviest first."""
    found = [dict(line) for line in guard.get("experts") or () if isinstance(line, Mapping)]
    if not found:
        return {}
    reference = guard.get("reference")
    for line in found:
        line["reference"] = line.get("name") == reference
        line["share"] = min(1.0, max(0.0, known(line.get("weight")) or 0.0))
    found.sort(key=lambda line: -line["share"])
    bound = {name: known(value) for name, value in _at(guard, "bound").items()}
    return {
        "rows": found,
        "sentence": guard.get("sentence"),
        "rule": RULES.get(str(guard.get("rule")), ""),
        "bound": bound if all(bound.get(name) is not None for name in BOUND) else None,
        "tested": any(known(line.get("p_value")) is not None for line in found),
        "grouped": (known(data.get("n_groups")) or 0) > 1,
        "scored": any(known(line.get("log_loss")) is not None for line in found),
    }


def _beside(report: Mapping[str, Any]) -> dict[str, Any]:
    """Pool and sources: how much of each, and what each does to the target."""
    given = _at(report, "beside")
    effects = {
        str(e.get("source")): e for e in report.get("sources") or () if isinstance(e, Mapping)
    }
    rows = []
    if _at(given, "pool"):
        rows.append(_one_beside("the pool", _at(given, "pool"), effects))
    rows += [
        _one_beside(str(name), entry, effects) for name, entry in _at(given, "sources").items()
    ]
    if not rows:
        return {}
    return {
        "rows": rows,
        "effects": bool(effects),
        "summary": report.get("negative_transfer") or "",
        "transductive": report.get("transductive") is True,
    }


def _one_beside(
    name: str, entry: Mapping[str, Any], effects: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    effect = effects.get(name) or {}
    low, high = (known(_at(effect, "before").get(key)) for key in ("low", "high"))
    says = None if low is None or high is None else "chance"
    if low is not None and high is not None and (low > 0 or high < 0):
        says = "helps" if low > 0 else "hurts"
    return {
        "name": name,
        "n_windows": entry.get("n_windows"),
        "n_groups": entry.get("n_groups"),
        "classes": list(_at(entry, "classes")),
        "says": says,
        **{when: _gap(_at(effect, when)) for when in ("before", "after")},
    }


def _gap(gap: Mapping[str, Any]) -> dict[str, str]:
    """A difference and its interval, in words; empty where there is none."""
    metric = str(gap.get("metric") or "macro_f1")
    if known(gap.get("mean")) is None:
        return {}
    ends = [known(gap.get(key)) for key in ("low", "high")]
    interval = (
        "" if None in ends else f"{difference(ends[0], metric)} to {difference(ends[1], metric)}"
    )
    return {"mean": difference(gap["mean"], metric), "interval": interval}


def _or_nan(value: Any) -> float:
    number = known(value)
    return float("nan") if number is None else number


def _map(embedding: Mapping[str, Any]) -> dict[str, Any]:
    points = embedding.get("points") or ()
    domains = {str(point.get("domain", plots.TARGET)) for point in points}
    sources = sorted(domains - {plots.TARGET, plots.POOL})
    labels = sorted({str(p.get("label")) for p in points if p.get("domain") != plots.POOL})
    wrong = sum(point.get("correct") is False for point in points)
    plot = plots.scatter_map(
        points, labels, f"Map of {len(points)} embeddings, {wrong} predicted wrongly"
    )
    if not plot:
        return {}
    return {
        "plot": plot,
        "legend": [
            *((plots.swatch(index), label) for index, label in enumerate(labels)),
            *([(plots.swatch_of(plots.POOL), "the pool")] if plots.POOL in domains else []),
            *([(plots.swatch_of(""), listed(sources))] if sources else []),
        ],
        "explains": embedding.get("explains"),
        "wrong": wrong,
        "repeats": len(labels) > plots.N_COLOURS * plots.SHAPES,
    }


def _training(run: Mapping[str, Any]) -> dict[str, Any]:
    epochs = run.get("epochs") or ()
    x = [_or_nan(epoch.get("epoch", index)) for index, epoch in enumerate(epochs)]
    keys = [
        key
        for key in ("loss", "validation_loss")
        if any(known(epoch.get(key)) is not None for epoch in epochs)
    ]
    lines = [
        plots.Line(key.replace("_", " "), x, [_or_nan(epoch.get(key)) for epoch in epochs])
        for key in keys
    ]
    name = str(run.get("name") or "training")
    plot = plots.line_chart(lines, x_label="epoch", says=f"Loss of {name} over epochs")
    scored = [known(epoch.get("metric")) for epoch in epochs]
    best = max((value for value in scored if value is not None), default=None)
    legend = [(plots.stroke(index), line.name) for index, line in enumerate(lines)]
    return {"name": name, "plot": plot, "legend": legend, "best": best, "n": len(epochs)}


def _class_counts(classes: Any) -> list[dict[str, Any]]:
    if not isinstance(classes, Mapping) or not classes:
        return []
    most = max((known(n) or 0.0 for n in classes.values()), default=0.0) or 1.0
    return [
        {"name": str(name), "n": n, "share": round((known(n) or 0.0) / most, 3)}
        for name, n in classes.items()
    ]


def _all_warnings(report: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[str]:
    found = [*(report.get("warnings") or ()), *(evaluation.get("warnings") or ())]
    return list(dict.fromkeys(str(warning) for warning in found))
