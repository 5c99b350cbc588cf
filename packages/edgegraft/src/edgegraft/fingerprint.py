"""A name for content: equal values, equal name; another value, another name."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgegraft_edge.errors import ModelError


def fingerprint(*values: Any) -> str:
    """A hash of values with all that is in them: arrays, numbers, text, dataclasses, networks.

    Fields of dataclasses with ``metadata={"identity": False}`` are left out.

    Errors: `ModelError` for a value whose content cannot be told.

    >>> fingerprint({"a": 1}, np.zeros(3)) == fingerprint({"a": 1}, np.zeros(3))
    True
    >>> fingerprint(np.zeros(3)) == fingerprint(np.zeros(4))
    False
    """
    digest = hashlib.blake2b(digest_size=20)
    for value in values:
        _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    """Hash a value with its type, so that no two different values feed the same bytes."""
    if isinstance(value, np.ndarray):
        _mark(digest, "array", f"{value.dtype.str}{value.shape}".encode())
        # text of fixed width has no buffer that hashes; its bytes do
        array = np.ascontiguousarray(value)
        digest.update(array.tobytes() if array.dtype.kind == "U" else _buffer(array))
    elif value is None or isinstance(value, (bool, int, float, str, bytes, Path)):
        data = value if isinstance(value, bytes) else repr(value).encode()
        _mark(digest, type(value).__name__, data)
    elif isinstance(value, np.generic):
        _feed(digest, np.asarray(value))
    elif isinstance(value, Mapping):
        _mark(digest, "mapping", str(len(value)).encode())
        for key in sorted(value, key=repr):
            _feed(digest, key)
            _feed(digest, value[key])
    elif isinstance(value, (tuple, list)):
        _mark(digest, "sequence", str(len(value)).encode())
        for item in value:
            _feed(digest, item)
    elif dataclasses.is_dataclass(value):
        _mark(digest, "dataclass", _type_name(value))
        for entry in dataclasses.fields(value):
            if entry.metadata.get("identity", True):
                _feed(digest, entry.name)
                _feed(digest, getattr(value, entry.name))
    elif hasattr(value, "state_dict"):  # a network of torch
        _mark(digest, "network", _type_name(value) + repr(value).encode())
        _feed(digest, dict(value.state_dict()))
    elif hasattr(value, "detach"):  # a tensor of torch
        _feed(digest, value.detach().cpu().numpy())
    else:
        raise ModelError.of(
            "fingerprint-unknown",
            f"a {type(value).__qualname__}",
            "its content cannot be told, so nothing can be kept under its name",
            "keep arrays, numbers, text, or frozen dataclasses of them",
        )


def _buffer(array: Any) -> Any:
    return array.data.cast("B") if array.size else b""


def _type_name(value: Any) -> bytes:
    return f"{type(value).__module__}.{type(value).__qualname__}".encode()


def _mark(digest: Any, kind: str, data: bytes) -> None:
    digest.update(struct.pack("<II", len(kind), len(data)) + kind.encode() + data)
