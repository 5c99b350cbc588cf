"""Labels and evaluation: what would make a score wrong is told before it is computed."""

import json

import numpy as np
import pytest
from data_toys import put, rows, text

from edgegraft.data.audit import audit
from edgegraft.data.dataset import open_data
from edgegraft.data.leakage import fingerprints, shared_content
from edgegraft_edge.signal import Channel, Windows, WindowSpec

RANDOM = np.random.default_rng(0)


def windows(y, groups=None, x=None, rate_hz=50.0):
    x = RANDOM.normal(size=(len(y), 2, 40)) if x is None else x
    return Windows.of(x, y=list(y), groups=groups and list(groups), rate_hz=rate_hz)


def severity(found, code):
    return {finding.code: finding.severity for finding in found.findings}.get(code)


GOOD = windows(["walk", "sit"] * 30, ["ann", "ann", "bob", "bob", "eve", "eve"] * 10)


def test_good_data_is_in_no_trouble():
    found = audit(GOOD, windows(["walk", "sit"] * 10, ["kim", "lou"] * 10))
    assert not found.trouble
    assert found.codes == ()


@pytest.mark.parametrize(
    ("y", "code", "expected"),
    [
        (["walking"] * 40 + ["sitting"] * 40 + ["wakling"] * 2, "label-typo", "trouble"),
        (["walk"] * 40 + ["sit"] * 40 + ["Walk "] * 30, "label-typo", "trouble"),
        (["walk_up"] * 40 + ["walk up"] * 40, "label-typo", "trouble"),
        (["walking_up"] * 40 + ["walking_down"] * 40, "label-typo", None),
        (["level1"] * 40 + ["level2"] * 3, "label-typo", None),
        (["walk"] * 40, "one-class", "trouble"),
        (["walk"] * 40 + ["sit"], "class-one-member", "trouble"),
        (["walk"] * 40 + ["sit"] * 3, "imbalance", "warning"),
        ([""] * 9, "nothing-labelled", "warning"),
        (["walk", "sit", ""] * 9, "unlabelled", "note"),
    ],
)
def test_labels_that_are_wrong_are_told(y, code, expected):
    assert severity(audit(windows(y)), code) == expected


def test_a_typo_is_told_with_the_nearest_label():
    found = audit(windows(["walking"] * 40 + ["sitting"] * 40 + ["wakling"] * 2))
    assert "write 'walking'" in str(found)


def test_a_class_of_one_group_and_missing_groups_are_told():
    found = audit(windows(["walk", "walk", "sit", "fall"] * 9, ["ann", "bob", "bob", "bob"] * 9))
    assert severity(found, "class-one-group") == "trouble"
    found = audit(windows(["walk", "sit"] * 9, ["ann", "bob", ""] * 6))
    assert severity(found, "group-missing") == "warning"


def test_the_same_file_in_train_and_test_is_found_by_content(tmp_path):
    put(tmp_path, text(rows(400)), "train/a.csv")
    put(tmp_path, text(rows(400, seed=1)), "train/b.csv")
    put(tmp_path, text(rows(400, seed=1, start_ms=1_800_000_000_000)), "test/renamed.csv")
    put(tmp_path, text(rows(400, seed=2)), "test/c.csv")
    found = audit(tmp_path / "train", tmp_path / "test")
    assert severity(found, "train-test-repeated") == "trouble"
    assert "renamed.csv and b.csv" in str(found)


def test_a_copy_that_starts_later_is_found_all_the_same(tmp_path):
    table = rows(600, seed=1)
    put(tmp_path, text(table), "a.csv")
    put(tmp_path, text(table[137:500]), "b.csv")
    put(tmp_path, text(rows(600, seed=2)), "c.csv")
    assert "content-repeated" in audit(tmp_path).codes


def test_a_copy_under_another_group_is_trouble(tmp_path):
    put(tmp_path, text(rows(400)), "ann/1.csv")
    put(tmp_path, text(rows(400)), "bob/1.csv")
    assert severity(audit(tmp_path), "content-repeated") == "trouble"


def test_one_window_under_two_labels_is_trouble():
    x = RANDOM.normal(size=(20, 2, 40))
    x[15] = x[2]
    found = audit(windows(["walk"] * 10 + ["sit"] * 10, x=x))
    assert severity(found, "label-conflict") == "trouble"


