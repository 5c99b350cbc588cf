"""Float programs to int8: what becomes of each operation, what stays, and how close it is."""

from __future__ import annotations

import numpy as np
import pytest

from edgegraft.compress.calibrate import Quantization, observed
from edgegraft.compress.equalize import equalized
from edgegraft.compress.noise import signal_to_noise_db
from edgegraft.compress.quantize import quantize_program, quantized, quantized_bundle
from edgegraft.export.onnx import OnnxExporter
from edgegraft.testing import sample_windows
from edgegraft.testing.samples import sample_pictures, sample_sentences, sample_sounds
from edgegraft.zoo.registry import is_here, list_backbones, load_backbone, shipped_card
from edgegraft_edge import bundle as bundles
from edgegraft_edge.decision import Decision
from edgegraft_edge.errors import ExportError, ModelError, OptionError
from edgegraft_edge.heads import LinearHead
from edgegraft_edge.program import Draft, Program, chain

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3, 20)).astype(np.float32)


def kinds(program: Program) -> list[str]:
    return [op.kind for op in program.ops]


def convolved(draft: Draft, value: str = "x", c_in: int = 3, c_out: int = 4) -> str:
    weight, bias = RNG.normal(size=(c_out, c_in, 5)), RNG.normal(size=c_out)
    return draft.add("conv1d", value, weight, bias, pad=[2, 2])


def network(activation: str = "relu") -> Program:
    draft = Draft()
    value = convolved(draft)
    if activation == "silu":
        value = draft.add("mul", value, draft.add("sigmoid", value))
    else:
        value = draft.add(activation, value)
    flat = draft.add("mean", value, axes=[2], keepdims=False)
    head = LinearHead(RNG.normal(size=(4, 3)).astype(np.float32), np.zeros(3, np.float32))
    return draft.finish(draft.call(head.program(), flat))


def test_a_network_is_integer_throughout_and_close():
    program = network()
    found = quantize_program(program, X)
    assert found.program.precision == "int8"
    assert found.kept_float == ()
    assert found.sqnr_db > 25
    away = np.abs(found.program.run(X) - program.run(X))
    assert away.max() < 0.05
    assert found.program.size_bytes < program.size_bytes
    assert signal_to_noise_db(X, X) == pytest.approx(99.0)


def test_the_same_windows_give_the_same_program():
    one, other = (quantized(network_of_seed(), X) for _ in range(2))
    assert one.as_dict() == other.as_dict()
    assert all(np.array_equal(one.constants[name], other.constants[name]) for name in one.constants)


def network_of_seed() -> Program:
    draft = Draft()
    weight = np.random.default_rng(3).normal(size=(4, 3, 5))
    value = draft.add("relu", draft.add("conv1d", "x", weight, np.zeros(4)))
    return draft.finish(draft.add("mean", value, axes=[2], keepdims=False))


def test_functions_of_one_value_are_one_table():
    draft = Draft()
    value = convolved(draft)
    value = draft.add("mul", value, draft.add("sigmoid", value))
    value = draft.add("mul", draft.add("tanh", draft.add("abs", value)), np.float32(3))
    program = draft.finish(value)
    found = quantize_program(program, X).program
    assert kinds(found).count("table_int8") == 1
    assert found.precision == "int8"
    assert signal_to_noise_db(program.run(X), found.run(X)) > 25


@pytest.mark.parametrize("kind", ["add", "sub", "mul", "div"])
@pytest.mark.parametrize("first", [True, False])
def test_a_number_for_each_channel_is_a_convolution_of_one_tap(kind, first):
    if kind == "div" and not first:
        pytest.skip("one number divided by a value has no integer form")
    draft = Draft()
    value, number = convolved(draft), RNG.uniform(0.5, 2.0, size=(4, 1))
    pair = (value, number) if first else (number, value)
    value = draft.add(kind, *pair)
    program = draft.finish(value)
    found = quantize_program(program, X).program
    assert found.precision == "int8"
    assert kinds(found).count("conv2d_int8") == 2
    assert signal_to_noise_db(program.run(X), found.run(X)) > 25


@pytest.mark.parametrize("kind", ["add", "sub", "mul"])
def test_two_values_in_integers(kind):
    draft = Draft()
    program = draft.finish(draft.add(kind, convolved(draft), convolved(draft)))
    found = quantize_program(program, X).program
    assert found.precision == "int8"
    assert signal_to_noise_db(program.run(X), found.run(X)) > 20


