"""Keys and signatures."""

from __future__ import annotations

import stat
import sys

import pytest

from edgegraft_edge import signing
from edgegraft_edge.errors import OptionError, SignatureError


def test_key_files_round_trip_and_private_is_private(tmp_path):
    private, public = signing.new_keys()
    signing.write_private(tmp_path / "a.key", private)
    signing.write_public(tmp_path / "a.pub", public)
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    assert signing.read_private(tmp_path / "a.key") == private
    assert signing.read_public(tmp_path / "a.pub") == public
    assert signing.public_key(private) == public


def test_key_files_are_those_of_other_tools(tmp_path):
    from cryptography.hazmat.primitives import serialization as forms

    private, public = signing.new_keys()
    signing.write_private(tmp_path / "a.key", private)
    signing.write_public(tmp_path / "a.pub", public)
    key = forms.load_pem_private_key((tmp_path / "a.key").read_bytes(), password=None)
    assert key.private_bytes_raw() == private
    assert forms.load_pem_public_key((tmp_path / "a.pub").read_bytes()).public_bytes_raw() == public
    pem = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    (tmp_path / "b.key").write_bytes(pem)
    assert signing.read_private(tmp_path / "b.key") == private


def test_an_existing_key_is_never_overwritten(tmp_path):
    path = tmp_path / "a.key"
    path.write_text("precious")
    with pytest.raises(OptionError) as caught:
        signing.write_private(path, bytes(32))
    assert caught.value.code == "key-exists"
    assert path.read_text() == "precious"


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN PUBLIC KEY-----\n@@\n", "\xff"])
def test_files_that_hold_no_key_are_refused(tmp_path, text):
    path = tmp_path / "a.pub"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OptionError) as caught:
        signing.read_public(path)
    assert caught.value.code == "key-file"
    private, _ = signing.new_keys()
    signing.write_private(tmp_path / "b.key", private)
    with pytest.raises(OptionError):
        signing.read_public(tmp_path / "b.key")
    with pytest.raises(OptionError):
        signing.read_public(tmp_path / "absent")


def test_signature_holds_for_its_message_only():
    private, public = signing.new_keys()
    signature = signing.sign(private, b"manifest")
    assert signature.key == public
    signing.verify(signature, b"manifest")
    changed = signing.Signature(public, bytes([signature.value[0] ^ 1]) + signature.value[1:])
    for wrong, message in ((signature, b"manifesto"), (changed, b"manifest")):
        with pytest.raises(SignatureError) as caught:
            signing.verify(wrong, message)
        assert caught.value.code == "signature-wrong"
    with pytest.raises(SignatureError):
        signing.verify(signing.Signature(b"\xff" * 32, signature.value), b"manifest")


def test_missing_cryptography_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    assert not signing.available()
    with pytest.raises(OptionError, match=r"edgegraft-edge\[sign\]") as caught:
        signing.new_keys()
    assert caught.value.code == "extra-missing"
