"""Decisions: batch and stream agree with a plain model of what the options promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft_edge.decision import Decider, Decision, Event, Predictions, decide
from edgegraft_edge.errors import OptionError

CLASSES = ("a", "b", "c")


def _plain(decision: Decision, rows: np.ndarray, ends_s: list[float]) -> list[tuple[float, str]]:
    """The labels said on change, written down independently and slowly."""
    said, changed_s, found = None, None, []
    for index, at_s in enumerate(ends_s):
        recent = rows[max(0, index + 1 - decision.smooth) : index + 1].astype(np.float64)
        mean = recent.mean(axis=0)
        label = CLASSES[int(mean.argmax())] if mean.max() >= decision.threshold else "unsure"
        waited = changed_s is None or at_s - changed_s >= decision.hold_off_s
        if label != said and waited:
            said, changed_s = label, at_s
            found.append((at_s, label))
    return found


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 30),
    threshold=st.sampled_from([0.0, 0.5, 0.75]),
    smooth=st.integers(1, 5),
    hold_off_s=st.sampled_from([0.0, 2.0, 3.5]),
)
def test_batch_stream_and_plain_model_give_the_same_events(
    seed, count, threshold, smooth, hold_off_s
):
    # Eighths are exact in binary, so sums and thresholds leave no doubt.
    eighths = np.random.default_rng(seed).multinomial(8, [1 / 3] * 3, size=count)
    rows = (eighths / 8).astype(np.float32)
    decision = Decision(threshold=threshold, smooth=smooth, hold_off_s=hold_off_s)
    ends_s = [float(index + 1) for index in range(count)]
    batch = decide(decision, Predictions(CLASSES, rows), ends_s)
    decider = Decider(decision, CLASSES)
    steps = [decider.step(at_s, row) for at_s, row in zip(ends_s, rows, strict=True)]
    assert tuple(event for event in steps if event) == batch
    assert all(event.kind == "change" for event in batch)
    if smooth in (1, 2, 4):
        assert [(event.at_s, event.label) for event in batch] == _plain(decision, rows, ends_s)


def test_every_window_option_repeats_what_stands():
    decision = Decision(threshold=0.6, hold_off_s=2.5, emit="window")
    rows = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.2, 0.8, 0], [0.2, 0.8, 0], [0.5, 0.5, 0]])
    events = decide(decision, Predictions(CLASSES, rows), [1.0, 2.0, 3.0, 4.0, 5.0])
    assert [(e.label, e.kind) for e in events] == [
        ("a", "change"),
        ("a", "window"),  # held off
        ("a", "window"),
        ("b", "change"),
        ("b", "window"),
    ]


def test_skipped_window_is_unsure_and_breaks_the_smoothing():
    decider = Decider(Decision(smooth=3), CLASSES)
    assert decider.step(1.0, np.array([1.0, 0.0, 0.0])).label == "a"
    skipped = decider.step(2.0, None)
    assert skipped == Event(2.0, "unsure", 0.0, "change", "skipped")
    assert decider.reason == "skipped"
    event = decider.step(3.0, np.array([0.0, 1.0, 0.0]))
    assert (event.label, event.probability) == ("b", 1.0)


def test_reset_keeps_what_was_said_and_restart_forgets_it():
    decider = Decider(Decision(smooth=4, hold_off_s=100.0), CLASSES)
    row = np.array([1.0, 0.0, 0.0])
    assert decider.step(1.0, row) is not None
    decider.reset()
    assert decider.step(2.0, row) is None
    decider.restart()
    assert decider.step(-50.0, row).label == "a"


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 1.5},
        {"threshold": float("nan")},
        {"threshold": "high"},
        {"smooth": 0},
        {"smooth": 2.0},
        {"smooth": True},
        {"hold_off_s": -1.0},
        {"hold_off_s": float("inf")},
        {"emit": "never"},
    ],
)
def test_impossible_decision_options_are_refused(options):
    with pytest.raises(OptionError) as caught:
        Decision(**options)
    assert caught.value.code == "decision-option"


def test_all_wrong_options_are_reported_at_once_and_misspelt_ones_say_the_nearest():
    with pytest.raises(OptionError) as caught:
        Decision(threshold=2.0, smooth=-1, hold_off_s=-1.0)
    assert len(caught.value.problems) == 3
    with pytest.raises(OptionError, match="hold_off_s"):
        Decision.from_dict({"holdoff_s": 1.0})
    decision = Decision(0.5, 3, 1.0, "window")
    assert Decision.from_dict(decision.as_dict()) == decision
