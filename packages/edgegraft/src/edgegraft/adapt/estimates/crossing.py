"""From machines that ran to failure to others that run differently or fail in another way.

What is learned of the sources is only asked where they have something to say: a channel that goes,
on the target, where it never went on the sources, or where the other channels do not foretell it,
tells of something they do not know, and is left out. Channels are read as drift from the own
beginning where that is known. Whether age says the same on both is not known, so learners with and
without it are blended, evenly where no target is labelled, and by the few labelled target units
as far as these go.

Only the windows of the target are needed for the choice of channels, not their labels: those of its
pool are used where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgegraft.adapt.estimates.estimating import (
    Learner,
    Material,
    blend_shares,
    blended,
    material_of,
    outputs_of,
)
from edgegraft.adapt.estimates.interval import fit_offsets
from edgegraft.adapt.estimates.trends import SHARES, Layout, Seen
from edgegraft.tasks.task import Task
from edgegraft_edge.program import Program, chain
from edgegraft_edge.signal import Array, Windows, series_spec

TAILS = (0.001, 0.999)
MARGIN = 0.25
"""Of the sources' range: so far beyond it a value counts as known to them."""
STRANGE = 0.005
"""Share of target windows beyond that from which a channel is left out."""
DAMPING = 0.1
"""Added to the variance of scaled channels, so that those that say the same do not cancel."""
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
    """The ways to look at a machine, with and without what is no measured channel, as age.

    Where beginnings are known, channels are told as drift: machines differ in where they begin.
    """
    drift = replace(layout, centred=bool(layout.starts))
    return (drift, replace(drift, alone=())) if layout.alone else (drift,)


def familiar(sources: Seen, target: Seen) -> Array:
    """Positions of the channels that behave, on the target, as on the sources.

    Left out is what goes where it never went on the sources; then, one after the other, what goes
    far from what the other channels there foretell. (The residual given all others comes from the
    inverse of their covariance.)

    >>> def seen(a, b, c) -> Seen:
    ...     rows = np.stack([a, b, c], axis=1).astype(np.float32)
    ...     return Seen(np.repeat(rows[:, None], 4, axis=1), np.zeros((len(rows), 0)))
    >>> rng = np.random.default_rng(0)
    >>> t, noise = np.linspace(0, 1, 200), 0.05 * rng.normal(size=(3, 200))
    >>> familiar(seen(*(t + noise)), seen(*(t + noise))).tolist()
    [0, 1, 2]
    >>> familiar(seen(*(t + noise)), seen(t, t, 1 - t)).tolist()
    [0, 1]
    """
    place = len(SHARES) - 1
    rows = sources.views[:, place].astype(np.float64)
    asked = target.views[:, place].astype(np.float64)
    kept = np.flatnonzero(_outside(rows, asked) < STRANGE)
    level, scale = rows.mean(axis=0), rows.std(axis=0)
    live = scale > 1e-6 * (1 + np.abs(level))
    scale = np.where(live, scale, 1.0)
    rows, asked = (rows - level) / scale, (asked - level) / scale
    still = kept[~live[kept]]
    moving = kept[live[kept]]
    while len(moving) > 2:
        covariance = np.cov(rows[:, moving].T) + DAMPING * np.eye(len(moving))
        inverse = np.linalg.inv(covariance)
        inverse /= np.diag(inverse)
        strange = _outside(rows[:, moving] @ inverse, asked[:, moving] @ inverse)
        if strange.max() < STRANGE:
            break
        moving = np.delete(moving, strange.argmax())
    return np.sort(np.r_[still, moving])


def _outside(rows: Array, asked: Array) -> Array:
    """Share of `asked` (n, n_channels) beyond the range of `rows`, by channel."""
    low, high = np.quantile(rows, TAILS, axis=0)
    room = MARGIN * (high - low) + 1e-9 * (1 + np.abs(high))
    return np.asarray(((asked < low - room) | (asked > high + room)).mean(axis=0))
