"""Bearings with a fault of a size never seen: what physics features are worth (CWRU).

    python bench/physics.py --data DATA

DATA holds cwru_bearing. One fault diameter (7, 14 or 21 thousandths of an inch) is held out, the
other two are learned from, all loads; classes are ball, inner and outer race. Windows are two
seconds of both accelerometers (drive end and fan end, 12 kHz) and the shaft speed as a channel;
recordings are wholly on one side. The healthy machine was recorded once, so it cannot be held out
and is no class: the rule, which learns from nothing, is asked about it apart.

`orders` rows: the bearing's fault orders from its data sheet. "chosen" takes, for each hold-out,
the row that does best where each of the two training diameters is learned from to find the other;
it sees nothing of the diameter held out. Cells that are in the JSON already are not run again;
--methods and --cases run a part.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import edgegraft as eg
from edgegraft.adapt.strategy import build_strategy
from edgegraft.evaluate.evaluation import evaluate
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone

RATE_HZ, WINDOW = 12000.0, 24000
BEARING = "speed=rpm,n_balls=9,ball_mm=7.94,pitch_mm=39.04"  # 6205-2RS, drive end
MILS = ("7", "14", "21")
BALANCED = {"probe.balanced": True}
METHODS = {
    "orders, probe": (f"orders:{BEARING}", "probe", BALANCED),
    "orders, trees": (f"orders:{BEARING}", "trees", {}),
    "orders by channel, probe": (f"orders:{BEARING},pooled=false", "probe", BALANCED),
    "orders by channel, trees": (f"orders:{BEARING},pooled=false", "trees", {}),
    "zero labels: bearing-rule": (f"orders:{BEARING}", "bearing-rule", {}),
    "control: statistics, trees": ("statistics", "trees", {}),
    "control: spectrum, trees": ("spectrum", "trees", {}),
    "control: minirocket, probe": ("minirocket", "probe", BALANCED),
}
CANDIDATES = [name for name in METHODS if name.startswith("orders")]
CHOSEN = "orders, chosen in training"
RULE = "zero labels: bearing-rule"


@dataclass(frozen=True)
class Case:
    """Train on whole diameters, test on another; `inner` ones choose among rows."""

    name: str
    train: tuple[str, ...]
    test: str

    @property
    def inner(self) -> bool:
        return len(self.train) == 1


CASES = [Case(f"{mils} held out", tuple(m for m in MILS if m != mils), mils) for mils in MILS]
CASES += [Case(f"{a} finds {b}", (a,), b) for a in MILS for b in MILS if a != b]
HEALTHY = "healthy"


def recordings(folder: Path, mils: tuple[str | None, ...]) -> eg.Windows:
    """Windows of the recordings of some diameters; groups are bearings, None is the healthy one."""
    x, y, groups = [], [], []
    for entry in json.loads((folder / "index.json").read_text()):
        if entry["mils"] not in mils:
            continue
        with np.load(folder / entry["file"]) as held:
            both = np.stack([held["DE"], held["FE"]]).astype(np.float32)
        for start in range(0, both.shape[1] - WINDOW + 1, WINDOW):
            speed = np.full((1, WINDOW), entry["rpm"], np.float32)
            x.append(np.concatenate([both[:, start : start + WINDOW], speed]))
            y.append(entry["fault"].partition("@")[0])
            groups.append(f"{entry['fault']} {entry['mils']}")
    return eg.Windows.of(np.stack(x), y, groups, RATE_HZ, ["DE", "FE", "rpm"])


def without_speed(windows: eg.Windows) -> eg.Windows:
    """Controls have no use for the speed."""
    return eg.Windows.of(windows.x[:, :2], windows.y, windows.groups, RATE_HZ, ["DE", "FE"])


def cells(folder: Path, names: list[str], cases: list[str], there: set) -> Iterator[dict]:
    of_mils = {mils: recordings(folder, (mils,)) for mils in MILS}
    for case in CASES:
        if cases and not any(part in case.name for part in cases):
            continue
        train, test = recordings(folder, case.train), of_mils[case.test]
        for name in names:
            if (case.name, name) in there or (case.inner and name not in CANDIDATES):
                continue
            yield measured(case.name, name, train, test)
    if RULE in names and (HEALTHY, RULE) not in there and (not cases or HEALTHY in cases):
        yield healthy(folder)


def measured(case: str, name: str, train: eg.Windows, test: eg.Windows) -> dict:
    backbone, strategy, options = METHODS[name]
    if not backbone.startswith("orders"):
        train, test = without_speed(train), without_speed(test)
    began = time.process_time()
    model = build_strategy(strategy, options).adapt(
        load_backbone(backbone), train, Classification(), seed=0
    )
    found = evaluate(model, test, Classification())
    guesses = model.predict(test).labels
    recall = {c: float(np.mean(guesses[test.y == c] == c)) for c in train.classes}
    return {
        "case": case, "method": name, "accuracy": found.metrics["accuracy"],
        "macro_f1": found.metrics["macro_f1"], "recall": recall, "n_scored": len(test),
        "recordings": len(set(test.groups.tolist())), "cpu_seconds": time.process_time() - began,
    }  # fmt: skip


def healthy(folder: Path) -> dict:
    """How often the rule, with "normal" among its answers, calls the healthy machine so."""
    backbone, strategy, options = METHODS[RULE]
    windows = recordings(folder, (None, *MILS))
    bare = eg.Windows.of(windows.x, None, None, RATE_HZ, ["DE", "FE", "rpm"])
    model = build_strategy(strategy, options).adapt(
        load_backbone(backbone), bare, Classification(), seed=0
    )
    said = model.predict(bare).labels
    kinds = {c: {k: int(np.sum(said[windows.y == c] == k)) for k in model.classes}
             for c in windows.classes}  # fmt: skip
    return {"case": HEALTHY, "method": RULE, "said": kinds}


def markdown(done: list[dict]) -> str:
    outer = {(d["case"], d["method"]): d for d in done if d["case"].endswith("held out")}
    inner = {(d["case"], d["method"]): d for d in done if " finds " in d["case"]}
    cases = [case.name for case in CASES if not case.inner]
    lines = ["## An unseen fault diameter: accuracy / macro F1", ""]
    lines += ["| method | " + " | ".join(cases) + " | mean | CPU s |", "|---|---|---|---|---|---|"]
    rows = {name: [outer.get((case, name)) for case in cases] for name in METHODS}
    picks = [pick(inner, mils) for mils in MILS]
    if all((case, p) in outer for case, p in zip(cases, picks, strict=True)):
        rows = {CHOSEN: [outer[c, p] for c, p in zip(cases, picks, strict=True)], **rows}
    for name, row in rows.items():
        if any(cell is None for cell in row):
            continue
        values = [f"{d['accuracy']:.3f} / {d['macro_f1']:.3f}" for d in row]
        mean = " / ".join(f"{np.mean([d[m] for d in row]):.3f}" for m in ("accuracy", "macro_f1"))
        seconds = np.mean([d["cpu_seconds"] for d in row])
        lines.append(f"| {name} | {' | '.join(values)} | **{mean}** | {seconds:.0f} |")
    if all(picks):
        lines += [
            "",
            "Chosen: " + "; ".join(f"{c}: {p}" for c, p in zip(cases, picks, strict=True)),
        ]
    lines += ["", "## Recall by class", "", "| method | case | ball | inner | outer |",
              "|---|---|---|---|---|"]  # fmt: skip
    for (case, name), d in sorted(outer.items(), key=lambda item: list(METHODS).index(item[0][1])):
        recall = " | ".join(f"{d['recall'][kind]:.2f}" for kind in ("B", "IR", "OR"))
        lines.append(f"| {name} | {case} | {recall} |")
    for d in done:
        if d["case"] == HEALTHY:
            lines += ["", '## The rule with "normal" among its answers, windows', ""]
            kinds = list(next(iter(d["said"].values())))
            lines += ["| in truth | " + " | ".join(kinds) + " |", "|---|" + "---|" * len(kinds)]
            lines += [f"| {c} | " + " | ".join(str(v[k]) for k in kinds) + " |"
                      for c, v in d["said"].items()]  # fmt: skip
    return "\n".join(lines) + "\n"


def pick(inner: dict, mils: str) -> str | None:
    """The row that does best, by mean macro F1, between the two diameters that are not held out."""
    first, second = (m for m in MILS if m != mils)
    pairs = (f"{first} finds {second}", f"{second} finds {first}")
    known = [name for name in CANDIDATES if all((pair, name) in inner for pair in pairs)]
    if len(known) < len(CANDIDATES):
        return None
    return max(known, key=lambda name: np.mean([inner[p, name]["macro_f1"] for p in pairs]))


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--data", type=Path, required=True)
    asked.add_argument("--methods", nargs="*", default=[], help="parts of names of rows")
    asked.add_argument("--cases", nargs="*", default=[], help="parts of names of cases")
    asked.add_argument("--out", type=Path, default=Path(__file__).parent / "results/physics")
    given = asked.parse_args()
    file = given.out.with_suffix(".json")
    done = json.loads(file.read_text()) if file.exists() else []
    there = {(d["case"], d["method"]) for d in done}
    names = [n for n in METHODS if not given.methods or any(part in n for part in given.methods)]
    for cell in cells(given.data / "cwru_bearing", names, given.cases, there):
        done.append(cell)
        print(json.dumps(cell), flush=True)
        file.write_text(json.dumps(done, indent=1))
    notes = file.with_suffix(".notes.md")
    text = markdown(done)
    given.out.with_suffix(".md").write_text(text + (notes.read_text() if notes.exists() else ""))
    print(text)


if __name__ == "__main__":
    main()
