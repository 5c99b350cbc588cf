"""Forecasts in closed form: strategies, from windows to a model that is one program."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.computed import computed
from edgegraft.adapt.forecasts.fit import (
    Chosen,
    Setting,
    Trial,
    choose,
    refit,
    said_unseen,
    stretches,
)
from edgegraft.adapt.forecasts.known_ahead import slopes, surprises
from edgegraft.adapt.forecasts.lagged import Lagged, applied, lagged
from edgegraft.adapt.forecasts.program import Forecast
from edgegraft.adapt.forecasts.step_intervals import offsets, widening
from edgegraft.adapt.probe import lineage_of
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.data.season import find_seasons
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.estimate import Outputs
from edgegraft_edge.signal import Array, Windows

MOST_SEASONS = 3
_MEMBERS = "covariance, covariance-own, ridge, ridge-pulled, last, seasonal-naive or drift"


@dataclass(frozen=True)
class Fitted:
    """What strategies share that fit filters and choose by the last part of the training time."""

    tasks: ClassVar[tuple[str, ...]] = ("forecasting",)
    draws: ClassVar[bool] = True
    name: ClassVar[str] = ""

    held_out: float = field(
        default=0.25, metadata={"help": "share of the time that is held out, the last of it"}
    )
    refit: bool = field(
        default=True, metadata={"help": "fit again on everything once all is chosen"}
    )
    alone: bool = field(default=False, metadata={"help": "learn nothing from sources"})

    def __post_init__(self) -> None:
        _check_share(self.held_out)

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Fit on windows that the task has split; nothing is drawn at random."""
        return _adapted(self.name, self, backbone, train, task, seed)


@dataclass(frozen=True)
class ForecastBlend(Fitted):
    """An average of linear forecasts, weighed by the last part of the training time.

    Members are filters from a covariance of few numbers, shared by all channels or pulled to
    each of them, and pooled ridge filters, free or pulled to these. What does not beat the best
    naive forecast on held-out time has no weight; where little time can be held out, only the
    covariances count. With sources, everything is pulled to what was learned from them.
    """

    name: ClassVar[str] = "forecast-blend"

    members: tuple[str, ...] = field(
        default=("covariance", "covariance-own", "ridge", "ridge-pulled"),
        metadata={"help": f"what is averaged: {_MEMBERS}"},
    )

    def __post_init__(self) -> None:
        Setting((), 1, self.members)
        super().__post_init__()


@dataclass(frozen=True)
class ForecastRidge(Fitted):
    """One ridge filter for all channels, its strength by the last part of the training time."""

    name: ClassVar[str] = "forecast-ridge"
    members: ClassVar[tuple[str, ...]] = ("ridge",)


