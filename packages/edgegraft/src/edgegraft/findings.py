"""What a run found out, and the same in plain values: a summary for scripts, a report to read."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np

from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.mixture import Mixture
from edgegraft.adapt.select import Ranked
from edgegraft.adapt.strategy import Watch
from edgegraft.data.domains import joined, pool_of, sources_of
from edgegraft.data.split import Fold
from edgegraft.evaluate.compare import OutOfFold, Row, as_row, columns_of
from edgegraft.evaluate.estimated import EstimateEvaluation
from edgegraft.evaluate.evaluation import Evaluation
from edgegraft.evaluate.negative import POOL, SourceEffect, effects, summed_up
from edgegraft.evaluate.verdict import Verdict
from edgegraft.recipe import Recipe
from edgegraft.tasks.anomaly import ANOMALY
from edgegraft.tasks.task import Task
from edgegraft_edge import __version__, bundle, runner
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.signal import Array, Windows

MAPPED = 300
"""Windows of the pool and of each source on the map of embeddings; of the target twice as many."""
PICTURES = 12
"""Pictures that the report shows with what was seen in them."""


@dataclass(frozen=True)
class Comparison:
    """Rows scored on the same folds of the same windows.

    Attributes:
        windows: the labelled windows that were trained on.
        rows: what was compared; the first is preferred.
        folds: empty where nothing could be left out, and then there are no `tables`.
        tables: what each row says of windows it did not see.
        notes: what is not as it was asked for.
        beside: pool and sources; may be none.
    """

    windows: Windows
    task: Task
    rows: tuple[Row, ...]
    folds: tuple[Fold, ...]
    tables: tuple[OutOfFold, ...]
    notes: tuple[str, ...] = ()
    beside: Windows | None = None

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The columns of the tables."""
        return columns_of(self.windows, self.beside, self.task)

    def table_of(self, row: Row) -> OutOfFold | None:
        """What a row says out of fold; None where nothing was compared."""
        return next((table for table in self.tables if table.row.name == row.name), None)

    @cached_property
    def effects(self) -> tuple[SourceEffect, ...]:
        """What the pool and each source do to windows left out, without the guard and with it.

        Beside the target-only reference: the blend of the same backbone, else that of a control.
        """
        if self.task.outputs is not None:
            return ()
        guard = self.table_of(self.rows[0]) if self.rows else None
        alone = [table for table in self.tables if not table.row.draws]
        alone.sort(key=lambda table: (table.row.strategy_name != "blend", table.row.role))
        if guard is None or not guard.row.draws or not alone:
            return ()
        trusting = {table.row.source: table for table in self.tables if table.row.source}
        spread = next((t for t in self.tables if t.row.strategy_name == "spread"), None)
        if spread is not None and spread.row.draws:
            trusting[POOL] = spread
        return effects(
            self.windows,
            self.task,
            reference=alone[0],
            guard=guard,
            trusting=trusting,
            n_folds=len(self.folds),
        )

    @property
    def around(self) -> dict[str, Any]:
        """How much stands beside the labels, in plain values; empty where nothing does."""
        if self.beside is None or not len(self.beside):
            return {}
        pool, sources = pool_of(self.beside), sources_of(self.beside)
        told: dict[str, Any] = {}
        if len(pool):
            told["pool"] = {"n_windows": len(pool), "n_groups": _n_groups(pool)}
        if sources:
            told["sources"] = {
                name: {
                    "n_windows": len(windows),
                    "n_groups": _n_groups(windows),
                    "classes": _counts(windows),
                }
                for name, windows in sources.items()
            }
        return told

    @cached_property
    def lines(self) -> tuple[dict[str, Any], ...]:
        """One mapping of plain values for each row, with its scores if it has some."""
        return tuple(as_row(self.table_of(row), row, self.windows, self.task) for row in self.rows)


@dataclass(frozen=True)
class Findings:
    """All that a run found out.

    Attributes:
        recipe: what was asked.
        ranking: the backbones and why one was chosen.
        compared: the rows on their folds.
        verdict: whether transfer helped, and what ships.
        adapted, bundle: what ships, here and for a device.
        evaluation: its scores, on what `scored_on` says; None where there is nothing to score on.
        curve: scores over growing numbers of labels.
        training: epochs by training.
        seconds: from the data to here.
        tested: the test data, where there is some.
    """

    recipe: Recipe
    ranking: tuple[Ranked, ...]
    compared: Comparison
    verdict: Verdict
    adapted: Adapted
    bundle: Bundle
    evaluation: Evaluation | EstimateEvaluation | None
    scored_on: str
    curve: list[dict[str, Any]]
    training: Mapping[str, list[Mapping[str, Any]]]
    seconds: float
    tested: Windows | None = None


