"""Networks that somebody else made, as bundles that compute what their files compute."""

import dataclasses
import json
from pathlib import Path

import int8_toys
import numpy as np
import onnx
import pytest
import tflite_toys as toys

pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")

from edgegraft.cli.app import run
from edgegraft.export.litert import LitertExporter, emit
from edgegraft.export.onnx import emit as emit_onnx
from edgegraft.export.original import run_tflite
from edgegraft.export.take import spec_of, take
from edgegraft.testing.programs import CASES, program_of, windows
from edgegraft.testing.samples import sample_pictures, sample_windows
from edgegraft_edge import bundle as bundles
from edgegraft_edge.errors import EdgegraftError, ModelError, OptionError
from edgegraft_edge.program import Draft
from edgegraft_edge.signal import ImageSpec, WindowSpec

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "weights"
NETWORKS = {
    "mlperf_tiny/image_classification/pretrainedResnet_quant.tflite": 10,
    "mlperf_tiny/image_classification/pretrainedResnet.tflite": 10,
    "mlperf_tiny/keyword_spotting/kws_ref_model.tflite": 12,
    "mlperf_tiny/visual_wake_words/vww_96_int8.tflite": 2,
    "mlperf_tiny/anomaly_detection/ad01_int8.tflite": 640,
    "mlperf_tiny/anomaly_detection/ad01_fp32.tflite": 640,
    "mlperf_tiny/streaming_wakeword/str_ww_ref_model.tflite": 3,
    "tflite_micro/micro_speech_quantized.tflite": 4,
}


def saved(folder, data, name="net.tflite"):
    path = folder / name
    path.write_bytes(data)
    return path


def test_an_8_bit_network_keeps_its_integers(tmp_path):
    taken = take(saved(tmp_path, int8_toys.files()["dense"]), classes=list("abcdef"), rate_hz=4.0)
    assert taken.bundle.precision == "int8"
    assert taken.bundle.classes == tuple("abcdef")
    assert taken.bundle.spec == WindowSpec.from_shape(1, 8, 4.0)
    assert (taken.agreement.max_steps, taken.agreement.equal) == (0.0, 1.0)
    assert taken.bundle.manifest.lineage["imported"]["file"] == "net.tflite"


def test_pictures_of_8_bits_come_in_as_pixels(tmp_path):
    data = int8_toys.picture()
    taken = take(saved(tmp_path, data))
    assert isinstance(taken.bundle.spec, ImageSpec)
    kinds = [op.kind for op in taken.bundle.program.ops]
    assert kinds[:2] == ["transpose", "quantize"]
    assert set(kinds[2:]) <= {"conv2d_int8", "mean_int8", "dense_int8", "softmax_int8",
                              "dequantize", "reshape"}  # fmt: skip
    pixels = np.random.default_rng(1).integers(0, 256, (20, 3, 8, 9)).astype(np.uint8)
    given = np.moveaxis(pixels, 1, -1) / np.float32(255)
    np.testing.assert_allclose(taken.bundle.score(pixels), run_tflite(data, given), atol=1.01 / 256)


def test_what_was_taken_goes_on_to_runtimes(tmp_path):
    taken = take(saved(tmp_path, int8_toys.picture()))
    exported = LitertExporter(io="int8").export(taken.bundle)
    assert "litert" in exported.runtimes


def test_a_float_network_agrees_with_its_file(tmp_path):
    cut = sample_pictures()
    spec = dataclasses.replace(cut.spec, width=cut.spec.height)
    pictures = dataclasses.replace(cut, x=cut.x[..., : spec.width], spec=spec)
    data = toys.classifier(quantised=False, size=pictures.spec.height)
    path = saved(tmp_path, data)
    taken = take(path, windows=pictures, classes=["a", "b", "c"], options={"pixels": "0..1"})
    assert taken.bundle.precision == "float"
    assert taken.agreement.max_abs < 1e-5
    assert taken.agreement.labels_agree == taken.agreement.n_windows
    assert taken.bundle.golden.dtype == np.uint8
    assert "0..1" in taken.said


def test_an_onnx_network_agrees_with_its_file(tmp_path):
    draft = Draft()
    value = draft.add("conv1d", "x", np.random.default_rng(0).normal(size=(4, 3, 5)), np.zeros(4))
    program = draft.finish(draft.add("mean", draft.add("relu", value), axes=[2], keepdims=False))
    path = saved(tmp_path, emit_onnx(program, 3, 20), "net.onnx")
    taken = take(path, rate_hz=20.0)
    np.testing.assert_allclose(taken.bundle.score(windows()), program.run(windows()), rtol=1e-4)
    assert (taken.agreement.runtime, taken.bundle.spec.shape) == ("onnx", (3, 20))
    assert taken.bundle.spec.rate_hz == 20.0


