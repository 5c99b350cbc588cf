"""Push samples, get events: the only place that joins windows, backend and decision."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from edgegraft_edge import backends
from edgegraft_edge.backends import numpy as reference
from edgegraft_edge.bundle import Bundle, score
from edgegraft_edge.clock import DRIFT, MAX_DRIFT, Clock
from edgegraft_edge.decision import Decision, Event
from edgegraft_edge.derived import Derivation
from edgegraft_edge.errors import DataError, EdgegraftError, OptionError
from edgegraft_edge.gauge import judge_of
from edgegraft_edge.program import split
from edgegraft_edge.rounding import allowed
from edgegraft_edge.signal import Array, Channel, series_spec
from edgegraft_edge.windowing import Ring, bind, measured

PREFERRED = ("litert", "onnx", "executorch")
"""Runtimes in the order that a device takes them; others follow by name, then ``numpy``."""


@dataclass
class Counters:
    """What a runner has seen. Every sample pushed is accepted, late or a repeat.

    Attributes:
        accepted, late, repeated: samples.
        not_finite: accepted samples with NaN or infinity in a channel that is used.
        gaps, clock_back: breaks after which windows and smoothing start anew.
        windows: windows completed; `skipped` of them were not whole and not scored.
        unsure: windows below the threshold.
        events: events given.
        rate_off: measurements of the rate that were more than 2 % off.
    """

    accepted: int = 0
    late: int = 0
    repeated: int = 0
    not_finite: int = 0
    gaps: int = 0
    clock_back: int = 0
    windows: int = 0
    skipped: int = 0
    unsure: int = 0
    events: int = 0
    rate_off: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


class Runner:
    """Runs a bundle on a live stream, in bounded memory.

    Args:
        bundle: as read.
        backend: a name, a `Backend`, or None for the NumPy reference, whose streamed scores
            equal `Bundle.predict` exactly.
        channels: what the source gives, in its order, with units where known; bound by name.
            None means exactly the measured channels of the bundle. Derived ones are computed.
        rate_hz: what the source says of its rate, if it says.
        decision: in place of the one in the bundle.

    Attributes:
        derivation: of derived channels, or None without any; its `memory` is what a device keeps
            over a restart.

    Errors: `DataError` when channels, units or rate do not fit; `OptionError` or `ModelError`
    from the backend.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: str | backends.Backend | None = None,
        *,
        channels: Sequence[Channel | str] | None = None,
        rate_hz: float | None = None,
        decision: Decision | None = None,
    ):
        self.bundle = bundle
        self.spec = series_spec(bundle.spec)
        taken = measured(self.spec)
        given = taken.channels if channels is None else channels
        self._places = bind(taken, given, rate_hz)
        self._n_given = len(given)
        self._run = open_model(bundle, backend or "numpy")
        self._ring = Ring(self.spec)
        self.derivation = (
            Derivation(self.spec.channels, self.spec.rate_hz) if taken != self.spec else None
        )
        self._decider = judge_of(decision or bundle.decision, bundle.classes, bundle.outputs)
        self._clock = Clock(self.spec.rate_hz, late_s=self.spec.length_s)
        self._counters = Counters()
        self._seen = 0  # samples in the ring's count since the last break

    @property
    def counters(self) -> Counters:
        """A copy of the counters."""
        return replace(self._counters)

    def push(self, samples: Any, *, at_s: float | None = None) -> list[Event]:
        """Take samples and give the events they cause.

        Args:
            samples: (n_channels, any count), channels in the order given to the runner.
            at_s: time of the first sample in seconds; None continues at the rate.

        Errors: `DataError` for another number of channels, for a time that is no number, and
        when the timestamps show a rate more than 10 % off.
        """
        samples = np.asarray(samples)
        if samples.ndim != 2 or samples.shape[0] != self._n_given:
            raise DataError.of(
                "channel-count",
                f"samples of shape {samples.shape}",
                f"the runner was told of {self._n_given} channels",
                "push (n_channels, n_timepoints)",
            )
        count = samples.shape[1]
        if count == 0:
            return []
        place, start_s = self._clock.place(at_s, count)
        if place == "late" or place == "repeat":
            self._counters.late += count * (place == "late")
            self._counters.repeated += count * (place == "repeat")
            return []
        self._break(place)
        self._check_rate()
        self._counters.accepted += count
        events: list[Event] = []
        piece = 4 * self.spec.n_timepoints  # a long chunk must not hold all its windows
        for first in range(0, count, piece):
            part = samples[self._places, first : first + piece]
            events += self._take(part, start_s + first / self.spec.rate_hz)
        return events

    def _break(self, place: str) -> None:
        if place == "next":
            return
        self._ring.reset()
        self._seen = 0
        if self.derivation is not None:
            self.derivation.gap()
        if place == "back":
            self._counters.clock_back += 1
            self._decider.restart()
        else:
            self._counters.gaps += 1
            self._decider.reset()

    def _check_rate(self) -> None:
        drift = self._clock.drift()
        if drift is None or abs(drift) <= DRIFT:
            return
        self._counters.rate_off += 1
        if abs(drift) > MAX_DRIFT:
            rate_hz = self.spec.rate_hz
            raise DataError.of(
                "rate-mismatch",
                f"timestamps at {rate_hz * (1 + drift):.4g} Hz for windows at {rate_hz:g} Hz",
                "every pattern would run too fast or too slow",
                f"resample the source to {rate_hz:g} Hz, or name the unit of its timestamps",
            )

    def _take(self, samples: Array, start_s: float) -> list[Event]:
        spec, counters, events = self.spec, self._counters, []
        with np.errstate(over="ignore"):
            samples = np.asarray(samples, dtype=np.float32)
        counters.not_finite += int((~np.isfinite(samples)).any(axis=0).sum())
        if self.derivation is not None:
            samples = self.derivation.push(samples, start_s)
        for start, window in self._ring.push(samples):
            last = start + spec.n_timepoints - 1 - self._seen
            event = self._decider.step(
                round(start_s + last / spec.rate_hz, 6), self._probabilities(window)
            )
            counters.unsure += self._decider.reason == "threshold"
            if event is not None:
                events.append(event)
        self._seen += samples.shape[1]
        counters.events += len(events)
        return events

    def _probabilities(self, window: Array) -> Array | None:
        self._counters.windows += 1
        if not np.isfinite(window).all():
            self._counters.skipped += 1
            return None
        bundle = self.bundle
        row: Array = score(self._run, window[None], bundle.spec, bundle.classes)[0]
        return row


