"""`edgegraft demo`: the whole way on real recordings, in a minute."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgegraft.cli.options import json_option, seed_option
from edgegraft.cli.output import say, show, write
from edgegraft.cli.progress import Progress
from edgegraft.cli.train import show_verdict

if TYPE_CHECKING:
    from edgegraft_edge.bundle import Bundle
    from edgegraft_edge.signal import Windows

SET, RATE_HZ, LABELS_PER_CLASS = "aeon:BasicMotions", 10.0, 5


@click.command()
@click.option(
    "--out",
    default="runs/demo",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the run.",
)
@click.option(
    "--firmware",
    is_flag=True,
    help="Distil the demo's model into one of integers and run that as firmware on an emulated "
    "Cortex-M4.",
)
@seed_option
@json_option
def demo(out: Path, firmware: bool, seed: int, as_json: bool) -> None:
    """Adapt, prove and ship on real recordings, in a minute.

    BasicMotions: a smart watch (accelerometer and gyroscope, 10 Hz) while standing, walking,
    running and playing badminton. Five recordings of each are labelled; the forty of its test
    part are held out. Then the bundle is exported, verified in each runtime, and a stream of
    the held-out recordings is replayed through it. Uses no network.

    With --firmware, the model of a demo that was run before (it is run first where there is none)
    teaches a small network; its C, compiled for a Cortex-M4 that QEMU emulates, gets the same
    stream sample by sample, and its events are compared with Python's. Needs gcc-arm-none-eabi
    and qemu-system-arm.
    """
    from edgegraft import shipping, workflow
    from edgegraft_edge import runner

    if firmware:
        _firmware(out, seed, as_json)
        return
    began = time.perf_counter()
    options = {"rate_hz": RATE_HZ}
    with Progress() as watch:
        run = workflow.adapt(
            f"{SET}/train",
            test=f"{SET}/test",
            labels_per_class=LABELS_PER_CLASS,
            seed=seed,
            out=out,
            data_options=options,
            watch=watch,
            resume=False,
        )
        watch("stage", {"name": "export"})
        bundle = shipping.export(run, format="onnx", out=out / "model.onnx.egb")
        watch("stage", {"name": "verify"})
        parities = runner.verify(bundle)
        watch("stage", {"name": "replay"})
        held_out = workflow.open_windows(f"{SET}/test", options)
        stream = _write_stream(out / "stream.csv", held_out)
        events = list(_replay(bundle, held_out))
    right = sum(event["label"] == event["truth"] for event in events)
    found = {
        **run.summary,
        "run": str(out),
        "bundle": str(out / "model.onnx.egb"),
        "report": str(out / "report.html"),
        "verified": {parity.runtime: parity.status for parity in parities},
        "stream": {"events": len(events), "right": right, "file": str(stream)},
        "total_seconds": round(time.perf_counter() - began, 2),
    }
    write(found, as_json, lambda: _render(found, events))


def _firmware(out: Path, seed: int, as_json: bool) -> None:
    from edgegraft import workflow
    from edgegraft.cli.firmware import firmware_demo
    from edgegraft.data.split import few_shot
    from edgegraft.export import emulator
    from edgegraft.shipping import MODEL

    emulator.need()
    options = {"rate_hz": RATE_HZ}
    train, test = (workflow.open_windows(f"{SET}/{part}", options) for part in ("train", "test"))
    if not (out / MODEL).exists():
        with Progress() as watch:
            workflow.adapt(
                f"{SET}/train",
                labels_per_class=LABELS_PER_CLASS,
                seed=seed,
                out=out,
                data_options=options,
                curve=False,
                watch=watch,
                resume=False,
            )
    few = train.take(few_shot(train, LABELS_PER_CLASS, seed=seed))
    firmware_demo(out / MODEL, few, test, out, seed=seed, as_json=as_json)


def _write_stream(path: Path, windows: Windows) -> Path:
    """The recordings one after the other as rows of a CSV file, as a sensor would send them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp", *windows.series.channel_names])
        rows = windows.x.transpose(0, 2, 1).reshape(-1, windows.x.shape[1])
        for index, row in enumerate(rows.tolist()):
            writer.writerow([f"{index / windows.series.rate_hz:.3f}", *row])
    return path


def _replay(bundle: Bundle, windows: Windows) -> Iterator[dict[str, Any]]:
    """Push the recordings sample by sample; an event for each, with what was true."""
    from edgegraft_edge.decision import Decision
    from edgegraft_edge.runner import Runner

    live = Runner(bundle, "onnx", decision=Decision(emit="window"))
    for truth, recording in zip(windows.y.tolist(), windows.x, strict=True):
        for sample in recording.T:
            for event in live.push(sample[:, None]):
                yield {**event.as_dict(), "truth": truth}


def _render(found: dict[str, Any], events: list[dict[str, Any]]) -> None:
    scores = found["evaluation"]["metrics"]
    click.echo()
    show_verdict(found)
    said = "  ".join(f"{name} {show(scores[name])}" for name in ("accuracy", "macro_f1"))
    say("scores", f"on {found['evaluation']['n']} held-out recordings: {said}")
    statuses = ", ".join(f"{name} {status}" for name, status in found["verified"].items())
    say("verified", f"{statuses}")
    stream = found["stream"]
    say("stream", f"{stream['right']} of {stream['events']} events right, e.g.")
    for event in events[:: max(1, len(events) // 4)][:4]:
        click.echo(
            f"            at {event['at_s']:5.1f} s  {event['label']:10} "
            f"{event['probability']:.2f}  (was {event['truth']})"
        )
    say("report", f"{found['report']}")
    say("bundle", f"{found['bundle']}")
    say("seconds", f"{found['total_seconds']:.1f}")
    click.echo("\nReplay the stream yourself:")
    click.echo(f"  edgegraft-edge run {found['bundle']} --source {stream['file']} --replay 10x")
