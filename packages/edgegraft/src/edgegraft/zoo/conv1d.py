"""A 1-D convolutional encoder that one set of weights serves for any channels, rate and length.

Every channel passes the same four convolutions by itself; the embeddings of the channels stand
side by side, so that a head knows which channel said what. A window reaches the network twice:
brought to zero mean and unit deviation by itself (shape), and softly clipped as it is (level
and scale, which also join the embedding as they are). Windows at a known rate not far from the
card's are resampled to it by a constant matrix. Convolutions, ReLU, mean and maximum are all
there is, so it runs wherever a :class:`~edgegraft_edge.program.Program` runs.

Pooling over time of two stages: Lin, Chen, Yan, Network in Network, ICLR 2014. Channels that
share an encoder: Nie et al., A Time Series is Worth 64 Words, ICLR 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.weights import shaped_weights
from edgegraft_edge.errors import ModelError
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Windows
from edgegraft_edge.tensors import load

if TYPE_CHECKING:
    from torch import Tensor

MAX_PARAMETERS = 300_000
SHORTEST, LONGEST = 32, 256  # timepoints after resampling; the longest holds for resampling only
_NEAR = 4.0  # rates further than this from the card's are of another kind of signal: not resampled
_FLOOR = 1e-4  # variance below this is noise of the sensor's last digit
_BASE = 0.01  # roots of pools start here, where they are no longer steep
_LIMIT = 2.0  # soft clipping, in deviations of the training set
_BATCH_ROWS = 1024  # channels embedded at a time: activations stay in the cache
_LOBES = 3


@dataclass(frozen=True)
class Shape:
    """The convolutions: one width, kernel length and stride per block.

    Attributes:
        pooled: blocks whose mean and maximum over time (their roots) make the embedding.
    """

    widths: tuple[int, ...] = (32, 64, 96, 128)
    kernels: tuple[int, ...] = (9, 5, 3, 3)
    strides: tuple[int, ...] = (2, 2, 2, 2)
    pooled: tuple[int, ...] = (2, 3)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Shape:
        """From a card's options. Errors: `ModelError` where they make no network."""
        try:
            shape = cls(**{name: tuple(map(int, values)) for name, values in options.items()})
            if len({len(shape.widths), len(shape.kernels), len(shape.strides)}) != 1:
                raise ValueError("widths, kernels and strides of unequal number")
            if min(*shape.widths, *shape.kernels, *shape.strides) < 1:
                raise ValueError("a width, kernel or stride below one")
            if not shape.pooled or not set(shape.pooled) <= set(range(len(shape.widths))):
                raise ValueError(f"pooled blocks {shape.pooled} of {len(shape.widths)}")
        except (TypeError, ValueError) as error:
            raise ModelError.of(
                "network-shape",
                f"options of a convolutional encoder: {error}",
                "no network can be made of them",
                "widths, kernels and strides of one length, and pooled blocks among them",
            ) from error
        return shape

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the blocks from the signal up: stem, block1, ..."""
        return ("stem", *(f"block{index}" for index in range(1, len(self.widths))))

    @property
    def sizes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each tensor by name."""
        sizes: dict[str, tuple[int, ...]] = {}
        inputs = 2
        for block, width, kernel in zip(self.blocks, self.widths, self.kernels, strict=True):
            sizes[f"{block}.weight"] = (width, inputs, kernel)
            sizes[f"{block}.bias"] = (width,)
            inputs = width
        return sizes

    @property
    def channel_dim(self) -> int:
        """Length of the embedding of one channel: pools, level and log scale."""
        return 2 * sum(self.widths[index] for index in self.pooled) + 2

    def draw(self, seed: int) -> dict[str, Array]:
        """Random weights (He et al., ICCV 2015)."""
        random = np.random.default_rng(seed)
        weights = {}
        for name, size in self.sizes.items():
            spread = np.sqrt(2.0 / np.prod(size[1:])) if len(size) > 1 else 0.3
            weights[name] = random.normal(0, spread, size).astype(np.float32)
        return weights


