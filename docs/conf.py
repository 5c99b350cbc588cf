"""Settings of the documentation: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import edgegraft_edge

project = "Edgegraft"
author = "Edgegraft contributors"
copyright = "Edgegraft contributors, Apache-2.0"
version = release = edgegraft_edge.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated"]
exclude_patterns = ["_build", "_ext"]
html_theme = "furo"
html_title = f"Edgegraft {release}"
html_copy_source = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
napoleon_custom_sections = [("Errors", "notes_style"), ("Source", "notes_style")]
napoleon_use_ivar = True
nitpicky = False


def setup(app: object) -> None:
    """scikit-learn writes methods into estimators whose texts point into its own documentation."""

    def skip(app: object, what: str, name: str, value: object, left_out: bool, options: object):
        return True if name.startswith("set_") and name.endswith("_request") else None

    app.connect("autodoc-skip-member", skip)  # type: ignore[attr-defined]
