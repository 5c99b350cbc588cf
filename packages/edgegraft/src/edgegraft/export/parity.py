"""Does a runtime compute what the program computes? Asked of the golden windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgegraft_edge import backends
from edgegraft_edge.bundle import Bundle, score
from edgegraft_edge.errors import ExportError
from edgegraft_edge.program import Program

SMOOTH, COMPARING = 1e-4, 5e-3
_COMPARISONS = frozenset({"greater", "trees"})


@dataclass(frozen=True)
class Parity:
    """How far a runtime is from the program on the golden windows.

    Attributes:
        runtime: name of the backend.
        n_windows: how many windows were compared.
        worst: largest difference of a probability.
        labels_changed: windows whose class differs although it was not a near tie.
        tolerance: what `worst` may be.
    """

    runtime: str
    n_windows: int
    worst: float
    labels_changed: int
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.worst <= self.tolerance and self.labels_changed == 0

    def as_dict(self) -> Mapping[str, Any]:
        return {**asdict(self), "holds": self.holds}


def tolerance_of(program: Program) -> float:
    """How far probabilities may differ between runtimes.

    A program without comparisons is smooth: rounding moves its result by rounding (1e-4 covers
    sums of ten thousand terms). A comparison may fall on the other side when a value sits on
    its threshold, and one proportion then moves by one timepoint: such programs have 5e-3.
    """
    compares = any(op.kind in _COMPARISONS for op in program.ops)
    return COMPARING if compares else SMOOTH


def compare(bundle: Bundle, runtime: str) -> Parity:
    """Run the golden windows in a runtime that the bundle holds a model for.

    Errors: `OptionError` when the runtime is not installed, `ModelError` when it refuses.
    """
    run = backends.find(runtime).open(bundle.model(runtime))
    found = score(run, bundle.golden, bundle.spec, bundle.classes)
    tolerance = tolerance_of(bundle.program)
    best = bundle.expected.max(axis=1)
    chosen = np.take_along_axis(bundle.expected, found.argmax(axis=1)[:, None], axis=1)[:, 0]
    return Parity(
        runtime=runtime,
        n_windows=len(found),
        worst=float(np.abs(found - bundle.expected).max()),
        labels_changed=int((best - chosen > 2 * tolerance).sum()),
        tolerance=tolerance,
    )


def prove(bundle: Bundle, runtime: str) -> Bundle:
    """The same bundle, if the runtime agrees with the program.

    Errors: `ExportError` "export-parity" with the difference.
    """
    parity = compare(bundle, runtime)
    if not parity.holds:
        raise ExportError.of(
            "export-parity",
            f"{runtime} differs from the program by {parity.worst:.2g} on {parity.n_windows} "
            f"golden windows and changes {parity.labels_changed} labels",
            f"at most {parity.tolerance:g} comes from rounding",
            "another strategy or backbone, and report this one to Edgegraft",
        )
    return bundle
