"""Names of timm: folders of its weights, and its registry where it is installed."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest

from edgegraft.zoo import mobilenet
from edgegraft.zoo.registry import load_backbone
from edgegraft.zoo.timm_names import KNOWN, timm_card
from edgegraft_edge.errors import ModelError, OptionError
from edgegraft_edge.tensors import dump

PIXELS = {"input_size": [3, 96, 128], "mean": [0.5] * 3, "std": [0.25] * 3}


def mobilenet_file():
    random = np.random.default_rng(0)
    options = {"width": 0.35}
    own = mobilenet.mobilenet_v2(**options).weights
    tensors = {}
    (timm,) = (d for d in mobilenet.v2_dialects(**options) if d.library == "timm")
    for name, site in timm.sites.items():
        tensors[f"{site.layer}.weight"] = own[f"{name}.weight"] + np.float32(0.1)
        for part in site.tensors[1:]:
            tensors[part] = np.abs(random.normal(1, 0.1, own[f"{name}.bias"].shape)).astype("f4")
    return dump(tensors)


@pytest.fixture
def timm(monkeypatch):
    """A stand-in for timm with two networks, since timm wants torchvision."""
    models = types.ModuleType("timm.models")
    config = PIXELS | {"hf_hub_id": "timm/mobilenetv2_035.x", "license": "apache-2.0"}
    models.is_model_pretrained = lambda name: name == "mobilenetv2_035.x"
    models.get_pretrained_cfg = lambda name: types.SimpleNamespace(to_dict=lambda: config)
    monkeypatch.setitem(sys.modules, "timm", types.ModuleType("timm"))
    monkeypatch.setitem(sys.modules, "timm.models", models)


def test_images_timm_folder_needs_no_timm(tmp_path):
    config = {"architecture": "mobilenetv2_035", "num_classes": 1000, "pretrained_cfg": PIXELS}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(mobilenet_file())
    backbone = load_backbone(tmp_path)
    assert (backbone.intake.height, backbone.intake.width) == (96, 128)
    assert backbone.intake.scale == (0.25,) * 3
    assert backbone.card.architecture == "mobilenet-v2"
    assert np.isfinite(backbone.weights["stage7.0.project.weight"]).all()


def test_images_timm_folder_of_another_family_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18d"}))
    (tmp_path / "model.safetensors").write_bytes(dump({"w": np.ones(1, np.float32)}))
    with pytest.raises(ModelError) as other:
        load_backbone(tmp_path)
    assert other.value.code == "family-unknown"
    assert "resnet18" in other.value.problems[0].remedy


def test_images_timm_name_takes_the_fetched_weights(timm, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEGRAFT_WEIGHTS", str(tmp_path))
    with pytest.raises(ModelError) as missing:
        load_backbone("timm:mobilenetv2_035.x")
    assert missing.value.code == "weights-missing"
    (tmp_path / "timm_mobilenetv2_035.x.safetensors").write_bytes(mobilenet_file())
    card = load_backbone("timm:mobilenetv2_035.x").card
    assert card.fetch == "hf:timm/mobilenetv2_035.x/model.safetensors"
    assert (card.licence, card.n_parameters) == ("apache-2.0", 389_088)


def test_images_timm_name_that_is_not_known_says_why(timm):
    with pytest.raises(OptionError) as unknown:
        timm_card("mobilenetv2_035.nobody")
    assert unknown.value.code == "timm-unknown"
    with pytest.raises(ModelError) as family:
        timm_card("swin_tiny.x")
    assert family.value.code == "family-unknown"


def test_images_timm_name_without_timm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.models", None)
    with pytest.raises(OptionError) as missing:
        load_backbone("timm:resnet18.a1_in1k")
    assert missing.value.code == "extra-missing"
    assert "pip install timm" in missing.value.problems[0].remedy


@pytest.mark.parametrize("name", ["mobilenetv2_050", "tf_efficientnet_b1"])
def test_images_timm_names_stand_for_networks_that_can_be_written(name):
    architecture, options = KNOWN[name]
    backbone = load_backbone(f"{architecture}:random")
    assert set(options) <= {"width", "depth", "padding", "epsilon"}
    assert backbone.card.architecture == architecture
