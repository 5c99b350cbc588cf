"""ONNX files as backbones: the operators of image, sound and dense networks, up to the cut.

The file is parsed by the field's library and nothing in it is run. Normalisation by batches is
folded into the convolution before it; what a file computes from constants and from shapes alone
is computed once, while reading. Weights in other files, and operators of other domains than
ONNX's own, are refused.

Source: ONNX operator specifications, https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.file_transcript import FileModel, Node
from edgegraft.zoo.graph import Graph
from edgegraft.zoo.graph_file import file_card, of_bytes
from edgegraft.zoo.layers import fold
from edgegraft.zoo.onnx_constants import FLOATS
from edgegraft.zoo.onnx_operators import WRITERS
from edgegraft_edge.errors import ModelError, Problem
from edgegraft_edge.signal import Array


class OnnxFile:
    """The architecture "onnx": any network of an ``.onnx`` file."""

    @classmethod
    def from_file(cls, path: str | Path, cut: str = "") -> Graph:
        """A file as a backbone that gives its last pooled value, or the one named by `cut`."""
        card, data = file_card(Path(path), "onnx", cut)
        return cls.from_card(card, data)

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Graph:
        """The bytes of a file, with the options of :func:`edgegraft.zoo.graph_file.backbone`."""
        return of_bytes(card, weights, read_onnx, WRITERS)


def read_onnx(data: bytes) -> FileModel:
    """What a file says.

    Errors: `ModelError` "onnx-damaged", "onnx-external", "network-input".
    """
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # the parser raises its own
        raise _damaged(f"bytes that are no such file ({error})") from error
    graph = model.graph
    if not graph.node or not graph.output:
        raise _damaged("no network in it")
    constants = _constants(graph)
    nodes = [_node(each) for each in graph.node]
    for node in [node for node in nodes if node.kind == "Constant"]:
        constants[node.outputs[0]] = _constant_of(node)
    nodes = [node for node in nodes if node.kind != "Constant"]
    inputs = [each for each in graph.input if each.name not in constants]
    if len(inputs) != 1:
        raise ModelError.of(
            "network-input",
            f"a network with {len(inputs)} inputs",
            "windows come in at one place",
            "a network with one input",
        )
    told = {entry.key: entry.value for entry in model.metadata_props}
    return FileModel(
        _folded(nodes, constants, {each.name for each in graph.output}),
        constants,
        inputs[0].name,
        _shape(inputs[0]),
        tuple(each.name for each in graph.output),
        # our own files take windows as they are, with all that is done to them inside
        pixels=((0.0,), (1.0,)) if model.producer_name == "edgegraft" else None,
        licence=" ".join(told.get("license", told.get("licence", "")).split())[:80],
    )


def _damaged(found: str) -> ModelError:
    return ModelError.of(
        "onnx-damaged",
        f"an .onnx file with {found[:200]}",
        "it does not have the form of one",
        "fetch or export the file again",
    )


def _shape(given: Any) -> tuple[int, ...]:
    kind = given.type.tensor_type
    shape = tuple(int(each.dim_value) for each in kind.shape.dim)
    if not 2 <= len(shape) <= 4 or shape[0] not in (0, 1) or kind.elem_type not in FLOATS:
        raise ModelError.of(
            "network-input",
            f"a network that takes {' x '.join(map(str, shape)) or 'what it does not tell'}",
            "windows are float32, the first axis is theirs, and one to three follow",
            "a network that takes one window at a time",
        )
    return (1, *(max(0, size) for size in shape[1:]))


def _constants(graph: Any) -> dict[str, Array]:
    problems, constants = [], {}
    if graph.sparse_initializer:
        raise _damaged("sparse weights, which are not read")
    for tensor in graph.initializer:
        if tensor.data_location == 1 or tensor.external_data:
            problems.append(
                Problem(
                    "onnx-external",
                    f"weights {tensor.name!r} that lie in another file",
                    "only the file that is named is read",
                    "save the model with its weights inside",
                )
            )
        else:
            constants[tensor.name] = _array(tensor)
    if problems:
        raise ModelError(problems[:8])
    return constants


def _array(tensor: Any) -> Array:
    """A tensor as float32, or int64 where it is of whole numbers."""
    import onnx

    try:
        if tensor.data_location == 1 or tensor.external_data:
            raise ValueError("data in another file")
        array = np.asarray(onnx.numpy_helper.to_array(tensor))
        if array.dtype.kind in "iub":
            return array.astype(np.int64)
        array = array.astype(np.float32)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise _damaged(f"weights {tensor.name!r} that cannot be read ({error})") from error
    if np.isnan(array).any():
        raise _damaged(f"weights {tensor.name!r} that are no numbers")
    return np.clip(array, np.finfo(np.float32).min, np.finfo(np.float32).max)


def _node(node: Any) -> Node:
    import onnx

    attrs: dict[str, Any] = {}
    for entry in node.attribute:
        if entry.type in (1, 2, 6, 7):  # numbers and lists of numbers
            attrs[entry.name] = onnx.helper.get_attribute_value(entry)
        elif entry.type == 3:
            attrs[entry.name] = entry.s.decode("utf-8", "replace")
        elif entry.type == 4:
            attrs[entry.name] = _array(entry.t)
    if not node.output or not node.output[0]:
        raise _damaged(f"an operator {node.op_type!r} that gives nothing")
    kind = str(node.op_type) if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    return Node(kind, tuple(node.input), tuple(node.output), attrs)


def _constant_of(node: Node) -> Array:
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if name in node.attrs:
            array = np.asarray(node.attrs[name])
            return array.astype(np.int64 if array.dtype.kind in "iub" else np.float32)
    raise _damaged("a constant without a value")


def _folded(
    nodes: Sequence[Node], constants: dict[str, Array], outputs: set[str]
) -> tuple[Node, ...]:
    """Convolutions with the normalisation by batches that alone reads them as one."""
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    gone: set[int] = set()
    kept: list[Node] = []
    for node in nodes:
        if id(node) in gone:
            continue
        after = readers.get(node.outputs[0], [])
        if (
            node.kind == "Conv"
            and len(after) == 1
            and after[0].kind == "BatchNormalization"
            and node.outputs[0] not in outputs
            and all(name in constants for name in (*node.inputs[1:], *after[0].inputs[1:]) if name)
        ):
            norm = after[0]
            parts = [constants[name] for name in norm.inputs[1:5]]
            weight = constants[node.inputs[1]]
            bias = constants[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else None
            if len(parts) == 4 and all(part.shape == weight.shape[:1] for part in parts):
                names = (f"{node.inputs[1]}#{len(kept)}", f"{node.inputs[1]}#{len(kept)}.bias")
                gain, shift, mean, variance = parts
                epsilon = float(norm.attrs.get("epsilon", 1e-5))
                constants[names[0]], constants[names[1]] = fold(
                    weight,
                    bias,
                    gain=gain,
                    shift=shift,
                    mean=mean,
                    variance=np.maximum(variance, 0),
                    epsilon=epsilon,
                )
                gone.add(id(norm))
                node = Node("Conv", (node.inputs[0], *names), norm.outputs[:1], node.attrs)
        kept.append(node)
    return tuple(kept)
