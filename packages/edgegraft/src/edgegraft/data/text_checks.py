"""Checks of sentences, beside those of any data: what is said twice, cut off, or too short."""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edgegraft.data.finding import Evidence, Finding
from edgegraft_edge.signal import UNLABELLED, Array, TextSpec, Windows

ALIKE = 0.8
"""Share of common shingles (Jaccard) from which two sentences are nearly the same."""
FEW = 0.01  # share of sentences from which a fault is more than a note
_SHINGLE = 4  # characters
_HASHES, _ROWS = 60, 3  # twenty bands of three: one pair in a million is missed
_MOST_PAIRS = 200_000
_REPLACED = "\ufffd"


def normal(text: str) -> str:
    """Lower case, words alone, single spaces.

    >>> normal("Turn  ON the light, please!")
    'turn on the light please'
    """
    return " ".join(re.findall(r"\w+", text.lower()))


def alike(texts: Sequence[str], others: Sequence[str] | None = None) -> list[tuple[int, int]]:
    """Pairs of sentences that are nearly the same: within `texts`, or of `texts` and `others`.

    By shingles of four characters of the normalised text; candidates by MinHash (Broder, On the
    resemblance and containment of documents, 1997), each then compared exactly.

    >>> alike(["turn on the light in the hall", "what is it", "Turn on the light in THE halls."])
    [(0, 2)]
    """
    every = [normal(text) for text in (*texts, *(others or ()))]
    border = len(texts) if others is not None else None
    shingles = [_shingles(text) for text in every]
    found = []
    for one, other in sorted(_candidates(shingles, border)):
        both = len(np.intersect1d(shingles[one], shingles[other], assume_unique=True))
        if both >= ALIKE * (len(shingles[one]) + len(shingles[other]) - both):
            found.append((one, other if border is None else other - border))
    return found


def _shingles(text: str) -> Array:
    padded = f" {text} "
    pieces = {padded[i : i + _SHINGLE] for i in range(max(1, len(padded) - _SHINGLE + 1))}
    return np.unique(np.array([zlib.crc32(piece.encode()) for piece in pieces], dtype=np.uint64))


def _candidates(shingles: Sequence[Array], border: int | None) -> set[tuple[int, int]]:
    """Pairs that share a band of their MinHashes, up to a bound."""
    if not shingles:
        return set()
    random = np.random.default_rng(0)
    factor = random.integers(1, 1 << 31, _HASHES, dtype=np.uint64)
    shift = random.integers(0, 1 << 31, _HASHES, dtype=np.uint64)
    prime = np.uint64((1 << 31) - 1)
    least = np.stack(
        [((each[:, None] % prime * factor + shift) % prime).min(axis=0) for each in shingles]
    )
    found: set[tuple[int, int]] = set()
    for first in range(0, _HASHES, _ROWS):
        bands: dict[bytes, list[int]] = defaultdict(list)
        for number, row in enumerate(np.ascontiguousarray(least[:, first : first + _ROWS])):
            bands[row.tobytes()].append(number)
        for members in bands.values():
            ours = [m for m in members if border is None or m < border][:300]
            theirs = members[:300] if border is None else [m for m in members if m >= border][:300]
            found.update((one, other) for one in ours for other in theirs if one < other)
            if len(found) > _MOST_PAIRS:
                return found
    return found


def check_said_twice(evidence: Evidence) -> Iterator[Finding]:
    """Sentences nearly the same in two groups, or under two labels."""
    windows = evidence.windows
    texts = _texts(windows)
    pairs = alike(texts)
    labels, groups = windows.y.astype(str), windows.groups.astype(str)

    def differ(of: Array) -> list[tuple[int, int]]:
        return [(a, b) for a, b in pairs if of[a] and of[b] and of[a] != of[b]]

    same = [(a, b) for a, b in differ(labels) if normal(texts[a]) == normal(texts[b])]
    if same:
        a, b = same[0]
        yield Finding(
            "label-conflict",
            "trouble",
            f"{len(same)} pairs of sentences differ in nothing but the label: {_short(texts[a])} "
            f"is {labels[a]!r} and {labels[b]!r}",
            "decide on one label for each",
        )
    across = differ(groups)
    if across:
        a, b = across[0]
        yield Finding(
            "sentence-in-groups",
            "warning",
            f"{len(across)} pairs of nearly the same sentence are in two groups: "
            f"{_short(texts[a])} in {groups[a]!r} and {groups[b]!r}",
            "short commands are said alike by all; templates that were filled in are not",
        )
    repeats = len(set(range(len(texts))) & {b for _, b in pairs})
    if repeats > 0.2 * max(1, len(texts)):
        yield Finding(
            "sentences-alike",
            "note",
            f"{repeats} of {len(texts)} sentences are nearly the same as another",
            "scores from cross-validation flatter; test on sentences of other people",
        )