def summary(found: Findings) -> dict[str, Any]:
    """What ``adapt --json`` prints."""
    compared, scored = found.compared, found.evaluation
    lines = compared.lines if compared.tables else ()
    return {
        "verdict": found.verdict.outcome,
        "because": found.verdict.because,
        "difference": found.verdict.as_dict()["difference"],
        "shipped": _shipped(found.verdict),
        "candidates": [line for line in lines if line["role"] == "candidate"],
        "controls": [line for line in lines if line["role"] == "control"],
        "evaluation": {"on": found.scored_on, "n": scored.n, "metrics": dict(scored.metrics)}
        if scored
        else None,
        "n_labelled": len(compared.windows),
        **_beside(found),
        "unsure_below": found.bundle.decision.threshold,
        "seconds": round(found.seconds, 2),
        "warnings": list(compared.notes),
    }


def report(found: Findings) -> dict[str, Any]:
    """What the pages of the report are made of."""
    compared, scored = found.compared, found.evaluation
    shipped = found.verdict.shipped.name
    told_apart = compared.task.outputs is None
    lines = [
        line | {"shipped": row.name == shipped}
        for row, line in zip(compared.rows, compared.lines, strict=True)
    ]
    return {
        "title": f"Adapted to {found.recipe.data}",
        "created": now(),
        "edgegraft_version": __version__,
        "verdict": found.verdict.as_dict(),
        "shipped": _shipped(found.verdict),
        "rows": lines,
        "selection": [row.as_dict() for row in found.ranking],
        "evaluation": scored.as_dict() | {"on": found.scored_on} if scored else {},
        "unsure_below": found.bundle.decision.threshold,
        "learning_curve": found.curve,
        **({"embedding_map": _map(found), "pictures": _pictures(found)} if told_apart else {}),
        **({} if told_apart else {"estimates": _estimates(found)}),
        **({"detection": _detection(found)} if compared.task.name == "anomaly" else {}),
        "training": [{"name": name, "epochs": epochs} for name, epochs in found.training.items()],
        "cost": {
            "seconds_total": round(found.seconds, 2),
            "size_kib": round(found.adapted.program.size_bytes / 1024, 1),
            "bundle_kib": round(len(bundle.to_bytes(found.bundle)) / 1024, 1),
            "latency_ms": runner.latency_ms(found.adapted.program.run, found.bundle),
        },
        "data": _data(compared.windows),
        **_beside(found),
        "lineage": dict(found.adapted.lineage),
        "recipe": found.recipe.to_toml(),
        "warnings": [*compared.notes, *(scored.warnings if scored else ())],
    }


def noting_epochs(watch: Watch, training: dict[str, list[Mapping[str, Any]]]) -> Watch:
    """A watch that also keeps the epochs of each first fold, and of the final fit."""

    def noted(event: str, values: Mapping[str, Any]) -> None:
        if event == "epoch" and values.get("fold", 1) == 1:
            name = f"{values['row']}, first fold" if "row" in values else "final fit"
            training.setdefault(name, []).append(
                {key: value for key, value in values.items() if key not in ("row", "fold")}
            )
        watch(event, values)

    return noted


def now() -> str:
    """The time in ISO 8601, to the second."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def _shipped(verdict: Verdict) -> dict[str, Any]:
    return {
        "backbone": verdict.shipped.backbone.card.name,
        "strategy": verdict.shipped.strategy_name,
        **({"source": verdict.shipped.source} if verdict.shipped.source else {}),
        "pretrained": verdict.shipped.pretrained,
        "because": verdict.shipped_because,
    }


def _map(found: Findings) -> dict[str, Any]:
    """Embeddings of the first backbone that ships, windows marked that were guessed wrongly.

    Pool and sources are on it too, where there are any: pale and unlike, so one sees whether the
    target lies within them.
    """
    from edgegraft.evaluate.report import embedding_map

    compared, adapted = found.compared, found.adapted
    part = adapted.parts[0] if isinstance(adapted, Mixture) else adapted
    backbone = adapted.members[0].backbone
    picked = evenly(len(compared.windows), 2 * MAPPED)
    drawn = compared.windows.take(picked)
    correct: list[bool | None] = (_guesses(found) == compared.windows.y)[picked].tolist()
    marks = ["target"] * len(drawn)
    if compared.around and compared.beside is not None:
        for name, windows in {
            "pool": pool_of(compared.beside),
            **sources_of(compared.beside),
        }.items():
            few = windows.take(evenly(len(windows), MAPPED))
            drawn = joined(drawn, few) if len(drawn) else few
            correct += [None] * len(few)
            marks += [name] * len(few)
    return embedding_map(
        backbone.embed(part.steps.run(drawn.x)),
        drawn.y,
        drawn.groups,
        correct,
        domains=marks if compared.around else (),
        most=5 * MAPPED,
        explains=f"embeddings of {backbone.card.name}, two principal components",
    )


def evenly(count: int, most: int) -> Array:
    """Positions of at most so many of `count`, evenly picked."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))


