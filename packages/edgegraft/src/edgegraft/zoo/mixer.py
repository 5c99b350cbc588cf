"""A small mixer for series: one set of weights forecasts any channel of any unit.

Each channel passes by itself. Its last 512 samples are brought to zero mean and unit deviation.
Linear filters forecast from them at once, one for each season that devices have (days of hours,
half hours, minutes ...); a small gate weighs them by how much the window differs from itself so
many samples ago. A network of patches adds what is not linear: two layers over the patches and two
within each, twice, and a layer over all. Horizons beyond 96 steps are forecast from forecasts.
Common primitives are all there is, so it runs wherever a
:class:`~edgegraft_edge.program.Program` runs.

Mixing over patches and within them: Ekambaram et al., TSMixer, KDD 2023, and Tiny Time Mixers,
NeurIPS 2024; the linear path: Zeng et al., Are Transformers Effective for Time Series
Forecasting?, AAAI 2023; experts and their gate: Jacobs et al., Neural Computation 1991;
normalisation of each window: Kim et al., ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegraft.zoo.backbone import BackboneCard, embed_in_batches
from edgegraft.zoo.own_unit import in_unit, rolled_out, unit_of
from edgegraft.zoo.weights import shaped_weights
from edgegraft_edge.errors import ModelError
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Windows
from edgegraft_edge.tensors import load

if TYPE_CHECKING:
    from torch import Tensor

MAX_PARAMETERS = 1_000_000
_ALIKE = 1e-3  # joins mean squares before their logarithm is taken
_LIMIT = 2.0  # soft clipping of the level in the embedding, as of conv1d


@dataclass(frozen=True)
class MixerShape:
    """Sizes of the network.

    Attributes:
        context: samples that it sees of a window; shorter windows are filled up with their mean.
        horizon: steps that it forecasts at once.
        patch: samples of a patch; patches do not overlap.
        width: numbers for each patch.
        hidden: widths of the layers over the patches and within them.
        depth: how often both are mixed.
        latent: numbers for a channel, which forecasts and embeddings are made from.
        lags: samples after which the gate compares a window with itself.
        experts: linear filters.
        rank: of each filter.
        gate: hidden width of the gate.
    """

    context: int = 512
    horizon: int = 96
    patch: int = 16
    width: int = 48
    hidden: tuple[int, ...] = (64, 96)
    depth: int = 2
    latent: int = 96
    lags: tuple[int, ...] = (1, 3, 7, 12, 24, 36, 48, 60, 72, 96, 120, 144, 168, 192, 288, 336)
    experts: int = 9
    rank: int = 32
    gate: int = 48

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> MixerShape:
        """From a card's options. Errors: `ModelError` where they make no network."""
        try:
            values = {
                k: tuple(map(int, v)) if k in ("hidden", "lags") else int(v)
                for k, v in options.items()
            }
            shape = cls(**values)  # type: ignore[arg-type]
            sizes = (shape.horizon, shape.patch, shape.width, *shape.hidden, shape.latent,
                     *shape.lags, shape.experts, shape.rank, shape.gate)  # fmt: skip
            if max(shape.lags, default=shape.context) >= shape.context:
                raise ValueError("a lag beyond the context, or none")
            if min(*sizes, shape.depth) < 1 or len(shape.hidden) != 2:
                raise ValueError("a size below one, or not two hidden widths")
            if shape.context % shape.patch or shape.context < shape.patch:
                raise ValueError(f"context {shape.context} is not patches of {shape.patch}")
        except (TypeError, ValueError) as error:
            raise ModelError.of(
                "network-shape",
                f"options of a mixer: {error}",
                "no network can be made of them",
                "whole numbers above zero; a context of whole patches; two hidden widths",
            ) from error
        return shape

    @property
    def n_patches(self) -> int:
        return self.context // self.patch

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the blocks from the signal up: patch, mix1, ..., latent, out."""
        return ("patch", *(f"mix{n + 1}" for n in range(self.depth)), "latent", "gate", "out")

    @property
    def sizes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each tensor by name; matrices take rows."""
        over, within = self.hidden
        layers: dict[str, tuple[int, int]] = {"patch.": (self.patch, self.width)}
        for index in range(self.depth):
            layers[f"mix{index + 1}.over_in_"] = (self.n_patches, over)
            layers[f"mix{index + 1}.over_out_"] = (over, self.n_patches)
            layers[f"mix{index + 1}.within_in_"] = (self.width, within)
            layers[f"mix{index + 1}.within_out_"] = (within, self.width)
        layers["latent."] = (self.n_patches * self.width, self.latent)
        layers["out."] = (self.latent, self.horizon)
        layers["gate.in_"] = (len(self.lags), self.gate)
        layers["gate.out_"] = (self.gate, self.experts)
        n_codes = self.experts * self.rank
        sizes: dict[str, tuple[int, ...]] = {
            "out.code": (self.context, n_codes),
            "out.decode": (n_codes, self.horizon),
        }
        for name, size in layers.items():
            sizes[f"{name}weight"], sizes[f"{name}bias"] = size, size[1:]
        return sizes

    @property
    def channel_dim(self) -> int:
        """Length of the embedding of one channel: latent, level and log scale."""
        return self.latent + 2

    def draw(self, seed: int) -> dict[str, Array]:
        """Random weights (He et al., ICCV 2015); what is added to a path starts small."""
        random = np.random.default_rng(seed)
        weights = {}
        for name, size in self.sizes.items():
            spread = np.sqrt(2.0 / size[0]) if len(size) > 1 else 0.02
            if "_out_" in name or name.startswith("out."):
                spread *= 0.1
            weights[name] = random.normal(0, spread, size).astype(np.float32)
        return weights


