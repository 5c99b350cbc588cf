"""What commands write: one JSON object, or tables for people."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

ROOM = 30
"""Columns that a text at the end of a table needs at least."""


def write(value: Mapping[str, Any], as_json: bool, render: Callable[[], None]) -> None:
    """The value as one JSON object on stdout, or what `render` prints."""
    if as_json:
        click.echo(json.dumps(plain(value), allow_nan=False))
    else:
        render()


def plain(value: Any) -> Any:
    """Plain JSON values: arrays as lists, paths as text, what is not finite as null.

    >>> plain({"a": float("nan"), "b": (1, 2)})
    {'a': None, 'b': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on stdout, numbers to the right.

    A last column of text is wrapped where the terminal is too narrow for it, or stands below its
    row; a pipe gets one line a row.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    click.echo("\n".join(table_lines(columns, rows, width)))


def table_lines(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], width: int | None = None
) -> list[str]:
    """The lines of a table; `width` is that of the terminal, None for no bound.

    >>> for line in table_lines(["name", "n"], [["walk", 12], ["sit", 3]]):
    ...     print(line)
    name   n
    ----  --
    walk  12
    sit    3
    """
    cells = [[show(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    right = [
        any(isinstance(row[index], int | float) for row in rows)
        and all(isinstance(row[index], int | float | None) for row in rows)
        for index in range(len(columns))
    ]
    before = sum(widths[:-1]) + 2 * (len(widths) - 1)
    room = max(ROOM, width - before) if width is not None else widths[-1]
    below = width is not None and width - before < min(ROOM, widths[-1]) and not right[-1]
    if below:
        columns, widths, cells = columns[:-1], widths[:-1], [row[:-1] for row in cells]
    elif not right[-1]:
        widths[-1] = min(widths[-1], room)

    def line(parts: Sequence[str]) -> str:
        placed = (
            part.rjust(size) if number else part.ljust(size)
            for part, size, number in zip(parts, widths, right, strict=False)
        )
        return "  ".join(placed).rstrip()

    lines = [line(columns), line(["-" * size for size in widths])]
    for row, values in zip(cells, rows, strict=True):
        if below:
            text = textwrap.wrap(show(values[-1]), max(ROOM, (width or 0) - 4))
            lines += [line(row), *("    " + part for part in text)]
            continue
        text = [row[-1]] if right[-1] else textwrap.wrap(row[-1], max(1, widths[-1])) or [""]
        lines.append(line([*row[:-1], text[0]]))
        lines += [" " * before + part for part in text[1:]]
    return lines


def say(name: str, text: str) -> None:
    """One finding on stdout: its name, then the text, wrapped on a terminal."""
    line = f"{name:10}{text}"
    if sys.stdout.isatty():
        line = hang(line, shutil.get_terminal_size().columns)
    click.echo(line)


def hang(line: str, width: int) -> str:
    """A line wrapped between words, with what follows under column ten.

    >>> print(hang("shipped   minirocket/probe, which did best", 30))
    shipped   minirocket/probe,
              which did best
    """
    parts = textwrap.wrap(
        line, width, subsequent_indent=" " * 10,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return "\n".join(parts)


def show(value: Any) -> str:
    """One value for a person: numbers short, nothing as a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        if 0 < abs(value) < 0.001:
            return f"{value:.1e}"
        return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
