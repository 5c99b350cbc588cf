"""Forecasts by a pretrained network: as it is, with a closed-form head, or trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from edgegraft.adapt.adapted import Adapted, Member
from edgegraft.adapt.computed import computed
from edgegraft.adapt.forecasts.lagged import Lagged, filled, lagged
from edgegraft.adapt.forecasts.mixer_head import (
    LONGEST,
    Bands,
    MixerHead,
    Unit,
    fit_bands,
    fit_head,
    forecast_program,
)
from edgegraft.adapt.forecasts.mixer_tuning import tuned
from edgegraft.adapt.forecasts.series_prior import SeriesPrior, series_prior
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.hub_forecast import HubForecaster
from edgegraft.zoo.mixer import Mixer
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError, OptionError, Problem
from edgegraft_edge.estimate import Outputs
from edgegraft_edge.heads import AffineHead
from edgegraft_edge.program import IDENTITY
from edgegraft_edge.signal import Array, Windows

USUAL = "mixer-series"
FEWEST = 8
"""Windows to hold out, and to fit on, below which errors are taken where one has fitted."""
Mode = Literal["frozen", "head", "finetune"]
Network = Mixer | HubForecaster


@dataclass(frozen=True)
class ForecastMixer:
    """Forecasts by a pretrained network and what the device's windows add to it.

    ``frozen`` is the network as it is: quantiles alone are learned. ``head`` adds what is fitted
    in closed form (`mixer_head`). ``finetune`` trains the network first, and
    keeps that where it helps on windows held out. On the backbone ``raw`` it takes
    ``mixer-series``. Networks of others are not trained on, and a Chronos, of which there is no
    program for devices, is used frozen.

    Channels known ahead are not seen by the network.

    Errors: `OptionError` ``backbone-forecaster`` for a backbone that cannot forecast.
    """

    tasks: ClassVar[tuple[str, ...]] = ("forecasting",)
    usual: ClassVar[str] = USUAL

    mode: Mode = field(
        default="head", metadata={"help": "frozen, head (closed form) or finetune (needs time)"}
    )
    worth: float = field(
        default=3.0,
        metadata={"help": "how many times the recorded windows made-up series count in the head"},
    )
    share: float = field(
        default=0.5,
        metadata={"help": "share of the network in the average with a linear forecaster"},
    )
    held_out: float = field(
        default=0.25, metadata={"help": "last share of time that quantiles are learned on"}
    )
    refit: bool = field(
        default=True, metadata={"help": "fit on all windows in the end, also on those held out"}
    )
    epochs: int = field(default=6, metadata={"help": "of training, with mode=finetune"})
    learning_rate: float = field(default=3e-4, metadata={"help": "of training at its start"})
    seconds: float = field(default=120.0, metadata={"help": "training stops after this time"})

    def __post_init__(self) -> None:
        problems = [
            Problem("option-range", f"{name}={getattr(self, name)!r}", why, remedy)
            for name, good, why, remedy in (
                ("mode", self.mode in Mode.__args__, "there is no such mode", "head"),  # type: ignore[attr-defined]
                ("worth", self.worth > 0, "the head needs its prior", "3"),
                ("share", 0 <= self.share <= 1, "it is a share", "0.5"),
                ("held_out", 0 < self.held_out < 1, "it is a share", "0.25"),
                ("epochs", self.epochs >= 1, "training needs a pass", "6"),
                ("learning_rate", self.learning_rate > 0, "a step is positive", "0.0003"),
                ("seconds", self.seconds > 0, "training takes time", "120"),
            )
            if not good
        ]
        if problems:
            raise OptionError(problems)

    @staticmethod
    def suits(backbone: Backbone) -> bool:
        """Whether a backbone can say what comes next."""
        return isinstance(backbone, Mixer | HubForecaster)

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Fit head and quantiles on windows that the task has split."""
        network = _forecaster(backbone)
        task.classes(train)
        outputs = task.outputs
        assert outputs is not None, "a bound task says what it estimates"
        series = lagged(train, outputs.names, len(outputs.steps))
        series = series.take(series.at_target) if series.at_target.any() else series
        said: dict[str, Any] = {}
        if network.portable:
            season = calendar(int(getattr(task, "season", 0)), train.series.rate_hz)
            fitted = _Fitted(self, network, season, seed, watch)
            network, head, bands = fitted(series, outputs.levels, said)
            at = [train.series.channel_names.index(name) for name in outputs.names]
            length = train.x.shape[2]
            once = network.forecaster(len(at), length, len(outputs.steps))
            program = forecast_program(once, head, bands, n_timepoints=length, channels=at)
            lineage = self._lineage(network, seed, said)
            return computed(program, outputs, train.spec, lineage, network)
        assert isinstance(network, HubForecaster)
        return self._by_hub(network, series, train, outputs, seed)

    def _by_hub(
        self, network: HubForecaster, series: Lagged, train: Windows, outputs: Outputs, seed: int
    ) -> Adapted:
        """The forecaster as it is, with quantiles that do not know how much a window varies."""
        n_targets, _, n_steps = series.shape
        network = network.ahead(n_steps)
        held = _later(series, self.held_out)[1]
        error = series.y[held] - network.forecast(series.x[held], n_steps)
        flat = np.ones((len(held), n_targets))
        bands = fit_bands(error, flat, np.zeros(n_targets), outputs.levels)
        names = train.series.channel_names
        at = np.array([names.index(name) for name in outputs.names])
        n_levels = len(outputs.levels)
        weight = np.zeros((len(names), n_steps, n_targets, n_steps, n_levels), dtype=np.float32)
        for step in range(n_steps):
            weight[at, step, np.arange(n_targets), step] = 1.0
        head = AffineHead(
            weight.reshape(len(names) * n_steps, -1), bands.table.reshape(-1).astype(np.float32)
        )
        lineage = self._lineage(network, seed, {"mode": "frozen"})
        members = (Member(network, head),)
        return Adapted(IDENTITY, members, outputs.columns, train.spec, lineage, outputs=outputs)

    def _lineage(self, network: Network, seed: int, said: Mapping[str, Any]) -> dict[str, Any]:
        card = network.card
        return {
            "strategy": "forecast-mixer",
            "options": asdict(self),
            "backbones": [card.name],
            "pretrained": card.kind == "pretrained",
            "licences": [card.licence],
            "checksums": {card.name: card.checksum} if card.checksum else {},
            "seed": seed,
            "forecast": dict(said),
        }


