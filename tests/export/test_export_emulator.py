"""C on emulated cores: the same bits, exact counts, and errors for what goes wrong."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from firmware_toys import by_hand, needs_cores, toy

from edgegraft.export import emulator, replay, verification
from edgegraft.export import profile as profiles
from edgegraft.export.c.emit import model_of
from edgegraft_edge.errors import ExportError, OptionError
from edgegraft_edge.runner import Runner

SPIN = """
static void spin(uint32_t n)
{
    __asm__ volatile(".syntax unified\\n1: subs %0, #1\\n bne 1b" : "+l"(n) : : "cc");
}
"""


def run(files, core, folder, x=((1, 2),), **options):
    built = emulator.build(files, core, folder, entry="s8", n_inputs=2, n_outputs=2)
    return emulator.emulate(built, np.array(x, np.int8), **options)


@needs_cores
@pytest.mark.parametrize("core", emulator.CORES)
def test_a_loop_of_known_length_is_counted_to_the_instruction(core, tmp_path):
    """Each turn is two instructions. Twenty million of them pass the timer's end twice."""
    body = "spin(input[0] == 0 ? 1000u : input[0] == 1 ? 11000u : 10001000u);"
    found = run(by_hand(body, SPIN), core, tmp_path / "b", [(0, 1), (1, 1), (2, 1)])
    short, longer, longest = found.instructions.tolist()
    assert abs(longer - short - 20_000) <= 12  # the way to the constant may differ
    assert abs(longest - short - 20_000_000) <= 12
    assert 2000 < short < 2060
    assert found.outputs.tolist() == [[0, 1], [1, 1], [2, 1]]


@needs_cores
def test_sizes_are_those_of_the_model(tmp_path):
    table = "static const int8_t table[3000] = {1, 2, 3};\nstatic int8_t kept[500];"
    body = "kept[input[0] & 127]++;\nscores[1] = (int8_t)(table[input[1]] + kept[5]);"
    large = run(by_hand(body, table), "m3", tmp_path / "a").size
    small = run(by_hand(""), "m3", tmp_path / "b").size
    assert 3000 <= large.flash - small.flash < 3100
    assert large.variables - small.variables == 500
    assert (large.arena, large.buffers) == (64, 18)
    assert small.flash < 40


@needs_cores
def test_the_deepest_stack_of_all_windows_is_found(tmp_path):
    deep = "volatile int8_t deep[1000]; deep[0] = input[0]; scores[1] = deep[0];"
    x = [(1, 2), (7, 2), (1, 2)]
    one = run(by_hand(""), "m4", tmp_path / "a", x).stack_bytes
    other = run(by_hand(f"if (input[0] == 7) {{ {deep} }}"), "m4", tmp_path / "b", x).stack_bytes
    assert one < 100
    assert 1000 <= other < 1000 + 2 * one


@needs_cores
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("*(volatile uint32_t *)0xF0000000u = 1u;", "a fault"),
        (
            "volatile int8_t deep[65500];\nfor (int i = 0; i < 65500; i++) { deep[i] = 1; }\n"
            "scores[0] = deep[input[0]];",
            "a stack of more",
        ),
        ("for (;;) { scores[0]++; }", "did not end"),
    ],
)
def test_what_goes_wrong_on_a_core_is_an_error(body, said, tmp_path):
    with pytest.raises(ExportError, match=said) as caught:
        run(by_hand(body), "m3", tmp_path / "b", limit_s=3)
    assert caught.value.code == "emulator-run"


@needs_cores
def test_an_access_that_is_not_aligned_faults_on_an_m0plus_alone(tmp_path):
    body = "scores[0] = (int8_t)*(volatile const uint32_t *)((uintptr_t)scores + 1u);"
    run(by_hand(body), "m3", tmp_path / "a")
    with pytest.raises(ExportError, match="fault"):
        run(by_hand(body), "m0plus", tmp_path / "b")


@needs_cores
def test_what_does_not_compile_is_told_with_the_compilers_words(tmp_path):
    with pytest.raises(ExportError, match="nothing_of_that_name") as caught:
        run(by_hand("nothing_of_that_name();"), "m4", tmp_path / "b")
    assert caught.value.code == "emulator-build"
    with pytest.raises(ExportError, match="outside"):
        run({"src/../../src/model.c": b""}, "m4", tmp_path / "c")
    with pytest.raises(ExportError, match="windows of 3"):
        run(by_hand(""), "m4", tmp_path / "d", [(1, 2, 3)])


