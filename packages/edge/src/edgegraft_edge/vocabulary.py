"""Vocabularies as arrays: UTF-8, one entry a line, read once however often a program runs."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from edgegraft_edge.errors import ModelError
from edgegraft_edge.signal import Array

MAX_BYTES = 64 << 20
MAX_TOKENS = 1 << 16
_KEPT = 8

T = TypeVar("T")
_lock = threading.Lock()
_parsed: OrderedDict[tuple[Any, ...], Any] = OrderedDict()


def packed(entries: list[str] | tuple[str, ...]) -> Array:
    """Entries as uint8, the constant of a program. Entries hold no line feed.

    >>> lines(packed(["[PAD]", "größe"]))
    ('[PAD]', 'größe')
    """
    data = "\n".join(entries).encode("utf-8")
    if data.count(b"\n") != max(0, len(entries) - 1):
        raise _refused("an entry with a line feed in it")
    return np.frombuffer(data, dtype=np.uint8)


def lines(vocabulary: Array) -> tuple[str, ...]:
    """The inverse of `packed`.

    Errors: `ModelError` "vocabulary-form" for what is not UTF-8, or too large.
    """
    if vocabulary.ndim != 1 or vocabulary.size > MAX_BYTES:
        raise _refused(f"an array of shape {vocabulary.shape}")
    try:
        text = vocabulary.astype(np.uint8).tobytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(f"bytes that are not UTF-8 at {error.start}") from error
    return tuple(text.split("\n"))


def parsed(make: Callable[..., T], *tables: Array) -> T:
    """What `make` reads out of these tables; the last few are kept, by content."""
    key: tuple[Any, ...] = (
        make,
        *(hashlib.blake2b(table.tobytes(), digest_size=16).digest() for table in tables),
    )
    with _lock:
        if key in _parsed:
            _parsed.move_to_end(key)
            found: T = _parsed[key]
            return found
    found = make(*tables)
    with _lock:
        _parsed[key] = found
        while len(_parsed) > _KEPT:
            _parsed.popitem(last=False)
    return found


def texts(x: Array) -> list[str]:
    """Sentences of windows of bytes, (n_windows, n_bytes)."""
    rows = np.asarray(x)
    if rows.ndim != 2:
        raise ModelError.of(
            "text-shape",
            f"windows of shape {rows.shape}",
            "a sentence is a row of bytes, (n_windows, n_bytes)",
            "TextSpec.pack(texts)",
        )
    rows = np.nan_to_num(rows.astype(np.float32)).clip(0, 255).astype(np.uint8)
    return [row.tobytes().rstrip(b"\0").decode("utf-8", "replace") for row in rows]


def filled(rows: list[list[int]], size: int, pad: int) -> Array:
    """Numbers of tokens as float32 (n_windows, size), cut or filled up."""
    if not 1 <= size <= MAX_TOKENS:
        raise ModelError.of(
            "tokens-size", f"size={size}", f"from 1 to {MAX_TOKENS} fit", "the network's own size"
        )
    out = np.full((len(rows), size), pad, dtype=np.float32)
    for row, ids in zip(out, rows, strict=True):
        row[: len(ids)] = ids[:size]
    return out


def _refused(found: str) -> ModelError:
    return ModelError.of(
        "vocabulary-form",
        f"a vocabulary with {found}",
        "it is UTF-8 of at most 64 MiB, one entry a line",
        "export the bundle again",
    )