@dataclass(frozen=True)
class _Fitted:
    """Fits on what comes first, learns quantiles on what comes later, then fits on everything."""

    options: ForecastMixer
    network: Network
    season: int
    seed: int
    watch: Watch

    def __call__(
        self, series: Lagged, levels: tuple[float, ...], said: dict[str, Any]
    ) -> tuple[Network, MixerHead | None, Bands]:
        _, n_timepoints, n_steps = series.shape
        early, late = _later(series, self.options.held_out)
        prior = series_prior(min(n_timepoints, LONGEST), n_steps, self.season)
        network, head = self._fit(self.network, series.take(early), prior)
        error = _errors(network, head, series.take(late))
        said |= {"mode": "frozen" if head is None else "head", "held_out": len(late)}
        if self.options.mode == "finetune" and isinstance(self.network, Mixer):
            trained = self._trained(series.take(early))
            other = self._fit(trained, series.take(early), prior)
            error_then = _errors(*other, series.take(late))
            usual = series.variance[:, None]
            costs = [float(np.nanmean(each**2 / (usual + 1e-12))) for each in (error, error_then)]
            said |= {"cost_head": costs[0], "cost_finetune": costs[1]}
            if costs[1] < costs[0]:
                said["mode"] = "finetune"
                error, (network, head) = error_then, other
        variance = series.x[late].astype(np.float64)[..., -LONGEST:].var(axis=2)
        bands = fit_bands(error, variance, series.variance, levels)
        if self.options.refit:
            if said["mode"] == "finetune":
                network = self._trained(series)
            network, head = self._fit(network, series, prior)
        return network, head, bands

    def _fit(
        self, network: Network, series: Lagged, prior: SeriesPrior
    ) -> tuple[Network, MixerHead | None]:
        if self.options.mode == "frozen":
            return network, None
        x, y, weights = rows_of(series)
        ahead = network.forecast(x[:, None], y.shape[1])[:, 0]
        options = self.options
        head = fit_head(prior, x, y, ahead, weights, worth=options.worth, share=options.share)
        return network, head

    def _trained(self, series: Lagged) -> Mixer:
        assert isinstance(self.network, Mixer)
        x, y, weights = rows_of(series)
        options = self.options
        return tuned(
            self.network, x, y, weights, epochs=options.epochs, seconds=options.seconds,
            learning_rate=options.learning_rate, seed=self.seed, watch=self.watch,
        )  # fmt: skip


