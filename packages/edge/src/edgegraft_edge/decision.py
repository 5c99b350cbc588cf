"""From scores to labels to events: thresholds, smoothing, hold-off, abstain."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np

from edgegraft_edge.errors import OptionError, Problem, nearest
from edgegraft_edge.signal import Array

UNSURE = "unsure"
Emit = Literal["change", "window"]


@dataclass(frozen=True)
class Predictions:
    """What a predictor says of windows.

    Attributes:
        classes: names of the columns.
        probabilities: float32 (n_windows, n_classes).

    >>> Predictions(("a", "b"), np.array([[0.2, 0.8]])).labels.tolist()
    ['b']
    """

    classes: tuple[str, ...]
    probabilities: Array

    @property
    def labels(self) -> Array:
        """Text (n_windows,): the class with the highest probability."""
        labels: Array = np.asarray(self.classes)[self.probabilities.argmax(axis=1)]
        return labels


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

    def __post_init__(self) -> None:
        wrong = {
            "threshold": not _is_number(self.threshold) or not 0.0 <= self.threshold <= 1.0,
            "smooth": type(self.smooth) is not int or not 1 <= self.smooth <= 10_000,
            "hold_off_s": not _is_number(self.hold_off_s) or not 0.0 <= self.hold_off_s < math.inf,
            "emit": self.emit not in ("change", "window"),
        }
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
        return asdict(self)

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


@dataclass(frozen=True)
class Event:
    """Something that a device has to say.

    Attributes:
        at_s: when its last window ended, seconds since 1970 (or since the start of the stream).
        label: the class, or ``"unsure"``.
        probability: smoothed probability of the most probable class; 0.0 for a skipped window.
        kind: ``change`` (another label than before) or ``window`` (the same label goes on).
        reason: why it is unsure: ``threshold``, or ``skipped`` for a window that was not whole.
    """

    at_s: float
    label: str
    probability: float
    kind: Emit
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Decider:
    """Decides window by window; batch and stream go through this one place.

    `reason` says why the last window was unsure; "" when it was not.

    >>> decider = Decider(Decision(threshold=0.6), ("rest", "walk"))
    >>> [decider.step(at_s, np.array(p)) for at_s, p in [(1.0, [0.9, 0.1]), (2.0, [0.8, 0.2])]]
    [Event(at_s=1.0, label='rest', probability=0.9, kind='change', reason=''), None]
    >>> decider.step(3.0, np.array([0.5, 0.5])).label
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
