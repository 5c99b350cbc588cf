"""Every primitive agrees between NumPy and ExecuTorch; damaged files never reach its runtime."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edgegraft.testing.programs import CASES, flat_trees, program_of, random_trees, windows
from edgegraft_edge.backends.executorch import ExecutorchBackend, sealed, unsealed
from edgegraft_edge.bundle import with_model
from edgegraft_edge.errors import ExportError, ModelError, OptionError
from edgegraft_edge.integer import INTEGER
from edgegraft_edge.primitives import PRIMITIVES
from edgegraft_edge.program import IDENTITY, Draft
from edgegraft_edge.runner import verify
from edgegraft_edge.tokens import READERS

pytest.importorskip("executorch", reason="the extra executorch is not installed")

from edgegraft.export.executorch import ExecutorchExporter, emit, float_kernels
from edgegraft.export.executorch_operators import EMITTERS

FLOAT, EIGHT = sorted(set(CASES) - set(INTEGER)), sorted(INTEGER)


def compute(model, x):
    return ExecutorchBackend().open(model)(x)


def side_by_side(kinds):
    """One program that gives the results of many, flat, and where each of them ends."""
    draft = Draft()
    flat = [draft.add("reshape", draft.call(CASES[kind]), shape=[-1]) for kind in kinds]
    program = draft.finish(draft.add("concat", *flat, axis=1))
    return program, np.cumsum([CASES[kind].run(windows(1))[0].size for kind in kinds])


def assert_agrees(program, x, steps=0.0):
    expected, found = program.run(x), compute(emit(program, *x.shape[1:]), x)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * scale + steps)


def test_every_primitive_has_an_emitter():
    assert set(EMITTERS) == set(PRIMITIVES) - set(READERS)


@pytest.mark.parametrize(
    ("kinds", "steps"),
    [
        (EIGHT, 1.0),
        pytest.param(FLOAT, 0.0, marks=pytest.mark.slow),
    ],
    ids=["int8", "float"],
)
def test_primitives_agree_side_by_side(kinds, steps):
    (program, ends), x = side_by_side(kinds), windows(4)
    found = compute(emit(program, *x.shape[1:]), x)
    expected = program.run(x)
    parts = zip(np.split(found, ends[:-1], 1), np.split(expected, ends[:-1], 1), strict=True)
    apart = {
        kind: float(np.abs(here - there).max() / max(1.0, np.abs(there).max()))
        for kind, (here, there) in zip(kinds, parts, strict=True)
    }
    room = {kind: 1e-4 + steps / max(1.0, np.abs(CASES[kind].run(x)).max()) for kind in kinds}
    assert {kind: off for kind, off in apart.items() if off > room[kind]} == {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(CASES))
def test_primitive_agrees(kind):
    assert_agrees(CASES[kind], windows(), steps=1.0001 if kind in INTEGER else 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [0, 1, 5])
def test_trees_of_any_depth_agree(depth):
    assert_agrees(flat_trees(random_trees(seed=depth, depth=depth)), windows(40))


def test_the_input_itself_is_a_model_too():
    assert_agrees(IDENTITY, windows())


def test_a_convolution_in_int8_leaves_nothing_in_float():
    draft = Draft()
    eight = draft.add("quantize", draft.add("reshape", "x", shape=[1, 20, 3]), scale=0.03, zero=-4)
    weight = np.arange(-18, 18).reshape(4, 1, 3, 3).astype(np.int8)
    scales = {"x_scale": 0.03, "x_zero": -4, "scale": 0.05, "zero": -128, "low": -128}
    found = draft.add(
        "conv2d_int8", eight, weight, np.zeros(4, np.int32), np.full(4, 0.01, np.float32),
        **scales, pad=[0, 1, 0, 1],
    )  # fmt: skip
    program = draft.finish(draft.add("dequantize", found, scale=0.05, zero=-128))
    assert float_kernels(program, 3, 20) == ()
    assert "aten::erf.out" in float_kernels(CASES["erf"], 3, 20)


def test_bytes_repeat_and_stock_runtimes_take_them(toy):
    model = emit(toy.program, *toy.spec.shape)
    assert model == emit(toy.program, *toy.spec.shape)
    assert unsealed(model) == model[:-40]
    import torch
    from executorch.extension.pybindings import portable_lib

    for file in (model, unsealed(model)):
        module = portable_lib._load_for_executorch_from_buffer(file)
        (found,) = module.forward([torch.from_numpy(toy.golden[:1].copy())])
        assert np.abs(found.numpy() - toy.expected[:1]).max() < 1e-6


@pytest.fixture(scope="module")
def toy():
    from edgegraft.testing.runtimes import sample_bundle

    return sample_bundle()


@pytest.fixture(scope="module")
def exported(toy):
    return ExecutorchExporter().export(toy)


def test_a_bundle_in_executorch_verifies(exported):
    assert exported.runtimes == ("numpy", "executorch")
    assert all(parity.ok for parity in verify(exported))


def test_windows_of_another_shape_and_computed_trees_are_refused_by_name():
    with pytest.raises(ExportError) as caught:
        emit(program_of("matmul", np.ones((20, 2))), 3, 21)
    assert caught.value.code == "export-shape"
    draft, head = Draft(), random_trees()
    flat = draft.add("reshape", "x", shape=[-1])
    names = [draft.constant(v) for v in (head.left, head.right, head.value, head.roots)]
    level = draft.add("mean", "x", axes=[1, 2], keepdims=False)
    threshold = draft.add("mul", head.threshold, level)
    program = draft.finish(
        draft.add("trees", flat, draft.constant(head.feature), threshold, *names)
    )
    with pytest.raises(ExportError) as caught:
        emit(program, 3, 20)
    assert caught.value.code == "export-not-constant"


def test_what_the_runtime_has_no_kernel_of_is_refused_by_name(monkeypatch):
    from edgegraft.export import executorch

    monkeypatch.setattr(executorch, "_runtime_operators", lambda: frozenset({"aten::add.out"}))
    with pytest.raises(ExportError, match=r"aten::erf\.out") as caught:
        emit(CASES["erf"], 3, 20)
    assert caught.value.code == "export-executorch-operation"


def test_what_cannot_be_lowered_is_refused_by_name(monkeypatch):
    from edgegraft.export import executorch_operators

    def untraceable(network, x):
        return executorch_operators.Value(x.plain * float(x.plain.sum()))

    table = {**EMITTERS, "erf": untraceable}
    monkeypatch.setattr(executorch_operators, "EMITTERS", table)
    with pytest.raises(ExportError, match="cannot lower") as caught:
        emit(CASES["erf"], 3, 20)
    assert caught.value.code == "export-executorch-operation"


def test_a_missing_runtime_names_the_extra(monkeypatch, exported):
    monkeypatch.setitem(sys.modules, "executorch.extension.pybindings._C", None)
    with pytest.raises(OptionError, match=r"edgegraft-edge\[executorch\]") as caught:
        ExecutorchBackend().open(exported.model("executorch"))
    assert caught.value.code == "extra-missing"
    assert verify(exported, ["executorch"])[0].status == "absent"


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (b"", "executorch-form"),
        (b"x" * 500, "executorch-form"),
        (b"    ET12" + b"\0" * 500, "executorch-form"),
        (sealed(b"no file of that form"), "executorch-form"),
        (sealed(b"    ET12" + b"\0" * 500), "executorch-load"),
    ],
)
def test_what_is_no_model_is_refused_by_name(model, code):
    with pytest.raises(ModelError) as caught:
        ExecutorchBackend().open(model)
    assert caught.value.code == code


def test_a_changed_byte_anywhere_is_found_before_the_runtime_sees_it(exported):
    model, random = exported.model("executorch"), np.random.default_rng(0)
    for place in random.integers(0, len(model), 200):
        damaged = bytearray(model)
        damaged[place] ^= 1 << random.integers(8)
        with pytest.raises(ModelError) as caught:
            ExecutorchBackend().open(bytes(damaged))
        assert caught.value.code in ("executorch-damaged", "executorch-form")
    for cut in random.integers(0, len(model), 50):
        with pytest.raises(ModelError):
            ExecutorchBackend().open(model[:cut])


def test_a_model_of_another_form_is_refused(exported):
    import torch
    from executorch.exir import to_edge

    class Two(torch.nn.Module):
        def forward(self, a, b):
            return a + b

    ones = (torch.ones(1, 3), torch.ones(1, 3))
    lowered = to_edge(torch.export.export(Two(), ones)).to_executorch()
    with pytest.raises(ModelError) as caught:
        ExecutorchBackend().open(sealed(bytes(lowered.buffer)))
    assert caught.value.code == "executorch-input"
    (parity,) = verify(with_model(exported, "executorch", b"damaged"), ["executorch"])
    assert parity.status == "failed"


FUZZ = """
import sys
import numpy as np
from edgegraft_edge.backends.executorch import ExecutorchBackend, sealed, unsealed
from edgegraft_edge.errors import ModelError

