"""The training loop: deterministic, interruptible, resumable to the bit, strict about options."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft.adapt import checkpoint as store
from edgegraft.adapt.loop import Lesson, Target, Training, torch_threads, train
from edgegraft_edge.errors import ModelError, OptionError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype(np.float32)
TRUTH = RNG.normal(size=(6, 1)).astype(np.float32)


def lesson(validate=False, pace=None, fails=None, noise=0.1):
    """Linear regression with noise drawn from the loop's generator."""
    x, y = torch.tensor(X), torch.tensor(X @ TRUTH)
    calls = []

    def loss(parameters, batch, random):
        calls.append(len(batch))
        if fails is not None and len(calls) > fails:
            raise KeyboardInterrupt
        jitter = torch.tensor(random.normal(0, noise, (len(batch), 6)).astype(np.float32))
        return ((x[batch] + jitter) @ parameters["w"] + parameters["b"] - y[batch]).square().mean()

    def judge(parameters):
        error = (x @ parameters["w"] + parameters["b"] - y).square().mean()
        return {"loss": float(error), "fit": float(1 / (1 + error))}

    start = {"w": np.zeros((6, 1), dtype=np.float32), "b": np.ones(1, dtype=np.float32)}
    extra = {"pace": pace} if pace else {}
    return Lesson(start, 40, loss, judge if validate else None, metrics=("loss", "fit"), **extra)


OPTIONS = {"epochs": 12, "learning_rate": 0.05, "batch_size": 10}


@pytest.mark.parametrize("optimiser", ["gradient-descent", "sgd", "adam", "adamw"])
def test_loop_learns_with_every_optimiser(optimiser):
    seen = []
    done = train(
        lesson(noise=0.0),
        Training(optimiser=optimiser, epochs=60, learning_rate=0.1, batch_size=10),
        seed=0,
        watch=lambda event, values: seen.append((event, values)),
    )
    assert done.stopped == "epochs"
    assert done.history[-1]["loss"] < 0.1 * done.history[0]["loss"]
    assert seen[-1] == ("epoch", {**done.history[-1], "epochs": 60})


def test_loop_gradient_descent_takes_all_windows_in_one_step():
    sizes = []
    task = lesson()

    def loss(parameters, batch, random):
        sizes.append(len(batch))
        return task.loss(parameters, batch, random)

    train(
        Lesson(task.parameters, 40, loss),
        Training(optimiser="gradient-descent", epochs=3, batch_size=10),
        seed=0,
    )
    assert sizes == [40, 40, 40]


