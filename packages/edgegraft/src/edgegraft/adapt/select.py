"""Which backbone: ranked by what its closed-form head says of windows it did not see."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgegraft.adapt.calibration import log_loss
from edgegraft.adapt.expert import fit_ridge_expert, prepare
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.errors import EdgegraftError
from edgegraft_edge.signal import Windows


@dataclass(frozen=True)
class Ranked:
    """One backbone in the ranking.

    Attributes:
        score: the task's primary metric on left-out windows; None where it could not be had.
        log_loss: of the left-out probabilities; the ranking goes by it, lower better.
        seconds: embedding and head together.
        usable: whether it can take these windows at all; `because` says why not.
    """

    backbone: str
    kind: str
    score: float | None
    log_loss: float | None
    labels_used: int
    seconds: float
    chosen: bool = False
    because: str = ""
    usable: bool = True

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def rank_backbones(
    backbones: Sequence[Backbone],
    train: Windows,
    task: Task,
    *,
    seed: int,
    normalise: str = "auto",
    watch: Watch = unwatched,
) -> tuple[Ranked, ...]:
    """Rank by exact leave-one-out (leave-one-group-out where groups are known) of a ridge head.

    With so few labels that none can be left out, pretrained backbones come first and nothing is
    measured; the row says so. A backbone that cannot take these windows stands last, with why.
    """
    material = prepare(train, task, normalise)
    rows = []
    for backbone in backbones:
        began = time.perf_counter()
        score = loss = None
        usable = True
        try:
            left_out = fit_ridge_expert(backbone, material, seed=seed).left_out
            how = "groups left out whole" if material.groups is not None else "one left out"
            because = f"ridge head, {how}"
            if left_out is None:
                because = "a class has one label only: nothing can be left out, so not measured"
            else:
                score = float(task.metrics[task.primary](left_out, material.codes))
                loss = log_loss(left_out, material.codes)
        except EdgegraftError as error:
            usable = False
            because = f"cannot be used: {error.problems[0].found}: {error.problems[0].why}"
        rows.append(
            Ranked(
                backbone.card.name,
                backbone.card.kind,
                score,
                loss,
                len(material.codes),
                round(time.perf_counter() - began, 4),
                because=because,
                usable=usable,
            )
        )
        watch("rank", {"backbone": backbone.card.name, "score": score})
    order = {"pretrained": 0, "fixed": 1, "random": 2}
    rows.sort(
        key=lambda row: (
            not row.usable,
            np.inf if row.log_loss is None else row.log_loss,
            order[row.kind],
        )
    )
    return tuple(rows)
