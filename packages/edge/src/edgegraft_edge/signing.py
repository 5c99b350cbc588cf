"""Ed25519 keys, signatures and key files. Needs the extra ``sign`` (`cryptography`).

Keys are 32 raw bytes. Key files are PEM as other tools write it (PKCS 8 and
SubjectPublicKeyInfo, RFC 8410), so ``openssl pkey`` reads them.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgegraft_edge import parts
from edgegraft_edge.errors import OptionError, SignatureError

_PRIVATE = ("PRIVATE KEY", bytes.fromhex("302e020100300506032b657004220420"))
_PUBLIC = ("PUBLIC KEY", bytes.fromhex("302a300506032b6570032100"))
KEY_BYTES = 32


@dataclass(frozen=True)
class Signature:
    """Who signed (public key, 32 bytes) and the signature itself (64 bytes)."""

    key: bytes
    value: bytes

    def as_dict(self) -> dict[str, str]:
        return {
            "algorithm": "ed25519",
            "key": self.key.hex(),
            "signature": self.value.hex(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Signature:
        """The inverse of `as_dict`. Errors: `SignatureError` for anything else."""
        try:
            if values["algorithm"] != "ed25519" or len(values) != 3:
                raise ValueError("only ed25519 is known")
            key, value = bytes.fromhex(values["key"]), bytes.fromhex(values["signature"])
            if len(key) != KEY_BYTES or len(value) != 2 * KEY_BYTES:
                raise ValueError("a key or signature of another length")
        except (KeyError, TypeError, ValueError) as error:
            raise SignatureError.of(
                "signature-form", f"{error}", "it is no signature", "sign the bundle again"
            ) from error
        return cls(key, value)


def available() -> bool:
    """Whether signatures can be made and checked here."""
    try:
        _ed25519()
    except OptionError:
        return False
    return True


def new_keys() -> tuple[bytes, bytes]:
    """A new private key and its public key."""
    private = _ed25519().Ed25519PrivateKey.generate().private_bytes_raw()
    return private, public_key(private)


def public_key(private: bytes) -> bytes:
    """The public key that belongs to a private one."""
    key = _ed25519().Ed25519PrivateKey.from_private_bytes(private).public_key()
    return bytes(key.public_bytes_raw())


def sign(private: bytes, message: bytes) -> Signature:
    """Sign bytes."""
    value = _ed25519().Ed25519PrivateKey.from_private_bytes(private).sign(message)
    return Signature(public_key(private), value)


def verify(signature: Signature, message: bytes) -> None:
    """Errors: `SignatureError` when the signature is not that of its key over the message."""
    ed25519 = _ed25519()
    from cryptography.exceptions import InvalidSignature

    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(signature.key)
        key.verify(signature.value, message)
    except (InvalidSignature, ValueError) as error:
        raise SignatureError.of(
            "signature-wrong",
            "a signature that does not fit the manifest",
            "the bundle was changed after it was signed",
            "fetch it again from where it was signed",
        ) from error


def check(signature: Signature | None, message: bytes, *, key: bytes | None, required: bool) -> str:
    """The key (hex) whose signature holds; "" where there was nothing to check.

    Args:
        key: the signature must be there and of this key.
        required: the signature must be there.
    """
    if signature is None:
        if key is not None or required:
            raise SignatureError.of(
                "signature-missing",
                "a bundle without signature",
                "a signature was asked for",
                "edgegraft export --key PRIVATE, or trust it without --key",
            )
        return ""
    if key is not None and signature.key != key:
        raise SignatureError.of(
            "signature-key",
            f"a bundle signed by {signature.key.hex()[:16]}...",
            f"the key given is {key.hex()[:16]}...",
            "fetch the bundle from its owner, or the owner's key",
        )
    if key is None and not required and not available():
        return ""  # its own key proves nothing of its maker; checksums hold all the same
    verify(signature, message)
    return signature.key.hex()


def write_private(path: Path, key: bytes) -> None:
    """Write a private key file that only its owner may read; an existing file is kept."""
    _write(path, _pem(key, _PRIVATE), 0o600)


def write_public(path: Path, key: bytes) -> None:
    """Write a public key file; an existing file is kept."""
    _write(path, _pem(key, _PUBLIC), 0o644)


def read_private(path: Path) -> bytes:
    """Errors: `OptionError` when the file holds no private ed25519 key."""
    return _read(path, _PRIVATE)


def read_public(path: Path) -> bytes:
    """Errors: `OptionError` when the file holds no public ed25519 key."""
    return _read(path, _PUBLIC)


def _pem(key: bytes, form: tuple[str, bytes]) -> str:
    name, prefix = form
    body = base64.b64encode(prefix + key).decode("ascii")
    return f"-----BEGIN {name}-----\n{body}\n-----END {name}-----\n"


def _write(path: Path, text: str, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise OptionError.of(
            "key-exists", str(path), "a key that is overwritten is lost", "name another file"
        ) from error
    except OSError as error:
        why = error.strerror or "it cannot be written"
        raise OptionError.of("key-unwritable", str(path), why, "name another folder") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as target:
        target.write(text)
        target.flush()
        os.fsync(target.fileno())


def _read(path: Path, form: tuple[str, bytes]) -> bytes:
    name, prefix = form
    try:
        with path.open("rb") as source:
            lines = source.read(4096).decode("ascii").strip().splitlines()
        if lines[0] != f"-----BEGIN {name}-----" or lines[-1] != f"-----END {name}-----":
            raise ValueError(f"no {name}")
        raw = base64.b64decode("".join(lines[1:-1]), validate=True)
        if not raw.startswith(prefix) or len(raw) != len(prefix) + KEY_BYTES:
            raise ValueError("another kind of key")
    except (OSError, ValueError, IndexError, binascii.Error) as error:
        raise OptionError.of(
            "key-file",
            f"{path}: {error}",
            f"a file with an ed25519 {name.lower()} in PEM is needed",
            "edgegraft keys new",
        ) from error
    return raw[len(prefix) :]


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise parts.missing("a signature", "cryptography", "edgegraft-edge", "sign") from error
    return ed25519
