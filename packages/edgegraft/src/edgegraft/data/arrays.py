"""Ready windows: .npz files, and the sets that ship inside aeon."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgegraft.data.account import Quarantine, RowAccount
from edgegraft.data.dataset import Dataset
from edgegraft.data.images import windows_of_pixels
from edgegraft.data.source import DataOptions
from edgegraft_edge import parts
from edgegraft_edge.errors import DataError, nearest
from edgegraft_edge.files import replace_file
from edgegraft_edge.signal import UNLABELLED, Array, Channel, ImageSpec, Windows, WindowSpec

MAX_BYTES = 4 * 2**30  # unpacked; a larger set belongs into recordings


class NpzSource:
    """Windows from an .npz file, or from a folder of them.

    Arrays: `x` (n_windows, n_channels, n_timepoints); `y` (n_windows,), empty, NaN or -1 where
    unlabelled; if known `groups` (n_windows,), `rate_hz`, `channels`, their `units` and, of
    derived ones, `derives` (n_channels,), and for windows that overlap `recording` and `start`
    (n_windows,), `names` (n_recordings,) and `stride_s`. Whole numbers 0 to 255 of four axes,
    or uint8 of three without `rate_hz` or `channels`, are pictures.

    Errors: `DataError` "npz-keys", "npz-pickle", "file-damaged", "file-large", "window-shape",
    "shape-mismatch", "recordings-differ".
    """

    def accepts(self, uri: str) -> bool:
        path = Path(uri)
        if path.is_dir():
            return any(path.glob("*.npz")) and not any(path.glob("*.csv"))
        return path.suffix.lower() == ".npz" and path.exists()

    def open(self, uri: str, options: DataOptions) -> Dataset:
        path = Path(uri.removeprefix("npz:"))
        files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        parts = [_windows_of(file, options) for file in files]
        ready = parts[0][0] if len(parts) == 1 else _joined([part[0] for part in parts])
        account = RowAccount()
        for _, part in parts:
            account = account + part
        return Dataset(ready=ready, account=account, options=options, uri=uri)


class AeonSource:
    """A data set that ships inside aeon, by name: ``aeon:BasicMotions``. Uses no network.

    The names of the recordings begin with "train/" or "test/", as its authors divided it;
    ``aeon:BasicMotions/train`` and ``aeon:BasicMotions/test`` open one part.

    Errors: `DataError` "aeon-set-unknown" for a set that aeon would have to download.
    """

    def accepts(self, uri: str) -> bool:
        return uri.startswith("aeon:")

    def open(self, uri: str, options: DataOptions) -> Dataset:
        name, _, part = uri.partition(":")[2].partition("/")
        if part not in ("", "train", "test"):
            raise DataError.of(
                "aeon-set-unknown",
                f"{uri!r}",
                "its parts are train and test",
                nearest(part, ["train", "test"]),
            )
        folder = _aeon_folder()
        shipped = sorted(
            item.name for item in folder.iterdir() if (item / f"{item.name}_TRAIN.ts").exists()
        )
        if name not in shipped:
            raise DataError.of(
                "aeon-set-unknown", f"{uri!r}", "aeon does not ship it", nearest(name, shipped)
            )
        from aeon.datasets import load_from_ts_file

        x, y, names = [], [], []
        for side in (part,) if part else ("train", "test"):
            part_x, part_y = load_from_ts_file(str(folder / name / f"{name}_{side.upper()}.ts"))
            if isinstance(part_x, list):
                raise DataError.of(
                    "window-shape",
                    f"{uri!r}",
                    "its series differ in length",
                    "a set of equal length",
                )
            x.append(np.asarray(part_x, dtype=np.float32))
            y.append(np.asarray(part_y).astype(str))
            names += [f"{side}/{number}" for number in range(len(part_x))]
        arrays = {"x": np.concatenate(x), "y": np.concatenate(y)}
        windows, account = _accepted(arrays, tuple(names), uri, options)
        return Dataset(ready=windows, account=account, options=options, uri=uri)


def _aeon_folder() -> Path:
    try:
        import aeon.datasets
    except ModuleNotFoundError:
        raise parts.missing("an address aeon:...", "aeon", "edgegraft", "demo") from None
    return Path(str(aeon.datasets.__file__)).parent / "data"


def _windows_of(path: Path, options: DataOptions) -> tuple[Windows, RowAccount]:
    arrays = _load(path)
    renamed = {"y": options.label, "groups": options.group}
    for usual, given in renamed.items():
        if given is None:
            continue
        if given not in arrays:
            raise DataError.of(
                "npz-keys",
                f"{path.name} holds {', '.join(arrays)}",
                f"there is no array {given!r}",
                nearest(given, list(arrays)),
            )
        arrays[usual] = arrays[given]
    if "x" not in arrays or arrays["x"].ndim == 0:
        raise DataError.of(
            "npz-keys",
            f"{path.name} holds {', '.join(arrays) or 'nothing'}",
            "windows are expected under x (n_windows, n_channels, n_timepoints), labels under y",
            "np.savez(file, x=x, y=y, groups=groups, rate_hz=50, channels=names)",
        )
    names = tuple(f"{path.stem}/{number}" for number in range(len(arrays["x"])))
    return _accepted(arrays, _recording_names(arrays, names), path.name, options)


def _recording_names(arrays: Mapping[str, Array], usual: tuple[str, ...]) -> tuple[str, ...]:
    """The names that the file gives its recordings, where it has one for each."""
    known = np.atleast_1d(arrays.get("names", np.array([], dtype=str)))
    number = arrays.get("recording")
    whole = number is not None and number.dtype.kind in "iu" and len(number)
    if not whole or number is None or int(number.max()) >= len(known) or int(number.min()) < 0:
        return usual
    return tuple(map(str, known))


def write_npz(windows: Windows, path: Path) -> Path:
    """Windows as an .npz file that `NpzSource` reads back as they are.

    Errors: `DataError` "kind-differs" for sentences.

    >>> windows = Windows.of(np.ones((2, 1, 8)), y=["a", ""], rate_hz=4.0, channels=["x"])
    >>> back = NpzSource().open(str(write_npz(windows, Path("two.npz"))), DataOptions()).windows()
    >>> back.y.tolist(), back.spec == windows.spec
    (['a', ''], True)
    """
    spec = windows.spec
    if spec.kind == "text":
        raise DataError.of(
            "kind-differs",
            "sentences as .npz",
            "such a file holds series, sound or pictures",
            "write the labels into the table that the sentences came from",
        )
    arrays: dict[str, Any] = {"x": windows.x, "y": windows.y, "groups": windows.groups}
    names = windows.names
    if len(windows) and len(names) <= int(windows.recording.max()):
        names = (*names, *map(str, range(len(names), int(windows.recording.max()) + 1)))
    arrays |= {"recording": windows.recording, "start": windows.start, "names": np.array(names)}
    if isinstance(spec, WindowSpec):
        arrays |= {
            "rate_hz": spec.rate_hz,
            "stride_s": spec.stride_s,
            "channels": np.array(spec.channel_names),
            "units": np.array([channel.unit for channel in spec.channels]),
        }
        derives = [channel.derive for channel in spec.channels]
        arrays |= {"derives": np.array(derives)} if any(derives) else {}
    memory = io.BytesIO()
    np.savez_compressed(memory, **arrays)
    return replace_file(path, memory.getvalue())


def _load(path: Path) -> dict[str, Array]:
    """All arrays of an .npz, checked before they are unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > MAX_BYTES:
            raise DataError.of(
                "file-large",
                f"{path.name} unpacks to {size / 2**30:.1f} GiB",
                f"at most {MAX_BYTES / 2**30:g} GiB are read into memory",
                "divide it into several files",
            )
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise _damaged(path, error) from error
        raise DataError.of(
            "npz-pickle",
            f"{path.name} holds Python objects",
            "pickled objects can run code and are never loaded",
            "save text as a plain array: np.array(labels, dtype=str)",
        ) from None
    except FileNotFoundError:
        raise DataError.of(
            "file-missing", str(path), "there is no such file", "check the path"
        ) from None
    except (zipfile.BadZipFile, OSError, EOFError, KeyError, NotImplementedError) as error:
        raise _damaged(path, error) from error
    except Exception as error:  # zlib.error and what damaged headers raise in NumPy
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError.of(
        "file-damaged",
        f"{path.name}: {str(error)[:200]}",
        "it is not a whole .npz file",
        "write it again",
    )


