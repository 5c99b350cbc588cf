"""Embeddings are computed once per backbone and windows.

The key is a hash of the backbone's content (card, options, fitted state, weights), of its code
and of the windows' bytes, so nothing can go stale: another value is another key. What was used
last stays in memory; what took longer to compute than it takes to read goes to disk as well, into
``$EDGEGRAFT_CACHE`` or ``~/.cache/edgegraft``, where the entries unused for longest give way.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import os
import struct
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgegraft.zoo.backbone import Backbone
from edgegraft_edge import program
from edgegraft_edge.errors import EdgegraftError, ModelError
from edgegraft_edge.signal import Array
from edgegraft_edge.tensors import dump, load

MEMORY_BYTES = 512 << 20
DISK_BYTES = 2 << 30
_READ_S, _READ_BYTES_S = 0.1, 200e6  # a slow disk: what is computed faster is not kept on one
_SUFFIX = ".embedding"

_memory: OrderedDict[str, Array] = OrderedDict()
_lock = threading.Lock()


def embed_cached(backbone: Backbone, x: Array, *, folder: str | Path | None = None) -> Array:
    """What ``backbone.embed(x)`` gives, computed only if it is not known yet.

    Args:
        x: float32 (n_windows, n_channels, n_timepoints).
        folder: keep it there, however fast it was; otherwise the user's cache folder decides.

    Returns: float32 (n_windows, embedding_dim), read-only, since others may hold it too.
    """
    x = np.ascontiguousarray(x, dtype=np.float32)
    try:
        key = _key(backbone, x)
    except (
        ModelError,
        TypeError,
        OSError,
    ):  # a backbone whose content cannot be told is embedded afresh
        return backbone.embed(x)
    with _lock:
        if key in _memory:
            _memory.move_to_end(key)
            return _memory[key]
    place = Path(folder) if folder else _user_folder()
    z = _read(place / (key + _SUFFIX), len(x)) if place else None
    if z is None:
        begun = time.thread_time()
        z = np.ascontiguousarray(backbone.embed(x), dtype=np.float32)
        seconds = time.thread_time() - begun
        if place and (folder or seconds > _READ_S + z.nbytes / _READ_BYTES_S):
            with suppress(OSError):  # a full or read-only disk costs time, never the result
                _write(place / (key + _SUFFIX), z)
    z = z.view()
    z.flags.writeable = False
    with _lock:
        _memory[key] = z
        while len(_memory) > 1 and sum(kept.nbytes for kept in _memory.values()) > MEMORY_BYTES:
            _memory.popitem(last=False)
    return z


def forget() -> None:
    """Empty the memory; what is on disk stays."""
    with _lock:
        _memory.clear()


def fingerprint(backbone: Backbone) -> str:
    """A hash of all that decides what a backbone computes: its type, card, options and state.

    Fields with ``metadata={"identity": False}`` are left out.

    Errors: `ModelError` for a value whose content cannot be told.

    >>> from edgegraft.zoo.statistics import Statistics
    >>> fingerprint(Statistics()) == fingerprint(Statistics())
    True
    >>> fingerprint(Statistics()) == fingerprint(Statistics(max_pairs=3))
    False
    """
    digest = hashlib.blake2b(digest_size=20)
    _feed(digest, backbone)
    return digest.hexdigest()


def _key(backbone: Backbone, x: Array) -> str:
    digest = hashlib.blake2b(digest_size=20)
    home = inspect.getsourcefile(type(backbone))
    code = _code(Path(home).parent) if home else ""
    _feed(digest, (code, fingerprint(backbone), x))
    return digest.hexdigest()


@cache
def _code(folder: Path) -> str:
    """A hash of the modules beside a backbone's own, and of the interpreter of programs."""
    digest = hashlib.blake2b(digest_size=20)
    for file in [*sorted(folder.glob("*.py")), Path(program.__file__)]:
        _mark(digest, file.name, file.read_bytes())
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    """Hash a value with its type, so that no two different values feed the same bytes."""
    if isinstance(value, np.ndarray):
        _mark(digest, "array", f"{value.dtype.str}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).data.cast("B") if value.size else b"")
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
            f"a {type(value).__qualname__} in a backbone",
            "its content cannot be told, so what it computes cannot be cached",
            "keep arrays, numbers, text, or frozen dataclasses of them",
        )


def _type_name(value: Any) -> bytes:
    return f"{type(value).__module__}.{type(value).__qualname__}".encode()


def _mark(digest: Any, kind: str, data: bytes) -> None:
    digest.update(struct.pack("<II", len(kind), len(data)) + kind.encode() + data)


def _user_folder() -> Path | None:
    """Where entries go unless told otherwise; None where that is switched off or not known."""
    named = os.environ.get("EDGEGRAFT_CACHE")
    if named is not None:
        return Path(named) if named not in ("", "off") else None
    try:
        return Path.home() / ".cache" / "edgegraft"
    except RuntimeError:
        return None


def _read(file: Path, n_windows: int) -> Array | None:
    """An entry, or None where there is none or it is not whole."""
    try:
        tensors = load(file.read_bytes(), finite=False)
        z, digest = tensors["z"], tensors["digest"]
    except (OSError, EdgegraftError, KeyError):
        return None
    if z.ndim != 2 or len(z) != n_windows or not np.array_equal(digest, _digest(z)):
        return None
    with suppress(OSError):
        os.utime(file)
    return z


def _write(file: Path, z: Array) -> None:
    """Write an entry whole or not at all, and drop those unused for longest beyond the bound."""
    file.parent.mkdir(parents=True, exist_ok=True)
    data = dump({"z": z, "digest": _digest(z)})
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.replace(name, file)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    entries = [(entry.stat(), entry) for entry in file.parent.glob("*" + _SUFFIX)]
    total = sum(stat.st_size for stat, _ in entries)
    for stat, entry in sorted(entries, key=lambda item: item[0].st_mtime_ns):
        if total <= DISK_BYTES:
            break
        entry.unlink(missing_ok=True)
        total -= stat.st_size


def _digest(z: Array) -> Array:
    data = np.ascontiguousarray(z).data.cast("B") if z.size else b""
    return np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), dtype=np.uint8)
