"""Every primitive, and random chains of them, agree between NumPy and ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft.export.onnx import EMITTERS, OUTPUT, emit
from edgegraft.testing.programs import (
    CASES,
    N_CHANNELS,
    N_TIMEPOINTS,
    flat_trees,
    program_of,
    random_trees,
    windows,
)
from edgegraft.zoo.torch_program import run_torch, torch_primitives
from edgegraft_edge.errors import ExportError
from edgegraft_edge.heads import TreesHead
from edgegraft_edge.integer import INTEGER
from edgegraft_edge.primitives import MOVES, PRIMITIVES
from edgegraft_edge.program import IDENTITY, Draft, Program
from edgegraft_edge.tokens import READERS


def compute(model: bytes, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run([OUTPUT], {"x": x})[0]


def assert_agrees(program: Program, x: np.ndarray) -> None:
    expected = program.run(x)
    found = compute(emit(program, x.shape[1], x.shape[2]), x)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * scale)


def test_every_primitive_has_an_emitter_and_a_case():
    assert set(EMITTERS) == set(PRIMITIVES) - set(READERS) == set(CASES)


@pytest.mark.parametrize("kind", sorted(set(CASES) - set(INTEGER)))
def test_primitive_agrees_with_onnxruntime(kind):
    assert_agrees(CASES[kind], windows())


EXACT = {"dequantize", "table_int8", "softmax_int8", "average_pool_int8"}


@pytest.mark.parametrize("kind", sorted(INTEGER))
def test_integer_primitive_agrees_with_onnxruntime_within_one_step(kind):
    program, x = CASES[kind], windows(200)
    step = program.ops[-1].attrs["scale"]
    found = compute(emit(program, N_CHANNELS, N_TIMEPOINTS), x)
    steps = np.rint((found - program.run(x)) / step)
    assert np.abs(steps).max() <= (0 if kind in EXACT else 1)
    assert (steps == 0).mean() > 0.85  # scales of the cases are round numbers: halves are common


MOVED = {
    "reshape": {"shape": [6, -1]},
    "transpose": {"axes": [0, 2, 1]},
    "slice": {"axis": 2, "start": 17, "stop": 2, "step": -3},
    "max": {"axes": [2]},
    "min": {"axes": [1], "keepdims": False},
    "frame": {"length": 6, "hop": 4},
    "pad": {"before": [1, 2], "after": [0, 3], "value": -7},
    "sort": {},
    "concat": {"axis": 1},
    "gather": {"axis": 1},
    "max_pool2d_last": {"kernel": [3, 2], "stride": [2, 1], "pad": [1, 1, 0, 0]},
}


@pytest.mark.parametrize("kind", sorted(MOVES))
def test_what_only_moves_values_takes_int8(kind):
    draft = Draft()
    value = draft.add("quantize", "x", scale=0.03, zero=-4)
    if kind == "max_pool2d_last":
        value = draft.add("reshape", value, shape=[4, 5, 3])
    others = [np.array([2, 0, 2, -1])] if kind == "gather" else []
    if kind == "concat":
        others = [value]
    value = draft.add(kind, value, *others, **MOVED[kind])
    program = draft.finish(draft.add("dequantize", value, scale=0.03, zero=-4))
    assert_agrees(program, windows())


@pytest.mark.parametrize("n_windows", [1, 2, 33])
def test_batch_axis_is_free(n_windows):
    program = CASES["conv1d"]
    model = emit(program, N_CHANNELS, N_TIMEPOINTS)
    x = windows(n_windows)
    np.testing.assert_allclose(compute(model, x), program.run(x), rtol=1e-4, atol=1e-5)


def test_identity_and_a_constant_answer_are_graphs_too():
    assert_agrees(IDENTITY, windows())
    draft = Draft()
    zero = draft.add("mul", draft.add("mean", "x", axes=[1, 2], keepdims=False), np.float32(0))
    assert_agrees(draft.finish(draft.add("add", zero, np.float32(0.5))), windows())


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_trees_of_any_depth_agree(depth):
    assert_agrees(flat_trees(random_trees(seed=depth, depth=depth)), windows(40))


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
    column = np.array([np.nextafter(edge, np.float32(0)), edge, np.nextafter(edge, np.float32(1))])
    x = np.zeros((3, 2, 3), dtype=np.float32)
    x[:, 0, 0] = column
    draft = Draft()
    program = draft.finish(draft.call(head.program(), draft.add("reshape", "x", shape=[-1])))
    assert program.run(x)[:, 0].tolist() == [1, 1, 0]
    assert compute(emit(program, 2, 3), x)[:, 0].tolist() == [1, 1, 0]


def test_round_takes_halves_to_even():
    x = np.array([[[-1.5, -0.5, 0.5, 1.5, 2.5]]], dtype=np.float32)
    assert CASES["round"].run(x).tolist() == [[[-2, 0, 0, 2, 2]]]
    assert compute(emit(CASES["round"], 1, 5), x).tolist() == [[[-2, 0, 0, 2, 2]]]


def test_equal_constants_are_kept_once_and_bytes_repeat():
    draft = Draft()
    weight = np.random.default_rng(7).normal(size=(20, 20))
    value = draft.add("matmul", draft.add("matmul", "x", weight), weight.copy())
    program = draft.finish(value)
    model = onnx.load_from_string(emit(program, N_CHANNELS, N_TIMEPOINTS))
    assert len(model.graph.initializer) == 1
    assert emit(program, 3, 20, metadata={"b": "2", "a": "1"}) == emit(
        program, 3, 20, metadata={"a": "1", "b": "2"}
    )


def test_a_model_holds_nothing_that_no_node_reads():
    model = onnx.load_from_string(emit(CASES["trees"], N_CHANNELS, N_TIMEPOINTS))
    read = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= read


def test_names_axes_and_opset_of_the_model():
    model = onnx.load_from_string(emit(program_of("mean", axes=[2], keepdims=False), 3, 20))
    (given_input,), (given_output,) = model.graph.input, model.graph.output
    axes = [axis.dim_param or axis.dim_value for axis in given_input.type.tensor_type.shape.dim]
    assert (given_input.name, axes) == ("x", ["n_windows", 3, 20])
    assert given_output.name == "probabilities"
    assert 17 <= model.opset_import[0].version <= 20


def test_windows_of_another_shape_are_refused_by_name():
    with pytest.raises(ExportError) as caught:
        emit(program_of("matmul", np.ones((20, 2))), 3, 21)
    assert caught.value.code == "export-shape"
    assert "matmul" in str(caught.value)


def test_computed_trees_are_refused_by_name():
    draft = Draft()
    head = random_trees()
    flat = draft.add("reshape", "x", shape=[-1])
    threshold = draft.add("mul", head.threshold, np.float32(2))
    names = [draft.constant(v) for v in (head.left, head.right, head.value, head.roots)]
    feature = draft.constant(head.feature)
    program = draft.finish(draft.add("trees", flat, feature, threshold, *names))
    with pytest.raises(ExportError) as caught:
        emit(program, N_CHANNELS, N_TIMEPOINTS)
    assert caught.value.code == "export-not-constant"


def _steps_that_keep_three_axes(draft: Draft, value: str, choice: int, shape: list[int]) -> str:
    """One bounded operation on (n, c, t); `shape` follows along."""
    c, t = shape
    weight = np.random.default_rng(choice).normal(size=(4, c, min(3, t)))
    match choice % 13:
        case 0:
            return draft.add("tanh", value)
        case 1:
            return draft.add("log", draft.add("add", draft.add("abs", value), np.float32(1)))
        case 2:
            return draft.add("sqrt", draft.add("add", draft.add("abs", value), np.float32(0.01)))
        case 3:
            return draft.add("sub", value, draft.add("mean", value, axes=[2]))
        case 4:
            return draft.add("mul", value, np.linspace(-1, 1, c)[:, None])
        case 5:
            shape[:] = [4, t]
            pad = [(weight.shape[2] - 1) // 2, weight.shape[2] // 2]
            return draft.add("conv1d", value, weight, np.zeros(4), pad=pad)
        case 6:
            shape[:] = [t, c]
            return draft.add("transpose", value, axes=[0, 2, 1])
        case 7:
            return draft.add("sort", value)
        case 8:
            shape[:] = [c, (t + 1) // 2]
            return draft.add("slice", value, axis=2, start=0, stop=t, step=2)
        case 9:
            shape[:] = [2 * c, t]
            return draft.add("concat", value, draft.add("relu", value), axis=1)
        case 10:
            shape[:] = [c, 3]
            return draft.add("matmul", value, np.random.default_rng(choice).normal(size=(t, 3)))
        case 11:
            shape[:] = [1, c * t]
            return draft.add("reshape", value, shape=[1, c * t])
        case _:
            return draft.add(
                "maximum", draft.add("sigmoid", value), draft.add("min", value, axes=[1])
            )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 129), min_size=1, max_size=7), st.integers(1, 6), st.integers(0, 99))
def test_random_programs_agree_with_onnxruntime(choices, n_windows, seed):
    draft, shape = Draft(), [N_CHANNELS, N_TIMEPOINTS]
    value = "x"
    for choice in choices:
        value = _steps_that_keep_three_axes(draft, value, choice, shape)
    flat = draft.add("reshape", value, shape=[-1])
    head = np.random.default_rng(seed).normal(size=(shape[0] * shape[1], 3)) / 10
    program = draft.finish(draft.add("softmax", draft.add("matmul", flat, head)))
    assert_agrees(program, windows(n_windows, seed))


@pytest.mark.parametrize("kind", sorted(CASES))
def test_torch_computes_what_numpy_computes(kind):
    torch = pytest.importorskip("torch")
    program, x = CASES[kind], windows()
    found = run_torch(program, torch.tensor(x)).numpy()
    np.testing.assert_allclose(found, program.run(x), rtol=1e-4, atol=1e-5)


def test_torch_has_every_primitive():
    assert torch_primitives() == set(PRIMITIVES)
