"""WordPiece, as BERT takes sentences apart.

Source: Devlin, Chang, Lee, Toutanova, BERT, NAACL 2019; greedy longest match: Wu et al., Google's
Neural Machine Translation System, 2016, and Schuster and Nakajima, ICASSP 2012.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

from edgegraft_edge.errors import ModelError
from edgegraft_edge.signal import Array
from edgegraft_edge.vocabulary import filled, lines, parsed, texts

MAX_WORD = 100  # characters; a longer word is unknown
_KEPT_WORDS = 20_000
_CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def wordpiece(
    x: Array, vocabulary: Array, *, size: int, lower: bool = True, accents: bool | None = None
) -> Array:
    """Sentences to numbers of word pieces: [CLS], the pieces, [SEP], then [PAD].

    Args:
        x: bytes (n_windows, n_bytes).
        vocabulary: uint8, one piece a line; pieces inside of a word begin with "##".
        size: numbers a sentence; what is longer is cut before [SEP].
        lower: whether the vocabulary is of lower-case words.
        accents: whether accents are kept; by default they are where case is.

    Returns: float32 (n_windows, size). A marker such as "[SEP]" inside of a sentence is text.

    Errors: `ModelError` "vocabulary-form" for a vocabulary that lacks a marker.

    >>> from edgegraft_edge.signal import TextSpec
    >>> from edgegraft_edge.vocabulary import packed
    >>> pieces = packed(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "light", "##s", "on", "!"])
    >>> wordpiece(TextSpec(16).pack(["Lights ON!"]), pieces, size=8).tolist()
    [[2.0, 4.0, 5.0, 6.0, 7.0, 3.0, 0.0, 0.0]]
    """
    pieces = parsed(_Pieces.of, vocabulary)
    keep = not lower if accents is None else accents
    rows = []
    for text in texts(x):
        ids = [pieces.cls]
        for word in basic_tokens(text, lower=lower, accents=keep):
            ids += pieces.split(word)
            if len(ids) >= size:
                break
        rows.append([*ids[: size - 1], pieces.sep])
    return filled(rows, size, pieces.pad)


@dataclass(frozen=True)
class _Pieces:
    ids: dict[str, int]
    cls: int
    sep: int
    pad: int
    unknown: int
    known: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, vocabulary: Array) -> _Pieces:
        ids = {piece: number for number, piece in enumerate(lines(vocabulary))}
        lacking = [name for name in ("[CLS]", "[SEP]", "[PAD]", "[UNK]") if name not in ids]
        if lacking:
            raise ModelError.of(
                "vocabulary-form",
                f"a vocabulary without {', '.join(lacking)}",
                "sentences of word pieces are framed by them",
                "the vocab.txt that came with the network",
            )
        return cls(ids, ids["[CLS]"], ids["[SEP]"], ids["[PAD]"], ids["[UNK]"])

    def split(self, word: str) -> tuple[int, ...]:
        """Numbers of the pieces of a word, or that of "unknown"."""
        found = self.known.get(word)
        if found is None:
            found = self._match(word)
            if len(self.known) < _KEPT_WORDS:
                self.known[word] = found
        return found

    def _match(self, word: str) -> tuple[int, ...]:
        if len(word) > MAX_WORD:
            return (self.unknown,)
        out, start = [], 0
        while start < len(word):
            for stop in range(len(word), start, -1):
                piece = word[start:stop] if start == 0 else f"##{word[start:stop]}"
                if piece in self.ids:
                    out.append(self.ids[piece])
                    start = stop
                    break
            else:
                return (self.unknown,)
        return tuple(out)


def basic_tokens(text: str, *, lower: bool, accents: bool) -> list[str]:
    """Words and single marks of punctuation; Chinese characters stand alone.

    >>> basic_tokens("Dimme das Café, 在家!", lower=True, accents=False)
    ['dimme', 'das', 'cafe', ',', '在', '家', '!']
    """
    if text.isascii():
        text = text.translate(_ASCII)
        text = text.lower() if lower else text
    else:
        text = "".join(map(_cleaned, text))
        if not accents:
            text = "".join(c for c in unicodedata.normalize("NFD", text) if not _is_accent(c))
        if lower:  # character by character: a last sigma is a sigma
            text = "".join(c.lower() for c in text)
        text = "".join(map(_apart, text))
    return [token for token in text.split(" ") if token]


def _of_ascii(code: int) -> str:
    char = chr(code)
    if char in "\t\n\r ":
        return " "
    if code < 32 or code == 127:
        return ""
    return char if char.isalnum() else f" {char} "


_ASCII = {code: _of_ascii(code) for code in range(128)}


@lru_cache(4096)
def _cleaned(char: str) -> str:
    """Nothing for what cannot be seen, a space for any, and spaces around Chinese characters."""
    if char in "\t\n\r" or unicodedata.category(char) in ("Zs", "Zl", "Zp") or char == "\x85":
        return " "
    if char == "\ufffd" or unicodedata.category(char) in ("Cc", "Cf", "Co"):
        return ""
    code = ord(char)
    return f" {char} " if any(low <= code <= high for low, high in _CJK) else char


@lru_cache(4096)
def _is_accent(char: str) -> bool:
    return unicodedata.category(char) == "Mn"


@lru_cache(4096)
def _apart(char: str) -> str:
    """A mark of punctuation stands alone."""
    if char.isascii():
        return _ASCII[ord(char)] if char != " " else " "
    return f" {char} " if unicodedata.category(char).startswith("P") else char
