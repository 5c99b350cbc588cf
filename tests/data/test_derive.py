"""Derived channels on opening data, and in a model made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgegraft as eg
from edgegraft.data.arrays import write_npz
from edgegraft.data.dataset import open_data, open_like
from edgegraft.export.c.exporter import CExporter
from edgegraft.export.stream import stream_files
from edgegraft.tasks.forecasting import Forecasting
from edgegraft_edge.bundle import make
from edgegraft_edge.errors import DataError, ExportError
from edgegraft_edge.program import Draft


def table(path: Path, times: list[float], name: str = "plant.csv") -> Path:
    rows = [f"{time},{10 + place % 7},{place}" for place, time in enumerate(times)]
    file = path / name
    file.write_text("\n".join(["timestamp,temp,load", *rows]) + "\n")
    return file


BEGIN_S = 1_700_000_000


def test_channels_are_derived_on_opening(tmp_path):
    file = table(tmp_path, [BEGIN_S + 60 * place for place in range(300)])
    data = open_data(file, derive="start:*:5,hour,heating:temp:18", time_unit="s")
    assert [channel.name for channel in data.channels] == [
        "temp", "load", "start:temp:5", "start:load:5", "hour.sin", "hour.cos", "heating:temp:18",
    ]  # fmt: skip
    values = data.recordings[0].values
    assert values[3, -1] == 2.0
    np.testing.assert_allclose(values[6], 18 - values[0], atol=1e-6)


def test_a_gap_keeps_the_beginning_and_the_clock(tmp_path):
    times = [BEGIN_S + 60 * place + 36000 * (place >= 150) for place in range(300)]
    data = open_data(table(tmp_path, times), derive=("start:load:5", "age", "hour"), time_unit="s")
    first, second = data.recordings
    assert second.values[2, 0] == 2.0
    assert second.values[3, 0] == first.values[3, -1] + 60
    hours = np.arctan2(*second.values[4:, 0]) / (2 * np.pi) * 24 % 24
    assert hours == pytest.approx((second.start_s % 86400) / 3600, abs=1e-3)


def test_each_file_begins_anew(tmp_path):
    for number, name in enumerate(("a.csv", "b.csv")):
        table(tmp_path, [BEGIN_S + 10**5 * number + 60 * place for place in range(100)], name)
    data = open_data(tmp_path, derive="age", time_unit="s")
    assert [recording.values[-1, 0] for recording in data.recordings] == [0, 0]


def test_a_calendar_of_rows_without_a_clock_is_refused_by_name(tmp_path):
    with pytest.raises(DataError) as caught:
        open_data(table(tmp_path, list(range(300))), derive="weekday")
    assert caught.value.code == "clock-unknown"
    assert "plant.csv" in str(caught.value)


def test_a_misspelt_channel_is_named(tmp_path):
    with pytest.raises(DataError) as caught:
        open_data(table(tmp_path, list(range(300))), derive="heating:tmep:18")
    assert (caught.value.code, caught.value.problems[0].remedy) == ("channel-missing", "temp")


def test_ready_windows_have_no_beginning():
    with pytest.raises(DataError) as caught:
        open_data("synthetic:n=60,seed=1", derive="age")
    assert caught.value.code == "derive-windows"


def test_windows_with_derived_channels_are_written_and_read(tmp_path):
    file = table(tmp_path, [BEGIN_S + 60 * place for place in range(300)])
    windows = open_data(file, derive="start:load:5,hour", time_unit="s").windows()
    assert open_data(write_npz(windows, tmp_path / "w.npz")).windows().spec == windows.spec


def test_a_model_of_derived_channels_finds_them_in_new_data(tmp_path):
    times = [BEGIN_S + 60 * place for place in range(600)]
    file = table(tmp_path, times)
    text = file.read_text().splitlines()
    label = ["day" if (place // 150) % 2 else "night" for place in range(600)]
    rows = [f"{row},{name}" for row, name in zip(text[1:], label, strict=True)]
    (tmp_path / "labelled.csv").write_text("\n".join([f"{text[0]},label", *rows]))
    options = {"derive": "mean:temp:9,age", "window_s": 600.0, "time_unit": "s", "label": "label"}
    run = eg.adapt(tmp_path / "labelled.csv", strategy="probe", backbone="statistics", folds=2,
                   curve=False, data_options=options)  # fmt: skip
    found = run.bundle.predict(open_like(file, run.bundle.spec, time_unit="s").windows())
    assert len(found.probabilities) == 119
    assert np.isfinite(found.probabilities).all()


def test_c_takes_whole_windows_of_derived_channels_but_no_stream(tmp_path):
    file = table(tmp_path, [BEGIN_S + 60 * place for place in range(300)])
    windows = open_data(file, derive="age", time_unit="s").windows()
    draft = Draft()
    mean = draft.add("mean", "x", axes=[2], keepdims=False)
    program = draft.finish(draft.add("softmax", draft.add("matmul", mean, np.eye(3)), axis=-1))
    bundle = make(program, windows.spec, ("a", "b", "c"), golden=windows.x[:2])
    with pytest.raises(ExportError) as caught:
        stream_files(bundle)
    assert caught.value.code == "stream-derived"
    assert "src/model.c" in CExporter().sources(bundle)
    assert "src/model_stream.c" not in CExporter().sources(bundle)


def test_a_forecast_is_of_what_is_measured(tmp_path):
    file = table(tmp_path, [BEGIN_S + 3600 * place for place in range(400)])
    data = open_data(file, derive="hour,heating:temp:18", time_unit="s")
    task = Forecasting(horizon=6, context=48)
    assert task.bound(task.windows(data)).target == ("temp", "load")
    ahead = replace(task, known=("hour.sin",))
    with pytest.raises(DataError) as caught:
        ahead.bound(ahead.windows(data))
    assert caught.value.code == "known-derived"
