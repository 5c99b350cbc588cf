"""Things that come one by one, pictures or sentences, through a bundle: each is a window.

What comes from files is judged each by itself; what comes as a stream (frames of a camera) goes
through the smoothing and hold-off of the bundle's decision. Nothing that cannot be read stops
the rest: it is counted, and answered with "unsure".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import Any

from edgegraft_edge import backends
from edgegraft_edge.bundle import Bundle, score
from edgegraft_edge.decision import Decider, Decision, Event
from edgegraft_edge.errors import DataError
from edgegraft_edge.picture import SUFFIXES, read_window
from edgegraft_edge.rows import MAX_LINE_BYTES, Fault
from edgegraft_edge.runner import open_model
from edgegraft_edge.signal import Array, ImageSpec, Spec, TextSpec

MAX_FRAME_BYTES = 64 << 20
_CHUNK = 1 << 16
_START, _END, _SCAN = b"\xff\xd8", 0xD9, 0xDA


@dataclass(frozen=True)
class Item:
    """One thing to judge.

    Attributes:
        name: of its file, or where it stood in the stream.
        content: bytes of a picture, the path of one, or a sentence.
    """

    name: str
    content: bytes | Path | str


@dataclass
class Counters:
    """What a runner has seen: every item is scored or `unreadable`, these by code in `faults`.

    Attributes:
        cut: sentences that were too long and were cut.
        unsure: items below the threshold.
        events: events given.
    """

    items: int = 0
    unreadable: int = 0
    cut: int = 0
    unsure: int = 0
    events: int = 0
    faults: dict[str, Fault] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class ItemEvent:
    """An event and the item that caused it; `fault` says why it could not be read, if so."""

    name: str
    event: Event
    fault: str = ""

    def as_dict(self) -> dict[str, Any]:
        fault = {"fault": self.fault} if self.fault else {}
        return {"name": self.name, **self.event.as_dict(), **fault}


class Items:
    """Runs a bundle for pictures or sentences.

    Args:
        bundle: as read.
        backend: a name, a `Backend`, or None for the NumPy reference, whose scores equal
            `Bundle.predict` exactly.
        decision: in place of the one in the bundle.
        apart: judge each item by itself and say something of each: no smoothing, no hold-off.
        rate_hz: items a second, where they come at a rate; it gives events their times.

    Errors: `DataError` "kind-differs" for a bundle of another kind; `OptionError` or `ModelError`
    from the backend.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: str | backends.Backend | None = None,
        *,
        decision: Decision | None = None,
        apart: bool = True,
        rate_hz: float = 1.0,
    ):
        self.spec = item_spec(bundle.spec)
        self.classes = bundle.classes
        self.rate_hz = rate_hz
        self._run = open_model(bundle, backend or "numpy")
        if decision is None:
            decision = by_itself(bundle.decision) if apart else bundle.decision
        self._decider = Decider(decision, bundle.classes)
        self._counters = Counters()

    @property
    def counters(self) -> Counters:
        """A copy of the counters."""
        return replace(self._counters, faults=dict(self._counters.faults))

    def push(self, item: Item, *, at_s: float | None = None) -> ItemEvent | None:
        """Take an item and give the event that it causes, if there is one.

        Args:
            at_s: when it was taken, in seconds; if None, by its number and the rate.
        """
        counters, fault = self._counters, ""
        at_s = round(counters.items / self.rate_hz, 6) if at_s is None else at_s
        counters.items += 1
        row: Array | None = None
        try:
            window = self._window(item.content)
            row = score(self._run, window[None], self.spec, self.classes)[0]
        except DataError as error:
            fault = error.code
            counters.unreadable += 1
            found = f"{item.name}: {error.problems[0].found}"
            first = counters.faults.setdefault(fault, Fault(0, counters.items, found[:120]))
            first.count += 1
        event = self._decider.step(at_s, row)
        counters.unsure += self._decider.reason == "threshold"
        if event is None:
            return None
        counters.events += 1
        return ItemEvent(item.name, event, fault)

    def _window(self, content: bytes | Path | str) -> Array:
        if isinstance(self.spec, ImageSpec):
            return read_window(content, self.spec)
        if isinstance(content, bytes):
            content = _decoded(content)
        text = str(content)
        self._counters.cut += len(text.encode("utf-8", "ignore")) > self.spec.n_bytes
        packed: Array = self.spec.pack([text])[0]
        return packed


def item_spec(spec: Spec) -> ImageSpec | TextSpec:
    """The spec, where windows are pictures or sentences. Errors: `DataError` "kind-differs"."""
    if isinstance(spec, ImageSpec | TextSpec):
        return spec
    raise DataError.of(
        "kind-differs",
        f"a bundle for windows of kind {spec.kind}",
        "items are pictures or sentences",
        "Runner, for what goes along time",
    )


def by_itself(decision: Decision) -> Decision:
    """The decision for items that have nothing to do with each other: the threshold alone.

    >>> by_itself(Decision(threshold=0.6, smooth=5, hold_off_s=2.0)).as_dict()
    {'threshold': 0.6, 'smooth': 1, 'hold_off_s': 0.0, 'emit': 'window'}
    """
    return replace(decision, smooth=1, hold_off_s=0.0, emit="window")


