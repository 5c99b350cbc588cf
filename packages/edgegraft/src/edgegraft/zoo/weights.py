"""Weights as they come: safetensors, or the state dict of a PyTorch file, read weights-only."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.layers import Network
from edgegraft_edge.errors import ModelError
from edgegraft_edge.signal import Array
from edgegraft_edge.tensors import load

Tensors = Mapping[str, Array]
_ZIP, _OLD = b"PK\x03\x04", b"\x80\x02"  # PyTorch files since 1.6, and before


def read_weights(
    card: BackboneCard,
    network: Network,
    data: bytes | None,
    translate: Callable[[Tensors], Tensors] | None = None,
) -> tuple[BackboneCard, Network]:
    """The network with the weights of a file, and its card with what was found.

    Args:
        data: bytes of the file; None draws the weights by the card's seed.
        translate: from the names of another library to the network's own.

    Errors: `ModelError` when the weights are not those of the network.
    """
    n_parameters = sum(array.size for array in network.weights.values())
    if data is None:
        drawn = replace(card, kind="random", n_parameters=n_parameters)
        return drawn, network.drawn(card.seed)
    tensors: Tensors = state_dict(data)
    if translate is not None and set(tensors) != set(network.weights):
        tensors = translate(tensors)
    return replace(card, n_parameters=n_parameters), network.with_weights(tensors)


def shaped_weights(
    card: BackboneCard,
    sizes: Mapping[str, tuple[int, ...]],
    tensors: Tensors,
    *,
    most: int,
    what: str,
) -> tuple[BackboneCard, Tensors]:
    """The tensors as float32, read-only, and the card with their number.

    Args:
        sizes: the shape of each tensor that the card's options ask for.
        most: parameters that such a network may have; `what` says which network that is.

    Errors: `ModelError` "weights-shape" when the tensors are others, "network-size".
    """
    found = {name: tuple(array.shape) for name, array in tensors.items()}
    if found != dict(sizes):
        wrong = sorted(name for name in {*found, *sizes} if found.get(name) != sizes.get(name))
        raise ModelError.of(
            "weights-shape",
            f"weights of {card.name!r} whose {', '.join(wrong[:4])} differ from its card",
            "card and weights do not belong together",
            "fetch both again, or correct the options on the card",
        )
    n_parameters = sum(array.size for array in tensors.values())
    if n_parameters > most:
        raise ModelError.of(
            "network-size", f"{n_parameters} parameters", f"{what} has at most {most}",
            "smaller widths",
        )  # fmt: skip
    kept = MappingProxyType({name: _as_float32(array) for name, array in tensors.items()})
    return replace(card, n_parameters=n_parameters), kept


def state_dict(data: bytes) -> dict[str, Array]:
    """Tensors by name, from the bytes of a safetensors or PyTorch file; floats as float32.

    A PyTorch file may hold the state dict itself or under "state_dict", "model" or "model_state";
    nothing in it is run, and names lose the "module." that training in parallel adds.

    Errors: `ModelError` "weights-format".
    """
    if data[:4] != _ZIP and data[:2] != _OLD:
        return {name: _as_float32(array) for name, array in load(data).items()}
    import torch

    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises its own, pickle's and the zip reader's
        raise ModelError.of(
            "weights-format",
            f"a PyTorch file that cannot be read ({str(error).splitlines()[0][:120]})",
            "only tensors are read from such a file, never code",
            "save its state dict as safetensors",
        ) from error
    for key in ("state_dict", "model", "model_state"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(hasattr(v, "numpy") for v in found.values()):
        raise ModelError.of(
            "weights-format",
            f"a PyTorch file with a {type(found).__name__} that is no state dict",
            "weights are tensors by name",
            "torch.save(model.state_dict(), file), or safetensors",
        )
    return {
        str(name).removeprefix("module."): _as_float32(value.detach().float().numpy())
        for name, value in found.items()
    }


def _as_float32(array: Array) -> Array:
    return np.asarray(array, dtype=np.float32)
