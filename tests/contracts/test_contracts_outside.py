"""An outside package enters by entry points alone: source, backbone and strategy, end to end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from outside_parts import Levels, NearestMean, TonesSource

from edgegraft.tasks.classification import Classification
from edgegraft.testing import check_backbone, check_source, check_strategy

ENTRY_POINTS = """\
[edgegraft.architectures]
levels = outside_parts:Levels

[edgegraft.strategies]
nearest-mean = outside_parts:NearestMean

[edgegraft.sources]
tones = outside_parts:TonesSource
"""


@pytest.fixture
def site(tmp_path):
    """A folder as pip would leave it: the module, and beside it what it declares."""
    folder = tmp_path / "site"
    facts = folder / "outside-1.0.dist-info"
    facts.mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "outside_parts.py", folder)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


def call(site, *arguments):
    """The command in an interpreter that has the outside package."""
    code = "from edgegraft.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=site.parent,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_outside_parts_keep_the_published_contracts():
    check_backbone(Levels())
    check_strategy(NearestMean(), Levels(), Classification())
    check_source(TonesSource(), "tones:6")


def test_outside_parts_are_listed(site):
    listed = {row["name"]: row for row in call(site, "models", "list")["models"]}
    assert "outside" in listed["levels"]["summary"]


def test_outside_parts_go_the_whole_way_to_a_verified_bundle(site):
    run = site.parent / "run"
    summary = call(
        site,
        *("adapt", "tones:12", "--backbone", "levels", "--strategy", "nearest-mean"),
        *("-o", "nearest-mean.sharpness=9", "-o", "scratch.epochs=2"),
        *("--folds", "2", "--out", str(run)),
    )
    (candidate,) = summary["candidates"]
    assert (candidate["backbone"], candidate["strategy"]) == ("levels", "nearest-mean")
    scores = call(site, "evaluate", str(run), "tones:20")
    assert scores["metrics"]["accuracy"] > 0.9
    bundle = str(site.parent / "tones.egb")
    call(site, "export", str(run), "--out", bundle)
    verified = call(site, "verify", bundle)
    assert [(row["runtime"], row["ok"]) for row in verified["runtimes"]] == [
        ("numpy", True),
        ("onnx", True),
    ]


def test_without_the_package_its_names_are_unknown(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from edgegraft.cli import main; main()", "adapt", "tones:6"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 3
    assert "error [file-missing]" in done.stderr
