"""The body of a C function, as it is written: steps, the values between them, constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from edgegraft.export.c import text
from edgegraft.export.c.expression import Expression, Leaf, Shape, merged, whole
from edgegraft.export.c.plan import Life, MemoryPlan, planned
from edgegraft_edge.errors import ExportError
from edgegraft_edge.signal import Array

SIZES = {"float": 4, "int8_t": 1, "int32_t": 4}
MAX_CONSTANT_BYTES = 32 << 20
_LEAVES, _LENGTH = 6, 400  # an expression beyond this is put into memory
_ROW_BYTES = 512  # of stack, for values that are turned as they are computed
_COUNTERS = "ijklmnpq"

Value = Expression | Array
"""What an operation reads: a value of the window, or a constant."""


@dataclass
class Constants:
    """Constant arrays of a model, each kept once."""

    prefix: str
    lines: list[str] = field(default_factory=list)
    size_bytes: int = 0
    _names: dict[object, str] = field(default_factory=dict)

    def array(self, values: Array, dtype: type | str) -> str:
        """The name of a constant array. Errors: `ExportError` when a weight is no number."""
        array = np.ascontiguousarray(values, dtype=dtype)
        ctype = {"float32": "float", "int8": "int8_t", "int32": "int32_t", "uint32": "uint32_t"}[
            array.dtype.name
        ]
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ExportError.of(
                "export-not-finite",
                f"{int(np.isnan(array).sum())} constants that are no numbers",
                "what is computed from them is no number either",
                "train or import the model again",
            )
        self.size_bytes += array.nbytes
        if self.size_bytes > MAX_CONSTANT_BYTES:
            raise ExportError.of(
                "export-c-size",
                f"more than {MAX_CONSTANT_BYTES >> 20} MiB of weights",
                "no microcontroller holds them, and their C would not compile in reasonable time",
                "--format onnx or litert, or a smaller backbone",
            )
        return self._named((ctype, array.tobytes()), ctype, lambda n: text.table(ctype, n, array))

    def structure(self, ctype: str, fields: dict[str, object]) -> str:
        """The name of a constant struct."""
        return self._named(
            (ctype, tuple(fields.items())), ctype, lambda n: text.structure(ctype, n, fields)
        )

    def raw(self, ctype: str, lines: Sequence[str]) -> str:
        """The name of a constant array of structs, given as their initialisers."""
        body = text.rows(lines)
        return self._named(
            (ctype, body), ctype,
            lambda n: f"static const {ctype} {n}[{len(lines)}] = {{\n{body}}};",
        )  # fmt: skip

    def _named(self, key: object, ctype: str, write: object) -> str:
        if key not in self._names:
            name = f"{self.prefix}_k{len(self._names)}"
            self._names[key] = name
            self.lines.append(write(name))  # type: ignore[operator]
        return self._names[key]


@dataclass
class Step:
    """Lines of C, with the buffers that they read and write."""

    title: str
    lines: list[str]
    reads: tuple[str, ...]
    writes: str
    share: str = ""
    scratch_bytes: int = 0


@dataclass
class _Buffer:
    ctype: str
    size_bytes: int
    external: bool = False


@dataclass
class Body:
    """Writes one function, operation by operation.

    Values of the window are :class:`Expression`: those that only move or compute element by
    element stay unwritten until somebody needs them in memory.
    """

    constants: Constants
    blocks: bool = False  # weights of int8 kernels as processors with dot products want them
    buffers: dict[str, _Buffer] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    title: str = ""
    output: str = ""  # where the result of the operation goes, when that is the last
    _dense: dict[Expression, Expression] = field(default_factory=dict)

    def given(self, name: str, ctype: str, shape: Shape) -> Expression:
        """An array of the caller: what the function reads or writes."""
        self.buffers[name] = _Buffer(ctype, SIZES[ctype] * prod(shape), external=True)
        return whole(name, ctype, shape)

    # -- values in memory

    def buffer(self, ctype: str, shape: Shape, result: bool = True) -> Expression:
        """Memory for a value; that of the caller for the last one."""
        if result and self.output and self.buffers[self.output].ctype == ctype:
            return whole(self.output, ctype, shape)
        name = f"v{len(self.buffers)}"
        self.buffers[name] = _Buffer(ctype, SIZES[ctype] * prod(shape))
        return whole(name, ctype, shape)

    def dense(self, value: Value, dtype: str = "float32") -> Expression:
        """The value as it lies densely in memory, put there if need be."""
        if not isinstance(value, Expression):
            ctype = {"float32": "float", "int8": "int8_t"}[dtype]
            return whole(self.constants.array(value, dtype), ctype, value.shape)
        if value.is_contiguous:
            return value
        if value not in self._dense:
            self._dense[value] = self.stored(value, result=False)
        return self._dense[value]

    def stored(self, value: Expression, result: bool = True) -> Expression:
        """The value written to memory of its own."""
        into = self.buffer(value.ctype, value.shape, result)
        self.loop(into, value)
        return into

    def settled(self, value: Expression) -> Expression:
        """The value, with what it computes in memory if it would be computed more than once."""
        return value if value.is_view else self.dense(value)

    def short(self, value: Expression) -> Expression:
        """The value, in memory if its expression has grown long."""
        long = len(value.leaves) > _LEAVES or len(value.text) > _LENGTH
        return self.stored(value) if long else value

    # -- steps

    def step(
        self, lines: Sequence[str], reads: Sequence[Expression], writes: Expression,
        share: str = "", scratch_bytes: int = 0,
    ) -> None:  # fmt: skip
        names = {leaf.name for value in reads for leaf in value.leaves}
        self.steps.append(
            Step(
                self.title,
                list(lines),
                tuple(sorted(name for name in names if name in self.buffers)),
                writes.leaves[0].name,
                share,
                scratch_bytes,
            )
        )

    def call(
        self, function: str, arguments: Sequence[object], reads: Sequence[Expression],
        writes: Expression, in_place: bool = False, scratch_bytes: int = 0,
    ) -> None:  # fmt: skip
        """A step that calls a kernel; expressions among the arguments become pointers."""
        texts = [pointer(a) if isinstance(a, Expression) else str(a) for a in arguments]
        share = reads[0].leaves[0].name if in_place else ""
        self.step([f"{function}({', '.join(texts)});"], reads, writes, share, scratch_bytes)

    def loop(self, into: Expression, value: Expression) -> None:
        """A step that computes every element of a value."""
        (target,) = into.leaves
        leaves = (target, *value.leaves)
        axes = merged(value.shape, [leaf.strides for leaf in leaves])
        counters = counters_of(len(axes))
        places = [address(leaf, counters, [s[n] for _, s in axes]) for n, leaf in enumerate(leaves)]
        line = f"{places[0]} = {value.text.format(*places[1:])};"
        share = self._in_place(leaves, axes)
        if self._turned(leaves, axes, value):
            self.step(_by_rows(axes, value, leaves), [value], into, share)
            return
        self.step(nested([size for size, _ in axes], counters, [line]), [value], into, share)

    def _turned(
        self, leaves: Sequence[Leaf], axes: Sequence[tuple[int, tuple[int, ...]]], value: Expression
    ) -> bool:
        """Whether a value is computed in another order than it is read, row by short row."""
        if len(axes) != 2 or value.is_view:
            return False
        (n_rows, outer), (_, inner) = axes
        read = [n for n, leaf in enumerate(leaves) if n and leaf.name in self.buffers]
        turned = bool(read) and all(outer[n] == 1 and inner[n] != 1 for n in read)
        return turned and n_rows * SIZES[leaves[0].ctype] <= _ROW_BYTES

    def _in_place(self, leaves: Sequence[Leaf], axes: Sequence[tuple[int, tuple[int, ...]]]) -> str:
        """An array that is read just where the result is written, so that it may go there."""
        target = leaves[0]
        for leaf in leaves[1:]:
            same = [
                (other.offset, *(step[n] for _, step in axes))
                for n, other in enumerate(leaves)
                if other.name == leaf.name
            ]
            wanted = (target.offset, *(step[0] for _, step in axes))
            fits = SIZES[target.ctype] <= SIZES[leaf.ctype]
            if leaf.name in self.buffers and fits and set(same) == {wanted} and not target.offset:
                return leaf.name
        return ""

    # -- the end

    def plan(self) -> MemoryPlan:
        """Places of all values of this function, and of what kernels need while they run."""
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        shares: dict[str, str] = {}
        lives: list[Life] = []
        for index, step in enumerate(self.steps):
            for name in (*step.reads, step.writes):
                first.setdefault(name, index)
                last[name] = index
            if step.scratch_bytes:
                lives.append(Life(f"scratch{index}", step.scratch_bytes, index, index))
        inside = [name for name in first if not self.buffers[name].external]
        lives += [Life(n, self.buffers[n].size_bytes, first[n], last[n]) for n in inside]
        for index, step in enumerate(self.steps):
            if step.share in inside and step.writes in inside and first[step.writes] == index:
                shares[step.writes] = step.share
        return planned(lives, shares)

    def lines(self, plan: MemoryPlan) -> list[str]:
        """The function's statements; `arena` and the arrays of the caller are in scope."""
        offsets = plan.offsets
        used = [name for name in self.buffers if name in offsets]
        found = ["uint8_t *const place = arena;"] if offsets else ["(void)arena;"]
        for name in used:
            ctype = self.buffers[name].ctype
            found.append(f"{ctype} *const {name} = ({ctype} *)(void *)(place + {offsets[name]});")
        for index, step in enumerate(self.steps):
            if index == 0 or step.title != self.steps[index - 1].title:
                found += ["", f"/* {step.title} */"]
            scratch = (
                f"(int8_t *)(place + {offsets[f'scratch{index}']})" if step.scratch_bytes else "0"
            )
            found += [line.replace("@scratch", scratch) for line in step.lines]
        return found


