"""The examples run, from data to bundle, and say what their pages say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from edgegraft_edge import bundle
from edgegraft_edge.runner import verify

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_runs_everywhere(path):
    loaded = bundle.read(path)
    assert all(parity.ok for parity in verify(loaded))


@pytest.mark.slow
def test_source_to_target(tmp_path):
    found = example("source_to_target").main(tmp_path)
    assert found["transfer"] > found["scratch"] + 0.1
    assert_runs_everywhere(tmp_path / "digits.egb")
