"""A small program and bundle that the device tests share."""

from __future__ import annotations

import numpy as np

from edgegraft_edge.bundle import Bundle, make
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Channel, WindowSpec

TOY_SPEC = WindowSpec(
    length_s=2.0,
    stride_s=0.5,
    rate_hz=10.0,
    channels=(Channel("acc_x", "m/s2"), Channel("acc_y", "m/s2"), Channel("acc_z", "m/s2")),
)


def toy_program(n_channels: int = 3) -> Program:
    """Convolution, pooling, a hidden layer and softmax: enough arithmetic to round differently."""
    rng = np.random.default_rng(7)
    draft = Draft()
    hidden = draft.add(
        "conv1d", "x", rng.normal(size=(8, n_channels, 5)), rng.normal(size=8), pad=[2, 2]
    )
    hidden = draft.add("tanh", hidden)
    pooled = draft.add(
        "concat",
        draft.add("mean", hidden, axes=[2], keepdims=False),
        draft.add("max", hidden, axes=[2], keepdims=False),
        axis=1,
    )
    # About the mean over noise, so that noise gives every class.
    usual = draft.finish(pooled).run(rng.normal(size=(64, n_channels, 20))).mean(axis=0)
    logits = draft.add("matmul", draft.add("sub", pooled, usual), 6 * rng.normal(size=(16, 3)))
    return draft.finish(draft.add("softmax", logits, axis=-1))


def make_toy(**options: object) -> Bundle:
    golden = np.random.default_rng(3).normal(size=(6, 3, 20))
    named = {"lineage": {"strategy": "probe"}, "licences": {"weights": "Apache-2.0"}, **options}
    return make(toy_program(), TOY_SPEC, ("fall", "rest", "walk"), golden=golden, **named)
