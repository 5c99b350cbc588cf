"""The exporter `c`: a bundle as a folder of plain C, proved on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgegraft.export.c import folder, golden, host
from edgegraft.export.c.emit import model_of, runtime, sources_of, values_of
from edgegraft.export.c.model import Model
from edgegraft.export.parity import tolerance_of
from edgegraft.export.stream import stream_files
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.errors import ExportError, OptionError
from edgegraft_edge.rounding import allowed
from edgegraft_edge.signal import Array, WindowSpec
from edgegraft_edge.windowing import measured

MAX_GOLDEN = 64
LAYOUTS = ("rows", "blocks")


@dataclass(frozen=True)
class CExporter:
    """C99 for microcontrollers; `sources` gives the folder.

    C is written from the bundle where it is wanted and not kept in it, so `export` gives the
    bundle as it was, once the C has computed the same.
    """

    prefix: str = field(
        default="model", metadata={"help": "Begins every name in C and the files' names."}
    )
    counts: tuple[float, ...] = field(
        default=(),
        metadata={
            "help": "Value of one raw count in each channel's unit, for conversion without floats."
        },
    )
    layout: str = field(
        default="rows",
        metadata={
            "help": "Order of int8 weights: rows for microcontrollers, blocks for processors "
            "with AVX-512 VNNI."
        },
    )
    golden: int = field(
        default=8, metadata={"help": "Golden windows that go into the self-test, at most."}
    )

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise OptionError.of(
                "option-value",
                f"layout={self.layout!r}",
                "kernels read weights in two orders",
                " or ".join(LAYOUTS),
            )
        if not 1 <= self.golden <= MAX_GOLDEN:
            raise OptionError.of(
                "option-value",
                f"golden={self.golden}",
                "the self-test keeps some windows in flash",
                f"from 1 to {MAX_GOLDEN}",
            )

    def model(self, bundle: Bundle) -> Model:
        """The C of a bundle's program, with its memory plan. Errors: `ExportError`."""
        return model_of(
            bundle.program,
            *bundle.golden.shape[1:],
            prefix=self.prefix,
            blocks=self.layout == "blocks",
            counts=self.counts,
        )

    def export(self, bundle: Bundle) -> Bundle:
        """The same bundle, if its C agrees with the program on the golden windows.

        Errors: `ExportError`: "c-compiler-missing" where nothing could be compared,
        "export-parity" where the C computes something else.
        """
        model = self.model(bundle)
        prove(host.hosted(model), bundle)
        return bundle

    def sources(self, bundle: Bundle) -> Mapping[str, bytes]:
        """The folder: path -> bytes, the same for the same bundle. Needs no compiler."""
        model = self.model(bundle)
        places = golden.chosen(len(bundle.golden), self.golden)
        x = bundle.golden[places].astype(np.float32)
        # A model of derived channels is called with whole windows: its stream is not in C.
        series = isinstance(bundle.spec, WindowSpec) and measured(bundle.spec) == bundle.spec
        streams = stream_files(bundle, prefix=self.prefix) if series else {}
        return {
            **runtime(model.blocks),
            **sources_of(model, bundle.classes, defines(bundle)),
            **golden.golden(model, x, bundle.expected[places], tolerance_for(bundle)),
            **streams,
            "selftest.c": golden.selftest(model),
            **folder.library(model, bundle.manifest.name, bundle.manifest.version, list(streams)),
        }


def defines(bundle: Bundle) -> Mapping[str, str]:
    """What a firmware must know of the windows, as macros."""
    spec = bundle.spec
    if not isinstance(spec, WindowSpec):
        return {}
    n_channels, n_timepoints = spec.shape
    return {"N_CHANNELS": str(n_channels), "N_TIMEPOINTS": str(n_timepoints)}


def prove(run: host.HostModel, bundle: Bundle) -> None:
    """Compare the compiled C with the program on the golden windows.

    Errors: `ExportError` "export-parity" with the difference.
    """
    x = bundle.golden.astype(np.float32)
    tolerance = tolerance_for(bundle)
    difference = _largest(run(x), bundle.expected)
    problem = f"floats differ by {difference:.2g}" if not difference <= tolerance else ""
    integers = run.model.integers
    if integers is not None:
        names = (integers.entry.output, integers.exit.inputs[0])
        q, scores = values_of(run.model.program, x, *names)
        if not np.array_equal(run.quantized(x).ravel(), q.ravel()):
            problem = "quantised windows differ"
        if not np.array_equal(run.scores(q).ravel(), scores.ravel()):
            problem = "int8 scores differ"
    if problem:
        raise ExportError.of(
            "export-parity",
            f"C on {len(x)} golden windows: {problem}",
            f"at most {tolerance:g} comes from rounding, and integers are exact",
            "report the bundle and the compiler to Edgegraft",
        )


def tolerance_for(bundle: Bundle) -> float:
    """What rounding may change of a column; estimates have a scale, which it goes by."""
    if bundle.outputs is None:
        return tolerance_of(bundle.program)
    room = allowed(bundle.program, bundle.golden, bundle.expected, bundle.outputs)
    return float(np.min(room))


def _largest(found: Array, expected: Array) -> float:
    return float(np.abs(found.reshape(expected.shape) - expected).max(initial=0.0))
