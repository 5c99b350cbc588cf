"""What adaptation gives: steps, one or several (backbone, head) members, and their history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.cache import embed_cached
from edgegraft_edge.decision import Predictions
from edgegraft_edge.estimate import Outputs
from edgegraft_edge.heads import Head
from edgegraft_edge.program import IDENTITY, Draft, Program
from edgegraft_edge.signal import Spec, Windows

SMALLEST = 1e-6
"""Probabilities below this count as this when a mixture is calibrated."""


class Predictor(Protocol):
    """Anything that says something of windows: an `Adapted`, a loaded bundle, a device."""

    def predict(self, windows: Windows) -> Predictions: ...


@dataclass(frozen=True)
class Member:
    """A backbone with its head, and its weight in the mixture."""

    backbone: Backbone
    head: Head
    weight: float = 1.0


@dataclass(frozen=True)
class Adapted:
    """A model adapted to a device. One member, or a mixture of several.

    Attributes:
        steps: program applied to raw windows first.
        members: what they give is averaged with their weights.
        classes: names of the classes, the columns of the probabilities; or of the estimates.
        spec: the windows it takes.
        lineage: how it came about (strategy, options, seed, backbone cards), plain JSON values.
        temperature: what the logarithm of the mixture is divided by; 1 leaves it as it is.
        outputs: what the columns are, where they are estimates.
    """

    steps: Program
    members: tuple[Member, ...]
    classes: tuple[str, ...]
    spec: Spec
    lineage: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    outputs: Outputs | None = None

    def predict(self, windows: Windows) -> Predictions:
        """Class probabilities, or estimates, of windows."""
        x = self.steps.run(windows.x)
        kept = self.spec.kind == "image"  # the same pictures are asked for by several rows
        total = sum(
            m.weight * m.head.scores(embed_cached(m.backbone, x) if kept else m.backbone.embed(x))
            for m in self.members
        )
        scores = self._calibration.run(np.asarray(total, dtype=np.float32))
        return Predictions(self.classes, scores, self.outputs)

    @cached_property
    def program(self) -> Program:
        """The whole way from a raw window to probabilities or estimates, as the device runs it."""
        draft = Draft()
        x = draft.call(self.steps)
        total = ""
        for member in self.members:
            embedding = member.backbone.program(*self.spec.shape)
            scores = draft.call(member.head.program(), draft.call(embedding, x))
            if len(self.members) > 1:
                scores = draft.add("mul", scores, np.float32(member.weight))
            total = draft.add("add", total, scores) if total else scores
        return draft.finish(draft.call(self._calibration, total))

    @cached_property
    def _calibration(self) -> Program:
        if self.temperature == 1.0:
            return IDENTITY
        draft = Draft()
        logs = draft.add("log", draft.add("maximum", "x", np.float32(SMALLEST)))
        cooled = draft.add("mul", logs, np.float32(1 / self.temperature))
        return draft.finish(draft.add("softmax", cooled, axis=-1))
