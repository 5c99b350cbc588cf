"""Remaining life of turbofan engines (C-MAPSS): few engines, intervals, another fault mode.

    python bench/life.py --data FOLDER [--parts fd001 fd003] [--engines 100 20 5] [--draws 5]
        [--methods NAME ...] [--development] [--out PLACE]

FOLDER holds train_FD001.txt, test_FD001.txt, test_FD003.txt and their true lives. Remaining life is
in cycles, capped at 125. Windows are 30 cycles with the channels derived from each engine's own
beginning. Of 20 and 5 engines, which ones are drawn anew with each seed.

fd001: trained on engines of FD001, scored at the last window of each of the 100 test engines,
against the truth capped at 125 (`rmse`, as the usual tables do) and as it is (`rmse_uncapped`).
fd003: trained on FD001, scored on FD003, whose engines fail in a second way too; then with the
true lives of 5 test engines of FD003 as labels and the 95 others to be told.

With --development no test engine is read for fd001: a third of the training engines is left out,
each cut off at ten random ages. For fd003 the development part are the test engines of odd
number. Cells are written as they come; cells already there are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import edgegraft as eg
from edgegraft.adapt.strategy import build_strategy
from edgegraft.data.dataset import Dataset
from edgegraft.data.domains import beside, joined
from edgegraft.tasks.regression import Regression
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.signal import Channel, Recording, Windows

CAP, LENGTH, SHORTEST = 125.0, 30, 31
DERIVED = ("start:*:20", "mean:*:50", "age")
TASK = Regression(target="remaining", cap=CAP, unit="cycles")
NAMES = ("set1", "set2", "set3", *(f"s{number}" for number in range(1, 22)))
METHODS = {
    "median": ("median", {}),
    "ridge on statistics": ("regress", {}),
    "boosted trees": ("boost", {}),
    "trend": ("trend", {}),
    "trend alone": ("trend", {"alone": True}),
}
CROSSINGS = {
    "boosted trees, not adapted": ("boosted trees", "", False, False),
    "ridge on statistics, not adapted": ("ridge on statistics", "", False, False),
    "trend, not adapted": ("trend", "", False, False),
    "boosted trees, 5 lives alone": ("boosted trees", "own", False, False),
    "trend, 5 lives alone": ("trend alone", "own", False, False),
    "trend, windows of 5 engines without lives": ("trend", "blank", True, False),
    "trend, 5 lives": ("trend", "own", True, False),
    "trend, 5 lives, pool of the tested": ("trend", "own", True, True),
}
"""Of FD003: the method, which of its windows are given, whether FD001 is, whether a pool is."""
Engines = Mapping[int, np.ndarray]


def engines(place: Path) -> Engines:
    """Values (n_channels, n_cycles) by the number of the engine."""
    table = np.loadtxt(place)
    return {
        int(unit): table[table[:, 0] == unit, 2:].T.astype(np.float32)
        for unit in np.unique(table[:, 0])
    }


def windows_of(
    units: Engines, lives: Mapping[int, float] | None = None, stride: int = 1
) -> Windows:
    """Windows of engines with what remained; `lives` is what did at their ends, 0 if not given."""
    channels = tuple(Channel(name) for name in NAMES)
    recordings = []
    for unit, values in units.items():
        recordings.append(Recording(values, channels, 1.0, (), str(unit), 0.0, f"engine {unit}"))
    data = Dataset(tuple(recordings)).with_derived(DERIVED)
    data = replace(
        data, options=replace(data.options, window_s=float(LENGTH), stride_s=float(stride))
    )
    windows = TASK.windows(data)
    if lives is None:
        return windows
    ends = np.array([units[int(group)].shape[1] for group in windows.groups])
    left = np.array([lives[int(group)] for group in windows.groups])
    y = ends - windows.start - LENGTH + left
    return TASK.relabelled(replace(windows, y=y.astype(np.float32)[:, None]))


def last_windows(units: Engines, lives: Mapping[int, float]) -> tuple[Windows, np.ndarray]:
    """The last window of each engine, and what truly remained, uncapped."""
    windows = windows_of(units, lives)
    kept = [np.flatnonzero(windows.groups == str(unit))[-1] for unit in units]
    return windows.take(np.array(kept)), np.array([lives[unit] for unit in units])


def cut_off(units: Engines, times: int, seed: int) -> tuple[Windows, np.ndarray]:
    """Windows at random ages of engines that ran to failure, and what remained."""
    windows = windows_of(units)
    kept, truth = [], []
    for unit, values in units.items():
        life = values.shape[1]
        ages = np.random.default_rng([seed, unit]).integers(SHORTEST, life - 4, times)
        kept.append(np.flatnonzero(windows.groups == str(unit))[ages - LENGTH])
        truth.append(life - ages)
    return windows.take(np.concatenate(kept)), np.concatenate(truth)


def scores(table: np.ndarray, truth: np.ndarray) -> dict:
    """Of the last windows: errors, asymmetric score summed, intervals."""
    capped = np.minimum(truth, CAP)
    low, point, high = table.T
    error = point - capped
    late = np.expm1(np.where(error < 0, -error / 13, error / 10))
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "rmse_uncapped": float(np.sqrt(np.mean((point - truth) ** 2))),
        "mae": float(np.abs(error).mean()),
        "score": float(late.sum() * 100 / len(late)),
        "coverage": float(np.mean((low <= capped) & (capped <= high))),
        "coverage_uncapped": float(np.mean((low <= truth) & (truth <= high))),
        "width": float((high - low).mean()),
    }


def fitted(method: str, train: Windows, seed: int) -> tuple[eg.Adapted, float]:
    name, options = METHODS[method]
    backbone = load_backbone("statistics" if name == "regress" else "raw")
    strategy = build_strategy(name, {f"{name}.{key}": value for key, value in options.items()})
    began = time.process_time()
    adapted = strategy.adapt(backbone, train, TASK, seed=seed)
    return adapted, time.process_time() - began


def fd001(options: argparse.Namespace, known: set) -> Iterator[dict]:
    train = engines(options.data / "train_FD001.txt")
    every = np.array(sorted(train))
    for n_engines in options.engines:
        for seed in range(options.draws if n_engines < 100 or options.development else 1):
            order = np.random.default_rng([n_engines, seed]).permutation(every)
            taught, tested = order[:n_engines], order[n_engines:]
            if options.development:
                order = np.random.default_rng([7, seed]).permutation(every)
                tested = order[:33]
                taught = order[33:][:n_engines]
                test, truth = cut_off({u: train[u] for u in sorted(tested)}, 10, 0)
            else:
                lives = dict(enumerate(np.loadtxt(options.data / "RUL_FD001.txt"), 1))
                test, truth = last_windows(engines(options.data / "test_FD001.txt"), lives)
            given = windows_of({u: train[u] for u in sorted(taught)})
            for method in options.methods:
                key = {"part": "fd001", "engines": n_engines, "seed": seed, "method": method}
                if tuple(key.values()) in known:
                    continue
                adapted, seconds = fitted(method, given, seed)
                table = adapted.predict(test).probabilities
                yield key | scores(table, truth) | {"seconds": seconds} | _told(adapted)


def fd003(options: argparse.Namespace, known: set) -> Iterator[dict]:
    """Sources: FD001. Target: FD003, whose units of odd number alone serve development."""
    train = engines(options.data / "train_FD001.txt")
    test = engines(options.data / "test_FD003.txt")
    lives = dict(enumerate(np.loadtxt(options.data / "RUL_FD003.txt"), 1))
    if options.development:
        test = {unit: values for unit, values in test.items() if unit % 2}
    source = windows_of(train)
    for seed in range(options.draws):
        order = np.random.default_rng([3, seed]).permutation(np.array(sorted(test)))
        five, rest = sorted(order[:5].tolist()), sorted(order[5:].tolist())
        asked, truth = last_windows({u: test[u] for u in rest}, lives)
        own = windows_of({u: test[u] for u in five}, lives)
        pool = windows_of({u: test[u] for u in rest}, stride=5)  # its lives are dropped below
        blank = own.take(np.arange(0, len(own), 5))
        blank = replace(blank, y=np.full_like(blank.y, np.nan))
        for method, (name, first, others, has_pool) in CROSSINGS.items():
            key = {"part": "fd003", "engines": 5, "seed": seed, "method": method}
            if tuple(key.values()) in known or method not in options.crossings:
                continue
            given = {"own": own, "blank": blank, "": source}[first]
            if others:
                beyond = beside(given, pool if has_pool else None, {"FD001": source})
                given = joined(given, beyond)
            adapted, seconds = fitted(name, given, seed)
            table = adapted.predict(asked).probabilities
            yield key | scores(table, truth) | {"seconds": seconds} | _told(adapted)


def _told(adapted: eg.Adapted) -> dict:
    names = ("learners", "shares", "left_out_rmse")
    return {f"chosen_{k}": adapted.lineage[k] for k in names if k in adapted.lineage}


def rows_of(cells: list[dict], part: str) -> Iterator[list[str]]:
    """A row for each method: means over the draws, and their 95 % interval by Student's t."""
    from scipy.stats import t

    order = {name: place for place, name in enumerate((*METHODS, *CROSSINGS))}
    keys = {(c["engines"], c["method"]) for c in cells if c["part"] == part}
    for n_engines, method in sorted(keys, key=lambda key: (-key[0], order[key[1]])):
        own = [
            c for c in cells if (c["part"], c["engines"], c["method"]) == (part, n_engines, method)
        ]
        values = np.array([c["rmse"] for c in own])
        spread = ""
        if len(own) > 1:
            half = t.ppf(0.975, len(own) - 1) * values.std(ddof=1) / np.sqrt(len(own))
            spread = f" ({values.mean() - half:.1f} to {values.mean() + half:.1f})"

        def mean(name: str, own: list[dict] = own) -> float:
            return float(np.mean([c[name] for c in own]))

        yield [
            str(n_engines),
            method,
            str(len(own)),
            f"{values.mean():.2f}{spread}",
            f"{mean('rmse_uncapped'):.2f}",
            f"{mean('score'):.0f}",
            f"{100 * mean('coverage'):.1f} %",
            f"{mean('width'):.0f}",
            f"{mean('seconds'):.0f}",
        ]


