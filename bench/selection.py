"""Which way of choosing a backbone loses least: left-out heads, LogME, H-score, structure, chance.

    python bench/selection.py --data FOLDER [--seeds 5] [--cases NAME ...]

FOLDER holds uci_har, umafall and cwru_bearing; `development_data` says what of them is used (no
test part that is reported elsewhere). Fourteen extractors are bound to the unlabelled pool of a
case and embed it once; then 1, 2, 5, 10 and 25 labels per class are drawn from the pool. Regret
is the test accuracy of the ridge head on the best extractor less that on the one chosen. Cells
are appended to a file as they come, and a second run goes on where the first stopped;
results/selection.md and .json are written from all of them.
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
from scipy.stats import weightedtau
from threadpoolctl import threadpool_limits

import edgegraft as eg
from development_data import Case, cases
from edgegraft.adapt.calibration import log_loss
from edgegraft.adapt.expert import normalised
from edgegraft.adapt.neighbours import modularity, neighbours, spread_labels
from edgegraft.adapt.ridge import fit_ridge
from edgegraft.adapt.select import OUTWEIGHS
from edgegraft.adapt.transferability import Spectrum, h_score, log_evidence, standardised
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.conv1d import Conv1d
from edgegraft.zoo.minirocket import MiniRocket
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import EdgegraftError

LABELS = (1, 2, 5, 10, 25)


@dataclass(frozen=True)
class RawWindows:
    """The windows themselves, by their first principal components."""

    n_components: int = 32
    directions: np.ndarray | None = None

    def fit(self, windows: eg.Windows, *, seed: int) -> RawWindows:
        rows = windows.x.reshape(len(windows), -1)
        found = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2]
        return replace(self, directions=found[: self.n_components])

    def embed(self, x: np.ndarray) -> np.ndarray:
        assert self.directions is not None
        return x.reshape(len(x), -1) @ self.directions.T


def tapped(pooled: tuple[int, ...]) -> Backbone:
    """The shipped encoder, read out after other blocks."""
    encoder = load_backbone("conv1d-motion")
    assert isinstance(encoder, Conv1d)
    return replace(encoder, shape=replace(encoder.shape, pooled=pooled))


EXTRACTORS: Mapping[str, Callable[[], Backbone | RawWindows]] = {
    "minirocket": lambda: load_backbone("minirocket"),
    "minirocket, 2,520 features": lambda: MiniRocket(n_features=2520),
    "minirocket, 840 features": lambda: MiniRocket(n_features=840),
    "minirocket, no mixed channels": lambda: MiniRocket(max_channels=1),
    "statistics": lambda: load_backbone("statistics"),
    "spectrum": lambda: load_backbone("spectrum"),
    "conv1d-motion": lambda: load_backbone("conv1d-motion"),
    "conv1d-motion, low": lambda: tapped((0, 1)),
    "conv1d-motion, top": lambda: tapped((3,)),
    "conv1d-motion, all": lambda: tapped((0, 1, 2, 3)),
    "conv1d, random": lambda: load_backbone("conv1d-random"),
    "micro, random": lambda: load_backbone("micro-random"),
    "micro-separable, random": lambda: load_backbone("micro-separable"),
    "raw windows, PCA": RawWindows,
}


def embedded(case: Case) -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
    """Each extractor's name, embeddings of the pool and of the test windows, and its seconds."""
    steps, pool = normalised(case.pool, "auto")
    tested = steps.run(case.test.x)
    for name, make in EXTRACTORS.items():
        began = time.perf_counter()
        try:
            bound = make().fit(pool, seed=case.draw)
            z, test = bound.embed(pool.x), bound.embed(tested)
        except EdgegraftError:  # windows too short for it
            continue
        yield name, z, test, time.perf_counter() - began


def structures(graphs: Mapping[str, object], seeds: np.ndarray) -> dict[str, dict[str, float]]:
    """What the pool says of each extractor's graph, once labels have spread along it."""
    soft = {name: spread_labels(graph, seeds) for name, graph in graphs.items()}
    found = {}
    for name, graph in graphs.items():
        others = np.mean([table for each, table in soft.items() if each != name], axis=0)
        found[name] = {
            "modularity": modularity(graph, soft[name]),
            "agreement": float((soft[name].argmax(1) == others.argmax(1)).mean()),
        }
    return found


