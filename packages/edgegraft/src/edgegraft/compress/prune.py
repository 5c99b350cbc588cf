"""Structured pruning: whole channels leave a network, and what is left learns again.

Channels go that matter least: by how the loss would change without them (P. Molchanov et al.,
Importance Estimation for Neural Network Pruning, CVPR 2019: the square of the sum of weight times
gradient), or by the size of their weights (H. Li et al., Pruning Filters for Efficient ConvNets,
ICLR 2017). Tensors become smaller; channels that are added to each other go together. Recovery
is distillation from what the network said before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.compress.channels import Channels, channels
from edgegraft.compress.distill import Distillation, learn
from edgegraft.compress.teacher import Taught
from edgegraft.zoo.torch_program import run_torch
from edgegraft_edge.errors import ModelError, OptionError, Problem
from edgegraft_edge.integer import INTEGER
from edgegraft_edge.program import Op, Program
from edgegraft_edge.signal import Array
from edgegraft_edge.tokens import READERS

if TYPE_CHECKING:
    from torch import Tensor

Importance = Literal["taylor", "norm"]
_UNTRAINED = ("trees", "greater", "sort", "round")
_WEIGHTED = ("conv1d", "conv2d", "matmul")
_BATCHES, _BATCH = 16, 64
_SMALLEST = 1e-9


@dataclass(frozen=True)
class Pruning:
    """How channels are left out.

    Errors: `OptionError` listing every option whose value makes no sense.

    >>> Pruning(share=0.5).rounds
    2
    """

    share: float = field(default=0.3, metadata={"help": "share of all channels that go"})
    rounds: int = field(
        default=2, metadata={"help": "in how many rounds they go, with recovery after each"}
    )
    importance: Importance = field(
        default="taylor",
        metadata={
            "help": "taylor (change of the loss without the channel) or norm (of its weights)"
        },
    )
    least: int = field(default=4, metadata={"help": "channels that every layer keeps"})
    multiple: int = field(
        default=4, metadata={"help": "layers keep a multiple of this where they had one"}
    )
    recovery: Distillation = field(
        default=Distillation(steps=1000, learning_rate=1e-3),
        metadata={"help": "how what is left learns again, after each round"},
    )

    def __post_init__(self) -> None:
        problems = [
            Problem("option-range", f"{name}={getattr(self, name)}", why, remedy)
            for name, low, high, why, remedy in (
                ("share", 0.01, 0.95, "it is a share of the channels", "0.3"),
                ("rounds", 1, 20, "it counts rounds", "2"),
                ("least", 1, np.inf, "a layer has a channel", "4"),
                ("multiple", 1, np.inf, "it counts channels", "4, or 1 for any"),
            )
            if not low <= getattr(self, name) <= high
        ]
        if self.importance not in ("taylor", "norm"):
            problems.append(
                Problem(
                    "option-value",
                    f"importance={self.importance!r}",
                    "there is none of that name",
                    "taylor or norm",
                )
            )
        if problems:
            raise OptionError(problems)


def pruned(
    program: Program,
    said: Taught,
    options: Pruning | None = None,
    *,
    seed: int = 0,
    watch: Watch = unwatched,
) -> Program:
    """A program with fewer channels, trained again.

    Args:
        program: in float, from raw windows to class probabilities.
        said: windows, and what this very program (or a better one) says of them.

    Errors: `ModelError` "prune-operation" for a program that cannot be trained, with what is in
    it, "prune-nothing" where no channel can go.
    """
    options = options or Pruning()
    check(program)
    shape = said.spec.shape
    total = sum(map(len, channels(program, *shape).spaces))
    n_gone = 0
    for index in range(options.rounds):
        found = channels(program, *shape)
        left = total * (1 - options.share * (index + 1) / options.rounds)
        gone = _least_important(found, said, options, sum(map(len, found.spaces)) - round(left))
        if not gone:
            continue
        n_gone += len(gone)
        watch("pruned", {"round": index + 1, "channels": len(gone)})
        program = recovered(found.without(gone), said, options.recovery, seed=seed, watch=watch)
    if not n_gone:
        raise ModelError.of(
            "prune-nothing",
            f"{total} channels that could go, of which every layer keeps {options.least} and a "
            f"multiple of {options.multiple}",
            "none is left to leave out",
            "a larger share, smaller least and multiple, or a smaller student (methods=distill)",
        )
    return program


def recovered(
    program: Program,
    said: Taught,
    options: Distillation,
    *,
    seed: int = 0,
    watch: Watch = unwatched,
) -> Program:
    """The program with its weights trained toward what a teacher said."""
    weights = {name: program.constants[name] for name in trained_constants(program)}

    def forward(current: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return _logs(program, x, current)

    result = learn(said, said.x, weights, forward, options, seed=seed, watch=watch)
    constants = {**program.constants, **result.parameters}
    return replace(program, constants=constants)


def trained_constants(program: Program) -> tuple[str, ...]:
    """Weights and biases of convolutions and matrices, from the first trainable layer on.

    A matrix that only prepares windows (a spectrum, resampling) has no bias and is no weight.
    """
    after = {op.inputs[0]: op for op in program.ops if op.kind == "add"}
    found = []
    for op in program.ops:
        if op.kind not in _WEIGHTED or op.inputs[1] not in program.constants:
            continue
        bias = op.inputs[2] if len(op.inputs) == 3 else _bias(program, op, after)
        if bias is not None and bias in program.constants:
            found += [op.inputs[1], bias]
    return tuple(dict.fromkeys(found))


def _bias(program: Program, op: Op, after: Mapping[str, Op]) -> str | None:
    """The constant that is added to the product of a matrix, if there is one for each column."""
    width = program.constants[op.inputs[1]].shape[-1]
    added = after.get(op.output)
    if added is None or added.inputs[1] not in program.constants:
        return None
    return added.inputs[1] if program.constants[added.inputs[1]].shape == (width,) else None


def check(program: Program) -> None:
    """Refuse what has no gradient. Errors: `ModelError` "prune-operation"."""
    kinds = [*_UNTRAINED, *INTEGER, *READERS]
    wrong = sorted({op.kind for op in program.ops if op.kind in kinds})
    if wrong:
        raise ModelError.of(
            "prune-operation",
            f"a program with {', '.join(wrong)}",
            "what is left of it could not learn again: these have no gradient",
            "distil a student of it (methods=distill) and prune that; prune before int8",
        )


def _logs(program: Program, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    found = run_torch(program, x.float(), weights)  # pictures come as bytes
    assert not isinstance(found, tuple)
    return found.clamp_min(_SMALLEST).log()


def _least_important(found: Channels, said: Taught, options: Pruning, count: int) -> set[int]:
    """Numbers of at most `count` channels that matter least, each layer keeping its due."""
    spaces = found.spaces
    if count < 1 or not spaces:
        return set()
    worth = _by_loss(found, said) if options.importance == "taylor" else _by_norm(found)
    space_of = {int(number): index for index, own in enumerate(spaces) for number in own}
    kept = [len(own) for own in spaces]
    gone: set[int] = set()
    for number in sorted(worth, key=lambda each: worth[each]):
        place = space_of[number]
        if len(gone) < count and kept[place] > options.least:
            gone.add(number)
            kept[place] -= 1
    for place, own in enumerate(spaces):  # to the nearest multiple, by the same order
        over = kept[place] % options.multiple
        if len(own) % options.multiple or not over:
            continue
        order = sorted(own.tolist(), key=lambda each: worth[each])
        missing = [number for number in order if number in gone]
        if 2 * over < options.multiple and kept[place] - over >= options.least:
            gone.update([number for number in order if number not in gone][:over])
        else:
            gone.difference_update(missing[over - options.multiple :])
    return gone


def _rows(array: Array, axis: int) -> Array:
    """A weight with one row for each channel that it gives."""
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _worth(found: Channels, of: Callable[[str, int], Array]) -> dict[int, float]:
    """Number -> sum over the layers that give it, each on the scale of its own mean."""
    worth = {int(number): 0.0 for own in found.spaces for number in own}
    for layer in found.layers:
        values = of(layer.weight, layer.axis)
        values = values / max(float(values.mean()), 1e-30)
        for number, value in zip(layer.ids.tolist(), values.tolist(), strict=True):
            if number in worth:
                worth[number] += value
    return worth


def _by_norm(found: Channels) -> dict[int, float]:
    constants = found.program.constants
    return _worth(found, lambda name, axis: np.linalg.norm(_rows(constants[name], axis), axis=1))


def _by_loss(found: Channels, said: Taught) -> dict[int, float]:
    """By gradients of the loss against the class that was said, labels where there are some."""
    import torch
    from torch.nn import functional

    program = found.program
    names = [layer.weight for layer in found.layers]
    weights = {n: torch.tensor(program.constants[n], requires_grad=True) for n in names}
    codes = np.where(said.codes >= 0, said.codes, said.probabilities[0].argmax(axis=1))
    rows = np.random.default_rng(0).permutation(said.rows)[: _BATCHES * _BATCH]
    total = {name: np.zeros(program.constants[name].shape) for name in names}
    sums: dict[str, Array] = {}
    axes = {layer.weight: layer.axis for layer in found.layers}
    for first in range(0, len(rows), _BATCH):
        part = rows[first : first + _BATCH]
        logs = _logs(program, torch.tensor(said.x[0][part]), weights)
        loss = functional.nll_loss(logs, torch.tensor(codes[part]))
        for tensor in weights.values():
            tensor.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        for name, tensor in weights.items():
            if tensor.grad is None:
                continue
            product = (tensor.grad * tensor).detach().numpy()
            each = _rows(product, axes[name]).sum(axis=1) ** 2
            sums[name] = sums.get(name, np.zeros_like(each)) + each
    return _worth(found, lambda name, axis: sums.get(name, np.ones(total[name].shape[axis])))