def test_missing_tools_are_named_with_the_line_that_installs_them(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ExportError, match="apt-get install gcc-arm-none-eabi") as caught:
        run(by_hand(""), "m4", tmp_path / "b")
    assert caught.value.code == "emulator-missing"
    (row,) = verification.verify(toy(int8=True), ["c-m4"])
    assert row.status == "absent"
    monkeypatch.setattr(profiles, "runtime_costs", lambda bundle, model: ())
    found = profiles.profile(toy(int8=True), ["rp2040"])
    assert any("apt-get install" in note for note in found.notes)
    assert found.boards[0].latency_ms is None


def test_an_unknown_core_is_answered_with_the_nearest():
    with pytest.raises(OptionError, match="m4"):
        emulator.core_of("m44")
    with pytest.raises(OptionError, match="c-m4"):
        verification.verify(toy(int8=True), ["c-m44"])


@needs_cores
@pytest.mark.parametrize("int8", [True, False], ids=["int8", "float"])
def test_golden_windows_agree_on_a_core(int8):
    rows = verification.verify(toy(int8=int8), ["c-m0plus", "c-m4"])
    assert [row.status for row in rows] == ["ok"] * 2
    assert all(row.max_abs == 0.0 for row in rows) or not int8


@needs_cores
@pytest.mark.slow
@pytest.mark.parametrize("int8", [True, False], ids=["int8", "float"])
def test_golden_windows_agree_on_every_core(int8):
    rows = verification.verify(toy(int8=int8))
    assert len(rows) == 1 + len(emulator.CORES)
    assert {row.status for row in rows} == {"ok"}
    assert rows[0].latency_ms > 0.0


@needs_cores
def test_one_step_beside_the_program_differs():
    bundle = toy(int8=True)
    moved = replace(bundle, expected=bundle.expected + np.float32(1 / 256))
    assert [row.status for row in verification.verify(moved, ["c-m4"])] == ["differs"]


@needs_cores
def test_integers_alone_link_no_floating_point(tmp_path):
    bundle = toy(int8=True)
    model = model_of(bundle.program, *bundle.golden.shape[1:])
    built = verification.build(model, "m0plus", tmp_path / "b", entry="s8")
    symbols = subprocess.run(
        ["arm-none-eabi-nm", str(built.elf)], capture_output=True, text=True, check=True
    ).stdout
    assert "model_run_s8" in symbols
    floats = ("__aeabi_f", "__aeabi_d", "__aeabi_i2f", "expf", "model_quantize")
    assert not [name for name in floats if name in symbols]


@needs_cores
@pytest.mark.parametrize("int8", [True, False], ids=["int8", "float"])
def test_firmware_says_what_python_says(int8):
    """A stream with a sample that is no number; every window overlaps the one before."""
    bundle = toy(int8=int8)
    samples = np.random.default_rng(2).normal(size=(2, 400)).astype(np.float32) * 2 + 1
    samples[1, 123] = np.nan
    wanted = replay.expected(bundle, samples)
    assert {event.label for event in wanted} >= {"rest", "unsure", "walk"}
    assert {event.reason for event in wanted} == {"", "threshold", "skipped"}
    done = replay.replay(bundle, samples, core="m4")
    replay.compare(done.events, wanted, tolerance=0.0 if int8 else 1e-5)
    assert done.precision == ("int8" if int8 else "float")
    with pytest.raises(ExportError, match="event 3") as caught:
        replay.compare([*wanted[:3], *wanted[4:]], wanted, tolerance=1e-5)
    assert caught.value.code == "firmware-events"


def test_python_gives_the_same_events_in_one_piece():
    """Stream and batch in Python are one; the firmware is compared with the stream."""
    bundle = toy(int8=True)
    samples = np.random.default_rng(2).normal(size=(2, 400)).astype(np.float32) * 2 + 1
    assert tuple(Runner(bundle).push(samples)) == replay.expected(bundle, samples)


@needs_cores
@pytest.mark.slow
def test_a_profile_counts_what_a_board_needs():
    found = profiles.profile(toy(int8=True), ["rp2040", "stm32l4"])
    assert [cost.core for cost in found.cores] == ["m0plus", "m4"]
    for cost in found.cores:
        assert cost.note == ""
        assert cost.ram_bytes >= cost.arena_bytes + cost.buffers_bytes + cost.stack_bytes
        assert cost.instructions > cost.prepare_instructions > 0
    assert [board.fits for board in found.boards] == [True, True]
    assert all(board.latency_ms > 0 for board in found.boards)
    assert found.multiply_adds == 8 * 6 * 2 * 5 + 6 * 3
    assert {cost.runtime for cost in found.runtimes if cost.latency_ms} >= {"numpy", "c"}
