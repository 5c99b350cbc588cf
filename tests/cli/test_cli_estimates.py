"""Commands on models that estimate: what they print, and the files that they write."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

from edgegraft.cli.app import cli
from edgegraft_edge.errors import OptionError


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A meter with a day in it, and a run that forecasts six hours of it."""
    folder = tmp_path_factory.mktemp("meter")
    random = np.random.default_rng(0)
    hour = np.arange(420)
    load = 10 + 3 * np.sin(hour / 24 * 2 * np.pi) + 0.4 * random.normal(size=len(hour))
    lines = [f"{1_700_000_000 + 3600 * at},{value:.3f}" for at, value in enumerate(load)]
    (folder / "meter.csv").write_text("\n".join(["timestamp,load [kW]", *lines]))
    done = invoke(
        "adapt", folder / "meter.csv", "--task", "forecasting", "--horizon", 6, "--strategy",
        "forecast-ridge", "--folds", 2, "--out", folder / "run",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder, done.output


def test_adapt_shows_the_errors_of_the_task_and_no_accuracy(place):
    said = place[1]
    head = next(line for line in said.splitlines() if line.startswith("row "))
    assert head.split() == ["row", "role", "mase", "rmse", "mae", "coverage", "seconds"]
    assert "raw/forecast-ridge" in said
    assert "raw/seasonal-naive" in said
    assert "MASE better by" in said or "MASE worse by" in said
    assert "points" not in said


def test_evaluate_prints_steps_intervals_and_the_worst_blocks(place):
    folder, _ = place
    said = invoke("evaluate", folder / "run", folder / "meter.csv")
    assert said.exit_code == 0
    assert "interval 90 %" in said.output
    assert "step" in said.output
    assert "windows from sample" in said.output
    plain = json.loads(invoke("evaluate", folder / "run", folder / "meter.csv", "--json").output)
    assert plain["outputs"]["names"] == ["load"]
    assert [entry["step"] for entry in plain["per_step"]] == [1, 2, 3, 4, 5, 6]
    assert plain["unit"] == "block"


def test_predict_writes_a_row_for_each_window_and_a_column_for_each_number(place, tmp_path):
    folder, _ = place
    out = tmp_path / "said.csv"
    done = invoke("predict", folder / "run", folder / "meter.csv", "--out", out, "--json")
    found = json.loads(done.output)
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert found["n"] == len(rows)
    assert "label" not in rows[0]
    columns = list(rows[0])[3:]
    assert columns[:3] == ["load+1@0.05", "load+1@0.5", "load+1@0.95"]
    values = np.array([[float(row[name]) for name in columns] for row in rows])
    low, middle, high = values[:, 0::3], values[:, 1::3], values[:, 2::3]
    assert (low <= middle).all()
    assert (middle <= high).all()
    assert found["ranges"]["load"] == pytest.approx([middle.min(), middle.max()], rel=1e-5)


def test_out_of_scope_is_for_classes(place):
    folder, _ = place
    data = folder / "meter.csv"
    with pytest.raises(OptionError, match="option-unsuited"):
        invoke("evaluate", folder / "run", data, "--out-of-scope", data)


def test_the_report_of_the_run_stands_beside_the_bundle(place):
    folder, _ = place
    report = json.loads((folder / "run" / "report.json").read_text())
    assert len(report["estimates"]["fans"]) >= 3
    assert set(report["estimates"]["controls"]) == {"raw/seasonal-naive", "raw/drift"}
    page = (folder / "run" / "report.html").read_text()
    assert "Forecasts" in page
    assert "hours from now" in page
    assert "accuracy" not in page
    assert "Where it errs most" in (folder / "run" / "report.md").read_text()


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A pump of normal time, a later one with a leak, and a run that learned from the first."""
    folder = tmp_path_factory.mktemp("pump")
    random = np.random.default_rng(0)
    for name, leak in (("normal", False), ("later", True)):
        flow = np.sin(np.arange(3000) / 10) + 0.1 * random.normal(size=3000)
        label = np.full(3000, "normal", dtype=object)
        if leak:
            flow[1500:1700] += 4
            label[1500:1700] = "leak"
        rows = [
            f"{1_700_000_000 + at},{value:.4f},{said}"
            for at, (value, said) in enumerate(zip(flow, label, strict=True))
        ]
        (folder / f"{name}.csv").write_text("\n".join(["timestamp,flow,label", *rows]))
    done = invoke(
        "adapt", folder / "normal.csv", "--test", folder / "later.csv", "--task", "anomaly",
        "--strategy", "fused", "--window-s", 32, "--false-alarms", "1/day", "--out", folder / "run",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder


def test_alarms_along_time_stand_in_the_report_and_in_evaluate(watched):
    section = json.loads((watched / "run" / "report.json").read_text())["detection"]
    assert (section["anomalies"], section["found"]) == (1, 1)
    assert section["asked_per_day"] == 1.0
    assert section["timelines"][0]["channels"] == ["flow"]
    assert "Alarms along time" in (watched / "run" / "report.html").read_text()
    said = invoke("evaluate", watched / "run", watched / "later.csv").output
    assert "1 of 1 anomalies met" in said
    assert "alarmed_share" in said
    plain = json.loads(invoke("evaluate", watched / "run", watched / "later.csv", "--json").output)
    assert plain["detection"]["metrics"]["vus_pr"] > 0.5
    assert [event["kind"] for event in plain["detection"]["events"]].count("found") >= 1
