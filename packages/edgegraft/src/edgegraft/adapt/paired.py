"""Does an expert beat the reference? A paired test, and a mixture that cannot lose much.

Both go by what each says of labelled windows that were left out of its training, window beside
window. Windows of one group (a person, a machine) err together, so the test flips whole groups
and the mixture counts as many windows as are worth independent ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgegraft_edge.signal import Array, Windows

LEAST = 1e-12
"""Probabilities below this count as this, so that a single zero is dear but not infinite."""
TESTED_LEAST = 1e-3
"""The floor within the test: there no single window may decide."""
N_EXACT = 12
N_FLIPS = 8191
MIXED_LOSS = float(np.log(2.0))
"""Nats that the mixture may lose to the reference over all labelled windows together."""


def surprise(likely: Array, least: float = LEAST) -> Array:
    """Negative logarithm of the probability of what was true, floored."""
    return np.asarray(-np.log(np.maximum(likely, least)))


def units_of(windows: Windows) -> Array:
    """What errs together, int (n_windows,): the group, or the recording where none is known.

    >>> units_of(Windows.of(np.zeros((3, 1, 8)), groups=["p", "q", "p"])).tolist()
    [0, 1, 0]
    """
    if windows.has_groups:
        return np.asarray(np.unique(windows.groups, return_inverse=True)[1])
    return np.asarray(np.unique(windows.recording, return_inverse=True)[1])


def sign_flip(gains: Array, units: Array, *, seed: int = 0) -> float:
    """One-sided p-value of "no gain": how often random signs of whole units sum to as much.

    Where units are independent and their sums symmetric about zero under the null, flipping is
    exact, however windows within a unit go together. Left-out scores of different units are not
    quite independent, as they come from training on nearly the same windows: what random signs
    give is widened by ``sqrt(1 + k / (k - 1))`` for k units, as the verdict's interval is. All
    patterns of signs are tried up to 12 units (fewer than five can never reach .05), 8191 drawn
    ones above.

    Args:
        gains: reference's loss less the expert's, for each window (n_windows,).
        units: what errs together (n_windows,).

    Source: Fisher, The Design of Experiments, 1935, section 21; Phipson and Smyth, Permutation
    p-values should never be zero, 2010; Nadeau and Bengio, Inference for the generalization
    error, Machine Learning 2003.

    >>> sign_flip(np.full(6, 0.1), np.arange(6))
    0.015625
    """
    sums = np.bincount(np.unique(units, return_inverse=True)[1], weights=gains)
    sums = sums[sums != 0]
    if len(sums) < 2 or sums.sum() <= 0:
        return 1.0
    widening = np.sqrt(1 + len(sums) / (len(sums) - 1))
    reach = min(sums.sum() / widening, np.abs(sums).sum()) - 1e-9 * np.abs(sums).sum()
    if len(sums) <= N_EXACT:
        bits = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        return float((((2.0 * bits - 1) @ sums) >= reach).mean())
    flips = np.random.default_rng(seed).integers(0, 2, (N_FLIPS, len(sums))) * 2.0 - 1
    return float((1 + (flips @ sums >= reach).sum()) / (1 + N_FLIPS))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values raised such that all of them together err at the level, in their order.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    raised, highest = [0.0] * len(order), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        raised[index] = highest
    return raised


def independent(losses: Array, units: Array) -> float:
    """How many independent windows these are worth, between the units and the windows.

    By the design effect ``1 + (m - 1) r``, where ``m`` is the size of a unit and ``r`` the
    correlation within units of the losses (one-way analysis of variance, worst column). The
    estimate is drawn to 1/2 with the weight of ten windows beyond the first of their unit, since
    few labels tell little of it.

    Args:
        losses: (n_windows, n_columns).

    Source: Kish, Survey Sampling, 1965, section 5.4.

    >>> units = np.repeat([0, 1, 2], 4)
    >>> bool(3 <= independent(units[:, None] * 1.0, units) < 5)
    True
    """
    _, units, counts = np.unique(units, return_inverse=True, return_counts=True)
    n_windows, n_units = len(units), len(counts)
    spare = n_windows - n_units
    if not spare:
        return float(n_windows)
    size = float((counts**2).sum() / n_windows)
    found = 0.0
    if n_units > 1:
        means = np.stack([np.bincount(units, weights=row) / counts for row in losses.T], axis=1)
        within = ((losses - means[units]) ** 2).sum(axis=0) / spare
        between = (counts[:, None] * (means - losses.mean(axis=0)) ** 2).sum(axis=0) / (n_units - 1)
        usual = (n_windows - size) / (n_units - 1)
        total = between + (usual - 1) * within
        share = (between - within) / np.where(total > 0, total, 1.0)
        found = float(np.clip(share, 0.0, 1.0).max(initial=0.0))
    correlation = (spare * found + 10 * 0.5) / (spare + 10)
    return float(np.clip(n_windows / (1 + (size - 1) * correlation), n_units, n_windows))


@dataclass(frozen=True)
class Wager:
    """A mixture that was paid window by window; the reference is column 0.

    Attributes:
        weights: of the next window (n_experts,), summing to one.
        mixture, reference: cumulative log loss over the windows, in nats; the first is at most
            the second and ln 2.
        temper: share of the evidence that counts: independent windows over windows.
    """

    weights: Array
    mixture: float
    reference: float
    temper: float

    @property
    def holds(self) -> bool:
        """Whether the bound is met, to within rounding."""
        return self.mixture <= self.reference + MIXED_LOSS + 1e-9 * (1 + abs(self.reference))


def wager(likely: Array, temper: float = 1.0) -> Wager:
    """Weigh the reference and its experts by Bayes' rule, one window after the other.

    The reference begins with ``2 ** -temper`` and the experts share the rest. Evidence counts by
    ``temper``: weights are proportional to prior times likelihood to that power. For a power of
    at most one a mixture is concave in it, so the cumulative log loss is at most the
    reference's less ``log(prior) / temper``, which this prior makes the reference's and ln 2 for
    any probabilities and any order. With ``temper`` 1 the prior is 1/2 and it is Bayes' mixture.

    Args:
        likely: probability of what was true by each, the reference first (n_windows, n_experts).

    Source: Littlestone and Warmuth, The Weighted Majority Algorithm, 1994; Cesa-Bianchi and Lugosi,
    Prediction, Learning, and Games, 2006, section 3.3.

    >>> found = wager(np.array([[0.5, 0.9], [0.5, 0.9], [0.5, 0.0]]))
    >>> found.holds, found.weights.round(3).tolist()
    (True, [1.0, 0.0])
    """
    n_experts = likely.shape[1]
    temper = float(np.clip(temper, 1e-3, 1.0))
    first = 2.0**-temper if n_experts > 1 else 1.0
    prior = np.full(n_experts, (1 - first) / max(1, n_experts - 1))
    prior[0] = first
    losses = surprise(likely)
    paid = np.concatenate([np.zeros((1, n_experts)), np.cumsum(losses, axis=0)])
    logs = np.log(prior) - temper * paid
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    mixed = (weights[:-1] * np.exp(-losses)).sum(axis=1)
    return Wager(weights[-1], float(-np.log(mixed).sum()), float(losses[:, 0].sum()), temper)
