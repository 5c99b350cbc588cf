"""Which part of a bearing is faulty, by a rule that learns from no label.

The backbone `orders` says how far the combs of lines of each fault stand out. White noise through
the same program says how far they do by chance; evidence is the distance from there in deviations
of the noise, the mean over the combs of a fault, of the channel where it is largest. What stands
out beyond all but a stated share of the noise windows is a fault, and the largest decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Literal

import numpy as np

from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.computed import computed
from edgegraft.adapt.probe import lineage_of
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone, embed_in_batches
from edgegraft.zoo.bearing import FAULTS
from edgegraft.zoo.orders import Orders
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Windows

NORMAL = "normal"
SPELLINGS = {
    "outer": ("outer", "or", "bpfo"),
    "inner": ("inner", "ir", "bpfi"),
    "ball": ("ball", "b", "roller", "rolling", "bsf"),
    NORMAL: ("normal", "healthy", "good", "ok", "none", "baseline"),
}
"""How labels begin that mean each; the first word of a label counts."""
_NOISE = 32
_NEVER = 1e3


@dataclass(frozen=True)
class BearingRule:
    """The fault whose lines stand out; needs the backbone `orders` with speed and bearing.

    Labels, where there are any, give their names alone.
    """

    false_alarms: float = field(
        default=0.01, metadata={"help": "share of windows of pure noise that may pass for a fault"}
    )
    weak: Literal["auto", "normal", "ball"] = field(
        default="auto",
        metadata={
            "help": "what it means where nothing stands out; auto: normal, or ball where no label "
            "is normal, as a ball that spins about all axes strikes now and then"
        },
    )
    names: tuple[str, ...] = field(
        default=(), metadata={"help": "labels and what they mean: OR6=outer, X=inner"}
    )

    def __post_init__(self) -> None:
        if not 0 < self.false_alarms < 1:
            raise OptionError.of(
                "option-range", f"false_alarms={self.false_alarms:g}", "it is a share", "0.01"
            )

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """The rule for windows like these; of labels only the names are used.

        Errors: `OptionError` ``rule-backbone`` for another backbone than `orders` with a bearing;
        `DataError` ``rule-names`` for a label of which it is not known what it means.
        """
        if not isinstance(backbone, Orders) or backbone.bearing is None:
            raise OptionError.of(
                "rule-backbone",
                f"the backbone {backbone.card.name!r}",
                "the rule reads lines at the orders of a bearing",
                "orders:rpm=1772,n_balls=9,ball_mm=7.94,pitch_mm=39.04, or speed=CHANNEL",
            )
        plain = replace(backbone, squashed=False, pooled=False, shaft_orders=0)
        orders = plain.fit(train, seed=seed)
        meanings = self._meanings(train, task)
        weak = self.weak
        if weak == "auto":
            weak = "normal" if NORMAL in meanings.values() else "ball"
        classes = tuple(meanings)
        program, threshold = self._program(orders, train, tuple(meanings.values()), weak, seed)
        lineage = lineage_of("bearing-rule", self, (backbone,), seed)
        lineage["threshold"] = round(threshold, 3)
        return computed(program, classes, train.spec, lineage, backbone)

    def _meanings(self, train: Windows, task: Task) -> dict[str, str]:
        """Label -> what it means."""
        if not train.labelled.any():
            return {name: name for name in (*FAULTS, NORMAL)}
        given = dict(each.split("=", 1) for each in self.names if "=" in each)
        found, unknown = {}, []
        for label in task.classes(train.take(np.flatnonzero(train.labelled))):
            first = label.lower().replace("_", " ").replace("@", " ").replace("-", " ").split()[0]
            meant = given.get(label) or next(
                (m for m, words in SPELLINGS.items() if first.rstrip("0123456789") in words), ""
            )
            if meant in SPELLINGS:
                found[label] = meant
            else:
                unknown.append(label)
        if unknown:
            raise DataError.of(
                "rule-names",
                f"labels {', '.join(unknown[:8])}",
                "the rule tells outer, inner, ball and normal apart",
                f"-o bearing-rule.names={unknown[0]}=outer, or leave these windows out",
            )
        return found

    def _program(
        self, orders: Orders, train: Windows, meanings: tuple[str, ...], weak: str, seed: int
    ) -> tuple[Program, float]:
        """From a raw window to probabilities, and the evidence from which on it is a fault."""
        shape = train.x.shape[1:]
        source = orders.program(*shape)
        noise = embed_in_batches(source, _noise(orders, train, seed))
        deviation = np.maximum(noise.std(axis=0), 1e-3)
        weights = _weights(orders)  # (n_features, n_faults * n_signals)
        table = (weights / deviation[:, None]).astype(np.float32)
        shift = (noise.mean(axis=0) @ table).astype(np.float32)
        draft = Draft()
        found = draft.add("sub", draft.add("matmul", draft.call(source), table), shift)
        found = draft.add("reshape", found, shape=[len(FAULTS), len(orders.signals)])
        evidence = draft.add("max", found, axes=[2], keepdims=False)
        by_chance = embed_in_batches(draft.finish(evidence), _noise(orders, train, seed + 1))
        threshold = _beyond(by_chance.max(axis=1), self.false_alarms)
        gain, offset, floor = _decision(meanings, weak, threshold)
        scores = draft.add("add", draft.add("matmul", evidence, gain), offset)
        scores = draft.add("maximum", scores, floor)
        return draft.finish(draft.add("softmax", scores, axis=-1)), threshold


def _noise(orders: Orders, train: Windows, seed: int) -> Array:
    """White noise at the level of training, turning at its speeds, like `train.x`."""
    assert orders.centre is not None
    assert orders.scale is not None
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(train), _NOISE)
    noise = rng.standard_normal((_NOISE, *train.x.shape[1:]), dtype=np.float32)
    noise = noise * orders.scale[:, None] + orders.centre[:, None]
    if orders.place >= 0:
        noise[:, orders.place] = train.x[chosen, orders.place]
    return np.asarray(noise)


def _weights(orders: Orders) -> Array:
    """The mean over the combs of each fault on each channel, (n_features, n_faults * n_signals)."""
    columns = []
    for fault in FAULTS:
        for signal in orders.signals:
            own = [name.startswith(f"{signal} {fault} ") for name in orders.names]
            columns.append(np.array(own) / max(1, sum(own)))
    return np.stack(columns, axis=1)


def _beyond(values: Array, share: float) -> float:
    """What a share of such values exceeds: by a normal tail, as there are few of them."""
    return float(values.mean() + NormalDist().inv_cdf(1 - share) * max(float(values.std()), 1e-3))


def _decision(meanings: tuple[str, ...], weak: str, threshold: float) -> tuple[Array, Array, Array]:
    """Gain (n_faults, n_classes), offset and floor (n_classes,) of the scores of each label.

    A label of a fault has its evidence; the one of what is weak has the threshold at least.
    """
    gain = np.array([[m == fault for m in meanings] for fault in FAULTS], dtype=np.float32)
    offset = np.where(gain.any(axis=0), 0.0, -_NEVER).astype(np.float32)
    floor = np.where([m == weak for m in meanings], threshold, -_NEVER).astype(np.float32)
    return gain, offset, floor
