"""The one training loop: pretraining and every strategy that trains run through it.

What is trained is a :class:`Lesson`: parameters by name, a loss over a batch, perhaps a
validation. How is a :class:`Training`: options. All chance follows from the seed and the number
of the epoch, so a run that was killed goes on from its checkpoint to the very same weights.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgegraft.adapt import checkpoint as store
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft_edge.errors import ModelError, OptionError, Problem, nearest
from edgegraft_edge.signal import Array

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

LossName = Literal["cross-entropy", "binary-cross-entropy", "mse"]
OptimiserName = Literal["gradient-descent", "sgd", "adam", "adamw"]


@dataclass(frozen=True)
class Training:
    """How to train.

    Errors: `OptionError` listing every option whose value makes no sense.

    >>> Training(epochs=5, optimiser="sgd", learning_rate=0.1).epochs
    5
    """

    loss: LossName = field(
        default="cross-entropy", metadata={"help": "what is minimised over the training windows"}
    )
    optimiser: OptimiserName = field(
        default="adamw",
        metadata={"help": "adamw, adam, sgd (with momentum), or gradient-descent (all windows)"},
    )
    learning_rate: float = field(
        default=1e-3, metadata={"help": "step size at the start; it falls along a cosine"}
    )
    batch_size: int = field(default=32, metadata={"help": "windows per step"})
    epochs: int = field(default=30, metadata={"help": "passes over the training windows"})
    weight_decay: float = field(
        default=1e-2, metadata={"help": "pull of the weights toward zero at each step"}
    )
    patience: int = field(
        default=0,
        metadata={"help": "stop after this many epochs without a better validation; 0: never"},
    )
    until: str = field(
        default="",
        metadata={"help": 'stop at a target on validation data, e.g. "macro_f1>=0.9"'},
    )
    max_seconds: float = field(default=0.0, metadata={"help": "stop after this time; 0: never"})
    threads: int = field(
        default=1, metadata={"help": "threads of the processor; more is often slower"}
    )

    def __post_init__(self) -> None:
        problems = [
            Problem("option-range", f"{name}={getattr(self, name)}", why, remedy)
            for name, low, why, remedy in (
                ("learning_rate", 1e-12, "a step size is positive", "0.001"),
                ("batch_size", 1, "a batch holds a window", "32"),
                ("epochs", 1, "training needs a pass", "30"),
                ("weight_decay", 0, "a pull is not negative", "0.01"),
                ("patience", 0, "it counts epochs", "5, or 0 for never"),
                ("max_seconds", 0, "it is a time", "60, or 0 for never"),
                ("threads", 1, "work needs a thread", "1"),
            )
            if not getattr(self, name) >= low
        ]
        for name, known in (("loss", LossName), ("optimiser", OptimiserName)):
            choices = known.__args__  # type: ignore[attr-defined]
            if getattr(self, name) not in choices:
                problems.append(
                    Problem(
                        "option-value",
                        f"{name}={getattr(self, name)!r}",
                        "there is none of that name",
                        nearest(str(getattr(self, name)), choices),
                    )
                )
        if problems:
            raise OptionError(problems)
        if self.until:
            Target.parse(self.until)


@dataclass(frozen=True)
class Target:
    """A preset target, e.g. macro_f1 of at least 0.9.

    >>> Target.parse("log_loss < 0.2").met({"log_loss": 0.1})
    True
    """

    metric: str
    sign: str
    value: float

    @classmethod
    def parse(cls, text: str, known: Collection[str] = ()) -> Target:
        """From text. Errors: `OptionError` ``target-form``, ``metric-unknown``."""
        found = re.fullmatch(
            r"\s*([a-z][a-z0-9_]*)\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)\s*", text
        )
        if found is None:
            raise OptionError.of(
                "target-form",
                f"until={text!r}",
                "a target is a metric, >=, <=, > or <, and a number",
                "macro_f1>=0.9",
            )
        metric, sign, value = found.groups()
        if known and metric not in known:
            raise OptionError.of(
                "metric-unknown",
                f"metric {metric!r} in until={text!r}",
                "validation does not measure that",
                nearest(metric, sorted(known)),
            )
        return cls(metric, sign, float(value))

    def met(self, metrics: Mapping[str, float]) -> bool:
        value = metrics[self.metric]
        return {
            ">=": value >= self.value,
            "<=": value <= self.value,
            ">": value > self.value,
            "<": value < self.value,
        }[self.sign]


Parameters = Mapping[str, "Tensor"]


def _everywhere(name: str, epoch: int) -> float:
    return 1.0


@dataclass(frozen=True)
class Lesson:
    """What is trained.

    Attributes:
        parameters: float32 arrays by name, where training starts.
        n_samples: how many samples an epoch passes over.
        loss: (parameters, positions of the batch int (n_batch,), generator) -> scalar.
        validate: parameters -> {"loss": ..., metrics by name}; None where nothing can be held out.
        pace: (name, epoch) -> factor on the learning rate; 0 keeps a parameter as it is.
        metrics: what `validate` gives, besides "loss".
        timed: whether `loss` also takes, last, what share of the steps is over (0 to 1): for
            terms that come in gradually.
        steepest: gradients of a parameter whose norm is above this are shortened to it; 0: none.
    """

    parameters: Mapping[str, Array]
    n_samples: int
    loss: Callable[..., Tensor]
    validate: Callable[[Parameters], Mapping[str, float]] | None = None
    pace: Callable[[str, int], float] = _everywhere
    metrics: Collection[str] = ()
    timed: bool = False
    steepest: float = 0.0


@dataclass(frozen=True)
class Trained:
    """What came out.

    Attributes:
        parameters: of the epoch with the lowest validation loss, or of the last.
        history: per epoch: epoch, loss and what validation gave.
        stopped: "epochs", "target", "patience", "seconds" or "interrupt".
        best_epoch: the epoch that `parameters` are from, counted from 1; 0 is the start.
    """

    parameters: Mapping[str, Array]
    history: tuple[Mapping[str, float], ...]
    stopped: str
    best_epoch: int


@dataclass
class _Run:
    """Where the loop stands; all of it is in a checkpoint."""

    parameters: dict[str, Tensor]
    optimiser: Optimizer
    best: dict[str, Array]
    best_epoch: int = 0
    best_loss: float = float("inf")
    epoch: int = 0
    seconds: float = 0.0
    history: list[Mapping[str, float]] = field(default_factory=list)
    stopped: str = ""


def train(
    lesson: Lesson,
    training: Training,
    *,
    seed: int,
    watch: Watch = unwatched,
    checkpoint: Path | None = None,
    fingerprint: str = "",
) -> Trained:
    """Train; resume from `checkpoint` if it holds this very run (told by `fingerprint`).

    Ctrl-C ends it early with the best so far. With a checkpoint each epoch is kept.

    Errors: `OptionError` for a target without validation; `ModelError` ``loss-not-finite``, or
    ``checkpoint-other`` when the checkpoint is of another run.
    """
    target = Target.parse(training.until, lesson.metrics) if training.until else None
    if target is not None and lesson.validate is None:
        raise OptionError.of(
            "target-unseen",
            f"until={training.until!r} without validation data",
            "there are too few labelled windows to hold some out",
            "more labelled windows, or a fixed number of epochs",
        )
    with torch_threads(training.threads):
        run = _start(lesson, training)
        if checkpoint is not None:
            _resume(run, checkpoint, fingerprint)
        try:
            while not run.stopped:
                _epoch(run, lesson, training, seed, watch)
                run.stopped = _why_stop(run, training, target)
                if checkpoint is not None:
                    _keep(run, checkpoint, fingerprint)
        except KeyboardInterrupt:
            run.stopped = "interrupt"
    return Trained(run.best, tuple(run.history), run.stopped, run.best_epoch)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set torch's threads on purpose, and give back what was set before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start(lesson: Lesson, training: Training) -> _Run:
    import torch

    parameters = {
        name: torch.tensor(array, requires_grad=True) for name, array in lesson.parameters.items()
    }
    options: dict[str, Any] = {"lr": training.learning_rate, "weight_decay": training.weight_decay}
    groups = [{"params": [tensor]} for tensor in parameters.values()]
    optimiser: Optimizer
    if training.optimiser in ("adam", "adamw"):
        kind = torch.optim.Adam if training.optimiser == "adam" else torch.optim.AdamW
        optimiser = kind(groups, **options)
    else:
        momentum = 0.9 if training.optimiser == "sgd" else 0.0
        optimiser = torch.optim.SGD(groups, momentum=momentum, **options)
    return _Run(parameters, optimiser, {name: a.copy() for name, a in lesson.parameters.items()})


def _epoch(run: _Run, lesson: Lesson, training: Training, seed: int, watch: Watch) -> None:
    """One pass, its validation, and the news of it."""
    began = time.monotonic()
    random = np.random.default_rng([seed, run.epoch])
    order = random.permutation(lesson.n_samples)
    full = training.optimiser == "gradient-descent"
    size = lesson.n_samples if full else min(training.batch_size, lesson.n_samples)
    n_steps = max(1, lesson.n_samples // size)  # what does not fill a batch joins the others
    total = 0.0
    for step, batch in enumerate(np.array_split(order, n_steps)):
        share = (run.epoch + step / n_steps) / training.epochs
        _set_pace(run, lesson, training, share)
        run.optimiser.zero_grad(set_to_none=True)
        when = (share,) if lesson.timed else ()
        loss = lesson.loss(run.parameters, np.sort(batch), random, *when)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise ModelError.of(
                "loss-not-finite",
                f"a loss of {value} in epoch {run.epoch + 1}",
                "the steps are too large, or a window holds NaN",
                f"learning_rate={training.learning_rate / 10:g}, and `edgegraft doctor` the data",
            )
        loss.backward()  # type: ignore[no-untyped-call]
        if lesson.steepest:
            _shorten(run.parameters.values(), lesson.steepest)
        for group in run.optimiser.param_groups:
            if group["lr"] == 0:
                group["params"][0].grad = None  # or momentum and decay would move it
        run.optimiser.step()
        total += value * len(batch)
    run.epoch += 1
    news: dict[str, float] = {"epoch": run.epoch, "loss": total / lesson.n_samples}
    if lesson.validate is not None:
        import torch

        with torch.no_grad():
            found = lesson.validate(run.parameters)
        news |= {f"validation_{name}": float(value) for name, value in found.items()}
    judged = news.get("validation_loss")
    if judged is None or judged < run.best_loss:
        run.best_loss = run.best_loss if judged is None else judged
        run.best_epoch = run.epoch
        run.best = {name: tensor.detach().numpy().copy() for name, tensor in run.parameters.items()}
    run.history.append(news)
    run.seconds += time.monotonic() - began
    watch("epoch", {**news, "epochs": training.epochs})


def _shorten(parameters: Iterable[Tensor], most: float) -> None:
    """Shorten each parameter's gradient to norm `most`: without scale, plain steps can explode."""
    for tensor in parameters:
        if tensor.grad is not None:
            tensor.grad.mul_(min(1.0, most / max(float(tensor.grad.norm()), 1e-12)))


