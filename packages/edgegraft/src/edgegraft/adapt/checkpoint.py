"""Where a training run stands, on disk: one safetensors file, replaced whole.

The plain part of the state (epoch, history, ...) travels as JSON text in a tensor of the same
file, so that no moment exists at which the two differ. Nothing in the file can run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgegraft_edge import tensors
from edgegraft_edge.errors import ModelError
from edgegraft_edge.files import replace_file
from edgegraft_edge.signal import Array

_STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and plain JSON values."""

    tensors: Mapping[str, Array]
    state: Mapping[str, Any]


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the file at once: a kill leaves the old one or the new one, never a part."""
    text = np.frombuffer(json.dumps(checkpoint.state).encode(), dtype=np.uint8)
    data = tensors.dump({**checkpoint.tensors, _STATE: text})
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data)


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