def calendar(season: int, rate_hz: float) -> int:
    """The season, or the day or week of so many samples where it is nearly one; 0 for none.

    >>> calendar(23, 1 / 3600), calendar(12, 1 / 3600), calendar(1, 1.0)
    (24, 12, 0)
    """
    for period_s in (86_400.0, 7 * 86_400.0):
        samples = round(period_s * rate_hz)
        if samples > 1 and abs(season - samples) <= 0.1 * samples:
            return samples
    return season if season > 1 else 0


def rows_of(series: Lagged) -> tuple[Array, Array, Array]:
    """Every channel of every window that can be learned from, as a row, and how much it counts.

    A row counts by how much it varies relative to its channel, so that errors count as they do in
    a mean over standardised channels, and a window that stands still does not decide.

    Returns: x (n_rows, n_timepoints), y (n_rows, n_steps), weights (n_rows,).
    """
    moving = series.variance > 1e-12
    used = series.used & moving
    if not used.any():
        raise DataError.of(
            "series-constant",
            f"{len(series)} windows in which no channel to forecast changes",
            "there is nothing to learn from",
            "other channels, or a longer recording",
        )
    x, y = series.x[used], filled(series.y[used])
    usual = np.broadcast_to(series.variance, used.shape)[used]
    variance = x.astype(np.float64)[:, -LONGEST:].var(axis=1)
    return x, y, np.sqrt(variance / usual + 1e-6)


def _errors(network: Network, head: MixerHead | None, series: Lagged) -> Array:
    """Truth less forecast, float64 (n_windows, n_targets, n_steps); NaN where unknown."""
    ahead = network.forecast(series.x, series.shape[2])
    if head is not None:
        rows = series.x.reshape(-1, series.shape[1])
        flat = head.forecast(ahead.reshape(len(rows), -1), Unit.of(rows))
        ahead = flat.reshape(ahead.shape)
    return np.asarray(series.y - ahead, dtype=np.float64)


def _later(series: Lagged, share: float) -> tuple[Array, Array]:
    """Positions of what comes first and was over before the rest began, and of that rest.

    Of too few windows both are all of them.
    """
    everything = np.arange(len(series))
    order = np.argsort(series.order, kind="stable")
    late = np.sort(order[len(series) - round(share * len(series)) :])
    early = np.sort(order[: len(series) - len(late)])
    for number in np.unique(series.recording[late]):
        first = series.start[late][series.recording[late] == number].min()
        over = series.start[early] + series.shape[2] <= first
        early = early[over | (series.recording[early] != number)]
    if min(len(early), len(late)) < FEWEST:
        return everything, everything
    return early, late


def _forecaster(backbone: Backbone) -> Network:
    if isinstance(backbone, Mixer | HubForecaster):
        return backbone
    if backbone.card.architecture == "raw":
        usual = load_backbone(USUAL)
        assert isinstance(usual, Mixer)
        return usual
    raise OptionError.of(
        "backbone-forecaster",
        f"backbone {backbone.card.name!r}",
        "it embeds windows and cannot say what comes next",
        f"{USUAL}, a forecaster of the hub (hf:OWNER/NAME) or its folder",
    )
