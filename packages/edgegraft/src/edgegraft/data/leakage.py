"""Checks for what a model must not see twice: repeated content, people, windows, scalers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from edgegraft.data.finding import Evidence, Finding
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import UNLABELLED, Array, Windows
from edgegraft_edge.windowing import bind

_BLOCK = 8  # samples in one fingerprint
_ONE_IN = 8  # of how many blocks one is kept, chosen by content


def fingerprints(values: Array) -> Array:
    """Hashes of short blocks of samples, the same wherever the blocks stand.

    Of all blocks of 8 samples those are kept whose hash is divisible by 8; so a copy is found
    though it be shifted, shortened or cut into other windows. Blocks without movement are left
    out, since they are alike in all recordings.

    Args:
        values: float32 (n_channels, n_timepoints).

    Returns: uint64 (n_kept,), sorted, each once.
    """
    n_timepoints = values.shape[1]
    if n_timepoints < _BLOCK:
        return np.zeros(0, dtype=np.uint64)
    bits = np.ascontiguousarray(values + np.float32(0), dtype=np.float32).view(np.uint32)
    sample = np.zeros(n_timepoints, dtype=np.uint64)
    for channel in bits.astype(np.uint64):
        sample = _mixed(sample ^ channel)
    block = np.zeros(n_timepoints - _BLOCK + 1, dtype=np.uint64)
    for offset in range(_BLOCK):
        block = _mixed(block ^ sample[offset : offset + len(block)])
    changes = np.concatenate([[0], np.cumsum(sample[1:] != sample[:-1])])
    moving = changes[_BLOCK - 1 :] - changes[: len(block)] >= _BLOCK // 2
    return np.unique(block[moving & (block % np.uint64(_ONE_IN) == 0)])


def _mixed(values: Array) -> Array:
    """One round of a multiplicative mix over 64 bits (constants of SplitMix64)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(values ^ (values >> np.uint64(31)))


def shared_content(
    ours: list[Array], theirs: list[Array], share: float = 0.2
) -> list[tuple[int, int, float]]:
    """Pairs (ours, theirs, share) that have more than `share` of the shorter one in common."""
    if not ours or not theirs:
        return []
    prints = np.concatenate([*ours, *theirs])
    owner = np.repeat(np.arange(len(ours) + len(theirs)), [len(item) for item in [*ours, *theirs]])
    order = np.argsort(prints, kind="stable")
    prints, owner = prints[order], owner[order]
    edges = np.flatnonzero(np.concatenate([[True], prints[1:] != prints[:-1], [True]]))
    counts: dict[tuple[int, int], int] = {}
    for first, last in pairwise(edges):
        if not 1 < last - first <= 50:  # what is everywhere says nothing
            continue
        holders = owner[first:last]
        for one in holders[holders < len(ours)]:
            for other in holders[holders >= len(ours)] - len(ours):
                counts[int(one), int(other)] = counts.get((int(one), int(other)), 0) + 1
    found = []
    for (one, other), count in counts.items():
        part = count / min(len(ours[one]), len(theirs[other]))
        if count >= 2 and part > share:
            found.append((one, other, part))
    return sorted(found, key=lambda item: -item[2])


def check_repeats(evidence: Evidence) -> Iterator[Finding]:
    """Recordings or windows that occur twice, worst where group or label differ."""
    pieces = evidence.pieces
    prints = [fingerprints(values) for _, _, values in pieces]
    pairs = [pair for pair in shared_content(prints, prints, 0.5) if pair[0] < pair[1]]
    if pairs:
        across = [pair for pair in pairs if pieces[pair[0]][1] != pieces[pair[1]][1]]
        one, other, part = (across or pairs)[0]
        between = "of different groups " if across else ""
        yield Finding(
            "content-repeated",
            "trouble" if across or _label_differs(evidence) else "warning",
            f"{len(across or pairs)} pairs of recordings {between}share content: "
            f"{pieces[one][0]} and {pieces[other][0]} by {part:.0%}",
            "keep one of each, or split by group: what is on both sides makes scores too good",
        )
    if _label_differs(evidence):
        yield Finding(
            "label-conflict",
            "trouble",
            f"{_label_differs(evidence)} windows repeat others under another label",
            "decide on one label for each",
        )


def _label_differs(evidence: Evidence) -> int:
    """Windows that equal another window bit by bit but carry another label."""
    windows = evidence.windows
    if windows.y.dtype.kind == "f" or not len(windows):
        return 0
    along = 2 if windows.x.ndim == 3 else tuple(range(1, windows.x.ndim))
    moves = np.ptp(windows.x, axis=along).reshape(len(windows), -1).any(axis=1)
    windows = windows.take(moves)  # stillness looks alike
    seen: dict[int, set[str]] = {}
    for value, label in zip(_keys(windows).tolist(), windows.y.tolist(), strict=True):
        if label != UNLABELLED:
            seen.setdefault(value, set()).add(label)
    return sum(len(labels) > 1 for labels in seen.values())


