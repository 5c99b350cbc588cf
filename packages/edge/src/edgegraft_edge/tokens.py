"""Text taken apart: sentences of bytes to numbers of tokens, or to counts of terms.

These primitives run in NumPy and Python wherever a program runs; a vocabulary is a constant of
the program: UTF-8, one entry a line, as uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from edgegraft_edge.signal import Array

READERS: Mapping[str, Callable[..., Array]] = MappingProxyType({})
"""Primitives that no other runtime has: they come first in a program, on its input."""
