"""Named arrays in the safetensors format, read and written with NumPy alone.

The format is an 8-byte little-endian header length, a JSON header of names, types,
shapes and offsets, and the raw bytes. Nothing in it can run. Reading is bounded and
checks every offset; weights that are not finite are refused here, flipped bits by the
checksums of whoever holds the file.

Source: the safetensors format description, https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgegraft_edge.errors import ModelError, Problem
from edgegraft_edge.signal import Array

_TYPES = {
    "F32": "<f4",
    "F16": "<f2",
    "F64": "<f8",
    "I64": "<i8",
    "I32": "<i4",
    "I8": "|i1",
    "U8": "|u1",
}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}
MAX_HEADER_BYTES = 8 << 20


def dump(tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file, the same for the same input.

    >>> load(dump({"w": np.ones((2, 3), dtype=np.float32)}))["w"].shape
    (2, 3)
    """
    header: dict[str, Any] = {}
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    parts, offset = [], 0
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        if array.dtype not in _NAMES:
            raise ModelError.of(
                "tensor-type",
                f"tensor {name!r} of type {array.dtype}",
                f"only {', '.join(map(str, _NAMES))} are written",
                "convert it to float32",
            )
        raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [offset, offset + len(raw)],
        }
        parts.append(raw)
        offset += len(raw)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + b"".join(parts)


def load(data: bytes, *, finite: bool = True) -> dict[str, Array]:
    """Read safetensors bytes.

    Errors: `ModelError` for anything that is not exactly of the format, and with `finite`
    for NaN or infinite values.
    """

    def refuse(found: str) -> ModelError:
        problem = Problem(
            "tensors-damaged", found, "the file is not whole", "fetch or export it again"
        )
        return ModelError(problem)

    if len(data) < 8:
        raise refuse(f"{len(data)} bytes")
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER_BYTES or 8 + size > len(data):
        raise refuse(f"a header of {size} bytes in a file of {len(data)}")
    try:
        header = json.loads(data[8 : 8 + size].decode())
        header.pop("__metadata__", None)
        entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"][0])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise refuse("a header that is not the format's JSON") from error
    body, expected, tensors = data[8 + size :], 0, {}
    for name, entry in entries:
        try:
            kind = np.dtype(_TYPES[entry["dtype"]])
            shape = tuple(int(axis) for axis in entry["shape"])
            start, stop = (int(place) for place in entry["data_offsets"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise refuse(f"tensor {name!r} with an unreadable entry") from error
        if (
            start != expected
            or stop > len(body)
            or min(shape, default=0) < 0
            or math.prod(shape) * kind.itemsize != stop - start
        ):
            raise refuse(f"tensor {name!r} whose shape and place do not fit")
        expected = stop
        try:
            array = np.frombuffer(body, kind, math.prod(shape), start).reshape(shape)
        except (ValueError, OverflowError) as error:  # too many axes, or one too long
            raise refuse(f"tensor {name!r} of {len(shape)} axes") from error
        if finite and kind.kind == "f" and not np.isfinite(array).all():
            raise ModelError.of(
                "weights-not-finite",
                f"tensor {name!r} holds NaN or infinity",
                "such weights give no answer",
                "fetch or train them again",
            )
        tensors[name] = array.astype(kind.newbyteorder("="))
    if expected != len(body):
        raise refuse(f"{len(body) - expected} bytes that belong to no tensor")
    return tensors
