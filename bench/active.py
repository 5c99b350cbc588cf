"""What it is worth to choose the windows that are labelled: ours, coverage, doubt, chance.

    python bench/active.py --data FOLDER [--seeds 5] [--cases NAME ...] [--final]

FOLDER holds uci_har, umafall and cwru_bearing. Labels are asked for one round after another, until
there are 1, 2, 5 and 10 times as many as classes; what is chosen without labels cannot know the
classes, so some have none at first, which counts as wrong. Then strategies learn from them, the
rest of the pool unlabelled beside, and are scored on the test part. Development cases as in
`development_data`; with --final the people of UCI HAR's test file, on which nothing was chosen.
Cells are appended as they come, and a second run goes on where the first stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import t as student
from threadpoolctl import threadpool_limits

import edgegraft as eg
from development_data import Case, cases
from edgegraft.adapt.active import disagreement, facility, fused, k_centre, margin, typical
from edgegraft.adapt.choice import choose, doubt_of, views_of
from edgegraft.adapt.strategy import build_strategy
from edgegraft.plan import contenders
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import EdgegraftError

BUDGETS = (1, 2, 5, 10)
STRATEGIES = ("spread", "blend", "probe")
OURS, CHANCE = "ours", "chance"


@dataclass(frozen=True)
class Pool:
    """Windows without labels, their views, and what a person would answer."""

    windows: eg.Windows
    truth: np.ndarray
    views: list[np.ndarray]
    z: np.ndarray

    def answered(self, index: np.ndarray) -> eg.Windows:
        y = np.full(len(self.truth), "", dtype=self.truth.dtype)
        y[index] = self.truth[index]
        return replace(self.windows, y=y)


Way = Callable[[Pool, np.ndarray, int, np.random.Generator], np.ndarray]


def ours(pool: Pool, index: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    return choose(pool.answered(index), pool.views, pool.z, count)[0]


def chance(pool: Pool, index: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    return random.choice(np.setdiff1d(np.arange(len(pool.truth)), index), count, replace=False)


def doubted(measure: Callable) -> Way:
    """The windows most in doubt, and nothing else; the first ones by chance."""

    def way(pool: Pool, index: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
        said = doubt_of(pool.answered(index), pool.views, pool.z).committee
        if said is None:
            return chance(pool, index, count, random)
        doubt = measure(said.tables)
        left = np.setdiff1d(np.arange(len(doubt)), index)
        return left[np.argsort(-doubt[left], kind="stable")[:count]]

    return way


WAYS: Mapping[str, Way] = {
    OURS: ours,
    CHANCE: chance,
    "coverage only": lambda pool, index, count, _: facility(pool.z, index, count)[0],
    "k-means only (TypiClust)": lambda pool, index, count, _: typical(pool.z, index, count),
    "k-centre only": lambda pool, index, count, _: k_centre(pool.z, index, count),
    "margin only": doubted(lambda tables: margin(tables.mean(axis=0))),
    "BALD only": doubted(disagreement),
}


def cells(case: Case, ways: list[str], names: list[str]) -> Iterator[dict]:
    """One cell for each way, budget and strategy."""
    bare = replace(case.pool, y=np.full(len(case.pool), ""))
    views, _ = views_of(bare, contenders("auto", case.pool.spec.kind), seed=case.draw)
    pool = Pool(bare, case.pool.y, list(views.values()), fused(list(views.values())))
    n_classes = len(case.pool.classes)
    for way in ways:
        random = np.random.default_rng(case.draw)
        index = np.zeros(0, dtype=np.int64)
        seconds = 0.0
        for budget in BUDGETS:
            more = budget * n_classes - len(index)
            if 2 * (len(index) + more) > len(pool.truth):
                break
            began = time.thread_time()
            index = np.concatenate([index, WAYS[way](pool, index, more, random)])
            seconds += time.thread_time() - began
            train = pool.answered(index)
            found = {name: accuracy(name, train, case) for name in names}
            yield {"case": case.name, "draw": case.draw, "way": way, "budget": budget,
                   "classes": len(train.classes) / n_classes, "seconds": seconds,
                   "accuracy": found}  # fmt: skip


def accuracy(name: str, train: eg.Windows, case: Case) -> float | None:
    """Of a strategy on the test part; a class without label is always got wrong."""
    if len(train.classes) < 2:
        return float((case.test.y == train.classes[0]).mean())
    strategy = build_strategy(name)
    try:
        adapted = strategy.adapt(load_backbone("minirocket"), train, Classification(), seed=0)
    except EdgegraftError:
        return None
    said = adapted.predict(replace(case.test, y=np.full(len(case.test), "")))
    return float((np.array(said.labels) == case.test.y).mean())


def final_cases(data: Path, seeds: int) -> Iterator[Case]:
    """UCI HAR's people as its authors divided them, 2,400 and 950 windows of each."""
    train, test = (eg.open_data(data / f"uci_har/{part}.npz").windows()
                   for part in ("train", "test"))  # fmt: skip
    for seed in range(seeds):
        random = np.random.default_rng([11, seed])
        some = [np.sort(random.permutation(len(w))[:n]) for w, n in ((train, 2400), (test, 950))]
        yield Case("UCI HAR test people", seed, train.take(some[0]), test.take(some[1]))


