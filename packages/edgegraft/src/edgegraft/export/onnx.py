"""ONNX: a program as a graph, one operator or a few for each primitive.

:data:`EMITTERS` mirrors :data:`edgegraft_edge.primitives.PRIMITIVES` name by name, with the same
arguments; a test holds the two tables together. The batch axis stays free; channels and timepoints
are fixed, since they are part of what a bundle promises.

What takes text apart (:data:`edgegraft_edge.tokens.READERS`) has no operator; it stays in front
of the graph, in NumPy, and the graph starts from its numbers.

Integer programs keep their scales and use integer operators
(:mod:`edgegraft.export.onnx_integer`). The rest of a graph computes in float32. NumPy and a
runtime round sums differently, so values agree to about 1e-6 relative; where a program compares
(``greater``, ``trees``) a value that sits on the threshold to within that rounding may fall on the
other side. One such tie moves a proportion over n timepoints by 1/n. `edgegraft.export.parity`
counts what that does to the probabilities of real windows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from edgegraft.export.onnx_integer import INTEGER_EMITTERS
from edgegraft.export.onnx_operators import FLOAT_EMITTERS, Graph
from edgegraft.export.parity import prove
from edgegraft.passes.trace import trace
from edgegraft_edge.bundle import Bundle, with_model
from edgegraft_edge.errors import ExportError, OptionError
from edgegraft_edge.program import INPUT, Program, split
from edgegraft_edge.signal import ImageSpec, WindowSpec

OPSET, OPSETS, ML_OPSET, IR_VERSION = 18, (18, 19, 20), 3, 8
OUTPUT = "probabilities"

EMITTERS: Mapping[str, Callable[..., str]] = MappingProxyType(
    {**FLOAT_EMITTERS, **INTEGER_EMITTERS}
)
"""Primitive -> what writes it into a graph; the same keys as `PRIMITIVES`, without `READERS`."""


@dataclass(frozen=True)
class OnnxExporter:
    """Adds ``model.onnx``: normalisation, backbone and head in one graph."""

    opset: int = field(default=OPSET, metadata={"help": "Operator set, 18 to 20."})

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            raise OptionError.of(
                "option-value",
                f"opset={self.opset}",
                "the graph is written for other operator sets",
                f"opset from {OPSETS[0]} to {OPSETS[-1]}",
            )

    def export(self, bundle: Bundle) -> Bundle:
        """The bundle with its model for ONNX Runtime, proved on the golden windows.

        Errors: `ExportError`.
        """
        readers, program = split(bundle.program)
        shape = (
            bundle.golden.shape[1:] if readers is None else readers.run(bundle.golden[:1]).shape[1:]
        )
        metadata = {"classes": json.dumps(bundle.classes)}
        if isinstance(bundle.spec, WindowSpec | ImageSpec):
            metadata["channels"] = json.dumps(bundle.spec.channel_names)
        if isinstance(bundle.spec, WindowSpec):
            metadata["rate_hz"] = f"{bundle.spec.rate_hz:g}"
        model = emit(program, *shape, opset=self.opset, metadata=metadata)
        return prove(with_model(bundle, "onnx", model), "onnx")


def emit(
    program: Program,
    *shape: int,
    opset: int = OPSET,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The program as the bytes of an ONNX model, the same for the same program.

    Input ``x`` float32 (n_windows, then `shape`), output ``probabilities`` (n_windows, ...);
    `metadata` goes into the model's properties.

    Errors: `ExportError` when the program does not fit such windows, or when a value that the
    format fixes (weights of trees, say) is computed.
    """
    import onnx

    graph = Graph()
    names: dict[str, str] = {INPUT: INPUT}
    forms = trace(program, *shape)
    shapes = {name: form.shape for name, form in forms.items()}
    graph.shapes[INPUT] = shapes[INPUT]
    for op in program.ops:
        for name in op.inputs:
            if name not in names:
                names[name] = graph.constant(program.constants[name])
        names[op.output] = EMITTERS[op.kind](graph, *(names[n] for n in op.inputs), **op.attrs)
        graph.shapes[names[op.output]] = shapes[op.output]
        if forms[op.output].dtype == np.int8:
            graph.eight.add(names[op.output])
    if program.output not in names:
        names[program.output] = graph.constant(program.constants[program.output])
    graph.nodes.append(onnx.helper.make_node("Identity", [names[program.output]], [OUTPUT]))

    float32 = onnx.TensorProto.FLOAT
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "edgegraft",
            [onnx.helper.make_tensor_value_info(INPUT, float32, ["n_windows", *shape])],
            [
                onnx.helper.make_tensor_value_info(
                    OUTPUT, float32, ["n_windows", *shapes[program.output][1:]]
                )
            ],
            graph.used(),
        ),
        producer_name="edgegraft",
        ir_version=IR_VERSION,
        opset_imports=[
            onnx.helper.make_opsetid("", opset),
            onnx.helper.make_opsetid("ai.onnx.ml", ML_OPSET),
        ],
    )
    onnx.helper.set_model_props(model, dict(sorted((metadata or {}).items())))
    _check(model)
    return bytes(model.SerializeToString(deterministic=True))


def _check(model: Any) -> None:
    import onnx

    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError.of(
            "export-invalid",
            f"a graph that onnx refuses ({str(error).splitlines()[0]})",
            "no runtime would take it",
            "report the program to Edgegraft",
        ) from error
