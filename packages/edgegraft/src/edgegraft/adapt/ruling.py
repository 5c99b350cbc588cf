"""What is served of a reference and its experts: decided by left-out windows, told as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgegraft.adapt.adapted import SMALLEST
from edgegraft.adapt.calibration import best_temperature, log_loss, softmax
from edgegraft.adapt.paired import (
    MIXED_LOSS,
    TESTED_LEAST,
    Wager,
    holm,
    independent,
    sign_flip,
    surprise,
    wager,
)
from edgegraft_edge.signal import Array

Rule = Literal["test", "mixture", "structure", "source-only"]

LEAST_SHARE = 0.05
"""An expert with less of the mixture is not worth its place on a device."""
TEMPERATURES = np.geomspace(0.35, 4.0, 25)
CAUTION = 20.0
"""How many further windows speak for leaving probabilities as they are."""
N_PARTS = 10
"""Into so many parts the units go when the guard's own left-out probabilities are worked out."""


@dataclass(frozen=True)
class Tables:
    """What each way says of the labelled windows, left out of its training; the reference first.

    Attributes:
        probabilities: float64 (n_ways, n_windows, n_classes), at the temperature that suits each.
        temperatures: these, (n_ways,).
        codes: the classes, int (n_windows,).
        units: what errs together, int (n_windows,).
        classes: names, the columns.
    """

    probabilities: Array
    temperatures: Array
    codes: Array
    units: Array
    classes: tuple[str, ...]

    @property
    def likely(self) -> Array:
        """Probability of what was true (n_windows, n_ways)."""
        return np.asarray(self.probabilities[:, np.arange(len(self.codes)), self.codes].T)

    @property
    def right(self) -> Array:
        """Whether the likeliest class was true, bool (n_windows, n_ways)."""
        return np.asarray((self.probabilities.argmax(axis=2) == self.codes).T)


@dataclass(frozen=True)
class Ruling:
    """Weights of the reference and of the experts, in this order, with why.

    Attributes:
        p_values: of each expert beside the reference, raised for their number (Holm); None where
            nothing was tested.
        wager: the mixture and its bound; None without left-out windows.
    """

    rule: Rule
    weights: Array
    because: tuple[str, ...]
    p_values: tuple[float | None, ...]
    wager: Wager | None = None


def tables_of(found: Sequence[tuple[Array, Sequence[str]]], labels: Array, units: Array) -> Tables:
    """Left-out probabilities of all ways with the same classes, each at its own temperature.

    Args:
        found: of each way, float64 (n_windows, its n_classes) and the names of its classes.
        labels: what was true, text (n_windows,).
    """
    classes = tuple(sorted({name for _, names in found for name in names}))
    codes = np.array([classes.index(label) for label in labels.tolist()])
    stack = np.zeros((len(found), len(labels), len(classes)))
    temperatures = np.ones(len(found))
    for number, (table, names) in enumerate(found):
        own = np.array([list(names).index(label) for label in labels.tolist()])
        cooled, temperatures[number] = calibrated(table, own)
        stack[number][:, [classes.index(name) for name in names]] = cooled
    return Tables(stack, temperatures, codes, units, classes)


def calibrated(table: Array, codes: Array) -> tuple[Array, float]:
    """Probabilities (n_windows, n_classes) at the temperature that suits them, and that.

    So an expert is not taken for worse, or for better, because it says too much or too little.
    """
    logs = np.log(np.maximum(table, SMALLEST))
    temperature = best_temperature(logs, codes, TEMPERATURES, caution=CAUTION)[0]
    return softmax(logs / temperature), temperature


def by_labels(
    likely: Array,
    right: Array,
    units: Array,
    *,
    alpha: float,
    seed: int,
    doubted: Sequence[bool] = (),
) -> Ruling:
    """Weights from left-out windows: the experts that pass the test, or else the mixture.

    The test asks for less log loss (floored, so that no single window decides) and no less
    accuracy. Experts that pass share by their tempered likelihoods; their cumulative log loss,
    and so that of their mixture, is below the reference's. Otherwise the wager is between the
    reference and, for each expert, the even mixture of both: so the reference keeps half at
    least, however much better an expert looks on few windows, and the bound stays. Of an expert's
    share so much goes back to the reference as chance explains: twice its own p-value.

    Args:
        likely: probability of what was true, the reference first (n_windows, n_ways).
        right: whether the likeliest class was true (n_windows, n_ways).
        units: what errs together (n_windows,).
        doubted: of each expert, whether something else speaks against it: it gets no share of the
            mixture then, but may pass the test.

    >>> likely = np.tile([0.4, 0.8, 0.1], (12, 1))
    >>> found = by_labels(likely, likely > 0.5, np.arange(12), alpha=0.05, seed=0)
    >>> found.rule, found.weights.tolist()
    ('test', [0.0, 1.0, 0.0])
    """
    losses, floored = surprise(likely), surprise(likely, TESTED_LEAST)
    temper = independent(losses, units) / len(losses)
    mixed = np.flatnonzero(~np.resize(doubted or False, likely.shape[1] - 1)) + 1
    even = (likely[:, :1] + likely[:, mixed]) / 2
    found = wager(np.concatenate([likely[:, :1], even], axis=1), temper)
    assert found.holds, "a mixture lost more than its bound"
    gains = floored[:, :1] - floored[:, 1:]
    chances = np.array([sign_flip(gain, units, seed=seed) for gain in gains.T])
    p_values = holm(chances.tolist())
    total = losses.sum(axis=0)
    sound = (right[:, 1:].mean(axis=0) >= right[:, 0].mean()) & (total[1:] < total[0])
    passed = (np.array(p_values) <= alpha) & sound
    if passed.any():
        weights = np.exp(-temper * (total - total[1:][passed].min()))
        weights *= np.concatenate([[False], passed])
    else:
        weights = np.zeros(likely.shape[1])
        sure = np.maximum(0, 1 - 2 * chances[mixed - 1])
        weights[mixed] = found.weights[1:] / 2 * sure
        weights[0] = 1 - weights.sum()
    weights[weights < LEAST_SHARE * weights.sum()] = 0.0
    weights /= weights.sum()
    mean = losses.mean(axis=0)
    first = "dropped: an expert passed the test" if passed.any() else "the mixture's share"
    because = [first]
    for number, p in enumerate(p_values, 1):
        if passed[number - 1]:
            why = "passed the test" if weights[number] else "passed the test, another did better"
        elif passed.any():
            why = "did not pass the test, another did"
        elif weights[number]:
            why = "did not pass the test, mixed in"
        elif number not in mixed:
            why = "did not pass the test"
        else:
            why = "no better on left-out windows"
        because.append(f"{why} (log loss {mean[number]:.2f} beside {mean[0]:.2f}, p {p:.2g})")
    rule: Rule = "test" if passed.any() else "mixture"
    return Ruling(rule, weights, tuple(because), (None, *p_values), found)


