"""Does the C of a bundle compute what its program computes, here and on Cortex-M cores?

Golden windows go through the generated C, compiled for this machine (``c``) and for cores that
QEMU runs (``c-m0plus``, ``c-m3``, ``c-m4``, ``c-m7``, ``c-m55``). A model that is integer
throughout must give the same bits as the program; any other must agree as runtimes do.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgegraft.export import emulator
from edgegraft.export.c import host
from edgegraft.export.c.emit import model_of, runtime, sources_of
from edgegraft.export.c.model import Model
from edgegraft.export.parity import tolerance_of
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.errors import EdgegraftError, OptionError, nearest
from edgegraft_edge.rounding import allowed
from edgegraft_edge.runner import Parity, compared
from edgegraft_edge.signal import Array

HOST = "c"
RUNTIMES = (HOST, *(f"c-{name}" for name in emulator.CORES))
"""Names of what C runs on."""
MAX_EMULATED = 16
"""Golden windows that an emulated core computes, spread over all of them."""
_ABSENT = ("c-compiler-missing", "emulator-missing")


def verify(bundle: Bundle, runtimes: Sequence[str] = RUNTIMES) -> tuple[Parity, ...]:
    """Compute golden windows in C and compare, as `edgegraft_edge.runner.verify` does.

    A core has no latency: an emulator has none of its timing.

    Errors: `OptionError` "runtime-unknown".
    """
    for name in runtimes:
        if name not in RUNTIMES:
            raise OptionError.of(
                "runtime-unknown", f"{name!r}", "C is not run on that", nearest(name, RUNTIMES)
            )
    try:
        model = model_of(bundle.program, *bundle.golden.shape[1:])
    except EdgegraftError as error:
        return tuple(Parity(name, "failed", str(error)) for name in runtimes)
    return tuple(_parity(bundle, model, name) for name in runtimes)


def _parity(bundle: Bundle, model: Model, name: str) -> Parity:
    x = np.asarray(bundle.golden, np.float32)
    places = np.arange(len(x))
    run: Callable[[Array], Array]
    try:
        if name == HOST:
            run = host.hosted(model)
        else:
            places = np.unique(np.linspace(0, len(x) - 1, MAX_EMULATED).astype(int))
            run = _emulated(model, name.removeprefix("c-"))
        found = run(x[places]).reshape(len(places), -1)
    except EdgegraftError as error:
        return Parity(name, "absent" if error.code in _ABSENT else "failed", str(error))
    expected, estimates = bundle.expected[places], bundle.outputs is not None
    if model.integers is not None:
        room = np.zeros(expected.shape)
    elif estimates:
        room = allowed(bundle.program, bundle.golden, bundle.expected, bundle.outputs)[places]
    else:
        room = np.full(expected.shape, tolerance_of(bundle.program))
    took_ms = latency_ms(run, x) if name == HOST else 0.0
    return compared(name, found, expected, room, took_ms, estimates=estimates)


def _emulated(model: Model, core: str) -> Callable[[Array], Array]:
    def run(x: Array) -> Array:
        with tempfile.TemporaryDirectory(prefix="edgegraft-") as folder:
            built = build(model, core, Path(folder), entry="float")
            return emulator.emulate(built, x).outputs

    return run


def build(
    model: Model,
    core: str,
    folder: Path,
    *,
    entry: emulator.Entry,
    flags: Sequence[str] = ("-O2",),
) -> emulator.Build:
    """The C of a model for a core, in a folder that is empty. Errors: `ExportError`."""
    integers = model.integers
    eight = entry == "s8" and integers is not None
    inputs = integers.input_shape if eight and integers is not None else model.input_shape
    return emulator.build(
        {**runtime(), **sources_of(model)},
        core,
        folder,
        entry="s8" if eight else "float",
        n_inputs=int(np.prod(inputs)),
        n_outputs=int(np.prod(model.output_shape)),
        prefix=model.prefix,
        flags=flags,
    )


def latency_ms(
    run: Callable[[Array], Array], x: Array, *, times: int = 9, rounds: int = 3
) -> float:
    """Milliseconds of one window here: the best of some medians, since a machine has other work."""
    medians = []
    windows = x[np.arange(times) % len(x), None]
    run(windows[0])
    for _ in range(rounds):
        each = []
        for window in windows:
            began = time.perf_counter()
            run(window)
            each.append(time.perf_counter() - began)
        medians.append(float(np.median(each)))
    return round(1000 * min(medians), 4)
