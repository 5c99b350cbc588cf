"""Runtimes: found by name, agreeing, refusing by name what they cannot run."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import numpy as np
import pytest
from edge_toys import toy_program

from edgegraft_edge import backends, bundle, json_text
from edgegraft_edge.backends.numpy import NumpyBackend, pack
from edgegraft_edge.backends.onnx import OnnxBackend
from edgegraft_edge.errors import ModelError, OptionError
from edgegraft_edge.runner import verify


def _onnx_bytes(n_channels=3, opset=18, ir_version=9, n_inputs=1) -> bytes:
    """Softmax over the channel means, written with onnx alone."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shape = ["n_windows", n_channels, 20]
    names = [f"x{index}" for index in range(n_inputs)]
    nodes = [
        helper.make_node("ReduceMean", ["x0", "axes"], ["m"], keepdims=0),
        helper.make_node("Softmax", ["m"], ["p"], axis=-1),
    ]
    axes = onnx.numpy_helper.from_array(np.array([2], dtype=np.int64), "axes")
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info(name, kind, shape) for name in names],
        [helper.make_tensor_value_info("p", kind, ["n_windows", n_channels])],
        [axes],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
    )
    return model.SerializeToString()


def test_backends_are_found_by_their_own_names():
    assert {"numpy", "onnx"} <= set(backends.names())
    for entry in entry_points(group=backends.GROUP):
        assert entry.load().name == entry.name
    with pytest.raises(OptionError, match="numpy") as caught:
        backends.find("numpi")
    assert caught.value.code == "name-unknown"


def test_numpy_backend_runs_the_packed_program(toy_bundle):
    x = np.random.default_rng(0).normal(size=(4, 3, 20)).astype(np.float32)
    run = NumpyBackend().open(toy_bundle.model("numpy"))
    assert np.array_equal(run(x), toy_bundle.program.run(x))


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (b"", "tensors-damaged"),
        (b"x" * 100, "tensors-damaged"),
        (pack(b"[]", {}), "json-damaged"),
        (pack(b"{}", {}), "program-form"),
        (pack(b'{"ops": [], "output": "v9"}', {}), "program-value"),
    ],
)
def test_numpy_backend_names_what_is_wrong(model, code):
    with pytest.raises(Exception, match=code):
        NumpyBackend().open(model)


def test_program_on_windows_of_another_shape_is_coded():
    program = toy_program()
    run = NumpyBackend().open(pack(json_text.dump(program.as_dict()), program.constants))
    with pytest.raises(ModelError) as caught:
        run(np.zeros((1, 2, 20)))
    assert caught.value.code == "program-run"


class TestOnnx:
    """ONNX Runtime."""

    @pytest.fixture(autouse=True)
    def _needs_onnxruntime(self):
        pytest.importorskip("onnxruntime")

    def test_model_runs(self):
        run = OnnxBackend().open(_onnx_bytes())
        x = np.random.default_rng(0).normal(size=(5, 3, 20))
        scores = run(x)
        assert scores.dtype == np.float32
        exp = np.exp(x.mean(axis=2))
        assert np.allclose(scores, exp / exp.sum(axis=1, keepdims=True), atol=1e-6)

    @pytest.mark.parametrize(
        ("options", "code"),
        [
            ({"opset": 999}, "onnx-operator-set"),
            ({"ir_version": 999}, "onnx-operator-set"),
            ({"n_inputs": 2}, "onnx-input"),
        ],
    )
    def test_unsuited_models_are_named(self, options, code):
        with pytest.raises(ModelError) as caught:
            OnnxBackend().open(_onnx_bytes(**options))
        assert caught.value.code == code

    @pytest.mark.parametrize("model", [b"", b"no model", b"\x00" * 64])
    def test_damaged_bytes_are_named(self, model):
        with pytest.raises(ModelError) as caught:
            OnnxBackend().open(model)
        assert caught.value.code in ("onnx-damaged", "onnx-operator-set")

    def test_wrong_channel_count_is_named(self):
        run = OnnxBackend().open(_onnx_bytes(n_channels=4))
        with pytest.raises(ModelError) as caught:
            run(np.zeros((1, 3, 20)))
        assert caught.value.code == "channel-count"

    def test_missing_runtime_names_the_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(OptionError, match=r"edgegraft-edge\[onnx\]") as caught:
            OnnxBackend().open(b"")
        assert caught.value.code == "extra-missing"

    def test_verify_tells_a_runtime_that_differs(self, toy_bundle):
        wrong = bundle.with_model(toy_bundle, "onnx", _onnx_bytes())
        numpy, onnx = verify(wrong)
        assert numpy.ok
        assert numpy.max_abs == 0.0
        assert onnx.status == "differs"
        assert onnx.max_abs > 0.01
        assert onnx.n_windows == 6

    def test_verify_tells_failed_from_absent(self, toy_bundle, monkeypatch):
        damaged = bundle.with_model(toy_bundle, "onnx", b"damaged")
        (found,) = verify(damaged, ["onnx"])
        assert found.status == "failed"
        assert "[onnx-" in found.reason
        assert verify(damaged, ["litert"])[0].status == "failed"
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        assert verify(damaged, ["onnx"])[0].status == "absent"
