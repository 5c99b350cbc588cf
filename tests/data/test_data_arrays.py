"""Ready windows: .npz files and the sets inside aeon."""

import numpy as np
import pytest
from data_toys import outcome, quarantine

from edgegraft.data.arrays import label_text
from edgegraft.data.dataset import open_data

X = np.random.default_rng(0).normal(size=(6, 2, 10))


def npz(folder, name="data.npz", **arrays):
    path = folder / name
    np.savez(path, **({"x": X} | arrays))
    return path


def test_all_that_an_npz_may_say(tmp_path):
    path = npz(
        tmp_path,
        y=["a", "b", "a", "b", "", "-1"],
        groups=["p", "p", "q", "q", "q", "q"],
        rate_hz=20,
        channels=["acc", "gyro"],
        recording=[0, 0, 1, 1, 1, 1],
        start=[0, 5, 0, 5, 10, 15],
    )
    windows = open_data(path).windows()
    assert windows.y.tolist() == ["a", "b", "a", "b", "", ""]
    assert windows.groups.tolist() == ["p", "p", "q", "q", "q", "q"]
    assert windows.spec.rate_hz == 20.0
    assert windows.spec.length_s == 0.5
    assert windows.spec.channel_names == ("acc", "gyro")
    assert windows.recording.tolist() == [0, 0, 1, 1, 1, 1]
    assert open_data(path, channels=["gyro"]).windows().x.shape == (6, 1, 10)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([0, 1, -1], ["0", "1", ""]),
        ([0.0, 2.0, np.nan], ["0", "2", ""]),
        ([True, False, True], ["True", "False", "True"]),
        ([b"a", b"b", b""], ["a", "b", ""]),
        ([" a ", "NA", ""], ["a", "NA", ""]),
        ([0.5, 1.5, 2.0], [0.5, 1.5, 2.0]),
    ],
)
def test_labels_become_text_unless_they_are_real_numbers(y, expected):
    assert label_text(np.array(y)).tolist() == expected


def test_windows_with_missing_values_are_counted(tmp_path):
    x = X.copy()
    x[2, 0, 3], x[4, 1, 0] = np.nan, np.inf
    dataset = open_data(npz(tmp_path, x=x, y=list("ababab")))
    assert quarantine(dataset) == {"value-missing": 2}
    assert dataset.windows().y.tolist() == ["a", "b", "b", "b"]


def test_a_folder_of_npz_is_one_data_set_with_the_files_told_apart(tmp_path):
    npz(tmp_path, "train.npz", y=list("ababab"))
    npz(tmp_path, "test.npz", y=list("ababab"))
    windows = open_data(tmp_path).windows()
    assert len(windows) == 12
    assert windows.names[windows.recording[0]] == "test/0"
    assert windows.names[windows.recording[-1]] == "train/5"


def test_options_name_other_arrays(tmp_path):
    path = npz(tmp_path, fault=list("ababab"), rig=list("ppqqrr"))
    windows = open_data(path, label="fault", group="rig", rate_hz=5.0).windows()
    assert windows.classes == ("a", "b")
    assert windows.groups.tolist() == list("ppqqrr")
    assert outcome(path, label="falt")[0] == {"npz-keys"}


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"x": X[0]}, "window-shape"),
        ({"x": X[..., None]}, "window-shape"),
        ({"x": np.full((2, 2, 2), "a")}, "window-shape"),
        ({"x": X[:, :0]}, "window-shape"),
        ({"y": ["a"]}, "shape-mismatch"),
        ({"groups": ["a"]}, "shape-mismatch"),
        ({"channels": ["a", "b", "c"]}, "channel-count"),
        ({"channels": ["a", "a"]}, "column-duplicate"),
        ({"rate_hz": 0}, "rate-range"),
        ({"y": np.array(["a", None] * 3, dtype=object)}, "npz-pickle"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, code):
    assert outcome(npz(tmp_path, **arrays))[0] == {code}


def test_files_that_are_no_npz_are_refused(tmp_path):
    path = npz(tmp_path)
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[:-30], b"PK" + b"\0" * 99):
        path.write_bytes(damaged)
        assert outcome(path)[0] == {"file-damaged"}
    np.savez(path, a=1)
    assert outcome(path)[0] == {"npz-keys"}


def test_a_flipped_bit_in_an_npz_is_refused(tmp_path):
    path = npz(tmp_path)
    content = path.read_bytes()
    for place in (300, 500, 900):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        assert outcome(path)[0] == {"file-damaged"}


def test_windows_of_another_length_are_refused(tmp_path):
    dataset = open_data(npz(tmp_path, rate_hz=10))
    assert len(dataset.windows(1.0)) == 6
    with pytest.raises(Exception, match="windows-ready"):
        dataset.windows(2.0)


def test_aeon_sets_come_with_their_parts_told_apart():
    windows = open_data("aeon:BasicMotions").windows()
    assert windows.x.shape == (80, 6, 100)
    parts = {windows.names[number].split("/")[0] for number in windows.recording}
    assert parts == {"train", "test"}
    assert outcome("aeon:BasicMotion")[0] == {"aeon-set-unknown"}


def test_synthetic_data_is_the_same_for_the_same_seed():
    first, again, other = (open_data(f"synthetic:n=30,seed={n}").windows() for n in (1, 1, 2))
    np.testing.assert_array_equal(first.x, again.x)
    assert not np.array_equal(first.x, other.x)
    assert len(first.classes) == 3
    assert first.has_groups
    assert outcome("synthetic:m=3")[0] == {"option-unknown"}
    assert outcome("synthetic:n=many")[0] == {"option-value"}
