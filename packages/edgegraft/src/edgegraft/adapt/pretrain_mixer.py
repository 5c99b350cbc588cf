"""Pretraining of a forecaster on made-up series: its linear path in closed form, then all of it.

The linear path starts as the filter of `series_prior`, for many seasons at once; the network then
learns what one filter cannot do, which is to see what season a window has. No recording is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegraft.adapt.loop import Lesson, Training, train
from edgegraft.adapt.series_prior import FLOOR, series_prior
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.data.synthetic_series import draw_series
from edgegraft.zoo.mixer import Mixer, MixerShape, mixed
from edgegraft_edge.errors import OptionError
from edgegraft_edge.signal import Array

if TYPE_CHECKING:
    from torch import Tensor

_CROPS = 3  # windows of each series
_DELTA = 2.0  # of the Huber loss, in deviations of the window


@dataclass(frozen=True)
class MixerTraining(Training):
    """How to pretrain a mixer. An epoch is `series` made-up series, three windows of each."""

    learning_rate: float = field(
        default=2e-3, metadata={"help": "step size at the start; it falls along a cosine"}
    )
    batch_size: int = field(default=64, metadata={"help": "series per step"})
    epochs: int = field(default=60, metadata={"help": "draws of so many series"})
    series: int = field(default=4096, metadata={"help": "made-up series of an epoch"})
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
    watch: Watch = unwatched,
    checkpoint: Path | None = None,
) -> Mixer:
    """Train a new forecaster on made-up series.

    Args:
        shape: options of the network, as on a card; None for the usual one.
        checkpoint: file that keeps progress; a killed run goes on from it.

    >>> small = {"context": 32, "horizon": 8, "patch": 8, "width": 8, "latent": 8, "depth": 1}
    >>> mixer = pretrain_mixer(MixerTraining(epochs=1, series=64), shape=small)
    >>> mixer.card.kind, mixer.forecast(np.ones((1, 1, 40)), 8).shape
    ('pretrained', (1, 1, 8))
    """
    options = options or MixerTraining()
    start = Mixer.random(seed, **(shape or {}))
    size = start.shape
    prior = series_prior(size.context, size.horizon, seed=seed, rows=max(4000, 16 * size.context))
    parameters = {**start.weights, "out.linear": prior.filter().astype(np.float32)}

    def loss(current: Mapping[str, Tensor], batch: Array, random: np.random.Generator) -> Tensor:
        import torch
        from torch.nn import functional

        x, y = lesson(len(batch), size, options.short, random)
        _, said = mixed(current, torch.tensor(x), size)
        return functional.huber_loss(said, torch.tensor(y), delta=_DELTA)

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
        recipe=f"bench/pretrain_mixer.py: {len(trained.history)} epochs of {options.series} series",
        seed=seed,
    )
    return start.with_card(card).with_weights(trained.parameters)


def lesson(
    n_series: int, shape: MixerShape, short: float, random: np.random.Generator
) -> tuple[Array, Array]:
    """Windows of made-up series in units of their own, and what comes after each.

    Returns: float32 (n_windows, context) and (n_windows, horizon).
    """

    span = shape.context + shape.horizon
    made = draw_series(n_series, max(span, 1 << (span - 1).bit_length()), random).values
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
    return x.astype(np.float32), y.astype(np.float32)