def left_out(tables: Tables, *, alpha: float, seed: int, doubted: Sequence[bool] = ()) -> Array:
    """What is served, of windows left out (n_windows, n_classes): others decide their weights."""
    out = np.zeros(tables.probabilities.shape[1:])
    likely, right, units = tables.likely, tables.right, tables.units
    places = np.unique(units, return_inverse=True)[1] % N_PARTS
    for place in np.unique(places):
        here = places == place
        rest = ~here if not here.all() else here
        found = by_labels(
            likely[rest], right[rest], units[rest], alpha=alpha, seed=seed, doubted=doubted
        )
        out[here] = np.tensordot(found.weights, tables.probabilities[:, here], axes=1)
    return out


def lines_of(names: Sequence[str], ruling: Ruling, tables: Tables | None) -> list[dict[str, Any]]:
    """Each way with its scores, its weight and why, as plain JSON values."""
    lines = []
    for number, name in enumerate(names):
        p_value, loss, accuracy = ruling.p_values[number], None, None
        if tables is not None:
            loss = round(log_loss(tables.probabilities[number], tables.codes), 4)
            accuracy = round(float(tables.right[:, number].mean()), 4)
        lines.append(
            {
                "name": name,
                "log_loss": loss,
                "accuracy": accuracy,
                "p_value": None if p_value is None else float(f"{p_value:.3g}"),
                "weight": round(float(ruling.weights[number]), 4),
                "because": ruling.because[number],
            }
        )
    return lines


def told(lines: Sequence[Mapping[str, Any]], ruling: Ruling) -> dict[str, Any]:
    """The ruling as the lineage keeps it and the report draws it; the reference stands first.

    Returns: plain JSON values: ``reference`` (its name), ``experts`` (reference and experts with
    ``name``, ``log_loss``, ``accuracy``, ``p_value``, ``weight``, ``because``), ``rule``, ``bound``
    (``mixture``, ``reference`` and ``ln2`` in nats over all left-out windows; None without any),
    ``sentence``.
    """
    bound = ruling.wager and {
        "mixture": round(ruling.wager.mixture, 4),
        "reference": round(ruling.wager.reference, 4),
        "ln2": round(MIXED_LOSS, 4),
    }
    reference = str(lines[0]["name"])
    served = {str(line["name"]): float(line["weight"]) for line in lines if line["weight"]}
    return {
        "reference": reference,
        "experts": [dict(line) for line in lines],
        "rule": ruling.rule,
        "bound": bound,
        "sentence": sentence(ruling.rule, served, reference)
        if len(lines) > 1
        else f"Neither pool nor source was given: {reference} is served alone.",
    }


def sentence(rule: Rule, served: Mapping[str, float], reference: str) -> str:
    """What the guard did, in one line.

    >>> sentence("mixture", {"blend": 1.0}, "blend")
    'No expert did better on left-out windows: blend is served alone.'
    """
    shares = ", ".join(f"{name} {100 * weight:.0f} %" for name, weight in served.items())
    alone = set(served) == {reference}
    if rule == "test":
        return f"A paired test on left-out windows drops {reference}; served: {shares}."
    if rule == "mixture" and alone:
        return f"No expert did better on left-out windows: {reference} is served alone."
    if rule == "mixture":
        return f"No expert passed the paired test; mixed by left-out log loss: {shares}."
    if rule == "structure" and alone:
        return (
            "Too few labels to leave any out, and the structure of the pool speaks for no "
            f"expert: {reference} is served alone."
        )
    if rule == "structure":
        return f"Too few labels to leave any out; structure decided, untested: {shares}."
    return f"No labels of the target, so nothing is tested: {shares}."
