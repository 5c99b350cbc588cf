"""Boards as cards: what a device has, so that one knows before flashing whether a model fits.

A board is a TOML file in ``export/targets``, or a file of one's own; its keys are the fields of
:class:`TargetCard`. See docs/add/board.md.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from edgegraft import catalog
from edgegraft.export.emulator import CORES
from edgegraft_edge.errors import ExportError, OptionError, Problem, nearest

FOLDER = "export/targets"
KIB = 1024


@dataclass(frozen=True)
class TargetCard:
    """A board or kind of machine.

    Errors: `OptionError` "board-form" with every key that is wrong.

    Attributes:
        core, instruction_set: e.g. ``cortex-m4`` and ``ARMv7E-M``.
        runtimes: what runs models there: numpy, onnx, litert, executorch, c.
        source: where its facts are from.
        fpu, dsp, mve: single-precision floating point, packed 8 and 16 bit products, Helium.
        clock_mhz, flash_kib, ram_kib: 0 where unknown, or not bounded.
        flags: of gcc.
        emulated_on: the core of `edgegraft.export.emulator` that runs its code.
        counted_on: the core whose instructions stand in where its own are not emulated.
        cycles_per_instruction, cycles_source: for estimates, and what that rests on; 0 for none.
    """

    name: str
    title: str
    core: str
    instruction_set: str
    runtimes: tuple[str, ...]
    source: str
    fpu: bool = False
    dsp: bool = False
    mve: bool = False
    clock_mhz: float = 0.0
    flash_kib: int = 0
    ram_kib: int = 0
    flags: tuple[str, ...] = ()
    emulated_on: str = ""
    counted_on: str = ""
    cycles_per_instruction: float = 0.0
    cycles_source: str = ""
    notes: str = field(default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "runtimes", tuple(self.runtimes))
        object.__setattr__(self, "flags", tuple(self.flags))
        wrong = [
            f"{name} = {getattr(self, name)!r}"
            for name in ("clock_mhz", "flash_kib", "ram_kib", "cycles_per_instruction")
            if not isinstance(getattr(self, name), int | float) or getattr(self, name) < 0
        ]
        wrong += [
            f"{name} = {getattr(self, name)!r}"
            for name in ("emulated_on", "counted_on")
            if getattr(self, name) not in ("", *CORES)
        ]
        if self.cycles_per_instruction and not self.cycles_source:
            wrong.append("cycles_per_instruction without cycles_source")
        if wrong:
            raise _malformed(self.name, wrong)

    @property
    def instructions_core(self) -> str:
        """The core of the emulator whose instructions count for it; "" for none."""
        return self.emulated_on or self.counted_on

    @property
    def is_microcontroller(self) -> bool:
        return self.flash_kib > 0

    def latency_ms(self, instructions: float) -> float | None:
        """An estimate from a count of instructions; None where the card gives no ground for one.

        >>> board("stm32l4").latency_ms(800_000)
        14.0
        """
        if not self.clock_mhz or not self.cycles_per_instruction:
            return None
        return round(instructions * self.cycles_per_instruction / (self.clock_mhz * 1000), 9)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TargetCard:
        """A card from TOML; an unknown or missing key is an error."""
        known = {entry.name for entry in fields(cls)}
        needed = {e.name for e in fields(cls) if e.default is MISSING}
        wrong = [f"unknown key {key!r}" for key in sorted(set(data) - known)]
        wrong += [f"no key {key!r}" for key in sorted(needed - set(data))]
        if wrong:
            raise _malformed(str(data.get("name", "?")), wrong)
        return cls(**data)


def _malformed(name: str, wrong: Sequence[str]) -> OptionError:
    return OptionError.of(
        "board-form",
        f"card {name!r} with {', '.join(wrong)}",
        "a card has the keys of TargetCard, sizes from 0 up, and known cores",
        "see docs/add/board.md",
    )


def boards() -> tuple[TargetCard, ...]:
    """The boards that come with the package, by name.

    >>> "rp2040" in [card.name for card in boards()]
    True
    """
    return tuple(TargetCard.from_dict(card) for card in catalog.cards(FOLDER).values())


def board(name: str) -> TargetCard:
    """A board by name, or from a card of one's own by its path (``.toml``).

    Errors: `OptionError` "board-unknown" with the nearest names, or "board-form".
    """
    if name.endswith(".toml"):
        try:
            data = tomllib.loads(Path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OptionError.of(
                "board-form", f"{name} ({error})", "no card can be read", "see docs/add/board.md"
            ) from error
        return TargetCard.from_dict(data)
    shipped = catalog.cards(FOLDER)
    if name not in shipped:
        raise OptionError.of(
            "board-unknown",
            f"board {name!r}",
            "no card of that name comes with the package",
            f"{nearest(name, list(shipped))}, or the path of a card",
        )
    return TargetCard.from_dict(shipped[name])


def misfits(
    card: TargetCard, *, flash_bytes: int, ram_bytes: int, floats: Sequence[str] = ()
) -> tuple[Problem, ...]:
    """Why a model does not fit a board; nothing when it does.

    Args:
        flash_bytes: code and constants.
        ram_bytes: arena, variables, buffers and stack.
        floats: kinds of operations of the model that need floating point.

    >>> [problem.code for problem in misfits(board("rp2040"), flash_bytes=0, ram_bytes=1 << 20)]
    ['board-ram']
    """
    found = []
    for code, name, have, need in (
        ("board-flash", "flash", card.flash_kib, flash_bytes),
        ("board-ram", "RAM", card.ram_kib, ram_bytes),
    ):
        if have and need > have * KIB:
            found.append(
                Problem(
                    code,
                    f"{need / KIB:,.1f} KiB of {name} on {card.name}",
                    f"it has {have:,} KiB, and something else wants a place there too",
                    "a smaller network, --precision int8, shorter windows, or "
                    + _larger("flash_kib" if name == "flash" else "ram_kib", need),
                )
            )
    if floats and not card.fpu:
        found.append(
            Problem(
                "board-float",
                f"{', '.join(floats[:6])} in floating point on {card.name}",
                "its core has none: each such operation becomes a call of many instructions",
                "--precision int8 with a network that is integer throughout (micro-random), or a "
                "board with fpu",
            )
        )
    return tuple(found)


def fits(card: TargetCard, *, flash_bytes: int, ram_bytes: int, floats: Sequence[str] = ()) -> None:
    """Refuse what does not fit a board. Arguments as of `misfits`.

    Errors: `ExportError` "board-flash", "board-ram", "board-float", all that apply at once.
    """
    problems = misfits(card, flash_bytes=flash_bytes, ram_bytes=ram_bytes, floats=floats)
    if problems:
        raise ExportError(problems)


def _larger(size: str, need: int) -> str:
    names = [c.name for c in boards() if c.is_microcontroller and getattr(c, size) * KIB >= need]
    return f"a board with more ({', '.join(names)})" if names else "a board that runs Linux"
