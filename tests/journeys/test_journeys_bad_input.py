"""Bad input of tasks in time: a coded error, or a run that says what was wrong and reports."""

from __future__ import annotations

import numpy as np
import pytest

import edgegraft as eg
from edgegraft_edge.errors import EdgegraftError

START_S, HOUR_S, ROWS = 1_700_000_000, 3600, 240


def _load(n_rows: int) -> np.ndarray:
    random = np.random.default_rng(0)
    return 10 + 3 * np.sin(np.arange(n_rows) / 24 * 2 * np.pi) + random.normal(size=n_rows)


def _table(path, load, times=None, **more):
    times = np.arange(len(load)) * HOUR_S if times is None else times
    names = ["timestamp", "load", "temp", *more]
    temp = np.random.default_rng(1).normal(size=len(load))
    rows = zip(START_S + times, load, temp, *more.values(), strict=True)
    lines = [",".join(f"{value:.4f}" for value in row) for row in rows]
    path.write_text("\n".join([",".join(names), *lines]))
    return str(path)


def _case(path, name):
    random, load = np.random.default_rng(2), _load(ROWS)
    if name == "constant":
        return _table(path, np.ones(ROWS))
    if name == "short":
        return _table(path, load[:20])
    if name == "irregular":
        return _table(path, load, (np.arange(ROWS) + random.uniform(-0.45, 0.45, ROWS)) * HOUR_S)
    if name == "gaps":
        return _table(path, load, np.cumsum(np.where(random.random(ROWS) < 0.05, 5, 1)) * HOUR_S)
    if name == "hole":
        load[100:130] = np.nan
        return _table(path, load)
    return _table(path, load, copy=2 * load + 1)


TASKS = {
    "forecasting": {
        "task": "forecasting",
        "strategy": "forecast-ridge",
        "options": {"forecasting.target": ("load",), "forecasting.horizon": 6},
    },
    "soft sensor": {
        "task": "regression",
        "strategy": "regress",
        "backbone": "statistics",
        "options": {"regression.target": "load"},
        "data_options": {"window_s": 86_400.0},
    },
    "life": {
        "task": "regression",
        "strategy": "regress",
        "backbone": "statistics",
        "options": {"regression.target": "remaining"},
        "data_options": {"window_s": 86_400.0},
    },
    "anomaly": {"task": "anomaly", "strategy": "fused"},
}
TOLD = {
    ("forecasting", "constant"): "series-constant",
    ("forecasting", "short"): "no comparison was possible",
    ("forecasting", "irregular"): "the steps between samples differ",
    ("forecasting", "hole"): "set aside",
    ("soft sensor", "constant"): "target-constant",
    ("soft sensor", "short"): "recordings-short",
    ("soft sensor", "irregular"): "the steps between samples differ",
    ("soft sensor", "copy"): "'copy'",
    ("life", "gaps"): "units-few",
    ("anomaly", "short"): "labels-few",
}
"""What must be said; where nothing stands, a run or a coded error is all that is asked."""


@pytest.mark.parametrize("name", ["constant", "short", "irregular", "gaps", "hole", "copy"])
@pytest.mark.parametrize("task", TASKS)
def test_bad_input_ends_in_a_coded_error_or_in_a_run_that_says_so(tmp_path, task, name):
    place = _case(tmp_path / "data.csv", name)
    problems, said = (), ""
    try:
        run = eg.adapt(place, folds=2, curve=False, out=tmp_path / "run", **TASKS[task])
        said = "; ".join(run.summary["warnings"])
    except EdgegraftError as error:
        problems, said = error.problems, str(error)
    assert (tmp_path / "run" / "report.html").exists() or problems
    assert all(problem.code and problem.remedy for problem in problems)
    assert TOLD.get((task, name), "") in said
