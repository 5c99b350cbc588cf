"""A sensor that was put up today: nothing recorded, nothing labelled; it shall tell what is odd.

The watch learns on the device while it runs. Here an hourly temperature of an office is played to
it for ten months; half-way the device is switched off and on again, and goes on from what it had
learnt. The series is the one of the Numenta Anomaly Benchmark whose end is a system failure
(`realKnownCause/ambient_temperature_system_failure.csv`)::

    python examples/office_sensor.py ambient_temperature_system_failure.csv --out runs/office

The same in the shell, and with a stream of your own::

    edgegraft-edge watch --source ambient_temperature_system_failure.csv --false-alarms 1/week
    sensor-program | edgegraft-edge watch --source - --false-alarms 1/week --state office.npz
"""

from __future__ import annotations

import argparse
import csv
from datetime import UTC, datetime
from pathlib import Path

from edgegraft_edge.alarms import Alarms, FalseAlarms
from edgegraft_edge.decision import Event
from edgegraft_edge.watch import Watch


def rows(path: Path) -> list[tuple[float, float]]:
    """Seconds since 1970 and degrees Fahrenheit."""
    with path.open(newline="") as file:
        return [
            (datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).timestamp(),
             float(row["value"]))
            for row in csv.DictReader(file)
        ]  # fmt: skip


def watched(watch: Watch, alarms: Alarms, samples: list[tuple[float, float]]) -> list[Event]:
    """The ends of alarms, each of which says when it began and how odd it was."""
    found = []
    for at_s, value in samples:
        watch.push(value)
        event = alarms.step(at_s, watch)
        if event is not None and event.kind == "end":
            found.append(event)
    return found


def main(path: Path, out: Path, rate: str = "1/week") -> list[Event]:
    samples = rows(path)
    half = len(samples) // 2
    alarms = Alarms(FalseAlarms.parse(rate), ("temperature",), period_s=3600.0)

    watch = Watch()
    found = watched(watch, alarms, samples[:half])
    out.mkdir(parents=True, exist_ok=True)
    watch.save(out / "office.npz")  # the power goes

    watch = Watch.load(out / "office.npz")  # and is back
    found += watched(watch, alarms, samples[half:])
    last = alarms.finish()
    found += [last] if last is not None else []
    for event in found:
        began = datetime.fromtimestamp(event.started_s or event.at_s, UTC)
        hours = (event.at_s - (event.started_s or event.at_s)) / 3600 + 1
        print(f"{began:%Y-%m-%d %H:%M}  {hours:4.0f} h  one sample in {10**event.severity:,.0f}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path, help="columns timestamp and value")
    parser.add_argument("--out", type=Path, default=Path("runs/office"))
    parser.add_argument("--false-alarms", default="1/week", help="how many are allowed")
    arguments = parser.parse_args()
    main(arguments.csv, arguments.out, arguments.false_alarms)
