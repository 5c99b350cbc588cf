"""Parts by name: found, and said what is missing where they cannot be loaded."""

from __future__ import annotations

import pytest

from edgegraft_edge import parts
from edgegraft_edge.errors import OptionError

ENTRIES = """[edgegraft.test_parts]
whole = outside_whole:Part
no-module = outside_gone:Part
no-name = outside_whole:Prat
no-inner = outside_whole.inner:Part
light = outside_light:Part
heavy = outside_heavy:Part
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A package with one extra, `light`, as pip would install it."""
    (tmp_path / "outside_whole.py").write_text("class Part: pass\n")
    (tmp_path / "outside_light.py").write_text("import feather_not_there\n")
    (tmp_path / "outside_heavy.py").write_text("import lead_not_there.deep\n")
    info = tmp_path / "outside_parts_x-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: outside-parts-x\nVersion: 1.0\nProvides-Extra: light\n"
    )
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    parts.refresh()
    yield
    monkeypatch.undo()
    parts.refresh()


def refused(name):
    with pytest.raises(OptionError) as caught:
        parts.load("edgegraft.test_parts", name, "part")
    return caught.value.problems[0]


def test_a_part_is_loaded_by_name(outside):
    assert parts.load("edgegraft.test_parts", "whole", "part").__name__ == "Part"


@pytest.mark.parametrize(
    ("name", "code", "remedy"),
    [
        ("wole", "name-unknown", "whole"),
        ("no-module", "part-broken", "pip install --force-reinstall outside-parts-x"),
        ("no-name", "part-broken", "pip install --force-reinstall outside-parts-x"),
        ("no-inner", "part-broken", "pip install --force-reinstall outside-parts-x"),
        (
            "light",
            "extra-missing",
            "pip install 'outside-parts-x[light]' or pip install feather_not_there",
        ),
        ("heavy", "extra-missing", "pip install lead_not_there"),
    ],
)
def test_a_part_that_cannot_be_loaded_says_what_would_help(outside, name, code, remedy):
    problem = refused(name)
    assert (problem.code, problem.remedy) == (code, remedy)


def test_parts_are_looked_up_once_until_asked_anew(outside, tmp_path):
    assert "new" not in parts.entries("edgegraft.test_parts")
    file = next(tmp_path.glob("*.dist-info")) / "entry_points.txt"
    file.write_text(ENTRIES + "new = outside_whole:Part\n")
    assert "new" not in parts.entries("edgegraft.test_parts")
    parts.refresh()
    assert "new" in parts.entries("edgegraft.test_parts")


def test_nothing_of_a_kind_is_said_so():
    with pytest.raises(OptionError, match="nothing of that kind is installed"):
        parts.load("edgegraft.no_such_group", "any", "part")
