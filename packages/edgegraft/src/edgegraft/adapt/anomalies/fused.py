"""Anomalies of continuous recordings: several experts of what is normal, fused by rank.

Learned from normal windows alone. Where a few faults are labelled as well they may choose the
weights of the experts, and do so only if left-out faults are found better that way. Where source
machines are given, the model is theirs, re-centred on the windows of the new device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from edgegraft.adapt.adapted import Adapted, Member
from edgegraft.adapt.anomalies.border import alarm_head, border
from edgegraft.adapt.anomalies.departure import LEARN
from edgegraft.adapt.anomalies.departures import DEFAULT, Departures, joint, learn, learn_fleet
from edgegraft.adapt.anomalies.time_blocks import FEWEST, time_blocks
from edgegraft.adapt.probe import lineage_of
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.tasks.anomaly import ANOMALY
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.alarms import FalseAlarms
from edgegraft_edge.errors import DataError, OptionError, nearest
from edgegraft_edge.program import IDENTITY
from edgegraft_edge.signal import Array, Windows

_PRIOR_FAULTS = 10
_LEAST_GRADE = 0.25  # windows that are all the same: a border as near would ring at rounding
_FLOAT_ONLY = "int8 ranges come from normal windows, and an anomaly is what lies beyond them"
SHORTEST = 8
"""Samples of a window in which a shape, a spectrum and a forecast can be seen."""


@dataclass(frozen=True)
class Fused:
    """Sub-sequence PCA, neighbours, density, spectrum and forecast residual, fused by rank.

    >>> from edgegraft.tasks.anomaly import Anomaly
    >>> from edgegraft.zoo.registry import load_backbone
    >>> random = np.random.default_rng(0)
    >>> normal = Windows.of(random.normal(size=(120, 2, 32)), y=["ok"] * 120)
    >>> model = Fused().adapt(load_backbone("raw"), normal, Anomaly(), seed=0)
    >>> strange = replace(normal, x=normal.x + 5)
    >>> set(model.predict(strange).labels.tolist())
    {'anomaly'}
    """

    tasks: ClassVar[tuple[str, ...]] = ("anomaly",)
    draws: ClassVar[bool] = True

    experts: tuple[str, ...] = field(
        default=DEFAULT, metadata={"help": f"which are asked, of {', '.join(LEARN)}"}
    )
    false_alarms: str = field(
        default="",
        metadata={"help": "share of normal windows or number per time that may be called an "
                          "anomaly: 0.01, 1/day; what the task says if empty"},
    )  # fmt: skip
    memory: int = field(default=300, metadata={"help": "most windows that neighbours remember"})
    weigh: bool = field(
        default=True, metadata={"help": "let labelled faults choose the weights of the experts"}
    )

    alone: bool = field(
        default=False, metadata={"help": "learn from the device alone, whatever sources there are"}
    )

    def __post_init__(self) -> None:
        unknown = [name for name in self.experts if name not in LEARN]
        if unknown or not self.experts or self.memory < 1:
            wrong = ", ".join(unknown) or f"{len(self.experts)} experts, memory {self.memory}"
            raise OptionError.of(
                "option-range",
                wrong,
                "experts go by name, and at least one window is remembered",
                nearest(unknown[0], list(LEARN)) if unknown else f"of {', '.join(LEARN)}",
            )
        if self.false_alarms:
            FalseAlarms.parse(self.false_alarms)

    def adapt(
        self, backbone: Backbone, train: Windows, task: Task, *, seed: int, watch: Watch = unwatched
    ) -> Adapted:
        """Learn from the normal windows of `train`; faults may weigh the experts.

        `backbone` is not used: the experts look at the windows themselves.

        Errors: `OptionError` "task-differs"; `DataError` "kind-differs" for other than series,
        "labels-few", "constant" where no channel ever moves.
        """
        _check(train, task, self)
        classes = task.classes(train)
        finite = np.isfinite(train.x).all(axis=(1, 2))
        normal = train.y == next(name for name in classes if name != ANOMALY)
        own = train.at_target & finite
        here = train.take(np.flatnonzero(own & normal))
        model, held, seen, fleet = self._learned(train, here, own, normal & finite, seed)
        faults = train.take(np.flatnonzero(own & (train.y == ANOMALY)))
        if self.weigh and len(self.experts) > 1 and len(faults) >= 2:
            model = weighed(model, held, faults)
        fused = joint(model.grades.apply(held), model.weights)
        allowed = FalseAlarms.parse(
            self.false_alarms or getattr(task, "false_alarms", "") or "0.01"
        )
        found = border(fused, allowed, seen)
        found = replace(found, score=max(found.score, found.usual + _LEAST_GRADE))
        lineage = lineage_of(_name_of(self), self, (backbone,), seed)
        lineage |= {
            "border": round(found.score, 6),
            "usual": round(found.usual, 6),
            "border_extrapolated": found.extrapolated,
            "false_alarm_share": found.share,
            "normal_windows": len(here) if fleet == 0 else len(held),
            "machines": fleet,
            "weights": dict(zip(model.names, np.round(model.weights, 4).tolist(), strict=True)),
        }
        lineage["float_only"] = _FLOAT_ONLY
        member = Member(model, alarm_head(found, classes))
        return Adapted(IDENTITY, (member,), classes, train.spec, lineage)

    def _learned(
        self, train: Windows, here: Windows, own: Array, normal: Array, seed: int
    ) -> tuple[Departures, Array, Windows, int]:
        """The model, left-out scores, the windows these are of, and how many machines taught."""
        domains = [] if self.alone else [name for name in np.unique(train.domains) if name]
        machines = [
            train.take(_in_time(train, np.flatnonzero((train.domains == name) & normal)))
            for name in domains
        ]
        machines = [each for each in machines if len(each) >= FEWEST]
        if not machines:
            blocks = time_blocks(here)
            model, held = learn(here.x, self.experts, blocks, most=self.memory, seed=seed)
            return model, held, here, 0
        first = here if len(here) else train.take(_in_time(train, np.flatnonzero(own)))
        count = max(len(first), 4)
        model, held = learn_fleet(
            [each.x for each in machines],
            self.experts,
            n_first=count,
            own=first.x if len(first) >= FEWEST else None,
            most=self.memory,
            seed=seed,
        )
        alone = len(machines) == 1  # then nothing was kept back to centre on
        later = [0 if alone else min(count, len(each) // 2) for each in machines]
        pairs = zip(machines, later, strict=True)
        seen = _joined([each.take(np.arange(n, len(each))) for each, n in pairs])
        if len(first):
            model = model.recentred(first.x)
        return model, held, seen, len(machines)


@dataclass(frozen=True)
class SubsequencePca(Fused):
    """Distance from the principal components of lagged windows."""

    experts: tuple[str, ...] = field(default=("pca",), metadata={"help": "which are asked"})


@dataclass(frozen=True)
class ShapeNeighbours(Fused):
    """Distance to the nearest remembered window."""

    experts: tuple[str, ...] = field(default=("neighbours",), metadata={"help": "which are asked"})


@dataclass(frozen=True)
class Density(Fused):
    """A Gaussian over statistics of all channels, its covariance shrunk."""

    experts: tuple[str, ...] = field(default=("density",), metadata={"help": "which are asked"})


@dataclass(frozen=True)
class Spectral(Fused):
    """Distance of log spectra."""

    experts: tuple[str, ...] = field(default=("spectral",), metadata={"help": "which are asked"})


@dataclass(frozen=True)
class ForecastResidual(Fused):
    """What a ridge forecast of the end of a window leaves over."""

    experts: tuple[str, ...] = field(default=("forecast",), metadata={"help": "which are asked"})


@dataclass(frozen=True)
class Autoencoder(Fused):
    """What a small network that squeezes a window cannot give back."""

    experts: tuple[str, ...] = field(default=("autoencoder",), metadata={"help": "which are asked"})


def weighed(model: Departures, held: Array, faults: Windows) -> Departures:
    """Weights by how well each expert tells faults from left-out normal windows.

    The weights of a part of the faults are tried on the others, and adopted only if these stand
    further out than with even weights, by more than two standard errors of the difference.
    """
    normal = model.grades.apply(held)
    strange = model.grades.apply(model.scores(faults.x))
    even = (1.0,) * len(model.names)
    parts = np.array_split(np.lexsort((faults.start, faults.recording)), min(5, len(faults)))
    gains = []
    for part in parts:
        rest = np.setdiff1d(np.arange(len(faults)), part)
        own = _weights(normal, strange[rest])
        with_own = _above(joint(normal, own), joint(strange[part], own))
        with_even = _above(joint(normal, even), joint(strange[part], even))
        gains.append(float(np.mean(with_own - with_even)))
    sure = np.std(gains) / np.sqrt(len(gains))
    if np.mean(gains) <= max(2 * float(sure), 1e-4):
        return model
    return replace(model, weights=_weights(normal, strange))


def _weights(normal: Array, strange: Array) -> tuple[float, ...]:
    """Squared advantage over chance of each expert, pulled to even weights while faults are few."""
    pairs = zip(normal.T, strange.T, strict=True)
    chance = 0.5 + 1 / np.sqrt(12 * len(strange))  # as far as chance alone often gets
    edge = np.array([max(float(_above(a, b).mean()) - chance, 0.0) ** 2 for a, b in pairs])
    share = edge / edge.sum() if edge.sum() > 0 else np.full(len(edge), 1 / len(edge))
    pull = _PRIOR_FAULTS / (_PRIOR_FAULTS + len(strange))
    return tuple(((1 - pull) * share * len(edge) + pull).tolist())


def _above(normal: Array, strange: Array) -> Array:
    """Share of normal scores below each strange one; ties count half."""
    ranked = np.sort(normal)
    low, high = np.searchsorted(ranked, strange), np.searchsorted(ranked, strange, side="right")
    return np.asarray((low + high) / 2 / len(ranked))


def _check(train: Windows, task: Task, strategy: Fused) -> None:
    if task.name != "anomaly":
        raise OptionError.of(
            "task-differs",
            f"{type(strategy).__name__} for the task {task.name}",
            "it learns what is normal, from normal windows alone",
            "--task anomaly",
        )
    if train.spec.kind not in ("series", "audio"):
        raise DataError.of(
            "kind-differs",
            f"{type(strategy).__name__} on windows of kind {train.spec.kind}",
            "its experts look along time",
            "the strategies distance or patch-memory",
        )
    if train.series.n_timepoints < SHORTEST:
        raise DataError.of(
            "window-short",
            f"windows of {train.series.n_timepoints} samples",
            "a shape, a spectrum and a forecast need more",
            f"windows of at least {SHORTEST} samples, better 64",
        )
    values = np.nan_to_num(train.x)
    if len(values) and not np.ptp(values, axis=(0, 2)).any():
        raise DataError.of(
            "constant",
            "windows in which no channel ever moves",
            "there is nothing to learn what is normal from",
            "other channels, or a rule: any change is an anomaly",
        )


def _in_time(windows: Windows, index: Array) -> Array:
    order = np.lexsort((windows.start[index], windows.recording[index]))
    return np.asarray(index[order])


def _joined(parts: Sequence[Windows]) -> Windows:
    """Windows after each other, recordings numbered apart."""
    first = parts[0]
    numbers, offset = [], 0
    for each in parts:
        numbers.append(each.recording + offset)
        offset += int(each.recording.max(initial=0)) + 1
    arrays = {
        name: np.concatenate([getattr(each, name) for each in parts])
        for name in ("x", "y", "groups", "start", "domains")
    }
    return replace(first, **arrays, recording=np.concatenate(numbers), names=())


def _name_of(strategy: Fused) -> str:
    return {
        "Fused": "fused",
        "SubsequencePca": "subsequence-pca",
        "ShapeNeighbours": "shape-neighbours",
        "Density": "density",
        "Spectral": "spectral",
        "ForecastResidual": "forecast-residual",
        "Autoencoder": "autoencoder",
    }.get(type(strategy).__name__, type(strategy).__name__.lower())
