"""Several experts, their probabilities mixed by what each says of windows it did not see."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from edgegraft.adapt.adapted import SMALLEST, Adapted, Member
from edgegraft.adapt.calibration import best_temperature, softmax
from edgegraft.adapt.expert import (
    Expert,
    Material,
    fit_ridge_expert,
    fit_trees_expert,
    prepare,
    suited,
)
from edgegraft.adapt.probe import assemble, lineage_of
from edgegraft.adapt.scored import Scored
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Array, Windows

TEMPERATURES = np.geomspace(0.35, 1.25, 15)
"""Mild ones: few labels must not make a mixture certain."""


@dataclass(frozen=True)
class Blend:
    """A mixture of frozen experts: the backbone given, partners, and trees.

    Weights maximise the likelihood of the left-out labels under a Dirichlet prior that holds
    every expert at the share it starts with (EM for mixture proportions, Dempster, Laird, Rubin
    1977); with so few labels that nothing can be left out, they stay there.
    """

    partners: tuple[str, ...] = field(
        default=("minirocket", "tfidf"),
        metadata={"help": "further backbones, each with a ridge head"},
    )
    trees: tuple[str, ...] = field(
        default=("statistics", "spectrum", "mel-statistics", "texture"),
        metadata={"help": "further backbones, under trees"},
    )
    n_trees: int = field(default=100, metadata={"help": "how many trees each of these gets"})
    doubled: tuple[str, ...] = field(
        default=("minirocket", "statistics"),
        metadata={"help": "backbones that start with twice the weight of the others"},
    )
    prior: float = field(
        default=50.0,
        metadata={"help": "how many labelled windows it takes to move halfway off these weights"},
    )
    copies: int = field(
        default=7,
        metadata={"help": "varied copies of each labelled window, used where they prove to help"},
    )
    emphasis: float = field(
        default=0.25,
        metadata={"help": "weigh features by how well they tell classes apart, to this power"},
    )
    normalise: str = field(default="auto", metadata={"help": "step applied to windows first"})
    balanced: bool = field(
        default=False, metadata={"help": "give every class the same total weight"}
    )

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Fit every expert on the labelled windows of `train`, and weigh them."""
        return self.scored(backbone, train, task, seed=seed, watch=watch).adapted

    def scored(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Scored:
        """The same, with what the mixture says of windows left out."""
        material = prepare(train, task, suited(self.normalise, backbone))
        experts = self._experts(backbone, material, seed)
        names = [expert.backbone.card.name for expert in experts]
        shares = np.array([2.0 if name in self.doubled else 1.0 for name in names])
        weights = weigh(experts, material.codes, self.prior, shares)
        members = tuple(
            Member(expert.backbone, expert.head, float(weight))
            for expert, weight in zip(experts, weights, strict=True)
        )
        backbones = {expert.backbone.card.name: expert.backbone for expert in experts}
        lineage = lineage_of("blend", self, tuple(backbones.values()), seed)
        lineage["weights"] = {
            f"{expert.backbone.card.name}+{type(expert.head).__name__}": round(float(weight), 4)
            for expert, weight in zip(experts, weights, strict=True)
        }
        temperature = calibrate(experts, weights, material.codes)
        lineage["temperature"] = round(temperature, 4)
        adapted = assemble(material, members, train, lineage, temperature)
        mixed = left_out_mixture(experts, weights)
        return Scored(adapted, None if mixed is None else cooled(mixed, temperature))

    def _experts(self, backbone: Backbone, material: Material, seed: int) -> list[Expert]:
        """The backbone with a ridge head, and all partners that can take these windows."""

        def ridge(each: Backbone) -> Expert:
            return fit_ridge_expert(
                each,
                material,
                seed=seed,
                balanced=self.balanced,
                copies=self.copies,
                emphasis=self.emphasis,
            )

        def trees(each: Backbone) -> Expert:
            return fit_trees_expert(
                each, material, seed=seed, n_trees=self.n_trees, copies=self.copies
            )

        kind = material.windows.spec.kind
        experts = [ridge(backbone)]
        partners = [name for name in self.partners if name != backbone.card.name]
        for fit, names in ((ridge, partners), (trees, self.trees)):
            for partner in map(load_backbone, names):
                if kind in partner.card.takes:
                    with suppress(DataError):  # MiniRocket, say, needs nine timepoints
                        experts.append(fit(partner))
        return experts


def weigh(
    experts: Sequence[Expert],
    codes: Array,
    prior: float,
    shares: Array | None = None,
    steps: int = 200,
) -> Array:
    """Mixture weights (n_experts,) from left-out probabilities; as they start if there are none.

    Args:
        codes: class of each labelled window, int (n_windows,).
        prior: how many windows the start is worth.
        shares: what the experts start with (n_experts,), equal unless given.
    """
    start: Array = np.ones(len(experts)) if shares is None else shares
    start = np.asarray(start / start.sum())
    left_out = [expert.left_out for expert in experts if expert.left_out is not None]
    if len(left_out) < len(experts):
        return start
    rows = np.arange(len(codes))
    likely = np.stack([table[rows, codes] for table in left_out], axis=1) + 1e-6
    weights = start
    for _ in range(steps):
        share = likely * weights
        share /= share.sum(axis=1, keepdims=True)
        weights = share.sum(axis=0) + prior * start
        weights /= weights.sum()
    return weights


def calibrate(experts: Sequence[Expert], weights: Array, codes: Array) -> float:
    """The temperature that calibrates the left-out mixture; 1 where nothing is known.

    A mixture says too little: experts that agree should be believed more than each of them.
    """
    mixed = left_out_mixture(experts, weights)
    if mixed is None:
        return 1.0
    return best_temperature(np.log(np.maximum(mixed, SMALLEST)), codes, TEMPERATURES)[0]


def left_out_mixture(experts: Sequence[Expert], weights: Array) -> Array | None:
    """What the mixture says of windows left out (n_windows, n_classes), where every expert can."""
    left_out = [expert.left_out for expert in experts if expert.left_out is not None]
    if len(left_out) < len(experts):
        return None
    tables = zip(weights, left_out, strict=True)
    return np.asarray(sum(weight * table for weight, table in tables))


def cooled(mixed: Array, temperature: float) -> Array:
    """Probabilities at a temperature, as `Adapted` computes them."""
    return softmax(np.log(np.maximum(mixed, SMALLEST)) / temperature)
