"""Which runtime a device takes: by what bundle and machine have; it says which and why."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from edgegraft_edge import backends, bundle, cli, rounding
from edgegraft_edge.backends import numpy as reference
from edgegraft_edge.errors import ModelError
from edgegraft_edge.runner import Parity, Runner, agreed, pick

KNOWN = ("litert", "onnx", "executorch", "another")


class Fake:
    """A runtime that takes the packed program under another name."""

    def __init__(self, name):
        self.name = name

    def open(self, model):
        if model == b"missing":
            raise backends.missing("onnx", "onnxruntime")
        if model == b"damaged":
            raise ModelError.of("fake-damaged", "a model", "it is damaged", "another")
        return reference.NumpyBackend().open(model)


@pytest.fixture
def fakes(monkeypatch):
    named = {name: Fake(name) for name in ("another", "executorch", "litert", "onnx")}
    named["numpy"] = reference.NumpyBackend()
    monkeypatch.setattr(backends, "names", lambda: tuple(sorted(named)))
    monkeypatch.setattr(backends, "find", named.__getitem__)


def holding(made, **models):
    for name, model in models.items():
        made = bundle.with_model(made, name, made.model("numpy") if model is None else model)
    return made


@pytest.mark.parametrize(
    ("models", "runtime", "passed"),
    [
        ({}, "numpy", dict.fromkeys(KNOWN, "not in the bundle")),
        ({"onnx": None, "litert": None, "executorch": None}, "litert", {}),
        ({"onnx": None, "litert": b"missing"}, "onnx", {"litert": "not installed"}),
        ({"executorch": None, "another": None}, "executorch",
         {"litert": "not in the bundle", "onnx": "not in the bundle"}),
    ],
)  # fmt: skip
def test_the_first_that_bundle_and_machine_have(toy_bundle, fakes, models, runtime, passed):
    choice = pick(holding(toy_bundle, **models))
    assert choice.runtime == runtime
    assert dict(choice.passed) == passed


def test_a_model_that_does_not_open_is_passed_over_and_said(toy_bundle, fakes):
    choice = pick(holding(toy_bundle, litert=b"damaged", onnx=None))
    assert choice.runtime == "onnx"
    assert "fake-damaged" in choice.passed["litert"]
    assert "fake-damaged" in str(choice)
    assert str(choice).startswith("runtime onnx (litert: ")


def test_run_says_which_runtime_and_why_not_the_others(toy_bundle, fakes, tmp_path, capsys):
    model = bundle.write(tmp_path / "m.egb", holding(toy_bundle, onnx=None, litert=b"missing"))
    rows = tmp_path / "rows.csv"
    values = np.random.default_rng(0).normal(size=(60, 3))
    text = "\n".join(",".join(f"{v:.4f}" for v in row) for row in values)
    rows.write_text(f"acc_x,acc_y,acc_z\n{text}\n")
    arguments = ["run", str(model), "--source", str(rows)]
    assert cli.main([*arguments, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]
    assert summary["backend"] == "onnx"
    assert summary["passed_over"] == {"litert": "not installed"}
    assert cli.main(arguments) == 0
    assert capsys.readouterr().err.endswith("runtime onnx (litert: not installed)\n")
    assert cli.main([*arguments, "--backend", "litert"]) == 2


def test_absent_is_a_failure_only_when_asked_for(toy_bundle, fakes, tmp_path, capsys):
    found = (Parity("numpy", "ok"), Parity("litert", "absent"))
    assert agreed(found)
    assert agreed(found, ["numpy"])
    assert not agreed(found, ["numpy", "litert"])
    assert not agreed((Parity("onnx", "failed"),))
    model = str(bundle.write(tmp_path / "m.egb", holding(toy_bundle, litert=b"missing")))
    assert cli.main(["verify", model]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in shown[:2]] == [["numpy", "ok"], ["litert", "absent"]]
    assert cli.main(["verify", model, "--backend", "litert"]) == 1


def test_both_verify_commands_answer_absent_alike(toy_bundle, fakes, tmp_path):
    from click.testing import CliRunner

    from edgegraft.cli.ship import verify

    model = str(bundle.write(tmp_path / "m.egb", holding(toy_bundle, litert=b"missing")))
    assert CliRunner().invoke(verify, [model]).exit_code == cli.main(["verify", model]) == 0
    asked = CliRunner().invoke(verify, [model, "--target", "litert"]).exit_code
    assert asked == cli.main(["verify", model, "--backend", "litert"]) == 1


def test_streamed_scores_are_those_of_the_reference(toy_bundle):
    """In every runtime that is installed here, on the same stream."""
    from edgegraft import catalog

    stream = np.random.default_rng(5).normal(size=(3, 90)).astype(np.float32)
    expected = [event.as_dict() for event in Runner(toy_bundle, "numpy").push(stream)]
    for name in set(catalog.names("exporters")) & set(backends.names()):
        pytest.importorskip({"onnx": "onnxruntime", "litert": "ai_edge_litert"}.get(name, name))
        made = catalog.find("exporters", name)().export(toy_bundle)
        assert pick(made).runtime == name
        found = [event.as_dict() for event in Runner(made, name).push(stream)]
        assert [e["label"] for e in found] == [e["label"] for e in expected]
        off = [
            abs(a["probability"] - b["probability"]) for a, b in zip(found, expected, strict=True)
        ]
        assert max(off) <= rounding.TOLERANCE


def test_the_command_sets_one_thread_before_numpy_is_there():
    code = (
        "import os, sys; sys.argv = ['edgegraft-edge', '--version']\n"
        "from edgegraft_edge.__main__ import main\n"
        "assert 'numpy' not in sys.modules\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(os.environ['OPENBLAS_NUM_THREADS'])"
    )
    given = {name: value for name, value in os.environ.items() if "THREADS" not in name}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=given
    )
    assert ran.stdout.splitlines()[-1] == "1"