def _accepted(
    arrays: Mapping[str, Array], names: tuple[str, ...], place: str, options: DataOptions
) -> tuple[Windows, RowAccount]:
    """Windows without a missing or infinite value, the others counted."""
    x = arrays["x"]
    pictures = None if {"rate_hz", "channels"} & set(arrays) else windows_of_pixels(x, options)
    if pictures is not None:
        return _pictures(arrays, *pictures, names)
    if x.ndim != 3 or x.dtype.kind not in "fiub" or 0 in x.shape[1:]:
        raise DataError.of(
            "window-shape",
            f"{place}: x is {x.dtype} of shape {x.shape}",
            "windows are numbers of shape (n_windows, n_channels, n_timepoints), pictures uint8 of "
            "(n, n_channels, height, width) or (n, height, width)",
            "reshape x; one channel is x[:, None, :]",
        )
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    rate_hz = options.rate_hz or _scalar(arrays.get("rate_hz"), place) or 1.0
    blank = np.full(len(x), UNLABELLED)
    groups = arrays.get("groups")
    windows = Windows(
        x,
        label_text(arrays["y"]) if "y" in arrays else blank,
        blank if groups is None else label_text(groups, unknown_minus_one=False),
        _spec(arrays, x, float(rate_hz)),
        _whole(arrays.get("recording"), len(x), np.arange(len(x))),
        _whole(arrays.get("start"), len(x), np.zeros(len(x))),
        names,
    )
    finite = np.isfinite(x).all(axis=(1, 2))
    if options.channels is not None:
        windows = _with_channels(windows, options.channels)
        finite = np.isfinite(windows.x).all(axis=(1, 2))
    bad = np.flatnonzero(~finite)
    quarantined = (
        (Quarantine("value-missing", len(bad), f"{place} window {bad[0]}"),) if len(bad) else ()
    )
    return windows.take(finite), RowAccount(len(x), int(finite.sum()), quarantined)


