"""Files that are written whole or not at all, so that they outlive a crash at any instant."""

from __future__ import annotations

import contextlib
import glob
import os
import threading
import time
from pathlib import Path

_ABANDONED_S = 3600  # more than any write takes


def replace_file(path: Path, data: bytes) -> Path:
    """Write through a neighbour and rename it: a crash leaves the old file or the new one.

    Errors: `OSError` when the disk will not; what was there before is then still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        _clear(path)
        with temporary.open("wb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        error.filename = os.fspath(path)  # what was asked for, not the neighbour's name
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def _clear(path: Path) -> None:
    """Remove what writers left that were killed."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                left.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename last; some systems cannot open folders, and need not."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
