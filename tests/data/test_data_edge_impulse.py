"""Edge Impulse acquisitions: JSON and CBOR, signed or not, labelled in four ways."""

import hashlib
import hmac
import json

import cbor2
import numpy as np
import pytest
from data_toys import outcome, put, quarantine
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft.data.dataset import open_data
from edgegraft.data.edge_impulse import EdgeImpulseSource
from edgegraft.data.source import DataOptions
from edgegraft_edge.errors import EdgegraftError

KEY = "a key of the project"


def acquisition(n_rows=100, interval_ms=10, seed=0, **payload):
    values = np.random.default_rng(seed).normal(size=(n_rows, 2)).round(3).tolist()
    return {
        "protected": {"ver": "v1", "alg": "HS256", "iat": 1_700_000_000},
        "signature": "0" * 64,
        "payload": {
            "device_name": "ac:87:a3",
            "device_type": "BOARD",
            "interval_ms": interval_ms,
            "sensors": [{"name": "accX", "units": "m/s2"}, {"name": "temp", "units": "N/A"}],
            "values": values,
            **payload,
        },
    }


def signed(content, dump, key=KEY):
    raw = dump(content)
    signature = hmac.new(key.encode(), raw, hashlib.sha256).hexdigest()
    return raw.replace(b"0" * 64, signature.encode())


def as_json(content):
    return json.dumps(content).encode()


@pytest.mark.parametrize(("dump", "suffix"), [(as_json, "json"), (cbor2.dumps, "cbor")])
def test_signed_files_are_read_and_verified(tmp_path, dump, suffix):
    path = put(tmp_path, signed(acquisition(), dump), f"walk.1.{suffix}")
    dataset = open_data(path, key=KEY)
    (recording,) = dataset.recordings
    assert dataset.rate_hz == 100.0
    assert [(channel.name, channel.unit) for channel in dataset.channels] == [
        ("accX", "m/s2"),
        ("temp", ""),
    ]
    assert recording.labels[0].label == "walk"
    assert recording.group == "ac:87:a3"
    assert dataset.account.as_dict()["accepted"] == 100


@pytest.mark.parametrize(("dump", "suffix"), [(as_json, "json"), (cbor2.dumps, "cbor")])
def test_changed_or_unsigned_files_are_refused_when_a_key_is_given(tmp_path, dump, suffix):
    raw = signed(acquisition(), dump)
    path = put(tmp_path, raw.replace(b"BOARD", b"BOARE"), f"walk.1.{suffix}")
    assert outcome(path, key=KEY)[0] == {"signature-wrong"}
    path = put(tmp_path, raw, f"walk.1.{suffix}")
    assert outcome(path, key="another")[0] == {"signature-wrong"}
    plain = acquisition() | {"protected": {"ver": "v1", "alg": "none"}, "signature": "00"}
    path = put(tmp_path, dump(plain), f"walk.1.{suffix}")
    assert outcome(path, key=KEY)[0] == {"signature-missing"}
    assert outcome(path)[0] == set()


def test_info_labels_metadata_and_structured_labels(tmp_path):
    put(tmp_path, as_json(acquisition()), "training/a.1.json")
    put(tmp_path, as_json(acquisition(seed=1)), "testing/b.1.json")
    put(tmp_path, as_json(acquisition(seed=2)), "training/c.1.json")
    info = {
        "version": 1,
        "files": [
            {
                "path": "training/a.1.json",
                "label": {"type": "label", "label": "idle"},
                "metadata": {"person": "ann"},
            },
            {"path": "testing/b.1.json", "label": {"type": "unlabeled"}},
            {
                "path": "training/c.1.json",
                "label": {
                    "type": "multi-label",
                    "labels": [
                        {"label": "up", "startIndex": 0, "endIndex": 49},
                        {"label": "down", "startIndex": 50, "endIndex": 99},
                    ],
                },
            },
        ],
    }
    put(tmp_path, as_json(info), "info.labels")
    dataset = open_data(tmp_path, group="person")
    found = {
        item.name: [(s.start, s.stop, s.label) for s in item.labels] for item in dataset.recordings
    }
    assert found == {
        "training/a.1.json": [(0, 100, "idle")],
        "testing/b.1.json": [],
        "training/c.1.json": [(0, 50, "up"), (50, 100, "down")],
    }
    assert dataset.groups == ("ann",)
    spans = [{"label": "fall", "startIndex": 10, "endIndex": 19}]
    put(
        tmp_path,
        as_json({"version": 1, "structuredLabels": {"b.1.json": spans}}),
        "structured_labels.labels",
    )
    again = {item.name: item.labels for item in open_data(tmp_path).recordings}
    assert [(s.start, s.stop, s.label) for s in again["testing/b.1.json"]] == [(10, 20, "fall")]


