"""LiteRT (TensorFlow Lite): a program as a ``.tflite`` file, written by us.

:data:`~edgegraft.export.litert_operators.EMITTERS` mirrors
:data:`edgegraft_edge.primitives.PRIMITIVES` name by name. Convolutions are brought to the
channels-last order first (:mod:`edgegraft.passes.layout`); a program of 8 bits keeps its own
scales and zero points, so the file computes the steps that the bundle computes. The window axis
has length one: a device scores window by window.

What takes text apart (:data:`edgegraft_edge.tokens.READERS`) has no operator; it stays in front
of the file, in NumPy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgegraft.export.litert_graph import Graph, Scale, Value
from edgegraft.export.litert_micro import check_micro
from edgegraft.export.litert_operators import EMITTERS
from edgegraft.export.parity import prove
from edgegraft.passes.layout import channels_last
from edgegraft.passes.trace import trace
from edgegraft_edge.backends.litert import LitertBackend
from edgegraft_edge.backends.litert_file import KERNELS, REFERENCE
from edgegraft_edge.bundle import Bundle, score, with_model
from edgegraft_edge.errors import ExportError, OptionError
from edgegraft_edge.primitives import PRIMITIVES
from edgegraft_edge.program import INPUT, Program, split
from edgegraft_edge.runner import open_model
from edgegraft_edge.signal import ImageSpec, WindowSpec

OUTPUT = "probabilities"
ENDS = ("float", "int8")
METADATA = "edgegraft"
_ONE_STEP = 1.01
_MOVES = ("reshape", "transpose", "slice")


@dataclass(frozen=True)
class LitertExporter:
    """Adds ``model.litert``: normalisation, backbone and head in one ``.tflite`` file."""

    io: str = field(
        default="float",
        metadata={"help": 'What goes in and out: "float", or "int8" for microcontrollers.'},
    )

    def __post_init__(self) -> None:
        if self.io not in ENDS:
            raise OptionError.of(
                "option-value", f"io={self.io!r}", "there is none of that name", "float or int8"
            )

    def export(self, bundle: Bundle) -> Bundle:
        """The bundle with its model for LiteRT, proved on the golden windows.

        Errors: `ExportError`.
        """
        readers, program = split(bundle.program)
        shape = (
            bundle.golden.shape[1:] if readers is None else readers.run(bundle.golden[:1]).shape[1:]
        )
        told: dict[str, object] = {"classes": list(bundle.classes)}
        if isinstance(bundle.spec, WindowSpec | ImageSpec):
            told["channels"] = list(bundle.spec.channel_names)
        if isinstance(bundle.spec, WindowSpec):
            told["rate_hz"] = bundle.spec.rate_hz
        metadata = {METADATA: json.dumps(told, sort_keys=True)}
        model = emit(program, *shape, io=self.io, metadata=metadata)
        exported = self._same_steps(with_model(bundle, "litert", model))
        if self.io == "int8":
            check_micro(bundle, model)
        try:
            return prove(exported, "litert")
        except ExportError:
            if bundle.precision == "float":
                raise
        # the fast kernels drift too far on this network: let the slow ones run it
        metadata[KERNELS] = REFERENCE.decode()
        model = emit(program, *shape, io=self.io, metadata=metadata)
        return prove(with_model(bundle, "litert", model), "litert")

    def _same_steps(self, bundle: Bundle) -> Bundle:
        """An integer program to within one step of its output, by the reference kernels."""
        ends = [op.attrs["scale"] for op in bundle.program.ops if op.kind == "dequantize"]
        if bundle.precision != "int8" or not ends:
            return bundle
        run = open_model(bundle, LitertBackend(reference=True))
        found = score(run, bundle.golden, bundle.spec, bundle.classes)
        steps = float(np.abs(found - bundle.expected).max()) / float(ends[-1])
        if steps > _ONE_STEP:
            raise ExportError.of(
                "export-parity",
                f"LiteRT's reference kernels {steps:.1f} steps away on {len(found)} golden windows",
                "the file must say what the program says, to within one step",
                "report the program to Edgegraft",
            )
        return bundle


def emit(
    program: Program,
    *shape: int,
    io: str = "float",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The program as the bytes of a ``.tflite`` file, the same for the same program.

    Input ``x`` float32 (1, then `shape`), output ``probabilities`` (1, ...); with `io` "int8"
    both are int8, with the scales of the program's first `quantize` and last `dequantize`.

    Errors: `ExportError` "export-shape", "export-not-constant", "export-litert-operation", and
    "export-litert-ends" for 8-bit ends of a program that computes in floats at its ends;
    `OptionError` "extra-missing".
    """
    program = channels_last(program, *shape)
    forms = trace(program, *shape)
    skipped, given = _int8_ends(program) if io == "int8" else ({}, None)
    graph = Graph()
    dtype = np.float32 if given is None else np.int8
    x = graph.value((1, *shape), dtype, given, INPUT)
    values: dict[str, Value] = {INPUT: x}
    tables = _table_scales(program)
    for op in program.ops:
        for name in op.inputs:
            if name not in values:
                values[name] = graph.constant(program.constants[name])
        inputs = [values[name] for name in op.inputs]
        if op.output in skipped:
            values[op.output] = values[skipped[op.output]]
        elif all(name in program.constants for name in op.inputs):
            arrays = [program.constants[name] for name in op.inputs]
            values[op.output] = graph.constant(PRIMITIVES[op.kind](*arrays, **op.attrs))
        else:
            more = {"to": tables.get(op.output)} if op.kind == "table_int8" else {}
            values[op.output] = EMITTERS[op.kind](graph, *inputs, **op.attrs, **more)
        if values[op.output].shape != forms[op.output].shape:
            raise AssertionError(f"{op.kind} gives {values[op.output].shape}")
    found = values.get(program.output)
    if found is None:
        found = graph.constant(program.constants[program.output])
    if found.dtype == np.int8 and io != "int8":
        found = graph.cast(found, np.float32)  # steps, as `Program.run` gives them
    out = graph.value(found.shape, found.dtype, found.scale, OUTPUT)
    sizes = graph.constant(np.array(found.shape, np.int32))
    graph.write("RESHAPE", [found, sizes], [out], "Reshape", {"newShape": list(found.shape)})
    return graph.finish(x, out, metadata or {})