def test_loop_follows_the_seed():
    first, again, other = (train(lesson(), Training(**OPTIONS), seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.parameters["w"], again.parameters["w"])
    assert not np.array_equal(first.parameters["w"], other.parameters["w"])


def test_loop_pace_zero_leaves_a_parameter_as_it_was():
    done = train(lesson(pace=lambda name, epoch: float(name == "w")), Training(**OPTIONS), seed=0)
    assert np.array_equal(done.parameters["b"], [1.0])
    assert not np.array_equal(done.parameters["w"], np.zeros((6, 1)))


def test_loop_stops_at_a_target_and_keeps_the_weights_that_met_it():
    done = train(
        lesson(validate=True), Training(**{**OPTIONS, "epochs": 80}, until="fit>=0.5"), seed=0
    )
    assert done.stopped == "target"
    assert done.history[-1]["validation_fit"] >= 0.5 > done.history[-2]["validation_fit"]
    assert done.best_epoch == len(done.history) < 80


def test_loop_patience_gives_the_best_epoch_back():
    start = lesson(validate=True)
    rising = iter([3.0, 1.0, 2.0, 2.0, 2.0, 2.0])
    states = []

    def judge(parameters):
        states.append(parameters["w"].numpy().copy())
        return {"loss": next(rising)}

    done = train(
        Lesson(start.parameters, 40, start.loss, judge), Training(**OPTIONS, patience=3), seed=0
    )
    assert (done.stopped, done.best_epoch, len(done.history)) == ("patience", 2, 5)
    assert np.array_equal(done.parameters["w"], states[1])


def test_loop_max_seconds_ends_it():
    done = train(lesson(), Training(epochs=100_000, max_seconds=0.05), seed=0)
    assert done.stopped == "seconds"
    assert 1 <= len(done.history) < 100_000


def test_loop_interrupt_keeps_what_was_reached():
    whole = train(lesson(), Training(**{**OPTIONS, "epochs": 12}), seed=0)
    cut = train(lesson(fails=4 * 3 + 2), Training(**OPTIONS), seed=0)  # in the fourth epoch
    assert cut.stopped == "interrupt"
    assert cut.best_epoch == 3
    assert cut.history == whole.history[:3]


def test_loop_sets_threads_and_gives_them_back():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with pytest.raises(KeyboardInterrupt), torch_threads(before + 1):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == before


def test_loop_loss_that_is_not_finite_is_an_error_with_a_remedy():
    with pytest.raises(ModelError, match="loss-not-finite"):
        train(lesson(), Training(optimiser="sgd", learning_rate=1e6, epochs=50), seed=0)


# -- checkpoints


@pytest.mark.parametrize("optimiser", ["gradient-descent", "sgd", "adam", "adamw"])
def test_loop_resumes_to_the_same_bits(tmp_path, optimiser):
    options = Training(**OPTIONS, optimiser=optimiser)
    whole = train(lesson(validate=True), options, seed=3)
    path = tmp_path / "run.safetensors"
    per_epoch = 1 if optimiser == "gradient-descent" else 4
    cut = train(
        lesson(validate=True, fails=5 * per_epoch),
        options,
        seed=3,
        checkpoint=path,
        fingerprint="a",
    )
    assert cut.stopped == "interrupt"
    resumed = train(lesson(validate=True), options, seed=3, checkpoint=path, fingerprint="a")
    assert resumed.history == whole.history
    for name, array in whole.parameters.items():
        assert np.array_equal(resumed.parameters[name], array)
    finished = train(lesson(fails=0), options, seed=3, checkpoint=path, fingerprint="a")
    assert np.array_equal(finished.parameters["w"], whole.parameters["w"])


CHILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_loop import OPTIONS, lesson
from edgegraft.adapt.loop import Training, train
train(lesson(validate=True), Training(**OPTIONS), seed=3, checkpoint=Path(sys.argv[2]),
      fingerprint="a", watch=lambda event, values: (print("epoch", flush=True), time.sleep(0.03)))
"""


def test_loop_killed_process_resumes_to_the_same_bits(tmp_path):
    path = tmp_path / "run.safetensors"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    for _ in range(4):
        assert child.stdout.readline() == b"epoch\n"
    time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    reached = store.read(path).state["epoch"]
    assert 3 <= reached < OPTIONS["epochs"]
    resumed = train(
        lesson(validate=True), Training(**OPTIONS), seed=3, checkpoint=path, fingerprint="a"
    )
    whole = train(lesson(validate=True), Training(**OPTIONS), seed=3)
    assert resumed.history == whole.history
    assert np.array_equal(resumed.parameters["w"], whole.parameters["w"])


def test_loop_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    train(lesson(), Training(epochs=1), seed=0, checkpoint=path, fingerprint="a")
    with pytest.raises(ModelError, match="checkpoint-other"):
        train(lesson(), Training(epochs=1), seed=0, checkpoint=path, fingerprint="b")


@pytest.mark.parametrize("cut", [0, 5, 60, -1])
def test_loop_damaged_checkpoint_is_named(tmp_path, cut):
    path = tmp_path / "run.safetensors"
    train(lesson(), Training(epochs=1), seed=0, checkpoint=path, fingerprint="a")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match="checkpoint-damaged"):
        train(lesson(), Training(epochs=1), seed=0, checkpoint=path, fingerprint="a")


def test_checkpoint_leaves_the_old_one_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    store.write(path, store.Checkpoint({"w": X}, {"epoch": 1}))

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.write(path, store.Checkpoint({"w": X}, {"epoch": 2}))
    assert store.read(path).state == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["run.safetensors"]


# -- options


def test_training_lists_all_that_is_wrong():
    with pytest.raises(OptionError) as caught:
        Training(epochs=0, learning_rate=0, loss="mae", optimiser="adamm", patience=-1)
    assert [problem.code for problem in caught.value.problems] == [
        "option-range",
        "option-range",
        "option-range",
        "option-value",
        "option-value",
    ]
    assert "adam" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "macro_f1",
        "macro_f1>=",
        ">=0.9",
        "f1=0.9",
        "f1=>0.9",
        "f1>=0.9 and x>1",
        "F1>=.9",
        "f1>=nan",
    ],
)
def test_target_refuses_what_is_none(text):
    with pytest.raises(OptionError, match="target-form"):
        Training(until=text)


def test_target_names_the_nearest_metric_and_needs_validation():
    with pytest.raises(OptionError, match=r"metric-unknown.*Try: fit"):
        train(lesson(validate=True), Training(until="fitt>=0.5"), seed=0)
    with pytest.raises(OptionError, match="target-unseen"):
        train(lesson(), Training(until="fit>=0.5"), seed=0)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=24))
def test_target_parses_or_refuses_any_text(text):
    try:
        target = Target.parse(text)
    except OptionError:
        return
    assert Target.parse(f"{target.metric}{target.sign}{target.value:.9f}").metric == target.metric


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["accuracy", "macro_f1", "log_loss"]),
    st.sampled_from([">=", "<=", ">", "<"]),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_target_is_met_as_its_sign_says(metric, sign, value, found):
    target = Target.parse(f" {metric} {sign} {value:.6f} ")
    expected = {">=": found >= target.value, "<=": found <= target.value}
    expected |= {">": found > target.value, "<": found < target.value}
    assert target.met({metric: found}) == expected[sign]
