"""Counts of words and of pieces of words: what classical text classification starts from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import numpy as np

from edgegraft_edge.errors import ModelError
from edgegraft_edge.signal import Array
from edgegraft_edge.vocabulary import MAX_TOKENS, lines, parsed, texts

Unit = Literal["word", "character"]
_WORD = re.compile(r"\w+")


def terms(
    x: Array, vocabulary: Array, *, size: int, unit: Unit, shortest: int, longest: int
) -> Array:
    """How often each term of a vocabulary stands in each sentence.

    Args:
        x: bytes (n_windows, n_bytes).
        vocabulary: uint8, one term a line, as `terms_of` writes them; `size` of them.
        unit: "word" or "character"; shortest, longest: how many of them make a term.

    Returns: float32 (n_windows, size).

    Errors: `ModelError` "vocabulary-form" when the vocabulary has another size.

    >>> from edgegraft_edge.signal import TextSpec
    >>> from edgegraft_edge.vocabulary import packed
    >>> x = TextSpec(32).pack(["Light on, light off"])
    >>> terms(x, packed(["light", "light on"]), size=2, unit="word", shortest=1, longest=2).tolist()
    [[2.0, 1.0]]
    """
    places = parsed(_places, vocabulary)
    if len(places) != size or not 1 <= size <= MAX_TOKENS or not 1 <= shortest <= longest <= 16:
        raise ModelError.of(
            "vocabulary-form",
            f"{len(places)} terms of {shortest} to {longest} for size={size}",
            f"each term counts once, of 1 to 16 {unit}s",
            "export the bundle again",
        )
    out = np.zeros((len(x), size), dtype=np.float32)
    for row, text in zip(out, texts(x), strict=True):
        for term in terms_of(text, unit, shortest, longest):
            place = places.get(term)
            if place is not None:
                row[place] += 1
    return out


def terms_of(text: str, unit: Unit, shortest: int, longest: int) -> Iterator[str]:
    """Every run of words, or of characters within a word that has a space on either side.

    >>> list(terms_of("Lights on", "word", 1, 2)), list(terms_of("an", "character", 3, 4))
    (['lights', 'on', 'lights on'], [' an', 'an ', ' an '])
    """
    words = _WORD.findall(text.lower())
    if unit == "word":
        for length in range(shortest, longest + 1):
            for start in range(len(words) - length + 1):
                yield " ".join(words[start : start + length])
        return
    for word in words:
        word = f" {word} "
        for length in range(shortest, longest + 1):
            for start in range(len(word) - length + 1):
                yield word[start : start + length]


def _places(vocabulary: Array) -> dict[str, int]:
    return {term: place for place, term in enumerate(lines(vocabulary))}
