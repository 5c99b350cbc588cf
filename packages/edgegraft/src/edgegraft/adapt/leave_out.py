"""What is left out of training to be scored: samples, whole groups, parts made of these."""

from __future__ import annotations

import numpy as np

from edgegraft_edge.signal import Array


def left_out_blocks(codes: Array, groups: Array | None, n_classes: int) -> list[Array]:
    """Index sets to leave out: whole groups where every class survives that, else single samples.

    Empty when some class has one sample only.

    >>> groups = np.array(["p", "p", "q", "q"])
    >>> [block.tolist() for block in left_out_blocks(np.array([0, 1, 0, 1]), groups, 2)]
    [[0, 1], [2, 3]]
    """
    counts = np.bincount(codes, minlength=n_classes)
    if counts[counts > 0].min() < 2:
        return []
    singles = [np.array([i]) for i in range(len(codes))]
    if groups is None or len(set(groups.tolist())) < 2:
        return singles
    blocks = []
    for group in sorted(set(groups.tolist())):
        index = np.flatnonzero(groups == group)
        remains = counts - np.bincount(codes[index], minlength=n_classes)
        blocks += [index] if (remains[counts > 0] > 0).all() else [singles[i] for i in index]
    return blocks


def with_copies(blocks: list[Array], n_originals: int, n_rows: int) -> list[Array]:
    """Blocks of originals with the rows of their copies.

    >>> [block.tolist() for block in with_copies([np.array([0]), np.array([1])], 2, 6)]
    [[0, 2, 4], [1, 3, 5]]
    """
    steps = np.arange(0, n_rows, n_originals)
    return [(block + steps[:, None]).ravel() for block in blocks]


def bundle_blocks(blocks: list[Array], codes: Array, seed: int, n_parts: int = 5) -> list[Array]:
    """Blocks dealt into at most `n_parts` index sets such that no class is left out whole."""
    order = np.random.default_rng(seed).permutation(len(blocks))
    counts = np.bincount(codes)
    parts: list[list[Array]] = []
    for number in order:
        block = blocks[number]
        here = np.bincount(codes[block], minlength=len(counts))

        def room(part: list[Array], here: Array = here) -> bool:
            gone = here + np.bincount(codes[np.concatenate(part)], minlength=len(counts))
            return bool((gone[counts > 0] < counts[counts > 0]).all())

        fits = [part for part in parts if room(part)]
        if len(parts) < n_parts or not fits:
            parts.append([block])
        else:
            min(fits, key=lambda part: sum(len(b) for b in part)).append(block)
    return [np.concatenate(part) for part in parts]
