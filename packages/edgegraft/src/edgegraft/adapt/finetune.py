"""Parameter transfer: strategies that train the backbone's own weights.

:class:`FineTune` trains everything from the source's weights. :class:`Gradual` combines
structure and parameter transfer: head first, then block after block from the top, lower blocks
more slowly, held near the source, and at the end mixed with it. :class:`Scratch` does what
FineTune does from random weights; it is the control that says whether the source helped.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

import numpy as np

from edgegraft.adapt.adapted import Adapted, Member
from edgegraft.adapt.augment import chosen
from edgegraft.adapt.expert import Material, prepare
from edgegraft.adapt.loop import Target, Training
from edgegraft.adapt.network import (
    ACTIVATIONS,
    ENCODER,
    ActivationName,
    Trainable,
    trainable,
)
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.adapt.tuning import Tuning
from edgegraft.data.split import holdout
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.errors import OptionError, Problem, SplitError, nearest
from edgegraft_edge.signal import Array, Windows

MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
_PLENTY = 40  # windows in the smallest class; the held-out share of so many is not missed
_LEAST_EPOCHS = 3
_ENOUGH = 20  # windows in the smallest class; of fewer, each is worth more in training
_FEWEST = 4  # the same where a target or patience asks for validation


@dataclass(frozen=True)
class FineTune(Training):
    """Train all parameters, from the source's weights and a closed-form head.

    From twenty windows per class on some are held out first: they choose how many epochs, and
    the temperature of the probabilities; then all windows are trained on, unless there are forty
    per class. With fewer than twenty the number of epochs is as set, unless a target or patience
    asks for validation.

    Errors: `OptionError` listing every unknown block, augmentation, activation or weight.
    """

    epochs: int = field(default=15, metadata={"help": "passes over the training windows"})
    batch_size: int = field(default=8, metadata={"help": "windows per step"})
    frozen: tuple[str, ...] = field(
        default=(), metadata={"help": "blocks that stay as they are, e.g. stem,block1"}
    )
    hidden: tuple[int, ...] = field(
        default=(), metadata={"help": "widths of layers added below the last one, e.g. 64"}
    )
    activation: ActivationName = field(
        default="relu", metadata={"help": "between added layers: relu, leaky-relu, sigmoid, tanh"}
    )
    dropout: float = field(
        default=0.2, metadata={"help": "share of the embedding left out of each step"}
    )
    class_weights: str = field(
        default="none", metadata={"help": 'none, balanced, or "label=weight,label=weight"'}
    )
    augmentation: tuple[str, ...] = field(
        default=("auto",),
        metadata={
            "help": "changes that keep the label: auto (by the kind of data), jitter, scaling, "
            "offset, shift, stretch, mask, dropped; of pictures flip, crop, light, colour, turn, "
            "cutout; of sound time-shift, time-mask, band-mask, spectral-noise"
        },
    )
    held_out: float = field(
        default=0.2, metadata={"help": "share of windows held out for validation; 0: none"}
    )
    window_budget: int = field(
        default=2400,
        metadata={"help": "most windows seen in one training: many windows, fewer epochs; 0: any"},
    )
    normalise: str = field(
        default="auto",
        metadata={"help": "step for windows: auto, standard, unit-range, per-window or none"},
    )
    checkpoint: str = field(
        default="", metadata={"help": "folder that keeps progress; a killed run goes on from it"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen(self.augmentation)
        problems = []
        if self.activation not in ACTIVATIONS:
            problems.append(
                Problem(
                    "activation-unknown",
                    f"activation {self.activation!r}",
                    "there is none of that name",
                    nearest(self.activation, list(ACTIVATIONS)),
                )
            )
        problems += [
            Problem("option-range", f"{name}={getattr(self, name)}", "it is a share", "0.2")
            for name in ("dropout", "held_out")
            if not 0 <= getattr(self, name) < 1
        ]
        if min(self.hidden, default=1) < 1:
            problems.append(
                Problem("option-range", f"hidden={self.hidden}", "a layer has a width", "64")
            )
        if problems:
            raise OptionError(problems)

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Train on the labelled windows of `train`.

        Errors: `OptionError` ``backbone-fixed`` when the backbone has no weights to train.
        """
        source = trainable(backbone)
        return _adapt(self, source, self.start(source, seed), train, task, seed, watch)

    def start(self, encoder: Trainable, seed: int) -> Trainable:
        """The encoder that training starts from."""
        return encoder

    def pace(self, blocks: tuple[str, ...], block: str, share: float) -> float:
        """Factor on a block's learning rate when `share` of the epochs are over."""
        return 1.0

    @property
    def pull_to_source(self) -> float:
        return 0.0

    @property
    def mixes(self) -> tuple[float, ...]:
        """Shares of the tuned weights to choose from, the rest being the source's."""
        return (1.0,)


