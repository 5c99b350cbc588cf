"""Estimates whose errors are known, for the tests of their scores and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgegraft.tasks.estimate_metrics import estimate_metrics
from edgegraft_edge.estimate import Outputs
from edgegraft_edge.signal import Array, Channel, Windows, WindowSpec

LIFE = Outputs(("life",), ("h",))
LOAD = Outputs(
    ("load", "heat"), ("kW", "degC"), steps=(1, 2, 3, 4), levels=(0.05, 0.25, 0.5, 0.75, 0.95)
)


@dataclass(frozen=True)
class Toy:
    """A task that is nothing but its outputs."""

    outputs: Outputs
    primary: str = "mse"
    name: str = "toy"

    @property
    def metrics(self):
        return estimate_metrics(self.outputs)

    def classes(self, windows: Windows) -> tuple[str, ...]:
        return self.outputs.columns

    def truth(self, windows: Windows, columns: Sequence[str]) -> Array:
        return windows.y


def series_windows(
    n_windows: int = 200, width: int = 24, outputs: Outputs = LOAD, seed: int = 0
) -> Windows:
    """Windows of one recording, each a sample after the last; targets are what comes next."""
    random = np.random.default_rng(seed)
    last = outputs.steps[-1]
    time = np.arange(n_windows + width + last)
    days = time / 24 * 2 * np.pi
    values = np.stack(
        [
            10 * (place + 1) + np.sin(days + place) + 0.2 * random.normal(size=len(time))
            for place in range(len(outputs.names))
        ]
    ).astype(np.float32)
    starts = np.arange(n_windows)
    x = np.stack([values[:, start : start + width] for start in starts])
    y = np.stack(
        [values[:, start + width - 1 + np.array(outputs.steps)].ravel() for start in starts]
    )
    channels = tuple(map(Channel, outputs.names, outputs.units))
    return Windows(
        x,
        y,
        np.full(n_windows, ""),
        WindowSpec(width * 3600.0, 3600.0, 1 / 3600, channels),
        np.zeros(n_windows, dtype=np.int64),
        starts,
        ("meter",),
    )


def unit_windows(n_units: int = 8, length: int = 30, seed: int = 0) -> Windows:
    """Run-to-failure units whose remaining life counts down from above a hundred."""
    random = np.random.default_rng(seed)
    lives = [length + int(random.integers(0, 20)) for _ in range(n_units)]
    y = np.concatenate([np.arange(life, 0, -1) for life in lives]).astype(np.float32)[:, None]
    groups = np.concatenate([np.full(life, f"unit {at}") for at, life in enumerate(lives)])
    number = np.concatenate([np.full(life, at) for at, life in enumerate(lives)])
    start = np.concatenate([np.arange(life) for life in lives])
    x = np.zeros((len(y), 1, 10), np.float32)
    spec = WindowSpec(10.0, 1.0, 1.0, (Channel("s1"),))
    return Windows(x, y, groups, spec, number, start, tuple(f"u{at}.csv" for at in range(n_units)))


def guesses(
    outputs: Outputs, windows: Windows, spread: float = 1.0, noise: float = 1.0, seed: int = 1
) -> Array:
    """Estimates off by normal errors, with quantiles of `spread` times these."""
    from scipy.special import ndtri

    random = np.random.default_rng(seed)
    truth = np.nan_to_num(windows.y.astype(np.float64))
    point = truth + noise * random.normal(size=truth.shape)
    quantiles = point[..., None] + spread * noise * ndtri(np.array(outputs.levels))
    return quantiles.reshape(len(windows), -1)


Tables = Mapping[str, Array]
