"""ONNX files as backbones: equal to ONNX Runtime, cut, named, and safe on hostile bytes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgegraft.adapt.strategy import build_strategy
from edgegraft.export.onnx import OnnxExporter, emit
from edgegraft.tasks.classification import Classification
from edgegraft.testing.samples import sample_pictures, sample_windows
from edgegraft.zoo.onnx_file import OnnxFile
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge import bundle as bundles
from edgegraft_edge.errors import DataError, EdgegraftError, ModelError
from edgegraft_edge.runner import verify

SHARED = Path(__file__).parents[2].parent / "shared/data"
RNG = np.random.default_rng(0)


class Net:
    """Writes an ONNX model node by node."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def keep(self, array, name=""):
        name = name or f"k{len(self.constants)}"
        array = np.asarray(array)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind, *inputs, domain="", n_outputs=1, **attrs):
        names = [i if isinstance(i, str) else self.keep(i) for i in inputs]
        outputs = [f"{kind.lower()}{len(self.nodes)}_{i}" for i in range(n_outputs)]
        self.nodes.append(helper.make_node(kind, names, outputs, domain=domain, **attrs))
        return outputs[0] if n_outputs == 1 else outputs

    def finish(self, output, *shape, batch="n", opset=18):
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.constants,
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
        )


def weights(*shape):
    return RNG.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)


def saved(folder, model):
    path = folder / "net.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def agrees(folder, model, *shape, atol=1e-4):
    """The whole network computes what ONNX Runtime computes."""
    path = saved(folder, model)
    session = onnxruntime.InferenceSession(path.read_bytes())
    x = RNG.normal(size=(3, *shape)).astype(np.float32)
    wanted = session.run(None, {"x": x})[0]
    output = session.get_outputs()[0].name
    found = OnnxFile.from_file(path, output).network.program.run(x)
    if wanted.ndim > 2:  # what has places is pooled, so that it is an embedding
        wanted = wanted.mean(axis=tuple(range(2, wanted.ndim)))
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < atol, np.abs(found - wanted).max()
    assert np.ptp(wanted) > 1e-3
    return path


def norm(net, value, channels):
    """Normalisation by batches with statistics of its own."""
    parts = RNG.uniform(0.5, 1.5, channels), weights(channels, 1)[:, 0]
    return net.add("BatchNormalization", value, *parts, parts[1], parts[0], epsilon=1e-3)


