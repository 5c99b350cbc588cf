"""`edgegraft label`: a table out, labels back in, and what is refused on the way."""

from __future__ import annotations

import csv
import itertools
import json

import numpy as np
import pytest

import edgegraft as eg
from edgegraft.cli.app import run

QUICK = ("--backbone", "statistics")


def answer(capsys, *arguments, code=0):
    """The one JSON object that a command writes; nothing else may stand on stdout."""
    assert run([*map(str, arguments), "--json"]) == code
    said = capsys.readouterr()
    assert said.out.count("\n") == 1
    return json.loads(said.out)


def refused(capsys, *arguments, code=3):
    return [p["code"] for p in answer(capsys, *arguments, code=code)["error"]["problems"]]


@pytest.fixture
def truth():
    return eg.open_data("synthetic:n=60,seed=1").windows()


@pytest.fixture
def ready(tmp_path, truth):
    """Windows as an .npz file, three of them labelled."""
    y = np.full(60, "", dtype=truth.y.dtype)
    for name in truth.classes:
        first = int(np.flatnonzero(truth.y == name)[0])
        y[first] = name
    path = tmp_path / "data.npz"
    np.savez(path, x=truth.x, y=y, groups=truth.groups, rate_hz=50.0,
             channels=list(truth.spec.channel_names))  # fmt: skip
    return path


