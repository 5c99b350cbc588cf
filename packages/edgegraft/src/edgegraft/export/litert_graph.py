"""A ``.tflite`` graph as it is written: values, constants and operators of the schema.

The schema's classes come with the runtime's own package, so what is written is what it reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from edgegraft_edge import parts
from edgegraft_edge.errors import ExportError
from edgegraft_edge.signal import Array

Shape = tuple[int, ...]
_TYPES = {"float32": 0, "int32": 2, "bool": 6, "int8": 9}
_MAGIC = b"TFL3"
SCHEMA_VERSION = 3


@dataclass(frozen=True)
class Scale:
    """What int8 steps mean: one scale, or one for each place along `axis` of weights."""

    scale: tuple[float, ...]
    zero: int = 0
    axis: int = 0

    @classmethod
    def of(cls, scale: float, zero: int) -> Scale:
        return cls((float(np.float32(scale)),), int(zero))


@dataclass(frozen=True, eq=False)
class Value:
    """A value of the graph: its number, its shape for one window, its type.

    Attributes:
        scale: of int8 values.
        array: of a constant.
    """

    index: int
    shape: Shape
    dtype: np.dtype[Any]
    scale: Scale | None = None
    array: Array | None = None


def schema() -> ModuleType:
    """The classes of the schema. Errors: `OptionError` "extra-missing"."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise parts.missing("exporter 'litert'", "ai-edge-litert", "edgegraft", "litert") from error
    return schema_py_generated  # type: ignore[no-any-return]


