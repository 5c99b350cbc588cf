"""Orders of rolling bearings, and the combs of lines that their faults leave in a spectrum.

An order is a frequency in turns of the shaft. A fault of the outer race is struck by every ball
(BPFO times a turn), one of the inner race too, but it passes through the load with the shaft; a
fault of a ball strikes both races in each spin and passes through the load with the cage. See
R. B. Randall and J. Antoni, Rolling element bearing diagnostics, 2011.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, radians

import numpy as np

from edgegraft_edge.errors import OptionError
from edgegraft_edge.signal import Array

FAULTS = ("outer", "inner", "ball")
_SLIPS = 25


@dataclass(frozen=True)
class Bearing:
    """Fault orders: of the outer race, inner race, spin of a ball, and cage.

    >>> found = Bearing.of(n_balls=9, ball_mm=7.94, pitch_mm=39.04)
    >>> [round(order, 2) for order in (found.bpfo, found.bpfi, found.bsf, found.ftf)]
    [3.58, 5.42, 2.36, 0.4]
    """

    bpfo: float
    bpfi: float
    bsf: float
    ftf: float

    @classmethod
    def of(cls, n_balls: int, ball_mm: float, pitch_mm: float, angle_deg: float = 0.0) -> Bearing:
        """From the geometry; the outer race stands still."""
        ratio = ball_mm / pitch_mm * cos(radians(angle_deg))
        ftf = 0.5 * (1 - ratio)
        bsf = pitch_mm / (2 * ball_mm) * (1 - ratio**2)
        return cls(n_balls * ftf, n_balls * (1 - ftf), bsf, ftf)

    @property
    def faults(self) -> dict[str, float]:
        """The order at which each fault strikes."""
        return dict(zip(FAULTS, (self.bpfo, self.bpfi, 2 * self.bsf), strict=True))


def bearing_from(values: Mapping[str, float]) -> Bearing | None:
    """A bearing from the options that say something of it, or None where none does.

    `values` may hold bpfo, bpfi, bsf and ftf, or n_balls, ball_mm, pitch_mm and angle_deg; 0 is
    not given. Of orders without `ftf`, those that are missing follow from the others.

    Errors: `OptionError` ``bearing-form``.

    >>> bearing_from({"bpfo": 3.585, "bpfi": 5.415, "bsf": 2.357}).ftf
    0.3983333333333333
    """
    geometry = [values.get(name, 0) for name in ("n_balls", "ball_mm", "pitch_mm")]
    orders = {name: float(values.get(name, 0)) for name in ("bpfo", "bpfi", "bsf", "ftf")}
    if not any(geometry) and not any(orders.values()):
        return None
    if all(geometry) and not any(orders.values()):
        n_balls, ball, pitch = geometry
        if n_balls >= 3 and 0 < ball < pitch and abs(values.get("angle_deg", 0)) < 90:
            return Bearing.of(int(n_balls), ball, pitch, values.get("angle_deg", 0))
    elif not any(geometry) and orders["bpfi"] > orders["bpfo"] > 0 and orders["bsf"] > 0:
        total = orders["bpfo"] + orders["bpfi"]  # the number of balls
        ftf = orders["ftf"] or orders["bpfo"] / round(total)
        if abs(total - round(total)) < 0.05 * total and 0 < ftf < 0.5:
            return Bearing(orders["bpfo"], orders["bpfi"], orders["bsf"], ftf)
    raise OptionError.of(
        "bearing-form",
        ", ".join(f"{name}={value:g}" for name, value in values.items() if value),
        "that describes no bearing",
        "n_balls, ball_mm and pitch_mm (and angle_deg), or bpfo, bpfi and bsf in turns of the "
        "shaft, with bpfi above bpfo and a whole number as their sum",
    )


@dataclass(frozen=True)
class Comb:
    """Lines that stand in a spectrum together: harmonics of an order, each with sidebands.

    Attributes:
        name: what it tells of.
        order: of the first harmonic.
        harmonics: which of its multiples.
        sides: orders that are added to each; (0,) for the line itself.
        slip: share by which the order may be off, as balls slip.
    """

    name: str
    order: float
    harmonics: tuple[int, ...]
    sides: tuple[float, ...] = (0.0,)
    slip: float = 0.012

    @property
    def orders(self) -> Array:
        """Of its lines without slip, (n_lines,)."""
        lines = np.multiply(self.harmonics, self.order)[:, None] + np.array(self.sides)
        found: Array = lines.ravel()
        return found

    def slipped(self) -> Array:
        """Orders of its lines, (n_slips, n_lines): all harmonics slip by the same share."""
        slips = np.linspace(-self.slip, self.slip, _SLIPS)[:, None, None]
        lines = np.multiply(self.harmonics, self.order)[:, None] * (1 + slips)
        found: Array = (lines + np.array(self.sides)).reshape(_SLIPS, -1)
        return found


def fault_combs(bearing: Bearing, slip: float = 0.012) -> tuple[Comb, ...]:
    """The combs of a bearing: of each fault three, of their sidebands, of the spin of a ball."""
    combs = [
        Comb(f"{name} 1-{most}", order, tuple(range(1, most + 1)), slip=slip)
        for name, order in bearing.faults.items()
        for most in (1, 2, 3)
    ]
    ball = 2 * bearing.bsf
    return (
        *combs,
        Comb("inner by shaft", bearing.bpfi, (1, 2), (-1.0, 1.0), slip),
        Comb("ball by cage", ball, (1, 2), (-bearing.ftf, bearing.ftf), slip),
        Comb("ball by shaft", ball, (1, 2), (-1.0, 1.0), slip),
        Comb("ball spin", bearing.bsf, (1, 3), slip=slip),
    )


def shaft_combs(n_orders: int) -> tuple[Comb, ...]:
    """One comb for each order of the shaft."""
    return tuple(Comb(f"shaft {n}", float(n), (1,), slip=0.005) for n in range(1, n_orders + 1))


TURNING = Comb("shaft 1-4", 1.0, (1, 2, 3, 4), slip=0.005)
"""What everything that turns with the shaft leaves in an envelope."""


def hats(places: Array, n_bins: int) -> Array:
    """Weights float64 (n_bins, n_places) that read a spectrum between its bins, linearly.

    >>> hats(np.array([1.25]), 4)[:, 0].tolist()
    [0.0, 0.75, 0.25, 0.0]
    """
    away = np.abs(np.arange(n_bins)[:, None] - np.asarray(places)[None])
    weights: Array = np.maximum(0.0, 1.0 - away)
    return weights
