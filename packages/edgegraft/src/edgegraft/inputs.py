"""What a run learns from and is tested on: target labels, pool, sources and test data, bound."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from edgegraft.data.dataset import Dataset, open_data, open_like
from edgegraft.data.domains import beside, joined, pool_of, sources_of
from edgegraft.data.question import Question
from edgegraft.data.split import few_shot
from edgegraft.data.task_checks import trouble_of
from edgegraft.tasks.task import Task
from edgegraft_edge.errors import DataError, EdgegraftError, OptionError, Problem
from edgegraft_edge.signal import Array, Spec, Windows, WindowSpec
from edgegraft_edge.windowing import bind_windows

Data = str | PathLike[str] | Windows | Dataset
Sources = Data | Sequence[Data] | Mapping[str, Data]
REST = "rest"
"""Instead of a place: the windows of the data that are not used as labelled ones."""
IN_MEMORY = "(windows in memory)"
OPTIONAL = {"label": ("group", "label"), "group": ("group",)}


@dataclass(frozen=True)
class Inputs:
    """All that was given, opened, bound to one spec and told apart.

    Attributes:
        windows: labelled windows of the target; may be none where there are sources.
        beside: pool and sources, as `edgegraft.data.domains` marks them; may be none.
        tested: windows for the final scores.
        task: as the labels settle it.
        notes: what is not as it was asked for, or as one would expect.
    """

    windows: Windows
    beside: Windows
    tested: Windows | None
    task: Task
    notes: tuple[str, ...] = ()

    @property
    def everything(self) -> Windows:
        """All that a model may learn from."""
        return joined(self.windows, self.beside) if len(self.beside) else self.windows


def open_inputs(
    data: Data,
    task: Task,
    *,
    unlabelled: Data | None = None,
    sources: Mapping[str, Data] | None = None,
    test: Data | None = None,
    transductive: bool = False,
    labels_per_class: int | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Inputs:
    """Open all that is given; what does not fit is said of everything at once.

    Windows of the pool and of sources that share a group or a sample with the test data are left
    out, and a note says so; with `transductive` windows of the test data join the pool.

    Errors: `DataError`, `OptionError`: see `edgegraft.workflow.adapt`.
    """
    _check_asked(task, unlabelled, sources, test, transductive)
    data = opened(data, options)
    everything = cut(data, task)
    task = task.bound(everything)
    everything = task.relabelled(everything)
    rows = _rows(everything, task, labels_per_class, seed, bool(sources))
    windows, rest = everything.take(rows), _rest(everything, rows, unlabelled)
    with _gathering() as attempt:
        like = windows.spec if task.outputs is None else None
        given = attempt("the test data", lambda: opened(test, options, like))
        tested = attempt("the test data", lambda: _tested(windows, given, task))
        pool = (
            None
            if unlabelled is None or _is_rest(unlabelled)
            else attempt(
                "the pool", lambda: _around(unlabelled, options, windows.spec, "label", task)
            )
        )
        found = {
            name: attempt(
                f"source {name!r}", lambda of=of: _around(of, options, windows.spec, "group", task)
            )
            for name, of in (sources or {}).items()
        }
        fitting = attempt(
            "",
            lambda: beside(
                windows,
                pool,
                {name: each for name, each in found.items() if each is not None},
                rest=rest,
            ),
        )
    notes = (*_set_aside(data), *_set_aside(given), *_on_both_sides(windows, tested))
    if tested is not None:
        fitting, said = _unseen(fitting, tested, windows, transductive)
        notes = (*notes, *said)
    if transductive and tested is not None:
        fitting = joined(fitting, beside(joined(windows, fitting), tested))
        notes = (*notes, f"transductive: {len(tested)} windows of the test data are in the pool, "
                 "so the scores hold for these windows and not for new ones")  # fmt: skip
    remarks = getattr(task, "remarks", None)
    if remarks is not None:
        notes = (*notes, *remarks(windows, fitting))
    notes = (*notes, *_troubling(data, everything, task, notes))
    return Inputs(windows, fitting, tested, task, notes)


def named_sources(source: Sources | None) -> dict[str, Data]:
    """Sources by name; one without a name is called as its file or folder, or by its number.

    A text may be ``NAME=PLACE``.

    >>> named_sources(["load 0=machines/one.npz", "machines/two.npz", "synthetic:n=60,seed=1"])
    {'load 0': 'machines/one.npz', 'two': 'machines/two.npz', 'synthetic': 'synthetic:n=60,seed=1'}
    """
    if source is None:
        return {}
    if isinstance(source, Mapping):
        return {str(name): each for name, each in source.items()}
    given = [source] if isinstance(source, str | PathLike | Windows | Dataset) else list(source)
    found: dict[str, Data] = {}
    for number, each in enumerate(given, 1):
        name, place = _split(each)
        name = name or f"source {number}"
        found[name if name not in found else f"{name} {number}"] = place
    return found


def open_windows(
    data: Data, options: Mapping[str, Any] | None = None, spec: Spec | None = None
) -> Windows:
    """Windows of anything that counts as data: a place, an opened data set, or windows.

    A place is opened as a model of `spec` takes it, where one is given.
    """
    if isinstance(data, Windows):
        return data
    found: Dataset = opened(data, options, spec)
    return found.windows()


def cut(data: Any, task: Task) -> Windows:
    """Windows as the task cuts them; those that are there already are as they are."""
    return data if isinstance(data, Windows) else task.windows(data)


def opened(data: Any, options: Mapping[str, Any] | None, spec: Spec | None = None) -> Any:
    """A place is opened; all else is as it was."""
    if data is None or isinstance(data, Windows | Dataset):
        return data
    if spec is None:
        return open_data(fspath(data), **(options or {}))
    return open_like(fspath(data), spec, **(options or {}))


def place_of(data: Data) -> str:
    """What a recipe says of data: its place, where it has one."""
    if isinstance(data, Dataset):
        return data.uri
    return IN_MEMORY if isinstance(data, Windows) else fspath(data)


def typical(inputs: Inputs, count: int) -> Array:
    """Raw windows of the target (about `count`): labelled ones of every class, then of its pool.

    They are what ranges of 8-bit values are read from, and what runtimes are compared on.
    """
    windows, found = inputs.windows, []
    if len(windows) and inputs.task.outputs is None:
        per_class = max(1, count // max(1, len(windows.classes)))
        found.append(windows.x[few_shot(windows, per_class, seed=0)][: 4 * count])
    if len(windows) and inputs.task.outputs is not None:
        return np.asarray(windows.x[np.linspace(0, len(windows) - 1, count).astype(int)])
    pool = pool_of(inputs.beside)
    missing = count - sum(map(len, found))
    if len(pool) and missing > 0:
        found.append(pool.x[np.unique(np.linspace(0, len(pool) - 1, missing).astype(int))])
    return np.concatenate(found)


# -- what is asked


def _check_asked(task: Task, unlabelled: Any, sources: Any, test: Any, transductive: bool) -> None:
    problems = []
    if task.name == "anomaly" and unlabelled is not None:
        problems.append(
            Problem(
                "task-transfer",
                f"a pool for the task {task.name!r}",
                "what is normal is learned from windows that are known to be",
                "leave it out: all normal recordings are given as the data",
            )
        )
    if transductive and test is None:
        problems.append(
            Problem(
                "transductive-test",
                "transductive without test data",
                "it is the windows of the test data that join the pool",
                "--test DATA, or without --transductive",
            )
        )
    if problems:
        raise OptionError(problems)


def _split(each: Data) -> tuple[str, Data]:
    """Name and place of a source."""
    place = place_of(each)
    if isinstance(each, str):
        found = re.fullmatch(r"([^=:/\\]+)=(.+)", each)
        if found and not Path(each).exists():
            return found[1].strip(), found[2]
    if place in ("", IN_MEMORY):
        return "", each
    kind = re.match(r"([\w-]{2,}):", place)
    return (kind[1] if kind else Path(place).stem), each


def _is_rest(unlabelled: Any) -> bool:
    return isinstance(unlabelled, str) and unlabelled == REST


# -- the target


def _rows(
    everything: Windows, task: Task, labels_per_class: int | None, seed: int, has_sources: bool
) -> Array:
    """Positions of the labelled windows that are used; none only where sources can teach."""
    rows = np.flatnonzero(everything.labelled)
    if task.outputs is not None and labels_per_class is not None:
        raise OptionError.of(
            "task-labels",
            f"{labels_per_class} labels per class for the task {task.name!r}",
            "it estimates numbers and has no classes",
            "leave it out, or give fewer recordings",
        )
    if has_sources and (not len(rows) or labels_per_class == 0):
        return rows[:0]
    task.classes(everything.take(rows) if len(rows) else everything)
    if labels_per_class is None:
        return rows
    return np.asarray(rows[few_shot(everything.take(rows), labels_per_class, seed=seed)])


def _rest(everything: Windows, rows: Array, unlabelled: Any) -> Windows | None:
    """The windows that are not used as labelled ones, where they are the pool.

    Without a single label they always are: else the data would serve for nothing.
    """
    if not _is_rest(unlabelled) and len(rows):
        return None
    rest = everything.take(np.setdiff1d(np.arange(len(everything)), rows))
    if not len(rest):
        raise DataError.of(
            "rest-empty",
            f"all {len(everything)} windows are used with their labels",
            "nothing is left over for the pool",
            "--labels-per-class N with --unlabelled rest, or other windows as --unlabelled POOL",
        )
    return rest


# -- what stands beside it


def _around(
    data: Any, options: Mapping[str, Any] | None, spec: Spec, optional: str, task: Task
) -> Windows:
    """Windows beside the target, opened alike.

    A pool need not have the columns of labels and groups that are named for the target, a source
    not that of groups.
    """
    names = [name for name in OPTIONAL[optional] if (options or {}).get(name) is not None]
    attempts = [(), *((name,) for name in names), tuple(names)]
    first: DataError | None = None
    for left_out in dict.fromkeys(attempts):
        kept = {name: value for name, value in (options or {}).items() if name not in left_out}
        try:
            found = (
                open_windows(data, kept, spec)
                if task.outputs is None
                else task.relabelled(cut(opened(data, kept), task))
            )
            if task.name == "anomaly":  # machines of the kind: their normal windows teach
                found = task.relabelled(found)
        except DataError as error:
            first = first or error
            if {problem.code for problem in error.problems} != {"column-missing"}:
                raise first from error
            continue
        if not len(found):
            raise DataError.of("pool-empty", "no windows at all", "there is nothing in it", "more")
        return found
    assert first is not None
    raise first


def _tested(windows: Windows, given: Any, task: Task) -> Windows | None:
    """Test windows with the channels of the training windows, bound by name.

    Errors: `DataError` with every channel, unit or rate that does not fit, ``test-differs``, or
    ``test-unlabelled``.
    """
    if given is None:
        return None
    estimates = task.outputs is not None
    own = estimates or task.name == "anomaly"
    tested = task.relabelled(cut(given, task)) if own else open_windows(given)
    x = bind_windows(windows.spec, tested)
    if x.shape[1:] != windows.x.shape[1:]:
        raise DataError.of(
            "test-differs",
            f"test windows of shape {x.shape[1:]}",
            f"training windows have {windows.x.shape[1:]}",
            "cut both alike: the same rate and window length, the same size of pictures",
        )
    spec = tested.spec
    if isinstance(spec, WindowSpec) and isinstance(windows.spec, WindowSpec):
        spec = replace(spec, channels=windows.spec.channels)
    if not tested.labelled.any():
        raise DataError.of(
            "test-unlabelled",
            f"none of {len(tested)} test windows carries a label",
            "scores compare what is predicted with labels",
            "label them, or give them as the pool (--unlabelled)",
        )
    bound = replace(tested, x=x, spec=spec)
    return bound if estimates else task.relabelled(bound)


def _unseen(
    around: Windows, tested: Windows, windows: Windows, transductive: bool
) -> tuple[Windows, tuple[str, ...]]:
    """Pool and sources without what the test data holds too, and a note of what went.

    Where the test data is in the pool on purpose, only sources lose anything: they have labels.
    Groups that labelled windows of the target share with the test data are not unseen anyway.

    Errors: `DataError` ``pool-tested`` or ``source-tested`` where nothing is left of it.
    """
    exposed = ~around.at_target if transductive else np.ones(len(around), dtype=bool)
    groups = sorted(set(tested.groups.tolist()) - {"", *windows.groups.tolist()})
    shared = exposed & np.isin(around.groups, groups)
    known = {window.tobytes() for window in tested.x} if len(around) else set()
    same = exposed & ~shared
    same[same] = [window.tobytes() in known for window in around.x[same]]
    left = around.take(~(shared | same))
    problems = [
        Problem(
            f"{kind}-tested",
            f"every window of the {kind} is in the test data too, or of its groups",
            "nothing may be learned from what is tested",
            "windows of other people or machines"
            + (", or --transductive" if kind == "pool" else ""),
        )
        for kind, before, after in (
            ("pool", len(pool_of(around)), len(pool_of(left))),
            ("source", len(sources_of(around)), len(sources_of(left))),
        )
        if before and not after
    ]
    if problems:
        raise DataError(problems)
    notes = []
    if shared.any():
        names = sorted(set(around.groups[shared].tolist()))
        notes.append(
            f"{int(shared.sum())} windows of pool and sources were left out, as the test data "
            f"holds their groups: {_some(names)}"
        )
    if same.any():
        notes.append(
            f"{int(same.sum())} windows of pool and sources were left out, as the test data "
            "holds the same windows"
        )
    return left, tuple(notes)


# -- what is said


def _set_aside(data: Any) -> tuple[str, ...]:
    """What of the data could not be used, in a sentence; nothing where nothing was lost."""
    note = data.account.note if isinstance(data, Dataset) else ""
    return (note,) if note else ()


def _troubling(data: Any, windows: Windows, task: Task, told: Sequence[str]) -> tuple[str, ...]:
    """What the doctor would call trouble for this task, told though nobody asked, once."""
    asked = Question.of(task)
    if asked is None or not isinstance(data, Dataset) or windows.spec.kind != "series":
        return ()
    return tuple(
        f"{said}; edgegraft doctor --task {task.name} says more"
        for code, said in trouble_of(data, windows, asked)
        if not any(code in note for note in told)
    )


def _on_both_sides(windows: Windows, tested: Windows | None) -> tuple[str, ...]:
    """What test data shares with training, which makes its scores too good."""
    if tested is None:
        return ()
    groups = sorted(set(windows.groups.tolist()) & set(tested.groups.tolist()) - {""})
    if groups:
        return (f"in training and in test, so the scores flatter: {_some(groups)}",)
    known = {window.tobytes() for window in windows.x}
    same = sum(window.tobytes() in known for window in tested.x)
    return (f"{same} test windows are in training too, so the scores flatter",) if same else ()


def _some(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


@contextmanager
def _gathering() -> Iterator[Callable[..., Any]]:
    """Attempts that fail are remembered, and said together at the end.

    After one that failed, an attempt that gives None instead is none of the reader's business.
    """
    errors: list[EdgegraftError] = []

    def attempt(whose: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except EdgegraftError as error:
            told = [
                replace(each, found=f"{whose}: {each.found}") if whose else each
                for each in error.problems
            ]
            errors.append(type(error)(told))
            return None

    yield attempt
    if errors:
        raise type(errors[0])(chain.from_iterable(error.problems for error in errors))