class Graph:
    """Values and operators as they are added; equal constants are kept once."""

    def __init__(self) -> None:
        self.schema = schema()
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [self.schema.BufferT()]
        self._operators: list[Any] = []
        self._codes: dict[int, int] = {}
        self._constants: dict[tuple[Any, ...], Value] = {}

    def value(
        self,
        shape: Sequence[int],
        dtype: Any = np.float32,
        scale: Scale | None = None,
        name: str = "",
    ) -> Value:
        """A value that is computed."""
        return self._tensor(
            tuple(shape), np.dtype(dtype), scale, name or f"v{len(self._tensors)}", 0
        )

    def constant(self, values: Any, scale: Scale | None = None) -> Value:
        """Keep an array: floats as float32, whole numbers as int32, int8 as they are."""
        array = np.asarray(values)
        if array.dtype != np.int8:
            array = array.astype(np.int32 if array.dtype.kind in "iub" else np.float32)
        array = np.asarray(array, order="C")
        key = (array.dtype.str, array.shape, array.tobytes(), scale)
        if key not in self._constants:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(array.tobytes(), np.uint8)
            self._buffers.append(buffer)
            made = self._tensor(
                array.shape, array.dtype, scale, f"k{len(self._constants)}", len(self._buffers) - 1
            )
            self._constants[key] = Value(made.index, array.shape, array.dtype, scale, array)
        return self._constants[key]

    def _tensor(
        self, shape: Shape, dtype: np.dtype[Any], scale: Scale | None, name: str, buffer: int
    ) -> Value:
        tensor = self.schema.TensorT()
        tensor.shape, tensor.type = list(shape), _TYPES[dtype.name]
        tensor.name, tensor.buffer = name.encode(), buffer
        if scale is not None:
            told = self.schema.QuantizationParametersT()
            told.scale = np.array(scale.scale, np.float32)
            told.zeroPoint = np.full(len(scale.scale), scale.zero, np.int64)
            told.quantizedDimension = scale.axis
            tensor.quantization = told
        self._tensors.append(tensor)
        return Value(len(self._tensors) - 1, shape, dtype, scale)

    def node(
        self,
        operator: str,
        inputs: Sequence[Value],
        shape: Sequence[int],
        *,
        dtype: Any = None,
        scale: Scale | None = None,
        kind: str = "",
        **options: Any,
    ) -> Value:
        """Append an operator and return what it gives.

        Args:
            shape: of the result; `dtype` and `scale` are those of the first input unless given.
            kind: of the options in the schema, without its ending "Options".
        """
        dtype = np.dtype(dtype if dtype is not None else inputs[0].dtype)
        if scale is None and dtype == np.int8:
            scale = inputs[0].scale
        found = self.value(shape, dtype, scale)
        self.write(operator, inputs, [found], kind, options)
        return found

    def write(
        self,
        operator: str,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        kind: str = "",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Append an operator whose outputs exist."""
        made = self.schema.OperatorT()
        code = getattr(self.schema.BuiltinOperator, operator)
        made.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        made.inputs = [value.index for value in inputs]
        made.outputs = [value.index for value in outputs]
        if kind:
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, f"{kind}Options")
            made.builtinOptions = getattr(self.schema, f"{kind}OptionsT")()
            for name, value in (options or {}).items():
                setattr(made.builtinOptions, name, value)
        self._operators.append(made)

    # -- what several operators need

    def number(self, value: Value) -> Value:
        """The same value, as float32 where it is a constant of whole numbers."""
        if value.array is None or value.dtype.kind == "f":
            return value
        return self.constant(value.array.astype(np.float32))

    def array(self, value: Value, what: str) -> Array:
        """The values of a constant that the format wants fixed."""
        if value.array is None:
            raise ExportError.of(
                "export-not-constant",
                f"{what} that are computed",
                "LiteRT wants them fixed",
                "pass them as constants of the program",
            )
        return value.array

    def eight(self, value: Value, scale: float, zero: int) -> Value:
        """An int8 value whose steps are read with this scale."""
        wanted = Scale.of(scale, zero)
        if value.array is not None:
            return self.constant(value.array, wanted)
        if value.scale == wanted:
            return value
        return self.reshape(value, value.shape, wanted)

    def reshape(self, value: Value, shape: Sequence[int], scale: Scale | None = None) -> Value:
        sizes = [int(n) for n in shape]
        return self.node(
            "RESHAPE",
            [value, self.constant(np.array(sizes, np.int32))],
            sizes,
            scale=scale,
            kind="Reshape",
            newShape=sizes,
        )

    def transpose(self, value: Value, axes: Sequence[int]) -> Value:
        order = [int(axis) % len(value.shape) for axis in axes]
        shape = [value.shape[axis] for axis in order]
        return self.node(
            "TRANSPOSE", [value, self.constant(np.array(order, np.int32))], shape, kind="Transpose"
        )

    def gather(self, value: Value, index: Value, axis: int) -> Value:
        """Elements along an axis by int32 indices of any shape."""
        shape = (*value.shape[:axis], *index.shape, *value.shape[axis + 1 :])
        return self.node("GATHER", [value, index], shape, kind="Gather", axis=axis)

    def cast(self, value: Value, dtype: Any) -> Value:
        to = np.dtype(dtype)
        return self.node(
            "CAST", [value], value.shape, dtype=to, kind="Cast",
            inDataType=_TYPES[value.dtype.name], outDataType=_TYPES[to.name],
        )  # fmt: skip

    def finish(self, given: Value, found: Value, metadata: Mapping[str, str]) -> bytes:
        """The bytes of the file, the same for the same graph."""
        import flatbuffers

        first, last = self._tidied(given, found)
        model, graph = self.schema.ModelT(), self.schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs, graph.name = [first], [last], b"main"
        model.version, model.subgraphs, model.buffers = SCHEMA_VERSION, [graph], self._buffers
        model.description = b"edgegraft"
        model.operatorCodes, model.metadata = [], []
        for code in self._codes:
            entry = self.schema.OperatorCodeT()
            entry.builtinCode, entry.deprecatedBuiltinCode = code, min(code, 127)
            model.operatorCodes.append(entry)
        for name, text in sorted(metadata.items()):
            buffer, told = self.schema.BufferT(), self.schema.MetadataT()
            buffer.data = np.frombuffer(text.encode(), np.uint8)
            self._buffers.append(buffer)
            told.name, told.buffer = name.encode(), len(self._buffers) - 1
            model.metadata.append(told)
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), file_identifier=_MAGIC)
        return bytes(builder.Output())

    def _tidied(self, given: Value, found: Value) -> tuple[int, int]:
        """Leave out what no operator reads or gives; the new numbers of both ends."""
        ends = [given.index, found.index]
        used = {i for node in self._operators for i in (*node.inputs, *node.outputs)} | set(ends)
        tensors: list[Any] = []
        buffers, places = [self._buffers[0]], {}
        for index, tensor in enumerate(self._tensors):
            if index not in used:
                continue
            places[index] = len(tensors)
            if tensor.buffer:
                buffers.append(self._buffers[tensor.buffer])
                tensor.buffer = len(buffers) - 1
            tensors.append(tensor)
        for node in self._operators:
            node.inputs = [places[index] for index in node.inputs]
            node.outputs = [places[index] for index in node.outputs]
        self._tensors, self._buffers = tensors, buffers
        return places[ends[0]], places[ends[1]]
