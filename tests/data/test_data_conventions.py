"""Labels, groups and recordings are found by convention, in a stated order."""

import json

import numpy as np
import pytest
from data_toys import outcome, put, quarantine, rows, step_names, text

from edgegraft.data.dataset import open_data

BARE = [row[:3] for row in rows(120)]
BARE_HEAD = ["timestamp", "acc_x", "acc_y"]
FILE = text(BARE, BARE_HEAD)


def labels(dataset):
    """The label of each recording by its name, "" if it has none or several."""
    found = {}
    for item in dataset.recordings:
        spans = {span.label for span in item.labels}
        found[item.name] = spans.pop() if len(spans) == 1 else ""
    return found


def groups(dataset):
    return {item.name: item.group for item in dataset.recordings}


def test_folders_give_the_label_and_outer_folders_the_group(tmp_path):
    for person in ("ann", "bob"):
        for label in ("walk", "sit"):
            put(tmp_path, FILE, f"{person}/{label}/1.csv")
    dataset = open_data(tmp_path)
    assert labels(dataset)["ann/walk/1.csv"] == "walk"
    assert groups(dataset)["bob/sit/1.csv"] == "bob"


def test_a_single_level_of_folders_is_the_label(tmp_path):
    put(tmp_path, FILE, "walk/1.csv")
    put(tmp_path, FILE, "sit/1.csv")
    dataset = open_data(tmp_path)
    assert labels(dataset) == {"sit/1.csv": "sit", "walk/1.csv": "walk"}
    assert dataset.groups == ()


def test_one_level_of_folders_asked_for_as_group_leaves_the_label_to_the_file_name(tmp_path):
    for person in ("ann", "bob"):
        for label in ("walk", "sit"):
            put(tmp_path, FILE, f"{person}/{label}.t1.csv")
    data = open_data(tmp_path, group="folder")
    assert data.groups == ("ann", "bob")
    assert data.classes == ("sit", "walk")


def test_folders_are_groups_where_the_rows_carry_labels(tmp_path):
    put(tmp_path, text(rows()), "ann/1.csv")
    put(tmp_path, text(rows(seed=1)), "bob/1.csv")
    dataset = open_data(tmp_path)
    assert dataset.classes == ("sit", "walk")
    assert dataset.groups == ("ann", "bob")


def test_train_and_test_folders_are_neither_label_nor_group(tmp_path):
    put(tmp_path, FILE, "training/walk.1.csv")
    put(tmp_path, FILE, "testing/sit.1.csv")
    dataset = open_data(tmp_path)
    assert dataset.classes == ("sit", "walk")
    assert dataset.groups == ()


def test_the_file_name_before_the_first_dot_is_the_label(tmp_path):
    put(tmp_path, FILE, "walk.s01.take2.csv")
    put(tmp_path, FILE, "sit.s02.csv")
    assert set(labels(open_data(tmp_path)).values()) == {"walk", "sit"}
    assert labels(open_data(tmp_path / "sit.s02.csv")) == {"sit.s02.csv": "sit"}


def test_plain_file_names_are_labels_unless_they_only_count(tmp_path):
    put(tmp_path, FILE, "words/walk.csv")
    put(tmp_path, FILE, "words/sit.csv")
    put(tmp_path, FILE, "numbers/rec01.csv")
    put(tmp_path, FILE, "numbers/rec02.csv")
    assert open_data(tmp_path / "words").classes == ("sit", "walk")
    assert open_data(tmp_path / "numbers").classes == ()
    assert open_data(tmp_path / "numbers", label="filename").classes == ("rec01", "rec02")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_metadata_gives_label_and_group_and_tells_of_lost_files(tmp_path, form):
    put(tmp_path, FILE, "rec01.csv")
    put(tmp_path, FILE, "sub/rec02.csv")
    facts = [
        ("rec01.csv", "walk", "ann"),
        ("sub/rec02.csv", "sit", "bob"),
        ("gone.csv", "run", "eve"),
    ]
    if form == "csv":
        content = "file,label,person\n" + "".join(",".join(row) + "\n" for row in facts)
    else:
        content = "\n".join(
            json.dumps(dict(zip(["file", "label", "person"], row, strict=True))) for row in facts
        )
    put(tmp_path, content, f"metadata.{form}")
    dataset = open_data(tmp_path)
    assert labels(dataset) == {"rec01.csv": "walk", "sub/rec02.csv": "sit"}
    assert dataset.groups == ("ann", "bob")
    assert "metadata-without-file" in step_names(dataset)


def test_metadata_fields_can_be_chosen(tmp_path):
    put(tmp_path, FILE, "rec01.csv")
    put(tmp_path, "file,label,fault,rig\nrec01.csv,x,inner ring,7\n", "metadata.csv")
    dataset = open_data(tmp_path, label="fault", group="rig")
    assert dataset.classes == ("inner ring",)
    assert dataset.groups == ("7",)


@pytest.mark.parametrize(
    "content",
    [
        "label\nwalk\n",
        'file,label\n"rec01.csv,walk\n',
    ],
)
def test_damaged_metadata_is_refused(tmp_path, content):
    put(tmp_path, FILE, "rec01.csv")
    put(tmp_path, content, "metadata.csv")
    assert outcome(tmp_path)[0] & {"metadata-damaged"}


