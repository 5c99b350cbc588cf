"""Byte pairs, as GPT-2 takes sentences apart.

Source: Radford et al., Language Models are Unsupervised Multitask Learners, 2019; byte pair
encoding: Sennrich, Haddow, Birch, ACL 2016.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import pairwise

from edgegraft_edge.errors import ModelError
from edgegraft_edge.signal import Array
from edgegraft_edge.vocabulary import filled, lines, parsed, texts

_KEPT_WORDS = 20_000
_SUFFIXES = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
_SPACES = frozenset("\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | frozenset(
    map(chr, range(0x2000, 0x200B))
)


def bytepair(x: Array, vocabulary: Array, merges: Array, *, size: int, pad: int) -> Array:
    """Sentences to numbers of byte pairs, then `pad`.

    Args:
        x: bytes (n_windows, n_bytes).
        vocabulary: uint8, one token a line in the order of their numbers, bytes written as
            `byte_letters` writes them.
        merges: uint8, one pair a line, the first to be merged first; a first line that begins
            with "#version" is passed over.
        size: numbers a sentence; what is longer is cut.
        pad: the number that fills up.

    Returns: float32 (n_windows, size). A marker such as "<|endoftext|>" in a sentence is text.

    Errors: `ModelError` "vocabulary-form" for a vocabulary that lacks a byte, or a damaged merge.

    >>> from edgegraft_edge.signal import TextSpec
    >>> from edgegraft_edge.vocabulary import packed
    >>> letters = [byte_letters()[code] for code in range(256)]
    >>> tokens, pairs = packed([*letters, "on", "Ġon", "<|endoftext|>"]), packed(["o n", "Ġ on"])
    >>> bytepair(TextSpec(8).pack(["on on"]), tokens, pairs, size=4, pad=258).tolist()
    [[256.0, 257.0, 258.0, 258.0]]
    """
    pairs = parsed(_Pairs.of, vocabulary, merges)
    rows = []
    for text in texts(x):
        ids: list[int] = []
        for word in words(text):
            ids += pairs.split(word)
            if len(ids) >= size:
                break
        rows.append(ids)
    return filled(rows, size, pad)


@cache
def byte_letters() -> tuple[str, ...]:
    """A letter that can be seen for each of the 256 bytes.

    >>> byte_letters()[ord("a")], byte_letters()[ord(" ")]
    ('a', 'Ġ')
    """
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [code for code in range(256) if code not in seen]
    return tuple(chr(code if code in seen else 256 + hidden.index(code)) for code in range(256))


@dataclass(frozen=True)
class _Pairs:
    ids: dict[str, int]
    ranks: dict[tuple[str, str], int]
    known: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, vocabulary: Array, merges: Array) -> _Pairs:
        ids = {token: number for number, token in enumerate(lines(vocabulary))}
        lacking = sum(letter not in ids for letter in byte_letters())
        rules = [rule for rule in lines(merges) if rule]
        if rules and rules[0].startswith("#version"):
            rules = rules[1:]
        split = [tuple(rule.split(" ")) for rule in rules]
        damaged = [rule for rule in split if len(rule) != 2 or "".join(rule) not in ids]
        if lacking or damaged:
            found = f"{lacking} bytes missing" if lacking else f"a merge {' '.join(damaged[0])!r}"
            raise ModelError.of(
                "vocabulary-form",
                f"a vocabulary of byte pairs with {found}",
                "every byte and every merged pair has a number",
                "the vocab.json and merges.txt that came with the network",
            )
        return cls(ids, {(one, other): rank for rank, (one, other) in enumerate(split)})

    def split(self, word: str) -> tuple[int, ...]:
        found = self.known.get(word)
        if found is None:
            found = self._merge(word)
            if len(self.known) < _KEPT_WORDS:
                self.known[word] = found
        return found

    def _merge(self, word: str) -> tuple[int, ...]:
        letters = byte_letters()
        parts = [letters[byte] for byte in word.encode("utf-8", "replace")]
        last = len(self.ranks)
        while len(parts) > 1:
            ranked = [self.ranks.get(pair, last) for pair in pairwise(parts)]
            best = min(ranked)
            if best == last:
                break
            merged, place = [], 0
            while place < len(parts):
                if place < len(ranked) and ranked[place] == best:
                    merged.append(parts[place] + parts[place + 1])
                    place += 2
                else:
                    merged.append(parts[place])
                    place += 1
            parts = merged
        return tuple(self.ids[part] for part in parts)


def words(text: str) -> Iterator[str]:
    """Pieces that pairs are merged in: a run of letters, of digits, or of marks, each perhaps
    with one space before it; English endings such as 's; runs of spaces.

    >>> list(words("I'm 21,  ok"))
    ['I', "'m", ' 21', ',', ' ', ' ok']
    """
    place, length = 0, len(text)
    while place < length:
        ending = next((e for e in _SUFFIXES if text.startswith(e, place)), "")
        if ending:
            yield ending
            place += len(ending)
            continue
        first = place + (text[place] == " " and place + 1 < length)
        kind = _kind(text[first])
        if kind != " ":
            stop = first + 1
            while stop < length and _kind(text[stop]) == kind:
                stop += 1
        else:
            stop = place + 1
            while stop < length and _kind(text[stop]) == " ":
                stop += 1
            if stop < length and stop - place > 1:
                stop -= 1  # the last one belongs to what follows
        yield text[place:stop]
        place = stop


@lru_cache(4096)
def _kind(char: str) -> str:
    """L of a letter, N of a number, a space, or "." for all else."""
    if char in _SPACES:
        return " "
    kind = unicodedata.category(char)[0]
    return kind if kind in "LN" else "."
