"""From windows to the filters of a forecast: members, what is held out, their weights.

What is held out is the last part of time. Members are fitted on what was over before it began,
those that do not beat the best naive filter there are dropped, the others are weighed by their
errors there, and all are fitted again on everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from edgegraft.adapt.forecasts.covariance import Covariance, fit_covariance
from edgegraft.adapt.forecasts.filters import STRENGTHS, drift, last_value, ridge, seasonal_naive
from edgegraft.adapt.forecasts.lagged import Lagged, Moments, applied, moments
from edgegraft.adapt.forecasts.mixing import best_weights
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
BLOCKS = 4
"""Stretches that are left out in turn where forecasts of windows not seen are wanted."""
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

    def __init__(self, series: Lagged, setting: Setting, before: _Fits | None = None):
        self.series, self.setting, self.before = series, setting, before
        own, sources = series.take(series.at_target), series.take(~series.at_target)
        self.n_own = own.n_samples if len(own) else 0
        self.n_sources = sources.n_samples if len(sources) else 0
        self.own = self.sources = None
        if set(setting.members) <= set(NAIVE):
            return
        several = 1 < series.shape[0] <= MOST_OWN
        by_channel = several and "covariance-own" in setting.members
        self.own = moments(own, by_channel=by_channel) if len(own) else None
        self.sources = moments(sources).pooled if len(sources) else None

    def __call__(self, name: str, strengths: Mapping[str, float]) -> Array:
        if name in NAIVE:
            return naive(name, self.series.shape, self.setting.season)
        if name == "covariance":
            return self._filters(self.covariance)[None]
        if name == "covariance-own":
            return self._by_channel()
        return next(iter(self.ridges(name, [strengths[name]]).values()))

    @cached_property
    def covariance(self) -> Covariance:
        """Of all channels; of the target, pulled to the sources where there are any."""
        found = self.of_sources
        if self.own is not None:
            near = self.before.covariance if self.before else None
            found = fit_covariance(found, self.own.pooled, self.n_own, near=near)
        return found

    @cached_property
    def of_sources(self) -> Covariance:
        """Of the sources; where there are none, what is assumed before any data."""
        start = Covariance.start(self.setting.seasons, self.series.shape[1])
        if self.sources is None:
            return start
        if self.before is not None:  # sources are never held out
            return self.before.of_sources
        return fit_covariance(start, self.sources, self.n_sources)

    @cached_property
    def given(self) -> Moments:
        """Of everything, one kind."""
        parts = [each.pooled for each in (self.own, self.sources) if each is not None]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def ridges(
        self, name: str, strengths: Sequence[float], given: Moments | None = None
    ) -> dict[float, Array]:
        """Ridge filters of all channels at each strength, of other moments where these are given.

        With sources, a pulled ridge is pulled to what the covariance learned from both.
        """
        toward = self._filters(self.covariance)[None] if name == "ridge-pulled" else None
        total = self.given if given is None else given
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


@dataclass(frozen=True)
class Trial:
    """What was settled, and fitted on the way.

    Attributes:
        chosen: weights and strengths.
        filters: (n_targets, n_timepoints, n_steps) of the blend, of what was not held out.
        fit: positions that were fitted on; all where nothing could be held out.
        held: positions that were held out.
        fits: of the members.
    """

    chosen: Chosen
    filters: Array
    fit: Array
    held: Array
    fits: _Fits


def choose(series: Lagged, setting: Setting, share: float) -> Trial:
    """Weights and strengths by what is held out.

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
        fits = _Fits(series, setting)
        return Trial(chosen, combined(fits, chosen), np.arange(len(series)), held, fits)
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
    return Trial(chosen, _full(mixed, series.shape[0]), fit, held, fits)


def said_unseen(series: Lagged, trial: Trial) -> Array:
    """Forecasts (n_windows, n_targets, n_steps) of windows by filters that did not see them.

    What was held out is forecast by the trial. Of the rest, each of `BLOCKS` stretches of time is
    forecast by ridges of all the others, whose moments are the sum less its own; a covariance
    has too few numbers to remember windows, and stays.
    """
    said = applied(trial.filters, series.x)
    ridges = {
        name: weight
        for name, weight in trial.chosen.weights.items()
        if weight and name.startswith("ridge")
    }
    rest = trial.fit[series.at_target[trial.fit]]
    if not ridges or len(rest) < BLOCKS * FEWEST:
        return said
    given = trial.fits.given
    strengths = trial.chosen.strengths
    before = {name: trial.fits(name, strengths) for name in ridges}
    for block in np.array_split(rest[np.argsort(series.order[rest], kind="stable")], BLOCKS):
        part = series.take(block)
        less = given - moments(part).pooled
        change = sum(
            weight * (trial.fits.ridges(name, [strengths[name]], less)[strengths[name]] - old)
            for (name, weight), old in zip(ridges.items(), before.values(), strict=True)
        )
        filters = trial.filters + np.asarray(change)
        said[block] = applied(filters, part.x)
    return said


def refit(series: Lagged, trial: Trial) -> Array:
    """The filters (n_targets, n_timepoints, n_steps) of what was chosen, on all windows."""
    if not len(trial.held):
        return trial.filters
    return combined(_Fits(series, trial.fits.setting, trial.fits), trial.chosen)


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
