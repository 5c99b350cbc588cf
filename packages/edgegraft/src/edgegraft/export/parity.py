"""Does a runtime compute what the program computes? Asked of the golden windows."""

from __future__ import annotations

from edgegraft_edge import runner
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.errors import ExportError
from edgegraft_edge.program import Program
from edgegraft_edge.rounding import TOLERANCE

SMOOTH, COMPARING, MIXED = 1e-4, TOLERANCE, 0.05
_COMPARISONS = frozenset({"greater", "round", "trees"})


def tolerance_of(program: Program) -> float:
    """How far probabilities may differ between runtimes.

    A program without comparisons is smooth: rounding moves its result by rounding (1e-4 covers
    sums of ten thousand terms). A comparison may fall on the other side when a value sits on
    its threshold, and one proportion or one tree then answers otherwise: such programs have
    the wider tolerance of `edgegraft_edge.runner.verify`. Where floats are quantised one such tie
    is a step, which goes through all that follows. `prove` asks the program itself how far.
    """
    if program.precision != "float":
        return MIXED
    compares = any(op.kind in _COMPARISONS for op in program.ops)
    return COMPARING if compares else SMOOTH


def prove(bundle: Bundle, runtime: str) -> Bundle:
    """The same bundle, if the runtime agrees with the program on the golden windows.

    Errors: `ExportError` "export-parity" with the difference or with what the runtime said.
    """
    asked = bundle.precision == "float" and bundle.outputs is None
    tolerance = tolerance_of(bundle.program) if asked else None
    (parity,) = runner.verify(bundle, [runtime], tolerance=tolerance)
    if not parity.ok:
        raise ExportError.of(
            "export-parity",
            f"{runtime} on {parity.n_windows} golden windows: {parity.status}, the largest "
            f"difference {parity.max_abs:.2g}; {parity.reason}",
            "rounding does not explain that",
            "another strategy or backbone, or a newer runtime",
        )
    return bundle
