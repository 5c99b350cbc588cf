"""A ridge head that is pulled toward the sources' head, as far as the target's labels allow.

``min ||Z w - y||^2 + s ||w - w_s||^2`` is a ridge of what the sources' head leaves unexplained.
Its strength goes by exact leaving out on the target, up to where nothing but the sources' head is
left.

Source: J. Yang, R. Yan, A. Hauptmann, Cross-domain video concept detection using adaptive SVMs,
2007; T. Tommasi, F. Orabona, B. Caputo, Safety in numbers: learning categories from few examples
with multi model knowledge transfer, CVPR 2010 (as least squares, with exact leave-one-out).
"""

from __future__ import annotations

import numpy as np

from edgegraft.adapt.calibration import best_temperature, softmax
from edgegraft.adapt.hat import hat, linear_head
from edgegraft.adapt.ridge import STRENGTHS, TEMPERATURES
from edgegraft.adapt.transfer import Fit, View, fit_view
from edgegraft_edge.signal import Array

FAR = (1e3, 1e4, 1e6)
"""Strengths beyond the usual: at the last the head is the sources' but for a constant."""


def fit_pulled(view: View) -> Fit:
    """The head of a view; the sources' own where the target has no labels, or few to judge by."""
    rows = view.rows
    if not rows.n_target or not len(rows.source):
        return fit_view(view, rows.codes)
    source = np.where(np.arange(len(rows.codes)) >= rows.n_target, rows.codes, -1)
    start = fit_view(view, source)
    target = rows.target
    goal = np.eye(rows.n_classes)[rows.codes[target]]
    z = np.asarray(view.z, dtype=np.float64)
    usual = np.where(z.std(axis=0) > 0, z.std(axis=0), np.inf)
    system = hat(view.z[target] / usual.astype(np.float32), view.weights[target], one_scale=True)
    fitted = np.flatnonzero(source >= 0)
    sources = view.system(fitted)
    known = np.eye(rows.n_classes)[source[fitted]]

    def said_without(block: Array) -> tuple[Array, Array]:
        """Weight and bias of the sources' head without their rows of a block."""
        gone = np.flatnonzero(np.isin(fitted, block))
        targets = known.copy()
        if len(gone):
            targets[gone] = sources.apart(known, start.strength, gone)
        return sources.coefficients(targets, start.strength)

    weight, bias = said_without(np.zeros(0, dtype=np.int64))
    explained = z[target] @ weight + bias

    def left_out(blocks: list[Array], strength: float) -> Array:
        own = [block[block < rows.n_target] for block in blocks]
        shared = [bool(np.isin(block, fitted).any()) for block in blocks]
        alone = [block for block, both in zip(own, shared, strict=True) if not both]
        table = explained + system.left_out(goal - explained, strength, alone)
        for block, mine, both in zip(blocks, own, shared, strict=True):
            if both:
                base = z[target] @ (pair := said_without(block))[0] + pair[1]
                table[mine] = base[mine] + system.apart(goal - base, strength, mine)
        return np.asarray(table)

    truth, counts = rows.codes[target], view.weights[target]
    strength, temperature, table = FAR[-2], start.temperature, None
    blocks = rows.blocks(target)
    if blocks and len(target) > 1:
        singles = rows.blocks(target, whole=False)
        losses = {
            each: best_temperature(left_out(singles, each), truth, TEMPERATURES, weights=counts)[1]
            for each in (*STRENGTHS, *FAR)
        }
        strength = min(losses, key=lambda each: losses[each])
        table = left_out(blocks, strength)
        temperature = best_temperature(table, truth, TEMPERATURES, weights=counts)[0]
    more, offset = system.coefficients(goal - explained, strength)
    weight, bias = weight + more / usual[:, None], bias + offset
    own = softmax((view.aligned.own @ weight + bias) / temperature)
    weight, bias = view.aligned.folded(weight, bias)
    head = linear_head(weight, bias, temperature)
    said = None if table is None else softmax(table / temperature)
    return Fit(head, own, said, strength, temperature)