def _refused(path, **options):
    with pytest.raises(EdgegraftError) as caught:
        take(path, **options)
    return caught.value


def test_what_cannot_be_taken_is_named(tmp_path):
    dense = int8_toys.files()["dense"]
    assert _refused(saved(tmp_path, dense[:200])).code == "tflite-damaged"
    assert _refused(saved(tmp_path, b"", "x.onnx")).code == "onnx-damaged"
    assert _refused(saved(tmp_path, b"", "x.pt")).code == "import-kind"
    assert _refused(tmp_path / "absent.tflite").code == "weights-missing"
    assert _refused(saved(tmp_path, dense), classes=["one"]).code == "option-value"
    assert _refused(saved(tmp_path, dense), classes=["a"] * 6).code == "option-value"
    assert _refused(saved(tmp_path, dense), options={"front": "warp"}).code == "option-value"
    other = sample_windows(3, 20)
    assert _refused(saved(tmp_path, dense), windows=other).code == "window-shape"


def test_own_files_are_sent_back_to_their_bundle(tmp_path):
    data = emit(CASES["mean"], 3, 20, metadata={"edgegraft": "{}"})
    assert _refused(saved(tmp_path, data)).code == "import-own"


def test_weights_of_8_bits_under_floats_are_refused_by_name(tmp_path):
    rng = np.random.default_rng(0)
    t = toys.tensor
    data = toys.write(
        [t("x", [1, 8]), t("w", [6, 8], "b", rng.integers(-127, 128, (6, 8)), [0.01], [0]),
         t("y", [1, 6])],
        [toys.operator(9, [0, 1], [2])], [0], [2],
    )  # fmt: skip
    assert _refused(saved(tmp_path, data)).code == "import-hybrid"


def test_unknown_operators_open_sizes_and_wrong_numbers_are_named(tmp_path):
    assert _refused(saved(tmp_path, int8_toys.one(119, [8], [8]))).code == "operator-unknown"
    assert _refused(saved(tmp_path, int8_toys.one(19, [-1, 4], [-1, 4]))).code == "network-input"
    bad = program_of("mul", np.full((3, 1), np.nan))
    path = saved(tmp_path, emit_onnx(bad, 3, 20), "net.onnx")
    assert _refused(path).code == "onnx-damaged"


def test_onnx_of_8_bits_is_refused_by_name(tmp_path):
    helper = onnx.helper
    scale = onnx.numpy_helper.from_array(np.float32(0.1), "s")
    zero = onnx.numpy_helper.from_array(np.int8(0), "z")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [scale, zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path = saved(tmp_path, model.SerializeToString(), "net.onnx")
    assert _refused(path).code == "import-onnx-int8"


def test_a_file_that_ends_the_runtime_does_not_end_us():
    with pytest.raises(ModelError) as caught:
        run_tflite(b"\0\0\0\0TFL3" + b"\0" * 40, np.zeros((1, 4)))
    assert caught.value.code == "import-runtime"


def test_the_spec_of_a_file_is_told_before_data_are_opened(tmp_path):
    assert spec_of(saved(tmp_path, int8_toys.picture())).shape == (3, 8, 9)
    with pytest.raises(OptionError):
        spec_of(saved(tmp_path, int8_toys.files()["conv"]), options={"front": "mfcc"})


# -- the command


def test_import_writes_a_bundle_and_says_how_it_compares(tmp_path, capsys):
    path, out = saved(tmp_path, int8_toys.picture()), tmp_path / "x.egb"
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n\nowl\n")
    assert run(["import", str(path), "--out", str(out), "--classes", str(names), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["precision"] == "int8"
    assert told["agreement"]["max_steps"] <= 1
    assert bundles.read(out).classes == ("cat", "dog", "owl")
    assert run(["import", str(path), "--out", str(out), "--classes", "a,b,c"]) == 0
    assert "compared" in capsys.readouterr().out


def test_import_ends_with_the_code_of_the_error(tmp_path, capsys):
    path = saved(tmp_path, int8_toys.picture()[:300])
    assert run(["import", str(path), "--out", str(tmp_path / "x.egb")]) == 4
    assert "tflite-damaged" in capsys.readouterr().err
    assert not (tmp_path / "x.egb").exists()


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", list(NETWORKS))
def test_published_networks_are_taken(name):
    if not (SHARED / name).exists():
        pytest.skip("needs the development data beside the checkout")
    taken = take(SHARED / name)
    assert len(taken.bundle.classes) == NETWORKS[name]
    assert taken.agreement.max_steps in (None, 0.0)
