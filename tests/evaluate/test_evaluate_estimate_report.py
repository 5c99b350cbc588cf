"""Pages of estimates: what is drawn is what was measured, and nothing breaks them."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from estimate_toys import LIFE, LOAD, Toy, guesses, series_windows, unit_windows
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft.evaluate.estimate_plots import fan_chart, level_chart, over_time, truth_scatter
from edgegraft.evaluate.estimate_report import estimate_section
from edgegraft.evaluate.estimate_sections import estimate_sections
from edgegraft.evaluate.estimated import evaluate_estimates
from edgegraft.evaluate.report import as_html, as_json_values, as_markdown
from edgegraft.evaluate.sections import sections
from edgegraft.evaluate.wording import columns, figure, finding, score
from edgegraft_edge.estimate import Outputs


def reported(outputs, windows, table, others=None, primary="rmse"):
    scored = evaluate_estimates(table, windows, Toy(outputs, primary))
    better = {name: value * 0.5 for name, value in scored.metrics.items()}
    row = {"backbone": "raw", "strategy": "ridge", "role": "candidate", "shipped": True}
    other = {"backbone": "raw", "strategy": "median", "role": "control"}
    return as_json_values(
        {
            "shipped": {"backbone": "raw", "strategy": "ridge"},
            "rows": [
                {**row, "metrics": better, "intervals": dict(scored.intervals)},
                {**other, "metrics": dict(scored.metrics), "intervals": dict(scored.intervals)},
            ],
            "verdict": {
                "outcome": "helped",
                "transferred": True,
                "difference": {
                    "metric": primary,
                    "mean": 1.234,
                    "low": 0.5,
                    "high": 2.0,
                    "level": 0.95,
                    "n_folds": 5,
                    "n_units": 8,
                    "unit": "group",
                },
            },
            "evaluation": {**scored.as_dict(), "on": "cross-validation"},
            "estimates": estimate_section(outputs, windows, windows.y, table, others or {}),
        }
    )


def test_fans_go_from_the_best_to_the_worst_with_what_was_seen_before():
    windows = series_windows()
    found = estimate_section(LOAD, windows, windows.y, guesses(LOAD, windows), {})
    fans = found["fans"]
    assert [fan["kind"] for fan in fans] == ["best", "typical", "one in ten is worse", "worst"]
    errors = [fan["error"] for fan in fans]
    assert errors == sorted(errors)
    worst = fans[-1]
    row = int(worst["start"])
    place = LOAD.names.index(worst["quantity"])
    assert worst["context"][-1] == pytest.approx(windows.x[row, place, -1], rel=1e-4)
    truth = windows.y[row].reshape(2, 4)[place]
    assert worst["truth"] == pytest.approx(truth.tolist(), rel=1e-4)
    assert [len(line) for line in worst["quantiles"]] == [4] * 5
    assert worst["quantiles"][0][0] < worst["quantiles"][4][0]


def test_quantities_of_several_units_are_compared_in_deviations_and_one_unit_is_kept():
    windows = series_windows()
    table = guesses(LOAD, windows)
    mixed = estimate_section(LOAD, windows, windows.y, table, {"naive": table})
    assert mixed["error_unit"] == "standard deviations"
    assert mixed["controls"]["naive"] == [entry["error"] for entry in mixed["per_step"]]
    alike = Outputs(LOAD.names, ("kW", "kW"), LOAD.steps, LOAD.levels)
    same = estimate_section(alike, windows, windows.y, table, {})
    assert same["error_unit"] == "kW"
    error = np.abs(table[:, 2::5] - windows.y).reshape(-1, 2, 4).mean(axis=(0, 1))
    assert [entry["error"] for entry in same["per_step"]] == pytest.approx(error, rel=1e-4)
    assert same["time"] == {"unit": "h", "samples": 1.0}


def test_lives_are_drawn_along_time_one_unit_a_picture():
    lives = unit_windows()
    found = estimate_section(LIFE, lives, lives.y, guesses(LIFE, lives, noise=4.0), {})
    assert [entry["kind"] for entry in found["over_time"]] == ["best", "typical", "worst"]
    line = found["over_time"][0]
    assert line["truth"] == sorted(line["truth"], reverse=True)
    assert line["x"] == sorted(line["x"])
    assert "fans" not in found
    assert len(found["scatter"][0]["truth"]) == min(400, len(lives))


def test_the_page_of_a_forecast_has_its_plots_and_no_others():
    windows = series_windows()
    table = guesses(LOAD, windows, noise=0.5)
    report = reported(LOAD, windows, table, {"raw/naive": guesses(LOAD, windows, noise=2.0)}, "mse")
    page = as_html(report)
    for words in (
        "Forecasts",
        "Error by how far ahead",
        "Coverage by how far ahead",
        "Can its intervals be trusted?",
        "Where it errs most",
        "Each quantity",
    ):
        assert words in page, words
    for words in ("Which classes", "Each class", "confidence", "accuracy", "over time</h2>"):
        assert words not in page, words
    assert "raw/<wbr>naive" in page
    assert "Transfer helped" in page
    assert "1.23 better" in page
    text = as_markdown(report)
    assert "## Error by how far ahead" in text
    assert "| 4 |" in text


def test_the_page_of_lives_has_units_errors_in_hours_and_every_group():
    lives = unit_windows()
    report = reported(LIFE, lives, guesses(LIFE, lives, noise=4.0))
    page = as_html(report)
    assert "Life over time" in page
    assert "True and estimated life" in page
    assert "RMSE is 1.23\u00a0h better" in page
    assert "Where it errs most" not in page  # every group stands there already
    worst = report["evaluation"]["worst"][0]["unit"]
    assert sections(report)["per_group"]["first"][0]["name"] == worst
    assert "difference in RMSE\u00a0[h]" in page
    assert "Intervals" in as_markdown(report)


def test_intervals_that_are_off_are_called_so():
    windows = series_windows(n_windows=600)
    for spread, says in ((0.3, "too narrow"), (1.0, "as asked"), (3.0, "too wide")):
        found = estimate_sections(reported(LOAD, windows, guesses(LOAD, windows, spread)))
        assert found["intervals"]["rows"][0]["says"] == says


def test_rows_show_the_metric_gone_by_first_and_no_accuracy():
    lives = unit_windows()
    found = sections(reported(LIFE, lives, guesses(LIFE, lives), primary="mae"))["rows"]
    assert found["metrics"] == ["mae", "rmse", "mse", "coverage"]
    assert found["rows"][0]["strategy"] == "ridge"  # the lower error stands first
    assert found["rows"][0]["place"] < found["rows"][1]["place"]


@pytest.mark.parametrize("hole", ["row", "quantity", "untested", "all"])
def test_holes_leave_gaps_and_no_word_nan(hole):
    windows, table = series_windows(), None
    y = windows.y.copy()
    table = guesses(LOAD, windows)
    if hole == "row":
        y[::3] = np.nan
    if hole == "quantity":
        y[:, 4:] = np.nan
    if hole == "untested":
        table[:50] = np.nan
    if hole == "all":
        y[:] = np.nan
    windows = replace(windows, y=y)
    section = as_json_values(estimate_section(LOAD, windows, y, table, {}))
    json.dumps(section, allow_nan=False)
    page = as_html({"estimates": section})
    drawn = "".join(re.findall(r"<svg.*?</svg>", page))
    assert "nan" not in drawn.lower()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6) | st.none(), max_size=6),
    st.lists(st.floats(-1e6, 1e6) | st.none(), max_size=6),
)
def test_plots_take_any_values(left, right):
    n = min(len(left), len(right))
    entry = {
        "quantity": "<b>",
        "x": list(range(n)),
        "truth": left[:n],
        "point": right[:n],
        "low": left[:n],
        "high": right[:n],
        "unit": "",
    }
    fan = {
        "steps": list(range(1, n + 1)),
        "truth": left[:n],
        "levels": [0.5],
        "quantiles": [right[:n]],
        "context": left,
        "quantity": "<b>",
        "kind": "best",
    }
    dots = [{"level": a, "share": b} for a, b in zip(left, right, strict=False)]
    drawn = [truth_scatter(entry), over_time(entry, 1.0, "s"), fan_chart(fan, {})]
    for svg in map(str, [*drawn, level_chart(dots)]):
        assert "nan" not in svg.replace("<b>", "")
        assert "<b>" not in svg


def test_words_for_metrics_without_an_upper_end():
    assert score(1234.5, "mse") == "1\u202f234"
    assert score(0.0004, "mae") == "0.0004"
    assert figure(99.96) == "100.0"
    assert columns({"mase": 1, "mae": 2, "mse": 3, "rmse": 4, "coverage": 5}, "mase") == [
        "mase",
        "rmse",
        "mae",
        "coverage",
    ]
    verdict = {
        "outcome": "undecided",
        "transferred": False,
        "difference": {"metric": "mase", "mean": -0.25, "low": -0.4, "high": -0.1},
    }
    said = finding(verdict).sentence.replace("\u00a0", " ")
    assert said == (
        "Nothing was transferred: MASE is 0.250 worse than with the best control "
        "(95 % interval −0.400 to −0.100)."
    )
