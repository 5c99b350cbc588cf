"""Every command, option, entry-point group, public name and error code is documented."""

from __future__ import annotations

import re
import shlex

import click
import pytest
from docs_pages import PAGES, ROOT, everything, handwritten, name_of, shell_lines

import edgegraft
import edgegraft.testing
from edgegraft import catalog
from edgegraft.cli.app import cli


@pytest.fixture(scope="module")
def documented():
    return everything()


def commands():
    from generated import walk

    return dict(walk(cli, ("edgegraft",)))


def edge_commands():
    from generated import edge_commands as write

    return dict.fromkeys(re.findall(r"^## (edgegraft-edge \w+)$", write(), re.MULTILINE))


def test_every_command_stands_in_a_page_that_somebody_wrote():
    written = handwritten()
    leaves = [n for n, c in commands().items() if not isinstance(c, click.Group)]
    leaves += edge_commands()
    assert len(leaves) >= 15
    assert [name for name in leaves if name not in written] == []


def test_descriptions_of_commands_are_paragraphs_and_not_code():
    from generated import commands

    outside, inside = [], False
    for line in commands().splitlines():
        inside ^= line.startswith("```")
        outside += [] if inside else [line]
    assert any(line.startswith("BasicMotions:") for line in outside)
    assert not [line for line in outside if line.startswith("    ")]


def test_every_option_stands_in_the_reference(documented):
    missing = [
        (name, flag)
        for name, command in commands().items()
        for option in command.params
        if isinstance(option, click.Option)
        for flag in option.opts
        if f"`{flag}" not in documented and f" {flag}" not in documented
    ]
    assert missing == []


def test_every_entry_point_group_and_name_is_documented(documented):
    written = handwritten()
    for short, group in catalog.GROUPS.items():
        assert group in written, f"group {group} is explained nowhere"
        for name in catalog.names(short):
            assert f"`{name}`" in documented, f"{name} of {group}"


@pytest.mark.parametrize("module", [edgegraft, edgegraft.testing], ids=lambda m: m.__name__)
def test_every_public_name_is_explained_and_exists(module):
    written = handwritten()
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert re.search(rf"\b{re.escape(name)}\b", written), f"{module.__name__}.{name}"


def test_every_error_code_is_listed_and_well_formed(documented):
    from generated import error_codes

    codes = error_codes()
    assert len(codes) > 50
    for code in codes:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code), code
        assert f"`{code}`" in documented


def test_every_generated_part_is_used_once():
    from generated import MARKER, PARTS

    used = MARKER.findall(handwritten())
    assert sorted(used) == sorted(PARTS)


def test_command_lines_in_pages_name_what_exists():
    known = commands()
    checked = 0
    for place, line in shell_lines():
        for part in re.split(r"\s[|>&;]+\s", line):
            words = shlex.split(part, comments=True)
            if words[:1] != ["edgegraft"]:
                continue
            name = "edgegraft"
            while len(words) > 1 and f"{name} {words[1]}" in known:
                name, words = f"{name} {words[1]}", words[1:]
            flags = {flag for option in known[name].params for flag in option.opts}
            flags |= {f for option in known[name].params for f in option.secondary_opts}
            used = {word.split("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
            assert used <= flags | {"--help", "-h", "--version"}, f"{place}: {line}"
            assert name != "edgegraft" or used, f"{place}: no such command: {line}"
            checked += 1
    assert checked > 15


def test_links_between_pages_lead_somewhere():
    checked = 0
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#:\s]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{name_of(path)} -> {target}"
            checked += 1
    assert checked > 5


def test_readme_gives_the_two_commands_and_contributing_the_four():
    readme, contributing = ((ROOT / n).read_text() for n in ("README.md", "CONTRIBUTING.md"))
    for target in ("demo", "test"):
        assert f"make {target}" in readme
    for target in ("demo", "test", "slow", "docs"):
        assert f"make {target}" in contributing
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_nothing_of_a_workplace_stands_in_the_pages():
    assert not re.search(r"/(work|tmp|root)/|localhost", handwritten())
