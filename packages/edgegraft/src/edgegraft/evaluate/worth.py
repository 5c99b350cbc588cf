"""What more labels are worth: an error curve so far, and how far it can honestly be drawn on.

Errors of learners fall about as a power of the number of labels towards a floor (C. Cortes and
others, Learning curves: asymptotic values and rate of convergence, NIPS 1993). The law is fitted
to scores at several numbers of labels; the interval comes from refits to repeats drawn with
replacement, widened by what one draw of labels gains more or less than another. Nothing is said
where the points do not carry it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgegraft_edge.signal import Array

EXPONENTS = np.linspace(0.1, 2.0, 39)
FEWEST_COUNTS, FEWEST_REPEATS = 4, 4
FARTHEST = 2.0
"""How many times as many labels as there are a curve is drawn on to, at most."""
N_DRAWS, LEVEL = 300, 0.9


@dataclass(frozen=True)
class PowerLaw:
    """An error of ``floor + scale * n ** -exponent`` with n labels.

    >>> round(PowerLaw(0.1, 0.5, 0.5)(25), 3)
    0.2
    """

    floor: float
    scale: float
    exponent: float

    def __call__(self, n_labels: float) -> float:
        return float(self.floor + self.scale * n_labels**-self.exponent)


@dataclass(frozen=True)
class Worth:
    """A curve so far and what the next labels may add.

    Attributes:
        counts: labelled windows that heads were fitted on.
        scores, low, high: mean accuracy on other labelled windows, and its range over repeats.
        n_labels, n_more: labels there are, and how many more are asked about.
        expected: accuracy at `n_labels + n_more` by the law, with its interval; None where
            nothing can be said, and `because` says why.
        gain: points of accuracy (as a share) that the next labels add; with an interval.
    """

    counts: tuple[int, ...]
    scores: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n_labels: int
    n_more: int
    expected: tuple[float, float, float] | None = None
    gain: tuple[float, float, float] | None = None
    because: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def power_law(counts: Sequence[float], errors: Sequence[float]) -> PowerLaw:
    """The law of least squares, floor and scale not below zero.

    >>> law = power_law([4, 9, 16, 25], [0.35, 0.1 + 0.5 / 3, 0.225, 0.2])
    >>> round(law.floor, 2), round(law.exponent, 2)
    (0.1, 0.5)
    """
    return _laws(np.asarray(counts, dtype=np.float64), np.asarray(errors, dtype=np.float64)[None])[
        0
    ]


def _laws(counts: Array, errors: Array) -> list[PowerLaw]:
    """The law of each row of errors (n_rows, n_counts).

    With two numbers not below zero, least squares is the free solution where that is allowed,
    else the better of the two with one of them zero.
    """
    falls = counts[None] ** -EXPONENTS[:, None]
    mean, level = falls.mean(axis=1), errors.mean(axis=1)
    away, goal = falls - mean[:, None], errors - level[:, None]
    free = (goal @ away.T) / np.square(away).sum(axis=1)
    alone = np.maximum((errors @ falls.T) / np.square(falls).sum(axis=1), 0)
    scale = np.where(free * mean > level[:, None], alone, np.maximum(free, 0))
    floor = np.maximum(level[:, None] - scale * mean, 0)
    left = np.square(errors[:, None] - floor[..., None] - scale[..., None] * falls).sum(axis=2)
    best = left.argmin(axis=1)
    rows = np.arange(len(errors))
    found = zip(floor[rows, best], scale[rows, best], EXPONENTS[best], strict=True)
    return [PowerLaw(*map(float, each)) for each in found]


def worth(
    counts: Sequence[int], scores: Array, n_labels: int, n_more: int, *, seed: int = 0
) -> Worth:
    """What the next labels may add, from scores at several numbers of labels.

    Args:
        counts: numbers of labels, rising.
        scores: accuracy (n_repeats, n_counts), each repeat on labels and test windows of its own.

    The law is drawn on to twice the labels at most. Nothing is said with fewer than four counts
    or repeats, or where the curve does not rise beyond what repeats differ by.

    >>> n, noise = np.array([4, 8, 16, 32]), np.random.default_rng(0).normal(0, 0.01, (8, 4))
    >>> found = worth(n, 0.9 - 0.8 / n + noise, n_labels=32, n_more=16)
    >>> found.gain[0] > 0, found.expected[1] <= found.expected[0] <= found.expected[2]
    (True, True)
    >>> worth(n[:2], noise[:, :2], 8, 4).because
    'too few labels for a curve'
    """
    scores = np.asarray(scores, dtype=np.float64)
    mean = scores.mean(axis=0) if len(scores) else np.zeros(0)
    found = Worth(
        tuple(int(n) for n in counts),
        tuple(mean.tolist()),
        tuple(scores.min(axis=0).tolist()) if len(scores) else (),
        tuple(scores.max(axis=0).tolist()) if len(scores) else (),
        n_labels,
        n_more,
    )
    if len(counts) < FEWEST_COUNTS or len(scores) < FEWEST_REPEATS:
        return _silent(found, "too few labels for a curve")
    if n_more > (FARTHEST - 1) * n_labels + 1e-9:
        return _silent(found, f"a curve of {n_labels} labels is not drawn on to more than twice")
    rise = scores[:, -1] - scores[:, 0]
    if rise.mean() <= 2 * rise.std(ddof=1) / np.sqrt(len(rise)):
        return _silent(found, "the curve does not rise beyond chance")
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(scores), (N_DRAWS, len(scores)))
    numbers = np.asarray(counts, dtype=np.float64)
    law, *laws = _laws(numbers, np.vstack([1 - mean, 1 - scores[drawn].mean(axis=1)]))
    at_end, after = n_labels, n_labels + n_more
    like = int(np.abs(np.log(numbers[:-1] / numbers[-1] * after / at_end)).argmin())
    chance = random.normal(0, (scores[:, -1] - scores[:, like]).std(ddof=1), N_DRAWS)
    gains = np.array([each(at_end) - each(after) for each in laws]) + chance
    said = np.minimum([1 - each(after) for each in laws] + chance, 1.0)
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(said, ends)
    least, most = np.quantile(gains, ends)
    at, gain = 1 - law(after), law(at_end) - law(after)
    return Worth(
        **{
            **asdict(found),
            "expected": (at, min(float(low), at), max(float(high), at)),
            "gain": (gain, min(float(least), gain), max(float(most), gain)),
            "because": "a power law through scores on labelled windows left out; "
            f"{100 * LEVEL:.0f} % interval of one draw",
        }
    )


def _silent(found: Worth, because: str) -> Worth:
    return Worth(**{**asdict(found), "because": because})
