"""What is normal, learned from normal windows alone: how far is a window from all of them?

A memory keeps embeddings of normal windows; a window's score is its distance to the nearest.
Of pictures, every place is remembered by itself (patch memory), so that the score has a place
too. Where the border lies is not a matter of taste: normal windows that took no part in the
memory are scored, whole groups at a time where groups are known, and the border is a conformal
quantile of their scores (Vovk, Gammerman, Shafer, 2005), so that of new normal windows the
wanted share at most is called an anomaly.

Sources: patch memory with a coreset, Roth et al., Towards Total Recall in Industrial Anomaly
Detection, CVPR 2022; greedy k-centre, Gonzalez 1985.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from edgegraft.adapt.adapted import Adapted, Member
from edgegraft.adapt.anomalies.border import alarm_head
from edgegraft.adapt.anomalies.border import border as border_of
from edgegraft.adapt.expert import normalised
from edgegraft.adapt.probe import lineage_of
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.data.split import folds
from edgegraft.tasks.anomaly import ANOMALY
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone, BackboneCard
from edgegraft.zoo.cache import embed_cached
from edgegraft.zoo.graph import Graph
from edgegraft_edge.alarms import FalseAlarms
from edgegraft_edge.errors import DataError, OptionError, SplitError
from edgegraft_edge.heads import LinearHead
from edgegraft_edge.picture import resizing
from edgegraft_edge.program import Draft, Program, chain
from edgegraft_edge.signal import Array, Windows

_TINY = 1e-6
_MOST_ROWS = 20_000  # among which the memory is chosen
_BLOCK = 256
_SURE = float(np.log(19.0))  # log odds of 95 to 5


@dataclass(frozen=True, eq=False)
class Memory:
    """A bound backbone and what it says of normal windows; it embeds into one number, the score.

    Attributes:
        source: bound backbone.
        rows: float32 (n_rows, n_features), remembered, in units of `scale`.
        scale: float32 (n_features,), deviation of each feature over normal windows.
        usual: what is taken from each distance before the largest is looked for.
        taps: blocks whose places are remembered; none: the embedding as a whole.
    """

    source: Backbone
    rows: Array
    scale: Array
    usual: float = 0.0
    taps: tuple[str, ...] = ()

    @property
    def card(self) -> BackboneCard:
        return self.source.card

    def fit(self, windows: Windows, *, seed: int) -> Memory:
        """A memory is bound already."""
        return self

    def embed(self, x: Array) -> Array:
        """Scores float32 (n_windows, 1)."""
        rows, _ = features(self.source, x, self.taps)
        far = nearest_distance(rows / self.scale, self.rows).reshape(len(x), -1)
        scores = np.maximum(far - self.usual, 0).max(axis=1, keepdims=True)
        return np.asarray(scores, dtype=np.float32)

    def program(self, *shape: int) -> Program:
        """The same for the device."""
        draft = Draft()
        if not self.taps:
            z = draft.call(self.source.program(*shape))
            z = draft.add("div", z, self.scale)
            far = _distance(draft, z, self.rows)
            return draft.finish(draft.add("relu", draft.add("sub", far, np.float32(self.usual))))
        assert isinstance(self.source, Graph)
        height, width = _place_counts(self.source, self.taps)
        z = draft.call(chain(_front(self.source), _patches(self.source, self.taps)))
        far = _distance(draft, draft.add("div", z, self.scale), self.rows)
        far = draft.add("relu", draft.add("sub", far, np.float32(self.usual)))
        places = draft.add("reshape", far, shape=[1, height, width])
        return draft.finish(draft.add("max", places, axes=[2, 3], keepdims=False))


@dataclass(frozen=True)
class Distance:
    """Far from all normal windows is an anomaly; learned from normal windows alone."""

    tasks: ClassVar[tuple[str, ...]] = ("anomaly",)

    false_alarms: float = field(
        default=0.05, metadata={"help": "share of normal windows that may be called an anomaly"}
    )
    memory: int = field(default=500, metadata={"help": "most embeddings that are remembered"})
    normalise: str = field(default="auto", metadata={"help": "step applied to windows first"})

    def __post_init__(self) -> None:
        if not 0 < self.false_alarms < 1 or self.memory < 1:
            raise OptionError.of(
                "option-range",
                f"false_alarms={self.false_alarms}, memory={self.memory}",
                "one is a share, the other a number of embeddings",
                "false_alarms=0.05, memory=500",
            )

    def taps(self, backbone: Backbone) -> tuple[str, ...]:
        """Blocks whose places are remembered."""
        return ()

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Remember the normal windows of `train`; others are not looked at.

        Errors: `OptionError` "task-differs" unless the task is anomaly detection.
        """
        if task.name != "anomaly":
            raise OptionError.of(
                "task-differs",
                f"{type(self).__name__} for the task {task.name}",
                "it learns what is normal, from normal windows alone",
                "--task anomaly",
            )
        classes = task.classes(train)
        here = train.at_target if train.at_target.any() else ~train.at_target
        normal = train.take(np.flatnonzero((train.y == _normal_of(classes)) & here))
        steps, normal = normalised(normal, self.normalise)
        bound = backbone.fit(normal, seed=seed)
        memory, held = self._learn(bound, normal, seed)
        told = getattr(task, "false_alarms", "")
        if told:
            found = border_of(held, FalseAlarms.parse(told), normal)
            head, border = alarm_head(found, classes), found.score
        else:
            head, border = _head(held, self.false_alarms, classes)
        lineage = lineage_of(type(self).__name__.lower(), self, (backbone,), seed)
        lineage |= {"border": round(border, 6), "normal_windows": len(normal)}
        return Adapted(steps, (Member(memory, head),), classes, train.spec, lineage)

    def _learn(self, bound: Backbone, normal: Windows, seed: int) -> tuple[Memory, Array]:
        """The memory of all, and scores of normal windows that were left out of one."""
        taps = self.taps(bound)
        rows, _ = features(bound, normal.x, taps)
        scale = (rows.std(axis=0) + 0.05 * np.median(rows.std(axis=0)) + _TINY) * np.sqrt(
            rows.shape[1]
        )
        rows = (rows / scale).astype(np.float32)
        per_window = rows.reshape(len(normal), -1, rows.shape[1])
        parts = _parts(normal, seed)
        far = np.zeros(per_window.shape[:2])
        everyone = np.arange(len(normal))
        for part in parts:
            rest = per_window[np.setdiff1d(everyone, part)].reshape(-1, rows.shape[1])
            kept = coreset(rest, self.memory, seed)
            left_out = per_window[part].reshape(-1, rows.shape[1])
            far[part] = nearest_distance(left_out, kept).reshape(len(part), -1)
        usual = float(np.median(far)) if taps else 0.0
        held = np.maximum(far - usual, 0).max(axis=1)
        kept = coreset(rows, self.memory, seed)
        return Memory(bound, kept, scale.astype(np.float32), usual, taps), held


