"""Training that knows of the rounding: torch computes what the integers do, and tuning helps."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from edgegraft.compress.aware import Aware, aware_bundle, tuned
from edgegraft.compress.calibrate import Quantization
from edgegraft.compress.fake import parameters_of, run_fake
from edgegraft.compress.quantize import quantize_program
from edgegraft.testing import sample_windows
from edgegraft.testing.runtimes import sample_bundle
from edgegraft.zoo.micro import Micro, MicroShape
from edgegraft_edge.heads import LinearHead
from edgegraft_edge.program import Program, chain

torch = pytest.importorskip("torch")
WINDOWS = sample_windows(3, 64, 20, noise=1.0)


def student() -> Program:
    backbone = Micro.of(MicroShape((8, 12), (5, 3), (2, 2))).fit(WINDOWS, seed=1)
    program = backbone.program(*WINDOWS.spec.shape)
    z = program.run(WINDOWS.x)
    codes = np.unique(WINDOWS.y, return_inverse=True)[1]
    design = np.c_[z, np.ones(len(z))]
    found = np.linalg.lstsq(design, 6 * np.eye(3)[codes], rcond=1e-2)[0].astype(np.float32)
    return chain(program, LinearHead(found[:-1], found[-1]).program())


def fake(quantized, x) -> np.ndarray:
    parameters = {n: torch.tensor(a) for n, a in parameters_of(quantized.weights).items()}
    with torch.no_grad():
        return run_fake(quantized.program, parameters, quantized.steps, torch.tensor(x)).numpy()


def test_torch_computes_what_the_integers_do():
    for program in (student(), sample_bundle().program):
        found = quantize_program(program, WINDOWS.x)
        said, wanted = fake(found, WINDOWS.x), found.program.run(WINDOWS.x)
        assert (said.argmax(axis=1) == wanted.argmax(axis=1)).mean() >= 0.95
        assert np.abs(said - wanted).mean() < 0.03


def test_every_weight_has_a_gradient():
    found = quantize_program(student(), WINDOWS.x)
    parameters = {
        name: torch.tensor(array, requires_grad=True)
        for name, array in parameters_of(found.weights).items()
    }
    scores = run_fake(found.program, parameters, found.steps, torch.tensor(WINDOWS.x))
    scores[:, 0].log().sum().backward()
    assert len(parameters) == 6
    assert all(float(tensor.grad.abs().max()) > 0 for tensor in parameters.values())


def test_tuning_brings_the_answers_nearer_and_repeats():
    program = student()
    found = quantize_program(program, WINDOWS.x, Quantization(least_sqnr_db=0.0))
    spoilt = {
        name: type(pair)(pair.weight * np.float32(1.15), pair.bias)
        for name, pair in found.weights.items()
    }
    from dataclasses import replace

    from edgegraft.compress.aware import with_weights

    worse = with_weights(found, parameters_of(spoilt))
    assert worse.weights.keys() == replace(found, weights=spoilt).weights.keys()
    options = Aware(epochs=6, learning_rate=3e-3)
    better, again = (tuned(worse, program, WINDOWS.x, options, seed=2) for _ in range(2))
    away = [
        np.abs(each.program.run(WINDOWS.x) - program.run(WINDOWS.x)).mean()
        for each in (worse, better)
    ]
    assert away[1] < 0.7 * away[0]
    assert better.program.precision == "int8"
    assert [op.attrs for op in better.program.ops] == [op.attrs for op in worse.program.ops]
    assert np.array_equal(better.program.run(WINDOWS.x), again.program.run(WINDOWS.x))
    said = fake(better, WINDOWS.x).argmax(axis=1)
    assert (said == better.program.run(WINDOWS.x).argmax(axis=1)).mean() >= 0.93


def test_a_tuned_bundle_says_so():
    source = sample_bundle(3, 64)
    made = aware_bundle(source, WINDOWS.x, Aware(epochs=1))
    assert made.precision == "int8"
    assert made.manifest.lineage["precision"]["tuned"]["epochs"] == 1
    assert all(option.metadata.get("help") for option in fields(Aware))
