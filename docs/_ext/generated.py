"""Parts of the reference that are made from the code, so that they cannot fall behind it.

A page holds a marker, an HTML comment ``generated: NAME``; when Sphinx reads the page, the
marker is replaced by what the function of that name in :data:`PARTS` writes (Markdown).
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parents[2]
SOURCES = (ROOT / "packages/edge/src", ROOT / "packages/edgegraft/src")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; bars and newlines inside cells are escaped."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        cells = (" ".join(str(cell).split()).replace("|", "\\|") or " " for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def code(value: object) -> str:
    return f"`{value}`" if str(value) else ""


def walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    """Every command below a group with its full name, itself included."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from walk(child, (*path, name))


def commands() -> str:
    """Every command of `edgegraft`, from the commands themselves."""
    from edgegraft.cli.app import cli

    parts = []
    for name, command in walk(cli, ("edgegraft",)):
        context = click.Context(command, info_name=name)
        usage = " ".join(piece for piece in command.collect_usage_pieces(context))
        help_text = inspect.cleandoc(command.help or "").replace("\b", "")
        parts.append(f"## {name}\n\n```text\n{name} {usage}\n```\n\n{help_text}\n")
        rows = []
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                record = option.get_help_record(context)
                assert record is not None
                rows.append([code(record[0]), record[1]])
        if rows:
            parts.append(table(["option", "meaning"], rows))
    return "\n".join(parts)


def edge_commands() -> str:
    """The help of `edgegraft-edge` and of each of its commands."""
    from edgegraft_edge import cli

    def said(*arguments: str) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            cli.main([*arguments, "--help"])
        return out.getvalue().rstrip()

    top = said()
    names = re.findall(r"^    ([a-z]+) {2,}", top.partition("commands:")[2], re.MULTILINE)
    parts = [f"## edgegraft-edge\n\n```text\n{top}\n```\n"]
    parts += [f"## edgegraft-edge {name}\n\n```text\n{said(name)}\n```\n" for name in names]
    return "\n".join(parts)


def strategies() -> str:
    """Every strategy with its options, from the fields of its dataclass."""
    from edgegraft import catalog

    parts = []
    for name in catalog.names("strategies"):
        cls = catalog.find("strategies", name)
        parts.append(f"### {name}\n\n{_first_paragraph(cls)}\n")
        rows = [
            [code(f"{name}.{entry.name}"), code(_default(entry)), entry.metadata.get("help", "")]
            for entry in dataclasses.fields(cls)
        ]
        if rows:
            parts.append(table(["option", "default", "meaning"], rows))
    return "\n".join(parts)


def pretraining() -> str:
    """The options of pretraining, from the fields of its dataclass."""
    from edgegraft.adapt.pretrain import Pretraining

    rows = [
        [code(entry.name), code(_default(entry)), entry.metadata.get("help", "")]
        for entry in dataclasses.fields(Pretraining)
    ]
    return table(["option", "default", "meaning"], rows)


def data_options() -> str:
    """The options of DATA, from the fields of `DataOptions`."""
    from edgegraft.data.source import DataOptions

    rows = [
        [code("--" + entry.name.replace("_", "-")), code(entry.name), entry.metadata["help"]]
        for entry in dataclasses.fields(DataOptions)
    ]
    return table(["on the command line", "in Python", "meaning"], rows)


def backbones() -> str:
    """The backbones that come with the package, from their cards."""
    from edgegraft.zoo.registry import list_backbones

    rows = [
        [code(card.name), card.kind, f"{card.n_parameters:,}", card.licence, card.summary]
        for card in list_backbones()
    ]
    return table(["name", "kind", "parameters", "licence", "summary"], rows)


def boards() -> str:
    """The boards that have a card."""
    from edgegraft.export.target import boards as list_boards

    def number(value: float) -> str:
        return f"{value:,g}" if value else ""

    rows = [
        [
            code(card.name),
            card.title,
            card.instruction_set,
            *map(number, (card.clock_mhz, card.flash_kib, card.ram_kib)),
            "yes" if card.fpu else "no",
            number(card.cycles_per_instruction),
            card.notes,
        ]
        for card in list_boards()
    ]
    columns = ["name", "board", "instructions", "MHz", "flash KiB", "RAM KiB", "float",
               "cycles per instruction", "notes"]  # fmt: skip
    return table(columns, rows)


