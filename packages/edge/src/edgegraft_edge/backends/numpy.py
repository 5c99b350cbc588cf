"""The reference runtime: the program of a bundle, interpreted in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgegraft_edge import json_text, tensors
from edgegraft_edge.backends import Run
from edgegraft_edge.errors import EdgegraftError, ModelError
from edgegraft_edge.program import Program
from edgegraft_edge.signal import Array


@dataclass(frozen=True)
class NumpyBackend:
    """Runs programs that :func:`pack` has packed.

    >>> run = NumpyBackend().open(pack(b'{"ops": [], "output": "x"}', {}))
    >>> run(np.ones((1, 1, 2))).tolist()
    [[[1.0, 1.0]]]
    """

    name: ClassVar[str] = "numpy"

    def open(self, model: bytes) -> Run:
        arrays = tensors.load(model)
        if "program" not in arrays:
            raise ModelError.of(
                "program-form",
                "tensors without a program",
                "the NumPy model is a packed program",
                "take it from Bundle.model('numpy')",
            )
        operations = arrays.pop("program").tobytes()
        constants = {name.removeprefix("constant."): array for name, array in arrays.items()}
        return guard(read(operations, constants))


def pack(operations: bytes, constants: Mapping[str, Array]) -> bytes:
    """Operations (JSON) and constants of a program as one model."""
    packed = {f"constant.{name}": array for name, array in constants.items()}
    packed["program"] = np.frombuffer(operations, dtype=np.uint8)
    return tensors.dump(packed)


def read(operations: bytes, constants: Mapping[str, Array]) -> Program:
    """A program from its JSON and its constants.

    Errors: `ModelError` for what is no program, or one that would not end.
    """
    program = Program.from_dict(json_text.parse(operations, "program.json"), constants)
    for op in program.ops:
        if op.kind != "trees":
            continue
        children = [program.constants.get(name) for name in op.inputs[3:5]]
        if len(children) < 2 or not all(_come_later(nodes) for nodes in children):
            raise ModelError.of(
                "program-loop",
                "trees whose nodes lead back",
                "they might never reach a leaf",
                "number every child after its parent",
            )
    return program


def guard(program: Program) -> Run:
    """The program as a function that raises nothing but `ModelError`."""

    def run(x: Array) -> Array:
        try:
            with np.errstate(all="ignore"):
                return program.run(x)
        except EdgegraftError:
            raise
        except Exception as error:  # whatever NumPy raises on shapes that do not fit
            raise ModelError.of(
                "program-run",
                f"windows of shape {np.shape(x)}: {error}",
                "the program cannot be run on them",
                "give the windows it was made for, or export it again",
            ) from error

    return run


def _come_later(children: Array | None) -> bool:
    if children is None or children.ndim != 1:
        return False
    return bool(np.all((children < 0) | (children > np.arange(len(children)))))