def test_bad_readings_are_set_aside_and_leave_a_gap(tmp_path):
    content = acquisition()
    content["payload"]["values"][40] = [1.0]
    content["payload"]["values"][41] = [1.0, "x"]
    content["payload"]["values"][42] = [1.0, None]
    content["payload"]["values"][43] = [1e400, 1.0]
    content["payload"]["values"][44] = [10**390, 1.0]
    raw = as_json(content).replace(b"Infinity", b"1e400")
    dataset = open_data(put(tmp_path, raw, "walk.1.json"))
    assert quarantine(dataset) == {"value-missing": 5}
    assert [item.n_timepoints for item in dataset.recordings] == [40, 55]


def test_a_single_sensor_may_give_bare_numbers(tmp_path):
    content = acquisition(sensors=[{"name": "light", "units": "lx"}], values=list(range(64)))
    dataset = open_data(put(tmp_path, cbor2.dumps(content), "day.1.cbor"))
    assert dataset.recordings[0].values.tolist() == [list(range(64))]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "file-empty"),
        (b"{", "json-damaged"),
        (b'{"payload": {}, "payload": {}}', "json-damaged"),
        (b"[" * 100_000, "json-damaged"),
        (b"[1, 2]", "acquisition-damaged"),
        (b'{"payload": {}}', "acquisition-damaged"),
        (as_json(acquisition(interval_ms=0)), "acquisition-damaged"),
        (as_json(acquisition(interval_ms=True)), "acquisition-damaged"),
        (as_json(acquisition(sensors=[])), "acquisition-damaged"),
        (as_json(acquisition(sensors=[{"name": 3}])), "acquisition-damaged"),
        (as_json(acquisition(values=[])), "acquisition-damaged"),
        (as_json(acquisition(sensors=[{"name": "a"}, {"name": "a"}])), "column-duplicate"),
        (as_json(acquisition()).replace(b"0.", b"NaN, 0.", 1), "json-damaged"),
    ],
)
def test_damaged_acquisitions_are_refused(tmp_path, content, code):
    assert outcome(put(tmp_path, content, "walk.1.json"))[0] == {code}


@pytest.mark.parametrize(
    "content", [b"\xa1", cbor2.dumps(acquisition())[:-5], cbor2.dumps({}) + b"x", b"\xff" * 9]
)
def test_damaged_cbor_is_refused(tmp_path, content):
    assert outcome(put(tmp_path, content, "walk.1.cbor"))[0] == {"cbor-damaged"}


def test_one_bad_file_of_a_folder_is_counted(tmp_path):
    put(tmp_path, as_json(acquisition()), "walk.1.json")
    put(tmp_path, as_json(acquisition())[:-9], "walk.2.json")
    dataset = open_data(tmp_path)
    assert quarantine(dataset) == {"json-damaged": 1}
    assert dataset.account.rows_in == 101


@given(
    st.binary(max_size=300),
    st.sampled_from(["json", "cbor"]),
    st.integers(0, 2000),
    st.integers(0, 255),
)
@settings(max_examples=150, deadline=None)
def test_fuzzed_acquisitions_end_in_an_error_or_a_balanced_account(
    tmp_path_factory, blob, suffix, place, byte
):
    folder = tmp_path_factory.mktemp("fuzz")
    raw = bytearray((as_json if suffix == "json" else cbor2.dumps)(acquisition(20)))
    raw[place % len(raw)] = byte
    for content in (blob, bytes(raw)):
        path = str(put(folder, content, f"walk.1.{suffix}"))
        try:
            account = EdgeImpulseSource().open(path, DataOptions()).account
        except EdgegraftError:  # anything else fails the test
            continue
        assert account.rows_in == account.accepted + account.n_quarantined > 0