@dataclass(frozen=True)
class Gradual(FineTune):
    """Head first, then blocks from the top; near the source, and mixed with it at the end.

    Sources: gradual unfreezing and discriminative learning rates, Howard and Ruder, ACL 2018;
    pull to the source (L2-SP), Li, Grandvalet and Davoine, ICML 2018; mixing of source and tuned
    weights (WiSE-FT), Wortsman et al., CVPR 2022.
    """

    epochs: int = field(default=20, metadata={"help": "passes over the training windows"})
    learning_rate: float = field(
        default=3e-3, metadata={"help": "of the head at the start; it falls along a cosine"}
    )
    head_share: float = field(
        default=0.2, metadata={"help": "share of the epochs in which only the head learns"}
    )
    fade: float = field(
        default=2.6, metadata={"help": "how many times slower each block learns than the one above"}
    )
    pull: float = field(
        default=0.01, metadata={"help": "strength of the pull of the weights to the source"}
    )
    mix: float = field(
        default=-1.0,
        metadata={"help": "share of the tuned weights in the end; -1: chosen by validation"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = [
            Problem("option-range", f"{name}={getattr(self, name)}", why, remedy)
            for name, good, why, remedy in (
                ("head_share", 0 <= self.head_share < 1, "it is a share", "0.2"),
                ("fade", self.fade >= 1, "lower blocks do not learn faster", "2.6, or 1"),
                ("pull", self.pull >= 0, "a pull is not negative", "0.01"),
                ("mix", self.mix == -1 or 0 <= self.mix <= 1, "it is a share, or -1", "0.5"),
            )
            if not good
        ]
        if problems:
            raise OptionError(problems)

    def pace(self, blocks: tuple[str, ...], block: str, share: float) -> float:
        below_top = len(blocks) - 1 - blocks.index(block)
        joins = self.head_share + (1 - self.head_share) * 0.5 * below_top / len(blocks)
        return self.fade ** -(below_top + 1) if share >= joins else 0.0

    @property
    def pull_to_source(self) -> float:
        return self.pull

    @property
    def mixes(self) -> tuple[float, ...]:
        return MIXES if self.mix < 0 else (self.mix,)


@dataclass(frozen=True)
class Scratch(FineTune):
    """The same network from random weights: the control of what pretraining was worth."""

    epochs: int = field(default=20, metadata={"help": "passes over the training windows"})
    learning_rate: float = field(
        default=2e-3, metadata={"help": "step size at the start; it falls along a cosine"}
    )

    def start(self, encoder: Trainable, seed: int) -> Trainable:
        return encoder.with_random_weights(seed)


def _adapt(
    options: FineTune,
    source: Trainable,
    encoder: Trainable,
    train: Windows,
    task: Task,
    seed: int,
    watch: Watch,
) -> Adapted:
    material = prepare(train, task, options.normalise)
    encoder = encoder.fit(material.windows, seed=seed)
    _check_blocks(options, encoder)
    if options.until:
        Target.parse(options.until, ("loss", *task.metrics))
    fit, rest = _divide(options, material, seed)
    if options.window_budget:
        most = max(_LEAST_EPOCHS, -(-options.window_budget // len(fit)))
        options = replace(options, epochs=min(options.epochs, most))
    tuning = Tuning(options, encoder, material, task, seed)
    name = type(options).__name__.lower()
    watch("train", {"strategy": name, "windows": len(fit), "held_out": len(rest)})
    result = tuning.run(fit, rest, options, watch)
    mix, temperature, loss = tuning.calibrate(result, rest)
    trained = result.trained
    said = {"stopped": trained.stopped, "epochs": trained.best_epoch, "held_out": len(rest)}
    history = list(trained.history)
    few = np.bincount(material.codes).min() < _PLENTY
    if few and len(rest) and trained.stopped in ("epochs", "patience") and trained.best_epoch > 0:
        watch("train", {"strategy": name, "windows": len(material.codes), "held_out": 0})
        again = replace(options, epochs=trained.best_epoch, until="", patience=0)
        result = tuning.run(np.arange(len(material.codes)), rest[:0], again, watch)
        if result.trained.stopped == "interrupt":
            said["stopped"] = "interrupt"
    parameters = result.mixed(mix)
    tuned = encoder.with_weights(
        {key.removeprefix(ENCODER): v for key, v in parameters.items() if key.startswith(ENCODER)}
    )
    head = result.shape.finish(parameters, temperature)
    lineage = {
        "strategy": name,
        "options": asdict(replace(options, checkpoint="")),
        "backbones": [source.card.name],
        "pretrained": encoder.card.kind == "pretrained",
        "licences": [source.card.licence],
        "checksums": {source.card.name: source.card.checksum} if source.card.checksum else {},
        "seed": seed,
        "training": {
            **said,
            "mix": mix,
            "temperature": temperature,
            "validation_loss": loss,
            "history": history,
        },
    }
    return Adapted(material.steps, (Member(tuned, head),), material.classes, train.spec, lineage)


def _check_blocks(options: FineTune, encoder: Trainable) -> None:
    problems = [
        Problem(
            "block-unknown",
            f"frozen block {name!r}",
            f"{encoder.card.name!r} has no such block",
            nearest(name, list(encoder.blocks)),
        )
        for name in options.frozen
        if name not in encoder.blocks
    ]
    if problems:
        raise OptionError(problems)


def _divide(options: FineTune, material: Material, seed: int) -> tuple[Array, Array]:
    """Positions to train on and to hold out; none is held out where labels are few."""
    everything = np.arange(len(material.codes))
    counts = np.bincount(material.codes)
    enough = _FEWEST if options.until or options.patience else _ENOUGH
    if options.held_out > 0 and counts[counts > 0].min() >= enough:
        try:
            fold = holdout(material.windows, options.held_out, seed=seed)
            return fold.train, fold.test
        except SplitError:  # e.g. a class of which one group has all windows
            pass
    return everything, everything[:0]