def _pictures(
    arrays: Mapping[str, Array], x: Array, spec: ImageSpec, names: tuple[str, ...]
) -> tuple[Windows, RowAccount]:
    blank = np.full(len(x), UNLABELLED)
    y = label_text(arrays["y"]) if "y" in arrays else blank
    groups = arrays.get("groups")
    known = blank if groups is None else label_text(groups, unknown_minus_one=False)
    numbers = _whole(arrays.get("recording"), len(x), np.arange(len(x)))
    return Windows(x, y, known, spec, numbers, names=names), RowAccount(len(x), len(x))


def label_text(values: Array, *, unknown_minus_one: bool = True) -> Array:
    """Labels as text (n,): whole numbers without a decimal point, NaN, "-1" and "" as "".

    Real numbers that are not whole stay as they are: targets of a regression.

    >>> label_text(np.array([1.0, -1.0, np.nan])).tolist(), label_text(np.array([0.5])).tolist()
    (['1', '', ''], [0.5])
    """
    values = np.asarray(values).reshape(-1) if np.ndim(values) != 1 else np.asarray(values)
    if values.dtype.kind == "f":
        known = np.isfinite(values)
        if not (values[known] == np.round(values[known])).all():
            return values
        text = np.where(known, np.where(known, values, 0).astype(np.int64).astype(str), UNLABELLED)
    elif values.dtype.kind == "S":
        text = np.char.decode(values, "utf-8", "replace")
    else:
        text = values.astype(str)
    text = np.char.strip(text)
    return np.where(text == "-1", UNLABELLED, text) if unknown_minus_one else text