@pytest.mark.parametrize("kind", ["mean", "sum"])
def test_reductions_in_integers(kind):
    draft = Draft()
    program = draft.finish(draft.add(kind, convolved(draft), axes=[2], keepdims=False))
    found = quantize_program(program, X).program
    assert found.precision == "int8"
    assert signal_to_noise_db(program.run(X), found.run(X)) > 20


def spectrum() -> Program:
    """Powers of a Fourier transform, far apart in size, and their logarithm."""
    turn = 2 * np.pi * np.outer(np.arange(20), np.arange(6)) / 20
    draft = Draft()
    tilted = draft.add("mul", "x", 10.0 ** -np.arange(20))
    power = []
    for wave in (np.cos(turn), np.sin(turn)):
        part = draft.add("matmul", tilted, wave)
        power.append(draft.add("mul", part, part))
    level = draft.add("log", draft.add("add", draft.add("add", *power), np.float32(1e-6)))
    return draft.finish(draft.add("reshape", level, shape=[18]))


def test_what_rounding_would_destroy_stays_float_and_is_named():
    x = X * np.geomspace(1e-2, 1e2, len(X)).astype(np.float32)[:, None, None]
    forced = quantize_program(spectrum(), x, Quantization(least_sqnr_db=0.0))
    assert forced.sqnr_db < 15
    found = quantize_program(spectrum(), x)
    assert found.sqnr_db >= 20
    assert any("rounding would leave" in kept.reason for kept in found.kept_float)


def test_integers_only_or_an_error_that_names_all():
    draft = Draft()
    value = convolved(draft)
    value = draft.add("div", value, draft.add("sqrt", draft.add("abs", convolved(draft))))
    program = draft.finish(convolved(draft, value, 4))
    with pytest.raises(ExportError) as caught:
        quantize_program(program, X, Quantization(integer_only=True))
    assert {problem.code for problem in caught.value.problems} == {"integer-only"}
    assert "div" in str(caught.value)
    found = quantize_program(network("silu"), X, Quantization(integer_only=True))
    assert found.program.precision == "int8"


def test_integers_only_needs_something_in_integers():
    draft = Draft()
    program = draft.finish(draft.add("sort", "x"))
    with pytest.raises(ExportError, match="integer-only"):
        quantize_program(draft.finish(draft.add("log", program.output)), X**2 + 1,
                         Quantization(integer_only=True))  # fmt: skip


def test_a_program_that_is_8_bit_already_is_refused():
    with pytest.raises(OptionError) as caught:
        quantized(quantized(network(), X), X)
    assert caught.value.code == "precision-same"


def test_columns_of_unlike_size_are_brought_to_one_before_a_matrix():
    size = 8.0 ** np.arange(-3, 3)
    x = (RNG.normal(size=(80, 6)) * size + 5).astype(np.float32)
    weight = RNG.normal(size=(6, 3)) / size[:, None]
    head = LinearHead(weight.astype(np.float32), (-5 * weight.sum(axis=0)).astype(np.float32))
    assert quantize_program(head.program(), x, Quantization(least_sqnr_db=0)).sqnr_db < 15
    program = head.program()
    assert np.allclose(equalized(program, x).run(x), program.run(x), atol=1e-2)
    found = quantize_program(program, x)
    assert found.sqnr_db > 25
    assert "dense_int8" in kinds(found.program)


WINDOWS = {
    "series": sample_windows(3, 128, 16),
    "image": sample_pictures(28, 28),
    "audio": sample_sounds(),
}
FEW = 12  # windows of sound and pictures, which take long
BOUNDS = {
    "conv1d-motion": 0.98,
    "conv1d-random": 0.98,
    "dense-28": 0.99,
    "ds-cnn-random": 0.95,
    "mel-statistics": 0.95,
    "micro-random": 0.98,
    "micro-separable": 0.98,
    "minirocket": 0.97,
    "orders": 0.97,
    "resnet8": 0.90,  # random weights: what little its last blocks add to the mean is rounded
    "spectrum": 0.95,
    "statistics": 0.99,
    "texture": 0.85,  # shares of rare patterns hardly vary, and are lost first
}
OTHERS = {
    "bert-tiny-random": "reads text: quantised behind its reader, see below",
    "gpt2-tiny-random": "reads text: quantised behind its reader, see below",
    "tfidf": "reads text: quantised behind its reader, see below",
}
UNTRIED = {
    "mixer-random": "it forecasts, and estimates are not quantised",
    "raw": "it computes nothing",
}


def small_cards() -> set[str]:
    return {card.name for card in list_backbones() if card.n_parameters <= 200_000}


