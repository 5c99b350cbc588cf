"""The tree of commands, and what happens when one of them fails.

Exit codes: 0 done; 1 `doctor` or `verify` found trouble; 2 a wrong option; 3 data that cannot
be used; 4 a model or bundle that cannot be used; 130 Ctrl-C; 141 the reader of a pipe went away.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgegraft_edge.errors import EdgegraftError

INTERRUPTED, PIPE_CLOSED, BAD_USAGE = 130, 141, 2


class Commands(click.Group):
    """A group whose commands are imported when they are called, not when they are listed."""

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*args, **options)
        self.lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.lazy and not name.startswith("-"):
            near = get_close_matches(name, self.lazy) or list(self.lazy)
            raise click.UsageError(f"No command {name!r}. There is {', '.join(near)}.", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.lazy.items()])


COMMANDS = {
    "demo": ("edgegraft.cli.demo:demo", "Adapt, prove and ship on real recordings, in a minute."),
    "doctor": ("edgegraft.cli.data:doctor", "Look for trouble in data before training on it."),
    "models": ("edgegraft.cli.models:models", "List, show, fetch and recommend backbones."),
    "label": (
        "edgegraft.cli.label:label",
        "Propose windows to label next, and take filled-in labels back.",
    ),
    "pretrain": (
        "edgegraft.cli.train:pretrain",
        "Train a network on source recordings, pictures or sentences.",
    ),
    "adapt": ("edgegraft.cli.train:adapt", "Adapt a backbone to labelled windows, with controls."),
    "evaluate": (
        "edgegraft.cli.use:evaluate",
        "Score a run or a bundle on labelled data, and on what it should not know.",
    ),
    "predict": (
        "edgegraft.cli.use:predict",
        "Write the class probabilities of each window, or its estimates.",
    ),
    "spot": (
        "edgegraft.cli.spot:spot",
        "Find words in streams with labelled spans, as a device would.",
    ),
    "explain": (
        "edgegraft.cli.explain:explain",
        "Draw where in each picture a model saw what it says.",
    ),
    "import": ("edgegraft.cli.take:take", "Wrap a .tflite or .onnx file as a bundle."),
    "compress": (
        "edgegraft.cli.compress:compress",
        "Make a run smaller: int8, pruned, distilled, or what fits a board.",
    ),
    "export": ("edgegraft.cli.ship:export", "Write a model for a runtime or a microcontroller."),
    "verify": ("edgegraft.cli.ship:verify", "Re-compute the golden windows in each runtime."),
    "profile": (
        "edgegraft.cli.profile:profile",
        "Say what a model costs, and which boards it fits.",
    ),
    "boards": ("edgegraft.cli.profile:boards", "List the boards that have a card."),
    "keys": ("edgegraft.cli.ship:keys", "Make keys that sign bundles."),
}


@click.group(cls=Commands, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edgegraft", prog_name="edgegraft")
def cli() -> None:
    """Transfer learning for the Internet of Things, with honest controls, from data to device.

    DATA is a file, a folder or a NAME:... of a source; edgegraft doctor DATA says what it holds.
    """


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; writes errors, never a traceback for one."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        code = cli.main(args, prog_name="edgegraft", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("stopped", err=True)
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):  # click leaves by the latter when a pipe is closed
        # what is still buffered has no reader: let the interpreter flush it to nowhere
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return BAD_USAGE
    except click.ClickException as error:
        return _say_usage(error, "--json" in args)
    except Exception as error:
        from edgegraft_edge.errors import EdgegraftError, OptionError

        if isinstance(error, OSError) and error.errno is not None:  # a full disk has no name
            found, why = str(error.filename or "a file"), error.strerror or "the system refuses it"
            remedy = "free space, or another path that may be read and written"
            error = OptionError.of("path-unusable", found, why, remedy)
        if not isinstance(error, EdgegraftError):
            raise
        return _say_error(error, "--json" in args)


def _say_error(error: EdgegraftError, as_json: bool) -> int:
    from edgegraft.cli.options import as_typed

    if as_json:
        problems = [problem.as_dict() for problem in error.problems]
        _write_error(error.code, problems, error.exit_code)
    for problem in error.problems:
        click.echo(
            f"error [{problem.code}] {problem.found}\n"
            f"  why:  {problem.why}\n  try:  {as_typed(problem.remedy)}",
            err=True,
        )
    return error.exit_code


def _say_usage(error: click.ClickException, as_json: bool) -> int:
    message = error.format_message()
    context = getattr(error, "ctx", None)
    remedy = f"{context.command_path if context else 'edgegraft'} --help"
    if as_json:
        why = "the command line does not take it"
        problem = {"code": "usage", "found": message, "why": why, "remedy": remedy}
        _write_error("usage", [problem], BAD_USAGE)
    click.echo(f"error [usage] {message}\n  try:  {remedy}", err=True)
    return BAD_USAGE


def _write_error(code: str, problems: list[dict[str, str]], exit_code: int) -> None:
    click.echo(json.dumps({"error": {"code": code, "exit_code": exit_code, "problems": problems}}))
