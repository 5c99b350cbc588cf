"""Everything in the catalog keeps the published contracts; an exclusion stands with its reason."""

from __future__ import annotations

import json
import wave

import numpy as np
import pytest

from edgegraft import catalog
from edgegraft.adapt.strategy import build_strategy, tasks_of
from edgegraft.plan import ESTIMATING as LINES
from edgegraft.plan import ON_WINDOWS
from edgegraft.tasks.anomaly import Anomaly
from edgegraft.tasks.classification import Classification
from edgegraft.testing import (
    check_backbone,
    check_backend,
    check_estimating_task,
    check_estimator,
    check_exporter,
    check_source,
    check_step,
    check_strategy,
    check_task,
    sample_windows,
)
from edgegraft.testing.runtimes import sample_bundle
from edgegraft.testing.samples import sample_pictures, sample_sounds, usual_windows
from edgegraft.zoo.registry import is_here, list_backbones, load_backbone
from edgegraft_edge import backends
from edgegraft_edge.errors import OptionError

LARGE = 100_000  # parameters; what is larger is tried among the slow tests
CARDS = list_backbones()


def loadable(card):
    """The name of a backbone that can be had without fetching weights."""
    return card.name if is_here(card) else f"{card.name}:random"


BACKBONES = [loadable(card) for card in CARDS if card.n_parameters <= LARGE]
# of large ones the smallest of each architecture: the others are the same code
SIZES = sorted(
    (card for card in CARDS if card.n_parameters > LARGE), key=lambda card: -card.n_parameters
)
LARGE_BACKBONES = [loadable(card) for card in {c.architecture: c for c in SIZES}.values()]
ROUNDED = {
    "speech-embedding:random": {
        "portable_low_rate": "through 20 layers of random weights a few features are small "
        "differences of large sums; with its own weights they agree (test_zoo_tflite)"
    }
}


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_keeps_the_contract(name):
    check_backbone(load_backbone(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_BACKBONES)
def test_large_backbone_keeps_the_contract(name):
    if name == "minilm:random":
        pytest.skip("the extra text, which carries its weights and words, is not installed")
    check_backbone(load_backbone(name), leave_out=ROUNDED.get(name))


@pytest.mark.parametrize("name", catalog.names("steps"))
def test_step_keeps_the_contract(name):
    check_step(catalog.find("steps", name))


def made_for(task):
    """Names of the strategies that are made for a task."""
    return [name for name in catalog.names("strategies") if task in tasks_of(name)]


RULES = {"bearing-rule"}  # learn from no label, and read the backbone `orders` alone
STRATEGIES = [name for name in made_for("classification") if name not in RULES]
ESTIMATING = [name for name in catalog.names("tasks") if name in LINES]
NOT_LEARNED: dict[str, str] = {"median": "it says the median of training whatever it sees"}
"""Controls that learn nothing of the kind, with what they do instead."""


@pytest.mark.parametrize(
    ("task", "name"), [(task, name) for task in ESTIMATING for name in made_for(task)]
)
def test_estimator_keeps_the_contract(task, name):
    named = {line[1]: line[0] for line in (*LINES[task].candidates, *LINES[task].controls)}
    backbone = load_backbone(named.get(name, "raw") or "statistics")
    leave_out = {"learns": NOT_LEARNED[name]} if name in NOT_LEARNED else {}
    check_estimator(
        build_strategy(name), backbone, catalog.find("tasks", task)(), leave_out=leave_out
    )


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategy_keeps_the_contract(name):
    check_strategy(build_strategy(name), load_backbone("conv1d-random"), Classification())


def test_distance_keeps_the_contract_of_strategies():
    why = {"single_member": "four normal windows at least are needed, which is tested by itself"}
    task = Anomaly(normal="rest")
    check_strategy(build_strategy("distance"), load_backbone("conv1d-random"), task, leave_out=why)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name == "autoencoder" else [])
     for name in sorted(ON_WINDOWS)],
)  # fmt: skip
def test_experts_of_series_keep_the_contract_of_strategies(name):
    why = {"single_member": "four normal windows at least are needed, which is tested by itself"}
    check_strategy(
        build_strategy(name), load_backbone("raw"), Anomaly(normal="rest"), leave_out=why
    )


