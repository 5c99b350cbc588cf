"""What is compared: the rows (candidates and controls), and the folds they are all scored on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgegraft.adapt.network import Trainable
from edgegraft.adapt.select import Ranked
from edgegraft.adapt.strategy import build_strategy
from edgegraft.data.split import Fold, folds, leave_one_group_out
from edgegraft.evaluate.compare import Role, Row
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.registry import list_backbones, load_backbone
from edgegraft_edge.errors import DataError, SplitError
from edgegraft_edge.signal import Windows

TRAINED = ("finetune", "gradual")


def contenders(backbone: str | Backbone) -> list[Backbone]:
    """The backbones to rank: all that know something, and the one that was asked for."""
    known = [load_backbone(card.name) for card in list_backbones() if card.kind != "random"]
    if not isinstance(backbone, str):
        return [*known, backbone]
    if backbone in {"auto", *(each.card.name for each in known)}:
        return known
    return [*known, load_backbone(backbone)]


def choose(
    ranking: Sequence[Ranked], backbone: str | Backbone
) -> tuple[Backbone, tuple[Ranked, ...]]:
    """The backbone to adapt, and the ranking with the reason for it.

    With "auto" it is the pretrained one with the lowest left-out log loss.

    Errors: `DataError` ``no-backbone`` when none can take the windows.
    """
    usable = [row for row in ranking if row.usable]
    if not usable:
        raise DataError.of(
            "no-backbone",
            "; ".join(f"{row.backbone} {row.because}" for row in ranking),
            "no backbone can take these windows",
            "longer windows, or another backbone",
        )
    if backbone == "auto":
        pretrained = [row for row in usable if row.kind == "pretrained"]
        chosen = load_backbone((pretrained or usable)[0].backbone)
        of = "pretrained backbones" if pretrained else "backbones, none of them pretrained,"
        why = f"of the {of} the one with the lowest left-out log loss"
    else:
        chosen = load_backbone(backbone) if isinstance(backbone, str) else backbone
        why = "asked for"
    marked = (
        replace(row, chosen=True, because=f"{why}; {row.because}")
        if row.backbone == chosen.card.name
        else row
        for row in ranking
    )
    return chosen, tuple(marked)


def plan_rows(
    chosen: Backbone, strategy: str, options: Mapping[str, Any], unusable: Sequence[str] = ()
) -> tuple[Row, ...]:
    """The rows to compare; the first one ships unless another beats it.

    The controls are always there: the same network from random weights, MiniRocket with a ridge
    head, statistics with trees, and the blend of fixed features without the pretrained weights.

    Args:
        strategy: a name, or "auto": all that suit the backbone.
        unusable: names of backbones that cannot take these windows; no control stands on them.
    """

    def row(backbone: Backbone, name: str, role: Role) -> Row:
        return Row(backbone, name, build_strategy(name, options), role)

    trains = isinstance(chosen, Trainable)
    names = (strategy,) if strategy != "auto" else ("blend", "probe", *(TRAINED if trains else ()))
    candidates = [row(chosen, name, "candidate") for name in names]
    network = chosen if trains else _shipped_network()
    controls = [row(network, "scratch", "control")] if network is not None else []
    for backbone, name in (
        ("minirocket", "probe"),
        ("statistics", "trees"),
        ("minirocket", "blend"),
    ):
        if backbone not in unusable:
            controls.append(row(load_backbone(backbone), name, "control"))
    taken = {candidate.name for candidate in candidates}
    return (*candidates, *(control for control in controls if control.name not in taken))


def _shipped_network() -> Backbone | None:
    for card in list_backbones():
        if card.architecture == "conv1d":
            return load_backbone(card.name)
    return None


def plan_folds(windows: Windows, count: int | str, seed: int) -> tuple[tuple[Fold, ...], str]:
    """As many folds as the labels allow, up to `count`; none if nothing can be left out.

    Where groups make it impossible, because a class is in one group only, recordings are kept
    whole instead. What is not as asked stands in the note. With "groups" for a count every
    group is a fold of its own.

    Errors: `SplitError` when "groups" are asked for and do not allow it.
    """
    if isinstance(count, str):
        return leave_one_group_out(windows), ""
    problem = ""
    attempts = [(windows, "")]
    if windows.has_groups:
        alone = replace(windows, groups=np.full(len(windows), ""))
        attempts.append((alone, "groups were not kept apart, so these scores flatter: "))
    for kept, note in attempts:
        for n_folds in range(count, 1, -1):
            try:
                parts = folds(kept, n_folds, seed=seed)
            except SplitError as error:
                problem = problem or str(error.problems[0])
                continue
            fewer = f"{n_folds} folds instead of {count}: " if n_folds < count else ""
            return parts, f"{note}{fewer}{problem}" if problem else ""
    return (), f"no comparison was possible: {problem}"
