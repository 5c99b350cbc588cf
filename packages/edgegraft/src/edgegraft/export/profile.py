"""What a bundle costs: operations, bytes, memory and time, here and on boards.

Latency of Python runtimes and of C is measured where this runs, one thread, and is of this
machine. For microcontrollers the linker counts flash and RAM of a whole firmware, an emulated
core counts instructions of one window, and a board's card makes of that an estimate of time:
instructions times cycles per instruction, over the clock. Instructions are exact; an estimate
from them is no measurement (bench/mlperf_tiny.py says how far such estimates are off).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgegraft.catalog import find, names
from edgegraft.export import emulator, replay
from edgegraft.export.c import host
from edgegraft.export.c.emit import model_of
from edgegraft.export.c.model import Model
from edgegraft.export.target import TargetCard, board, boards, misfits
from edgegraft.export.verification import build, latency_ms
from edgegraft.zoo.cost import multiply_adds
from edgegraft_edge import runner
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.errors import EdgegraftError, Problem
from edgegraft_edge.program import split
from edgegraft_edge.signal import WindowSpec

EXPORTED = ("onnx", "litert")
"""Runtimes whose model is written for the occasion where the bundle has none."""
COUNTED_WINDOWS = 2
_LIMIT_S = 120.0


@dataclass(frozen=True)
class RuntimeCost:
    """A runtime on this machine: bytes of its model, milliseconds of one window; or why not."""

    runtime: str
    model_bytes: int = 0
    latency_ms: float | None = None
    note: str = ""


@dataclass(frozen=True)
class CoreCost:
    """A core, emulated.

    Attributes:
        flash_bytes, ram_bytes: of the firmware by the linker; RAM with the deepest stack.
        arena_bytes, buffers_bytes, stack_bytes: parts of that RAM.
        instructions: of one window, median, with what prepares it.
        prepare_instructions: the share of that that turns it into int8; None in float.
        note: why something is missing.
    """

    core: str
    flash_bytes: int = 0
    ram_bytes: int = 0
    arena_bytes: int = 0
    buffers_bytes: int = 0
    stack_bytes: int = 0
    instructions: int | None = None
    prepare_instructions: int | None = None
    note: str = ""


@dataclass(frozen=True)
class BoardCost:
    """A board: does it fit, and about how long does a window take.

    Attributes:
        latency_ms: an estimate; None where there is no ground for one.
        estimate: what it rests on.
        problems: why it does not fit; none where it does.
    """

    board: str
    title: str
    flash_bytes: int
    flash_kib: int
    ram_bytes: int
    ram_kib: int
    latency_ms: float | None
    estimate: str
    problems: tuple[Problem, ...] = ()

    @property
    def fits(self) -> bool:
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "fits": self.fits}


@dataclass(frozen=True)
class Profile:
    """What a bundle costs.

    Attributes:
        parameters: values of all its constants.
        multiply_adds: of convolutions and matrices, one window.
        arena_bytes: by the memory plan of its C; None where C cannot have it.
        notes: what could not be found out, and why.
    """

    name: str
    precision: str
    parameters: int
    multiply_adds: int
    float_operations: tuple[str, ...]
    weight_bytes: int
    arena_bytes: int | None
    runtimes: tuple[RuntimeCost, ...]
    cores: tuple[CoreCost, ...]
    boards: tuple[BoardCost, ...]
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "boards": [entry.as_dict() for entry in self.boards]}


def profile(bundle: Bundle, cards: Sequence[TargetCard | str] = ()) -> Profile:
    """What a bundle costs here and on boards.

    Args:
        cards: boards, by name or as cards; none for every microcontroller that has a card.

    Errors: `OptionError` for an unknown board.
    """
    wanted = [board(card) if isinstance(card, str) else card for card in cards]
    wanted = wanted or [card for card in boards() if card.is_microcontroller]
    readers, program = split(bundle.program)
    first = bundle.golden[:1].astype(np.float32)
    shape = (first if readers is None else readers.run(first)).shape[1:]
    notes: list[str] = []
    try:
        model = model_of(bundle.program, *bundle.golden.shape[1:])
    except EdgegraftError as error:
        model = None
        notes.append(f"no C: {error}")
    absent = emulator.missing()
    if absent:
        notes.append(f"no instruction counts and linker sizes: {absent}")
    cores: dict[str, CoreCost] = {}
    if model is not None and not absent:
        kinds = sorted({card.instructions_core for card in wanted} - {""})
        cores = {name: core_cost(bundle, model, name) for name in kinds}
    return Profile(
        name=bundle.manifest.name,
        precision=bundle.program.precision,
        parameters=sum(int(array.size) for array in bundle.program.constants.values()),
        multiply_adds=multiply_adds(program, *shape),
        float_operations=bundle.program.float_operations,
        weight_bytes=bundle.program.size_bytes,
        arena_bytes=None if model is None else model.arena_bytes,
        runtimes=runtime_costs(bundle, model),
        cores=tuple(cores.values()),
        boards=tuple(_board_cost(bundle, model, card, cores) for card in wanted),
        notes=tuple(notes),
    )


def runtime_costs(bundle: Bundle, model: Model | None) -> tuple[RuntimeCost, ...]:
    """Every Python runtime that is installed, and C on this machine; one thread each."""
    from threadpoolctl import threadpool_limits

    found = []
    with threadpool_limits(1):
        for name in dict.fromkeys([*bundle.runtimes, *EXPORTED]):
            if name in bundle.runtimes or name in names("exporters"):
                found.append(_runtime_cost(bundle, name))
        if model is not None:
            found.append(_host_cost(bundle, model))
    return tuple(found)


def _runtime_cost(bundle: Bundle, name: str) -> RuntimeCost:
    try:
        if name not in bundle.runtimes:
            bundle = find("exporters", name)().export(bundle)
        model = bundle.model(name)
        run = runner.open_model(bundle, name)
        return RuntimeCost(name, len(model), latency_ms(run, bundle.golden.astype(np.float32)))
    except EdgegraftError as error:
        return RuntimeCost(name, note=_short(error))
    except ImportError as error:
        return RuntimeCost(name, note=f"not installed: {error}")


def _host_cost(bundle: Bundle, model: Model) -> RuntimeCost:
    try:
        if model.integers is not None:  # the order of weights for such processors
            model = model_of(bundle.program, *model.input_shape, blocks=host.takes_blocks())
        run = host.hosted(model)
        spent = latency_ms(run, bundle.golden.astype(np.float32))
        return RuntimeCost("c", model.weight_bytes, spent)
    except EdgegraftError as error:
        return RuntimeCost("c", model.weight_bytes, note=_short(error))


def core_cost(bundle: Bundle, model: Model, core: str) -> CoreCost:
    """Sizes by the linker and instructions by emulation, on one core."""
    found = CoreCost(core)
    try:
        size = _size(bundle, model, core)
        found = replace(
            found, flash_bytes=size.flash, ram_bytes=size.ram, arena_bytes=size.arena,
            buffers_bytes=size.buffers,
        )  # fmt: skip
        windows = bundle.golden[:COUNTED_WINDOWS].astype(np.float32)
        with tempfile.TemporaryDirectory(prefix="edgegraft-") as place:
            folder = Path(place)
            whole = emulator.emulate(
                build(model, core, folder / "whole", entry="float"), windows, limit_s=_LIMIT_S
            )
            count = int(np.median(whole.instructions))
            found = replace(
                found, instructions=count, stack_bytes=whole.stack_bytes,
                ram_bytes=found.ram_bytes + whole.stack_bytes,
            )  # fmt: skip
            if model.integers is not None:
                inner = build(model, core, folder / "inner", entry="s8")
                zeros = np.zeros((1, inner.n_inputs), np.int8)
                alone = emulator.emulate(inner, zeros, limit_s=_LIMIT_S)
                rest = max(0, count - int(np.median(alone.instructions)))
                found = replace(found, prepare_instructions=rest)
    except EdgegraftError as error:
        return replace(found, note=_short(error))
    return found


def _size(bundle: Bundle, model: Model, core: str) -> emulator.Size:
    """Of the firmware of a stream, or of the model alone for pictures and sentences."""
    with tempfile.TemporaryDirectory(prefix="edgegraft-") as place:
        if isinstance(bundle.spec, WindowSpec):
            return replay.firmware(bundle, core, Path(place) / "stream")[2]
        return build(model, core, Path(place) / "model", entry="float").size


def _board_cost(
    bundle: Bundle, model: Model | None, card: TargetCard, cores: dict[str, CoreCost]
) -> BoardCost:
    cost = cores.get(card.instructions_core)
    problems: tuple[Problem, ...] = ()
    flash = ram = 0
    if card.is_microcontroller:
        if model is None:
            why = "no C can be written for it"
            problems = (Problem("board-runtime", bundle.manifest.name, why, "see the notes"),)
        else:
            flash = max(model.weight_bytes, cost.flash_bytes if cost else 0)
            ram = max(model.plan.arena_bytes, cost.ram_bytes if cost else 0)
            floats = bundle.program.float_operations
            problems = misfits(card, flash_bytes=flash, ram_bytes=ram, floats=floats)
    latency, estimate = None, "no count of instructions"
    if not card.is_microcontroller:
        estimate = "measure there: edgegraft-edge verify"
    elif cost is not None and cost.instructions is not None:
        latency = card.latency_ms(cost.instructions)
        other = "" if card.emulated_on else f" of a Cortex-{card.counted_on.upper()}"
        estimate = (
            f"{cost.instructions:,} instructions{other} x {card.cycles_per_instruction:g} cycles "
            f"/ {card.clock_mhz:g} MHz"
        )
    return BoardCost(
        card.name, card.title, flash, card.flash_kib, ram, card.ram_kib, latency, estimate, problems
    )


def _short(error: EdgegraftError) -> str:
    text = str(error).splitlines()[0]
    return text if len(text) <= 240 else text[:239] + "…"