@dataclass(frozen=True, eq=False)
class Mixer:
    """The network with its weights, as a value.

    As a backbone it embeds each channel by itself; as a forecaster, `forecaster` gives a program.

    Attributes:
        weights: float32 tensors by name, see `MixerShape.sizes`.

    >>> mixer = Mixer.random(seed=1)
    >>> x = np.random.default_rng(0).normal(size=(4, 2, 200)).astype(np.float32)
    >>> mixer.embed(x).shape, mixer.forecast(x, 120).shape
    ((4, 196), (4, 2, 120))
    """

    card: BackboneCard
    weights: Mapping[str, Array]
    shape: MixerShape = MixerShape()

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Mixer:
        """From safetensors bytes, or with random weights by the card's seed.

        Errors: `ModelError` when the weights are not those of the card's shape.
        """
        shape = MixerShape.from_options(card.options)
        tensors = shape.draw(card.seed) if weights is None else load(weights)
        card, kept = shaped_weights(
            card, shape.sizes, tensors, most=MAX_PARAMETERS, what="a device forecaster"
        )
        return cls(card, kept, shape)

    @classmethod
    def random(cls, seed: int = 0, **options: Any) -> Mixer:
        """The same network with random weights: the control of every pretrained one."""
        card = BackboneCard(
            name="mixer-random",
            architecture="mixer",
            summary="mixer for series, random weights",
            kind="random",
            licence="Apache-2.0",
            seed=seed,
            options=options,
        )
        return cls.from_card(card, None)

    def fit(self, windows: Windows, *, seed: int) -> Mixer:
        """As it is; one of kind "random" draws by `seed`."""
        if self.card.kind != "random" or seed == self.card.seed:
            return self
        return self.with_card(replace(self.card, seed=seed)).with_weights(self.shape.draw(seed))

    @property
    def portable(self) -> bool:
        """Whether there is a program of it; always."""
        return True

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the blocks from the signal up, for freezing."""
        return self.shape.blocks

    def with_weights(self, weights: Mapping[str, Array]) -> Mixer:
        """The same network, tuned."""
        return replace(self, weights=MappingProxyType(dict(weights)))

    def with_card(self, card: BackboneCard) -> Mixer:
        """The same network under another card."""
        return replace(self, card=card)

    def with_random_weights(self, seed: int) -> Mixer:
        """The same network, knowing nothing: the control of what was learned before."""
        name = f"{self.card.name}-scratch" if self.card.kind != "random" else self.card.name
        card = replace(
            self.card, name=name, kind="random", seed=seed, weights="", checksum="", data="",
            recipe="",
        )  # fmt: skip
        return self.with_card(card).with_weights(self.shape.draw(seed))

    def prepare(self, x: Array) -> Array:
        """Windows as the network takes them: float32, as they are."""
        return np.asarray(x, dtype=np.float32)

    def forward(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Windows -> (n_windows, embedding_dim), differentiable in `weights`."""
        import torch

        unit, level, scale = in_unit(x, self.shape)
        latent, _, _ = mixed(weights, unit.reshape(-1, self.shape.context), self.shape)
        parts = (latent.reshape(*x.shape[:2], -1), torch.tanh(level / _LIMIT), torch.log(scale))
        return torch.cat(parts, dim=2).reshape(len(x), -1)

    def embed(self, x: Array) -> Array:
        """(n_windows, n_channels, n_timepoints) -> float32 (n_windows, embedding_dim)."""
        return embed_in_batches(self.program(*x.shape[1:]), x)

    def forecast(self, x: Array, horizon: int) -> Array:
        """What comes next, as far as it was learned before.

        Args:
            x: (n_windows, n_channels, n_timepoints), in any unit.

        Returns: float32 (n_windows, n_channels, horizon), in that unit.
        """
        return embed_in_batches(self.forecaster(x.shape[1], x.shape[2], horizon), x)

    def program(self, *shape: int) -> Program:
        """The embedding as a program; all channels are rows of the same products."""
        n_channels, n_timepoints = shape
        draft = Draft()
        net = _Written(draft, self)
        unit, level, scale = unit_of(draft, "x", n_timepoints, self.shape.context)
        parts = (
            net.latent(unit),
            draft.add("tanh", draft.add("mul", level, np.float32(1 / _LIMIT))),
            draft.add("log", scale),
        )
        joined = draft.add("concat", *parts, axis=2)
        return draft.finish(
            draft.add("reshape", joined, shape=[n_channels * self.shape.channel_dim])
        )

    def forecaster(self, n_channels: int, n_timepoints: int, horizon: int) -> Program:
        """From windows (n_windows, n_channels, n_timepoints) to what follows, `horizon` steps."""
        draft = Draft()
        net = _Written(draft, self)
        return rolled_out(draft, net.ahead, self.shape, n_timepoints, horizon)


