"""Bundles: round trip, refusals with their codes, old ones kept, damage never surprises."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import stat
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from edge_toys import TOY_SPEC, make_toy, toy_program
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft_edge import archive, bundle, signing, tensors
from edgegraft_edge.decision import Decision
from edgegraft_edge.errors import (
    BundleError,
    DataError,
    EdgegraftError,
    ModelError,
    OptionError,
)
from edgegraft_edge.manifest import Manifest
from edgegraft_edge.program import Draft
from edgegraft_edge.signal import Windows

OLD = Path(__file__).parent / "bundles"
V1_KEY = "62735871715e0bc0ed513683cb870e71a1f7e78566e3e367e9c53d66c8acf6ef"


def _members(toy) -> dict[str, bytes]:
    return archive.unpack(io.BytesIO(bundle.to_bytes(toy)))


def _relisted(members: dict[str, bytes], **manifest: object) -> dict[str, bytes]:
    """Members with a manifest whose checksums are right again: hostile, but consistent."""
    values = {**json.loads(members["manifest.json"]), **manifest}
    files = {n: d for n, d in members.items() if n not in ("manifest.json", "signature.json")}
    values["files"] = {
        n: {"sha256": hashlib.sha256(d).hexdigest(), "size": len(d)} for n, d in files.items()
    }
    return {**members, "manifest.json": json.dumps(values).encode()}


def _code(path: Path, **options: object) -> str:
    with pytest.raises(EdgegraftError) as caught:
        bundle.read(path, **options)
    for problem in caught.value.problems:
        assert problem.found
        assert problem.remedy
    return caught.value.code


def _written(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "bad.egb"
    path.write_bytes(archive.pack(members))
    return path


def test_bundle_round_trip_gives_the_same_bytes(tmp_path, toy_bundle):
    path = bundle.write(tmp_path / "toy.egb", toy_bundle)
    again = bundle.read(path)
    assert bundle.to_bytes(again) == path.read_bytes() == bundle.to_bytes(toy_bundle)
    assert again.manifest == toy_bundle.manifest
    assert again.runtimes == ("numpy",)
    assert again.decision == Decision()
    assert "acc_x (m/s2)" in again.card
    assert again.signed_by == ""
    assert np.array_equal(again.score(again.golden), again.expected)
    assert np.array_equal(toy_bundle.expected, again.expected)


def test_windows_scored_together_or_alone_are_equal_bit_by_bit(toy_bundle):
    x = np.random.default_rng(0).normal(size=(40, 3, 20)).astype(np.float32)
    together = toy_bundle.score(x)
    alone = np.concatenate([toy_bundle.score(x[i : i + 1]) for i in range(40)])
    assert np.array_equal(together, alone)
    assert np.allclose(together, toy_bundle.program.run(x), atol=1e-6)


def test_a_runtime_is_asked_for_one_window_at_a_time():
    asked = []

    def run(x):
        asked.append(x.copy())
        return np.full((len(x), 3), 1 / 3, np.float32)

    x = np.random.default_rng(0).normal(size=(7, 3, 20)).astype(np.float32)
    assert bundle.score(run, x, TOY_SPEC, ("a", "b", "c")).shape == (7, 3)
    assert [one.shape for one in asked] == [(1, 3, 20)] * 7
    assert np.array_equal(np.concatenate(asked), x)


def test_predict_binds_channels_by_name_and_checks_rate(toy_bundle):
    x = np.random.default_rng(1).normal(size=(5, 3, 20)).astype(np.float32)
    names = ["acc_x", "acc_y", "acc_z"]
    straight = toy_bundle.predict(Windows.of(x, rate_hz=10.0, channels=names))
    swapped = toy_bundle.predict(Windows.of(x[:, ::-1], rate_hz=10.0, channels=names[::-1]))
    unnamed = toy_bundle.predict(Windows.of(x))
    assert np.array_equal(straight.probabilities, swapped.probabilities)
    assert np.array_equal(straight.probabilities, unnamed.probabilities)
    for windows, code in (
        (Windows.of(x, rate_hz=20.0, channels=names), "rate-mismatch"),
        (Windows.of(x, rate_hz=10.0, channels=["acc_x", "acc_y", "gyr_z"]), "channel-missing"),
        (Windows.of(x[:, :2]), "channel-count"),
        (Windows.of(x[:, :, :9]), "window-shape"),
        (Windows.of(np.where(np.arange(20) == 3, np.nan, x)), "windows-not-finite"),
    ):
        with pytest.raises(DataError) as caught:
            toy_bundle.predict(windows)
        assert caught.value.code == code


def test_with_model_adds_a_runtime_and_drops_the_signature(tmp_path, toy_bundle):
    private, _ = signing.new_keys()
    signed = bundle.sign(toy_bundle, private)
    more = bundle.with_model(signed, "onnx", b"model bytes")
    assert more.model("onnx") == b"model bytes"
    assert more.runtimes == ("numpy", "onnx")
    assert more.signature is None
    again = bundle.read(bundle.write(tmp_path / "m.egb", more))
    assert again.manifest.models == {"onnx": "model.onnx"}
    with pytest.raises(BundleError) as caught:
        again.model("litert")
    assert caught.value.code == "runtime-missing"
    for name, code in (("numpy", "runtime-fixed"), ("../x", "manifest-form")):
        with pytest.raises(BundleError) as caught:
            bundle.with_model(toy_bundle, name, b"")
        assert caught.value.code == code


def test_signature_of_the_right_key_is_accepted_others_refused(tmp_path, toy_bundle):
    private, public = signing.new_keys()
    _, stranger = signing.new_keys()
    path = bundle.write(tmp_path / "signed.egb", bundle.sign(toy_bundle, private))
    assert bundle.read(path, key=public).signed_by == public.hex()
    assert bundle.read(path, require_signature=True).signed_by == public.hex()
    assert _code(path, key=stranger) == "signature-key"
    plain = bundle.write(tmp_path / "plain.egb", toy_bundle)
    assert _code(plain, key=public) == "signature-missing"
    assert _code(plain, require_signature=True) == "signature-missing"


def test_signature_is_checked_before_the_manifest_is_parsed(tmp_path, toy_bundle):
    private, public = signing.new_keys()
    members = _members(bundle.sign(toy_bundle, private))
    members["manifest.json"] = b"{ this is no JSON"
    path = _written(tmp_path, members)
    assert _code(path, key=public) == "signature-wrong"
    assert _code(path) == "signature-wrong"
    del members["signature.json"]
    assert _code(_written(tmp_path, members)) == "json-damaged"


def test_changed_and_relisted_content_breaks_the_signature(tmp_path, toy_bundle):
    private, public = signing.new_keys()
    members = _members(bundle.sign(toy_bundle, private))
    members["card.md"] = b"another card"
    assert _code(_written(tmp_path, members), key=public) == "bundle-checksum"
    assert _code(_written(tmp_path, _relisted(members)), key=public) == "signature-wrong"
    members["signature.json"] = b'{"algorithm": "none", "key": "", "signature": ""}'
    assert _code(_written(tmp_path, members), key=public) == "signature-form"


def test_signed_bundle_without_cryptography(tmp_path, toy_bundle, monkeypatch):
    private, public = signing.new_keys()
    path = bundle.write(tmp_path / "signed.egb", bundle.sign(toy_bundle, private))

    def absent():
        raise OptionError.of("extra-missing", "cryptography", "absent", "install it")

    monkeypatch.setattr(signing, "_ed25519", absent)
    loaded = bundle.read(path)
    assert loaded.signed_by == ""
    assert loaded.signature is not None
    assert _code(path, key=public) == "extra-missing"
    assert _code(path, require_signature=True) == "extra-missing"


class TestRefusals:
    """The bundle line of ROBUSTNESS.md, case by case."""

    def test_pickle_in_place_of_a_bundle(self, tmp_path):
        path = tmp_path / "model.egb"
        path.write_bytes(pickle.dumps({"weights": [1.0]}))
        assert _code(path) == "bundle-pickle"

    def test_zip_that_holds_a_pickle(self, tmp_path, toy_bundle):
        members = {**_members(toy_bundle), "data.pkl": pickle.dumps([1])}
        assert _code(_written(tmp_path, members)) == "bundle-pickle"

    def test_zip_bomb(self, tmp_path, toy_bundle):
        path = tmp_path / "bomb.egb"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            for name, data in _members(toy_bundle).items():
                target.writestr(name, data)
            target.writestr("model.onnx", bytes(8 << 20))
        assert path.stat().st_size < 40_000
        assert _code(path) == "bundle-bomb"

    def test_bomb_that_lies_about_its_size(self, tmp_path, toy_bundle):
        path = tmp_path / "liar.egb"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            target.writestr("model.onnx", bytes(8 << 20))
        raw = path.read_bytes()
        lie = raw.replace(struct.pack("<I", 8 << 20), struct.pack("<I", 1000))
        path.write_bytes(lie)
        assert lie != raw
        assert _code(path) == "bundle-damaged"

    @pytest.mark.parametrize(
        "name", ["../evil.md", "/etc/passwd", "a/b.md", "..", "C:\\x", "con\x1b.md", "Card.MD"]
    )
    def test_path_traversal_and_odd_names(self, tmp_path, toy_bundle, name):
        members = {**_members(toy_bundle), name: b"x"}
        assert _code(_written(tmp_path, members)) == "bundle-path"

    def test_duplicate_members(self, tmp_path, toy_bundle):
        path = tmp_path / "twice.egb"
        with zipfile.ZipFile(path, "w") as target:
            for name, data in _members(toy_bundle).items():
                target.writestr(name, data)
            with pytest.warns(UserWarning, match="Duplicate"):
                target.writestr("card.md", "second card")
        assert _code(path) == "bundle-duplicate"

    def test_missing_extra_and_changed_members(self, tmp_path, toy_bundle):
        members = _members(toy_bundle)
        for name in members:
            rest = {key: data for key, data in members.items() if key != name}
            assert _code(_written(tmp_path, rest)) == "bundle-missing"
        assert _code(_written(tmp_path, {**members, "more.txt": b""})) == "bundle-extra"
        changed = {**members, "card.md": members["card.md"] + b" "}
        assert _code(_written(tmp_path, changed)) == "bundle-checksum"

    def test_too_many_members_and_trailing_bytes(self, tmp_path, toy_bundle):
        many = {**_members(toy_bundle), **{f"f{i}.txt": b"" for i in range(80)}}
        assert _code(_written(tmp_path, many)) == "bundle-size"
        path = tmp_path / "tail.egb"
        path.write_bytes(bundle.to_bytes(toy_bundle) + b"more")
        assert _code(path) == "bundle-damaged"
        path.write_bytes(bundle.to_bytes(toy_bundle)[:-40])
        assert _code(path) == "bundle-damaged"

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_weights_that_are_not_finite(self, tmp_path, toy_bundle, value):
        members = _members(toy_bundle)
        arrays = {n: a.copy() for n, a in tensors.load(members["tensors.safetensors"]).items()}
        next(a for a in arrays.values() if a.dtype == np.float32).flat[0] = value
        members["tensors.safetensors"] = tensors.dump(arrays)
        assert _code(_written(tmp_path, _relisted(members))) == "weights-not-finite"

    def test_corrupt_weights(self, tmp_path, toy_bundle):
        members = _members(toy_bundle)
        members["tensors.safetensors"] = members["tensors.safetensors"][:-8]
        assert _code(_written(tmp_path, _relisted(members))) == "tensors-damaged"

    @pytest.mark.parametrize(
        "entry",
        [
            {"dtype": "F32", "shape": [float("inf")], "data_offsets": [0, 0]},
            {"dtype": "F32", "shape": [0], "data_offsets": [0, float("inf")]},
            {"dtype": "U8", "shape": [1] * 100, "data_offsets": [0, 1]},
            {"dtype": "U8", "shape": [0, 10**30], "data_offsets": [0, 0]},
            {"dtype": "U8", "shape": [0, 1 << 62, 1 << 62], "data_offsets": [0, 0]},
        ],
    )
    def test_tensors_of_impossible_shape(self, entry):
        header = json.dumps({"w": entry}).encode()
        body = b"x" if entry["data_offsets"][1] == 1 else b""
        with pytest.raises(ModelError) as caught:
            tensors.load(len(header).to_bytes(8, "little") + header + body)
        assert caught.value.code == "tensors-damaged"

    def test_golden_windows_that_are_one_number(self, tmp_path, toy_bundle):
        members = _members(toy_bundle)
        golden = tensors.load(members["golden.safetensors"]) | {"x": np.float32(1).reshape(())}
        members["golden.safetensors"] = tensors.dump(golden)
        assert _code(_written(tmp_path, _relisted(members))) == "bundle-misfit"

    def test_a_rate_too_large_for_a_float(self, tmp_path, toy_bundle):
        spec = json.loads(_members(toy_bundle)["manifest.json"])["spec"] | {"rate_hz": 10**400}
        path = _written(tmp_path, _relisted(_members(toy_bundle), spec=spec))
        assert _code(path) == "manifest-form"

    def test_other_channel_count_than_the_spec(self, tmp_path, toy_bundle):
        members = _members(toy_bundle)
        spec = json.loads(members["manifest.json"])["spec"]
        spec["channels"] = spec["channels"][:2]
        path = _written(tmp_path, _relisted(members, spec=spec))
        assert _code(path) == "bundle-misfit"
        golden = tensors.load(members["golden.safetensors"])
        golden["x"] = golden["x"][:, :2]
        members["golden.safetensors"] = tensors.dump(golden)
        assert _code(_written(tmp_path, _relisted(members, spec=spec))) == "program-run"

    def test_other_number_of_classes(self, tmp_path, toy_bundle):
        path = _written(tmp_path, _relisted(_members(toy_bundle), classes=["a", "b"]))
        assert _code(path) == "bundle-misfit"

    def test_unknown_primitive_is_a_wrong_operator_set(self, tmp_path, toy_bundle):
        members = _members(toy_bundle)
        members["program.json"] = members["program.json"].replace(b'"tanh"', b'"tanx"')
        assert _code(_written(tmp_path, _relisted(members))) == "primitive-unknown"

    def test_trees_that_would_never_end(self, tmp_path):
        draft = Draft()
        flat = draft.add("reshape", "x", shape=[-1])
        nodes = [np.array([1, 0]), np.array([1, 0])]
        loop = draft.add("trees", flat, [0, 0], [0.0, 0.0], *nodes, np.ones((2, 2)), [0])
        with pytest.raises(ModelError) as caught:
            bundle.make(draft.finish(loop), TOY_SPEC, ("a", "b"))
        assert caught.value.code == "program-loop"

    def test_format_from_the_future(self, tmp_path, toy_bundle):
        path = _written(tmp_path, _relisted(_members(toy_bundle), schema=99, news="unknown"))
        assert _code(path) == "bundle-version"

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("version", 0),
            ("version", "1"),
            ("spec", {"length_s": 1}),
            ("spec", None),
            ("classes", []),
            ("classes", ["a", "a", "b"]),
            ("classes", [1, 2, 3]),
            ("models", {"onnx": "absent.onnx"}),
            ("licences", {"weights": 3}),
            ("verdict", 5),
            ("unknown", 1),
        ],
    )
    def test_manifest_of_another_form(self, tmp_path, toy_bundle, key, value):
        path = _written(tmp_path, _relisted(_members(toy_bundle), **{key: value}))
        assert _code(path) == "manifest-form"

    @pytest.mark.parametrize("rate", [0, -1, True, "50", 1e300])
    def test_impossible_rates(self, tmp_path, toy_bundle, rate):
        members = _members(toy_bundle)
        spec = {**json.loads(members["manifest.json"])["spec"], "rate_hz": rate}
        assert _code(_written(tmp_path, _relisted(members, spec=spec))) == "manifest-form"

    @pytest.mark.parametrize(
        "text",
        [
            b'{"schema": 1, "schema": 1}',
            b'{"schema": NaN}',
            b'{"schema": ' + b"9" * 5000 + b"}",
            b'{"name": "\\ud800"}',
            b"[" * 100_000,
            b"[]",
            b"\xff\xfe",
        ],
    )
    def test_json_that_is_not_plain(self, tmp_path, toy_bundle, text):
        members = {**_members(toy_bundle), "manifest.json": text}
        assert _code(_written(tmp_path, members)) == "json-damaged"

    def test_decision_options_in_the_manifest(self, tmp_path, toy_bundle):
        path = _written(tmp_path, _relisted(_members(toy_bundle), decision={"treshold": 0.5}))
        with pytest.raises(BundleError):  # nobody typed it: exit code 4, not that of usage
            bundle.read(path)
        with pytest.raises(EdgegraftError, match="threshold"):
            bundle.read(path)

    def test_missing_file_and_folder(self, tmp_path):
        assert _code(tmp_path / "absent.egb") == "bundle-missing"
        assert _code(tmp_path) == "bundle-missing"
        (tmp_path / "empty.egb").write_bytes(b"")
        assert _code(tmp_path / "empty.egb") == "bundle-not-zip"


def test_make_refuses_parts_that_do_not_fit():
    with pytest.raises(ModelError) as caught:
        bundle.make(toy_program(), TOY_SPEC, ("a", "b"))
    assert caught.value.code == "scores-form"
    with pytest.raises(ModelError) as caught:
        bundle.make(toy_program(5), TOY_SPEC, ("a", "b", "c"))
    assert caught.value.code == "program-run"
    with pytest.raises(BundleError) as caught:
        bundle.make(toy_program(), TOY_SPEC, ("a", "b", "c"), verdict={"gain": float("nan")})
    assert caught.value.code == "json-value"


def test_write_is_atomic_and_leaves_nothing_behind(tmp_path, toy_bundle, monkeypatch):
    path = bundle.write(tmp_path / "toy.egb", toy_bundle)
    before = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    other = bundle.with_model(toy_bundle, "onnx", b"x")
    with pytest.raises(BundleError, match="No space left"):
        bundle.write(path, other)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(BundleError) as caught:
        bundle.write(tmp_path / "absent" / "toy.egb", toy_bundle)
    assert caught.value.code == "bundle-unwritable"


def test_what_killed_writers_left_is_cleared(tmp_path, toy_bundle):
    old, new = tmp_path / ".toy.egb.17.tmp", tmp_path / ".toy.egb.18.tmp"
    for path in (old, new):
        path.write_bytes(b"half a bundle")
    os.utime(old, (0, 0))
    path = bundle.write(tmp_path / "toy.egb", toy_bundle)
    assert sorted(tmp_path.iterdir()) == [new, path]


@pytest.mark.slow
def test_a_bundle_is_whole_at_every_instant_of_being_replaced(tmp_path):
    path = bundle.write(tmp_path / "toy.egb", make_toy())
    script = (
        "import sys\n"
        "from edgegraft_edge import bundle\n"
        "toy = bundle.read(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "for size in range(10**9):\n"
        "    model = bytes(size % 1000 * 1000)\n"
        "    bundle.write(sys.argv[1], bundle.with_model(toy, 'onnx', model))\n"
    )
    rng = np.random.default_rng(0)
    sizes = set()
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE
        )
        process.stdout.readline()
        time.sleep(float(rng.uniform(0.0, 0.1)))
        process.kill()
        process.communicate()
        sizes.add(len(bundle.read(path).files.get("model.onnx", b"")))
    assert len(sizes) > 1  # it was replaced, again and again


def test_manifest_digest_names_the_content(toy_bundle):
    assert make_toy().manifest.digest == toy_bundle.manifest.digest
    assert make_toy(version=2).manifest.digest != toy_bundle.manifest.digest
    manifest = replace(toy_bundle.manifest, created="2026-01-01T00:00:00Z")
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


def test_bundle_of_version_1_still_loads_and_still_says_the_same():
    old = bundle.read(OLD / "v1.egb", key=bytes.fromhex(V1_KEY))
    assert old.manifest.schema == 1
    assert old.classes == ("fall", "rest", "walk")
    assert old.spec.channel_names == ("acc_x", "acc_y", "acc_z")
    assert old.decision.threshold == 0.5
    assert old.runtimes == ("numpy", "onnx")
    assert np.abs(old.score(old.golden) - old.expected).max() < 1e-5


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_the_same_bundle_or_an_edgegraft_error(data):
    raw = bytearray((OLD / "v1.egb").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["flip", "set", "cut", "insert"])):
            case "flip":
                raw[place] ^= 1 << data.draw(st.integers(0, 7))
            case "set":
                raw[place] = data.draw(st.integers(0, 255))
            case "cut":
                del raw[place : place + data.draw(st.integers(1, 50))]
            case "insert":
                raw[place:place] = data.draw(st.binary(max_size=9))
    _same_or_refused(bytes(raw))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_hostile_content_with_right_checksums_raises_only_edgegraft_errors(data):
    members = archive.unpack(io.BytesIO((OLD / "v1.egb").read_bytes()))
    del members["signature.json"]
    name = data.draw(st.sampled_from(["program.json", "tensors.safetensors", "golden.safetensors"]))
    raw = bytearray(members[name])
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(
            st.sampled_from(b'019-ax"{[,}\xff')
        )
    members[name] = bytes(raw)
    with contextlib.suppress(EdgegraftError):  # anything else that is raised fails the test
        loaded = _read_bytes(archive.pack(_relisted(members)))
        assert loaded.score(np.ones((2, 3, 20), np.float32)).shape == (2, 3)


def _read_bytes(raw: bytes) -> bundle.Bundle:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "b.egb"
        path.write_bytes(raw)
        return bundle.read(path)


def _same_or_refused(raw: bytes) -> None:
    whole = Manifest.from_bytes(
        archive.unpack(io.BytesIO((OLD / "v1.egb").read_bytes()))["manifest.json"]
    )
    with contextlib.suppress(EdgegraftError):  # anything else that is raised fails the test
        assert _read_bytes(raw).manifest.digest == whole.digest