def _set_pace(run: _Run, lesson: Lesson, training: Training, share: float) -> None:
    """Learning rate of each parameter: cosine over the run, times its pace."""
    rate = training.learning_rate * 0.5 * (1 + np.cos(np.pi * share))
    for name, group in zip(run.parameters, run.optimiser.param_groups, strict=True):
        pace = lesson.pace(name, run.epoch)
        group["lr"] = float(rate * pace)
        group["params"][0].requires_grad_(pace > 0)


def _why_stop(run: _Run, training: Training, target: Target | None) -> str:
    metrics = {
        name.removeprefix("validation_"): value
        for name, value in run.history[-1].items()
        if name.startswith("validation_")
    }
    if target is not None and target.met(metrics):
        # The target was met by these weights, whatever the loss says.
        run.best_epoch = run.epoch
        run.best = {n: tensor.detach().numpy().copy() for n, tensor in run.parameters.items()}
        return "target"
    if run.epoch >= training.epochs:
        return "epochs"
    if training.patience and metrics and run.epoch - run.best_epoch >= training.patience:
        return "patience"
    if training.max_seconds and run.seconds >= training.max_seconds:
        return "seconds"
    return ""


def _keep(run: _Run, path: Path, fingerprint: str) -> None:
    kept: dict[str, Array] = {}
    for name, tensor in run.parameters.items():
        kept[f"parameter.{name}"] = tensor.detach().numpy()
        kept[f"best.{name}"] = run.best[name]
        for key, value in run.optimiser.state.get(tensor, {}).items():
            if value is not None:
                kept[f"optimiser.{name}.{key}"] = value.numpy()
    state = {
        "fingerprint": fingerprint,
        "epoch": run.epoch,
        "best_epoch": run.best_epoch,
        "best_loss": None if np.isinf(run.best_loss) else run.best_loss,
        "seconds": run.seconds,
        "history": run.history,
        "stopped": run.stopped,
    }
    store.write(path, store.Checkpoint(kept, state))


