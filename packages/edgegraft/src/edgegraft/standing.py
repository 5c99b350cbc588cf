"""What stands side by side: scores and costs of the versions of a model, as the report has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgegraft.compress.fit import Budget, Cost
from edgegraft.evaluate.evaluation import evaluate_probabilities, units_of
from edgegraft.evaluate.side_by_side import paired_accuracy
from edgegraft.findings import now
from edgegraft.versions import Made, Shrinking, linked
from edgegraft.zoo.cost import multiply_adds
from edgegraft_edge import __version__
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.program import Program
from edgegraft_edge.signal import Array, Windows

KIB = 1024


def rows_of(
    made: Made, tested: Windows, classes: Sequence[str], how: Shrinking
) -> list[dict[str, Any]]:
    """Scores and costs of every version."""
    tested = tested.take(np.flatnonzero(tested.labelled))
    measure = linked(how.core)
    tables = {name: _run(program, tested.x) for name, program in made.programs.items()}
    rows = []
    for name, program in made.programs.items():
        scored = evaluate_probabilities(tables[name], tested, tuple(classes))
        low, high = scored.intervals.get("accuracy", (float("nan"),) * 2)
        cost: Cost | None = None
        if program.size_bytes < 1024 * KIB:  # what no microcontroller holds is not compiled for one
            cost = measure(program, tested.spec.shape)
        rows.append(
            {
                "name": name,
                "precision": program.precision,
                "accuracy": scored.metrics["accuracy"],
                "macro_f1": scored.metrics.get("macro_f1"),
                "low": low,
                "high": high,
                "gap": None
                if name == "float"
                else paired_accuracy(tables[name], tables["float"], tested, classes),
                "parameters": sum(int(a.size) for a in program.constants.values()),
                "size_kib": program.size_bytes / KIB,
                "flash_kib": None if cost is None else cost.flash_bytes / KIB,
                "ram_kib": None if cost is None else cost.ram_bytes / KIB,
                "counted": None if cost is None else cost.counted,
                "instructions": None if cost is None else cost.instructions,
                "multiply_adds": multiply_adds(program, *tested.spec.shape),
                "ships": name == made.ships,
            }
        )
    return rows


def _run(program: Program, x: Array, step: int = 256) -> Array:
    parts = [program.run(x[first : first + step]) for first in range(0, len(x), step)]
    return np.concatenate(parts)


def unit_of(windows: Windows) -> str:
    return {"group": "people or machines", "recording": "recordings", "window": "own windows"}[
        units_of(windows)[0]
    ]


def report_of(
    source: Bundle,
    made: Made,
    rows: list[dict[str, Any]],
    how: Shrinking,
    budget: Budget,
    scored_on: str,
    tested: Windows,
) -> dict[str, Any]:
    own = next(row for row in rows if row["ships"])
    gap = own["gap"] or {"mean": 0.0, "low": 0.0, "high": 0.0}
    points = ", ".join(f"{100 * gap[key]:+.1f}" for key in ("low", "high"))
    size = rows[0]["size_kib"] / max(own["size_kib"], 1e-9)
    outcome = "hurt" if gap["high"] < 0 else "helped" if gap["low"] > 0 else "undecided"
    linked = any(row["counted"] == "linker" for row in rows)
    return {
        "title": f"{source.manifest.name}, made smaller",
        "created": now(),
        "edgegraft_version": __version__,
        "sentence": f"{own['name']} ships: {_smaller(size)}, "
        f"{100 * gap['mean']:+.1f} points of accuracy ({points}).",
        "outcome": outcome,
        "scored_on": scored_on,
        "units": unit_of(tested),
        "counted": f"linker for {how.core} at -O2" if linked else "memory plan and an allowance",
        "rows": rows,
        "notes": list(made.notes),
        "budget": {"name": how.board or "the budget", **vars(budget)},
        "tried": [each.as_dict(budget) for each in made.found.tried] if made.found else [],
        "ships": made.ships,
        "methods": list(how.methods),
    }


def _smaller(ratio: float) -> str:
    """How the constants of what ships compare with those of the model it came from."""
    if ratio < 1.1:
        return "no smaller" if ratio > 0.9 else f"{1 / ratio:.1f} times as large"
    return f"{ratio:.0f} times smaller" if ratio >= 10 else f"{ratio:.1f} times smaller"
