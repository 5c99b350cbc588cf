"""Windows in units of their own, in a program and in torch, and forecasts made from forecasts.

A window of zero mean and unit deviation looks the same whatever is measured and wherever its level
lies; a forecast in that unit goes back by the same two numbers.

Source: Kim et al., Reversible Instance Normalization, ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgegraft_edge.program import Draft, Program

if TYPE_CHECKING:
    from torch import Tensor

SHARP = 1e-5
"""A deviation below this share of the level is rounding of float32."""
_TINY = 1e-12


class Reach(Protocol):
    """How much a network sees, and how far it looks at once."""

    @property
    def context(self) -> int: ...

    @property
    def horizon(self) -> int: ...


def unit_of(draft: Draft, value: str, length: int, context: int) -> tuple[str, str, str]:
    """Writes windows of the context's length in units of their own; their level, their scale."""
    if length > context:
        value = draft.add("slice", value, axis=2, start=length - context, stop=length)
    level = draft.add("mean", value, axes=[2])
    centred = draft.add("sub", value, level)
    power = draft.add("mean", draft.add("mul", centred, centred), axes=[2])
    sharp = draft.add("mul", level, np.float32(SHARP))
    floor = draft.add("add", draft.add("mul", sharp, sharp), np.float32(_TINY))
    scale = draft.add("sqrt", draft.add("add", power, floor))
    unit = draft.add("div", centred, scale)
    if length < context:
        unit = draft.add("pad", unit, before=[0, context - length], after=[0, 0])
    return unit, level, scale


def rolled_out(
    draft: Draft, ahead: Callable[[str, int], str], reach: Reach, length: int, horizon: int
) -> Program:
    """The program that forecasts `horizon` steps; those a network cannot reach, from forecasts.

    Args:
        ahead: writes what the network says of windows in their unit, so many steps.
        length: n_timepoints of the windows.
    """
    value = "x"
    found: list[str] = []
    for start in range(0, horizon, reach.horizon):
        n_steps = min(reach.horizon, horizon - start)
        unit, level, scale = unit_of(draft, value, length, reach.context)
        said = draft.add("mul", ahead(unit, n_steps), scale)
        found.append(draft.add("add", said, level))
        if start + n_steps < horizon:
            first = max(0, length + n_steps - reach.context)
            kept = draft.add("slice", value, axis=2, start=first, stop=length)
            value, length = draft.add("concat", kept, found[-1], axis=2), length - first + n_steps
    return draft.finish(draft.add("concat", *found, axis=2) if len(found) > 1 else found[0])


def in_unit(x: Tensor, shape: Reach) -> tuple[Tensor, Tensor, Tensor]:
    """Windows (..., n_timepoints) -> (..., context) in their own units; their level and scale."""
    import torch
    from torch.nn import functional

    x = x[..., -shape.context :]
    level = x.mean(dim=-1, keepdim=True)
    centred = x - level
    floor = (SHARP * level).square() + _TINY
    scale = torch.sqrt(centred.square().mean(dim=-1, keepdim=True) + floor)
    return functional.pad(centred / scale, (shape.context - x.shape[-1], 0)), level, scale
