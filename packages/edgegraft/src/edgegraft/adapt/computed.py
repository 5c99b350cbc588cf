"""A model that is one program from the raw window to its answer, as an `Adapted`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgegraft.adapt.adapted import Adapted, Member
from edgegraft.zoo.backbone import Backbone, BackboneCard, embed_in_batches
from edgegraft_edge.estimate import Outputs
from edgegraft_edge.heads import IdentityHead
from edgegraft_edge.program import IDENTITY, Program
from edgegraft_edge.signal import Array, Spec, Windows


@dataclass(frozen=True, eq=False)
class Computed:
    """A bound backbone that gives the answer itself; see `computed`.

    Attributes:
        card: of what it was made from.
        source: from a raw window to the columns.
    """

    card: BackboneCard
    source: Program

    def fit(self, windows: Windows, *, seed: int) -> Computed:
        """It is bound already."""
        return self

    def embed(self, x: Array) -> Array:
        """The answers float32 (n_windows, n_columns)."""
        return embed_in_batches(self.source, x)

    def program(self, *shape: int) -> Program:
        return self.source


def computed(
    program: Program,
    columns: tuple[str, ...] | Outputs,
    spec: Spec,
    lineage: Mapping[str, Any],
    backbone: Backbone,
) -> Adapted:
    """The model that a program is.

    Args:
        program: from raw windows to (n_windows, n_columns).
        columns: its classes, or what it estimates.
        backbone: what the program was made from; its card stands in the report.

    >>> import numpy as np
    >>> from edgegraft.zoo.registry import load_backbone
    >>> from edgegraft_edge.program import Draft
    >>> draft = Draft()
    >>> last = draft.add("reshape", draft.add("slice", "x", axis=2, start=3, stop=4), shape=[-1])
    >>> windows = Windows.of(np.arange(8.0).reshape(2, 1, 4))
    >>> model = computed(draft.finish(last), Outputs(("load",), levels=(0.5,)), windows.spec, {},
    ...                  load_backbone("raw"))
    >>> model.predict(windows).estimates.point.ravel().tolist()
    [3.0, 7.0]
    """
    outputs = columns if isinstance(columns, Outputs) else None
    names = columns.columns if isinstance(columns, Outputs) else columns
    member = Member(Computed(backbone.card, program), IdentityHead())
    return Adapted(IDENTITY, (member,), names, spec, lineage, outputs=outputs)
