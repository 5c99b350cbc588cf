"""Quantised .tflite files, read exactly: the same steps as LiteRT's reference kernels."""

import contextlib
from pathlib import Path

import int8_toys
import numpy as np
import pytest
import tflite_toys as toys
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft.zoo.tflite_int8 import is_int8, read_int8
from edgegraft_edge.errors import EdgegraftError, ModelError

FILES = int8_toys.files()
LOOSE = ("tanh", "logistic", "hard-swish", "softmax", "leaky")  # functions by table: one step
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "weights"
NETWORKS = (
    "mlperf_tiny/image_classification/pretrainedResnet_quant.tflite",
    "mlperf_tiny/keyword_spotting/kws_ref_model.tflite",
    "mlperf_tiny/visual_wake_words/vww_96_int8.tflite",
    "mlperf_tiny/anomaly_detection/ad01_int8.tflite",
    "mlperf_tiny/streaming_wakeword/str_ww_ref_model.tflite",
    "tflite_micro/micro_speech_quantized.tflite",
    "mcunet/vww.tflite",
)


def reference(data, steps):
    """Steps of LiteRT's reference kernels for int8 input steps (n, ...)."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert")
    run = interpreter.Interpreter(
        model_content=data,
        experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF,
    )
    run.allocate_tensors()
    given, found = run.get_input_details()[0], run.get_output_details()[0]
    model, out = read_int8(data), []
    for row in steps:
        if given["dtype"] == np.float32:
            row = (row.astype(np.float32) - model.input.zero) * np.float32(model.input.scale)
        run.set_tensor(given["index"], row[None])
        run.invoke()
        value = run.get_tensor(found["index"])[0].astype(np.float64)
        if found["dtype"] == np.float32:
            value = np.rint(value / model.output.scale) + model.output.zero
        out.append(value)
    return np.array(out)


def ours(data, steps):
    model = read_int8(data)
    real = (steps.astype(np.float32) - model.input.zero) * np.float32(model.input.scale)
    return np.rint(model.program.run(real) / model.output.scale) + model.output.zero


def steps_for(data, n):
    return np.random.default_rng(0).integers(-128, 128, (n, *read_int8(data).shape), np.int8)


@pytest.mark.parametrize("name", list(FILES))
def test_each_operator_gives_the_steps_of_the_reference_kernels(name):
    steps = steps_for(FILES[name], 8)
    wrong = np.abs(ours(FILES[name], steps) - reference(FILES[name], steps))
    assert wrong.max() <= (1 if name in LOOSE else 0)


@pytest.mark.shared
@pytest.mark.parametrize("name", NETWORKS)
def test_published_networks_give_the_steps_of_the_reference_kernels(name):
    _same(name, 4)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_published_networks_give_the_steps_of_the_reference_kernels_200_times(name):
    _same(name, 200)


def _same(name, n):
    if not (SHARED / name).exists():
        pytest.skip("needs the development data beside the checkout")
    data = (SHARED / name).read_bytes()
    steps = steps_for(data, n)
    wrong = np.abs(ours(data, steps) - reference(data, steps))
    assert wrong.max() <= 1
    assert (wrong == 0).mean() > 0.99


def test_a_program_starts_and_ends_with_floats_and_is_integer_between():
    model = read_int8(FILES["conv"])
    kinds = [op.kind for op in model.program.ops]
    assert kinds == ["quantize", "conv2d_int8", "dequantize"]
    assert (model.shape, model.output_shape) == ((7, 6, 4), (4, 6, 5))
    assert model.output.zero == -128


def test_unsigned_values_are_shifted():
    t = toys.tensor
    data = toys.write(
        [t("x", [1, 5], "B", None, [0.1], [128]), t("y", [1, 5], "b", None, [0.1], [0])],
        [toys.operator(114, [0], [1])],
        [0],
        [1],
    )
    model = read_int8(data)
    assert model.shifted
    assert model.input.zero == 0
    assert ours(data, np.int8([[-128, 0, 1, 5, 127]])).tolist() == [[-128, 0, 1, 5, 127]]


def test_float_files_are_told_from_quantised_ones():
    assert is_int8(FILES["conv"])
    assert not is_int8(toys.classifier(quantised=False))


def _refused(data):
    with pytest.raises(ModelError) as caught:
        read_int8(data)
    return caught.value


def test_what_has_no_form_in_integers_is_named():
    rng = np.random.default_rng(0)
    crooked = toys.tensor("w", [6, 8], "b", rng.integers(-127, 128, (6, 8)), [0.01], [5])
    assert _refused(int8_toys.one(9, [8], [6], others=(crooked,))).code == "operator-form"
    assert _refused(int8_toys.one(119, [8], [8])).code == "operator-unknown"
    assert _refused(int8_toys.one(25, [8], [8], scale=0.1)).code == "operator-form"
    assert _refused(toys.classifier(quantised=False)).code == "operator-form"


def test_open_sizes_and_several_inputs_are_refused():
    assert _refused(int8_toys.one(19, [-1, 4], [-1, 4])).code == "network-input"
    t = int8_toys.eight
    data = toys.write(
        [t("a", [1, 4]), t("b", [1, 4]), t("y", [1, 4])],
        [toys.operator(0, [0, 1], [2], [(0, "b", 0)])],
        [0, 1],
        [2],
    )
    assert _refused(data).code == "network-input"


@pytest.mark.parametrize("cut", [0, 4, 8, 40, 200, 500])
def test_a_file_that_ends_too_early_is_an_error_with_a_code(cut):
    assert _refused(FILES["conv"][:cut]).code == "tflite-damaged"


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(list(FILES)),
    flips=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_flipped_bytes_end_in_a_program_or_in_an_error_of_ours(name, flips):
    data = bytearray(FILES[name])
    for place, value in flips:
        data[place % len(data)] = value
    with contextlib.suppress(EdgegraftError):  # any other error fails
        assert read_int8(bytes(data)).program.ops
