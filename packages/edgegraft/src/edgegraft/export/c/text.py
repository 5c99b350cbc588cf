"""C as text: names, strings and tables of numbers, safe whatever they hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from edgegraft_edge.errors import ExportError
from edgegraft_edge.signal import Array

_WIDTH = 96
_LONGEST = 4000  # bytes of a string; C99 promises 4,095
_KEYWORDS = frozenset(
    (
        "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else",
        "enum", "extern", "float", "for", "goto", "if", "inline", "int", "long", "main",
        "register", "restrict", "return", "short", "signed", "sizeof", "static", "struct",
        "switch", "typedef", "union", "unsigned", "void", "volatile", "while",
    )
)  # fmt: skip
CTYPES: Mapping[str, str] = {
    "f": "float", "i1": "int8_t", "i4": "int32_t", "u4": "uint32_t"
}  # fmt: skip


def ctype_of(dtype: np.dtype) -> str:
    """The C type that holds a value; every float is a float32.

    Errors: `ExportError` "export-c-type".

    >>> ctype_of(np.dtype("float64")), ctype_of(np.dtype("int8"))
    ('float', 'int8_t')
    """
    name = "f" if dtype.kind == "f" else dtype.str[1:]
    if name not in CTYPES:
        raise ExportError.of(
            "export-c-type",
            f"a value of type {dtype}",
            "the C of a model holds float32 and int8",
            "write the program in those",
        )
    return CTYPES[name]


def is_identifier(name: str) -> bool:
    """Whether C takes a name, and no keyword or reserved name is meant."""
    return bool(re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name)) and name not in _KEYWORDS


def string(value: str) -> str:
    """A C string literal of any text, in ASCII.

    Errors: `ExportError` "export-c-name" when it is longer than C99 promises.

    >>> print(string('5" pipe?\\n*/'))
    "5\\" pipe\\?\\012*/"
    """
    data = value.encode("utf-8", "backslashreplace")
    if len(data) > _LONGEST:
        raise ExportError.of(
            "export-c-name",
            f"a name of {len(data):,} bytes",
            "C99 promises strings of 4,095 bytes",
            f"names of at most {_LONGEST:,} bytes",
        )
    found = []
    for byte in data:
        if byte in b'"\\?':  # ?: so that no trigraph arises
            found.append("\\" + chr(byte))
        elif 32 <= byte < 127:
            found.append(chr(byte))
        else:
            found.append(f"\\{byte:03o}")
    return '"' + "".join(found) + '"'


def word(value: str) -> str:
    """Text for comments and lists: letters, digits and a few signs on one line.

    >>> word("a*/b\\nc")
    'a__b_c'
    """
    return re.sub(r"[^A-Za-z0-9 .,:()+_-]", "_", value)[:60].strip() or "model"


def number(value: float) -> str:
    """A float32 literal that is read back as the same value.

    >>> number(0.1), number(3.0), number(float("-inf"))
    ('0.1f', '3.0f', '-INFINITY')
    """
    value = float(np.float32(value))
    if value in (float("inf"), float("-inf")):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = str(np.float32(value))
    return f"{text}f" if any(sign in text for sign in ".e") else f"{text}.0f"


def _floats(values: Array) -> list[str]:
    texts = ["%.9g" % value for value in values.ravel().tolist()]  # noqa: UP031 (three times faster)
    return [
        f"{t}f"
        if "." in t or "e" in t
        else {"inf": "INFINITY", "-inf": "-INFINITY"}.get(t, f"{t}.0f")
        for t in texts
    ]


def table(ctype: str, name: str, array: Array, *, exported: bool = False) -> str:
    """A constant array, in the order in which it lies.

    >>> print(table("int8_t", "k", np.int8([1, -2])))
    static const int8_t k[2] = {
        1, -2,
    };
    """
    if ctype == "float":
        texts = _floats(array)
    elif ctype == "int32_t":  # the lowest has no literal
        texts = [str(v) if v > -(1 << 31) else "-2147483647 - 1" for v in array.ravel().tolist()]
    else:
        texts = [str(value) for value in array.ravel().tolist()]
    kind = "const" if exported else "static const"
    return f"{kind} {ctype} {name}[{len(texts)}] = {{\n{rows(texts)}}};"


def rows(texts: Sequence[str]) -> str:
    """Items with commas, in lines."""
    lines, line = [], "   "
    for text in texts:
        if len(line) + len(text) + 2 > _WIDTH:
            lines.append(line)
            line = "   "
        line += f" {text},"
    return "\n".join([*lines, line]) + "\n"


def structure(ctype: str, name: str, fields: Mapping[str, object]) -> str:
    """A constant struct with its fields by name."""
    texts = [f".{field} = {value}" for field, value in fields.items()]
    return f"static const {ctype} {name} = {{\n{rows(texts)}}};"
