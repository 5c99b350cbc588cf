"""Weights as they come: safetensors, or the state dict of a PyTorch file, read weights-only."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace

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
