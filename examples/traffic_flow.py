"""Traffic flow: tomorrow's demand with intervals, and days that are like no other.

Half-hourly counts, such as the taxi rides of a city in the Numenta Anomaly Benchmark
(``realKnownCause/nyc_taxi.csv``: columns timestamp and value)::

    python examples/traffic_flow.py nyc_taxi.csv --out runs/traffic

The same in the shell::

    edgegraft doctor nyc_taxi.csv --task forecasting
    edgegraft adapt nyc_taxi.csv --task forecasting --horizon 48 --out runs/traffic
    edgegraft-edge run runs/traffic/model.egb --source nyc_taxi.csv --json
    edgegraft-edge watch --source nyc_taxi.csv --false-alarms 1/month

The first part of the counts trains; the report holds every forecast against the seasonal naive one
on later days, and shows fans. The watcher needs no training at all: it learns on the device.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import edgegraft as eg

DAY = 48
WEEK = 7 * DAY


def main(counts: Path, out: Path) -> dict[str, float]:
    """The whole way; gives the scaled error of what ships and of the seasonal naive forecast."""
    run = eg.adapt(
        counts,
        task="forecasting",
        options={
            "forecasting.horizon": DAY,
            "forecasting.season": WEEK,
            "forecasting.context": 2 * WEEK,
            "forecasting.stride": 6,
        },
        folds=2,
        out=out / "run",
    )
    rows = [*run.summary["candidates"], *run.summary["controls"]]
    naive = next(row for row in rows if row["strategy"] == "seasonal-naive")
    eg.export(run, format="onnx", out=out / "traffic.egb")
    return {
        "shipped": run.summary["evaluation"]["metrics"]["mase"],
        "seasonal naive": naive["metrics"]["mase"],
        "coverage": run.summary["evaluation"]["metrics"]["coverage"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("counts", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    for name, value in main(asked.counts, asked.out).items():
        print(f"{name:16} {value:.3f}")
