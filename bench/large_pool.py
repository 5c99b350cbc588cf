"""A pool of 200,000 windows of 64-dimensional embeddings: seconds, memory, accuracy.

    python bench/large_pool.py --data UCI_HAR [--windows 10000 200000] [--labels 10] [--seeds 3]

Embeddings are made from real ones: those of UCI HAR's training windows by the shipped encoder,
brought to 64 principal components, each new one a random point between a window and one of its ten
nearest of the same class, with a little noise. Labels spread over a pool of these (class shares
estimated), a ridge head learns from the result (as `edgegraft.adapt.spread` does it), and both
are scored: spread labels on the pool, the head on 5,000 more such embeddings. The graph of up to
10,000 windows is exact; beyond, neighbours are sought by cells, and for comparison below, too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from sklearn.decomposition import PCA

import edgegraft as eg
from edgegraft.adapt import neighbours as graphs
from edgegraft.adapt.balance import estimate_shares
from edgegraft.adapt.distil import Lesson
from edgegraft.adapt.expert import normalised
from edgegraft.adapt.views import View
from edgegraft.zoo.cache import embed_cached
from edgegraft.zoo.registry import load_backbone

DIM, N_NEAR, N_TESTED, N_TAUGHT = 64, 10, 5000, 1000


def source(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of the training windows (n, 64) and their classes."""
    _, windows = normalised(eg.open_data(data / "train.npz").windows(), "standard")
    z = embed_cached(load_backbone("conv1d-motion").fit(windows, seed=0), windows.x)
    z = (z - z.mean(axis=0)) / (z.std(axis=0) + 1e-6)
    codes = np.unique(windows.y, return_inverse=True)[1]
    found = PCA(DIM, svd_solver="randomized", random_state=0).fit_transform(z)
    return (found / np.sqrt(found.std(axis=0))).astype(np.float32), codes


def between(z: np.ndarray, codes: np.ndarray, count: int, seed: int) -> tuple:
    """`count` embeddings between near ones of the same class, and their classes."""
    random = np.random.default_rng(seed)
    near = np.zeros((len(z), N_NEAR), dtype=np.int64)
    for code in np.unique(codes):
        own = np.flatnonzero(codes == code)
        squares = np.square(z[own][:, None] - z[own][None]).sum(axis=2)
        near[own] = own[np.argsort(squares, axis=1)[:, 1 : N_NEAR + 1]]
    start = random.integers(0, len(z), count)
    end = near[start, random.integers(0, N_NEAR, count)]
    way = random.uniform(size=(count, 1)).astype(np.float32)
    noise = 0.2 * z.std(axis=0) * random.standard_normal((count, DIM)).astype(np.float32)
    return ((1 - way) * z[start] + way * z[end] + noise).astype(np.float32), codes[start]


def one(z, codes, n_windows: int, n_labels: int, seed: int, by_cells: bool) -> dict:
    pool, truth = between(z, codes, n_windows, seed)
    test, tested = between(z, codes, N_TESTED, 1000 + seed)
    n_classes = int(codes.max()) + 1
    random = np.random.default_rng(seed)
    known = np.concatenate(
        [random.permutation(np.flatnonzero(truth == c))[:n_labels] for c in range(n_classes)]
    )
    seeds = np.zeros((n_windows, n_classes))
    seeds[known, truth[known]] = 1 / n_labels
    began, count = time.process_time(), int(np.ceil(np.log2(n_windows)))
    exact, graphs.EXACT = graphs.EXACT, 0 if by_cells else graphs.EXACT
    graph = graphs.neighbours(pool, count, seed=seed)
    graphs.EXACT = exact
    seconds = {"graph": time.process_time() - began}
    reached = graphs.diffuse(graph, seeds, alpha=0.9)
    soft = graphs.to_shares(reached, estimate_shares(reached / reached.sum(axis=0)))
    seconds["spreading"] = time.process_time() - began - sum(seconds.values())
    rows = np.union1d(known, random.permutation(n_windows)[:N_TAUGHT])
    lesson = Lesson.of(View(SimpleNamespace(), pool), rows)
    ordered = np.sort(soft[rows], axis=1)
    guess = soft[rows].argmax(axis=1)
    head = lesson.head(
        *lesson.solve(np.eye(n_classes)[guess], ordered[:, -1] - ordered[:, -2]), 0.2
    )
    seconds["head"] = time.process_time() - began - sum(seconds.values())
    rest = np.setdiff1d(np.arange(n_windows), known)
    return {
        "windows": n_windows,
        "neighbours": "by cells" if by_cells or n_windows > exact else "exact",
        "seed": seed,
        "seconds": seconds,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "pool": float((soft.argmax(axis=1) == truth)[rest].mean()),
        "head": float((head.scores(test).argmax(axis=1) == tested).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--windows", type=int, nargs="+", default=[10_000, 200_000])
    parser.add_argument("--labels", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/large_pool")
    options = parser.parse_args()
    z, codes = source(options.data)
    cells = []
    for n in sorted(options.windows):
        for by_cells in (False, True) if n <= graphs.EXACT else (True,):
            for seed in range(options.seeds):
                cells.append(one(z, codes, n, options.labels, seed, by_cells))
                print(json.dumps(cells[-1]), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(cells, indent=1))
    table = markdown(cells, options.labels)
    options.out.with_suffix(".md").write_text(table)
    print(table)


def markdown(cells: list[dict], n_labels: int) -> str:
    lines = [
        f"Pools of 64-dimensional embeddings, {n_labels} labels per class, means over "
        f"{len({c['seed'] for c in cells})} seeds.",
        "Seconds are processor time on one thread; peak memory is that of the whole process, with",
        "the real embeddings it starts from. Made by `bench/large_pool.py`.",
        "",
        "| windows | neighbours | graph s | spreading s | head s | peak GiB | pool | head |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for n, how in dict.fromkeys((c["windows"], c["neighbours"]) for c in cells):
        own = [c for c in cells if (c["windows"], c["neighbours"]) == (n, how)]
        spent = [
            f"{np.mean([c['seconds'][part] for c in own]):.1f}"
            for part in ("graph", "spreading", "head")
        ]
        peak = max(c["peak_gib"] for c in own)
        scores = [f"{np.mean([c[part] for c in own]):.3f}" for part in ("pool", "head")]
        lines.append(f"| {n:,} | {how} | " + " | ".join([*spent, f"{peak:.1f}", *scores]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