@pytest.fixture
def recordings(tmp_path, truth):
    """A folder of three long recordings without labels, twenty windows each."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(3):
        values = np.concatenate(list(truth.x[20 * number : 20 * (number + 1)]), axis=1)
        table = np.column_stack([np.arange(values.shape[1]) / 50, values.T])
        np.savetxt(folder / f"rec{number}.csv", table, delimiter=",", fmt="%.5f", comments="",
                   header="timestamp," + ",".join(truth.spec.channel_names))  # fmt: skip
    return folder


def fill(path, to, label_of, delimiter=",", columns=None):
    """A table with its labels filled in, as a person or a spreadsheet would write it."""
    rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    for row in rows:
        row["label"] = label_of(row)
    with to.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), delimiter=delimiter,
                                extrasaction="ignore")  # fmt: skip
        writer.writeheader()
        writer.writerows(rows)
    return to


def by_window(truth):
    return lambda row: str(truth.y[int(row["window"])])


def test_windows_go_round_a_table_and_back(ready, truth, tmp_path, capsys):
    out, plot = tmp_path / "next.csv", tmp_path / "next.html"
    found = answer(capsys, "label", ready, "--next", 9, *QUICK, "--out", out, "--plot", plot)
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert [row["window"] for row in rows] == [str(row["window"]) for row in found["windows"]]
    assert list(rows[0])[-1] == "label"
    assert all(row["label"] == "" for row in rows)
    assert found["labels"] == 3
    assert plot.read_text(encoding="utf-8").count('class="next"') == 9
    filled = fill(out, tmp_path / "filled.csv", by_window(truth))
    whole = tmp_path / "labelled.npz"
    said = answer(capsys, "label", ready, "--labels", filled, "--out", whole)
    assert (said["labels"], said["open"]) == (12, 48)
    back = eg.open_data(whole).windows()
    before = eg.open_data(ready).windows()
    assert back.spec == before.spec
    assert np.array_equal(back.x, before.x)
    assert np.array_equal(back.groups, before.groups)
    assert back.names == before.names
    assert (back.y[back.labelled] == truth.y[back.labelled]).all()
    more = answer(capsys, "label", whole, "--next", 4, *QUICK, "--out", tmp_path / "more.json")
    assert not {r["window"] for r in more["windows"]} & {r["window"] for r in found["windows"]}
    table = json.loads((tmp_path / "more.json").read_text())
    for row in table["windows"]:
        row["label"] = str(truth.y[row["window"]])
    (tmp_path / "two.json").write_text(json.dumps(table))
    both = ["--labels", filled, "--labels", tmp_path / "two.json"]
    last = answer(capsys, "label", ready, *both, "--out", tmp_path / "all.npz")
    assert last["labels"] == 16
    again = answer(capsys, "label", ready, *both, "--next", 3, *QUICK)
    assert again["labels"] == 16


def test_recordings_go_round_as_a_spreadsheet_writes_them(recordings, tmp_path, truth, capsys):
    cut = ("--window-s", "2", "--stride-s", "1")
    out = tmp_path / "next.csv"
    found = answer(capsys, "label", recordings, "--next", 6, *cut, *QUICK, "--out", out)
    assert found["by"] == "coverage"
    assert all(row["guess"] is None for row in found["windows"])
    assert {row["recording"] for row in found["windows"]} <= {f"rec{n}.csv" for n in range(3)}
    starts = sorted((row["recording"], row["start_s"]) for row in found["windows"])
    assert all(b - a >= 2 for (r, a), (s, b) in itertools.pairwise(starts) if r == s)

    def heard(row):
        place = 20 * int(row["recording"][3]) + min(19, int(float(row["start_s"]) // 2))
        return str(truth.y[place]) if row["rank"] != "2" else "?"

    filled = fill(out, tmp_path / "filled.csv", heard, delimiter=";")
    whole = tmp_path / "labelled.npz"
    said = answer(capsys, "label", recordings, *cut, "--labels", filled, "--out", whole)
    assert (said["labels"], said["unsure"]) == (5, 1)
    back = eg.open_data(whole).windows()
    assert back.spec.stride_s == 1
    assert back.names == ("rec0.csv", "rec1.csv", "rec2.csv")
    asked = answer(capsys, "label", recordings, *cut, "--labels", filled, "--next", 8, *QUICK)
    aside = found["windows"][1]["window"]
    assert aside not in [row["window"] for row in asked["windows"]]


def test_the_table_for_people_says_how_it_chose(ready, capsys):
    assert run(["label", str(ready), "--next", "2", *QUICK]) == 0
    said = capsys.readouterr().out
    assert "chosen    by coverage: 1.0 labels per class" in said
    assert "worth     nothing is said" in said
    assert "data/" in said


def test_wrong_tables_are_refused_and_nothing_is_written(ready, tmp_path, truth, capsys):
    out, whole = tmp_path / "next.csv", tmp_path / "labelled.npz"
    answer(capsys, "label", ready, "--next", 5, *QUICK, "--out", out)
    back = ("label", ready, "--out", whole, "--labels")
    assert refused(capsys, *back, out) == ["labels-missing"]
    bare = fill(out, tmp_path / "bare.csv", by_window(truth), columns=["rank", "window"])
    assert refused(capsys, *back, bare) == ["answers-form"]
    other = tmp_path / "other.csv"
    other.write_text("window,recording,start_s,label\n1,data/1,0.0,idle\n99,data/99,0,idle\n"
                     "3,else/3,0,idle\n4,data/4,7.5,idle\n")  # fmt: skip
    assert refused(capsys, *back, other) == ["answer-unknown"] * 3
    known = int(np.flatnonzero(eg.open_data(ready).windows().labelled)[0])
    other.write_text(f"window,label\n{known},something\n5,idle\n5,shake\n")
    assert refused(capsys, *back, other) == ["answer-conflict"] * 2
    other.write_text("window,label\nfirst,idle\n")
    assert refused(capsys, *back, other) == ["answers-form"]
    (tmp_path / "broken.json").write_text("[1")
    assert refused(capsys, *back, tmp_path / "broken.json") == ["answers-form"]
    assert refused(capsys, *back, tmp_path / "none.csv") == ["file-missing"]
    other.write_text("window,label\n" + "".join(f"{n},idle\n" for n in range(60, 200)))
    assert len(refused(capsys, *back, other)) == 12
    assert not whole.exists()


def test_places_that_would_lose_something_are_refused(ready, recordings, capsys, tmp_path):
    before = ready.read_bytes()
    assert refused(capsys, "label", ready, "--out", ready, code=2) == ["out-exists"]
    assert refused(capsys, "label", ready, "--out", "next.xlsx", code=2) == ["out-form"]
    inside = recordings / "next.csv"
    assert refused(capsys, "label", recordings, "--out", inside, code=2) == ["out-in-data"]
    assert refused(capsys, "label", ready, "--plot", "map.png", code=2) == ["out-form"]
    assert ready.read_bytes() == before
    assert not inside.exists()


def test_counts_that_cannot_be_are_refused(ready, tmp_path, capsys):
    out = tmp_path / "next.csv"
    assert refused(capsys, "label", ready, "--next", 58, "--out", out) == ["pool-small"]
    assert refused(capsys, "label", ready, "--next", 0, "--out", out, code=2) == ["count-range"]
    assert refused(capsys, "label", "synthetic:n=30,seed=1") == ["nothing-to-label"]
    assert not out.exists()


def test_a_pool_apart_and_data_are_written_as_one(ready, tmp_path, capsys):
    out = tmp_path / "next.csv"
    apart = ("--unlabelled", "synthetic:n=30,seed=5")
    found = answer(capsys, "label", "synthetic:n=24,seed=1", *apart, *QUICK, "--next", 3,
                   "--out", out)  # fmt: skip
    assert all(24 <= row["window"] < 54 for row in found["windows"])
    filled = fill(out, tmp_path / "filled.csv", lambda row: row["guess"])
    said = answer(capsys, "label", "synthetic:n=24,seed=1", *apart, "--labels", filled,
                  "--out", tmp_path / "all.npz")  # fmt: skip
    assert (said["labels"], said["open"]) == (27, 27)
    windows = eg.open_data(tmp_path / "all.npz").windows()
    assert windows.names[24] == "synthetic:n=30,seed=5#0"
    ranking = answer(capsys, "models", "recommend", tmp_path / "all.npz")["ranking"]
    assert {row["labels_used"] for row in ranking} == {27}
