"""Figures and findings in words: what the report, and anyone who quotes it, says of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from numbers import Real
from typing import Any, NamedTuple

MISSING = "–"
SHARES = frozenset(
    {
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "macro_precision",
        "macro_recall",
        "weighted_f1",
        "precision",
        "recall",
        "f1",
        "calibration_error",
        "coverage",
        "range_f1",
        "range_precision",
        "range_recall",
        "alarmed_share",
    }
)
"""Metrics that are shares of one, and read best as per cent."""

ERRORS = ("rmse", "mae", "mse", "mase", "quantile_loss", "phm_score", "width")
"""Of estimates; they have the scale of what is estimated, and no upper end."""

FALLING = frozenset(
    {
        "log_loss",
        "brier",
        "calibration_error",
        "delay_s",
        "false_alarms_per_day",
        "alarmed_share",
        *ERRORS,
    }
)
"""Metrics that are better when lower."""

IN_UNIT = frozenset({"rmse", "mae", "quantile_loss", "width"})
"""Metrics that have the unit of what is estimated."""

FIXED = frozenset({"log_loss", "brier", "vus_pr", "auc_pr"})
"""Metrics near one, of which three places after the point are told."""

COLUMNS = (
    "macro_f1",
    "accuracy",
    "log_loss",
    "vus_pr",
    "range_f1",
    "rmse",
    "mae",
    "mase",
    "mse",
    "quantile_loss",
    "coverage",
    "r2",
)
"""What tables show beside the metric that was gone by, first what says most."""

NAMES = {
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "f1": "F1",
    "log_loss": "log loss",
    "brier": "Brier score",
    "r2": "R²",
    "rmse": "RMSE",
    "mae": "MAE",
    "mse": "MSE",
    "mase": "MASE",
    "phm_score": "PHM score",
    "vus_pr": "VUS-PR",
    "auc_pr": "AUC-PR",
    "range_f1": "range F1",
    "delay_s": "delay",
    "false_alarms_per_day": "false alarms a day",
    "alarmed_share": "normal time in alarm",
}
UNITS = {
    "group": "groups",
    "recording": "recordings",
    "block": "blocks of time",
    "window": "windows",
}


def known(value: Any) -> float | None:
    """The value as a finite float, else None; what a template does not find comes here too."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return float(value) if math.isfinite(float(value)) else None


def metric_name(name: Any) -> str:
    """
    >>> metric_name("macro_f1"), metric_name("calibration_error")
    ('macro F1', 'calibration error')
    """
    return NAMES.get(str(name), str(name).replace("_", " "))


def columns(names: Iterable[str], primary: str = "", most: int = 4) -> list[str]:
    """Of the metrics that are known, those to show: first what was gone by, then as `COLUMNS`.

    >>> columns(["coverage", "mae", "mse", "rmse", "width"], "mse")
    ['mse', 'rmse', 'mae', 'coverage']
    """
    known = set(names)
    coverage = ["coverage"] if "coverage" in known else []
    ranked = [name for name in COLUMNS if name in known and name not in (primary, *coverage)]
    first = [primary] if primary in known else []
    return [*first, *ranked][: most - len(coverage)] + coverage


def figure(value: float) -> str:
    """A number of any size with about three figures.

    >>> figure(0.36754), figure(12.345), figure(-1234.5), figure(0.0)
    ('0.368', '12.3', '−1\\u202f234', '0')
    """
    size = abs(value)
    if size == 0 or 1e-3 <= size < 1:
        text = f"{value:.3f}" if size else "0"
    elif size < 1e-3:
        text = f"{value:.2g}"
    elif size < 100:
        text = f"{value:.2f}" if size < 10 else f"{value:.1f}"
    else:
        text = f"{value:,.0f}".replace(",", "\u202f")
    return _signed(text)


def listed(names: Sequence[str]) -> str:
    """
    >>> listed(["pretrained weights", "the pool", "the sources"])
    'pretrained weights, the pool and the sources'
    """
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def capital(text: str) -> str:
    """The text with a capital at its start; the rest stays.

    >>> capital("macro F1")
    'Macro F1'
    """
    return text[:1].upper() + text[1:]


def score(value: Any, metric: str = "accuracy") -> str:
    """A metric's value for reading.

    >>> score(0.9132, "macro_f1"), score(0.3121, "log_loss"), score(None)
    ('91.3\\xa0%', '0.312', '–')
    """
    number = known(value)
    if number is None:
        return MISSING
    if metric in SHARES:
        return f"{100 * number:.1f}\u00a0%"
    if metric == "delay_s":
        return duration(number)
    return _signed(f"{number:.3f}") if metric in FIXED else figure(number)


