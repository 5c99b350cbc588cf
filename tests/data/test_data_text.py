"""Sentences: what is read, what is set aside and counted, and what the doctor says of them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft.data.audit import audit
from edgegraft.data.dataset import open_data
from edgegraft.data.source import find_source
from edgegraft.data.tabular import TableSource
from edgegraft.data.text import TextSource
from edgegraft.data.text_checks import alike
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.signal import TextSpec, Windows

SHARED = Path(__file__).parents[2].parent / "shared/data"
ROWS = [("turn on the light", "light", "ann"), ("is it cold", "weather", "bob")]


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def table(path, rows=ROWS, head=("text", "label", "person"), mark=","):
    return write(path, "\n".join(mark.join(row) for row in [head, *rows]) + "\n")


def said(dataset):
    windows = dataset.ready
    return list(
        zip(
            windows.spec.unpack(windows.x),
            windows.y.tolist(),
            windows.groups.tolist(),
            strict=True,
        )
    )


@pytest.mark.parametrize(
    ("name", "head", "mark"),
    [
        ("a.csv", ("text", "label", "person"), ","),
        ("a.tsv", ("utterance", "intent", "user_id"), "\t"),
        ("a.csv", ("Query", "Category", "Group"), ";"),
    ],
)
def test_tables_are_told_by_their_columns(tmp_path, name, head, mark):
    data = open_data(table(tmp_path / name, head=head, mark=mark))
    assert said(data) == ROWS
    assert data.ready.spec == TextSpec(256)
    assert data.ready.names == (f"{name} row 1", f"{name} row 2")
    assert data.account.as_dict()["accepted"] == 2


def test_parquet_and_lines_and_trees_of_json_say_the_same(tmp_path):
    names = ("sentence", "label", "person")
    objects = [dict(zip(names, row, strict=True)) for row in ROWS]
    pq.write_table(pa.Table.from_pylist(objects), tmp_path / "a.parquet")
    write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, objects)))
    write(tmp_path / "a.json", json.dumps(objects))
    for name in ("a.parquet", "a.jsonl", "a.json"):
        assert isinstance(find_source(str(tmp_path / name)), TextSource)
        assert said(open_data(tmp_path / name)) == ROWS


def test_parts_of_a_tree_open_one_by_one(tmp_path):
    tree = {"train": [["on", "light"], ["off", "light"]], "oos": [["who am i", "oos"]]}
    path = write(tmp_path / "full.json", json.dumps(tree))
    assert len(open_data(path).ready) == 3
    assert said(open_data(f"{path}/oos")) == [("who am i", "oos", "")]
    with pytest.raises(DataError, match="Try: train"):
        open_data(f"{path}/trian")


def test_sentences_in_pieces_are_joined(tmp_path):
    pieces = [{"data": [{"text": "play "}, {"text": "jazz", "entity": "genre"}]}]
    path = write(tmp_path / "a.json", json.dumps({"PlayMusic": pieces}))
    assert said(open_data(path)) == [("play jazz", "PlayMusic", "")]


def test_folders_of_text_files_are_labelled_by_folder_or_by_file(tmp_path):
    for label in ("light", "weather"):
        (tmp_path / "one" / label).mkdir(parents=True)
        write(tmp_path / "one" / label / "1.txt", f"about the {label}\nand more")
        (tmp_path / "two").mkdir(exist_ok=True)
        write(tmp_path / "two" / f"{label}.txt", "first one\n\nsecond one\n")
        (tmp_path / "three" / "ann" / label).mkdir(parents=True)
        write(tmp_path / "three" / "ann" / label / "1.txt", f"about the {label}")
    assert said(open_data(tmp_path / "one"))[0] == ("about the light\nand more", "light", "")
    assert said(open_data(tmp_path / "two"))[:2] == [
        ("first one", "light", ""),
        ("second one", "light", ""),
    ]
    assert said(open_data(tmp_path / "three"))[0] == ("about the light", "light", "ann")
    found = open_data(tmp_path / "one", group="folder").ready
    assert found.groups.tolist() == ["light", "weather"]


def test_folders_of_tables_join_and_a_damaged_one_is_counted(tmp_path):
    table(tmp_path / "train.csv")
    table(tmp_path / "more.csv", [("will it rain", "weather", "eve")])
    write(tmp_path / "zz.csv", "text,label\nüber,a\n", "latin-1")
    data = open_data(tmp_path)
    assert len(data.ready) == 3
    assert data.account.as_dict()["quarantined"] == {"text-encoding": 1}


# -- whose file is it


@pytest.mark.parametrize(
    "content",
    [
        "time,acc_x,command\n0.0,9.81,stop now\n0.1,9.79,go on\n",
        "time,x\n0,1\n1,2\n",
        "text,label\n1.5,a\n2.5,b\n",
        "comment,value\nsensor ok,3.5\nsensor ok,3.6\n",
    ],
)
def test_signals_stay_tables(tmp_path, content):
    path = write(tmp_path / "a.csv", content)
    assert isinstance(find_source(str(path)), TableSource)
    assert isinstance(find_source(str(tmp_path)), TableSource)


def test_times_and_numbers_of_rows_do_not_make_a_signal(tmp_path):
    content = "id,timestamp,utterance,intent\n1,2024-01-01,light on,a\n2,2024-01-02,is it cold,b\n"
    path = write(tmp_path / "a.csv", content)
    assert isinstance(find_source(str(path)), TextSource)
    assert not TableSource().accepts(str(path))
    assert said(open_data(path))[1] == ("is it cold", "b", "")


def test_acquisitions_stay_with_their_source(tmp_path):
    path = write(tmp_path / "a.json", '{"protected": {}, "signature": "", "payload": {}}')
    assert not TextSource().accepts(str(path))


def test_columns_can_be_named(tmp_path):
    path = table(tmp_path / "a.csv", head=("what", "why", "who"))
    found = open_data(f"text:{path}", text="what", label="why", group="who")
    assert said(found) == ROWS
    with pytest.raises(DataError, match="text-column"):
        open_data(f"text:{path}")
    with pytest.raises(DataError) as caught:
        open_data(f"text:{path}", text="wath", label="whi")
    assert [problem.code for problem in caught.value.problems] == ["column-missing"] * 2
    assert "what" in str(caught.value)


# -- what cannot be used


def test_every_row_is_accounted_for(tmp_path):
    lines = [
        {"text": "light on", "label": "a"},
        {"text": "light on", "label": "a"},
        {"text": "light on", "label": "b"},
        {"text": "  ", "label": "a"},
        {"text": None, "label": "a"},
        {"label": "a"},
        {"text": "zero \0 byte", "label": "a"},
        {"text": "half a pair \ud83d", "label": "a"},
    ]
    content = "\n".join([*map(json.dumps, lines), "{not json", "[1]", '{"text": "x"}'])
    data = open_data(write(tmp_path / "a.jsonl", content))
    assert said(data) == [("light on", "a", ""), ("light on", "b", ""), ("x", "", "")]
    assert data.account.as_dict() == {
        "rows_in": 11,
        "accepted": 3,
        "quarantined": {
            "json-damaged": 1,
            "json-form": 1,
            "text-empty": 1,
            "text-missing": 2,
            "nul-byte": 1,
            "text-surrogate": 1,
        },
        "duplicates": 1,
    }


def test_a_hundred_thousand_characters_are_cut_and_it_is_said(tmp_path):
    path = table(tmp_path / "a.csv", [("ö" * 100_000, "a", "x"), ("short one", "b", "y")])
    data = open_data(path, n_bytes=33)
    assert said(data)[0][0] == "ö" * 16
    found = audit(data)
    assert "text-cut" in found.codes
    assert "n_bytes=65536" in str(found)


def test_wrong_encoding_names_the_offset_and_can_be_named(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\nwärmer,a\n", "latin-1")
    with pytest.raises(DataError, match="0xe4 at offset 12") as caught:
        open_data(path)
    assert caught.value.code == "text-encoding"
    assert said(open_data(path, encoding="latin-1")) == [("wärmer", "a", "")]
    utf16 = write(tmp_path / "b.csv", "text,label\nwärmer,a\n", "utf-16")
    assert said(open_data(utf16)) == [("wärmer", "a", "")]


def test_nothing_to_read_is_refused_by_code(tmp_path):
    with pytest.raises(DataError, match="sentences-none"):
        open_data(write(tmp_path / "a.jsonl", '{"text": ""}'))
    with pytest.raises(DataError, match="file-empty"):
        open_data(f"text:{write(tmp_path / 'b.csv', '')}")
    with pytest.raises(DataError, match="json-form"):
        open_data(f"text:{write(tmp_path / 'c.json', '[1, 2]')}")
    with pytest.raises(DataError, match="json-damaged"):
        open_data(f"text:{write(tmp_path / 'd.json', '[' * 5000)}")
    with pytest.raises(DataError, match="file-missing"):
        open_data(f"text:{tmp_path / 'none.csv'}")
    with pytest.raises(OptionError, match="n_bytes"):
        open_data(tmp_path / "a.jsonl", n_bytes=2)


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["a.csv", "a.jsonl", "a.json", "a.txt"]))
def test_any_bytes_end_in_sentences_or_a_code(tmp_path_factory, data, name):
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(b"text,label\n" + data if name == "a.csv" else data)
    try:
        found = open_data(f"text:{path}")
    except DataError:  # each has a code
        return
    assert found.account.accepted == len(found.ready) > 0


# -- the doctor


def windows(texts, labels, groups=None):
    spec = TextSpec(128)
    return Windows(spec.pack(texts), np.array(labels), np.array(groups or [""] * len(texts)), spec)


LONG = "please turn on all of the lights in the living room"


def test_near_copies_across_groups_and_test_are_found():
    ours = windows([LONG, "what is the weather", "good night"], ["a", "b", "c"], ["x", "y", "z"])
    copy = windows([LONG.upper() + "!", "will it rain"], ["a", "b"], ["x", "y"])
    assert "train-test-repeated" in audit(ours, copy).codes
    assert "train-test-repeated" not in audit(ours, windows(["play jazz"], ["a"])).codes
    both = windows([LONG, LONG + "s", "good night"], ["a", "a", "b"], ["x", "y", "x"])
    assert "sentence-in-groups" in audit(both).codes


def test_one_sentence_under_two_labels_is_trouble():
    found = audit(windows([LONG, LONG + ".", "good night"], ["a", "b", "b"]))
    assert found.trouble
    assert "label-conflict" in found.codes


def test_wordless_and_misread_sentences_are_told():
    found = audit(windows(["?!", "cafÃ© on", LONG], ["a", "b", "b"]))
    assert {"text-wordless", "text-misread"} <= set(found.codes)


def test_a_class_of_another_length_is_told():
    texts = [f"on {n}" for n in range(12)] + [f"{LONG} {n * 7919}" for n in range(12)]
    assert "length-tells" in audit(windows(texts, ["a"] * 12 + ["b"] * 12)).codes
    texts = [f"{word} the lamp number {n}" for word in ("dim", "lit") for n in range(12)]
    assert "length-tells" not in audit(windows(texts, ["a"] * 12 + ["b"] * 12)).codes


def test_alike_finds_what_comparing_all_finds():
    rng = np.random.default_rng(0)
    words = ["turn", "put", "on", "off", "the", "light", "lamp", "heater", "in", "kitchen", "now"]
    texts = [" ".join(rng.choice(words, 7)) for _ in range(150)]
    texts += [f"{text} now" for text in texts[:30]]

    def shingles(text):
        padded = f" {text} "
        return {padded[i : i + 4] for i in range(len(padded) - 3)}

    sets = [shingles(text) for text in texts]
    expected = {
        (a, b)
        for a in range(len(texts))
        for b in range(a + 1, len(texts))
        if len(sets[a] & sets[b]) >= 0.8 * len(sets[a] | sets[b])
    }
    assert set(alike(texts)) == expected
    assert len(expected) >= 20


# -- real sentences


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the development data is not beside the checkout")
def test_real_sentences_open():
    clinc = SHARED / "clinc150/data/data_full.json"
    data = open_data(f"{clinc}/val")
    assert len(data.classes) == 150
    assert data.account.rows_in == 3000
    assert open_data(f"{clinc}/oos_test").classes == ("oos",)
    name = "RateBook"
    snips = SHARED / f"snips/2017-06-custom-intent-engines/{name}/validate_{name}.json"
    found = open_data(snips)
    assert found.classes == (name,)
    assert 95 <= len(found.ready) <= 100
