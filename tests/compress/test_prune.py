"""Pruning: channels that belong together go together, and what is left is the same network."""

from __future__ import annotations

import numpy as np
import pytest

from edgegraft.adapt.probe import Probe, Trees
from edgegraft.compress.channels import channels
from edgegraft.compress.distill import Distillation
from edgegraft.compress.prune import Pruning, pruned, trained_constants
from edgegraft.compress.quantize import quantized
from edgegraft.compress.teacher import taught
from edgegraft.tasks.classification import Classification
from edgegraft.testing.samples import sample_pictures, sample_windows
from edgegraft.zoo.layers import Layers, relu
from edgegraft.zoo.micro import MicroShape, micro
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import ModelError, OptionError
from edgegraft_edge.program import Draft, chain

QUICK = Distillation(steps=100, batch_size=16, learning_rate=1e-3)


def residual(n_in=3, width=8):
    """A stem, a residual block with a depthwise convolution, both pools, and a dense head."""
    layers = Layers()
    stem = layers.conv("stem", "x", n_in, width, kernel=3, activation=relu)
    inner = layers.conv("one", stem, width, 12, kernel=3, activation=relu)
    inner = layers.conv("deep", inner, 12, 12, kernel=3, groups=12, activation=relu)
    inner = layers.conv("two", inner, 12, width)
    value = layers.add(stem, inner, relu)
    pools = [layers.draft.add(k, value, axes=[2, 3], keepdims=False) for k in ("mean", "max")]
    value = layers.linear("dense", layers.draft.add("concat", *pools, axis=1), 2 * width, 10)
    value = layers.linear("out", value, 10, 3)
    network = layers.finish(layers.draft.add("softmax", value, axis=-1), blocks=("stem",))
    return network.drawn(0).program


def zeroed(found, gone):
    """The program whose channels give and take nothing, by zeros instead of smaller tensors."""
    constants = {name: array.copy() for name, array in found.program.constants.items()}
    for name, places in found.slices.items():
        for axis, ids in places:
            index = [slice(None)] * constants[name].ndim
            index[axis] = np.isin(ids, list(gone))
            constants[name][tuple(index)] = 0
    return type(found.program)(found.program.ops, constants, found.program.output)


def test_channels_of_a_residual_block_go_together():
    found = channels(residual(), 3, 8, 8)
    sizes = sorted(len(space) for space in found.spaces)
    assert sizes == [8, 10, 12]  # stem and two; dense; one and deep. The classes stay.
    by_name = {layer.weight: layer.ids.tolist() for layer in found.layers}
    assert by_name["stem.weight"] == by_name["two.weight"]
    assert set(by_name["out.weight"]) == {0}


def test_the_smaller_program_computes_what_the_large_one_does_without_them():
    program = residual()
    found = channels(program, 3, 8, 8)
    gone = {int(number) for space in found.spaces for number in space[1::3]}
    smaller = found.without(gone)
    x = np.random.default_rng(1).normal(size=(4, 3, 8, 8)).astype(np.float32)
    assert np.allclose(smaller.run(x), zeroed(found, gone).run(x), atol=1e-5)
    assert smaller.size_bytes < 0.6 * program.size_bytes
    depthwise = next(op for op in smaller.ops if op.attrs.get("groups", 1) > 1)
    assert depthwise.attrs["groups"] == 8 == len(smaller.constants[depthwise.inputs[1]])


def test_flattened_maps_lose_all_places_of_a_channel():
    draft = Draft()
    value = draft.add("conv1d", "x", np.ones((4, 2, 3), np.float32), np.arange(4.0))
    value = draft.add("reshape", value, shape=[4 * 6])
    weight = np.random.default_rng(0).normal(size=(24, 2))
    program = draft.finish(draft.add("softmax", draft.add("matmul", value, weight), axis=-1))
    found = channels(program, 2, 8)
    gone = {int(found.spaces[0][1])}
    x = np.random.default_rng(1).normal(size=(3, 2, 8)).astype(np.float32)
    assert np.allclose(found.without(gone).run(x), zeroed(found, gone).run(x), atol=1e-6)


