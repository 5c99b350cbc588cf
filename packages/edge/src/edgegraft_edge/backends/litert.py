"""LiteRT. Needs the extra ``litert``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from edgegraft_edge.backends import Run, missing
from edgegraft_edge.backends.litert_file import check_file, wants_reference
from edgegraft_edge.errors import ModelError
from edgegraft_edge.integer import dequantize, quantize
from edgegraft_edge.signal import Array

MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class LitertBackend:
    """Runs ``.tflite`` files that take one window, (1, ...), and give its probabilities.

    A file is checked before the runtime sees it (:mod:`edgegraft_edge.backends.litert_file`).
    Ends of 8 bits are turned from and to float32 here. The fast kernels round 8-bit values in
    floats and may be a step or more away; a file for which that matters says so, and then runs on
    the reference kernels.
    """

    name: ClassVar[str] = "litert"
    threads: int = field(default=1, metadata={"help": "Threads inside one operator."})
    reference: bool = field(
        default=False,
        metadata={"help": "The slow kernels that define the rounding of 8 bits."},
    )

    def open(self, model: bytes) -> Run:
        """Errors: `ModelError` for damaged bytes, unknown operators and a wrong input."""
        if len(model) > MAX_BYTES:
            raise ModelError.of(
                "litert-damaged", f"{len(model)} bytes", "that is no model", "a smaller model"
            )
        check_file(model)
        try:
            from ai_edge_litert import interpreter as runtime
        except ImportError as error:
            raise missing("litert", "ai-edge-litert") from error
        session = self._session(runtime, model, self.reference or wants_reference(model))
        given, found = session.get_input_details()[0], session.get_output_details()[0]
        shape = tuple(int(n) for n in given["shape"][1:])

        def one(window: Array) -> Array:
            session.set_tensor(given["index"], _stepped(window, given))
            session.invoke()
            return _real(session.get_tensor(found["index"]), found)

        def run(x: Array) -> Array:
            x = np.ascontiguousarray(x, dtype=np.float32)
            if x.shape[1:] != shape:
                raise ModelError.of(
                    "channel-count",
                    f"windows of shape {x.shape} for a model of shape {('n_windows', *shape)}",
                    "channels and timepoints must agree",
                    "give the windows the model was made for",
                )
            try:
                rows = [one(x[index : index + 1]) for index in range(len(x))]
            except (ValueError, RuntimeError) as error:
                raise ModelError.of(
                    "litert-run", str(error), "LiteRT stopped", "export the model again"
                ) from error
            if not rows:
                return np.zeros((0, *found["shape"][1:]), np.float32)
            return np.concatenate(rows)

        return run

    def _session(self, runtime: Any, model: bytes, reference: bool) -> Any:
        """The reference kernels lack a few operators, which then come from the plain ones."""
        kernels, told = runtime.OpResolverType, ""
        for kind in (
            (kernels.BUILTIN_REF, kernels.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
            if reference
            else (kernels.BUILTIN,)
        ):
            try:
                session = runtime.Interpreter(
                    model_content=model,
                    num_threads=self.threads,
                    experimental_op_resolver_type=kind,
                )
                session.allocate_tensors()
                return session
            except (ValueError, RuntimeError) as error:
                told = (str(error).splitlines() or ["a model"])[0]
        raise ModelError.of(
            "litert-damaged",
            told,
            "LiteRT cannot load it",
            "fetch or export the model again, or a newer ai-edge-litert",
        )


def _stepped(window: Array, detail: dict[str, Any]) -> Array:
    if detail["dtype"] == np.float32:
        return window
    scale, zero = detail["quantization"]
    return quantize(window, scale=float(scale), zero=int(zero))


def _real(value: Array, detail: dict[str, Any]) -> Array:
    if detail["dtype"] == np.float32:
        return np.array(value, np.float32)
    scale, zero = detail["quantization"]
    return dequantize(value, scale=float(scale), zero=int(zero))