def pictures_below(folder: Path) -> Iterator[Item]:
    """Pictures in a folder and below it, by name in order; hidden ones are left out.

    Errors: `DataError` "source-missing" for a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise DataError.of(
            "source-missing", str(folder), error.strerror or "it cannot be read", "check the path"
        ) from error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                path = Path(place, name)
                yield Item(path.relative_to(folder).as_posix(), path)


def pictures_in(stream: BufferedReader) -> Iterator[Item]:
    """Pictures of a stream: JPEGs one after the other, one picture, or a list of paths.

    Which of these it is goes by its first bytes.
    """
    begin = stream.peek(512)[:512]
    if is_film(stream):
        for number, frame in enumerate(jpegs(stream)):
            yield Item(f"frame {number}", frame)
    elif _is_text(begin):
        for number, line in enumerate(lines(stream), 1):
            try:
                text = _decoded(line).strip()
            except DataError:
                yield Item(f"line {number}", b"")
                continue
            if text:
                yield Item(text, Path(text))
    elif begin:
        yield Item("picture", stream.read(MAX_FRAME_BYTES))


def is_film(stream: BufferedReader) -> bool:
    """Whether a stream is one of JPEGs, perhaps with heads between them; takes nothing of it."""
    return _START in stream.peek(512)[:512]


def sentences_in(stream: BufferedReader) -> Iterator[Item]:
    """A sentence a line, in UTF-8; blank lines are left out.

    Errors: `DataError` "source-encoding" for UTF-16.
    """
    begin = stream.peek(3)[:3]
    if begin[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError.of(
            "source-encoding", "text in UTF-16", "sentences are read as UTF-8", "save it as UTF-8"
        )
    for number, line in enumerate(lines(stream), 1):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if text.strip():
            yield Item(f"line {number}", text)


def lines(stream: BufferedReader) -> Iterator[bytes]:
    """Lines as they come, without their end; of one longer than 1 MiB, its begin."""
    while line := stream.readline(MAX_LINE_BYTES):
        more = line
        while more and not more.endswith(b"\n"):  # the end of the stream, or too long
            more = stream.readline(MAX_LINE_BYTES)
        yield line.rstrip(b"\r\n")


def jpegs(stream: BufferedReader) -> Iterator[bytes]:
    """JPEGs of a stream, each as soon as it is whole; what stands between them is left out.

    They are taken apart by their segments, so a thumbnail inside of one does not end it. The last
    one may be cut short. What is damaged is given as it is, and reading goes on behind it.
    """
    feed = _Feed(stream)
    while feed.seek_start():
        yield feed.picture()


class _Feed:
    """Bytes of a stream, held until a picture is whole."""

    def __init__(self, stream: BufferedReader):
        self._stream, self._held = stream, bytearray()

    def _more(self) -> bool:
        data = self._stream.read1(_CHUNK)  # what is there, without waiting for more
        self._held += data
        return bool(data)

    def seek_start(self) -> bool:
        """Drop what stands before the next picture; False at the end of the stream."""
        while (place := self._held.find(_START)) < 0:
            del self._held[:-1]  # the last byte may be half of a start
            if not self._more():
                return False
        del self._held[:place]
        return True

    def picture(self) -> bytes:
        """Take the picture that begins here, or as much of it as there is."""
        place = 2
        while True:
            mark, place = self._mark(place)
            if mark == _END or mark is None:
                break
            if mark == 0x01 or 0xD0 <= mark <= 0xD7:
                continue
            if not self._has(place + 2):
                break
            place += int.from_bytes(self._held[place : place + 2], "big")
            if mark == _SCAN:
                place = self._after_scan(place)
            if place > MAX_FRAME_BYTES:
                break
        taken = bytes(self._held[:place])
        del self._held[:place]
        return taken

    def _mark(self, place: int) -> tuple[int | None, int]:
        """The marker at a place and what follows it; None where there is none."""
        while self._has(place + 2):
            if self._held[place] != 0xFF:
                return None, place
            mark = self._held[place + 1]
            if mark != 0xFF:  # which may fill up
                return mark, place + 2
            place += 1
        return None, len(self._held)

    def _after_scan(self, place: int) -> int:
        """Where the next marker stands that is no part of the pixels."""
        while True:
            place = self._held.find(b"\xff", place)
            if place < 0 or place + 1 >= len(self._held):
                place = len(self._held) - 1 if place < 0 else place
                if len(self._held) > MAX_FRAME_BYTES or not self._more():
                    return len(self._held)
                continue
            if self._held[place + 1] != 0 and not 0xD0 <= self._held[place + 1] <= 0xD7:
                return place
            place += 2

    def _has(self, count: int) -> bool:
        while len(self._held) < count:
            if not self._more():
                return False
        return True


def _is_text(begin: bytes) -> bool:
    """Whether these are paths rather than a picture."""
    if re.match(rb"P[1-6]\s", begin):
        return False  # a picture whose head is text
    text = begin.decode("utf-8", "replace").rstrip("\ufffd")  # the last character may be cut
    return bool(text) and all(c.isprintable() or c.isspace() for c in text)


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError.of(
            "text-encoding",
            f"byte 0x{data[error.start]:02x} at offset {error.start}",
            "a sentence is UTF-8",
            "save it as UTF-8",
        ) from error
