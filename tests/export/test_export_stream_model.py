"""A whole stream through the C of a model on this machine, with gaps: the events of `Runner`."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest
from firmware_toys import SPEC, toy
from hypothesis import given, settings
from hypothesis import strategies as st
from test_export_stream_c import KINDS, REASONS, EventC

from edgegraft.export.c import host
from edgegraft.export.c.emit import model_of, runtime, sources_of
from edgegraft.export.stream import front_of, stream_files
from edgegraft_edge.decision import decide
from edgegraft_edge.errors import ExportError
from edgegraft_edge.runner import Runner
from edgegraft_edge.signal import Windows
from edgegraft_edge.windowing import cut

pytestmark = pytest.mark.skipif(host.compiler() is None, reason="no C compiler on this machine")
FLAGS = ("-shared", "-fPIC", "-O1", "-ffp-contract=off", "-fsanitize=undefined")


class Device:
    """The stream of a bundle, compiled here."""

    def __init__(self, bundle, folder):
        self.bundle = bundle
        self.model = model_of(bundle.program, *SPEC.shape)
        files = {**runtime(), **sources_of(self.model, bundle.classes), **stream_files(bundle)}
        flags = (*FLAGS, "-fno-sanitize-recover=all")
        self.library = ctypes.CDLL(str(host.compiled(files, folder, "stream.so", flags)))
        self.stream = (ctypes.c_uint64 * 4096)()
        self.arena = (ctypes.c_uint64 * (self.model.arena_bytes // 8 + 4))()
        self.library.model_stream_start(self.stream)

    def push(self, sample):
        event = EventC()
        row = np.ascontiguousarray(sample, np.float32)
        given = row.ctypes.data_as(ctypes.c_void_p)
        if not self.library.model_push(self.stream, given, self.arena, ctypes.byref(event)):
            return None
        classes = self.bundle.classes
        eight = self.model.integers is not None
        mean = event.sum / 256 / max(1, event.count) if eight else event.mean
        label = "unsure" if event.label < 0 else classes[event.label]
        at_s = round(event.at / SPEC.rate_hz, 6)
        return at_s, label, KINDS[event.kind], REASONS[event.reason], mean


@pytest.fixture(scope="module", params=[True, False], ids=["int8", "float"])
def device(request, tmp_path_factory):
    return Device(toy(int8=request.param), tmp_path_factory.mktemp("device"))


PIECES = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 3, 40]), st.integers(1, 60), st.booleans()), max_size=5
)


@settings(max_examples=40, deadline=None)
@given(pieces=PIECES, seed=st.integers(0, 999))
def test_a_stream_with_gaps_gives_pythons_events(device, pieces, seed):
    """Pieces: samples missing before it, its samples, whether one of them is no number."""
    random = np.random.default_rng(seed)
    device.library.model_stream_start(device.stream)
    live, at, wanted, found = Runner(device.bundle), 0, [], []
    for missing, count, broken in pieces:
        samples = (random.normal(size=(2, count)) * random.uniform(0.5, 4) + 1).astype(np.float32)
        if broken:
            samples[random.integers(2), random.integers(count)] = np.nan
        if missing:
            device.library.model_stream_gap(device.stream, ctypes.c_uint64(missing))
            at += missing
        wanted += live.push(samples, at_s=round(at / SPEC.rate_hz, 6))
        found += [event for sample in samples.T if (event := device.push(sample)) is not None]
        at += count
    assert [event[:4] for event in found] == [
        (event.at_s, event.label, event.kind, event.reason) for event in wanted
    ]
    for event, other in zip(found, wanted, strict=True):
        assert event[4] == pytest.approx(other.probability, abs=2e-6)


def test_a_stream_in_c_scores_what_python_scores_in_one_batch(device):
    """Probabilities smoothed over the windows of a batch are those of the events."""
    samples = np.random.default_rng(1).normal(size=(2, 90)).astype(np.float32) * 2 + 1
    device.library.model_stream_start(device.stream)
    found = [event for sample in samples.T if (event := device.push(sample)) is not None]
    windows, starts = cut(samples, SPEC)
    batch = device.bundle.predict(Windows.of(windows, rate_hz=10.0, channels=("x", "y")))
    ends = [(start + SPEC.n_timepoints - 1) / SPEC.rate_hz for start in starts]
    wanted = decide(device.bundle.decision, batch, ends)
    assert len(wanted) == len(starts)  # an event for each window
    assert [event[1] for event in found] == [event.label for event in wanted]
    assert [event[4] for event in found] == pytest.approx([e.probability for e in wanted], abs=2e-6)


def test_an_int8_window_is_kept_where_the_model_prepares_value_by_value():
    bundle = toy(int8=True)
    assert front_of(bundle.program, *SPEC.shape) is not None
    header = stream_files(bundle)["src/model_stream.h"].decode()
    assert "int8_t window[40]" in header
    assert "float window[40]" in stream_files(toy(int8=False))["src/model_stream.h"].decode()


def test_smoothing_over_more_than_a_microcontroller_holds_is_refused():
    bundle = toy(int8=False)
    decision = replace(bundle.decision, smooth=10_000)
    with pytest.raises(ExportError, match="10,000 windows") as caught:
        stream_files(bundle, decision=decision)
    assert caught.value.code == "stream-memory"
