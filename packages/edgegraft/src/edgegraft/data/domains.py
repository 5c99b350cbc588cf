"""What goes beside labelled windows of the target device: its pool, and labelled source domains.

The pool are windows of the same device without labels; a source domain is another person,
machine, load or site, whose windows carry labels. All of them travel as one `Windows`: rows of
the pool have no label, rows of a source have its name in `domains`. A strategy takes what it can
use of that and leaves the rest alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgegraft.data.split import purge
from edgegraft_edge.errors import DataError, Problem
from edgegraft_edge.signal import TARGET, UNLABELLED, Windows
from edgegraft_edge.windowing import bind_windows


def beside(
    target: Windows,
    pool: Windows | None = None,
    sources: Mapping[str, Windows] | None = None,
    *,
    rest: Windows | None = None,
) -> Windows:
    """The pool and the sources as windows of the target's spec; channels go by name.

    Args:
        target: windows of the device that a model is wanted for.
        pool: more windows of it, from other recordings; labels in it are dropped.
        sources: labelled windows by the name of the domain; windows without label are dropped.
        rest: more of the pool, cut from the same recordings as `target` and numbered with it, so
            that overlaps are seen.

    Errors: `DataError` with all that does not fit: kinds, channels, rates, lengths; a source
    without labels ("source-unlabelled"), or without a name ("source-unnamed").

    >>> target = Windows.of(np.zeros((2, 1, 8)), y=["a", "b"])
    >>> more = beside(target, Windows.of(np.ones((3, 1, 8)), y=["a"] * 3), {"load 0": target})
    >>> more.y.tolist(), more.domains.tolist()
    (['', '', '', 'a', 'b'], ['', '', '', 'load 0', 'load 0'])
    """
    problems: list[Problem] = []
    found = target.take(np.zeros(0, dtype=np.int64))
    if rest is not None:
        found = joined(found, _unlabelled(rest))
    names = _names(target if rest is None else joined(target, rest))
    given: list[tuple[str | None, Windows]] = [] if pool is None else [(None, pool)]
    for name, windows in (*given, *(sources or {}).items()):
        try:
            fitting = _fitting(target, windows)
            own = _unlabelled(fitting) if name is None else _source(fitting, name)
        except DataError as error:
            whose = "the pool" if name is None else f"source {name!r}"
            problems += [replace(each, found=f"{whose}: {each.found}") for each in error.problems]
            continue
        found = joined(found, replace(own, recording=own.recording + len(names)))
        names = (*names, *_names(own))
    if problems:
        raise DataError(problems)
    return replace(found, names=names)


def joined(first: Windows, second: Windows) -> Windows:
    """Windows of both, where they have one spec and one numbering of recordings."""
    return replace(
        first,
        x=np.concatenate([first.x, second.x]) if len(second) else first.x,
        **{
            name: np.concatenate([getattr(first, name), getattr(second, name)])
            for name in ("y", "groups", "recording", "start", "domains")
        },
        names=max(first.names, second.names, key=len),
    )


def apart(rest: Windows, tested: Windows) -> Windows:
    """Of pool and sources, what shares no group and no sample with the windows tested.

    So a person who is tested is unknown in every way: not even the pool holds windows of theirs.

    >>> windows = Windows.of(np.zeros((4, 1, 8)), groups=["p", "q", "", "q"])
    >>> apart(windows.take([0, 1, 2]), windows.take([3])).groups.tolist()
    ['p', '']
    """
    groups = sorted(set(tested.groups.tolist()) - {""})
    both = joined(rest, tested)
    here = np.flatnonzero(~np.isin(rest.groups, groups))
    return rest.take(purge(both, here, len(rest) + np.arange(len(tested))))


def pool_of(windows: Windows) -> Windows:
    """Windows of the target without a label."""
    return windows.take(np.flatnonzero(windows.at_target & ~windows.labelled))


def labelled_target(windows: Windows) -> Windows:
    """Windows of the target with a label."""
    return windows.take(np.flatnonzero(windows.at_target & windows.labelled))


def sources_of(windows: Windows) -> dict[str, Windows]:
    """Labelled windows of each source domain, by name, in order of the names."""
    kept = windows.labelled & ~windows.at_target
    return {
        str(name): windows.take(np.flatnonzero(kept & (windows.domains == name)))
        for name in np.unique(windows.domains[kept])
    }


def from_sources(windows: Windows, names: tuple[str, ...]) -> Windows:
    """Target and pool, and of the sources only those named; all of them where none is."""
    if not names:
        return windows
    return windows.take(np.flatnonzero(windows.at_target | np.isin(windows.domains, names)))


def _fitting(target: Windows, windows: Windows) -> Windows:
    """Windows with the channels of the target in its order, or why they cannot be."""
    x = bind_windows(target.spec, windows)
    if x.shape[1:] != target.x.shape[1:]:
        raise DataError.of(
            "window-length",
            f"windows of shape {x.shape[1:]}",
            f"those of the target are {target.x.shape[1:]}",
            "cut all of them alike: the same rate and window length, the same size of pictures",
        )
    return replace(windows, x=x, spec=target.spec)


def _unlabelled(windows: Windows) -> Windows:
    blank = np.full(len(windows), UNLABELLED)
    if windows.y.dtype.kind == "f":
        blank = np.full_like(windows.y, np.nan)
    return replace(windows, y=blank, domains=np.full(len(windows), TARGET))


def _source(windows: Windows, name: str) -> Windows:
    if not name:
        raise DataError.of(
            "source-unnamed",
            "a source without a name",
            "its windows would count as the target's",
            "give every source a name",
        )
    found = windows.take(np.flatnonzero(windows.labelled))
    if not len(found):
        raise DataError.of(
            "source-unlabelled",
            f"{len(windows)} windows without a label",
            "a source domain teaches by its labels",
            "name its column of labels, or give it as the pool (--unlabelled)",
        )
    return replace(found, domains=np.full(len(found), name))


def _names(windows: Windows) -> tuple[str, ...]:
    """A name for every recording number that occurs."""
    if windows.names or not len(windows):
        return windows.names
    return tuple(map(str, range(int(windows.recording.max()) + 1)))
