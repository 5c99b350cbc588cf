"""Text taken apart: sentences of bytes to numbers of tokens, or to counts of terms.

These primitives run in NumPy and Python wherever a program runs; a vocabulary is a constant of
the program: UTF-8, one entry a line, as uint8. Each gives float32 (n_windows, size).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from edgegraft_edge.bytepair import bytepair
from edgegraft_edge.signal import Array
from edgegraft_edge.terms import terms
from edgegraft_edge.wordpiece import wordpiece

READERS: Mapping[str, Callable[..., Array]] = MappingProxyType(
    {"wordpiece": wordpiece, "bytepair": bytepair, "terms": terms}
)
"""Primitives that no other runtime has: they come first in a program, on its input."""
