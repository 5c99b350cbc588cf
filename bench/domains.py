"""Another person, load or bearing: what transfer from a labelled source is worth. Two tables.

    python bench/domains.py --data DATA --table b     people, no target labels (UCI HAR)
    python bench/domains.py --data DATA --table c     loads and fault diameters (CWRU)

DATA holds uci_har and cwru_bearing. Cells that are in the JSON file already are not run again;
--seeds, --methods and --cases run a part. Embeddings are computed anew for every cell, so that
seconds count from raw windows.

(b) Source and target are two of the thirty people: pairs of Ragab and others, AdaTime, 2023. All
windows of the source carry labels. Of the target 70 % are the pool, 30 % are scored, drawn by
class. There are some 110 windows of a person (77 to 130), so 25 to 38 are scored. The set as it
is cut holds windows that overlap by half, and does not say which: pool and scored windows may.

(c) A window is 1024 samples. Of each recording of the target the first forty windows are labels
and pool; ten are skipped (.85 s); the next forty are scored. Across loads, bearings are the same,
so groups are not given. Across bearings one fault diameter is the target, five windows per class
of the other diameters are the source, at one load; groups are bearings.

Reference: table (b) the default blend fitted on the source alone; table (c) the blend fitted on
the target's labels alone, or on the source where there are none.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["EDGEGRAFT_CACHE"] = "off"

import numpy as np
from threadpoolctl import threadpool_limits

import edgegraft as eg
from edgegraft import catalog
from edgegraft.adapt.strategy import build_strategy
from edgegraft.data.domains import beside, joined
from edgegraft.data.split import few_shot
from edgegraft.evaluate.evaluation import evaluate
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.cache import forget
from edgegraft.zoo.registry import load_backbone

PAIRS = "2-11 6-23 7-13 9-18 12-16 18-27 20-5 24-8 28-27 30-20"
DEVELOPMENT = "1-3 3-14 14-15 15-17 17-19 19-21 21-22 22-25 25-26 26-29 29-1 1-19"
CLOSED = ("pooled", "weighted", "standardise", "coral", "mmd", "importance", "toward-source")
OTHERS = ("spread", "dann", "cdan", "shot", "tent", "guard")
SOURCE_ONLY, TARGET_ONLY = "source only: blend", "target only: blend"
TREES, NAIVE = "target only: statistics, trees", "both as one: blend"
LENGTH, PART, GAP = 1024, 40, 10
LABELS = (0, 1, 5, 10)


@dataclass(frozen=True)
class Cell:
    """A task: labelled windows of the target, its pool, a source, and windows that are scored."""

    table: str
    case: str
    labels: int
    seed: int
    target: eg.Windows
    pool: eg.Windows
    source: eg.Windows
    test: eg.Windows

    def key(self, method: str) -> tuple:
        return (self.table, self.case, self.labels, self.seed, method)

    @property
    def train(self) -> eg.Windows:
        return joined(self.target, beside(self.target, self.pool, {"source": self.source}))


def people(data: Path, pairs: str, seeds: list[int]) -> Iterator[Cell]:
    parts = [eg.open_data(data / f"uci_har/{part}.npz").windows() for part in ("train", "test")]
    every = joined(*parts)

    def person(number: int) -> eg.Windows:
        return every.take(np.flatnonzero(every.groups == f"person{number:02d}"))

    for seed in seeds:
        for source, target in (map(int, pair.split("-")) for pair in pairs.split()):
            own = person(target)
            random, scored = np.random.default_rng([seed, target]), np.zeros(len(own), bool)
            for name in own.classes:
                index = random.permutation(np.flatnonzero(own.y == name))
                scored[index[: round(0.3 * len(index))]] = True
            pool, test = own.take(np.flatnonzero(~scored)), own.take(np.flatnonzero(scored))
            yield Cell("b", f"{source} to {target}", 0, seed, none(own), pool, person(source), test)


def none(windows: eg.Windows) -> eg.Windows:
    return windows.take(np.zeros(0, dtype=np.int64))


def bearings(folder: Path, load_hp: int, first: int) -> eg.Windows:
    """Forty windows of each recording of the drive end, from the window of that number on."""
    x, y, groups = [], [], []
    for entry in json.loads((folder / "index.json").read_text()):
        if entry["load_hp"] != load_hp or entry["fault"].lower().startswith("normal"):
            continue
        values = np.load(folder / entry["file"])["DE"][first * LENGTH : (first + PART) * LENGTH]
        n = len(values) // LENGTH
        x.append(values[: n * LENGTH].reshape(n, 1, LENGTH))
        y += [entry["fault"][:2]] * n
        groups += [f"{entry['fault']}_{entry['mils']}"] * n
    return eg.Windows.of(np.concatenate(x), y, groups, rate_hz=12000.0, channels=["DE"])


def loads(data: Path, pairs: tuple, labels: tuple[int, ...], seeds: list[int]) -> Iterator[Cell]:
    for source, target in pairs:
        given, own, test = (
            replace(found, groups=np.full(len(found), ""))
            for found in (
                bearings(data / "cwru_bearing", source, 0),
                bearings(data / "cwru_bearing", target, 0),
                bearings(data / "cwru_bearing", target, PART + GAP),
            )
        )
        for n_labels in labels:
            for seed in seeds:
                few = few_shot(own, n_labels, seed=seed) if n_labels else np.zeros(0, np.int64)
                rest = own.take(np.setdiff1d(np.arange(len(own)), few))
                case = f"load {source} to {target}"
                yield Cell("c", case, n_labels, seed, own.take(few), rest, given, test)


def diameters(data: Path, load_hp: int, seeds: list[int]) -> Iterator[Cell]:
    own = bearings(data / "cwru_bearing", load_hp, 0)
    later = bearings(data / "cwru_bearing", load_hp, PART + GAP)
    for mils in ("7", "14", "21"):
        held, tested = ([g.endswith(f"_{mils}") for g in w.groups] for w in (own, later))
        others = own.take(np.flatnonzero(~np.array(held)))
        pool, test = own.take(np.flatnonzero(held)), later.take(np.flatnonzero(tested))
        for seed in seeds:
            source = others.take(few_shot(others, 5, seed=seed))
            case = f"diameter {mils}, load {load_hp}"
            yield Cell("c", case, 0, seed, none(own), pool, source, test)


def methods(names: list[str]) -> list[str]:
    known = catalog.names("strategies")
    usual = [SOURCE_ONLY, TARGET_ONLY, TREES, NAIVE]
    usual += [name for name in (*CLOSED, *OTHERS) if name in known]
    return [name for name in usual if not names or any(part in name for part in names)]


def fit(cell: Cell, method: str):
    """A fitted model, or None where the method has nothing to learn from."""
    task, motion = Classification(), load_backbone("conv1d-motion")
    if method in (TARGET_ONLY, TREES) and not len(cell.target):
        return None
    if method == TREES:
        return build_strategy("trees").adapt(
            load_backbone("statistics"), cell.target, task, seed=cell.seed
        )
    if method in (SOURCE_ONLY, TARGET_ONLY, NAIVE):
        if method == NAIVE and not len(cell.target):
            return None
        chosen = {
            SOURCE_ONLY: cell.source,
            TARGET_ONLY: cell.target,
            NAIVE: joined(cell.target, replace(cell.source, spec=cell.target.spec)),
        }[method]
        return build_strategy("blend").adapt(motion, chosen, task, seed=cell.seed)
    return build_strategy(method).adapt(motion, cell.train, task, seed=cell.seed)


def run(cells: Iterator[Cell], names: list[str], out: Path) -> list[dict]:
    file = out.with_suffix(".json")
    done = json.loads(file.read_text()) if file.exists() else []
    there = {(d["table"], d["case"], d["labels"], d["seed"], d["method"]) for d in done}
    for cell in cells:
        for method in methods(names):
            if cell.key(method) in there:
                continue
            forget()
            began, cpu = time.perf_counter(), time.process_time()
            model = fit(cell, method)
            if model is None:
                continue
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            found = evaluate(model, cell.test, Classification()).metrics
            place = ("table", "case", "labels", "seed", "method")
            done.append(dict(zip(place, cell.key(method), strict=True)) | {
                "accuracy": found["accuracy"], "macro_f1": found["macro_f1"],
                "log_loss": found["log_loss"], "seconds": seconds, "cpu_seconds": cpu,
                "n_scored": len(cell.test),
            })  # fmt: skip
            print(json.dumps(done[-1]), flush=True)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(done, indent=1))
    return done


def markdown(done: list[dict]) -> str:
    lines: list[str] = []
    people_cells = [d for d in done if d["table"] == "b"]
    if people_cells:
        n = len({d["case"] for d in people_cells})
        lines += [
            f"## People, no target labels: macro F1, mean of {n} pairs", "",
            "Mean over seeds with half the 95 % t interval; the difference to the reference is",
            "paired by seed. Seconds are those of all pairs, from raw windows, one seed.", "",
            "| method | macro F1 | difference | worst pair | log loss | seconds |",
            "|---|---|---|---|---|---|",
        ]  # fmt: skip
        for method in _methods(people_cells):
            own = [d for d in people_cells if d["method"] == method]
            value, by_seed = _by_seed(own, "macro_f1"), _by_seed(own, "seconds", np.sum)
            cases = {d["case"] for d in own}
            worst = min(np.mean([d["macro_f1"] for d in own if d["case"] == c]) for c in cases)
            loss = np.mean([d["log_loss"] for d in own])
            lines.append(
                f"| {method} | {_interval(value)} | {_paired(people_cells, method, SOURCE_ONLY)} | "
                f"{worst:.3f} | {loss:.2f} | {np.mean(list(by_seed.values())):.1f} |"
            )
    for title, part in (("Loads", "load "), ("Fault diameters held out, no target labels", "diam")):
        cells = [d for d in done if d["table"] == "c" and d["case"].startswith(part)]
        for case in dict.fromkeys(d["case"] for d in cells):
            own = [d for d in cells if d["case"] == case]
            labels = sorted({d["labels"] for d in own})
            lines += ["", f"## {title}: {case}, accuracy", ""]
            heads = [f"{n} labels" for n in labels]
            heads += [f"difference, {n}" for n in labels]
            lines += ["| method | " + " | ".join(heads) + " | seconds |"]
            lines += ["|---|" + "---|" * (len(heads) + 1)]
            for method in _methods(own):
                row, away = [], []
                for n in labels:
                    there = [d for d in own if d["labels"] == n]
                    mine = [d for d in there if d["method"] == method]
                    row.append(_interval(_by_seed(mine, "accuracy")) if mine else "")
                    reference = TARGET_ONLY if n else SOURCE_ONLY
                    away.append(_paired(there, method, reference, "accuracy"))
                seconds = np.mean([d["seconds"] for d in own if d["method"] == method])
                lines.append(f"| {method} | {' | '.join(row + away)} | {seconds:.1f} |")
    return "\n".join(lines).strip() + "\n"


def _methods(cells: list[dict]) -> list[str]:
    order = [SOURCE_ONLY, TARGET_ONLY, TREES, NAIVE, *CLOSED, *OTHERS]
    return [name for name in order if any(d["method"] == name for d in cells)]


def _by_seed(cells: list[dict], what: str, of=np.mean) -> dict[int, float]:
    seeds = sorted({d["seed"] for d in cells})
    return {s: float(of([d[what] for d in cells if d["seed"] == s])) for s in seeds}


def _interval(by_seed: dict[int, float], times: float = 1.0, sign: str = "") -> str:
    from scipy.stats import t

    values = np.array(list(by_seed.values())) * times
    half = 0.0
    if len(values) > 1:
        half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    digits = 1 if times > 1 else 3
    return f"{values.mean():{sign}.{digits}f} ± {half:.{digits}f}"


def _paired(cells: list[dict], method: str, reference: str, what: str = "macro_f1") -> str:
    """Points of difference to the reference on the same cells."""
    one, other = (
        {(d["case"], d["labels"], d["seed"]): d for d in cells if d["method"] == name}
        for name in (method, reference)
    )
    both = [key for key in one if key in other]
    if method == reference or not both:
        return ""
    away = [{"seed": k[2], "away": one[k][what] - other[k][what]} for k in both]
    return _interval(_by_seed(away, "away"), 100.0, "+")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--table", choices=["b", "c"], required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--labels", type=int, nargs="+", default=list(LABELS))
    parser.add_argument("--methods", nargs="*", default=[], help="parts of the names of methods")
    parser.add_argument("--cases", nargs="*", default=[""], help="parts of the names of cases")
    parser.add_argument(
        "--development", action="store_true", help="other people and loads, to choose defaults by"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/domains")
    options = parser.parse_args()
    seeds, data, trial = options.seeds, options.data, options.development
    if trial:
        options.out = options.out.with_name(options.out.name + "_development")
    if options.table == "b":
        cells = people(data, DEVELOPMENT if trial else PAIRS, seeds)
    else:
        pairs = ((1, 2), (2, 1)) if trial else ((0, 3), (3, 0))
        cells = (
            cell
            for part in (loads(data, pairs, options.labels, seeds),
                         diameters(data, 1 if trial else 0, seeds))
            for cell in part
        )  # fmt: skip
    cells = (cell for cell in cells if any(part in cell.case for part in options.cases))
    with threadpool_limits(limits=1):
        done = run(cells, options.methods, options.out)
    table = markdown(done)
    options.out.with_suffix(".md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
