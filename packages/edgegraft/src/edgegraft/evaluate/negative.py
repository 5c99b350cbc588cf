"""Which source hurts, and by how much: before the guard and after it.

*Before* is what a source does when it is taken on trust: a model that uses it naively beside the
target-only reference, both scored on the same left-out windows of the target. *After* is what the
guard makes of all there is, beside the same reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgegraft.evaluate.compare import OutOfFold
from edgegraft.evaluate.verdict import LEVEL, Difference, compare
from edgegraft.evaluate.wording import metric_name
from edgegraft.tasks.task import Task
from edgegraft_edge.signal import Windows

POOL = "the pool"
"""Name of the unlabelled windows among the sources."""


@dataclass(frozen=True)
class SourceEffect:
    """What one source does to the target, in the task's primary metric.

    Attributes:
        source: its name; "the pool" for unlabelled windows of the target.
        before: taken on trust, less the target-only reference.
        after: the guard with everything, less the same reference.
        hurt: whether the interval of `before` lies below zero.
    """

    source: str
    before: Difference
    after: Difference
    hurt: bool

    @property
    def helped(self) -> bool:
        return self.before.low > 0

    @property
    def sentence(self) -> str:
        """What a reader is told, in one line."""
        verb = "hurts" if self.hurt else "helps" if self.helped else "is within chance"
        return (
            f"{self.source} {verb}: taken on trust {_said(self.before)}; "
            f"with the guard {_said(self.after)}"
        )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "sentence": self.sentence}


def effects(
    windows: Windows,
    task: Task,
    *,
    reference: OutOfFold,
    guard: OutOfFold,
    trusting: Mapping[str, OutOfFold],
    n_folds: int,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[SourceEffect, ...]:
    """The effect of each source on the target's left-out windows, the most harmful first.

    Args:
        windows: labelled windows of the target (n_windows, ...), as the tables number them.
        reference: what labels of the target alone give.
        guard: what the guard gives with everything.
        trusting: by source, what a model gives that uses this one without asking: ``pooled``
            with the option ``sources=(name,)``, or ``spread`` for `POOL`.
        n_folds: how many folds the tables come from; intervals are widened for it.

    >>> import numpy as np
    >>> from edgegraft.evaluate.compare import Row
    >>> from edgegraft.adapt.probe import Probe
    >>> from edgegraft.tasks.classification import Classification
    >>> from edgegraft.testing.samples import sample_windows
    >>> from edgegraft.zoo.registry import load_backbone
    >>> windows = sample_windows()
    >>> right = np.eye(3)[windows.codes(windows.classes)]
    >>> row = Row(load_backbone("statistics"), "probe", Probe(), "control")
    >>> good, bad = OutOfFold(row, right, 0.0), OutOfFold(row, right[:, [1, 2, 0]], 0.0)
    >>> (found,) = effects(windows, Classification(), reference=good, guard=good,
    ...     trusting={"load 0": bad}, n_folds=4)
    >>> found.hurt, found.before.mean, found.after.mean
    (True, -1.0, 0.0)
    """

    def against(table: OutOfFold) -> Difference:
        return compare(
            table.probabilities, reference.probabilities, windows, task,
            n_folds=n_folds, level=level, seed=seed,
        )  # fmt: skip

    after = against(guard)
    found = []
    for name, table in trusting.items():
        before = against(table)
        found.append(SourceEffect(name, before, after, before.high < 0))
    return tuple(sorted(found, key=lambda effect: effect.before.mean))


def summed_up(found: tuple[SourceEffect, ...]) -> str:
    """One sentence on all sources: which hurt and by how much, and what the guard left of it.

    >>> summed_up(())
    'no source was given'
    """
    if not found:
        return "no source was given"
    after = f"with the guard {_said(found[0].after)}"
    hurtful = [effect for effect in found if effect.hurt]
    if not hurtful:
        return f"no source hurts beyond chance; {after}"
    told = ", ".join(f"{effect.source} ({_said(effect.before)})" for effect in hurtful)
    return f"negative transfer from {told}, taken on trust; {after}"


def _said(difference: Difference) -> str:
    points, low, high = (
        f"{100 * value:+.1f}".replace("-0.0", "+0.0")
        for value in (difference.mean, difference.low, difference.high)
    )
    what = f"{points} points of {metric_name(difference.metric)}"
    if difference.n_units < 2:
        return what
    return f"{what} ({100 * difference.level:.0f} % interval {low} to {high})"
