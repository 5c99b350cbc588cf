"""From scores to labels to events: thresholds, smoothing, hold-off, abstain."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np

from edgegraft_edge.errors import ModelError, OptionError, Problem, nearest
from edgegraft_edge.estimate import POINT, Estimates, Outputs
from edgegraft_edge.signal import Array

UNSURE = "unsure"
Emit = Literal["change", "window"]
EventKind = Literal["change", "window", "estimate", "alarm", "end"]


@dataclass(frozen=True)
class Predictions:
    """What a predictor says of windows.

    Attributes:
        classes: names of the columns.
        probabilities: float32 (n_windows, n_classes); of a task that estimates, its numbers.
        outputs: what the columns are, where they are estimates.

    >>> Predictions(("a", "b"), np.array([[0.2, 0.8]])).labels.tolist()
    ['b']
    """

    classes: tuple[str, ...]
    probabilities: Array
    outputs: Outputs | None = None

    @property
    def labels(self) -> Array:
        """Text (n_windows,): the class with the highest probability."""
        labels: Array = np.asarray(self.classes)[self.probabilities.argmax(axis=1)]
        return labels

    @property
    def estimates(self) -> Estimates:
        """The numbers by quantity, step and level. Errors: `ModelError` "no-estimates"."""
        if self.outputs is None:
            raise ModelError.of(
                "no-estimates",
                f"probabilities of {', '.join(self.classes[:8])}",
                "this model tells classes apart and estimates nothing",
                "use labels and probabilities",
            )
        return Estimates.of(self.outputs, self.probabilities)


@dataclass(frozen=True)
class Decision:
    """How probabilities become events. It travels in the bundle, so no threshold gets lost.

    Errors: `OptionError` with every option that is out of its range.

    >>> Decision(threshold=0.6, smooth=3).as_dict()["smooth"]
    3
    """

    threshold: float = field(
        default=0.0,
        metadata={"help": "Below this smoothed probability (0 to 1) the answer is 'unsure'."},
    )
    smooth: int = field(
        default=1, metadata={"help": "Average the probabilities of this many last windows."}
    )
    hold_off_s: float = field(
        default=0.0, metadata={"help": "After a change, wait this many seconds for the next one."}
    )
    emit: Emit = field(
        default="change", metadata={"help": "Give an event at each 'change' or for each 'window'."}
    )
    low: float | None = field(
        default=None, metadata={"help": "Of estimates: an alarm where one falls to this or below."}
    )
    high: float | None = field(
        default=None, metadata={"help": "Of estimates: an alarm where one rises to this or above."}
    )
    of: str = field(
        default="",
        metadata={"help": "Of estimates: the quantity that low and high are for; all if none."},
    )
    sure: float = field(
        default=POINT,
        metadata={
            "help": "How sure an alarm of an estimate must be (0 to 1): 0.5 goes by the point, "
            "0.95 by the end of the interval farther from the border, 0.05 by the nearer."
        },
    )

    def __post_init__(self) -> None:
        wrong = {
            "threshold": not _is_number(self.threshold) or not 0.0 <= self.threshold <= 1.0,
            "smooth": type(self.smooth) is not int or not 1 <= self.smooth <= 10_000,
            "hold_off_s": not _is_number(self.hold_off_s) or not 0.0 <= self.hold_off_s < math.inf,
            "emit": self.emit not in ("change", "window"),
            "low": self.low is not None and not _is_number(self.low),
            "high": self.high is not None and not _is_number(self.high),
            "of": not isinstance(self.of, str),
            "sure": not _is_number(self.sure) or not 0.0 < self.sure < 1.0,
        }
        if not wrong["low"] and not wrong["high"] and None not in (self.low, self.high):
            wrong["high"] = not self.low < self.high  # type: ignore[operator]
        problems = [
            Problem(
                "decision-option",
                f"{name} = {getattr(self, name)!r}",
                "that is outside its range",
                f"{entry.metadata['help']} The default is {entry.default!r}",
            )
            for entry in fields(self)
            if wrong[name := entry.name]
        ]
        if problems:
            raise OptionError(problems)

    def as_dict(self) -> dict[str, Any]:
        """Every option; those of estimates only where they were chosen, as few bundles have any."""
        unset = {
            name for name in ("low", "high", "of", "sure") if getattr(self, name) == _UNSET[name]
        }
        return {name: value for name, value in asdict(self).items() if name not in unset}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Decision:
        """The inverse of `as_dict`; an unknown option is an error that says the nearest."""
        known = [entry.name for entry in fields(cls)]
        problems = [
            Problem("decision-option", f"option {name!r}", "unknown", nearest(str(name), known))
            for name in data
            if name not in known
        ]
        if problems:
            raise OptionError(problems)
        return cls(**data)


_UNSET = {entry.name: entry.default for entry in fields(Decision)}


@dataclass(frozen=True)
class Event:
    """Something that a device has to say.

    Attributes:
        at_s: when its last window ended, seconds since 1970 (or since the start of the stream).
        label: the class, or ``"unsure"``; of estimates ``"within"``, ``"low"`` or ``"high"``.
        probability: smoothed probability of the most probable class; 0.0 for a skipped window. Of
            an alarm, how probable it is that the value lies beyond the border.
        kind: ``change`` (another label than before), ``window`` (the same label goes on),
            ``estimate`` (numbers of one window), ``alarm`` (a border was crossed, or an anomaly
            goes on), ``end`` (it is over).
        reason: why it is unsure: ``threshold``, or ``skipped`` for a window that was not whole.
        severity: how far beyond the border, 0.0 where nothing is; in what unit is said where an
            event is made.
        started_s: when what it tells of began, None where that is `at_s`.
        values: of estimates, by column (``"life@0.5"``); of anomalies, e.g. the share of channels.
    """

    at_s: float
    label: str
    probability: float
    kind: EventKind
    reason: str = ""
    severity: float = 0.0
    started_s: float | None = None
    values: Mapping[str, float] = field(default_factory=dict, hash=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain values; what few events have stands there only where it says something."""
        found = {**asdict(self), "values": dict(self.values)}
        unsaid: dict[str, Any] = {"severity": 0.0, "started_s": None, "values": {}}
        return {name: value for name, value in found.items()
                if name not in unsaid or value != unsaid[name]}  # fmt: skip


