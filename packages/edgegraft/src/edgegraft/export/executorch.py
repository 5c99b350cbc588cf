"""ExecuTorch: a program lowered to a .pte file, XNNPACK kernels wherever it has them.

The file is for the runtime of phones and larger boards, and for our own backend of Python devices.
It takes one window (shapes are fixed, memory is planned) and gives its probabilities. What takes
text apart (:data:`edgegraft_edge.tokens.READERS`) stays in front of it, in NumPy.

A program of integer primitives is written with its own scales, as the quantised pattern of
:mod:`edgegraft.export.executorch_integer`: nothing is calibrated anew. :func:`float_kernels` says
what of a lowered int8 program is computed in float all the same.

After the file the SHA-256 of its bytes is appended, since the runtime does not check what a
damaged file makes it do: our backend opens only files whose bytes are the ones that were written.
Other ExecuTorch runtimes ignore what follows a file.

Source: https://docs.pytorch.org/executorch/
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegraft.export.parity import prove
from edgegraft.passes.trace import trace
from edgegraft_edge.backends.executorch import ExecutorchBackend, runtime, sealed
from edgegraft_edge.bundle import Bundle, with_model
from edgegraft_edge.errors import ExportError, ModelError
from edgegraft_edge.parts import missing
from edgegraft_edge.program import Program, split

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class ExecutorchExporter:
    """Adds ``model.executorch``: a .pte file, float or int8 as the bundle is."""

    def export(self, bundle: Bundle) -> Bundle:
        """The bundle with its model for ExecuTorch, proved on the golden windows.

        Errors: `ExportError`; `OptionError` "extra-missing" where ExecuTorch is not installed.
        """
        readers, program = split(bundle.program)
        shape = (
            bundle.golden.shape[1:] if readers is None else readers.run(bundle.golden[:1]).shape[1:]
        )
        return prove(with_model(bundle, "executorch", emit(program, *shape)), "executorch")


def emit(program: Program, *shape: int) -> bytes:
    """The program as the bytes of a .pte file for one window, sealed by a checksum.

    Input float32 (1, then `shape`), output float32 (1, ...).

    Errors: `ExportError` "export-shape" when the program does not fit such windows,
    "export-not-constant" when a value that must be fixed is computed, and
    "export-executorch-operation" for what ExecuTorch cannot lower or its runtime cannot run.
    """
    for portable in (False, True):
        lowered = _lowered(program, *shape, portable=portable)
        unknown = sorted(set(_operators(lowered)) - _runtime_operators())
        if unknown:
            raise _refusal(
                f"operators {', '.join(unknown)}", "the runtime of ExecuTorch has no kernel of them"
            )
        model, stopped = sealed(bytes(lowered.buffer)), ""
        try:
            ExecutorchBackend().open(model)  # XNNPACK says only now which scales it refuses
        except ModelError as error:
            stopped = str(error.problems[0].found)
        else:
            return model
    raise _refusal(f"a file that does not load ({stopped})", "the runtime refuses it")


def float_kernels(program: Program, *shape: int) -> tuple[str, ...]:
    """Operators outside XNNPACK that a lowered program computes in float32.

    Of an integer program: everything that has no integer kernel there. Quantising and
    dequantising do not count.
    """
    import torch

    found = []
    lowered = _lowered(program, *shape)
    for node in lowered.exported_program().graph.nodes:
        name = _name_of(node)
        value = node.meta.get("val") if name else None
        parts = value if isinstance(value, list | tuple) else [value]
        real = any(isinstance(p, torch.Tensor) and p.dtype.is_floating_point for p in parts)
        if name and real and not name.startswith(("quantized_decomposed::", "dim_order_ops::")):
            found.append(name)
    return tuple(dict.fromkeys(found))


def _lowered(program: Program, *shape: int, portable: bool = False) -> Any:
    """The program in ExecuTorch's own form, memory planned."""
    trace(program, *shape)  # its error tells where a window does not fit
    with _quiet():
        try:
            import torch
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower
            from executorch.kernels import quantized  # noqa: F401  (registers its operators)
        except ImportError as error:
            raise missing(
                "exporter 'executorch'", "executorch", "edgegraft", "executorch"
            ) from error
        from edgegraft.export.executorch_network import Network
        from edgegraft.export.executorch_operators import EMITTERS

        window = torch.from_numpy(np.zeros((1, *shape), np.float32))
        network = Network(program, EMITTERS).eval()
        stopped = ""
        # Parts that XNNPACK takes together may depend on each other in a circle, which is found
        # only at the end; portable kernels alone have no parts.
        for parts in [[]] if portable else [[XnnpackPartitioner()], []]:
            try:
                with torch.no_grad():
                    network(window)  # constants are kept before the graph is traced
                    traced = torch.export.export(network, (window,))
                return to_edge_transform_and_lower(traced, partitioner=parts).to_executorch()
            except ExportError:
                raise
            except Exception as error:  # three packages with error classes of their own
                stopped = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _refusal(f"a program it cannot lower ({stopped})", "it stopped")


def _operators(lowered: Any) -> list[str]:
    return [name for node in lowered.exported_program().graph.nodes if (name := _name_of(node))]


def _name_of(node: Any) -> str:
    """``aten::add.out`` of a node that calls an operator of the runtime; nothing of any other."""
    if node.op != "call_function":
        return ""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return ""
    return f"{schema.name}.{schema.overload_name}" if schema.overload_name else str(schema.name)


def _runtime_operators() -> frozenset[str]:
    return frozenset(runtime()._get_operator_names())


def _refusal(found: str, why: str) -> ExportError:
    return ExportError.of(
        "export-executorch-operation",
        found,
        why,
        "the runtime 'numpy', which every bundle has, or --format onnx",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of packages that are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
