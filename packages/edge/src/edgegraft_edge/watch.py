"""A detector that learns on the device, from nothing, while it watches one or a few channels.

No bundle, no training data: after some hundred samples it knows what is usual and says how unusual
the newest sample is. Its memory is bounded, each score depends on the past only, and samples one
by one give the same scores as a block of them.

    >>> watch = Watch()
    >>> quiet = [watch.push(math.sin(n / 5) + 0.1 * math.sin(n * n)) for n in range(600)]
    >>> watch.push(9.0) > 0.999 > max(quiet[300:])
    True
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgegraft_edge.errors import DataError, ModelError, OptionError, Problem
from edgegraft_edge.signal import Array
from edgegraft_edge.surprise import Channel, Memory

STATE_FORMAT = 1
HELD = 0.5
"""What a surprise counts for while a larger one rests."""


@dataclass(frozen=True)
class Watching:
    """Options of a watch. All lengths are in samples.

    Errors: `OptionError` ``watch-option`` with every one that is out of its range.
    """

    shapes: tuple[int, ...] = field(
        default=(10, 30), metadata={"help": "Lengths of the curves that are compared."}
    )
    neighbours: int = field(
        default=25, metadata={"help": "So many nearest curves make the distance of a curve."}
    )
    lags: int = field(default=1000, metadata={"help": "How far back curves are looked for."})
    level: int = field(default=500, metadata={"help": "Length of the slow mean."})
    memory: int = field(default=5000, metadata={"help": "How many distances are remembered."})
    learn: int = field(
        default=150, metadata={"help": "Samples at the beginning that are never unusual."}
    )
    rest: float = field(
        default=0.1,
        metadata={"help": "After something unusual, only what is more so counts, for this share "
                  "of the samples seen."},
    )  # fmt: skip
    rest_least: int = field(default=100, metadata={"help": "The shortest such rest."})
    rest_most: int = field(default=1500, metadata={"help": "The longest such rest."})

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", tuple(self.shapes))
        whole = {
            "neighbours": (1, self.lags),
            "lags": (2, 1_000_000),
            "level": (1, 10_000_000),
            "memory": (10, 1_000_000),
            "learn": (0, 10_000_000),
            "rest_least": (0, 10_000_000),
            "rest_most": (self.rest_least, 10_000_000),
        }
        wrong = {
            name: type(value := getattr(self, name)) is not int or not low <= value <= high
            for name, (low, high) in whole.items()
        }
        wrong["shapes"] = not self.shapes or not all(
            type(length) is int and 2 <= length <= 10_000 for length in self.shapes
        )
        wrong["rest"] = not 0.0 <= self.rest <= 1.0
        problems = [
            Problem("watch-option", f"{entry.name} = {getattr(self, entry.name)!r}",
                    "that is outside its range", f"{entry.metadata['help']} The default is "
                    f"{entry.default!r}")
            for entry in fields(self) if wrong[entry.name]
        ]  # fmt: skip
        if problems:
            raise OptionError(problems)


class Watch:
    """Scores samples as they come.

    Args:
        n_channels: how many values a sample has.
        options: lengths and memories.

    Attributes:
        p: of the newest sample, the share of past samples that were at least as surprising (a
            conformal p-value; beyond the memory by an exponential tail). 1.0 while it learns.
        surprises: of the newest sample, one for each channel: decimal digits of rarity.
        samples: how many were scored.
        skipped: how many were left out, because a value was no finite number.
    """

    def __init__(self, n_channels: int = 1, options: Watching | None = None):
        if type(n_channels) is not int or not 1 <= n_channels <= 1000:
            raise OptionError.of(
                "watch-option", f"n_channels = {n_channels!r}", "a watch has 1 to 1000 channels",
                "n_channels=1",
            )  # fmt: skip
        self.options = options or Watching()
        o = self.options
        self._channels = [
            Channel(o.shapes, o.neighbours, o.lags, o.level, o.memory) for _ in range(n_channels)
        ]
        self._memory = Memory(o.memory)
        self._peaks: deque[tuple[int, float]] = deque()
        self.samples = self.skipped = 0
        self.p = 1.0
        self.surprises: tuple[float, ...] = (0.0,) * n_channels

    @property
    def n_channels(self) -> int:
        return len(self._channels)

    def push(self, values: float | Sequence[float] | Array) -> float:
        """Score of the next sample, 0 to 1: usual to unlike anything before.

        A surprise of s digits that is not held back by a larger one shortly before scores
        1 - 10 ** -s. A sample with a value that is not finite is skipped and scores 0.

        Args:
            values: a number, or one for each channel.

        Errors: `DataError` ``watch-channels`` for another number of values.
        """
        row = (values,) if isinstance(values, int | float) else self._row(values)
        for value in row:
            # Values that large would overflow when squared; no sensor gives them.
            if not -1e100 < value < 1e100:
                self.skipped += 1
                self.p, self.surprises = 1.0, (0.0,) * len(self._channels)
                return 0.0
        if len(row) != len(self._channels):
            raise self._refused(len(row))
        self.surprises = tuple(
            channel.push(value) for channel, value in zip(self._channels, row, strict=True)
        )
        largest = max(self.surprises)
        self.samples += 1
        if self.samples <= self.options.learn:
            self.p = 1.0
            return 0.0
        self.p = self._memory.tail(largest)
        return 1.0 - math.pow(10.0, -self._rested(largest))

    def scores(self, values: Array) -> Array:
        """Scores of a block of samples, the same as one by one.

        Args:
            values: (n_timepoints,) or (n_channels, n_timepoints).

        Returns: float64 (n_timepoints,)
        """
        table = np.atleast_2d(np.asarray(values, dtype=np.float64))
        if table.ndim != 2 or len(table) != len(self._channels):
            raise self._refused(len(table))
        return np.array([self.push(row) for row in table.T.tolist()])

    def _row(self, values: Sequence[float] | Array) -> tuple[float, ...]:
        row = values if isinstance(values, list) else np.asarray(values, float).ravel().tolist()
        return tuple(row)

    def _refused(self, found: int) -> DataError:
        return DataError.of(
            "watch-channels", f"{found} values", f"this watch has {len(self._channels)} channels",
            f"Watch(n_channels={found})",
        )  # fmt: skip

    def _rested(self, surprise: float) -> float:
        """Less of it while a larger one of shortly before still stands."""
        o, peaks, now = self.options, self._peaks, self.samples
        reach = now - min(max(o.rest_least, o.rest * now), o.rest_most)
        while peaks and peaks[0][0] < reach:
            peaks.popleft()
        held = bool(peaks) and peaks[0][1] >= surprise
        while peaks and peaks[-1][1] <= surprise:
            peaks.pop()
        peaks.append((now, surprise))
        return surprise * HELD if held else surprise

    def state(self) -> dict[str, Array]:
        """All that it has learnt, as arrays of numbers and one of text; see `restored`."""
        said = json.dumps({
            "format": STATE_FORMAT, "n_channels": len(self._channels),
            "options": asdict(self.options), "samples": self.samples, "skipped": self.skipped,
        })  # fmt: skip
        parts = {"watch": np.array(said), "memory": self._memory.state()}
        parts["peaks"] = np.array(self._peaks, dtype=np.float64).reshape(-1, 2)
        for at, channel in enumerate(self._channels):
            parts |= {f"channel{at}/{name}": value for name, value in channel.state().items()}
        return parts

    @classmethod
    def restored(cls, state: dict[str, Array]) -> Watch:
        """The inverse of `state`: goes on as if it had never stopped.

        Errors: `ModelError` ``watch-state`` for anything else.
        """
        try:
            said: dict[str, Any] = json.loads(str(state["watch"]))
            if said["format"] != STATE_FORMAT:
                raise ValueError(f"format {said['format']}, this version reads {STATE_FORMAT}")
            watch = cls(said["n_channels"], Watching(**said["options"]))
            watch.samples, watch.skipped = int(said["samples"]), int(said["skipped"])
            watch._memory.restore(state["memory"])
            watch._peaks.extend((int(at), float(height)) for at, height in state["peaks"])
            for at, channel in enumerate(watch._channels):
                prefix = f"channel{at}/"
                channel.restore(
                    {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
                )
        except (KeyError, TypeError, ValueError, IndexError, OptionError) as error:
            raise ModelError.of(
                "watch-state", f"{type(error).__name__}: {error}",
                "this is no state of a watch", "begin anew",
            ) from error  # fmt: skip
        return watch

    def save(self, file: Path | str | BinaryIO) -> None:
        """Write the state as an npz file."""
        np.savez(file, allow_pickle=False, **self.state())

    @classmethod
    def load(cls, file: Path | str | BinaryIO) -> Watch:
        """Read what `save` wrote. Errors: `ModelError` ``watch-state``."""
        try:
            with np.load(file, allow_pickle=False) as found:
                return cls.restored({name: found[name] for name in found.files})
        except (OSError, ValueError, EOFError) as error:
            raise ModelError.of(
                "watch-state", str(file), f"it cannot be read: {error}", "begin anew"
            ) from error


def surprise_of(score: float) -> float:
    """Decimal digits of rarity from a score of `Watch.push`.

    >>> round(surprise_of(0.999), 6)
    3.0
    """
    return -math.log10(max(1.0 - score, 1e-16))