class Decider:
    """Decides window by window; batch and stream go through this one place.

    `reason` says why the last window was unsure; "" when it was not.

    >>> decider = Decider(Decision(threshold=0.6), ("rest", "walk"))
    >>> first, second = [decider.step(1.0, np.array([0.9, 0.1])), decider.step(2.0, np.ones(2) / 2)]
    >>> first.as_dict()
    {'at_s': 1.0, 'label': 'rest', 'probability': 0.9, 'kind': 'change', 'reason': ''}
    >>> second.label
    'unsure'
    """

    def __init__(self, decision: Decision, classes: Sequence[str]):
        self.decision = decision
        self.classes = tuple(classes)
        self._recent: deque[Array] = deque(maxlen=decision.smooth)
        self._said: tuple[str, str] | None = None
        self._changed_s = -math.inf
        self.reason = ""

    def reset(self) -> None:
        """Forget the probabilities so far, as after a gap; what was said last still stands."""
        self._recent.clear()

    def restart(self) -> None:
        """Forget everything, as when the clock has jumped and earlier times mean nothing."""
        self.reset()
        self._said, self._changed_s = None, -math.inf

    def step(self, at_s: float, probabilities: Array | None) -> Event | None:
        """The event of one window, if there is one.

        Args:
            at_s: when the window ended.
            probabilities: (n_classes,); None for a window that could not be scored.
        """
        label, probability, reason = self._judge(probabilities)
        self.reason = reason
        if (label, reason) != self._said and self._may_change(at_s):
            self._said, self._changed_s = (label, reason), at_s
            return Event(at_s, label, probability, "change", reason)
        if self.decision.emit == "change" or self._said is None:
            return None
        held, why = self._said
        return Event(at_s, held, probability, "window", why)

    def _judge(self, probabilities: Array | None) -> tuple[str, float, str]:
        if probabilities is None:
            self._recent.clear()
            return UNSURE, 0.0, "skipped"
        self._recent.append(np.asarray(probabilities, dtype=np.float64))
        smoothed = np.mean(np.stack(self._recent), axis=0)
        best = int(np.argmax(smoothed))
        probability = round(float(smoothed[best]), 6)
        if probability < self.decision.threshold:
            return UNSURE, probability, "threshold"
        return self.classes[best], probability, ""

    def _may_change(self, at_s: float) -> bool:
        # The small allowance keeps 3 x 0.1 s from falling short of 0.3 s.
        return at_s - self._changed_s >= self.decision.hold_off_s - 1e-6


def decide(
    decision: Decision, predictions: Predictions, ends_s: Iterable[float]
) -> tuple[Event, ...]:
    """Events of a whole unbroken recording.

    Args:
        predictions: of its windows, in order of time.
        ends_s: when each window ended (n_windows,).
    """
    decider = Decider(decision, predictions.classes)
    steps = zip(ends_s, predictions.probabilities, strict=True)
    found = (decider.step(float(at_s), row) for at_s, row in steps)
    return tuple(event for event in found if event is not None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
