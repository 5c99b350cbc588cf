"""Programs: what a device computes, as data.

A :class:`Program` is a short list of named primitives over arrays with constants.
Preprocessing, fixed features, networks, heads and probabilities are all written as
programs, so one interpreter in NumPy, one emitter to ONNX and (later) one to C serve
everything, and the device computes what Python computed.

Values are float32 with the window axis first: ``(n_windows, ...)``, int8 between `quantize` and
`dequantize`. Constants have no window axis. The primitives are in
:data:`edgegraft_edge.primitives.PRIMITIVES`.

>>> draft = Draft()
>>> centred = draft.add("sub", "x", draft.add("mean", "x", axes=[2]))
>>> power = draft.add("mean", draft.add("mul", centred, centred), axes=[2])
>>> program = draft.finish(draft.add("reshape", power, shape=[-1]))
>>> program.run(np.array([[[1.0, 3.0], [0.0, 0.0]]], dtype=np.float32)).tolist()
[[1.0, 0.0]]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from edgegraft_edge.errors import ModelError, Problem, nearest
from edgegraft_edge.integer import INTEGER
from edgegraft_edge.primitives import BY_VALUE, MOVES, PRIMITIVES
from edgegraft_edge.signal import Array
from edgegraft_edge.tokens import READERS

MAX_OPS = 10_000
INPUT = "x"
Precision = Literal["float", "int8", "mixed"]


@dataclass(frozen=True)
class Op:
    """One primitive: what kind, on which values, giving which value, with which attributes."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "inputs": list(self.inputs),
            "output": self.output,
            "attrs": dict(self.attrs),
        }


