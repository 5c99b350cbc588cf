"""Image networks: their names in other libraries, their form, and what is refused."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest

from edgegraft.zoo import cifar_resnet, efficientnet, mobilenet, resnet, vgg
from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import ModelError
from edgegraft_edge.signal import ImageSpec, Windows
from edgegraft_edge.tensors import dump

torch = pytest.importorskip("torch")

DEEP = {"depths": [3, 4, 6, 3], "features": [256, 512, 1024, 2048], "bottleneck": True}
# Hashes of the names and shapes that torchvision 0.28 and timm 1.0.31 write, classifiers apart.
WRITTEN = [
    ("resnet18", resnet.FAMILY, {}, "torchvision", "43a9b5e01e6d"),
    ("resnet34", resnet.FAMILY, {"depths": [3, 4, 6, 3]}, "torchvision", "ccdf35a55b18"),
    ("resnet50", resnet.FAMILY, DEEP, "torchvision", "9fb760970125"),
    ("vgg16", vgg.FAMILY, {}, "torchvision", "4c3222feef6e"),
    ("mobilenet_v2", mobilenet.V2, {}, "torchvision", "ddfa7f160ae8"),
    ("mobilenetv2_050", mobilenet.V2, {"width": 0.5}, "timm", "00cf3974306d"),
    ("mobilenetv2_140", mobilenet.V2, {"width": 1.4}, "timm", "e145875e8057"),
    ("efficientnet_b0", efficientnet.FAMILY, {}, "torchvision", "cfc2f64113c5"),
    (
        "efficientnet_b4",
        efficientnet.FAMILY,
        {"width": 1.4, "depth": 1.8},
        "torchvision",
        "c7163e946517",
    ),
    ("efficientnet_b0", efficientnet.FAMILY, {}, "timm", "450a546895f2"),
    ("efficientnet_b3", efficientnet.FAMILY, {"width": 1.2, "depth": 1.4}, "timm", "a7273187d778"),
]
SMALL = [
    (resnet.FAMILY, {"depths": [1, 1], "features": [8, 16], "stem": 8}),
    (resnet.FAMILY, {"depths": [1, 1], "features": [8, 16], "stem": 8, "bottleneck": True}),
    (mobilenet.V1, {"width": 0.25}),
    (mobilenet.V2, {"width": 0.35}),
    (efficientnet.FAMILY, {"width": 0.5, "depth": 0.5}),
    (cifar_resnet.FAMILY, {"depth": 8}),
    (cifar_resnet.FAMILY, {"depth": 8, "shortcut": "conv"}),
]


def shapes_written(family, options, library):
    """Names and shapes that a library's file has, by what is said of its dialect."""
    own = family.build(size=(224, 224), padding="half", **options).weights
    (dialect,) = (d for d in family.dialects(**options) if d.library == library)
    found = {}
    for name, site in dialect.sites.items():
        shape = own[f"{name}.weight"].shape
        found[f"{site.layer}.weight"] = shape[::-1] if len(shape) == 2 else shape
        for part in site.tensors[1:]:
            found[part] = own[f"{name}.bias"].shape
    return found


def digest(shapes):
    text = "\n".join(f"{name} {tuple(shapes[name])}" for name in sorted(shapes))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def small_file(family, options, random, library=0):
    """A file as a library writes it, with random weights and statistics."""
    dialect = family.dialects(**options)[library]
    shapes = shapes_written(family, options, dialect.library)
    tensors = {}
    for name, shape in shapes.items():
        array = random.normal(0, 0.2, shape).astype(np.float32)
        tensors[name] = np.abs(array) + 0.5 if name.endswith("running_var") else array
    return tensors


def card_of(options, size=32, **changed):
    return BackboneCard(
        "t", "t", "t", "pretrained", "CC0-1.0", options={**options, "size": size, **changed}
    )


def pictures(n=3, size=32, seed=0):
    x = np.random.default_rng(seed).integers(0, 256, (n, 3, size, size), dtype=np.uint8)
    return Windows(x, np.array(["a"] * n), np.array([""] * n), ImageSpec(size, size))


@pytest.mark.parametrize(("name", "family", "options", "library", "known"), WRITTEN)
def test_images_names_and_shapes_are_those_of_the_library(name, family, options, library, known):
    assert digest(shapes_written(family, options, library)) == known


@pytest.mark.parametrize(("family", "options"), SMALL)
def test_images_embedding_is_the_mean_of_the_top_map(family, options):
    windows = pictures()
    backbone = family.graph(card_of(options), None).fit(windows, seed=0)
    z = backbone.embed(windows.x)
    (top,) = backbone.values(windows.x, (backbone.network.top,))
    assert top.ndim == 4
    assert np.allclose(top.mean(axis=(2, 3)), z, atol=1e-5)
    assert set(backbone.network.taps) == set(backbone.blocks)
    assert {name.partition(".")[0] for name in backbone.weights} == set(backbone.blocks)
    assert np.ptp(z, axis=0).max() > 1e-3