@dataclass(frozen=True, eq=False)
class Conv1d:
    """The encoder with its weights, as a value; `fit` binds it to a rate and a length.

    Attributes:
        weights: float32 tensors by name, "stem.weight", "stem.bias", "block1.weight", ...
        resampled: what `fit` found: timepoints of a window -> timepoints that the network sees.

    >>> windows = Windows.of(np.random.default_rng(0).normal(size=(5, 3, 100)), rate_hz=50.0)
    >>> encoder = Conv1d.random(seed=1).fit(windows, seed=0)
    >>> z = encoder.embed(windows.x)
    >>> bool(np.allclose(z, encoder.program(3, 100).run(windows.x), rtol=1e-3, atol=1e-4))
    True
    """

    card: BackboneCard
    weights: Mapping[str, Array]
    shape: Shape = Shape()
    resampled: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Conv1d:
        """From safetensors bytes, or with random weights by the card's seed.

        Errors: `ModelError` when the weights are not those of the card's shape.
        """
        shape = Shape.from_options(card.options)
        tensors = shape.draw(card.seed) if weights is None else load(weights)
        card, kept = shaped_weights(
            card, shape.sizes, tensors, most=MAX_PARAMETERS, what="a device encoder"
        )
        return cls(card, kept, shape)

    @classmethod
    def random(cls, seed: int = 0, **options: Any) -> Conv1d:
        """The same network with random weights: the control of every pretrained one."""
        card = BackboneCard(
            name="conv1d-random",
            architecture="conv1d",
            summary="convolutional encoder, random weights",
            kind="random",
            licence="Apache-2.0",
            seed=seed,
            options=options,
        )
        return cls.from_card(card, None)

    def fit(self, windows: Windows, *, seed: int) -> Conv1d:
        """Bind to the rate and length of windows; an encoder of kind "random" draws by `seed`."""
        length = windows.x.shape[2]
        bound = replace(self, resampled={length: self._length_for(length, windows.series.rate_hz)})
        if self.card.kind != "random" or seed == self.card.seed:
            return bound
        weights = MappingProxyType(self.shape.draw(seed))
        return replace(bound, card=replace(self.card, seed=seed), weights=weights)

    def _length_for(self, length: int, rate_hz: float) -> int:
        """Timepoints that the network sees of windows of a length and rate (1.0: not known)."""
        factor = (self.card.rate_hz or rate_hz) / rate_hz
        if rate_hz != 1.0 and 1 / _NEAR <= factor <= _NEAR:
            return max(SHORTEST, min(round(length * factor), max(LONGEST, length)))
        return max(SHORTEST, length)

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the blocks from the signal up, for freezing."""
        return self.shape.blocks

    def with_weights(self, weights: Mapping[str, Array]) -> Conv1d:
        """The same encoder, tuned."""
        return replace(self, weights=MappingProxyType(dict(weights)))

    def with_card(self, card: BackboneCard) -> Conv1d:
        """The same encoder under another card."""
        return replace(self, card=card)

    def with_random_weights(self, seed: int) -> Conv1d:
        """The same network, knowing nothing: the control of what was learned before."""
        card = replace(
            self.card,
            name=f"{self.card.name}-scratch" if self.card.kind != "random" else self.card.name,
            kind="random",
            seed=seed,
            weights="",
            checksum="",
            data="",
            recipe="",
        )
        return replace(self, card=card).with_weights(self.shape.draw(seed))

    def forward(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Prepared windows -> (n_windows, embedding_dim), differentiable in `weights`."""
        return forward(weights, x, self.shape)

    def prepare(self, x: Array) -> Array:
        """Windows as the network takes them: resampled if they must be.

        Args:
            x: (n_windows, n_channels, n_timepoints). Returns: float32, other n_timepoints.
        """
        x = np.asarray(x, dtype=np.float32)
        length = self._seen(x.shape[2])
        if length == x.shape[2]:
            return x
        return np.asarray(x @ resampling(x.shape[2], length), dtype=np.float32)

    def _seen(self, length: int) -> int:
        return self.resampled.get(length, max(SHORTEST, length))

    def embed(self, x: Array) -> Array:
        """(n_windows, n_channels, n_timepoints) -> float32 (n_windows, embedding_dim)."""
        import torch

        x = self.prepare(x)
        step = max(1, _BATCH_ROWS // max(1, x.shape[1]))
        out = np.empty((len(x), x.shape[1] * self.shape.channel_dim), dtype=np.float32)
        with torch.inference_mode():
            weights = {name: torch.tensor(array) for name, array in self.weights.items()}
            for start in range(0, len(x), step):
                part = torch.from_numpy(np.array(x[start : start + step], order="C"))
                out[start : start + step] = forward(weights, part, self.shape).numpy()
        return out

    def program(self, *shape: int) -> Program:
        """The same as a program; channels are rows of one two-dimensional convolution."""
        n_channels, n_timepoints = shape
        draft = Draft()
        x, length = "x", self._seen(n_timepoints)
        if length != n_timepoints:
            x = draft.add("matmul", x, resampling(n_timepoints, length))
        level = draft.add("mean", x, axes=[2])
        centred = draft.add("sub", x, level)
        power = draft.add("mean", draft.add("mul", centred, centred), axes=[2])
        scale = draft.add("sqrt", draft.add("add", power, np.float32(_FLOOR)))
        views = [draft.add("div", centred, scale), _soft(draft, x)]
        rows = [draft.add("reshape", view, shape=[1, n_channels, length]) for view in views]
        value = draft.add("concat", *rows, axis=1)
        pools = [
            draft.add("reshape", side, shape=[1, n_channels, 1])
            for side in (_soft(draft, level), draft.add("log", scale))
        ]
        for index, block in enumerate(self.blocks):
            kernel = self.weights[f"{block}.weight"][:, :, None, :]
            half = kernel.shape[3] // 2
            value = draft.add(
                "conv2d",
                value,
                kernel,
                self.weights[f"{block}.bias"],
                stride=[1, self.shape.strides[index]],
                pad=[0, half, 0, half],
            )
            value = draft.add("relu", value)
            if index in self.shape.pooled:
                pools += [
                    _root(draft, draft.add(kind, value, axes=[3])) for kind in ("mean", "max")
                ]
        joined = draft.add("concat", *pools, axis=1)
        return draft.finish(
            draft.add("reshape", draft.add("transpose", joined, axes=[0, 2, 1, 3]), shape=[-1])
        )


def _soft(draft: Draft, value: str) -> str:
    return draft.add("tanh", draft.add("mul", value, np.float32(1 / _LIMIT)))


def _root(draft: Draft, value: str) -> str:
    return draft.add("sqrt", draft.add("add", value, np.float32(_BASE)))


def forward(weights: Mapping[str, Tensor], x: Tensor, shape: Shape) -> Tensor:
    """The network in torch, differentiable.

    Args:
        weights: by name, as in `Conv1d.weights`.
        x: prepared windows (n_windows, n_channels, n_timepoints).

    Returns: (n_windows, n_channels * channel_dim).
    """
    import torch
    from torch.nn import functional

    n_windows, n_channels, length = x.shape
    rows = x.reshape(n_windows * n_channels, 1, length)
    level = rows.mean(dim=2, keepdim=True)
    centred = rows - level
    scale = torch.sqrt(centred.square().mean(dim=2, keepdim=True) + _FLOOR)
    value = torch.cat([centred / scale, torch.tanh(rows / _LIMIT)], dim=1)[:, :, None, :]
    # Channels last, as two-dimensional convolutions of one row: a fifth faster on a processor.
    value = value.contiguous(memory_format=torch.channels_last)
    pools = [torch.tanh(level / _LIMIT)[:, :, 0], torch.log(scale)[:, :, 0]]
    for index, block in enumerate(shape.blocks):
        kernel = weights[f"{block}.weight"][:, :, None, :]
        value = functional.conv2d(
            value,
            kernel,
            weights[f"{block}.bias"],
            stride=(1, shape.strides[index]),
            padding=(0, kernel.shape[3] // 2),
        )
        value = functional.relu(value)
        if index in shape.pooled:
            found = (value.mean(dim=(2, 3)), value.amax(dim=(2, 3)))
            pools += [torch.sqrt(pool + _BASE) for pool in found]
    return torch.cat(pools, dim=1).reshape(n_windows, -1)


def resampling(n_in: int, n_out: int) -> Array:
    """Matrix float32 (n_in, n_out) that resamples along time; window edges are held.

    Rows of weights by a windowed sinc (Lanczos), widened for lower rates so that what the new
    rate cannot show is filtered out.

    >>> bool(np.allclose(np.ones(20) @ resampling(20, 50), 1))
    True
    """
    ratio = n_in / n_out
    reach = max(1.0, ratio)
    centre = (np.arange(n_out) + 0.5) * ratio - 0.5
    taps = np.arange(-int(np.ceil(_LOBES * reach)), int(np.ceil(_LOBES * reach)) + 1)
    place = np.floor(centre).astype(np.int64)[:, None] + taps
    distance = (place - centre[:, None]) / reach
    weight = np.where(
        np.abs(distance) < _LOBES, np.sinc(distance) * np.sinc(distance / _LOBES), 0.0
    )
    weight /= weight.sum(axis=1, keepdims=True)
    matrix = np.zeros((n_in, n_out))
    np.add.at(matrix, (place.clip(0, n_in - 1), np.arange(n_out)[:, None]), weight)
    return matrix.astype(np.float32)
