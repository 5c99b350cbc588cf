"""Edge Impulse acquisition files (JSON and CBOR), one or a folder as its exporter writes it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from edgegraft.data.account import Quarantine
from edgegraft.data.conventions import METADATA, PARTS, facts_of, parse_json, table_files
from edgegraft.data.source import DataOptions
from edgegraft.data.text_tells import holds_text
from edgegraft.data.track import Notes, Track
from edgegraft_edge.errors import DataError, Problem, SignatureError
from edgegraft_edge.signal import UNLABELLED, Array, Channel

if TYPE_CHECKING:
    from edgegraft.data.dataset import Dataset

MAX_BYTES = 2**28  # of one acquisition
MAX_SENSORS = 4096
_SUFFIXES = (".json", ".cbor")
_SPANS_FILE = "structured_labels.labels"
_LABELS_FILE = "info.labels"


class EdgeImpulseSource:
    """Acquisition files: ``{"protected", "signature", "payload": {"interval_ms", "values"}}``.

    The label is in ``info.labels`` or in ``structured_labels.labels`` (spans of samples) of the
    folder, else it is the file name before the first dot, as in ``walk.2k1.json``. The group is
    the device (`device_name`) unless a field of the metadata is named by the option `group`.
    With a `key` each file must carry its HMAC-SHA256.

    Errors: `DataError` "json-damaged", "cbor-damaged", "acquisition-damaged", "file-large";
    `SignatureError` "signature-missing", "signature-wrong". In a folder, a file that cannot be
    read counts as one quarantined row.
    """

    def accepts(self, uri: str) -> bool:
        path = Path(uri)
        if path.is_dir():
            return (path / _LABELS_FILE).is_file() or any(
                _looks_right(file) for file in _files(path)
            )
        return path.is_file() and path.suffix.lower() in _SUFFIXES and not holds_text(uri)

    def open(self, uri: str, options: DataOptions) -> Dataset:
        from edgegraft.data.clean import clean

        path = Path(uri.removeprefix("edge-impulse:"))
        if not path.exists():
            raise DataError.of(
                "file-missing", str(path), "there is no such file or folder", "check the path"
            )
        root = path if path.is_dir() else path.parent
        files = _files(path) if path.is_dir() else [path]
        info = _info(root)
        spans = _structured(root)
        notes, tracks, rows_in = Notes(), [], 0
        problems: list[Problem] = []
        for file in files:
            place = file.relative_to(root).as_posix()
            try:
                track, lost = read_acquisition(file, place, options)
            except OSError as error:
                raise DataError.of(
                    "file-unreadable", place, str(error)[:120], "check that it may be read"
                ) from None
            except (DataError, SignatureError) as error:
                problems += error.problems
                notes.quarantined.append(Quarantine(error.code, 1, place))
                rows_in += 1
                if not path.is_dir():
                    raise
                continue
            facts = info.get(place) or info.get(file.name) or {}
            tracks.append(_labelled(track, file, root, facts, spans, options))
            rows_in += len(track) + sum(item.rows for item in lost)
            notes.quarantined += lost
        if not tracks and problems:
            raise DataError(problems)
        return clean(tracks, rows_in, notes, options, uri)


def _files(root: Path) -> list[Path]:
    return [file for file in table_files(root, _SUFFIXES) if file.name not in METADATA]


def _looks_right(file: Path) -> bool:
    with file.open("rb") as stream:
        begin = stream.read(4096)
    return b"payload" in begin or b"protected" in begin


def read_acquisition(
    path: Path, place: str, options: DataOptions
) -> tuple[Track, list[Quarantine]]:
    """One file as a track without label; readings with a value that is none are set aside."""
    if path.stat().st_size > MAX_BYTES:
        raise DataError.of(
            "file-large",
            f"{place} has more than {MAX_BYTES >> 20} MiB",
            "an acquisition is read into memory",
            "divide it",
        )
    raw = path.read_bytes()
    content = _decode(raw, place)
    payload = content.get("payload") if isinstance(content, dict) else None
    if not isinstance(payload, dict):
        raise _damaged(place, "there is no payload")
    if options.key is not None:
        check_signature(raw, content, options.key, place)
    interval = payload.get("interval_ms")
    if not _is_number(interval) or not 1e-6 <= interval <= 1e9:
        raise _damaged(place, f"interval_ms is {str(interval)[:40]!r}")
    interval_ms = float(interval)
    channels = _channels(payload.get("sensors"), place)
    values, good = _values(payload.get("values"), len(channels), place)
    rows = np.flatnonzero(good)
    ns: Array = np.round(rows * (interval_ms * 1e6)).astype(np.int64)
    device = payload.get("device_name")
    track = Track(
        place,
        values[:, good],
        channels,
        rows,
        np.zeros(len(rows), dtype=np.int64),
        ns=ns,
        group=device if isinstance(device, str) and options.group in (None, "device_name") else "",
        rate_hz=1e3 / interval_ms,
    )
    lost = int((~good).sum())
    example = f"{place} row {int(np.argmin(good)) + 1}" if lost else ""
    return track, [Quarantine("value-missing", lost, example)] if lost else []


def check_signature(raw: bytes, content: Mapping[str, Any], key: str, place: str) -> None:
    """Whether the file carries the HMAC-SHA256 of its bytes, with zeros where the signature is.

    Errors: `SignatureError` "signature-missing", "signature-wrong".
    """
    protected = content.get("protected")
    method = protected.get("alg") if isinstance(protected, dict) else None
    signature = content.get("signature")
    if method != "HS256" or not isinstance(signature, str) or len(signature) != 64:
        raise SignatureError.of(
            "signature-missing",
            f"{place} is not signed (alg {str(method)[:20]!r})",
            "a key was given, so that only signed files are taken",
            "sign it with HS256, or leave the key out",
        )
    text = signature.encode("utf-8", "replace")
    blank = raw.replace(text, b"0" * 64, 1)
    found = hmac.new(key.encode(), blank, hashlib.sha256).hexdigest()
    if raw.count(text) != 1 or not hmac.compare_digest(found, signature.lower()):
        raise SignatureError.of(
            "signature-wrong",
            place,
            "its signature does not fit its bytes and the key",
            "check the key; if it is right, the file was changed",
        )


def _decode(raw: bytes, place: str) -> Any:
    if not raw.strip():
        raise DataError.of("file-empty", place, "there is nothing in it", "record again")
    if not place.lower().endswith(".cbor"):
        return parse_json(raw, place)
    import io

    import cbor2

    try:
        stream = io.BytesIO(raw)
        content = cbor2.CBORDecoder(stream).decode()
        if stream.tell() != len(raw):
            raise ValueError("bytes follow its end")
    except Exception as error:  # cbor2 passes on what tags and lengths raise underneath
        raise DataError.of(
            "cbor-damaged", f"{place}: {str(error)[:120]}", "it is not whole CBOR", "record again"
        ) from None
    return content


def _channels(sensors: Any, place: str) -> tuple[Channel, ...]:
    if not isinstance(sensors, list) or not 0 < len(sensors) <= MAX_SENSORS:
        raise _damaged(place, "there is no list of sensors")
    channels = []
    for sensor in sensors:
        name = sensor.get("name") if isinstance(sensor, dict) else None
        units = sensor.get("units", "") if isinstance(sensor, dict) else ""
        if not isinstance(name, str) or not name or not isinstance(units, str):
            raise _damaged(place, f"a sensor is {str(sensor)[:60]}")
        channels.append(Channel(name, "" if units.upper() == "N/A" else units))
    if len({channel.name for channel in channels}) < len(channels):
        raise DataError.of(
            "column-duplicate",
            f"{place}: two sensors of one name",
            "channels are bound by name",
            "give every sensor a name of its own",
        )
    return tuple(channels)


def _values(rows: Any, n_channels: int, place: str) -> tuple[Array, Array]:
    """float32 (n_channels, n_rows) and bool (n_rows,): which rows are whole and finite."""
    if not isinstance(rows, list) or not rows:
        raise _damaged(place, "there are no values")
    if n_channels == 1:
        rows = [[row] if _is_number(row) else row for row in rows]
    values = np.full((len(rows), n_channels), np.nan)
    try:
        values[:] = np.array(rows, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):  # some rows are not: one by one
        for number, row in enumerate(rows):
            if isinstance(row, list) and len(row) == n_channels and all(map(_is_number, row)):
                try:
                    values[number] = row
                except OverflowError:
                    continue
    good = (np.abs(values) <= np.finfo(np.float32).max).all(axis=1)
    return np.ascontiguousarray(np.where(good[:, None], values, 0).T, dtype=np.float32), good


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _labelled(
    track: Track,
    file: Path,
    root: Path,
    facts: Mapping[str, Any],
    spans: Mapping[str, Any],
    options: DataOptions,
) -> Track:
    """The track with its label, spans of labels and group."""
    label = facts.get("label")
    metadata = facts.get("metadata") if isinstance(facts.get("metadata"), dict) else {}
    text = _label_text(label)
    if "label" not in facts:
        around = facts_of(file, root, {})
        text = around.stem if around.dotted else (around.folders or (UNLABELLED,))[-1]
    group = str(metadata.get(options.group, "")) if options.group and metadata else ""
    if options.label and metadata and options.label in metadata:
        text = str(metadata[options.label])
    found = spans.get(file.name) or spans.get(track.name) or []
    if isinstance(label, dict) and isinstance(label.get("labels"), list):
        found = label["labels"]
    step = 1e9 / (track.rate_hz or 1.0)
    try:
        laid = tuple(
            (
                round(int(item["startIndex"]) * step - step / 2),
                round((int(item["endIndex"]) + 1) * step - step / 2),
                str(item["label"]),
            )
            for item in found
        )
    except (KeyError, TypeError, ValueError):
        raise _damaged(
            f"labels of {track.name}", "a span lacks startIndex, endIndex or label"
        ) from None
    return replace(track, classes=(text,), spans=laid, group=group or track.group)


def _label_text(label: Any) -> str:
    if isinstance(label, str):
        return label.strip()
    if isinstance(label, dict) and isinstance(label.get("label"), str):
        return str(label["label"]).strip()
    return UNLABELLED


def _info(root: Path) -> dict[str, Mapping[str, Any]]:
    """What ``info.labels`` says of each file, by path and by name."""
    path = root / _LABELS_FILE
    if not path.is_file():
        return {}
    content = parse_json(path.read_bytes(), path.name)
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, list):
        raise _damaged(path.name, "there is no list of files")
    found: dict[str, Mapping[str, Any]] = {}
    for item in files:
        if isinstance(item, dict) and isinstance(item.get("path"), str):
            found[item["path"]] = item
            found.setdefault(Path(item["path"]).name, item)
    return found


def _structured(root: Path) -> dict[str, Any]:
    """Spans of labels by file, from ``structured_labels.labels``."""
    found: dict[str, Any] = {}
    for path in [root / _SPANS_FILE, *(root / part / _SPANS_FILE for part in PARTS)]:
        if path.is_file():
            content = parse_json(path.read_bytes(), path.name)
            labels = content.get("structuredLabels") if isinstance(content, dict) else None
            if not isinstance(labels, dict):
                raise _damaged(path.name, "there are no structuredLabels")
            found |= labels
    return found


def _damaged(place: str, found: str) -> DataError:
    return DataError.of(
        "acquisition-damaged",
        f"{place}: {found}",
        "an acquisition has payload.interval_ms, payload.sensors and payload.values",
        "export it again",
    )
