"""`edgegraft demo --firmware`: the demo's model as firmware on an emulated Cortex-M."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgegraft.cli.output import say, show, write
from edgegraft.cli.progress import Progress

if TYPE_CHECKING:
    from edgegraft_edge.bundle import Bundle
    from edgegraft_edge.signal import Windows

CORE, STEPS, STUDENT, FILE = "m4", 300, "micro-random", "firmware.egb"


def firmware_demo(
    model: Path, train: Windows, test: Windows, out: Path, *, seed: int, as_json: bool
) -> None:
    """Distil a model into one of integers, run it as firmware over a stream, compare with Python.

    Args:
        model: bundle of the teacher.
        train: labelled windows the student learns from; they also set its 8-bit ranges.
        test: recordings that are replayed one after the other.

    Errors: `ExportError` "emulator-missing", or "firmware-events" when firmware and Python differ.
    """
    from edgegraft import shipping
    from edgegraft.export import emulator, replay
    from edgegraft_edge import bundle
    from edgegraft_edge.decision import Decision

    emulator.need()
    began = time.perf_counter()
    decision = Decision(emit="window")
    with Progress() as watch:
        watch("stage", {"name": "distil"})
        student = _student(shipping.load(model), train, seed)
        bundle.write(out / FILE, student)
        samples = test.x.transpose(1, 0, 2).reshape(test.x.shape[1], -1)
        watch("stage", {"name": f"firmware on {CORE}"})
        done = replay.replay(student, samples, core=CORE, decision=decision)
        watch("stage", {"name": "python"})
        wanted = replay.expected(student, samples, decision=decision)
    replay.compare(done.events, wanted, tolerance=0.0)
    right = sum(event.label == truth for event, truth in zip(done.events, test.y, strict=True))
    found = {
        "bundle": str(out / FILE),
        "core": emulator.core_of(CORE).title,
        "precision": done.precision,
        "flash_bytes": done.size.flash,
        "arena_bytes": done.size.arena,
        "events": [event.as_dict() for event in done.events],
        "equal": True,
        "right": right,
        "total_seconds": round(time.perf_counter() - began, 2),
    }
    write(found, as_json, lambda: _render(found, test.y.tolist()))


def _student(teacher: Bundle, train: Windows, seed: int) -> Bundle:
    """A network of integers that learned what the teacher says of the training windows."""
    from edgegraft.compress.distill import Distillation, distill
    from edgegraft.compress.quantize import quantized
    from edgegraft.zoo.registry import load_backbone
    from edgegraft_edge.bundle import make

    options = Distillation(steps=STEPS)
    adapted = distill(teacher, train, None, load_backbone(STUDENT), options, seed=seed)
    return make(
        quantized(adapted.program, train.x),
        teacher.spec,
        adapted.classes,
        golden=teacher.golden,
        name="firmware",
        licences=teacher.manifest.licences,
    )


def _render(found: dict[str, Any], truths: list[str]) -> None:
    click.echo()
    size, arena = found["flash_bytes"] / 1024, found["arena_bytes"] / 1024
    said = f"{show(size)} KiB of flash, {show(arena)} KiB of arena"
    say("firmware", f"{found['precision']} on an emulated {found['core']}: {said}")
    events = found["events"]
    say("events", f"{len(events)}, each the same as Python's; {found['right']} right, e.g.")
    for event, truth in list(zip(events, truths, strict=True))[:: max(1, len(events) // 4)][:4]:
        click.echo(
            f"            at {event['at_s']:5.1f} s  {event['label']:10} "
            f"{event['probability']:.2f}  (was {truth})"
        )
    say("bundle", found["bundle"])
    say("seconds", f"{found['total_seconds']:.1f}")
