"""Structure transfer: the backbone stays frozen, only a head learns."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from edgegraft.adapt.adapted import Adapted, Member
from edgegraft.adapt.expert import (
    Material,
    fit_logistic_head,
    fit_ridge_expert,
    fit_trees_expert,
    prepare,
    suited,
)
from edgegraft.adapt.scored import Scored
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.cache import embed_cached
from edgegraft.zoo.graph import Graph
from edgegraft_edge.errors import OptionError
from edgegraft_edge.signal import Windows


@dataclass(frozen=True)
class Probe:
    """A linear head on frozen embeddings, closed-form ridge (default) or logistic."""

    head: Literal["ridge", "logistic"] = field(
        default="ridge", metadata={"help": "ridge (closed form, exact leave-one-out) or logistic"}
    )
    copies: int = field(
        default=0,
        metadata={"help": "varied copies of each labelled window, used where they prove to help"},
    )
    normalise: str = field(
        default="auto",
        metadata={"help": "step for windows: auto, standard, unit-range, per-window or none"},
    )
    balanced: bool = field(
        default=False, metadata={"help": "give every class the same total weight"}
    )
    taps: tuple[str, ...] = field(
        default=(),
        metadata={"help": "blocks of a network that the head reads together; all: every one"},
    )

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Fit the head on the labelled windows of `train`."""
        return self.scored(backbone, train, task, seed=seed, watch=watch).adapted

    def scored(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Scored:
        """The same, with what a ridge head says of windows left out."""
        left_out = None
        backbone = tapped(backbone, self.taps)
        material = prepare(train, task, suited(self.normalise, backbone))
        if self.head == "ridge":
            expert = fit_ridge_expert(
                backbone, material, seed=seed, balanced=self.balanced, copies=self.copies
            )
            member, left_out = Member(expert.backbone, expert.head), expert.left_out
        else:
            bound = backbone.fit(material.windows, seed=seed)
            z = embed_cached(bound, material.windows.x)
            member = Member(bound, fit_logistic_head(material, z, balanced=self.balanced))
        lineage = lineage_of("probe", self, (backbone,), seed)
        return Scored(assemble(material, (member,), train, lineage), left_out)


@dataclass(frozen=True)
class Trees:
    """Extremely randomised trees on frozen embeddings; with `statistics`, a classical control."""

    n_trees: int = field(default=200, metadata={"help": "how many trees"})
    normalise: str = field(
        default="none", metadata={"help": "step applied to windows; trees need none"}
    )

    def __post_init__(self) -> None:
        if self.n_trees < 1:
            raise OptionError.of("option-range", f"n_trees={self.n_trees}", "none can vote", "200")

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Grow the trees on the labelled windows of `train`."""
        material = prepare(train, task, self.normalise)
        expert = fit_trees_expert(backbone, material, seed=seed, n_trees=self.n_trees)
        member = Member(expert.backbone, expert.head)
        return assemble(material, (member,), train, lineage_of("trees", self, (backbone,), seed))


def tapped(backbone: Backbone, taps: tuple[str, ...]) -> Backbone:
    """The backbone, embedding by the means of several blocks where they are named.

    Errors: `OptionError` "backbone-fixed" for what has no blocks; `ModelError` "block-unknown".
    """
    if not taps:
        return backbone
    if not isinstance(backbone, Graph):
        raise OptionError.of(
            "backbone-fixed",
            f"taps of {backbone.card.name!r}",
            "it has no blocks that could be read",
            "a network such as mobilenet-v2, or no taps",
        )
    every = tuple(backbone.network.taps) or backbone.blocks
    return backbone.tapped(every if taps == ("all",) else taps)


def assemble(
    material: Material,
    members: tuple[Member, ...],
    train: Windows,
    lineage: dict[str, Any],
    temperature: float = 1.0,
) -> Adapted:
    """The adapted model of these members, for windows as those of `train`."""
    return Adapted(material.steps, members, material.classes, train.spec, lineage, temperature)


def lineage_of(
    strategy: str, options: Any, backbones: tuple[Backbone, ...], seed: int
) -> dict[str, Any]:
    """How a model came about, as plain JSON values."""
    return {
        "strategy": strategy,
        "options": asdict(options),
        "backbones": [backbone.card.name for backbone in backbones],
        "pretrained": any(backbone.card.kind == "pretrained" for backbone in backbones),
        "licences": sorted({backbone.card.licence for backbone in backbones}),
        "checksums": {b.card.name: b.card.checksum for b in backbones if b.card.checksum},
        "seed": seed,
    }
