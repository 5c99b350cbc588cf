"""Adaptation to windows without labels by making the model surer of them, statistics first.

Networks here carry no normalisation by batches (it is folded into their convolutions), so what is
adapted is the normalisation of the embedding that the head stands on: its statistics, which are
the target's, and a gain and a shift per feature. Both fold into the head, whatever the backbone.

`Tent` does that offline on the pool. `TestTime` does it on a stream of windows, batch by batch,
and goes back to where it started when it strays. Nothing uses either unless it is named.

Sources: Wang et al., Tent: Fully Test-Time Adaptation by Entropy Minimization, ICLR 2021; on what
goes wrong and on going back, Niu et al., Towards Stable Test-Time Adaptation in Dynamic Wild World
(SAR), ICLR 2023, and Press et al., RDumb: A Simple Approach that Questions Our Progress in
Continual Test-Time Adaptation, NeurIPS 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegraft.adapt.across import AcrossDomains, learn_alone
from edgegraft.adapt.adapted import Adapted, Member
from edgegraft.adapt.calibration import softmax
from edgegraft.adapt.divergence import entropy
from edgegraft.adapt.loop import Lesson, train
from edgegraft.adapt.shot import parts_of
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.decision import Predictions
from edgegraft_edge.errors import DataError, OptionError, Problem
from edgegraft_edge.heads import LinearHead
from edgegraft_edge.signal import Array, Windows

if TYPE_CHECKING:
    from torch import Tensor

_TINY = 1e-6
_RELIABLE = 0.4
"""Windows whose entropy is above this share of the highest possible teach nothing (SAR)."""


@dataclass(frozen=True)
class Tent(AcrossDomains):
    """Train a source model; then fit gain and shift of its embedding to be sure of the pool.

    Source: Wang et al., Tent, ICLR 2021.
    """

    settling: int = field(
        default=10, metadata={"help": "passes over the target's windows after the source model"}
    )
    affine_rate: float = field(
        default=3e-3, metadata={"help": "step size of gain and shift at the start"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = [
            Problem("option-range", f"{name}={getattr(self, name)}", why, remedy)
            for name, good, why, remedy in (
                ("settling", self.settling >= 1, "it counts passes", "10"),
                ("affine_rate", self.affine_rate > 0, "a step size is positive", "0.003"),
            )
            if not good
        ]
        if problems:
            raise OptionError(problems)

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Train on all labels, then fit gain and shift on all windows of the target.

        Without a source, or without any window of the target, this is plain supervised training,
        and the lineage says so ("fallback").
        """
        model, own = learn_alone(backbone, train, task, self, "tent", seed=seed, watch=watch)
        return model if own is None else self.settle(model, own, seed=seed, watch=watch)

    def settle(
        self, model: Adapted, windows: Windows, *, seed: int = 0, watch: Watch = unwatched
    ) -> Adapted:
        """The model with gain and shift of its embedding fitted to windows of the target.

        Args:
            model: of one member with a linear head, on any backbone.
            windows: of the target, raw; labels count where given.

        Errors: `OptionError` "head-not-linear".
        """
        import torch
        from torch.nn import functional

        frame = Frame.of(model, windows)
        codes = windows.codes(model.classes)
        unit = torch.from_numpy(frame.unit(model, windows).astype(np.float32))
        weight = torch.from_numpy(frame.weight.astype(np.float32))
        bias = torch.from_numpy(frame.bias.astype(np.float32))
        aims, known = torch.from_numpy(codes), torch.from_numpy(codes >= 0)

        def loss(
            current: Mapping[str, Tensor], batch: Array, random: np.random.Generator
        ) -> Tensor:
            moved = unit[batch] * current["gain"] + current["shift"]
            logits = moved @ weight + bias
            total = entropy(torch.softmax(logits, dim=1)).mean()
            here = known[batch]
            if bool(here.any()):
                total = total + functional.cross_entropy(logits[here], aims[batch][here])
            return total

        width = len(frame.centre)
        start = {"gain": np.ones(width, np.float32), "shift": np.zeros(width, np.float32)}
        options = replace(
            self,
            epochs=self.settling,
            optimiser="adam",
            batch_size=2 * self.batch_size,
            learning_rate=self.affine_rate,
            weight_decay=0.0,
        )
        watch("train", {"strategy": "tent", "windows": len(unit)})
        trained = train(Lesson(start, len(unit), loss), options, seed=seed, watch=watch)
        settled: dict[str, Any] = {
            "windows": len(unit),
            "labelled": int(known.sum()),
            "stopped": trained.stopped,
            "history": [dict(entry) for entry in trained.history],
        }
        lineage = {**model.lineage, "settled": settled}
        gain, shift = (trained.parameters[name].astype(np.float64) for name in ("gain", "shift"))
        return replace(frame.model(model, gain, shift), lineage=lineage)


