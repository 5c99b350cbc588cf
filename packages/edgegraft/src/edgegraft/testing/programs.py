"""One small program for each primitive: what every runtime and emitter is tried with."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from edgegraft_edge.heads import TreesHead
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array

N_CHANNELS, N_TIMEPOINTS = 3, 20
"""Size of the windows that the programs take."""

_RNG = np.random.default_rng(7)


def windows(n_windows: int = 5, seed: int = 0) -> Array:
    """Windows for the programs, float32 (n_windows, 3, 20)."""
    random = np.random.default_rng(seed)
    return random.normal(size=(n_windows, N_CHANNELS, N_TIMEPOINTS)).astype(np.float32)


def program_of(kind: str, *inputs: object, **attrs: object) -> Program:
    draft = Draft()
    return draft.finish(draft.add(kind, "x", *inputs, **attrs))


def _positive(kind: str) -> Program:
    draft = Draft()
    return draft.finish(draft.add(kind, draft.add("add", draft.add("abs", "x"), np.float32(0.1))))


def random_trees(seed: int = 0, depth: int = 3, n_trees: int = 4, n_features: int = 6) -> TreesHead:
    """Random complete trees of one depth; depth 0 is a single leaf."""
    random = np.random.default_rng(seed)
    columns: list[tuple[int, float, int, int]] = []
    roots = []

    def grow(level: int) -> int:
        place = len(columns)
        columns.append((0, 0.0, -1, -1))
        if level:
            left, right = grow(level - 1), grow(level - 1)
            feature, threshold = int(random.integers(n_features)), float(random.normal())
            columns[place] = (feature, threshold, left, right)
        return place

    for _ in range(n_trees):
        roots.append(grow(depth))
    feature, threshold, left, right = (np.array(column) for column in zip(*columns, strict=True))
    value = random.dirichlet(np.ones(3), size=len(columns)).astype(np.float32)
    return TreesHead(feature, threshold.astype(np.float32), left, right, value, np.array(roots))


def _square_conv() -> Program:
    draft = Draft()
    square = draft.add("reshape", "x", shape=[3, 4, 5])
    weight, bias = _RNG.normal(size=(6, 1, 2, 3)), _RNG.normal(size=6)
    conv = {"stride": [2, 1], "dilation": [1, 2], "groups": 3, "pad": [1, 2, 0, 3]}
    return draft.finish(draft.add("conv2d", square, weight, bias, **conv))


def _pooled() -> Program:
    draft = Draft()
    square = draft.add("reshape", "x", shape=[3, 4, 5])
    pool = {"kernel": [3, 2], "stride": [2, 1], "pad": [1, 1, 0, 0]}
    return draft.finish(draft.add("max_pool2d", square, **pool))


def _looked_up() -> Program:
    draft = Draft()
    whole = draft.add("round", draft.add("mul", draft.add("sigmoid", "x"), np.float32(6)))
    return draft.finish(draft.add("lookup", whole, _RNG.normal(size=(7, 2))))


def flat_trees(head: TreesHead) -> Program:
    draft = Draft()
    flat = draft.add("slice", draft.add("reshape", "x", shape=[-1]), axis=1, start=0, stop=6)
    return draft.finish(draft.call(head.program(), flat))


def _conv2d_last() -> Program:
    draft = Draft()
    image = draft.add("reshape", "x", shape=[4, 5, 3])
    weight, bias = _RNG.normal(size=(6, 2, 3, 1)), _RNG.normal(size=6)
    conv = {"stride": [2, 1], "dilation": [1, 2], "groups": 3, "pad": [1, 2, 0, 3]}
    return draft.finish(draft.add("conv2d_last", image, weight, bias, **conv))


def _pooled_last() -> Program:
    draft = Draft()
    image = draft.add("reshape", "x", shape=[4, 5, 3])
    pool = {"kernel": [3, 2], "stride": [2, 1], "pad": [1, 1, 0, 0]}
    return draft.finish(draft.add("max_pool2d_last", image, **pool))


def _steps(*shape: int) -> Array:
    return _RNG.integers(-127, 128, shape).astype(np.int8)


def _round_trip() -> Program:
    draft = Draft()
    eight = draft.add("quantize", "x", scale=0.03, zero=-4)
    return draft.finish(draft.add("dequantize", eight, scale=0.03, zero=-4))


def _eight(kind: str, *inputs: object, **attrs: object) -> Program:
    """A primitive on int8 values; its int8 result comes out in steps."""
    draft = Draft()
    eight = draft.add("quantize", "x", scale=0.03, zero=-4)
    found = draft.add(kind, eight, *inputs, **attrs)
    return draft.finish(draft.add("dequantize", found, scale=1.0, zero=0))


def _both(kind: str) -> Program:
    draft = Draft()
    one = draft.add("quantize", "x", scale=0.03, zero=-4)
    other = draft.add("quantize", draft.add("tanh", "x"), scale=0.01, zero=7)
    scales = {"a_scale": 0.03, "a_zero": -4, "b_scale": 0.01, "b_zero": 7}
    found = draft.add(kind, one, other, **scales, scale=0.04, zero=-9, low=-9)
    return draft.finish(draft.add("dequantize", found, scale=1.0, zero=0))


def _conv_int8() -> Program:
    draft = Draft()
    eight = draft.add("quantize", "x", scale=0.03, zero=-4)
    image = draft.add("reshape", eight, shape=[4, 5, 3])
    bias = _RNG.integers(-900, 900, 6).astype(np.int32)
    scales = {"x_scale": 0.03, "x_zero": -4, "scale": 0.02, "zero": 5, "low": 5}
    weight_scale = np.array([0.01, 0.02, 0.004, 0.03, 0.01, 0.006], np.float32)
    conv = {"stride": [2, 1], "dilation": [1, 2], "groups": 3, "pad": [1, 2, 0, 3]}
    weight = _steps(6, 2, 3, 1)
    found = draft.add("conv2d_int8", image, weight, bias, weight_scale, **scales, **conv)
    return draft.finish(draft.add("dequantize", found, scale=1.0, zero=0))


def _dense_int8() -> Program:
    """The last row of weights gives halves of steps, so that rounding shows."""
    draft = Draft()
    eight = draft.add("quantize", "x", scale=0.03125, zero=-4)
    weight = _steps(4, 20)
    weight[3] = _RNG.integers(-1, 2, 20)
    bias = _RNG.integers(-900, 900, 4).astype(np.int32)
    weight_scale = np.array([0.01, 0.02, 0.004, 0.5], np.float32)
    scales = {"x_scale": 0.03125, "x_zero": -4, "scale": 0.03125, "zero": 9, "low": -100}
    bias[3] = 7
    found = draft.add("dense_int8", eight, weight, bias, weight_scale, **scales)
    return draft.finish(draft.add("dequantize", found, scale=1.0, zero=0))


def _average() -> Program:
    draft = Draft()
    eight = draft.add("quantize", "x", scale=0.03, zero=-4)
    image = draft.add("reshape", eight, shape=[4, 5, 3])
    pool = {"kernel": [3, 2], "stride": [2, 1], "pad": [1, 1, 0, 0]}
    found = draft.add("average_pool_int8", image, **pool)
    return draft.finish(draft.add("dequantize", found, scale=1.0, zero=0))


CASES: Mapping[str, Program] = MappingProxyType(
    {
        "add": program_of("add", _RNG.normal(size=(3, 1))),
        "sub": program_of("sub", _RNG.normal(size=(20,))),
        "mul": program_of("mul", 2),  # an integer constant in arithmetic
        "div": program_of("div", np.float32(3.0)),
        "maximum": program_of("maximum", np.float32(0.2)),
        "minimum": program_of("minimum", np.float32(0.2)),
        "greater": program_of("greater", _RNG.normal(size=(3, 1))),
        "round": program_of("round"),
        "abs": program_of("abs"),
        "sqrt": _positive("sqrt"),
        "log": _positive("log"),
        "exp": program_of("exp"),
        "erf": program_of("erf"),
        "tanh": program_of("tanh"),
        "sigmoid": program_of("sigmoid"),
        "relu": program_of("relu"),
        "leaky_relu": program_of("leaky_relu", slope=0.2),
        "softmax": program_of("softmax", axis=1),
        "matmul": program_of("matmul", _RNG.normal(size=(20, 4))),
        "conv1d": program_of(
            "conv1d",
            _RNG.normal(size=(6, 1, 5)),
            _RNG.normal(size=6),
            stride=2,
            dilation=3,
            groups=3,
            pad=[6, 5],
        ),
        "conv2d": _square_conv(),
        "max_pool2d": _pooled(),
        "pad": program_of("pad", before=[1, 2], after=[0, 3]),
        "lookup": _looked_up(),
        "frame": program_of("frame", length=6, hop=4),
        "mean": program_of("mean", axes=[2]),
        "sum": program_of("sum", axes=[1, 2], keepdims=False),
        "max": program_of("max", axes=[-1]),
        "min": program_of("min", axes=[1], keepdims=False),
        "sort": program_of("sort"),
        "concat": program_of("concat", "x", axis=1),
        "reshape": program_of("reshape", shape=[6, -1]),
        "transpose": program_of("transpose", axes=[0, 2, 1]),
        "slice": program_of("slice", axis=2, start=17, stop=2, step=-3),
        "gather": program_of("gather", np.array([2, 0, 2, -1]), axis=1),
        "trees": flat_trees(random_trees()),
        "conv2d_last": _conv2d_last(),
        "max_pool2d_last": _pooled_last(),
        "quantize": _round_trip(),
        "dequantize": _round_trip(),
        "requantize": _eight("requantize", x_scale=0.03, x_zero=-4, scale=0.05, zero=9),
        "conv2d_int8": _conv_int8(),
        "dense_int8": _dense_int8(),
        "add_int8": _both("add_int8"),
        "mul_int8": _both("mul_int8"),
        "mean_int8": _eight("mean_int8", axes=[2], x_scale=0.03, x_zero=-4, scale=0.01, zero=3),
        "average_pool_int8": _average(),
        "table_int8": _eight("table_int8", _RNG.integers(-128, 128, 256).astype(np.int8)),
        "softmax_int8": _eight("softmax_int8", x_scale=0.03),
    }
)
"""Primitive -> a program of it; each takes `windows`."""
