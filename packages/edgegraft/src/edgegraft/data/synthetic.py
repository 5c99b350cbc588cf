"""A small made-up data set for documentation and tests: three movements of a wrist sensor."""

from __future__ import annotations

import numpy as np

from edgegraft.data.account import RowAccount
from edgegraft.data.dataset import Dataset
from edgegraft.data.source import DataOptions
from edgegraft_edge.errors import OptionError, nearest
from edgegraft_edge.signal import Array, Channel, Windows, WindowSpec

CLASSES = ("circle", "idle", "shake")
CHANNELS = (Channel("acc_x", "m/s2"), Channel("acc_y", "m/s2"), Channel("acc_z", "m/s2"))
_DEFAULTS = {"n": 180.0, "seed": 0.0, "groups": 6.0, "rate_hz": 50.0, "length_s": 2.0, "noise": 0.6}


class SyntheticSource:
    """Labelled, grouped windows from ``synthetic:`` or ``synthetic:n=200,seed=1``.

    Each group (person) has a tempo, a strength and a way of wearing the sensor of its own, so
    that a model has something to adapt to.

    >>> SyntheticSource().open("synthetic:n=6,groups=2", DataOptions()).ready.groups.tolist()
    ['person-0', 'person-1', 'person-0', 'person-1', 'person-0', 'person-1']
    """

    def accepts(self, uri: str) -> bool:
        return uri == "synthetic" or uri.startswith("synthetic:")

    def open(self, uri: str, options: DataOptions) -> Dataset:
        values = _parse(uri.partition(":")[2])
        n_windows, n_groups = int(values["n"]), max(1, int(values["groups"]))
        rate_hz, length_s = (
            options.rate_hz or values["rate_hz"],
            options.window_s or values["length_s"],
        )
        random = np.random.default_rng(int(values["seed"]))
        spec = WindowSpec(length_s, length_s, rate_hz, CHANNELS)
        # The group changes fastest, so that every class meets every group.
        group = np.arange(n_windows) % n_groups
        label = np.arange(n_windows) // n_groups % len(CLASSES)
        x = _movements(label, group, spec, values["noise"], random)
        ready = Windows(
            x,
            np.array(CLASSES)[label],
            np.array([f"person-{number}" for number in group]),
            spec,
            names=tuple(f"{uri}#{number}" for number in range(n_windows)),
        )
        account = RowAccount(n_windows, n_windows)
        return Dataset(ready=ready, account=account, options=options, uri=uri)


def _movements(
    label: Array, group: Array, spec: WindowSpec, noise: float, random: np.random.Generator
) -> Array:
    """float32 (n_windows, n_channels, n_timepoints): gravity, a movement, and noise."""
    n_groups = int(group.max(initial=0)) + 1
    tempo = random.uniform(0.8, 1.3, n_groups)[group]
    strength = random.uniform(0.7, 1.4, n_groups)[group]
    tilt = random.uniform(-0.5, 0.5, n_groups)[group]
    phase = random.uniform(0, 2 * np.pi, len(label))
    time_s = np.arange(spec.n_timepoints) / spec.rate_hz
    frequency = np.choose(label, [1.2, 0.3, 4.0]) * tempo * random.uniform(0.9, 1.1, len(label))
    angle = 2 * np.pi * frequency[:, None] * time_s + phase[:, None]
    size = (np.choose(label, [3.0, 0.1, 5.0]) * strength)[:, None]
    turns = np.choose(label, [1.0, 0.5, 0.1])[:, None]
    x = np.stack(
        [size * np.sin(angle), size * turns * np.cos(angle), 0.2 * size * np.sin(2 * angle)], 1
    )
    x[:, 1] += 9.81 * np.sin(tilt)[:, None]
    x[:, 2] += 9.81 * np.cos(tilt)[:, None]
    return np.asarray(x + noise * random.standard_normal(x.shape), dtype=np.float32)


def _parse(text: str) -> dict[str, float]:
    values = dict(_DEFAULTS)
    for part in filter(None, (item.strip() for item in text.split(","))):
        name, _, value = part.partition("=")
        if name not in values:
            raise OptionError.of(
                "option-unknown",
                f"{name!r}",
                "synthetic data has no such option",
                nearest(name, list(values)),
            )
        try:
            values[name] = float(value)
        except ValueError:
            raise OptionError.of(
                "option-value", f"{part!r}", "a number is needed", f"{name}={_DEFAULTS[name]:g}"
            ) from None
    return values
