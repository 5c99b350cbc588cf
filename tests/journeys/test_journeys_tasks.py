"""Each task from a table to events, as a user does it in the shell."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgegraft.cli.app import run
from edgegraft.plan import plan_estimates
from edgegraft.tasks.regression import Regression
from edgegraft.testing import sample_series
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.cli import main as edge

HOURS = 24 * 40


@pytest.fixture
def shell(capsys):
    """Runs `edgegraft`; gives what it said, read where it is JSON."""

    def run_it(*words):
        capsys.readouterr()
        code = run([str(word) for word in words])
        found = capsys.readouterr()
        assert code == 0, found.err
        return json.loads(found.out) if "--json" in words else found.out

    return run_it


@pytest.fixture
def refused(capsys):
    """Runs `edgegraft`, which must refuse; gives why."""

    def run_it(*words):
        capsys.readouterr()
        assert run([str(word) for word in words]) != 0
        return capsys.readouterr().err

    return run_it


@pytest.fixture
def events(capsys):
    """Runs `edgegraft-edge`; gives its events."""

    def run_it(*words):
        capsys.readouterr()
        assert edge([str(word) for word in words]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line]

    return run_it


def write(path, columns):
    names, values = list(columns), list(columns.values())
    rows = (",".join(f"{each:.10g}" for each in row) for row in zip(*values, strict=True))
    path.write_text("\n".join([",".join(names), *rows]) + "\n")
    return path


def load_and_weather(path, hours=HOURS, seed=0):
    """A meter's hourly load: a day, a week, and the cold outside."""
    random, hour = np.random.default_rng(seed), np.arange(hours)
    cold = 10 + 5 * np.sin(2 * np.pi * hour / 24 + 1) + random.normal(size=hours).cumsum() * 0.1
    day = 20 + 8 * np.sin(2 * np.pi * hour / 24) + 3 * (hour // 24 % 7 < 5)
    load = day - 0.5 * cold + 0.5 * random.normal(size=hours)
    return write(path, {"timestamp": 1.7e9 + 3600.0 * hour, "load": load, "outside": cold})


def units(folder, count=6, seed=0):
    """Run-to-failure units: one file each, whose vibration grows towards the end."""
    random = np.random.default_rng(seed)
    folder.mkdir()
    for unit in range(count):
        life = int(random.integers(80, 140))
        cycle = np.arange(life)
        wear = np.exp(4.0 * (cycle / life - 1))
        vibration = 1 + 0.1 * unit + 2 * wear + 0.05 * random.normal(size=life)
        heat = 50 + 5 * wear + 0.3 * random.normal(size=life)
        time = 1.7e9 + 3600.0 * cycle
        columns = {"timestamp": time, "vibration": vibration, "heat": heat}
        write(folder / f"unit{unit}.csv", columns)
    return folder


def test_forecast_from_a_table_to_events(tmp_path, shell, events):
    table = load_and_weather(tmp_path / "meter.csv")
    place = tmp_path / "run"
    said = shell("adapt", table, "--task", "forecasting", "--target", "load", "--horizon", 12,
                 "--season", 24, "--folds", 2, "--out", place, "--json")  # fmt: skip
    rows = {row["strategy"]: row["metrics"] for row in [*said["candidates"], *said["controls"]]}
    best = min(metrics["mase"] for name, metrics in rows.items() if name.startswith("forecast"))
    assert best < rows["seasonal-naive"]["mase"] < rows["drift"]["mase"]
    assert 0.8 < said["evaluation"]["metrics"]["coverage"] <= 1
    shell("export", place, "--format", "onnx", "--out", tmp_path / "meter.egb")
    assert "ok" in shell("verify", tmp_path / "meter.egb")
    later = load_and_weather(tmp_path / "later.csv", seed=1)
    scored = shell("evaluate", tmp_path / "meter.egb", later, "--json")
    assert scored["metrics"]["mase"] < 2
    found = events("run", tmp_path / "meter.egb", "--source", later)
    assert found[0]["kind"] == "estimate"
    assert {"load+1@0.5", "load+12@0.95"} <= set(found[0]["values"])


def test_soft_sensor_of_a_table(tmp_path, shell):
    table = load_and_weather(tmp_path / "meter.csv")
    place = tmp_path / "run"
    said = shell("adapt", table, "--task", "regression", "--target", "load", "--window-s", 86400,
                 "--stride-s", 21600, "--backbone", "statistics", "--folds", 2, "--derive", "hour",
                 "--out", place, "--json")  # fmt: skip
    assert said["evaluation"]["metrics"]["r2"] > 0.3
    lines = (place / "report.md").read_text()
    assert "load" in lines


def test_remaining_life_of_units(tmp_path, shell, events):
    folder = units(tmp_path / "units")
    place = tmp_path / "run"
    said = shell("adapt", folder, "--task", "regression", "--target", "remaining",
                 "-o", "regression.unit=h", "-o", "regression.cap=80", "--window-s", 36000,
                 "--stride-s", 14400, "--derive", "start:*:5", "--backbone", "statistics",
                 "--folds", 3, "--out", place, "--json")  # fmt: skip
    rows = {
        f"{row['backbone']}/{row['strategy']}": row["metrics"]
        for row in [*said["candidates"], *said["controls"]]
    }
    shipped = f"{said['shipped']['backbone']}/{said['shipped']['strategy']}"
    assert rows[shipped]["rmse"] < 0.7 * rows["raw/median"]["rmse"]
    found = events("run", place / "model.egb", "--source", folder / "unit0.csv")
    first, last = (each["values"]["remaining@0.5"] for each in (found[0], found[-1]))
    assert last < 25 < first


def test_a_pretrained_network_that_estimates_stands_beside_itself_with_random_weights():
    windows = sample_series()
    task = Regression().bound(windows)
    rows = plan_estimates(load_backbone("conv1d-motion"), "auto", {}, task)
    roles = {row.name: (row.role, row.pretrained) for row in rows}
    assert roles["conv1d-motion/regress"] == ("candidate", True)
    assert roles["conv1d-motion-scratch/regress"] == ("control", False)
    assert roles["raw/median"] == ("control", False)


def test_what_cannot_be_estimated_is_refused_with_a_code(tmp_path, refused):
    table = load_and_weather(tmp_path / "meter.csv", hours=20)
    said = refused("adapt", table, "--task", "forecasting", "--horizon", 96)
    assert "series-short" in said
    said = refused("adapt", table, "--task", "regression", "--target", "lode")
    assert "target-unknown" in said
    assert "load" in said
    said = refused("adapt", table, "--task", "forecasting", "--strategy", "probe")
    assert "series-short" in said or "strategy-task" in said
    said = refused("adapt", table, "--task", "forecasting", "-o", "forecasting.horizonn=3")
    assert "horizon" in said


@pytest.mark.parametrize("task", ["forecasting", "regression", "anomaly"])
def test_doctor_knows_the_task(tmp_path, shell, task):
    table = load_and_weather(tmp_path / "meter.csv")
    target = () if task == "anomaly" else ("--target", "load")
    assert shell("doctor", table, "--task", task, *target, "--json")