class _Written:
    """Writes the network into a draft; each constant is kept once."""

    def __init__(self, draft: Draft, mixer: Mixer) -> None:
        self.draft, self.mixer, self.shape = draft, mixer, mixer.shape
        self._kept: dict[tuple[str, int], str] = {}

    def _constant(self, name: str, columns: int = 0) -> str:
        key = (name, columns)
        if key not in self._kept:
            array = self.mixer.weights[name]
            array = array[..., :columns] if columns else array
            self._kept[key] = self.draft.constant(array, name if not columns else "")
        return self._kept[key]

    def _layer(self, value: str, name: str, columns: int = 0) -> str:
        product = self.draft.add("matmul", value, self._constant(f"{name}weight", columns))
        return self.draft.add("add", product, self._constant(f"{name}bias", columns))

    def latent(self, unit: str) -> str:
        """(n_windows, n_channels, latent) of (n_windows, n_channels, context)."""
        draft, shape = self.draft, self.shape
        value = draft.add("reshape", unit, shape=[-1, shape.n_patches, shape.patch])
        value = self._layer(value, "patch.")
        for index in range(shape.depth):
            for part in ("over", "within"):
                moved = part == "over"
                inner = draft.add("transpose", value, axes=[0, 1, 3, 2]) if moved else value
                name = f"mix{index + 1}.{part}"
                inner = draft.add("relu", self._layer(inner, f"{name}_in_"))
                inner = self._layer(inner, f"{name}_out_")
                inner = draft.add("transpose", inner, axes=[0, 1, 3, 2]) if moved else inner
                value = draft.add("add", value, inner)
        flat = draft.add("reshape", value, shape=[-1, shape.n_patches * shape.width])
        return draft.add("relu", self._layer(flat, "latent."))

    def ahead(self, unit: str, n_steps: int) -> str:
        """(n_windows, n_channels, n_steps), in the window's unit."""
        columns = n_steps if n_steps < self.shape.horizon else 0
        bent = self._layer(self.latent(unit), "out.", columns)
        code = self.draft.add("matmul", unit, self._constant("out.code"))
        each = [-1, self.shape.experts, self.shape.rank]
        shared = self.draft.add(
            "mul", self.draft.add("reshape", code, shape=each), self.shares(unit)
        )
        code = self.draft.add("reshape", shared, shape=[-1, each[1] * each[2]])
        straight = self.draft.add("matmul", code, self._constant("out.decode", columns))
        return self.draft.add("add", straight, bent)

    def shares(self, unit: str) -> str:
        """What the gate gives each filter, (n_windows, n_channels, experts, 1)."""
        draft, context = self.draft, self.shape.context
        found = []
        for lag in self.shape.lags:
            now = draft.add("slice", unit, axis=2, start=lag, stop=context)
            then = draft.add("slice", unit, axis=2, start=0, stop=context - lag)
            gap = draft.add("sub", now, then)
            found.append(draft.add("mean", draft.add("mul", gap, gap), axes=[2]))
        unlike = draft.add("add", draft.add("concat", *found, axis=2), np.float32(_ALIKE))
        value = draft.add("relu", self._layer(draft.add("log", unlike), "gate.in_"))
        value = draft.add("softmax", self._layer(value, "gate.out_"), axis=-1)
        return draft.add("reshape", value, shape=[-1, self.shape.experts, 1])


