"""An integer program computed in torch with floats, so that its weights can be trained.

Every int8 value is held as the real number that it stands for, rounded to its step and cut to its
range as the integer kernels do; the gradient passes rounding as if it were not there, and stops
where the range cuts. Weights are rounded anew at each call, with the scale of each output channel.

Sources: the straight-through estimator, Bengio, Leonard, Courville, 2013; quantisation in
training, Jacob et al., CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegraft.compress.rewrite import Weights
from edgegraft.zoo.torch_program import torch_function
from edgegraft_edge.integer import HIGHEST, INTEGER, LOWEST
from edgegraft_edge.primitives import MOVES
from edgegraft_edge.program import INPUT, Op, Program
from edgegraft_edge.signal import Array

if TYPE_CHECKING:
    from torch import Tensor

WEIGHT, BIAS = ".weight", ".bias"
Steps = Mapping[str, tuple[float, int]]


def parameters_of(weights: Mapping[str, Weights]) -> dict[str, Array]:
    """Float weights as parameters by name, "v7.weight" and "v7.bias"."""
    found = {}
    for name, pair in weights.items():
        found[name + WEIGHT] = np.asarray(pair.weight, np.float32)
        found[name + BIAS] = np.asarray(pair.bias, np.float32)
    return found


def run_fake(program: Program, parameters: Mapping[str, Tensor], steps: Steps, x: Tensor) -> Tensor:
    """The result of an integer program, differentiable in its float weights.

    Args:
        parameters: as `parameters_of`; operations without any keep their constants.
        steps: (scale, zero) of int8 values.
        x: windows (n_windows, ...).
    """
    import torch

    values: dict[str, Any] = {
        n: torch.from_numpy(np.array(a)) for n, a in program.constants.items()
    }
    values[INPUT] = x
    known = dict(steps)
    for op in program.ops:
        given = [values[name] for name in op.inputs]
        if op.kind in INTEGER:
            values[op.output] = _integer(op, given, parameters, known)
        else:
            attrs = dict(op.attrs)
            if op.kind in MOVES and op.inputs[0] in known:
                scale, zero = known.setdefault(op.output, known[op.inputs[0]])
                if op.kind == "pad":
                    attrs["value"] = (attrs.get("value", 0) - zero) * scale
            values[op.output] = torch_function(op.kind)(*given, **attrs)
    found: Tensor = values[program.output]
    return found


def _integer(
    op: Op, given: list[Any], parameters: Mapping[str, Tensor], known: dict[str, tuple[float, int]]
) -> Tensor:
    import torch

    attrs = op.attrs
    if "scale" in attrs and op.kind != "dequantize":
        known[op.output] = (attrs["scale"], attrs["zero"])
    if op.kind == "dequantize":
        found: Tensor = given[0]
        return found
    if op.kind == "softmax_int8":
        return torch.softmax(given[0], dim=-1)  # its rounding would hide what is unlikely
    if op.kind == "table_int8":
        return _table(given[0], given[1], known[op.inputs[0]], known[op.output])
    if op.kind == "average_pool_int8":
        known[op.output] = known[op.inputs[0]]
        real = _average(given[0], attrs)
    elif op.kind in ("conv2d_int8", "dense_int8"):
        real = _weighted(op, given, parameters)
    elif op.kind == "mean_int8":
        real = torch.mean(given[0], dim=tuple(attrs["axes"]), keepdim=attrs.get("keepdims", True))
        real = real * (attrs["x_scale"] / known[op.inputs[0]][0])  # a sum counts them all
    elif op.kind in ("add_int8", "mul_int8"):
        real = given[0] + given[1] if op.kind == "add_int8" else given[0] * given[1]
    else:  # quantize and requantize
        real = given[0]
    scale, zero = known[op.output]
    return rounded(real, scale, zero, attrs.get("low", LOWEST), attrs.get("high", HIGHEST))


def rounded(
    real: Tensor, scale: float, zero: int, low: int = LOWEST, high: int = HIGHEST
) -> Tensor:
    """Real numbers on the steps of int8; the gradient is one inside the range, else nothing."""
    held = real.clamp((low - zero) * scale, (high - zero) * scale)
    return held + ((held / scale).round() * scale - held).detach()


def _weighted(op: Op, given: list[Any], parameters: Mapping[str, Tensor]) -> Tensor:
    """A convolution or a matrix with weights and bias on their steps."""
    import torch

    x, weight, bias, weight_scale = given
    name, attrs = op.output, op.attrs
    shape = (-1,) + (1,) * (weight.ndim - 1)
    if name + WEIGHT in parameters:
        real, real_bias = parameters[name + WEIGHT], parameters[name + BIAS]
        largest = real.detach().abs().reshape(len(real), -1).amax(dim=1)
        weight_scale = (largest / HIGHEST).clamp(min=1e-9)
        step = weight_scale.reshape(shape)
        weight = real + ((real / step).round() * step - real).detach()
        sums = weight_scale * attrs["x_scale"]
        bias = real_bias + ((real_bias / sums).round() * sums - real_bias).detach()
    else:
        weight = weight.float() * weight_scale.reshape(shape)
        bias = bias.float() * weight_scale * attrs["x_scale"]
    if op.kind == "dense_int8":
        return torch.nn.functional.linear(x, weight, bias)
    kept = {k: attrs[k] for k in ("stride", "dilation", "groups", "pad") if k in attrs}
    found: Tensor = torch_function("conv2d_last")(x, weight, bias, **kept)
    return found


def _average(x: Tensor, attrs: Mapping[str, Any]) -> Tensor:
    import torch
    from torch.nn import functional

    top, left, bottom, right = attrs.get("pad", (0, 0, 0, 0))
    edges = (left, right, top, bottom)
    first = x.permute(0, 3, 1, 2)
    kernel, stride = tuple(attrs["kernel"]), tuple(attrs["stride"])
    sums, counts = (
        functional.avg_pool2d(functional.pad(each, edges), kernel, stride)
        for each in (first, torch.ones_like(first[:1]))
    )
    return (sums / counts).permute(0, 2, 3, 1)


def _table(x: Tensor, table: Tensor, given: tuple[float, int], made: tuple[float, int]) -> Tensor:
    """Results by table, with the slope between its entries as gradient."""
    import torch

    results = (table.float() - made[1]) * made[0]
    slopes = torch.gradient(results)[0] / given[0]
    place = ((x.detach() / given[0]).round() + given[1] - LOWEST).long().clamp(0, 255)
    return results[place] + slopes[place] * (x - x.detach())