@dataclass(frozen=True, eq=False)
class Frame:
    """A linear head seen from an embedding of unit scale.

    Attributes:
        centre, scale: float64 (embedding_dim,), of the embedding over reference windows.
        weight, bias: float64, the head on the embedding of unit scale.
    """

    centre: Array
    scale: Array
    weight: Array
    bias: Array

    @classmethod
    def of(cls, model: Adapted, reference: Windows) -> Frame:
        """By the reference windows. Errors: `OptionError` "head-not-linear"."""
        backbone, head = parts_of(model)
        z = backbone.embed(model.steps.run(reference.x)).astype(np.float64)
        spread = z.std(axis=0)
        scale = spread + _TINY + 0.05 * float(np.median(spread))
        centre = z.mean(axis=0)
        weight = head.weight.astype(np.float64)
        return cls(centre, scale, weight * scale[:, None], head.bias + centre @ weight)

    def unit(self, model: Adapted, windows: Windows) -> Array:
        """Embeddings of unit scale, float64 (n_windows, embedding_dim)."""
        z = model.members[0].backbone.embed(model.steps.run(windows.x))
        return np.asarray((z - self.centre) / self.scale)

    def logits(self, unit: Array, gain: Array, shift: Array) -> Array:
        """Float64 (n_windows, n_classes)."""
        return np.asarray((unit * gain + shift) @ self.weight + self.bias)

    def model(self, model: Adapted, gain: Array, shift: Array) -> Adapted:
        """The model with gain and shift folded into its head."""
        weight = gain[:, None] * self.weight
        raw = weight / self.scale[:, None]
        bias = self.bias + shift @ self.weight - self.centre @ raw
        head = LinearHead(raw.astype(np.float32), bias.astype(np.float32))
        return replace(model, members=(Member(model.members[0].backbone, head),))


@dataclass(frozen=True, eq=False)
class State:
    """Where a `TestTime` stands between two batches.

    Attributes:
        gain, shift: float64 (embedding_dim,).
        counts: float64 (n_classes,), windows seen that were said to be of each class.
        offsets: float64 (n_classes, embedding_dim), how far these lie from where windows of that
            class lay among the reference windows.
        agreed: running share of windows of which it says what the starting model says.
        variety: running mean probabilities (2, n_classes), of the starting model and its own.
        n_windows: seen since the start or the last reset.
    """

    gain: Array
    shift: Array
    counts: Array
    offsets: Array
    agreed: float
    variety: Array
    n_windows: int

    @classmethod
    def start(cls, width: int, n_classes: int) -> State:
        return cls(
            np.ones(width),
            np.zeros(width),
            np.zeros(n_classes),
            np.zeros((n_classes, width)),
            1.0,
            np.full((2, n_classes), 1 / n_classes),
            0,
        )