def entry_points() -> str:
    """Everything that is registered, by group."""
    from edgegraft import catalog

    rows = [
        [code(group), ", ".join(code(name) for name in catalog.names(short))]
        for short, group in catalog.GROUPS.items()
    ]
    return table(["group", "registered here"], rows)


def primitives() -> str:
    """The primitives of programs, with the arguments each takes."""

    from edgegraft_edge.primitives import PRIMITIVES

    rows = []
    for name, function in PRIMITIVES.items():
        try:
            takes = str(inspect.signature(function, eval_str=False))
        except (TypeError, ValueError):
            takes = "(a, b)" if getattr(function, "nin", 1) == 2 else "(x)"
        if "/" in takes:  # a NumPy function of one or two arrays
            takes = "(a, b)" if getattr(function, "nin", 2) == 2 else "(x)"
        takes = re.sub(r": [^,)=]*(\[[^]]*\])?", "", takes.split(" ->")[0])
        rows.append([code(name), code(takes)])
    return table(["primitive", "takes"], rows)


def errors() -> str:
    """Every error code, with the error that carries it and where it is raised."""
    rows = [
        [code(name), ", ".join(sorted(kinds)), ", ".join(code(place) for place in sorted(places))]
        for name, (kinds, places) in sorted(error_codes().items())
    ]
    return table(["code", "carried by", "raised in"], rows)


def error_codes() -> dict[str, tuple[set[str], set[str]]]:
    """Code -> (classes, modules), read from the sources."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for folder in SOURCES:
        for path in sorted(folder.rglob("*.py")):
            module = ".".join(path.relative_to(folder).with_suffix("").parts)
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                kind = _raised(call)
                if kind is None:
                    continue
                assert isinstance(call, ast.Call)
                first = call.args[0] if call.args else None
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    kinds, places = found.setdefault(first.value, (set(), set()))
                    kinds.add(kind)
                    places.add(module)
    return found


def _raised(node: ast.AST) -> str | None:
    """The class in ``DataError.of("code", ...)`` or ``Problem("code", ...)``."""
    if not isinstance(node, ast.Call):
        return None
    match node.func:
        case ast.Attribute(value=ast.Name(id=name), attr="of") if name.endswith("Error"):
            return name
        case ast.Name(id="Problem"):
            return "Problem"
    return None


def _first_paragraph(cls: type) -> str:
    return (cls.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")


def _default(entry: dataclasses.Field[Any]) -> object:
    if entry.default is not dataclasses.MISSING:
        return repr(entry.default)
    if entry.default_factory is not dataclasses.MISSING:
        return repr(entry.default_factory())
    return "needed"


def refusals() -> str:
    """What of the backbones, heads and exporters here does not go together."""
    from edgegraft.testing import REFUSED

    rows = [
        [
            *(row.architecture.replace("|", ", "), row.head.replace("|", ", ")),
            *(row.exporter.replace("|", ", "), row.precision),
            code(row.code),
            row.reason + ("" if row.always else " (on some windows)"),
        ]
        for row in REFUSED
    ]
    rows = [["every" if cell == "*" else cell for cell in row] for row in rows]
    return table(["architecture", "head", "target", "precision", "error", "why"], rows)


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "edge-commands": edge_commands,
    "strategies": strategies,
    "pretraining": pretraining,
    "data-options": data_options,
    "backbones": backbones,
    "boards": boards,
    "entry-points": entry_points,
    "primitives": primitives,
    "errors": errors,
    "refusals": refusals,
}
MARKER = re.compile(r"<!-- generated: ([a-z-]+) -->")


def fill(text: str) -> str:
    """A page with its markers replaced. Errors: `KeyError` for a marker of no part."""
    return MARKER.sub(lambda found: PARTS[found[1]](), text)


def setup(app: Any) -> dict[str, bool]:
    def read(_: Any, __: str, source: list[str]) -> None:
        source[0] = fill(source[0])

    def outdated(_: Any, env: Any, *__: set[str]) -> list[str]:
        """Pages with markers are read each time: what they are made of is not their own text."""
        texts = {page: Path(env.doc2path(page)).read_text("utf-8") for page in env.found_docs}
        return sorted(page for page, text in texts.items() if MARKER.search(text))

    app.connect("source-read", read)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True}
