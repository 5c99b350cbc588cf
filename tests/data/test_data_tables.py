"""Every bad table of the list gets a clear error with a code, or a counted quarantine."""

import codecs

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_toys import HEAD, outcome, put, quarantine, rows, step_names, text

from edgegraft.data.dataset import open_data
from edgegraft_edge.errors import DataError

GOOD = rows()


def changed(row, cells):
    """The good table with some cells of one row changed."""
    table = [list(cells_of) for cells_of in GOOD]
    for column, cell in cells.items():
        table[row][column] = cell
    return table


ISO = [[f"2024-03-01T10:{n // 50 % 60:02d}:{n % 50:02d}", *row[1:]] for n, row in enumerate(GOOD)]
DAY_MONTH = [[f"{n % 28 + 1:02d}/03/2024 10:00:00", *row[1:]] for n, row in enumerate(GOOD)]

REFUSED = {
    "wrong delimiter": (text(GOOD, delimiter=" "), "delimiter-unknown"),
    "decimal comma in a comma table": (
        "a,b\n" + "".join(f"{n},5,{n},25\n" for n in range(9)),
        "field-count",
    ),
    "UTF-16 without its mark": (text(GOOD).encode("utf-16-le"), "text-encoding"),
    "latin-1 byte": (
        text(GOOD, head=["timestamp", "temp", "h\xf6he", "label"]).encode("latin-1"),
        "text-encoding",
    ),
    "an extra column in all rows": (text([[*row, "7"] for row in GOOD]), "field-count"),
    "duplicate column names": (
        text(GOOD, head=["timestamp", "x", "x", "label"]),
        "column-duplicate",
    ),
    "one name in two units": (
        text(GOOD, head=["timestamp", "x [g]", "x [m/s2]", "label"]),
        "column-duplicate",
    ),
    "empty file": (b"", "file-empty"),
    "only white space": (b"\r\n \n", "file-empty"),
    "only a byte order mark": (codecs.BOM_UTF8, "file-empty"),
    "header only": (",".join(HEAD), "rows-none"),
    "no header": ("\n".join(f"{n},{n / 7},{n}" for n in range(99)), "header-missing"),
    "a huge head line": ("a" * 2_000_000 + ",b\n1,2\n", "line-long"),
    "a million columns": (
        ",".join(f"c{n}" for n in range(1_000_000)) + "\n" + ",".join("1" * 1_000_000) + "\n",
        "columns-many",
    ),
    "dd/mm dates": (text(DAY_MONTH), "date-ambiguous"),
    "half seconds, half milliseconds": (
        text([[row[0][:10], *row[1:]] for row in GOOD[:100]] + GOOD[100:]),
        "time-unit-mixed",
    ),
    "local time at the clock change": (
        text([[f"2024-10-27T02:{n % 60:02d}:00", *row[1:]] for n, row in enumerate(GOOD[:120])]),
        "clock-change",
    ),
    "half of the times with a zone": (
        text([[row[0] + "Z" * (n % 2), *row[1:]] for n, row in enumerate(ISO)]),
        "time-zone-mixed",
    ),
    "mere numbers for times": (
        text([[str(n), *row[1:]] for n, row in enumerate(GOOD)], ["time", *HEAD[1:]]),
        "time-unit-unknown",
    ),
    "no time and no rate": (text([row[1:] for row in GOOD], HEAD[1:]), "rate-missing"),
    "times that are none": (text([["noon", *row[1:]] for row in GOOD]), "time-unreadable"),
    "text only": (text([[row[0], "a", "b", row[3]] for row in GOOD]), "channels-none"),
    "a channel that is mostly missing": (
        text([[*row[:2], row[2] if n % 10 == 0 else "", row[3]] for n, row in enumerate(GOOD)]),
        "channel-sparse",
    ),
    "coarse times": (text([[row[0][:9] + "0000", *row[1:]] for row in GOOD]), "time-coarse"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_table_is_refused_with_its_code(case, tmp_path):
    content, code = REFUSED[case]
    codes, dataset = outcome(put(tmp_path, content))
    assert code in codes, dataset and str(dataset.account)


SET_ASIDE = {
    "truncated last row": (text(GOOD)[:-12], {"row-truncated": 1}, 200),
    "extra fields in one row": (text(changed(5, {3: "walk,7,8"})), {"row-long": 1}, 200),
    "a short row": (text([*GOOD[:9], ["7", "8"], *GOOD[9:]]), {"row-short": 1}, 201),
    "a text cell in a numeric column": (text(changed(7, {1: "err"})), {"cell-text": 1}, 200),
    "inf": (text(changed(7, {1: "inf"})), {"value-infinite": 1}, 200),
    "1e400": (text(changed(7, {1: "1e400"})), {"value-infinite": 1}, 200),
    "beyond float32": (text(changed(7, {1: "1e39"})), {"value-infinite": 1}, 200),
    "integer beyond 64 bits": (text(changed(7, {1: "9" * 25})), {"integer-large": 1}, 200),
    "a time beyond 64 bits": (text(changed(7, {0: "9" * 25})), {"time-range": 1}, 200),
    "an endless integer": (text(changed(7, {1: "9" * 5000})), {"value-infinite": 1}, 200),
    "nan": (text(changed(7, {2: "NaN"})), {"value-missing": 1}, 200),
    "empty cell": (text(changed(7, {2: ""})), {"value-missing": 1}, 200),
    "NUL bytes": (text(changed(7, {2: "\0\0\0"})), {"nul-byte": 1}, 200),
    "NUL bytes after a power cut": (text(GOOD) + "\0" * 300, {"nul-byte": 1}, 201),
    "a huge line": (text(changed(7, {3: "x" * 1_100_000})), {"line-long": 1}, 200),
    "an open quote": (text(changed(7, {3: '"walk'})), {"quote-open": 1}, 200),
    "one time in seconds": (text(changed(7, {0: "1700000000"})), {"time-unit-mixed": 1}, 200),
    "one time in us": (text(changed(7, {0: "1700000000000000"})), {"time-unit-mixed": 1}, 200),
    "one time in 1970": (text(changed(7, {0: "12"})), {"time-1970": 1}, 200),
    "one time unreadable": (text(changed(7, {0: "soon"})), {"time-unreadable": 1}, 200),
    "year 55840": (text([*ISO[:50], ["9999-01-01T00:00:00", *ISO[50][1:]]]), {"time-range": 1}, 51),
    "ISO in 1970": (text([*ISO[:50], ["1970-01-01T00:00:07", *ISO[50][1:]]]), {"time-1970": 1}, 51),
    "30th of February": (
        text([*ISO[:50], ["2024-02-30T00:00:00", *ISO[50][1:]]]),
        {"time-unreadable": 1},
        51,
    ),
    "one ISO time with a zone": (
        text([*ISO[:50], ["2024-03-01T10:30:00Z", *ISO[50][1:]]]),
        {"time-zone-mixed": 1},
        51,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SET_ASIDE)
def test_a_bad_row_is_set_aside_and_nothing_else(case, tmp_path):
    content, expected, rows_in = SET_ASIDE[case]
    codes, dataset = outcome(put(tmp_path, content))
    assert codes == set()
    assert quarantine(dataset) == expected
    assert dataset.account.rows_in == rows_in
    assert dataset.account.accepted == rows_in - sum(expected.values())
    assert all("data.csv" in item.example for item in dataset.account.quarantined)


READ = {
    "plain": text(GOOD),
    "semicolon": text(GOOD, delimiter=";"),
    "tab": text(GOOD, delimiter="\t"),
    "bar": text(GOOD, delimiter="|"),
    "decimal comma": text(GOOD, delimiter=";").replace(".", ","),
    "byte order mark": codecs.BOM_UTF8 + text(GOOD).encode(),
    "UTF-16": text(GOOD).encode("utf-16"),
    "Windows line ends": text(GOOD, newline="\r\n"),
    "old Mac line ends": text(GOOD, newline="\r"),
    "no last line end": text(GOOD)[:-1],
    "a delimiter at the end of each row": text(GOOD)
    .replace("walk\n", "walk,\n")
    .replace("sit\n", "sit,\n"),
    "a nameless first column": text([[str(n), *row] for n, row in enumerate(GOOD)], ["", *HEAD]),
    "comments on top": "# made by a logger\n" + text(GOOD),
    "blank lines": text(GOOD).replace("walk\n", "walk\n\n"),
    "spaces around": text([[f" {cell} " for cell in row] for row in GOOD]),
    "quotes": text([[f'"{cell}"' for cell in row] for row in GOOD]),
    "a counter": text([[str(n), *row] for n, row in enumerate(GOOD)], ["seq", *HEAD]),
    "seconds": text([[f"{int(row[0]) / 1000:.2f}", *row[1:]] for row in GOOD]),
    "microseconds": text([[row[0] + "000", *row[1:]] for row in GOOD]),
    "nanoseconds": text([[row[0] + "000000", *row[1:]] for row in GOOD]),
}


@pytest.mark.parametrize("case", READ)
def test_tables_of_all_spellings_give_the_same_signal(case, tmp_path):
    _, expected = outcome(put(tmp_path, text(GOOD), "expected.csv"))
    codes, dataset = outcome(put(tmp_path, READ[case]))
    assert codes == set()
    assert dataset.account.accepted == 200
    assert dataset.rate_hz == 50.0
    assert [channel.name for channel in dataset.channels] == ["acc_x", "acc_y"]
    np.testing.assert_array_equal(dataset.recordings[0].values, expected.recordings[0].values)
    assert dataset.recordings[0].labels == expected.recordings[0].labels


def test_a_latin_1_byte_is_named_by_its_offset_and_can_be_read_by_name(tmp_path):
    content = text(GOOD, head=["timestamp", "acc_x", "h\xf6he", "label"]).encode("latin-1")
    path = put(tmp_path, content)
    with pytest.raises(DataError, match=rf"0xf6 at offset {content.index(0xF6)}"):
        open_data(path)
    codes, dataset = outcome(path, encoding="latin-1")
    assert codes == set()
    assert dataset.channels[1].name == "h\xf6he"


def test_a_wrong_delimiter_or_encoding_by_name_is_refused(tmp_path):
    path = put(tmp_path, text(GOOD))
    assert outcome(path, delimiter=";")[0] == {"delimiter-wrong"}
    assert outcome(path, encoding="utf-99")[0] == {"text-encoding"}


def test_the_label_na_stays_text(tmp_path):
    table = [[*row[:3], "NA" if n < 100 else "nan"] for n, row in enumerate(GOOD)]
    _, dataset = outcome(put(tmp_path, text(table)))
    assert dataset.classes == ("NA", "nan")


def test_dd_mm_dates_are_read_in_a_named_format(tmp_path):
    codes, dataset = outcome(
        put(tmp_path, text(DAY_MONTH[:28])), time_format="%d/%m/%Y %H:%M:%S", gap="interpolate"
    )
    assert codes == set()
    assert dataset.rate_hz == pytest.approx(1 / 86400)


def test_clock_change_is_resolved_by_a_named_zone(tmp_path):
    table = [[f"2024-10-27T02:{n % 60:02d}:00", *row[1:]] for n, row in enumerate(GOOD[:120])]
    codes, dataset = outcome(put(tmp_path, text(table)), timezone="Europe/Vienna")
    assert codes == set()
    assert len(dataset.recordings) == 1
    assert dataset.recordings[0].n_timepoints == 120


def test_the_hour_that_summer_skips_is_refused_or_set_aside(tmp_path):
    skipped = [
        [f"2024-03-31T0{n // 60 + 1}:{n % 60:02d}:00", *row[1:]] for n, row in enumerate(GOOD)
    ]
    codes, dataset = outcome(put(tmp_path, text(skipped)), timezone="Europe/Vienna")
    assert codes == set()
    assert quarantine(dataset) == {"time-nonexistent": 60}
    assert outcome(put(tmp_path, text(skipped)), timezone="Europe/Nowhere")[0] == {
        "time-zone-unknown"
    }


def parquet(folder, name="data.parquet", **columns):
    path = folder / name
    table = {
        "timestamp": pa.array(np.arange(500) * 20 + 1_700_000_000_000),
        "acc_x": np.random.default_rng(0).normal(size=500),
        "label": ["walk"] * 250 + ["sit"] * 250,
    } | columns
    pq.write_table(
        pa.table(table), path, write_page_checksum=True, compression="none", use_dictionary=False
    )
    return path


def test_parquet_reads_as_csv_does(tmp_path):
    codes, dataset = outcome(parquet(tmp_path))
    assert codes == set()
    assert dataset.account.accepted == 500
    assert dataset.classes == ("sit", "walk")


def test_parquet_with_real_timestamps_nulls_and_strange_types(tmp_path):
    stamps = pa.array(np.arange(500) * 20_000 + 1_700_000_000_000_000, pa.timestamp("us", "UTC"))
    values = pa.array([None if n == 3 else float(n) for n in range(500)])
    lists = pa.array([[1, 2]] * 500)
    codes, dataset = outcome(parquet(tmp_path, timestamp=stamps, acc_x=values, extra=lists))
    assert codes == set()
    assert quarantine(dataset) == {"value-missing": 1}
    assert "column-type" in step_names(dataset)
    assert dataset.recordings[0].start_s == 1_700_000_000.0


def test_truncated_parquet_is_refused(tmp_path):
    path = parquet(tmp_path)
    content = path.read_bytes()
    for size in (0, 3, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        assert outcome(path)[0] == {"file-damaged"}


def test_any_flipped_bit_in_parquet_pages_is_refused(tmp_path):
    path = parquet(tmp_path)
    content = path.read_bytes()
    random = np.random.default_rng(1)
    for place in random.integers(4, 8000, 25):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        codes, dataset = outcome(path)
        assert codes, f"byte {place} gave {dataset.account}"


def test_parquet_without_checksums_is_held_against_its_own_statistics(tmp_path):
    path = tmp_path / "plain.parquet"
    values = np.linspace(1, 2, 500)
    times = np.arange(500) * 20 + 1_700_000_000_000
    pq.write_table(
        pa.table({"timestamp": times, "x": values}), path, compression="none", use_dictionary=False
    )
    content = bytearray(path.read_bytes())
    place = content.index(values[250].tobytes())
    content[place + 7] ^= 0x80  # the sign
    path.write_bytes(content)
    assert outcome(path)[0] == {"file-damaged"}


def test_an_empty_parquet_and_duplicate_columns_are_refused(tmp_path):
    path = tmp_path / "none.parquet"
    pq.write_table(
        pa.table({"timestamp": pa.array([], pa.int64()), "x": pa.array([], pa.float64())}), path
    )
    assert outcome(path)[0] == {"rows-none"}
    pq.write_table(pa.table([pa.array([1.0]), pa.array([2.0])], names=["x", "x"]), path)
    assert outcome(path)[0] == {"column-duplicate"}


def test_different_schemas_in_one_folder_are_bound_by_name_or_set_aside(tmp_path):
    swapped = [[row[0], row[2], row[1], row[3]] for row in GOOD]
    put(tmp_path, text(GOOD), "a.csv")
    put(tmp_path, text(swapped, ["timestamp", "acc_y", "acc_x", "label"]), "b.csv")
    put(
        tmp_path,
        text([row[:2] + row[3:] for row in GOOD[:60]], ["timestamp", "acc_x", "label"]),
        "c.csv",
    )
    put(tmp_path, text([[*row, "21"] for row in GOOD], [*HEAD, "temp"]), "d.csv")
    codes, dataset = outcome(tmp_path)
    assert codes == set()
    assert quarantine(dataset) == {"channel-missing": 60}
    assert dataset.account.rows_in == 660
    same = [item.values for item in dataset.recordings]
    np.testing.assert_array_equal(same[0], same[1])
    np.testing.assert_array_equal(same[0], same[2])


def test_one_bad_file_of_a_folder_does_not_take_the_others_with_it(tmp_path):
    put(tmp_path, text(GOOD), "walk.1.csv")
    put(tmp_path, b"", "walk.2.csv")
    codes, dataset = outcome(tmp_path)
    assert codes == set()
    assert dataset.account.as_dict() == {
        "rows_in": 201,
        "accepted": 200,
        "quarantined": {"file-empty": 1},
        "duplicates": 0,
    }


def test_all_bad_files_are_told_at_once(tmp_path):
    put(tmp_path, b"", "a.csv")
    put(tmp_path, ",".join(HEAD), "b.csv")
    assert outcome(tmp_path)[0] == {"file-empty", "rows-none"}


def test_names_that_are_not_there_are_told_with_the_nearest(tmp_path):
    path = put(tmp_path, text(GOOD))
    with pytest.raises(DataError, match="acc_x") as caught:
        open_data(path, channels=["acc_xx"], label="lable")
    assert {problem.remedy for problem in caught.value.problems} >= {"label"}
    assert outcome(path, channels=["label"])[0] == {"channel-text"}
    assert outcome(tmp_path / "none.csv")[0] == {"file-missing"}
    assert outcome(put(tmp_path, b"x", "notes.md"))[0] == {"format-unknown"}
    assert outcome(path, lable="x")[0] == {"option-unknown"}
    assert outcome(path, gap="jump", rate_hz=-1.0)[0] == {"option-value"}
    assert outcome(path, rate_hz="50", label=3)[0] == {"option-value"}


def test_a_file_that_cannot_be_read_is_counted_or_refused(tmp_path, monkeypatch):
    put(tmp_path, text(GOOD), "a.csv")
    bad = put(tmp_path, text(GOOD), "b.csv")
    whole = type(bad).read_bytes

    def refuse(path):
        if path.name == "b.csv":
            raise PermissionError("not allowed")
        return whole(path)

    monkeypatch.setattr(type(bad), "read_bytes", refuse)
    _, dataset = outcome(tmp_path)
    assert quarantine(dataset) == {"file-unreadable": 1}
    assert outcome(bad)[0] == {"file-unreadable"}
