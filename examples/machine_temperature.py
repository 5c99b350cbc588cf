"""Machine temperature: from a week of normal running to alarms with beginning, end and severity.

Readings of a large machine every five minutes, as in the Numenta Anomaly Benchmark
(``realKnownCause/machine_temperature_system_failure.csv``: columns timestamp and value)::

    python examples/machine_temperature.py machine_temperature_system_failure.csv --out runs/machine

The same in the shell, once the first week stands in a file of its own::

    edgegraft adapt first_week.csv --task anomaly --false-alarms 1/week --out runs/machine
    edgegraft-edge run runs/machine/model.egb --source machine_temperature_system_failure.csv --json

The first week trains; nothing else is known, no fault is labelled. Everything after it is streamed
through the bundle, as on the device, and each alarm is told with how long and how bad it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import edgegraft as eg
from edgegraft.data.dataset import Dataset
from edgegraft_edge.runner import Runner
from edgegraft_edge.signal import Recording

WEEK = 7 * 24 * 12


def main(readings: Path, out: Path) -> dict[str, list[tuple[float, float, float]]]:
    """The whole way; gives (day of the beginning, hours, severity) of each alarm, worst first."""
    opened = eg.open_data(readings, timezone="UTC")  # the clock was put back once
    whole = opened.recordings[0]
    normal = Recording(whole.values[:, :WEEK], whole.channels, whole.rate_hz, name="first week")
    run = eg.adapt(
        Dataset((normal,)),
        task="anomaly",
        options={"anomaly.false_alarms": "1/week", "anomaly.stride": 6},
        curve=False,
        out=out / "run",
    )
    eg.export(run, format="onnx", out=out / "machine.egb")
    runner = Runner(eg.load(out / "run"))
    later = whole.values[:, WEEK:]
    events = [
        event
        for part in np.array_split(later, 200, axis=1)
        for event in runner.push(part)
        if event.kind == "end"
    ]
    told = []
    for event in events:
        began_s = event.started_s or 0.0
        hours = round((event.at_s - began_s) / 3600, 1)
        told.append((round(began_s / 86_400 + 7, 1), hours, event.severity))
    return {"alarms": sorted(told, key=lambda alarm: -alarm[2])}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readings", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    for day, hours, severity in main(asked.readings, asked.out)["alarms"]:
        print(f"day {day:5.1f}   {hours:6.1f} h   severity {severity:.2f}")
