"""The next windows to label: views of all windows, whether doubt counts, and the choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgegraft.adapt.active import Projection, facility, margin, tells_errors
from edgegraft.adapt.committee import Committee, convene
from edgegraft.adapt.expert import normalised
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.cache import embed_cached
from edgegraft_edge.errors import DataError, EdgegraftError
from edgegraft_edge.signal import Array, Windows

ENOUGH = 5
"""Labels per class, on average, from which doubt counts: before, coverage teaches more."""
_FITTED, _AT_ONCE = 2000, 2000
By = Literal["coverage", "doubt"]


@dataclass(frozen=True)
class Doubt:
    """The committee, where labels of two classes are known; whether its doubt counts, and why."""

    committee: Committee | None
    by: By
    because: str

    @property
    def worth(self) -> Array | None:
        """How much it counts to stand for each window (n_windows,); None where all count alike."""
        if self.committee is None or self.by == "coverage":
            return None
        return margin(self.committee.mean)


def views_of(
    windows: Windows, backbones: Sequence[Backbone], *, seed: int = 0
) -> tuple[Mapping[str, Array], tuple[str, ...]]:
    """Projected embeddings (n_windows, n_components) by backbone, and notes on those that cannot.

    Backbones and step are bound to at most 2,000 of the windows, labels aside; the others are
    embedded some at a time, so that a pool of any size fits into memory.

    Errors: `DataError` "no-backbone" where none can take these windows.
    """
    random = np.random.default_rng(seed)
    some = windows.take(np.sort(random.permutation(len(windows))[:_FITTED]))
    steps, fitted = normalised(some, "auto")
    views: dict[str, Array] = {}
    notes = []
    for each in backbones:
        try:
            bound = each.fit(fitted, seed=seed)
            project = Projection.of(embed_cached(bound, fitted.x))
            parts = []
            for first in range(0, len(windows), _AT_ONCE):
                x = steps.run(windows.x[first : first + _AT_ONCE])
                parts.append(project(embed_cached(bound, x)))
        except EdgegraftError as error:
            problem = error.problems[0]
            notes.append(f"{each.card.name} cannot be used: {problem.found}: {problem.why}")
            continue
        views[each.card.name] = np.concatenate(parts)
    if not views:
        raise DataError.of(
            "no-backbone",
            "; ".join(notes),
            "no backbone can take these windows",
            "longer windows, or another backbone",
        )
    return views, tuple(notes)


def choose(
    windows: Windows,
    views: Sequence[Array],
    z: Array,
    count: int,
    *,
    allowed: Array | None = None,
    seed: int = 0,
) -> tuple[Array, Array, Doubt]:
    """Positions of the next windows, what each adds, and what was thought of doubt.

    Args:
        views: projected embeddings (n_windows, n_components) as of `views_of`; z: them fused.
        allowed: bool (n_windows,), which may be chosen; those without a label unless given.

    >>> windows = Windows.of(np.zeros((6, 1, 8)), y=["a", "", "", "", "", ""])
    >>> z = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]], dtype=np.float32)
    >>> chosen, gains, doubt = choose(windows, [z], z, 1)
    >>> chosen.tolist(), doubt.by
    ([4], 'coverage')
    """
    found = doubt_of(windows, views, z)
    chosen, gains = facility(
        z,
        np.flatnonzero(windows.labelled),
        count,
        allowed=~windows.labelled if allowed is None else allowed,
        worth=found.worth,
        shares=_shares(windows),
        seed=seed,
    )
    return chosen, gains, found


def doubt_of(windows: Windows, views: Sequence[Array], z: Array) -> Doubt:
    """What the committee says, and whether its doubt counts: see `choose`."""
    known = np.flatnonzero(windows.labelled)
    classes = windows.classes
    if len(classes) < 2:
        because = "no labels of two classes yet: windows that stand for most others"
        return Doubt(None, "coverage", because)
    target = windows.take(known)
    codes = target.codes(classes)
    groups = target.groups if target.has_groups else None
    said = convene(views, z, known, codes, len(classes), groups=groups)
    each = len(known) / len(classes)
    if each < ENOUGH:
        return Doubt(
            said,
            "coverage",
            f"{each:.1f} labels per class: below {ENOUGH}, windows that stand for most others "
            "teach more than those in doubt",
        )
    because = f"{each:.1f} labels per class"
    if said.left_out is not None:
        kept = np.isfinite(said.left_out[:, 0])
        table = said.left_out[kept]
        wrong = table.argmax(axis=1) != codes[kept]
        told = tells_errors(margin(table), wrong)
        because += f"; left-out accuracy {1 - wrong.mean():.2f}"
        if told is not None and told <= 0.5:
            because += ", and doubt does not tell right from wrong there"
            return Doubt(said, "coverage", because)
        if told is not None:
            because += f", where doubt tells right from wrong {100 * told:.0f} times of 100"
    return Doubt(said, "doubt", because)


def _shares(windows: Windows) -> Array:
    """Recording and place in it, in lengths of a window, as `facility` takes them."""
    length = windows.spec.shape[-1] if windows.spec.kind in ("series", "audio") else 1
    return np.stack([windows.recording.astype(float), windows.start / length], axis=1)
