"""Divides windows into training and test parts that share nothing.

What must stay together is a *unit*: a group (person, machine, site) where groups are known; else
a whole recording, with what follows its gaps; else, where recordings are too few for that, an
uninterrupted stretch of one label inside a recording; else a single window. Units are dealt to
the parts so that each part has its share of every class, and windows that overlap in time never
face each other.

Only labelled windows are split. All functions return positions in the windows given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgegraft.data.track import origin
from edgegraft_edge.errors import Problem, SplitError
from edgegraft_edge.signal import Array, Windows, WindowSpec

_DEALS = 8  # times the units are dealt anew before single ones are moved


@dataclass(frozen=True)
class Fold:
    """One division of windows.

    Attributes:
        train: int64 (n_train,), sorted positions.
        test: int64 (n_test,), sorted positions.
        by: what was kept together: "group", "recording", "stretch", "window" or "time".
        purged: how many windows were left out of `train` as they overlap one in `test`.
    """

    train: Array
    test: Array
    by: str = "window"
    purged: int = 0


def folds(windows: Windows, n_folds: int, *, seed: int) -> tuple[Fold, ...]:
    """Cross-validation folds: each labelled window is tested exactly once.

    Grouped where groups are known, else by recording where recordings hold several windows (or
    by stretches of them where the recordings are too few), and stratified by class as far as
    that allows. Each class is in the training part of every fold.

    Errors: `SplitError` ("folds-few", "nothing-labelled", "one-class", "class-one-member",
    "class-one-group", "samples-fewer-than-folds", "groups-fewer-than-folds", "class-lost").

    >>> windows = Windows.of(np.zeros((8, 1, 4)), y=list("aabbaabb"), groups=list("ppppqqqq"))
    >>> sorted((fold.test.tolist(), fold.by) for fold in folds(windows, 2, seed=0))
    [([0, 1, 2, 3], 'group'), ([4, 5, 6, 7], 'group')]
    """
    if n_folds < 2:
        raise SplitError.of(
            "folds-few", f"{n_folds} folds", "one part is tested by the others", "2 or more folds"
        )
    index, part, by = _divide(windows, np.full(n_folds, 1 / n_folds), seed)
    return tuple(
        _fold(windows, index[part != number], index[part == number], by)
        for number in range(n_folds)
    )


def leave_one_group_out(windows: Windows) -> tuple[Fold, ...]:
    """One fold per group, in the order of their names; that group is tested by all others.

    Errors: `SplitError` ("groups-unknown", "group-missing", "class-one-group", and the codes that
    any set of labels may raise).
    """
    index = _labelled(windows)
    groups, y = windows.groups[index].astype(str), _targets(windows, index)
    known = sorted(set(groups.tolist()) - {""})
    if len(known) < 2:
        raise SplitError.of(
            "groups-unknown",
            f"{len(known)} known groups among the labelled windows",
            "leaving one out needs two or more",
            "name the column of persons, machines or sites with group=...",
        )
    if "" in groups:
        raise SplitError.of(
            "group-missing",
            f"{int(np.sum(groups == ''))} labelled windows without a group",
            "they may belong to the group that is left out",
            "fill in the group, or drop these windows first",
        )
    _check_members(y, groups, "group")
    return tuple(
        _fold(windows, index[groups != group], index[groups == group], "group") for group in known
    )


def holdout(windows: Windows, fraction: float, *, seed: int) -> Fold:
    """One division that tests about `fraction` of the windows; both parts have every class.

    Errors: `SplitError`, as `folds`; "fraction-range" unless 0 < fraction < 1.
    """
    _check_fraction(fraction)
    index, part, by = _divide(windows, np.array([1 - fraction, fraction]), seed)
    return _fold(windows, index[part == 0], index[part == 1], by)


def few_shot(windows: Windows, n_per_class: int, *, seed: int) -> Array:
    """Positions of `n_per_class` labelled windows of each class (of all, where there are fewer).

    They are spread over the groups (or recordings) as evenly as these allow, as a person would
    who collects few but different examples.

    Returns: int64 (n_chosen,), sorted.

    >>> windows = Windows.of(np.zeros((6, 1, 4)), y=list("aaaab") + [""])
    >>> len(few_shot(windows, 2, seed=0))
    3
    """
    if n_per_class < 1:
        raise SplitError.of(
            "labels-few", f"{n_per_class} labels per class", "a class needs one", "1 or more"
        )
    index = _labelled(windows)
    y, random = _targets(windows, index), np.random.default_rng(seed)
    unit = windows.groups[index] if windows.has_groups else _sessions(windows)[index]
    chosen = []
    for label in np.unique(y):
        members = random.permutation(np.flatnonzero(y == label))
        _, at = np.unique(unit[members], return_inverse=True)
        at = random.permutation(int(at.max()) + 1)[at]
        # The k-th window of every unit comes before the (k+1)-th of any.
        by_unit = np.argsort(at, kind="stable")
        rank = np.arange(len(members)) - np.searchsorted(at[by_unit], at[by_unit])
        chosen.append(members[by_unit[np.lexsort((at[by_unit], rank))]][:n_per_class])
    return np.asarray(np.sort(index[np.concatenate(chosen)]), dtype=np.int64)


def time_ordered(windows: Windows, fraction: float) -> Fold:
    """The past trains, the future tests: the last `fraction` of each recording.

    Windows that are recordings of their own are taken in the order in which they stand.

    Errors: `SplitError`: "fraction-range", "samples-fewer-than-folds", "class-lost" when a class
    appears in no training part.
    """
    _check_fraction(fraction)
    index = _labelled(windows)
    session, piece, start = (
        _sessions(windows)[index],
        windows.recording[index],
        windows.start[index],
    )
    if not _holds_several(session):
        session, piece, start = (np.zeros(len(index), dtype=np.int64),) * 2 + (index,)
    order = np.lexsort((start, piece, session))
    session = session[order]
    first = np.searchsorted(session, session)
    size = np.searchsorted(session, session, side="right") - first
    is_test = np.arange(len(index)) - first >= np.ceil(size * (1 - fraction))
    if not is_test.any() or is_test.all():
        raise SplitError.of(
            "samples-fewer-than-folds",
            f"{len(index)} labelled windows, {fraction:g} of them to be tested",
            "both parts need at least one",
            "another fraction, or more windows",
        )
    index = index[order]
    fold = _fold(windows, index[~is_test], index[is_test], "time")
    _check_fold(_targets(windows, _labelled(windows)), windows, fold)
    return fold


def purge(windows: Windows, train: Array, test: Array) -> Array:
    """The positions in `train` whose windows share no sample with a window in `test`."""
    length = windows.spec.shape[-1] if isinstance(windows.spec, WindowSpec) else 1
    if not len(train) or not len(test):
        return train
    first = windows.start.min()
    stride = int(windows.start.max() - first) + 2 * length + 1  # keeps recordings apart
    place = windows.recording.astype(np.int64) * stride + (windows.start - first)
    tested = np.sort(place[test])
    before = np.searchsorted(tested, place[train] - length, side="right")
    behind = np.searchsorted(tested, place[train] + length, side="left")
    return np.asarray(train[before == behind])


def _fold(windows: Windows, train: Array, test: Array, by: str) -> Fold:
    kept = purge(windows, train, test)
    fold = Fold(
        np.sort(kept).astype(np.int64), np.sort(test).astype(np.int64), by, len(train) - len(kept)
    )
    if fold.purged:
        _check_fold(_targets(windows, train), windows, fold)
    return fold


def _divide(windows: Windows, shares: Array, seed: int) -> tuple[Array, Array, str]:
    """Labelled positions, the part (0..n_parts-1) of each, and what was kept together."""
    index = _labelled(windows)
    y = _targets(windows, index)
    _check_members(y)
    recording = _sessions(windows)[index]
    if windows.has_groups:
        # A window of unknown group may be of anybody: at least its recording stays whole.
        unit = np.array(
            [
                f"group {group}" if group else f"recording {number}"
                for group, number in zip(windows.groups[index], recording, strict=True)
            ]
        )
        return index, _deal(y, unit, shares, seed, "group"), "group"
    if _holds_several(recording):
        try:
            return index, _deal(y, recording, shares, seed, "recording"), "recording"
        except SplitError:
            unit = _stretches(windows, index, y, len(shares))
            return index, _deal(y, unit, shares, seed, "stretch"), "stretch"
    return index, _deal(y, np.arange(len(index)), shares, seed, "window"), "window"


def _stretches(windows: Windows, index: Array, y: Array, n_parts: int) -> Array:
    """Units inside recordings: runs of one label, cut up where a class has too few runs."""
    recording, start = windows.recording[index], windows.start[index]
    order = np.lexsort((start, recording))
    change = (np.diff(recording[order]) != 0) | (y[order][1:] != y[order][:-1])
    run = np.concatenate([[0], np.cumsum(change)])
    unit = np.zeros(len(index), dtype=np.int64)
    following = 0
    for label in np.unique(y):
        runs = np.unique(run[y[order] == label])
        n_pieces = 1 if len(runs) >= n_parts else -(-n_parts // len(runs))
        for number in runs:
            for piece in np.array_split(order[run == number], n_pieces):
                unit[piece] = following
                following += 1
    return unit


def _deal(y: Array, unit: Array, shares: Array, seed: int, by: str) -> Array:
    """The part of each window, such that units stay whole and every class is in two or more."""
    units, unit_of = np.unique(unit, return_inverse=True)
    n_parts = len(shares)
    if len(units) < n_parts:
        raise SplitError.of(
            "samples-fewer-than-folds" if by == "window" else "groups-fewer-than-folds",
            f"{len(units)} {by}s for {n_parts} parts",
            f"a {by} is not divided",
            f"at most {len(units)} folds" if len(units) > 1 else f"more {by}s",
        )
    _check_members(y, unit, by)
    classes, label = np.unique(y, return_inverse=True)
    counts = np.zeros((len(units), len(classes)))
    np.add.at(counts, (unit_of, label), 1)
    random = np.random.default_rng(seed)
    if len(units) == len(y):
        part = _deal_single(label, shares, random)
    else:
        part = _deal_units(counts, shares, random)
    held = np.zeros((n_parts, len(classes)))
    np.add.at(held, part, counts)
    lost = classes[(held > 0).sum(axis=0) < 2]
    if len(lost) or (held.sum(axis=1) == 0).any():
        what = f"class {lost[0]!r}" if len(lost) else "a whole part"
        raise SplitError.of(
            "class-lost",
            f"no way found to deal {len(units)} {by}s to {n_parts} parts",
            f"{what} would be on one side only",
            f"fewer folds, or more {by}s per class",
        )
    return np.asarray(part[unit_of])


def _deal_single(label: Array, shares: Array, random: np.random.Generator) -> Array:
    """Parts of units that are single windows: each class on its own, in proportion."""
    part = np.zeros(len(label), dtype=np.int64)
    filled = np.zeros(len(shares))
    for number in np.argsort(np.bincount(label), kind="stable"):
        members = random.permutation(np.flatnonzero(label == number))
        quota = np.floor(len(members) * shares)
        # A class of two or more is on both sides; what is left goes where most is missing.
        if len(shares) == 2:
            quota = np.clip(quota, 1, len(members) - 1)
        while quota.sum() < len(members):
            wanting = (len(members) * shares - quota) - 1e-3 * filled / shares.clip(1e-9)
            wanting[quota - len(members) * shares >= 0] -= len(members)
            quota[np.argmax(wanting)] += 1
        while quota.sum() > len(members):
            quota[np.argmax(quota)] -= 1
        filled += quota
        part[members] = np.repeat(np.arange(len(shares)), quota.astype(int))
    return part


def _deal_units(counts: Array, shares: Array, random: np.random.Generator) -> Array:
    """Parts of units that hold several windows: greedy deals, the best of which is mended."""
    best, best_cost = np.zeros(len(counts), dtype=np.int64), np.inf
    total = counts.sum(axis=0)
    for _ in range(_DEALS if len(counts) <= 2000 else 1):
        part = _deal_once(counts, shares, total, random)
        cost = _cost(part, counts, shares, total)
        if cost < best_cost:
            best, best_cost = part, cost
    for _ in range(50):
        if best_cost < 1e3:
            break
        moves = [
            (_cost(_moved(best, unit, to), counts, shares, total), unit, to)
            for unit in random.permutation(len(counts))[:500]
            for to in range(len(shares))
            if to != best[unit]
        ]
        cost, unit, to = min(moves)
        if cost >= best_cost:
            break
        best, best_cost = _moved(best, unit, to), cost
    return best


def _deal_once(counts: Array, shares: Array, total: Array, random: np.random.Generator) -> Array:
    """Large units first, each to the part whose shortfall it fits best."""
    size = counts.sum(axis=1)
    order = np.argsort(-size * random.uniform(0.8, 1.25, len(size)), kind="stable")
    part = np.zeros(len(counts), dtype=np.int64)
    lacking = shares[:, None] * total
    weight = 1 / total**2
    for unit in order:
        cost = (weight * counts[unit] * (counts[unit] - 2 * lacking)).sum(axis=1)
        tie = 1e-9 * random.random(len(shares))
        part[unit] = np.argmin(cost + tie)
        lacking[part[unit]] -= counts[unit]
    return part


def _cost(part: Array, counts: Array, shares: Array, total: Array) -> float:
    """Imbalance, plus 1000 for each class on one side only and for each empty part."""
    held = np.zeros((len(shares), counts.shape[1]))
    np.add.at(held, part, counts)
    wrong = ((held > 0).sum(axis=0) < 2).sum() + (held.sum(axis=1) == 0).sum()
    return float(1e3 * wrong + (((held - shares[:, None] * total) / total) ** 2).sum())


def _moved(part: Array, unit: int, to: int) -> Array:
    moved = part.copy()
    moved[unit] = to
    return moved


def _sessions(windows: Windows) -> Array:
    """int (n_windows,): which windows were recorded in one go; a gap does not part them."""
    if not windows.names:
        return windows.recording
    numbers: dict[str, int] = {}
    session = [numbers.setdefault(origin(name), len(numbers)) for name in windows.names]
    return np.asarray(np.array(session, dtype=np.int64)[windows.recording])


def _holds_several(recording: Array) -> bool:
    return len(np.unique(recording)) < len(recording)


def _labelled(windows: Windows) -> Array:
    """Positions of windows with a label, or with a finite target."""
    index = np.flatnonzero(windows.labelled)
    if not len(index):
        raise SplitError.of(
            "nothing-labelled",
            f"none of {len(windows)} windows has a label",
            "only labelled windows are split",
            "name the label column with label=..., or put files into folders named by label",
        )
    return index


def _targets(windows: Windows, index: Array) -> Array:
    """Labels to stratify by; real-valued targets are not stratified."""
    if windows.y.dtype.kind == "f":
        return np.full(len(index), "value")
    return np.asarray(windows.y[index].astype(str))


def _check_members(y: Array, unit: Array | None = None, by: str = "window") -> None:
    """Each class needs two windows, and two units if these are given; all lacks at once."""
    classes, count = np.unique(y, return_counts=True)
    problems = []
    if len(classes) < 2 and classes[0] != "value":
        problems.append(
            Problem(
                "one-class",
                f"all {len(y)} labelled windows are {str(classes[0])!r}",
                "there is nothing to tell apart",
                "add recordings of another class",
            )
        )
    for label, number in zip(classes, count, strict=True):
        if number < 2:
            problems.append(
                Problem(
                    "class-one-member",
                    f"class {str(label)!r} has one window",
                    "it cannot be in training and in test",
                    "record more of it, or leave the class out",
                )
            )
        elif unit is not None and len(np.unique(unit[y == label])) < 2:
            problems.append(
                Problem(
                    "class-one-group",
                    f"class {str(label)!r} is in one {by} only ({unit[y == label][0]})",
                    f"a {by} is not divided, so the class would not be in training and in test",
                    f"record it in a second {by}, leave the class out, or split without {by}s",
                )
            )
    if problems:
        raise SplitError(problems)


def _check_fold(y: Array, windows: Windows, fold: Fold) -> None:
    """No class may vanish from training, whether by the order of time or by the purge."""
    lost = sorted(set(y.tolist()) - set(_targets(windows, fold.train).tolist()))
    if lost:
        raise SplitError.of(
            "class-lost",
            f"class {lost[0]!r} is not in the training part ({fold.purged} windows purged)",
            "what is tested must have been seen",
            "a longer recording of it, a shorter window, or another fraction",
        )


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise SplitError.of(
            "fraction-range", f"fraction {fraction:g}", "a share lies between 0 and 1", "e.g. 0.25"
        )
