"""Data sets on which defaults are chosen: none of their test parts is reported as a result.

UCI HAR's training people split by person, UMAFall split by person, CWRU between loads 1 and 2
(loads 0 and 3 are reported, so they stay out), and the sets that come with aeon, as they are cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import edgegraft as eg
from edgegraft.data.split import few_shot
from pretrain_motion import read_umafall
from verdicts import cwru

LABELS = (1, 2, 5, 10, 25)
AEON = ("GunPoint", "ArrowHead", "OSULeaf", "ACSF1", "ItalyPowerDemand")
WRIST = 2


@dataclass(frozen=True)
class Case:
    """A pool to draw labels from, and the windows of other people, loads or sessions to test on.

    Attributes:
        draw: seed of the people kept apart and of the labels drawn.
        labels: how many labels per class are drawn, in turn.
    """

    name: str
    draw: int
    pool: eg.Windows
    test: eg.Windows
    labels: tuple[int, ...] = LABELS

    def few(self, n_labels: int) -> eg.Windows | None:
        """The labelled windows; None where a class has fewer."""
        counts = np.unique(self.pool.y, return_counts=True)[1]
        if counts.min() < n_labels:
            return None
        return self.pool.take(few_shot(self.pool, n_labels, seed=self.draw))


def cases(data: Path, draws: int) -> Iterator[Case]:
    """Every data set and draw. `data` holds uci_har, umafall and cwru_bearing."""
    har = eg.open_data(data / "uci_har/train.npz").windows()
    fall = umafall(data / "umafall/umafall_20hz.npz")
    loads = {load: cwru(data / "cwru_bearing", load) for load in (1, 2)}
    fans = {load: cwru(data / "cwru_bearing", load, "FE") for load in (1, 2)}
    outlines = {name: aeon_set(name) for name in AEON}
    for draw in range(draws):
        yield Case("UCI HAR people", draw, *by_person(har, draw), (*LABELS, 50, 100))
        yield Case("UMAFall people", draw, *by_person(fall, draw), (1, 2, 5, 10, 20))
        for source, target in ((1, 2), (2, 1)):
            yield Case(f"CWRU DE {source} to {target}", draw, loads[source], loads[target])
            yield Case(f"CWRU FE {source} to {target}", draw, fans[source], fans[target])
        for name, (pool, test) in outlines.items():
            yield Case(name, draw, pool, test)


def by_person(windows: eg.Windows, draw: int) -> tuple[eg.Windows, eg.Windows]:
    """Two thirds of the people, and the others."""
    people = np.unique(windows.groups)
    apart = np.random.default_rng([7, draw]).permutation(people)[: len(people) // 3]
    tested = np.isin(windows.groups, apart)
    return windows.take(np.flatnonzero(~tested)), windows.take(np.flatnonzero(tested))


def umafall(file: Path) -> eg.Windows:
    """Whole trials at the wrist; activities and falls that were recorded forty times or more.

    The shipped encoder was trained on the same people, so it looks better here than it is.
    """
    wrist = read_umafall(file)[WRIST]
    names, counts = np.unique(wrist.y, return_counts=True)
    return wrist.take(np.flatnonzero(np.isin(wrist.y, names[counts >= 40])))


def aeon_set(name: str) -> tuple[eg.Windows, eg.Windows]:
    """Training and test part as they come with aeon; nothing is fetched."""
    from aeon.datasets import load_classification

    parts = [load_classification(name, split=part) for part in ("train", "test")]
    first, second = (eg.Windows.of(np.asarray(x, np.float32), y) for x, y in parts)
    return first, second
