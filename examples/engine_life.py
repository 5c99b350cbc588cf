"""Turbofan life: how many flights an engine has left, from few that ran until they failed.

The turbofan data of NASA (C-MAPSS, Saxena and others 2008), a row for each engine and cycle: engine
number, cycle, three settings and 21 sensors, separated by spaces::

    python examples/engine_life.py train_FD001.txt --engines 12 --out runs/engines

writes them to a table with names and goes the whole way. The same in the shell, of such a table::

    edgegraft adapt engines.csv --task regression --target remaining --group unit --rate-hz 1 \\
        --derive "start:*:20,mean:*:50,age" -o regression.cap=125 -o regression.unit=cycles \\
        --window-s 30 --stride-s 4 --out runs/engines
    edgegraft-edge run runs/engines/model.egb --source - --low 30 --sure 0.05

One sample is one cycle, so seconds stand for cycles. A life ends at an engine's last row; more than
125 cycles count as 125, as a new engine shows nothing yet. Whole engines are left out to score.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import edgegraft as eg

SENSORS = (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)
"""Those that ever change in this part of the data."""
FIRST_SENSOR = 4  # columns: unit, cycle, three settings, then sensor 1


def table(place: Path, out: Path, n_engines: int) -> Path:
    """The first engines as a table with names; gives its place."""
    rows = np.loadtxt(place)
    rows = rows[rows[:, 0] <= n_engines]
    names = ["unit", *(f"s{number}" for number in SENSORS)]
    columns = [0, *(FIRST_SENSOR + number for number in SENSORS)]
    out.mkdir(parents=True, exist_ok=True)
    found = out / "engines.csv"
    with found.open("w") as file:
        file.write(",".join(names) + "\n")
        file.writelines(",".join(f"{row[c]:g}" for c in columns) + "\n" for row in rows)
    return found


def main(place: Path, out: Path, n_engines: int = 12, folds: int = 3) -> dict[str, float]:
    """The whole way; gives the error in cycles of what ships, and of the median life."""
    data = eg.open_data(
        table(place, out, n_engines),
        group="unit",
        rate_hz=1.0,
        window_s=30.0,
        stride_s=5.0,
        derive=("start:*:20", "mean:*:50", "age"),
    )
    run = eg.adapt(
        data,
        task="regression",
        strategy="trend",
        options={
            "regression.target": "remaining",
            "regression.cap": 125.0,
            "regression.unit": "cycles",
        },
        folds=folds,
        curve=False,
        out=out / "run",
    )
    rows = [*run.summary["candidates"], *run.summary["controls"]]
    median = next(row for row in rows if row["strategy"] == "median")
    trend = next(row for row in rows if row["strategy"] == "trend")
    eg.export(run, format="onnx", out=out / "engine.egb")
    return {
        "shipped": run.summary["evaluation"]["metrics"]["rmse"],
        "trend": trend["metrics"]["rmse"],
        "median": median["metrics"]["rmse"],
        "coverage": run.summary["evaluation"]["metrics"]["coverage"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--engines", type=int, default=12)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    for name, value in main(asked.rows, asked.out, asked.engines).items():
        print(f"{name:10} {value:.2f}")
