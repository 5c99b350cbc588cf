"""What a program costs, counted before anything is run on a device."""

from __future__ import annotations

from math import prod

from edgegraft_edge.program import Program

CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv2d_last", "conv2d_int8"})
MATRICES = frozenset({"matmul", "dense_int8"})


def multiply_adds(program: Program, *shape: int) -> int:
    """Products and sums of the convolutions and matrices of a program, for one window.

    >>> import numpy as np
    >>> from edgegraft_edge.program import Draft
    >>> draft = Draft()
    >>> multiply_adds(draft.finish(draft.add("matmul", "x", np.ones((4, 3)))), 2, 4)
    24
    """
    import torch

    from edgegraft.zoo.torch_program import run_torch

    heavy = [op for op in program.ops if op.kind in CONVOLUTIONS or op.kind in MATRICES]
    if not heavy:
        return 0
    names = tuple({name: None for op in heavy for name in (op.inputs[0], op.output)})
    with torch.inference_mode():
        found = run_torch(program, torch.zeros(1, *shape), outputs=names)
    shapes = {name: tuple(value.shape) for name, value in zip(names, found, strict=True)}
    total = 0
    for op in heavy:
        if op.kind in MATRICES:
            total += prod(shapes[op.output]) * shapes[op.inputs[0]][-1]
        else:
            total += prod(shapes[op.output]) * prod(program.constants[op.inputs[1]].shape[1:])
    return total
