"""Common subexpressions of a program are computed once."""

from __future__ import annotations

import json

from edgegraft.fingerprint import fingerprint
from edgegraft_edge.program import INPUT, Op, Program


def merge_common(program: Program) -> Program:
    """The same program, where equal constants are kept once and equal operations done once.

    Mixtures of models on one backbone, each written by itself, then share its embedding.

    >>> import numpy as np
    >>> from edgegraft_edge.program import Draft
    >>> draft = Draft()
    >>> twice = [draft.add("mul", "x", np.float32(2)) for _ in range(2)]
    >>> len(merge_common(draft.finish(draft.add("add", *twice))).ops)
    2
    """
    same, kept = {INPUT: INPUT}, dict[str, str]()
    constants = {}
    for name, array in program.constants.items():
        mark = fingerprint(array)
        same[name] = kept.setdefault(mark, name)
        constants[same[name]] = array
    ops: list[Op] = []
    for op in program.ops:
        inputs = tuple(same[name] for name in op.inputs)
        mark = json.dumps([op.kind, inputs, dict(op.attrs)], sort_keys=True, default=repr)
        if mark not in kept:
            ops.append(Op(op.kind, inputs, op.output, op.attrs))
        same[op.output] = kept.setdefault(mark, op.output)
    return Program(tuple(ops), constants, same[program.output])