def span(ends: Any, metric: str = "accuracy") -> str:
    """An interval for reading, or nothing.

    >>> span([0.8, 0.91], "accuracy"), span(None)
    ('80.0 to 91.0\\xa0%', '')
    """
    if not isinstance(ends, (list, tuple)) or len(ends) != 2:
        return ""
    if known(ends[0]) is None or known(ends[1]) is None:
        return ""
    return f"{score(ends[0], metric)} to {score(ends[1], metric)}".replace("\u00a0% to", " to")


def difference(value: Any, metric: str = "accuracy") -> str:
    """A signed difference without its unit: points (of a hundred) for shares.

    >>> difference(0.0312, "macro_f1"), difference(-0.004, "macro_f1")
    ('+3.1', '−0.4')
    """
    number = known(value)
    if number is None:
        return MISSING
    if metric in SHARES:
        return _signed(f"{100 * number:+.1f}")
    if metric in FIXED:
        return _signed(f"{number:+.3f}")
    return figure(number) if number < 0 else f"+{figure(number)}"


def _signed(text: str) -> str:
    return text.replace("-", "−")


def count(value: Any) -> str:
    """
    >>> count(61234), count(None)
    ('61\\u202f234', '–')
    """
    number = known(value)
    return MISSING if number is None else f"{number:,.0f}".replace(",", "\u202f")


def duration(value: Any) -> str:
    """Seconds for reading.

    >>> duration(0.0042), duration(3.21), duration(130), duration(61440)
    ('4.2\\xa0ms', '3.2\\xa0s', '2\\xa0min 10\\xa0s', '17\\xa0h 4\\xa0min')
    """
    number = known(value)
    if number is None:
        return MISSING
    if number == 0:
        return "0\u00a0s"
    if number < 1:
        return f"{1000 * number:.2g}\u00a0ms" if number < 0.1 else f"{1000 * number:.0f}\u00a0ms"
    if number < 99.95:
        return f"{number:.1f}\u00a0s"
    minutes, seconds = divmod(round(number), 60)
    if minutes < 120:
        return f"{minutes}\u00a0min {seconds}\u00a0s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}\u00a0h {minutes}\u00a0min" if hours < 48 else f"{hours / 24:.1f}\u00a0days"


def size(value: Any) -> str:
    """KiB for reading.

    >>> size(14.2), size(2048), size(0.5)
    ('14\\xa0KiB', '2.0\\xa0MiB', '0.5\\xa0KiB')
    """
    number = known(value)
    if number is None:
        return MISSING
    if number >= 1000:
        return f"{number / 1024:.1f}\u00a0MiB"
    return f"{number:.0f}\u00a0KiB" if number >= 10 else f"{number:.1f}\u00a0KiB"


def moment(text: Any) -> str:
    """A time stamp for reading, to the minute.

    >>> moment("2025-06-01T12:30:27+00:00"), moment("2025-06-01 12:30"), moment("in May")
    ('2025-06-01 12:30 UTC', '2025-06-01 12:30', 'in May')
    """
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text)
    return f"{time:%Y-%m-%d %H:%M} {time.tzname() or ''}".strip()


