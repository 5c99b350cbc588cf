"""The guard among bad sources and bad pools: its accuracy less that of labels alone, cell by cell.

    python bench/hostile.py --data DATA [--seeds 3] [--cells A:B] [--development] [--experts]

DATA holds uci_har, umafall and cwru_bearing; BasicMotions comes with aeon. A cell is a data set, a
condition of what is beside the labels, labels per class, and a draw; `hostile_cells` builds it.
The guard was developed with --development (other people, loads and positions, other sets of aeon)
and run on the cells of the suite once. Cells that the results hold are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from edgegraft.adapt.guard import Guard, ways_of
from edgegraft.adapt.scored import score
from edgegraft.adapt.strategy import build_strategy
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import EdgegraftError
from hostile_cells import CONDITIONS, Cell, cell, scenes

TASK = Classification()
LABELS = (1, 2, 5, 10)
RESULTS = Path(__file__).parent / "results"


def cells(data: Path, seeds: int, development: bool) -> Iterator[Cell]:
    """Every data set and condition; labels per class go round with condition, set and draw."""
    for seed in range(seeds):
        found = list(scenes(data, seed, development))
        for place, scene in enumerate(found):
            other = found[(place + 2) % len(found)]
            for number, condition in enumerate(CONDITIONS):
                labels = LABELS[(number + place + seed) % len(LABELS)]
                made = cell(scene, other, condition, labels, seed)
                if made is not None:
                    yield made


def run(made: Cell, backbone: str, experts: bool) -> dict:
    """The guard, its reference and, if asked, each expert on the tested windows."""
    bound, guard = load_backbone(backbone), Guard()
    blank = replace(made.tested, y=np.full(len(made.tested), ""))

    def accuracy(strategy) -> float:
        said = score(strategy, bound, made.train, TASK, seed=made.seed).adapted.predict(blank)
        return float((np.array(said.classes)[said.probabilities.argmax(1)] == made.tested.y).mean())

    began = time.process_time()
    adapted = score(guard, bound, made.train, TASK, seed=made.seed).adapted
    seconds = time.process_time() - began
    found = {
        "cell": made.name, "scene": made.scene, "condition": made.condition,
        "labels": made.labels, "seed": made.seed, "tested": len(made.tested),
        "guard": accuracy(guard), "reference": accuracy(build_strategy(guard.reference)),
        "seconds": round(seconds, 2), "lineage": adapted.lineage["guard"],
    }  # fmt: skip
    if experts:
        found["experts"] = {}
        for way in ways_of(made.train):
            if not way.sources:
                try:
                    found["experts"][way.name] = accuracy(way.strategy)
                except EdgegraftError as error:
                    found["experts"][way.name] = str(error)[:80]
    return found


def table(rows: list[dict]) -> str:
    """Means, worst cells and shares by condition, labels and data set, in points of accuracy."""

    def line(name: str, some: list[dict]) -> str:
        d = 100 * np.array([row["guard"] - row["reference"] for row in some])
        mean = 100 * np.mean([row["reference"] for row in some])
        half = interval(d)
        return (
            f"| {name} | {len(d)} | {mean:.1f} | {d.mean():+.2f} ± {half:.2f} | "
            f"{np.percentile(d, 5):+.2f} | {d.min():+.2f} | {(d < -1).sum()} |"
        )

    head = ["| cells | n | reference | guard less reference | 5th percentile | worst | below -1 |",
            "| --- | --- | --- | --- | --- | --- | --- |", line("**all**", rows)]  # fmt: skip
    for key in ("condition", "labels", "scene"):
        values = list(dict.fromkeys(row[key] for row in rows))
        for value in sorted(values, key=lambda v: (str(type(v)), v)):
            head.append(line(f"{key} {value}", [row for row in rows if row[key] == value]))
    rules = [row["lineage"]["rule"] for row in rows]
    counts = ", ".join(f"{rule} {rules.count(rule)}" for rule in dict.fromkeys(rules))
    seconds = np.mean([row["seconds"] for row in rows])
    return "\n".join([*head, "", f"Rules: {counts}. Mean {seconds:.1f} CPU seconds a cell."])


def interval(d: np.ndarray) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))) if len(d) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cells", default=":", help="those from A to before B, as A:B")
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--experts", action="store_true", help="score each expert as well")
    parser.add_argument("--backbone", default="minirocket")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    name = "hostile_development" if asked.development else "hostile"
    out = asked.out or RESULTS / f"{name}.json"
    rows = json.loads(out.read_text()) if out.exists() else []
    known = {row["cell"] for row in rows}
    first, last = (int(part) if part else None for part in asked.cells.split(":"))
    for made in list(cells(asked.data, asked.seeds, asked.development))[first:last]:
        if made.name in known:
            continue
        rows.append(run(made, asked.backbone, asked.experts))
        row = rows[-1]
        print(
            f"{row['cell']:60s} {row['reference']:.3f} {row['guard'] - row['reference']:+.3f} "
            f"{row['lineage']['rule']:10s} {row['seconds']:.1f} s {row.get('experts', '')}",
            flush=True,
        )
        out.write_text(json.dumps(rows, indent=1) + "\n")
    command = f"python bench/hostile.py --data DATA --seeds {asked.seeds}"
    command += " --development" if asked.development else ""
    out.with_suffix(".md").write_text(
        f"# The hostile suite\n\n`{command}`: accuracy on unseen groups, points; ± is a 95 % "
        f"t interval over cells.\n\n{table(rows)}\n"
    )


if __name__ == "__main__":
    main()
