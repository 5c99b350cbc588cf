"""Draws how work goes on, on stderr: loss curves on a terminal, a line per stage elsewhere."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from edgegraft.cli.output import hang

BARS = "▁▂▃▄▅▆▇█"
STAGES = frozenset({"stage", "done"})
SHOWN = 4
"""Trainings drawn at a time."""
SILENCE_S = 20.0
"""Off a terminal, a training is heard of after this time at the latest."""
NUMBERS = frozenset({"epoch", "epochs", "fold"})
"""What an epoch tells that is no curve."""


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """A curve in one line of text, scaled from its lowest to its highest value.

    >>> sparkline([1.0, 2.0, 3.0])
    '▁▅█'
    """
    finite = [value for value in values if value == value and abs(value) != float("inf")]
    if not finite:
        return ""
    if len(finite) > width:  # the mean of equal stretches
        edges = [round(i * len(finite) / width) for i in range(width + 1)]
        finite = [sum(finite[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(finite), max(finite)
    span = (high - low) or 1.0
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in finite)


class Training:
    """One network in training: how far it is, and a curve for each figure that an epoch gives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.epoch = ""
        self.curves: dict[str, list[float]] = {}

    def follow(self, values: Mapping[str, Any]) -> None:
        if values.get("epoch") == 1:
            self.curves = {}
        self.epoch = f"epoch {values.get('epoch', '')}/{values.get('epochs', '')}"
        for name, value in values.items():
            if name not in NUMBERS and isinstance(value, int | float):
                self.curves.setdefault(name, []).append(float(value))

    @property
    def line(self) -> str:
        """All in one line, for a log."""
        said = [f"{name.replace('_', ' ')} {curve[-1]:.4f}" for name, curve in self.curves.items()]
        return "  ".join([self.name, self.epoch, *said])

    def lines(self, width: int) -> list[str]:
        """The name, then a line for each curve.

        >>> training = Training("tuning")
        >>> training.follow({"epoch": 1, "epochs": 2, "loss": 0.5})
        >>> training.follow({"epoch": 2, "epochs": 2, "loss": 0.25})
        >>> training.lines(80)
        ['tuning  epoch 2/2', '  loss                  0.2500  █▁']
        """
        room = max(8, min(60, width - 32))
        return [
            f"{self.name}  {self.epoch}".strip(),
            *(
                f"  {name.replace('_', ' '):20} {curve[-1]:7.4f}  {sparkline(curve, room)}"
                for name, curve in self.curves.items()
            ),
        ]


class Progress:
    """A watch (`edgegraft.adapt.strategy.Watch`) that draws; use it in a ``with``.

    Several trainings may tell of themselves at once, each from a thread of its own.
    """

    def __init__(self, *, terminal: bool | None = None) -> None:
        self.terminal = sys.stderr.isatty() if terminal is None else terminal
        self.started = self._said = time.monotonic()
        self.status = ""
        self.trainings: dict[int, Training] = {}
        self._rows = self._folds_done = 0
        self._lock = threading.Lock()
        self._live: Any = None

    def __enter__(self) -> Self:
        if self.terminal:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                get_renderable=self._draw,
                console=Console(stderr=True),
                refresh_per_second=8,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: str, values: Mapping[str, Any]) -> None:
        with self._lock:
            thread = threading.get_ident()
            if event in ("fold-start", "train"):
                self.trainings.pop(thread, None)
            elif event == "epoch":
                name = _name(values)
                if thread not in self.trainings or self.trainings[thread].name != name:
                    self.trainings[thread] = Training(name)
                self.trainings[thread].follow(values)
                if self._live is None and time.monotonic() - self._said > SILENCE_S:
                    self._announce("  " + self.trainings[thread].line)
            elif event == "fold":
                self._count(values)
            elif event in STAGES:
                self._begin(event, values)
            else:
                self.status = f"{event}  {_phrase(values)}".strip()

    def _begin(self, event: str, values: Mapping[str, Any]) -> None:
        self.trainings, self.status = {}, ""
        self._rows, self._folds_done = len(values.get("rows", ())), 0
        said = _phrase(values)
        self._announce(said if event == "stage" else f"{event}  {said}")

    def _count(self, values: Mapping[str, Any]) -> None:
        self._folds_done += 1
        self.status = f"{self._folds_done} of {self._rows * values['folds']} folds"
        if self._live is None and values["fold"] == values["folds"]:
            self._announce(f"  {values['row']} done, {self.status}")

    def _announce(self, said: str) -> None:
        self._said = time.monotonic()
        line = f"{time.monotonic() - self.started:6.1f} s  {said}"
        if self._live is not None:
            wrapped = hang(line, self._live.console.width)
            self._live.console.print(wrapped, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def _draw(self) -> Any:
        from rich.text import Text

        width = self._live.console.width if self._live is not None else 80
        with self._lock:
            lines = [self.status] if self.status else []
            for training in list(self.trainings.values())[:SHOWN]:
                lines += training.lines(width - 10)
        return Text("\n".join(" " * 10 + line for line in lines), no_wrap=True, overflow="ellipsis")


def _name(values: Mapping[str, Any]) -> str:
    row, fold = values.get("row", "training"), values.get("fold")
    return f"{row}" if fold is None else f"{row}  fold {fold}"


def _phrase(values: Mapping[str, Any]) -> str:
    """``{"name": "fit", "row": "probe"}`` as ``fit  row probe``; None says nothing."""
    said = []
    for name, value in values.items():
        if value is None:
            continue
        text = f"{value:.4g}" if isinstance(value, float) else value
        text = ", ".join(map(str, text)) if isinstance(text, list | tuple) else str(text)
        said.append(text if name == "name" else f"{name} {text}")
    return "  ".join(said)