def mixed(
    weights: Mapping[str, Tensor], unit: Tensor, shape: MixerShape
) -> tuple[Tensor, Tensor, Tensor]:
    """The network in torch, differentiable.

    Args:
        unit: (n_rows, context), as `in_unit` gives.

    Returns: latent (n_rows, latent); what is forecast, (n_rows, horizon), in the row's unit; and
    the logarithms of the gate's shares (n_rows, experts).
    """
    import torch

    def layer(value: Tensor, name: str) -> Tensor:
        return value @ weights[f"{name}weight"] + weights[f"{name}bias"]

    value = layer(unit.reshape(len(unit), shape.n_patches, shape.patch), "patch.")
    for index in range(shape.depth):
        name = f"mix{index + 1}."
        inner = torch.relu(layer(value.transpose(1, 2), f"{name}over_in_"))
        value = value + layer(inner, f"{name}over_out_").transpose(1, 2)
        inner = torch.relu(layer(value, f"{name}within_in_"))
        value = value + layer(inner, f"{name}within_out_")
    latent = torch.relu(layer(value.flatten(1), "latent."))
    unlike = [(unit[:, lag:] - unit[:, :-lag]).square().mean(dim=1) for lag in shape.lags]
    seen = torch.log(torch.stack(unlike, dim=1) + _ALIKE)
    shares = torch.log_softmax(layer(torch.relu(layer(seen, "gate.in_")), "gate.out_"), dim=1)
    code = (unit @ weights["out.code"]).reshape(len(unit), shape.experts, shape.rank)
    code = (code * shares.exp()[:, :, None]).flatten(1)
    return latent, code @ weights["out.decode"] + layer(latent, "out."), shares
