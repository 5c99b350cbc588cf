"""Batch and stream slicing are one definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Channel, WindowSpec
from edgegraft_edge.windowing import Ring, bind, cut


def _spec(length: int, stride: int, n_channels: int = 2) -> WindowSpec:
    channels = tuple(Channel(f"c{i}") for i in range(n_channels))
    return WindowSpec(float(length), float(stride), 1.0, channels)


@settings(max_examples=150, deadline=None)
@given(
    length=st.integers(1, 9),
    stride=st.integers(1, 14),
    n_channels=st.integers(1, 3),
    chunks=st.lists(st.integers(0, 30), max_size=12),
)
def test_stream_windows_equal_cut_whatever_the_chunks(length, stride, n_channels, chunks):
    spec = _spec(length, stride, n_channels)
    total = sum(chunks)
    values = np.arange(n_channels * total, dtype=np.float32).reshape(n_channels, total)
    x, starts = cut(values, spec)
    ring, streamed, position = Ring(spec), [], 0
    for count in chunks:
        streamed += ring.push(values[:, position : position + count])
        position += count
    assert [start for start, _ in streamed] == starts.tolist()
    assert len(x) == max(0, (total - length) // stride + 1)
    for (start, window), expected in zip(streamed, x, strict=True):
        assert np.array_equal(window, expected)
        assert np.array_equal(window, values[:, start : start + length])


def test_cut_gives_own_float32_memory():
    values = np.zeros((2, 8))
    x, starts = cut(values, _spec(4, 2))
    values[:] = 1
    assert x.dtype == np.float32
    assert starts.dtype == np.int64
    assert x.flags.c_contiguous
    assert not x.any()


def test_short_signal_gives_no_window():
    x, starts = cut(np.zeros((2, 3)), _spec(4, 1))
    assert x.shape == (0, 2, 4)
    assert starts.shape == (0,)


def test_ring_reset_starts_again_at_zero_and_forgets():
    ring = Ring(_spec(3, 1, 1))
    assert len(ring.push(np.zeros((1, 5)))) == 3
    ring.reset()
    assert ring.push(np.ones((1, 2))) == []
    ((start, window),) = ring.push(np.ones((1, 1)))
    assert start == 0
    assert window.tolist() == [[1.0, 1.0, 1.0]]


def test_emitted_windows_do_not_change_later():
    ring = Ring(_spec(3, 1, 1))
    ((_, first),) = ring.push(np.array([[0.0, 1.0, 2.0]]))
    ring.push(np.array([[9.0, 9.0, 9.0]]))
    assert first.tolist() == [[0.0, 1.0, 2.0]]


@pytest.mark.parametrize("shape", [(3, 4), (4,), (1, 2, 3)])
def test_wrong_channel_count_is_coded(shape):
    with pytest.raises(DataError) as caught:
        cut(np.zeros(shape), _spec(2, 1))
    assert caught.value.code == "channel-count"
    with pytest.raises(DataError):
        Ring(_spec(2, 1)).push(np.zeros(shape))


def test_bind_reports_every_problem_at_once():
    spec = WindowSpec(
        1.0, 1.0, 50.0, (Channel("acc_x", "m/s2"), Channel("acc_y", "m/s2"), Channel("acc_z"))
    )
    assert bind(spec, ["acc_z", "acc_x", "acc_y"], 50.5) == [1, 2, 0]
    with pytest.raises(DataError) as caught:
        bind(spec, [Channel("acc_x", "g"), Channel("acc_v"), "acc_z", "acc_z"], 52.0)
    codes = {problem.code for problem in caught.value.problems}
    assert codes == {"unit-mismatch", "channel-missing", "channel-repeated", "rate-mismatch"}
    assert "acc_v" in str(caught.value)