def _resume(run: _Run, path: Path, fingerprint: str) -> None:
    """Take up where the checkpoint left off; nothing happens where there is none."""
    import torch

    found = store.read(path)
    if found is None:
        return
    state, kept = found.state, dict(found.tensors)
    try:
        if state["fingerprint"] != fingerprint:
            raise ValueError("other options, data or code")
        with torch.no_grad():
            for name, tensor in run.parameters.items():
                tensor.copy_(torch.tensor(kept[f"parameter.{name}"]))
                run.best[name] = kept[f"best.{name}"]
                prefix = f"optimiser.{name}."
                moments = {
                    key.removeprefix(prefix): torch.tensor(value)
                    for key, value in kept.items()
                    if key.startswith(prefix)
                }
                if moments:
                    run.optimiser.state[tensor] = moments
        run.epoch, run.best_epoch = int(state["epoch"]), int(state["best_epoch"])
        run.best_loss = float("inf") if state["best_loss"] is None else float(state["best_loss"])
        run.seconds, run.history = float(state["seconds"]), list(state["history"])
        run.stopped = str(state["stopped"])
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise ModelError.of(
            "checkpoint-other",
            f"{path.name} is of another run ({error})",
            "going on from it would mix the two",
            "another folder, or delete it to start anew",
        ) from error