file = unsealed(open(sys.argv[1], "rb").read())
for seed in range(int(sys.argv[2]), int(sys.argv[3])):
    random, damaged = np.random.default_rng(seed), bytearray(file)
    for place in random.integers(0, len(file), 3):
        damaged[place] = random.integers(256)
    print(seed, end=" ", flush=True)
    try:
        ExecutorchBackend().open(sealed(bytes(damaged)))(np.zeros((1, 3, 64), np.float32))
        print(flush=True)
    except ModelError as error:
        print(error.code, flush=True)
"""


@pytest.mark.slow
def test_hostile_files_with_a_right_seal_end_in_a_code_or_a_signal(exported, tmp_path):
    """The seal is no signature: what a hostile file does to the runtime stays in view here."""
    path, first, last = tmp_path / "model.pte", 0, 100
    path.write_bytes(exported.model("executorch"))
    codes = set()
    while first < last:
        command = [sys.executable, "-c", FUZZ, str(path), str(first), str(last)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert ran.returncode <= 0, ran.stderr  # never an error that has no code
        lines = [line.split() for line in ran.stdout.splitlines()]
        codes |= {word for line in lines for word in line[1:]}
        assert ran.returncode < 0 or int(lines[-1][0]) == last - 1
        first = int(lines[-1][0]) + 1
    assert "executorch-load" in codes
    assert codes <= {"executorch-load", "executorch-form", "executorch-run", "executorch-input"}
