"""Options from outside (a recipe, a call) held against the fields of the dataclass they are for."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, Literal, Union

from edgegraft_edge.errors import Problem, nearest

_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}


def check_values(kind: type, values: Mapping[str, Any], prefix: str = "") -> list[Problem]:
    """A problem for each value whose name is no field, or that is not of the field's type.

    Args:
        kind: a dataclass.
        prefix: what stands before a name where the user writes it, e.g. "finetune.".

    >>> from edgegraft.adapt.probe import Probe
    >>> [problem.remedy for problem in check_values(Probe, {"head": "rigde", "copys": 1})]
    ["one of 'ridge', 'logistic'", 'copies']
    """
    hints = typing.get_type_hints(kind)
    known = [entry.name for entry in fields(kind)]
    problems = []
    for name, value in values.items():
        if name not in known:
            problems.append(
                Problem(
                    "option-unknown",
                    f"option {prefix}{name}",
                    f"{kind.__name__} has no such field",
                    nearest(name, known),
                )
            )
        elif not _fits(hints[name], value):
            problems.append(
                Problem(
                    "option-value",
                    f"{prefix}{name}={value!r}",
                    "it is of another type, or none of the choices",
                    _words(hints[name]),
                )
            )
    return problems


def _fits(hint: Any, value: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(argument, value) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin in (tuple, list):
        return isinstance(value, (tuple, list)) and all(_fits(arguments[0], v) for v in value)
    if hint in (int, float):
        kind = Integral if hint is int else Real  # NumPy's numbers, too
        return isinstance(value, kind) and not isinstance(value, bool)
    if hint in (bool, str, type(None)):
        return isinstance(value, hint)
    return isinstance(value, origin) if isinstance(origin, type) else True


def _words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(each) for each in arguments if each is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (tuple, list):
        return f"a list, each {_words(arguments[0])}"
    return _WORDS.get(hint, str(hint))
