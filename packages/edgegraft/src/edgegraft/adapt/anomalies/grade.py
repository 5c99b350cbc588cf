"""Scores of several experts made comparable: minus the logarithm of a conformal p-value.

A grade is learned from scores of normal windows that took no part in learning the expert. Inside
their range it follows their ranks, so that of normal windows a share of exp(-g) at most gets a
grade above g; beyond, it grows with the logarithm of the excess, so that strange windows still
differ from stranger ones and no expert drowns the others. The mean of such logarithms is Fisher's
way of joining tests, up to a factor; its border is found from left-out windows, so that nothing
rests on the experts being independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array

N_KNOTS = 24
_LEAST = 5e-3  # scores are about 1 for usual windows: less is rounding


@dataclass(frozen=True, eq=False)
class Grades:
    """From scores of experts (n_windows, n_experts) to grades of the same shape.

    Attributes:
        low: float32 (n_experts, n_knots), where each piece begins.
        width: float32 (n_experts, n_knots), > 0, how long it is.
        rise: float32 (n_experts, n_knots), by how much the grade grows along it.
        top: float32 (n_experts,), the highest score of a left-out normal window.
        excess: float32 (n_experts,), mean excess of the highest tenth, the unit beyond `top`.

    >>> grades = Grades.of(np.linspace(0, 1, 99)[:, None])
    >>> found = grades.apply(np.array([[-1.0], [0.5], [1.0], [5.0]])).ravel().round(2)
    >>> bool((np.diff(found) > 0).all()), round(float(found[2]), 1)
    (True, 3.9)
    """

    low: Array
    width: Array
    rise: Array
    top: Array
    excess: Array

    @classmethod
    def of(cls, held: Array) -> Grades:
        """From scores of left-out normal windows (n_windows, n_experts)."""
        made = [_pieces(np.sort(column.astype(np.float64))) for column in held.T]
        low, width, rise, top, excess = zip(*made, strict=True)
        arrays = (np.stack(low), np.stack(width), np.stack(rise), np.array(top), np.array(excess))
        return cls(*(np.asarray(array, dtype=np.float32) for array in arrays))

    def apply(self, scores: Array) -> Array:
        """Float32 (n_windows, n_experts)"""
        scores = np.asarray(scores, dtype=np.float32)
        along = np.clip((scores[:, :, None] - self.low) * (1 / self.width), 0, 1)
        beyond = np.maximum((scores - self.top) / self.excess, 0)
        return np.asarray((along * self.rise).sum(axis=2) + np.log1p(beyond), dtype=np.float32)

    def program(self, weights: Sequence[float]) -> Program:
        """From scores (n_windows, n_experts) to the weighted mean of grades (n_windows, 1)."""
        draft = Draft()
        n_experts = len(self.top)
        each = draft.add("reshape", "x", shape=[n_experts, 1])
        along = draft.add("mul", draft.add("sub", each, self.low), 1 / self.width)
        along = draft.add("minimum", draft.add("relu", along), np.float32(1))
        share = np.asarray(weights, dtype=np.float64) / np.sum(weights)
        inside = draft.add("mul", along, self.rise * share[:, None].astype(np.float32))
        inside = draft.add("sum", draft.add("reshape", inside, shape=[-1]), axes=[1])
        over = draft.add("mul", draft.add("sub", "x", self.top), 1 / self.excess)
        over = draft.add("log", draft.add("add", draft.add("relu", over), np.float32(1)))
        outside = draft.add("matmul", over, share[:, None].astype(np.float32))
        return draft.finish(draft.add("add", inside, outside))


def _pieces(held: Array) -> tuple[Array, Array, Array, float, float]:
    """Knots at falling p-values, equally far in their logarithm, for sorted scores (n_windows,)."""
    n = len(held)
    size = max(float(np.abs(held).max()), 1e-6)
    of_rank = -np.log((n + 1 - np.arange(n)) / (n + 1))
    grades = np.linspace(0, of_rank[-1], N_KNOTS + 1)
    knots = np.interp(grades, of_rank, held)
    width = np.maximum(np.diff(knots), max(1e-6 * size, _LEAST))
    tenth = max(1, n // 10)
    start = held[max(0, n - tenth - 1)]
    excess = max(float(held[-tenth:].mean() - start), 0.02 * abs(float(start)), _LEAST)
    return knots[:-1], width, np.diff(grades), float(held[-1]), excess
