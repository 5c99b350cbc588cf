"""Distillation: a small network learns to say what a larger model says.

The student learns the teacher's probabilities of windows, changed copies and mixtures (see
`edgegraft.compress.teacher`), softened by a temperature, and the labels where there are some
(G. Hinton, O. Vinyals, J. Dean, Distilling the Knowledge in a Neural Network, arXiv:1503.02531,
2015). A student has no normalisation by batches, which has no place in a program; while it
learns, the weights of its convolutions are standardised and have a gain instead (S. Qiao et al.,
Micro-Batch Training with Batch-Channel Normalization and Weight Standardization,
arXiv:1903.10520, 2019), and at the end both are folded into plain weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegraft.adapt.adapted import Adapted, Member, Predictor
from edgegraft.adapt.expert import normalised
from edgegraft.adapt.loop import Lesson, Trained, Training, train
from edgegraft.adapt.network import ENCODER, HEAD, Trainable, trainable
from edgegraft.adapt.probe import lineage_of
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.compress.teacher import Taught, taught
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.micro import Micro, MicroShape
from edgegraft_edge.errors import OptionError, Problem
from edgegraft_edge.heads import LinearHead
from edgegraft_edge.signal import Array, Windows

if TYPE_CHECKING:
    from torch import Tensor

EPOCH_STEPS = 100
_GAIN = "gain."
_TINY = 1e-8
Forward = Callable[[Mapping[str, "Tensor"], "Tensor"], "Tensor"]
"""(parameters, prepared windows) -> logits (n_windows, n_classes)."""


@dataclass(frozen=True)
class Distillation:
    """How a student learns from its teacher.

    Errors: `OptionError` listing every option whose value makes no sense.

    >>> Distillation(steps=500).temperature
    1.0
    """

    steps: int = field(default=4000, metadata={"help": "steps of training"})
    batch_size: int = field(default=64, metadata={"help": "windows per step"})
    learning_rate: float = field(
        default=3e-3, metadata={"help": "step size at the start; it falls along a cosine"}
    )
    weight_decay: float = field(default=1e-2, metadata={"help": "pull of the weights toward zero"})
    temperature: float = field(
        default=1.0, metadata={"help": "softens the teacher's probabilities; 1: as they are"}
    )
    label_share: float = field(
        default=0.1, metadata={"help": "weight of the labels beside the teacher's word, 0 to 1"}
    )
    copies: int = field(
        default=6,
        metadata={"help": "changed versions of every window that the teacher is asked of"},
    )
    mixed: int = field(default=6, metadata={"help": "versions mixed with another window, likewise"})
    patience: int = field(
        default=0,
        metadata={
            "help": f"stop after so many times {EPOCH_STEPS} steps without progress; 0: never"
        },
    )
    max_seconds: float = field(default=240.0, metadata={"help": "stop after this time; 0: never"})

    def __post_init__(self) -> None:
        problems = [
            Problem("option-range", f"{name}={getattr(self, name)}", why, remedy)
            for name, low, high, why, remedy in (
                ("steps", 1, np.inf, "training needs a step", "4000"),
                ("batch_size", 1, np.inf, "a batch holds a window", "64"),
                ("learning_rate", 1e-12, np.inf, "a step size is positive", "0.003"),
                ("weight_decay", 0, np.inf, "a pull is not negative", "0.01"),
                ("temperature", 0.1, 100, "it is between 0.1 and 100", "1"),
                ("label_share", 0, 1, "it is a share", "0.1"),
                ("copies", 0, 64, "it counts versions, at most 64", "6"),
                ("mixed", 0, 64, "it counts versions, at most 64", "6"),
                ("patience", 0, np.inf, "it counts", "5, or 0 for never"),
                ("max_seconds", 0, np.inf, "it is a time", "240, or 0 for never"),
            )
            if not low <= getattr(self, name) <= high
        ]
        if problems:
            raise OptionError(problems)

    @property
    def training(self) -> Training:
        """The same for the training loop, whose epochs are of `EPOCH_STEPS` steps."""
        return Training(
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            epochs=ceil(self.steps / EPOCH_STEPS),
            patience=self.patience,
            max_seconds=self.max_seconds,
        )


def distill(
    teacher: Predictor,
    labelled: Windows,
    pool: Windows | None = None,
    student: Backbone | None = None,
    options: Distillation | None = None,
    *,
    seed: int = 0,
    watch: Watch = unwatched,
    cache: Path | None = None,
) -> Adapted:
    """A student of the teacher, as a model like any other: it predicts, is bundled and exported.

    Args:
        teacher: what is to be learned: an `Adapted`, a loaded bundle.
        labelled: windows with labels; pool: more windows without.
        student: network to train, with whatever weights it has; a `Micro` by default.
        cache: folder in which the teacher's answers and the student's progress are kept.

    Errors: `OptionError` "backbone-fixed" for a student that has no weights, `DataError`.
    """
    options = options or Distillation()
    said = taught(
        teacher, labelled, pool, copies=options.copies, mixed=options.mixed, seed=seed,
        watch=watch, cache=cache,
    )  # fmt: skip
    own = trainable(student or Micro.of(MicroShape()))
    return teach(said, own, options, seed=seed, watch=watch)


def teach(
    said: Taught,
    student: Backbone,
    options: Distillation | None = None,
    *,
    seed: int = 0,
    watch: Watch = unwatched,
) -> Adapted:
    """Train a student on what a teacher said; one thread, seeded, the best on held-out windows."""
    options = options or Distillation()
    originals = _windows(said, said.x[0][said.rows])
    steps, _ = normalised(originals, "auto")
    bound = trainable(student).fit(_windows(said, steps.run(said.x[0])), seed=seed)
    prepared = _prepared(bound, steps.run, said.x)
    random = np.random.default_rng([seed, 1])
    n_features = bound.embed(steps.run(said.x[0][:1])).shape[1]
    n_classes = len(said.classes)
    spread = np.sqrt(1.0 / n_features)
    parameters = {
        **_standardisable(bound.weights),
        f"{HEAD}weight": random.normal(0, spread, (n_features, n_classes)).astype(np.float32),
        f"{HEAD}bias": np.zeros(n_classes, np.float32),
    }

    def forward(current: Mapping[str, Tensor], x: Tensor) -> Tensor:
        z = bound.forward(_plain(current), x)
        return z @ current[f"{HEAD}weight"] + current[f"{HEAD}bias"]

    trained = learn(said, prepared, parameters, forward, options, seed=seed, watch=watch)
    best = {name: array.copy() for name, array in trained.parameters.items()}
    tuned = bound.with_weights(_folded(best))
    head = LinearHead(best[f"{HEAD}weight"], best[f"{HEAD}bias"])
    lineage = lineage_of("distill", options, (tuned,), seed)
    lineage |= {
        "windows": len(said.rows),
        "versions": len(said.x),
        "labels": len(said.labelled),
        "stopped": trained.stopped,
        "epochs": len(trained.history),
    }
    return Adapted(steps, (Member(tuned, head),), said.classes, said.spec, lineage)


def learn(
    said: Taught,
    x: Array,
    parameters: Mapping[str, Array],
    forward: Forward,
    options: Distillation,
    *,
    seed: int,
    watch: Watch = unwatched,
) -> Trained:
    """Train any parameters toward what a teacher said.

    Args:
        x: prepared windows, float32 (n_versions, n_windows, ...), as those of `said`.
    """
    import torch
    from torch.nn import functional

    rows, labelled, validation = said.rows, said.labelled, said.validation
    heat = options.temperature
    soft = _softened(said.probabilities, heat)
    share = options.label_share if len(labelled) else 0.0
    n_labelled = max(1, min(options.batch_size // 4, len(labelled)))
    # moved and scaled copies keep the label; what strayed or is mixed may not
    keeping = np.arange(0, 1 + min(options.copies, len(x) - 1))
    keeping = keeping[(keeping == 0) | (keeping % 2 == 1)]
    judged = torch.tensor(x[0][validation]), torch.tensor(said.probabilities[0][validation])

    def loss(current: Mapping[str, Tensor], batch: Array, chance: np.random.Generator) -> Tensor:
        version = chance.integers(0, len(x), len(batch))
        row = rows[chance.integers(0, len(rows), len(batch))]
        seen, wanted = torch.tensor(x[version, row]), torch.tensor(soft[version, row])
        if share:
            own = labelled[chance.integers(0, len(labelled), n_labelled)]
            kept = keeping[chance.integers(0, len(keeping), n_labelled)]
            seen = torch.cat([seen, torch.tensor(x[kept, own])])
        logits = forward(current, seen)
        said_so = functional.log_softmax(logits[: len(batch)] / heat, dim=1)
        total = -(wanted * said_so).sum(dim=1).mean() * heat**2
        if share:
            codes = torch.tensor(said.codes[own])
            labels = functional.cross_entropy(logits[len(batch) :], codes)
            total = (1 - share) * total + share * labels
        return total

    def validate(current: Mapping[str, Tensor]) -> Mapping[str, float]:
        logits = forward(current, judged[0])
        agree = (logits.argmax(dim=1) == judged[1].argmax(dim=1)).float().mean()
        away = -(judged[1] * functional.log_softmax(logits, dim=1)).sum(dim=1).mean()
        return {"loss": float(away), "agreement": float(agree)}

    lesson = Lesson(
        parameters,
        EPOCH_STEPS * options.batch_size,
        loss,
        validate if len(validation) else None,
        metrics=("loss", "agreement"),
    )
    return train(lesson, options.training, seed=seed, watch=watch)


def _softened(probabilities: Array, heat: float) -> Array:
    """Probabilities at another temperature, float32."""
    if heat == 1.0:
        return probabilities
    found = np.maximum(probabilities.astype(np.float64), 1e-6) ** (1 / heat)
    return np.asarray(found / found.sum(axis=-1, keepdims=True), np.float32)


def _windows(said: Taught, x: Array) -> Windows:
    blank = np.full(len(x), "")
    return Windows(x, blank, blank, said.spec)


def _prepared(bound: Trainable, steps: Callable[[Array], Array], x: Array) -> Array:
    """Every version as the network takes it, one after the other to bound the memory."""
    return np.stack([bound.prepare(steps(version)) for version in x])


def _standardisable(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Weights as they are trained: convolutions get a gain that starts where they are."""
    found: dict[str, Array] = {}
    for name, array in weights.items():
        found[ENCODER + name] = array
        if array.ndim > 2 and np.prod(array.shape[1:]) > 1:
            axes = tuple(range(1, array.ndim))
            size = np.sqrt(np.prod(array.shape[1:]))
            spread = array.std(axis=axes, keepdims=True) * size
            found[_GAIN + name] = np.where(spread > _TINY, spread, 1.0).astype(np.float32)
    return found


def _plain(current: Mapping[str, Any]) -> dict[str, Any]:
    """Weights as the network takes them, differentiable."""
    found = {}
    for name, value in current.items():
        if not name.startswith(ENCODER):
            continue
        name = name.removeprefix(ENCODER)
        gain = current.get(_GAIN + name)
        if gain is not None:
            axes = tuple(range(1, value.ndim))
            centred = value - value.mean(dim=axes, keepdim=True)
            power = centred.square().sum(dim=axes, keepdim=True)
            value = gain * centred / (power + _TINY).sqrt()
        found[name] = value
    return found


def _folded(parameters: Mapping[str, Array]) -> dict[str, Array]:
    import torch

    tensors = {name: torch.from_numpy(array) for name, array in parameters.items()}
    with torch.no_grad():
        return {name: np.array(value) for name, value in _plain(tensors).items()}
