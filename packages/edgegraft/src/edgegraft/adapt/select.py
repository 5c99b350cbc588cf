"""Which backbone: ranked by what its closed-form head says of windows it did not see.

Measured on fourteen extractors and eleven development cases (`bench/selection.py`): with few
labels, left-out losses are so uncertain that the best of many is best by luck; seven points of
accuracy were lost by it from five labels per class on. So the backbone that is best where nothing
is known, the reference of its kind, stays first until another's evidence outweighs it; that loses
less than one point, and less than LogME or the H-score.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from edgegraft.adapt.calibration import log_loss
from edgegraft.adapt.expert import Material, fit_ridge_expert, prepare
from edgegraft.adapt.neighbours import neighbours, spread_labels
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.adapt.transferability import Spectrum, h_score, log_evidence, standardised
from edgegraft.data.domains import joined, pool_of
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.cache import embed_cached
from edgegraft_edge.errors import EdgegraftError, OptionError, nearest
from edgegraft_edge.signal import Array, Windows

By = Literal["left-out", "logme", "hscore"]
MEASURES: Mapping[str, str] = {
    "left-out": "log loss of a ridge head on windows left out",
    "logme": "LogME, the log evidence of linear models",
    "hscore": "H-score with a shrunk covariance",
}
REFERENCES: Mapping[str, str] = {"series": "minirocket"}
"""By kind of windows, the backbone that was best over other data sets, where one clearly was."""
OUTWEIGHS = 15.0
"""Nats of left-out log loss, over all labelled windows, that a backbone must be better by than the
reference. 10 to 20 lost the same on the development cases, 5 and 30 half a point more or less."""
MOST_POOLED = 2000
_ORDER = {"pretrained": 0, "fixed": 1, "random": 2}


@dataclass(frozen=True)
class Ranked:
    """One backbone in the ranking.

    Attributes:
        score: the task's primary metric on left-out windows; None where it could not be had.
        log_loss: of the left-out probabilities, lower better; None likewise.
        seconds: embedding and head together.
        usable: whether it can take these windows at all; `because` says why not.
        logme, hscore: only where the ranking goes by them, higher better.
        agreement: share of the pool on which its spread labels are those of all backbones
            together; only where nothing could be left out.
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
    logme: float | None = None
    hscore: float | None = None
    agreement: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def rank_backbones(
    backbones: Sequence[Backbone],
    train: Windows,
    task: Task,
    *,
    seed: int,
    normalise: str = "auto",
    by: str = "left-out",
    watch: Watch = unwatched,
) -> tuple[Ranked, ...]:
    """Rank by exact leave-one-out (leave-one-group-out where groups are known) of a ridge head.

    The reference of the kind (`REFERENCES`) stands before every backbone whose left-out log loss,
    summed over the labelled windows, is not lower by `OUTWEIGHS` nats. With so few labels that
    none can be left out, and a pool, backbones go by how far the labels that spread along their
    own neighbours in the pool agree with those of all together; without a pool the reference
    comes first, then pretrained ones, and nothing is measured. The rows say which it was. A
    backbone that cannot take these windows stands last, with why.

    Args:
        train: labelled windows of the target; unlabelled ones are its pool.
        by: "left-out", or for comparison "logme" or "hscore" (`MEASURES`).

    Errors: `OptionError` "measure-unknown"; `DataError` where no window carries a label.
    """
    if by not in MEASURES:
        raise OptionError.of(
            "measure-unknown", f"by={by!r}", "backbones are ranked by " + ", ".join(MEASURES),
            nearest(by, list(MEASURES)),
        )  # fmt: skip
    material = prepare(train, task, normalise)
    rows = []
    for backbone in backbones:
        rows.append(_measured(backbone, material, task, by, seed))
        watch("rank", {"backbone": backbone.card.name, "score": rows[-1].score})
    reference = REFERENCES.get(material.windows.spec.kind)
    usable = [row for row in rows if row.usable]
    if by == "left-out" and usable and all(row.log_loss is None for row in usable):
        pool = pool_of(train)
        if len(pool) and len(usable) > 1:
            rows = _by_structure(rows, backbones, material, pool, seed)
            reference = None
    if by == "left-out":
        rows = [_weighed(row, rows, reference) for row in rows]

    def key(row: Ranked) -> tuple[bool, float, int]:
        if by != "left-out":
            value = row.logme if by == "logme" else row.hscore
            return not row.usable, np.inf if value is None else -value, _ORDER[row.kind]
        if row.agreement is not None:
            return not row.usable, -row.agreement, _ORDER[row.kind]
        behind = 0.0 if row.backbone == reference else OUTWEIGHS
        if row.log_loss is None:
            return not row.usable, np.inf if behind else 0.0, _ORDER[row.kind]
        return not row.usable, len(material.codes) * row.log_loss + behind, _ORDER[row.kind]

    return tuple(sorted(rows, key=key))


