"""How long the choice of a backbone and its head takes once embeddings are cached.

    python bench/head_search.py --data FOLDER

FOLDER holds train.npz as for bench/uci_har.py. Every shipped backbone is ranked twice; the second
time its embeddings come from the cache, so what is left is the search over heads: 13 strengths,
31 temperatures, each left out exactly, for every backbone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from threadpoolctl import threadpool_limits

import edgegraft as eg
from edgegraft.adapt.select import rank_backbones
from edgegraft.data.split import few_shot
from edgegraft.plan import contenders
from edgegraft.tasks.classification import Classification


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", type=int, nargs="+", default=[1, 5, 10, 25, 50, 100])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/head_search")
    options = parser.parse_args()
    train = eg.open_data(options.data / "train.npz").windows()
    backbones = contenders("auto", "series")
    cells = []
    with threadpool_limits(limits=1):
        for n_labels in options.labels:
            few = train.take(few_shot(train, n_labels, seed=0))
            rank_backbones(backbones, few, Classification(), seed=0)
            seconds = []
            for _ in range(options.repeats):
                began = time.perf_counter()
                rank_backbones(backbones, few, Classification(), seed=0)
                seconds.append(time.perf_counter() - began)
            cells.append(
                {
                    "labels": n_labels,
                    "windows": len(few),
                    "backbones": len(backbones),
                    "median_seconds": sorted(seconds)[len(seconds) // 2],
                    "worst_seconds": max(seconds),
                }
            )
            print(json.dumps(cells[-1]), flush=True)
    lines = [
        "| labels per class | windows | backbones | median s | worst s |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {c['labels']} | {c['windows']} | {c['backbones']} | {c['median_seconds']:.3f} | "
        f"{c['worst_seconds']:.3f} |"
        for c in cells
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(cells, indent=1))
    options.out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
