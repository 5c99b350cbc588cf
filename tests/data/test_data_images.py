"""Pictures as data: where labels and groups come from, what is set aside, what doctor says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgegraft.data.audit import audit
from edgegraft.data.dataset import Dataset, open_data, open_like
from edgegraft.data.image_checks import alike, tells, thumbnails
from edgegraft.data.source import find_source, telling
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.picture import read_window
from edgegraft_edge.signal import GREY, ImageSpec

SHARED = Path(__file__).parents[2].parent / "shared/data"


def _scene(seed: int, size: tuple[int, int] = (48, 48), colour: bool = True) -> Image.Image:
    """Smooth noise: pictures of one seed show the same, whatever their size."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    return image if colour else image.convert("L")


def _save(root: Path, name: str, image: Image.Image, **options: object) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    for label in ("cat", "dog"):
        for number in range(4):
            seed = number + 10 * (label == "dog")
            _save(tmp_path, f"{label}/{number}.png", _scene(seed))
    return tmp_path


def _labels(dataset: Dataset) -> list[str]:
    return dataset.windows().y.tolist()


def _codes(place: Path, test: Path | None = None, **options: object) -> dict[str, str]:
    found = audit(place, test, **options).findings
    return {finding.code: finding.severity for finding in found}


def test_a_folder_per_class(folder):
    dataset = open_data(folder)
    windows = dataset.windows()
    assert windows.x.shape == (8, 3, 48, 48)
    assert windows.x.dtype == np.uint8
    assert windows.y.tolist() == ["cat"] * 4 + ["dog"] * 4
    assert windows.names[0] == "cat/0.png"
    assert not windows.has_groups
    assert (dataset.account.rows_in, dataset.account.accepted) == (8, 8)
    first = np.asarray(Image.open(folder / "cat/0.png")).transpose(2, 0, 1)
    assert np.array_equal(windows.x[0], first)


def test_parts_are_no_labels_and_can_be_opened_apart(tmp_path):
    for place, seed in (("train/a/1", 1), ("train/b/1", 2), ("test/a/1", 3), ("test/b/1", 4)):
        _save(tmp_path, f"{place}.png", _scene(seed))
    assert sorted(set(_labels(open_data(tmp_path)))) == ["a", "b"]
    assert len(open_data(tmp_path / "test").windows()) == 2
    assert _codes(tmp_path)["parts-joined"] == "warning"
    assert "parts-joined" not in _codes(tmp_path / "train")


def test_folders_of_people_give_groups(tmp_path):
    for person in ("ann", "bob"):
        for label in ("yes", "no"):
            _save(tmp_path, f"{person}/{label}/1.png", _scene(hash((person, label)) % 1000))
    windows = open_data(tmp_path).windows()
    assert windows.groups.tolist() == ["ann", "ann", "bob", "bob"]
    assert windows.y.tolist() == ["no", "yes", "no", "yes"]


def test_folders_that_sort_labels_are_no_groups(tmp_path):
    for label, seed in (("animal/cat", 1), ("animal/dog", 2), ("plant/oak", 3)):
        _save(tmp_path, f"{label}/1.png", _scene(seed))
    windows = open_data(tmp_path).windows()
    assert windows.classes == ("cat", "dog", "oak")
    assert not windows.has_groups
    asked = open_data(tmp_path, group="folder", label="filename").windows()
    assert sorted(set(asked.groups.tolist())) == ["animal", "plant"]


