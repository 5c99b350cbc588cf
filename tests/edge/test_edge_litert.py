"""LiteRT is given nothing that could end the process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")

from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft.export.litert import emit
from edgegraft.testing.programs import CASES
from edgegraft_edge.backends.litert import LitertBackend
from edgegraft_edge.backends.litert_file import check_file
from edgegraft_edge.errors import ModelError

FILES = {kind: emit(program, 3, 20) for kind, program in CASES.items()}
FUZZ = """
import random, sys
from edgegraft.export.litert import emit
from edgegraft.testing.programs import CASES, windows
from edgegraft_edge.backends.litert import LitertBackend
from edgegraft_edge.errors import ModelError
names = sorted(CASES)
for seed in range(int(sys.argv[1])):
    draw = random.Random(seed)
    data = bytearray(emit(CASES[draw.choice(names)], 3, 20))
    for _ in range(draw.choice((1, 1, 2, 4))):
        place = draw.randrange(len(data))
        data[place] = draw.choice((0, 1, 127, 128, 255, data[place] ^ 1 << draw.randrange(8)))
    try:
        LitertBackend().open(bytes(data))(windows(1))
    except ModelError as error:
        assert error.code, error
"""


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(sorted(FILES)),
    flips=st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_flipped_bytes_pass_the_check_or_are_an_error_of_ours(kind, flips):
    data = bytearray(FILES[kind])
    for place, value in flips:
        data[place % len(data)] = value
    try:
        check_file(bytes(data))
    except ModelError as error:
        assert error.code in {"tflite-damaged", "litert-input", "litert-operator"}  # noqa: PT017


def _survives(n):
    run = [sys.executable, "-c", FUZZ, str(n)]
    found = subprocess.run(run, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]


def test_the_process_survives_damaged_files():
    _survives(150)


@pytest.mark.slow
def test_the_process_survives_many_damaged_files():
    _survives(5000)


@pytest.mark.parametrize("kind", sorted(FILES))
def test_whole_files_pass_the_check(kind):
    check_file(FILES[kind])


def _changed(change, kind="conv1d"):
    """A file written anew with one thing changed by the schema's own classes."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(FILES[kind], 0)
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _open_size(model):
    model.subgraphs[0].tensors[0].shapeSignature = [-1, 3, 20]


def _two_inputs(model):
    model.subgraphs[0].inputs = [0, 0]


def _custom(model):
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 32


def _no_stride(model):
    for node in model.subgraphs[0].operators:
        if hasattr(node.builtinOptions, "strideW"):
            node.builtinOptions.strideW = 0


def _not_a_number(model):
    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data) > 40:
            buffer.data = np.frombuffer(np.full(len(buffer.data) // 4, np.nan, "<f4"), np.uint8)


def _far_away(model):
    model.buffers[1].offset = 1 << 40
    model.buffers[1].size = 8


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_open_size, "litert-input"),
        (_two_inputs, "litert-input"),
        (_custom, "litert-operator"),
        (_no_stride, "litert-operator"),
        (_not_a_number, "tflite-damaged"),
        (_far_away, "tflite-damaged"),
    ],
)
def test_what_a_file_may_not_say_is_named(change, code):
    with pytest.raises(ModelError) as caught:
        LitertBackend().open(_changed(change))
    assert caught.value.code == code


def test_no_windows_give_no_rows():
    run = LitertBackend().open(FILES["mean"])
    assert run(np.zeros((0, 3, 20), np.float32)).shape == (0, 3, 1)
