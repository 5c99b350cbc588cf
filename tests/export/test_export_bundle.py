"""The exporter adds a model to a bundle and proves it; a wrong model is refused by name."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from edgegraft.export import parity
from edgegraft.export.onnx import OPSETS, OnnxExporter, emit
from edgegraft.testing import sample_windows
from edgegraft_edge import bundle as bundles
from edgegraft_edge import runner
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.errors import ExportError, OptionError
from edgegraft_edge.program import Draft, Program


def program(scale: float = 1.0, *, compares: bool = False) -> Program:
    draft = Draft()
    value = draft.add("greater", "x", np.float32(0.2)) if compares else "x"
    flat = draft.add("reshape", draft.add("mean", value, axes=[2]), shape=[-1])
    weight = scale * np.random.default_rng(0).normal(size=(3, 3))
    return draft.finish(draft.add("softmax", draft.add("matmul", flat, weight)))


def bundle(**options: bool) -> Bundle:
    windows = sample_windows()
    made = program(**options)
    return bundles.make(made, windows.spec, windows.classes, golden=windows.x[:6])


@pytest.mark.parametrize("opset", OPSETS)
def test_exported_bundle_holds_a_model_that_agrees(opset):
    exported = OnnxExporter(opset=opset).export(bundle())
    assert exported.runtimes == ("numpy", "onnx")
    found = runner.verify(exported, tolerance=1e-6)
    assert [(row.runtime, row.status, row.n_windows) for row in found] == [
        ("numpy", "ok", 6),
        ("onnx", "ok", 6),
    ]
    model = onnx.load_from_string(exported.model("onnx"))
    assert model.opset_import[0].version == opset
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert tuple(json.loads(properties["classes"])) == exported.classes


def test_exported_bundle_is_read_back_whole(tmp_path):
    exported = OnnxExporter().export(bundle())
    again = bundles.read(bundles.write(tmp_path / "m.egb", exported))
    assert again.model("onnx") == exported.model("onnx")
    assert parity.prove(again, "onnx") is again


def test_opset_out_of_range_is_refused():
    with pytest.raises(OptionError, match="18 to 20"):
        OnnxExporter(opset=12)


def test_a_model_that_computes_something_else_is_refused():
    wrong = emit(program(scale=1.01), 3, 64)
    with pytest.raises(ExportError) as caught:
        parity.prove(bundles.with_model(bundle(), "onnx", wrong), "onnx")
    assert caught.value.code == "export-parity"


def test_programs_that_compare_have_the_wider_tolerance():
    assert parity.tolerance_of(program()) == parity.SMOOTH
    assert parity.tolerance_of(program(compares=True)) == parity.COMPARING
    assert OnnxExporter().export(bundle(compares=True)).runtimes == ("numpy", "onnx")
