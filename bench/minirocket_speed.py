"""Our MiniRocket features beside aeon's: time on one core, first call, accuracy with ridge.

    .venv/bin/python bench/minirocket_speed.py

Writes bench/results/minirocket_speed.json and .md. Times are interleaved: in each round both
embed the same windows once, and medians over the rounds are compared. Accuracy needs the UCI
HAR recordings (see docs) as ../shared/data/uci_har/{train,test}.npz and is left out otherwise.
"""

import os

# One thread each, settled before numba and BLAS start.
os.environ.update(NUMBA_NUM_THREADS="1", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import json
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from aeon.transformations.collection.convolution_based import MiniRocket as Aeon
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from edgegraft.zoo.minirocket import MiniRocket
from edgegraft_edge.signal import Windows

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared/data/uci_har"
SHAPES = ((9, 128, 100), (1, 1000, 60), (6, 100, 150), (2, 2048, 20), (3, 256, 100))
ROUNDS = 15
SEEDS = range(5)
FIRST_CALL = """
import time; begun = time.perf_counter()
import numpy as np
x = np.random.default_rng(0).standard_normal((20, 9, 128)).astype(np.float32)
{code}
print(time.perf_counter() - begun)
"""
OWN_CODE = """
from edgegraft.zoo.minirocket import MiniRocket
from edgegraft_edge.signal import Windows
MiniRocket().fit(Windows.of(x), seed=0).embed(x)
"""
AEON_CODE = """
from aeon.transformations.collection.convolution_based import MiniRocket
MiniRocket(random_state=0, n_jobs=1).fit(x).transform(x)
"""


def measure_speed(n_channels: int, n_timepoints: int, n_windows: int) -> dict:
    """Milliseconds per window of both, medians of interleaved rounds."""
    steps = np.random.default_rng(0).standard_normal((n_windows, n_channels, n_timepoints))
    x = np.cumsum(steps, axis=2).astype(np.float32)
    own = MiniRocket().fit(Windows.of(x), seed=0)
    aeon = Aeon(random_state=0, n_jobs=1).fit(x)
    times = {"own": [], "aeon": []}
    for turn in range(ROUNDS + 1):
        for name, embed in (("own", own.embed), ("aeon", aeon.transform)):
            begun = time.perf_counter()
            z = embed(x)
            if turn:  # the first round compiles and warms up
                times[name].append(1e3 * (time.perf_counter() - begun) / n_windows)
            assert z.shape == (n_windows, 9996)
    medians = {name: float(np.median(taken)) for name, taken in times.items()}
    ratios = np.array(times["aeon"]) / np.array(times["own"])
    return {
        "n_channels": n_channels,
        "n_timepoints": n_timepoints,
        "own_ms": round(medians["own"], 4),
        "aeon_ms": round(medians["aeon"], 4),
        "ratio": round(medians["aeon"] / medians["own"], 2),
        "ratio_of_rounds": [round(float(q), 2) for q in np.quantile(ratios, [0.1, 0.9])],
    }


def measure_first_call() -> dict:
    """Seconds from the start of Python's work to the first features, compiler cache cold, warm."""
    found = {}
    for name, code in (("own", OWN_CODE), ("aeon", AEON_CODE)):
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
            for state in ("cold", "warm"):
                done = subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", FIRST_CALL.format(code=code)],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=True,
                )
                found[f"{name}_{state}_s"] = round(float(done.stdout), 2)
    return found


def measure_accuracy(labels_per_class: int) -> dict:
    """Accuracy on people apart, ridge with leave-one-out choice of its penalty."""
    train, test = (np.load(DATA / f"{part}.npz") for part in ("train", "test"))
    x, y = train["x"].astype(np.float32), train["y"]
    test_x = test["x"].astype(np.float32)
    scores = {"own": [], "aeon": []}
    for seed in SEEDS:
        random = np.random.default_rng(seed)
        few = np.concatenate(
            [
                random.choice(np.flatnonzero(y == label), labels_per_class, replace=False)
                for label in np.unique(y)
            ]
        )
        own = MiniRocket().fit(Windows.of(x[few]), seed=seed)
        aeon = Aeon(random_state=seed, n_jobs=1).fit(x[few])
        for name, embed in (("own", own.embed), ("aeon", aeon.transform)):
            model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-3, 5, 17)))
            model.fit(embed(x[few]), y[few])
            scores[name].append(float(model.score(embed(test_x), test["y"])))
    found: dict = {"labels_per_class": labels_per_class}
    for name, values in scores.items():
        found[f"{name}_mean"] = round(float(np.mean(values)), 4)
        found[f"{name}_spread"] = round(float(np.std(values, ddof=1)), 4)
    difference = np.array(scores["own"]) - np.array(scores["aeon"])
    found["difference_mean"] = round(float(difference.mean()), 4)
    found["difference_spread"] = round(float(difference.std(ddof=1)), 4)
    return found


def table(result: dict) -> str:
    """The result as Markdown."""
    lines = [
        "# MiniRocket features: ours and aeon's",
        "",
        f"One thread each, {result['processor']}, numba {result['numba']}, aeon {result['aeon']}, "
        "same run, interleaved. 9,996 features.",
        "",
        "| channels x timepoints | ours, ms a window | aeon, ms a window | times faster |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {r['n_channels']} x {r['n_timepoints']} | {r['own_ms']:.3f} | {r['aeon_ms']:.3f} "
        f"| {r['ratio']:.1f} |"
        for r in result["speed"]
    ]
    first = result["first_call"]
    lines += [
        "",
        "| from import to first features | ours, s | aeon, s |",
        "|---|---|---|",
        *(
            f"| compiler cache {state} | {first[f'own_{state}_s']:.2f} "
            f"| {first[f'aeon_{state}_s']:.2f} |"
            for state in ("cold", "warm")
        ),
    ]
    if result["accuracy"]:
        lines += [
            "",
            "Accuracy on UCI HAR, people apart, ridge head, mean and deviation over five seeds:",
            "",
            "| labels per class | ours | aeon | difference, paired |",
            "|---|---|---|---|",
        ]
    lines += [
        f"| {r['labels_per_class']} | {r['own_mean']:.4f} +- {r['own_spread']:.4f} "
        f"| {r['aeon_mean']:.4f} +- {r['aeon_spread']:.4f} "
        f"| {r['difference_mean']:+.4f} +- {r['difference_spread']:.4f} |"
        for r in result["accuracy"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    warnings.filterwarnings("ignore")
    result = {
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "numba": version("numba"),
        "aeon": version("aeon"),
        "rounds": ROUNDS,
        "speed": [measure_speed(*shape) for shape in SHAPES],
        "first_call": measure_first_call(),
        "accuracy": [measure_accuracy(n) for n in (10, 100)] if DATA.is_dir() else [],
    }
    folder = ROOT / "bench/results"
    folder.mkdir(exist_ok=True)
    (folder / "minirocket_speed.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / "minirocket_speed.md").write_text(table(result))
    print(table(result))


if __name__ == "__main__":
    main()
