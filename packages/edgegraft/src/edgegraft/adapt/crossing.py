"""From machines that ran to failure to others that run differently or fail in another way.

What is learned of the sources is only asked where they have something to say: a channel that goes,
on the target, where it never went on the sources tells of something they do not know, and is left
out. Whether to go by the channels themselves or by their drift from the own beginning, and with or
without age, is a matter of what the machines share; so learners of every such view are blended,
evenly where no target is labelled, and by the few labelled target units as far as these go.

Only the windows of the target are needed for the choice of channels, not their labels: those of its
pool are used where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgegraft.adapt.estimating import (
    Learner,
    Material,
    blend_shares,
    blended,
    material_of,
    outputs_of,
)
from edgegraft.adapt.interval import fit_offsets
from edgegraft.adapt.trends import SHARES, Layout, Seen
from edgegraft.tasks.task import Task
from edgegraft_edge.program import Program, chain
from edgegraft_edge.signal import Array, Windows, series_spec

TAILS = (0.001, 0.999)
MARGIN = 0.25
"""Of the sources' range: so far beyond it a value counts as known to them."""
STRANGE = 0.02
"""Share of target windows beyond that from which a channel is left out."""
MOST_ROWS = 8000

Fit = Callable[[Material, Layout], Sequence[Learner]]


@dataclass(frozen=True)
class Crossed:
    """The program to the columns of the task, and how it came about."""

    program: Program
    lineage: Mapping[str, Any]


def cross(train: Windows, task: Task, fit: Fit, *, n_folds: int, seed: int) -> Crossed:
    """Learn from the labelled sources in `train` for its target.

    Args:
        train: labelled windows of sources, and windows of the target with or without labels.
        fit: gives learners for a material and a layout.

    Errors: as of `Task.classes` for the sources.
    """
    outputs = outputs_of(task)
    own = train.take(np.flatnonzero(train.at_target))
    labelled = own.take(np.flatnonzero(own.labelled))
    sources = train.take(np.flatnonzero(train.labelled & ~train.at_target))
    task.classes(sources)
    step = -(-len(sources) // MOST_ROWS)
    sources = sources.take(np.arange(0, len(sources), step))
    groups = np.char.add(np.char.add(sources.domains.astype(str), "/"), sources.groups.astype(str))
    known = material_of(replace(sources, groups=groups), task, n_folds, seed)
    learners: list[Learner] = []
    names = [channel.name for channel in series_spec(train.spec).channels]
    told = []
    for layout in views(Layout.of(series_spec(train.spec).channels)):
        kept = familiar(Seen.of(known.windows.x, layout), Seen.of(own.x, layout))
        if not len(kept):
            continue
        found = fit(known, layout.only(kept.tolist()))
        learners += found
        told += [
            {"centred": layout.centred, "alone": bool(layout.alone)} | dict(each.chosen)
            for each in found
        ]
        left = sorted({names[place] for n, place in enumerate(layout.base) if n not in set(kept)})
        told[-1]["left_out_channels"] = left
    shares = np.full(len(learners), 1 / len(learners))
    table = np.stack([each.left_out for each in learners], axis=1)
    y_own, ours, units = np.zeros(0), np.zeros((0, len(learners))), np.zeros(0, dtype="<U1")
    if len(labelled):
        y_own = np.asarray(labelled.y, dtype=np.float64).reshape(len(labelled), -1)[:, 0]
        said = [each.program.run(labelled.x)[:, 0] for each in learners]
        ours = known.clipped(np.stack(said, axis=1))
        units = labelled.groups if labelled.has_groups else labelled.recording.astype(str)
        _, place, count = np.unique(units, return_inverse=True, return_counts=True)
        shares = blend_shares(ours, y_own, len(count), weights=1 / count[place])
    program = blended([each.program for each in learners], shares, known.low, known.high)
    tested = known.tested
    mine = np.char.add("target/", units.astype(str)) if len(units) else units
    offsets = fit_offsets(
        np.r_[(table @ shares)[tested], ours @ shares],
        np.r_[known.y[tested], y_own],
        outputs.levels,
        np.r_[known.windows.groups[tested], mine],
        emphasised=np.r_[np.zeros(len(tested), bool), np.ones(len(y_own), bool)],
    )
    lineage = {
        "sources": known.n_units,
        "target_units": len(set(units.tolist())),
        "learners": told,
        "shares": [round(float(share), 4) for share in shares],
    }
    return Crossed(chain(program, offsets.program(known.low, known.high)), lineage)


def views(layout: Layout) -> tuple[Layout, ...]:
    """The ways to look at a machine: by its channels or their drift, with and without the rest."""
    found = [layout, replace(layout, centred=True)] if layout.starts else [layout]
    if layout.alone:
        found += [replace(each, alone=()) for each in found]
    return tuple(found)


def familiar(sources: Seen, target: Seen) -> Array:
    """Positions of the channels that stay, on the target, where the sources were too.

    >>> def seen(*values: float) -> Seen:
    ...     views = np.tile(np.float32(values), (50, 4, 1))
    ...     return Seen(views + np.linspace(0, 1, 50, dtype=np.float32)[:, None, None],
    ...                 np.zeros((50, 0)))
    >>> familiar(seen(0.0, 0.0), seen(0.1, 3.0)).tolist()
    [0]
    """
    place = len(SHARES) - 1
    low, high = np.quantile(sources.views[:, place], TAILS, axis=0)
    room = MARGIN * (high - low) + 1e-9 * (1 + np.abs(high))
    values = target.views[:, place]
    outside = ((values < low - room) | (values > high + room)).mean(axis=0)
    return np.flatnonzero(outside < STRANGE)
