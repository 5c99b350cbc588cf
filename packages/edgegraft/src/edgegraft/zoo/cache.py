"""Embeddings are computed once per backbone and windows.

The key is a hash of the backbone's content (card, options, fitted state, weights), of its code
and of the windows' bytes, so nothing can go stale: another value is another key. What was used
last stays in memory; what took longer to compute than it takes to read goes to disk as well, into
``$EDGEGRAFT_CACHE`` or ``~/.cache/edgegraft``, where the entries unused for longest give way.
"""

from __future__ import annotations

import inspect
import os
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

from edgegraft.fingerprint import fingerprint
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge import program
from edgegraft_edge.errors import EdgegraftError, ModelError
from edgegraft_edge.files import replace_file
from edgegraft_edge.signal import Array
from edgegraft_edge.tensors import dump, load

MEMORY_BYTES = 512 << 20
DISK_BYTES = 2 << 30
_READ_S, _READ_BYTES_S = 0.1, 200e6  # a slow disk: what is computed faster is not kept on one
_SUFFIX = ".embedding"

_memory: OrderedDict[str, Array] = OrderedDict()
_rows: OrderedDict[str, Array] = OrderedDict()
_lock = threading.Lock()


def embed_cached(backbone: Backbone, x: Array, *, folder: str | Path | None = None) -> Array:
    """What ``backbone.embed(x)`` gives, computed only if it is not known yet.

    Args:
        x: float32 (n_windows, n_channels, n_timepoints).
        folder: keep it there, however fast it was; otherwise the user's cache folder decides.

    Returns: float32 (n_windows, embedding_dim), read-only, since others may hold it too.

    Pictures cost most, and folds hold the same ones again and again in other company: each is
    kept under its own name, and only those not known yet are computed.
    """
    if x.ndim == 4 and len(x) > 1:
        return _embed_each(backbone, x, folder)
    return _embed_all(backbone, x, folder)


def _embed_each(backbone: Backbone, x: Array, folder: str | Path | None) -> Array:
    try:
        of = _key(backbone, np.zeros(0, dtype=np.float32))
    except (ModelError, TypeError, OSError):
        return backbone.embed(x)
    names = [f"{of}/{fingerprint(picture.astype(np.float32))}" for picture in x]
    with _lock:
        known = {name: _rows[name] for name in names if name in _rows}
        for name in known:
            _rows.move_to_end(name)
    places = {name: index for index, name in enumerate(names) if name not in known}
    if places:
        fresh = _embed_all(backbone, x[list(places.values())], folder)
        known.update(zip(places, fresh, strict=True))
        with _lock:
            for name in places:
                _rows[name] = known[name].copy()
            total = sum(row.nbytes for row in _rows.values())
            while total > MEMORY_BYTES:
                total -= _rows.popitem(last=False)[1].nbytes
    z = np.stack([known[name] for name in names])
    z.flags.writeable = False
    return z


def _embed_all(backbone: Backbone, x: Array, folder: str | Path | None) -> Array:
    x = np.ascontiguousarray(x, dtype=np.float32)
    try:
        key = _key(backbone, x)
    except (ModelError, TypeError, OSError):  # what cannot be named is embedded afresh
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
        _rows.clear()


def _key(backbone: Backbone, x: Array) -> str:
    home = inspect.getsourcefile(type(backbone))
    return fingerprint(_code(Path(home).parent) if home else "", backbone, x)


@cache
def _code(folder: Path) -> str:
    """Names the modules beside a backbone's own, and the interpreter of programs."""
    files = [*sorted(folder.glob("*.py")), Path(program.__file__)]
    return fingerprint([(file.name, file.read_bytes()) for file in files])


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
    replace_file(file, dump({"z": z, "digest": _digest(z)}))
    entries = [(entry.stat(), entry) for entry in file.parent.glob("*" + _SUFFIX)]
    total = sum(stat.st_size for stat, _ in entries)
    for stat, entry in sorted(entries, key=lambda item: item[0].st_mtime_ns):
        if total <= DISK_BYTES:
            break
        entry.unlink(missing_ok=True)
        total -= stat.st_size


def _digest(z: Array) -> Array:
    return np.frombuffer(bytes.fromhex(fingerprint(z)), dtype=np.uint8)