def check_test_sentences(evidence: Evidence) -> Iterator[Finding]:
    """Sentences of the test data that training has too, nearly or exactly."""
    if evidence.test is None:
        return
    ours, theirs = _texts(evidence.windows), _texts(evidence.test)
    pairs = alike(ours, theirs)
    if not pairs:
        return
    known = {normal(text) for text in ours}
    exact = sum(normal(text) in known for text in theirs)
    n_test = len({other for _, other in pairs})
    one, other = pairs[0]
    yield Finding(
        "train-test-repeated",
        "trouble" if n_test > FEW * len(theirs) else "warning",
        f"{n_test} of {len(theirs)} test sentences are nearly the same as in training, {exact} of "
        f"them word by word: {_short(theirs[other])} and {_short(ours[one])}",
        "remove them from one side",
    )


def check_lengths(evidence: Evidence) -> Iterator[Finding]:
    """Sentences that were cut, or say next to nothing."""
    for step in evidence.dataset.log:
        if step.name == "text-cut":
            cut, of = int(step.values["sentences"]), int(step.values["of"])
            yield Finding(
                "text-cut",
                "warning" if cut > FEW * of else "note",
                f"{cut} of {of} sentences are longer than {step.values['n_bytes']} bytes and were "
                f"cut; the longest has {step.values['longest_bytes']}",
                f"n_bytes={_rounded(int(step.values['longest_bytes']))}, if the ends matter",
            )
    texts = _texts(evidence.windows)
    empty = [text for text in texts if not re.search(r"\w", text)]
    if empty:
        yield Finding(
            "text-wordless",
            "warning" if len(empty) > FEW * len(texts) else "note",
            f"{len(empty)} of {len(texts)} sentences have no word: {_short(empty[0])}",
            "drop them, or label them apart",
        )
    damaged = [text for text in texts if _REPLACED in text or "Ã©" in text or "Ã¼" in text]
    if damaged:
        yield Finding(
            "text-misread",
            "warning",
            f"{len(damaged)} of {len(texts)} sentences look misread: {_short(damaged[0])}",
            "name the encoding that the file was written in, e.g. encoding='latin-1'",
        )


def check_length_tells(evidence: Evidence) -> Iterator[Finding]:
    """A class whose sentences are of another length than all others: another source, perhaps."""
    windows = evidence.windows
    if windows.y.dtype.kind == "f" or len(windows.classes) < 2:
        return
    sizes = np.log([1 + len(text) for text in _texts(windows)])
    counts = Counter(windows.y.tolist())
    for label in windows.classes:
        own = windows.y == label
        others = ~own & (windows.y != UNLABELLED)
        if counts[label] < 10 or others.sum() < 10:
            continue
        low, high = np.quantile(sizes[own], [0.02, 0.98])
        if np.quantile(sizes[others], 0.02) > high or np.quantile(sizes[others], 0.98) < low:
            yield Finding(
                "length-tells",
                "warning",
                f"sentences of {label!r} differ in length from all others",
                "collect all classes in the same way, or a model learns the length",
            )


CHECKS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    check_said_twice,
    check_test_sentences,
    check_lengths,
    check_length_tells,
)


def _texts(windows: Windows) -> tuple[str, ...]:
    return windows.spec.unpack(windows.x) if isinstance(windows.spec, TextSpec) else ()


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _rounded(size: int) -> int:
    """
    >>> _rounded(700)
    1024
    """
    return int(min(65536, 1 << (size - 1).bit_length()))
