"""The command `edgegraft`; each command lives in its own module, imported when it is called."""

from __future__ import annotations


def main() -> None:
    """Entry point: run the command line and leave with its exit code."""
    from edgegraft.cli.app import run

    raise SystemExit(run())