@dataclass(frozen=True)
class PatchMemory(Distance):
    """Every place of normal pictures is remembered, so that a defect has a place too."""

    memory: int = field(default=1000, metadata={"help": "most patches that are remembered"})
    blocks: tuple[str, ...] = field(
        default=(), metadata={"help": "blocks whose places are remembered; the middle ones if none"}
    )

    def taps(self, backbone: Backbone) -> tuple[str, ...]:
        """The blocks asked for, or two in the middle.

        Errors: `OptionError` "backbone-fixed" for a backbone without places.
        """
        if not isinstance(backbone, Graph) or len(_spatial(backbone)) == 0:
            raise OptionError.of(
                "backbone-fixed",
                f"backbone {backbone.card.name!r}",
                "it has no blocks whose places could be remembered",
                "an image network such as mobilenet-v2, or the strategy distance",
            )
        known = _spatial(backbone)
        unknown = [block for block in self.blocks if block not in known]
        if unknown:
            raise OptionError.of(
                "block-unknown",
                f"blocks {', '.join(unknown)}",
                f"{backbone.card.name} has none of that name with places",
                f"of {', '.join(known)}",
            )
        middle = max(1, len(known) // 2)
        return self.blocks or tuple(known[middle - 1 : middle + 1])


def features(source: Backbone, x: Array, taps: tuple[str, ...]) -> tuple[Array, tuple[int, int]]:
    """Embeddings (n_windows, n_features), or of all places (n_windows * n_places, n_features).

    Also height and width of the places, (1, 1) for whole embeddings.
    """
    if not taps:
        return embed_cached(source, x), (1, 1)
    assert isinstance(source, Graph)
    found = source.run(chain(_front(source), _patches(source, taps)), x)
    return found.reshape(-1, found.shape[2]), _place_counts(source, taps)


def nearest_distance(rows: Array, memory: Array) -> Array:
    """Distance of each row (n_rows, n_features) to the nearest of `memory`, float64 (n_rows,)."""
    far = np.empty(len(rows))
    size = (memory.astype(np.float64) ** 2).sum(axis=1)
    for start in range(0, len(rows), _BLOCK * 16):
        part = rows[start : start + _BLOCK * 16]
        squared = (part.astype(np.float64) ** 2).sum(axis=1)
        gap = squared[:, None] - 2.0 * (part @ memory.T) + size
        far[start : start + len(part)] = np.sqrt(np.maximum(gap.min(axis=1), 0) + _TINY)
    return far


def coreset(rows: Array, most: int, seed: int) -> Array:
    """At most `most` rows that leave none far away: greedy k-centre over a random sample.

    >>> coreset(np.array([[0.0], [0.1], [5.0], [5.1]]), 2, 0).round().ravel().tolist() in (
    ...     [0.0, 5.0], [5.0, 0.0])
    True
    """
    random = np.random.default_rng(seed)
    if len(rows) > _MOST_ROWS:
        rows = rows[np.sort(random.choice(len(rows), _MOST_ROWS, replace=False))]
    if len(rows) <= most:
        return np.asarray(rows, dtype=np.float32)
    picked = [int(random.integers(len(rows)))]
    size = (rows**2).sum(axis=1)
    far = np.full(len(rows), np.inf)
    for _ in range(most - 1):
        newest = rows[picked[-1]]
        far = np.minimum(far, size - 2 * (rows @ newest) + newest @ newest)
        picked.append(int(far.argmax()))
    return np.asarray(rows[picked], dtype=np.float32)


def _normal_of(classes: Sequence[str]) -> str:
    return next(name for name in classes if name != ANOMALY)


def _parts(normal: Windows, seed: int) -> list[Array]:
    """Normal windows in parts, whole groups where they are known; each is left out once."""
    if len(normal) < 4:
        raise DataError.of(
            "labels-few",
            f"{len(normal)} normal windows",
            "some must be left out of the memory to find the border",
            "at least 4 normal windows, better 50",
        )
    alone = replace(normal, y=np.full(len(normal), "normal"))
    for windows in (alone, replace(alone, groups=np.full(len(normal), ""))):
        try:
            return [fold.test for fold in folds(windows, min(5, len(normal) // 2), seed=seed)]
        except SplitError:
            continue
    return list(np.array_split(np.random.default_rng(seed).permutation(len(normal)), 4))


def _head(held: Array, false_alarms: float, classes: Sequence[str]) -> tuple[LinearHead, float]:
    """Probability one half at the border, 5 % at what is usual; and the border."""
    ranked = np.sort(held)
    place = int(np.ceil((1 - false_alarms) * (len(held) + 1))) - 1
    border = float(ranked[min(place, len(ranked) - 1)])
    if place > len(ranked) - 1:  # too few windows for so rare an alarm: beyond all that was seen
        border *= 1.05
    slope = _SURE / max(border - float(np.median(held)), 0.02 * abs(border) + _TINY)
    sign = np.array([1.0 if name == ANOMALY else -1.0 for name in classes]) / 2
    weight = (slope * sign)[None, :].astype(np.float32)
    return LinearHead(weight, (-slope * border * sign).astype(np.float32)), border


# -- places of a network


def _front(graph: Graph) -> Program:
    assert graph.spec is not None
    return graph.intake.program(graph.spec)


def _spatial(graph: Graph) -> list[str]:
    """Blocks whose values have places, from the input up."""
    shapes = graph.shapes(tuple(graph.network.taps.values()))
    pairs = zip(graph.network.taps, shapes, strict=True)
    return [block for block, shape in pairs if len(shape) == 4 and shape[2] * shape[3] > 1]


def _place_counts(graph: Graph, taps: tuple[str, ...]) -> tuple[int, int]:
    shape = graph.shapes((graph.network.taps[taps[0]],))[0]
    return shape[2], shape[3]


def _patches(graph: Graph, taps: tuple[str, ...]) -> Program:
    """What the network takes -> (n_windows, n_places, n_features), each with its surroundings."""
    draft = Draft()
    draft.keep(graph.network.program)
    names = tuple(graph.network.taps[tap] for tap in taps)
    shapes = graph.shapes(names)
    height, width = shapes[0][2:]
    maps = []
    for name, shape in zip(names, shapes, strict=True):
        n_features = shape[1]
        blur = np.full((n_features, 1, 3, 3), 1 / 9, np.float32)
        none = np.zeros(n_features, np.float32)
        value = draft.add("conv2d", name, blur, none, groups=n_features, pad=[1, 1, 1, 1])
        if shape[3] != width:
            value = draft.add("matmul", value, resizing(shape[3], width))
        if shape[2] != height:
            value = draft.add("matmul", resizing(shape[2], height).T, value)
        maps.append(draft.add("reshape", value, shape=[n_features, height * width]))
    joined = draft.add("concat", *maps, axis=1) if len(maps) > 1 else maps[0]
    return draft.finish(draft.add("transpose", joined, axes=[0, 2, 1]))


def _distance(draft: Draft, z: str, rows: Array) -> str:
    """Distance to the nearest of `rows`, (..., n_features) -> (..., 1)."""
    squared = draft.add("sum", draft.add("mul", z, z), axes=[-1])
    product = draft.add("matmul", z, np.ascontiguousarray(-2.0 * rows.T))
    gap = draft.add("add", draft.add("add", product, squared), (rows**2).sum(axis=1))
    least = draft.add("relu", draft.add("min", gap, axes=[-1]))
    return draft.add("sqrt", draft.add("add", least, np.float32(_TINY)))