def _measured(backbone: Backbone, material: Material, task: Task, by: str, seed: int) -> Ranked:
    """A row with what can be said from the labelled windows alone."""
    began = time.perf_counter()
    found: dict[str, Any] = {"because": ""}
    score = loss = None
    try:
        left_out = fit_ridge_expert(backbone, material, seed=seed).left_out
        how = "groups left out whole" if material.groups is not None else "one left out"
        found["because"] = f"ridge head, {how}"
        if left_out is None:
            found["because"] = "a class has one label only: nothing can be left out, not measured"
        else:
            score = float(task.metrics[task.primary](left_out, material.codes))
            loss = log_loss(left_out, material.codes)
        if by != "left-out":
            bound = backbone.fit(material.windows, seed=seed)
            rows = Spectrum.of(standardised(embed_cached(bound, material.windows.x)))
            measure = log_evidence if by == "logme" else h_score
            found[by] = measure(rows, material.codes, len(material.classes))
            found["because"] = f"{MEASURES[by]}; for comparison, not what Edgegraft chooses by"
    except EdgegraftError as error:
        found |= {"usable": False, "because": _why(error)}
    card = backbone.card
    seconds = round(time.perf_counter() - began, 4)
    return Ranked(card.name, card.kind, score, loss, len(material.codes), seconds, **found)


def _why(error: EdgegraftError) -> str:
    return f"cannot be used: {error.problems[0].found}: {error.problems[0].why}"


def _weighed(row: Ranked, rows: Sequence[Ranked], reference: str | None) -> Ranked:
    """The row with what was weighed: its evidence against the reference's."""
    beside = next((each for each in rows if each.backbone == reference and each.usable), None)
    if beside is None or not row.usable:
        return row
    if row is beside:
        return replace(row, because=f"{row.because}; reference of its kind")
    if row.log_loss is None or beside.log_loss is None:
        return row
    nats = row.labels_used * (beside.log_loss - row.log_loss)
    said = (
        f"{nats:.0f} nats better than {reference}, which outweighs it"
        if nats > OUTWEIGHS
        else f"{nats:.0f} of {OUTWEIGHS:g} nats that it takes to go before {reference}"
        if nats >= 1
        else ""
    )
    return replace(row, because=f"{row.because}; {said}") if said else row


def _by_structure(
    rows: Sequence[Ranked],
    backbones: Sequence[Backbone],
    material: Material,
    pool: Windows,
    seed: int,
) -> list[Ranked]:
    """Rows with their agreement: labels spread along each backbone's own neighbours."""
    random = np.random.default_rng(seed)
    some = pool.take(np.sort(random.permutation(len(pool))[:MOST_POOLED]))
    own = joined(material.windows, replace(some, x=material.steps.run(some.x)))
    n_labelled = len(material.codes)
    seeds = np.zeros((len(own), len(material.classes)))
    seeds[np.arange(n_labelled), material.codes] = 1
    soft: dict[int, Array] = {}
    seconds: dict[int, float] = {}
    for place, (row, backbone) in enumerate(zip(rows, backbones, strict=True)):
        if not row.usable:
            continue
        began = time.perf_counter()
        z = embed_cached(backbone.fit(own, seed=seed), own.x)
        soft[place] = spread_labels(neighbours(standardised(z)), seeds)[n_labelled:]
        seconds[place] = time.perf_counter() - began
    total = np.sum(list(soft.values()), axis=0)
    found = list(rows)
    for place, table in soft.items():
        others = (total - table).argmax(axis=1)
        found[place] = replace(
            rows[place],
            agreement=float((table.argmax(axis=1) == others).mean()),
            seconds=round(rows[place].seconds + seconds[place], 4),
            because="a class has one label only, so by structure of the pool: agreement of its "
            f"spread labels with those of the other backbones on {len(some)} windows",
        )
    return found
