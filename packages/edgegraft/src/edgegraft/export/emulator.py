"""Generated C on Cortex-M cores in QEMU: the same bits, sizes by the linker, instructions counted.

QEMU runs every instruction of a core and none of its timing: what is counted here are
instructions, not cycles. With ``-icount`` the virtual clock goes on by a fixed time with each
instruction, so the SysTick timer of the emulated machine counts them; a loop of known length
comes out exact to a few (see tests/export/test_export_emulator.py).

ARMv6-M code (M0+) runs on the Cortex-M3 machine, whose instructions include it, with unaligned
access forbidden as an M0+ forbids it.

The compiler and QEMU are Debian's gcc-arm-none-eabi, libnewlib-arm-none-eabi and
qemu-system-arm; nothing is installed by this module, and :func:`missing` says what is not there.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from edgegraft_edge.errors import ExportError, OptionError, nearest
from edgegraft_edge.signal import Array

COMPILER, SIZES, QEMU = "arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm"
PACKAGES: Mapping[str, str] = MappingProxyType(
    {COMPILER: "gcc-arm-none-eabi libnewlib-arm-none-eabi", QEMU: "qemu-system-arm"}
)
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror")
STACK_BYTES = 65536
_NS_PER_INSTRUCTION = 64
_WRAP_TICKS, _WRAP_INSTRUCTIONS = 1 << 24, 5
_BUILD_LIMIT_S, _KEPT_LINES = 120.0, 12
_EXITS = {
    70: "a fault of the core (an access out of its memory, or not aligned)",
    71: f"a stack of more than {STACK_BYTES:,} bytes",
    72: "results could not be written",
    73: "its input could not be opened",
}
Entry = Literal["float", "s8"]


@dataclass(frozen=True)
class Core:
    """A core, how code is compiled for it, and the machine of QEMU that runs that code."""

    name: str
    title: str
    machine: str
    flags: tuple[str, ...]
    timer_hz: int = 25_000_000
    flash: tuple[int, int] = (0x0000_0000, 4 << 20)
    ram: tuple[int, int] = (0x2100_0000, 16 << 20)

    @property
    def ticks_per_instruction(self) -> float:
        return self.timer_hz * _NS_PER_INSTRUCTION * 1e-9


def _core(name: str, title: str, machine: str, *flags: str, **memory: Any) -> Core:
    return Core(name, title, machine, (f"-mcpu={title.lower()}", "-mthumb", *flags), **memory)


CORES: Mapping[str, Core] = MappingProxyType(
    {
        core.name: core
        for core in (
            _core("m0plus", "Cortex-M0plus", "mps2-an385", "-mfloat-abi=soft"),
            _core("m3", "Cortex-M3", "mps2-an385", "-mfloat-abi=soft"),
            _core("m4", "Cortex-M4", "mps2-an386", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
            _core(
                "m7", "Cortex-M7", "mps2-an500", "-mfpu=fpv5-d16", "-mfloat-abi=hard",
                ram=(0x6000_0000, 16 << 20),
            ),
            _core(
                "m55", "Cortex-M55", "mps3-an547", "-mfloat-abi=hard", timer_hz=32_000_000,
                flash=(0x1000_0000, 512 << 10), ram=(0x3100_0000, 2 << 20),
            ),
        )
    }
)  # fmt: skip
"""Cores by name."""


@dataclass(frozen=True)
class Size:
    """What the linker counted, in bytes, without the parts of the test around the model.

    Attributes:
        code: instructions, of the model and of what it needs of libraries.
        flash: code, constants and start values of variables.
        variables: RAM of variables.
        arena: RAM of the values of the model, as its memory plan has it.
        buffers: RAM of what goes in and out: a window and its scores, or a whole stream's state.
    """

    code: int
    flash: int
    variables: int
    arena: int
    buffers: int

    @property
    def ram(self) -> int:
        """RAM without the stack."""
        return self.variables + self.arena + self.buffers


@dataclass(frozen=True)
class Build:
    """A program for a core, in a folder of its own."""

    core: Core
    elf: Path
    size: Size
    entry: Entry
    n_inputs: int
    n_outputs: int


@dataclass(frozen=True)
class Emulation:
    """What a core computed.

    Attributes:
        outputs: (n_windows, n_outputs), float32 or int8.
        instructions: int64 (n_windows,), of the model alone.
        stack_bytes: the deepest stack over all windows.
        size: of the program.
    """

    outputs: Array
    instructions: Array
    stack_bytes: int
    size: Size = field(repr=False)


def core_of(name: str) -> Core:
    """A core by name. Errors: `OptionError` "core-unknown"."""
    if name not in CORES:
        raise OptionError.of(
            "core-unknown", f"core {name!r}", "no machine runs it", nearest(name, list(CORES))
        )
    return CORES[name]


def missing() -> str:
    """What is not installed, as words to install it; "" when all is there.

    >>> from edgegraft.export import emulator
    >>> isinstance(emulator.missing(), str)
    True
    """
    absent = [package for tool, package in PACKAGES.items() if shutil.which(tool) is None]
    return f"apt-get install {' '.join(absent)}" if absent else ""


def need() -> None:
    """Errors: `ExportError` "emulator-missing" where the compiler or QEMU is not installed."""
    absent = missing()
    if absent:
        tools = ", ".join(tool for tool in PACKAGES if shutil.which(tool) is None)
        raise ExportError.of(
            "emulator-missing",
            f"no {tools} on this machine",
            "code for a Cortex-M is compiled and emulated with these",
            f"{absent} (Debian, Ubuntu), or leave these cores out",
        )


def build(
    files: Mapping[str, bytes],
    core: str | Core,
    folder: Path,
    *,
    entry: Entry,
    n_inputs: int,
    n_outputs: int,
    prefix: str = "model",
    flags: Sequence[str] = ("-O2",),
) -> Build:
    """Compile generated C for a core, with a program that feeds it windows.

    Args:
        files: path -> text of the generated folder; all ``src/*.c`` are compiled.
        folder: an empty folder for what is built.
        entry: ``s8`` for PREFIX_run_s8, ``float`` for PREFIX_run.
        n_inputs, n_outputs: values of one window and of its result.
        flags: of the compiler, beside those of the core.

    Errors: `ExportError` "emulator-missing", or "emulator-build" with what the compiler said.
    """
    run = f"{prefix}_run_s8" if entry == "s8" else f"{prefix}_run"
    defines = {
        "HARNESS_HEADER": f'"{prefix}.h"',
        "HARNESS_RUN": run,
        "HARNESS_VALUE": "int8_t" if entry == "s8" else "float",
        "HARNESS_INPUT": str(n_inputs),
        "HARNESS_OUTPUT": str(n_outputs),
        "HARNESS_ARENA": f"{prefix.upper()}_{'S8_' if entry == 's8' else ''}ARENA_BYTES",
    }
    core = core_of(core) if isinstance(core, str) else core
    elf, size = link(files, core, folder, "harness.c", defines, flags)
    return Build(core, elf, size, entry, n_inputs, n_outputs)


def link(
    files: Mapping[str, bytes],
    core: Core,
    folder: Path,
    application: str,
    defines: Mapping[str, str],
    flags: Sequence[str] = ("-O2",),
) -> tuple[Path, Size]:
    """Generated C with one of the programs of ``export/firmware`` around it.

    Returns: the program, and its size without what is around the model.
    """
    need()
    sources, own = folder / "model", folder / "own"
    own.mkdir(parents=True)
    chosen = {
        path: text for path, text in files.items() if PurePosixPath(path).parent.name == "src"
    }
    write_files(chosen, sources)
    firmware = resources.files("edgegraft").joinpath("export/firmware")
    for name in ("startup.c", "edgegraft_startup.h", application, "cortex_m.ld"):
        (own / name).write_bytes(firmware.joinpath(name).read_bytes())
    (own / "edgegraft_memory.ld").write_text(_memory(core))

    common = [*core.flags, *flags, *WARNINGS, "-ffunction-sections", "-fdata-sections",
              "-ffp-contract=off", f"-I{sources / 'src'}", f"-I{own}"]  # fmt: skip
    given = [f"-D{name}={value}" for name, value in defines.items()]
    objects = []
    for path in sorted(chosen):
        if path.endswith(".c"):
            objects.append(str(own / f"{PurePosixPath(path).stem}.o"))
            _compile(["-c", str(sources / path), "-o", objects[-1]], common, own)
    startup, main = str(own / "startup.o"), str(own / "application.o")
    alone = [*common, "-ffreestanding", "-fno-tree-loop-distribute-patterns"]  # no library calls
    _compile(["-c", str(own / "startup.c"), "-o", startup], alone, own)
    _compile(["-c", str(own / application), "-o", main], [*alone, *given], own)
    elf = folder / "program.elf"
    script = ["-nostartfiles", "--specs=nano.specs", f"-L{own}", "-T", str(own / "cortex_m.ld")]
    tail = ["-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments", "-lm", "-o", str(elf)]
    _compile([startup, main, *objects, *script, *tail], [*core.flags, *flags], own)
    return elf, _size(elf)


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Files of a generated folder. Errors: `ExportError` for a path that leads out of it."""
    for path, text in files.items():
        target = folder / path
        if not target.resolve().is_relative_to(folder.resolve()):
            raise ExportError.of(
                "emulator-build", f"a file {path!r}", "it lies outside of the folder", "src/NAME.c"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text)


def _memory(core: Core) -> str:
    regions = (("FLASH", "rx", core.flash), ("RAM", "rwx", core.ram))
    lines = [
        f"  {name} ({access}) : ORIGIN = {start:#x}, LENGTH = {size}"
        for name, access, (start, size) in regions
    ]
    return "MEMORY\n{\n" + "\n".join(lines) + "\n}\n"


def _compile(arguments: Sequence[str], flags: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            [COMPILER, *flags, *arguments],
            cwd=folder, capture_output=True, text=True, timeout=_BUILD_LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise _unbuilt(f"the compiler took more than {_BUILD_LIMIT_S:g} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[:_KEPT_LINES]
        raise _unbuilt("the compiler said: " + "; ".join(line.strip() for line in said))


def _unbuilt(found: str) -> ExportError:
    return ExportError.of(
        "emulator-build", found, "nothing can be run", "another core, or report the model"
    )


def _size(elf: Path) -> Size:
    done = subprocess.run([SIZES, "-A", str(elf)], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    sizes = {row[0]: int(row[1]) for row in rows if len(row) == 3 and row[0].startswith(".")}
    code = sizes.get(".text", 0) + sizes.get(".ARM.exidx", 0)
    data = sizes.get(".data", 0)
    return Size(
        code=code, flash=code + data, variables=data + sizes.get(".bss", 0),
        arena=max(0, sizes.get(".arena", 0) - 16), buffers=sizes.get(".buffers", 0),
    )  # fmt: skip


def emulate(build: Build, x: Array, *, limit_s: float = 300.0) -> Emulation:
    """Windows through a program, in one start of QEMU.

    Args:
        x: (n_windows, ...), int8 or float32 as the entry takes them.

    Errors: `ExportError` "emulator-run" when it faults, stops early or takes too long.
    """
    kind = np.int8 if build.entry == "s8" else np.float32
    rows = np.ascontiguousarray(np.asarray(x, kind).reshape(len(x), -1))
    if rows.shape[1] != build.n_inputs:
        raise ExportError.of(
            "emulator-run",
            f"windows of {rows.shape[1]} values",
            f"the program takes {build.n_inputs}",
            "windows of the shape of the model",
        )
    found = run(build.elf, build.core, {"in.bin": rows.tobytes()}, limit_s=limit_s)
    size = build.n_outputs * rows.itemsize
    each = size + 24
    if len(found) != len(rows) * each + 4:
        raise ExportError.of(
            "emulator-run",
            f"results of {len(found)} bytes for {len(rows)} windows",
            f"{each} are due for each",
            "report the model",
        )
    table = np.frombuffer(found[:-4], np.uint8).reshape(len(rows), each)
    outputs = np.ascontiguousarray(table[:, :size]).view(kind)
    times = np.ascontiguousarray(table[:, size:]).view("<u4").astype(np.int64).reshape(-1, 3, 2)
    instructions = _instructions(build.core, times[:, 1], times[:, 2])
    instructions -= _instructions(build.core, times[:, 0], times[:, 1])
    stack = int(np.frombuffer(found[-4:], "<u4")[0])
    return Emulation(outputs, instructions, stack, build.size)


def _instructions(core: Core, start: Array, stop: Array) -> Array:
    wraps = stop[:, 0] - start[:, 0]
    ticks = wraps * _WRAP_TICKS + stop[:, 1] - start[:, 1]
    found = np.rint(ticks / core.ticks_per_instruction) - wraps * _WRAP_INSTRUCTIONS
    return np.asarray(found, np.int64)


def run(
    elf: Path, core: Core, inputs: Mapping[str, bytes], *, limit_s: float, result: str = "out.bin"
) -> bytes:
    """Start a program with input files beside it, and give the file it wrote.

    Errors: `ExportError` "emulator-run".
    """
    need()
    with tempfile.TemporaryDirectory(prefix="edgegraft-") as place:
        for name, data in inputs.items():
            (Path(place) / name).write_bytes(data)
        command = [QEMU, "-M", core.machine, "-kernel", str(elf), "-display", "none", "-monitor",
                   "none", "-serial", "none", "-semihosting-config", "enable=on,target=native",
                   "-icount", "shift=6,sleep=off"]  # fmt: skip
        try:
            done = subprocess.run(
                command, cwd=place, capture_output=True, text=True, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ExportError.of(
                "emulator-run",
                f"{core.title} did not end within {limit_s:g} s",
                "a model that does not end, or one that is large",
                "fewer windows, or a longer limit",
            ) from error
        written = Path(place) / result
        if done.returncode or not written.is_file():
            said = (done.stderr or done.stdout).strip().splitlines()[:_KEPT_LINES]
            why = _EXITS.get(done.returncode, "; ".join(said) or "it wrote nothing")
            raise ExportError.of(
                "emulator-run",
                f"{core.title} ended with {done.returncode}",
                why,
                "report the model with the core",
            )
        return written.read_bytes()