def _spec(arrays: Mapping[str, Array], x: Array, rate_hz: float) -> WindowSpec:
    n_channels, n_timepoints = x.shape[1:]
    names = [str(name) for name in np.atleast_1d(arrays.get("channels", np.array([], dtype=str)))]
    spec = WindowSpec.from_shape(n_channels, n_timepoints, rate_hz, names)
    units = [str(unit) for unit in np.atleast_1d(arrays.get("units", np.array([], dtype=str)))]
    if len(units) == spec.n_channels:
        pairs = zip(spec.channel_names, units, strict=True)
        spec = replace(spec, channels=tuple(Channel(name, unit) for name, unit in pairs))
    derives = [str(text) for text in np.atleast_1d(arrays.get("derives", np.array([], dtype=str)))]
    if len(derives) == spec.n_channels:
        both = zip(spec.channels, derives, strict=True)
        spec = replace(spec, channels=tuple(replace(each, derive=text) for each, text in both))
    if "stride_s" in arrays:
        spec = replace(spec, stride_s=float(_scalar(arrays["stride_s"], "stride_s") or 0))
    if "channels" not in arrays or len(set(names)) == len(names):
        return spec
    raise DataError.of(
        "column-duplicate",
        f"channels {', '.join(names[:12])}",
        "channels are bound by name",
        "name every channel once",
    )


def _with_channels(windows: Windows, wanted: tuple[str, ...]) -> Windows:
    from edgegraft_edge.windowing import bind

    given = windows.series
    places = bind(replace(given, channels=tuple(map(Channel, wanted))), given.channels)
    spec = replace(given, channels=tuple(given.channels[place] for place in places))
    return replace(windows, x=windows.x[:, places], spec=spec)


def _scalar(value: Any, place: str) -> float | None:
    if value is None:
        return None
    if (
        np.size(value) != 1
        or not np.isfinite(float(np.ravel(value)[0]))
        or float(np.ravel(value)[0]) <= 0
    ):
        raise DataError.of(
            "rate-range", f"{place}: rate_hz {value}", "a rate is one number above 0", "50"
        )
    return float(np.ravel(value)[0])


def _whole(value: Any, n_windows: int, default: Array) -> Array:
    if value is None:
        return default.astype(np.int64)
    value = np.asarray(value)
    return (
        value.astype(np.int64)
        if value.dtype.kind in "iufb"
        else np.unique(value, return_inverse=True)[1]
    )


def _joined(parts: list[Windows]) -> Windows:
    """Windows of several files as one value; recordings stay apart."""
    specs = {
        (getattr(part.spec, "channels", ()), getattr(part.spec, "rate_hz", 0.0), part.spec.shape)
        for part in parts
    }
    if len(specs) > 1:
        raise DataError.of(
            "recordings-differ",
            f"{len(specs)} kinds of windows in one folder",
            "windows of one data set have one shape, one rate and the same channels",
            "open the files one by one",
        )
    offsets = np.cumsum([0, *(int(part.recording.max(initial=-1)) + 1 for part in parts[:-1])])
    names: list[str] = []
    for part, offset in zip(parts, offsets, strict=True):
        names += [""] * (int(offset) - len(names)) + list(part.names)
    return Windows(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.y for part in parts]),
        np.concatenate([part.groups for part in parts]),
        parts[0].spec,
        np.concatenate(
            [part.recording + offset for part, offset in zip(parts, offsets, strict=True)]
        ),
        np.concatenate([part.start for part in parts]),
        tuple(names),
    )
