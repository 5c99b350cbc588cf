"""Each primitive as ONNX operators: one small function each, in a table that mirrors PRIMITIVES.

Source: ONNX operator specifications, https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from edgegraft_edge.errors import ExportError
from edgegraft_edge.signal import Array

Shape = tuple[int, ...]


class Graph:
    """Nodes and initialisers as they are written; equal constants are kept once."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initialisers: dict[tuple[str, Shape, bytes], Any] = {}
        self.arrays: dict[str, Array] = {}
        self.shapes: dict[str, Shape] = {}
        self.eight: set[str] = set()  # values in int8

    def node(self, operator: str, *inputs: str, domain: str = "", **attrs: Any) -> str:
        """Append an operator with one output and return the name of that output."""
        import onnx

        output = f"v{len(self.nodes)}"
        self.nodes.append(
            onnx.helper.make_node(operator, list(inputs), [output], domain=domain, **attrs)
        )
        return output

    def constant(self, values: Any) -> str:
        """Keep an array and return its name: floats as float32, integers as int64.

        What integer primitives take (int8, int32) stays as it is.
        """
        import onnx

        array = np.asarray(values)
        if array.dtype not in (np.int8, np.int32):
            array = array.astype(np.int64 if array.dtype.kind in "iub" else np.float32)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.initialisers:
            name = f"k{len(self.initialisers)}"
            self.initialisers[key] = onnx.numpy_helper.from_array(array, name)
            self.arrays[name], self.shapes[name] = array, array.shape
        return str(self.initialisers[key].name)

    def used(self) -> list[Any]:
        """The initialisers that a node reads; others have become attributes, as of trees."""
        read = {name for node in self.nodes for name in node.input}
        return [tensor for tensor in self.initialisers.values() if tensor.name in read]

    def number(self, name: str) -> str:
        """The same value, as float32 where it is an integer constant."""
        array = self.arrays.get(name)
        if array is None or array.dtype.kind == "f":
            return name
        return self.constant(array.astype(np.float32))

    def array(self, name: str, what: str) -> Array:
        """The values of a constant that the format wants as an attribute."""
        if name not in self.arrays:
            raise ExportError.of(
                "export-not-constant",
                f"{what} that are computed",
                "ONNX wants them fixed",
                "pass them as constants of the program",
            )
        return self.arrays[name]


# -- one emitter for each primitive, with the primitive's arguments; each returns a value's name


def _elementwise(operator: str) -> Callable[..., str]:
    def emit_elementwise(graph: Graph, *values: str) -> str:
        return graph.node(operator, *(graph.number(value) for value in values))

    return emit_elementwise


def _reduce(operator: str) -> Callable[..., str]:
    def emit_reduce(graph: Graph, x: str, *, axes: list[int], keepdims: bool = True) -> str:
        return graph.node(operator, x, graph.constant(list(axes)), keepdims=int(keepdims))

    return emit_reduce


def _greater(graph: Graph, a: str, b: str) -> str:
    truth = graph.node("Greater", graph.number(a), graph.number(b))
    return graph.node("Cast", truth, to=1)  # 1 is float32


def _leaky_relu(graph: Graph, x: str, *, slope: float = 0.01) -> str:
    return graph.node("LeakyRelu", x, alpha=float(slope))


def _softmax(graph: Graph, x: str, *, axis: int = -1) -> str:
    return graph.node("Softmax", x, axis=axis)


def _conv1d(
    graph: Graph,
    x: str,
    weight: str,
    bias: str,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    pad: tuple[int, int] = (0, 0),
) -> str:
    return graph.node(
        "Conv",
        x,
        weight,
        bias,
        strides=[stride],
        dilations=[dilation],
        group=groups,
        pads=list(pad),
    )


