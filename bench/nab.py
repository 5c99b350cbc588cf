"""A detector that learns on the device, on the whole Numenta Anomaly Benchmark.

    python bench/nab.py --data DATA             the watch with its defaults, three peers run by us
    python bench/nab.py --data DATA --peers     none of them: a quarter of a minute

DATA holds nab. The defaults of `edgegraft_edge.watch.Watching` are the one setting for all files.
They were chosen on the files at even places within each folder, in order of name ("chosen on"); the
others ("held out") were not looked at before. Each part is scored by itself too, with a threshold
of its own, as the benchmark has one threshold for what is scored. Microseconds are CPU time per
sample, one core, the median over files, with `push` called for each sample.

Scores per file of the published runs are not in DATA, so the rest of the table is what their
authors published (`results/final_results.json`); three of them are run anew and scored by us.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from edgegraft.tasks.detection import PROFILES, nab_score
from edgegraft_edge.alarms import Alarms, FalseAlarms
from edgegraft_edge.watch import Watch, Watching
from nab_peers import PEERS, Series, corpus, halves

BESIDE = {
    "ARTime": "ARTime", "numenta": "Numenta HTM", "contextOSE": "CAD-OSE", "knncad": "KNN-CAD",
    "relativeEntropy": "relative entropy", "randomCutForest": "random cut forest",
    "twitterADVec": "Twitter ADVec", "windowedGaussian": "windowed Gaussian", "random": "random",
    "null": "null",
}  # fmt: skip
RATES = ("1/day", "1/week", "1/month")
PUBLISHED = {"reward_low_FP": "reward_low_FP_rate", "reward_low_FN": "reward_low_FN_rate"}


def watched(series: Series, options: Watching) -> tuple[np.ndarray, float]:
    """Scores, and microseconds of CPU time per sample."""
    watch, values = Watch(options=options), series.values.tolist()
    began = time.process_time()
    scores = np.array([watch.push(value) for value in values])
    return scores, (time.process_time() - began) / len(values) * 1e6


def alarms_of(series: Series, options: Watching) -> dict[str, dict[str, float]]:
    """For each rate of false alarms asked for: alarms that met windows, false ones, periods."""
    watch = Watch(options=options)
    every = {text: Alarms(FalseAlarms.parse(text), ("value",)) for text in RATES}
    begins: dict[str, list[int]] = {text: [] for text in RATES}
    for at, (at_s, value) in enumerate(
        zip(series.at_s.tolist(), series.values.tolist(), strict=True)
    ):
        watch.push(value)
        for text, alarms in every.items():
            event = alarms.step(at_s, watch)
            if event is not None and event.kind == "alarm":
                begins[text].append(at)
    length = sum(window.length for window in series.windows)
    normal_s = float(np.median(np.diff(series.at_s))) * (len(series.values) - length)
    found = {}
    for text, places in begins.items():
        met = {w for w in series.windows for at in places if w.first <= at <= w.last}
        false = sum(not any(w.first <= at <= w.last for w in series.windows) for at in places)
        allowed = every[text].allowed.per_s or 0.0
        found[text] = {"met": len(met), "false": false, "allowed": allowed * normal_s}
    return found


def row(name: str, part: str, files: list[Series], scores: dict[str, np.ndarray]) -> dict:
    scored = [one.scored(scores[one.name]) for one in files]
    found = {profile: nab_score(scored, profile) for profile in PROFILES}
    return {
        "detector": name, "part": part, "n_files": len(files),
        "n_windows": sum(len(one.windows) for one in files),
        "scores": {profile: one.score for profile, one in found.items()},
        "thresholds": {profile: one.threshold for profile, one in found.items()},
        "each": dict(zip((one.name for one in files), found["standard"].each, strict=True)),
    }  # fmt: skip


def interval(standard: dict[str, float], n_windows: int, draws: int = 2000) -> tuple[float, float]:
    """95 % of the standard score over draws of files, at the threshold of all of them."""
    random, points = np.random.default_rng(0), np.array(list(standard.values()))
    picks = random.integers(0, len(points), (draws, len(points)))
    scores = 100 * (points[picks].sum(axis=1) + n_windows) / (2 * n_windows)
    low, high = np.quantile(scores, (0.025, 0.975))
    return float(low), float(high)


def markdown(rows: list[dict], published: dict, options: Watching) -> str:
    def cells(scores: dict[str, float]) -> str:
        return " | ".join(f"{scores[name]:.1f}" for name in PROFILES)

    watch = next(r for r in rows if r["detector"] == "watch" and r["part"] == "all")
    low, high = interval(watch["each"], watch["n_windows"])
    lines = [
        "# Numenta Anomaly Benchmark, 58 files, 116 windows", "",
        "| detector | standard | low FP | low FN | from |", "|---|---|---|---|---|",
        f"| **watch** | {cells(watch['scores'])} | run here, one setting |",
    ]  # fmt: skip
    anew = {r["detector"]: r["scores"] for r in rows if r["part"] == "all"}
    for key, name in BESIDE.items():
        scores = {p: published[key][PUBLISHED.get(p, p)] for p in PROFILES}
        lines.append(f"| {name} | {cells(scores)} | published |")
        if key in anew:
            lines.append(f"| {name} | {cells(anew[key])} | made anew, scored here |")
    lines += ["", "| watch on | files | windows | standard | low FP | low FN |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    for part in (r for r in rows if r["detector"] == "watch"):
        numbers = f"{part['n_files']} | {part['n_windows']}"
        lines.append(f"| {part['part']} | {numbers} | {cells(part['scores'])} |")
    lines += [
        "", f"Draws of files give {low:.1f} to {high:.1f} (95 %, standard). "
        f"{watch['microseconds']:.1f} us per sample and core, median over files, "
        f"{watch['slowest']:.1f} on the slowest.", "",
        "Alarms as a user asks for them (`edgegraft-edge watch --false-alarms`), from the first "
        "sample on:", "", "| asked for | alarms outside windows | allowed | windows met |",
        "|---|---|---|---|",
        *(f"| {text} | {found['false']} | {found['allowed']:.0f} | {found['met']} of 116 |"
          for text, found in watch["alarms"].items()), "",
        f"Setting: `{json.dumps(asdict(options))}`.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), help="which to run anew")
    parser.add_argument(
        "--development", action="store_true", help="the files that settings are chosen on, no more"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/nab")
    arguments = parser.parse_args()
    folder, options = arguments.data / "nab", Watching()
    series = corpus(folder)
    seen, unseen = halves(series)
    if arguments.development:
        found = {one.name: watched(one, options)[0] for one in seen}
        print(json.dumps(row("watch", "chosen on", seen, found)["scores"]))
        return
    pairs = {one.name: watched(one, options) for one in series}
    scores = {name: pair[0] for name, pair in pairs.items()}
    rows = [
        row("watch", part, files, scores)
        for part, files in (("all", series), ("chosen on", seen), ("held out", unseen))
    ]
    seconds = [pair[1] for pair in pairs.values()]
    rows[0] |= {"microseconds": float(np.median(seconds)), "slowest": max(seconds)}
    each = [alarms_of(one, options) for one in series]
    rows[0]["alarms"] = {
        text: {key: sum(one[text][key] for one in each) for key in ("met", "false", "allowed")}
        for text in RATES
    }
    for name in arguments.peers:
        rows.append(row(name, "all", series, {s.name: PEERS[name](s.values) for s in series}))
        print(name, rows[-1]["scores"], flush=True)
    published = json.loads((folder / "results/final_results.json").read_text())
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(rows, indent=1))
    table = markdown(rows, published, options)
    arguments.out.with_suffix(".md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
