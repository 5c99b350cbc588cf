"""Loads and oil temperature of a transformer: the next day from the three weeks before.

Hourly readings, such as those of the electricity transformer data (Zhou et al., AAAI 2021;
``ETTh1.csv``: columns date, six loads and the oil temperature OT)::

    python examples/transformer_load.py ETTh1.csv --older ETTh2.csv --out runs/transformer

The same in the shell::

    edgegraft adapt ETTh1.csv --task forecasting --horizon 24 --source older=ETTh2.csv \\
        --out runs/transformer
    edgegraft export runs/transformer --out transformer.egb

The transformer is new: only its first weeks are used, and another one, observed for longer, is the
source that its forecasts are pulled to.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import edgegraft as eg

DAY = 24
NEW_DAYS, OLDER_DAYS, LATER_DAYS = 35, 120, 30


def hours(place: Path, first: int, last: int) -> eg.Dataset:
    """Readings of these days of a file."""
    data = eg.open_data(place)
    recording = data.recordings[0]
    part = slice(first * DAY, last * DAY)
    return replace(data, recordings=(replace(recording, values=recording.values[:, part]),))


def main(new: Path, older: Path | None, out: Path) -> dict[str, float]:
    """The whole way; gives the scaled error of what ships, and how often its intervals hold."""
    run = eg.adapt(
        hours(new, 0, NEW_DAYS),
        task="forecasting",
        source={"older": hours(older, 0, OLDER_DAYS)} if older else None,
        test=hours(new, NEW_DAYS, NEW_DAYS + LATER_DAYS),
        options={
            "forecasting.horizon": DAY,
            "forecasting.context": 7 * DAY,
            "forecasting.season": DAY,
        },
        folds=2,
        out=out / "run",
    )
    eg.export(run, format="onnx", out=out / "transformer.egb")
    metrics = run.summary["evaluation"]["metrics"]
    return {"mase": metrics["mase"], "coverage": metrics["coverage"]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("new", type=Path)
    parser.add_argument("--older", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    for name, value in main(asked.new, asked.older, asked.out).items():
        print(f"{name:10} {value:.3f}")