def _conv2d(
    graph: Graph,
    x: str,
    weight: str,
    bias: str,
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> str:
    return graph.node(
        "Conv",
        x,
        weight,
        bias,
        strides=list(stride),
        dilations=list(dilation),
        group=groups,
        pads=list(pad),
    )


def _max_pool2d(
    graph: Graph,
    x: str,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> str:
    return graph.node("MaxPool", x, kernel_shape=list(kernel), strides=list(stride), pads=list(pad))


def _first(graph: Graph, x: str) -> str:
    return graph.node("Transpose", x, perm=[0, 3, 1, 2])


def _last(graph: Graph, x: str) -> str:
    return graph.node("Transpose", x, perm=[0, 2, 3, 1])


def _conv2d_last(graph: Graph, x: str, weight: str, bias: str, **attrs: Any) -> str:
    kernels = graph.array(weight, "weights of a convolution").transpose(0, 3, 1, 2)
    return _last(graph, _conv2d(graph, _first(graph, x), graph.constant(kernels), bias, **attrs))


def _max_pool2d_last(graph: Graph, x: str, **attrs: Any) -> str:
    return _last(graph, _max_pool2d(graph, _first(graph, x), **attrs))


def _pad(graph: Graph, x: str, *, before: list[int], after: list[int], value: float = 0) -> str:
    edges = graph.constant([0, *before, 0, *after])
    fill = np.int8(value) if x in graph.eight else np.float32(value)
    return graph.node("Pad", x, edges, graph.constant(fill))


def _lookup(graph: Graph, ids: str, table: str) -> str:
    whole = graph.node("Cast", ids, to=7)  # 7 is int64
    return graph.node("Gather", table, whole, axis=0)


def _frame(graph: Graph, x: str, *, length: int, hop: int) -> str:
    starts = np.arange(0, graph.shapes[x][2] - length + 1, hop)
    index = graph.constant(starts[:, None] + np.arange(length))
    return graph.node("Gather", x, index, axis=2)


def _sort(graph: Graph, x: str) -> str:
    import onnx

    eight, size = x in graph.eight, graph.constant([graph.shapes[x][-1]])
    if eight:  # runtimes sort no int8
        x = graph.node("Cast", x, to=1)
    ranked, places = f"v{len(graph.nodes)}", f"v{len(graph.nodes)}_places"
    graph.nodes.append(
        onnx.helper.make_node("TopK", [x, size], [ranked, places], axis=-1, largest=0, sorted=1)
    )
    return graph.node("Cast", ranked, to=3) if eight else ranked


def _concat(graph: Graph, *values: str, axis: int) -> str:
    return graph.node("Concat", *values, axis=axis)


def _reshape(graph: Graph, x: str, *, shape: list[int]) -> str:
    return graph.node("Reshape", x, graph.constant([0, *shape]))  # 0 keeps the window axis


def _transpose(graph: Graph, x: str, *, axes: list[int]) -> str:
    return graph.node("Transpose", x, perm=list(axes))


def _slice(graph: Graph, x: str, *, axis: int, start: int, stop: int, step: int = 1) -> str:
    bounds = (graph.constant([value]) for value in (start, stop, axis, step))
    return graph.node("Slice", x, *bounds)


def _gather(graph: Graph, x: str, index: str, *, axis: int) -> str:
    return graph.node("Gather", x, index, axis=axis)


def _trees(
    graph: Graph,
    x: str,
    feature: str,
    threshold: str,
    left: str,
    right: str,
    value: str,
    roots: str,
) -> str:
    """The mean over trees is the ensemble's own aggregate; leaves carry one weight an output."""
    features, thresholds, lefts, rights, values, starts = (
        graph.array(name, "nodes of trees")
        for name in (feature, threshold, left, right, value, roots)
    )
    n_outputs = values.shape[1]
    order: list[tuple[int, int]] = []  # (tree, node), a parent before its children
    for tree, root in enumerate(starts.tolist()):
        pending = [root]
        while pending:
            node = pending.pop()
            order.append((tree, node))
            if lefts[node] >= 0:
                pending += [int(rights[node]), int(lefts[node])]
    trees, nodes = (np.array(column) for column in zip(*order, strict=True))
    inner = lefts[nodes] >= 0
    leaf_trees, leaf_nodes = trees[~inner], nodes[~inner]
    return graph.node(
        "TreeEnsembleRegressor",
        x,
        domain="ai.onnx.ml",
        n_targets=n_outputs,
        aggregate_function="AVERAGE",
        post_transform="NONE",
        nodes_treeids=trees.tolist(),
        nodes_nodeids=nodes.tolist(),
        nodes_featureids=np.where(inner, features[nodes], 0).tolist(),
        nodes_values=np.where(inner, thresholds[nodes], 0.0).astype(float).tolist(),
        nodes_modes=np.where(inner, "BRANCH_LEQ", "LEAF").tolist(),
        nodes_truenodeids=np.where(inner, lefts[nodes], 0).tolist(),
        nodes_falsenodeids=np.where(inner, rights[nodes], 0).tolist(),
        nodes_missing_value_tracks_true=[0] * len(nodes),
        target_treeids=np.repeat(leaf_trees, n_outputs).tolist(),
        target_nodeids=np.repeat(leaf_nodes, n_outputs).tolist(),
        target_ids=np.tile(np.arange(n_outputs), len(leaf_nodes)).tolist(),
        target_weights=values[leaf_nodes].astype(float).ravel().tolist(),
    )


FLOAT_EMITTERS: Mapping[str, Callable[..., str]] = MappingProxyType(
    {
        "add": _elementwise("Add"),
        "sub": _elementwise("Sub"),
        "mul": _elementwise("Mul"),
        "div": _elementwise("Div"),
        "maximum": _elementwise("Max"),
        "minimum": _elementwise("Min"),
        "greater": _greater,
        "abs": _elementwise("Abs"),
        "sqrt": _elementwise("Sqrt"),
        "log": _elementwise("Log"),
        "exp": _elementwise("Exp"),
        "erf": _elementwise("Erf"),
        "round": _elementwise("Round"),
        "tanh": _elementwise("Tanh"),
        "sigmoid": _elementwise("Sigmoid"),
        "relu": _elementwise("Relu"),
        "leaky_relu": _leaky_relu,
        "softmax": _softmax,
        "matmul": _elementwise("MatMul"),
        "conv1d": _conv1d,
        "conv2d": _conv2d,
        "conv2d_last": _conv2d_last,
        "max_pool2d": _max_pool2d,
        "max_pool2d_last": _max_pool2d_last,
        "pad": _pad,
        "frame": _frame,
        "mean": _reduce("ReduceMean"),
        "sum": _reduce("ReduceSum"),
        "max": _reduce("ReduceMax"),
        "min": _reduce("ReduceMin"),
        "sort": _sort,
        "concat": _concat,
        "reshape": _reshape,
        "transpose": _transpose,
        "slice": _slice,
        "gather": _gather,
        "lookup": _lookup,
        "trees": _trees,
    }
)
"""Float primitive -> what writes it into a graph."""
