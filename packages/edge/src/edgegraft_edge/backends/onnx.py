"""ONNX Runtime. Needs the extra ``onnx``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from edgegraft_edge.backends import Run, missing
from edgegraft_edge.errors import ModelError
from edgegraft_edge.signal import Array


@dataclass(frozen=True)
class OnnxBackend:
    """Runs models with one input (windows) and the probabilities as first output."""

    name: ClassVar[str] = "onnx"
    threads: int = field(default=1, metadata={"help": "Threads inside one operator."})

    def open(self, model: bytes) -> Run:
        """Errors: `ModelError` for damaged bytes, unknown operator sets and a wrong input."""
        try:
            import onnxruntime
        except ImportError as error:
            raise missing("onnx", "onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's own classes differ from version to version
            raise _load_error(str(error)) from error
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) < 2 or inputs[0].type != "tensor(float)":
            found = ", ".join(f"{entry.type} {entry.shape}" for entry in inputs)
            raise ModelError.of(
                "onnx-input",
                f"inputs {found}",
                "one float input (n_windows, ...) is needed",
                "export the model with edgegraft export",
            )
        shape, name, output = inputs[0].shape, inputs[0].name, outputs[0].name

        def run(x: Array) -> Array:
            x = np.ascontiguousarray(x, dtype=np.float32)
            wrong = x.ndim != len(shape) or any(
                isinstance(wanted, int) and wanted != given
                for wanted, given in zip(shape[1:], x.shape[1:], strict=True)
            )
            if wrong:
                raise ModelError.of(
                    "channel-count",
                    f"windows of shape {x.shape} for a model of shape {shape}",
                    "channels and timepoints must agree",
                    "give the windows the model was made for",
                )
            try:
                return np.asarray(session.run([output], {name: x})[0], dtype=np.float32)
            except Exception as error:
                raise ModelError.of(
                    "onnx-run", str(error), "ONNX Runtime stopped", "export the model again"
                ) from error

        return run


def _load_error(text: str) -> ModelError:
    lower = text.lower()
    if "opset" in lower or "ir version" in lower or "ir_version" in lower:
        return ModelError.of(
            "onnx-operator-set",
            text,
            "this ONNX Runtime is older than the model",
            "pip install --upgrade onnxruntime, or export for an older operator set",
        )
    return ModelError.of(
        "onnx-damaged", text, "ONNX Runtime cannot load it", "fetch or export the model again"
    )
