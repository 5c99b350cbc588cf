"""TensorFlow Lite files as backbones, their 8-bit weights brought back to numbers.

The file is read with our own reader of its tables (:mod:`edgegraft_edge.flatbuffer`), and
nothing in it is run. An 8-bit network comes out as the float network that it was made from, to
within the rounding of its weights; where its activations cannot be negative because their 8 bits
start at zero, a ReLU is put back.

Source: the TensorFlow Lite schema, version 3, and the semantics of its reference kernels.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.file_transcript import FileModel, Node
from edgegraft.zoo.graph import Graph
from edgegraft.zoo.graph_file import file_card, of_bytes
from edgegraft.zoo.tflite_graph import DTYPES, code_of, node_of
from edgegraft.zoo.tflite_operators import WRITERS
from edgegraft_edge.errors import ModelError
from edgegraft_edge.flatbuffer import Table, damaged
from edgegraft_edge.signal import Array

_SMALLEST = {3: 0, 7: -32768, 9: -128}
_MAX_AXES = 8


class Tflite:
    """The architecture "tflite": any network of a ``.tflite`` file."""

    @classmethod
    def from_file(cls, path: str | Path, cut: str = "") -> Graph:
        """A file as a backbone that gives its last pooled value, or the one named by `cut`."""
        card, data = file_card(Path(path), "tflite", cut)
        return cls.from_card(card, data)

    @classmethod
    def from_card(cls, card: BackboneCard, weights: bytes | None) -> Graph:
        """The bytes of a file, with the options of :func:`edgegraft.zoo.graph_file.backbone`."""
        return of_bytes(card, weights, read_tflite, WRITERS)


def read_tflite(data: bytes) -> FileModel:
    """What a file says. Errors: `ModelError` "tflite-damaged", "tflite-form"."""
    if data[4:8] != b"TFL3":
        raise damaged("no mark TFL3 at its beginning")
    model = Table.root(data)
    graph = next(model.tables(2), None)
    if graph is None:
        raise damaged("no network in it")
    buffers = list(model.tables(4))
    tensors = _Tensors(list(graph.tables(0)), buffers)
    codes = [code_of(each) for each in model.tables(1)]
    nodes = tuple(node_of(each, codes, tensors.name) for each in graph.tables(3))
    given = [int(index) for index in graph.array(1, DTYPES[2])]
    outputs = tuple(tensors.name(int(index)) for index in graph.array(2, DTYPES[2]))
    inputs = [index for index in given if tensors.name(index) not in tensors.constants]
    if len(inputs) != 1 or not outputs:
        raise ModelError.of(
            "network-input",
            f"a network with {len(inputs)} inputs and {len(outputs)} outputs",
            "windows come in at one place",
            "a network with one input",
        )
    name = tensors.name(inputs[0])
    found = FileModel(
        nodes,
        tensors.constants,
        name,
        _input_shape(tensors.shape(inputs[0])),
        outputs,
        channels_last=True,
        floors=tensors.floors,
        pixels=_pixels(tensors, nodes, inputs[0]),
    )
    return _with_metadata(found, model, buffers)


def _input_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if not 2 <= len(shape) <= 4 or shape[0] not in (1, 0, -1):
        raise ModelError.of(
            "network-input",
            f"a network that takes {' x '.join(map(str, shape)) or 'a single number'}",
            "the first axis is that of the windows, and one to three follow",
            "a network that takes one window at a time",
        )
    return (1, *(max(0, size) for size in shape[1:]))


class _Tensors:
    """The values that a file names: shapes, scales, and the constants among them."""

    def __init__(self, tables: list[Table], buffers: list[Table]) -> None:
        self._tables, self._buffers = tables, buffers
        self._names: list[str] = []
        self.constants: dict[str, Array] = {}
        self.floors: dict[str, float] = {}
        taken: set[str] = set()
        for index, table in enumerate(tables):
            name = table.text(3) or f"value{index}"
            if name in taken:
                name = f"{name}#{index}"
            taken.add(name)
            self._names.append(name)
            self._read(table, name)

    def name(self, index: int) -> str:
        """The name of a value; "" of an absent one."""
        if index == -1:
            return ""
        if not 0 <= index < len(self._names):
            raise damaged(f"a value {index} of {len(self._names)}")
        return self._names[index]

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of a value, -1 where it is open."""
        shape, signature = (self._tables[index].array(field, DTYPES[2]) for field in (0, 7))
        return tuple(int(n) for n in (signature if len(signature) == len(shape) else shape))

    def scale(self, index: int) -> tuple[float, float] | None:
        """Scale and zero point of a value of 8 bit."""
        table = self._tables[index]
        quantised = table.table(4)
        kind = table.integer(1, "<b")
        if quantised is None or kind not in _SMALLEST:
            return None
        scales, zeros = quantised.array(2, DTYPES[0]), quantised.array(3, DTYPES[4])
        if len(scales) != 1 or not np.isfinite(scales[0]) or scales[0] <= 0:
            return None
        zero = float(zeros[0]) if len(zeros) else 0.0
        return float(scales[0]), zero - (_SMALLEST[kind] if kind == 9 else 0)

    def _read(self, table: Table, name: str) -> None:
        buffer = table.integer(2, "<I")
        if buffer >= len(self._buffers):
            raise damaged(f"a buffer {buffer} of {len(self._buffers)}")
        kind = table.integer(1, "<b")
        data = self._buffers[buffer].array(0, DTYPES[3]) if buffer else np.zeros(0, np.uint8)
        shape = tuple(int(n) for n in table.array(0, DTYPES[2]))
        if not len(data):
            quantised = table.table(4)
            if quantised is not None and kind in _SMALLEST:
                scales, zeros = quantised.array(2, DTYPES[0]), quantised.array(3, DTYPES[4])
                if len(scales) == 1 and len(zeros) == 1:
                    self.floors[name] = float(scales[0]) * (_SMALLEST[kind] - float(zeros[0]))
            return
        if kind not in DTYPES or table.table(6) is not None:
            return  # text, sparse and packed weights: what reads them is refused
        if len(shape) > _MAX_AXES or min(shape, default=1) < 0:
            raise damaged(f"a constant {name!r} of shape {shape}")
        if prod(shape) * DTYPES[kind].itemsize != len(data):
            raise damaged(f"{len(data)} bytes for the constant {name!r} of shape {shape}")
        array = np.frombuffer(data.tobytes(), DTYPES[kind].newbyteorder("<")).reshape(shape)
        self.constants[name] = _numbers(array, kind, table.table(4))


