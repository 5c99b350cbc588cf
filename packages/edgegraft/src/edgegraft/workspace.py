"""The folder of a run: what is kept while it goes on, so that a killed run resumes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgegraft.fingerprint import fingerprint
from edgegraft_edge.errors import DataError, ModelError
from edgegraft_edge.files import replace_file
from edgegraft_edge.signal import Array
from edgegraft_edge.tensors import dump, load


@dataclass(frozen=True)
class Workspace:
    """A run's folder; intermediate arrays live in ``work/`` until the run is done.

    Attributes:
        folder: holds model.egb, report.*, recipe.toml in the end.

    Errors: `DataError` ``folder-unusable`` wherever it cannot be written.
    """

    folder: Path

    @classmethod
    def open(cls, folder: str | os.PathLike[str], identity: str, *, resume: bool) -> Workspace:
        """Make or re-enter the folder; work of another identity (data, options) is dropped."""
        path = Path(folder)
        with writing(path):
            (path / "work").mkdir(parents=True, exist_ok=True)
            marker = path / "work" / "identity"
            same = marker.exists() and marker.read_text() == identity
            if not (resume and same):
                shutil.rmtree(path / "work")
                (path / "work").mkdir()
                replace_file(marker, identity.encode())
        return cls(path)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def keep(self, name: str, make: Callable[[], Array]) -> Array:
        """The array kept under this name, or what `make` gives, kept."""
        path = self.work / f"{fingerprint(name)}.kept"
        try:
            return load(path.read_bytes(), finite=False)["array"]
        except (FileNotFoundError, ModelError, KeyError):
            array = make()
            with writing(self.folder):
                replace_file(path, dump({"array": array}))
            return array

    def write(self, name: str, data: bytes) -> Path:
        """A result file, whole or not at all."""
        with writing(self.folder):
            return replace_file(self.folder / name, data)

    def finish(self) -> None:
        """Drop what was kept for resuming."""
        shutil.rmtree(self.work, ignore_errors=True)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns what the system says of a folder into an error that says what would work."""
    try:
        yield
    except OSError as error:
        raise DataError.of(
            "folder-unusable",
            f"{folder}: {error.strerror or error}",
            "a run writes its results there",
            "free space, or --out with a folder that can be written",
        ) from error
