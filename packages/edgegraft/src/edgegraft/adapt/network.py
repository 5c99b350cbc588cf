"""A trainable encoder with a head on it, as named parameters; torch only inside functions.

The head works on embeddings brought to unit scale, so that one learning rate suits any
backbone; `finish` folds that scale, and a temperature, into an ordinary head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self, runtime_checkable

import numpy as np

from edgegraft.adapt.ridge import fit_ridge
from edgegraft.zoo.backbone import Backbone, BackboneCard
from edgegraft_edge.errors import OptionError, Problem, nearest
from edgegraft_edge.heads import DenseHead, LinearHead
from edgegraft_edge.program import Program
from edgegraft_edge.signal import Array, Windows

if TYPE_CHECKING:
    from torch import Tensor

ActivationName = Literal["relu", "leaky-relu", "sigmoid", "tanh"]
ENCODER, HEAD = "encoder.", "head."
_TINY = 1e-6


@runtime_checkable
class Trainable(Protocol):
    """A backbone whose weights can be trained; `Conv1d` is one."""

    @property
    def card(self) -> BackboneCard: ...

    @property
    def weights(self) -> Mapping[str, Array]:
        """Float32 tensors, named "block.part"."""
        ...

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the blocks from the signal up."""
        ...

    def fit(self, windows: Windows, *, seed: int) -> Self: ...

    def embed(self, x: Array) -> Array: ...

    def program(self, *shape: int) -> Program: ...

    def prepare(self, x: Array) -> Array:
        """What need not be done anew in each epoch, e.g. resampling."""
        ...

    def forward(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Prepared windows -> embeddings, differentiable in `weights`."""
        ...

    def with_weights(self, weights: Mapping[str, Array]) -> Self: ...

    def with_card(self, card: BackboneCard) -> Self:
        """The same network under another card."""
        ...

    def with_random_weights(self, seed: int) -> Self:
        """The same network, knowing nothing."""
        ...


def trainable(backbone: Backbone) -> Trainable:
    """The backbone, if it can be trained. Errors: `OptionError` ``backbone-fixed``."""
    if not isinstance(backbone, Trainable):
        raise OptionError.of(
            "backbone-fixed",
            f"backbone {backbone.card.name!r} has no weights to train",
            "this strategy tunes weights",
            "an encoder such as conv1d-motion, or the strategy probe",
        )
    return backbone


@dataclass(frozen=True)
class HeadShape:
    """Affine layers on an embedding of unit scale.

    Attributes:
        centre, scale: float64 (embedding_dim,), which bring the embedding to unit scale.
        hidden: width of each added layer, from the embedding up.
    """

    centre: Array
    scale: Array
    hidden: tuple[int, ...] = ()
    activation: ActivationName = "relu"

    @property
    def layers(self) -> tuple[str, ...]:
        return (*(f"{HEAD}layer{i + 1}" for i in range(len(self.hidden))), f"{HEAD}out")

    def forward(
        self, parameters: Mapping[str, Tensor], z: Tensor, gate: Tensor | None = None
    ) -> Tensor:
        """Logits (n_windows, n_classes) of embeddings (n_windows, embedding_dim).

        `gate` of that shape, where given, multiplies the embedding (dropout).
        """
        import torch

        centre, scale = (torch.tensor(v, dtype=torch.float32) for v in (self.centre, self.scale))
        z = (z - centre) / scale
        if gate is not None:
            z = z * gate
        for index, name in enumerate(self.layers):
            if index:
                z = _torch_activation(self.activation)(z)
            z = z @ parameters[f"{name}.weight"] + parameters[f"{name}.bias"]
        return z

    def finish(
        self, parameters: Mapping[str, Array], temperature: float = 1.0
    ) -> LinearHead | DenseHead:
        """The head as a value that takes the embedding as it is."""
        pairs = [
            (
                parameters[f"{name}.weight"].astype(np.float64),
                parameters[f"{name}.bias"].astype(np.float64),
            )
            for name in self.layers
        ]
        weight, bias = pairs[0]
        pairs[0] = (weight / self.scale[:, None], bias - (self.centre / self.scale) @ weight)
        weight, bias = pairs[-1]
        pairs[-1] = (weight / temperature, bias / temperature)
        weights = tuple(weight.astype(np.float32) for weight, _ in pairs)
        biases = tuple(bias.astype(np.float32) for _, bias in pairs)
        if len(pairs) == 1:
            return LinearHead(weights[0], biases[0])
        return DenseHead(weights, biases, self.activation.replace("-", "_"))


def start_head(
    z: Array,
    codes: Array,
    n_classes: int,
    *,
    groups: Array | None = None,
    hidden: Sequence[int] = (),
    activation: ActivationName = "relu",
    seed: int = 0,
) -> tuple[HeadShape, dict[str, Array]]:
    """A head to start from: added layers at random, the last one by closed-form ridge.

    Args:
        z: embeddings of the training windows (n_windows, embedding_dim).
        codes: int (n_windows,).
    """
    centre = z.mean(axis=0, dtype=np.float64)
    spread = z.std(axis=0, dtype=np.float64)
    floor = _TINY + 0.05 * float(np.median(spread))  # what hardly varies here must not be blown up
    shape = HeadShape(
        centre, (spread + floor) * np.sqrt(z.shape[1]), tuple(map(int, hidden)), activation
    )
    random = np.random.default_rng(seed)
    value = (z - shape.centre) / shape.scale
    parameters: dict[str, Array] = {}
    for name, width in zip(shape.layers[:-1], shape.hidden, strict=True):
        size = np.sqrt((value**2).mean(axis=0).sum()) + _TINY
        weight = random.normal(0, np.sqrt(2.0) / size, (value.shape[1], width))
        parameters[f"{name}.weight"] = weight.astype(np.float32)
        parameters[f"{name}.bias"] = np.zeros(width, dtype=np.float32)
        value = ACTIVATIONS[activation](value @ weight)
    ridge = fit_ridge(value, codes, n_classes, groups=groups).head
    parameters[f"{HEAD}out.weight"] = ridge.weight
    parameters[f"{HEAD}out.bias"] = ridge.bias
    return shape, parameters


ACTIVATIONS: Mapping[ActivationName, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky-relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "sigmoid": lambda x: 0.5 * (1 + np.tanh(0.5 * x)),
    "tanh": np.tanh,
}


def _torch_activation(name: ActivationName) -> Callable[[Tensor], Tensor]:
    import torch

    known: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": torch.relu,
        "leaky-relu": torch.nn.functional.leaky_relu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
    }
    return known[name]


def loss_of(name: str, logits: Tensor, codes: Tensor, weights: Tensor) -> Tensor:
    """Mean loss of a batch.

    Args:
        name: "cross-entropy"; "binary-cross-entropy" of each class against all others; "mse"
            between probabilities and the truth (Brier 1950).
        logits: (n_windows, n_classes); codes: int64 (n_windows,); weights: (n_windows,).
    """
    import torch
    from torch.nn import functional

    if name == "cross-entropy":
        each = functional.cross_entropy(logits, codes, reduction="none")
    else:
        truth = functional.one_hot(codes, logits.shape[1]).to(logits.dtype)
        if name == "mse":
            each = (torch.softmax(logits, dim=1) - truth).square().sum(dim=1)
        else:
            each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
            each = each.sum(dim=1)
    return (each * weights).sum() / weights.sum()


def class_weights(text: str, classes: Sequence[str], codes: Array) -> Array:
    """Weight of each class, float32 (n_classes,), from "none", "balanced" or "label=weight,...".

    Errors: `OptionError` listing each part that names no class or no positive number.

    >>> class_weights("balanced", ("a", "b"), np.array([0, 0, 1, 1])).tolist()
    [1.0, 1.0]
    """
    weights = np.ones(len(classes), dtype=np.float32)
    if text == "none":
        return weights
    if text == "balanced":
        counts = np.bincount(codes, minlength=len(classes))
        weights[:] = len(codes) / (np.maximum(counts, 1) * len(classes))
        return weights
    problems = []
    for part in text.split(","):
        label, _, number = part.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        if label.strip() not in classes:
            problems.append(
                Problem(
                    "class-unknown",
                    f"class {label.strip()!r} in class_weights={text!r}",
                    "no window carries that label",
                    nearest(label.strip(), list(classes)),
                )
            )
        elif not 0 < value < float("inf"):
            problems.append(
                Problem(
                    "option-value",
                    f"{part.strip()!r} in class_weights",
                    "a weight is a positive number",
                    f"{label.strip()}=2",
                )
            )
        else:
            weights[list(classes).index(label.strip())] = value
    if problems:
        raise OptionError(problems)
    return weights
