"""`profile` and `boards` on the command line, and the firmware demo in small."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from edgegraft.cli import firmware
from edgegraft.cli.app import cli
from edgegraft.cli.profile import bar
from edgegraft.export import emulator
from edgegraft.export import profile as profiles
from edgegraft_edge import bundle
from edgegraft_edge.decision import Decision
from edgegraft_edge.signal import Windows

CHANNELS = ("x", "y")


def windows(n_windows=24, seed=0):
    """Loud, quiet and slow ones."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n_windows, 2, 20))
    kinds = np.array(["loud", "quiet", "slow"])[np.arange(n_windows) % 3]
    x[kinds == "quiet"] *= 0.2
    x[kinds == "slow"] = np.cumsum(x[kinds == "slow"], axis=2)
    return Windows.of(x, kinds, rate_hz=10.0, channels=CHANNELS)


@pytest.fixture
def file(tmp_path):
    from edgegraft.adapt.strategy import build_strategy
    from edgegraft.tasks.classification import Classification
    from edgegraft.zoo.registry import load_backbone

    train = windows()
    adapted = build_strategy("probe", {}).adapt(
        load_backbone("statistics"), train, Classification(), seed=0
    )
    made = bundle.make(adapted.program, train.spec, adapted.classes, Decision(), golden=train.x[:4])
    return bundle.write(tmp_path / "model.egb", made)


def run(*arguments):
    found = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert found.exit_code == 0, found.output
    return found.stdout


def test_a_profile_is_one_object_and_needs_no_emulator(file, monkeypatch):
    monkeypatch.setattr(emulator, "missing", lambda: "apt-get install qemu-system-arm")
    monkeypatch.setattr(profiles, "runtime_costs", lambda bundle, model: ())
    found = json.loads(run("profile", file, "--board", "rp2040", "--json"))
    assert found["precision"] == "float"
    assert found["cores"] == []
    assert found["boards"][0]["problems"][0]["code"] == "board-float"
    assert any("apt-get" in note for note in found["notes"])
    text = run("profile", file, "--board", "rp2040")
    assert "no: board-float" in text
    assert "apt-get install qemu-system-arm" in text


def test_an_unknown_board_is_said_before_anything_is_measured(file, monkeypatch):
    monkeypatch.setattr(profiles, "profile", None)
    found = CliRunner().invoke(cli, ["profile", str(file), "--board", "rp2041"])
    assert found.exception.code == "board-unknown"


def test_bars_stay_within_their_room():
    assert bar(5, 10) == "#####..... 50%"
    assert bar(99, 10) == "########## 990%"
    assert bar(1, 0) == "-"


@pytest.mark.slow
@pytest.mark.skipif(bool(emulator.missing()), reason=emulator.missing())
def test_the_firmware_demo_compares_and_says_so(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(firmware, "STEPS", 30)
    train, test = windows(), windows(12, seed=1)
    firmware.firmware_demo(file, train, test, tmp_path, seed=0, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["precision"] == "int8"
    assert found["equal"] is True
    assert len(found["events"]) == 12
    assert bundle.read(tmp_path / firmware.FILE).precision == "int8"
