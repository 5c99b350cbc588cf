"""Small tables for the tests of data."""

from pathlib import Path

import numpy as np

from edgegraft.data.dataset import open_data
from edgegraft_edge.errors import EdgegraftError

RATE_HZ = 50


def rows(n_rows=200, labels=("walk", "sit"), start_ms=1_700_000_000_000, seed=0, step_ms=20):
    """Rows of a good table: timestamp, acc_x, acc_y, label."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(n_rows, 2)).round(4)
    per_label = -(-n_rows // len(labels))
    return [
        [str(start_ms + number * step_ms), str(x), str(y), labels[number // per_label]]
        for number, (x, y) in enumerate(values)
    ]


HEAD = ["timestamp", "acc_x", "acc_y", "label"]


def text(table, head=HEAD, delimiter=",", newline="\n"):
    return newline.join(delimiter.join(row) for row in [head, *table]) + newline


def put(folder, content, name="data.csv"):
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def outcome(path, **options):
    """(codes of the error, None) or ([], data set)."""
    try:
        return set(), open_data(path, **options)
    except EdgegraftError as error:
        return {problem.code for problem in error.problems}, None


def quarantine(dataset):
    return {item.code: item.rows for item in dataset.account.quarantined}


def step_names(dataset):
    return {step.name for step in dataset.log}
