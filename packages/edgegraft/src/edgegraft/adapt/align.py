"""Closed-form domain adaptation: strategies that transfer from labelled sources to the target.

Each is assembled from the same parts (`edgegraft.adapt.transfer`): an alignment, a weight for
rows, a way to fit the head, and whether labels follow the pool. All take target labels, pool and
sources in any combination; without sources they learn from the target alone, and the lineage says
so. What they say of labelled windows left out is exact: groups go whole, in sources and pool too.
Only statistics of unlabelled embeddings, which need no label, are those of all windows.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgegraft.adapt.adapted import Adapted, Member
from edgegraft.adapt.alignment import Aligned, Components, Recoloured, principal, standardised
from edgegraft.adapt.blend import calibrate, cooled, left_out_mixture, weigh
from edgegraft.adapt.density import density_ratio
from edgegraft.adapt.evidence import Evidence, gather
from edgegraft.adapt.expert import Expert
from edgegraft.adapt.follow import Following, follow, graph_of
from edgegraft.adapt.probe import lineage_of
from edgegraft.adapt.pull import fit_pulled
from edgegraft.adapt.scored import Scored
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.adapt.transfer import (
    Fit,
    Parts,
    Rows,
    View,
    fit_view,
    known,
    left_out_parts,
    thinned,
    view_of,
    without,
)
from edgegraft.data.domains import from_sources
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.signal import Array, Windows

_DENSITY_DIMS = 16


@dataclass(frozen=True)
class Transfer:
    """Options that all have in common; a subclass says of what parts it is made."""

    sources: tuple[str, ...] = field(
        default=(), metadata={"help": "only these sources, by name; all where none is named"}
    )
    partners: tuple[str, ...] = field(
        default=("minirocket", "statistics"),
        metadata={"help": "further backbones, each with a head of its own"},
    )
    normalise: str = field(default="auto", metadata={"help": "step applied to windows first"})

    name = ""
    per_domain = False

    def parts(self) -> Parts:
        return Parts()

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Fit heads on target and sources together."""
        return self.scored(backbone, train, task, seed=seed, watch=watch).adapted

    def scored(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Scored:
        """The same, with what the model says of labelled target windows left out."""
        chosen = from_sources(train, self.sources)
        evidence = gather(chosen, task, self.normalise, per_domain=self.per_domain)
        evidence = thinned(evidence, seed)
        parts, rows = self.parts(), known(evidence)
        views = _views(backbone, self.partners, evidence, rows, parts, seed)
        fits = [fit_pulled(view) if parts.pulled else fit_view(view, rows.codes) for view in views]
        if parts.following is not None and rows.n_pool:
            fits = _followed(views, fits, rows, parts.following, seed)
        lineage = lineage_of(self.name, self, tuple(view.bound for view in views), seed)
        lineage |= _told(evidence, rows)
        return _assembled(evidence, views, fits, rows, train, lineage)


@dataclass(frozen=True)
class Pooled(Transfer):
    """Windows of sources and target as one training set: the naive way, a control.

    H. Daume III, Frustratingly easy domain adaptation, ACL 2007, calls it "All". It loses to the
    target's labels alone as soon as there are some and the domains differ.
    """

    name = "pooled"


@dataclass(frozen=True)
class Weighted(Transfer):
    """The same, but labelled windows of the target count more than those of sources.

    Source: H. Daume III, Frustratingly easy domain adaptation, ACL 2007 ("Weighted").
    """

    target_weight: float = field(
        default=20.0,
        metadata={"help": "what a labelled window of the target counts beside one of a source"},
    )

    name = "weighted"

    def __post_init__(self) -> None:
        _check_weight(self.target_weight)

    def parts(self) -> Parts:
        return Parts(weigh=lambda aligned, rows, seed: _target_times(rows, self.target_weight))


@dataclass(frozen=True)
class Standardise(Transfer):
    """Windows and features of each domain at its own mean and deviation, and labels that follow.

    Closed-form AdaBN (Y. Li, N. Wang, J. Shi, J. Liu, X. Hou, Revisiting batch normalization for
    practical domain adaptation, 2016): statistics of the target come from all of its windows, the
    pool's too, and end in the head. Then what the heads say of the pool is smoothed over its
    neighbours (D. Zhou and others, Learning with local and global consistency, NIPS 2003), the
    shares of the classes are moved toward those of the labels, and the heads are fitted anew with
    the pool.
    """

    target_weight: float = field(
        default=5.0,
        metadata={"help": "what a labelled window of the target counts beside one of a source"},
    )
    follow: bool = field(
        default=True, metadata={"help": "let labels follow the shape of the pool, if there is one"}
    )
    n_neighbours: int = field(
        default=5, metadata={"help": "how many neighbours each window of the pool looks for"}
    )
    alpha: float = field(
        default=0.5, metadata={"help": "weight of the neighbours against the heads, below 1"}
    )
    balance: float = field(
        default=0.25,
        metadata={"help": "how far shares of classes in the pool go toward those of the labels"},
    )

    name = "standardise"
    per_domain = True

    def __post_init__(self) -> None:
        _check_weight(self.target_weight)
        if not (0 <= self.alpha < 1 and 0 <= self.balance <= 1 and self.n_neighbours >= 1):
            raise OptionError.of(
                "option-range",
                f"alpha={self.alpha}, balance={self.balance}, n_neighbours={self.n_neighbours}",
                "alpha lies in 0 to below 1, balance in 0 to 1, neighbours are one or more",
                "alpha=0.5 balance=0.25 n_neighbours=5",
            )

    def parts(self) -> Parts:
        following = Following(self.n_neighbours, self.alpha, self.balance)
        return Parts(
            standardised,
            lambda aligned, rows, seed: _target_times(rows, self.target_weight),
            following=following if self.follow else None,
        )


@dataclass(frozen=True)
class Coral(Standardise):
    """Embeddings of each source whitened and given the target's covariance, labels that follow.

    Source: B. Sun, J. Feng, K. Saenko, Return of frustratingly easy domain adaptation, AAAI 2016.
    """

    n_directions: int = field(
        default=128, metadata={"help": "principal directions in which covariances are matched"}
    )
    shrink: float = field(
        default=0.1, metadata={"help": "how far covariances are shrunk toward a round one, 0 to 1"}
    )

    name = "coral"

    def parts(self) -> Parts:
        return replace(super().parts(), align=Recoloured(self.n_directions, self.shrink))


@dataclass(frozen=True)
class Mmd(Standardise):
    """Directions in which domains, and classes in them, have the same means; labels that follow.

    Source: S. Pan, I. Tsang, J. Kwok, Q. Yang, Domain adaptation via transfer component analysis,
    2011; M. Long and others, Transfer feature learning with joint distribution adaptation, 2013.
    """

    balance: float = field(
        default=0.0,
        metadata={"help": "how far shares of classes in the pool go toward those of the labels"},
    )
    n_components: int = field(default=64, metadata={"help": "how many directions are kept"})
    rounds: int = field(
        default=5, metadata={"help": "how often classes of the pool are said anew; 0: none at all"}
    )

    name = "mmd"

    def parts(self) -> Parts:
        return replace(
            super().parts(), align=Components(n_components=self.n_components, rounds=self.rounds)
        )


@dataclass(frozen=True)
class Importance(Weighted):
    """Windows of sources weighted by how much likelier they are in the target.

    Source: T. Kanamori, S. Hido, M. Sugiyama, A least-squares approach to direct importance
    estimation, JMLR 2009; H. Shimodaira, Improving predictive inference under covariate shift,
    2000. It helps where sources hold what the target never does, not where they look different.
    """

    flatten: float = field(
        default=1.0, metadata={"help": "power that the weights are raised to; 0 makes them equal"}
    )

    name = "importance"

    def parts(self) -> Parts:
        def weights(aligned: Aligned, rows: Rows, seed: int) -> Array:
            found = _target_times(rows, self.target_weight)
            if len(rows.source) and len(aligned.own):
                low = principal(aligned.own, aligned.others, _DENSITY_DIMS)
                source = np.concatenate(low.others)
                found[rows.source] = density_ratio(source, low.own, seed=seed, flatten=self.flatten)
            return found

        return Parts(weigh=weights)


@dataclass(frozen=True)
class TowardSource(Transfer):
    """A head for the target that is pulled toward the sources' head, as its labels allow.

    Source: J. Yang, R. Yan, A. Hauptmann, Cross-domain video concept detection using adaptive
    SVMs, 2007; T. Tommasi, F. Orabona, B. Caputo, Safety in numbers, CVPR 2010.
    """

    name = "toward-source"
    per_domain = True

    def parts(self) -> Parts:
        return Parts(standardised, pulled=True)


def _check_weight(weight: float) -> None:
    if not weight > 0:
        raise OptionError.of(
            "option-range", f"target_weight={weight}", "a window must count something", "20"
        )


def _target_times(rows: Rows, weight: float) -> Array:
    found = np.ones(len(rows.codes))
    if len(rows.source):
        found[rows.target] = weight
    return found


def _views(
    backbone: Backbone,
    partners: tuple[str, ...],
    evidence: Evidence,
    rows: Rows,
    parts: Parts,
    seed: int,
) -> list[View]:
    """The backbone, and all partners that can take these windows."""
    found = [view_of(backbone, evidence, rows, parts, seed)]
    for name in partners:
        partner = load_backbone(name)
        if name != backbone.card.name and evidence.target.spec.kind in partner.card.takes:
            with suppress(DataError):  # MiniRocket, say, needs nine timepoints
                found.append(view_of(partner, evidence, rows, parts, seed))
    return found


def _followed(
    views: list[View], fits: list[Fit], rows: Rows, following: Following, seed: int
) -> list[Fit]:
    """Heads fitted anew with the pool, labelled by what the first heads say together."""
    graph = graph_of([view.aligned.own for view in views], following, seed)
    own = np.arange(rows.n_target + rows.n_pool)

    def labelled(said: list[Array], gone: Array) -> Array:
        """Codes of all rows, those of the pool by the heads; -1 for rows that are left out."""
        codes = rows.codes.copy()
        codes[gone] = -1
        here = np.setdiff1d(own, gone)
        mean = np.mean([table[here] for table in said], axis=0)
        truth = codes[codes >= 0]
        shares = np.bincount(truth, minlength=rows.n_classes) / len(truth)
        some = graph if len(here) == len(own) else graph.take(here)
        codes[here] = follow(some, mean, codes[here], shares, following)
        return codes

    codes = labelled([fit.own for fit in fits], np.zeros(0, dtype=np.int64))
    without_parts = [
        labelled([without(v, rows.codes, part, f) for v, f in zip(views, fits, strict=True)], part)
        for part in left_out_parts(rows)
    ]
    return [fit_view(view, codes, without_parts) for view in views]


def _assembled(
    evidence: Evidence,
    views: list[View],
    fits: list[Fit],
    rows: Rows,
    train: Windows,
    lineage: dict[str, Any],
) -> Scored:
    """One model of all heads, weighed by the target's labels where there are enough."""
    experts = [
        Expert(view.bound, fit.head, fit.left_out) for view, fit in zip(views, fits, strict=True)
    ]
    codes = rows.codes[rows.target]
    weights = weigh(experts, codes, prior=50.0)
    temperature = calibrate(experts, weights, codes)
    members = tuple(
        Member(expert.backbone, expert.head, float(weight))
        for expert, weight in zip(experts, weights, strict=True)
    )
    lineage["weights"] = {
        expert.backbone.card.name: round(float(weight), 4)
        for expert, weight in zip(experts, weights, strict=True)
    }
    lineage["temperature"] = round(temperature, 4)
    adapted = Adapted(evidence.steps, members, evidence.classes, train.spec, lineage, temperature)
    mixed = left_out_mixture(experts, weights)
    return Scored(adapted, None if mixed is None else cooled(mixed, temperature))


def _told(evidence: Evidence, rows: Rows) -> dict[str, Any]:
    """What it learned from, for the lineage."""
    told: dict[str, Any] = {
        "learned_from": {
            "target labels": rows.n_target,
            "pool": rows.n_pool,
            "sources": {name: len(windows) for name, windows in evidence.sources.items()},
        }
    }
    if evidence.unrelated:
        told["unrelated"] = list(evidence.unrelated)
    if not evidence.sources:
        told["note"] = "no source with these classes: learned from the target alone"
    return told
