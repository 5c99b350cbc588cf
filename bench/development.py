"""How the default blend is chosen: compositions of experts, compared on development data only.

    python bench/development.py --data FOLDER [--draws 3] [--jobs 2] [--cache FOLDER]

FOLDER holds uci_har, umafall and cwru_bearing; `development_data` says what of them is used. For
each data set, draw and number of labels every expert is fitted once; its left-out probabilities
and its probabilities on the test part go to the cache, under a name made from the code that
counts. A composition (which experts, their shares, the prior) is then a few sums.

The rule: the best mean over the data sets, where none loses more than half a point against what
ships at the time.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("EDGEGRAFT_CACHE", "off")

import numpy as np

import edgegraft
import edgegraft_edge
from development_data import Case, cases
from edgegraft.adapt.blend import Blend, calibrate, weigh
from edgegraft.adapt.calibration import log_loss, softmax
from edgegraft.adapt.expert import Expert, Material, fit_ridge_expert, fit_trees_expert, prepare
from edgegraft.fingerprint import fingerprint
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import DataError

TASK = Classification()
COUNTS = ("adapt/augment.py", "adapt/calibration.py", "adapt/expert.py", "adapt/leave_out.py",
          "adapt/ridge.py", "zoo/conv1d.py", "zoo/level.py", "zoo/minirocket.py", "zoo/ppv.py",
          "zoo/spectrum.py", "zoo/statistics.py")  # fmt: skip
Fit = Callable[[Material, int], Expert]


def ridge(backbone: str, *, copies: int = 7, emphasis: float = 0.25) -> Fit:
    def fit(material: Material, seed: int) -> Expert:
        return fit_ridge_expert(
            load_backbone(backbone), material, seed=seed, copies=copies, emphasis=emphasis
        )

    return fit


def trees(backbone: str, *, copies: int = 7, n_trees: int = 100) -> Fit:
    def fit(material: Material, seed: int) -> Expert:
        return fit_trees_expert(
            load_backbone(backbone), material, seed=seed, copies=copies, n_trees=n_trees
        )

    return fit


EXPERTS: dict[str, Fit] = {
    "ridge encoder": ridge("conv1d-motion"),
    "ridge minirocket": ridge("minirocket"),
    "ridge statistics": ridge("statistics"),
    "ridge spectrum": ridge("spectrum"),
    "trees statistics": trees("statistics"),
    "trees spectrum": trees("spectrum"),
    "plain ridge minirocket": ridge("minirocket", copies=0, emphasis=0),
    "plain trees statistics": trees("statistics", copies=0, n_trees=200),
}
ENCODER, KERNELS, STATISTICS, SPECTRUM = SHIPPED = (
    "ridge encoder",
    "ridge minirocket",
    "trees statistics",
    "trees spectrum",
)
CONTROLS = ("plain ridge minirocket", "plain trees statistics")


@dataclass(frozen=True)
class Composition:
    """A mixture: experts, what each starts with, and how firmly it is held there."""

    experts: tuple[str, ...] = SHIPPED
    shares: tuple[float, ...] = (1, 2, 2, 1)
    prior: float = Blend.prior
    geometric: bool = False


COMPOSITIONS = {
    "what ships": Composition(),
    "equal shares": Composition(shares=(1, 1, 1, 1)),
    "trees on statistics doubled": Composition(shares=(1, 1, 2, 1)),
    "encoder halved": Composition(shares=(1, 2, 2, 2)),
    "shares 1, 3, 3, 2": Composition(shares=(1, 3, 3, 2)),
    "shares fixed": Composition(prior=1e9),
    "prior of 12": Composition(prior=12),
    "prior of 200": Composition(prior=200),
    "geometric mean": Composition(geometric=True),
    "with ridge on statistics and spectrum": Composition(
        (*SHIPPED, "ridge statistics", "ridge spectrum"), (1, 2, 2, 1, 1, 1)
    ),
    "without the encoder": Composition(SHIPPED[1:], (2, 2, 1)),
    "MiniRocket without copies and emphasis": Composition((ENCODER, CONTROLS[0], *SHIPPED[2:])),
} | {name: Composition((name,), (1,)) for name in (*SHIPPED, *CONTROLS)}


@dataclass(frozen=True)
class Cell:
    """What every expert says in one case with so many labels.

    Attributes:
        codes, truth: classes of the labelled windows and of the test windows, int.
        left_out: by expert, float64 (n_labelled, n_classes), or None; said: (n_test, n_classes).
    """

    case: str
    draw: int
    labels: int
    codes: np.ndarray
    truth: np.ndarray
    left_out: dict[str, np.ndarray | None]
    said: dict[str, np.ndarray]


def cell_of(case: Case, n_labels: int, experts: dict[str, Fit], cache: Path) -> Cell | None:
    """Fits the experts that the cache does not have."""
    few = case.few(n_labels)
    if few is None:
        return None
    classes = TASK.classes(few)
    material = prepare(few, TASK, "standard")
    test = case.test.take(np.flatnonzero(np.isin(case.test.y, classes)))
    truth, x = test.codes(classes), material.steps.run(test.x)
    left_out: dict[str, np.ndarray | None] = {}
    said = {}
    for name, fit in experts.items():
        place = f"{case.name}-{case.draw}-{n_labels}-{name}.npz".replace(" ", "_")
        file = cache / place
        if not file.exists():
            try:
                expert = fit(material, case.draw)
            except DataError:  # too short for it
                continue
            none = np.zeros((0, len(classes)))
            np.savez(
                file,
                left_out=none if expert.left_out is None else expert.left_out,
                said=expert.head.scores(expert.backbone.embed(x)).astype(np.float32),
            )
        with np.load(file) as kept:
            left_out[name] = kept["left_out"] if len(kept["left_out"]) else None
            said[name] = kept["said"]
    return Cell(case.name, case.draw, n_labels, material.codes, truth, left_out, said)


def cells(data: Path, draws: int, cache: Path, part: int, parts: int) -> list[Cell]:
    """Every `parts`-th of all cells."""
    jobs = [(case, n_labels) for case in cases(data, draws) for n_labels in case.labels]
    found = (cell_of(case, n_labels, EXPERTS, cache) for case, n_labels in jobs[part::parts])
    return [cell for cell in found if cell is not None]


def mix(cell: Cell, composition: Composition) -> np.ndarray:
    """Probabilities (n_test, n_classes) of the mixture, calibrated as `Blend` does it."""
    pairs = zip(composition.experts, composition.shares, strict=True)
    names, shares = zip(*((n, s) for n, s in pairs if n in cell.said), strict=True)
    experts = [Expert(None, None, cell.left_out[name]) for name in names]
    weights = weigh(experts, cell.codes, composition.prior, np.array(shares))
    said = [cell.said[name].astype(np.float64) for name in names]
    if composition.geometric:
        logs = [np.log(np.maximum(table, 1e-4)) for table in said]
        return softmax(sum(w * table for w, table in zip(weights, logs, strict=True)))
    mixed = sum(w * table for w, table in zip(weights, said, strict=True))
    temperature = calibrate(experts, weights, cell.codes)
    return softmax(np.log(np.maximum(mixed, 1e-6)) / temperature)


def score(cell: Cell) -> list[dict]:
    rows = []
    for name, composition in COMPOSITIONS.items():
        said = mix(cell, composition)
        rows.append(
            {
                "composition": name,
                "case": cell.case,
                "draw": cell.draw,
                "labels": cell.labels,
                "accuracy": float((said.argmax(axis=1) == cell.truth).mean()),
                "log_loss": log_loss(said, cell.truth),
            }
        )
    return rows


def markdown(rows: list[dict]) -> str:
    """Mean accuracy by data set, then what ships by number of labels."""
    names = list(dict.fromkeys(row["composition"] for row in rows))
    sets = list(dict.fromkeys(row["case"] for row in rows))
    table = means(rows, "composition", "case", "accuracy")
    losses = means(rows, "composition", "case", "log_loss")
    lines = [
        "Accuracy in points on development data, mean over draws and numbers of labels; the last",
        "columns are means over the data sets. The last rows are experts alone, the plain ones as",
        "the controls are fitted.",
        "",
        "| composition | " + " | ".join(sets) + " | mean | log loss |",
        "|---|" + "---|" * (len(sets) + 2),
    ]
    for name in names:
        own = [table[name, each] for each in sets]
        values = " | ".join(f"{100 * value:.1f}" for value in own)
        loss = np.mean([losses[name, each] for each in sets])
        lines.append(f"| {name} | {values} | {100 * np.mean(own):.2f} | {loss:.3f} |")
    kept = ("what ships", *CONTROLS)
    labels = sorted({row["labels"] for row in rows})
    lines += [
        "",
        "By labels per class: what ships / the better of the two controls, afterwards.",
        "",
        "| data set | " + " | ".join(f"n={n}" for n in labels) + " |",
        "|---|" + "---|" * len(labels),
    ]
    for each in sets:
        own = means([row for row in rows if row["case"] == each], "composition", "labels",
                    "accuracy")  # fmt: skip
        pairs = [
            f"{100 * own[kept[0], n]:.1f} / {100 * max(own[name, n] for name in kept[1:]):.1f}"
            if (kept[0], n) in own
            else ""
            for n in labels
        ]
        lines.append(f"| {each} | " + " | ".join(pairs) + " |")
    return "\n".join(lines) + "\n"


def means(rows: list[dict], first: str, second: str, value: str) -> dict[tuple, float]:
    found: dict[tuple, list[float]] = {}
    for row in rows:
        found.setdefault((row[first], row[second]), []).append(row[value])
    return {key: float(np.mean(values)) for key, values in found.items()}


def code() -> str:
    """Names the code whose results are kept."""
    home = Path(edgegraft.__file__).parent
    files = [*(home / name for name in COUNTS), Path(edgegraft_edge.__file__).parent / "steps.py"]
    return fingerprint([(file.name, file.read_bytes()) for file in files])[:16]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path(".edgegraft/development"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/development")
    options = parser.parse_args(arguments)
    cache = options.cache / code()
    cache.mkdir(parents=True, exist_ok=True)
    work = partial(cells, options.data, options.draws, cache, parts=options.jobs)
    with ProcessPoolExecutor(options.jobs) as pool:
        every = [cell for part in pool.map(work, range(options.jobs)) for cell in part]
    order = {name: place for place, name in enumerate(dict.fromkeys(cell.case for cell in every))}
    every.sort(key=lambda cell: (order[cell.case], cell.draw, cell.labels))
    rows = [row for cell in every for row in score(cell)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    found = {f"{name}, {each}": value for (name, each), value in
             means(rows, "composition", "case", "accuracy").items()}  # fmt: skip
    options.out.with_suffix(".json").write_text(json.dumps(found, indent=1))
    table = markdown(rows)
    options.out.with_suffix(".md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