@pytest.mark.parametrize(("family", "options"), SMALL)
@pytest.mark.parametrize("padding", ["half", "same"])
def test_images_runs_alike_in_torch_and_numpy(family, options, padding):
    windows = pictures(size=33)
    backbone = family.graph(card_of(options, size=33, padding=padding), None)
    backbone = backbone.fit(windows, seed=0)
    z = backbone.program(3, 33, 33).run(windows.x)
    assert np.allclose(z, backbone.embed(windows.x), rtol=1e-4, atol=1e-5)


def test_images_every_dialect_of_a_family_reads_the_same_network():
    random = np.random.default_rng(0)
    windows = pictures()
    for family, options in SMALL:
        wanted = {}
        for number, dialect in enumerate(family.dialects(**options)):
            plain = small_file(family, options, random, number)
            prefixed = {f"{dialect.prefix}{name}": array for name, array in plain.items()}
            prefixed |= {f"{head}weight": np.ones(2, np.float32) for head in dialect.head}
            card = card_of(options, padding="half", epsilon=1e-3)
            one, two = (family.graph(card, dump(file)) for file in (plain, prefixed))
            assert np.array_equal(*(b.fit(windows, seed=0).embed(windows.x) for b in (one, two))), (
                dialect.library
            )
            by_own = {
                name: plain[f"{site.layer}.weight"].shape for name, site in dialect.sites.items()
            }
            assert wanted.setdefault("shapes", by_own) == by_own


