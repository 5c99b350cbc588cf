"""The contract of a preprocessing step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgegraft.testing.ground import Check, assert_portable, run_all
from edgegraft.testing.samples import sample_windows
from edgegraft_edge.program import Program
from edgegraft_edge.signal import Array


def check_step(
    step: Callable[[Array], Program], *, leave_out: Mapping[str, str] | None = None
) -> None:
    """All contracts of a preprocessing step: training windows in, program out.

    The program keeps the shape of windows, is finite where a channel is constant, computes the
    same when saved, loaded and as ONNX, and making it changes nothing.
    """
    run_all(STEP_CHECKS, getattr(step, "__name__", "step"), leave_out or {}, step)


def _step_keeps_shape(step: Callable[[Array], Program]) -> None:
    for n_channels in (1, 9):
        x = sample_windows(n_channels, 40).x
        out = step(x).run(x[:5])
        assert out.shape == x[:5].shape, f"windows {x[:5].shape} became {out.shape}"
        assert out.dtype == np.float32, f"windows became {out.dtype}"


def _step_quiet_channels(step: Callable[[Array], Program]) -> None:
    x = sample_windows(3, 40).x.copy()
    x[:, 1] = 7.0
    assert np.isfinite(step(x).run(x)).all(), "a constant channel gives no finite values"


def _step_leaves_input(step: Callable[[Array], Program]) -> None:
    x = sample_windows(3, 40).x
    copy = x.copy()
    x.flags.writeable = False
    step(x).run(x)
    assert np.array_equal(x, copy), "it changed its input"


def _step_repeats_and_is_portable(step: Callable[[Array], Program]) -> None:
    x, fresh = sample_windows(3, 40).x, sample_windows(3, 40, seed=1).x
    program = step(x)
    assert np.array_equal(program.run(fresh), step(x).run(fresh)), "one training set, two programs"
    assert_portable(program, fresh, program.run(fresh))


STEP_CHECKS: Mapping[str, Check] = {
    "keeps_shape": _step_keeps_shape,
    "quiet_channels": _step_quiet_channels,
    "leaves_input": _step_leaves_input,
    "repeats_and_is_portable": _step_repeats_and_is_portable,
}
