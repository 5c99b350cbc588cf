"""Float operations that are kernels of the C library."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from edgegraft.export.c.body import Body, Value, nested, pointer
from edgegraft.export.c.expression import Expression, contiguous, merged, steps_of
from edgegraft.export.c.text import number
from edgegraft.passes.trace import Form
from edgegraft_edge.errors import ExportError
from edgegraft_edge.signal import Array

_LEAF_LIMIT = 1 << 16


def constant(value: Value, kind: str) -> Array:
    """A constant input. Errors: `ExportError` "export-not-constant"."""
    if isinstance(value, Expression):
        raise ExportError.of(
            "export-not-constant",
            f"{kind} with computed weights",
            "its C keeps them in flash",
            "constants in the program",
        )
    return value


def shape_of(
    body: Body,
    form: Form,
    x: Expression,
    taps: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    pad: Sequence[int] = (0, 0, 0, 0),
) -> str:
    """The constant ``eg_shape`` of a convolution or pool."""
    _, height, width, channels = x.shape
    _, out_height, out_width, out_channels = form.shape
    fields = {
        "height": height, "width": width, "channels": channels,
        "out_height": out_height, "out_width": out_width, "out_channels": out_channels,
        "kernel_height": taps[0], "kernel_width": taps[1],
        "stride_height": stride[0], "stride_width": stride[1],
        "dilation_height": dilation[0], "dilation_width": dilation[1],
        "pad_top": pad[0], "pad_left": pad[1], "groups": groups,
    }  # fmt: skip
    return "&" + body.constants.structure("eg_shape", {k: int(v) for k, v in fields.items()})


def conv2d_last(
    body: Body,
    form: Form,
    x: Value,
    weight: Value,
    bias: Value,
    *,
    stride: Sequence[int] = (1, 1),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    pad: Sequence[int] = (0, 0, 0, 0),
) -> Expression:
    value = body.dense(x)
    kernels, added = constant(weight, "conv2d_last"), constant(bias, "conv2d_last")
    c_out, *taps, inner = kernels.shape
    depthwise = inner == 1 and groups == c_out == value.shape[3]
    if depthwise:
        laid = kernels[..., 0].transpose(1, 2, 0)
    else:  # each group's output channels lie densest
        laid = kernels.reshape(groups, c_out // groups, *taps, inner).transpose(0, 2, 3, 4, 1)
    shape = shape_of(body, form, value, taps, stride, dilation, groups, pad)
    names = [body.constants.array(array, "float32") for array in (laid, added)]
    out = body.buffer("float", form.shape)
    function = "eg_depthwise_f32" if depthwise else "eg_conv_f32"
    body.call(function, [shape, *names, value, out], [value], out)
    return out


def matmul(body: Body, form: Form, a: Value, b: Value) -> Expression:
    columns = 1 if len(b.shape) == 1 else b.shape[-1]
    inner = b.shape[0] if len(b.shape) == 1 else b.shape[-2]
    rows_of_a = _rows(a) if len(b.shape) <= 2 and isinstance(a, Expression) else None
    out = body.buffer("float", form.shape)
    right = body.dense(b)
    if isinstance(a, Expression) and len(b.shape) <= 2:
        rows = a.size // inner
        stride = rows_of_a
        left = a
        if stride is None:
            left, stride = body.dense(a), inner
        body.call(
            "eg_matmul_f32", [left, stride, right, out, rows, inner, columns], [left, right], out
        )
        return out
    left = body.dense(a)
    if len(a.shape) < 2:
        raise ExportError.of(
            "export-c-operation", "matmul of a vector and values", "it is written for matrices",
            "a constant of two axes",
        )  # fmt: skip
    rows = a.shape[-2]
    batch = form.shape[:-2]
    parts = [rows * inner, inner * columns, rows * columns]
    strides = [
        tuple(
            0 if size == 1 else step * part
            for size, step in zip(wide, contiguous(wide), strict=True)
        )
        for wide, part in zip(
            [(1,) * (len(batch) + 2 - len(s)) + tuple(s[:-2]) for s in (a.shape, b.shape)],
            parts[:2],
            strict=True,
        )
    ]
    strides.append(tuple(step * parts[2] for step in contiguous(batch)))
    axes = merged(batch, strides)
    counters = list("ijklmnpq"[: len(axes)])
    places = []
    for index, value in enumerate((left, right, out)):
        terms = [f"{c} * {s[index]}" for c, (_, s) in zip(counters, axes, strict=True) if s[index]]
        places.append(" + ".join([pointer(value), *terms]))
    call = (
        f"eg_matmul_f32({places[0]}, {inner}, {places[1]}, {places[2]}, "
        f"{rows}, {inner}, {columns});"
    )
    body.step(nested([size for size, _ in axes], counters, [call]), [left, right], out)
    return out


def _rows(value: Expression) -> int | None:
    """How far apart the rows of a value lie, if each lies densely; frames do so too."""
    if not value.is_view or len(value.shape) < 2:
        return None
    strides = value.leaves[0].strides
    if value.shape[-1] > 1 and strides[-1] != 1:
        return None
    outer = steps_of(value.shape[:-1], strides[:-1])
    if len(outer) > 1:
        return None
    return outer[0][1] if outer else value.shape[-1]


def softmax(body: Body, form: Form, x: Value, *, axis: int = -1) -> Expression:
    value = body.dense(x)
    axis %= len(value.shape)
    outer, inner = prod(value.shape[:axis]), prod(value.shape[axis + 1 :])
    out = body.buffer("float", form.shape)
    arguments = [value, out, outer, value.shape[axis], inner]
    body.call("eg_softmax_f32", arguments, [value], out, in_place=not value.leaves[0].offset)
    return out


def sort(body: Body, form: Form, x: Value) -> Expression:
    value = x if isinstance(x, Expression) else body.dense(x)
    out = body.stored(value)  # sorted where it lies
    kind = "f32" if out.ctype == "float" else "s8"
    n = form.shape[-1]
    body.call(f"eg_sort_{kind}", [out, out.size // n, n], [out], out)
    return out


def lookup(body: Body, form: Form, ids: Value, table: Value) -> Expression:
    value, rows = body.dense(ids), constant(table, "lookup")
    out = body.buffer("float", form.shape)
    name = body.constants.array(rows, "float32")
    dim = prod(rows.shape[1:])
    body.call("eg_lookup_f32", [value, name, out, value.size, len(rows), dim], [value], out)
    return out


def trees(
    body: Body,
    form: Form,
    x: Value,
    feature: Value,
    threshold: Value,
    left: Value,
    right: Value,
    value: Value,
    roots: Value,
) -> Expression:
    features, thresholds, lefts, rights, values, firsts = (
        constant(array, "trees") for array in (feature, threshold, left, right, value, roots)
    )
    given = body.dense(x)
    nodes: list[str] = []
    starts: list[int] = []
    leaf_starts: list[int] = []
    leaves: list[Array] = []
    for root in firsts.tolist():
        starts.append(len(nodes))
        leaf_starts.append(len(leaves))
        pending: list[tuple[int, int]] = [(root, -1)]  # node, and whose right child it is
        tree: list[list[object]] = []
        while pending:
            node, parent = pending.pop()
            if parent >= 0:
                tree[parent][2] = len(tree) - parent
            if lefts[node] < 0:
                tree.append(["0.0f", len(leaves) - leaf_starts[-1], 0])
                leaves.append(values[node])
            else:
                pending += [(int(rights[node]), len(tree)), (int(lefts[node]), -1)]
                tree.append([number(thresholds[node]), int(features[node]), -1])
            if max(len(tree), int(features.max(initial=0))) >= _LEAF_LIMIT:
                raise ExportError.of(
                    "export-c-size",
                    f"a tree of {len(tree):,} nodes or more",
                    "its C counts them in 16 bits",
                    "shallower trees, or --format onnx",
                )
        nodes += [f"{{{t}, {f}, {r}}}" for t, f, r in tree]
    out = body.buffer("float", form.shape)
    name = body.constants.raw("eg_node", nodes)
    counts = [body.constants.array(np.array(each), "uint32") for each in (starts, leaf_starts)]
    table = body.constants.array(np.stack(leaves), "float32")
    arguments = [given, name, *counts, len(starts), table, values.shape[1], out]
    body.call("eg_trees_f32", arguments, [given], out)
    return out
