"""Bootstrap intervals for metrics, drawn over units that belong together.

Windows of one person, machine or recording resemble each other, so resampling single windows
gives intervals that are far too narrow. Here whole units are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from edgegraft.tasks.metrics import Tallied
from edgegraft.tasks.task import Metric
from edgegraft_edge.signal import Array

CELLS = 4_000_000
"""Numbers held at once while resampling; bounds memory to about 100 MB."""


def intervals(
    metrics: Mapping[str, Metric],
    probabilities: Array,
    codes: Array,
    units: Array,
    *,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Interval of each metric at `level`, by resampling `units` (n_windows,), any hashable.

    Expanded percentile intervals (Hesterberg 2015, "What teachers should know about the
    bootstrap"): the percentiles are moved outwards as a t interval is wider than a normal one,
    since plain percentiles are too narrow with few units. Fewer than two units give no interval.

    >>> from edgegraft.tasks.metrics import accuracy
    >>> rng = np.random.default_rng(0)
    >>> p = np.eye(2)[rng.integers(0, 2, 400)]
    >>> low, high = intervals({"a": accuracy}, p, np.zeros(400, int), np.arange(400))["a"]
    >>> low < accuracy(p, np.zeros(400, int)) < high
    True
    """
    _, unit = np.unique(units, return_inverse=True)
    n_units = int(unit.max()) + 1 if len(unit) else 0
    if n_units < 2 or n_resamples < 1:
        return {}
    tail = _expanded_tail(level, n_units)
    sums = _UnitSums(probabilities, codes, unit)
    values: dict[str, list[Array]] = {name: [] for name in metrics}
    for counts in _resamples(n_units, n_resamples, seed):
        for name, metric in metrics.items():
            if isinstance(metric, Tallied):
                values[name].append(metric.finish(np.tensordot(counts, sums.of(metric), axes=1)))
            else:
                values[name].append(_slowly(metric, probabilities, codes, unit, counts))
    found = {}
    for name, parts in values.items():
        drawn = np.concatenate(parts)
        if np.isnan(drawn).all():  # e.g. the explained variance of what never varies
            found[name] = (float("nan"), float("nan"))
            continue
        low, high = np.nanquantile(drawn, [tail, 1 - tail])
        found[name] = (float(low), float(high))
    return found


def _expanded_tail(level: float, n_units: int) -> float:
    """Probability below the interval, corrected for few units."""
    from scipy.special import ndtr, stdtrit

    quantile = stdtrit(n_units - 1, (1 - level) / 2) * np.sqrt(n_units / (n_units - 1))
    return float(ndtr(quantile))


def _resamples(n_units: int, n_resamples: int, seed: int) -> Iterator[Array]:
    """How often each unit is drawn, float64 (chunk, n_units), until `n_resamples` rows are out."""
    rng = np.random.default_rng(seed)
    chunk = max(1, min(n_resamples, CELLS // n_units))
    for first in range(0, n_resamples, chunk):
        rows = min(chunk, n_resamples - first)
        drawn = rng.integers(0, n_units, (rows, n_units)) + n_units * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n_units)
        yield counts.reshape(rows, n_units).astype(np.float64)


class _UnitSums:
    """Terms of metrics summed within units; metrics with the same terms share them.

    Wide tables, as those of forecasts, are tallied a piece at a time.
    """

    def __init__(self, probabilities: Array, codes: Array, unit: Array):
        order = np.argsort(unit, kind="stable")
        self._probabilities = np.asarray(probabilities)[order]
        self._codes = np.asarray(codes)[order]
        self._unit = unit[order]
        self._starts = np.searchsorted(self._unit, np.arange(int(unit.max()) + 1))
        self._known: dict[Callable[[Array, Array], Array], Array] = {}

    def of(self, metric: Tallied) -> Array:
        if metric.tally not in self._known:
            self._known[metric.tally] = self._sums(metric)
        return self._known[metric.tally]

    def _sums(self, metric: Tallied) -> Array:
        n_windows = len(self._unit)
        rows = max(1, CELLS // self._probabilities.shape[1])
        if rows >= n_windows:
            return np.asarray(np.add.reduceat(self._terms(metric, slice(None)), self._starts))
        total: Array | None = None
        for first in range(0, n_windows, rows):
            terms = self._terms(metric, slice(first, first + rows))
            if total is None:
                total = np.zeros((len(self._starts), *terms.shape[1:]))
            np.add.at(total, self._unit[first : first + rows], terms)
        assert total is not None
        return total

    def _terms(self, metric: Tallied, part: slice) -> Array:
        return metric.tally(self._probabilities[part].astype(np.float64), self._codes[part])


def _slowly(
    metric: Metric, probabilities: Array, codes: Array, unit: Array, counts: Array
) -> Array:
    """For metrics from elsewhere, of which only calls are known: repeat the windows drawn."""
    found = []
    for row in counts.astype(np.int64):
        rows = np.repeat(np.arange(len(unit)), row[unit])
        found.append(metric(probabilities[rows], codes[rows]))
    return np.array(found)
