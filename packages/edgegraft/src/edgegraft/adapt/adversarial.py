"""Adversarial transfer: an encoder whose embeddings do not tell source from target.

Labels of the sources (and of the target, where there are some) teach the head; a divergence from
`edgegraft.adapt.divergence` between labelled source windows and windows of the target pulls the
domains together meanwhile. How many epochs is a fixed schedule: without target labels nothing
honest could choose them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgegraft.adapt.across import AcrossDomains, Extra, Ground, Step, lay, learn, lineage_across
from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.divergence import CRITIC, DIVERGENCES, Bound, Views, grown
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.errors import OptionError, Problem, nearest
from edgegraft_edge.signal import Array, Windows

if TYPE_CHECKING:
    from torch import Tensor

DivergenceName = Literal["adversarial", "conditional", "coral", "mmd"]


@dataclass(frozen=True)
class Dann(AcrossDomains):
    """Train on the sources' labels against a classifier of domains whose gradient is reversed.

    Source: Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 2016. The other
    divergences are Deep CORAL (Sun and Saenko, 2016) and the multi-kernel MMD of deep adaptation
    networks (Long et al., ICML 2015).

    Errors: `OptionError` for a divergence that there is not, or a strength below zero.
    """

    divergence: DivergenceName = field(
        default="adversarial",
        metadata={"help": "what brings domains together: adversarial, conditional, coral or mmd"},
    )
    strength: float = field(
        default=1.0, metadata={"help": "weight of the divergence once it is fully in"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = []
        if self.divergence not in DIVERGENCES:
            problems.append(
                Problem(
                    "option-value",
                    f"divergence={self.divergence!r}",
                    "there is none of that name",
                    nearest(self.divergence, list(DIVERGENCES)),
                )
            )
        if not self.strength >= 0:
            found = f"strength={self.strength}"
            problems.append(Problem("option-range", found, "a weight is not negative", "1"))
        if problems:
            raise OptionError(problems)

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Train on all labels, with windows of the target drawn toward those of the sources.

        Without a source, or without any window of the target, this is plain supervised training,
        and the lineage says so ("fallback").
        """
        ground = lay(backbone, train, task, self, seed)
        name = type(self).__name__.lower()
        watch("train", {"strategy": name, "windows": len(ground.x), "own": len(ground.own)})
        if ground.lacks:
            trained = learn(ground, self, watch)
        else:
            dim, n_classes = ground.axes.shape[1], len(ground.evidence.classes)
            bound = DIVERGENCES[self.divergence].bound(dim, n_classes, seed=seed)
            start = {**ground.parameters, **bound.parameters}
            trained = learn(
                ground,
                self,
                watch,
                parameters=start,
                extra=between(bound, self.strength, ground.axes),
            )
        kept = {n: a for n, a in trained.parameters.items() if not n.startswith(CRITIC)}
        lineage = lineage_across(name, self, ground, trained)
        return ground.finish(kept, train.spec, lineage)


@dataclass(frozen=True)
class Cdan(Dann):
    """The same, conditioned on class probabilities, so that domains are matched class by class.

    Source: Long et al., Conditional Adversarial Domain Adaptation, NeurIPS 2018 (CDAN+E: windows
    whose class is clear weigh more).
    """

    divergence: DivergenceName = field(
        default="conditional",
        metadata={"help": "what brings domains together: adversarial, conditional, coral or mmd"},
    )


def between(bound: Bound, strength: float, axes: Array) -> Extra:
    """A divergence between the labelled source windows of a step and its target windows.

    It sees the embedding along `axes`, float32 (embedding_dim, n_axes): what few windows can tell
    of thousands of features is chance.
    """

    def extra(current: Mapping[str, Tensor], step: Step) -> Tensor:
        import torch

        source = torch.from_numpy(np.flatnonzero(step.domains != 0))
        own = torch.from_numpy(np.flatnonzero(step.domains == 0))
        if not len(source):
            return step.logits.sum() * 0
        basis = torch.from_numpy(axes)
        views = Views(
            source=step.unit[source] @ basis,
            target=torch.cat([step.unit[own], step.own_unit]) @ basis,
            codes=step.codes[source],
            source_said=torch.softmax(step.logits[source], dim=1),
            target_said=torch.softmax(torch.cat([step.logits[own], step.own_logits]), dim=1),
        )
        return bound.loss(current, views, strength * grown(step.share))

    return extra


__all__ = ["Cdan", "Dann", "Ground", "between"]