class TestTime:
    """A predictor that goes on adapting to the windows it is asked about, and can go back.

    Statistics follow the stream class by class: how far windows said to be of a class lie from
    the reference windows said to be of it, each class counting alike, so that a stream of one
    class does not look like a change of device. Gain and shift then follow the entropy of the
    windows that it is sure of. It returns to the start when it disagrees with the starting model
    too often, when it says fewer classes than that one does, and after `every` windows.

    Args:
        adapted: the starting model, which is never changed.
        reference: windows it was made for (training windows or pool); labels are not looked at.
        learning_rate: step size of gain and shift; 0 follows statistics alone.
        batch_size: windows between two steps.
        patience: windows of a class that it takes to follow its statistics halfway.
        drift: share of disagreement with the starting model at which it goes back.
        every: windows after which it goes back in any case; 0: never.

    Errors: `OptionError` "head-not-linear", "option-range"; `DataError` "reference-empty".

    >>> from edgegraft.adapt.probe import Probe
    >>> from edgegraft.tasks.classification import Classification
    >>> from edgegraft.testing.samples import sample_windows
    >>> from edgegraft.zoo.registry import load_backbone
    >>> windows, backbone = sample_windows(), load_backbone("statistics")
    >>> model = Probe().adapt(backbone, windows, Classification(), seed=0)
    >>> live = TestTime(model, windows)
    >>> said = live.predict(sample_windows(seed=1))
    >>> live.reset(), bool(np.allclose(live.now.predict(windows).probabilities,
    ...     model.predict(windows).probabilities, atol=1e-4))
    (None, True)
    """

    __test__ = False  # by its name a test collector would take it for a test

    def __init__(
        self,
        adapted: Adapted,
        reference: Windows,
        *,
        learning_rate: float = 1e-3,
        batch_size: int = 16,
        patience: float = 32.0,
        drift: float = 0.25,
        every: int = 2000,
    ) -> None:
        problems = [
            Problem("option-range", f"{name}={value}", why, remedy)
            for name, value, good, why, remedy in (
                ("learning_rate", learning_rate, learning_rate >= 0, "it is a step size", "0.001"),
                ("batch_size", batch_size, batch_size >= 1, "a batch holds a window", "16"),
                ("patience", patience, patience > 0, "it counts windows", "32"),
                ("drift", drift, 0 < drift <= 1, "it is a share", "0.25"),
                ("every", every, every >= 0, "it counts windows", "2000, or 0 for never"),
            )
            if not good
        ]
        if problems:
            raise OptionError(problems)
        if not len(reference):
            raise DataError.of(
                "reference-empty",
                "no reference windows",
                "what has changed is seen beside what was",
                "the training windows, or the pool",
            )
        self.adapted = adapted
        self.learning_rate, self.batch_size, self.patience = learning_rate, batch_size, patience
        self.drift, self.every = drift, every
        self.n_resets = 0
        self._frame = Frame.of(adapted, reference)
        unit = self._frame.unit(adapted, reference)
        self._start = State.start(len(self._frame.centre), len(adapted.classes))
        labels = self._said(unit, self._start).argmax(axis=1)
        overall = unit.mean(axis=0)
        self._means = np.stack(
            [
                unit[labels == code].mean(axis=0) if (labels == code).any() else overall
                for code in range(len(adapted.classes))
            ]
        )
        self._state = self._start

    @property
    def classes(self) -> tuple[str, ...]:
        return self.adapted.classes

    @property
    def state(self) -> State:
        """Where it stands; a value that later windows do not change."""
        return self._state

    @property
    def now(self) -> Adapted:
        """The model as it stands, for keeping or shipping."""
        gain, shift = self._map(self._state)
        return self._frame.model(self.adapted, gain, shift)

    def reset(self) -> None:
        """Back to the starting model."""
        self._state = self._start

    def predict(self, windows: Windows) -> Predictions:
        """Say of windows, in the order given, what they are, and learn from each batch after it."""
        said = [
            self._batch(self._frame.unit(self.adapted, windows.take(np.arange(start, stop))))
            for start, stop in _batches(len(windows), self.batch_size)
        ]
        empty = np.zeros((0, len(self.classes)))
        return Predictions(self.classes, np.concatenate([empty, *said]).astype(np.float32))

    def _batch(self, unit: Array) -> Array:
        """Probabilities (n_batch, n_classes) of a batch, which are then learned from."""
        before = self._said(unit, self._start)
        said = self._said(unit, self._state)
        state = self._followed(self._judged(self._state, before, said), unit, said)
        if self._strayed(state):
            self.n_resets += 1
            self._state = self._start
            return before
        self._state = state if not self.every or state.n_windows < self.every else self._start
        return said

    def _map(self, state: State) -> tuple[Array, Array]:
        """Gain and shift of the embedding: statistics, then what entropy taught."""
        trust = state.counts / (state.counts + self.patience)
        seen = max(1, np.count_nonzero(state.counts))
        offset = (trust[:, None] * state.offsets).sum(axis=0) / seen
        return state.gain, state.shift - state.gain * offset

    def _said(self, unit: Array, state: State) -> Array:
        return softmax(self._frame.logits(unit, *self._map(state)))

    def _judged(self, state: State, before: Array, said: Array) -> State:
        """Agreement with the starting model, and how many classes each of them says."""
        share = len(said) / (len(said) + 2 * self.batch_size)
        agreed = float(np.mean(before.argmax(axis=1) == said.argmax(axis=1)))
        means = np.stack([before.mean(axis=0), said.mean(axis=0)])
        return replace(
            state,
            agreed=(1 - share) * state.agreed + share * agreed,
            variety=(1 - share) * state.variety + share * means,
            n_windows=state.n_windows + len(said),
        )

    def _strayed(self, state: State) -> bool:
        begun, own = (float(np.exp(-(p * np.log(p + 1e-12)).sum())) for p in state.variety)
        return 1 - state.agreed > self.drift or own - 1 < 0.5 * (begun - 1)

    def _followed(self, state: State, unit: Array, said: Array) -> State:
        """Statistics by class, and a step of gain and shift down the entropy."""
        counts, offsets = state.counts.copy(), state.offsets.copy()
        labels = said.argmax(axis=1)
        for code in np.unique(labels):
            rows = unit[labels == code]
            counts[code] += len(rows)
            offset = rows.mean(axis=0) - self._means[code]
            offsets[code] += len(rows) / counts[code] * (offset - offsets[code])
        state = replace(state, counts=counts, offsets=offsets)
        surprise = -(said * np.log(said + 1e-12)).sum(axis=1)
        sure = surprise < _RELIABLE * np.log(said.shape[1])
        if not self.learning_rate or not sure.any():
            return state
        p, rows = said[sure], unit[sure]
        back = -p * (np.log(p + 1e-12) + surprise[sure, None]) @ self._frame.weight.T / len(p)
        trust = state.counts / (state.counts + self.patience)
        seen = max(1, np.count_nonzero(state.counts))
        offset = (trust[:, None] * state.offsets).sum(axis=0) / seen
        gain = state.gain - self.learning_rate * (back * (rows - offset)).sum(axis=0)
        return replace(state, gain=gain, shift=state.shift - self.learning_rate * back.sum(axis=0))


def _batches(n_windows: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, n_windows)) for start in range(0, n_windows, size)]