SLOW = ("ds-cnn-random", "resnet8", "minirocket", "mel-statistics")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in sorted(BOUNDS)],
)
def test_embeddings_of_small_backbones_keep_their_meaning(name):
    if not is_here(shipped_card(name)):
        pytest.skip("its weights are not here")
    backbone = load_backbone(name)
    windows = WINDOWS[next(kind for kind in WINDOWS if kind in backbone.card.takes)]
    if windows.spec.kind != "series":
        windows = windows.take(np.arange(0, len(windows.x), max(1, len(windows.x) // FEW)))
    options = {"n_features": 840} if name == "minirocket" else {}
    fitted = type(backbone)(**options) if options else backbone
    program = fitted.fit(windows, seed=0).program(*windows.spec.shape)
    found = quantize_program(program, windows.x)
    pairs = [
        each.run(windows.x).reshape(len(windows.x), -1).astype(np.float64)
        for each in (program, found.program)
    ]
    same = [
        np.corrcoef(a, b)[0, 1]
        for a, b in zip(pairs[0].T, pairs[1].T, strict=True)
        if min(a.std() / np.abs(a).max(initial=1e-9), b.std() / np.abs(b).max(initial=1e-9)) > 1e-6
    ]
    assert np.mean(same) > BOUNDS[name]


def bundle_of(program: Program, **options) -> bundles.Bundle:
    windows = sample_windows(3, 20)
    return bundles.make(program, windows.spec, windows.classes, golden=windows.x[:6], **options)


def test_a_bundle_in_int8_keeps_all_but_its_program(tmp_path):
    source = OnnxExporter().export(
        bundle_of(network(), decision=Decision(threshold=0.4), lineage={"seed": 3}, version=7)
    )
    made = quantized_bundle(source, sample_windows(3, 20).x)
    assert (source.precision, made.precision) == ("float", "int8")
    assert made.runtimes == ("numpy",)
    assert made.decision == source.decision
    assert (made.classes, made.spec, made.manifest.version) == (source.classes, source.spec, 7)
    assert np.array_equal(made.golden, source.golden)
    assert np.array_equal(made.expected, made.score(made.golden))
    facts = made.manifest.lineage["precision"]
    assert made.manifest.lineage["seed"] == 3
    assert (facts["now"], facts["calibration"]) == ("int8", "training windows")
    assert facts["answers_changed"] <= 2
    again = bundles.read(bundles.write(tmp_path / "m.egb", made))
    assert again.precision == "int8"
    exported = OnnxExporter().export(again)
    assert exported.runtimes == ("numpy", "onnx")


def test_a_mixed_bundle_goes_to_onnxruntime_too():
    draft = Draft()
    above = draft.add("greater", convolved(draft), RNG.normal(size=(4, 1)))
    flat = draft.add("mean", above, axes=[2], keepdims=False)
    head = LinearHead(RNG.normal(size=(4, 3)).astype(np.float32), np.zeros(3, np.float32))
    source = bundle_of(draft.finish(draft.call(head.program(), flat)))
    made = quantized_bundle(source)
    assert made.precision == "mixed"
    assert made.manifest.lineage["precision"]["calibration"] == "golden windows"
    assert "onnx" in OnnxExporter().export(made).runtimes


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_what_takes_text_apart_stays_in_front(name):
    windows = sample_sentences()
    backbone = load_backbone(name).fit(windows, seed=0)
    program = backbone.program(*windows.spec.shape)
    width = program.run(windows.x[:1]).shape[1]
    head = LinearHead(RNG.normal(size=(width, 3)).astype(np.float32), np.zeros(3, np.float32))
    source = bundles.make(
        chain(program, head.program()), windows.spec, ("a", "b", "c"), golden=windows.x[:4]
    )
    made = quantized_bundle(source, windows.x)
    assert made.precision == "mixed"
    assert any(kind.endswith("_int8") for kind in kinds(made.program))
    assert made.program.ops[0].kind == source.program.ops[0].kind


def test_values_that_hardly_vary_are_counted():
    level = 1.0 + np.arange(4, dtype=np.float32) * 2.0**-23
    program = Draft()
    flat = program.finish(program.add("mul", "x", np.float32(1.0)))
    held = observed(flat, np.tile(level, (3, 1)))
    assert held["x"].low == 1.0
    assert held["x"].high > 1.0


def test_a_bundle_without_anything_for_integers_is_refused():
    draft = Draft()
    flat = draft.add("max", draft.add("sort", "x"), axes=[2], keepdims=False)
    with pytest.raises(ModelError) as caught:
        quantized_bundle(bundle_of(draft.finish(draft.add("softmax", flat))))
    assert caught.value.code == "int8-nothing"


def test_every_small_backbone_is_tried():
    assert small_cards() == {*BOUNDS, *OTHERS, *UNTRIED}
