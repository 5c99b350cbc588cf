"""The folder of a run: what is kept while it goes on, so that a killed run resumes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgegraft_edge.errors import DataError, ModelError
from edgegraft_edge.signal import Array
from edgegraft_edge.tensors import dump, load


@dataclass(frozen=True)
class Workspace:
    """A run's folder; intermediate arrays live in ``work/`` until the run is done.

    Attributes:
        folder: holds model.egb, report.*, recipe.toml in the end.
    """

    folder: Path

    @classmethod
    def open(cls, folder: str | os.PathLike[str], identity: str, *, resume: bool) -> Workspace:
        """Make or re-enter the folder; work of another identity (data, options) is dropped.

        Errors: `DataError` ``folder-unusable`` when it cannot be written.
        """
        path = Path(folder)
        try:
            (path / "work").mkdir(parents=True, exist_ok=True)
            marker = path / "work" / "identity"
            same = marker.exists() and marker.read_text() == identity
            if not (resume and same):
                shutil.rmtree(path / "work")
                (path / "work").mkdir()
                replace_file(marker, identity.encode())
        except OSError as error:
            raise DataError.of(
                "folder-unusable",
                f"{path}: {error.strerror}",
                "a run writes its results there",
                "--out with a folder that can be written",
            ) from error
        return cls(path)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def keep(self, name: str, make: Callable[[], Array]) -> Array:
        """The array kept under this name, or what `make` gives, kept."""
        path = self.work / f"{hashlib.blake2b(name.encode(), digest_size=12).hexdigest()}.kept"
        try:
            return load(path.read_bytes(), finite=False)["array"]
        except (FileNotFoundError, ModelError, KeyError):
            array = make()
            replace_file(path, dump({"array": array}))
            return array

    def write(self, name: str, data: bytes) -> Path:
        """A result file, whole or not at all."""
        return replace_file(self.folder / name, data)

    def finish(self) -> None:
        """Drop what was kept for resuming."""
        shutil.rmtree(self.work, ignore_errors=True)


def replace_file(path: Path, data: bytes) -> Path:
    """Write to a temporary name, sync, rename: a crash leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return path


def digest(*parts: object) -> str:
    """A name for this combination of arrays, bytes and plain values."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        if hasattr(part, "tobytes"):
            state.update(repr((part.shape, str(part.dtype))).encode())  # type: ignore[attr-defined]
            state.update(part.tobytes())
        else:
            state.update(json.dumps(part, sort_keys=True, default=str).encode())
        state.update(b"|")
    return state.hexdigest()
