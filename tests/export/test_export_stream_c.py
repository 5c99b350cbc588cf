"""Streams in C: the windows of `Ring`, the events of `Decider`, the numbers that tie them."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft.export import stream
from edgegraft_edge.decision import Decider, Decision
from edgegraft_edge.program import Draft
from edgegraft_edge.signal import Channel, WindowSpec
from edgegraft_edge.windowing import Ring

RUNTIME = stream.resources.files("edgegraft").joinpath("export/c/runtime")
pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")
KINDS, REASONS = ("change", "window"), ("", "threshold", "skipped")
UINT = ctypes.c_uint32


class RingC(ctypes.Structure):
    _fields_ = [("window", ctypes.c_void_p), ("value_bytes", UINT), ("n_channels", UINT),
                ("n_timepoints", UINT), ("n_stride", UINT), ("last", UINT), ("filled", UINT),
                ("skip", UINT)]  # fmt: skip


class DecisionC(ctypes.Structure):
    _fields_ = [("n_classes", UINT), ("smooth", UINT), ("every_window", UINT),
                ("hold_off", ctypes.c_uint64), ("least", ctypes.POINTER(UINT)),
                ("least_mean", ctypes.c_double)]  # fmt: skip


class EventC(ctypes.Structure):
    _fields_ = [("at", ctypes.c_uint64), ("label", ctypes.c_int32), ("kind", ctypes.c_int),
                ("reason", ctypes.c_int), ("sum", UINT), ("count", UINT),
                ("mean", ctypes.c_double)]  # fmt: skip


class DeciderC(ctypes.Structure):
    _fields_ = [("decision", ctypes.POINTER(DecisionC)), ("recent", ctypes.c_void_p),
                ("count", UINT), ("next", UINT), ("said_label", ctypes.c_int32),
                ("said_reason", ctypes.c_int), ("has_said", UINT),
                ("changed_at", ctypes.c_uint64)]  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    place = tmp_path_factory.mktemp("stream") / "stream.so"
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-shared", "-fPIC"]
    source = str(RUNTIME.joinpath("edgegraft_stream.c"))
    subprocess.run(["gcc", *flags, source, "-o", str(place)], check=True, timeout=60)
    return ctypes.CDLL(str(place))


@settings(max_examples=60, deadline=None)
@given(
    n_channels=st.integers(1, 3),
    length=st.integers(1, 9),
    stride=st.integers(1, 14),
    last=st.booleans(),
    eight=st.booleans(),
    parts=st.lists(st.one_of(st.integers(0, 17), st.none()), max_size=8),
)
def test_windows_of_a_stream_are_those_of_python(
    library, n_channels, length, stride, last, eight, parts
):
    """Pieces of any length, with gaps (None) between them."""
    spec = WindowSpec(length, stride, 1.0, tuple(Channel(f"c{i}") for i in range(n_channels)))
    kind = np.int8 if eight else np.float32
    window = np.zeros((length, n_channels) if last else (n_channels, length), kind)
    ring = RingC(window.ctypes.data, window.itemsize, n_channels, length, stride, int(last))
    library.eg_ring_reset(ctypes.byref(ring))
    python, random = Ring(spec), np.random.default_rng(0)
    for count in parts:
        if count is None:
            python.reset()
            library.eg_ring_reset(ctypes.byref(ring))
            continue
        samples = random.integers(-128, 128, (n_channels, count)).astype(kind)
        expected = [found for _, found in python.push(samples)]
        found = []
        for sample in np.ascontiguousarray(samples.T):
            if library.eg_ring_push(ctypes.byref(ring), sample.ctypes.data_as(ctypes.c_void_p)):
                found.append(np.array(window.T if last else window, np.float32))
        assert len(found) == len(expected)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


DECISIONS = st.builds(
    Decision,
    threshold=st.one_of(st.sampled_from([0.0, 0.5, 1.0, 1 / 3]), st.floats(0, 1)),
    smooth=st.integers(1, 6),
    hold_off_s=st.sampled_from([0.0, 0.1, 0.25, 0.3, 1.0]),
    emit=st.sampled_from(KINDS),
)
STEPS = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from(["score", "score", "score", "skip", "gap"])),
    max_size=40,
)


def both(library, decision, steps, scores, eight):
    """Events of Python and of C: (index, label, kind, reason), and probabilities."""
    rate_hz, classes = 20.0, ("a", "b", "c")
    least = (UINT * decision.smooth)(*stream.least_sums(decision))
    given = DecisionC(3, decision.smooth, int(decision.emit == "window"),
                      stream.hold_off(decision, rate_hz), least,
                      stream.least_mean(decision.threshold))  # fmt: skip
    recent = np.zeros((decision.smooth, 3), np.int8 if eight else np.float32)
    decider = DeciderC(ctypes.pointer(given), recent.ctypes.data)
    library.eg_decider_restart(ctypes.byref(decider))
    decide = library.eg_decide_s8 if eight else library.eg_decide_f32
    python, events, at = Decider(decision, classes), ([], []), 0
    for (wait, what), score in zip(steps, scores, strict=True):
        at += wait
        if what == "gap":
            python.reset()
            library.eg_decider_reset(ctypes.byref(decider))
            continue
        row = None if what == "skip" else score
        real = row if row is None or not eight else (row.astype(np.float32) + 128) / 256
        event = python.step(round(at / rate_hz, 6), real)
        if event is not None:
            events[0].append((event.at_s, event.label, event.kind, event.reason, event.probability))
        into, pointer = EventC(), None if row is None else row.ctypes.data_as(ctypes.c_void_p)
        if decide(ctypes.byref(decider), ctypes.c_uint64(at), pointer, ctypes.byref(into)):
            mean = into.sum / 256 / max(1, into.count) if eight else into.mean
            label = "unsure" if into.label < 0 else classes[into.label]
            events[1].append((round(into.at / rate_hz, 6), label, KINDS[into.kind],
                              REASONS[into.reason], round(mean, 6)))  # fmt: skip
    return events


@settings(max_examples=150, deadline=None)
@given(decision=DECISIONS, steps=STEPS, seed=st.integers(0, 99), eight=st.booleans())
def test_events_are_those_of_python(library, decision, steps, seed, eight):
    random = np.random.default_rng(seed)
    scores = random.dirichlet(np.ones(3) / 2, len(steps)).astype(np.float32)
    if eight:
        scores = np.clip(np.rint(scores * 256) - 128, -128, 127).astype(np.int8)
    python, c = both(library, decision, steps, np.ascontiguousarray(scores), eight)
    assert c == python


def test_a_mean_on_the_threshold_is_decided_alike(library):
    decision = Decision(threshold=0.5, smooth=2, emit="window")
    scores = np.array([[0, -127, -128], [0, -128, -128], [-1, -1, -128]], np.int8)
    python, c = both(library, decision, [(1, "score")] * 3, scores, True)
    assert [event[1] for event in python] == ["a", "a", "unsure"]
    assert c == python


@given(threshold=st.floats(0, 1))
def test_the_least_mean_is_the_least(threshold):
    least = stream.least_mean(threshold)
    assert round(least, 6) >= threshold or least == 1.0
    assert least == 0.0 or round(math.nextafter(least, 0.0), 6) < threshold


@given(rate=st.sampled_from([1.0, 10.0, 50.0, 100.0, 16000.0]), samples=st.integers(0, 10**6))
def test_a_hold_off_of_whole_samples_is_that_many(rate, samples):
    assert stream.hold_off(Decision(hold_off_s=samples / rate), rate) == samples


def test_no_number_is_found_without_floating_point(library):
    for value, broken in ((1.0, 0), (np.nan, 1), (np.inf, 1), (-np.inf, 1), (3.4e38, 0)):
        sample = np.array([0.0, value], np.float32)
        assert library.eg_is_broken(sample.ctypes.data_as(ctypes.c_void_p), 2) == broken


def _eight(value, draft, **attrs):
    found = draft.add("quantize", value, scale=0.1, zero=0)
    return draft.finish(draft.add("dequantize", found, scale=0.1, zero=0))


def test_what_is_not_value_by_value_has_no_front():
    """A window's own mean, a part of a window, a constant that changes along time."""
    for write in (
        lambda d: d.add("sub", "x", d.add("mean", "x", axes=[2])),
        lambda d: d.add("slice", "x", axis=2, start=0, stop=4, step=2),
        lambda d: d.add("mul", "x", np.arange(5.0)),
        lambda d: d.add("exp", "x"),
    ):
        draft = Draft()
        assert stream.front_of(_eight(write(draft), draft), 2, 5) is None


def test_a_front_knows_the_order_the_model_wants():
    draft = Draft()
    turned = draft.add("transpose", draft.add("reshape", "x", shape=[2, 1, 5]), axes=[0, 2, 3, 1])
    found = draft.add("sub", np.float32(1), draft.add("maximum", turned, np.float32([3, 4])))
    front = stream.front_of(_eight(found, draft), 2, 5)
    assert front is not None
    assert front.last
    assert front.lines == (
        "value = before0[channel] > value ? before0[channel] : value;",
        "value = 1.0f - value;",
    )
