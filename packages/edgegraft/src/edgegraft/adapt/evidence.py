"""All that is known of a task before heads are fitted: target labels, pool, labelled sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from edgegraft.adapt.expert import normalised
from edgegraft.data.domains import joined, labelled_target, pool_of, sources_of
from edgegraft.tasks.task import Task
from edgegraft_edge.program import Program
from edgegraft_edge.signal import Array, Windows


@dataclass(frozen=True)
class Evidence:
    """Windows after the steps, by what is known of them.

    Attributes:
        steps: program for windows of the target, fitted on its labelled windows and pool.
        classes: names of the classes: those of the target's labels, and those of sources that
            share at least two classes with them (or of all sources where the target has none).
        target: labelled windows of the target; may be none.
        pool: unlabelled windows of the target; may be none.
        sources: labelled windows of each source that shares classes, by name; may be none.
        unrelated: names of sources that were left aside as they share fewer than two classes.
    """

    steps: Program
    classes: tuple[str, ...]
    target: Windows
    pool: Windows
    sources: Mapping[str, Windows]
    unrelated: tuple[str, ...] = ()

    @property
    def codes(self) -> Array:
        """Int (n_labelled,), position of each target label in `classes`."""
        return self.target.codes(self.classes)

    @property
    def own(self) -> Windows:
        """All windows of the target, labelled ones first."""
        return joined(self.target, self.pool)

    @property
    def groups(self) -> Array | None:
        """Groups of the labelled target windows (n_labelled,), where they are known."""
        return self.target.groups if self.target.has_groups else None


def gather(train: Windows, task: Task, normalise: str = "auto", *, per_domain: bool = False
           ) -> Evidence:  # fmt: skip
    """Sort training windows by what is known of them, and run them through the steps.

    Args:
        train: labelled and unlabelled windows of the target, labelled ones of sources, as
            `edgegraft.data.domains` marks them.
        normalise: step by name; its statistics are those of all windows of the target (of the
            sources, where there are none).
        per_domain: fit the step on each source anew, so that level and scale of a source do not
            count (the first layer of AdaBN: Li et al., Revisiting Batch Normalization, 2016).

    Errors: `DataError` "labels-missing" or "one-class", where target and sources together have
    fewer than two classes.

    >>> from edgegraft.tasks.classification import Classification
    >>> x, y = np.random.default_rng(0).normal(size=(6, 1, 8)), ["a", "b", "", "", "a", "b"]
    >>> windows = replace(Windows.of(x, y), domains=np.array(["", "", "", "", "m1", "m1"]))
    >>> found = gather(windows, Classification())
    >>> len(found.target), len(found.pool), list(found.sources), found.classes
    (2, 2, ['m1'], ('a', 'b'))
    """
    target, pool, sources = labelled_target(train), pool_of(train), sources_of(train)
    kept = {
        name: windows
        for name, windows in sources.items()
        if not len(target) or len(set(windows.classes) & set(target.classes)) >= 2
    }
    classes = task.classes(reduce(joined, kept.values(), target))
    own = joined(target, pool)
    steps, own = normalised(own if len(own) else reduce(joined, kept.values()), normalise)
    return Evidence(
        steps,
        classes,
        own.take(np.arange(len(target))),
        own.take(len(target) + np.arange(len(pool))),
        {
            name: normalised(windows, normalise)[1]
            if per_domain
            else replace(windows, x=steps.run(windows.x))
            for name, windows in kept.items()
        },
        tuple(name for name in sources if name not in kept),
    )