def reference_resnet(tensors, x):
    """torchvision's ResNet with basic units, one unit a layer, straight from the paper."""
    from torch.nn.functional import batch_norm, conv2d, max_pool2d, relu

    t = {name: torch.tensor(array) for name, array in tensors.items()}

    def conv(value, layer, norm, stride=1):
        weight = t[f"{layer}.weight"]
        value = conv2d(value, weight, t.get(f"{layer}.bias"), stride, weight.shape[2] // 2)
        return batch_norm(
            value, t[f"{norm}.running_mean"], t[f"{norm}.running_var"],
            t[f"{norm}.weight"], t[f"{norm}.bias"],
        )  # fmt: skip

    value = max_pool2d(relu(conv(x, "conv1", "bn1", 2)), 3, 2, 1)
    for name in ("layer1.0", "layer2.0"):
        stride = 1 if name == "layer1.0" else 2
        past = value
        value = relu(conv(value, f"{name}.conv1", f"{name}.bn1", stride))
        value = conv(value, f"{name}.conv2", f"{name}.bn2")
        if stride == 2:
            past = conv(past, f"{name}.downsample.0", f"{name}.downsample.1", 2)
        value = relu(value + past)
    return value.mean((2, 3)).numpy()


def scaled(windows, backbone):
    """Pixels as the network has them, computed here."""
    mean, scale = (
        np.array(v)[:, None, None] for v in (backbone.intake.mean, backbone.intake.scale)
    )
    return torch.tensor(((windows.x / 255 - mean) / scale).astype(np.float32))


def test_images_folded_network_computes_what_was_trained():
    family, options = SMALL[0]
    windows = pictures(size=48)
    tensors = small_file(family, options, np.random.default_rng(1))
    tensors["conv1.bias"] = np.linspace(-1, 1, 8, dtype=np.float32)  # as vgg16_bn has them
    backbone = family.graph(card_of(options, size=48), dump(tensors)).fit(windows, seed=0)
    wanted = reference_resnet(tensors, scaled(windows, backbone))
    assert np.abs(backbone.embed(windows.x) - wanted).max() < 1e-4


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.slow
def test_images_vgg16_computes_what_its_paper_draws(dense):
    from torch.nn.functional import conv2d, linear, max_pool2d, relu

    size = 224 if dense else 64
    windows, random = pictures(2, size), np.random.default_rng(0)
    tensors = {
        name: random.standard_normal(shape, np.float32)
        * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        for name, shape in shapes_written(vgg.FAMILY, {"dense": dense}, "torchvision").items()
    }
    file = io.BytesIO()
    torch.save({name: torch.tensor(array) for name, array in tensors.items()}, file)
    backbone = vgg.FAMILY.graph(card_of({"dense": dense}, size), file.getvalue())
    backbone = backbone.fit(windows, seed=0)
    t = {name: torch.tensor(array) for name, array in tensors.items()}
    value, index = scaled(windows, backbone), 0
    for features in (64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3, "M"):
        if features == "M":
            value, index = max_pool2d(value, 2, 2), index + 1
            continue
        value = relu(
            conv2d(value, t[f"features.{index}.weight"], t[f"features.{index}.bias"], padding=1)
        )
        index += 2
    if dense:
        value = value.flatten(1)
        for number in (0, 3):
            name = f"classifier.{number}"
            value = relu(linear(value, t[f"{name}.weight"], t[f"{name}.bias"]))
    else:
        value = value.mean((2, 3))
    wanted = value.numpy()
    assert np.abs(backbone.embed(windows.x) - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_images_reports_all_names_that_are_missing_or_not_known():
    family, options = SMALL[0]
    tensors = small_file(family, options, np.random.default_rng(0))
    del tensors["bn1.running_mean"], tensors["layer1.0.conv2.weight"]
    tensors["layer9.0.conv1.weight"] = np.ones((1, 1, 1, 1), np.float32)
    with pytest.raises(ModelError) as wrong:
        family.graph(card_of(options), dump(tensors))
    said = str(wrong.value)
    assert {problem.code for problem in wrong.value.problems} == {"weights-names"}
    for name in ("bn1.running_mean", "layer1.0.conv2.weight", "layer9.0.conv1.weight"):
        assert repr(name) in said


def test_images_refuses_weights_of_another_width_and_broken_ones():
    family = mobilenet.V2
    tensors = small_file(family, {"width": 0.5}, np.random.default_rng(0))
    with pytest.raises(ModelError) as other:
        family.graph(card_of({"width": 0.35}), dump(tensors))
    assert other.value.code == "weights-shape"
    assert len(other.value.problems) > 1
    family, options = SMALL[0]
    tensors = small_file(family, options, np.random.default_rng(0))
    tensors["bn1.running_var"] = tensors["bn1.running_var"][:3]
    with pytest.raises(ModelError) as uneven:
        family.graph(card_of(options), dump(tensors))
    assert uneven.value.code == "weights-shape"
    file = io.BytesIO()
    torch.save({"conv1.weight": torch.full((2, 2), float("nan"))}, file)
    with pytest.raises(ModelError) as broken:
        family.graph(card_of(options), file.getvalue())
    assert broken.value.code == "weights-not-finite"


def test_images_too_small_a_size_is_refused():
    with pytest.raises(ModelError) as small:
        vgg.vgg16(size=(16, 16))
    assert small.value.code == "size-small"


def test_images_options_that_no_network_has_are_named():
    for name, changed in (("cifar-resnet", {"depth": 21}), ("vgg16", {"dense": True, "size": 64})):
        architecture = {"cifar-resnet": cifar_resnet.CifarResNet, "vgg16": vgg.VGG16}[name]
        with pytest.raises(TypeError):
            architecture.from_card(card_of(changed, **changed), None)


def test_images_drawn_residual_branches_start_at_nothing():
    network = load_backbone("cifar-resnet20:random").network
    assert not network.weights["layer2.1.conv2.weight"].any()
    assert network.weights["layer2.1.conv1.weight"].std() > 0.01
    gates = load_backbone("efficientnet-b0:random").network.weights
    assert (gates["stage3.0.excite.bias"] == 4).all()


@pytest.mark.parametrize(
    "name",
    ["resnet8", "cifar-resnet20", "mobilenet-v1-0.25", "mobilenet-v2-0.35", "efficientnet-b0"],
)
def test_images_card_counts_the_weights_that_the_network_has(name):
    backbone = load_backbone(f"{name}:random")
    counted = sum(array.size for array in backbone.weights.values())
    from edgegraft.zoo.backbone import shipped_card

    assert shipped_card(name).n_parameters == counted == backbone.card.n_parameters


def test_images_values_that_are_read_again_are_not_written_over():
    from edgegraft.zoo.layers import Layers, relu6
    from edgegraft.zoo.torch_program import run_torch

    layers = Layers()
    conv = layers.conv("a", "x", 2, 4, kernel=3)
    view = layers.draft.add("reshape", conv, shape=[-1])
    other = layers.conv("b", "x", 2, 4, kernel=3, activation=relu6)
    limited = layers.draft.add("minimum", relu6(layers.draft, conv), other)
    flat = layers.draft.add("reshape", limited, shape=[-1])
    network = layers.finish(layers.draft.add("concat", flat, view, axis=1), blocks=("a", "b"))
    program = network.drawn(0).program
    x = torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    wanted = run_torch(program, x)
    with torch.inference_mode():
        assert torch.equal(run_torch(program, x), wanted)
        kept, _ = run_torch(program, x, outputs=(conv, program.output))
        assert torch.equal(kept.reshape(2, -1), wanted[:, -100:])
        ended, _ = run_torch(program, x, outputs=(other, conv))
        assert ended.min() == 0
    assert torch.equal(x, before)
    assert np.allclose(program.run(x.numpy()), wanted.numpy(), atol=1e-5)


def test_images_are_embedded_the_same_however_many_there_are():
    backbone = load_backbone("mobilenet-v1-0.25:random")
    windows = pictures(12, 64)
    backbone = backbone.fit(windows, seed=0)
    alone = np.concatenate([backbone.embed(windows.x[i : i + 1]) for i in range(12)])
    assert np.allclose(backbone.embed(windows.x), alone, atol=1e-5)
