"""Labels spread over the pool, and heads that learn from them: few labels, much unlabelled data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from edgegraft.adapt.adapted import Adapted, Member
from edgegraft.adapt.balance import estimate_shares
from edgegraft.adapt.blend import Blend
from edgegraft.adapt.calibration import log_loss, softmax
from edgegraft.adapt.evidence import Evidence, gather
from edgegraft.adapt.probe import lineage_of
from edgegraft.adapt.scored import Scored
from edgegraft.adapt.spreading import TEMPERATURE, Spreading
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.adapt.views import look
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.signal import Array, Windows

LEAST_POOL = 1
"""Windows without label for each with one, below which a pool is no help."""
TEMPERATURES = np.geomspace(0.1, 1.0, 13)
"""Not below what many labels gave: a few windows left out must not make heads certain."""
_FLOOR = 1e-3


@dataclass(frozen=True)
class Spread:
    """Labels spread along a graph over the pool; then heads learn from them and the true labels.

    The graph joins windows that are near in several views at once. Class shares of the pool are
    estimated. Ridge heads on the labels alone say what a window of the pool is as well: how much
    they count is decided by labelled windows left out, so that with many labels these rule. What
    ships are ridge heads, one for each view, that learned from the result; they need no pool.

    Sources: D. Zhou and others, Learning with local and global consistency, NIPS 2003; M. Saerens
    and others, Neural Computation 2002 (class shares); G. Hinton, O. Vinyals, J. Dean, Distilling
    the knowledge in a neural network, 2015 (heads).
    """

    views: tuple[str, ...] = field(
        default=("minirocket", "statistics", "spectrum", "mel-statistics", "texture", "tfidf"),
        metadata={"help": "backbones beside the one given whose distances make the graph"},
    )
    heads: tuple[str, ...] = field(
        default=("minirocket", "statistics", "mel-statistics", "texture", "tfidf"),
        metadata={"help": "those of them that get a head, beside the backbone given"},
    )
    reach: float = field(
        default=0.9, metadata={"help": "how far labels spread: weight of neighbours, below 1"}
    )
    shares: str = field(
        default="estimated",
        metadata={"help": "class shares of the pool: estimated, labels (as labelled) or uniform"},
    )
    shares_prior: float = field(
        default=1.0,
        metadata={"help": "weight of the shares of the labels against the pool in estimating"},
    )
    rows: int = field(
        default=1000,
        metadata={"help": "windows that heads learn from, half of the pool or more"},
    )
    weight: float = field(
        default=5.0, metadata={"help": "what a true label counts against a certain spread one"}
    )
    doubled: tuple[str, ...] = field(
        default=("minirocket",),
        metadata={"help": "views whose heads start with twice the weight of the others"},
    )
    prior: float = field(
        default=50.0,
        metadata={"help": "how many labelled windows it takes to move halfway off these weights"},
    )
    normalise: str = field(default="auto", metadata={"help": "step applied to windows first"})

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Spread the labels of `train` over its pool and fit heads; a `Blend` without a pool."""
        return self.scored(backbone, train, task, seed=seed, watch=watch).adapted

    def scored(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Scored:
        """The same, with what heads say of windows that were left out with their whole groups."""
        train = train.take(np.flatnonzero(train.at_target))
        evidence = gather(train, task, self.normalise)
        n_labelled = len(evidence.target)
        if len(evidence.pool) < LEAST_POOL * n_labelled and len(evidence.pool) < self.rows:
            plain = Blend(normalise=self.normalise).scored(
                backbone, train, task, seed=seed, watch=watch
            )
            lineage = dict(plain.adapted.lineage) | {
                "strategy": "spread",
                "without_pool": f"{len(evidence.pool)} windows without label: a blend of labels",
            }
            return replace(plain, adapted=replace(plain.adapted, lineage=lineage))
        return self._spread(backbone, evidence, train, seed)

    def _spread(self, backbone: Backbone, evidence: Evidence, train: Windows, seed: int) -> Scored:
        views = look(backbone, self.views, evidence.own, seed)
        problem = Spreading.of(evidence, views, self, seed)
        trust = problem.trust()
        soft = problem.labels(trust, np.arange(len(problem)))
        taught = problem.teach(soft)
        tables = problem.left_out(trust)
        start = np.array([2.0 if v in self.doubled else 1.0 for v in problem.names])
        temperature, weights = _weighed(tables, problem.codes, start, self.prior)
        left_out = None if tables is None else _mixed(tables, temperature, weights)
        members = tuple(
            Member(lesson.view.backbone, lesson.head(*dual, temperature), float(weight))
            for lesson, dual, weight in zip(problem.lessons, taught, weights, strict=True)
        )
        lineage = lineage_of("spread", self, tuple(v.backbone for v in views), seed)
        mass = soft.mean(axis=0)
        lineage |= {
            "pool": len(evidence.pool),
            "shares": {
                name: round(float(s), 4) for name, s in zip(evidence.classes, mass, strict=True)
            },
            "trust_in_labels_alone": trust,
            "weights": {
                name: round(float(w), 4) for name, w in zip(problem.names, weights, strict=True)
            },
            "temperature": round(temperature, 4),
        }
        spec = train.spec
        adapted = Adapted(evidence.steps, members, evidence.classes, spec, lineage)
        return Scored(adapted, left_out)


def _mixed(tables: Array, temperature: float, weights: Array) -> Array:
    """Probabilities of the mixture from scores (n_heads, n_windows, n_classes)."""
    return np.asarray(np.einsum("h,hwc->wc", weights, softmax(tables / temperature)))


def _weighed(tables: Array | None, codes: Array, start: Array, prior: float) -> tuple[float, Array]:
    """One temperature and the weights of the heads, by windows left out."""
    weights = start / start.sum()
    if tables is None:
        return TEMPERATURE, weights

    def best(weights: Array) -> float:
        losses = [log_loss(_mixed(tables, float(t), weights), codes) for t in TEMPERATURES]
        return float(TEMPERATURES[int(np.argmin(losses))])

    said = softmax(tables / best(weights))[:, np.arange(len(codes)), codes].T
    weights = estimate_shares(said + _FLOOR, weights, prior / len(codes))
    return best(weights), weights
