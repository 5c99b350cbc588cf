"""The container of a bundle: a plain zip file, written in one way and read with suspicion.

Written: members sorted by name, stored, with one fixed date, so the same content gives the
same bytes on every machine. Read: a flat list of plain names, each once, stored or deflated,
with bounds on count, size and ratio that hold before anything is unpacked.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from edgegraft_edge.errors import BundleError, Problem
from edgegraft_edge.files import replace_file

MAX_MEMBERS = 64
MAX_MEMBER_BYTES = 256 << 20
MAX_TOTAL_BYTES = 512 << 20
MAX_RATIO = 200
_RATIO_FREE_BYTES = 1 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_END = struct.Struct("<4s4H2IH")
_DATE = (1980, 1, 1, 0, 0, 0)
_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".npy", ".npz")


def pack(members: Mapping[str, bytes]) -> bytes:
    """The bytes of a zip file with these members.

    >>> unpack(io.BytesIO(pack({"b.txt": b"2", "a.txt": b"1"})))
    {'a.txt': b'1', 'b.txt': b'2'}
    """
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, members[name])
    return target.getvalue()


def unpack(source: io.BufferedIOBase) -> dict[str, bytes]:
    """All members of a zip file that can be read and sought in.

    Errors: `BundleError` for anything but a flat, bounded, whole archive.
    """
    _check_start(source)
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
            _check_entries(entries)
            return {entry.filename: archive.read(entry) for entry in entries}
    except BundleError:
        raise
    except MemoryError as error:
        raise _refuse("bundle-size", "members larger than the free memory") from error
    except Exception as error:  # zipfile leaks many types on damaged bytes: all mean the same
        found = f"a zip file that cannot be read ({error})"
        raise _refuse("bundle-damaged", found) from error


def read_members(path: Path) -> dict[str, bytes]:
    """All members of a zip file on disk. Errors: `BundleError`, also when there is none."""
    try:
        with path.open("rb") as source:
            return unpack(source)
    except IsADirectoryError as error:
        raise BundleError.of(
            "bundle-missing", f"{path} is a folder", "a bundle is one file", f"{path}/model.egb"
        ) from error
    except OSError as error:
        why = error.strerror or "it cannot be read"
        raise BundleError.of("bundle-missing", str(path), why, "check the path") from error


def write(path: Path, data: bytes) -> Path:
    """Write a bundle whole or not at all.

    Errors: `BundleError` when the disk will not; what was there before is then still there.
    """
    try:
        return replace_file(path, data)
    except OSError as error:
        raise BundleError.of(
            "bundle-unwritable",
            str(path),
            error.strerror or "it cannot be written",
            "free space, or name another folder",
        ) from error


def _check_start(source: io.BufferedIOBase) -> None:
    """Look at the first and the last bytes, before zipfile loads a directory of any size."""
    head = source.read(4)
    size = source.seek(0, io.SEEK_END)
    if size > MAX_TOTAL_BYTES + (1 << 20):
        raise _refuse("bundle-size", f"{size} bytes")
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        raise _refuse("bundle-pickle", "a pickle")
    if head != b"PK\x03\x04" or size < _END.size:
        raise _refuse("bundle-not-zip", f"{size} bytes that are no zip file")
    source.seek(size - _END.size)
    mark, *_, count, directory, _, comment = _END.unpack(source.read(_END.size))
    if mark != b"PK\x05\x06" or comment:
        raise _refuse("bundle-damaged", "a zip file that is cut off or followed by other bytes")
    if count > MAX_MEMBERS or directory > MAX_MEMBERS * 1024:
        raise _refuse("bundle-size", f"{count} members")
    source.seek(0)


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    problems: list[Problem] = []

    def add(code: str, found: str) -> None:
        problems.extend(_refuse(code, found).problems)

    names = [entry.filename for entry in entries]
    for name in sorted({name for name in names if names.count(name) > 1}):
        add("bundle-duplicate", f"member {name!r} more than once")
    for entry in entries:
        name, size, packed = entry.filename, entry.file_size, entry.compress_size
        if name.lower().endswith(_PICKLES):
            add("bundle-pickle", f"member {name!r}")
        elif not _NAME.fullmatch(name):
            add("bundle-path", f"member {name!r}")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            add("bundle-damaged", f"member {name!r} in an unknown compression")
        if size > MAX_MEMBER_BYTES:
            add("bundle-size", f"member {name!r} of {size} bytes")
        elif size > _RATIO_FREE_BYTES and size > MAX_RATIO * packed:
            add("bundle-bomb", f"member {name!r}, {packed} bytes that unpack to {size}")
    if sum(entry.file_size for entry in entries) > MAX_TOTAL_BYTES:
        add("bundle-size", "members of more than 512 MiB together")
    if problems:
        raise BundleError(problems)


_REASONS = {
    "bundle-size": "bundles are bounded, so that they cannot fill a device",
    "bundle-pickle": "a pickle can run code; bundles hold data only",
    "bundle-not-zip": "a bundle is one zip file",
    "bundle-damaged": "it is not whole",
    "bundle-duplicate": "which of them counts would depend on the reader",
    "bundle-path": "members are plain names without folders",
    "bundle-bomb": "no model compresses that well",
}


def _refuse(code: str, found: str) -> BundleError:
    return BundleError.of(code, found, _REASONS[code], "fetch the bundle again, or export it anew")
