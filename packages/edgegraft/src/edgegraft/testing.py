"""Contract checks for whoever adds a backbone, strategy, source, step or exporter.

Each ``check_...`` runs a named list of small checks and raises one `AssertionError` that lists
every contract that does not hold. Our own tests run them over everything in the catalog; a
package of yours runs them the same way::

    from edgegraft.testing import check_backbone

    def test_my_backbone_keeps_the_contract():
        check_backbone(MyBackbone())

A check that cannot hold for a good reason is left out by name, with the reason in view:
``check_backbone(mine, leave_out={"long_windows": "trained for 128 timepoints only"})``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgegraft.adapt.strategy import Strategy
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone, BackboneCard
from edgegraft_edge import tensors
from edgegraft_edge.errors import EdgegraftError
from edgegraft_edge.program import Program
from edgegraft_edge.signal import Array, Windows

__all__ = [
    "assert_agrees",
    "check_backbone",
    "check_step",
    "check_strategy",
    "sample_windows",
]

TOLERANCE = 1e-4
TIES = 1e-3
_COMPARING = {"greater", "trees"}


def sample_windows(
    n_channels: int = 3,
    n_timepoints: int = 64,
    n_per_class: int = 8,
    n_classes: int = 3,
    *,
    seed: int = 0,
    rate_hz: float = 50.0,
) -> Windows:
    """Labelled windows that any backbone can tell apart: each class has its own tone and level.

    Groups are ``g0`` to ``g3`` in turn; class names are not in alphabetical order of their code.

    >>> windows = sample_windows(n_channels=2, n_timepoints=32)
    >>> windows.x.shape, windows.classes
    ((24, 2, 32), ('rest', 'spin', 'walk'))
    """
    rng = np.random.default_rng(seed)
    words = ["walk", "rest", "spin", "lift", "fall", "turn"][:n_classes]
    code = np.tile(np.arange(n_classes), n_per_class)
    time = np.arange(n_timepoints) / n_timepoints
    phase = rng.uniform(0, 2 * np.pi, size=(len(code), n_channels, 1))
    gain = 1.0 + 0.5 * np.arange(n_channels)[:, None]
    tone = np.sin(2 * np.pi * (2 + 3 * code[:, None, None]) * time + phase)
    x = gain * tone + 0.5 * code[:, None, None] + 0.1 * rng.normal(size=tone.shape)
    return Windows.of(
        x,
        y=[words[index] for index in code],
        groups=[f"g{index // n_classes % 4}" for index in range(len(code))],
        rate_hz=rate_hz,
        channels=[f"c{index}" for index in range(n_channels)],
    )


def assert_agrees(
    found: Array, expected: Array, *, ties: float = 0.0, tolerance: float = TOLERANCE
) -> None:
    """Assert that two arrays are equal to `tolerance`, relative to the size of their values.

    The size of a value is its own, or that of its column, or a hundredth of all, what is largest.
    At most the share `ties` of the entries may differ by more: where a program compares, a
    value on the threshold may round to either side in two runtimes.

    >>> assert_agrees(np.array([1.0, 2.0]), np.array([1.0, 2.00001]))
    """
    assert found.shape == expected.shape, f"shape {found.shape} where {expected.shape} is expected"
    size = np.abs(expected.astype(np.float64))
    floor = np.maximum(size.mean(axis=0, keepdims=True), max(float(size.mean()) / 100, 1e-6))
    scale = np.maximum(size, floor)
    off = np.abs(found.astype(np.float64) - expected) / scale
    share = float(np.mean(~(off <= tolerance)))
    assert share <= ties, (
        f"{share:.2%} of the values differ by more than {tolerance:g}, the worst by {off.max():.2g}"
    )


Check = Callable[..., None]


def _run_all(
    checks: Mapping[str, Check], what: str, leave_out: Mapping[str, str], *args: Any
) -> None:
    unknown = sorted(set(leave_out) - set(checks))
    assert not unknown, f"leave_out names no check: {unknown}; there are {sorted(checks)}"
    failures = []
    for name, check in checks.items():
        if name in leave_out:
            continue
        try:
            check(*args)
        except (AssertionError, EdgegraftError) as error:
            failures.append(f"{name}: {error or 'does not hold'}")
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
    assert not failures, f"{what} breaks {len(failures)} contract(s):\n  " + "\n  ".join(failures)


def _ties(program: Program) -> float:
    return TIES if any(op.kind in _COMPARING for op in program.ops) else 0.0


def _onnx(program: Program, x: Array) -> Array:
    """What ONNX Runtime makes of the program."""
    import onnxruntime

    from edgegraft.export.onnx import emit

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        emit(program, x.shape[1], x.shape[2]), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": x})[0])


def _assert_portable(program: Program, x: Array, expected: Array) -> None:
    """The program, the program saved and loaded, and its ONNX graph all give `expected`."""
    ties = _ties(program)
    assert_agrees(program.run(x), expected, ties=ties)
    text = json.dumps(program.as_dict())
    loaded = Program.from_dict(json.loads(text), tensors.load(tensors.dump(program.constants)))
    assert np.array_equal(loaded.run(x), program.run(x)), "a saved and loaded program differs"
    assert_agrees(_onnx(program, x), expected, ties=ties)


def _assert_untouched(windows: Windows, copy: Windows) -> None:
    for name in ("x", "y", "groups"):
        assert np.array_equal(getattr(windows, name), getattr(copy, name)), f"it changed {name}"


def _copy(windows: Windows) -> Windows:
    return windows.take(np.arange(len(windows)))


def _assert_frozen(value: Any) -> None:
    assert dataclasses.is_dataclass(value), f"{type(value).__name__} is no dataclass"
    parameters = getattr(type(value), "__dataclass_params__", None)
    assert getattr(parameters, "frozen", False), f"{type(value).__name__} is not frozen"


# -- backbones


def _backbone_is_frozen(backbone: Backbone) -> None:
    _assert_frozen(backbone)
    fitted = backbone.fit(sample_windows(), seed=0)
    _assert_frozen(fitted)
    assert type(fitted) is type(backbone), "fit gives another type"


def _backbone_card(backbone: Backbone) -> None:
    card = backbone.card
    assert isinstance(card, BackboneCard), f"card is a {type(card).__name__}"
    for name in ("name", "architecture", "summary", "licence"):
        assert getattr(card, name), f"the card has no {name}"
    assert card.kind in ("fixed", "pretrained", "random"), f"kind {card.kind!r}"
    assert card.n_parameters >= 0
    json.dumps(dict(card.options))


def _embeds(backbone: Backbone, n_channels: int, n_timepoints: int) -> None:
    windows = sample_windows(n_channels, n_timepoints)
    z = backbone.fit(windows, seed=0).embed(windows.x)
    assert z.dtype == np.float32, f"embeddings are {z.dtype}, not float32"
    assert z.ndim == 2, f"embeddings have {z.ndim} axes"
    assert len(z) == len(windows), f"{len(z)} embeddings of {len(windows)} windows"
    assert np.isfinite(z).all(), "embeddings are not finite"
    assert np.ptp(z, axis=0).max() > 0, "all windows have the same embedding"


def _backbone_quiet_channels(backbone: Backbone) -> None:
    windows = sample_windows()
    fitted = backbone.fit(windows, seed=0)
    still = np.zeros_like(windows.x[:4])
    still[1] = 5.0
    still[2, 0] = windows.x[0, 0]
    assert np.isfinite(fitted.embed(still)).all(), "constant windows give no finite embedding"


def _backbone_windows_apart(backbone: Backbone) -> None:
    windows = sample_windows()
    fitted = backbone.fit(windows, seed=0)
    together = fitted.embed(windows.x)
    alone = np.concatenate([fitted.embed(windows.x[i : i + 1]) for i in range(4)])
    assert_agrees(alone, together[:4], ties=TIES)


def _backbone_repeats(backbone: Backbone) -> None:
    windows = sample_windows()
    first, second = (backbone.fit(windows, seed=3).embed(windows.x) for _ in range(2))
    assert np.array_equal(first, second), "the same seed gives two embeddings"


def _backbone_reads_no_labels(backbone: Backbone) -> None:
    windows = sample_windows()
    other = dataclasses.replace(windows, y=windows.y[::-1].copy())
    first, second = (backbone.fit(w, seed=0).embed(windows.x) for w in (windows, other))
    assert np.array_equal(first, second), "the embedding depends on the labels"


def _backbone_leaves_input(backbone: Backbone) -> None:
    windows = sample_windows()
    copy = _copy(windows)
    windows.x.flags.writeable = False
    backbone.fit(windows, seed=0).embed(windows.x)
    _assert_untouched(windows, copy)


def _backbone_portable(backbone: Backbone, n_channels: int, n_timepoints: int) -> None:
    train, test = (sample_windows(n_channels, n_timepoints, seed=seed) for seed in (0, 1))
    fitted = backbone.fit(train, seed=0)
    _assert_portable(fitted.program(n_channels, n_timepoints), test.x, fitted.embed(test.x))


BACKBONE_CHECKS: Mapping[str, Check] = {
    "frozen": _backbone_is_frozen,
    "card": _backbone_card,
    "one_channel": lambda backbone: _embeds(backbone, 1, 64),
    "nine_channels": lambda backbone: _embeds(backbone, 9, 100),
    "short_windows": lambda backbone: _embeds(backbone, 2, 24),
    "long_windows": lambda backbone: _embeds(backbone, 2, 501),
    "quiet_channels": _backbone_quiet_channels,
    "windows_apart": _backbone_windows_apart,
    "repeats": _backbone_repeats,
    "reads_no_labels": _backbone_reads_no_labels,
    "leaves_input": _backbone_leaves_input,
    "portable_one_channel": lambda backbone: _backbone_portable(backbone, 1, 75),
    "portable_nine_channels": lambda backbone: _backbone_portable(backbone, 9, 64),
}


def check_backbone(backbone: Backbone, *, leave_out: Mapping[str, str] | None = None) -> None:
    """All contracts of a backbone that is not fitted yet; `leave_out` maps checks to reasons.

    It embeds windows of 1 to 9 channels and 24 to 501 timepoints into finite float32, each
    window by itself, the same for the same seed, without labels and without changing its
    input; and its program, saved, loaded, and as ONNX, computes the same.
    """
    _run_all(BACKBONE_CHECKS, type(backbone).__name__, leave_out or {}, backbone)


# -- steps


def check_step(
    step: Callable[[Array], Program], *, leave_out: Mapping[str, str] | None = None
) -> None:
    """All contracts of a preprocessing step: training windows in, program out.

    The program keeps the shape of windows, is finite where a channel is constant, computes the
    same when saved, loaded and as ONNX, and making it changes nothing.
    """
    _run_all(STEP_CHECKS, getattr(step, "__name__", "step"), leave_out or {}, step)


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
    _assert_portable(program, fresh, program.run(fresh))


STEP_CHECKS: Mapping[str, Check] = {
    "keeps_shape": _step_keeps_shape,
    "quiet_channels": _step_quiet_channels,
    "leaves_input": _step_leaves_input,
    "repeats_and_is_portable": _step_repeats_and_is_portable,
}


# -- strategies


def _strategy_options(strategy: Strategy, backbone: Backbone, task: Task) -> None:
    _assert_frozen(strategy)
    for option in dataclasses.fields(strategy):  # type: ignore[arg-type]
        has_default = (option.default, option.default_factory) != (dataclasses.MISSING,) * 2
        assert has_default, f"option {option.name} has no default"
        assert option.metadata.get("help"), f"option {option.name} has no help sentence"


def _strategy_learns(strategy: Strategy, backbone: Backbone, task: Task) -> None:
    train, test = sample_windows(seed=0), sample_windows(seed=1)
    adapted = strategy.adapt(backbone, train, task, seed=0)
    said = adapted.predict(test)
    assert said.classes == train.classes, f"classes {said.classes}, not {train.classes}"
    assert said.probabilities.shape == (len(test), 3), f"shape {said.probabilities.shape}"
    assert said.probabilities.dtype == np.float32, f"probabilities are {said.probabilities.dtype}"
    assert np.allclose(said.probabilities.sum(axis=1), 1, atol=1e-4), "rows do not sum to one"
    accuracy = float(np.mean(said.labels == test.y))
    assert accuracy > 0.5, f"accuracy {accuracy:.2f} where chance is 0.33 and 1.00 is easy"
    json.dumps(dict(adapted.lineage))


def _strategy_repeats(strategy: Strategy, backbone: Backbone, task: Task) -> None:
    train, test = sample_windows(seed=0), sample_windows(seed=1)
    first, second = (
        strategy.adapt(backbone, train, task, seed=5).predict(test).probabilities for _ in range(2)
    )
    assert np.allclose(first, second, atol=1e-5), "the same seed gives two models"


def _strategy_unlabelled(strategy: Strategy, backbone: Backbone, task: Task) -> None:
    train = sample_windows(seed=0)
    y = train.y.copy()
    y[::4] = ""
    adapted = strategy.adapt(backbone, dataclasses.replace(train, y=y), task, seed=0)
    assert adapted.classes == train.classes, f"classes {adapted.classes} with unlabelled windows"


def _strategy_single_member(strategy: Strategy, backbone: Backbone, task: Task) -> None:
    train = sample_windows(seed=0)
    keep = (train.y != "spin") | (np.arange(len(train)) == np.flatnonzero(train.y == "spin")[0])
    said = strategy.adapt(backbone, train.take(keep), task, seed=0).predict(train)
    assert np.isfinite(said.probabilities).all(), "a class with one member breaks it"


def _strategy_leaves_input(strategy: Strategy, backbone: Backbone, task: Task) -> None:
    train = sample_windows(seed=0)
    copy = _copy(train)
    strategy.adapt(backbone, train, task, seed=0)
    _assert_untouched(train, copy)


def _strategy_portable(strategy: Strategy, backbone: Backbone, task: Task) -> None:
    train, test = sample_windows(seed=0), sample_windows(seed=1)
    adapted = strategy.adapt(backbone, train, task, seed=0)
    _assert_portable(adapted.program, test.x, adapted.predict(test).probabilities)


def _strategy_watch(strategy: Strategy, backbone: Backbone, task: Task) -> None:
    seen: list[tuple[str, Any]] = []

    def watch(event: str, values: Mapping[str, Any]) -> None:
        seen.append((event, dict(values)))

    strategy.adapt(backbone, sample_windows(seed=0), task, seed=0, watch=watch)
    assert all(isinstance(event, str) for event, _ in seen), "an event is not text"
    json.dumps([values for _, values in seen])


STRATEGY_CHECKS: Mapping[str, Check] = {
    "options": _strategy_options,
    "learns": _strategy_learns,
    "repeats": _strategy_repeats,
    "unlabelled": _strategy_unlabelled,
    "single_member": _strategy_single_member,
    "leaves_input": _strategy_leaves_input,
    "portable": _strategy_portable,
    "watch": _strategy_watch,
}


def check_strategy(
    strategy: Strategy,
    backbone: Backbone,
    task: Task,
    *,
    leave_out: Mapping[str, str] | None = None,
) -> None:
    """All contracts of a strategy, on a backbone that is not fitted yet.

    Its options have defaults and help; it learns an easy problem, repeats for the same seed,
    takes unlabelled windows and a class with one member, changes nothing it was given; what
    it makes has a JSON lineage and a program that computes the same everywhere.
    """
    _run_all(STRATEGY_CHECKS, type(strategy).__name__, leave_out or {}, strategy, backbone, task)
