"""JSON as bundles hold it: written in one way, read strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgegraft_edge.errors import BundleError

MAX_BYTES = 16 << 20


def dump(value: Any) -> bytes:
    """Canonical JSON bytes; NumPy numbers become plain ones.

    >>> dump({"b": 1, "a": (1.5,)})
    b'{"a":[1.5],"b":1}'
    """

    def plain(item: Any) -> Any:
        if isinstance(item, Mapping):
            return dict(item)
        if hasattr(item, "tolist"):
            return item.tolist()
        raise TypeError(f"{item!r} is no JSON value")

    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=plain
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleError.of(
            "json-value", str(error), "bundles hold plain JSON", "numbers, text, lists, mappings"
        ) from error
    return text.encode("ascii")


def parse(data: bytes, name: str) -> dict[str, Any]:
    """One JSON object; no repeated key, no NaN, no lone surrogate, no bottomless nesting.

    Errors: `BundleError`.
    """

    def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key occurs twice")
        return dict(pairs)

    def refuse_constant(text: str) -> Any:
        raise ValueError(f"{text} is no JSON number")

    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"{len(data)} bytes of JSON")
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=unique, parse_constant=refuse_constant)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        if not isinstance(value, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        raise BundleError.of(
            "json-damaged", f"{name}: {error}", "it is not plain JSON", "export the bundle again"
        ) from error
    return value
