"""A stream replayed twice: in Python, and by the bundle's firmware on an emulated Cortex-M.

The firmware reads samples one by one (a file through semihosting stands for a sensor), keeps its
own window, scores and decides, and writes events. Both must say the same at the same samples.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgegraft.export import emulator
from edgegraft.export.c.emit import model_of, runtime, sources_of
from edgegraft.export.c.exporter import defines
from edgegraft.export.c.model import Model
from edgegraft.export.stream import is_integer, stream_files
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.decision import UNSURE, Decision, Event
from edgegraft_edge.errors import DataError, ExportError
from edgegraft_edge.runner import Runner
from edgegraft_edge.signal import Array, series_spec

_KINDS, _REASONS = ("change", "window"), ("", "threshold", "skipped")
_PREFIX = "model"


@dataclass(frozen=True)
class Replay:
    """What a firmware said of a stream.

    Attributes:
        core: that it ran on.
        precision: of its model, "int8" where it decides without floating point.
        events: with times counted from the first sample.
        size: of the firmware without what is around model and stream.
    """

    core: str
    precision: str
    events: tuple[Event, ...]
    size: emulator.Size


def replay(
    bundle: Bundle,
    samples: Array,
    *,
    core: str = "m4",
    decision: Decision | None = None,
    limit_s: float = 300.0,
) -> Replay:
    """Push samples through the firmware of a bundle.

    Args:
        samples: (n_channels, n_timepoints) in the order of the bundle.
        decision: in place of the bundle's.

    Errors: `ExportError`, `DataError` for another number of channels or a bundle that is not
    for series.
    """
    spec = series_spec(bundle.spec)
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 2 or len(samples) != spec.n_channels:
        raise DataError.of(
            "channel-count",
            f"samples of shape {samples.shape}",
            f"the bundle takes {spec.n_channels} channels",
            "samples of (n_channels, n_timepoints)",
        )
    chip = emulator.core_of(core)
    with tempfile.TemporaryDirectory(prefix="edgegraft-") as folder:
        model, elf, size = firmware(bundle, core, Path(folder), decision=decision)
        rows = np.ascontiguousarray(samples.T).tobytes()
        said = emulator.run(elf, chip, {"in.bin": rows}, limit_s=limit_s)
    eight = is_integer(model)
    events = tuple(
        _event(line, bundle.classes, spec.rate_hz, eight) for line in said.decode().splitlines()
    )
    return Replay(core, "int8" if eight else bundle.program.precision, events, size)


def firmware(
    bundle: Bundle, core: str, folder: Path, *, decision: Decision | None = None
) -> tuple[Model, Path, emulator.Size]:
    """The program for a core that turns samples into events. Errors: `ExportError`."""
    spec = series_spec(bundle.spec)
    model = model_of(bundle.program, *spec.shape, prefix=_PREFIX)
    files = {
        **runtime(),
        **sources_of(model, bundle.classes, defines(bundle)),
        **stream_files(bundle, prefix=_PREFIX, decision=decision),
    }
    names = {
        "STREAM_HEADER": f'"{_PREFIX}_stream.h"',
        "STREAM_TYPE": f"{_PREFIX}_stream",
        "STREAM_START": f"{_PREFIX}_stream_start",
        "STREAM_PUSH": f"{_PREFIX}_push",
        "STREAM_CHANNELS": str(spec.n_channels),
        "STREAM_ARENA": f"{_PREFIX.upper()}_STREAM_ARENA_BYTES",
    }
    return model, *emulator.link(files, emulator.core_of(core), folder, "stream.c", names)


def expected(
    bundle: Bundle, samples: Array, *, decision: Decision | None = None
) -> tuple[Event, ...]:
    """What Python says of the same stream, sample by sample."""
    live = Runner(bundle, decision=decision)
    return tuple(event for sample in samples.T for event in live.push(sample[:, None]))


def compare(found: Sequence[Event], wanted: Sequence[Event], *, tolerance: float) -> None:
    """Refuse events that differ.

    Args:
        tolerance: of probabilities; times, labels, kinds and reasons must be the same.

    Errors: `ExportError` "firmware-events" with the first difference.
    """
    for index in range(max(len(found), len(wanted))):
        pair = [events[index] if index < len(events) else None for events in (found, wanted)]
        one, other = pair
        if (
            one is not None
            and other is not None
            and replace(one, probability=0.0) == replace(other, probability=0.0)
            and abs(one.probability - other.probability) <= tolerance
        ):
            continue
        raise ExportError.of(
            "firmware-events",
            f"event {index}: firmware {one}, Python {other}",
            "both saw the same samples",
            "report the bundle to Edgegraft",
        )


def _event(line: str, classes: Sequence[str], rate_hz: float, eight: bool) -> Event:
    at, label, kind, reason, total, count, bits = map(int, line.split())
    mean = struct.unpack("<d", struct.pack("<Q", bits))[0]
    if eight:
        mean = total / 256 / count if count else 0.0
    return Event(
        round(at / rate_hz, 6),
        classes[label - 1] if label else UNSURE,
        round(mean, 6),
        "window" if _KINDS[kind] == "window" else "change",
        _REASONS[reason],
    )
