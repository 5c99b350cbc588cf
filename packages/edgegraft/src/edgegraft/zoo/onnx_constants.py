"""What an ONNX file computes from constants and shapes alone, computed once while it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from edgegraft.zoo.file_transcript import MAX_VALUES, Node, RefusedError, Transcript
from edgegraft_edge.signal import Array

FLOATS = (1, 10, 11, 16)  # float32, float16, float64, bfloat16
Write = Callable[[Transcript, Node], None]


def _fold_slice(node: Node, *arrays: Array) -> Array:
    data, starts, stops, axes, steps = slice_parts(node, arrays[0].ndim, *arrays)
    index = [slice(None)] * data.ndim
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        index[axis] = slice(start, stop, step)
    found: Array = data[tuple(index)]
    return found


def slice_parts(node: Node, rank: int, data: Any, *parts: Array) -> tuple[Any, ...]:
    """Data, starts, stops, axes and steps, which older files have as attributes."""
    lists = [[int(n) for n in np.asarray(part).reshape(-1)] for part in parts]
    if not lists:
        lists = [list(node.attrs["starts"]), list(node.attrs["ends"])]
        if "axes" in node.attrs:
            lists.append(list(node.attrs["axes"]))
    axes = lists[2] if len(lists) > 2 and lists[2] else list(range(len(lists[0])))
    steps = lists[3] if len(lists) > 3 and lists[3] else [1] * len(axes)
    return data, lists[0], lists[1], [axis % rank for axis in axes], steps


def _fold_unsqueeze(node: Node, data: Array, axes: Array | None = None) -> Array:
    wanted = node.attrs.get("axes", []) if axes is None else axes.reshape(-1)
    return np.expand_dims(data, tuple(int(axis) for axis in wanted))


def _fold_squeeze(node: Node, data: Array, axes: Array | None = None) -> Array:
    wanted = node.attrs.get("axes", []) if axes is None else axes.reshape(-1)
    return np.squeeze(data, tuple(int(axis) for axis in wanted) or None)


def _fold_cast(node: Node, data: Array) -> Array:
    return data.astype(np.float32 if node.attrs.get("to") in FLOATS else np.int64)


def _fold_divide(node: Node, one: Array, other: Array) -> Array:
    if one.dtype.kind == "i" and other.dtype.kind == "i":
        if not other.all():
            raise RefusedError("a division by nothing")
        return one // other
    with np.errstate(all="ignore"):
        return np.asarray(one / other)


def _fold_fill(node: Node, shape: Array) -> Array:
    value = np.asarray(node.attrs.get("value", np.zeros(1, np.float32))).reshape(-1)
    sizes = [int(n) for n in shape.reshape(-1)]
    if not 0 <= prod(sizes) <= MAX_VALUES or len(sizes) > 8:
        raise RefusedError(f"a constant of {prod(sizes)} numbers")
    return np.full(sizes, value[0])


FOLDS: Mapping[str, Callable[..., Array]] = {
    "Gather": lambda node, data, index: np.take(data, index, axis=node.attrs.get("axis", 0)),
    "Concat": lambda node, *parts: np.concatenate(parts, axis=node.attrs["axis"]),
    "Unsqueeze": _fold_unsqueeze,
    "Squeeze": _fold_squeeze,
    "Slice": _fold_slice,
    "Cast": _fold_cast,
    "Identity": lambda node, data: data,
    "Add": lambda node, one, other: one + other,
    "Sub": lambda node, one, other: one - other,
    "Mul": lambda node, one, other: one * other,
    "Div": _fold_divide,
    "Reshape": lambda node, data, shape: data.reshape([int(n) for n in shape]),
    "Transpose": lambda node, data: data.transpose(node.attrs.get("perm")),
    "ConstantOfShape": _fold_fill,
}


def folding(kind: str, write: Write) -> Write:
    """A writer that computes at once what only constants go into."""
    function = FOLDS.get(kind)

    def written(transcript: Transcript, node: Node) -> None:
        names = [name for name in node.inputs if name]
        if function is None or not all(name in transcript.constants for name in names):
            return write(transcript, node)
        arrays = [transcript.constants[name] for name in names]
        size = sum(array.size for array in arrays)
        if kind in ("Add", "Sub", "Mul", "Div"):
            size = prod(np.broadcast_shapes(*(array.shape for array in arrays)))
        elif kind == "Gather":
            size = arrays[0].size * max(1, arrays[1].size)
        if size > MAX_VALUES:
            raise RefusedError("a constant of too many numbers")
        found = np.asarray(function(node, *arrays))
        if found.size > MAX_VALUES:
            raise RefusedError("a constant of too many numbers")
        whole = found.dtype.kind in "iub"
        transcript.constants[node.outputs[0]] = found.astype(np.int64 if whole else np.float32)
        return None

    return written
