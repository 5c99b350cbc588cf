"""What belongs to no class: how well it is told apart, and from where on the answer is "unsure".

A model of seven intents gives one of the seven whatever is said to it. How sure it is says
whether to believe it: every score here is higher for what is in scope. The threshold is not a
matter of taste: it is a conformal quantile of the scores of training windows that were left out,
so that of what is in scope the wanted share at most is rejected (Vovk, Gammerman, Shafer,
Algorithmic Learning in a Random World, 2005). It goes into the bundle's decision.

Sources: highest probability, Hendrycks and Gimpel, ICLR 2017; energy, Liu et al., NeurIPS 2020;
distance to class means, Lee et al., NeurIPS 2018.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgegraft.adapt.adapted import Predictor
from edgegraft.threads import one_thread
from edgegraft_edge.decision import Decision
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.signal import Array, Kind, Windows

REJECTED = 0.05
"""Share of what is in scope that may be rejected."""
LEAST = 20  # left-out windows from which a quantile of so small a share means something
_SHRINK = 0.1


def highest_probability(probabilities: Array) -> Array:
    """The probability of the most probable class (n_windows,), of (n_windows, n_classes)."""
    return np.asarray(np.asarray(probabilities, dtype=np.float64).max(axis=1))


def energy(logits: Array, temperature: float = 1.0) -> Array:
    """Log of the sum of exponentials of logits (n_windows, n_classes): (n_windows,).

    >>> energy(np.array([[0.0, 0.0], [9.0, 0.0]])).round(1).tolist()
    [0.7, 9.0]
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    top = scaled.max(axis=1)
    return np.asarray(temperature * (top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))))


def nearness(z: Array, known: Array, codes: Array) -> Array:
    """Minus the squared distance to the nearest class mean (n_windows,).

    In units of the spread within classes, which is shrunk towards that of all features alike,
    since few labels do not tell it.

    Args:
        z: embeddings (n_windows, embedding_dim).
        known: embeddings of training windows; codes: their classes, int.
    """
    z, known = np.asarray(z, dtype=np.float64), np.asarray(known, dtype=np.float64)
    present, compact = np.unique(codes, return_inverse=True)
    means = np.stack([known[compact == code].mean(axis=0) for code in range(len(present))])
    within = (known - means[compact]).var(axis=0)
    usual = within.mean() or 1.0
    spread = np.sqrt((1 - _SHRINK) * within + _SHRINK * usual)
    a, b = z / spread, means / spread
    squared = np.square(a).sum(axis=1)[:, None] - 2 * a @ b.T + np.square(b).sum(axis=1)
    return np.asarray(-squared.min(axis=1))


def auroc(inside: Array, outside: Array) -> float:
    """How often a score from inside is above one from outside; ties count half.

    Source: area under the receiver operating characteristic, as Mann and Whitney's U, 1947.

    >>> auroc(np.array([0.9, 0.8, 0.4]), np.array([0.5, 0.4]))
    0.75
    """
    both = np.concatenate([inside, outside])
    _, place, counts = np.unique(both, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[place]
    n_in, n_out = len(inside), len(outside)
    if not n_in or not n_out:
        raise DataError.of(
            "windows-none", f"{n_in} scores inside, {n_out} outside", "both are compared", "more"
        )
    return float((ranks[:n_in].sum() - n_in * (n_in + 1) / 2) / (n_in * n_out))


def threshold_of(left_out: Array, rejected: float = REJECTED) -> float:
    """The score below which an answer is rejected; minus infinity if too few were left out.

    Of new windows in scope, if they are like these (n,), at most the share `rejected` has a score
    below it.

    >>> threshold_of(np.arange(1, 100) / 100)
    0.05
    """
    if not 0 <= rejected < 1:
        raise OptionError.of("option-range", f"rejected={rejected}", "it is a share", "0.05")
    rank = int(np.floor(rejected * (len(left_out) + 1) + 1e-9))
    return float(np.sort(left_out)[rank - 1]) if rank else -np.inf


def decision_of(kind: Kind, left_out: Array | None) -> Decision:
    """How a model of that kind decides, by what it says of windows left out.

    A sentence stands alone, so each is answered; where enough were left out, those that are less
    sure than 19 of 20 in scope are answered "unsure". Other kinds decide as usual.

    Args:
        left_out: probabilities (n_windows, n_classes) of windows that were not trained on.
    """
    if kind != "text":
        return Decision()
    if left_out is None or len(left_out) < LEAST:
        return Decision(emit="window")
    found = threshold_of(highest_probability(left_out))
    # rounded down, since what is compared with it is rounded too
    return Decision(threshold=float(np.floor(max(0.0, found) * 1e6) / 1e6), emit="window")


@dataclass(frozen=True)
class OutOfScope:
    """How well a predictor tells what it does not know.

    Attributes:
        n_inside, n_outside: windows scored.
        auroc: by the highest probability.
        threshold: below it the answer is "unsure".
        rejected_inside, rejected_outside: share that is; low and high are good.
        outside_at_95: share of what is outside that is still accepted where 95 % of what is
            inside is; whatever the threshold.
        accuracy: of the answers that are given inside; None where nothing is labelled.
    """

    n_inside: int
    n_outside: int
    auroc: float
    threshold: float
    rejected_inside: float
    rejected_outside: float
    outside_at_95: float
    accuracy: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


# Threads that wait for each other cost most: windows are scored one by one.
@one_thread()
def judge(
    predictor: Predictor, inside: Windows, outside: Windows, threshold: float = 0.0
) -> OutOfScope:
    """Score a predictor on what is in scope and on what is not.

    Args:
        inside: windows in scope, labelled or not.
        outside: windows of no class that the model knows; their labels do not matter.

    Errors: `DataError` "windows-none", "labels-inside" when outside windows carry a class of the
    model.
    """
    said, other = predictor.predict(inside), predictor.predict(outside)
    known = sorted(set(outside.classes) & set(said.classes))
    if known:
        raise DataError.of(
            "labels-inside",
            f"windows labelled {', '.join(known[:6])}",
            "the model knows these classes, so they are not out of scope",
            "data without them",
        )
    ours, theirs = (highest_probability(each.probabilities) for each in (said, other))
    area = auroc(ours, theirs)
    given = (ours >= threshold) & inside.labelled
    right = said.labels == inside.y
    return OutOfScope(
        len(ours),
        len(theirs),
        area,
        threshold,
        float((ours < threshold).mean()),
        float((theirs < threshold).mean()),
        float((theirs >= np.quantile(ours, 0.05)).mean()),
        float(right[given].mean()) if given.any() else None,
    )
