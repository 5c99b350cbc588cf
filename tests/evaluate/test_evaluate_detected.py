"""Alarms along time: what was found, how late, how often in vain, and its pages."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from edgegraft.evaluate.detect_plots import timeline
from edgegraft.evaluate.detect_report import departures, detection_section
from edgegraft.evaluate.detected import evaluate_detection, rows_of
from edgegraft.evaluate.report import as_html, as_json_values, as_markdown
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import GREY, Channel, ImageSpec, Windows, WindowSpec

SPEC = WindowSpec(60.0, 30.0, 0.1, (Channel("flow"), Channel("temp")))


def tape(truth, scores, recording=None, seed=0):
    """Windows of six samples, half overlapping, one row for each recording."""
    truth = np.asarray(truth, dtype=bool)
    recording = np.zeros(len(truth), int) if recording is None else np.asarray(recording)
    start = np.concatenate([3 * np.arange((recording == n).sum()) for n in np.unique(recording)])
    x = np.random.default_rng(seed).normal(size=(len(truth), 2, 6)).astype(np.float32)
    x[truth, 1] += 20
    y = np.where(truth, "leak", "ok")
    names = tuple(f"day{n}.csv" for n in range(int(recording.max()) + 1))
    windows = Windows(x, y, np.full(len(y), ""), SPEC, recording, start, names)
    return windows, np.asarray(scores, dtype=float)


def test_delays_false_alarms_and_misses_are_those_counted_by_hand():
    truth = [0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0]
    scores = [0, 0.8, 0, 0.9, 0.7, 0.2, 0, 0.6, 0, 0, 0, 0]
    windows, scores = tape(truth, scores)
    found = evaluate_detection(scores, windows, "ok", asked_per_day=2.0)
    assert (found.anomalies, found.found, found.false_alarms) == (2, 1, 2)
    assert found.metrics["delay_s"] == 30.0
    assert found.normal_days == pytest.approx(7 * 30 / 86_400)
    assert found.metrics["false_alarms_per_day"] == pytest.approx(2 / (7 * 30 / 86_400))
    assert [(event.kind, event.start_s) for event in found.events] == [
        ("false", 90.0),
        ("found", 150.0),
        ("false", 270.0),
        ("missed", 300.0),
    ]
    assert found.events[1].severity == 0.9
    assert found.intervals == {}  # one recording shows no spread
    json.dumps(as_json_values(found.as_dict()))


def test_an_alarm_that_never_ends_finds_all_and_is_told_by_its_share_of_normal_time():
    windows, _ = tape([0, 0, 0, 0, 1, 1], np.ones(6))
    metrics = evaluate_detection(np.ones(6), windows, "ok").metrics
    assert (metrics["found_share"], metrics["delay_s"]) == (1.0, 0.0)
    assert metrics["false_alarms_per_day"] == 0.0
    assert metrics["alarmed_share"] == 1.0


def test_a_second_alarm_within_one_anomaly_finds_nothing_new():
    windows, scores = tape([0, 1, 1, 1, 1, 0], [0, 0.9, 0, 0, 0.8, 0])
    found = evaluate_detection(scores, windows, "ok")
    assert [event.kind for event in found.events] == ["found", "found"]
    assert [event.delay_s for event in found.events] == [0.0, None]
    assert found.found == 1


def test_the_order_of_windows_does_not_matter_and_recordings_are_apart():
    truth = [0, 0, 1, 1, 0, 0] * 2
    scores = [0, 0, 0, 0.9, 0, 0, 0.9, 0, 0, 0, 0, 0]
    windows, scores = tape(truth, scores, recording=np.repeat([0, 1], 6))
    straight = evaluate_detection(scores, windows, "ok")
    order = np.random.default_rng(0).permutation(12)
    assert evaluate_detection(scores[order], windows.take(order), "ok") == straight
    assert straight.per_recording["day0.csv"]["found"] == 1
    assert straight.per_recording["day1.csv"]["false"] == 1
    assert straight.metrics["found_share"] == 0.5
    low, high = straight.intervals["found_share"]
    assert (low, high) == (0.0, 1.0)


def test_a_perfect_score_is_told_from_a_blind_one():
    truth = np.zeros(400, bool)
    truth[100:130] = truth[300:320] = True
    windows, _ = tape(truth, truth)
    perfect = evaluate_detection(truth.astype(float), windows, "ok").metrics
    blind = evaluate_detection(np.random.default_rng(0).random(400), windows, "ok").metrics
    assert perfect["vus_pr"] > 0.8 > 0.4 > blind["vus_pr"]
    assert perfect["range_f1"] == 1.0


def test_windows_without_order_make_no_row():
    windows, scores = tape([0, 1, 0, 0], [0, 1, 0, 0])
    assert rows_of(replace(windows, recording=np.arange(4)), scores, "ok") == []
    repeated = replace(windows, start=np.zeros(4, int))
    assert rows_of(repeated, scores, "ok") == []
    untested = scores.copy()
    untested[0] = np.nan
    assert len(rows_of(windows, untested, "ok")[0].rows) == 3
    picture = Windows(
        np.zeros((2, 1, 4, 4), np.uint8), np.array(["ok", "ok"]), np.array(["", ""]),
        ImageSpec(4, 4, GREY),
    )  # fmt: skip
    with pytest.raises(DataError, match="not-series"):
        rows_of(picture, np.zeros(2), "ok")
    assert detection_section(np.zeros(2), picture, "ok") == {}


def test_the_channel_that_left_its_level_is_the_one_that_is_shown():
    truth = np.zeros(80, bool)
    truth[30:40] = True
    windows, scores = tape(truth, truth)
    away = departures(windows, "ok")
    assert away[truth, 1].min() > 10 > 6 > np.median(away[truth, 0])
    drawn = detection_section(scores, windows, "ok")["timelines"][0]
    heat = dict(zip(drawn["channels"], drawn["heat"], strict=True))
    assert max(heat["temp"]) > 0.5 > max(heat["flow"])
    given = detection_section(scores, windows, "ok", contributions=np.eye(2)[truth.astype(int)])
    shown = dict(zip(drawn["channels"], given["timelines"][0]["heat"], strict=True))
    assert (np.array(shown["temp"]) > 0.5).tolist() == truth.tolist()


def test_a_long_recording_is_drawn_in_few_places_and_keeps_its_peaks():
    truth = np.zeros(3000, bool)
    scores = np.zeros(3000)
    scores[1711] = 0.97
    windows, scores = tape(truth, scores)
    drawn = detection_section(scores, windows, "ok")["timelines"][0]
    assert len(drawn["x"]) <= 300
    assert max(drawn["score"]) == 0.97


def test_pages_show_the_timeline_the_events_and_what_was_asked_for():
    truth = np.zeros(200, bool)
    truth[50:60] = True
    scores = np.where(truth, 0.9, 0.1)
    scores[120] = 0.8
    windows, scores = tape(truth, scores)
    section = as_json_values(detection_section(scores, windows, "ok", asked_per_day=1.0))
    page, text = as_html({"detection": section}), as_markdown({"detection": section})
    for shown in (page, text):
        assert "Alarms along time" in shown
        assert "1 of 1 anomalies were met by an alarm; 1 false alarm" in shown
        assert "VUS-PR" in shown
    assert "day0.csv" in page
    assert page.count("<svg") > 1
    svg = str(timeline(section["timelines"][0], 0.5))
    assert svg.count('class="alarm"') == 2
    assert svg.count('class="odd full"') == 1
    assert "Alarms along time" not in as_html({"detection": {}})


def test_a_page_without_anomalies_says_that_none_is_labelled():
    windows, scores = tape(np.zeros(50, bool), np.zeros(50))
    section = as_json_values(detection_section(scores, windows, "ok"))
    page = as_html({"detection": section})
    assert "No anomaly is labelled" in page
    assert "nan" not in page.lower().replace("nanum", "")