def _pictures(found: Findings) -> list[dict[str, str]]:
    """A few pictures with what was said of them and where that was seen, wrong ones first."""
    windows = found.compared.windows
    if windows.spec.kind != "image":
        return []
    from edgegraft.evaluate.where import activation_maps, as_png, overlay

    guesses = _guesses(found)
    order = np.random.default_rng(0).permutation(len(windows))
    wrong = [row for row in order if guesses[row] != windows.y[row]][: PICTURES // 2]
    right = [row for row in order if guesses[row] == windows.y[row]][: PICTURES - len(wrong)]
    rows = np.array([*wrong, *right])
    targets = np.array([found.adapted.classes.index(str(guesses[row])) for row in rows])
    maps = activation_maps(
        found.bundle.program, windows.x[rows], targets, usual=found.bundle.golden
    )
    return [
        {
            "label": str(windows.y[row]),
            "said": str(guesses[row]),
            "png": base64.b64encode(as_png(overlay(windows.x[row], heat))).decode(),
        }
        for row, heat in zip(rows, maps, strict=True)
    ]


def _guesses(found: Findings) -> Array:
    """What ships says of each window (n_windows,): out of fold where it can be, else fitted."""
    if not len(found.compared.windows):
        return found.compared.windows.y
    fitted = found.adapted.predict(found.compared.windows).labels
    table = found.compared.table_of(found.verdict.shipped)
    if table is None:
        return fitted
    best = np.nan_to_num(table.probabilities).argmax(axis=1)
    return np.where(table.tested, np.asarray(found.compared.classes)[best], fitted)


def _estimates(found: Findings) -> dict[str, Any]:
    """What the plots of estimates are drawn from: out of fold beside the controls, else tested."""
    from edgegraft.evaluate.estimate_report import estimate_section

    compared, tested = found.compared, found.tested
    outputs = found.adapted.outputs
    table = compared.table_of(found.verdict.shipped)
    if outputs is None or (table is None and tested is None):
        return {}
    if table is None:
        assert tested is not None
        said = found.adapted.predict(tested).probabilities
        truth = compared.task.truth(tested, outputs.columns)
        return estimate_section(outputs, tested, truth, said, {})
    others = {
        each.row.name: each.probabilities
        for each in compared.tables
        if each.row.role == "control" and each is not table
    }
    truth = compared.task.truth(compared.windows, compared.classes)
    return estimate_section(outputs, compared.windows, truth, table.probabilities, others)


def _detection(found: Findings) -> dict[str, Any]:
    """Alarms along the recordings of the test data, else out of fold; nothing without an order."""
    from edgegraft.evaluate.detect_report import detection_section
    from edgegraft_edge.alarms import FalseAlarms

    compared, task, windows = found.compared, found.compared.task, found.tested
    table = compared.table_of(found.verdict.shipped)
    if windows is not None:
        said, columns = found.adapted.predict(windows).probabilities, found.adapted.classes
    elif table is not None:
        windows, said, columns = compared.windows, table.probabilities, compared.classes
    if windows is None or windows.spec.kind not in ("series", "audio"):
        return {}
    explained = getattr(found.adapted.members[0].backbone, "contributions", None)
    part = found.adapted.parts[0] if isinstance(found.adapted, Mixture) else found.adapted
    asked = str(getattr(task, "false_alarms", "") or "")
    per_s = FalseAlarms.parse(asked).per_s if asked else None
    return detection_section(
        said[:, columns.index(ANOMALY)],
        windows,
        str(getattr(task, "normal", "")),
        asked_per_day=None if per_s is None else per_s * 86_400,
        contributions=explained(part.steps.run(windows.x)).sum(axis=2) if explained else None,
    )


def _beside(found: Findings) -> dict[str, Any]:
    """Pool, sources, what they did, and what the guard made of it; nothing without them."""
    compared = found.compared
    if not compared.around:
        return {}
    return {
        "beside": compared.around,
        "transductive": found.recipe.transductive,
        "sources": [effect.as_dict() for effect in compared.effects],
        "negative_transfer": summed_up(compared.effects) if compared.effects else "",
        "guard": found.adapted.lineage.get("guard") or {},
    }


def _counts(windows: Windows) -> dict[str, int]:
    """Windows of each label; of numbers there is nothing to count."""
    if windows.y.dtype.kind == "f":
        return {}
    labels, counts = np.unique(windows.y, return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))


def _n_groups(windows: Windows) -> int:
    return len(set(windows.groups.tolist()) - {""})


def _data(windows: Windows) -> dict[str, Any]:
    return {
        "n_windows": len(windows),
        "kind": windows.spec.kind,
        "shape": list(windows.spec.shape),
        "rate_hz": getattr(windows.spec, "rate_hz", None),
        "classes": _counts(windows),
        "n_groups": _n_groups(windows),
    }
