"""Summary statistics of every channel and of its first difference, as a backbone.

About twenty numbers for the signal and twenty for its first difference: level, spread,
quantiles, shape, crossings, autocorrelation and slope; and the correlations between channels.
Crossings are counted softly, so that noise on the threshold moves the count a little and
never by a whole crossing. Each statistic is finally squashed between -1 and 1 by its spread over
the training windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from edgegraft.zoo.backbone import BackboneCard, embed_in_batches, shipped_card, unfitted
from edgegraft.zoo.level import (
    centred,
    check_dim,
    check_shape,
    squash,
    to_usual,
    usual_features,
    usual_level,
    window_shape,
)
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Windows

QUANTILES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)
LAGS = (1, 2, 4, 8, 16)
LEAST_TIMEPOINTS = 4
_QUIET = 1e-3  # of the usual scale: what is below counts as still
_STEEP = 4.0  # of the soft comparison with the mean, per deviation


@dataclass(frozen=True, eq=False)
class Statistics:
    """Summary statistics: (n_windows, n_channels, n_timepoints) -> (n_windows, embedding_dim).

    >>> windows = Windows.of(np.random.default_rng(0).standard_normal((20, 3, 50)))
    >>> Statistics().fit(windows, seed=0).embed(windows.x).shape
    (20, 138)
    """

    max_pairs: int = field(
        default=120, metadata={"help": "most correlations between channels, neighbours first"}
    )
    squashed: bool = field(
        default=True, metadata={"help": "bring features between -1 and 1; needs equal windows"}
    )
    card: BackboneCard = field(
        default_factory=lambda: shipped_card("statistics"), metadata={"help": "what it is"}
    )
    centre: Array | None = field(default=None, metadata={"help": "set by fit"})
    scale: Array | None = field(default=None, metadata={"help": "set by fit"})
    mean: Array | None = field(default=None, metadata={"help": "of each feature, set by fit"})
    gain: Array | None = field(default=None, metadata={"help": "of each feature, set by fit"})

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Statistics:
        return cls(card=card, **card.options)

    def fit(self, windows: Windows, *, seed: int) -> Statistics:
        """Take level and scale of each channel from these windows; `seed` plays no part."""
        centre, scale = usual_level(windows)
        bound = replace(self, centre=centre, scale=scale, mean=None, gain=None)
        if not self.squashed:
            return bound
        mean, gain = usual_features(bound.embed(windows.x))
        return replace(bound, mean=mean, gain=gain)

    def embed(self, x: Array) -> Array:
        """Statistics float32 (n_windows, embedding_dim).

        Errors: `ModelError` before `fit`; `DataError` for other channels than those of `fit`, or
        for windows of fewer than four timepoints.
        """
        return embed_in_batches(self.program(*window_shape(x)), x)

    def program(self, *shape: int) -> Program:
        """The statistics from primitives; `embed` interprets the same."""
        n_channels, n_timepoints = shape
        if self.centre is None or self.scale is None:
            raise unfitted(self.card.name)
        check_shape(self.card.name, n_channels, n_timepoints, len(self.centre), LEAST_TIMEPOINTS)
        draft = Draft()
        signal = to_usual(draft, self.centre, self.scale)
        found, unit = _describe(draft, signal, n_timepoints)
        later = draft.add("slice", signal, axis=2, start=1, stop=n_timepoints)
        earlier = draft.add("slice", signal, axis=2, start=0, stop=n_timepoints - 1)
        difference, _ = _describe(draft, draft.add("sub", later, earlier), n_timepoints - 1)
        ramp = np.linspace(-1.0, 1.0, n_timepoints)[:, None]
        slope = draft.add("matmul", signal, ramp / np.sum(ramp * ramp))
        table = draft.add("concat", *found, *difference, slope, axis=2)
        width = _n_statistics(n_timepoints) + _n_statistics(n_timepoints - 1) + 1
        flat = draft.add("reshape", table, shape=[n_channels * width])
        pairs = _pairs(n_channels, self.max_pairs)
        if len(pairs):
            turned = draft.add("transpose", unit, axes=[0, 2, 1])
            products = draft.add("matmul", unit, turned)
            products = draft.add("mul", products, np.float32(1.0 / n_timepoints))
            products = draft.add("reshape", products, shape=[n_channels * n_channels])
            flat = draft.add("concat", flat, draft.add("gather", products, pairs, axis=1), axis=1)
        if self.mean is not None and self.gain is not None:
            dim = n_channels * width + len(pairs)
            check_dim(self.card.name, dim, len(self.mean))
            flat = squash(draft, flat, self.mean, self.gain)
        return draft.finish(flat)


def _lags(n_timepoints: int) -> list[int]:
    return [lag for lag in LAGS if 2 * lag <= n_timepoints]


def _n_statistics(n_timepoints: int) -> int:
    return 8 + len(QUANTILES) + len(_lags(n_timepoints))


def _describe(draft: Draft, signal: str, n_timepoints: int) -> tuple[list[str], str]:
    """Statistics of a signal (n, c, t), each (n, c, some); and the signal at unit spread."""
    centre, mean = centred(draft, signal)
    spread = draft.add("sqrt", _mean_product(draft, centre, centre))
    floored = draft.add("add", spread, np.float32(_QUIET))
    unit = draft.add("div", centre, floored)
    square = draft.add("mul", unit, unit)
    found = [
        mean,
        spread,
        draft.add("log", floored),
        draft.add("mean", draft.add("abs", centre), axes=[2]),
        _mean_product(draft, square, unit),
        draft.add("log", draft.add("add", _mean_product(draft, square, square), np.float32(1))),
        _log_energy(draft, signal),
        _quantiles(draft, signal, n_timepoints),
        _crossings(draft, unit, n_timepoints),
    ]
    for lag in _lags(n_timepoints):
        later = draft.add("slice", unit, axis=2, start=lag, stop=n_timepoints)
        earlier = draft.add("slice", unit, axis=2, start=0, stop=n_timepoints - lag)
        found.append(_mean_product(draft, later, earlier))
    return found, unit


def _mean_product(draft: Draft, a: str, b: str) -> str:
    return draft.add("mean", draft.add("mul", a, b), axes=[2])


def _log_energy(draft: Draft, signal: str) -> str:
    energy = _mean_product(draft, signal, signal)
    return draft.add("log", draft.add("add", energy, np.float32(_QUIET * _QUIET)))


def _crossings(draft: Draft, unit: str, n_timepoints: int) -> str:
    """How often a step the signal goes to the other side of its mean, 0..1."""
    side = draft.add("tanh", draft.add("mul", unit, np.float32(_STEEP)))
    later = draft.add("slice", side, axis=2, start=1, stop=n_timepoints)
    earlier = draft.add("slice", side, axis=2, start=0, stop=n_timepoints - 1)
    change = draft.add("mean", draft.add("abs", draft.add("sub", later, earlier)), axes=[2])
    return draft.add("mul", change, np.float32(0.5))


def _quantiles(draft: Draft, signal: str, n_timepoints: int) -> str:
    """Quantiles (n, c, n_quantiles), linear between neighbours."""
    ordered = draft.add("sort", signal)
    place = np.array(QUANTILES) * (n_timepoints - 1)
    below = place.astype(np.int64)
    low = draft.add("gather", ordered, below, axis=2)
    high = draft.add("gather", ordered, np.minimum(below + 1, n_timepoints - 1), axis=2)
    step = draft.add("mul", draft.add("sub", high, low), place - below)
    return draft.add("add", low, step)


def _pairs(n_channels: int, most: int) -> Array:
    """Places in a flat (n_channels, n_channels) of the pairs kept, those of neighbours first."""
    pairs = [(i, j) for i in range(n_channels) for j in range(i + 1, n_channels)]
    pairs.sort(key=lambda pair: (pair[1] - pair[0], pair[0]))
    return np.array([i * n_channels + j for i, j in pairs[:most]], dtype=np.int64)
