"""How far apart embeddings of two domains are, as parts that any training can add to its loss.

A divergence is a frozen dataclass of options. `bound` to a width and a number of classes it is a
`Bound`: parameters of its own (those of a domain classifier, or none) and a loss over `Views`. An
encoder that descends the loss brings the domains together; where a classifier is trained against
the encoder, that is done by turning gradients round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgegraft_edge.signal import Array

if TYPE_CHECKING:
    from torch import Tensor

CRITIC = "critic."
_WIDEST = 4096
"""Above this a multilinear map is drawn at random (the same bound as in CDAN)."""
_TINY = 1e-6


@dataclass(frozen=True)
class Views:
    """What a divergence looks at, for one step.

    Attributes:
        source, target: embeddings (n_source, dim) and (n_target, dim).
        codes: classes of the source windows, int64 (n_source,).
        source_said, target_said: class probabilities (n_source, n_classes), (n_target, n_classes).
    """

    source: Tensor
    target: Tensor
    codes: Tensor
    source_said: Tensor
    target_said: Tensor


@dataclass(frozen=True)
class Bound:
    """A divergence for embeddings of one width.

    Attributes:
        parameters: float32 arrays by name; what is trained along with the encoder.
        loss: (parameters, views, strength) -> scalar; `strength` weighs what reaches the encoder.
    """

    parameters: Mapping[str, Array]
    loss: Callable[[Mapping[str, Tensor], Views, float], Tensor]


class Divergence(Protocol):
    """Options of a divergence."""

    def bound(self, dim: int, n_classes: int, *, seed: int) -> Bound:
        """For embeddings of unit scale (about unit norm) and so many classes."""
        ...


def reverse(value: Tensor, strength: float) -> Tensor:
    """The value as it is, whose gradient comes back turned round and times `strength`.

    Source: Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 2016.

    >>> import torch
    >>> x = torch.tensor([2.0], requires_grad=True)
    >>> reverse(3 * x, 0.5).backward()
    >>> x.grad.tolist()
    [-1.5]
    """
    return value.detach() * (1 + strength) - strength * value


@dataclass(frozen=True)
class Adversary:
    """A classifier that tells source from target, while the encoder learns to fool it.

    Conditional, it sees embedding and class probabilities multiplied out, so that domains are
    matched class by class; with `by_certainty`, windows whose class is clear weigh up to twice.

    Sources: Ganin et al., JMLR 2016 (DANN); Long et al., Conditional Adversarial Domain
    Adaptation, NeurIPS 2018 (CDAN, and CDAN+E by certainty).
    """

    conditional: bool = False
    by_certainty: bool = False
    width: int = 64
    n_random: int = 512

    def bound(self, dim: int, n_classes: int, *, seed: int) -> Bound:
        random = np.random.default_rng([seed, 11])
        maps: tuple[Array, Array] | None = None
        n_in = dim
        if self.conditional:
            n_in = dim * n_classes
            if n_in > _WIDEST:
                n_in = self.n_random
                maps = (
                    random.standard_normal((dim, n_in), dtype=np.float32),
                    random.standard_normal((n_classes, n_in), dtype=np.float32),
                )
        parameters = {
            f"{CRITIC}layer1.weight": random.normal(0, np.sqrt(2), (n_in, self.width)),
            f"{CRITIC}layer1.bias": np.zeros(self.width),
            f"{CRITIC}out.weight": random.normal(0, np.sqrt(1 / self.width), (self.width, 1)),
            f"{CRITIC}out.bias": np.zeros(1),
        }

        def loss(current: Mapping[str, Tensor], views: Views, strength: float) -> Tensor:
            import torch
            from torch.nn import functional

            seen = []
            for z, said in (
                (views.source, views.source_said.detach()),
                (views.target, views.target_said.detach()),
            ):
                value = _multilinear(z, said, maps) if self.conditional else z
                seen.append(reverse(value, strength))
            hidden = torch.cat(seen) @ current[f"{CRITIC}layer1.weight"]
            hidden = functional.relu(hidden + current[f"{CRITIC}layer1.bias"])
            logits = hidden @ current[f"{CRITIC}out.weight"] + current[f"{CRITIC}out.bias"]
            n_source, n_target = len(views.source), len(views.target)
            truth = torch.cat([torch.ones(n_source), torch.zeros(n_target)])
            each = functional.binary_cross_entropy_with_logits(
                logits[:, 0], truth, reduction="none"
            )
            weights = [
                1 + torch.exp(-entropy(said)) if self.by_certainty else torch.ones(len(said))
                for said in (views.source_said.detach(), views.target_said.detach())
            ]
            share = torch.cat([each_ / each_.sum() for each_ in weights])  # domains weigh alike
            return (each * share).sum() / 2

        frozen = {name: array.astype(np.float32) for name, array in parameters.items()}
        return Bound(MappingProxyType(frozen), loss)


@dataclass(frozen=True)
class Covariance:
    """The squared distance between covariances, as a share of their size: 0 where they agree.

    Source: Sun and Saenko, Deep CORAL: Correlation Alignment for Deep Domain Adaptation, ECCV
    Workshops 2016. Through products of windows, so the width of the embedding costs little.
    """

    def bound(self, dim: int, n_classes: int, *, seed: int) -> Bound:
        def loss(current: Mapping[str, Tensor], views: Views, strength: float) -> Tensor:
            source, target = (z - z.mean(dim=0) for z in (views.source, views.target))
            n_source, n_target = max(1, len(source) - 1), max(1, len(target) - 1)
            own = (source @ source.T).square().sum() / n_source**2
            other = (target @ target.T).square().sum() / n_target**2
            both = (source @ target.T).square().sum() / (n_source * n_target)
            size = 0.5 * (own + other).detach() + _TINY
            return strength * (own + other - 2 * both) / size

        return Bound({}, loss)


@dataclass(frozen=True)
class MeanDiscrepancy:
    """The distance between kernel means, over Gaussian kernels around the median distance.

    Sources: Gretton et al., A Kernel Two-Sample Test, JMLR 2012; several kernels as in Long et
    al., Learning Transferable Features with Deep Adaptation Networks, ICML 2015.
    """

    factors: tuple[float, ...] = field(default=(0.25, 0.5, 1.0, 2.0, 4.0))

    def bound(self, dim: int, n_classes: int, *, seed: int) -> Bound:
        def loss(current: Mapping[str, Tensor], views: Views, strength: float) -> Tensor:
            import torch

            n_source = len(views.source)
            z = torch.cat([views.source, views.target])
            norms = z.square().sum(dim=1)
            apart = (norms[:, None] + norms[None, :] - 2 * z @ z.T).clamp_min(0)
            middle = apart.detach().median() + _TINY
            kernel = torch.stack([torch.exp(-apart / (f * middle)) for f in self.factors]).mean(0)
            within = kernel[:n_source, :n_source].mean() + kernel[n_source:, n_source:].mean()
            return strength * (within - 2 * kernel[:n_source, n_source:].mean())

        return Bound({}, loss)


DIVERGENCES: Mapping[str, Divergence] = MappingProxyType(
    {
        "adversarial": Adversary(),
        "conditional": Adversary(conditional=True, by_certainty=True),
        "coral": Covariance(),
        "mmd": MeanDiscrepancy(),
    }
)


def entropy(said: Tensor) -> Tensor:
    """Entropy in nats (n_windows,) of probabilities (n_windows, n_classes)."""
    return -(said * said.clamp_min(_TINY).log()).sum(dim=1)


def grown(share: float, steepness: float = 10.0) -> float:
    """How strong a divergence is when `share` of the training is over: from 0 to almost 1.

    A classifier that has seen nothing yet should not lead the encoder (Ganin et al., 2016).

    >>> [round(grown(share), 2) for share in (0.0, 0.1, 0.5, 1.0)]
    [0.0, 0.46, 0.99, 1.0]
    """
    return float(2 / (1 + np.exp(-steepness * share)) - 1)


def _multilinear(z: Tensor, said: Tensor, maps: tuple[Array, Array] | None) -> Tensor:
    """Every feature times every probability (n, dim * n_classes), or a random sketch of that."""
    import torch

    if maps is None:
        return (z[:, :, None] * said[:, None, :]).flatten(1)
    features, classes = (torch.from_numpy(matrix) for matrix in maps)
    width: int = features.shape[1]
    return (z @ features) * (said @ classes) / float(np.sqrt(width))
