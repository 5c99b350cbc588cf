"""Programs in torch: the same primitives, differentiable, so that any program can be trained.

The table here mirrors :data:`edgegraft_edge.primitives.PRIMITIVES` name by name, with the same
arguments; a test holds the two tables together. What takes text apart and the integer primitives
run in NumPy, since nothing is learned there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegraft_edge.integer import INTEGER
from edgegraft_edge.program import INPUT, Op, Program
from edgegraft_edge.signal import Array
from edgegraft_edge.tokens import READERS

if TYPE_CHECKING:
    from torch import Tensor


def run_torch(
    program: Program,
    x: Tensor,
    weights: Mapping[str, Tensor] | None = None,
    *,
    outputs: tuple[str, ...] = (),
) -> Tensor | tuple[Tensor, ...]:
    """Interpret a program in torch.

    Args:
        x: float32 (n_windows, ...).
        weights: take the place of the program's constants of the same name.
        outputs: names of values to give, instead of the program's output.

    Returns: one tensor, or one for each of `outputs`; differentiable in `weights` and `x`.

    >>> import torch
    >>> from edgegraft_edge.program import Draft
    >>> draft = Draft()
    >>> program = draft.finish(draft.add("relu", draft.add("sub", "x", np.float32(1))))
    >>> run_torch(program, torch.tensor([[0.0, 3.0]])).tolist()
    [[0.0, 2.0]]
    """
    import torch

    table = _table()
    values: dict[str, Any] = {
        name: torch.from_numpy(np.array(array))
        for name, array in program.constants.items()
        if weights is None or name not in weights
    }
    values.update(weights or {})
    values[INPUT] = x
    wanted = outputs or (program.output,)
    last_use = {name: index for index, op in enumerate(program.ops) for name in op.inputs}
    spent = frozenset[int]() if torch.is_grad_enabled() else _spent(program.ops, wanted)
    for index, op in enumerate(program.ops):
        arguments = [values[name] for name in op.inputs]
        if index in spent and not any(other.ndim for other in arguments[1:]):
            values[op.output] = _in_place()[op.kind](*arguments)
        else:
            values[op.output] = table[op.kind](*arguments, **op.attrs)
        for name in set(op.inputs):
            if last_use[name] == index and name not in wanted:
                del values[name]
    found = tuple(values[name] for name in wanted)
    return found if outputs else found[0]


def _spent(ops: tuple[Op, ...], wanted: tuple[str, ...]) -> frozenset[int]:
    """Operations that may write over their first input: nothing else reads it, nor a view of it.

    Activations pass through memory once instead of twice, which is a third of the time of a
    small network.
    """
    readers = Counter(name for op in ops for name in op.inputs)
    fresh: set[str] = set()
    found = set()
    for index, op in enumerate(ops):
        if op.kind in _IN_PLACE and op.inputs[0] in fresh:
            found.add(index)
        elif op.kind not in _MAKES:
            continue
        if readers[op.output] == 1 and op.output not in wanted:
            fresh.add(op.output)
    return frozenset(found)


_MAKES = ("conv1d", "conv2d", "matmul")
_IN_PLACE = ("relu", "minimum")


@cache
def _in_place() -> Mapping[str, Callable[..., Any]]:
    import torch

    return {"relu": torch.relu_, "minimum": lambda a, b: torch.minimum(a, b, out=a)}


@cache
def _table() -> Mapping[str, Callable[..., Any]]:
    """Primitive -> torch function; made once, when torch is first needed."""
    import torch
    from torch.nn import functional

    def read(function: Callable[..., Array]) -> Callable[..., Tensor]:
        def run(x: Tensor, *tables: Tensor, **attrs: Any) -> Tensor:
            arrays = (table.numpy() for table in tables)
            return torch.from_numpy(function(x.detach().numpy(), *arrays, **attrs))

        return run

    def reduce(name: str) -> Callable[..., Tensor]:
        function = getattr(torch.Tensor, name)

        def run(x: Tensor, *, axes: list[int], keepdims: bool = True) -> Tensor:
            found: Tensor = function(x, dim=tuple(axes), keepdim=keepdims)
            return found

        return run

    def padded(x: Tensor, pad: Any) -> Tensor:
        top, left, bottom, right = pad
        return functional.pad(x, (left, right, top, bottom)) if any(pad) else x

    def conv1d(
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        pad: Any = (0, 0),
    ) -> Tensor:
        x = functional.pad(x, tuple(pad)) if any(pad) else x
        return functional.conv1d(x, weight, bias, stride, 0, dilation, groups)

    def conv2d(
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        *,
        stride: Any = (1, 1),
        dilation: Any = (1, 1),
        groups: int = 1,
        pad: Any = (0, 0, 0, 0),
    ) -> Tensor:
        if min(x.shape[2:]) > 1:  # rows of features are a third faster, and what follows keeps them
            x = x.contiguous(memory_format=torch.channels_last)
        top, left, bottom, right = pad
        even = top == bottom and left == right
        x = x if even else padded(x, pad)
        around = (top, left) if even else (0, 0)
        return functional.conv2d(x, weight, bias, tuple(stride), around, tuple(dilation), groups)

    def max_pool2d(x: Tensor, *, kernel: Any, stride: Any, pad: Any = (0, 0, 0, 0)) -> Tensor:
        top, left, bottom, right = pad
        if any(pad):
            x = functional.pad(x, (left, right, top, bottom), value=-np.inf)
        return functional.max_pool2d(x, tuple(kernel), tuple(stride))

    def conv2d_last(x: Tensor, weight: Tensor, bias: Tensor, **attrs: Any) -> Tensor:
        first = x.permute(0, 3, 1, 2), weight.permute(0, 3, 1, 2)
        return conv2d(*first, bias, **attrs).permute(0, 2, 3, 1)

    def max_pool2d_last(x: Tensor, **attrs: Any) -> Tensor:
        return max_pool2d(x.permute(0, 3, 1, 2), **attrs).permute(0, 2, 3, 1)

    def pad(x: Tensor, *, before: list[int], after: list[int], value: float = 0) -> Tensor:
        edges = [
            size for pair in zip(reversed(before), reversed(after), strict=True) for size in pair
        ]
        return functional.pad(x, edges, value=value)

    def frame(x: Tensor, *, length: int, hop: int) -> Tensor:
        return x.unfold(2, length, hop)

    def slices(x: Tensor, *, axis: int, start: int, stop: int, step: int = 1) -> Tensor:
        if step > 0:
            return x[(slice(None),) * (axis % x.ndim) + (slice(start, stop, step),)]
        places = np.arange(x.shape[axis])[start:stop:step]
        return x.index_select(axis, torch.from_numpy(places.copy()))

    def gather(x: Tensor, index: Tensor, *, axis: int) -> Tensor:
        flat = torch.remainder(index.reshape(-1), x.shape[axis])
        axis = axis % x.ndim
        picked = x.index_select(axis, flat)
        return picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])

    def trees(x: Tensor, *parts: Tensor) -> Tensor:
        from edgegraft_edge.primitives import PRIMITIVES

        found = PRIMITIVES["trees"](x.detach().numpy(), *(part.numpy() for part in parts))
        return torch.from_numpy(found)

    return {
        "add": torch.add,
        "sub": torch.sub,
        "mul": torch.mul,
        "div": torch.div,
        "maximum": torch.maximum,
        "minimum": torch.minimum,
        "greater": lambda a, b: torch.greater(a, b).float(),
        "abs": torch.abs,
        "sqrt": torch.sqrt,
        "log": torch.log,
        "exp": torch.exp,
        "erf": torch.erf,
        "round": torch.round,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "relu": functional.relu,
        "leaky_relu": lambda x, slope=0.01: functional.leaky_relu(x, slope),
        "softmax": lambda x, axis=-1: torch.softmax(x, dim=axis),
        "matmul": torch.matmul,
        "conv1d": conv1d,
        "conv2d": conv2d,
        "conv2d_last": conv2d_last,
        "max_pool2d": max_pool2d,
        "max_pool2d_last": max_pool2d_last,
        "pad": pad,
        "frame": frame,
        "mean": reduce("mean"),
        "sum": reduce("sum"),
        "max": reduce("amax"),
        "min": reduce("amin"),
        "sort": lambda x: torch.sort(x, dim=-1).values,
        "concat": lambda *xs, axis: torch.cat(xs, dim=axis),
        "reshape": lambda x, *, shape: x.reshape(len(x), *shape),
        "transpose": lambda x, *, axes: x.permute(*axes),
        "slice": slices,
        "gather": gather,
        "lookup": lambda ids, table: table[ids.long()],
        "trees": trees,
        **{name: read(function) for name, function in {**READERS, **INTEGER}.items()},
    }


def torch_functions() -> Mapping[str, Callable[..., Any]]:
    """Primitive -> torch function, of tensors and the attributes of the primitive."""
    return _table()


def torch_function(kind: str) -> Callable[..., Any]:
    """What torch runs for a primitive."""
    return _table()[kind]


def torch_primitives() -> frozenset[str]:
    """Names of the primitives that torch runs here."""
    return frozenset(_table())
