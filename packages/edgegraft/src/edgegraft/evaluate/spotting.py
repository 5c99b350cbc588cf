"""Words found in a long stream: how many are missed, and how many are heard that were not said.

A stream with labelled spans is scored window by window as a device scores it, and decided by the
device's own decision at many thresholds. An event of a word counts for a span of that word if
its window lies in the span or near it; each span is found once. What counts for no span is a
false accept. So each threshold gives a false reject rate and false accepts per hour: a detection
error trade-off curve (Martin et al., The DET curve in assessment of detection task performance,
Eurospeech 1997, with false accepts by time, as is usual where most of the time nothing is said).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgegraft.evaluate.plots import Line, line_chart, percent
from edgegraft_edge.decision import Decision, Event, Predictions, decide
from edgegraft_edge.errors import DataError, OptionError, Problem, nearest
from edgegraft_edge.signal import Array, LabelSpan, Recording, Windows, series_spec
from edgegraft_edge.windowing import bind, cut

if TYPE_CHECKING:
    from markupsafe import Markup

THRESHOLDS = tuple(float(t) for t in np.r_[np.arange(0.0, 0.9, 0.05), np.arange(0.9, 1.0, 0.01)])


@dataclass(frozen=True)
class Spotting:
    """How events are decided and matched.

    Attributes:
        keywords: classes that are words to find; all that the stream labels, if none.
        tolerance_s: how far from a span the window of its event may lie.
        smooth, hold_off_s: of the decision.
    """

    keywords: tuple[str, ...] = field(
        default=(), metadata={"help": "words to find; all that the stream labels, if none"}
    )
    tolerance_s: float = field(
        default=0.25, metadata={"help": "how far from its span a word may be heard, in seconds"}
    )
    smooth: int = field(default=1, metadata={"help": "windows whose probabilities are averaged"})
    hold_off_s: float = field(
        default=0.0, metadata={"help": "seconds after an event until the next one"}
    )


@dataclass(frozen=True)
class Point:
    """What one threshold does.

    Attributes:
        false_accepts_per_hour: as counted; `at_most` is what it is below with 95 % confidence,
            if false accepts come independently (Garwood, Biometrika 1936).
        false_reject_rate: share of the spans that were missed.
    """

    threshold: float
    false_accepts: int
    false_accepts_per_hour: float
    at_most: float
    missed: int
    false_reject_rate: float


@dataclass(frozen=True)
class Curve:
    """Points by rising threshold, and what they were counted on."""

    points: tuple[Point, ...]
    keywords: tuple[str, ...]
    hours: float
    n_spans: int
    spotting: Spotting

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Model(Protocol):
    """What can be tried: a bundle or an adapted model."""

    @property
    def spec(self) -> Any: ...

    def predict(self, windows: Windows) -> Predictions: ...


@dataclass(frozen=True)
class Stream:
    """One recording as a device heard it.

    Attributes:
        predictions: of its windows in order.
        ends_s: when each ended, float (n_windows,), seconds from its start.
        spans: (start_s, stop_s, label).
    """

    predictions: Predictions
    ends_s: Array
    spans: tuple[tuple[float, float, str], ...]
    length_s: float


def heard(model: Model, recording: Recording) -> Stream:
    """Score a recording as a stream.

    Errors: `DataError` when channels or rate are not the model's, or no window fits.
    """
    spec = series_spec(model.spec)
    places = bind(spec, recording.channels, recording.rate_hz)
    x, starts = cut(recording.values[places], spec)
    if not len(x):
        raise DataError.of(
            "recordings-short",
            f"{recording.name or 'a stream'} of {recording.length_s:g} s",
            f"it does not hold a window of {spec.length_s:g} s",
            "a longer stream",
        )
    blank = np.full(len(x), "")
    predictions = model.predict(Windows(x, blank, blank, spec))
    spans = tuple(_seconds(span, recording.rate_hz) for span in recording.labels)
    ends_s = (starts + spec.n_timepoints) / spec.rate_hz
    return Stream(predictions, ends_s, spans, recording.length_s)


def spot(
    model: Model,
    recordings: Sequence[Recording],
    spotting: Spotting = Spotting(),
    thresholds: Sequence[float] = THRESHOLDS,
) -> Curve:
    """The curve of a model on streams with labelled spans.

    Errors: `DataError` "spans-none" when nothing is there to find; `OptionError`
    "keyword-unknown" for a word that the model does not know.
    """
    streams = [heard(model, recording) for recording in recordings]
    classes = streams[0].predictions.classes if streams else ()
    said = {label for stream in streams for _, _, label in stream.spans}
    keywords = spotting.keywords or tuple(sorted(said & set(classes)))
    unknown = [
        Problem("keyword-unknown", f"word {word!r}", "the model has no such class",
                nearest(word, list(classes)))
        for word in keywords
        if word not in classes
    ]  # fmt: skip
    if unknown:
        raise OptionError(unknown)
    n_spans = sum(label in keywords for stream in streams for _, _, label in stream.spans)
    if not n_spans:
        raise DataError.of(
            "spans-none",
            f"streams that label {', '.join(sorted(said)) or 'nothing'}",
            f"none of it is a word to find ({', '.join(keywords) or ', '.join(classes)})",
            "a file NAME.spans.csv beside each stream, with start_s,end_s,label",
        )
    hours = sum(stream.length_s for stream in streams) / 3600
    length_s = series_spec(model.spec).length_s
    points = []
    for threshold in thresholds:
        decision = Decision(threshold, spotting.smooth, spotting.hold_off_s)
        accepts = missed = 0
        for stream in streams:
            events = decide(decision, stream.predictions, stream.ends_s)
            found, false = matched(events, stream.spans, keywords, length_s, spotting.tolerance_s)
            accepts += false
            missed += sum(label in keywords for _, _, label in stream.spans) - found
        points.append(_point(threshold, accepts, missed, hours, n_spans))
    return Curve(
        tuple(points), keywords, hours, n_spans, replace(spotting, keywords=tuple(keywords))
    )


def matched(
    events: Sequence[Event],
    spans: Sequence[tuple[float, float, str]],
    keywords: Sequence[str],
    length_s: float,
    tolerance_s: float,
) -> tuple[int, int]:
    """How many spans were found, and how many events were of no span.

    A second event of a span that was found counts for nothing.

    >>> events = [Event(2.0, "yes", 0.9, "change"), Event(9.0, "yes", 0.9, "change")]
    >>> matched(events, [(1.2, 1.8, "yes")], ["yes"], 1.0, 0.25)
    (1, 1)
    """
    found: set[int] = set()
    false = 0
    for event in events:
        if event.label not in keywords or event.kind != "change":
            continue
        near = [
            index
            for index, (start_s, stop_s, label) in enumerate(spans)
            if label == event.label
            and event.at_s >= start_s - tolerance_s
            and event.at_s - length_s <= stop_s + tolerance_s
        ]
        fresh = [index for index in near if index not in found]
        if fresh:
            found.add(fresh[0])
        elif not near:
            false += 1
    return len(found), false


def choose_threshold(curve: Curve, per_hour: float = 1.0) -> Point:
    """The point that misses fewest words with at most so many false accepts an hour.

    Errors: `DataError` "threshold-none" when no threshold keeps to it, or "stream-short" when
    the streams are too short to tell.
    """
    if curve.hours * per_hour < 1 and any(point.false_accepts for point in curve.points):
        shortest = 1 / per_hour if per_hour > 0 else float("inf")
        raise DataError.of(
            "stream-short",
            f"{curve.hours:.2g} hours for {per_hour:g} false accepts an hour",
            f"less than {shortest:.2g} hours cannot hold even one of them",
            "a longer stream, above all of what is not said; or more false accepts an hour",
        )
    good = [point for point in curve.points if point.false_accepts_per_hour <= per_hour]
    if not good:
        best = min(curve.points, key=lambda point: point.false_accepts_per_hour)
        raise DataError.of(
            "threshold-none",
            f"at best {best.false_accepts_per_hour:.3g} false accepts an hour",
            f"no threshold gives {per_hour:g}",
            "more examples of what is not said under a label of their own, smoothing, a hold-off",
        )
    return min(good, key=lambda point: (point.false_reject_rate, -point.threshold))


def det_plot(curve: Curve) -> Markup:
    """False reject rate over false accepts per hour, the lowest that some threshold gives.

    The horizontal axis is logarithmic; none at all stands at half of one in all hours.
    """
    least = 0.5 / max(curve.hours, 1e-9)
    rows = sorted((max(p.false_accepts_per_hour, least), p.false_reject_rate) for p in curve.points)
    x, y, lowest = [], [], float("inf")
    for across, up in rows:
        if up < lowest:
            lowest = up
            x.append(across)
            y.append(up)
    if len(x) == 1:  # one threshold is best everywhere: a level line says so
        x, y = [x[0], max(x[0] * 10, rows[-1][0])], [y[0], y[0]]
    return line_chart(
        [Line("", x, y)],
        x_label="false accepts per hour",
        says="Share of words missed over false accepts per hour",
        logarithmic=True,
        y_format=percent,
    )


def _point(threshold: float, accepts: int, missed: int, hours: float, n_spans: int) -> Point:
    from scipy.stats import chi2

    bound = float(chi2.ppf(0.95, 2 * (accepts + 1))) / 2
    return Point(
        round(threshold, 4), accepts, accepts / hours, bound / hours, missed, missed / n_spans
    )


def _seconds(span: LabelSpan, rate_hz: float) -> tuple[float, float, str]:
    return span.start / rate_hz, span.stop / rate_hz, span.label
