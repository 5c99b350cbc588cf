"""Where a training run stands, on disk: one safetensors file, replaced whole.

The plain part of the state (epoch, history, ...) travels as JSON text in a tensor of the same
file, so that no moment exists at which the two differ. Nothing in the file can run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgegraft_edge import tensors
from edgegraft_edge.errors import ModelError
from edgegraft_edge.signal import Array

_STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and plain JSON values."""

    tensors: Mapping[str, Array]
    state: Mapping[str, Any]


def fingerprint(*parts: Any) -> str:
    """A name for what is trained on what: equal parts, equal name.

    Arrays count by type, shape and bytes, all else by its JSON text.

    >>> fingerprint({"a": 1}, np.zeros(3)) == fingerprint({"a": 1}, np.zeros(3))
    True
    >>> fingerprint(np.zeros(3)) == fingerprint(np.zeros(4))
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"array {part.dtype} {part.shape}".encode())
            # text of fixed width has no buffer that hashes; its bytes do
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the file at once: a kill leaves the old one or the new one, never a part."""
    text = np.frombuffer(json.dumps(checkpoint.state).encode(), dtype=np.uint8)
    data = tensors.dump({**checkpoint.tensors, _STATE: text})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> Checkpoint | None:
    """The checkpoint, or None where there is no file.

    Errors: `ModelError` ``checkpoint-damaged`` for a file that is not one.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        found = tensors.load(data, finite=False)
        state = json.loads(found.pop(_STATE).tobytes().decode())
        if not isinstance(state, dict):
            raise ValueError("no object")
    except (ModelError, KeyError, ValueError, RecursionError) as error:
        raise ModelError.of(
            "checkpoint-damaged",
            f"{path.name}, which is no checkpoint",
            "training cannot go on from it",
            "delete it: training then starts anew",
        ) from error
    return Checkpoint(found, state)