def notes(out: Path) -> str:
    """What was written below the tables by hand stays there."""
    page = out.with_suffix(".md")
    written = page.read_text() if page.exists() else ""
    return "\n## Notes" + written.split("\n## Notes", 1)[1] if "\n## Notes" in written else ""


def table(cells: list[dict], development: bool) -> str:
    """The page of results, in Markdown."""
    titles = {"fd001": "FD001 from engines of FD001", "fd003": "FD003 from FD001"}
    head = ["engines", "method", "draws", "RMSE, truth capped at 125", "RMSE, truth as it is",
            "score", "covered (90 %)", "width", "CPU s"]  # fmt: skip
    lines = ["# Remaining life of turbofan engines", ""]
    lines += ["On development data: training engines left out, cut off at random ages.", ""] * (
        development
    )
    for part, title in titles.items():
        rows = list(rows_of(cells, part))
        if rows:
            lines += [f"## {title}", "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
            lines += [f"| {' | '.join(row)} |" for row in rows] + [""]
    lines += [
        "Cycles. Means over draws of engines (the seed is the number of the draw), in parentheses",
        "the 95 % interval of the mean RMSE by Student's t. Score: the asymmetric one of the 2008",
        "challenge, summed, per 100 engines. Covered: truths, capped at 125, within the 90 %",
        "interval; width: its mean. Of FD003 the column engines counts labelled target engines,",
        "where there are any.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", default=["fd001", "fd003"])
    parser.add_argument("--engines", type=int, nargs="+", default=[100, 20, 5])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=list(METHODS)[:4])
    parser.add_argument("--crossings", nargs="+", default=list(CROSSINGS))
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    name = "life_development" if options.development else "life"
    out = options.out or Path(__file__).parent / "results" / name
    out.parent.mkdir(parents=True, exist_ok=True)
    place = out.with_suffix(".json")
    cells = json.loads(place.read_text()) if place.exists() else []
    known = {(c["part"], c["engines"], c["seed"], c["method"]) for c in cells}
    parts = {"fd001": fd001, "fd003": fd003}
    for part in options.parts:
        for cell in parts[part](options, known):
            cells.append(cell)
            place.write_text(json.dumps(cells, indent=1) + "\n")
            print(cell, flush=True)
    out.with_suffix(".md").write_text(table(cells, options.development) + notes(out))


if __name__ == "__main__":
    main()
