"""Whole adapted models mixed: their probabilities averaged with fixed weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from edgegraft.adapt.adapted import Adapted
from edgegraft.passes.common import merge_common
from edgegraft_edge.decision import Predictions
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Windows


@dataclass(frozen=True)
class Mixture(Adapted):
    """A mixture of adapted models, each with its own steps and classes; see `mix`.

    Attributes:
        parts: the models.
        shares: their weights, summing to one.
    """

    parts: tuple[Adapted, ...] = ()
    shares: tuple[float, ...] = ()

    def predict(self, windows: Windows) -> Predictions:
        total = sum(
            share * (part.predict(windows).probabilities @ _columns(part, self.classes))
            for part, share in zip(self.parts, self.shares, strict=True)
        )
        scores = self._calibration.run(np.asarray(total, dtype=np.float32))
        return Predictions(self.classes, scores, self.outputs)

    @cached_property
    def program(self) -> Program:
        draft, total = Draft(), ""
        for part, share in zip(self.parts, self.shares, strict=True):
            scores = draft.call(part.program)
            if part.classes == self.classes:
                scores = draft.add("mul", scores, np.float32(share))
            else:
                scores = draft.add("matmul", scores, share * _columns(part, self.classes))
            total = draft.add("add", total, scores) if total else scores
        return merge_common(draft.finish(draft.call(self._calibration, total)))


def mix(parts: Sequence[Adapted], shares: Sequence[float], lineage: Mapping[str, Any]) -> Adapted:
    """The models with a share above zero, mixed; the model itself where only one is left.

    Classes are those of all parts; a part gives a class that it does not know probability zero.

    Args:
        shares: weights, not negative; they are scaled to sum to one.

    >>> from edgegraft.adapt.probe import Probe
    >>> from edgegraft.tasks.classification import Classification
    >>> from edgegraft.testing.samples import sample_windows
    >>> from edgegraft.zoo.registry import load_backbone
    >>> windows, backbone = sample_windows(), load_backbone("statistics")
    >>> model = Probe().adapt(backbone, windows, Classification(), seed=0)
    >>> mix([model, model], [1.0, 3.0], {}).shares
    (0.25, 0.75)
    """
    kept = [(part, share) for part, share in zip(parts, shares, strict=True) if share > 0]
    total = sum(share for _, share in kept)
    if len(kept) == 1:
        return replace(kept[0][0], lineage=lineage)
    members = tuple(
        replace(member, weight=member.weight * share / total)
        for part, share in kept
        for member in part.members
    )
    return Mixture(
        steps=kept[0][0].steps,
        members=members,
        classes=tuple(sorted({name for part, _ in kept for name in part.classes})),
        spec=kept[0][0].spec,
        lineage=lineage,
        parts=tuple(part for part, _ in kept),
        shares=tuple(share / total for _, share in kept),
    )


def _columns(part: Adapted, classes: Sequence[str]) -> Array:
    """Float32 (n_classes of the part, n_classes): which class of the part is which of all."""
    found = np.zeros((len(part.classes), len(classes)), dtype=np.float32)
    for row, name in enumerate(part.classes):
        found[row, list(classes).index(name)] = 1.0
    return found
