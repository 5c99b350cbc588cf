"""Made-up machines: a shaft, noise, and perhaps a bearing with a fault."""

from __future__ import annotations

import numpy as np

from edgegraft.zoo.bearing import Bearing
from edgegraft_edge.signal import Windows

RATE_HZ, TURNS_HZ = 6000.0, 25.0
BEARING = Bearing.of(9, 7.94, 39.04)
GIVEN = {"n_balls": 9, "ball_mm": 7.94, "pitch_mm": 39.04}


def machine(order: float, turns_hz: float = TURNS_HZ, seed: int = 0, strength: float = 4.0):
    """One second of noise, of shaft tones, and of ringing at 1700 Hz struck at an order."""
    rng, n = np.random.default_rng(seed), 6000
    time = np.arange(n) / RATE_HZ
    x = rng.normal(size=n) + 3 * np.sin(2 * np.pi * turns_hz * time) + np.sin(8 * turns_hz * time)
    if order:
        strikes = np.zeros(n)
        period = RATE_HZ / (order * turns_hz * 1.005)  # some slip
        at = np.arange(rng.uniform(0, period), n - 1, period) + rng.normal(0, 0.01 * period)
        strikes[np.clip(at.astype(int), 0, n - 1)] = strength * 6
        ring = np.exp(-np.arange(60) / 12) * np.sin(2 * np.pi * 1700 * np.arange(60) / RATE_HZ)
        x += np.convolve(strikes, ring)[:n]
    return x


def windows(*rows: np.ndarray, speeds: tuple[float, ...] = ()) -> Windows:
    x = np.stack(rows)[:, None]
    if not speeds:
        return Windows.of(x, rate_hz=RATE_HZ, channels=["vib"])
    turning = np.broadcast_to(np.array(speeds)[:, None, None], x.shape)
    return Windows.of(np.concatenate([x, turning], axis=1), rate_hz=RATE_HZ, channels=["vib", "n"])