@dataclass(frozen=True)
class Naive:
    """A forecast without learning; its quantiles are learned all the same."""

    tasks: ClassVar[tuple[str, ...]] = ("forecasting",)
    name: ClassVar[str] = "last-value"
    member: ClassVar[str] = "last"

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Only the quantiles are read from the windows."""
        chosen = ForecastBlend(members=(self.member,), alone=True)
        return _adapted(self.name, chosen, backbone, train, task, seed)


@dataclass(frozen=True)
class Last(Naive):
    """What was last, at every step."""


@dataclass(frozen=True)
class SeasonalNaive(Naive):
    """What was a season ago; the last value where there is no season."""

    name: ClassVar[str] = "seasonal-naive"
    member: ClassVar[str] = "seasonal-naive"


@dataclass(frozen=True)
class Drift(Naive):
    """On along the line from the first to the last value of the context."""

    name: ClassVar[str] = "drift"
    member: ClassVar[str] = "drift"


def _adapted(
    name: str, options: Any, backbone: Backbone, train: Windows, task: Task, seed: int
) -> Adapted:
    outputs = _outputs(task)
    if options.alone:
        train = train.take(train.at_target)
    series = lagged(train, outputs.names, len(outputs.steps))
    seasons = _seasons(task, train, series)
    season = getattr(task, "season", 0) or (*seasons, 1)[0]
    setting = Setting(seasons, season, options.members)
    trial = choose(series, setting, options.held_out)
    held = trial.held
    names = train.series.channel_names
    known = tuple(names.index(each) for each in getattr(task, "known", ()))
    seen = train.x[:, known] if known else None
    slope = _slopes(series, trial.filters, seen, held)
    found, widen = _quantiles(series, trial, seen, slope, outputs)
    filters = refit(series, trial) if options.refit else trial.filters
    forecast = Forecast(
        tuple(names.index(each) for each in outputs.names),
        filters,
        found,
        series.variance,
        known,
        slope,
    )
    lineage = lineage_of(name, options, (backbone,), seed)
    lineage["forecast"] = _account(trial.chosen, setting, slope, widen)
    return computed(forecast.program(), outputs, train.spec, lineage, backbone)


def _outputs(task: Task) -> Outputs:
    if task.outputs is None or task.outputs.steps[0] < 1:
        raise OptionError.of(
            "strategy-task",
            f"task {task.name!r} with nothing ahead of the window",
            "this strategy forecasts",
            "the task forecasting, bound to the data",
        )
    return task.outputs


def _seasons(task: Task, train: Windows, series: Lagged) -> tuple[int, ...]:
    """The task's season and those found, rising; none longer than half of the context."""
    at = np.linspace(0, len(series) - 1, min(len(series), 32)).astype(int)
    found = find_seasons(list(series.x[at]), rate_hz=train.series.rate_hz)
    first = getattr(task, "season", 0)
    day = 86_400.0 * train.series.rate_hz
    if first > 1 and train.series.rate_hz != 1.0 and abs(first - day) < 0.02 * day:
        found = (*found, 7 * first)
    seasons = dict.fromkeys((*((first,) if first > 1 else ()), *found))
    fitting = [each for each in seasons if 1 < each <= series.shape[1] // 2]
    return tuple(sorted(fitting[:MOST_SEASONS]))


def _slopes(series: Lagged, filters: Array, known: Array | None, held: Array) -> Array | None:
    """Of channels known ahead: from what was fitted, kept for targets they help on held-out time.

    Errors: `DataError` ``known-missing`` where a channel known ahead has gaps.
    """
    if known is None:
        return None
    if not np.isfinite(known).all():
        raise DataError.of(
            "known-missing",
            f"{int((~np.isfinite(known)).any(axis=(1, 2)).sum())} windows with gaps in a channel "
            "known ahead",
            "what is known ahead must be there, in training as on the device",
            "interpolate it, or leave it out of `known`",
        )
    misses = series.y - applied(filters, series.x)
    given = surprises(filters, known)
    rows = np.ones(len(series), dtype=bool)
    rows[held] = False
    found = slopes(given[rows], misses[rows])
    if len(held):
        with_them = misses[held] - np.einsum("nkth,tk->nth", given[held], found)
        before = np.nanmean(misses[held] ** 2, axis=(0, 2))
        found[~(np.nanmean(with_them**2, axis=(0, 2)) < before)] = 0.0
    return found


def _quantiles(
    series: Lagged,
    trial: Trial,
    known: Array | None,
    slope: Array | None,
    outputs: Outputs,
) -> tuple[Array, float]:
    """Offsets, and by how much they were widened; from the windows of the target device."""
    said, held = said_unseen(series, trial), trial.held
    if known is not None and slope is not None:
        said = said + np.einsum("nkth,tk->nth", surprises(trial.filters, known), slope)
    own = np.flatnonzero(series.at_target)
    part = series.take(own)
    found = offsets(part, said[own], outputs.levels, stretches(part), 1.0)
    widen = 1.0
    if len(held):
        widen = widening(series.take(held), said[held], found, outputs.levels)
    return found * widen, widen


def _account(chosen: Chosen, setting: Setting, slope: Array | None, widen: float) -> dict[str, Any]:
    """What was chosen and why, as plain JSON values."""

    def plain(values: Any) -> dict[str, float]:
        return {name: round(float(value), 4) for name, value in values.items()}

    return {
        "seasons": list(setting.seasons),
        "weights": plain(chosen.weights),
        "strengths": plain(chosen.strengths),
        "held_out_mse": plain(chosen.costs),
        "held_out_mse_blend": round(chosen.blend, 4) if chosen.n_held else None,
        "held_out_windows": chosen.n_held,
        "widened": round(widen, 3),
        **({} if slope is None else {"slopes": np.round(slope, 5).tolist()}),
    }


def _check_share(share: float) -> None:
    if not 0 <= share < 1:
        raise OptionError.of(
            "option-range", f"held_out={share:g}", "a share of the time", "e.g. 0.25"
        )
