"""Every primitive agrees between NumPy and LiteRT; what LiteRT is not given, and why."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")

from edgegraft.compress.quantize import quantized
from edgegraft.export.litert import METADATA, LitertExporter, emit
from edgegraft.export.litert_micro import check_micro, run_micro
from edgegraft.export.litert_operators import EMITTERS, MAX_DEPTH
from edgegraft.testing import check_backend, check_exporter
from edgegraft.testing.programs import (
    CASES,
    N_CHANNELS,
    N_TIMEPOINTS,
    flat_trees,
    program_of,
    random_trees,
    windows,
)
from edgegraft.testing.runtimes import sample_bundle
from edgegraft_edge import bundle as bundles
from edgegraft_edge.backends.litert import LitertBackend
from edgegraft_edge.backends.litert_file import KERNELS, REFERENCE
from edgegraft_edge.errors import ExportError, ModelError, OptionError
from edgegraft_edge.flatbuffer import Table
from edgegraft_edge.heads import TreesHead
from edgegraft_edge.integer import INTEGER
from edgegraft_edge.primitives import PRIMITIVES
from edgegraft_edge.program import IDENTITY, Draft
from edgegraft_edge.rounding import allowed
from edgegraft_edge.signal import WindowSpec
from edgegraft_edge.tokens import READERS


def compute(program, x, *, reference=False, **options):
    return LitertBackend(reference=reference).open(emit(program, *x.shape[1:], **options))(x)


def assert_agrees(program, x):
    expected = program.run(x)
    found = compute(program, x)
    assert found.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * scale)


def test_every_primitive_has_an_emitter():
    assert set(EMITTERS) == set(PRIMITIVES) - set(READERS)


@pytest.mark.parametrize("kind", sorted(set(CASES) - set(INTEGER)))
def test_primitive_agrees_with_litert(kind):
    assert_agrees(CASES[kind], windows())


@pytest.mark.parametrize("kind", sorted(INTEGER))
def test_integer_primitive_gives_the_steps_of_the_reference_kernels(kind):
    wrong = np.abs(compute(CASES[kind], windows(), reference=True) - CASES[kind].run(windows()))
    if kind == "average_pool_int8":  # with a padding that only floats can leave out
        assert wrong.max() <= 1
    else:
        assert wrong.max() == 0


@pytest.mark.parametrize("kind", sorted(INTEGER))
def test_integer_primitive_is_one_step_away_in_fast_kernels(kind):
    assert np.abs(compute(CASES[kind], windows()) - CASES[kind].run(windows())).max() <= 1


def test_identity_and_a_constant_answer_are_files_too():
    assert_agrees(IDENTITY, windows())
    draft = Draft()
    assert_agrees(draft.finish(draft.add("slice", draft.add("add", np.ones((1, 4)), 1.0), axis=1,
                                         start=0, stop=2)), windows(1))  # fmt: skip


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_trees_of_any_depth_agree(depth):
    assert_agrees(flat_trees(random_trees(seed=depth, depth=depth)), windows(20))


def test_trees_go_left_at_equality():
    head = TreesHead(
        feature=np.array([0, 0, 0]),
        threshold=np.array([0.1, 0, 0], dtype=np.float32),
        left=np.array([1, -1, -1]),
        right=np.array([2, -1, -1]),
        value=np.array([[0, 0], [1, 0], [0, 1]], dtype=np.float32),
        roots=np.array([0]),
    )
    edge = np.float32(0.1)
    x = np.zeros((3, 2, 3), dtype=np.float32)
    x[:, 0, 0] = [np.nextafter(edge, np.float32(0)), edge, np.nextafter(edge, np.float32(1))]
    draft = Draft()
    program = draft.finish(draft.call(head.program(), draft.add("reshape", "x", shape=[-1])))
    assert compute(program, x)[:, 0].tolist() == [1, 1, 0]


def test_trees_that_are_too_deep_are_refused_by_name():
    n = 2 * MAX_DEPTH + 5
    left = np.where(np.arange(n) % 2 == 0, np.arange(n) + 1, -1)
    left[-1] = -1
    right = np.where(left >= 0, left + 1, -1)
    value = np.ones((n, 2), np.float32)
    head = TreesHead(np.zeros(n, int), np.zeros(n, np.float32), left, right, value, np.array([0]))
    with pytest.raises(ExportError) as caught:
        emit(flat_trees(head), N_CHANNELS, N_TIMEPOINTS)
    assert caught.value.code == "export-litert-operation"


@pytest.mark.parametrize("shape", [(2, 3, 1, 2, 5), (2, 1, 3, 2, 5)])
def test_many_axes_are_joined_for_kernels_that_have_four(shape):
    draft = Draft()
    wide = draft.add("reshape", "x", shape=list(shape))
    other = np.random.default_rng(0).normal(size=(1, 3, 1, 2, 1) if shape[1] == 3 else (3, 1, 5))
    assert_agrees(draft.finish(draft.add("mul", wide, other)), windows())


def test_softmax_and_matrices_along_other_axes():
    rng = np.random.default_rng(0)
    assert_agrees(program_of("softmax", axis=1), windows())
    assert_agrees(program_of("matmul", rng.normal(size=20)), windows())
    draft = Draft()
    turned = draft.add("transpose", "x", axes=[0, 2, 1])
    assert_agrees(draft.finish(draft.add("matmul", "x", turned)), windows())
    assert_agrees(draft.finish(draft.add("matmul", rng.normal(size=(5, 3)), "x")), windows())


def test_padding_that_is_same_takes_no_operator_of_its_own():
    draft = Draft()
    weight = np.random.default_rng(0).normal(size=(4, 3, 5))
    same = draft.finish(draft.add("conv1d", "x", weight, np.zeros(4), pad=[2, 2]))
    assert_agrees(same, windows())
    codes = [code.integer(3) for code in Table.root(emit(same, 3, 20)).tables(1)]
    assert 34 not in codes  # PAD


def test_the_same_program_gives_the_same_bytes_and_says_its_classes():
    bundle = LitertExporter().export(sample_bundle())
    model = Table.root(bundle.model("litert"))
    buffers = list(model.tables(4))
    (told,) = [entry for entry in model.tables(6) if entry.text(0) == METADATA]
    data = json.loads(buffers[told.integer(1, "<I")].array(0, np.dtype(np.uint8)).tobytes())
    assert data["classes"] == list(bundle.classes)
    assert data["channels"] == list(bundle.spec.channel_names)
    assert emit(CASES["conv1d"], 3, 20) == emit(CASES["conv1d"], 3, 20)


def test_weights_are_in_the_file_once():
    program = quantized(_network(), windows(40))
    weights = sum(a.nbytes for a in program.constants.values() if a.dtype == np.int8)
    buffers = Table.root(emit(program, 3, 20)).tables(4)
    sizes = [len(buffer.array(0, np.dtype(np.uint8))) for buffer in buffers]
    assert sum(size for size in sizes if size > 64) < 1.5 * weights


def test_exporter_and_backend_meet_their_contracts():
    check_exporter(LitertExporter(), "litert")
    check_backend(LitertBackend(), LitertExporter().export(sample_bundle()))


def test_computed_weights_are_refused_by_name():
    draft = Draft()
    weight = draft.add("reshape", draft.add("slice", "x", axis=2, start=0, stop=2), shape=[3, 2])
    program = draft.finish(draft.add("conv1d", "x", weight, np.zeros(1)))
    with pytest.raises(ExportError) as caught:
        emit(program, N_CHANNELS, N_TIMEPOINTS)
    assert caught.value.code in ("export-not-constant", "export-shape")


def test_windows_of_another_shape_are_refused_by_name():
    with pytest.raises(ExportError) as caught:
        emit(program_of("matmul", np.ones((20, 2))), 3, 21)
    assert caught.value.code == "export-shape"


# -- eight bits


def _network():
    """Two convolutions, a mean, a matrix and a softmax, from windows as they are."""
    rng = np.random.default_rng(3)
    draft = Draft()
    value = "x"
    for c_in, c_out in ((3, 8), (8, 8)):
        weight = rng.normal(0, 0.4, (c_out, c_in, 3))
        value = draft.add("relu", draft.add("conv1d", value, weight, np.zeros(c_out), pad=[1, 1]))
    flat = draft.add("mean", value, axes=[2], keepdims=False)
    scores = draft.add("add", draft.add("matmul", flat, rng.normal(size=(8, 4))), np.ones(4))
    return draft.finish(draft.add("softmax", scores, axis=-1))


def test_an_integer_network_gives_the_same_steps():
    program = quantized(_network(), windows(40))
    x = windows(30, seed=1)
    wrong = np.abs(compute(program, x, reference=True) - program.run(x)) * 256
    assert wrong.max() <= 1.001
    expected = program.run(x)
    assert (np.abs(compute(program, x) - expected) <= allowed(program, x, expected)).all()


def test_ends_of_eight_bits_give_the_same_steps():
    program = quantized(_network(), windows(40))
    x = windows(30, seed=1)
    plain = compute(program, x, reference=True)
    np.testing.assert_array_equal(compute(program, x, reference=True, io="int8"), plain)


def _micro_bundle():
    program = quantized(_network(), windows(40))
    spec = WindowSpec.from_shape(3, 20, 20.0)
    return bundles.make(program, spec, ("a", "b", "c", "d"), golden=windows(30, seed=1))


def test_tensorflow_lite_micro_gives_the_same_steps():
    pytest.importorskip("tflite_micro", reason="needs tflite-micro")
    bundle = _micro_bundle()
    model = emit(bundle.program, 3, 20, io="int8")
    wrong = np.abs(run_micro(model, bundle.golden) - bundle.expected)
    assert wrong.max() * 256 <= 1.001
    assert check_micro(bundle, model)
    assert "litert" in LitertExporter(io="int8").export(bundle).runtimes


def test_what_tensorflow_lite_micro_computes_otherwise_is_refused():
    pytest.importorskip("tflite_micro", reason="needs tflite-micro")
    bundle = _micro_bundle()
    flipped = dataclasses.replace(bundle, expected=bundle.expected[:, ::-1])
    model = emit(bundle.program, 3, 20, io="int8")
    for given, file in ((flipped, model), (bundle, emit(CASES["mean"], 3, 20))):
        with pytest.raises(ExportError) as caught:
            check_micro(given, file)
        assert caught.value.code == "export-micro"


def test_ends_of_eight_bits_of_a_float_program_are_refused_by_name():
    with pytest.raises(ExportError) as caught:
        emit(_network(), 3, 20, io="int8")
    assert caught.value.code == "export-litert-ends"
    with pytest.raises(OptionError):
        LitertExporter(io="int16")


def test_a_file_can_ask_for_the_reference_kernels():
    program, x = CASES["requantize"], windows()
    told = {KERNELS: REFERENCE.decode()}
    run = LitertBackend().open(emit(program, 3, 20, metadata=told))
    assert np.abs(compute(program, x) - program.run(x)).max() == 1
    np.testing.assert_array_equal(run(x), program.run(x))


# -- what the runtime is not given


@pytest.mark.parametrize("cut", [0, 3, 8, 60, 300])
def test_a_file_that_ends_too_early_is_an_error_with_a_code(cut):
    with pytest.raises(ModelError) as caught:
        LitertBackend().open(emit(CASES["conv1d"], 3, 20)[:cut])
    assert caught.value.code == "tflite-damaged"
