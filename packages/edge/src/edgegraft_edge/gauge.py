"""From estimates to events: the numbers of each window, and alarms where they cross a border."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from edgegraft_edge.decision import UNSURE, Decider, Decision, Event, EventKind, Predictions
from edgegraft_edge.errors import OptionError, nearest
from edgegraft_edge.estimate import POINT, Outputs
from edgegraft_edge.signal import Array
from edgegraft_edge.spells import ANOMALY, Spells

WITHIN, LOW, HIGH = "within", "low", "high"
Side = Literal["low", "high"]


class Gauge:
    """Judges estimates window by window; batch and stream go through this one place.

    With a border (`Decision.low` or `high`) a window whose estimate lies at it or beyond raises
    an ``alarm`` when none of that side stands, and a ``change`` tells when it is over. Any step
    may cross, of the quantity `Decision.of` or of any; `reason` names the one that lies farthest
    beyond, and `values` are those of that quantity.
    ``severity`` is how far, in the unit of the quantity. Without a border, or with ``emit``
    "window", each window gives its numbers, an ``estimate``.

    Args:
        decision: `low`, `high`, `of` and `sure`; `smooth` averages the last estimates,
            `hold_off_s` is the least time between two changes of state; the threshold is for
            classes.
        outputs: what the numbers are.

    Errors: `OptionError` "sure-level" when the model has no quantile for `sure`,
    "quantity-unknown" for another name than those of the model.

    >>> gauge = Gauge(Decision(low=30.0), Outputs(("life",), ("h",)))
    >>> gauge.step(1.0, np.array([40.0, 50.0, 60.0])) is None
    True
    >>> alarm = gauge.step(2.0, np.array([10.0, 25.0, 40.0]))
    >>> alarm.kind, alarm.label, alarm.severity, alarm.probability
    ('alarm', 'low', 5.0, 0.65)
    """

    def __init__(self, decision: Decision, outputs: Outputs):
        self.decision, self.outputs = decision, outputs
        self._columns = _columns_of(outputs, decision.of)
        self._targets = [name for at, name in enumerate(outputs.targets)
                         if at * len(outputs.levels) in self._columns]  # fmt: skip
        self.bounded = decision.low is not None or decision.high is not None
        self._places = {
            LOW: _place(outputs, decision.sure),
            HIGH: _place(outputs, 1 - decision.sure),
        } if self.bounded else {}  # fmt: skip
        self._recent: deque[Array] = deque(maxlen=decision.smooth)
        self._said: tuple[str, str] = (WITHIN, "")
        self._changed_s = -math.inf
        self.reason = ""

    def reset(self) -> None:
        """Forget the estimates so far, as after a gap; an alarm that was raised still stands."""
        self._recent.clear()

    def restart(self) -> None:
        """Forget everything, as when the clock has jumped and earlier times mean nothing."""
        self.reset()
        self._said, self._changed_s = (WITHIN, ""), -math.inf

    def step(self, at_s: float, row: Array | None) -> Event | None:
        """The event of one window, if there is one.

        Args:
            at_s: when the window ended.
            row: the estimates (n_columns,); None for a window that could not be judged.
        """
        if row is None:
            self._recent.clear()
            self.reason = "skipped"
            return self._event(at_s, UNSURE, "", 0.0, 0.0, {})
        self.reason = ""
        self._recent.append(np.asarray(row, dtype=np.float64))
        smoothed: Array = np.asarray(np.mean(np.stack(self._recent), axis=0))
        numbers: Array = np.round(smoothed, 6)
        columns = self.outputs.columns
        values = {columns[at]: float(numbers[at]) for at in self._columns}
        side, target, beyond, probability = self._beyond(smoothed)
        return self._event(at_s, side, target, beyond, probability, values)

    def _event(
        self,
        at_s: float,
        label: str,
        target: str,
        beyond: float,
        probability: float,
        values: dict[str, float],
    ) -> Event | None:
        reason = "skipped" if label == UNSURE else target
        kind: EventKind = "estimate"
        # The small allowance keeps 3 x 0.1 s from falling short of 0.3 s.
        waited = at_s - self._changed_s >= self.decision.hold_off_s - 1e-6
        if self.bounded and label != self._said[0] and waited:
            self._said, self._changed_s = (label, reason), at_s
            kind = "alarm" if label in (LOW, HIGH) else "change"
        elif self.bounded and self.decision.emit == "change":
            return None
        elif self.bounded and label != self._said[0]:
            (label, reason), beyond, probability = self._said, 0.0, 0.0  # what still stands
        far = round(beyond, 6)
        return Event(at_s, label, probability, kind, reason, severity=far, values=values)

    def _beyond(self, row: Array) -> tuple[str, str, float, float]:
        """Which border is crossed, by which target, how far, and how probably."""
        worst = (WITHIN, "", 0.0, 0.0)
        if not self.bounded:
            return worst
        table = row[self._columns.start : self._columns.stop].reshape(-1, len(self.outputs.levels))
        for side, border in ((LOW, self.decision.low), (HIGH, self.decision.high)):
            if border is None:
                continue
            sign = 1.0 if side == LOW else -1.0
            depth = sign * (border - table[:, self._places[side]])
            target = int(np.argmax(depth))
            if depth[target] >= 0 and (worst[0] == WITHIN or depth[target] > worst[2]):
                below = below_border(self.outputs.levels, table[target], border)
                probability = round(below if side == LOW else 1 - below, 6)
                name = self._targets[target] if len(table) > 1 else ""
                worst = (side, name, float(depth[target]), probability)
        return worst


def below_border(levels: Sequence[float], quantiles: Array, border: float) -> float:
    """The probability of a value at the border or below, read between the quantiles.

    Beyond the outermost quantiles it is no more than they say: at least the lowest level where
    the border lies under all of them, at most the highest above; a point alone says 0 or 1.

    >>> round(below_border((0.05, 0.5, 0.95), np.array([10.0, 25.0, 40.0]), 30.0), 6)
    0.65
    >>> below_border((0.5,), np.array([25.0]), 30.0)
    1.0
    """
    if len(levels) == 1:
        return float(border >= quantiles[0])
    rising = np.maximum.accumulate(np.asarray(quantiles, dtype=np.float64))
    return float(np.interp(border, rising, levels))


def gauged(
    decision: Decision, predictions: Predictions, ends_s: Iterable[float]
) -> tuple[Event, ...]:
    """Events of a whole unbroken recording.

    Args:
        predictions: estimates of its windows, in order of time.
        ends_s: when each window ended (n_windows,).

    Errors: `ModelError` "no-estimates" for a model that tells classes apart, `OptionError`.
    """
    gauge = Gauge(decision, predictions.estimates.outputs)
    steps = zip(ends_s, predictions.probabilities, strict=True)
    found = (gauge.step(float(at_s), row) for at_s, row in steps)
    return tuple(event for event in found if event is not None)


def judge_of(
    decision: Decision, classes: Sequence[str], outputs: Outputs | None
) -> Decider | Gauge:
    """What turns the columns of a model into events: by what the columns are.

    >>> type(judge_of(Decision(), ("a", "b"), None)).__name__
    'Decider'
    """
    if outputs is not None:
        return Gauge(decision, outputs)
    two = len(classes) == 2 and ANOMALY in classes
    return Spells(decision, classes) if two else Decider(decision, classes)


def _columns_of(outputs: Outputs, quantity: str) -> range:
    """The columns of one quantity, or all."""
    if not quantity:
        return range(outputs.n_columns)
    if quantity not in outputs.names:
        raise OptionError.of(
            "quantity-unknown",
            f"of={quantity!r}",
            "the model does not estimate that",
            nearest(quantity, outputs.names),
        )
    width = outputs.n_columns // len(outputs.names)
    first = outputs.names.index(quantity) * width
    return range(first, first + width)


def _place(outputs: Outputs, level: float) -> int:
    """Where the quantile of a level stands."""
    near = np.abs(np.asarray(outputs.levels) - level)
    if near.min() < 1e-6:
        return int(near.argmin())
    known = ", ".join(f"{each:g}" for each in outputs.levels)
    raise OptionError.of(
        "sure-level",
        f"sure: the quantile {level:g}",
        f"the model estimates {known}",
        f"sure={POINT:g}, or one of these and its complement",
    )
