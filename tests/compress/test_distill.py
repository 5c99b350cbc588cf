"""Students: what the teacher was asked, what was learned, and that it is a model like any other."""

from __future__ import annotations

import numpy as np
import pytest

from edgegraft.adapt.probe import Probe
from edgegraft.compress.distill import Distillation, distill, teach
from edgegraft.compress.quantize import quantized
from edgegraft.compress.teacher import _mixture, _rotations, _strayed, taught
from edgegraft.tasks.classification import Classification
from edgegraft.testing.samples import sample_pictures, sample_sentences, sample_windows
from edgegraft.zoo.micro import Micro, MicroShape
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.decision import Predictions
from edgegraft_edge.errors import DataError, ModelError, OptionError

SMALL = MicroShape((8, 12), (9, 5), (2, 2))
QUICK = Distillation(steps=300, batch_size=32)


@pytest.fixture(scope="module")
def windows():
    return sample_windows(3, 64, 20, noise=1.0)


@pytest.fixture(scope="module")
def pool():
    return sample_windows(3, 64, 40, noise=1.0, seed=1)


@pytest.fixture(scope="module")
def teacher(windows):
    return Probe().adapt(load_backbone("statistics"), windows, Classification(), seed=0)


@pytest.fixture(scope="module")
def said(teacher, windows, pool):
    return taught(teacher, windows, pool, copies=2, mixed=2, seed=0)


@pytest.fixture(scope="module")
def student(said):
    return teach(said, Micro.of(SMALL), QUICK, seed=0)


def test_the_teacher_is_asked_about_every_version_as_it_is_seen(teacher, said, windows, pool):
    assert said.x.shape == (5, 180, 3, 64)
    assert np.array_equal(said.x[0], np.concatenate([windows.x, pool.x]))
    for version in range(5):
        blank = windows.take(np.zeros(len(said.x[version]), int))
        asked = type(windows)(said.x[version], blank.y, blank.groups, windows.spec)
        again = teacher.predict(asked).probabilities
        assert np.allclose(said.probabilities[version], again, atol=1e-6)


def test_labels_of_the_pool_are_not_looked_at(said, windows):
    assert (said.codes[: len(windows)] >= 0).all()
    assert (said.codes[len(windows) :] == -1).all()


def test_what_is_held_out_is_in_no_version_that_is_trained_on(said):
    assert 0 < said.held_out.sum() <= 0.1 * len(said.held_out)
    assert not said.held_out[said.labelled].any()


def test_windows_are_mixed_on_their_own_side_of_the_validation():
    x = np.eye(12, dtype=np.float32)[:, :, None]
    held = np.arange(12) % 3 == 0
    mixed = _mixture(x, held, np.random.default_rng(0))[:, :, 0]
    assert np.allclose(mixed.sum(axis=1), 1)
    assert not mixed[held][:, ~held].any()
    assert not mixed[~held][:, held].any()
    assert (mixed > 0).sum() > 12


def test_sensors_are_turned_as_one_and_no_further():
    matrices = _rotations(500, np.random.default_rng(0))
    assert np.allclose(matrices @ matrices.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(matrices), 1)
    x = np.random.default_rng(1).normal(size=(50, 6, 400)).astype(np.float32)
    x[:, 3:] = x[:, :3]
    turned = _strayed(x, [(0, 1, 2), (3, 4, 5)], np.random.default_rng(2))
    before, after = (np.linalg.norm(each[:, :3].std(axis=2), axis=1) for each in (x, turned))
    assert np.abs(after / before - 1).max() < 0.5
    assert np.abs(np.corrcoef(turned[0])[0, 3]) > 0.999  # one rotation for all sensors
    assert np.abs(np.corrcoef(turned[0, 0], x[0, 0])[0, 1]) < 0.9999


def test_groups_can_be_held_out_whole(teacher, windows, pool):
    found = taught(teacher, windows, pool, copies=0, mixed=0, held_groups=("g1",))
    assert np.array_equal(found.held_out, found.groups == "g1")


def test_a_student_says_what_its_teacher_says(teacher, student):
    test = sample_windows(3, 64, 30, noise=1.0, seed=2)
    wanted, found = teacher.predict(test), student.predict(test)
    agree = (wanted.probabilities.argmax(1) == found.probabilities.argmax(1)).mean()
    assert agree > 0.85
    assert student.classes == teacher.classes


def test_a_student_is_one_program_and_integer_throughout_once_quantised(student, windows):
    program = student.program
    assert np.allclose(program.run(windows.x), student.predict(windows).probabilities, atol=1e-4)
    eight = quantized(program, windows.x)
    assert eight.precision == "int8"
    same = eight.run(windows.x).argmax(1) == program.run(windows.x).argmax(1)
    assert same.mean() > 0.95


def test_the_same_seed_gives_the_same_student(said, student):
    again = teach(said, Micro.of(SMALL), QUICK, seed=0)
    other = teach(said, Micro.of(SMALL), QUICK, seed=1)
    weights = [each.members[0].backbone.weights["stem.conv.weight"] for each in (again, other)]
    own = student.members[0].backbone.weights["stem.conv.weight"]
    assert np.array_equal(own, weights[0])
    assert not np.array_equal(own, weights[1])


def test_a_teacher_is_asked_once(teacher, windows, tmp_path):
    first = taught(teacher, windows, copies=1, mixed=1, cache=tmp_path)

    class Silent:
        program = teacher.program

        def predict(self, asked):
            assert len(asked) <= 1, "asked again"
            return teacher.predict(asked)

    second = taught(Silent(), windows, copies=1, mixed=1, cache=tmp_path)
    assert np.array_equal(first.probabilities, second.probabilities)
    assert len(list(tmp_path.iterdir())) == 1


def test_pictures_and_a_teacher_of_few_windows():
    pictures = sample_pictures(28, 28)
    teacher = Probe().adapt(load_backbone("texture"), pictures, Classification(), seed=0)
    found = distill(
        teacher, pictures, None, Micro.of(SMALL),
        Distillation(steps=100, batch_size=16, copies=1, mixed=1, learning_rate=0.003), seed=0,
    )  # fmt: skip
    assert not found.predict(pictures).probabilities.sum(1).max() > 1.001
    assert found.lineage["windows"] == len(pictures)


def test_a_teacher_without_numbers_is_refused(windows):
    class Lost:
        def predict(self, asked):
            return Predictions(("rest", "spin", "walk"), np.full((len(asked), 3), np.nan))

    with pytest.raises(ModelError) as caught:
        taught(Lost(), windows)
    assert caught.value.code == "probabilities-nan"


def test_text_is_refused(teacher):
    with pytest.raises(DataError) as caught:
        taught(teacher, sample_sentences())
    assert caught.value.code == "kind-differs"


def test_every_option_that_makes_no_sense_is_named():
    with pytest.raises(OptionError) as caught:
        Distillation(steps=0, temperature=0, label_share=2)
    assert len(caught.value.problems) == 3


def test_fixed_features_cannot_be_students(said):
    with pytest.raises(OptionError) as caught:
        teach(said, load_backbone("statistics"), QUICK)
    assert caught.value.code == "backbone-fixed"
