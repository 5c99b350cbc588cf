"""What a program's values look like: shape and type of each, learned from one window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgegraft_edge.errors import ExportError
from edgegraft_edge.primitives import PRIMITIVES
from edgegraft_edge.program import INPUT, Program
from edgegraft_edge.signal import Array


@dataclass(frozen=True)
class Form:
    """Shape (the window axis first, of length 1) and type of a value."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size_bytes(self) -> int:
        """Of one window."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


def trace(program: Program, *shape: int) -> Mapping[str, Form]:
    """Name -> form of every value and constant, for windows of `shape`.

    Errors: `ExportError` "export-shape" when the program does not fit such windows.

    >>> from edgegraft_edge.program import Draft
    >>> draft = Draft()
    >>> program = draft.finish(draft.add("reshape", "x", shape=[-1]))
    >>> trace(program, 3, 4)[program.output].shape
    (1, 12)
    """
    values: dict[str, Array] = dict(program.constants)
    values[INPUT] = np.zeros((1, *shape), dtype=np.float32)
    forms = {name: Form(np.shape(value), value.dtype) for name, value in values.items()}
    last_use = {name: index for index, op in enumerate(program.ops) for name in op.inputs}
    for index, op in enumerate(program.ops):
        try:
            with np.errstate(all="ignore"):
                value = PRIMITIVES[op.kind](*(values[n] for n in op.inputs), **op.attrs)
        except (ValueError, IndexError, TypeError) as error:
            raise ExportError.of(
                "export-shape",
                f"{op.kind} (operation {index}) on windows of "
                f"{' x '.join(map(str, shape))} values ({error})",
                "the program was made for other windows",
                "export with the window shape of the bundle",
            ) from error
        values[op.output], forms[op.output] = value, Form(np.shape(value), value.dtype)
        for name in set(op.inputs):
            if last_use[name] == index and name not in program.constants:
                del values[name]
    return forms
