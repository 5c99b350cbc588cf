"""Boards as cards: complete, honest about what an estimate rests on, and refused by name."""

from __future__ import annotations

import dataclasses
import json

import pytest
from click.testing import CliRunner

from edgegraft import catalog
from edgegraft.cli.app import cli
from edgegraft.export.target import FOLDER, TargetCard, board, boards, fits, misfits
from edgegraft_edge.errors import ExportError, OptionError

WANTED = {
    "linux-x86-64", "linux-arm64", "raspberry-pi-zero-2w", "esp32-s3", "stm32l4", "stm32h7",
    "rp2040", "cortex-m55", "nucleo-l4r5zi",
}  # fmt: skip


def test_the_boards_that_are_promised_are_there():
    assert {card.name for card in boards()} >= WANTED


@pytest.mark.parametrize("card", boards(), ids=lambda card: card.name)
def test_a_card_is_complete(card):
    assert TargetCard.from_dict(card.as_dict()) == card
    assert card.runtimes
    assert card.source
    if card.is_microcontroller:
        assert card.ram_kib > 0
        assert card.clock_mhz > 0
        assert card.instructions_core
        assert 0.5 <= card.cycles_per_instruction <= 3
        assert "assumption" in card.cycles_source
        assert card.runtimes == ("c",)
    if card.emulated_on:
        assert any(flag.startswith("-mcpu=") for flag in card.flags)


def test_a_card_that_is_wrong_is_refused_with_all_that_is():
    data = dict(catalog.cards(FOLDER)["rp2040"])
    with pytest.raises(OptionError, match=r"clock_mhz = -1.*emulated_on = 'm9'") as caught:
        TargetCard.from_dict({**data, "clock_mhz": -1, "emulated_on": "m9"})
    assert caught.value.code == "board-form"
    with pytest.raises(OptionError, match="unknown key 'colour'"):
        TargetCard.from_dict({**data, "colour": "green"})
    with pytest.raises(OptionError, match="no key 'core'"):
        TargetCard.from_dict({name: data[name] for name in data if name != "core"})
    with pytest.raises(OptionError, match="cycles_source"):
        dataclasses.replace(board("rp2040"), cycles_source="")


def test_a_board_of_ones_own_is_a_file(tmp_path):
    text = (
        'name = "mine"\ntitle = "Mine"\ncore = "cortex-m4"\ninstruction_set = "ARMv7E-M"\n'
        'runtimes = ["c"]\nsource = "me"\nflash_kib = 64\nram_kib = 8\nfpu = true\n'
    )
    (tmp_path / "mine.toml").write_text(text)
    assert board(str(tmp_path / "mine.toml")).ram_kib == 8
    (tmp_path / "broken.toml").write_text("name = ")
    for name in ("broken.toml", "absent.toml"):
        with pytest.raises(OptionError, match=name):
            board(str(tmp_path / name))


def test_an_unknown_board_is_answered_with_the_nearest():
    with pytest.raises(OptionError, match="rp2040") as caught:
        board("rp2041")
    assert caught.value.code == "board-unknown"


def test_all_that_does_not_fit_is_told_at_once():
    with pytest.raises(ExportError) as caught:
        fits(board("rp2040"), flash_bytes=3 << 20, ram_bytes=1 << 20, floats=("exp", "sqrt"))
    codes = [problem.code for problem in caught.value.problems]
    assert codes == ["board-flash", "board-ram", "board-float"]
    assert "stm32n6" in str(caught.value)
    card = board("stm32l4")
    assert misfits(card, flash_bytes=1024 << 10, ram_bytes=128 << 10, floats=("exp",)) == ()
    assert misfits(card, flash_bytes=(1024 << 10) + 1, ram_bytes=0)[0].code == "board-flash"


def test_machines_that_run_linux_are_not_bounded():
    assert misfits(board("linux-arm64"), flash_bytes=1 << 40, ram_bytes=1 << 40) == ()
    assert board("linux-arm64").latency_ms(1000) is None


def test_boards_are_listed():
    found = CliRunner().invoke(cli, ["boards"])
    assert found.exit_code == 0
    assert all(name in found.output for name in WANTED)
    listed = json.loads(CliRunner().invoke(cli, ["boards", "--json"]).output)["boards"]
    assert listed[0]["runtimes"]