def test_the_same_person_in_both_is_trouble():
    found = audit(GOOD, windows(["walk", "sit"] * 10, ["ann", "lou"] * 10))
    assert severity(found, "group-in-both") == "trouble"


def test_overlapping_windows_across_the_split_are_trouble():
    signal = RANDOM.normal(size=(2, 2000))
    starts = np.arange(0, 1960, 20)
    x = np.stack([signal[:, start : start + 40] for start in starts]).astype(np.float32)
    y = np.array(["walk", "sit"])[starts // 500 % 2]
    whole = Windows(
        x, y, np.full(len(y), ""), WindowSpec(40, 20, 1.0, (Channel("a"), Channel("b"))),
        np.zeros(len(y), dtype=np.int64), starts,
    )  # fmt: skip
    even = np.arange(len(y)) % 2 == 0
    assert severity(audit(whole.take(even), whole.take(~even)), "windows-overlap") == "trouble"
    apart = audit(whole.take(starts < 900), whole.take(starts > 1000))
    assert severity(apart, "windows-overlap") is None


def test_classes_of_one_side_are_told():
    found = audit(GOOD, windows(["walk", "fall"] * 10, ["kim", "lou"] * 10))
    assert severity(found, "class-unseen") == "trouble"
    assert severity(found, "class-untested") == "warning"


def test_a_scaler_fitted_on_everything_leaves_its_mark():
    raw = RANDOM.normal(3, 2, size=(80, 2, 40))
    raw[60:] += 1
    scaled = (raw - raw.mean(axis=(0, 2), keepdims=True)) / raw.std(axis=(0, 2), keepdims=True)
    y = ["walk", "sit"] * 30
    both = audit(windows(y, x=scaled[:60]), windows(y[:20], x=scaled[60:]))
    assert severity(both, "scaled-together") == "trouble"
    plain = audit(windows(y, x=raw[:60]), windows(y[:20], x=raw[60:]))
    assert severity(plain, "scaled-together") is None


def test_a_test_set_with_another_rate_length_or_channel_is_told():
    other = Windows.of(
        RANDOM.normal(size=(9, 2, 30)), y=["walk"] * 9, rate_hz=25.0, channels=["c0", "c9"]
    )
    codes = audit(GOOD, other).codes
    assert {"channel-missing", "rate-mismatch", "window-length"} <= set(codes)


def test_fingerprints_find_shifted_copies_and_nothing_else():
    signal = RANDOM.normal(size=(3, 4000)).astype(np.float32)
    copy, other = signal[:, 1237:3000], RANDOM.normal(size=(3, 4000)).astype(np.float32)
    found = shared_content([fingerprints(signal)], [fingerprints(copy), fingerprints(other)])
    assert [(one, other, round(share, 2)) for one, other, share in found] == [(0, 0, 1.0)]
    assert len(fingerprints(np.zeros((3, 4000), np.float32))) == 0


def test_swapped_axes_are_suspected():
    assert (
        "axes-swapped"
        in audit(Windows.of(RANDOM.normal(size=(9, 128, 3)), y=["a", "b", "a"] * 3)).codes
    )


def test_recordings_too_short_for_a_window_are_told(tmp_path):
    path = put(tmp_path, text(rows(100)))
    assert "recordings-short" in audit(path, window_s=60.0).codes


def test_the_audit_is_plain_values_and_readable_text(tmp_path):
    found = audit(put(tmp_path, text(rows(400))))
    content = json.loads(json.dumps(found.as_dict()))
    assert content["rows"]["accepted"] == 400
    assert content["classes"]
    assert content["trouble"] is False
    assert content["measured_rates_hz"] == [50.0]
    assert "rate_hz: 50" in str(found)


def test_labels_go_by_majority_and_purity(tmp_path):
    table = rows(400, labels=("walk", "sit"))
    dataset = open_data(put(tmp_path, text(table)))
    assert dataset.windows(2.0, 1.0).y.tolist() == ["walk"] * 3 + ["sit"] * 4
    assert dataset.windows(2.0, 1.0, purity=0.9).y.tolist() == ["walk"] * 3 + [""] + ["sit"] * 3