def open_model(bundle: Bundle, backend: str | backends.Backend) -> backends.Run:
    """The model of a bundle in a runtime, by name or with a backend that has options.

    Errors: `OptionError` for an unknown or missing runtime, `BundleError` when the bundle has no
    model for it, `ModelError` when the runtime cannot run that model.
    """
    found = backends.find(backend) if isinstance(backend, str) else backend
    run = found.open(bundle.model(found.name))
    readers = None if found.name == "numpy" else split(bundle.program)[0]
    if readers is None:
        return run
    read = reference.guard(readers)
    return lambda x: run(read(x))


@dataclass(frozen=True)
class Choice:
    """The runtime that a device takes for a bundle.

    Attributes:
        runtime: its name.
        passed: runtimes that would have come before it -> why they were not taken.
    """

    runtime: str
    passed: Mapping[str, str]

    def __str__(self) -> str:
        names: dict[str, list[str]] = {}
        for name, reason in self.passed.items():
            names.setdefault(reason, []).append(name)
        why = "; ".join(f"{', '.join(those)}: {reason}" for reason, those in names.items())
        return f"runtime {self.runtime}" + (f" ({why})" if why else "")


def pick(bundle: Bundle) -> Choice:
    """The first runtime for which the bundle has a model that opens on this machine.

    In the order of `PREFERRED`; ``numpy`` is last, since every bundle runs in it.
    """
    known = [name for name in backends.names() if name != "numpy"]
    order = [*(n for n in PREFERRED if n in known), *(n for n in known if n not in PREFERRED)]
    passed = {}
    for name in order:
        if name not in bundle.manifest.models:
            passed[name] = "not in the bundle"
            continue
        try:
            open_model(bundle, name)
        except EdgegraftError as error:
            absent = error.code == "extra-missing"
            passed[name] = "not installed" if absent else str(error)
        else:
            return Choice(name, passed)
    return Choice("numpy", passed)


