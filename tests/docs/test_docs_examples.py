"""Every Python example in the documentation and the README runs, and every doctest holds."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import sys
import types

import pytest
from docs_pages import PAGES, blocks, name_of

import edgegraft
import edgegraft_edge

WITH_EXAMPLES = [path for path in PAGES if blocks(path, "python")]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=name_of)
def test_examples_of_a_page_run_one_after_the_other(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = types.ModuleType("page_under_test")
    monkeypatch.setitem(sys.modules, page.__name__, page)  # dataclasses look their module up
    for block in blocks(path, "python"):
        if block.text.startswith(">>>"):
            check_session(block, str(path), page.__dict__)
        else:
            padded = "\n" * (block.line - 1) + block.text
            exec(compile(padded, str(path), "exec"), page.__dict__)


def check_session(block, name, namespace):
    """A block that shows a session: what it prints must be what stands there."""
    session = doctest.DocTestParser().get_doctest(block.text, {}, name, name, block.line - 1)
    session.globs = namespace
    result = doctest.DocTestRunner(verbose=False).run(session, clear_globs=False)
    assert result.failed == 0, f"{name}:{block.line}"


def modules() -> list[str]:
    found = []
    for package in (edgegraft_edge, edgegraft):
        found.append(package.__name__)
        walked = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        found += [module.name for module in walked]
    return found


@pytest.mark.parametrize("name", modules())
def test_doctests_of_a_module_hold(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), verbose=False)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples in {name}"


def test_there_are_examples_to_run():
    assert len(WITH_EXAMPLES) >= 12
    finder = doctest.DocTestFinder(exclude_empty=True)
    count = sum(
        len(test.examples)
        for name in modules()
        for test in finder.find(importlib.import_module(name))
    )
    assert count > 50
