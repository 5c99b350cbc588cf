"""Pictures: one file, or a folder of them with labels by folder, name or metadata."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from edgegraft.data.account import CleaningStep, Quarantine, RowAccount
from edgegraft.data.conventions import table_files
from edgegraft.data.dataset import Dataset
from edgegraft.data.image_checks import tells
from edgegraft.data.metadata import known_of
from edgegraft.data.source import DataOptions, tell
from edgegraft.data.track import merged
from edgegraft_edge.errors import DataError, Problem
from edgegraft_edge.picture import SUFFIXES, coloured, fitted, is_grey, read_picture
from edgegraft_edge.signal import GREY, RGB, Array, ImageSpec, Windows

USUAL_SIZE = 128
LARGEST_OWN_SIZE = 256
MAX_BYTES = 1 << 30
_AT_ONCE = 64
_LOOKED_AT = 2000


@dataclass(frozen=True)
class Shot:
    """A picture as it was read.

    Attributes:
        pixels: uint8 (n_channels, height, width), one channel where there is no colour.
        size: (height, width) of the file.
        content: a hash of all its pixels.
    """

    pixels: Array
    size: tuple[int, int]
    content: bytes


class ImageSource:
    """Pictures as windows, each by itself: a file, or a folder with all below it.

    Labels are folders (also below "train" or "test"), fields of ``metadata.csv|jsonl``, or parts
    of file names where asked for; see `edgegraft.data.metadata`. Pictures get one size: the one
    asked for, their own where all have the same and it is at most 256, else 128; and they are grey
    where none has colour. What cannot be read is set aside; of pictures with the same pixels,
    label and group the first is kept.

    Errors: `DataError` "pictures-none", "files-many", "pictures-large", and if not one can be
    read the problems of `edgegraft_edge.picture.read_picture`; `OptionError` "extra-missing".
    """

    def accepts(self, uri: str) -> bool:
        path = Path(uri)
        if path.is_dir():
            found = Counter(_kind_of(name) for name in _some_names(path))
            return bool(found) and found.most_common(1)[0][0] == "image"
        return path.is_file() and path.suffix.lower() in SUFFIXES

    def open(self, uri: str, options: DataOptions) -> Dataset:
        path = Path(uri.removeprefix("images:"))
        if not path.exists():
            raise DataError.of(
                "file-missing", str(path), "there is no such file or folder", "check the path"
            )
        root = path if path.is_dir() else path.parent
        files = table_files(path, SUFFIXES) if path.is_dir() else [path]
        if not files:
            raise DataError.of(
                "pictures-none",
                str(path),
                "no picture is in it",
                f"files {', '.join(SUFFIXES[:5])}",
            )
        known = known_of(files, root, options)
        shots, quarantined = _read(files, known.names, options)
        read = [(shot.size, label) for shot, label in zip(shots, known.labels, strict=True) if shot]
        sizes = Counter(size for size, _ in read)
        told = tells(*map(list, zip(*read, strict=True)))
        spec = _spec([shot for shot in shots if shot], options)
        kept, n_same = _kept(shots, known.labels, known.groups)
        x = np.empty((len(kept), *spec.shape), np.uint8)
        for place, index in enumerate(kept):
            shot, shots[index] = shots[index], None
            assert shot is not None
            pixels = coloured(shot.pixels, spec.n_channels)
            x[place] = fitted(pixels, spec.height, spec.width, spec.fit)
        windows = Windows(
            x,
            np.array([known.labels[index] for index in kept], dtype=str),
            np.array([known.groups[index] for index in kept], dtype=str),
            spec,
            names=tuple(known.names[index] for index in kept),
        )
        account = RowAccount(len(files), len(kept), merged(quarantined), n_same)
        log = _log(sizes, told, known.absent, known.parts)
        return Dataset((), windows, account, log, options, uri)


def size_of(options: DataOptions) -> tuple[int, int] | None:
    """Height and width as asked for. Errors: `OptionError`, from `DataOptions`, if it is no size.

    >>> size_of(DataOptions(size="160x120")), size_of(DataOptions(size="96"))
    ((120, 160), (96, 96))
    """
    if options.size is None:
        return None
    width, _, height = options.size.partition("x")
    return int(height or width), int(width)


def windows_of_pixels(x: Array, options: DataOptions) -> tuple[Array, ImageSpec] | None:
    """Pictures of an array, or None if it holds none.

    Args:
        x: whole numbers 0 to 255 (n, n_channels, height, width), (n, height, width, n_channels)
            or, as uint8, (n, height, width); one channel or three.

    Returns: uint8 (n_windows, n_channels, height, width) and their spec.
    """
    if x.ndim == 3 and x.dtype == np.uint8 and min(x.shape[1:]) >= 8:
        x = x[:, None]
    if x.ndim != 4 or x.dtype.kind not in "iu" or 0 in x.shape:
        return None
    if x.shape[1] not in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    if x.shape[1] not in (1, 3) or x.min() < 0 or x.max() > 255:
        return None
    x = np.ascontiguousarray(x, dtype=np.uint8)
    height, width = size_of(options) or x.shape[2:]
    n_channels = {"auto": x.shape[1], "rgb": 3, "grey": 1}[options.colour]
    fit = options.fit or "crop"
    spec = ImageSpec(height, width, GREY if n_channels == 1 else RGB, fit)
    if x.shape[1:] != spec.shape:
        x = np.stack([fitted(coloured(p, n_channels), height, width, fit) for p in x])
    return x, spec


def _kind_of(name: str) -> str:
    suffix = os.path.splitext(name)[1].lower()
    return "image" if suffix in SUFFIXES else suffix


def _some_names(root: Path) -> Iterator[str]:
    """Names of files below a folder, hidden ones left out, up to a bound."""
    count = 0
    for _, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith(".") and count < _LOOKED_AT:
                count += 1
                yield name
        if count >= _LOOKED_AT:
            return


def _read(
    files: Sequence[Path], names: Sequence[str], options: DataOptions
) -> tuple[list[Shot | None], list[Quarantine]]:
    """Each picture, or None where it cannot be read. Only those at work are held in full size."""
    shots: list[Shot | None] = []
    quarantined, problems = [], []
    n_workers = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(n_workers) as pool:  # decoders let other threads run
        for start in range(0, len(files), _AT_ONCE):
            part = files[start : start + _AT_ONCE]
            read = pool.map(partial(_shot, options=options), part)
            for name, found in zip(names[start:], read, strict=False):
                if isinstance(found, DataError):
                    problems += [_placed(problem, name) for problem in found.problems]
                    quarantined.append(Quarantine(found.code, 1, name))
                    shots.append(None)
                else:
                    shots.append(found)
            if options.size is None and len({shot.size for shot in shots if shot}) > 1:
                options = replace(options, size=str(USUAL_SIZE))  # all alike they cannot be now
                shots = [shot and _resized(shot, options) for shot in shots]
            tell(len(shots), len(files))
            _check_memory(shots, len(files))
    if len(quarantined) == len(files):
        raise DataError(problems[:8])
    return shots, quarantined


def _placed(problem: Problem, name: str) -> Problem:
    return Problem(problem.code, name, f"{problem.found}: {problem.why}", problem.remedy)


def _shot(file: Path, options: DataOptions) -> Shot | DataError:
    try:
        pixels = read_picture(file)
    except DataError as error:
        return error
    except MemoryError:
        return DataError.of("picture-large", file.name, "memory is short", "make it smaller")
    if options.colour == "grey" or (options.colour == "auto" and is_grey(pixels)):
        pixels = pixels[:1] if is_grey(pixels) else coloured(pixels, 1)
    _, height, width = pixels.shape
    content = hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
    if options.size is None and max(height, width) > LARGEST_OWN_SIZE:
        options = replace(options, size=str(USUAL_SIZE))
    return _resized(Shot(pixels, (height, width), content), options)


def _resized(shot: Shot, options: DataOptions) -> Shot:
    wanted = size_of(options)
    if wanted is None or shot.pixels.shape[1:] == wanted:
        return shot
    return replace(shot, pixels=fitted(shot.pixels, *wanted, options.fit or "crop"))


def _check_memory(shots: Sequence[Shot | None], n_files: int) -> None:
    n_bytes = sum(shot.pixels.nbytes for shot in shots[-_AT_ONCE:] if shot)
    expected = n_bytes / min(_AT_ONCE, len(shots)) * n_files
    if expected > MAX_BYTES:
        raise DataError.of(
            "pictures-large",
            f"{n_files} pictures of {expected / n_files / 1024:.0f} KiB each",
            f"at most {MAX_BYTES >> 20} MiB of pixels are held in memory",
            "size=96, or open a part of them",
        )


def _spec(shots: Sequence[Shot], options: DataOptions) -> ImageSpec:
    sizes = {shot.size for shot in shots}
    height, width = size_of(options) or (USUAL_SIZE, USUAL_SIZE)
    if options.size is None and len(sizes) == 1 and max(shots[0].size) <= LARGEST_OWN_SIZE:
        height, width = shots[0].size
    has_colour = any(len(shot.pixels) == 3 for shot in shots)
    grey = options.colour == "grey" or (options.colour == "auto" and not has_colour)
    return ImageSpec(height, width, GREY if grey else RGB, options.fit or "crop")


def _kept(
    shots: Sequence[Shot | None], labels: Sequence[str], groups: Sequence[str]
) -> tuple[list[int], int]:
    """Pictures that were read, the first of each content; and how many came again."""
    kept, seen, n_same = [], set(), 0
    for index, shot in enumerate(shots):
        if shot is None:
            continue
        key = (shot.content, shot.size, labels[index], groups[index])
        if key in seen:
            n_same += 1
            continue
        seen.add(key)
        kept.append(index)
    return kept, n_same


def _log(
    sizes: Counter[tuple[int, int]], told: float, absent: Sequence[str], parts: Sequence[str]
) -> tuple[CleaningStep, ...]:
    areas = [height * width for height, width in sizes]
    proportions = [width / height for height, width in sizes]
    values = {
        "sizes": {f"{width}x{height}": count for (height, width), count in sizes.most_common(8)},
        "different": len(sizes),
        "pixels": [min(areas), max(areas)],
        "proportions": [min(proportions), max(proportions)],
        "tells_label": told,
    }
    steps = [CleaningStep("picture-sizes", "", values)]
    if absent:
        values = {"files": len(absent), "first": absent[0]}
        steps.append(CleaningStep("metadata-without-file", "", values))
    if len(parts) > 1:
        steps.append(CleaningStep("parts-joined", "", {"parts": ", ".join(parts)}))
    return tuple(steps)