def _table_scales(program: Program) -> Mapping[str, Scale]:
    """What the results of tables mean, by who reads them first: a table does not say."""
    found: dict[str, Scale] = {}
    tables = {op.output for op in program.ops if op.kind == "table_int8"}
    for op in program.ops:
        for place, name in enumerate(op.inputs):
            if name not in tables or name in found:
                continue
            side = "ab"[min(place, 1)] if "a_scale" in op.attrs else "x"
            if f"{side}_scale" in op.attrs:
                zero = op.attrs.get(f"{side}_zero", 0)
                found[name] = Scale.of(op.attrs[f"{side}_scale"], zero)
            elif op.kind == "dequantize":
                found[name] = Scale.of(op.attrs["scale"], op.attrs["zero"])
    return found


def _int8_ends(program: Program) -> tuple[Mapping[str, str], Scale]:
    """Values that stand for another once both ends are int8, and the scale of the input."""
    skipped: dict[str, str] = {}
    scales: set[Scale] = set()
    moved = {INPUT}
    for op in program.ops:
        if not moved.intersection(op.inputs):
            continue
        if op.kind in _MOVES:
            moved.add(op.output)
        elif op.kind == "quantize":
            scales.add(Scale.of(op.attrs["scale"], op.attrs["zero"]))
            skipped[op.output] = op.inputs[0]
        else:
            raise _ends(f"{op.kind} on the windows before they are of 8 bits")
    last = program.output
    by_name = {op.output: op for op in program.ops}
    while last in by_name and by_name[last].kind in _MOVES:
        last = by_name[last].inputs[0]
    if last not in by_name or by_name[last].kind != "dequantize":
        raise _ends("a result that is computed in floats")
    skipped[last] = by_name[last].inputs[0]
    if len(scales) != 1:
        raise _ends(f"windows turned into 8 bits in {len(scales)} ways")
    return skipped, next(iter(scales))


def _ends(found: str) -> ExportError:
    return ExportError.of(
        "export-litert-ends",
        found,
        "the file would need floats at its ends",
        'io "float", or a network that is integer throughout',
    )
