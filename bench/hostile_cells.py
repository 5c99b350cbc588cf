"""Scenes of the hostile suite: a target, what is beside it, and what is wrong with that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import edgegraft as eg
from development_data import aeon_set
from edgegraft.data.domains import beside, joined
from edgegraft.data.split import few_shot
from pretrain_motion import read_umafall
from verdicts import basic_motions, cwru

MOST_POOL, MOST_SOURCE, MOST_TESTED = 800, 600, 400


@dataclass(frozen=True)
class Scene:
    """One data set, cut by people (bearings by time) into what is tested and what is not.

    Attributes:
        own: windows of the target, from which labels and pool come.
        tested: windows of groups that are in neither.
        source: labelled windows of another domain.
        other_sensor: the same windows as another sensor has them.
    """

    name: str
    own: eg.Windows
    tested: eg.Windows
    source: eg.Windows
    other_sensor: eg.Windows


@dataclass(frozen=True)
class Cell:
    """A training set with all that is beside it, and what it is tested on."""

    scene: str
    condition: str
    labels: int
    seed: int
    train: eg.Windows
    tested: eg.Windows

    @property
    def name(self) -> str:
        return f"{self.scene}/{self.condition}/{self.labels}/{self.seed}"


def scenes(data: Path, seed: int, development: bool) -> Iterator[Scene]:
    """Data sets of the suite, or those it was developed on, drawn by a seed."""
    har = eg.open_data(data / "uci_har/train.npz").windows()
    if development:
        yield people_scene("UCI HAR training people", har, har, seed, turned(har))
    else:
        fresh = eg.open_data(data / "uci_har/test.npz").windows()
        yield people_scene("UCI HAR", har, fresh, seed, turned(har))
    for source, target in ((1, 2), (2, 1)) if development else ((0, 3), (3, 0)):
        yield load_scene(data / "cwru_bearing", source, target, seed)
    positions = [common(windows) for windows in read_umafall(data / "umafall/umafall_20hz.npz")]
    for source, target in ((0, 2), (3, 1)) if development else ((1, 3), (2, 0), (0, 1)):
        yield people_scene(
            f"UMAFall {source} to {target}", positions[source], positions[target], seed,
            positions[(source + 1) % len(positions)],
        )  # fmt: skip
    names = ("ItalyPowerDemand", "GunPoint", "ACSF1") if development else ("BasicMotions",)
    for name in names:
        parts = basic_motions() if name == "BasicMotions" else aeon_set(name)
        yield halves_scene(name, *parts, seed)


def common(windows: eg.Windows) -> eg.Windows:
    """Classes that were recorded forty times or more."""
    names, counts = np.unique(windows.y, return_counts=True)
    return windows.take(np.flatnonzero(np.isin(windows.y, names[counts >= 40])))


def people_scene(
    name: str, sources: eg.Windows, targets: eg.Windows, seed: int, other: eg.Windows
) -> Scene:
    """People in three parts where both are one set; else the target's people in two."""
    random = np.random.default_rng([11, seed])
    people = random.permutation(np.unique(targets.groups))
    if set(people) == set(np.unique(sources.groups)):
        first, second = len(people) // 3, 2 * len(people) // 3
        taught, own, tested = people[:first], people[first:second], people[second:]
    else:
        taught, half = np.unique(sources.groups), (2 * len(people)) // 3
        own, tested = people[:half], people[half:]
    names = sorted(set(sources.y.tolist()) & set(targets.y.tolist()))

    def of(windows: eg.Windows, kept: np.ndarray, most: int) -> eg.Windows:
        here = np.isin(windows.groups, kept) & np.isin(windows.y, names)
        return some(windows.take(np.flatnonzero(here)), most, random)

    return Scene(
        name,
        of(targets, own, MOST_POOL),
        of(targets, tested, MOST_TESTED),
        of(sources, taught, MOST_SOURCE),
        of(other, taught, MOST_SOURCE),
    )


def load_scene(folder: Path, source: int, target: int, seed: int) -> Scene:
    """Bearings under two loads; of the target's recordings the last 40 % are tested."""
    random = np.random.default_rng([12, seed])
    windows, here = cwru(folder, target), cwru(folder, source)
    part = np.concatenate(
        [np.arange((windows.groups == g).sum()) / (windows.groups == g).sum()
         for g in dict.fromkeys(windows.groups.tolist())]
    )  # fmt: skip
    windows = ungrouped(windows)
    fan = cwru(folder, source, "FE")
    return Scene(
        f"CWRU {source} to {target}",
        some(windows.take(np.flatnonzero(part < 0.55)), MOST_POOL, random),
        some(windows.take(np.flatnonzero(part >= 0.6)), MOST_TESTED, random),
        some(ungrouped(here), MOST_SOURCE, random),
        some(ungrouped(replace(fan, spec=here.spec)), MOST_SOURCE, random),
    )


def halves_scene(name: str, first: eg.Windows, second: eg.Windows, seed: int) -> Scene:
    """A set as it is cut, without domains: a third of its first part stands for a source."""
    random = np.random.default_rng([13, seed])
    order = random.permutation(len(first))
    cut = len(first) // 3
    source = first.take(order[:cut])
    tested = some(second, MOST_TESTED, random)
    return Scene(name, first.take(order[cut:]), tested, source, turned(source))


def ungrouped(windows: eg.Windows) -> eg.Windows:
    return replace(windows, groups=np.full(len(windows), ""))


def some(windows: eg.Windows, most: int, random: np.random.Generator) -> eg.Windows:
    kept = random.permutation(len(windows))[:most]
    return windows.take(np.sort(kept))


