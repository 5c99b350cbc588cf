"""The report of an adaptation: one mapping, written as JSON, Markdown and one HTML file.

The mapping's sections are described in the guide on the verdict. Any of them may be missing;
the pages then leave it out. Nothing in the HTML comes from outside the file, and no script is
in it, so it can be mailed, kept beside a model and opened in ten years.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape

from edgegraft.evaluate import wording
from edgegraft.evaluate.sections import sections
from edgegraft_edge.files import replace_file
from edgegraft_edge.signal import Array


def write_report(report: Mapping[str, Any], folder: str | Path) -> Path:
    """Write report.json, report.md and report.html into a folder; gives the path of the last.

    Values may be NumPy's; what is not finite becomes null in the JSON and a dash on the pages.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    plain = as_json_values(report)
    text = json.dumps(plain, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    replace_file(folder / "report.json", text.encode())
    replace_file(folder / "report.md", as_markdown(plain).encode())
    return replace_file(folder / "report.html", as_html(plain).encode())


def as_html(report: Mapping[str, Any]) -> str:
    """The report as one HTML page."""
    return _render("report.html.j2", report)


def as_markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown with tables, without its plots."""
    text = _render("report.md.j2", report)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def as_json_values(value: Any) -> Any:
    """Plain JSON values: mappings with text keys, lists, text, numbers that are finite, null.

    >>> import numpy as np
    >>> as_json_values({"a": np.float32(0.5), 1: (float("nan"), np.arange(2))})
    {'a': 0.5, '1': [None, [0, 1]]}
    """
    if isinstance(value, Mapping):
        return {str(key): as_json_values(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):
        return as_json_values(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json_values(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    # Lone surrogates cannot be written as UTF-8.
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _render(template: str, report: Mapping[str, Any]) -> str:
    plain = as_json_values(report)
    return environment().get_template(template).render(report=plain, **sections(plain))


@cache
def environment() -> jinja2.Environment:
    """The templates of reports with their filters."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("edgegraft.evaluate", "templates"),
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "score": wording.score,
        "span": wording.span,
        "count": wording.count,
        "duration": wording.duration,
        "size": wording.size,
        "quantity": wording.quantity,
        "quantity_name": wording.quantity_name,
        "metric_name": wording.metric_name,
        "pair": wording.pair,
        "moment": wording.moment,
        "capital": wording.capital,
        "cell": markdown_cell,
        "breakable": breakable,
        "evenly": evenly,
        "unit_name": lambda unit: wording.UNITS.get(str(unit), "units"),
    }
    return found


def evenly(entries: Sequence[Any], most: int) -> list[Any]:
    """At most so many entries, evenly picked, the first and the last among them.

    >>> evenly(range(10), 4)
    [0, 3, 6, 9]
    """
    picked = np.linspace(0, len(entries) - 1, min(most, len(entries))).round().astype(int)
    return [entries[at] for at in dict.fromkeys(picked.tolist())]


def breakable(value: Any) -> Markup:
    """A name that may be broken after its punctuation rather than within a word.

    >>> print(breakable("walk_down<b>"))
    walk_<wbr>down&lt;b&gt;
    """
    return Markup(re.sub(r"([_./:,])(?=\w)", r"\1<wbr>", str(escape(value))))


def markdown_cell(value: Any) -> str:
    """Text that keeps its place in a Markdown table and is shown as it stands.

    >>> markdown_cell("a|b <i>*x*")
    'a\\\\|b \\\\<i\\\\>\\\\*x\\\\*'
    """
    text = re.sub(r"[ \t-\r\x1c-\x1e\x85\u2028\u2029]+", " ", str(value)).strip(" ")
    return re.sub(r"([\\\\`*_{}\[\]<>|#])", r"\\\1", text)


def embedding_map(
    z: Array,
    labels: Array,
    groups: Array,
    correct: Sequence[bool | None] | Array | None = None,
    *,
    domains: Sequence[str] = (),
    explains: str = "",
    most: int = 600,
) -> dict[str, Any]:
    """The report's `embedding_map` section from embeddings (n_windows, embedding_dim).

    The two directions of largest spread (principal components) of the standardised features.
    `labels` and `groups` are text (n_windows,), `correct` bool or None where nothing was
    predicted, `domains` where each is from ("target", "pool", or the name of a source);
    `explains` says what was embedded. At most `most` windows are kept, evenly picked.

    >>> z = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.1]])
    >>> drawn = embedding_map(z, np.array(["a", "a", "b"]), np.array(["", "", ""]))
    >>> len(drawn["points"]), drawn["points"][2]["label"]
    (3, 'b')
    """
    rows = np.unique(np.linspace(0, len(z) - 1, min(most, len(z))).astype(int))
    kept = np.nan_to_num(np.asarray(z, dtype=np.float64)[rows])
    kept = kept - kept.mean(axis=0)
    spread = kept.std(axis=0)
    kept = kept / np.where(spread > 0, spread, 1.0)
    # The Gram matrix is small: features may be many thousands, the windows kept are not.
    values, vectors = np.linalg.eigh(kept @ kept.T)
    values = np.maximum(values[::-1], 0.0)
    flat = vectors[:, ::-1][:, :2] * np.sqrt(values[:2])
    flat = np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))
    peaks = flat[np.abs(flat).argmax(axis=0), [0, 1]]
    flat = flat * np.where(peaks < 0, -1.0, 1.0)  # eigenvectors come with either sign
    explained = values[:2].sum() / max(values.sum(), 1e-12)
    points = [
        {
            "x": round(float(x), 3),
            "y": round(float(y), 3),
            "label": str(labels[row]),
            "group": str(groups[row]),
        }
        | ({} if correct is None or correct[row] is None else {"correct": bool(correct[row])})
        | ({"domain": str(domains[row])} if len(domains) else {})
        for row, (x, y) in zip(rows, flat, strict=True)
    ]
    what = explains or "the two directions of largest spread"
    return {
        "explains": f"Drawn are {what} ({100 * explained:.0f}\u00a0% of the variance).",
        "points": points,
    }
