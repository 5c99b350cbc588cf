"""Checks of sentences, beside those of any data."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgegraft.data.finding import Evidence, Finding

CHECKS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = ()