def markdown(found: list[dict]) -> str:
    """For each strategy the mean accuracy by way and budget, and ours less each other, paired."""
    names = [name for name in STRATEGIES if any(name in cell["accuracy"] for cell in found)]
    ways = list(dict.fromkeys(cell["way"] for cell in found))
    cases_ = list(dict.fromkeys(cell["case"] for cell in found))
    budgets = sorted({cell["budget"] for cell in found})
    lines = [
        f"Accuracy in points, mean over cases ({', '.join(cases_)})",
        f"that each count the same, and draws (there are {len({c['draw'] for c in found})}). In",
        "brackets: ours less that way, with a 95 % t interval over draws where there are several.",
        "n: labels, in multiples of the number of classes.",
    ]
    for name in names:
        lines += ["", f"Labels used by `{name}`:", "",
                  "| chosen by | " + " | ".join(f"n={n}" for n in budgets) + " |",
                  "|---|" + "---|" * len(budgets)]  # fmt: skip
        for way in ways:
            row = []
            for budget in budgets:
                own, other = (by_draw(found, name, each, budget) for each in (OURS, way))
                if not other:
                    row.append("–")
                    continue
                text = f"{np.mean(list(other.values())):.1f}"
                if way != OURS and own:
                    text += f" ({interval([own[d] - other[d] for d in own if d in other])})"
                row.append(text)
            lines.append(f"| {way} | " + " | ".join(row) + " |")
    lines += ["", "Share of the classes with a label at n=1, and thread seconds of all rounds: "
              + "; ".join(f"{way} {mean(found, way, 'classes', budgets[0]):.2f}, "
                          f"{mean(found, way, 'seconds', budgets[-1]):.2f} s" for way in ways)
              + "."]  # fmt: skip
    lines += ["", f"By case, ours / chance, labels used by `{names[0]}`.", "",
              "| case | " + " | ".join(f"n={n}" for n in budgets) + " |",
              "|---|" + "---|" * len(budgets)]  # fmt: skip
    for case in cases_:
        row = []
        for budget in budgets:
            own = [cell for cell in found if cell["case"] == case]
            pair = [by_draw(own, names[0], way, budget) for way in (OURS, CHANCE)]
            row.append(" / ".join(f"{np.mean(list(p.values())):.1f}" for p in pair)
                       if all(pair) else "")  # fmt: skip
        lines.append(f"| {case} | " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def by_draw(found: list[dict], name: str, way: str, budget: int) -> dict[int, float]:
    """Mean over cases for each draw, in points."""
    out: dict[int, list[float]] = {}
    for cell in found:
        if cell["way"] == way and cell["budget"] == budget and name in cell["accuracy"]:
            out.setdefault(cell["draw"], []).append(100 * (cell["accuracy"][name] or 0.0))
    return {draw: float(np.mean(values)) for draw, values in out.items()}


def mean(found: list[dict], way: str, key: str, budget: int) -> float:
    values = [c[key] for c in found if c["way"] == way and c["budget"] == budget]
    return float(np.mean(values)) if values else float("nan")


def interval(values: list[float]) -> str:
    if len(values) < 2:
        return f"{np.mean(values):+.1f}"
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):+.1f} ± {half:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cases", nargs="*", help="only cases whose name begins so")
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    parser.add_argument("--strategies", nargs="*", default=list(STRATEGIES))
    parser.add_argument("--final", action="store_true", help="UCI HAR's test people instead")
    parser.add_argument("--cells", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    name = "active_final" if options.final else "active"
    out = options.out or Path(__file__).parent / "results" / name
    place = options.cells or Path(f".edgegraft/{name}.jsonl")
    place.parent.mkdir(parents=True, exist_ok=True)
    found = [json.loads(line) for line in place.open()] if place.exists() else []
    done = {(cell["case"], cell["draw"], cell["way"]) for cell in found}
    with threadpool_limits(limits=1):
        for case in (final_cases if options.final else cases)(options.data, options.seeds):
            ways = [way for way in options.ways if (case.name, case.draw, way) not in done]
            if not ways or (options.cases and not case.name.startswith(tuple(options.cases))):
                continue
            began = time.perf_counter()
            fresh = list(cells(case, ways, options.strategies))
            with place.open("a") as file:
                file.writelines(json.dumps(cell) + "\n" for cell in fresh)
            found += fresh
            print(case.name, case.draw, f"{time.perf_counter() - began:.1f} s", flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(found, indent=None) + "\n")
    out.with_suffix(".md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