@dataclass(frozen=True)
class Parity:
    """How one runtime compares with the golden windows.

    Attributes:
        runtime: its name.
        status: ``ok``, ``differs``, ``failed`` (with a reason) or ``absent`` (not installed).
        reason: why, unless ok.
        max_abs, max_rel: largest difference of a probability or an estimate.
        labels_agree: windows whose label (or estimates) are the same, of `n_windows`.
        latency_ms: median time of one window.
    """

    runtime: str
    status: Literal["ok", "differs", "failed", "absent"]
    reason: str = ""
    max_abs: float = 0.0
    max_rel: float = 0.0
    labels_agree: int = 0
    n_windows: int = 0
    latency_ms: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


def verify(
    bundle: Bundle, backends: Sequence[str] | None = None, *, tolerance: float | None = None
) -> tuple[Parity, ...]:
    """Compute the golden windows in each runtime and compare.

    Args:
        backends: names of runtimes; None for all the bundle has a model for.
        tolerance: largest difference of a probability that passes; None for what `rounding.allowed`
            says of each. Labels must agree too, except where the golden probabilities
            themselves are closer than twice this.
    """
    return tuple(_parity(bundle, name, tolerance) for name in backends or bundle.runtimes)


def _parity(bundle: Bundle, runtime: str, tolerance: float | None) -> Parity:
    try:
        run = open_model(bundle, runtime)
        found = score(run, bundle.golden, bundle.spec, bundle.classes)
    except EdgegraftError as error:
        absent = isinstance(error, OptionError) and error.code == "extra-missing"
        return Parity(runtime, "absent" if absent else "failed", str(error))
    expected = bundle.expected
    if tolerance is None:
        room = allowed(bundle.program, bundle.golden, expected, bundle.outputs)
    else:
        room = np.full(expected.shape, tolerance)
    ms = latency_ms(run, bundle)
    return compared(runtime, found, expected, room, ms, estimates=bundle.outputs is not None)


def compared(
    runtime: str,
    found: Array,
    expected: Array,
    room: Array,
    latency_ms: float = 0.0,
    *,
    estimates: bool = False,
) -> Parity:
    """What a runtime gave, held against what it should have given.

    Args:
        found, expected: probabilities or estimates (n_windows, n_columns).
        room: how far each may be; labels must agree but where the best two are closer than twice.
        estimates: there are no labels; windows agree whose estimates do.
    """
    difference = np.abs(found - expected)
    if estimates:
        agree = (difference <= room).all(axis=1)
        close = agree
    else:
        agree = found.argmax(axis=1) == expected.argmax(axis=1)
        ordered = np.sort(expected, axis=1)
        close = ordered[:, -1] - ordered[:, -2:].min(axis=1) <= 2 * room.max(axis=1)
    passed = bool((difference <= room).all() and (agree | close).all())
    what = "estimates" if estimates else "probabilities or labels"
    why = f"{what} differ by more than {float(room.max()):.2g}"
    return Parity(
        runtime=runtime,
        status="ok" if passed else "differs",
        reason="" if passed else why,
        max_abs=float(difference.max()),
        max_rel=float((difference / np.maximum(np.abs(expected), 1e-6)).max()),
        labels_agree=int(agree.sum()),
        n_windows=len(found),
        latency_ms=latency_ms,
    )


def agreed(found: Sequence[Parity], asked: Sequence[str] | None = None) -> bool:
    """Whether all of them agree. One that is not installed counts only if it was asked for."""
    asked = asked or ()
    return all(one.ok or (one.status == "absent" and one.runtime not in asked) for one in found)


def latency_ms(run: backends.Run, bundle: Bundle) -> float:
    """Median time of one golden window, here."""
    times = []
    for window in bundle.golden[np.arange(9) % len(bundle.golden), None]:
        begin = time.perf_counter()
        run(window)
        times.append(time.perf_counter() - begin)
    return round(1000 * float(np.median(times)), 3)
