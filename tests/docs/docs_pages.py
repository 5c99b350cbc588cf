"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if "_build" not in path.parts
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Code in a page: its language, text, and the line it starts at."""

    language: str
    text: str
    line: int


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, *languages: str) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start(2)) + 1)
        for found in BLOCK.finditer(text)
        if found[1] in languages
    ]


def shell_lines() -> Iterator[tuple[str, str]]:
    """Every command line in the pages with its place; continued lines are joined."""
    for path in PAGES:
        for block in blocks(path, "shell", "sh", "bash", "console"):
            joined = block.text.replace("\\\n", " ")
            for line in joined.splitlines():
                yield f"{name_of(path)}:{block.line}", line.strip().removeprefix("$ ")


def everything() -> str:
    """All pages as one text, with the generated parts in place."""
    from generated import fill

    return "\n".join(fill(path.read_text(encoding="utf-8")) for path in PAGES)


def handwritten() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
