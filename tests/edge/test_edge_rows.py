"""Rows of text become samples, and every row is accounted for."""

from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgegraft_edge.errors import DataError, EdgegraftError, OptionError
from edgegraft_edge.rows import MAX_LINE_BYTES, Rows
from edgegraft_edge.signal import Channel, WindowSpec

SPEC = WindowSpec(1.0, 1.0, 10.0, (Channel("x", "g"), Channel("y")))


def _read(raw: bytes, **options):
    rows = Rows(io.BytesIO(raw), SPEC, **options)
    found = list(rows)
    return [at for at, _ in found], [sample[:, 0].tolist() for _, sample in found], rows.account


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.tuples(*[st.floats(width=32, allow_nan=False)] * 2), min_size=1, max_size=20
    ),
    delimiter=st.sampled_from(",;\t"),
    bom=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_what_was_written_is_read_back(values, delimiter, bom, newline):
    lines = [delimiter.join(["y", "other", "x"])]
    lines += [delimiter.join([repr(y), "7", repr(x)]) for x, y in values]
    raw = (newline.join(lines)).encode("utf-8-sig" if bom else "utf-8")
    times, samples, account = _read(raw)
    assert samples == [list(map(float, pair)) for pair in values]
    assert set(times) == {None}
    assert (account.rows, account.malformed) == (len(values), 0)


@settings(max_examples=200, deadline=None)
@example(raw=b'"', header=b"")
@given(
    raw=st.binary(max_size=120),
    header=st.sampled_from([b"", b"x,y\n", b"t,x,y\n", b"t;x;y\n"]),
)
def test_any_bytes_give_samples_or_a_coded_error_and_no_row_is_lost(raw, header):
    if not header:
        with contextlib.suppress(EdgegraftError):  # anything else that is raised fails the test
            _read(raw)
        return
    times, samples, account = _read(header + raw)
    assert len(times) == len(samples) <= account.rows
    assert sum(fault.count for fault in account.faults.values()) == account.malformed
    assert account.rows - len(samples) <= account.malformed


@pytest.mark.parametrize(
    ("header", "first", "second", "third"),
    [
        ("timestamp", "0", "0.1", "0.2"),
        ("timestamp", "0", "100", "200"),
        ("time_us", "0", "100000", "200000"),
        ("t_ms", "0", "100", "200"),
        ("millis", "0", "100", "200"),
        ("Seconds", "0", "0.1", "0.2"),
        ("Time", "0", "100000000", "200000000"),
        (
            "timestamp",
            "1970-01-01T00:00:00Z",
            "1970-01-01T00:00:00.1+00:00",
            "1970-01-01 00:00:00.200",
        ),
    ],
)
def test_unit_of_time_is_found_from_name_or_rate(header, first, second, third):
    raw = f"{header},x,y\n{first},1,2\n{second},1,2\n{third},1,2\n".encode()
    assert _read(raw)[0] == [0.0, 0.1, 0.2]


def test_today_in_milliseconds_and_a_unit_by_option():
    raw = b"stamp,x,y\n1760000000000,1,2\n1760000000100,1,2\n"
    assert _read(raw, time_column="stamp")[0] == [1760000000.0, 1760000000.1]
    assert _read(raw, time_column="stamp", time_unit="us")[0][0] == 1760000.0
    assert _read(raw)[0] == [None, None]
    with pytest.raises(OptionError, match="stamp"):
        _read(raw, time_column="stampp")


def test_units_in_the_header_are_checked():
    assert _read(b"x [g],y (rad/s)\n1,2\n")[1] == [[1.0, 2.0]]
    with pytest.raises(DataError) as caught:
        _read(b"x [m/s2],y\n1,2\n")
    assert caught.value.code == "unit-mismatch"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "source-empty"),
        (b"\n\n", "source-empty"),
        (b"1.0,2.0\n1.0,2.0\n", "header-missing"),
        ("x,y\n1,2\n".encode("utf-16"), "source-encoding"),
        ("x,y,Größe\n".encode("latin-1"), "source-encoding"),
        (b"x|y\n1|2\n", "channel-missing"),
        (b"x,x,y\n1,2,3\n", "channel-repeated"),
        (b"x\n1\n", "channel-missing"),
    ],
)
def test_headers_that_cannot_be_used(raw, code):
    with pytest.raises(DataError) as caught:
        _read(raw)
    assert caught.value.code == code
    if code == "source-encoding" and b"\xf6" in raw:
        assert "offset 6" in str(caught.value)


def test_bad_rows_without_time_hold_their_place_with_nan():
    raw = b"x,y\n1,2\n1\n1,2,3\n1,abc\n1,\n\xff,1\n1,inf\n1,1e400\n\n3,4"
    _, samples, account = _read(raw)
    assert account.rows == len(samples) == 9
    assert samples[0] == [1.0, 2.0]
    assert all(math.isnan(sample[1]) for sample in samples[1:6])
    assert all(math.isinf(sample[1]) for sample in samples[6:8])
    assert samples[8] == [3.0, 4.0]
    faults = {code: (fault.count, fault.first_line) for code, fault in account.faults.items()}
    assert faults == {
        "row-fields": (2, 3),
        "cell-not-number": (1, 5),
        "row-unreadable": (1, 7),
    }


def test_bad_rows_with_time_leave_a_gap_that_shows():
    raw = b"t,x,y\n0,1,2\n0.1,1\nlater,1,2\n0.3,1,oops\n0.4,1,2\n"
    times, samples, account = _read(raw)
    assert times == [0.0, 0.3, 0.4]
    assert np.isnan(samples[1]).all()
    assert (account.rows, account.malformed) == (5, 3)
    assert account.faults["time-unreadable"].first_line == 4


def test_decimal_comma_quotes_and_a_huge_line():
    assert _read(b'x;y\n1,5;"2,5"\n')[1] == [[1.5, 2.5]]
    assert _read(b'"x","y"\n"1.5","2.5"\n')[1] == [[1.5, 2.5]]
    _, samples, account = _read(b"x,y\n" + b"1" * (3 * MAX_LINE_BYTES) + b",2\n3,4\n")
    assert samples[1] == [3.0, 4.0]
    assert account.faults["row-unreadable"].count == 1


def test_rows_come_out_before_the_source_ends():
    class Live(io.BytesIO):
        """Fails when asked for more than one line ahead."""

        asked = 0

        def readline(self, size=-1):
            Live.asked += 1
            return super().readline(size)

    rows = iter(Rows(Live(b"x,y\n1,2\n3,4\n5,6\n"), SPEC))
    next(rows)
    assert Live.asked == 2
