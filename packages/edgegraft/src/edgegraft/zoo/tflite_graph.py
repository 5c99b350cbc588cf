"""What a ``.tflite`` file says of its operators: names, what they read and give, their options.

Source: the TensorFlow Lite schema, version 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgegraft.zoo.file_transcript import Node
from edgegraft_edge.flatbuffer import Table, damaged

DTYPES: Mapping[int, np.dtype[Any]] = {
    0: np.dtype(np.float32),
    1: np.dtype(np.float16),
    2: np.dtype(np.int32),
    3: np.dtype(np.uint8),
    4: np.dtype(np.int64),
    7: np.dtype(np.int16),
    9: np.dtype(np.int8),
}
"""Number of a type in the schema -> type."""

CODES = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE", 9: "FULLY_CONNECTED", 11: "L2_NORMALIZATION", 14: "LOGISTIC", 16: "LSTM",
    17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 20: "RELU_N1_TO_1", 21: "RELU6", 22: "RESHAPE",
    23: "RESIZE_BILINEAR", 25: "SOFTMAX", 27: "SVDF", 28: "TANH", 32: "CUSTOM", 34: "PAD",
    36: "GATHER", 39: "TRANSPOSE", 40: "MEAN", 41: "SUB", 42: "DIV", 43: "SQUEEZE",
    44: "UNIDIRECTIONAL_SEQUENCE_LSTM", 45: "STRIDED_SLICE", 47: "EXP", 49: "SPLIT",
    50: "LOG_SOFTMAX", 53: "CAST", 54: "PRELU", 55: "MAXIMUM", 57: "MINIMUM", 59: "NEG",
    65: "SLICE", 67: "TRANSPOSE_CONV", 70: "EXPAND_DIMS", 73: "LOG", 74: "SUM", 75: "SQRT",
    76: "RSQRT", 77: "SHAPE", 78: "POW", 82: "REDUCE_MAX", 83: "PACK", 89: "REDUCE_MIN",
    92: "SQUARE", 97: "RESIZE_NEAREST_NEIGHBOR", 98: "LEAKY_RELU", 99: "SQUARED_DIFFERENCE",
    101: "ABS", 102: "SPLIT_V", 114: "QUANTIZE", 117: "HARD_SWISH", 118: "IF", 119: "WHILE",
    126: "BATCH_MATMUL", 150: "GELU",
}  # fmt: skip


def code_of(table: Table) -> str:
    """The name of an entry in the file's list of operators."""
    old, new = table.integer(0, "<b"), table.integer(3)
    code = max(old, new)
    if code == 32:
        return f"CUSTOM {table.text(1)[:40]}"
    return CODES.get(code, f"OPERATOR_{code}")


def node_of(table: Table, codes: list[str], name: Callable[[int], str]) -> Node:
    """An operator with its options; `name` gives the name of a value by its number."""
    index = table.integer(0, "<I")
    if index >= len(codes):
        raise damaged(f"an operator {index} of {len(codes)}")
    inputs, outputs = (
        tuple(name(int(i)) for i in table.array(field, DTYPES[2])) for field in (1, 2)
    )
    if not outputs or not outputs[0]:
        raise damaged("an operator that gives nothing")
    options = table.table(4)
    read = _OPTIONS.get(codes[index])
    attrs = read(options or Table(b"\4\0\4\0\4\0\0\0", 4)) if read else {}
    return Node(codes[index], inputs, outputs, attrs)


# -- options of operators, by the number of their field in the schema


def _conv_options(table: Table) -> dict[str, Any]:
    return {
        "same": table.integer(0, "<b") == 0,
        "stride": [table.integer(2), table.integer(1)],
        "dilation": [table.integer(5, default=1), table.integer(4, default=1)],
        "fused": table.integer(3, "<b"),
    }


def _depthwise_options(table: Table) -> dict[str, Any]:
    return {
        "same": table.integer(0, "<b") == 0,
        "stride": [table.integer(2), table.integer(1)],
        "dilation": [table.integer(6, default=1), table.integer(5, default=1)],
        "fused": table.integer(4, "<b"),
    }


def _pool_options(table: Table) -> dict[str, Any]:
    return {
        "same": table.integer(0, "<b") == 0,
        "stride": [table.integer(2), table.integer(1)],
        "kernel": [table.integer(4), table.integer(3)],
        "fused": table.integer(5, "<b"),
    }


def _fused(field: int) -> Callable[[Table], dict[str, Any]]:
    return lambda table: {"fused": table.integer(field, "<b")}


_OPTIONS: Mapping[str, Callable[[Table], dict[str, Any]]] = {
    "CONV_2D": _conv_options,
    "DEPTHWISE_CONV_2D": _depthwise_options,
    "AVERAGE_POOL_2D": _pool_options,
    "MAX_POOL_2D": _pool_options,
    "FULLY_CONNECTED": lambda table: {
        "fused": table.integer(0, "<b"),
        "shuffled": table.integer(1, "<b"),
        "keep": bool(table.integer(2, "<b")),
    },
    "ADD": _fused(0),
    "SUB": _fused(0),
    "MUL": _fused(0),
    "DIV": _fused(0),
    "SOFTMAX": lambda table: {"beta": float(table.number(0, "<f", 0.0))},
    "CONCATENATION": lambda table: {"axis": table.integer(0), "fused": table.integer(1, "<b")},
    **{
        name: (lambda table: {"keep": bool(table.integer(0, "<b"))})
        for name in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
    },
    "RESHAPE": lambda table: {"shape": [int(n) for n in table.array(0, DTYPES[2])][:64]},
    "SQUEEZE": lambda table: {"axes": [int(n) for n in table.array(0, DTYPES[2])][:64]},
    "LEAKY_RELU": lambda table: {"slope": float(table.number(0, "<f", 0.0))},
    "BATCH_MATMUL": lambda table: {
        "turned": bool(table.integer(0, "<b")) or bool(table.integer(1, "<b"))
    },
    "STRIDED_SLICE": lambda table: {"masks": [table.integer(field) for field in range(5)]},
}
