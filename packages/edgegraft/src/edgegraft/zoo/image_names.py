"""Weights of image networks under the names that other libraries give them.

Each family says once where its convolutions stand in each library's files (a *dialect*). Reading
folds the normalisation by batches into them (`edgegraft.zoo.layers.fold`), so what comes out has
the family's own names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgegraft.zoo.layers import fold
from edgegraft.zoo.maps import Padding
from edgegraft.zoo.weights import Tensors
from edgegraft_edge.errors import ModelError, Problem
from edgegraft_edge.signal import Array

_NORM = ("weight", "bias", "running_mean", "running_var")
_SHOWN = 8


@dataclass(frozen=True)
class Site:
    """Where one convolution or matrix stands in a file, and the normalisation after it, if any."""

    layer: str
    norm: str = ""

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names that the file must hold; the bias is optional where a normalisation follows."""
        if not self.norm:
            return f"{self.layer}.weight", f"{self.layer}.bias"
        return f"{self.layer}.weight", *(f"{self.norm}.{part}" for part in _NORM)


@dataclass(frozen=True)
class Dialect:
    """How one library writes a network.

    Attributes:
        library: its name, for messages.
        sites: own name of a layer -> where it stands.
        prefix: before every name where the network is part of a larger one.
        head: beginnings of names that belong to the classifier, which is not read.
        epsilon: of its normalisation.
        padding: how it pads; see `edgegraft.zoo.maps`.
    """

    library: str
    sites: Mapping[str, Site]
    prefix: str = ""
    head: tuple[str, ...] = ()
    epsilon: float = 1e-5
    padding: Padding = "half"

    def plain(self, tensors: Tensors) -> dict[str, Array]:
        """The tensors without the prefix, without the classifier and the counts of batches."""
        return {
            name: array
            for name, array in ((n.removeprefix(self.prefix), a) for n, a in tensors.items())
            if not name.endswith("num_batches_tracked") and not name.startswith(self.head or "\0")
        }


def dialect_of(tensors: Tensors, dialects: tuple[Dialect, ...]) -> Dialect:
    """The dialect most of whose names the file has."""

    def known(dialect: Dialect) -> int:
        names = dialect.plain(tensors)
        wanted = [name for site in dialect.sites.values() for name in site.tensors]
        return sum(name in names for name in wanted)

    return max(dialects, key=known)


def read_names(tensors: Tensors, dialect: Dialect, epsilon: float | None = None) -> Tensors:
    """The weights under the network's own names, with the normalisation folded in.

    Args:
        tensors: of the file, by its names.
        epsilon: of the normalisation, where it is not the dialect's usual one.

    Errors: `ModelError` "weights-names" with every tensor that is missing or that nothing here
    reads, "weights-shape" where a normalisation is not of its convolution.

    >>> file = {f"bn.{part}": np.ones(2, np.float32) for part in _NORM}
    >>> file["conv.weight"] = np.ones((2, 3, 1, 1), np.float32)
    >>> sites = {"stem.conv": Site("conv", "bn")}
    >>> sorted(read_names(file, Dialect("torchvision", sites)))
    ['stem.conv.bias', 'stem.conv.weight']
    """
    found = dialect.plain(tensors)
    wanted = [name for site in dialect.sites.values() for name in site.tensors]
    spare = {f"{site.layer}.bias" for site in dialect.sites.values()}
    missing = [name for name in wanted if name not in found]
    unknown = sorted(set(found) - set(wanted) - spare)
    problems = _listed(missing, "is missing", f"a network as {dialect.library} writes it has it")
    problems += _listed(unknown, "is not known", "the network has no place for it")
    if problems:
        raise ModelError(problems)
    epsilon = dialect.epsilon if epsilon is None else epsilon
    weights: dict[str, Array] = {}
    for own, site in dialect.sites.items():
        weight, bias = found[f"{site.layer}.weight"], found.get(f"{site.layer}.bias")
        if site.norm:
            gain, shift, mean, variance = (found[f"{site.norm}.{part}"] for part in _NORM)
            if {part.shape for part in (gain, shift, mean, variance)} != {weight.shape[:1]}:
                problems.append(_unfit(site, weight))
                continue
            weight, bias = fold(
                weight, bias,
                gain=gain, shift=shift, mean=mean, variance=variance, epsilon=epsilon,
            )  # fmt: skip
        assert bias is not None
        weights[f"{own}.weight"] = weight.T if weight.ndim == 2 else weight
        weights[f"{own}.bias"] = bias
    if problems:
        raise ModelError(problems[:_SHOWN])
    return weights


def _unfit(site: Site, weight: Array) -> Problem:
    return Problem(
        "weights-shape",
        f"normalisation {site.norm!r} after {site.layer!r} of shape {weight.shape}",
        "it has a number for each feature of its layer",
        "fetch the file again",
    )


def _listed(names: list[str], state: str, why: str) -> list[Problem]:
    """Problems for the first names, the last of them with how many more there are."""
    problems = []
    for index, name in enumerate(names[:_SHOWN]):
        more = len(names) - _SHOWN if index == _SHOWN - 1 else 0
        also = f", and {more} more" if more > 0 else ""
        problems.append(
            Problem(
                "weights-names",
                f"tensor {name!r} {state}{also}",
                why,
                "the card or [options] that belongs to the file; docs/guides/backbones lists them",
            )
        )
    return problems


def finite(tensors: Tensors) -> Tensors:
    """The same tensors. Errors: `ModelError` "weights-not-finite"."""
    wrong = [name for name, array in tensors.items() if not np.isfinite(array).all()]
    if wrong:
        raise ModelError.of(
            "weights-not-finite",
            f"NaN or infinity in {', '.join(wrong[:3])}",
            "such weights give no answer",
            "fetch the file again",
        )
    return tensors