@pytest.mark.parametrize("form", ["csv", "jsonl", "below"])
def test_metadata_as_hugging_face_writes_it(tmp_path, form):
    rows = [(f"{number}.png", "ab"[number % 2], f"cam{number // 2}") for number in range(4)]
    root = tmp_path / "train" if form == "below" else tmp_path
    for number, (name, _, _) in enumerate(rows):
        _save(root, name, _scene(number))
    if form == "jsonl":
        keys = ("file_name", "label", "camera")
        lines = [json.dumps(dict(zip(keys, row, strict=True))) for row in rows]
        (root / "metadata.jsonl").write_text("\n".join(lines))
    else:
        lines = ["file_name,label,camera", *(",".join(row) for row in rows), "gone.png,a,cam0"]
        (root / "metadata.csv").write_text("\n".join(lines))
    dataset = open_data(tmp_path, group="camera")
    assert _labels(dataset) == ["a", "b", "a", "b"]
    assert dataset.groups == ("cam0", "cam1")
    assert ("metadata-without-file" in _codes(tmp_path)) == (form != "jsonl")
    with pytest.raises(DataError) as caught:
        open_data(tmp_path, label="labl")
    assert (caught.value.code, caught.value.problems[0].remedy) == ("column-missing", "label")


def test_labels_and_groups_from_names_where_asked(tmp_path):
    for seed, name in enumerate(["cat.s1.7.png", "cat.s2.1.png", "dog.s1.2.png", "dog.s2.9.png"]):
        _save(tmp_path, name, _scene(seed))
    assert set(_labels(open_data(tmp_path))) == {""}
    windows = open_data(tmp_path, label="filename", group=r"\.(s\d)\.").windows()
    assert windows.classes == ("cat", "dog")
    assert windows.groups.tolist() == ["s1", "s2", "s1", "s2"]
    for wrong in ("(", "(a)(b)"):
        with pytest.raises(OptionError):
            open_data(tmp_path, group=wrong)
    with pytest.raises(DataError):
        open_data(tmp_path, group="camera")


def test_sizes(tmp_path):
    _save(tmp_path, "a/1.png", _scene(1, (40, 30)))
    _save(tmp_path, "a/2.png", _scene(2, (40, 30)))
    assert open_data(tmp_path).windows().x.shape[2:] == (30, 40)
    assert open_data(tmp_path, size="20x10").windows().x.shape[2:] == (10, 20)
    assert open_data(tmp_path, size="16").windows().x.shape[2:] == (16, 16)
    _save(tmp_path, "b/3.png", _scene(3, (60, 30)))
    spec = open_data(tmp_path).windows().spec
    assert spec == ImageSpec(128, 128)
    large = tmp_path / "large"
    _save(large, "1.png", _scene(4, (300, 200)))
    assert open_data(large).windows().x.shape[2:] == (128, 128)
    for wrong in ("0", "12x", "12X13", "axb", "99999"):
        with pytest.raises(OptionError):
            open_data(tmp_path, size=wrong)


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_a_picture_opens_as_a_device_reads_it(tmp_path, fit):
    for seed, size in enumerate([(50, 40), (64, 20), (9, 70)]):
        _save(tmp_path, f"{seed}.png", _scene(seed, size))
    windows = open_data(tmp_path, size="24x16", fit=fit).windows()
    assert windows.spec.fit == fit
    for name, x in zip(windows.names, windows.x, strict=True):
        assert np.array_equal(x, read_window(tmp_path / name, windows.spec))
    grey = open_data(tmp_path, size="24x16", fit=fit, colour="grey").windows()
    assert np.array_equal(grey.x[0], read_window(tmp_path / "0.png", grey.spec))


