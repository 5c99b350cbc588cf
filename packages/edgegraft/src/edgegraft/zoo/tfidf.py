"""TF-IDF: how often words and pieces of words stand in a sentence, weighed by how rare they are.

Source: K. Spärck Jones, A statistical interpretation of term specificity, Journal of
Documentation 1972; sublinear counts and unit length: Manning, Raghavan, Schütze, Introduction to
Information Retrieval, 2008, section 6.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from edgegraft.zoo.backbone import BackboneCard, embed_in_batches, shipped_card, unfitted
from edgegraft.zoo.intake import kind_error
from edgegraft_edge.errors import DataError
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, TextSpec, Windows
from edgegraft_edge.terms import Unit, terms_of
from edgegraft_edge.vocabulary import packed

WORDS, CHARACTERS = (1, 2), (3, 5)
_SMALL = np.float32(1e-6)


@dataclass(frozen=True, eq=False)
class Terms:
    """The terms of one unit that `Tfidf.fit` found.

    Attributes:
        vocabulary: uint8, one term a line.
        rarity: float32 (n_terms,), inverse document frequency.
    """

    vocabulary: Array
    rarity: Array


@dataclass(frozen=True, eq=False)
class Tfidf:
    """TF-IDF of words and of characters within words: (n_windows, n_bytes) -> (n_windows, n_terms).

    >>> from edgegraft_edge.signal import TextSpec
    >>> spec = TextSpec(32)
    >>> x = spec.pack(["lights on", "lights off", "what is the time"])
    >>> blank = np.full(3, "")
    >>> backbone = Tfidf().fit(Windows(x, blank, blank, spec), seed=0)
    >>> z = backbone.embed(spec.pack(["light off", "time"]))
    >>> z.shape == (2, backbone.program(32).run(x).shape[1])
    True
    """

    n_words: int = field(
        default=4000, metadata={"help": "most words and pairs of words, the commonest"}
    )
    n_characters: int = field(
        default=6000, metadata={"help": "most pieces of 3 to 5 characters, the commonest"}
    )
    card: BackboneCard = field(
        default_factory=lambda: shipped_card("tfidf"), metadata={"help": "what it is"}
    )
    words: Terms | None = field(default=None, metadata={"help": "set by fit"})
    characters: Terms | None = field(default=None, metadata={"help": "set by fit"})

    one_scale: ClassVar[bool] = True
    """Features are of one scale, and heads leave it as it is."""

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Tfidf:
        return cls(card=card, **card.options)

    def fit(self, windows: Windows, *, seed: int) -> Tfidf:
        """Take the commonest terms of these sentences, and how rare each is; no labels used.

        Errors: `DataError` "kind-differs" for windows of another kind, "text-empty" where no
        sentence holds a word.
        """
        if not isinstance(windows.spec, TextSpec):
            raise kind_error(windows.spec, "text")
        texts = windows.spec.unpack(windows.x)
        words = _found(texts, "word", WORDS, self.n_words)
        characters = _found(texts, "character", CHARACTERS, self.n_characters)
        if words is None or characters is None:
            raise DataError.of(
                "text-empty",
                f"{len(texts)} sentences without a word",
                "there is nothing to count",
                "name the column of the text",
            )
        return replace(self, words=words, characters=characters)

    def embed(self, x: Array) -> Array:
        """Float32 (n_windows, n_terms): words and characters each of unit length.

        Errors: `ModelError` before `fit`.
        """
        return embed_in_batches(self.program(*x.shape[1:]), x)

    def program(self, *shape: int) -> Program:
        """The same from counts of terms, for sentences of that many bytes."""
        if self.words is None or self.characters is None:
            raise unfitted(self.card.name)
        draft = Draft()
        parts = [
            _weighed(draft, self.words, "word", WORDS),
            _weighed(draft, self.characters, "character", CHARACTERS),
        ]
        return draft.finish(draft.add("concat", *parts, axis=1))


def _found(texts: Sequence[str], unit: Unit, lengths: tuple[int, int], most: int) -> Terms | None:
    """The terms that stand in most sentences, the more common first."""
    in_texts: Counter[str] = Counter()
    for text in texts:
        in_texts.update(set(terms_of(text, unit, *lengths)))
    chosen = sorted(in_texts.items(), key=lambda item: (-item[1], item[0]))[:most]
    if not chosen:
        return None
    counts = np.array([count for _, count in chosen], dtype=np.float64)
    rarity = np.log((1 + len(texts)) / (1 + counts)) + 1
    return Terms(packed([term for term, _ in chosen]), rarity.astype(np.float32))


def _weighed(draft: Draft, terms: Terms, unit: Unit, lengths: tuple[int, int]) -> str:
    shortest, longest = lengths
    counts = draft.add(
        "terms",
        "x",
        terms.vocabulary,
        size=len(terms.rarity),
        unit=unit,
        shortest=shortest,
        longest=longest,
    )
    there = draft.add("minimum", counts, np.float32(1))
    logs = draft.add("log", draft.add("maximum", counts, np.float32(1)))
    weighed = draft.add("mul", draft.add("add", there, logs), terms.rarity)
    length = draft.add("sqrt", draft.add("sum", draft.add("mul", weighed, weighed), axes=[1]))
    return draft.add("div", weighed, draft.add("maximum", length, _SMALL))
