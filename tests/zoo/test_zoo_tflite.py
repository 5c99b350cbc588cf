"""TensorFlow Lite files as backbones: read safely, cut, named, and equal to what they were."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tflite_toys as toys

import edgegraft as eg
from edgegraft.adapt.strategy import build_strategy
from edgegraft.export.onnx import OnnxExporter
from edgegraft.tasks.classification import Classification
from edgegraft.testing import check_backbone
from edgegraft.testing.samples import sample_pictures, sample_sounds, sample_windows
from edgegraft.zoo.registry import list_backbones, load_backbone
from edgegraft.zoo.sound_front import FRONTS, SoundIntake, resampled
from edgegraft.zoo.tflite_file import Tflite, read_tflite
from edgegraft_edge import bundle as bundles
from edgegraft_edge.errors import DataError, EdgegraftError, ModelError, OptionError
from edgegraft_edge.program import Draft
from edgegraft_edge.runner import verify
from edgegraft_edge.signal import FULL_SCALE, Channel, WindowSpec

SHARED = Path(__file__).parents[2].parent / "shared/data"
shared = pytest.mark.skipif(
    not SHARED.exists(), reason="the development data is not beside the checkout"
)
FILES = sorted((SHARED / "weights").glob("**/*.tflite"))


def file_of(folder, data, name="net.tflite"):
    path = folder / name
    path.write_bytes(data)
    return path


def by_hand(data, x):
    """The toy classifier by plain loops over places, channels last, in float64."""
    constants = read_tflite(data).constants
    x = x.transpose(0, 2, 3, 1).astype(np.float64)

    def patches(x, stride):
        _, height, width, _ = x.shape
        out = [-(-height // stride), -(-width // stride)]
        more = [(o - 1) * stride + 3 - s for o, s in zip(out, (height, width), strict=True)]
        x = np.pad(x, ((0, 0), *((m // 2, m - m // 2) for m in more), (0, 0)))
        for row in range(out[0]):
            for column in range(out[1]):
                at = (
                    slice(row * stride, row * stride + 3),
                    slice(column * stride, column * stride + 3),
                )
                yield row, column, x[:, at[0], at[1]]

    half = -(-x.shape[1] // 2)
    stem, deep = np.zeros((2, len(x), half, half, 4))
    for row, column, patch in patches(x, 2):
        stem[:, row, column] = np.einsum("nhwc,ohwc->no", patch, constants["stem/kernel"])
    stem = np.clip(stem + constants["stem/bias"], 0, 6)
    for row, column, patch in patches(stem, 1):
        deep[:, row, column] = np.einsum("nhwc,hwc->nc", patch, constants["deep/kernel"][0])
    pooled = np.maximum(deep + constants["deep/bias"], 0).mean(axis=(1, 2))
    logits = pooled @ constants["top/kernel"].T + constants["top/bias"]
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return pooled, exp / exp.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("quantised", [True, False])
@pytest.mark.parametrize("size", [12, 13])
def test_network_is_what_loops_over_its_places_give(tmp_path, quantised, size):
    data = toys.classifier(quantised=quantised, size=size)
    path = file_of(tmp_path, data)
    x = np.random.default_rng(1).uniform(-1, 1, (5, 3, size, size)).astype(np.float32)
    pooled, probabilities = by_hand(data, x)
    assert np.ptp(pooled) > 0.01
    assert np.allclose(Tflite.from_file(path).network.program.run(x), pooled, atol=1e-5)
    whole = Tflite.from_file(path, "probabilities")
    assert np.allclose(whole.network.program.run(x), probabilities, atol=1e-5)


def test_card_says_what_was_read_and_assumed(tmp_path):
    card = load_backbone(file_of(tmp_path, toys.classifier())).card
    assert (card.name, card.kind, card.takes) == ("tflite:net", "pretrained", ("image", "audio"))
    assert "pool/out" in card.summary
    assert "states" in card.summary
    assert card.n_parameters == 4 * 27 + 4 + 4 * 9 + 4
    assert len(card.checksum) == 64
    plain = load_backbone(file_of(tmp_path, toys.classifier(quantised=False), "f.tflite")).card
    assert "-1..1 assumed" in plain.summary


def test_eight_bits_of_the_input_scale_its_pixels(tmp_path):
    backbone = Tflite.from_file(file_of(tmp_path, toys.classifier()))
    windows = sample_pictures(12, 12)
    taken = backbone.fit(windows, seed=0).prepare(windows.x)
    assert np.allclose(taken, (windows.x.astype(float) - 128) / 128, atol=1e-6)


def test_metadata_tells_scale_and_licence(tmp_path):
    told = toys.metadata([10.0, 20.0, 30.0], [50.0, 60.0, 70.0], "Apache License. Version 2.0")
    path = file_of(tmp_path, toys.classifier(quantised=False, metadata=told))
    backbone = Tflite.from_file(path)
    assert backbone.card.licence == "Apache License. Version 2.0"
    windows = sample_pictures(12, 12)
    taken = backbone.fit(windows, seed=0).prepare(windows.x)
    mean, scale = np.array([[10, 20, 30], [50, 60, 70]])[:, :, None, None]
    assert np.allclose(taken, (windows.x - mean) / scale, atol=1e-5)


def test_weights_have_names_by_block_and_can_be_drawn_and_tuned(tmp_path):
    backbone = Tflite.from_file(file_of(tmp_path, toys.classifier()))
    assert backbone.blocks == ("block1", "block2")
    assert sorted(backbone.weights) == [
        "block1.conv1.bias",
        "block1.conv1.weight",
        "block2.depthwise2.bias",
        "block2.depthwise2.weight",
    ]
    assert set(backbone.network.taps) == set(backbone.blocks)
    windows = sample_pictures(12, 12)
    known, blank = (b.fit(windows, seed=0) for b in (backbone, backbone.with_random_weights(1)))
    assert not np.allclose(known.embed(windows.x), blank.embed(windows.x), atol=1e-3)
    top = known.values(windows.x, (known.network.top,))[0]
    assert np.allclose(top.mean(axis=(2, 3)), known.embed(windows.x), atol=1e-5)
    assert known.tapped(("block1", "block2")).embed(windows.x).shape == (12, 8)


def test_run_with_a_file_compares_it_and_exports(tmp_path):
    path = file_of(tmp_path, toys.classifier())
    data = sample_pictures(14, 14, n_per_class=6)
    run = eg.adapt(data, backbone=str(path), strategy="probe", folds=2, curve=False)
    assert "tflite:net" in str(run.summary)
    bundle = eg.export(run, format="onnx", out=tmp_path / "model.egb")
    assert [parity.ok for parity in verify(bundle)] == [True, True]


@pytest.mark.parametrize("strategy", ["probe", "finetune", "gradual"])
def test_tuned_file_runs_in_every_runtime(tmp_path, strategy):
    backbone = load_backbone(file_of(tmp_path, toys.classifier()))
    data = sample_pictures(14, 14)
    options = {} if strategy == "probe" else {"epochs": 2}
    adapted = build_strategy(strategy, options).adapt(backbone, data, Classification(), seed=0)
    tuned = adapted.members[0].backbone.weights
    moved = [not np.array_equal(tuned[name], array) for name, array in backbone.weights.items()]
    assert any(moved) == (strategy != "probe")
    program = adapted.program
    bundle = bundles.make(program, data.spec, adapted.classes, golden=data.x[:6])
    exported = OnnxExporter().export(bundle)
    assert [parity.ok for parity in verify(exported)] == [True, True]


def test_cut_is_named_in_full_or_in_part(tmp_path):
    path = file_of(tmp_path, toys.classifier())
    backbone = load_backbone(f"{path}@stem/out")
    assert backbone.card.name == "tflite:net@stem/out"
    assert list(backbone.weights) == ["block1.conv1.weight", "block1.conv1.bias"]
    x = np.ones((2, 3, 12, 12), np.float32)
    assert backbone.network.program.run(x).shape == (2, 4)
    assert load_backbone(f"{path}@prob").network.program.run(x).shape == (2, 3)
    for cut, found in (("out", "4 values"), ("nowhere", "no value")):
        with pytest.raises(ModelError, match=found) as caught:
            load_backbone(f"{path}@{cut}")
        assert caught.value.code == "cut-unknown"


def test_all_unknown_operators_before_the_cut_are_listed(tmp_path):
    tensors = [
        toys.tensor("x", [1, 4]),
        toys.tensor("a", [1, 4]),
        toys.tensor("b", [1, 4]),
        toys.tensor("c", [1, 4]),
    ]
    operators = [
        toys.operator(toys.RELU, [0], [1]),
        toys.operator(toys.CUSTOM, [1], [2], custom="Surprise"),
        toys.operator(toys.WHILE, [2], [3]),
    ]
    path = file_of(tmp_path, toys.write(tensors, operators, [0], [3]))
    with pytest.raises(ModelError) as caught:
        Tflite.from_file(path)
    found = [problem.found for problem in caught.value.problems]
    assert [problem.code for problem in caught.value.problems] == ["operator-unknown"] * 2
    assert "CUSTOM Surprise" in found[0]
    assert "WHILE" in found[1]
    assert Tflite.from_file(path, "a").network.program.run(-np.ones((1, 4))).tolist() == [[0.0] * 4]


def test_card_beside_a_file_holds_its_options(tmp_path):
    path = file_of(tmp_path, toys.classifier(quantised=False))
    card = 'name = "mine"\narchitecture = "tflite"\nsummary = "s"\nkind = "pretrained"\n'
    (tmp_path / "net.toml").write_text(card + 'licence = "MIT"\n[options]\npixels = "0..1"\n')
    backbone = load_backbone(path)
    assert (backbone.card.name, backbone.card.licence) == ("mine", "MIT")
    windows = sample_pictures(12, 12)
    taken = backbone.fit(windows, seed=0).prepare(windows.x)
    assert np.allclose(taken, windows.x / 255, atol=1e-6)
    (tmp_path / "net.toml").write_text(card + 'licence = "MIT"\n[options]\npixel = "0..2"\n')
    with pytest.raises(OptionError, match="option-unknown"):
        load_backbone(path)
    (tmp_path / "net.toml").write_text(card.replace('"tflite"', '"onnx"') + 'licence = "MIT"\n')
    with pytest.raises(ModelError, match="card-form"):
        load_backbone(path)


def test_formats_are_no_backbones_of_their_own():
    assert not {"tflite", "onnx"} & {card.name for card in list_backbones()}
    for name in ("tflite", "onnx"):
        with pytest.raises(ModelError, match="weights-missing"):
            load_backbone(name)
    with pytest.raises(ModelError, match="weights-missing"):
        load_backbone("nowhere.tflite@x")


def test_damaged_bytes_end_in_a_coded_error(tmp_path):
    data = toys.classifier()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(450):
        broken = bytearray(data)
        if trial % 3 == 0:
            broken = broken[: int(rng.integers(len(data)))]
        else:
            for place in rng.integers(8, len(data), 1 + trial % 4):
                broken[place] = int(rng.integers(256))
        path = file_of(tmp_path, bytes(broken))
        try:
            Tflite.from_file(path)
        except EdgegraftError:
            refused += 1
    assert refused > 150


def test_what_is_no_such_file_says_so(tmp_path):
    for data in (b"", b"TFL3", b"\0" * 64, b"\x10\0\0\0TFL3" + b"\xff" * 40):
        with pytest.raises(ModelError) as caught:
            Tflite.from_file(file_of(tmp_path, data))
        assert caught.value.code == "tflite-damaged"


# -- series and sound


def series_file(folder):
    rng = np.random.default_rng(0)
    tensors = [
        toys.tensor("x", [1, 16, 1, 2]),
        toys.tensor("w", [3, 5, 1, 2], "f", rng.normal(size=(3, 5, 1, 2))),
        toys.tensor("y", [1, 12, 1, 3]),
    ]
    operators = [toys.operator(toys.CONV, [0, 1], [2], [(0, "b", 1), (1, "i", 1), (2, "i", 1)])]
    return file_of(folder, toys.write(tensors, operators, [0], [2]))


def test_series_come_as_they_are_or_are_refused(tmp_path):
    backbone = Tflite.from_file(series_file(tmp_path))
    assert backbone.card.takes == ("series", "audio")
    windows = sample_windows(2, 16)
    taken = backbone.fit(windows, seed=0).prepare(windows.x)
    assert np.array_equal(taken[:, :, :, 0], windows.x)
    assert backbone.fit(windows, seed=0).embed(windows.x).shape == (len(windows), 3)
    with pytest.raises(DataError, match="2 channels x 16 timepoints"):
        backbone.fit(sample_windows(2, 20), seed=0)
    with pytest.raises(DataError, match="kind-differs"):
        backbone.fit(sample_pictures(), seed=0)


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("rate_hz", [8000.0, 16000.0, 44100.0])
def test_front_end_gives_its_shape_at_any_rate(front, rate_hz):
    windows = sample_sounds(round(rate_hz), rate_hz, n_per_class=1)
    found = SoundIntake(front).program(windows.spec).run(windows.x)
    known = FRONTS[front]
    assert np.isfinite(found).all()
    assert found.shape[1] == known.channels
    assert found.shape[2] >= known.places[0]
    assert found.shape[3] == known.places[1]


def test_front_end_hears_the_same_at_two_rates():
    low, high = (sample_sounds(round(rate), rate, n_per_class=1) for rate in (16000.0, 48000.0))
    time = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 440 * time) * np.hanning(16000)
    same = np.interp(np.arange(48000) / 48000, time, tone)
    one, other = (
        SoundIntake("speech-mel").program(w.spec).run(x[None, None].astype(np.float32))
        for w, x in ((low, tone), (high, same))
    )
    assert np.abs(one - other).max() < 0.1


def test_rate_that_nobody_knows_is_refused():
    spec = WindowSpec(1.0, 1.0, 1.0, (Channel("sound", FULL_SCALE),))
    with pytest.raises(DataError, match="rate-unknown"):
        SoundIntake("mfcc").program(spec)


@pytest.mark.parametrize(("rate_hz", "wanted_hz"), [(8000, 16000), (44100, 16000), (22050, 16000)])
def test_resampling_keeps_tones_and_drops_what_is_too_high(rate_hz, wanted_hz):
    draft, n = Draft(), rate_hz // 5
    value, length = resampled(draft, "x", n, float(rate_hz), float(wanted_hz))
    program, time = draft.finish(value), np.arange(n) / rate_hz
    assert length == pytest.approx(n * wanted_hz / rate_hz, abs=1)
    found = program.run(np.sin(2 * np.pi * 1000 * time)[None, None])[0, 0]
    wanted = np.sin(2 * np.pi * 1000 * np.arange(length) / wanted_hz)
    assert np.abs(found - wanted)[100:-100].max() < 2e-3
    high = program.run(np.sin(2 * np.pi * 0.48 * rate_hz * time)[None, None])[0, 0]
    if rate_hz > wanted_hz:
        assert np.abs(high[100:-100]).max() < 0.01


def test_speech_embedding_gives_the_mean_of_its_positions():
    from edgegraft.zoo.speech_embedding import speech_embedding

    network = speech_embedding().drawn(0)
    x = np.random.default_rng(0).normal(size=(1, 1, 92, 32)).astype(np.float32)
    parts = [network.program.run(x[:, :, start : start + 76]) for start in (0, 8, 16)]
    assert np.allclose(network.program.run(x), np.mean(parts, axis=0), atol=1e-4)


# -- real files


@shared
@pytest.mark.shared
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] if "mobilenet_v2" in path.stem else [])
        for path in FILES
    ],
    ids=lambda path: path.stem,
)
def test_real_file_is_a_backbone(path):
    if path.stem == "melspectrogram":  # its only size is open, and it has no weights to adapt
        with pytest.raises(ModelError, match="network-input"):
            Tflite.from_file(path)
        return
    backbone = Tflite.from_file(path)
    kind = backbone.card.takes[0]
    assert backbone.card.n_parameters > 500
    assert {name.split(".")[0] for name in backbone.weights} == set(backbone.blocks)
    if kind == "image":
        windows = sample_pictures(n_per_class=1)
    elif kind == "audio":
        windows = sample_sounds(n_per_class=1)
    else:
        windows = sample_windows(1, int(np.prod(backbone.intake.sizes)), n_per_class=1)
    fitted = backbone.fit(windows, seed=0)
    z = fitted.embed(windows.x)
    assert np.isfinite(z).all()
    assert np.ptp(z, axis=0).max() > 0
    assert np.allclose(fitted.program().run(windows.x), z, rtol=1e-3, atol=1e-3)


@shared
@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "speech-embedding:{}/speech_embedding/embedding_model.tflite",
        "{}/mlperf_tiny/keyword_spotting/kws_ref_model.tflite",
        "{}/mlperf_tiny/image_classification/pretrainedResnet_quant.tflite",
    ],
)
def test_real_file_keeps_the_contract(name):
    check_backbone(load_backbone(name.format(SHARED / "weights")))


@shared
@pytest.mark.shared
def test_real_file_with_damage_ends_in_a_coded_error():
    data = (SHARED / "weights/tflite_micro/micro_speech_quantized.tflite").read_bytes()
    card = Tflite.from_file(FILES[-1]).card
    card = dataclasses.replace(card, options={})
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(300):
        broken = bytearray(data[: int(rng.integers(len(data)))] if trial % 3 == 0 else data)
        for place in rng.integers(0, max(1, min(len(broken), 2000)), 3):
            if trial % 3 and place < len(broken):
                broken[place] = int(rng.integers(256))
        try:
            Tflite.from_card(card, bytes(broken))
        except EdgegraftError:
            refused += 1
    assert refused > 100


def litert(path, shape=None):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    found = interpreter.Interpreter(
        str(path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    if shape:
        found.resize_tensor_input(0, shape)
    found.allocate_tensors()
    return found


def run_litert(found, x, name=""):
    """The output, or the value of that name, as numbers, of an input as the file wants it."""
    given = found.get_input_details()[0]
    found.set_tensor(given["index"], x.astype(given["dtype"]).reshape(given["shape"]))
    found.invoke()
    wanted = found.get_output_details()[0]
    if name:
        wanted = next(each for each in found.get_tensor_details() if each["name"] == name)
    scale, zero = wanted["quantization"]
    out = found.get_tensor(wanted["index"]).astype(np.float64)
    return (out - zero) * scale if scale else out


FLOATS = ["ad01_fp32", "pretrainedResnet", "vww_96_float", "embedding_model"]


@shared
@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("path", [f for f in FILES if f.stem in FLOATS], ids=lambda path: path.stem)
def test_float_file_is_what_litert_computes(path):
    runtime = litert(path)
    model = read_tflite(path.read_bytes())
    x = np.random.default_rng(0).uniform(-1, 1, model.shape).astype(np.float32)
    wanted = run_litert(runtime, x).reshape(1, -1)
    if x.ndim == 4:
        x = x.transpose(0, 3, 1, 2)
    found = Tflite.from_file(path, model.outputs[0]).network.program.run(x)
    assert np.abs(found - wanted).max() < 1e-4


@shared
@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [f for f in FILES if f.parent.name == "imagenet_mobilenet"], ids=lambda path: path.stem
)
def test_eight_bit_file_sees_what_litert_sees(path):
    from PIL import Image

    from edgegraft.zoo.file_cut import usual_cut

    runtime = litert(path)
    model = read_tflite(path.read_bytes())
    size = model.shape[1]
    whole, backbone = Tflite.from_file(path, model.outputs[0]), Tflite.from_file(path)
    names = (path.parent / "imagenet_labels.txt").read_text().splitlines()
    seen = []
    for name in ("bird", "cat", "hot_dog", "owl"):
        picture = Image.open(path.parent / f"{name}.jpg").convert("RGB").resize((size, size))
        pixels = np.asarray(picture, np.uint8)
        wanted = run_litert(runtime, pixels)[0]
        windows = sample_pictures(size, size, n_per_class=1)
        x = pixels.transpose(2, 0, 1)[None]
        found = whole.fit(windows, seed=0).embed(x)[0]
        seen.append(names[int(found.argmax())])
        assert found.argmax() == wanted.argmax()
        z = run_litert(runtime, pixels, usual_cut(model)).ravel()
        assert np.corrcoef(backbone.fit(windows, seed=0).embed(x)[0], z)[0, 1] > 0.99
    assert seen[:2] == ["chickadee", "Egyptian cat"]


@shared
@pytest.mark.shared
@pytest.mark.slow
def test_front_end_is_what_the_mel_file_computes():
    import wave

    path = SHARED / "weights/speech_embedding/melspectrogram.tflite"
    spec = WindowSpec(1.0, 1.0, 16000.0, (Channel("sound", FULL_SCALE),))
    program = SoundIntake("speech-mel").program(spec)
    sounds = [np.random.default_rng(0).normal(0, 0.1, 16000)]
    for file in sorted((SHARED / "fsdd/recordings").glob("*.wav"))[::700]:
        with wave.open(str(file)) as opened:
            data = np.frombuffer(opened.readframes(8000), np.int16) / 32768
        sounds.append(np.resize(np.repeat(data, 2), 16000))
    for sound in sounds:
        runtime = litert(path, [1, 16000])
        wanted = run_litert(runtime, sound * 32768)[0, 0] / 10 + 2
        found = program.run(sound[None, None].astype(np.float32))[0, 0]
        assert found.shape == wanted.shape == (97, 32)
        assert np.abs(found - wanted).max() < 1e-3


@shared
@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", ["kws_ref_model", "kws_ref_model_float32", "str_ww_ref_model"])
def test_keyword_network_decides_as_litert_does(name):
    import wave

    path = next(file for file in FILES if file.stem == name)
    model, runtime = read_tflite(path.read_bytes()), litert(path)
    whole = Tflite.from_file(path, model.outputs[0])
    spec = WindowSpec(1.0, 1.0, 8000.0, (Channel("sound", FULL_SCALE),))
    front = whole.intake.program(spec)
    given = runtime.get_input_details()[0]
    scale, zero = given["quantization"]
    same = []
    for file in sorted((SHARED / "fsdd/recordings").glob("*.wav"))[::100]:
        with wave.open(str(file)) as opened:
            data = np.frombuffer(opened.readframes(8000), np.int16) / np.float32(32768)
        x = front.run(np.pad(data, (0, 8000 - len(data)))[None, None])
        features = x.transpose(0, 2, 3, 1)
        if scale:
            features = np.clip(np.round(features / scale + zero), -128, 127)
        wanted = run_litert(runtime, features)[0]
        same.append(whole.network.program.run(x)[0].argmax() == wanted.argmax())
    assert np.mean(same) == 1.0