def picture_net():
    """Inverted residuals with squeeze and excitation, as MobileNetV3 has them."""
    net = Net()
    value = net.add("Conv", "x", weights(8, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
    value = net.add("HardSwish", norm(net, value, 8))
    wide = net.add("Conv", value, weights(16, 8, 1, 1))
    wide = net.add("Clip", norm(net, wide, 16), np.float32(0), np.float32(6))
    deep = net.add(
        "Conv", wide, weights(16, 1, 5, 5), weights(16, 1)[:, 0], group=16, auto_pad="SAME_UPPER"
    )
    gate = net.add("GlobalAveragePool", deep)
    gate = net.add("Relu", net.add("Conv", gate, weights(4, 16, 1, 1)))
    gate = net.add(
        "HardSigmoid", net.add("Conv", gate, weights(16, 4, 1, 1)), alpha=1 / 6, beta=0.5
    )
    deep = net.add("Mul", deep, gate)
    value = net.add("Add", value, norm(net, net.add("Conv", deep, weights(8, 16, 1, 1)), 8))
    value = net.add("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    value = net.add("GlobalAveragePool", net.add("Relu", value))
    value = net.add("Flatten", value)
    return net.finish(
        net.add("Gemm", value, weights(5, 8), weights(5, 1)[:, 0], transB=1), 3, 20, 24
    )


def test_network_of_pictures_is_what_onnx_runtime_computes(tmp_path):
    path = agrees(tmp_path, picture_net(), 3, 20, 24)
    backbone = load_backbone(path)
    assert backbone.card.takes == ("image", "audio")
    assert "imagenet assumed" in backbone.card.summary
    assert backbone.blocks == ("block1", "block2", "block3")
    assert backbone.network.top
    windows = sample_pictures(20, 24)
    fitted = backbone.fit(windows, seed=0)
    assert fitted.embed(windows.x).shape == (12, 8)
    top = fitted.values(windows.x, (backbone.network.top,))[0]
    assert np.allclose(top.mean(axis=(2, 3)), fitted.embed(windows.x), atol=1e-5)


def test_normalisation_by_batches_is_folded(tmp_path):
    backbone = OnnxFile.from_file(saved(tmp_path, picture_net()))
    kinds = [op.kind for op in backbone.network.program.ops]
    assert "div" not in kinds
    assert all(
        f"{name}.bias" in backbone.weights
        for name in {n.rpartition(".")[0] for n in backbone.weights}
    )


def test_network_of_series_is_what_onnx_runtime_computes(tmp_path):
    net = Net()
    value = net.add("Relu", net.add("Conv", "x", weights(6, 3, 5), strides=[2], pads=[2, 2]))
    value = net.add("AveragePool", value, kernel_shape=[3], strides=[2], pads=[1, 1])
    value = net.add("LeakyRelu", norm(net, net.add("Conv", value, weights(8, 6, 3)), 8))
    value = net.add("ReduceMean", value, [2], keepdims=0)
    value = net.add("Add", net.add("MatMul", value, weights(8, 4)), weights(4, 1)[:, 0])
    path = agrees(tmp_path, net.finish(net.add("Softmax", value, axis=1), 3, 50), 3, 50)
    backbone = load_backbone(path)
    assert backbone.card.takes[0] == "series"
    windows = sample_windows(3, 50)
    assert backbone.fit(windows, seed=0).embed(windows.x).shape == (len(windows), 8)
    with pytest.raises(DataError, match="3 channels x 50 timepoints"):
        backbone.fit(sample_windows(2, 50), seed=0)


def test_transformer_is_what_onnx_runtime_computes(tmp_path):
    net = Net()
    value = net.add(
        "Transpose", net.add("Conv", "x", weights(8, 2, 4), strides=[4]), perm=[0, 2, 1]
    )
    shape = net.add("Shape", value)
    length = net.add("Gather", shape, np.int64(1), axis=0)
    heads = net.add("Concat", [-1], net.add("Unsqueeze", length, [0]), [2], [4], axis=0)
    parts = []
    for _ in range(3):
        part = net.add("Add", net.add("MatMul", value, weights(8, 8)), weights(8, 1)[:, 0])
        parts.append(net.add("Transpose", net.add("Reshape", part, heads), perm=[0, 2, 1, 3]))
    query, key, content = parts
    score = net.add("MatMul", query, net.add("Transpose", key, perm=[0, 1, 3, 2]))
    score = net.add("Softmax", net.add("Div", score, np.float32(2)), axis=-1)
    mixed = net.add("Transpose", net.add("MatMul", score, content), perm=[0, 2, 1, 3])
    value = net.add("Add", value, net.add("Reshape", mixed, [0, 0, 8]))
    value = net.add("LayerNormalization", value, 1 + weights(8, 1)[:, 0], weights(8, 1)[:, 0])
    value = net.add("Erf", net.add("Pow", value, np.float32(2)))
    model = net.finish(net.add("ReduceMean", value, [1], keepdims=0), 2, 32)
    agrees(tmp_path, model, 2, 32)


@pytest.mark.parametrize(
    "write",
    [
        lambda net: net.add("Concat", "x", net.add("Sigmoid", "x"), axis=1),
        lambda net: net.add("Pad", "x", [0, 0, 1, 2, 0, 1, 0, 3]),
        lambda net: net.add("Slice", "x", [5], [1], [3], [-2]),
        lambda net: net.add("Slice", "x", [-2], [-9], [3], [-1]),
        lambda net: net.add("Gather", "x", [[0, 2], [-1, 1]], axis=2),
        lambda net: net.add("Squeeze", net.add("Gather", "x", [3], axis=3), [3]),
        lambda net: net.add("Unsqueeze", net.add("Flatten", "x"), [2]),
        lambda net: net.add("Split", "x", axis=3, n_outputs=2, num_outputs=2)[1],
        lambda net: net.add("PRelu", "x", np.array([[[0.1]], [[0.2]], [[0.3]]])),
        lambda net: net.add("Elu", "x", alpha=0.7),
        lambda net: net.add("Clip", "x", "", np.float32(0.3)),
        lambda net: net.add("Max", "x", np.float32(0.1)),
        lambda net: net.add("Reciprocal", net.add("Exp", net.add("Neg", "x"))),
        lambda net: net.add("Sqrt", net.add("Abs", net.add("Sub", "x", np.ones((3, 1, 1))))),
        lambda net: net.add(
            "AveragePool", "x", kernel_shape=[2, 3], pads=[1, 1, 1, 1], count_include_pad=1
        ),
        lambda net: net.add("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        lambda net: net.add(
            "MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_LOWER"
        ),
        lambda net: net.add("Conv", "x", weights(6, 1, 3, 3), group=3, dilations=[2, 2]),
        lambda net: net.add(
            "Conv", "x", weights(4, 3, 3, 3), auto_pad="SAME_LOWER", strides=[2, 1]
        ),
        lambda net: norm(net, "x", 3),
        lambda net: net.add("ReduceMax", "x", [2, 3], keepdims=0),
        lambda net: net.add("Transpose", "x", perm=[0, 3, 1, 2]),
        lambda net: net.add("MatMul", net.add("Transpose", "x", perm=[0, 1, 3, 2]), weights(7, 5)),
        lambda net: net.add("TopK", "x", [8], axis=-1, largest=0, n_outputs=2)[0],
        lambda net: net.add("Greater", "x", np.float32(0.2)),
    ],
)
def test_operator_is_what_onnx_runtime_computes(tmp_path, write):
    net = Net()
    value = write(net)
    if net.nodes[-1].op_type == "Greater":
        value = net.add("Cast", value, to=TensorProto.FLOAT)
    flat = net.add("Reshape", value, [0, -1])
    agrees(tmp_path, net.finish(flat, 3, 7, 8), 3, 7, 8, atol=1e-5)


def test_opset_of_old_with_attributes_is_read(tmp_path):
    net = Net()
    value = net.add("Slice", "x", starts=[1], ends=[3], axes=[1])
    value = net.add("Clip", value, min=-0.5, max=0.5)
    value = net.add("ReduceMean", value, axes=[2], keepdims=1)
    agrees(tmp_path, net.finish(net.add("Squeeze", value, axes=[2]), 4, 9, opset=9), 4, 9)


# -- our own files, and the way through


@pytest.mark.parametrize("strategy", ["probe", "finetune"])
def test_tuned_file_runs_in_every_runtime(tmp_path, strategy):
    backbone = load_backbone(saved(tmp_path, picture_net()))
    data = sample_pictures(20, 24)
    options = {} if strategy == "probe" else {"epochs": 2}
    adapted = build_strategy(strategy, options).adapt(backbone, data, Classification(), seed=0)
    tuned = adapted.members[0].backbone.weights
    moved = [not np.array_equal(tuned[name], array) for name, array in backbone.weights.items()]
    assert any(moved) == (strategy != "probe")
    bundle = bundles.make(adapted.program, data.spec, adapted.classes, golden=data.x[:6])
    assert [parity.ok for parity in verify(OnnxExporter().export(bundle))] == [True, True]


@pytest.mark.parametrize("name", ["conv1d-random", "dense-28"])
def test_model_of_a_bundle_is_a_backbone_again(tmp_path, name):
    backbone = load_backbone(name)
    data = sample_windows() if "conv1d" in name else sample_pictures(28, 28, n_per_class=2)
    adapted = build_strategy("probe").adapt(backbone, data, Classification(), seed=0)
    path = saved(tmp_path, emit(adapted.program, *data.spec.shape))
    again = OnnxFile.from_file(path, "probabilities").fit(data, seed=0)
    wanted = adapted.program.run(data.x)
    assert np.abs(again.embed(data.x) - wanted).max() < 1e-4
    cut = OnnxFile.from_file(path).fit(data, seed=0)
    embedding = adapted.members[0].backbone.embed(adapted.steps.run(data.x))
    assert cut.embed(data.x).shape == embedding.shape


# -- what is refused


def test_all_unknown_operators_before_the_cut_are_listed(tmp_path):
    net = Net()
    value = net.add("Relu", "x")
    first = net.add(
        "LSTM", value, weights(1, 16, 4), weights(1, 16, 4), n_outputs=3, hidden_size=4
    )[0]
    value = net.add("Surprise", first, domain="com.someone")
    model = net.finish(net.add("Relu", value), 5, 4)
    path = saved(tmp_path, model)
    with pytest.raises(ModelError) as caught:
        OnnxFile.from_file(path)
    assert {problem.code for problem in caught.value.problems} == {"operator-unknown"}
    found = " ".join(problem.found for problem in caught.value.problems)
    assert "LSTM" in found
    assert "com.someone.Surprise" in found
    assert load_backbone(f"{path}@relu0_0").network.program.run(np.ones((1, 5, 4))).shape == (1, 5)


def test_weights_in_other_files_are_refused(tmp_path):
    net = Net()
    value = net.add("Conv", "x", weights(4, 3, 3, 3))
    model = net.finish(value, 3, 8, 8)
    onnx.external_data_helper.convert_model_to_external_data(model, size_threshold=0)
    model.graph.initializer[0].ClearField("raw_data")
    entry = model.graph.initializer[0].external_data
    entry[0].value = "../../../etc/hostname"
    with pytest.raises(ModelError) as caught:
        OnnxFile.from_file(saved(tmp_path, model))
    assert caught.value.code == "onnx-external"


@pytest.mark.parametrize(
    ("shape", "batch", "code"),
    [
        ((3, 8, 8), 4, "network-input"),
        ((), "n", "network-input"),
        ((2, 3, 4, 5), 1, "network-input"),
    ],
)
def test_input_that_is_no_window_is_refused(tmp_path, shape, batch, code):
    net = Net()
    model = net.finish(net.add("Relu", "x"), *shape, batch=batch)
    with pytest.raises(ModelError) as caught:
        OnnxFile.from_file(saved(tmp_path, model))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "write",
    [
        lambda net: net.add("ReduceMean", "x", [0]),
        lambda net: net.add("Transpose", "x", perm=[1, 0, 2, 3]),
        lambda net: net.add("Reshape", "x", [-1, 8]),
        lambda net: net.add("Conv", "x", weights(4, 2, 3, 3)),
        lambda net: net.add("Conv", "x", weights(4, 3, 9, 9)),
        lambda net: net.add("Conv", "x", weights(4, 3, 3, 3), strides=[0, 1]),
        lambda net: net.add("Pad", "x", [0, 0, 1 << 40, 0, 0, 0, 0, 0]),
        lambda net: net.add("Gather", "x", [99], axis=2),
        lambda net: net.add("Gemm", "x", weights(3, 3)),
        lambda net: net.add("Add", "x", net.add("ConstantOfShape", [1 << 20, 1 << 20])),
        lambda net: net.add("Concat", "x", net.add("Flatten", "x"), axis=1),
    ],
)
def test_operator_in_an_impossible_form_is_refused(tmp_path, write):
    net = Net()
    model = net.finish(write(net), 3, 8, 8)
    with pytest.raises(ModelError) as caught:
        OnnxFile.from_file(saved(tmp_path, model))
    assert caught.value.code == "operator-form"


def test_open_sizes_are_asked_for(tmp_path):
    net = Net()
    value = net.add("Relu", net.add("Conv", "x", weights(4, 2, 3)))
    path = saved(tmp_path, net.finish(value, 2, "time"))
    with pytest.raises(ModelError, match="network-input"):
        load_backbone(path)
    (tmp_path / "net.toml").write_text(
        'name = "mine"\narchitecture = "onnx"\nsummary = "s"\nkind = "pretrained"\n'
        'licence = "MIT"\n[options]\nshape = [2, 40]\n'
    )
    windows = sample_windows(2, 40)
    assert load_backbone(path).fit(windows, seed=0).embed(windows.x).shape == (len(windows), 4)


def test_damaged_bytes_end_in_a_coded_error(tmp_path):
    data = picture_net().SerializeToString()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(300):
        broken = bytearray(data)
        if trial % 3 == 0:
            broken = broken[: int(rng.integers(len(data)))]
        else:
            for place in rng.integers(0, len(data), 1 + 4 * (trial % 4)):
                broken[place] = int(rng.integers(256))
        try:
            OnnxFile.from_file(saved(tmp_path, bytes(broken)))
        except EdgegraftError:
            refused += 1
    assert refused > 100


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the development data is not beside the checkout")
def test_real_file_with_loops_and_memory_is_refused_with_a_code():
    with pytest.raises(ModelError) as caught:
        OnnxFile.from_file(SHARED / "weights/silero_vad/silero_vad_16k_op15.onnx")
    assert caught.value.code in ("network-input", "operator-unknown")
