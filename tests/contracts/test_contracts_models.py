"""Each model that people know by name goes the whole way: adapt, evaluate, save, load, verify."""

from __future__ import annotations

import pytest

import edgegraft as eg
from edgegraft.testing.samples import usual_windows
from edgegraft.zoo.backbone import shipped_card
from edgegraft.zoo.registry import is_here, load_backbone
from edgegraft_edge import bundle as bundles
from edgegraft_edge.runner import verify

SMALL = ["dense-28", "conv1d-random", "resnet8", "ds-cnn-random", "bert-tiny-random"]
SMALL += ["gpt2-tiny-random"]
LARGE = ["vgg16:random", "resnet18:random", "mobilenet-v2:random", "efficientnet-b0:random"]
LARGE += ["minilm"]


def go_the_whole_way(name, folder, strategy="probe"):
    backbone = load_backbone(name)
    train, test = usual_windows(backbone), usual_windows(backbone, seed=1)
    run = eg.adapt(train, backbone=backbone, strategy=strategy, folds=2, curve=False)
    assert run.summary["shipped"]["backbone"]
    packed = eg.export(run, format="onnx", out=folder / "model.egb")
    loaded = bundles.read(folder / "model.egb")
    assert loaded.manifest.digest == packed.manifest.digest
    parities = verify(loaded)
    assert [parity.runtime for parity in parities] == ["numpy", "onnx"]
    assert all(parity.ok for parity in parities), parities
    here, there = eg.evaluate(run.adapted, test), eg.evaluate(loaded, test)
    assert there.n == len(test)
    assert abs(here.metrics["log_loss"] - there.metrics["log_loss"]) < 1e-3


@pytest.mark.parametrize("name", SMALL)
def test_model_goes_the_whole_way(name, tmp_path):
    go_the_whole_way(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_large_model_goes_the_whole_way(name, tmp_path):
    if name == "minilm" and not is_here(shipped_card("minilm")):
        pytest.skip("the extra text, which carries its weights and words, is not installed")
    go_the_whole_way(name, tmp_path)