def turned(windows: eg.Windows) -> eg.Windows:
    """The channels in reverse order; a single one backwards and folded at zero."""
    if windows.x.shape[1] > 1:
        return replace(windows, x=windows.x[:, ::-1].copy())
    return replace(windows, x=np.abs(windows.x[:, :, ::-1]).copy())


def shuffled(windows: eg.Windows, random: np.random.Generator) -> eg.Windows:
    return replace(windows, y=random.permutation(windows.y))


def faster(windows: eg.Windows) -> eg.Windows:
    """The first half of each window, stretched to its whole length."""
    n = windows.x.shape[-1]
    at = np.arange(n) / 2
    low = at.astype(int)
    share = (at - low).astype(np.float32)
    x = windows.x[..., low] * (1 - share) + windows.x[..., low + 1] * share
    return replace(windows, x=x.astype(np.float32))


def dumb(windows: eg.Windows) -> eg.Windows:
    """A third of the channels zero; of a single one the first half."""
    x = windows.x.copy()
    if x.shape[1] > 1:
        x[:, : max(1, x.shape[1] // 3)] = 0
    else:
        x[..., : x.shape[-1] // 2] = 0
    return replace(windows, x=x)


def foreign(windows: eg.Windows, like: eg.Windows, random: np.random.Generator) -> eg.Windows:
    """Another data set in the shape of this one, its classes taken at random for these."""
    n_channels, n = like.x.shape[1:]
    x = windows.x[:, np.arange(n_channels) % windows.x.shape[1]]
    at = np.linspace(0, x.shape[-1] - 1, n)
    low = np.minimum(at.astype(int), x.shape[-1] - 2)
    share = (at - low).astype(np.float32)
    x = (x[..., low] * (1 - share) + x[..., low + 1] * share).astype(np.float32)
    level, spread = like.x.mean(axis=(0, 2)), like.x.std(axis=(0, 2)) + 1e-9
    x = (x - x.mean(axis=(0, 2))[:, None]) / (x.std(axis=(0, 2)) + 1e-9)[:, None]
    x = (x * spread[:, None] + level[:, None]).astype(np.float32)
    classes = np.array(like.classes)
    mapped = {name: classes[random.integers(len(classes))] for name in windows.classes}
    mapped.update(zip(windows.classes[:2], classes[:2], strict=False))
    y = np.array([mapped[name] for name in windows.y.tolist()])
    return eg.Windows(x, y, np.full(len(x), "foreign"), like.spec)


def without(windows: eg.Windows, *names: str) -> eg.Windows:
    return windows.take(np.flatnonzero(~np.isin(windows.y, names)))


def imbalanced(windows: eg.Windows, random: np.random.Generator) -> eg.Windows:
    """Half of the classes, drawn, thinned to a tenth."""
    thin = random.permutation(np.array(windows.classes))[: max(1, len(windows.classes) // 2)]
    keep = ~np.isin(windows.y, thin) | (random.random(len(windows)) < 0.1)
    return windows.take(np.flatnonzero(keep))


CONDITIONS = (
    "healthy source", "healthy pool", "healthy source and pool", "shuffled source",
    "wrong sensor", "wrong rate", "missing channel", "unrelated source",
    "class missing in target", "class missing in source", "imbalanced pool",
    "pool of another activity", "pool of another data set", "all of it",
)  # fmt: skip


def cell(scene: Scene, other: Scene, condition: str, labels: int, seed: int) -> Cell | None:
    """The scene under a condition; None where a class has too few windows.

    Every second draw of a bad source has a healthy pool beside it.
    """
    random = np.random.default_rng([17, seed, labels, CONDITIONS.index(condition)])
    own, tested, source = scene.own, scene.tested, scene.source
    strange = foreign(other.source, scene.own, random)
    sources: dict[str, eg.Windows] = {}
    last = own.classes[-1]
    if condition == "class missing in target":
        if len(own.classes) < 3:
            return None
        own = without(own, last)
        tested = without(tested, last)
        sources = {"source": source}
    if np.unique(own.y, return_counts=True)[1].min() <= labels:
        return None
    chosen = few_shot(own, labels, seed=seed)
    target, rest = own.take(chosen), own.take(np.setdiff1d(np.arange(len(own)), chosen))
    bad: dict[str, Callable[[], eg.Windows]] = {
        "healthy source": lambda: source,
        "shuffled source": lambda: shuffled(source, random),
        "wrong sensor": lambda: scene.other_sensor,
        "wrong rate": lambda: faster(source),
        "missing channel": lambda: dumb(source),
        "unrelated source": lambda: strange,
    }
    pool: eg.Windows | None = rest
    if condition in bad:
        sources = {"source": bad[condition]()}
        pool = rest if seed % 2 and condition != "healthy source" else None
    elif condition == "healthy source and pool":
        sources = {"source": source}
    elif condition == "class missing in source":
        if len(own.classes) < 3:
            return None
        sources = {"source": without(source, last)}
    elif condition == "imbalanced pool":
        pool = imbalanced(rest, random)
    elif condition == "pool of another activity":
        pool = rest.take(np.flatnonzero(np.isin(rest.y, own.classes[:1])))
    elif condition == "pool of another data set":
        pool = strange
    elif condition == "all of it":
        sources = {name: make() for name, make in bad.items() if name.split()[0] != "wrong"}
    more = beside(target, pool, sources)
    return Cell(scene.name, condition, labels, seed, joined(target, more), tested)
