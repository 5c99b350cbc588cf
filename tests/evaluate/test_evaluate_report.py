"""The report: three files that agree, one page that needs nothing from outside."""

import copy
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft.evaluate.evaluation import evaluate_probabilities
from edgegraft.evaluate.report import as_html, as_markdown, embedding_map, write_report
from edgegraft.evaluate.sections import sections
from edgegraft_edge.signal import Windows

VOID = {"meta", "br", "link", "img", "input", "hr", "wbr"}
SPITEFUL = '<script>alert("1")</script> & | `a` *b*\n'


class Outline(HTMLParser):
    """Checks that tags close in order, and collects them with their attributes and text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def make_report(n_classes=3, n_groups=4, n_windows=120, names=None):
    """A report with every section filled."""
    rng = np.random.default_rng(0)
    names = names or [f"class {index}" for index in range(n_classes)]
    names = sorted(names)
    y = rng.integers(0, len(names), n_windows)
    p = rng.dirichlet(np.full(len(names), 0.3), n_windows)
    p[np.arange(n_windows), y] += 1.0
    p = p / p.sum(axis=1, keepdims=True)
    windows = Windows.of(
        np.zeros((n_windows, 1, 4)),
        y=np.array(names)[y],
        groups=[f"machine {index % n_groups}" for index in range(n_windows)],
    )
    scored = evaluate_probabilities(p, windows, names, n_resamples=100)
    candidate = {"backbone": "conv1d-motion", "strategy": "probe"}
    control = {"backbone": "minirocket", "strategy": "probe"}
    rows = [
        entry
        | {
            "role": role,
            "pretrained": role == "candidate",
            "shipped": role == "candidate",
            "metrics": {"accuracy": 0.9, "macro_f1": value, "log_loss": 0.3},
            "intervals": {"macro_f1": (value - 0.03, value + 0.02)},
            "seconds": 1.5,
            "size_kib": 80.0,
            "note": "a note",
        }
        for entry, role, value in ((control, "control", 0.85), (candidate, "candidate", 0.891))
    ]
    return {
        "title": "A pump",
        "created": "2025-01-01 10:00",
        "edgegraft_version": "0.1.0",
        "verdict": {
            "outcome": "helped",
            "candidate": candidate,
            "reference": control,
            "difference": {
                "metric": "macro_f1",
                "mean": 0.041,
                "low": 0.011,
                "high": 0.072,
                "level": 0.95,
                "n_folds": 5,
                "n_units": 4,
                "unit": "group",
            },
            "because": "It lies above zero.",
        },
        "shipped": candidate | {"because": "It is the best.", "pretrained": True},
        "rows": rows,
        "selection": [
            {
                "backbone": "conv1d-motion",
                "score": np.float32(0.9),
                "log_loss": 0.3,
                "labels_used": np.int64(30),
                "seconds": 0.5,
                "chosen": True,
                "because": "best score",
            }
        ],
        "evaluation": scored.as_dict() | {"on": "test data"},
        "learning_curve": [
            {"row": row, "labels_per_class": n, "score": 0.5 + n / 50, "low": 0.4, "high": 0.9}
            for row in ("shipped", "control")
            for n in (1, 5, 10)
        ],
        "embedding_map": embedding_map(
            rng.normal(size=(n_windows, 5)),
            windows.y,
            windows.groups,
            p.argmax(axis=1) == windows.codes(names),
        ),
        "training": [
            {
                "name": "gradual",
                "epochs": [
                    {"epoch": n, "loss": 1 / (n + 1), "validation_loss": 1.0, "metric": 0.5}
                    for n in range(5)
                ],
            }
        ],
        "cost": {"seconds_total": 12.5, "size_kib": 80.0, "parameters": 61234, "latency_ms": 1.25},
        "data": {"n_windows": n_windows, "rate_hz": 50.0, "classes": dict.fromkeys(names, 10)},
        "recipe": '[adapt]\nseed = 0\nname = "<pump>"\n',
        "warnings": ["Channel x is clipped."],
    }


def test_three_files_are_written_and_nothing_else(tmp_path):
    path = write_report(make_report(), tmp_path / "run")
    assert path == tmp_path / "run" / "report.html"
    found = sorted(entry.name for entry in path.parent.iterdir())
    assert found == ["report.html", "report.json", "report.md"]


def test_report_is_written_again_over_the_old_one(tmp_path):
    write_report(make_report(), tmp_path)
    write_report({"title": "New"}, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == {"title": "New"}
    assert "pump" not in (tmp_path / "report.html").read_text()


def test_json_is_the_mapping_itself(tmp_path):
    report = make_report()
    report["cost"]["odd"] = float("nan")
    write_report(report, tmp_path)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert data["cost"]["odd"] is None
    assert data["selection"][0]["labels_used"] == 30
    assert data["rows"][0]["intervals"]["macro_f1"] == pytest.approx([0.82, 0.87])
    assert data["verdict"] == report["verdict"]
    assert data["evaluation"]["metrics"] == pytest.approx(report["evaluation"]["metrics"])


def test_verdict_comes_first_on_both_pages():
    sentence = (
        "Transfer helped: macro F1 is 4.1 points higher than without it "
        "(95\u00a0% interval +1.1 to +7.2)."
    )
    report = make_report()
    page = as_html(report)
    assert sentence in "".join(Outline(page).text[:40])
    assert page.index("Transfer helped") < page.index("What ships") < page.index("Candidates and")
    lines = [line for line in as_markdown(report).splitlines() if line]
    assert lines[2] == f"**{sentence}**"


def test_markdown_says_the_same_figures_as_the_page():
    report = make_report()
    page, text = "".join(Outline(as_html(report)).text), as_markdown(report)
    for figure in ("89.1\u00a0%", "82.0 to 87.0\u00a0%", "1.25\u00a0ms", "61\u202f234", "0.300"):
        assert figure in page, figure
        assert figure in text, figure


def test_rows_come_best_first():
    text = as_markdown(make_report())
    assert text.index("conv1d-motion/probe (ships)") < text.index("| minirocket/probe |")


def test_page_needs_nothing_from_outside():
    page = as_html(make_report())
    outline = Outline(page)
    assert not re.search(r"https?:|url\(|@import|//[a-z]", page)
    assert not {name for name, _ in outline.attributes} & {"src", "href", "srcset", "onload"}
    assert not set(outline.tags) & {"script", "link", "iframe", "object", "img"}
    assert "default-src 'none'" in page


def test_page_says_its_language_and_describes_its_pictures():
    outline = Outline(as_html(make_report()))
    assert ("lang", "en") in outline.attributes
    pictures = outline.tags.count("svg")
    described = [v for name, v in outline.attributes if name == "aria-label" and v]
    hidden = [v for name, v in outline.attributes if name == "aria-hidden"]
    assert pictures > 4
    assert len(described) + len(hidden) >= pictures


@pytest.mark.parametrize("key", list(make_report()))
def test_any_section_may_be_missing_or_empty(key):
    report = make_report()
    empty = copy.deepcopy(report)
    del report[key]
    empty[key] = type(empty[key])()
    for case in (report, empty):
        Outline(as_html(case))
        assert as_markdown(case).startswith("# ")


@pytest.mark.parametrize("key", list(make_report()))
def test_any_section_may_stand_alone(key):
    Outline(as_html({key: make_report()[key]}))
    assert as_markdown({key: make_report()[key]})


def test_section_without_content_leaves_no_heading():
    page = as_html({"title": "Bare"})
    assert "<h2>" not in page
    assert as_markdown({"title": "Bare"}) == "# Bare\n"


def strip_numbers(value):
    if isinstance(value, dict):
        return {key: strip_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [strip_numbers(entry) for entry in value]
    return float("nan") if isinstance(value, float) else value


def test_figures_that_are_not_numbers_become_dashes():
    page = as_html(strip_numbers(make_report()))
    outline = Outline(page)
    assert not re.search(r"\bnan\b|\binf\b|None|Undefined", "".join(outline.text))
    assert "Transfer helped." in "".join(outline.text)
    assert "–" in outline.text


def test_whatever_comes_from_outside_is_shown_as_text():
    report = make_report(names=[SPITEFUL, "plain", "other"])
    report["title"] = report["warnings"][0] = report["recipe"] = SPITEFUL
    report["rows"][0]["backbone"] = report["shipped"]["because"] = SPITEFUL
    report["training"][0]["name"] = report["selection"][0]["because"] = SPITEFUL
    report["data"][SPITEFUL] = report["cost"][SPITEFUL] = SPITEFUL
    outline = Outline(as_html(report))
    assert "script" not in outline.tags
    assert "".join(outline.text).count("alert(") > 12
    text = as_markdown(report)
    assert not re.search(r"(?<!\\)<script", text.split("## Recipe")[0])


def test_markdown_tables_keep_their_columns():
    report = make_report(names=["a|b", "c\nd", "e"])
    report["rows"][0]["note"] = "x | y\nz"
    for block in as_markdown(report).split("\n\n"):
        lines = block.splitlines()
        if lines and lines[0].startswith("|"):
            columns = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
            assert len(columns) == 1, block


@settings(max_examples=25, deadline=None)
@given(text=st.text(max_size=40))
def test_no_text_breaks_the_pages(tmp_path_factory, text):
    report = {
        "title": text,
        "shipped": {"backbone": text, "because": text},
        "rows": [{"backbone": text, "note": text, "metrics": {text: 0.5}}],
        "evaluation": {"classes": [text, "b"], "confusion": [[1, 2], [0, 3]], "n": 6},
        "embedding_map": {"points": [{"x": 0, "y": 1, "label": text}]},
        "learning_curve": [{"row": text, "labels_per_class": n, "score": 0.5 * n} for n in (1, 2)],
        "warnings": [text],
        "data": {"classes": {text: 3}, text: text},
        "recipe": text,
    }
    path = write_report(report, tmp_path_factory.mktemp("report"))
    outline = Outline(path.read_text(encoding="utf-8"))
    assert not set(outline.tags) & {"script", "iframe", "img"}


def test_thirty_classes_and_sixty_groups_stay_small():
    names = [f"a state of the bearing with a long name, number {index}" for index in range(30)]
    page = as_html(make_report(names=names, n_groups=60, n_windows=3000))
    Outline(page)
    assert len(page.encode()) < 300_000
    assert "48 more groups" in page


def test_labels_the_model_does_not_know_have_a_row():
    report = make_report()
    report["evaluation"]["truths"] = [*report["evaluation"]["truths"], "limping"]
    report["evaluation"]["confusion"] = [*report["evaluation"]["confusion"], [0, 4, 0]]
    text = as_markdown(report)
    assert "| limping | 0 | 4 | 0 |" in text
    assert "limping" in "".join(Outline(as_html(report)).text)


def test_map_separates_what_lies_apart():
    rng = np.random.default_rng(0)
    label = np.repeat(["a", "b"], 40)
    z = rng.normal(size=(80, 300)) + 3.0 * (label == "b")[:, None]
    drawn = embedding_map(z, label, label, label == "a")
    x = np.array([point["x"] for point in drawn["points"]])
    assert x[:40].max() < x[40:].min() or x[40:].max() < x[:40].min()
    assert [point["correct"] for point in drawn["points"]] == (label == "a").tolist()
    assert drawn == embedding_map(z, label, label, label == "a")


@pytest.mark.parametrize("shape", [(1, 4), (2, 1), (5, 1), (6, 3)])
def test_map_of_little_or_constant_data_is_finite(shape):
    label = np.full(shape[0], "a")
    for z in (np.ones(shape), np.arange(np.prod(shape)).reshape(shape), np.full(shape, np.nan)):
        points = embedding_map(z, label, label)["points"]
        assert len(points) == shape[0]
        assert np.isfinite([[point["x"], point["y"]] for point in points]).all()


def test_map_keeps_at_most_so_many_windows():
    label = np.full(2000, "a")
    drawn = embedding_map(np.random.default_rng(0).normal(size=(2000, 3)), label, label, most=150)
    assert len(drawn["points"]) == 150


def test_very_many_classes_are_folded_away_and_no_matrix_is_drawn():
    few, many = as_html(make_report(n_classes=30)), as_html(make_report(n_classes=60))
    assert '<table class="confusion' in few
    assert '<table class="confusion' not in many
    assert "60 classes are too many for a matrix" in many
    assert "<summary>All 60 classes</summary>" in many
    assert "too many for a table" in as_markdown(make_report(n_classes=60))


def test_rows_that_were_not_compared_are_no_table():
    report = make_report()
    for row in report["rows"]:
        row["metrics"] = row["intervals"] = {}
    report["warnings"] = ["no comparison was possible"]
    page = as_html(report)
    assert "Candidates and controls" not in page
    assert "<li>No comparison was possible</li>" in page


def test_experts_stand_with_their_weight_and_sources_with_what_they_do():
    gap = {"metric": "macro_f1", "mean": -0.2, "low": -0.3, "high": -0.1}
    report = {
        "guard": {
            "reference": "blend",
            "experts": [
                {"name": "blend", "log_loss": 0.3, "accuracy": 0.9, "p_value": None,
                 "weight": 0.25, "because": "the mixture's share"},
                {"name": "spread<b>", "log_loss": 0.2, "accuracy": 0.95, "p_value": 0.04,
                 "weight": 0.75, "because": "mixed in"},
            ],
            "rule": "mixture", "bound": {"mixture": 2.0, "reference": 3.0, "ln2": 0.6931},
            "sentence": "All are mixed.",
        },
        "beside": {"pool": {"n_windows": 2000, "n_groups": 3},
                   "sources": {"load 0": {"n_windows": 50, "n_groups": 0, "classes": {"a": 50}}}},
        "sources": [{"source": "load 0", "before": gap, "after": {**gap, "mean": 0.1},
                     "sentence": "load 0 hurts"}],
        "negative_transfer": "negative transfer from load 0",
        "transductive": True,
    }  # fmt: skip
    found = sections(report)
    assert [line["name"] for line in found["experts"]["rows"]] == ["spread<b>", "blend"]
    assert found["experts"]["rows"][1]["reference"]
    pool, load = found["beside"]["rows"]
    assert (pool["says"], load["says"]) == (None, "hurts")
    assert load["before"] == {"mean": "−20.0", "interval": "−30.0 to −10.0"}
    page = as_html(report)
    assert "spread&lt;b&gt;" in page
    assert 'class="tag bad">hurts' in page
    assert "3.693" in page  # the reference's and ln 2
    assert "hold for these windows and not for new ones" in page
    assert "| load 0 (hurts) | 50 |" in as_markdown(report)
    assert not sections({})["experts"]
    assert not sections({})["beside"]


def test_map_draws_pool_and_sources_beneath_the_target():
    points = [
        {"x": 0.0, "y": 0.0, "label": "a", "domain": "target", "correct": False},
        {"x": 1.0, "y": 1.0, "label": "", "domain": "pool"},
        {"x": 2.0, "y": 0.0, "label": "a", "domain": "load 0"},
    ]
    found = sections({"embedding_map": {"points": points}})["map"]
    drawn = str(found["plot"])
    assert drawn.index("marks pool") < drawn.index("crosses c0") < drawn.index("marks c0")
    assert [name for _, name in found["legend"]] == ["a", "the pool", "load 0"]
    assert found["wrong"] == 1
