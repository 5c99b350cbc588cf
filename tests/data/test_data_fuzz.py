"""Whatever the bytes, opening a table ends in one of our errors or in a balanced account."""

import csv
import io

import numpy as np
import pyarrow as pa
import pytest
from data_toys import put, rows, text
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgegraft.data.arrays import NpzSource
from edgegraft.data.clock import read_clock
from edgegraft.data.dataset import open_data
from edgegraft.data.source import DataOptions
from edgegraft.data.tabular import TableSource
from edgegraft_edge.errors import DataError, EdgegraftError

GOOD = text(rows(40)).encode()
CELLS = st.one_of(
    st.sampled_from(
        [
            "",
            "NA",
            "nan",
            "inf",
            "1e400",
            "-1",
            "0",
            "1.5",
            "1,5",
            " 7 ",
            '"',
            '""',
            "9" * 30,
            "\0",
            "\r",
            "=1",
        ]
    ),
    st.floats().map(str),
    st.integers().map(str),
    st.text(max_size=6),
)


def opened(content, folder, name="data.csv", **options):
    """The data set, or None where it was refused by an error of ours."""
    try:
        # Not through open_data: looking up the sources would take most of the time.
        source = NpzSource() if name.endswith("npz") else TableSource()
        return source.open(str(put(folder, content, name)), DataOptions.of(**options))
    except EdgegraftError:  # anything else fails the test
        return None


def check(dataset):
    if dataset is None:
        return
    account = dataset.account
    assert account.rows_in == account.accepted + account.n_quarantined + account.duplicates
    assert account.accepted > 0
    for recording in dataset.recordings:
        assert recording.values.dtype == np.float32
        assert np.isfinite(recording.values).all()


@given(st.binary(max_size=400))
@example(b"\xff\xfe")
@example(b"a\n\0")
@example(b"a,b\n\r\r\n1,2")
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("fuzz")
    check(opened(content, folder, rate_hz=50.0))
    assert opened(content, folder, "data.parquet") is None
    assert opened(content, folder, "data.npz") is None


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=4), st.booleans())
@settings(max_examples=250, deadline=None)
def test_a_damaged_table_is_read_or_refused(tmp_path_factory, place, blob, cut):
    content = GOOD[:place] + blob + (b"" if cut else GOOD[place + len(blob) :])
    check(opened(content, tmp_path_factory.mktemp("fuzz")))


@given(st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=12), st.sampled_from(",;\t|"))
@settings(max_examples=250, deadline=None)
def test_tables_of_odd_cells_lose_no_row(tmp_path_factory, table, delimiter):
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows(table)
    head = delimiter.join(["timestamp", "a", "b", "label"]) + "\n"
    good = "".join(delimiter.join(row) + "\n" for row in rows(20))
    content = (head + good + stream.getvalue()).encode("utf-8", "surrogatepass")
    dataset = opened(content, tmp_path_factory.mktemp("fuzz"))
    check(dataset)
    if dataset is not None:
        lines = [line for line in content.split(b"\n")[1:] if line.strip(b"\r") or len(line) > 1]
        assert dataset.account.rows_in == len(lines)


@given(
    st.lists(
        st.tuples(
            st.floats(-1e6, 1e6, width=32),
            st.floats(-1e6, 1e6, width=32),
            st.text("abc NA", max_size=4),
        ),
        min_size=2,
        max_size=40,
    ),
    st.sampled_from([(",", "."), (";", "."), (";", ","), ("\t", "."), ("|", ",")]),
    st.sampled_from(["s", "ms", "us", "iso"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
@settings(max_examples=120, deadline=None)
def test_what_is_written_is_read_back(tmp_path_factory, table, marks, unit, encoding):
    delimiter, point = marks
    lines = [["timestamp", "a", "b", "label"]]
    for number, (a, b, label) in enumerate(table):
        ms = 1_700_000_000_000 + 20 * number
        time = {
            "s": f"{ms / 1000:.3f}".replace(".", point),
            "ms": str(ms),
            "us": str(ms * 1000),
            "iso": str(np.datetime64(ms, "ms")),
        }[unit]
        lines.append([time, *(repr(value).replace(".", point) for value in (a, b)), label])
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows(lines)
    dataset = opened(stream.getvalue().encode(encoding), tmp_path_factory.mktemp("trip"))
    assert dataset is not None
    assert dataset.account.accepted == len(table)
    assert dataset.rate_hz == 50.0
    (recording,) = dataset.recordings
    expected = np.array([[row[0] for row in table], [row[1] for row in table]], dtype=np.float32)
    np.testing.assert_array_equal(recording.values, expected)
    spelled = [""] * len(table)
    for span in recording.labels:
        spelled[span.start : span.stop] = [span.label] * (span.stop - span.start)
    assert spelled == [row[2].strip() for row in table]


@given(st.lists(CELLS, min_size=1, max_size=30), st.sampled_from(["time", "t_ms", "timestamp"]))
@settings(max_examples=200, deadline=None)
def test_any_column_of_times_is_read_or_refused(cells, name):
    cells = [cell.encode("utf-8", "replace").decode() for cell in cells]
    try:
        clock = read_clock(pa.chunked_array([pa.array(cells, pa.string())]), name)
    except DataError:
        return
    assert clock.ns.shape == (len(cells),)
    assert clock.good.any()


def test_a_line_break_within_the_head_line_is_refused(tmp_path):
    (tmp_path / "data.csv").write_bytes(b"t\rmestamp,acc_x,label\n0.0,1,a\n0.1,2,b\n")
    with pytest.raises(DataError) as caught:
        open_data(tmp_path / "data.csv")
    assert caught.value.code == "header-form"