def cells(case: Case) -> Iterator[dict]:
    """One cell for each number of labels: of every extractor its accuracy and what ranks it."""
    parts = {name: (z, test) for name, z, test, _ in embedded(case)}
    with threadpool_limits(limits=1):
        graphs = {name: neighbours(standardised(z)) for name, (z, _) in parts.items()}
    classes = case.pool.classes
    codes = case.pool.codes(classes)
    truth = case.test.codes(classes)
    for n_labels in LABELS:
        index = few_index(case, n_labels)
        if index is None:
            continue
        groups = case.pool.groups[index] if case.pool.take(index).has_groups else None
        seeds = np.zeros((len(codes), len(classes)))
        seeds[index, codes[index]] = 1
        pooled = structures(graphs, seeds) if n_labels <= 2 else {}
        rows = {}
        for name, (z, test) in parts.items():
            began = time.perf_counter()
            fit = fit_ridge(z[index], codes[index], len(classes), groups=groups)
            head_s = time.perf_counter() - began
            began = time.perf_counter()
            spectrum = Spectrum.of(standardised(z[index]))
            evidence = log_evidence(spectrum, codes[index], len(classes))
            middle = time.perf_counter()
            h = h_score(spectrum, codes[index], len(classes))
            h_s = time.perf_counter() - middle
            rows[name] = {
                "accuracy": float((fit.head.scores(test).argmax(axis=1) == truth).mean()),
                "log_loss": fit.log_loss,
                "single_loss": fit.choice_loss,
                "left_out_accuracy": None
                if fit.left_out is None
                else float((fit.left_out.argmax(axis=1) == codes[index]).mean()),
                "losses": None if fit.left_out is None else losses(fit.left_out, codes[index]),
                "logme": evidence,
                "logme_raw": log_evidence(z[index].astype(np.float64), codes[index], len(classes)),
                "hscore": h,
                "seconds": {"left-out": head_s, "logme": middle - began, "hscore": h_s},
                **pooled.get(name, {}),
            }
        yield {"case": case.name, "draw": case.draw, "labels": n_labels, "n": len(index),
               "rows": rows}  # fmt: skip


def losses(left_out: np.ndarray, codes: np.ndarray) -> list[float]:
    """Of each labelled window, for paired tests between extractors."""
    return [round(log_loss(left_out[i : i + 1], codes[i : i + 1]), 4) for i in range(len(codes))]


def few_index(case: Case, n_labels: int) -> np.ndarray | None:
    from edgegraft.data.split import few_shot

    if np.unique(case.pool.y, return_counts=True)[1].min() < n_labels:
        return None
    return few_shot(case.pool, n_labels, seed=case.draw)


# -- ways of choosing: from a cell, a score of each extractor, higher better; None: cannot say

Rows = Mapping[str, Mapping]
Ranker = Callable[[Rows], dict[str, float] | None]


def by(key: str, sign: float = 1.0) -> Ranker:
    def rank(rows: Rows) -> dict[str, float] | None:
        if any(row.get(key) is None for row in rows.values()):
            return None
        return {name: sign * row[key] for name, row in rows.items()}

    return rank


def averaged(*rankers: Ranker) -> Ranker:
    """The mean rank by several ways."""

    def rank(rows: Rows) -> dict[str, float] | None:
        found = [ranker(rows) for ranker in rankers]
        if any(each is None for each in found):
            return None
        ranks = [np.argsort(np.argsort(list(each.values()))) for each in found if each]
        return dict(zip(rows, np.mean(ranks, axis=0), strict=True))

    return rank


def referred(nats: float, reference: str = "minirocket") -> Ranker:
    """Left-out log loss over all windows; others stand behind the reference by so many nats."""

    def rank(rows: Rows) -> dict[str, float] | None:
        if any(row["losses"] is None for row in rows.values()):
            return {name: float(name == reference) for name in rows}
        return {
            name: -sum(row["losses"]) - nats * (name != reference) for name, row in rows.items()
        }

    return rank


def proven(level: float = 0.05, reference: str = "minirocket") -> Ranker:
    """The reference, unless a paired t test over windows (Bonferroni) says another is better."""

    def rank(rows: Rows) -> dict[str, float] | None:
        if any(row["losses"] is None for row in rows.values()):
            return {name: float(name == reference) for name in rows}
        held = np.array(rows[reference]["losses"])
        found = {reference: 0.0}
        for name, row in rows.items():
            gain = held - np.array(row["losses"])
            error = gain.std(ddof=1) / np.sqrt(len(gain))
            value = student.sf(gain.mean() / max(error, 1e-12), len(gain) - 1)
            better = name != reference and value < level / (len(rows) - 1)
            found[name] = gain.sum() if better else found.get(name, -np.inf)
        return {name: max(found[name], -1e9) for name in rows}

    return rank