def test_many_sizes_end_as_if_asked_for(tmp_path):
    for seed in range(70):  # more than are read at once
        _save(tmp_path, f"{seed:02}.png", _scene(seed, (20 + seed // 66, 20)))
    found = open_data(tmp_path).windows()
    assert np.array_equal(found.x, open_data(tmp_path, size="128").windows().x)


def test_grey_where_all_are_grey(folder):
    _save(folder, "eel/1.png", _scene(30, colour=False))
    assert open_data(folder).windows().x.shape[1] == 3
    assert open_data(folder, colour="grey").windows().spec.channels == GREY
    grey = folder / "eel"
    assert open_data(grey).windows().x.shape[1] == 1
    assert open_data(grey, colour="rgb").windows().x.shape[1] == 3
    _save(grey, "2.png", _scene(31, colour=False).convert("RGB"))
    assert open_data(grey).windows().x.shape[1] == 1


def test_damaged_files_are_set_aside_and_told(folder):
    (folder / "cat/empty.jpg").write_bytes(b"")
    (folder / "cat/text.png").write_bytes(b"hello")
    whole = _save(folder, "whole.jpg", _scene(3, (200, 200))).read_bytes()
    (folder / "whole.jpg").unlink()
    (folder / "dog/cut.jpg").write_bytes(whole[:900])
    (folder / "dog/notes.txt").write_text("no picture, and not counted")
    account = open_data(folder).account
    assert (account.rows_in, account.accepted) == (11, 8)
    assert {item.code: item.example for item in account.quarantined} == {
        "picture-empty": "cat/empty.jpg",
        "picture-unreadable": "cat/text.png",
        "picture-truncated": "dog/cut.jpg",
    }


def test_nothing_but_damage_is_an_error_that_says_each(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"hello")
    with pytest.raises(DataError) as caught:
        open_data(tmp_path)
    assert [problem.found for problem in caught.value.problems] == ["a.png", "b.png"]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError) as caught:
        open_data(f"images:{tmp_path / 'none'}")
    assert caught.value.code == "pictures-none"


def test_repeats_of_one_label_are_dropped_and_counted(folder):
    _save(folder, "cat/again.bmp", Image.open(folder / "cat/0.png"))
    account = open_data(folder).account
    assert (account.rows_in, account.accepted, account.duplicates) == (9, 8, 1)
    _save(folder, "dog/again.png", Image.open(folder / "cat/0.png"))
    assert open_data(folder).account.duplicates == 1
    assert _codes(folder)["label-conflict"] == "trouble"


def test_one_file_and_the_way_a_model_takes_it(folder):
    one = open_data(folder / "cat/0.png").windows()
    assert (len(one), one.y.tolist()) == (1, [""])
    spec = ImageSpec(20, 30, GREY, "pad")
    assert open_like(folder, spec).windows().spec == spec
    assert open_like(folder, spec, size="10").windows().x.shape[2:] == (10, 10)


def test_the_source_is_found_by_what_is_commonest(tmp_path, folder):
    def name() -> str:
        return type(find_source(str(folder))).__name__

    (folder / "boxes.csv").write_text("file_name,xmin\n")
    assert name() == "ImageSource"
    for number in range(20):
        (folder / f"{number}.csv").write_text("t,x\n0,1\n")
    assert name() == "TableSource"


def test_reading_tells_how_far_it_is(folder):
    told = []
    with telling(lambda event, values: told.append((event, dict(values)))):
        open_data(folder)
    assert told == [("read", {"files": 8, "of": 8})]


@pytest.mark.parametrize("axes", ["nchw", "nhwc", "nhw"])
def test_arrays_of_pictures(tmp_path, axes):
    x = np.random.default_rng(0).integers(0, 256, (6, 3, 12, 10)).astype(np.uint8)
    given = {"nchw": x, "nhwc": x.transpose(0, 2, 3, 1), "nhw": x[:, 0]}[axes]
    np.savez(tmp_path / "set.npz", x=given, y=np.arange(6) % 2)
    windows = open_data(tmp_path / "set.npz").windows()
    assert np.array_equal(windows.x, x[:, :1] if axes == "nhw" else x)
    assert windows.classes == ("0", "1")
    small = open_data(tmp_path / "set.npz", size="5x6", colour="grey").windows()
    assert small.spec == ImageSpec(6, 5, GREY)


def test_arrays_of_signals_stay_signals(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (6, 9, 20)).astype(np.uint8)
    np.savez(tmp_path / "set.npz", x=x, rate_hz=50)
    assert open_data(tmp_path / "set.npz").windows().spec.kind == "series"
    np.savez(tmp_path / "real.npz", x=np.zeros((2, 3, 8, 8), np.float32))
    with pytest.raises(DataError) as caught:
        open_data(tmp_path / "real.npz")
    assert caught.value.code == "window-shape"


def test_pictures_that_show_the_same_are_found(tmp_path):
    for number in range(6):
        _save(tmp_path, f"p{number % 2}/a/{number}.png", _scene(number))
        _save(tmp_path, f"p{number % 2}/b/{number}.png", _scene(number + 50))
    assert "content-repeated" not in _codes(tmp_path)
    _save(tmp_path, "p0/a/smaller.jpg", _scene(0, (30, 30)), quality=60)
    assert _codes(tmp_path)["content-repeated"] == "warning"
    brighter = Image.fromarray((np.asarray(_scene(0)) * 0.8 + 30).astype(np.uint8))
    _save(tmp_path, "p1/a/brighter.png", brighter)
    assert _codes(tmp_path)["content-repeated"] == "trouble"
    test = tmp_path.parent / f"{tmp_path.name}_test"
    _save(test, "a/x.png", _scene(2, (64, 64)))
    _save(test, "b/y.png", _scene(99, (64, 64)))
    found = audit(tmp_path, test).findings
    text = {finding.code: finding.text for finding in found}
    assert "1 of 2 test pictures" in text["train-test-repeated"]


def test_a_fixed_camera_does_not_make_all_alike():
    random = np.random.default_rng(0)
    scene = np.asarray(_scene(1, (64, 64), colour=False)).astype(int)
    x = np.repeat(scene[None, None], 60, axis=0)
    for picture in x[:, 0]:
        row, column = random.integers(0, 48, 2)
        picture[row : row + 16, column : column + 16] += random.choice([-60, -40, 40, 60])
    x[7] = x[3]
    noisy = np.clip(x + random.integers(-3, 4, x.shape), 0, 255).astype(np.uint8)
    found = alike(thumbnails(noisy))
    assert (3, 7) in found
    assert len(found) < 4  # of 1,770 pairs; two squares can fall on one place


def test_light(tmp_path):
    for number in range(12):
        _save(tmp_path, f"a/{number}.png", _scene(number))
    assert not {"picture-blank", "picture-dark", "picture-bright"} & set(_codes(tmp_path))
    noise = np.random.default_rng(0).integers(0, 40, (48, 48)).astype(np.uint8)
    _save(tmp_path, "a/dark.png", Image.fromarray(noise))
    _save(tmp_path, "a/bright.png", Image.fromarray(255 - noise))
    _save(tmp_path, "a/blank.png", Image.new("L", (48, 48), 99))
    glare = np.asarray(_scene(40)).copy()
    glare[:30] = 255
    _save(tmp_path, "a/glare.png", Image.fromarray(glare))
    codes = _codes(tmp_path)
    assert codes["picture-blank"] == "trouble"
    assert codes["picture-dark"] == codes["picture-bright"] == codes["picture-clipped"] == "warning"


def test_sizes_and_colours_that_tell_the_label(tmp_path):
    for number in range(6):
        _save(tmp_path, f"a/{number}.png", _scene(number, (40, 40)))
        _save(tmp_path, f"b/{number}.png", _scene(number + 9, (400, 200), colour=False))
    codes = _codes(tmp_path)
    assert codes["size-tells-label"] == codes["colour-tells-label"] == "trouble"
    assert codes["picture-proportions"] == codes["picture-sizes-differ"] == "warning"
    assert "picture-proportions" not in _codes(tmp_path, fit="pad")
    assert tells(list(range(8)), list("aabbaabb")) == 0


def test_the_summary_shows_sizes_and_colours(folder):
    found = audit(folder).summary
    assert found["pictures"] == "48 x 48 in colour"
    assert found["files"] == "48x48 (8)"


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the development data is not beside the checkout")
def test_steel_defects_open_whole():
    dataset = open_data(SHARED / "neu_surface")
    assert dataset.windows().x.shape == (1799, 1, 200, 200)
    assert dataset.account.duplicates == 1
