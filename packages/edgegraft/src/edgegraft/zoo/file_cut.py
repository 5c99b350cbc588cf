"""Where a network read from a file is cut, and what its weights are called.

By default the cut is the input of the classifier: of the last matrix or convolution of one place,
with the pooling before it. Blocks end where the network lowers its resolution, and at every
matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from edgegraft.zoo.file_transcript import FileModel, Layer, Node, Transcript, Value
from edgegraft.zoo.layers import Network
from edgegraft_edge.errors import ModelError, nearest
from edgegraft_edge.program import INPUT, Draft, Op, Program

MAX_BLOCKS = 8
_WIDE = 4096  # longest embedding that a classifier reads as it is; what is longer is pooled
_FEWER = 0.6  # share of the places at which another block starts
_PASSING = frozenset(
    [
        "SOFTMAX",
        "LOG_SOFTMAX",
        "LOGISTIC",
        "RESHAPE",
        "SQUEEZE",
        "EXPAND_DIMS",
        "QUANTIZE",
        "DEQUANTIZE",
        "TRANSPOSE",
        "Softmax",
        "LogSoftmax",
        "Sigmoid",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Identity",
        "Transpose",
        "Dropout",
        "Cast",
        "QuantizeLinear",
        "DequantizeLinear",
    ]
)
_ADDING = frozenset(["ADD", "SUB", "Add", "Sub"])
_POOLING = frozenset(
    [
        "MEAN",
        "AVERAGE_POOL_2D",
        "MAX_POOL_2D",
        "REDUCE_MAX",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "ReduceMean",
        "AveragePool",
    ]
)
_LINEAR = frozenset(["FULLY_CONNECTED", "CONV_2D", "BATCH_MATMUL", "Gemm", "MatMul", "Conv"])


def named_cut(transcript: Transcript, name: str) -> str:
    """The value of that name, or the only one whose name has that in it."""
    names = [name for node in transcript.model.nodes for name in node.outputs if name]
    if name in names:
        return name
    parts = [each for each in names if name in each]
    if len(parts) == 1:
        return parts[0]
    found = f"{len(parts)} values" if parts else "no value"
    raise ModelError.of(
        "cut-unknown",
        f"{found} with {name!r} in the name",
        "the cut is one value of the network",
        nearest(name, parts or names),
    )


def usual_cut(model: FileModel) -> str:
    """The input of the classifier; the last value where there is no classifier, or nothing else."""
    makers = {name: node for node in model.nodes for name in node.outputs}

    def reads(node: Node) -> str:
        return next((n for n in node.inputs if n and n not in model.constants), "")

    def alone(node: Node) -> bool:
        return sum(bool(n) and n not in model.constants for n in node.inputs) == 1

    cut, pooled = model.outputs[0], ""
    for _ in range(len(makers)):
        node = makers.get(cut)
        if node is None:
            break
        if node.kind in _POOLING and not pooled:
            pooled, cut = cut, reads(node)
        elif node.kind in _PASSING or (node.kind in _ADDING and alone(node)):
            cut = reads(node)
        elif node.kind in _LINEAR and alone(node) and _pointwise(model, node):
            return reads(node) if reads(node) != model.input else pooled or model.outputs[0]
        else:
            break
    return pooled or model.outputs[0]


def _pointwise(model: FileModel, node: Node) -> bool:
    """Whether a linear operator reads one place at a time."""
    if node.kind not in ("CONV_2D", "Conv"):
        return True
    shape = model.constants[node.inputs[1]].shape if node.inputs[1] in model.constants else ()
    places = shape[1:-1] if model.channels_last else shape[2:]
    return len(shape) > 2 and all(n == 1 for n in places)


def cut_network(transcript: Transcript, cut: str, *, named: bool) -> Network:
    """The program up to the cut, one embedding for each window, its weights named by block."""
    draft, value = transcript.draft, transcript.values[cut]
    top = _top(transcript, cut)
    if len(value.shape) > 2:
        dense = any(
            node.kind in ("FULLY_CONNECTED", "Gemm", "RESHAPE", "Reshape", "Flatten")
            for node in transcript.model.nodes
            if cut in node.inputs
        )
        n_values = int(np.prod(value.shape[1:]))
        if (
            dense
            and not named
            and n_values <= _WIDE
            and len(value.shape) == 4
            and not _single(value)
        ):
            name = transcript.reshaped(value, (1, -1)).name
        else:
            axes = [
                place for place, axis in enumerate(value.order) if axis not in (0, value.features)
            ]
            name = draft.add("mean", value.name, axes=axes, keepdims=False)
    else:
        name = value.name
    return _finished(draft.finish(name), transcript.layers, top)


def _single(value: Value) -> bool:
    """Whether there is one place only."""
    return int(np.prod(value.shape[1:])) == value.shape[value.features]


def _top(transcript: Transcript, cut: str) -> str:
    """The name in the program of the last value before the cut that still has places."""
    makers = {name: node for node in transcript.model.nodes for name in node.outputs}
    for _ in range(len(makers)):
        value = transcript.values.get(cut)
        if value is None:
            return ""
        if len(value.shape) == 4 and not _single(value):
            return value.name if value.order[1] == value.features else ""
        node = makers.get(cut)
        if node is None or node.kind not in _POOLING | _PASSING:
            return ""
        cut = node.inputs[0]
    return ""


def _finished(program: Program, layers: Sequence[Layer], top: str) -> Network:
    """Only what the output needs, with weights named "block.layer.part"."""
    needed, kept = {program.output}, []
    for op in reversed(program.ops):
        if op.output in needed:
            kept.append(op)
            needed.update(op.inputs)
    used = [i for i in range(len(layers)) if f"{i}.weight" in needed]
    blocks = _blocks([layers[index] for index in used])
    titles = {
        str(index): f"{block}.{layers[index].kind}{count}"
        for count, (index, block) in enumerate(zip(used, blocks, strict=True), start=1)
    }
    draft, names = Draft(), {INPUT: INPUT}
    for op in reversed(kept):
        for name in op.inputs:
            if name in program.constants and name not in names:
                layer, _, part = name.partition(".")
                title = f"{titles[layer]}.{part}" if part else ""
                names[name] = draft.constant(program.constants[name], title)
        names[op.output] = draft.add(op.kind, *(names[n] for n in op.inputs), **op.attrs)
    starts = {block: used[blocks.index(block)] for block in dict.fromkeys(blocks)}
    taps = _taps(reversed(kept), starts, layers, names, top)
    return Network(
        draft.finish(names[program.output]), tuple(starts), taps, names.get(top, "") if top else ""
    )


def _blocks(layers: Sequence[Layer]) -> list[str]:
    """A name of a block for each layer: a new one where there are fewer places, or a matrix."""
    stages, stage, first = [], 0, layers[0].places if layers else 0
    for index, layer in enumerate(layers):
        if index and (layer.kind == "dense" or layer.places < _FEWER * first):
            stage, first = stage + 1, layer.places
        stages.append(stage)
    n_stages = stage + 1
    if n_stages > MAX_BLOCKS:
        stages = [each * MAX_BLOCKS // n_stages for each in stages]
    return [f"block{each + 1}" for each in stages]


def _taps(
    ops: Iterable[Op],
    starts: Mapping[str, int],
    layers: Sequence[Layer],
    names: Mapping[str, str],
    top: str,
) -> dict[str, str]:
    """Block -> the value with places that the next one starts from; the last gives the top."""
    blocks = list(starts)
    taps = {
        block: names[layers[starts[after]].reads]
        for block, after in pairwise(blocks)
        if layers[starts[after]].places > 1
    }
    if top and blocks:
        taps[blocks[-1]] = names[top]
    return taps