@dataclass(frozen=True)
class Program:
    """Primitives in order, from the value ``x`` to `output`; constants by name.

    Errors: `ModelError` when an operation is unknown, or reads what nothing gave.
    """

    ops: tuple[Op, ...]
    constants: Mapping[str, Array]
    output: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "constants", MappingProxyType(dict(self.constants)))
        problems = []
        if len(self.ops) > MAX_OPS:
            problems.append(
                Problem(
                    "program-size",
                    f"{len(self.ops)} operations",
                    f"at most {MAX_OPS} run",
                    "a smaller model",
                )
            )
        known = {INPUT, *self.constants}
        for op in self.ops:
            if op.kind not in PRIMITIVES:
                problems.append(
                    Problem(
                        "primitive-unknown",
                        f"operation {op.kind!r}",
                        "this version has no such primitive",
                        f"{nearest(op.kind, list(PRIMITIVES))}, or a newer edgegraft-edge",
                    )
                )
            problems += [
                Problem(
                    "program-value",
                    f"{op.kind} reads {name!r}",
                    "nothing before it gives that value",
                    "order the operations",
                )
                for name in op.inputs
                if name not in known
            ]
            known.add(op.output)
        if self.output not in known:
            problems.append(
                Problem(
                    "program-value",
                    f"the output {self.output!r}",
                    "nothing gives that value",
                    "name the last operation's output",
                )
            )
        if problems:
            raise ModelError(problems)

    def run(self, x: Array) -> Array:
        """Interpret the program in NumPy.

        Args:
            x: (n_windows, n_channels, n_timepoints), or whatever the program starts from.

        Returns: float32 (n_windows, ...).
        """
        values: dict[str, Array] = dict(self.constants)
        values[INPUT] = np.asarray(x, dtype=np.float32)
        last_use = {name: index for index, op in enumerate(self.ops) for name in op.inputs}
        for index, op in enumerate(self.ops):
            values[op.output] = PRIMITIVES[op.kind](*(values[n] for n in op.inputs), **op.attrs)
            for name in set(op.inputs):
                if last_use[name] == index and name != self.output and name in values:
                    del values[name]
        return np.asarray(values[self.output], dtype=np.float32)

    @property
    def size_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(int(array.nbytes) for array in self.constants.values())

    @property
    def float_operations(self) -> tuple[str, ...]:
        """Kinds of operations that need floats between the first `quantize` and the last
        `dequantize`; all kinds where nothing is quantised.

        None for a program that is integer throughout; what prepares its windows does not count.
        """
        kinds = [op.kind for op in self.ops]
        if "quantize" not in kinds:
            return tuple(dict.fromkeys(kinds))
        first = kinds.index("quantize")
        last = len(kinds)
        if "dequantize" in kinds:
            last -= 1 + kinds[::-1].index("dequantize")
        int8 = {op.output for op in self.ops if op.kind in INTEGER and op.kind != "dequantize"}
        found = []
        for op in self.ops[first + 1 : last]:
            if op.kind in ("quantize", "dequantize"):
                found.append(op.kind)
            elif op.kind in MOVES and all(n in int8 for n in op.inputs if n not in self.constants):
                int8.add(op.output)
            elif op.kind not in INTEGER:
                found.append(op.kind)
        return tuple(dict.fromkeys(found))

    @property
    def precision(self) -> Precision:
        """ "int8" where only integers are computed once the window is prepared value by value;
        "mixed" where some of it is; "float" where nothing is.
        """
        kinds = [op.kind for op in self.ops]
        if "quantize" not in kinds:
            return "float"
        before = kinds[: kinds.index("quantize")]
        prepared = all(kind in BY_VALUE or kind in MOVES for kind in before)
        return "int8" if prepared and not self.float_operations else "mixed"

    def as_dict(self) -> dict[str, Any]:
        """Operations and output as plain JSON values; constants travel apart, as tensors."""
        return {"ops": [op.as_dict() for op in self.ops], "output": self.output}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], constants: Mapping[str, Array]) -> Program:
        """The inverse of `as_dict`; refuses anything that is not of that form."""
        try:
            ops = tuple(
                Op(
                    str(op["kind"]),
                    tuple(map(str, op["inputs"])),
                    str(op["output"]),
                    dict(op.get("attrs", {})),
                )
                for op in data["ops"]
            )
            output = str(data["output"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError.of(
                "program-form",
                f"a program that lacks {error}",
                "operations need kind, inputs and output",
                "export it again",
            ) from error
        return cls(ops, constants, output)


class Draft:
    """Writes a program operation by operation; `add` returns the name of the new value."""

    def __init__(self) -> None:
        self._ops: list[Op] = []
        self._constants: dict[str, Array] = {}

    def constant(self, values: Any, name: str = "") -> str:
        """Keep an array and return its name: floats as float32, integers as int64.

        Bytes and what integer primitives take (int8, int32) stay as they are. A name of its own
        is for weights that are trained.
        """
        array = np.asarray(values)
        if array.dtype not in (np.uint8, np.int8, np.int32):
            whole = array.dtype.kind in "iub"
            array = array.astype(np.int64 if whole else np.float32, copy=False)
        name = name or f"k{len(self._constants)}"
        if name in self._constants:
            raise ValueError(f"two constants named {name!r}")
        self._constants[name] = np.asarray(array, order="C")
        return name

    def add(self, kind: str, *inputs: Any, **attrs: Any) -> str:
        """Append a primitive; an input is the name of a value, or an array to keep as constant."""
        names = tuple(i if isinstance(i, str) else self.constant(i) for i in inputs)
        output = f"v{len(self._ops)}"
        self._ops.append(Op(kind, names, output, attrs))
        return output

    def keep(self, program: Program) -> str:
        """Go on from a program, in an empty draft; its values and constants keep their names."""
        self._ops, self._constants = list(program.ops), dict(program.constants)
        return program.output

    def call(self, program: Program, value: str = INPUT) -> str:
        """Inline another program, reading `value` in place of its input.

        Trained weights ("block.part") keep their names where these are free.
        """
        names = {INPUT: value}
        for name, array in program.constants.items():
            free = "." in name and name not in self._constants
            names[name] = self.constant(array, name if free else "")
        for op in program.ops:
            names[op.output] = self.add(op.kind, *(names[n] for n in op.inputs), **op.attrs)
        return names[program.output]

    def finish(self, output: str, *others: str) -> Program:
        """The program that gives `output`; what that, and `others`, do not need is left out."""
        needed, ops = {output, *others}, []
        for op in reversed(self._ops):
            if op.output in needed:
                needed.update(op.inputs)
                ops.append(op)
        constants = {name: array for name, array in self._constants.items() if name in needed}
        return Program(tuple(reversed(ops)), constants, output)


IDENTITY = Program((), {}, INPUT)


def chain(*programs: Program) -> Program:
    """One program that runs each on the output of the one before."""
    draft, value = Draft(), INPUT
    for program in programs:
        value = draft.call(program, value)
    return draft.finish(value)


def split(program: Program) -> tuple[Program | None, Program]:
    """What takes text apart, if the program does, and the rest, which other runtimes can run.

    All readers read the input and give (n_windows, size); side by side they are what the rest
    starts from.
    """
    readers = [op for op in program.ops if op.kind in READERS]
    if not readers:
        return None, program
    front, rest = Draft(), Draft()
    parts, names, place = [], {}, 0
    for op in readers:
        parts.append(front.add(op.kind, *(_known(program, n) for n in op.inputs), **op.attrs))
        size = int(op.attrs["size"])
        names[op.output] = rest.add("slice", INPUT, axis=1, start=place, stop=place + size)
        place += size
    for op in program.ops:
        if op.kind not in READERS:
            inputs = (names.get(name, _known(program, name)) for name in op.inputs)
            names[op.output] = rest.add(op.kind, *inputs, **op.attrs)
    joined = front.add("concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    return front.finish(joined), rest.finish(names[program.output])


def _known(program: Program, name: str) -> str | Array:
    return program.constants.get(name, name)