def _numbers(array: Array, kind: int, quantised: Table | None) -> Array:
    """Constants as float32; whole numbers without a scale as int64."""
    if kind in (0, 1):
        found = array.astype(np.float32)
        if not np.isfinite(found).all():
            # a bound may be infinite (of a minimum), a weight may not: it would spoil every sum
            if found.size > 1 or np.isnan(found).any():
                raise damaged("weights that are no numbers")
            found = np.clip(found, np.finfo(np.float32).min, np.finfo(np.float32).max)
        return found
    scales = quantised.array(2, DTYPES[0]) if quantised else np.zeros(0)
    if quantised is None or not len(scales):
        return array.astype(np.int64)
    zeros = quantised.array(3, DTYPES[4]).astype(np.float64)
    axis = quantised.integer(6)
    if not np.isfinite(scales).all():
        raise damaged("scales that are no numbers")
    if len(zeros) not in (0, 1, len(scales)):
        raise damaged(f"{len(zeros)} zero points for {len(scales)} scales")
    form = [1] * array.ndim
    if len(scales) > 1:
        if not 0 <= axis < array.ndim or array.shape[axis] != len(scales):
            raise damaged(f"{len(scales)} scales along axis {axis} of {array.shape}")
        form[axis] = len(scales)
    zero = zeros.reshape(form) if len(zeros) > 1 else (zeros[0] if len(zeros) else 0.0)
    scaled = (array.astype(np.float64) - zero) * scales.astype(np.float64).reshape(form)
    if scaled.size and np.abs(scaled).max() > np.finfo(np.float32).max:
        raise damaged("weights that are too large for floats")
    return np.asarray(scaled, np.float32)


# -- what the file says of pixels


def _pixels(
    tensors: _Tensors, nodes: tuple[Node, ...], index: int
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and scale of a pixel from 0 to 255, by the 8 bits of the input or of what it becomes."""
    found = tensors.scale(index)
    if found is None:
        name = tensors.name(index)
        readers = [node for node in nodes if name in node.inputs]
        if len(readers) != 1 or readers[0].kind != "QUANTIZE":
            return None
        found = tensors.scale(tensors._names.index(readers[0].outputs[0]))
        if found is None:
            return None
    scale, zero = found
    return (zero,), (1 / scale,)


def _with_metadata(found: FileModel, model: Table, buffers: list[Table]) -> FileModel:
    """With licence, and mean and scale of pixels, from the file's metadata where it has some.

    Source: the TensorFlow Lite metadata schema, version 1.
    """
    for entry in model.tables(6):
        index = entry.integer(1, "<I")
        if entry.text(0) != "TFLITE_METADATA" or index >= len(buffers):
            continue
        data = buffers[index].array(0, DTYPES[3]).tobytes()
        if data[4:8] != b"M001":
            continue
        told = Table.root(data)
        licence = " ".join(told.text(5).split())[:80]
        found = replace(found, licence=licence)
        for graph in list(told.tables(3))[:1]:
            for tensor in list(graph.tables(2))[:1]:
                found = _with_normalisation(found, tensor)
    return found


def _with_normalisation(found: FileModel, tensor: Table) -> FileModel:
    for unit in tensor.tables(4):
        options = unit.table(1)
        if unit.integer(0, "<B") != 1 or options is None or found.pixels is not None:
            continue
        mean, scale = (
            tuple(float(n) for n in options.array(field, DTYPES[0])[:4]) for field in (0, 1)
        )
        if mean and len(mean) == len(scale) and np.isfinite([*mean, *scale]).all() and all(scale):
            return replace(found, pixels=(mean, scale))
    return found
