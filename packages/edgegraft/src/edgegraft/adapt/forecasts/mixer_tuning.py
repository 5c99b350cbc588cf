"""Training a forecaster on: all its weights, from where they are, on the device's own windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgegraft.adapt.forecasts.mixer_head import Unit
from edgegraft.adapt.loop import Lesson, Training, train
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.zoo.mixer import Mixer, mixed
from edgegraft_edge.signal import Array

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 128
_MOST_ROWS = 20_000


def tuned(
    mixer: Mixer,
    x: Array,
    y: Array,
    weights: Array,
    *,
    epochs: int,
    learning_rate: float,
    seconds: float,
    seed: int,
    watch: Watch = unwatched,
) -> Mixer:
    """The network after training on windows, by squared error in their own units.

    Steps beyond the network's own horizon are forecast from forecasts and not trained on.

    Args:
        x: (n_rows, n_timepoints); y: (n_rows, n_steps), known throughout.
        weights: (n_rows,), how much each row counts.
    """
    shape = mixer.shape
    random = np.random.default_rng(seed)
    if len(x) > _MOST_ROWS:
        kept = np.sort(random.choice(len(x), _MOST_ROWS, replace=False))
        x, y, weights = x[kept], y[kept], weights[kept]
    n_steps = min(y.shape[1], shape.horizon)
    unit = Unit.of(x[:, -shape.context :])
    truth = ((y[:, :n_steps] - unit.level) / unit.scale).astype(np.float32)
    seen = np.zeros((len(x), shape.context), dtype=np.float32)
    seen[:, shape.context - unit.x.shape[1] :] = unit.x
    share = (np.minimum(weights, 10 * np.median(weights)) ** 2).astype(np.float32)
    share /= max(float(share.mean()), 1e-12)

    def loss(current: Mapping[str, Tensor], batch: Array, random: np.random.Generator) -> Tensor:
        import torch

        _, said, _ = mixed(current, torch.tensor(seen[batch]), shape)
        off = (said[:, :n_steps] - torch.tensor(truth[batch])).square().mean(dim=1)
        return (off * torch.tensor(share[batch])).mean()

    options = Training(
        epochs=epochs, batch_size=_BATCH, learning_rate=learning_rate, max_seconds=seconds
    )
    lesson = Lesson(mixer.weights, len(x), loss, steepest=1.0)
    return mixer.with_weights(train(lesson, options, seed=seed, watch=watch).parameters)
