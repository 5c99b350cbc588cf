"""From windows to the filters of a forecast: members, what is held out, their weights.

What is held out is the last part of time. Members are fitted on what was over before it began,
those that do not beat the best naive filter there are dropped, the others are weighed by their
errors there, and all are fitted again on everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgegraft.adapt.covariance import Covariance, fit_covariance
from edgegraft.adapt.filters import STRENGTHS, drift, last_value, ridge, seasonal_naive
from edgegraft.adapt.lagged import Lagged, Moments, applied, moments
from edgegraft.adapt.mixing import best_weights
from edgegraft_edge.errors import OptionError, nearest
from edgegraft_edge.signal import Array

NAIVE = ("last", "seasonal-naive", "drift")
LEARNED = ("covariance", "covariance-own", "ridge", "ridge-pulled")
MOST_HELD = 800
"""Windows that members are compared on; neighbours say nearly the same."""
FEWEST = 8
"""Windows to fit on, and to hold out, below which nothing is held out."""
MOST_OWN = 16
"""Channels beyond which no channel has numbers of its own."""
STRETCHES = 4
"""Horizons of held-out time below which nothing can be told from them."""
SETTLED = 100
"""Samples for each lag that bring a ridge to half the weight that a covariance starts with."""
OWN_PULL = 10.0
"""How much harder the numbers of one channel are pulled to the pooled ones."""


@dataclass(frozen=True)
class Chosen:
    """What was settled on held-out windows.

    Attributes:
        weights: of each member; those of weight 0 were tried and dropped.
        strengths: regularisation of the members that have one.
        costs: mean squared error of every member, channels standardised, on held-out windows.
        blend: the same of the average.
        n_held: how many windows that was.
    """

    weights: Mapping[str, float]
    strengths: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    blend: float = float("nan")
    n_held: int = 0


@dataclass(frozen=True)
class Setting:
    """What members need to know beside windows.

    Attributes:
        seasons: of covariances, rising.
        season: of the seasonal naive forecast; 1 for none.
        members: names.
    """

    seasons: tuple[int, ...]
    season: int
    members: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.members:
            if name not in (*NAIVE, *LEARNED):
                raise OptionError.of(
                    "member-unknown",
                    f"member {name!r} of a forecast",
                    "nothing of that name forecasts",
                    nearest(name, [*NAIVE, *LEARNED]),
                )


def held_out(series: Lagged, share: float) -> tuple[Array, Array]:
    """Positions that are fitted on, and those held out: the last `share` of time of the target.

    What is fitted on was over before the first held-out forecast of its recording begins; windows
    of source domains are all fitted on. Neither is empty, or both are: then nothing is held out.
    """
    own = np.flatnonzero(series.at_target)
    order = np.argsort(series.order[own], kind="stable")
    n_held = round(share * len(own))
    held = np.sort(own[order[len(own) - n_held :]]) if n_held else own[:0]
    rest = np.sort(own[order[: len(own) - n_held]])
    ahead = series.shape[2]
    for number in np.unique(series.recording[held]):
        first = series.start[held][series.recording[held] == number].min()
        inside = series.recording[rest] == number
        rest = rest[~inside | (series.start[rest] + ahead <= first)]
    sources = np.flatnonzero(~series.at_target)
    fit = np.sort(np.concatenate([rest, sources]))
    few = len(held) < FEWEST or len(fit) < FEWEST
    if few or stretches(series.take(held)) < STRETCHES:
        return fit[:0], held[:0]
    return fit, held


def stretches(series: Lagged) -> float:
    """Time that is forecast, in horizons; overlaps count once."""
    total, n_steps = 0, series.shape[2]
    for number in np.unique(series.recording):
        starts = np.sort(series.start[series.recording == number])
        total += int(np.minimum(np.diff(starts), n_steps).sum()) + n_steps
    return total / n_steps


def naive(name: str, shape: tuple[int, int, int], season: int) -> Array:
    """A naive filter by name, (1, n_timepoints, n_steps)."""
    _, n_timepoints, n_steps = shape
    if name == "last":
        return last_value(n_timepoints, n_steps)[None]
    if name == "drift":
        return drift(n_timepoints, n_steps)[None]
    return seasonal_naive(n_timepoints, n_steps, season)[None]


class _Fits:
    """Members fitted on one set of windows; what they share is computed once."""

    def __init__(self, series: Lagged, setting: Setting):
        self.series, self.setting = series, setting
        own, sources = series.take(series.at_target), series.take(~series.at_target)
        by_channel = "covariance-own" in setting.members and series.shape[0] <= MOST_OWN
        self.own = moments(own, by_channel=by_channel) if len(own) else None
        self.sources = moments(sources).pooled if len(sources) else None
        self.n_own = own.n_samples if len(own) else 0
        self.n_sources = sources.n_samples if len(sources) else 0
        self._covariance: Covariance | None = None

    def __call__(self, name: str, strengths: Mapping[str, float]) -> Array:
        if name in NAIVE:
            return naive(name, self.series.shape, self.setting.season)
        if name == "covariance":
            return self._filters(self.covariance)[None]
        if name == "covariance-own":
            return self._by_channel()
        return next(iter(self.ridges(name, [strengths[name]]).values()))

    @property
    def covariance(self) -> Covariance:
        """Of all channels; of the target, pulled to the sources where there are any."""
        if self._covariance is None:
            start = Covariance.start(self.setting.seasons, self.series.shape[1])
            if self.sources is not None:
                start = fit_covariance(start, self.sources, self.n_sources)
            if self.own is not None:
                start = fit_covariance(start, self.own.pooled, self.n_own)
            self._covariance = start
        return self._covariance

    def ridges(self, name: str, strengths: Sequence[float]) -> dict[float, Array]:
        """Ridge filters of all channels at each strength."""
        given = [each.pooled for each in (self.own, self.sources) if each is not None]
        toward = None
        if name == "ridge-pulled":
            if self.sources is not None and self.own is not None:
                toward, given = ridge(self.sources, 0.1), [self.own.pooled]
            else:
                toward = self._filters(self.covariance)[None]
        total = Moments(
            *(sum(getattr(each, part) for each in given) for part in ("gram", "cross", "rows"))
        )
        return {strength: ridge(total, strength, toward) for strength in strengths}

    def _filters(self, covariance: Covariance) -> Array:
        return covariance.filters(*self.series.shape[1:])

    def _by_channel(self) -> Array:
        n_targets = self.series.shape[0]
        if self.own is None or len(self.own.rows) < n_targets:
            return np.repeat(self._filters(self.covariance)[None], n_targets, axis=0)
        # one channel has its share of the samples, and is pulled harder
        n_samples = max(1, round(self.n_own / n_targets / OWN_PULL))
        return np.stack(
            [
                self._filters(fit_covariance(self.covariance, self.own.kind(channel), n_samples))
                for channel in range(n_targets)
            ]
        )


def choose(series: Lagged, setting: Setting, share: float) -> tuple[Chosen, Array, Array]:
    """Weights and strengths by what is held out; filters fitted on the rest; held-out positions.

    Where too few windows are there to hold any out, members count alike and strengths are 1;
    the filters are then fitted on everything.
    """
    fit, held = held_out(series, share)
    learned = [name for name in setting.members if name in LEARNED]
    ridges = [name for name in learned if name.startswith("ridge")]
    if not len(held):
        # free filters need held-out windows; a covariance does not
        usual = [name for name in setting.members if name not in ridges] or ridges
        chosen = Chosen(dict.fromkeys(usual, 1 / len(usual)), dict.fromkeys(ridges, 1.0))
        return chosen, combined(_Fits(series, setting), chosen), held
    fits = _Fits(series.take(fit), setting)
    tested = series.take(held[:: max(1, len(held) // MOST_HELD)])
    error = _errors(tested)
    filters: dict[str, Array] = {}
    strengths: dict[str, float] = {}
    for name in dict.fromkeys((*NAIVE, *setting.members)):
        if name in ridges:
            tried = fits.ridges(name, STRENGTHS)
            costs = {strength: _cost(error(found)) for strength, found in tried.items()}
            strengths[name] = min(costs, key=lambda strength: costs[strength])
            filters[name] = tried[strengths[name]]
        else:
            filters[name] = fits(name, {})
    errors = {name: error(found) for name, found in filters.items()}
    costs_of = {name: _cost(each) for name, each in errors.items()}
    weights = _weights(setting, errors, costs_of, series, stretches(tested))
    blend = sum(weight * errors[name] for name, weight in weights.items())
    chosen = Chosen(weights, strengths, costs_of, _cost(np.asarray(blend)), len(held))
    mixed = sum(weight * filters[name] for name, weight in weights.items())
    return chosen, _full(mixed, series.shape[0]), held


def refit(series: Lagged, setting: Setting, chosen: Chosen) -> Array:
    """The filters (n_targets, n_timepoints, n_steps) of what was chosen, on all windows."""
    return combined(_Fits(series, setting), chosen)


def combined(fits: _Fits, chosen: Chosen) -> Array:
    """The weighted average of the filters of all members."""
    total: Array | float = 0.0
    for name, weight in chosen.weights.items():
        if weight:
            total = total + weight * fits(name, chosen.strengths)
    return _full(total, fits.series.shape[0])


def _weights(
    setting: Setting,
    errors: Mapping[str, Array],
    costs: Mapping[str, float],
    series: Lagged,
    n_stretches: float,
) -> dict[str, float]:
    """Of the members; those that do not beat the best naive filter get none.

    Where no member does, the best naive filter is the forecast.
    """
    control = min(NAIVE, key=lambda name: costs[name])
    kept = [
        name
        for name in setting.members
        if name == control or costs[name] < costs[control] or set(setting.members) <= set(NAIVE)
    ]
    if not kept:
        return {control: 1.0}
    settled = series.n_samples / (series.n_samples + SETTLED * series.shape[1])
    start = np.array([settled if name.startswith("ridge") else 1.0 for name in kept])
    found = best_weights(np.stack([errors[name] for name in kept]), start, n_stretches)
    weights = dict.fromkeys(setting.members, 0.0)
    return weights | {name: float(w) for name, w in zip(kept, found, strict=True)}


def _errors(tested: Lagged) -> Callable[[Array], Array]:
    """Errors of filters, channels standardised, flat; what is unknown is left out."""
    known = np.isfinite(tested.y)
    unit = np.sqrt(np.maximum(tested.variance, 1e-12)).astype(np.float32)
    constant = tested.variance <= 1e-12
    known[:, constant] = False
    truth = np.where(known, tested.y, 0)

    def of(filters: Array) -> Array:
        gap = (applied(filters, tested.x) - truth) / unit[:, None]
        return np.asarray(gap[known])

    return of


def _cost(errors: Array) -> float:
    return float(np.mean(np.square(errors, dtype=np.float64))) if errors.size else 0.0


def _full(filters: Array | float, n_targets: int) -> Array:
    filters = np.asarray(filters)
    return np.repeat(filters, n_targets, axis=0) if len(filters) == 1 else filters
