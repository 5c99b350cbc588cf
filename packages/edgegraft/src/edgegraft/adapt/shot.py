"""Source-free transfer: a source model settles on the target's windows, its head frozen.

The second half, `settle`, takes a model and windows of the target, and nothing else: whoever
trained the model need not give their data away.

Source: Liang, Hu and Feng, Do We Really Need to Access the Source Data? Source Hypothesis Transfer
for Unsupervised Domain Adaptation (SHOT), ICML 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegraft.adapt.across import (
    AcrossDomains,
    changed,
    embedded,
    learn_alone,
    of_encoder,
)
from edgegraft.adapt.adapted import Adapted, Member
from edgegraft.adapt.augment import chosen
from edgegraft.adapt.divergence import entropy
from edgegraft.adapt.loop import Lesson, train
from edgegraft.adapt.network import ENCODER, Trainable, trainable
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.errors import OptionError, Problem
from edgegraft_edge.heads import LinearHead
from edgegraft_edge.signal import Array, Windows

if TYPE_CHECKING:
    from torch import Tensor

_TINY = 1e-9


@dataclass(frozen=True)
class Shot(AcrossDomains):
    """Train a source model; then let its encoder settle on the target, the head staying as it is.

    Windows of the target should each be clear, classes be said in their shares (information
    maximisation), and each window be near the centre of its class (centroid pseudo-labels, drawn
    anew each round). The shares are not taken to be equal, as in the paper, but halfway between
    that and what the source model says of the target at first.

    Source: Liang, Hu and Feng, SHOT, ICML 2020.
    """

    settling: int = field(
        default=15, metadata={"help": "passes over the target's windows after the source model"}
    )
    settling_rate: float = field(
        default=5e-4, metadata={"help": "step size of these at the start (adam)"}
    )
    rounds: int = field(
        default=3, metadata={"help": "how often pseudo-labels are drawn anew in these"}
    )
    pseudo: float = field(default=0.3, metadata={"help": "weight of the pseudo-labels"})
    smoothing: float = field(
        default=0.0,
        metadata={
            "help": "share of each label that goes to all classes alike; with few windows and "
            "few passes even a tenth leaves a source model too unsure to settle well"
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = [
            Problem("option-range", f"{name}={getattr(self, name)}", why, remedy)
            for name, good, why, remedy in (
                ("settling", self.settling >= 1, "it counts passes", "15"),
                ("settling_rate", self.settling_rate > 0, "a step size is positive", "0.0005"),
                ("rounds", self.rounds >= 1, "it counts rounds", "3"),
                ("pseudo", self.pseudo >= 0, "a weight is not negative", "0.3"),
                ("smoothing", 0 <= self.smoothing < 1, "it is a share", "0.1"),
            )
            if not good
        ]
        if problems:
            raise OptionError(problems)

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Train on all labels, then settle on all windows of the target.

        Without a source, or without any window of the target, this is plain supervised training,
        and the lineage says so ("fallback").
        """
        model, own = learn_alone(
            backbone, train, task, self, "shot", seed=seed, watch=watch, smoothing=self.smoothing
        )
        return model if own is None else self.settle(model, own, seed=seed, watch=watch)

    def settle(
        self, model: Adapted, windows: Windows, *, seed: int = 0, watch: Watch = unwatched
    ) -> Adapted:
        """The model with its encoder settled on windows of the target; labels count where given.

        Args:
            model: of one member, a backbone that can be trained under a linear head.
            windows: of the target, raw; at least two.

        Errors: `OptionError` "backbone-fixed", "head-not-linear".
        """
        encoder, head = parts_of(model)
        source = trainable(encoder)
        x = source.prepare(model.steps.run(windows.x))
        codes = windows.codes(model.classes)
        parameters: Mapping[str, Array] = {ENCODER + n: a for n, a in source.weights.items()}
        history: list[Mapping[str, float]] = []
        stopped, shares = "epochs", None
        epochs = min(self.settling, max(self.rounds, -(-self.window_budget // len(x))))
        for number in range(self.rounds):
            share = epochs * (number + 1) // self.rounds - epochs * number // self.rounds
            if not share:
                continue
            watch("train", {"strategy": "shot", "round": number + 1, "windows": len(x)})
            z = embedded(source, parameters, x, self.threads)
            said = head.scores(z)
            if shares is None:
                shares = 0.5 * said.mean(axis=0) + 0.5 / said.shape[1]
            pseudo = centroid_labels(z, said, codes)
            training = replace(
                self,
                epochs=share,
                batch_size=2 * self.batch_size,
                optimiser="adam",
                learning_rate=self.settling_rate,
            )
            lesson = _lesson(self, source, head, parameters, x, codes, pseudo, shares, windows)
            trained = train(lesson, training, seed=seed * self.rounds + number, watch=watch)
            parameters = trained.parameters
            history += trained.history
            if trained.stopped != "epochs":
                stopped = trained.stopped
                break
        tuned = source.with_weights(of_encoder(parameters))
        settled: dict[str, Any] = {
            "windows": len(x),
            "labelled": int((codes >= 0).sum()),
            "stopped": stopped,
            "history": [dict(entry) for entry in history],
        }
        lineage = {**model.lineage, "settled": settled}
        return replace(model, members=(Member(tuned, head),), lineage=lineage)


def parts_of(model: Adapted) -> tuple[Backbone, LinearHead]:
    """Backbone and head of a model of one member. Errors: `OptionError` "head-not-linear"."""
    heads = [type(member.head).__name__ for member in model.members]
    if heads != ["LinearHead"] or model.temperature != 1.0:
        raise OptionError.of(
            "head-not-linear",
            f"a model of {', '.join(heads)}",
            "one linear head is what gradients are followed through here",
            "a model of finetune, dann or of probe on one backbone",
        )
    head = model.members[0].head
    assert isinstance(head, LinearHead)
    return model.members[0].backbone, head


def centroid_labels(z: Array, said: Array, codes: Array, rounds: int = 2) -> Array:
    """Pseudo-labels int (n_windows,): the nearest class centre, by cosine of unit-scale features.

    Centres start as means weighted by the probabilities, then follow the labels that they give;
    classes that no window is said to be of have none. Windows whose class is known keep it.

    Args:
        z: embeddings (n_windows, embedding_dim).
        said: probabilities (n_windows, n_classes).
        codes: known classes int (n_windows,), -1 where unknown.

    >>> z = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]])
    >>> said = np.array([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.55, 0.45]])
    >>> centroid_labels(z, said, np.full(4, -1)).tolist()
    [0, 0, 1, 1]
    """
    unit = (z - z.mean(axis=0)) / (z.std(axis=0) + _TINY + 0.05 * np.median(z.std(axis=0)))
    unit = unit / (np.linalg.norm(unit, axis=1, keepdims=True) + _TINY)
    shares = np.where(codes[:, None] >= 0, np.eye(said.shape[1])[codes], said)
    labels = shares.argmax(axis=1)
    present = np.flatnonzero(np.bincount(labels, minlength=said.shape[1]))
    for _ in range(rounds):
        weight = shares[:, present]
        centres = (weight.T @ unit) / (weight.sum(axis=0)[:, None] + _TINY)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True) + _TINY
        labels = present[(unit @ centres.T).argmax(axis=1)]
        labels = np.where(codes >= 0, codes, labels)
        shares = np.eye(said.shape[1])[labels]
    return np.asarray(labels, dtype=np.int64)


def _lesson(
    options: Shot,
    encoder: Trainable,
    head: LinearHead,
    parameters: Mapping[str, Array],
    x: Array,
    codes: Array,
    pseudo: Array,
    shares: Array,
    windows: Windows,
) -> Lesson:
    """Information maximisation and pseudo-labels on windows of the target."""
    import torch
    from torch.nn import functional

    weight, bias = torch.from_numpy(np.array(head.weight)), torch.from_numpy(np.array(head.bias))
    changes = chosen(options.augmentation, windows.spec.kind) if x.ndim == windows.x.ndim else ()
    tempo = float(getattr(encoder, "tempo", 1.0))
    aims = torch.from_numpy(pseudo)
    known = torch.from_numpy(codes >= 0)
    wanted = torch.from_numpy(shares.astype(np.float32))

    def loss(current: Mapping[str, Tensor], batch: Array, random: np.random.Generator) -> Tensor:
        z = encoder.forward(of_encoder(current), changed(x[batch], changes, random))
        logits = z @ weight + bias
        said = torch.softmax(logits, dim=1)
        mean = said.mean(dim=0)
        total = entropy(said).mean() + (mean * (mean.clamp_min(_TINY) / wanted).log()).sum()
        each = functional.cross_entropy(logits, aims[batch], reduction="none")
        worth = torch.where(known[batch], 1.0, options.pseudo)
        return total + (each * worth).mean()

    return Lesson(parameters, len(x), loss, pace=lambda name, epoch: tempo)
