"""Pretraining of a forecaster on made-up series: its filters in closed form, then all of it.

Each linear filter starts as that of `series_prior` for one season, and one for many at once. Then
everything is trained, the gate also on which season a window was made with. No recording is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegraft.adapt.forecasts.series_prior import FLOOR, series_prior
from edgegraft.adapt.loop import Lesson, Training, train
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.data.synthetic_series import PERIODS, draw_series
from edgegraft.zoo.mixer import Mixer, MixerShape, mixed
from edgegraft_edge.errors import OptionError
from edgegraft_edge.signal import Array

if TYPE_CHECKING:
    from torch import Tensor

_CROPS = 3  # windows of each series
_SEEN = 0.05  # weight of the gate's own loss
_DELTA = 2.0  # of the Huber loss, in deviations of the window


@dataclass(frozen=True)
class MixerTraining(Training):
    """How to pretrain a mixer. An epoch is `series` made-up series, three windows of each."""

    learning_rate: float = field(
        default=2e-3, metadata={"help": "step size at the start; it falls along a cosine"}
    )
    batch_size: int = field(default=64, metadata={"help": "series per step"})
    epochs: int = field(default=24, metadata={"help": "draws of so many series"})
    series: int = field(default=4096, metadata={"help": "made-up series of an epoch"})
    rows: int = field(default=8192, metadata={"help": "series that each filter starts from"})
    short: float = field(
        default=0.2, metadata={"help": "share of windows of which only the end is shown"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.series < 1 or not 0 <= self.short < 1:
            raise OptionError.of(
                "option-range",
                f"series={self.series}, short={self.short}",
                "an epoch has series; some windows are whole",
                "series=4096, short=0.2",
            )


def pretrain_mixer(
    options: MixerTraining | None = None,
    *,
    name: str = "mixer-own",
    shape: Mapping[str, Any] | None = None,
    seed: int = 0,
    start: Mixer | None = None,
    watch: Watch = unwatched,
    checkpoint: Path | None = None,
) -> Mixer:
    """Train a new forecaster on made-up series.

    Args:
        shape: options of the network, as on a card; None for the usual one.
        start: a network to go on from; its linear path stays as it is. None for a new one.
        checkpoint: file that keeps progress; a killed run goes on from it.

    >>> small = {"context": 32, "horizon": 8, "patch": 8, "width": 8, "latent": 8, "lags": [1, 12]}
    >>> mixer = pretrain_mixer(MixerTraining(epochs=1, series=64), shape=small)
    >>> mixer.card.kind, mixer.forecast(np.ones((1, 1, 40)), 8).shape
    ('pretrained', (1, 1, 8))
    """
    options = options or MixerTraining()
    if start is None:
        start = Mixer.random(seed, **(shape or {}))
        parameters = {**start.weights, **filters(start.shape, options.rows, seed)}
    else:
        parameters = dict(start.weights)
    size, before = start.shape, f"{start.card.recipe}, then " if start.card.recipe else ""

    def loss(current: Mapping[str, Tensor], batch: Array, random: np.random.Generator) -> Tensor:
        import torch
        from torch.nn import functional

        x, y, kind = lesson(len(batch), size, options.short, random)
        _, said, shares = mixed(current, torch.tensor(x), size)
        seen = functional.nll_loss(shares, torch.tensor(kind))
        return functional.huber_loss(said, torch.tensor(y), delta=_DELTA) + _SEEN * seen

    trained = train(
        Lesson(parameters, options.series, loss, steepest=1.0),
        options,
        seed=seed,
        watch=watch,
        checkpoint=checkpoint,
        fingerprint=f"{seed} {asdict(size)} {asdict(replace(options, threads=1))}",
    )
    card = replace(
        start.card,
        name=name,
        summary="mixer that forecasts any series, pretrained on made-up ones",
        kind="pretrained",
        data="made-up series (edgegraft.data.synthetic_series); no recordings",
        recipe=f"{before}{len(trained.history)} epochs of {options.series} series from a step of "
        f"{options.learning_rate:g}, seed {seed}",
        seed=seed,
    )
    return start.with_card(card).with_weights(trained.parameters)


def filters(shape: MixerShape, rows: int, seed: int) -> dict[str, Array]:
    """Filters of each season to start from, as products of low rank; the last is of any season.

    Low rank is what loses least of the forecasts of the made-up windows.
    """
    code = np.zeros((shape.context, shape.experts, shape.rank))
    decode = np.zeros((shape.experts, shape.rank, shape.horizon))
    for number, season in enumerate(seasons(shape)):
        prior = series_prior(shape.context, shape.horizon, season, seed=seed, rows=rows)
        gram = prior.gram + 1e-3 * np.eye(shape.context)
        lower = np.linalg.cholesky(gram)
        left, sizes, right = np.linalg.svd(lower.T @ prior.filter(), full_matrices=False)
        rank, size = min(shape.rank, len(sizes)), np.sqrt(sizes[: shape.rank])
        code[:, number, :rank] = np.linalg.solve(lower.T, left[:, :rank] * size)
        decode[number, :rank] = size[:, None] * right[:rank]
    return {
        "out.code": code.reshape(shape.context, -1).astype(np.float32),
        "out.decode": decode.reshape(-1, shape.horizon).astype(np.float32),
    }


def seasons(shape: MixerShape) -> tuple[int, ...]:
    """The season of each filter, the commonest first; 0, any, is the last."""
    return (*PERIODS[: shape.experts - 1], 0)


def lesson(
    n_series: int, shape: MixerShape, short: float, random: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Windows of made-up series in units of their own, and what comes after each.

    Returns: float32 (n_windows, context) and (n_windows, horizon); int (n_windows,), which filter
    is made for the season of the series.
    """
    span = shape.context + shape.horizon
    drawn = draw_series(n_series, max(span, 1 << (span - 1).bit_length()), random)
    made, known = drawn.values, np.array(seasons(shape)[:-1], dtype=np.int64)
    match = drawn.periods[:, None] == known
    kind = np.tile(np.where(match.any(axis=1), match.argmax(axis=1), len(known)), _CROPS)
    first = random.integers(0, made.shape[1] - span + 1, size=(_CROPS, n_series, 1))
    rows = np.concatenate([np.take_along_axis(made, f + np.arange(span), 1) for f in first])
    rows = np.where(random.random((len(rows), 1)) < 0.5, rows, -rows)
    x, y = rows[:, : shape.context], rows[:, shape.context :]
    seen = np.full(len(rows), shape.context)
    cut = random.random(len(rows)) < short
    seen[cut] = np.exp(random.uniform(np.log(shape.context / 12), np.log(shape.context), cut.sum()))
    shown = np.arange(shape.context) >= shape.context - seen[:, None]
    n = shown.sum(axis=1, keepdims=True)
    level = (x * shown).sum(axis=1, keepdims=True) / n
    unit = (x - level) * shown
    scale = np.sqrt((unit**2).sum(axis=1, keepdims=True) / n)
    keep = (scale > FLOOR)[:, 0]  # a window that stands still teaches nothing
    x, y = unit[keep] / scale[keep], (y - level)[keep] / scale[keep]
    return x.astype(np.float32), y.astype(np.float32), kind[keep]
