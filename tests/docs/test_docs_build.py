"""The documentation builds without a warning."""

from __future__ import annotations

import subprocess
import sys

import pytest
from docs_pages import ROOT


@pytest.mark.slow
def test_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="the docs extra is not installed")
    options = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "trees")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(tmp_path / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "edgegraft adapt" in (tmp_path / "html" / "reference" / "cli.html").read_text()
