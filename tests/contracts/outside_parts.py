"""An imagined outside package: a backbone, a strategy and a source, in one module.

The tests import it as a module to try the published checks on, and install it with entry points
of its own to see that it enters the product by them alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgegraft.adapt.adapted import Adapted, Member
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.data.account import RowAccount
from edgegraft.data.dataset import Dataset
from edgegraft.data.source import DataOptions
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone, BackboneCard
from edgegraft_edge.errors import DataError
from edgegraft_edge.heads import LinearHead
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Channel, LabelSpan, Recording, Windows
from edgegraft_edge.steps import standard


@dataclass(frozen=True)
class Levels:
    """Mean, deviation and roughness of each channel."""

    gain: float = field(default=1.0, metadata={"help": "Factor on all features."})

    @property
    def card(self) -> BackboneCard:
        return BackboneCard("levels", "levels", "Mean, deviation, roughness", "fixed", "MIT")

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Levels:
        return cls(**card.options)

    def fit(self, windows: Windows, *, seed: int) -> Levels:
        return self

    def embed(self, x: Array) -> Array:
        rough = np.abs(np.diff(x, axis=2)).mean(axis=2)
        parts = [x.mean(axis=2), np.sqrt(x.var(axis=2) + 1e-6), rough]
        return (self.gain * np.concatenate(parts, axis=1)).astype(np.float32)

    def program(self, *shape: int) -> Program:
        n_timepoints = shape[-1]
        draft = Draft()
        mean = draft.add("mean", "x", axes=[2])
        centred = draft.add("sub", "x", mean)
        power = draft.add("mean", draft.add("mul", centred, centred), axes=[2])
        spread = draft.add("sqrt", draft.add("add", power, np.float32(1e-6)))
        later = draft.add("slice", "x", axis=2, start=1, stop=n_timepoints)
        sooner = draft.add("slice", "x", axis=2, start=0, stop=n_timepoints - 1)
        rough = draft.add("mean", draft.add("abs", draft.add("sub", later, sooner)), axes=[2])
        flat = draft.add("reshape", draft.add("concat", mean, spread, rough, axis=1), shape=[-1])
        return draft.finish(draft.add("mul", flat, np.float32(self.gain)))


@dataclass(frozen=True)
class NearestMean:
    """The class whose mean embedding is nearest; a linear head in disguise."""

    sharpness: float = field(default=4.0, metadata={"help": "How sure it is of near and far."})

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        windows = train.take(train.labelled)
        classes = task.classes(windows)
        steps = standard(windows.x)
        x = steps.run(windows.x)
        bound = backbone.fit(Windows.of(x, rate_hz=train.spec.rate_hz), seed=seed)
        z = bound.embed(x).astype(np.float64)
        spread = z.std(axis=0) * np.sqrt(z.shape[1]) + 1e-6
        codes = windows.codes(classes)
        means = np.stack([z[codes == code].mean(axis=0) / spread for code in range(len(classes))])
        weight = 2 * self.sharpness * means.T / spread[:, None]
        bias = -self.sharpness * (means**2).sum(axis=1)
        head = LinearHead(weight.astype(np.float32), bias.astype(np.float32))
        watch("means", {"classes": list(classes)})
        lineage = {"strategy": "nearest-mean", "backbones": [bound.card.name], "seed": seed}
        return Adapted(steps, (Member(bound, head),), classes, train.spec, lineage)


class TonesSource:
    """Made-up recordings from ``tones:COUNT``, each a tone of one of two classes."""

    def accepts(self, uri: str) -> bool:
        return uri.startswith("tones:")

    def open(self, uri: str, options: DataOptions) -> Dataset:
        if not self.accepts(uri):
            raise DataError.of("tones-uri", repr(uri), "it is no tones:COUNT", "tones:8")
        rate_hz, n_timepoints = 50.0, 256
        recordings = []
        for number in range(int(uri.partition(":")[2])):
            label = ("high", "low")[number % 2]
            rng = np.random.default_rng(number)
            hertz = 12.0 if label == "high" else 2.0
            time_s = np.arange(n_timepoints) / rate_hz
            values = np.sin(2 * np.pi * hertz * time_s)[None] + 0.1 * rng.normal(size=(1, 256))
            recordings.append(
                Recording(
                    values.astype(np.float32),
                    (Channel("tone", "V"),),
                    rate_hz,
                    (LabelSpan(0, n_timepoints, label),),
                    group=f"maker-{number // 2 % 3}",
                    name=f"{uri}#{number}",
                )
            )
        rows = len(recordings) * n_timepoints
        more: dict[str, Any] = {"account": RowAccount(rows, rows), "options": options, "uri": uri}
        return Dataset(tuple(recordings), **more)
