"""A page that shows windows to label next: a map of all windows, a table, a learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from edgegraft.evaluate import plots
from edgegraft.evaluate.report import as_json_values, environment
from edgegraft.evaluate.worth import Worth
from edgegraft_edge.files import replace_file
from edgegraft_edge.signal import Array


def write_page(
    page: Mapping[str, Any],
    path: Path,
    *,
    flat: Array,
    labels: Array,
    chosen: Sequence[int],
    worth: Worth | None,
) -> Path:
    """One HTML file without script.

    Args:
        page: `edgegraft.labels.Proposals.as_dict`, with title, created and edgegraft_version.
        flat: windows in a plane (n_windows, 2).
        labels: text (n_windows,), "" for those without one.
        chosen: positions of the windows proposed, best first.
    """
    plain = as_json_values(page)
    html = environment().get_template("label.html.j2").render(
        page=plain | {"n_labels": page["labels"], "n_open": page["open"]}
        | {"worth_says": "" if worth is None else said(worth)},
        map=numbered_map(flat, labels, page["classes"], chosen),
        swatches=[plots.swatch(index) for index in range(len(page["classes"]))],
        curve=None if worth is None else curve_plot(worth),
    )  # fmt: skip
    return replace_file(path, html.encode())


def said(worth: Worth) -> str:
    """What labels are worth, in a sentence.

    >>> said(Worth((), (), (), (), 4, 20, because="too few labels for a curve"))
    'nothing is said of what labels are worth: too few labels for a curve'
    """
    if worth.gain is None or worth.expected is None:
        return f"nothing is said of what labels are worth: {worth.because}"
    gain, low, high = (100 * value for value in worth.gain)
    at, least, most = (100 * value for value in worth.expected)
    return (
        f"{worth.n_more} more labels may add {gain:.1f} points of accuracy ({low:.1f} to "
        f"{high:.1f}), to {at:.1f} % ({least:.1f} to {most:.1f}): {worth.because}; labels that "
        "are chosen are not drawn by chance, so take it as a guide"
    )


def numbered_map(
    flat: Array, labels: Array, classes: Sequence[str], chosen: Sequence[int]
) -> Markup:
    """Windows as marks, with a look for each class, and the proposed ones as numbers.

    >>> drawn = numbered_map(np.eye(2), np.array(["a", ""]), ["a"], [1])
    >>> ">1</text>" in drawn, drawn.count('class="marks')
    (True, 2)
    """
    across = plots.Scale(*plots.padded(flat[:, 0].tolist(), 0.02), 12, plots.WIDTH - 12)
    up = plots.Scale(*plots.padded(flat[:, 1].tolist(), 0.02), 312, 12)
    parts = []
    for index, name in [(None, ""), *enumerate(classes)]:
        rows = np.flatnonzero(labels == name)
        rows = rows[:: max(1, -(-len(rows) // plots.MAX_POINTS))]
        if not len(rows):
            continue
        marks = "".join(f"M{across(x)} {up(y)}h0" for x, y in flat[rows].tolist())
        look = "open" if index is None else plots.look(index)
        parts.append(
            Markup('<path class="marks {}" d="{}"><title>{}</title></path>').format(
                look, marks, name or "no label"
            )
        )
    for rank, row in reversed(list(enumerate(chosen, 1))):
        x, y = across(float(flat[row, 0])), up(float(flat[row, 1]))
        parts.append(Markup('<circle class="next" cx="{}" cy="{}" r="7.5"/>').format(x, y))
        parts.append(
            Markup('<text class="number" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                x, round(y + 3.2, 1), rank
            )
        )
    says = f"Map of {len(flat)} windows, {len(chosen)} of them numbered to be labelled next"
    return Markup('<svg viewBox="0 0 {} 324" role="img" aria-label="{}">{}</svg>').format(
        plots.WIDTH, says, Markup("").join(parts)
    )


def curve_plot(worth: Worth) -> Markup:
    """Accuracy over labels, and the point expected; nothing where there is no curve."""
    lines = [plots.Line("so far", worth.counts, worth.scores, worth.low, worth.high)]
    if worth.expected is not None and worth.counts:
        at, low, high = worth.expected
        last = worth.scores[-1]
        lines.append(
            plots.Line(
                "expected",
                (worth.counts[-1], worth.n_labels + worth.n_more),
                (last, at),
                (last, low),
                (last, high),
            )
        )
    says = "Accuracy on labelled windows left out, over the number of labels"
    return plots.line_chart(
        lines, x_label="labelled windows", says=says, logarithmic=True, y_format=plots.percent
    )
