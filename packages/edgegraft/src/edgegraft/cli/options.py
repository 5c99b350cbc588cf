"""Options that several commands share, and options made from the fields of a dataclass."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import click

from edgegraft_edge.errors import OptionError, Problem, nearest

VALUES = {int: "a whole number", float: "a number", bool: "true or false"}
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class DataOption(click.Option):
    """An option of DATA; the help of a command shows these under a heading of their own."""


class DataCommand(click.Command):
    """A command that takes DATA."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        for title, of_data in (("Options", False), ("Options of DATA", True)):
            chosen = [param for param in options if isinstance(param, DataOption) is of_data]
            records = [param.get_help_record(ctx) for param in chosen]
            with formatter.section(title):
                formatter.write_dl([record for record in records if record is not None])


json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on stdout; progress on stderr."
)
seed_option = click.option("--seed", default=0, show_default=True, help="Seed of all chance.")


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each field of `DataOptions`, with the field's help sentence.

    One that is not given is None, so that the default stays with the dataclass: see `given`.
    """
    from edgegraft.data.source import DataOptions

    hints = typing.get_type_hints(DataOptions)
    for entry in reversed(dataclasses.fields(DataOptions)):
        command = _option_of(entry, hints[entry.name])(command)
    return command


def as_typed(text: str) -> str:
    """A remedy with its options of data as one types them here.

    >>> as_typed("pass rate_hz=50, or name the column with time=...")
    'pass --rate-hz 50, or name the column with --time ...'
    """
    from edgegraft.data.source import DataOptions

    names = [entry.name for entry in dataclasses.fields(DataOptions)]
    long = "|".join(name for name in names if "_" in name)
    return re.sub(
        rf"(?<![-\w])(?:({'|'.join(names)})=|({long})\b)",
        lambda found: "--" + (found[1] or found[2]).replace("_", "-") + (" " if found[1] else ""),
        text,
    )


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given: those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def _option_of(entry: dataclasses.Field[Any], hint: Any) -> Decorator:
    kind, is_list = _kind(hint)
    default = None if entry.default is dataclasses.MISSING else entry.default
    text = str(entry.metadata.get("help", ""))
    if default not in (None, "", (), False):
        text += f"  [default: {default}]"
    flag = "--" + entry.name.replace("_", "-")
    if kind is bool:
        flag = f"{flag}/--no-{flag[2:]}"
    if is_list:
        text += "  (several with commas)"
    return click.option(
        flag,
        entry.name,
        default=None,
        cls=DataOption,
        type=str if is_list else kind,
        callback=_split(kind) if is_list else None,
        metavar="A,B" if is_list else None,
        help=text,
    )


def _split(kind: Any) -> Callable[..., Any]:
    def split(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        return None if value is None else tuple(kind(part.strip()) for part in value.split(","))

    return split


def _kind(hint: Any) -> tuple[Any, bool]:
    """What click converts to, and whether it is a list, from an annotation."""
    origin = typing.get_origin(hint)
    parts = [part for part in typing.get_args(hint) if part is not type(None)]
    if origin in (typing.Union, types.UnionType):
        return _kind(parts[0]) if len(parts) == 1 else (str, False)
    if origin is Literal:
        return click.Choice([str(part) for part in parts]), False
    if origin in (tuple, list):
        return (parts[0] if parts else str), True
    return (hint if hint in (bool, int, float, str) else str), False


def strategy_options(texts: Iterable[str]) -> dict[str, Any]:
    """``["finetune.epochs=5"]`` as ``{"finetune.epochs": 5}``, typed by the fields.

    What stands before the dot is a strategy or a task.

    Errors: `OptionError` listing every text that names none of them, no field or no value.
    """
    from edgegraft import catalog

    def read(path: str, value: str) -> Any:
        owner, _, name = path.partition(".")
        kind = "tasks" if owner in catalog.names("tasks") else "strategies"
        return _convert(catalog.find(kind, owner), name, value)

    return _read_all(texts, read, "finetune.epochs=5")


TASK_OPTIONS: list[str] = []
"""Names of the options that stand for a field of the task."""


def task_option(flag: str, **more: Any) -> Decorator:
    """An option that stands for the field of the same name of the task."""
    name = flag.removeprefix("--").replace("-", "_")
    if name not in TASK_OPTIONS:
        TASK_OPTIONS.append(name)
    return click.option(flag, name, default=None, **more)


def task_texts(task: str, options: Mapping[str, Any]) -> list[str]:
    """The task's options that were given, as they are written after -o."""
    return [
        f"{task}.{name}={options[name]}" for name in TASK_OPTIONS if options.get(name) is not None
    ]


def options_of(cls: type, texts: Iterable[str]) -> dict[str, Any]:
    """``["epochs=5"]`` as ``{"epochs": 5}``, typed by the fields of one dataclass.

    Errors: `OptionError` listing every text that names no field or no value.
    """
    return _read_all(texts, lambda name, value: _convert(cls, name, value), "epochs=5")


def _read_all(
    texts: Iterable[str], read: Callable[[str, str], Any], example: str
) -> dict[str, Any]:
    options: dict[str, Any] = {}
    problems: list[Problem] = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or ("." in example) != ("." in name):
            form = "STRATEGY.FIELD=VALUE" if "." in example else "FIELD=VALUE"
            problems.append(Problem("option-form", repr(text), f"it is not {form}", example))
            continue
        try:
            options[name.strip()] = read(name.strip(), value.strip())
        except OptionError as error:
            problems += error.problems
    if problems:
        raise OptionError(problems)
    return options


def _convert(cls: type, name: str, value: str) -> Any:
    """Text as the type of a field. Errors: `OptionError` for another name or an unfit value."""
    hints = typing.get_type_hints(cls)
    known = [entry.name for entry in dataclasses.fields(cls)]
    if name not in known:
        raise OptionError.of(
            "option-unknown", f"{cls.__name__} option {name!r}", "it has none", nearest(name, known)
        )
    kind, is_list = _kind(hints[name])
    optional = type(None) in typing.get_args(hints[name])
    if optional and value.lower() in ("", "none"):
        return None
    try:
        convert = click.types.convert_type(kind).convert
        parts = [value] if not is_list else value.split(",") if value else []
        values = tuple(convert(part.strip(), None, None) for part in parts)
    except click.BadParameter as error:
        choices = ", ".join(kind.choices) if isinstance(kind, click.Choice) else ""
        raise OptionError.of(
            "option-value", f"{name}={value}", error.message.rstrip("."),
            choices or VALUES.get(kind, "text"),
        ) from error  # fmt: skip
    return values if is_list else values[0]
