"""MiniRocket: proportions of positive values of 84 dilated kernels, as a backbone.

Every kernel has nine weights, three of 2 and six of -1, and is applied at several dilations
to the sum of a random subset of channels. A feature is the proportion of timepoints at which
the convolution exceeds a bias; biases are quantiles of the convolution of training windows.

Windows are first brought to whole numbers, by the level and the deviation of each channel in
the training windows. The weights are whole too, and the range is such that every sum fits into
the 24 bits of a float32: convolutions are then exact in any order of adding, and biases stand
halfway between whole numbers. So a proportion never depends on the runtime that counted it,
and a channel's unit does not matter.

Source: A. Dempster, D. F. Schmidt, G. I. Webb, "MiniRocket: A very fast (almost)
deterministic transform for time series classification", KDD 2021, with its multivariate
variant. Whole numbers, and the scaling by channel, are ours.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from itertools import combinations

import numpy as np

from edgegraft.zoo.backbone import BackboneCard, shipped_card, unfitted
from edgegraft.zoo.level import check_fit, check_shape, window_shape
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Windows

N_KERNELS = 84
KERNEL_LENGTH = 9
_HALF = N_KERNELS // 2
_POSITIVE = np.array(list(combinations(range(KERNEL_LENGTH), 3)), dtype=np.int64)
_WEIGHTS = np.full((N_KERNELS, KERNEL_LENGTH), -1.0, dtype=np.float32)
np.put_along_axis(_WEIGHTS, _POSITIVE, 2.0, axis=1)
_EXACT = 2**23  # float32 holds every multiple of a half below this
_LARGEST_SUM = 12  # of the absolute weights of a kernel
_FARTHEST = 32.0  # deviations: beyond, a channel of rare spikes would coarsen the others
_GOLDEN = (np.sqrt(5.0) + 1.0) / 2.0
_PROGRAM_BYTES = 1 << 20  # of comparisons in one operation of the program, per window


@dataclass(frozen=True, eq=False)
class Kernels:
    """What `MiniRocket.fit` found in the training windows.

    Attributes:
        low, high: float32 (n_channels,), the range that values are held in.
        centre, gain: float32 (n_channels,), to whole numbers: ``(x - centre) * gain``.
        dilations, n_biases: int64 (n_dilations,); biases per kernel at each dilation.
        subset_start: int64 (n_dilations * 84 + 1,), subset: the channels of each kernel.
        biases: float32 (n_features,), by dilation, kernel, bias.
    """

    low: Array
    high: Array
    centre: Array
    gain: Array
    dilations: Array
    n_biases: Array
    subset_start: Array
    subset: Array
    biases: Array

    @property
    def least_timepoints(self) -> int:
        """The shortest window in which the most dilated kernel has a place."""
        return (KERNEL_LENGTH - 1) * int(self.dilations.max()) + 1


@dataclass(frozen=True, eq=False)
class MiniRocket:
    """MiniRocket features: (n_windows, n_channels, n_timepoints) -> (n_windows, n_features).

    >>> windows = Windows.of(np.random.default_rng(0).standard_normal((20, 3, 50)))
    >>> backbone = MiniRocket(n_features=840).fit(windows, seed=0)
    >>> z = backbone.embed(windows.x)
    >>> z.shape, bool(np.ptp(z - backbone.program(3, 50).run(windows.x)) < 1e-6)
    ((20, 840), True)
    """

    n_features: int = field(
        default=9996, metadata={"help": "how many features; rounded down to a multiple of 84"}
    )
    max_dilations: int = field(default=32, metadata={"help": "most dilations per kernel"})
    max_channels: int = field(default=9, metadata={"help": "most channels added for one kernel"})
    card: BackboneCard = field(
        default_factory=lambda: shipped_card("minirocket"), metadata={"help": "what it is"}
    )
    kernels: Kernels | None = field(default=None, metadata={"help": "set by fit"})

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> MiniRocket:
        return cls(card=card, **card.options)

    def fit(self, windows: Windows, *, seed: int) -> MiniRocket:
        """Draw channel subsets and set biases by these windows; labels are not used.

        Errors: `DataError` for windows shorter than a kernel (9), not finite, or none at all.
        """
        check_fit(windows)
        x = np.asarray(windows.x, dtype=np.float32)
        _, n_channels, n_timepoints = x.shape
        check_shape(self.card.name, n_channels, n_timepoints, n_channels, KERNEL_LENGTH)
        random = np.random.default_rng(seed)
        dilations, n_biases = _spread(self.n_features, self.max_dilations, n_timepoints)
        most = min(n_channels, self.max_channels)
        sizes = (2 ** random.uniform(0, np.log2(most + 1), len(dilations) * N_KERNELS)).astype(int)
        subset = [random.choice(n_channels, size, replace=False) for size in sizes]
        kernels = Kernels(
            *_range(x, float(_EXACT // (_LARGEST_SUM * most) - 2)),
            dilations,
            n_biases,
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            np.concatenate(subset).astype(np.int64),
            np.zeros(N_KERNELS * int(n_biases.sum()), dtype=np.float32),
        )
        return replace(self, kernels=replace(kernels, biases=_biases(kernels, x, random)))

    def embed(self, x: Array, *, threads: int = 1) -> Array:
        """Features float32 (n_windows, n_features), in 0..1, on as many threads as asked for.

        Errors: `ModelError` before `fit`; `DataError` when the channels are not those of `fit`,
        or the windows too short for its dilations.
        """
        from edgegraft.zoo.ppv import pool

        kernels = self._bound(*window_shape(x))
        # One type of array, so that one compiled function serves every caller.
        x = np.require(x, np.float32, ["C", "W"])
        out = np.empty((len(x), len(kernels.biases)), dtype=np.float32)
        taps = np.stack([_POSITIVE[_order(step)] for step in range(len(kernels.dilations))])
        fitted = [getattr(kernels, entry.name) for entry in fields(kernels)]
        fitted = [np.require(array, None, ["C", "W"]) for array in fitted]

        def work(part: slice) -> None:
            pool(x[part], *fitted, taps, out[part])

        if threads <= 1 or len(x) < 2 * threads:
            work(slice(0, len(x)))
        else:
            edges = np.linspace(0, len(x), threads + 1).astype(int)
            with ThreadPoolExecutor(threads) as pool_of_threads:
                list(pool_of_threads.map(work, map(slice, edges[:-1], edges[1:])))
        return out

    def program(self, *shape: int) -> Program:
        """The same features from primitives: channel sums, grouped convolutions, comparisons."""
        n_channels, n_timepoints = shape
        kernels = self._bound(n_channels, n_timepoints)
        draft = Draft()
        quanta = _quantise(draft, kernels)
        zeros = draft.constant(np.zeros(_HALF, dtype=np.float32))
        weights = [draft.constant(_WEIGHTS[parity::2][:, None, :]) for parity in (0, 1)]
        mixes = _mixes(kernels)
        features, place = [], 0
        for step, dilation in enumerate(kernels.dilations.tolist()):
            n_biases = int(kernels.n_biases[step])
            for half in (0, 1):
                mix = mixes[step, half * _HALF : (half + 1) * _HALF, :, None]
                sums = draft.add("conv1d", quanta, mix, zeros)
                reach = 0 if half else dilation * (KERNEL_LENGTH // 2)
                rows = draft.add(
                    "conv1d",
                    sums,
                    weights[(half + step) % 2],
                    zeros,
                    dilation=dilation,
                    groups=_HALF,
                    pad=[reach, reach],
                )
                n_out = n_timepoints - (0 if reach else dilation * (KERNEL_LENGTH - 1))
                stop = place + _HALF * n_biases
                block = kernels.biases[place:stop].reshape(_HALF, n_biases)
                features.append(_proportions(draft, rows, block, n_out))
                place = stop
        return draft.finish(draft.add("concat", *features, axis=1))

    def _bound(self, n_channels: int, n_timepoints: int) -> Kernels:
        if self.kernels is None:
            raise unfitted(self.card.name)
        kernels = self.kernels
        check_shape(
            self.card.name, n_channels, n_timepoints, len(kernels.centre), kernels.least_timepoints
        )
        return kernels


def _order(step: int) -> Array:
    """Kernels at the dilation of that number: first those with padding, then those without.

    Padding alternates between kernels, and between dilations; keeping each half together
    lets the program do a half in one convolution.
    """
    kernels = np.arange(N_KERNELS)
    return np.concatenate([kernels[step % 2 :: 2], kernels[1 - step % 2 :: 2]])


def _spread(n_features: int, max_dilations: int, n_timepoints: int) -> tuple[Array, Array]:
    """Dilations, evenly spaced in logarithm, and how many biases a kernel has at each."""
    per_kernel = max(1, n_features // N_KERNELS)
    n_dilations = max(1, min(per_kernel, max_dilations))
    widest = np.log2((n_timepoints - 1) / (KERNEL_LENGTH - 1))
    exponents = np.linspace(0, widest, n_dilations)
    dilations, times = np.unique((2.0**exponents).astype(np.int64), return_counts=True)
    n_biases = (times * (per_kernel / n_dilations)).astype(np.int64)
    n_biases[: per_kernel - int(n_biases.sum())] += 1  # what rounding left, to the short ones
    return dilations, n_biases


def _range(x: Array, limit: float) -> tuple[Array, Array, Array, Array]:
    """Low, high, centre and gain per channel: all channels get the same deviation.

    Values are held within twice the usual range, and the widest channel goes to +-`limit`. The
    range is a high quantile, so that one spike does not flatten all else; what lies beyond is
    cut off, which a count of exceedances does not mind. A channel that is constant in the
    training windows has gain 0: nothing is known of its scale, so it is left out.
    """
    values = x.transpose(1, 0, 2).reshape(x.shape[1], -1).astype(np.float64)
    centre = np.median(values, axis=1)
    away = np.abs(values - centre[:, None])
    reach = np.quantile(away, 0.999, axis=1)
    reach = np.where(reach > 0, reach, away.max(axis=1))
    spread = np.sqrt(np.mean(np.minimum(away, reach[:, None]) ** 2, axis=1))
    alive = reach > 1e-6 * np.maximum(np.abs(centre), 1e-24)
    reach = np.where(alive, 2.0 * np.minimum(reach, _FARTHEST * spread), 0.0)
    low, high, middle = (
        array.astype(np.float32) for array in (centre - reach, centre + reach, centre)
    )
    # From the bounds as rounded, so that no value can pass the limit.
    widest = np.maximum(high - middle, middle - low).astype(np.float64)
    spread = np.where(widest > 0, spread, np.inf)
    share = np.divide(widest, spread).max(initial=0.0)
    gain = np.divide(limit, share * spread) if share > 0 else np.zeros_like(widest)
    return low, high, middle, gain.astype(np.float32)


def _quantise(draft: Draft, kernels: Kernels) -> str:
    """Whole numbers of windows, in a program; subtracted first, so that nothing can be fused."""
    held = draft.add("maximum", "x", kernels.low[:, None])
    held = draft.add("minimum", held, kernels.high[:, None])
    centred = draft.add("sub", held, kernels.centre[:, None])
    return draft.add("round", draft.add("mul", centred, kernels.gain[:, None]))


def _mixes(kernels: Kernels) -> Array:
    """Float32 (n_dilations, 84, n_channels): 1 where a kernel reads a channel."""
    sizes = np.diff(kernels.subset_start)
    mixes = np.zeros((len(sizes), len(kernels.centre)), dtype=np.float32)
    mixes[np.repeat(np.arange(len(sizes)), sizes), kernels.subset] = 1.0
    return mixes.reshape(len(kernels.dilations), N_KERNELS, len(kernels.centre))


def _biases(kernels: Kernels, x: Array, random: np.random.Generator) -> Array:
    """Quantiles of each kernel's convolution of one random window, put halfway between wholes."""
    draft = Draft()
    quantise = draft.finish(_quantise(draft, kernels))
    n_timepoints = x.shape[2]
    n_features = len(kernels.biases)
    quantiles = np.arange(1, n_features + 1) * _GOLDEN % 1.0
    found, place = [], 0
    for step, dilation in enumerate(kernels.dilations.tolist()):
        chosen = random.integers(len(x), size=N_KERNELS)
        mix = _mixes(kernels)[step]
        sums = np.einsum("kct,kc->kt", quantise.run(x[chosen]), mix)
        padded = np.pad(sums, ((0, 0), (4 * dilation, 4 * dilation)))
        weights = _WEIGHTS[_order(step)]
        rows = np.zeros((N_KERNELS, n_timepoints))
        for tap in range(KERNEL_LENGTH):
            rows += weights[:, tap, None] * padded[:, tap * dilation :][:, :n_timepoints]
        rows.sort(axis=1)
        count = N_KERNELS * int(kernels.n_biases[step])
        position = quantiles[place : place + count].reshape(N_KERNELS, -1) * (n_timepoints - 1)
        below = position.astype(np.int64)
        low = np.take_along_axis(rows, below, axis=1)
        high = np.take_along_axis(rows, np.minimum(below + 1, n_timepoints - 1), axis=1)
        found.append((low + (position - below) * (high - low)).ravel())
        place += count
    return np.asarray(np.floor(np.concatenate(found)) + 0.5, dtype=np.float32)


def _proportions(draft: Draft, rows: str, biases: Array, n_out: int) -> str:
    """Where rows (n, 42, n_out) exceed biases (42, n_biases), averaged: (n, 42 * n_biases)."""
    n_kernels, n_biases = biases.shape
    at_once = max(1, _PROGRAM_BYTES // (4 * n_kernels * n_out))
    rows = draft.add("reshape", rows, shape=[n_kernels, 1, n_out])
    parts = []
    for first in range(0, n_biases, at_once):
        block = biases[:, first : first + at_once, None]
        above = draft.add("greater", rows, block)
        parts.append(draft.add("mean", above, axes=[3]))
    means = draft.add("concat", *parts, axis=2) if len(parts) > 1 else parts[0]
    return draft.add("reshape", means, shape=[n_kernels * n_biases])
