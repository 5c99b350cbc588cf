"""The verdict in words, and plots' scales."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgegraft.evaluate import plots
from edgegraft.evaluate.wording import finding, quantity, score, span


def make_verdict(outcome, mean, low, high, metric="macro_f1"):
    return {
        "outcome": outcome,
        "difference": {"metric": metric, "mean": mean, "low": low, "high": high, "level": 0.9},
    }


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (
            make_verdict("hurt", -0.042, -0.06, -0.02),
            "Transfer hurt: macro F1 is 4.2 points lower than without it "
            "(90 % interval −6.0 to −2.0).",
        ),
        (
            make_verdict("undecided", 0.008, -0.031, 0.047),
            "Undecided whether transfer helped: macro F1 is 0.8 points higher than without it "
            "(90 % interval −3.1 to +4.7, which includes zero).",
        ),
        (
            make_verdict("helped", 0.12, 0.04, 0.2, "log_loss"),
            "Transfer helped: log loss is 0.120 better than without it "
            "(90 % interval +0.040 to +0.200).",
        ),
        (make_verdict("helped", None, None, None), "Transfer helped."),
        ({"outcome": "undecided"}, "Undecided whether transfer helped."),
        (
            {"outcome": "undecided", "difference": {"mean": 0.1, "low": -1, "n_units": 1}},
            "Undecided whether transfer helped: macro F1 is 10.0 points higher than without it "
            "(no interval: one unit alone does not show its spread).",
        ),
    ],
)
def test_verdict_is_one_plain_sentence(verdict, sentence):
    assert finding(verdict).sentence.replace("\u00a0", " ") == sentence


@pytest.mark.parametrize("verdict", [{}, {"outcome": "splendid"}, {"outcome": None}])
def test_no_verdict_no_sentence(verdict):
    assert finding(verdict) is None


def test_evidence_names_both_sides_and_the_units():
    verdict = make_verdict("helped", 0.1, 0.05, 0.2)
    verdict |= {"candidate": {"backbone": "a", "strategy": "b"}, "reference": {"backbone": "c"}}
    verdict["difference"] |= {"n_folds": 5, "n_units": 1, "unit": "group"}
    assert finding(verdict).evidence == (
        "a/b against the best control, c, the same 5 folds for both, 1 group"
    )


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "0.5", True, np.nan])
def test_what_is_no_number_is_a_dash(value):
    assert score(value) == "–"
    assert span([0.1, value]) == ""


def test_quantity_takes_nested_values():
    assert quantity({"a": [1, 2.5], "b": None}) == "a: 1, 2.5, b: –"
    assert quantity(True) == "yes"


@given(
    low=st.floats(-1e6, 1e6, allow_nan=False),
    width=st.floats(1e-6, 1e6, allow_nan=False),
)
def test_ticks_are_few_and_inside(low, width):
    high = low + width
    found = plots.ticks(low, high)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert len(found) <= 7
    assert all(low - slack <= tick <= high + slack for tick in found)
    assert found == sorted(found)


@pytest.mark.parametrize("ends", [(0.02, 0.01, 0.05), (-0.5, -0.9, -0.1), (0.0, 0.0, 0.0)])
def test_interval_plot_always_shows_zero(ends):
    picture = plots.interval_plot(*ends, "points", "helped")
    place = float(picture.split('class="zero" d="M')[1].split()[0])
    assert 20 < place < plots.WIDTH - 20


def test_line_chart_leaves_out_what_is_not_finite():
    line = plots.Line("a", [1, 2, 3], [0.5, float("nan"), 0.7])
    picture = plots.line_chart([line], x_label="x", says="s")
    assert "nan" not in picture
    assert picture.count("<circle") == 2


@pytest.mark.parametrize("y", [[float("nan")] * 2, []])
def test_line_chart_of_nothing_is_nothing(y):
    assert plots.line_chart([plots.Line("a", [1, 2][: len(y)], y)], x_label="", says="") == ""


def test_scatter_map_rings_what_was_predicted_wrongly():
    points = [{"x": n, "y": n % 3, "label": "ab"[n % 2], "correct": n != 4} for n in range(9)]
    assert plots.scatter_map(points, ["a", "b"], "s").count('class="ring"') == 1
    unknown = [{"x": 1.0, "y": None, "label": "a"}, {"x": 1.0, "y": float("nan"), "label": "a"}]
    assert plots.scatter_map(unknown, ["a"], "s") == ""


def test_looks_differ_until_colours_and_shapes_are_used_up():
    n_looks = plots.N_COLOURS * plots.SHAPES
    assert len({plots.look(index) for index in range(n_looks)}) == n_looks
