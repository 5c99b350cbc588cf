"""The CIFAR-10 ResNets as they are published, where they stand beside the checkout."""

from pathlib import Path

import numpy as np
import pytest

from edgegraft.zoo.registry import load_backbone
from edgegraft.zoo.weights import state_dict
from edgegraft_edge.signal import ImageSpec, Windows

FOLDER = Path(__file__).parents[2].parent / "shared/data/weights/cifar10_resnet"
FILES = {20: "resnet20-12fca82f.th", 32: "resnet32-d509ac18.th", 56: "resnet56-4bfd9763.th"}

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not FOLDER.exists(), reason="the weights are not beside the checkout"),
]


def published(tensors, x):
    """The network of the paper with its normalisation apart, and the logits of its classifier."""
    from torch.nn.functional import batch_norm, conv2d, pad, relu

    def conv(value, layer, norm, stride=1):
        value = conv2d(value, tensors[f"{layer}.weight"], None, stride, 1)
        statistics = (tensors[f"{norm}.{part}"] for part in ("running_mean", "running_var"))
        return batch_norm(value, *statistics, tensors[f"{norm}.weight"], tensors[f"{norm}.bias"])

    value = relu(conv(x, "conv1", "bn1"))
    n_units = sum(name.endswith(".conv1.weight") for name in tensors) // 3
    for layer in (1, 2, 3):
        for unit in range(n_units):
            name, halves = f"layer{layer}.{unit}", layer > 1 and unit == 0
            past = value
            value = relu(conv(value, f"{name}.conv1", f"{name}.bn1", 2 if halves else 1))
            value = conv(value, f"{name}.conv2", f"{name}.bn2")
            if halves:
                more = value.shape[1] // 4
                past = pad(past[:, :, ::2, ::2], (0, 0, 0, 0, more, more))
            value = relu(value + past)
    value = value.mean((2, 3))
    return value, value @ tensors["linear.weight"].T + tensors["linear.bias"]


@pytest.mark.parametrize("depth", FILES)
def test_images_cifar_resnet_computes_what_its_author_trained(depth):
    import torch

    file = FOLDER / FILES[depth]
    x = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    x[0] = np.linspace(0, 255, 32).astype(np.uint8)  # something smooth as well
    windows = Windows(x, np.array(["a"] * 4), np.array([""] * 4), ImageSpec(32, 32))
    backbone = load_backbone(f"cifar-resnet{depth}:{file}").fit(windows, seed=0)
    mean, scale = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = (x / 255 - mean[:, None, None]) / scale[:, None, None]
    tensors = {name: torch.tensor(a) for name, a in state_dict(file.read_bytes()).items()}
    wanted, logits = published(tensors, torch.tensor(pixels.astype(np.float32)))
    found = backbone.embed(x)
    assert np.abs(found - wanted.numpy()).max() < 1e-4
    assert logits.std() > 0.5  # the statistics of the file are in use: it says something
    assert backbone.card.checksum.startswith(FILES[depth][9:17])


def test_images_cifar_resnet_of_another_depth_says_what_is_missing():
    from edgegraft_edge.errors import ModelError

    with pytest.raises(ModelError) as deep:
        load_backbone(f"cifar-resnet32:{FOLDER / FILES[20]}")
    assert deep.value.code == "weights-names"
    assert "more" in str(deep.value)


def test_images_fetched_file_is_found_by_its_name_and_checked(tmp_path, monkeypatch):
    from edgegraft_edge.errors import ModelError

    monkeypatch.setenv("EDGEGRAFT_WEIGHTS", str(tmp_path))
    (tmp_path / "cifar-resnet20.th").write_bytes((FOLDER / FILES[20]).read_bytes())
    assert load_backbone("cifar-resnet20").card.kind == "pretrained"
    (tmp_path / "cifar-resnet20.th").write_bytes((FOLDER / FILES[32]).read_bytes())
    with pytest.raises(ModelError) as other:
        load_backbone("cifar-resnet20")
    assert other.value.code == "checksum-mismatch"