TRAINS = ("finetune", "gradual", "lora", "scratch")
FIXED = [card.name for card in list_backbones() if card.kind == "fixed"]


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name != "conv1d-random"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_strategy_keeps_the_contract_on_every_backbone(name, backbone):
    if name in TRAINS and backbone in FIXED:
        pytest.skip("fixed features have no weights to train; that they are refused is tested")
    tuned_sound = name == "finetune" and backbone == "ds-cnn-random"
    why = {"portable": "log power of all but silent bands: up to 2e-4 apart, verify allows 1e-3"}
    check_strategy(
        build_strategy(name),
        load_backbone(backbone),
        Classification(),
        leave_out=why if tuned_sound else {},
    )


@pytest.mark.parametrize("backbone", FIXED)
@pytest.mark.parametrize("name", TRAINS)
def test_strategy_that_trains_refuses_fixed_features(name, backbone):
    with pytest.raises(OptionError) as caught:
        build_strategy(name).adapt(
            load_backbone(backbone),
            usual_windows(load_backbone(backbone)),
            Classification(),
            seed=0,
        )
    assert caught.value.code == "backbone-fixed"


TASK_OPTIONS = {"anomaly": {"normal": "rest"}}


@pytest.mark.parametrize("name", catalog.names("tasks"))
def test_task_keeps_the_contract(name):
    if name in ESTIMATING:
        check_estimating_task(catalog.find("tasks", name)())
        return
    two = {"classes": "two classes whatever the labels are, which test_adapt_normality tries"}
    task = catalog.find("tasks", name)(**TASK_OPTIONS.get(name, {}))
    check_task(task, leave_out=two if name == "anomaly" else {})


LOWERS = ("executorch",)  # through three packages, a second or two a model


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LOWERS else [])
        for name in catalog.names("exporters")
    ],
)
def test_exporter_keeps_the_contract(name):
    check_exporter(catalog.find("exporters", name)(), name)


@pytest.mark.parametrize("name", backends.names())
def test_backend_keeps_the_contract(name):
    bundle = sample_bundle()
    if name != "numpy":
        bundle = catalog.find("exporters", name)().export(bundle)
    check_backend(backends.find(name), bundle)


def npz(folder):
    windows = sample_windows()
    path = folder / "windows.npz"
    np.savez(path, x=windows.x, y=windows.y, groups=windows.groups, rate_hz=50.0)
    return str(path)


def csv(folder):
    lines = ["timestamp,acc_x,acc_y,label"]
    for row in range(600):
        lines.append(f"{row * 0.02:.2f},{np.sin(row / 3):.4f},{row % 7},{'ab'[row // 300]}")
    path = folder / "walk.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def edge_impulse(folder):
    for label in ("idle", "wave"):
        values = np.random.default_rng(len(label)).normal(size=(200, 2)).round(3).tolist()
        sample = {
            "protected": {"ver": "v1", "alg": "none", "iat": 1700000000},
            "signature": "0" * 64,
            "payload": {
                "device_type": "TEST",
                "interval_ms": 20,
                "sensors": [{"name": name, "units": "m/s2"} for name in ("accX", "accY")],
                "values": values,
            },
        }
        (folder / f"{label}.1.json").write_text(json.dumps(sample))
    return str(folder)


def sentences(folder):
    path = folder / "commands.csv"
    path.write_text("text,intent\nturn it on,light\nis it cold,weather\nlights off,light\n")
    return str(path)


def pictures(folder):
    from PIL import Image

    windows = sample_pictures()
    for number, (x, label) in enumerate(zip(windows.x, windows.y, strict=True)):
        (folder / label).mkdir(exist_ok=True)
        Image.fromarray(x.transpose(1, 2, 0)).save(folder / label / f"{number}.png")
    return str(folder)


def sounds(folder):
    for number, (x, label) in enumerate(zip(sample_sounds().x, sample_sounds().y, strict=True)):
        (folder / label).mkdir(exist_ok=True)
        with wave.open(str(folder / label / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes((x[0] * 32767).astype("<i2").tobytes())
    return str(folder)


PLACES = {
    "sound": sounds,
    "npz": npz,
    "images": pictures,
    "text": sentences,
    "table": csv,
    "edge-impulse": edge_impulse,
    "aeon": lambda folder: "aeon:BasicMotions",
    "synthetic": lambda folder: "synthetic:n=30",
}

LEFT_OUT = {"synthetic": {"missing": "it makes its data up, so that nothing can be missing"}}


@pytest.mark.parametrize("name", catalog.names("sources"))
def test_source_keeps_the_contract(name, tmp_path):
    if name == "aeon":
        pytest.importorskip("aeon", reason="the demo extra is not installed")
    source = catalog.find("sources", name)()
    check_source(source, PLACES[name](tmp_path), leave_out=LEFT_OUT.get(name))
