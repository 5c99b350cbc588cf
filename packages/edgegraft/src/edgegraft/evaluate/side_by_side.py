"""Versions of one model beside each other: scores on the same windows, and what each takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from edgegraft.evaluate import plots
from edgegraft.evaluate.bootstrap import intervals
from edgegraft.evaluate.evaluation import units_of
from edgegraft.evaluate.report import as_json_values, environment, markdown_cell
from edgegraft.tasks.metrics import Tallied
from edgegraft_edge.files import replace_file
from edgegraft_edge.signal import Array, Windows


def paired_accuracy(
    probabilities: Array, reference: Array, windows: Windows, classes: Sequence[str]
) -> dict[str, float]:
    """Accuracy apart from that of a reference, with its interval over people, machines or windows.

    Args:
        probabilities, reference: (n_windows, n_classes), of the same labelled windows.

    Returns: mean, low, high as shares, below zero where the reference is better.

    >>> windows = Windows.of(np.zeros((4, 1, 8)), y=["a", "a", "b", "b"])
    >>> right = np.eye(2)[[0, 0, 1, 1]]
    >>> paired_accuracy(right, right, windows, ("a", "b"))["mean"]
    0.0
    """
    codes = windows.codes(tuple(classes))
    n_classes = len(classes)

    def tally(both: Array, truth: Array) -> Array:
        own, other = both[:, :n_classes], both[:, n_classes:]
        gap = (own.argmax(1) == truth).astype(float) - (other.argmax(1) == truth)
        return np.stack([gap, np.ones(len(gap))], axis=1)

    def finish(sums: Array) -> Array:
        return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1))

    metric = Tallied("gap", "higher", tally, finish)
    both = np.concatenate([probabilities, reference], axis=1)
    mean = float(finish(tally(both, codes).sum(axis=0)))
    _, units = units_of(windows)
    low, high = intervals({"gap": metric}, both, codes, units).get("gap", (mean, mean))
    return {"mean": mean, "low": low, "high": high}


def write_pages(report: Mapping[str, Any], folder: Path) -> Path:
    """Write report.json, report.md and report.html into a folder; gives the path of the last."""
    plain = as_json_values(report)
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "report.json", json.dumps(plain, ensure_ascii=False, indent=1).encode())
    replace_file(folder / "report.md", as_markdown(plain).encode())
    return replace_file(folder / "report.html", as_html(plain).encode())


def as_html(report: Mapping[str, Any]) -> str:
    """The versions as one HTML page without scripts."""
    template = environment().get_template("compress.html.j2")
    return template.render(report=report, plot=pareto_plot(report.get("tried") or ()))


def as_markdown(report: Mapping[str, Any]) -> str:
    """The versions as a Markdown table."""
    lines = [f"# {report['title']}", "", f"{report['scored_on']}", ""]
    lines += [
        "| version | accuracy | against float | constants KiB | flash KiB | RAM KiB | products |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        cells = [
            markdown_cell(row["name"]) + (" **ships**" if row["ships"] else ""),
            f"{row['accuracy']:.3f} ({row['low']:.3f} to {row['high']:.3f})",
            _points(row.get("gap")),
            *(_number(row.get(key)) for key in ("size_kib", "flash_kib", "ram_kib")),
            f"{row['multiply_adds']:,}" if row.get("multiply_adds") else "–",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"* {markdown_cell(note)}" for note in report.get("notes") or ())]
    if report.get("tried"):
        lines += ["", "| candidate | flash KiB | RAM KiB | multiply-adds | agreement | steps | |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for each in report["tried"]:
            said = "–" if each["agreement"] is None else f"{each['agreement']:.3f}"
            lines.append(
                f"| {markdown_cell(each['name'])} | {each['flash_kib']} | {each['ram_kib']} | "
                f"{each['multiply_adds']:,} | {said} | {each['steps']} | {each['because']} |"
            )
    return "\n".join(lines) + "\n"


def _points(gap: Mapping[str, float] | None) -> str:
    if not gap:
        return "–"
    mean, low, high = (100 * gap[key] for key in ("mean", "low", "high"))
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def pareto_plot(tried: Sequence[Mapping[str, Any]]) -> Markup:
    """Flash against agreement of the candidates that were trained; nothing where there are few."""
    scored = [each for each in tried if each.get("agreement") is not None]
    if len(scored) < 2:
        return Markup("")
    best, front = -1.0, []
    for each in sorted(scored, key=lambda each: (each["flash_kib"], -each["agreement"])):
        if each["agreement"] > best:
            best = each["agreement"]
            front.append(each)
    return plots.trade_off(
        [(each["flash_kib"], each["agreement"], each in front, each["name"]) for each in scored],
        x_label="flash, KiB",
        says=f"Agreement with the teacher over flash of {len(scored)} candidates",
    )
