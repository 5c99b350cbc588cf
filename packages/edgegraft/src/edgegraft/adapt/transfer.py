"""Closed-form transfer from source domains, assembled from parts.

The parts: how embeddings of the domains are aligned, what each row weighs, whether the head is
pulled toward that of the sources, and whether labels follow the shape of the target's pool. One
ridge head on each of several backbones, fitted on rows of target and sources together; what the
heads say is averaged. Everything the pool tells ends in the heads' weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce

import numpy as np

from edgegraft.adapt.alignment import Align, Aligned, as_they_are, principal
from edgegraft.adapt.calibration import best_temperature, softmax
from edgegraft.adapt.evidence import Evidence
from edgegraft.adapt.follow import Following
from edgegraft.adapt.hat import Hat, hat, linear_head
from edgegraft.adapt.leave_out import bundle_blocks
from edgegraft.adapt.ridge import DEFAULT_STRENGTH, DEFAULT_TEMPERATURE, STRENGTHS, TEMPERATURES
from edgegraft.data.domains import joined
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.cache import embed_cached
from edgegraft_edge.heads import LinearHead
from edgegraft_edge.signal import Array

MOST_POOL = 4000
"""Windows of the pool that are looked at; of more, so many are drawn."""
MOST_ROWS = 400
"""Rows beyond which wide embeddings are first brought to their leading principal directions."""
ENOUGH = 20
"""Labelled windows of the target from which on heads are judged by these alone."""

Weigh = Callable[[Aligned, "Rows", int], Array]
"""(aligned embeddings, what is known of the rows, seed) -> weight of each row."""


@dataclass(frozen=True)
class Parts:
    """What a strategy is assembled from.

    Attributes:
        align: how embeddings are brought together (`edgegraft.adapt.alignment`).
        weigh: what each row counts.
        pulled: whether the head is one of the sources, corrected by the target's labels.
        following: how labels follow the shape of the pool; None where they do not.
    """

    align: Align = as_they_are
    weigh: Weigh = field(default=lambda aligned, rows, seed: np.ones(len(rows.codes)))
    pulled: bool = False
    following: Following | None = None


@dataclass(frozen=True)
class Rows:
    """What is known of rows: labelled ones of the target, then its pool, then the sources.

    Attributes:
        codes: int (n_rows,), class of each row; -1 in the pool.
        groups: text (n_rows,), "" where unknown.
        n_target, n_pool: how many rows are labelled ones of the target, and of its pool.
        n_classes: how many classes there are.
    """

    codes: Array
    groups: Array
    n_target: int
    n_pool: int
    n_classes: int

    @property
    def target(self) -> Array:
        return np.arange(self.n_target)

    @property
    def pool(self) -> Array:
        return np.arange(self.n_target, self.n_target + self.n_pool)

    @property
    def source(self) -> Array:
        return np.arange(self.n_target + self.n_pool, len(self.codes))

    @property
    def labelled(self) -> Array:
        return np.flatnonzero(self.codes >= 0)

    @cached_property
    def judged(self) -> Array:
        """Rows by which heads are judged: the target's labels; the sources' too if few."""
        return self.target if self.n_target >= ENOUGH else self.labelled

    def blocks(self, rows: Array, *, whole: bool = True) -> list[Array]:
        """For each of the rows what is left out with it: its whole group, in every domain.

        Row by row where the rows are of one group, and a group without which a class would be
        gone. Empty where a class has one row in all.
        """
        counts = np.bincount(self.codes[self.labelled], minlength=self.n_classes)
        if counts[counts > 0].min() < 2:
            return []
        found, done = [], set()
        whole = whole and len(set(self.groups[rows].tolist()) - {""}) > 1
        for row in rows.tolist():
            group = str(self.groups[row])
            if not whole or not group:
                found.append(np.array([row]))
                continue
            if group in done:
                continue
            done.add(group)
            block = np.flatnonzero(self.groups == group)
            gone = np.bincount(self.codes[block][self.codes[block] >= 0], minlength=self.n_classes)
            if (counts - gone)[counts > 0].min() > 0:
                found.append(block)
            else:
                found += [np.array([one]) for one in block if one in rows]
        return found


@dataclass(frozen=True)
class View:
    """A backbone's embeddings of all rows in one space, and the ridge that reads them.

    Attributes:
        bound: the backbone, bound to windows of the target and the sources.
        aligned: its embeddings (n_rows, n_dims), target and pool first.
        weights: of the rows (n_rows,); those of the pool count once they have labels.
        rows: what is known of them.
        one_scale: whether the scale of a feature says something of it.
    """

    bound: Backbone
    aligned: Aligned
    z: Array
    weights: Array
    rows: Rows
    one_scale: bool

    def system(self, index: Array) -> Hat:
        return hat(self.z[index], self.weights[index], one_scale=self.one_scale)


@dataclass(frozen=True)
class Fit:
    """A head of a view, and what it says.

    Attributes:
        head: linear head on the backbone's embedding.
        own: probabilities of the target's rows, labelled ones and pool (n_own, n_classes).
        left_out: of labelled target rows without their block (n_target, n_classes), or None.
        strength, temperature: what was chosen.
    """

    head: LinearHead
    own: Array
    left_out: Array | None
    strength: float
    temperature: float


def known(evidence: Evidence) -> Rows:
    """What is known of the rows of target, pool and sources."""
    parts = [evidence.target, evidence.pool, *evidence.sources.values()]
    place = {name: code for code, name in enumerate(evidence.classes)}
    return Rows(
        np.array([place.get(str(name), -1) for part in parts for name in part.y], dtype=np.int64),
        np.concatenate([part.groups for part in parts]).astype(str),
        len(evidence.target),
        len(evidence.pool),
        len(evidence.classes),
    )


def thinned(evidence: Evidence, seed: int, most: int = MOST_POOL) -> Evidence:
    """The evidence with at most so many windows of the pool."""
    if len(evidence.pool) <= most:
        return evidence
    kept = np.sort(np.random.default_rng(seed).permutation(len(evidence.pool))[:most])
    return replace(evidence, pool=evidence.pool.take(kept))


def view_of(
    backbone: Backbone,
    evidence: Evidence,
    rows: Rows,
    parts: Parts,
    seed: int,
) -> View:
    """Embed all windows by a backbone and bring them into one space.

    Errors: `DataError` where the backbone cannot take such windows.
    """
    sources = list(evidence.sources.values())
    own = evidence.own
    bound = backbone.fit(reduce(joined, sources, own), seed=seed)
    z_others = [embed_cached(bound, source.x) for source in sources]
    z_own = embed_cached(bound, own.x) if len(own) else z_others[0][:0]
    codes = [source.codes(evidence.classes) for source in sources]
    both = len(own) and sources
    aligned = parts.align(z_own, z_others, codes) if both else Aligned(z_own, tuple(z_others))
    weights = parts.weigh(aligned, rows, seed)
    one_scale = bool(getattr(bound, "one_scale", False))
    if aligned.matrix is not None:
        one_scale = True  # directions are ordered by how much they say
    elif len(rows.codes) > MOST_ROWS < aligned.own.shape[1]:
        aligned, one_scale = principal(aligned.own, aligned.others, MOST_ROWS), True
    z = np.concatenate([aligned.own, *aligned.others])
    return View(bound, aligned, z, weights, rows, one_scale)


def fit_view(view: View, codes: Array, following: Sequence[Array] | None = None) -> Fit:
    """The ridge head of a view on all rows with a class, and what it says of rows left out.

    Args:
        codes: int (n_rows,), classes as in `Rows`, and perhaps some for rows of the pool.
        following: for each part that is left out (`left_out_parts`) the codes that hold without.
    """
    rows = view.rows
    index = np.flatnonzero(codes >= 0)
    place = np.full(len(codes), -1)
    place[index] = np.arange(len(index))
    system = view.system(index)
    targets = np.eye(rows.n_classes)[codes[index]]
    judged = rows.judged
    blocks = _placed(rows.blocks(judged), place)
    strength, temperature = DEFAULT_STRENGTH, DEFAULT_TEMPERATURE
    if blocks:
        singles = _placed(rows.blocks(judged, whole=False), place)
        truth, counts = codes[judged], view.weights[judged]
        choices = [
            best_temperature(
                system.left_out(targets, each, singles)[place[judged]],
                truth,
                TEMPERATURES,
                weights=counts,
            )
            for each in STRENGTHS
        ]
        strength = STRENGTHS[int(np.argmin([loss for _, loss in choices]))]
        without = system.left_out(targets, strength, blocks)[place[judged]]
        temperature = best_temperature(without, truth, TEMPERATURES, weights=counts)[0]
    weight, bias = system.coefficients(targets, strength)
    own = softmax((view.aligned.own @ weight + bias) / temperature)
    weight, bias = view.aligned.folded(weight, bias)
    left_out = None
    if blocks and rows.n_target:
        if following is None:
            own_blocks = _placed(rows.blocks(rows.target), place)
            table = system.left_out(targets, strength, own_blocks)[place[rows.target]]
        else:
            table = np.zeros((rows.n_target, rows.n_classes))
            for part, said in zip(left_out_parts(rows), following, strict=True):
                here = place[part[place[part] >= 0]]
                goal = np.eye(rows.n_classes)[said[index]]
                goal[said[index] < 0] = 1 / rows.n_classes  # rows of the part: they do not count
                scores = system.apart(goal, strength, here)
                tested = part[part < rows.n_target]
                table[tested] = scores[np.searchsorted(here, place[tested])]
        left_out = softmax(table / temperature)
    return Fit(linear_head(weight, bias, temperature), own, left_out, strength, temperature)


def left_out_parts(rows: Rows, n_parts: int = 5) -> list[Array]:
    """Index sets of rows that are left out together, as few as serve (each with its groups)."""
    blocks = rows.blocks(rows.target)
    if not blocks:
        return []
    codes = np.where(rows.codes >= 0, rows.codes, rows.n_classes)
    return [np.sort(part) for part in bundle_blocks(blocks, codes, 0, n_parts)]


def without(view: View, codes: Array, part: Array, fit: Fit) -> Array:
    """What the head would say of the target's rows had it not seen a part (n_own, n_classes)."""
    rows = view.rows
    index = np.flatnonzero(codes >= 0)
    place = np.full(len(codes), -1)
    place[index] = np.arange(len(index))
    system = view.system(index)
    targets = np.eye(rows.n_classes)[codes[index]]
    here = place[part[place[part] >= 0]]
    targets[here] = system.apart(targets, fit.strength, here)
    weight, bias = system.coefficients(targets, fit.strength)
    return softmax((view.aligned.own @ weight + bias) / fit.temperature)


def _placed(blocks: list[Array], place: Array) -> list[Array]:
    """Blocks by the position of their rows among those fitted on."""
    return [place[block[place[block] >= 0]] for block in blocks]
