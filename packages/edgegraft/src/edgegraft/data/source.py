"""What a source of data is, and the options that all of them share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from edgegraft import catalog
from edgegraft.options import check_values
from edgegraft_edge.errors import DataError, OptionError, Problem
from edgegraft_edge.signal import ImageSpec, Spec, TextSpec

if TYPE_CHECKING:
    from edgegraft.data.dataset import Dataset


def _option(help: str, default: Any = None) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class DataOptions:
    """How to read data. What is None is found by convention; see the guide on data."""

    label: str | None = _option(
        "Column (or array, or metadata field) of labels; 'folder' or 'filename' for file labels."
    )
    group: str | None = _option(
        "Column (or array, or metadata field) of person, machine or site; 'folder' for folders."
    )
    time: str | None = _option("Column of timestamps.")
    recording: str | None = _option("Column that tells the recordings of one table apart.")
    channels: tuple[str, ...] | None = _option(
        "Channels to use, by name; all numeric ones if none."
    )
    derive: tuple[str, ...] | None = _option(
        "Channels to compute from measured ones: start:*:20, mean:temp:50, age, hour, weekday, "
        "yearday, heating:temp:18, cooling:temp:22."
    )
    rate_hz: float | None = _option("Samples a second: needed without timestamps, else resamples.")
    window_s: float | None = _option("Length of a window in seconds.")
    stride_s: float | None = _option("Seconds from one window to the next.")
    purity: float = _option("Share of a window that must carry its label, above 0 up to 1.", 0.5)
    time_unit: str | None = _option("Unit of numeric timestamps: s, ms, us or ns.")
    time_format: str | None = _option(
        "Format of timestamps that are not ISO 8601: %d/%m/%Y %H:%M:%S."
    )
    timezone: str | None = _option(
        "Zone of timestamps without one, e.g. Europe/Vienna; UTC if none."
    )
    gap: str = _option(
        "What a gap does: 'split' the recording or 'interpolate' up to max_gap_s.", "split"
    )
    max_gap_s: float = _option("Longest gap that is interpolated, in seconds.", 0.1)
    units: str | None = _option("Units to convert to, by channel: 'acc_x=m/s2,temp=degC'.")
    spans: str | None = _option("Table of labelled spans: start, end, label and perhaps file.")
    delimiter: str | None = _option("Delimiter of text tables; found by itself if none.")
    encoding: str | None = _option(
        "Encoding of text tables; UTF-8, or UTF-16 with its mark, if none."
    )
    key: str | None = _option("Key that signed recordings must be signed with.")
    text: str | None = _option("Column of sentences.")
    n_bytes: int = _option("Longest sentence, in bytes of UTF-8; what is longer is cut.", 256)
    size: str | None = _option(
        "Size of pictures, 128 or 160x120 (width x height); 128 if none, or as they are where all "
        "are alike and small."
    )
    fit: Literal["crop", "stretch", "pad"] | None = _option(
        "How pictures of other proportions get that size: crop the middle (if none is given), "
        "stretch, or pad."
    )
    colour: Literal["auto", "rgb", "grey"] = _option(
        "Colours of pictures: rgb, grey, or auto: grey where all are.", "auto"
    )

    @classmethod
    def of(cls, **values: Any) -> DataOptions:
        """Options by name, checked.

        Errors: `OptionError` ("option-unknown" with the nearest name, "option-value").

        >>> DataOptions.of(channels=["x", "y"], rate_hz=50).channels
        ('x', 'y')
        """
        for name in ("channels", "derive"):
            given = values.get(name)
            if isinstance(given, str):
                given = [each.strip() for each in given.split(",") if each.strip()]
            if given is not None:
                values[name] = tuple(given)
        problems = check_values(cls, values)
        if problems:
            raise OptionError(problems)
        options = cls(**values)
        problems = list(options._problems())
        if problems:
            raise OptionError(problems)
        return options

    def _problems(self) -> list[Problem]:
        checks = [
            ("rate_hz", self.rate_hz, self.rate_hz is None or self.rate_hz > 0, "above 0"),
            ("window_s", self.window_s, self.window_s is None or self.window_s > 0, "above 0"),
            ("stride_s", self.stride_s, self.stride_s is None or self.stride_s > 0, "above 0"),
            ("purity", self.purity, 0 < self.purity <= 1, "above 0 up to 1"),
            ("gap", self.gap, self.gap in ("split", "interpolate"), "split or interpolate"),
            ("max_gap_s", self.max_gap_s, self.max_gap_s >= 0, "0 or more"),
            ("n_bytes", self.n_bytes, 8 <= self.n_bytes <= 65536, "8 to 65536"),
            (
                "time_unit",
                self.time_unit,
                self.time_unit in (None, "s", "ms", "us", "ns"),
                "s, ms, us or ns",
            ),
            ("size", self.size, self.size is None or _SIZE.fullmatch(self.size), "as 128, 160x120"),
        ]
        return [
            Problem(
                "option-value", f"{name}={value!r}", f"{name} is {allowed}", f"{name} {allowed}"
            )
            for name, value, holds, allowed in checks
            if not holds
        ]


_SIZE = re.compile(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?")
_told: ContextVar[Callable[[str, Mapping[str, Any]], None] | None]
_told = ContextVar("told", default=None)


@contextmanager
def telling(watch: Callable[[str, Mapping[str, Any]], None]) -> Iterator[None]:
    """Sources tell this watch how far they have read, while the context lasts."""
    token = _told.set(watch)
    try:
        yield
    finally:
        _told.reset(token)


def tell(done: int, of: int) -> None:
    """Say to whoever watches how many files have been read."""
    watch = _told.get()
    if watch is not None:
        watch("read", {"files": done, "of": of})


def options_of(spec: Spec) -> dict[str, Any]:
    """Options that open data as a model of that spec takes it.

    The rate of a series is not among them: it belongs to the data.

    >>> from edgegraft_edge.signal import GREY, ImageSpec
    >>> options_of(ImageSpec(96, 128, GREY))
    {'size': '128x96', 'fit': 'crop', 'colour': 'grey'}
    """
    if isinstance(spec, ImageSpec):
        colour = "grey" if spec.n_channels == 1 else "rgb"
        return {"size": f"{spec.width}x{spec.height}", "fit": spec.fit, "colour": colour}
    if isinstance(spec, TextSpec):
        return {"n_bytes": spec.n_bytes}
    derive = tuple(channel.derive for channel in spec.channels if channel.derive)
    rate = {"rate_hz": spec.rate_hz} if spec.kind == "audio" else {}
    return {**rate, "derive": derive} if derive else rate


class Source(Protocol):
    """Reads one kind of data. A class without arguments, registered under ``edgegraft.sources``."""

    def accepts(self, uri: str) -> bool:
        """Whether this source reads what stands at `uri`; looks at names, opens nothing large."""
        ...

    def open(self, uri: str, options: DataOptions) -> Dataset:
        """Read it all. Errors: `DataError` with all that was found wrong."""
        ...


def find_source(uri: str) -> Source:
    """The source that reads `uri`: first by the name before a colon, then by asking each.

    Errors: `DataError` ("file-missing", "format-unknown").
    """
    names = catalog.names("sources")
    scheme = uri.partition(":")[0]
    if ":" in uri and scheme in names:
        return catalog.find("sources", scheme)()  # type: ignore[no-any-return]
    lacking: OptionError | None = None
    for name in names:
        try:
            source: Source = catalog.find("sources", name)()
        except OptionError as error:  # one source without its extra must not stop the others
            lacking = error
            continue
        if source.accepts(uri):
            return source
    if not Path(uri).exists():
        raise DataError.of(
            "file-missing",
            f"{uri!r}",
            "there is no such file or folder",
            "check the path, or name a source such as aeon:BasicMotions or synthetic:",
        )
    if lacking is not None:
        raise lacking
    raise DataError.of(
        "format-unknown",
        f"{uri!r}",
        "none of the sources (" + ", ".join(names) + ") reads it",
        "tables, pictures, an .npz with x and y, or Edge Impulse files, one or a folder of them",
    )
