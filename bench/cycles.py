"""Cycles per instruction on a Cortex-M4, by Arm's timings of single instructions.

    python bench/cycles.py --weights MLPERF_TINY_FOLDER

What `edgegraft profile` assumes of a Cortex-M4 is checked here without a board: QEMU tells how
often every block of the C of MLPerf Tiny's networks runs, and each instruction gets the cycles that
the Cortex-M4 Technical Reference Manual (r0p1, section 3.3.1) gives it, for memory that never
waits. A taken branch refills the pipeline in one to three cycles, hence a range. Flash with wait
states comes on top and is not modelled.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

from edgegraft.export import emulator
from edgegraft.export.c.emit import model_of
from edgegraft.export.verification import build
from edgegraft.zoo.tflite_int8 import read_int8
from mlperf_tiny import FILES, RESULTS, inputs

PAGE = 1024  # QEMU ends a block there on these cores
REFILL = (1, 2, 3)
_BRANCH = re.compile(
    r"^(b|bl|bx|blx|cbz|cbnz|tbb|tbh)(eq|ne|cs|cc|hs|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?(\.[nw])?$"
)
_COUNT_EDGES = (
    "awk -F'[][/]' '/^Trace/ {n[last \" \" $3]++; last = $3} END {for (k in n) print k, n[k]}'"
)


def instructions_of(elf: Path) -> dict[int, tuple[str, str]]:
    """Address -> operation and operands."""
    listing = subprocess.run(
        ["arm-none-eabi-objdump", "-d", "--no-show-raw-insn", str(elf)],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    rows = re.findall(r"^\s*([0-9a-f]+):\t(\S+)[ \t]*(.*)$", listing, re.MULTILINE)
    return {int(address, 16): (name, operands) for address, name, operands in rows}


def edges_of(elf: Path, folder: Path) -> Counter:
    """(block before, block) -> how often, by address of their first instruction."""
    machine = emulator.CORES["m4"].machine
    command = (
        f"qemu-system-arm -M {machine} -kernel {elf} -display none -monitor none -serial none "
        "-semihosting-config enable=on,target=native -d exec,nochain -D /dev/stdout | "
        + _COUNT_EDGES
    )
    done = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, check=True
    )
    found: Counter = Counter()
    for line in done.stdout.splitlines():
        words = line.split()
        if len(words) == 3:
            found[int(words[0], 16), int(words[1], 16)] += int(words[2])
    return found


def block(start: int, listing: dict, after: dict[int, int]) -> list[int]:
    """Addresses of the instructions of a block."""
    found, place = [], start
    while place in listing and place // PAGE == start // PAGE:
        found.append(place)
        if _branches(*listing[place]):
            break
        place = after.get(place, 0)
        if after.get(place, place + 2) - place == 4 and (place + 2) // PAGE != start // PAGE:
            break
    return found


def _branches(name: str, operands: str) -> bool:
    if name.startswith(("pop", "ldm")):
        return "pc" in operands
    return bool(_BRANCH.match(name)) or name == "bkpt" or operands.startswith("pc")


def cycles_of(name: str, operands: str, follows: bool) -> tuple[int, bool]:
    """Cycles without the refill of a branch, and whether the next load or store is hidden by it.

    follows: whether it comes right behind a load of one register.
    """
    if name.startswith(("push", "pop", "ldm", "stm")):
        return 2 + operands[operands.index("{") :].count(","), False
    if name.startswith(("ldrd", "strd")):
        return 3, False
    if name.startswith("ldr"):
        return (1 if follows else 2), True
    if name.startswith("str"):
        return (2 if re.search(r"\[\w+, r\d", operands) and not follows else 1), False
    if name.startswith(("sdiv", "udiv")):
        return 7, False
    return 1, False


def measure(data: bytes, seed: int) -> dict:
    file = read_int8(data)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        built = build(model_of(file.program, *file.shape), "m4", folder / "b", entry="s8")
        (folder / "in.bin").write_bytes(inputs(file.shape, 1, seed).tobytes())
        listing, edges = instructions_of(built.elf), edges_of(built.elf, folder)
    places = sorted(listing)
    after = dict(pairwise(places))
    blocks = {start: block(start, listing, after) for _, start in edges}
    counts: Counter = Counter()
    for (_, start), count in edges.items():
        counts[start] += count
    instructions = cycles = 0
    mix: Counter = Counter()
    for start, count in counts.items():
        follows = False
        for address in blocks[start]:
            name, operands = listing[address]
            spent, follows = cycles_of(name, operands, follows)
            instructions, cycles = instructions + count, cycles + spent * count
            mix[re.sub(r"\.[nw]$", "", name)] += count
    taken = sum(
        count
        for (before, start), count in edges.items()
        if blocks.get(before) and after.get(blocks[before][-1]) != start
    )
    return {
        "instructions": instructions,
        "taken_branches": taken,
        "cycles_per_instruction": [(cycles + refill * taken) / instructions for refill in REFILL],
        "mix": {name: count / instructions for name, count in mix.most_common(8)},
    }


def markdown(found: dict) -> str:
    lines = [
        "# Cycles per instruction on a Cortex-M4",
        "",
        "By Arm's timings of single instructions, memory that never waits; a taken branch refills",
        "in 1, 2 or 3 cycles. Instructions include some of the test around the model.",
        "",
        "| network | instructions | 1 | 2 | 3 | most frequent |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        shown = " | ".join(f"{value:.2f}" for value in row["cycles_per_instruction"])
        mix = ", ".join(f"{op} {share:.0%}" for op, share in list(row["mix"].items())[:5])
        lines.append(f"| {name} | {row['instructions']:,} | {shown} | {mix} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = {
        name: measure((options.weights / file).read_bytes(), len(name))
        for name, file in FILES.items()
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cycles.json").write_text(json.dumps(found, indent=1) + "\n")
    (options.out / "cycles.md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
