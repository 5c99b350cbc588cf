"""Folders that transformers writes: the same embeddings here, to 1e-4."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgegraft.zoo.efficientnet import EfficientNet
from edgegraft.zoo.image_folder import read_folder
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import ModelError
from edgegraft_edge.signal import ImageSpec, Windows
from edgegraft_edge.tensors import dump

B2 = {"width_coefficient": 1.1, "depth_coefficient": 1.2, "hidden_dim": 1408}
NETWORKS = [
    ("ResNet", {"layer_type": "basic", "depths": [2, 2], "hidden_sizes": [16, 32]}, 64),
    ("ResNet", {"depths": [1, 2, 1], "hidden_sizes": [32, 64, 128]}, 64),
    ("ResNet", {"depths": [1, 1], "hidden_sizes": [64, 96], "downsample_in_bottleneck": True}, 65),
    ("MobileNetV1", {"depth_multiplier": 0.25}, 96),
    ("MobileNetV1", {"depth_multiplier": 0.75, "tf_padding": False}, 65),
    ("MobileNetV2", {}, 64),
    ("MobileNetV2", {"depth_multiplier": 0.35}, 97),
    ("MobileNetV2", {"depth_multiplier": 1.4, "tf_padding": False}, 65),
    ("EfficientNet", {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}, 64),
    ("EfficientNet", {**B2, "depthwise_padding": [5, 8, 16]}, 260),
]


def written(folder, kind, options, size):
    """A network of transformers with random weights and statistics, saved to a folder."""
    import torch
    import transformers

    generator = torch.Generator().manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**options)
    if kind != "ResNet":
        config.image_size = size
    model = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for part in (module.running_mean, module.bias):
                    part.copy_(0.1 * torch.randn(part.shape, generator=generator))
                for part in (module.running_var, module.weight):
                    part.copy_(0.5 + torch.rand(part.shape, generator=generator))
            elif isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, generator=generator)
    model.save_pretrained(folder)
    pixels = {"size": {"height": size, "width": size}, "do_normalize": True}
    pixels |= {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    return model.base_model


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "options", "size"), NETWORKS)
def test_images_folder_gives_what_transformers_gives(tmp_path, kind, options, size):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers", reason="transformers is an extra for development")
    model = written(tmp_path, kind, options, size)
    x = np.random.default_rng(0).integers(0, 256, (2, 3, size, size), dtype=np.uint8)
    windows = Windows(x, np.array(["a", "b"]), np.array(["", ""]), ImageSpec(size, size))
    backbone = load_backbone(tmp_path).fit(windows, seed=0)
    mean, scale = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.3, 0.4])
    pixels = (x / 255 - mean[:, None, None]) / scale[:, None, None]
    with torch.inference_mode():
        found = model(torch.tensor(pixels.astype(np.float32)))
    wanted = found.pooler_output.flatten(1).numpy()
    assert wanted.std() > 1e-2
    difference = np.abs(backbone.embed(x) - wanted).max()
    assert difference < 1e-4 * max(1.0, np.abs(wanted).max())


def folder_of(path, config, pixels=None, tensors=None):
    (path / "config.json").write_text(json.dumps(config))
    if pixels is not None:
        (path / "preprocessor_config.json").write_text(json.dumps(pixels))
    tensors = {"w": np.ones(2, np.float32)} if tensors is None else tensors
    (path / "model.safetensors").write_bytes(dump(tensors))
    return path


@pytest.mark.parametrize(
    ("pixels", "size", "mean", "scale"),
    [
        ({"crop_size": {"height": 224, "width": 192}, "do_center_crop": True,
          "size": {"shortest_edge": 256}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
         [224, 192], 0.5, 0.5),
        ({"size": {"shortest_edge": 96}, "do_normalize": False}, [96, 96], 0.0, 1.0),
        ({"size": 128, "rescale_factor": 1 / 127.5, "rescale_offset": True,
          "image_mean": [0.0] * 3, "image_std": [1.0] * 3}, 128, 0.5, 0.5),
        ({"size": 64, "image_mean": [0.4] * 3, "image_std": [0.5] * 3, "include_top": True},
         64, 0.4, 0.25),
    ],
)  # fmt: skip
def test_images_folder_pixels_are_read_as_they_were_prepared(tmp_path, pixels, size, mean, scale):
    found = read_folder(folder_of(tmp_path, {"model_type": "resnet"}, pixels)).pixels
    assert found["size"] == size
    assert np.allclose(found["mean"], mean)
    assert np.allclose(found["scale"], scale)


def test_images_folder_says_licence_and_refuses_what_differs(tmp_path):
    config = {"model_type": "efficientnet", "hidden_act": "relu", "kernel_sizes": [3] * 7}
    folder_of(tmp_path, config)
    (tmp_path / "README.md").write_text("---\ntags:\n- x\nlicense: apache-2.0\n---\n# Model\n")
    assert read_folder(tmp_path).licence == "apache-2.0"
    with pytest.raises(ModelError) as differs:
        EfficientNet.from_folder(tmp_path)
    assert [problem.code for problem in differs.value.problems] == ["config-differs"] * 2
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError) as empty:
        load_backbone(tmp_path)
    assert empty.value.code == "folder-form"
