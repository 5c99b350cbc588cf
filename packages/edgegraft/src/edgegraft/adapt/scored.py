"""A model together with what it says of labelled windows that were left out of its training."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.leave_out import bundle_blocks, left_out_blocks
from edgegraft.adapt.strategy import Strategy, Watch, unwatched
from edgegraft.data.domains import apart, labelled_target
from edgegraft.fingerprint import fingerprint
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.errors import ModelError
from edgegraft_edge.signal import Array, Windows

KEPT = 24
"""Fitted models that stay in memory; the one unused for longest gives way."""

_memory: OrderedDict[str, Scored] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class Scored:
    """An adapted model and its left-out probabilities.

    Attributes:
        left_out: float64 (n_labelled, n_classes) for the labelled windows of the target in their
            order, columns as the model's classes; each window left out with its whole group
            where groups are known. None where nothing honest can be said.
    """

    adapted: Adapted
    left_out: Array | None


@runtime_checkable
class SelfScoring(Protocol):
    """A strategy that knows its left-out probabilities without being fitted anew."""

    def scored(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Scored: ...


def forget() -> None:
    """Empty the memory of fitted models, so that what comes next is computed and can be timed."""
    with _lock:
        _memory.clear()


def score(
    strategy: Strategy,
    backbone: Backbone,
    train: Windows,
    task: Task,
    *,
    seed: int,
    watch: Watch = unwatched,
    n_parts: int = 5,
) -> Scored:
    """Adapt, and say what the model would have said of each labelled window, had it been left out.

    A strategy that is `SelfScoring` is asked; any other is fitted anew without each of up to
    `n_parts` parts, made of whole groups where groups are known. With a part go all windows of
    its groups, those in the pool and in sources too.

    What was asked last is kept in memory, under a name made of everything that counts: the guard
    and the rows of a comparison ask for the same.

    >>> from edgegraft.adapt.probe import Probe, Trees
    >>> from edgegraft.tasks.classification import Classification
    >>> from edgegraft.testing.samples import sample_windows
    >>> from edgegraft.zoo.registry import load_backbone
    >>> windows, statistics = sample_windows(), load_backbone("statistics")
    >>> found = score(Trees(n_trees=20), statistics, windows, Classification(), seed=0)
    >>> found.left_out.shape == (len(windows), len(windows.classes))
    True
    """
    try:
        key = fingerprint(strategy, backbone, train, type(task).__qualname__, task, seed, n_parts)
    except ModelError:  # what cannot be named is fitted afresh
        return _score(strategy, backbone, train, task, seed, watch, n_parts)
    with _lock:
        if key in _memory:
            _memory.move_to_end(key)
            return _memory[key]
    found = _score(strategy, backbone, train, task, seed, watch, n_parts)
    with _lock:
        _memory[key] = found
        while len(_memory) > KEPT:
            _memory.popitem(last=False)
    return found


def _score(
    strategy: Strategy,
    backbone: Backbone,
    train: Windows,
    task: Task,
    seed: int,
    watch: Watch,
    n_parts: int,
) -> Scored:
    if isinstance(strategy, SelfScoring):
        return strategy.scored(backbone, train, task, seed=seed, watch=watch)
    adapted = strategy.adapt(backbone, train, task, seed=seed, watch=watch)
    target = labelled_target(train)
    classes = adapted.classes
    codes = target.codes(classes)
    groups = target.groups if target.has_groups else None
    blocks = left_out_blocks(codes, groups, len(classes)) if len(target) else []
    if not blocks:
        return Scored(adapted, None)
    rows = np.flatnonzero(train.at_target & train.labelled)
    table = np.zeros((len(target), len(classes)))
    for part in bundle_blocks(blocks, codes, seed, n_parts):
        tested = target.take(part)
        fewer = apart(train.take(np.setdiff1d(np.arange(len(train)), rows[part])), tested)
        said = strategy.adapt(backbone, fewer, task, seed=seed).predict(
            replace(tested, y=np.full(len(tested), ""))
        )
        columns = [classes.index(name) for name in said.classes]
        table[part[:, None], columns] = said.probabilities
    return Scored(adapted, table)
