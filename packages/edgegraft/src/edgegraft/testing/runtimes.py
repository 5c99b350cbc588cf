"""The contracts of an exporter and of a backend: the two ends of a runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from edgegraft.export.exporter import Exporter
from edgegraft.testing.ground import (
    TIES,
    Check,
    assert_agrees,
    assert_frozen,
    run_all,
)
from edgegraft.testing.samples import sample_windows
from edgegraft_edge import bundle as bundles
from edgegraft_edge import runner
from edgegraft_edge.backends import Backend
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.errors import ModelError
from edgegraft_edge.heads import LinearHead
from edgegraft_edge.program import Draft, Program, chain
from edgegraft_edge.signal import series_spec
from edgegraft_edge.steps import standard


def sample_bundle(n_channels: int = 3, n_timepoints: int = 64) -> Bundle:
    """A small bundle whose program holds a step, a convolution, a comparison and a head."""
    windows = sample_windows(n_channels, n_timepoints)
    rng = np.random.default_rng(0)
    draft = Draft()
    weight = rng.normal(size=(4, n_channels, 5))
    value = draft.add("conv1d", "x", weight, np.zeros(4), stride=2, pad=[2, 2])
    shares = draft.add("mean", draft.add("greater", value, np.float32(0.1234)), axes=[2])
    peaks = draft.add("max", draft.add("relu", value), axes=[2])
    flat = draft.add("reshape", draft.add("concat", shares, peaks, axis=1), shape=[-1])
    head = LinearHead(rng.normal(size=(8, 3)).astype(np.float32), np.zeros(3, np.float32))
    program: Program = chain(standard(windows.x), draft.finish(flat), head.program())
    return bundles.make(program, windows.spec, windows.classes, golden=windows.x[:6])


def _options(exporter: Exporter, name: str) -> None:
    assert_frozen(exporter)
    for option in dataclasses.fields(exporter):  # type: ignore[arg-type]
        assert option.metadata.get("help"), f"option {option.name} has no help sentence"


def _adds_a_model(exporter: Exporter, name: str) -> None:
    bundle = sample_bundle()
    exported = exporter.export(bundle)
    if hasattr(exporter, "sources"):
        assert exporter.sources(exported), "it gives no sources"
    else:
        assert name in exported.runtimes, f"the bundle has {exported.runtimes}, not {name!r}"
    assert bundle.runtimes == ("numpy",), "it changed the bundle that it was given"
    assert exported.program.as_dict() == bundle.program.as_dict(), "it changed the program"
    assert np.array_equal(exported.expected, bundle.expected), "it changed the golden windows"


def _agrees(exporter: Exporter, name: str) -> None:
    for n_channels, n_timepoints in ((1, 30), (9, 64)):
        exported = exporter.export(sample_bundle(n_channels, n_timepoints))
        if hasattr(exporter, "sources"):
            continue  # no backend runs sources: `export` has compared them
        (parity,) = runner.verify(exported, [name])
        assert parity.ok, f"{n_channels} x {n_timepoints}: {parity.reason}"


def _repeats(exporter: Exporter, name: str) -> None:
    if hasattr(exporter, "sources"):
        one, other = (exporter.sources(sample_bundle()) for _ in range(2))
        assert dict(one) == dict(other), "the same bundle gives two folders"
        return
    first, second = (exporter.export(sample_bundle()).model(name) for _ in range(2))
    assert first == second, "the same bundle gives two models"


EXPORTER_CHECKS: Mapping[str, Check] = {
    "options": _options,
    "adds_a_model": _adds_a_model,
    "agrees": _agrees,
    "repeats": _repeats,
}


def check_exporter(
    exporter: Exporter, name: str, *, leave_out: Mapping[str, str] | None = None
) -> None:
    """All contracts of the exporter registered under `name`; its backend must be installed.

    It adds a model that agrees with the program in its runtime, changes nothing else, and
    gives the same bytes twice. One that writes sources (it has `sources`) adds no model.
    """
    run_all(EXPORTER_CHECKS, type(exporter).__name__, leave_out or {}, exporter, name)


def _computes(backend: Backend, bundle: Bundle) -> None:
    run = backend.open(bundle.model(backend.name))
    x = sample_windows(*series_spec(bundle.spec).shape, seed=1).x
    together = run(x)
    assert together.dtype == np.float32, f"probabilities are {together.dtype}"
    assert_agrees(together, bundle.program.run(x), ties=TIES)
    alone = np.concatenate([run(x[index : index + 1]) for index in range(3)])
    assert_agrees(alone, together[:3], ties=TIES)


def _leaves_windows(backend: Backend, bundle: Bundle) -> None:
    run = backend.open(bundle.model(backend.name))
    x = bundle.golden.copy()
    run(x)
    assert np.array_equal(x, bundle.golden), "it changed its input"


def _refuses_damage(backend: Backend, bundle: Bundle) -> None:
    model = bundle.model(backend.name)
    for what, damaged in (("no bytes", b""), ("half a model", model[: len(model) // 2])):
        try:
            backend.open(damaged)
        except ModelError:
            continue
        raise AssertionError(f"{what} is opened without a ModelError")


def _refuses_other_windows(backend: Backend, bundle: Bundle) -> None:
    run = backend.open(bundle.model(backend.name))
    other = np.zeros((2, bundle.spec.shape[0] + 1, *bundle.spec.shape[1:]), np.float32)
    try:
        run(other)
    except ModelError:
        return
    raise AssertionError("windows with one channel too many are scored without a ModelError")


BACKEND_CHECKS: Mapping[str, Check] = {
    "computes": _computes,
    "leaves_windows": _leaves_windows,
    "refuses_damage": _refuses_damage,
    "refuses_other_windows": _refuses_other_windows,
}


def check_backend(
    backend: Backend, bundle: Bundle, *, leave_out: Mapping[str, str] | None = None
) -> None:
    """All contracts of a backend, on a bundle that holds a model for it.

    It computes what the program computes, one window or many, leaves its input alone, and
    answers damaged models and unfit windows with a `ModelError`.
    """
    run_all(BACKEND_CHECKS, type(backend).__name__, leave_out or {}, backend, bundle)