def within(width: float) -> Ranker:
    """Of those within so many standard errors of the best, the one of the highest H-score."""

    def rank(rows: Rows) -> dict[str, float] | None:
        if any(row["losses"] is None for row in rows.values()):
            return None
        best = np.array(min((row["losses"] for row in rows.values()), key=sum))
        found = {}
        for name, row in rows.items():
            loss = np.array(row["losses"]) - best
            error = loss.std(ddof=1) / np.sqrt(len(loss))
            near = loss.mean() <= width * error + 1e-12
            found[name] = row["hscore"] if near else -1.0 - loss.mean()
        return found

    return rank


def regrets_elsewhere(found: list[dict], case: str) -> dict[str, float]:
    """Mean regret of always taking one extractor, over data sets of other families."""
    families: dict[str, dict[str, list[float]]] = {}
    for cell in found:
        family = cell["case"].split()[0]
        if family == case.split()[0] or cell["labels"] < 2:
            continue
        best = max(row["accuracy"] for row in cell["rows"].values())
        own = families.setdefault(family, {})
        for name, row in cell["rows"].items():
            own.setdefault(name, []).append(100 * (best - row["accuracy"]))
    return {
        name: float(np.mean([np.mean(own[name]) for own in families.values() if name in own]))
        for name in EXTRACTORS
    }


def with_prior(weight: float, prior: Mapping[str, float]) -> Ranker:
    """Left-out log loss over all windows, and so many nats for each point lost elsewhere."""

    def rank(rows: Rows) -> dict[str, float] | None:
        known = all(row["losses"] is not None for row in rows.values())
        return {
            name: -(sum(row["losses"]) if known else 0) - (weight if known else 1) * prior[name]
            for name, row in rows.items()
        }

    return rank


RANKERS: dict[str, Ranker] = {
    "left-out log loss, reference held by 15 nats (default)": referred(OUTWEIGHS),
    "the same, by 5 nats": referred(5),
    "the same, by 10 nats": referred(10),
    "the same, by 20 nats": referred(20),
    "the same, by 30 nats": referred(30),
    "reference unless a paired test says otherwise": proven(),
    "within one standard error, then H-score": within(1),
    "within two standard errors, then H-score": within(2),
    "left-out log loss": by("log_loss", -1),
    "left-out log loss, single windows": by("single_loss", -1),
    "left-out accuracy": by("left_out_accuracy"),
    "left-out log loss and accuracy, mean rank": averaged(
        by("log_loss", -1), by("left_out_accuracy")
    ),
    "LogME, standardised": by("logme"),
    "LogME, as given": by("logme_raw"),
    "H-score, shrunk": by("hscore"),
    "structure: modularity": by("modularity"),
    "structure: agreement": by("agreement"),
    "structure: both, mean rank": averaged(by("modularity"), by("agreement")),
}


def regret(cell: dict, scores: dict[str, float] | None) -> float:
    """Test accuracy lost, in points; with no scores, by chance: the mean over all extractors."""
    accuracy = {name: row["accuracy"] for name, row in cell["rows"].items()}
    best = max(accuracy.values())
    if scores is None:
        return 100 * (best - float(np.mean(list(accuracy.values()))))
    top = max(scores.values())
    chosen = [accuracy[name] for name, score in scores.items() if score >= top]
    return 100 * (best - float(np.mean(chosen)))


def concordance(cell: dict, scores: dict[str, float]) -> float:
    names = list(cell["rows"])
    found = weightedtau(
        [cell["rows"][name]["accuracy"] for name in names], [scores[name] for name in names]
    )
    return float(found.statistic)


def over_cases(found: list[dict], values: list[float | None]) -> dict[str, float]:
    """The mean of each case, over draws and numbers of labels."""
    out: dict[str, list[float]] = {}
    for cell, value in zip(found, values, strict=True):
        if value is not None and np.isfinite(value):
            out.setdefault(cell["case"], []).append(value)
    return {name: float(np.mean(each)) for name, each in out.items()}


