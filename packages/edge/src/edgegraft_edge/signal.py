"""Signals as plain frozen values: channels, recordings, windows.

Axes, everywhere: ``n_windows, n_channels, n_timepoints``; time is the last axis. A sound is a
signal of one channel in full scale. A picture is a window of pixels, ``n_windows, n_channels,
height, width``, and a sentence one of bytes, ``n_windows, n_bytes``: what else is true of
windows is true of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgegraft_edge.errors import DataError, Problem

Array = NDArray[Any]
UNLABELLED = ""
TARGET = ""
"""The domain of windows of the device that a model is wanted for."""
FULL_SCALE = "FS"
"""The unit of sound: 1.0 is the loudest that its converter knows."""
Kind = Literal["series", "audio", "image", "text"]
Fit = Literal["crop", "stretch", "pad"]
"""How a picture of other proportions is brought to a size; see `edgegraft_edge.picture.fitted`."""


@dataclass(frozen=True)
class Channel:
    """One quantity: its name and unit, e.g. ``Channel("acc_x", "m/s2")``.

    With a text in `derive` it is not measured but computed from measured ones, as
    `edgegraft_edge.derived` says.
    """

    name: str
    unit: str = ""
    derive: str = ""


RGB = (Channel("red"), Channel("green"), Channel("blue"))
GREY = (Channel("grey"),)


@dataclass(frozen=True)
class LabelSpan:
    """A label that holds for samples ``start`` (included) to ``stop`` (excluded)."""

    start: int
    stop: int
    label: str


@dataclass(frozen=True)
class Recording:
    """An unbroken, evenly sampled stretch of signal.

    Attributes:
        values: float32 (n_channels, n_timepoints).
        channels: one per row of `values`.
        rate_hz: samples a second.
        labels: spans; they may leave parts unlabelled and never overlap.
        group: person, machine or site that must not straddle a split; "" if unknown.
        start_s: time of the first sample, seconds since 1970 (0.0 if unknown).
        name: where it came from, for messages and reports.

    A gap ends a recording: what follows the gap is another recording.
    """

    values: Array
    channels: tuple[Channel, ...]
    rate_hz: float
    labels: tuple[LabelSpan, ...] = ()
    group: str = ""
    start_s: float = 0.0
    name: str = ""

    @property
    def n_timepoints(self) -> int:
        return int(self.values.shape[-1])

    @property
    def length_s(self) -> float:
        return self.n_timepoints / self.rate_hz


@dataclass(frozen=True)
class WindowSpec:
    """How windows are cut: length and stride in seconds, at a rate, over named channels.

    >>> spec = WindowSpec(length_s=2.56, stride_s=1.28, rate_hz=50.0, channels=(Channel("x"),))
    >>> spec.n_timepoints, spec.n_stride
    (128, 64)
    """

    length_s: float
    stride_s: float
    rate_hz: float
    channels: tuple[Channel, ...]

    @property
    def n_timepoints(self) -> int:
        return max(1, round(self.length_s * self.rate_hz))

    @property
    def n_stride(self) -> int:
        return max(1, round(self.stride_s * self.rate_hz))

    @property
    def n_channels(self) -> int:
        return len(self.channels)

    @property
    def channel_names(self) -> tuple[str, ...]:
        return tuple(channel.name for channel in self.channels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one window: (n_channels, n_timepoints)."""
        return self.n_channels, self.n_timepoints

    @property
    def kind(self) -> Kind:
        """Sound where every channel is in full scale, otherwise a series."""
        return "audio" if all(c.unit == FULL_SCALE for c in self.channels) else "series"

    @classmethod
    def from_shape(
        cls, n_channels: int, n_timepoints: int, rate_hz: float = 1.0, names: Sequence[str] = ()
    ) -> WindowSpec:
        """The spec of ready-made windows, of which only the shape and perhaps the rate is known."""
        names = tuple(names) or tuple(f"c{index}" for index in range(n_channels))
        length_s = n_timepoints / rate_hz
        return cls(length_s, length_s, rate_hz, tuple(Channel(name) for name in names))


