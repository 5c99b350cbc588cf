"""From the scores of a watch to alarms: a beginning, an end, a severity, as rare as was asked."""

from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import dataclass

from edgegraft_edge.decision import Event
from edgegraft_edge.errors import OptionError
from edgegraft_edge.watch import Watch

ANOMALY = "anomaly"
SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0, "week": 604_800.0,
           "month": 2_592_000.0, "year": 31_536_000.0}  # fmt: skip
_RATE = re.compile(r"\s*([0-9.]+)\s*(?:/|per\s)\s*([a-z]+?)s?\s*")
_MEASURED = 64
_SMALLEST = 1e-12


@dataclass(frozen=True)
class FalseAlarms:
    """How many false alarms are allowed: a number per time, or a share of samples.

    Attributes:
        per_s: alarms a second, or None.
        share: of samples, or None.

    >>> FalseAlarms.parse("1/day").p(period_s=300.0) == 1 / 288
    True
    >>> FalseAlarms.parse("0.1%").p(period_s=1.0)
    0.001
    """

    per_s: float | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> FalseAlarms:
        """From ``1/day``, ``2 per week``, ``0.001`` or ``0.1%``.

        Errors: `OptionError` ``false-alarms``.
        """
        words, found = text.strip().lower(), None
        try:
            if match := _RATE.fullmatch(words):
                found = cls(per_s=float(match.group(1)) / SECONDS[match.group(2)])
            else:
                found = cls(share=float(words.removesuffix("%")) / (100 if "%" in words else 1))
        except (ValueError, KeyError):
            pass
        if (
            found is None
            or not 0 < (found.per_s or found.share or 0) < (math.inf, 1)[found.per_s is None]
        ):
            raise OptionError.of(
                "false-alarms", f"false alarms {text!r}",
                "that is neither a number per time nor a share of samples between 0 and 1",
                "1/day, 2/week, 0.001 or 0.1%",
            )  # fmt: skip
        return found

    def p(self, period_s: float) -> float:
        """The p-value at which a sample is an alarm.

        Args:
            period_s: seconds from sample to sample.
        """
        return self.share if self.share is not None else min((self.per_s or 0) * period_s, 1.0)


class Alarms:
    """Turns what a watch says of each sample into events.

    An ``alarm`` begins with a sample that is rarer than allowed. It is over, and an ``end`` tells
    so, when none was for `gap` samples, or when the stream ends. ``severity`` is the decimal
    digits of rarity, ``-log10 p``; of an end the highest. ``values`` are those of each channel.

    Args:
        allowed: rate of false alarms.
        names: of the channels.
        period_s: seconds from sample to sample; None to measure it.
        gap: so many usual samples end an alarm.

    >>> watch, alarms = Watch(), Alarms(FalseAlarms.parse("1/day"), ("load",), period_s=60.0)
    >>> for n in range(900):
    ...     score = watch.push(5.0 if 800 <= n < 810 else (n * n) % 7 / 7)
    ...     event = alarms.step(n * 60.0, watch)
    ...     if event is not None:
    ...         print(event.kind, event.at_s / 60)
    alarm 800.0
    end 801.0
    """

    def __init__(
        self,
        allowed: FalseAlarms,
        names: tuple[str, ...],
        *,
        period_s: float | None = None,
        gap: int = 30,
    ):
        self.allowed, self.names, self.gap = allowed, names, gap
        self.period_s = period_s
        self.events = 0
        self._measure = period_s is None
        self._steps: deque[float] = deque(maxlen=_MEASURED)
        self._before: float | None = None
        self._usual = 0
        self._open: Event | None = None
        self._last_s = 0.0

    def step(self, at_s: float, watch: Watch) -> Event | None:
        """The event of the sample that the watch has just scored, if there is one."""
        self._follow(at_s)
        if self.period_s is not None and watch.p <= self.allowed.p(self.period_s):
            self._usual, self._last_s = 0, at_s
            return self._beyond(at_s, watch)
        self._usual += 1
        return self.finish() if self._usual > self.gap else None

    def finish(self) -> Event | None:
        """The end of an alarm that still stands, at its last rare sample."""
        found, self._open = self._open, None
        if found is None:
            return None
        return Event(
            self._last_s, ANOMALY, found.probability, "end", severity=found.severity,
            started_s=found.started_s, values=found.values,
        )  # fmt: skip

    def _beyond(self, at_s: float, watch: Watch) -> Event | None:
        severity = round(-math.log10(max(watch.p, _SMALLEST)), 3)
        values = {
            name: round(value, 3) for name, value in zip(self.names, watch.surprises, strict=True)
        }
        before = self._open
        if before is not None and before.severity >= severity:
            return None
        started_s = at_s if before is None else before.started_s
        found = Event(
            at_s, ANOMALY, round(1 - watch.p, 6), "alarm", severity=severity,
            started_s=started_s, values=values,
        )  # fmt: skip
        self._open = found
        if before is not None:
            return None
        self.events += 1
        return found

    def _follow(self, at_s: float) -> None:
        """Measure the period: the median of the last steps forward."""
        before, self._before = self._before, at_s
        if not self._measure or before is None or at_s <= before:
            return
        self._steps.append(at_s - before)
        n = len(self._steps)
        # Anew each time while there are few; a period does not change with every sample.
        if n < _MEASURED or self._usual % _MEASURED == 0:
            self.period_s = sorted(self._steps)[n // 2]