def markdown(found: list[dict]) -> str:
    """Regret by way of choosing and number of labels; tau and seconds; regret by data set."""
    counts = sorted({cell["labels"] for cell in found})
    n_draws = len({cell["draw"] for cell in found})
    lines = [
        f"Regret in points of accuracy: the best of {max(len(c['rows']) for c in found)} "
        f"extractors less the one chosen, mean over {len({c['case'] for c in found})} development",
        f"cases (each counts the same) and {n_draws} draws; behind it a 95 % t interval over",
        "draws. Chance is the mean over all extractors; so it is where a way cannot say anything.",
        "",
        "| chosen by | " + " | ".join(f"n={n}" for n in counts) + " | n >= 5 |",
        "|---|" + "---|" * (len(counts) + 1),
    ]
    elsewhere = {case: regrets_elsewhere(found, case) for case in {c["case"] for c in found}}
    ways: dict[str, Ranker | float] = {
        **RANKERS,
        **{f"left-out log loss and a prior from other data sets, {k} nats a point": k
           for k in (1, 3, 10)},
        "prior from other data sets alone": 1e9,
        "always minirocket": lambda rows: {name: float(name == "minirocket") for name in rows},
        "chance": lambda rows: None,
    }  # fmt: skip
    for name, way in ways.items():
        row = []
        for wanted in [*([n] for n in counts), [n for n in counts if n >= 5]]:
            own = [cell for cell in found if cell["labels"] in wanted]
            scores = [
                (way if callable(way) else with_prior(way, elsewhere[cell["case"]]))(cell["rows"])
                for cell in own
            ]
            if name != "chance" and all(score is None for score in scores):
                row.append("–")
                continue
            row.append(interval(own, [regret(c, s) for c, s in zip(own, scores, strict=True)]))
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    lines += ["", "Weighted Kendall tau between score and test accuracy, the same means.", "",
              "| ranked by | " + " | ".join(f"n={n}" for n in counts) + " |",
              "|---|" + "---|" * len(counts)]  # fmt: skip
    for name, ranker in RANKERS.items():
        row = []
        for n in counts:
            own = [cell for cell in found if cell["labels"] == n]
            scores = [ranker(cell["rows"]) for cell in own]
            taus = over_cases(own, [None if s is None else concordance(c, s)
                                    for c, s in zip(own, scores, strict=True)])  # fmt: skip
            row.append(f"{np.mean(list(taus.values())):.2f}" if taus else "–")
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    names = list(dict.fromkeys(cell["case"] for cell in found))
    lines += ["", "Regret by case: the default / left-out log loss alone / LogME / chance.",
              "",
              "| case | " + " | ".join(f"n={n}" for n in counts) + " |",
              "|---|" + "---|" * len(counts)]  # fmt: skip
    for case in names:
        row = []
        for n in counts:
            own = [c for c in found if c["case"] == case and c["labels"] == n]
            said = [
                np.mean([regret(c, way(c["rows"])) for c in own])
                for way in (referred(OUTWEIGHS), by("log_loss", -1), by("logme"), lambda rows: None)
            ]
            row.append(" / ".join(f"{value:.1f}" for value in said) if own else "")
        lines.append(f"| {case} | " + " | ".join(row) + " |")
    largest = [cell for cell in found if cell["n"] == max(c["n"] for c in found)]
    seconds = {
        way: [row["seconds"][way] for cell in largest for row in cell["rows"].values()]
        for way in ("left-out", "logme", "hscore")
    }
    lines += ["", f"Seconds per extractor once embedded, one thread, {largest[0]['n']} windows: "
              + "; ".join(f"{way} mean {np.mean(v):.3f}, most {np.max(v):.3f}"
                          for way, v in seconds.items()) + "."]  # fmt: skip
    return "\n".join(lines) + "\n"


def interval(found: list[dict], values: list[float]) -> str:
    """Mean over cases, and half of a 95 % t interval over draws."""
    draws = sorted({cell["draw"] for cell in found})
    means = []
    for draw in draws:
        own = [i for i, cell in enumerate(found) if cell["draw"] == draw]
        means.append(np.mean(list(over_cases([found[i] for i in own],
                                             [values[i] for i in own]).values())))  # fmt: skip
    if len(means) < 2:
        return f"{np.mean(means):.2f}"
    half = student.ppf(0.975, len(means) - 1) * np.std(means, ddof=1) / np.sqrt(len(means))
    return f"{np.mean(means):.2f} ± {half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cases", nargs="*", help="only cases whose name begins so")
    parser.add_argument("--cells", type=Path, default=Path(".edgegraft/selection.jsonl"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/selection")
    options = parser.parse_args()
    place = options.cells
    place.parent.mkdir(parents=True, exist_ok=True)
    known = place.read_text().splitlines() if place.exists() else []
    found = [json.loads(line) for line in known]
    done = {(cell["case"], cell["draw"]) for cell in found}
    for case in cases(options.data, options.seeds):
        wanted = not options.cases or case.name.startswith(tuple(options.cases))
        if (case.name, case.draw) in done or not wanted:
            continue
        began = time.perf_counter()
        fresh = list(cells(case))
        with place.open("a") as file:
            file.writelines(json.dumps(cell) + "\n" for cell in fresh)
        found += fresh
        print(case.name, case.draw, f"{time.perf_counter() - began:.1f} s", flush=True)
    plain = [
        {key: cell[key] for key in ("case", "draw", "labels", "n")}
        | {"accuracy": {name: round(row["accuracy"], 3) for name, row in cell["rows"].items()}}
        for cell in found
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(plain))
    options.out.with_suffix(".md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