def _by_rows(
    axes: Sequence[tuple[int, tuple[int, ...]]], value: Expression, leaves: Sequence[Leaf]
) -> list[str]:
    """A loop over columns of the result, each computed as it is read and then spread."""
    (n_rows, outer), (n_columns, inner) = axes
    target = leaves[0]
    places = [address(leaf, "ij", (outer[n], inner[n])) for n, leaf in enumerate(leaves)]
    return nested(
        [n_columns],
        ["j"],
        [
            f"{target.ctype} row[{n_rows}];",
            *nested([n_rows], ["i"], [f"row[i] = {value.text.format(*places[1:])};"]),
            *nested([n_rows], ["i"], [f"{places[0]} = row[i];"]),
        ],
    )


def pointer(value: Expression) -> str:
    """The C expression of where a dense value begins."""
    leaf = value.leaves[0]
    return f"{leaf.name} + {leaf.offset}" if leaf.offset else leaf.name


def counters_of(n_axes: int) -> list[str]:
    if n_axes > len(_COUNTERS):
        raise ExportError.of(
            "export-c-operation",
            f"a value of {n_axes} axes",
            f"loops are written for {len(_COUNTERS)}",
            "--format onnx, or values of fewer axes",
        )
    return list(_COUNTERS[:n_axes])


def address(leaf: Leaf, counters: Sequence[str], strides: Sequence[int]) -> str:
    """``name[offset + i * stride ...]``."""
    terms = [str(leaf.offset)] if leaf.offset else []
    for counter, stride in zip(counters, strides, strict=True):
        if stride:
            terms.append(counter if stride == 1 else f"{counter} * {stride}")
    return f"{leaf.name}[{' + '.join(terms).replace('+ -', '- ') or '0'}]"


def nested(sizes: Sequence[int], counters: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Loops around lines."""
    found = list(lines)
    for size, counter in reversed(list(zip(sizes, counters, strict=True))):
        head = f"for (int32_t {counter} = 0; {counter} < {size}; {counter}++) {{"
        found = [head, *(f"    {line}" for line in found), "}"]
    return found
