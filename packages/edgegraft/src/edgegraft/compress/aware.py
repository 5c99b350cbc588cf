"""Training that knows of the rounding: the weights of an int8 program, tuned to its float answers.

What post-training int8 changes is taken back by a few epochs over training windows: the integer
program is computed in torch as it will be computed on the device (:mod:`edgegraft.compress.fake`),
and its weights move until it answers what the float program answers. No labels are needed, so a
pool of unlabelled windows serves as well; ranges and scales of values stay as they were calibrated.

Sources: Jacob et al., CVPR 2018; the float model as teacher, Mishra and Marr, Apprentice, ICLR
2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from edgegraft.adapt.loop import Lesson, Training, train
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.compress.calibrate import Quantization, evenly
from edgegraft.compress.fake import BIAS, WEIGHT, parameters_of, run_fake
from edgegraft.compress.quantize import Quantized, quantize_program, remade
from edgegraft.compress.rewrite import Weights, bias_int32, weights_int8
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.program import Program, split
from edgegraft_edge.signal import Array

if TYPE_CHECKING:
    from torch import Tensor

_SMALLEST = 1e-6  # of a probability whose logarithm is taken


@dataclass(frozen=True)
class Aware(Training):
    """How an int8 program is tuned."""

    epochs: int = field(default=10, metadata={"help": "passes over the windows"})
    batch_size: int = field(default=16, metadata={"help": "windows per step"})
    learning_rate: float = field(
        default=3e-4, metadata={"help": "step size at the start; it falls along a cosine"}
    )
    weight_decay: float = field(
        default=0.0, metadata={"help": "pull of the weights toward zero at each step"}
    )


def tuned(
    quantized: Quantized,
    program: Program,
    x: Array,
    options: Aware | None = None,
    *,
    seed: int = 0,
    watch: Watch = unwatched,
) -> Quantized:
    """The int8 program with weights tuned until it answers as the float one does.

    Args:
        quantized: what `quantize_program` made of `program`.
        x: training windows as the programs take them, (n_windows, ...), labelled or not.

    Returns: a program of the same operations and scales of values; the untuned one where tuning
    brought it no nearer to the float answers to `x`.
    """
    import torch

    options = options or Aware()
    wanted = np.concatenate([program.run(x[i : i + 64]) for i in range(0, len(x), 64)])
    teacher, windows = torch.tensor(wanted), torch.tensor(np.asarray(x, np.float32))

    def loss(current: Mapping[str, Tensor], batch: Array, random: np.random.Generator) -> Tensor:
        found = run_fake(quantized.program, current, quantized.steps, windows[batch])
        return _away(teacher[batch], found)

    lesson = Lesson(parameters_of(quantized.weights), len(x), loss)
    trained = train(lesson, options, seed=seed, watch=watch).parameters
    made = with_weights(quantized, trained)
    before, after = (
        float(_away(teacher, torch.tensor(each.program.run(x)))) for each in (quantized, made)
    )
    return made if after < before else quantized


def _away(teacher: Tensor, found: Tensor) -> Tensor:
    """Mean cross-entropy of answers (n_windows, n_classes) with what the teacher says."""
    return -(teacher * found.clamp(min=_SMALLEST).log()).sum(dim=-1).mean()


def with_weights(quantized: Quantized, parameters: Mapping[str, Array]) -> Quantized:
    """The integer program with other float weights, rounded; named as by `parameters_of`."""
    constants = dict(quantized.program.constants)
    weights = {}
    for op in quantized.program.ops:
        if op.output in quantized.weights:
            pair = Weights(parameters[op.output + WEIGHT], parameters[op.output + BIAS])
            kernels, scale = weights_int8(pair.weight)
            bias = bias_int32(pair.bias, op.attrs["x_scale"], scale)
            constants.update(zip(op.inputs[1:], (kernels, bias, scale), strict=True))
            weights[op.output] = pair
    program = replace(quantized.program, constants=constants)
    return replace(quantized, program=program, weights=weights)


def aware_bundle(
    bundle: Bundle,
    windows: Array,
    options: Aware | None = None,
    quantization: Quantization | None = None,
    *,
    seed: int = 0,
    watch: Watch = unwatched,
) -> Bundle:
    """The bundle in int8, tuned on training windows raw as in its spec (n_windows, ...).

    `quantization.windows` of them calibrate. Else as `quantized_bundle`.
    """
    options, quantization = options or Aware(), quantization or Quantization()
    readers, rest = split(bundle.program)
    numbers = windows if readers is None else readers.run(windows)
    found = quantize_program(rest, numbers, quantization)
    found = tuned(found, rest, numbers, options, seed=seed, watch=watch)
    facts = {
        "calibration": "training windows",
        **asdict(quantization),
        "windows": min(len(windows), quantization.windows),
        "tuned": {**asdict(options), "windows": len(windows), "seed": seed},
    }
    return remade(bundle, found, evenly(windows, quantization.windows), facts)