@dataclass(frozen=True)
class ImageSpec:
    """Pictures of one size: pixels 0 to 255, rows from the top, channels in a named order.

    `fit` says how pictures of other proportions were brought to that size.

    >>> ImageSpec(96, 128).shape, ImageSpec(28, 28, GREY).n_channels
    ((3, 96, 128), 1)
    """

    height: int
    width: int
    channels: tuple[Channel, ...] = RGB
    fit: Fit = "crop"

    @property
    def n_channels(self) -> int:
        return len(self.channels)

    @property
    def channel_names(self) -> tuple[str, ...]:
        return tuple(channel.name for channel in self.channels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one picture: (n_channels, height, width)."""
        return self.n_channels, self.height, self.width

    @property
    def kind(self) -> Kind:
        return "image"


@dataclass(frozen=True)
class TextSpec:
    """Sentences as UTF-8, filled up with zero bytes; what is longer is cut at a character.

    >>> spec = TextSpec(8)
    >>> x = spec.pack(["on", "größer"])
    >>> x.shape, spec.unpack(x)
    ((2, 8), ('on', 'größer'))
    """

    n_bytes: int = 512

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sentence: (n_bytes,)."""
        return (self.n_bytes,)

    @property
    def kind(self) -> Kind:
        return "text"

    def pack(self, texts: Sequence[str]) -> Array:
        """Texts as uint8 (n_windows, n_bytes). Zero characters and lone surrogates are dropped."""
        out = np.zeros((len(texts), self.n_bytes), dtype=np.uint8)
        for row, text in zip(out, texts, strict=True):
            data = text[: self.n_bytes].replace("\0", "").encode("utf-8", "ignore")
            data = data[: self.n_bytes].decode("utf-8", "ignore").encode("utf-8")
            row[: len(data)] = np.frombuffer(data, dtype=np.uint8)
        return out

    def unpack(self, x: Array) -> tuple[str, ...]:
        """The inverse of `pack`, for uint8 or float (n_windows, n_bytes)."""
        rows = np.asarray(x).astype(np.uint8)
        return tuple(row.tobytes().rstrip(b"\0").decode("utf-8", "replace") for row in rows)


Spec = WindowSpec | ImageSpec | TextSpec
"""What one window is: each has a `kind` and the `shape` of one window."""


@dataclass(frozen=True)
class Windows:
    """Windows ready for a backbone, with what is known of each.

    Attributes:
        x: float32 (n_windows, n_channels, n_timepoints); uint8 (n_windows, n_channels, height,
            width) of pictures and (n_windows, n_bytes) of sentences.
        y: labels as text (n_windows,), "" where unlabelled; or, of tasks that estimate, float32
            (n_windows, n_targets), NaN where unknown.
        groups: text (n_windows,), the person, machine or site of each window; "" if unknown.
        spec: how they were cut.
        recording: int (n_windows,), which recording each window came from.
        start: int (n_windows,), index of its first sample in that recording.
        names: names of the recordings, indexed by `recording`.
        domains: text (n_windows,), the source domain (another machine, load or site) that each
            window came from; "" for the device that a model is wanted for.

    Errors: `DataError` if the shapes do not belong together.

    >>> windows = Windows.of(np.zeros((4, 3, 50)), y=["a", "a", "b", ""], rate_hz=25.0)
    >>> len(windows), windows.classes, windows.labelled.tolist()
    (4, ('a', 'b'), [True, True, True, False])
    """

    x: Array
    y: Array
    groups: Array
    spec: Spec
    recording: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    start: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    names: tuple[str, ...] = ()
    domains: Array = field(default_factory=lambda: np.zeros(0, dtype="<U1"))

    def __post_init__(self) -> None:
        n_windows = len(self.x)
        if len(self.recording) == 0 and n_windows:
            object.__setattr__(self, "recording", np.arange(n_windows))
        if len(self.start) == 0 and n_windows:
            object.__setattr__(self, "start", np.zeros(n_windows, dtype=np.int64))
        if len(self.domains) == 0 and n_windows:
            object.__setattr__(self, "domains", np.full(n_windows, TARGET))
        problems = [
            Problem(
                "shape-mismatch",
                f"{name} has {len(values)} rows for {n_windows} windows",
                "each window needs exactly one",
                f"give {name} the length of x",
            )
            for name, values in (
                ("y", self.y),
                ("groups", self.groups),
                ("recording", self.recording),
                ("start", self.start),
                ("domains", self.domains),
            )
            if len(values) != n_windows
        ]
        problems += _shape_problems(self.x, self.spec)
        if problems:
            raise DataError(problems)

    @classmethod
    def of(
        cls,
        x: Any,
        y: Any = None,
        groups: Any = None,
        rate_hz: float = 1.0,
        channels: Sequence[str] = (),
    ) -> Windows:
        """Windows from bare arrays; labels become text, missing ones ""."""
        x = np.asarray(x, dtype=np.float32)
        if x.ndim != 3:
            raise DataError.of(
                "window-shape",
                f"x has {x.ndim} axes, shape {x.shape}",
                "windows are (n_windows, n_channels, n_timepoints)",
                "reshape x; one channel is x[:, None, :]",
            )
        n_windows, n_channels, n_timepoints = x.shape
        blank = np.full(n_windows, UNLABELLED)
        return cls(
            x=x,
            y=blank if y is None else np.asarray(y).astype(str),
            groups=blank if groups is None else np.asarray(groups).astype(str),
            spec=WindowSpec.from_shape(n_channels, n_timepoints, float(rate_hz), channels),
        )

    def __len__(self) -> int:
        return len(self.x)

    @property
    def labelled(self) -> Array:
        """Bool (n_windows,): which windows carry a label, or at least one known target."""
        if self.y.dtype.kind == "f":
            known = np.isfinite(self.y)
            return np.asarray(known if known.ndim == 1 else known.any(axis=1))
        return np.asarray(self.y != UNLABELLED)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels that occur, sorted; none where targets are numbers."""
        if self.y.dtype.kind == "f":
            return ()
        return tuple(sorted({str(label) for label in self.y} - {UNLABELLED}))

    @property
    def at_target(self) -> Array:
        """Bool (n_windows,): which windows are of the target device, not of a source domain."""
        return np.asarray(self.domains == TARGET)

    @property
    def has_groups(self) -> bool:
        """Whether at least two groups are known."""
        return len(set(self.groups.tolist()) - {""}) > 1

    @property
    def series(self) -> WindowSpec:
        """The spec, where these are windows of a series or of sound, and an error elsewhere."""
        return series_spec(self.spec)

    def take(self, index: Any) -> Windows:
        """The windows at `index` (integers or a bool mask), in that order."""
        return replace(
            self,
            x=self.x[index],
            y=self.y[index],
            groups=self.groups[index],
            recording=self.recording[index],
            start=self.start[index],
            domains=self.domains[index],
        )

    def codes(self, classes: Sequence[str]) -> Array:
        """Labels as int (n_windows,) positions in `classes`; -1 for labels that are not in it."""
        position = {label: index for index, label in enumerate(classes)}
        return np.array([position.get(str(label), -1) for label in self.y], dtype=np.int64)


def series_spec(spec: Spec) -> WindowSpec:
    """The spec of windows of a series or of sound.

    Errors: `DataError` "kind-differs" for pictures and sentences.
    """
    if isinstance(spec, WindowSpec):
        return spec
    raise DataError.of(
        "kind-differs",
        f"windows of kind {spec.kind}",
        "this works on series and sound alone, which have channels along time",
        f"take what is made for kind {spec.kind}",
    )


def _shape_problems(x: Array, spec: Spec) -> list[Problem]:
    if x.ndim != 1 + len(spec.shape):
        axes = {"image": "n_channels, height, width", "text": "n_bytes"}
        wanted = axes.get(spec.kind, "n_channels, n_timepoints")
        return [
            Problem(
                "window-shape",
                f"x has {x.ndim} axes, shape {x.shape}",
                f"windows are (n_windows, {wanted})",
                "reshape x; one channel is x[:, None, :]",
            )
        ]
    if isinstance(spec, WindowSpec):
        if x.shape[1] == spec.n_channels:
            return []
        found = f"x has {x.shape[1]} channels, the spec names {spec.n_channels}"
        why, remedy = "channels are bound by name", "name every channel once"
        return [Problem("channel-count", found, why, remedy)]
    if x.shape[1:] != spec.shape:
        found = f"x has windows of {x.shape[1:]}, the spec says {spec.shape}"
        return [Problem("window-shape", found, "both tell one size", "resize one of them")]
    return []
