"""Every primitive, and random chains of them, agree between NumPy and ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft.export.onnx import OUTPUT, emit
from edgegraft.export.onnx_operators import EMITTERS
from edgegraft.zoo.torch_program import run_torch, torch_primitives
from edgegraft_edge.errors import ExportError
from edgegraft_edge.heads import TreesHead
from edgegraft_edge.primitives import PRIMITIVES
from edgegraft_edge.program import IDENTITY, Draft, Program
from edgegraft_edge.tokens import READERS

N_CHANNELS, N_TIMEPOINTS = 3, 20


def compute(model: bytes, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run([OUTPUT], {"x": x})[0]


def windows(n_windows: int = 5, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n_windows, N_CHANNELS, N_TIMEPOINTS)).astype(np.float32)


def assert_agrees(program: Program, x: np.ndarray) -> None:
    expected = program.run(x)
    found = compute(emit(program, x.shape[1], x.shape[2]), x)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * scale)


def program_of(kind: str, *inputs: object, **attrs: object) -> Program:
    draft = Draft()
    return draft.finish(draft.add(kind, "x", *inputs, **attrs))


def positive(kind: str) -> Program:
    draft = Draft()
    return draft.finish(draft.add(kind, draft.add("add", draft.add("abs", "x"), np.float32(0.1))))


def trees(seed: int = 0, depth: int = 3, n_trees: int = 4, n_features: int = 6) -> TreesHead:
    """Random complete trees of one depth; depth 0 is a single leaf."""
    generator = np.random.default_rng(seed)
    columns: list[tuple[int, float, int, int]] = []
    roots = []

    def grow(level: int) -> int:
        place = len(columns)
        columns.append((0, 0.0, -1, -1))
        if level:
            left, right = grow(level - 1), grow(level - 1)
            feature, threshold = int(generator.integers(n_features)), float(generator.normal())
            columns[place] = (feature, threshold, left, right)
        return place

    for _ in range(n_trees):
        roots.append(grow(depth))
    feature, threshold, left, right = (np.array(column) for column in zip(*columns, strict=True))
    value = generator.dirichlet(np.ones(3), size=len(columns)).astype(np.float32)
    return TreesHead(feature, threshold.astype(np.float32), left, right, value, np.array(roots))


def square_conv() -> Program:
    draft = Draft()
    square = draft.add("reshape", "x", shape=[3, 4, 5])
    weight, bias = RNG.normal(size=(6, 1, 2, 3)), RNG.normal(size=6)
    conv = {"stride": [2, 1], "dilation": [1, 2], "groups": 3, "pad": [1, 2, 0, 3]}
    return draft.finish(draft.add("conv2d", square, weight, bias, **conv))


def pooled() -> Program:
    draft = Draft()
    square = draft.add("reshape", "x", shape=[3, 4, 5])
    pool = {"kernel": [3, 2], "stride": [2, 1], "pad": [1, 1, 0, 0]}
    return draft.finish(draft.add("max_pool2d", square, **pool))


def looked_up() -> Program:
    draft = Draft()
    whole = draft.add("round", draft.add("mul", draft.add("sigmoid", "x"), np.float32(6)))
    return draft.finish(draft.add("lookup", whole, RNG.normal(size=(7, 2))))


def flat_trees(head: TreesHead) -> Program:
    draft = Draft()
    flat = draft.add("slice", draft.add("reshape", "x", shape=[-1]), axis=1, start=0, stop=6)
    return draft.finish(draft.call(head.program(), flat))


RNG = np.random.default_rng(7)
CASES: dict[str, Program] = {
    "add": program_of("add", RNG.normal(size=(3, 1))),
    "sub": program_of("sub", RNG.normal(size=(20,))),
    "mul": program_of("mul", 2),  # an integer constant in arithmetic
    "div": program_of("div", np.float32(3.0)),
    "maximum": program_of("maximum", np.float32(0.2)),
    "minimum": program_of("minimum", np.float32(0.2)),
    "greater": program_of("greater", RNG.normal(size=(3, 1))),
    "round": program_of("round"),
    "abs": program_of("abs"),
    "sqrt": positive("sqrt"),
    "log": positive("log"),
    "exp": program_of("exp"),
    "erf": program_of("erf"),
    "tanh": program_of("tanh"),
    "sigmoid": program_of("sigmoid"),
    "relu": program_of("relu"),
    "leaky_relu": program_of("leaky_relu", slope=0.2),
    "softmax": program_of("softmax", axis=1),
    "matmul": program_of("matmul", RNG.normal(size=(20, 4))),
    "conv1d": program_of(
        "conv1d",
        RNG.normal(size=(6, 1, 5)),
        RNG.normal(size=6),
        stride=2,
        dilation=3,
        groups=3,
        pad=[6, 5],
    ),
    "conv2d": square_conv(),
    "max_pool2d": pooled(),
    "pad": program_of("pad", before=[1, 2], after=[0, 3]),
    "lookup": looked_up(),
    "frame": program_of("frame", length=6, hop=4),
    "mean": program_of("mean", axes=[2]),
    "sum": program_of("sum", axes=[1, 2], keepdims=False),
    "max": program_of("max", axes=[-1]),
    "min": program_of("min", axes=[1], keepdims=False),
    "sort": program_of("sort"),
    "concat": program_of("concat", "x", axis=1),
    "reshape": program_of("reshape", shape=[6, -1]),
    "transpose": program_of("transpose", axes=[0, 2, 1]),
    "slice": program_of("slice", axis=2, start=17, stop=2, step=-3),
    "gather": program_of("gather", np.array([2, 0, 2, -1]), axis=1),
    "trees": flat_trees(trees()),
}


def test_every_primitive_has_an_emitter_and_a_case():
    assert set(EMITTERS) == set(PRIMITIVES) - set(READERS) == set(CASES)


@pytest.mark.parametrize("kind", sorted(CASES))
def test_primitive_agrees_with_onnxruntime(kind):
    assert_agrees(CASES[kind], windows())


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
    assert_agrees(flat_trees(trees(seed=depth, depth=depth)), windows(40))


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
    weight = RNG.normal(size=(20, 20))
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
    head = trees()
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