@pytest.mark.parametrize(
    "line",
    [
        b'{"file": NaN}',
        b'{"file": "a", "file": "b"}',
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
        b"[1]",
        b"\xff",
    ],
)
def test_json_that_is_not_plain_is_refused(tmp_path, line):
    put(tmp_path, FILE, "rec01.csv")
    put(tmp_path, line, "metadata.jsonl")
    assert outcome(tmp_path)[0] & {"json-damaged", "metadata-damaged"}


def test_group_and_recording_columns_divide_a_table(tmp_path):
    table = [[*row, "ann" if n < 100 else "bob", str(n // 50)] for n, row in enumerate(rows())]
    head = ["timestamp", "acc_x", "acc_y", "label", "subject_id", "session"]
    dataset = open_data(put(tmp_path, text(table, head)))
    assert list(groups(dataset).values()) == ["ann", "ann", "bob", "bob"]
    assert [item.n_timepoints for item in dataset.recordings] == [50] * 4
    assert dataset.account.accepted == 200


def test_columns_named_by_option_win(tmp_path):
    table = [[*row, "left", "k7"] for row in rows()]
    head = ["when", "acc_x", "acc_y", "label", "side", "kit"]
    dataset = open_data(put(tmp_path, text(table, head)), time="when", label="side", group="kit")
    assert dataset.classes == ("left",)
    assert dataset.groups == ("k7",)


def test_whole_number_labels_use_minus_one_for_unlabelled(tmp_path):
    table = [[*row[:3], "-1" if n < 100 else "3"] for n, row in enumerate(rows())]
    assert open_data(put(tmp_path, text(table))).classes == ("3",)


def test_a_long_table_gives_the_same_signal_as_a_wide_one(tmp_path):
    table = rows()
    long = [
        [row[0], name, cell, row[3]]
        for row in table
        for name, cell in zip(["acc_x", "acc_y"], row[1:3], strict=True)
    ]
    wide = open_data(put(tmp_path, text(table), "wide.csv"))
    path = put(tmp_path, text(long, ["timestamp", "sensor", "value", "label"]), "long.csv")
    dataset = open_data(path)
    assert dataset.account.rows_in == dataset.account.accepted == 400
    np.testing.assert_array_equal(dataset.recordings[0].values, wide.recordings[0].values)
    assert dataset.recordings[0].labels == wide.recordings[0].labels


def test_a_long_table_accounts_for_repeats_contradictions_and_lacks(tmp_path):
    long = [[row[0], name, row[1]] for row in rows() for name in ("acc_x", "acc_y")]
    repeat, contradiction = long[10], [*long[20][:2], "99"]
    long = [*long[:-1], repeat, contradiction, [*long[30][:2], "x"]]
    dataset = open_data(put(tmp_path, text(long, ["timestamp", "sensor", "value"])))
    assert dataset.account.rows_in == 402
    assert dataset.account.duplicates == 1
    # The other channel at the last time has no partner.
    assert quarantine(dataset) == {"time-duplicate": 1, "cell-text": 1, "value-missing": 1}
    assert dataset.account.accepted == 398


def test_a_long_table_whose_channels_never_meet_is_refused(tmp_path):
    long = [[row[0], ["acc_x", "acc_y"][n % 2], row[1]] for n, row in enumerate(rows())]
    path = put(tmp_path, text(long, ["timestamp", "sensor", "value"]))
    assert outcome(path)[0] == {"channel-sparse"}


SPANS = {
    "since 1970": "start,end,label\n1700000000500,1700000001000,fall\n",
    "from the start": "start_s,end_s,label\n0.5,1.0,fall\n",
    "ISO": "start,end,label\n2023-11-14T22:13:20.5Z,2023-11-14T22:13:21Z,fall\n",
}


@pytest.mark.parametrize("case", SPANS)
def test_spans_label_parts_of_a_long_recording(tmp_path, case):
    path = put(tmp_path, FILE, "long.csv")
    put(tmp_path, SPANS[case], "long.spans.csv")
    (span,) = open_data(path).recordings[0].labels
    assert (span.start, span.stop, span.label) == (25, 50, "fall")
    windows = open_data(path).windows(0.5, 0.5)
    assert windows.y.tolist() == ["", "fall", "", ""]


def test_spans_of_several_files_and_by_option(tmp_path):
    put(tmp_path, FILE, "a.csv")
    put(tmp_path, FILE, "b.csv")
    put(tmp_path, "file,start_s,end_s,label\na.csv,0,1,up\nb.csv,0,1,down\n", "spans.csv")
    spans = {item.name: item.labels[0].label for item in open_data(tmp_path).recordings}
    assert spans == {"a.csv": "up", "b.csv": "down"}
    named = put(tmp_path, "start_s,end_s,label\n0,9,all\n", "elsewhere.txt")
    dataset = open_data(tmp_path / "a.csv", spans=str(named))
    assert labels(dataset) == {"a.csv": "all"}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("start_s,end_s,label\n0,1,a\n0.5,2,b\n", "spans-overlap"),
        ("start_s,end_s,label\n1,0,a\n", "span-order"),
        ("from_here,label\n1,a\n", "spans-columns"),
    ],
)
def test_impossible_spans_are_refused(tmp_path, content, code):
    path = put(tmp_path, FILE, "long.csv")
    put(tmp_path, content, "long.spans.csv")
    assert outcome(path)[0] == {code}