def test_a_picked_channel_stays():
    draft = Draft()
    value = draft.add("conv1d", "x", np.ones((4, 2, 3)), np.zeros(4))
    value = draft.add("slice", value, axis=1, start=1, stop=3)
    program = draft.finish(draft.add("mean", value, axes=[2], keepdims=False))
    assert channels(program, 2, 8).spaces == ()


@pytest.mark.parametrize("importance", ["taylor", "norm"])
def test_a_network_loses_channels_and_learns_again(importance):
    windows = sample_windows(3, 64, 20, noise=0.5)
    network = micro(MicroShape((8, 16), (5, 5), (2, 2)), 3).drawn(0)
    front = Draft()
    program = chain(
        front.finish(front.add("reshape", "x", shape=[3, 1, 64])), network.program, head(32, 3)
    )
    teacher = Probe().adapt(load_backbone("statistics"), windows, Classification(), seed=0)
    said = taught(teacher, windows, copies=1, mixed=1)
    options = Pruning(share=0.4, rounds=2, importance=importance, recovery=QUICK)
    smaller = pruned(program, said, options, seed=0)
    shapes = [smaller.constants[op.inputs[1]].shape for op in smaller.ops if op.kind == "conv2d"]
    assert shapes[0][0] == shapes[1][1]
    assert sum(shape[0] for shape in shapes) <= 0.75 * 24
    assert all(shape[0] % 4 == 0 for shape in shapes)
    wanted = teacher.predict(windows).probabilities.argmax(1)
    assert (smaller.run(windows.x).argmax(1) == wanted).mean() > 0.6
    assert quantized(smaller, windows.x).float_operations == ()


def head(n_in, n_out):
    draft = Draft()
    weight = np.random.default_rng(0).normal(0, 0.2, (n_in, n_out))
    logits = draft.add("add", draft.add("matmul", "x", weight), np.zeros(n_out))
    return draft.finish(draft.add("softmax", logits, axis=-1))


def test_pictures_and_their_preparation():
    pictures = sample_pictures(24, 24)
    model = Probe().adapt(
        load_backbone("cifar-resnet20:random"), pictures, Classification(), seed=0
    )
    found = channels(model.program, *pictures.spec.shape)
    assert sorted(len(space) for space in found.spaces)[-1] == 64
    assert all(name in model.program.constants for name in trained_constants(model.program))
    gone = {int(space[0]) for space in found.spaces}
    kept = found.without(gone)
    assert np.allclose(kept.run(pictures.x), zeroed(found, gone).run(pictures.x), atol=1e-4)


def test_trees_are_refused_by_name():
    windows = sample_windows(3, 64, 8)
    forest = Trees(n_trees=3).adapt(load_backbone("statistics"), windows, Classification(), seed=0)
    with pytest.raises(ModelError) as caught:
        pruned(forest.program, taught(forest, windows, copies=0, mixed=0))
    assert caught.value.code == "prune-operation"
    assert "trees" in str(caught.value)


def test_nothing_to_leave_out_is_refused():
    windows = sample_windows(3, 64, 8)
    model = Probe().adapt(load_backbone("statistics"), windows, Classification(), seed=0)
    program = chain(micro_program(), head(8, 3))
    with pytest.raises(ModelError) as caught:
        pruned(program, taught(model, windows, copies=0, mixed=0), Pruning(least=64))
    assert caught.value.code == "prune-nothing"


def micro_program():
    front = Draft()
    reshaped = front.finish(front.add("reshape", "x", shape=[3, 1, 64]))
    return chain(reshaped, micro(MicroShape((4,), (3,), (2,)), 3).drawn(0).program)


def test_every_option_that_makes_no_sense_is_named():
    with pytest.raises(OptionError) as caught:
        Pruning(share=1.0, rounds=0, importance="luck")
    assert len(caught.value.problems) == 3
