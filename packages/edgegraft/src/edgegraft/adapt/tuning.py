"""Trains one encoder with a head on parts of a set of labelled windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegraft.adapt.augment import Augmentation, chosen
from edgegraft.adapt.calibration import best_temperature, softmax
from edgegraft.adapt.expert import Material
from edgegraft.adapt.loop import Lesson, Target, Trained, train
from edgegraft.adapt.network import (
    ENCODER,
    HeadShape,
    Trainable,
    class_weights,
    loss_of,
    start_head,
)
from edgegraft.adapt.strategy import Watch
from edgegraft.fingerprint import fingerprint
from edgegraft.tasks.task import Task
from edgegraft_edge.signal import Array

if TYPE_CHECKING:
    from torch import Tensor

    from edgegraft.adapt.finetune import FineTune


TEMPERATURES = np.geomspace(0.25, 8.0, 41)
_CAUTION = 2.0  # few windows are held out of a small training set: they must not decide alone


@dataclass(frozen=True)
class Tuned:
    """What training started from and what it came to."""

    shape: HeadShape
    started: Mapping[str, Array]
    trained: Trained

    def mixed(self, share: float) -> dict[str, Array]:
        """Parameters between the start (share 0) and what was trained (1)."""
        return {
            name: ((1 - share) * self.started[name] + share * array).astype(np.float32)
            for name, array in self.trained.parameters.items()
        }


@dataclass(frozen=True)
class Tuning:
    """One encoder on one set of windows, ready to be trained on parts of it."""

    options: FineTune
    encoder: Trainable
    material: Material
    task: Task
    seed: int

    @cached_property
    def x(self) -> Array:
        """Prepared windows (n_windows, n_channels, n_timepoints)."""
        return self.encoder.prepare(self.material.windows.x)

    @cached_property
    def z(self) -> Array:
        """Their embeddings before training (n_windows, embedding_dim)."""
        return self.encoder.embed(self.material.windows.x)

    def _begin(self, fit: Array) -> tuple[HeadShape, dict[str, Array]]:
        """Head and parameters to start from, by the windows `fit` alone."""
        material, options = self.material, self.options
        shape, parameters = start_head(
            self.z[fit],
            material.codes[fit],
            len(material.classes),
            groups=None if material.groups is None else material.groups[fit],
            hidden=options.hidden,
            activation=options.activation,
            seed=self.seed,
        )
        weights = {ENCODER + name: array for name, array in self.encoder.weights.items()}
        return shape, {**parameters, **weights}

    def run(self, fit: Array, rest: Array, options: FineTune, watch: Watch) -> Tuned:
        """Train on the windows `fit`, validate on `rest`."""
        import torch

        shape, parameters = self._begin(fit)
        x = self.x[fit]
        codes = torch.tensor(self.material.codes[fit])
        weights = torch.tensor(
            class_weights(options.class_weights, self.material.classes, self.material.codes[fit])
        )[codes]
        source = {
            name: torch.tensor(array)
            for name, array in parameters.items()
            if name.startswith(ENCODER)
        }
        changes = chosen(options.augmentation, self.material.windows.spec.kind)

        def loss(current: Mapping[str, Tensor], batch: Array, random: Any) -> Tensor:
            z = self.encoder.forward(_of_encoder(current), _augmented(x[batch], changes, random))
            logits = shape.forward(current, z, _gate(z, options.dropout, random))
            total = loss_of(options.loss, logits, codes[batch], weights[batch])
            if options.pull_to_source:
                total = total + options.pull_to_source * sum(
                    (current[name] - origin).square().sum() for name, origin in source.items()
                )
            return total

        def validate(current: Mapping[str, Tensor]) -> Mapping[str, float]:
            return self._judge(shape, current, rest, options)

        lesson = Lesson(
            parameters,
            len(fit),
            loss,
            validate if len(rest) else None,
            lambda name, epoch: self._pace(name, epoch, options),
            ("loss", *self.task.metrics),
        )
        path, mark = self._checkpoint(fit, options)
        trained = train(
            lesson, options, seed=self.seed, watch=watch, checkpoint=path, fingerprint=mark
        )
        return Tuned(shape, parameters, trained)

    def calibrate(self, tuned: Tuned, rest: Array) -> tuple[float, float, float | None]:
        """Mix, temperature and log loss that are best on held-out windows."""
        mixes = self.options.mixes
        if not len(rest):
            return mixes[len(mixes) // 2], 1.0, None
        found = []
        for mix in mixes:
            logits = self._logits(tuned.shape, tuned.mixed(mix), rest)
            temperature, loss = best_temperature(
                logits, self.material.codes[rest], TEMPERATURES, caution=_CAUTION
            )
            found.append((loss, -mix, temperature))
        loss, negative, temperature = min(found)
        return -negative, temperature, loss

    def _logits(self, shape: HeadShape, parameters: Mapping[str, Any], rows: Array) -> Array:
        import torch

        with torch.no_grad():
            current = {name: torch.as_tensor(value) for name, value in parameters.items()}
            z = self.encoder.forward(_of_encoder(current), torch.tensor(self.x[rows]))
            logits: Array = shape.forward(current, z).numpy()
        return logits.astype(np.float64)

    def _judge(
        self, shape: HeadShape, current: Mapping[str, Tensor], rows: Array, options: FineTune
    ) -> Mapping[str, float]:
        import torch

        logits, codes = self._logits(shape, current, rows), self.material.codes[rows]
        loss = loss_of(
            options.loss, torch.tensor(logits), torch.tensor(codes), torch.ones(len(rows))
        )
        wanted = {self.task.primary} & set(self.task.metrics)
        if options.until:
            wanted |= {Target.parse(options.until).metric} - {"loss"}
        probabilities = softmax(logits)
        judged = {name: self.task.metrics[name](probabilities, codes) for name in sorted(wanted)}
        return {"loss": float(loss), **judged}

    def _pace(self, name: str, epoch: int, options: FineTune) -> float:
        if not name.startswith(ENCODER):
            return 1.0
        block = name.removeprefix(ENCODER).split(".")[0]
        if block in options.frozen:
            return 0.0
        tempo: float = getattr(self.encoder, "tempo", 1.0)
        return tempo * options.pace(self.encoder.blocks, block, epoch / options.epochs)

    def _checkpoint(self, fit: Array, options: FineTune) -> tuple[Path | None, str]:
        """One file for each thing that is trained, told apart by all that it depends on."""
        if not options.checkpoint:
            return None, ""
        mark = fingerprint(
            type(options).__name__,
            asdict(replace(options, checkpoint="", threads=1, max_seconds=0.0)),
            self.seed,
            list(self.material.classes),
            self.x[fit],
            self.material.codes[fit],
            *(self.encoder.weights[name] for name in sorted(self.encoder.weights)),
        )
        return Path(options.checkpoint) / f"{mark[:16]}.safetensors", mark


def _of_encoder(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {k.removeprefix(ENCODER): v for k, v in parameters.items() if k.startswith(ENCODER)}


def _augmented(x: Array, changes: tuple[Augmentation, ...], random: np.random.Generator) -> Tensor:
    import torch

    for change in changes:
        x = change(x, random)
    return torch.tensor(x)


def _gate(z: Tensor, dropout: float, random: np.random.Generator) -> Tensor | None:
    """Dropout drawn from the loop's own generator, so that a resumed run draws the same."""
    import torch

    if not dropout:
        return None
    keep = random.random(tuple(z.shape), dtype=np.float32) >= dropout
    return torch.tensor(keep.astype(np.float32) / np.float32(1 - dropout))
