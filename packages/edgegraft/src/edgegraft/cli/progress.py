"""Draws how work goes on, on stderr: loss curves on a terminal, a line per stage elsewhere."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

BARS = "▁▂▃▄▅▆▇█"
STAGES = frozenset({"stage", "done"})


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


class Progress:
    """A watch (`edgegraft.adapt.strategy.Watch`) that draws; use it in a ``with``."""

    def __init__(self, *, terminal: bool | None = None) -> None:
        self.terminal = sys.stderr.isatty() if terminal is None else terminal
        self.started = time.monotonic()
        self.status = ""
        self.curves: dict[str, list[float]] = {}
        self.epoch = ""
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
        if event == "epoch":
            self._follow(values)
            return
        self.curves, self.epoch = {}, ""
        self.status = f"{event}  {_phrase(values)}".strip()
        if event in STAGES:
            self._announce()

    def _follow(self, values: Mapping[str, Any]) -> None:
        self.epoch = f"epoch {values.get('epoch', '')}/{values.get('epochs', '')}"
        if values.get("epoch") == 1:
            self.curves = {}
        for name, value in values.items():
            if name not in ("epoch", "epochs") and isinstance(value, int | float):
                self.curves.setdefault(name, []).append(float(value))

    def _announce(self) -> None:
        line = f"{time.monotonic() - self.started:6.1f} s  {self.status}"
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def _draw(self) -> Any:
        from rich.text import Text

        lines = [f"          {self.status}  {self.epoch}".rstrip()] if self.status else []
        for name, curve in self.curves.items():
            lines.append(f"          {name:20} {curve[-1]:8.4f}  {sparkline(curve)}")
        return Text("\n".join(lines))


def _phrase(values: Mapping[str, Any]) -> str:
    """``{"name": "fit", "row": "probe"}`` as ``fit  row probe``; nothing is left out."""
    said = []
    for name, value in values.items():
        text = f"{value:.4g}" if isinstance(value, float) else value
        text = ", ".join(map(str, text)) if isinstance(text, list | tuple) else str(text)
        said.append(text if name == "name" else f"{name} {text}")
    return "  ".join(said)