def _keys(windows: Windows) -> Array:
    """A hash of the content of each window, uint64 (n_windows,)."""
    x = np.ascontiguousarray(windows.x, dtype=np.float32)
    flat = x.reshape(len(x), int(np.prod(x.shape[1:])))
    key = np.zeros(len(windows), dtype=np.uint64)
    for column in flat.view(np.uint32).T.astype(np.uint64):
        key = _mixed(key ^ column)
    return key


def check_test_signals(evidence: Evidence) -> Iterator[Finding]:
    """Whether the test data has the channels, units and rate of the training data."""
    if evidence.test is None:
        return
    try:
        theirs = evidence.test.series
        bind(evidence.windows.series, theirs.channels, theirs.rate_hz)
    except DataError as error:
        for problem in error.problems:
            yield Finding(problem.code, "trouble", f"test data: {problem.found}", problem.remedy)
    n_ours, n_theirs = evidence.windows.x.shape[2], evidence.test.x.shape[2]
    if n_ours != n_theirs:
        yield Finding(
            "window-length",
            "trouble",
            f"windows of {n_ours} samples, in the test data of {n_theirs}",
            "the same window_s for both",
        )


def check_test_groups(evidence: Evidence) -> Iterator[Finding]:
    """The same person, machine or site on both sides."""
    if evidence.test is None:
        return
    both = sorted(set(evidence.windows.groups.tolist()) & set(evidence.test.groups.tolist()) - {""})
    if both:
        yield Finding(
            "group-in-both",
            "trouble",
            f"in training and in test: {', '.join(both[:8])}",
            "test on people or machines that the model has not met",
        )


def check_test_classes(evidence: Evidence) -> Iterator[Finding]:
    """Classes that only one side has."""
    if evidence.test is None or evidence.windows.y.dtype.kind == "f":
        return
    ours, theirs = set(evidence.windows.classes), set(evidence.test.classes)
    if theirs - ours:
        yield Finding(
            "class-unseen",
            "trouble",
            f"tested but never trained: {', '.join(sorted(theirs - ours)[:8])}",
            "record them for training, or correct the labels",
        )
    if ours - theirs and theirs:
        yield Finding(
            "class-untested",
            "warning",
            f"trained but not tested: {', '.join(sorted(ours - theirs)[:8])}",
            "record them for the test: their score is unknown",
        )


def check_test_content(evidence: Evidence) -> Iterator[Finding]:
    """The same recording, or overlapping windows of one, on both sides."""
    ours, theirs = evidence.pieces, evidence.test_pieces
    if not theirs:
        return
    pairs = shared_content(
        [fingerprints(values) for _, _, values in ours],
        [fingerprints(values) for _, _, values in theirs],
    )
    if not pairs:
        return
    one, other, part = pairs[0]
    n_test = len({pair[1] for pair in pairs})
    whole = part > 0.9
    if evidence.test is not None and evidence.test_dataset is not None:
        ready = evidence.dataset.ready is not None and evidence.test_dataset.ready is not None
        whole &= not ready or bool(np.isin(_keys(evidence.test), _keys(evidence.windows)).any())
    yield Finding(
        "train-test-repeated" if whole else "windows-overlap",
        "trouble",
        f"{n_test} of {len(theirs)} test recordings share samples with training: "
        f"{theirs[other][0]} and {ours[one][0]} by {part:.0%}",
        "remove them from one side" if whole else "split by recording, or leave a purge gap",
    )


def check_scaled_together(evidence: Evidence) -> Iterator[Finding]:
    """Signs of a scaler fitted on training and test data at once."""
    if evidence.test is None or evidence.windows.x.shape[1] != evidence.test.x.shape[1]:
        return
    if not len(evidence.windows) or not len(evidence.test):
        return
    ours, theirs = (
        np.moveaxis(item.x, 1, 0).reshape(item.x.shape[1], -1).astype(np.float64)
        for item in (evidence.windows, evidence.test)
    )
    both = np.concatenate([ours, theirs], axis=1)
    together, alone = (
        (np.abs(part.mean(axis=1)) < 1e-3) & (np.abs(part.std(axis=1) - 1) < 1e-3)
        for part in (both, ours)
    )
    if together.all() and not alone.all():
        yield Finding(
            "scaled-together",
            "trouble",
            "training and test data together have mean 0 and deviation 1, training alone has not",
            "bring the values as they were measured: scaling is learned from training data only",
        )
