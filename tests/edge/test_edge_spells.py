"""Anomalies as spells: alarms, ends, severity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgegraft_edge.decision import Decider, Decision
from edgegraft_edge.gauge import judge_of
from edgegraft_edge.spells import Spells, severity_of

CLASSES = ("anomaly", "ok")


def run(rows, decision=None):
    spells = Spells(decision or Decision(), CLASSES)
    steps = [spells.step(float(at), None if p is None else np.array([p, 1 - p]))
             for at, p in enumerate(rows)]  # fmt: skip
    return [event for event in steps if event is not None]


def test_an_end_tells_how_long_and_how_bad_it_was():
    events = run([0.1, 0.2, 0.7, 0.95, 0.6, 0.3, 0.1, 0.8])
    assert [(e.kind, e.at_s, e.label) for e in events] == [
        ("change", 0.0, "ok"),
        ("alarm", 2.0, "anomaly"),
        ("end", 5.0, "ok"),
        ("alarm", 7.0, "anomaly"),
    ]
    end = events[2]
    assert end.started_s == 2.0
    assert end.severity == severity_of(0.95) == 1.0
    assert events[1].severity == severity_of(0.7)


def test_a_spell_that_begins_with_the_stream_and_one_that_a_gap_breaks():
    events = run([0.9, 0.9, None, 0.9])
    assert [e.kind for e in events] == ["alarm", "end", "alarm"]
    assert events[1].label == "unsure"


def test_hold_off_keeps_one_anomaly_whole():
    rows = [0.1] * 6 + [0.9, 0.4, 0.9, 0.4, 0.9, 0.1, 0.1]
    assert len(run(rows)) == 7
    calm = run(rows, Decision(hold_off_s=5.0))
    assert [e.kind for e in calm] == ["change", "alarm", "end"]
    assert calm[-1].severity == severity_of(0.9)


def test_every_window_carries_its_severity_when_asked_for():
    events = run([0.1, 0.9, 0.99, 0.2], Decision(emit="window"))
    assert [e.kind for e in events] == ["change", "alarm", "window", "end"]
    assert events[2].severity > events[1].severity
    assert events[2].started_s == 1.0


def test_after_a_clock_jump_nothing_is_remembered():
    spells = Spells(Decision(), CLASSES)
    spells.step(0.0, np.array([0.9, 0.1]))
    spells.restart()
    assert spells.step(0.0, np.array([0.1, 0.9])).kind == "change"


@given(st.lists(st.floats(0.01, 0.99), max_size=40), st.integers(1, 4))
def test_spells_say_what_a_plain_decider_says_and_more(rows, smooth):
    decision = Decision(smooth=smooth)
    plain = Decider(decision, CLASSES)
    steps = [plain.step(float(at), np.array([p, 1 - p])) for at, p in enumerate(rows)]
    told = run(rows, decision)
    assert [(e.at_s, e.label, e.probability) for e in steps if e] == [
        (e.at_s, e.label, e.probability) for e in told
    ]
    ends = [e for e in told if e.kind == "end"]
    assert all(e.started_s < e.at_s and e.severity >= 0 for e in ends)


@pytest.mark.parametrize(
    ("classes", "kind"),
    [(CLASSES, Spells), (("a", "b"), Decider), (("anomaly", "a", "b"), Decider)],
)
def test_who_judges_goes_by_the_classes(classes, kind):
    assert type(judge_of(Decision(), classes, None)) is kind
