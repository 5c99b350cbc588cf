"""Several experts, their probabilities mixed by what each says of windows it did not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgegraft.adapt.adapted import Adapted, Member
from edgegraft.adapt.expert import Expert, fit_ridge_expert, fit_trees_expert, prepare
from edgegraft.adapt.probe import assemble, lineage_of
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.signal import Array, Windows


@dataclass(frozen=True)
class Blend:
    """A mixture of frozen experts: the backbone given, partners, and trees.

    Weights maximise the likelihood of the left-out labels under a Dirichlet prior that holds
    every expert equal (EM for mixture proportions, Dempster, Laird, Rubin 1977); with so few
    labels that nothing can be left out, they are equal.
    """

    partners: tuple[str, ...] = field(
        default=("minirocket", "statistics", "spectrum"),
        metadata={"help": "further backbones, each with a ridge head"},
    )
    trees: str = field(
        default="statistics", metadata={"help": "backbone under the trees; empty for no trees"}
    )
    prior: float = field(
        default=12.0, metadata={"help": "weight of the prior, in labelled windows"}
    )
    copies: int = field(
        default=7,
        metadata={"help": "varied copies of each labelled window, used where they prove to help"},
    )
    normalise: str = field(default="standard", metadata={"help": "step applied to windows first"})
    balanced: bool = field(
        default=False, metadata={"help": "give every class the same total weight"}
    )

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Fit every expert on the labelled windows of `train`, and weigh them."""
        material = prepare(train, task, self.normalise)
        others = [load_backbone(name) for name in self.partners if name != backbone.card.name]
        backbones = (backbone, *others)
        experts = [
            fit_ridge_expert(each, material, seed=seed, balanced=self.balanced, copies=self.copies)
            for each in backbones
        ]
        if self.trees:
            experts.append(
                fit_trees_expert(load_backbone(self.trees), material, seed=seed, copies=self.copies)
            )
        weights = weigh(experts, material.codes, self.prior)
        members = tuple(
            Member(expert.backbone, expert.head, float(weight))
            for expert, weight in zip(experts, weights, strict=True)
        )
        lineage = lineage_of("blend", self, backbones, seed)
        lineage["weights"] = {
            f"{expert.backbone.card.name}+{type(expert.head).__name__}": round(float(weight), 4)
            for expert, weight in zip(experts, weights, strict=True)
        }
        return assemble(material, members, train, lineage)


def weigh(experts: Sequence[Expert], codes: Array, prior: float, steps: int = 200) -> Array:
    """Mixture weights (n_experts,) from left-out probabilities; equal where there are none."""
    equal = np.full(len(experts), 1 / len(experts))
    left_out = [expert.left_out for expert in experts if expert.left_out is not None]
    if len(left_out) < len(experts):
        return equal
    rows = np.arange(len(codes))
    likely = np.stack([table[rows, codes] for table in left_out], axis=1) + 1e-6
    weights = equal
    for _ in range(steps):
        share = likely * weights
        share /= share.sum(axis=1, keepdims=True)
        weights = share.sum(axis=0) + prior * equal
        weights /= weights.sum()
    return weights