def quantity(value: Any, name: str = "") -> str:
    """Any value, by the unit at the end of its name.

    >>> quantity(14.2, "size_kib"), quantity(1.5, "latency_ms"), quantity("AdamW", "optimiser")
    ('14\\xa0KiB', '1.50\\xa0ms', 'AdamW')
    >>> quantity(50.0, "rate_hz"), quantity(1 / 3600, "rate_hz")
    ('50\\xa0Hz', 'every 1\\xa0h')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {quantity(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(quantity(entry) for entry in value)
    number = known(value)
    if number is None:
        return MISSING if value is None or isinstance(value, float) else str(value)
    if name.endswith("_kib"):
        return size(number)
    if name.startswith("seconds") or name.endswith("_s"):
        return duration(number)
    if name.endswith("_ms"):
        return f"{number:.3g}\u00a0ms" if number >= 10 else f"{number:.2f}\u00a0ms"
    if name.endswith("_hz"):
        return f"{number:g}\u00a0Hz" if number >= 0.1 or number <= 0 else _every(1 / number)
    return count(number) if number == round(number) else _signed(f"{number:.4g}")


def _every(seconds: float) -> str:
    """How often something slow comes."""
    units = (("d", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))
    name, size = next(entry for entry in units if seconds >= 0.999 * entry[1])
    return f"every {seconds / size:.3g}\u00a0{name}"


def quantity_name(name: str) -> str:
    """A key as words, without its unit.

    >>> quantity_name("n_windows"), quantity_name("latency_ms"), quantity_name("seconds_total")
    ('windows', 'latency', 'total time')
    """
    if name.startswith("seconds"):
        return f"{name.removeprefix('seconds').strip('_').replace('_', ' ')} time".strip()
    for unit in ("_kib", "_ms", "_hz", "_s"):
        name = name.removesuffix(unit)
    return name.removeprefix("n_").replace("_", " ")


def pair(entry: Any) -> str:
    """A backbone with its strategy, by name.

    >>> pair({"backbone": "minirocket", "strategy": "probe"})
    'minirocket/probe'
    """
    if not isinstance(entry, Mapping):
        return MISSING if entry is None else str(entry)
    names = [str(entry[key]) for key in ("backbone", "strategy") if entry.get(key)]
    at = f"@{entry['source']}" if entry.get("source") else ""
    return "/".join(names) + at if names else MISSING


class Finding(NamedTuple):
    """The verdict in words: a sentence of `head` and `rest`, and `evidence`, how it was tested.

    `outcome` is helped, hurt or undecided.
    """

    outcome: str
    head: str
    rest: str
    evidence: str

    @property
    def sentence(self) -> str:
        """The whole of it, e.g. for a terminal."""
        return f"{self.head}{self.rest}"


def finding(verdict: Mapping[str, Any], unit: str = "") -> Finding | None:
    """The verdict as one plain sentence with its figure and interval.

    A positive difference is a better one, also where low values are good. `unit` is that of what
    is estimated, "" where there is none or several.

    >>> found = finding({"outcome": "helped", "difference": {"metric": "macro_f1",
    ...     "mean": 0.031, "low": 0.012, "high": 0.05, "level": 0.95}})
    >>> found.sentence.replace("\\xa0", " ")
    'Transfer helped: macro F1 is 3.1 points higher than without it (95 % interval +1.2 to +5.0).'
    """
    outcome = str(verdict.get("outcome") or "")
    if outcome not in ("helped", "hurt", "undecided"):
        return None
    gap = verdict.get("difference") or {}
    metric = str(gap.get("metric") or "macro_f1")
    mean = known(gap.get("mean"))
    head = {
        "helped": "Transfer helped",
        "hurt": "Transfer hurt",
        "undecided": "Undecided whether transfer helped",
    }[outcome]
    if mean is None:
        return Finding(outcome, head, ".", _evidence(verdict, gap))
    than = "without it"
    if verdict.get("transferred") is False:
        head, than = "Nothing was transferred", "with the best control"
    points = " points" if metric in SHARES else unit_of(metric, unit)
    amount = difference(abs(mean), metric)[1:]
    up, down = ("better", "worse") if metric in FALLING else ("higher", "lower")
    direction = up if mean >= 0 else down
    rest = f": {metric_name(metric)} is {amount}{points} {direction} than {than}"
    if gap.get("n_units") == 1:
        rest += " (no interval: one unit alone does not show its spread)"
    elif known(gap.get("low")) is not None and known(gap.get("high")) is not None:
        level = f"{100 * (known(gap.get('level')) or 0.95):g}\u00a0%"
        ends = f"{difference(gap['low'], metric)} to {difference(gap['high'], metric)}"
        zero = ", which includes zero" if gap["low"] <= 0 <= gap["high"] else ""
        rest += f" ({level} interval {ends}{zero})"
    return Finding(outcome, head, rest + ".", _evidence(verdict, gap))


def unit_of(metric: str, unit: str) -> str:
    """The unit to write behind a metric, with a space before it; "" where it has none.

    >>> unit_of("rmse", "h"), unit_of("mse", "h")
    ('\\xa0h', '')
    """
    return f"\u00a0{unit}" if unit and metric in IN_UNIT else ""


def _evidence(verdict: Mapping[str, Any], gap: Mapping[str, Any]) -> str:
    parts = []
    if verdict.get("candidate") and verdict.get("reference"):
        parts.append(
            f"{pair(verdict['candidate'])} against the best control, {pair(verdict['reference'])}"
        )
        if verdict["candidate"].get("transfers"):
            parts[0] += f", without {listed(verdict['candidate']['transfers'])}"
    folds, units = known(gap.get("n_folds")), known(gap.get("n_units"))
    if folds:
        parts.append(f"the same {count(folds)} folds for both")
    if units:
        kind = UNITS.get(str(gap.get("unit")), "units")
        parts.append(f"{count(units)} {kind[:-1] if units == 1 else kind}")
    return ", ".join(parts)
