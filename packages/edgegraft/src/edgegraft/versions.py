"""Versions of a model: int8, pruned, distilled, trained in int8, or a student that fits a board."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgegraft.adapt.adapted import Predictor
from edgegraft.adapt.strategy import Watch
from edgegraft.compress.aware import tuned
from edgegraft.compress.distill import Distillation, teach
from edgegraft.compress.fit import Budget, Candidate, Cost, Found, Measure, Search, estimate, fit
from edgegraft.compress.prune import Pruning, check, pruned
from edgegraft.compress.quantize import quantize_program, quantized
from edgegraft.compress.teacher import Taught, taught
from edgegraft.data.split import few_shot
from edgegraft.export import emulator, verification
from edgegraft.export.c.emit import model_of
from edgegraft.export.target import board
from edgegraft.zoo.micro import Micro, MicroShape
from edgegraft_edge.errors import EdgegraftError, OptionError, Problem, nearest
from edgegraft_edge.program import Program
from edgegraft_edge.signal import Array, Windows

METHODS = ("int8", "qat", "prune", "distill")
TUNED = "int8, trained in it"
CALIBRATION_WINDOWS = 200
_CORE = "m4"
_TUNED_WINDOWS = 1000
_PER_PRODUCT = {"m0plus": 9.0, "m3": 9.0}
"""Instructions allowed for a multiply-add until an emulator has counted; 3 on other cores."""


@dataclass(frozen=True)
class Shrinking:
    """How a model is made smaller.

    Attributes:
        methods: of `METHODS`; what ships is the smallest version that they give, or what fits.
        board: name of a board or path of its card, for `budget`; "" for none.

    Errors: `OptionError` for a method that there is not.

    >>> Shrinking(methods=("int8", "distill")).methods
    ('int8', 'distill')
    """

    methods: tuple[str, ...] = ("int8", "distill")
    board: str = ""
    flash_kib: float = 0.0
    ram_kib: float = 0.0
    latency_ms: float = 0.0
    distillation: Distillation = field(default_factory=Distillation)
    pruning: Pruning = field(default_factory=Pruning)
    search: Search = field(default_factory=Search)
    shape: MicroShape = field(default_factory=MicroShape)

    def __post_init__(self) -> None:
        problems = [
            Problem(
                "method-unknown",
                f"method {name!r}",
                "models are not made smaller by that",
                nearest(name, list(METHODS)),
            )
            for name in self.methods
            if name not in METHODS
        ]
        if not self.methods and not self.fits:
            problems.append(
                Problem("method-none", "no method", "nothing is to be done", "int8,distill")
            )
        if problems:
            raise OptionError(problems)

    @property
    def fits(self) -> bool:
        """Whether a student is looked for that fits a budget."""
        return bool(self.board or self.flash_kib or self.ram_kib or self.latency_ms)

    @property
    def budget(self) -> Budget:
        """Bounds asked for, and those of the board where none are. Errors: `OptionError`."""
        if not self.board:
            return Budget(self.flash_kib, self.ram_kib, self.latency_ms)
        card = board(self.board)
        cycles = card.cycles_per_instruction
        return Budget(
            min(filter(None, (self.flash_kib, card.flash_kib)), default=0.0),
            min(filter(None, (self.ram_kib, card.ram_kib)), default=0.0),
            self.latency_ms,
            1000 * card.clock_mhz / cycles if cycles else 0.0,
            card.fpu,
        )

    @property
    def core(self) -> str:
        """The core whose compiler counts."""
        return (board(self.board).instructions_core if self.board else "") or _CORE


@dataclass(frozen=True)
class Made:
    """Versions of a model by name, the first as it was; `ships` names what is wanted of them."""

    programs: Mapping[str, Program]
    ships: str
    notes: tuple[str, ...]
    found: Found | None
    lineage: Mapping[str, Any]


def versions(
    teacher: Predictor,
    labelled: Windows,
    pool: Windows | None,
    how: Shrinking,
    budget: Budget,
    seed: int,
    watch: Watch,
    cache: Path | None,
    *,
    only: str = "",
    chosen: Candidate | None = None,
    found: Found | None = None,
) -> Made:
    """The model and all that is made of it.

    Args:
        only: leave out what this version does not need.
        chosen: the student to train, of a search that is over; `found` is that search.
    """
    own: Program = teacher.program  # type: ignore[attr-defined]
    calibration = spread(labelled, CALIBRATION_WINDOWS)
    programs = {"float": own}
    notes: list[str] = []
    lineage: Mapping[str, Any] = {}
    eight = "int8" in how.methods or how.fits
    if eight and only in ("", "int8"):
        programs["int8"] = quantized(own, calibration)
    student = "distill" in how.methods or how.fits
    base = "float"
    said: Taught | None = None
    wanted = student or {"prune", "qat"} & set(how.methods)
    if wanted and only not in ("float", "int8"):
        options = how.distillation
        held = _held_groups(labelled, seed) if how.fits and chosen is None else ()
        watch("stage", {"name": "ask the teacher"})
        said = taught(
            teacher, labelled, pool, copies=options.copies, mixed=options.mixed,
            held_groups=held, seed=seed, watch=watch, cache=cache,
        )  # fmt: skip
    if student and said is not None:
        watch("stage", {"name": "distil"})
        if how.fits and chosen is None:
            found = fit(
                said, budget, how.search, how.distillation, measure=planned(how.core),
                confirm=linked(how.core), seed=seed, watch=watch,
            )  # fmt: skip
            model = found.model
        else:
            shape = chosen.shape if chosen is not None else how.shape
            model = teach(said, Micro.of(shape), how.distillation, seed=seed, watch=watch)
        base, lineage = "distilled", model.lineage
        programs[base] = model.program
        if eight:
            programs[f"{base} int8"] = quantized(model.program, calibration)
    if "prune" in how.methods and said is not None and (not only or "pruned" in only):
        watch("stage", {"name": "prune"})
        try:
            name = "pruned" if base == "float" else f"{base}, pruned"
            smaller = pruned(programs[base], said, how.pruning, seed=seed, watch=watch)
            programs[name] = smaller
            if eight:
                programs[f"{name} int8"] = quantized(smaller, calibration)
        except EdgegraftError as error:
            notes.append(f"not pruned: {error}")
    if "qat" in how.methods and said is not None and (not only or TUNED in only):
        own_name = next(name for name in reversed(programs) if programs[name].precision == "float")
        watch("stage", {"name": "train in int8"})
        try:
            check(programs[own_name])
            rows = said.rows[:_TUNED_WINDOWS]
            start = quantize_program(programs[own_name], calibration)
            aware = tuned(start, programs[own_name], said.x[0][rows], seed=seed, watch=watch)
            programs[f"{own_name} {TUNED}"] = aware.program
        except EdgegraftError as error:
            notes.append(f"not trained in int8: {error}")
    ships = only if only in programs else _smallest(programs, found)
    return Made(programs, ships, tuple(notes), found, lineage)


def _smallest(programs: Mapping[str, Program], found: Found | None) -> str:
    """What the search chose, in its precision; else what has the fewest bytes, the last made."""
    if found is not None:
        eight = f"distilled {TUNED}" if f"distilled {TUNED}" in programs else "distilled int8"
        return eight if found.chosen.precision == "int8" else "distilled"
    return min(list(programs)[::-1], key=lambda name: programs[name].size_bytes)


def _held_groups(labelled: Windows, seed: int) -> tuple[str, ...]:
    """About a fifth of the groups of the training data, by which candidates are judged."""
    names = sorted(set(labelled.groups.tolist()) - {""})
    if len(names) < 3:
        return ()
    picked = np.random.default_rng([seed, 5]).permutation(len(names))[: max(1, len(names) // 5)]
    return tuple(names[index] for index in sorted(picked))


def spread(windows: Windows, count: int) -> Array:
    """Windows of every class in equal numbers."""
    per_class = max(1, count // max(1, len(windows.classes)))
    return windows.x[few_shot(windows, per_class, seed=0)][: 4 * count]


def planned(core: str) -> Measure:
    """A measure by the C that would be written: arena and constants exact, the rest allowed for."""

    def measure(program: Program, shape: tuple[int, ...]) -> Cost:
        cost = estimate(program, shape)
        cost = replace(cost, instructions=cost.multiply_adds * _PER_PRODUCT.get(core, 3.0))
        try:
            model = model_of(program, *shape)
        except EdgegraftError:
            return cost
        more = max(0, model.weight_bytes - program.size_bytes)
        return replace(cost, ram_bytes=model.arena_bytes, flash_bytes=cost.flash_bytes + more)

    return measure


def linked(core: str) -> Measure:
    """A measure that asks the linker for a core, where its compiler is installed."""

    def measure(program: Program, shape: tuple[int, ...]) -> Cost:
        cost = planned(core)(program, shape)
        if emulator.missing():
            return cost
        try:
            model = model_of(program, *shape)
            with tempfile.TemporaryDirectory(prefix="edgegraft-") as folder:
                built = verification.build(model, core, Path(folder), entry="float")
                ran = emulator.emulate(built, np.zeros((1, *shape), np.float32))
        except EdgegraftError:
            return cost
        return replace(
            cost,
            flash_bytes=built.size.flash,
            ram_bytes=built.size.ram,
            instructions=float(np.median(ran.instructions)),
            counted="linker",
        )

    return measure
